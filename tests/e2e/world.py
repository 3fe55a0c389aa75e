"""A room on a real server: its participants, what they do, and waiting for what should happen to them.

Tests wait for conditions, with limits that only a defect reaches. Nothing asserts speed.
"""

import asyncio
import json
import math
import secrets
import time
from array import array
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from livekit import api, rtc
from livekit.api.access_token import Claims

from bouncer.adapter.sdklogs import keep_native_log
from devserver import Server

Kind = Literal["standard", "egress", "ingress", "sip", "agent"]
Message = dict[str, Any]
T = TypeVar("T")

LIMIT = 60.0
"""Seconds to wait for something that takes a moment, even on a busy machine."""
HANG = 30.0
"""Seconds after which a call of the client SDK has hung."""

POLL = 0.1
"""Seconds between looks at the server's list."""
APART = 0.05
"""Seconds between two dispatches: of two or three at once the server may lose all but one (docs/livekit.md)."""

SAMPLE_RATE = 16_000
FRAME = SAMPLE_RATE // 10
SILENCE = bytes(2 * FRAME)
TONE = array("h", (round(10_000 * math.sin(2 * math.pi * 440 * i / SAMPLE_RATE)) for i in range(FRAME))).tobytes()

OBSERVER = "observer"


@dataclass
class _Claims(Claims):
    """A token's claims, with one that LiveKit's server takes and its Python SDK has no word for."""

    kind_details: list[str] | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A framework agent that was dispatched and has joined."""

    dispatch: str
    identity: str
    sid: str


class Member:
    """A participant with a real connection."""

    def __init__(self, url: str, identity: str, token: str) -> None:
        self.identity = identity
        self.token = token
        self.sid = ""
        self.reason: int | None = None
        """Why it is no longer connected (`rtc.DisconnectReason`); None while it is."""
        self.sounding = False
        """True while its audio track carries a tone instead of silence."""
        self._url = url
        self._out = asyncio.Event()
        self._audio: asyncio.Task[None] | None = None
        self._life: asyncio.Task[None] | None = None

    async def join(self) -> None:
        """Connect as a new participant."""
        keep_native_log()
        self.room = rtc.Room()
        self.reason = None
        self._out = asyncio.Event()
        self.room.on("disconnected", self._on_disconnected)
        await _bounded(self.room.connect(self._url, self.token, rtc.RoomOptions(auto_subscribe=False)))
        self.sid = self.room.local_participant.sid

    async def rejoin(self) -> None:
        """Come back with the same token, and with an audio track if it had one."""
        had_audio = self._audio is not None
        await self.leave()
        await self.join()
        if had_audio:
            await self.publish_audio()

    async def leave(self) -> None:
        """Disconnect, unless it is out already."""
        for task in filter(None, (self._audio, self._life)):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._audio = self._life = None
        await _bounded(self.room.disconnect())

    async def out(self, *, within: float = LIMIT) -> int:
        """Wait until it is disconnected, and return why."""
        async with asyncio.timeout(within):
            await self._out.wait()
        assert self.reason is not None
        return self.reason

    async def publish_audio(self, name: str = "voice") -> None:
        """Publish a microphone track, silent until told otherwise."""
        source = rtc.AudioSource(SAMPLE_RATE, 1, queue_size_ms=200)
        track = rtc.LocalAudioTrack.create_audio_track(name, source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        await _bounded(self.room.local_participant.publish_track(track, options))
        self._audio = asyncio.create_task(self._feed(source))

    async def say(self, seconds: float = 1.0) -> None:
        """Play a tone for some time. Publishes a track first if there is none."""
        if self._audio is None:
            await self.publish_audio()
        self.sounding = True
        await asyncio.sleep(seconds)
        self.sounding = False

    async def set_state(self, state: str) -> None:
        """Publish an agent's state, as an AgentSession does."""
        await self.set_attributes({"lk.agent.state": state})

    async def set_attributes(self, attributes: dict[str, str]) -> None:
        """Change some of its own attributes."""
        await _bounded(self.room.local_participant.set_attributes(attributes))

    async def send_data(self, payload: str = "ping", topic: str = "chat") -> None:
        """Send a data packet to everyone."""
        await _bounded(self.room.local_participant.publish_data(payload, topic=topic))

    async def transcribe(self, text: str) -> None:
        """Send a transcription, as an AgentSession does."""
        await _bounded(self.room.local_participant.send_text(text, topic="lk.transcription"))

    def live(self) -> None:
        """Show life from now on, as an agent in conversation does."""
        self._life = asyncio.create_task(self._send_data_for_ever())

    async def _send_data_for_ever(self) -> None:
        while True:
            await self.send_data()
            await asyncio.sleep(1)

    def _on_disconnected(self, reason: rtc.DisconnectReason.ValueType) -> None:
        self.reason = reason
        self._out.set()

    async def _feed(self, source: rtc.AudioSource) -> None:
        try:
            while True:
                data = TONE if self.sounding else SILENCE
                await source.capture_frame(rtc.AudioFrame(data, SAMPLE_RATE, 1, FRAME))
        finally:
            await source.aclose()


class World:
    """One fresh room and everything that a test does in it."""

    _next_turn = 0.0
    """When the next dispatch may be created."""

    def __init__(self, server: Server, client: api.LiveKitAPI) -> None:
        self.server = server
        self.api = client
        self.room = f"test-{secrets.token_hex(4)}"
        self.messages: list[Message] = []
        """The bouncer's messages to the room, oldest first, received by an observer that is neither human nor agent."""
        self.bouncer: Job | None = None
        self._members: list[Member] = []
        self._hears = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Clean up, whatever has happened."""
        await asyncio.gather(*(member.leave() for member in self._members), return_exceptions=True)
        await self.close()

    async def create(self, metadata: Mapping[str, Any] | str | None = None) -> None:
        """Create the room, with an observer that listens to the bouncer's messages."""
        await self.api.room.create_room(api.CreateRoomRequest(name=self.room, metadata=_text(metadata)))
        observer = await self.join(OBSERVER, kind="egress", hidden=True)
        observer.room.on("data_received", self._on_data)

        async def hears() -> bool:
            await self.send(b"", topic="harness.probe")
            return self._hears

        # A message sent in the first moment after joining can be lost.
        await self.until(hears, "the observer hears")

    async def open(
        self,
        metadata: Mapping[str, Any] | str | None = None,
        *,
        agent_name: str = "bouncer",
        dispatch_metadata: Mapping[str, Any] | str | None = None,
    ) -> None:
        """Create the room with this metadata, and wait until a bouncer has arrived that can say how it is."""
        await self.create(metadata)
        dispatch = await self._dispatch(agent_name, _text(dispatch_metadata))

        async def arrived() -> Job | None:
            for who in (await self.listed()).values():
                if who.attributes.get("bouncer.guarding") or who.attributes.get("bouncer.standing"):
                    return Job(dispatch.id, who.identity, who.sid)
            return None

        self.bouncer = await self.until(arrived, "a bouncer has arrived")

    async def close(self) -> None:
        """Close the room, unless it is closed already."""
        with suppress(api.TwirpError):
            await self.api.room.delete_room(api.DeleteRoomRequest(room=self.room))

    async def metadata(self, metadata: Mapping[str, Any] | str) -> None:
        """Replace the room's metadata."""
        await self.api.room.update_room_metadata(
            api.UpdateRoomMetadataRequest(room=self.room, metadata=_text(metadata))
        )

    async def send(self, payload: bytes, topic: str) -> None:
        """Send a data packet to everyone through the server's API, so without a sender."""
        kind = api.DataPacket.Kind.RELIABLE
        await self.api.room.send_data(api.SendDataRequest(room=self.room, data=payload, topic=topic, kind=kind))

    async def human(self, identity: str, *, audio: bool = False, attributes: Mapping[str, str] | None = None) -> Member:
        """Let a person join."""
        return await self.join(identity, audio=audio, attributes=attributes)

    async def agent(
        self,
        identity: str,
        *,
        name: str = "assistant",
        audio: bool = False,
        state: str = "listening",
        attributes: Mapping[str, str] | None = None,
        hidden: bool = False,
        lively: bool = False,
    ) -> Member:
        """Let an agent join that looks like a framework agent, with a name as the server would stamp it.

        A lively one shows life all the time, so that it is taken for no corpse.
        """
        shown = {"lk.agent_name": name, "lk.agent.state": state, **(attributes or {})}
        shown = {key: value for key, value in shown.items() if value}
        member = await self.join(identity, kind="agent", grant=True, audio=audio, attributes=shown, hidden=hidden)
        if lively:
            member.live()
        return member

    async def join(
        self,
        identity: str,
        *,
        kind: Kind = "standard",
        grant: bool = False,
        audio: bool = False,
        attributes: Mapping[str, str] | None = None,
        hidden: bool = False,
        **claims: Any,
    ) -> Member:
        """Let a participant join with a token of this kind; `grant` is the agent grant, `claims` are as for `token`."""
        token = self.token(identity, kind=kind, grant=grant, attributes=attributes, hidden=hidden, **claims)
        member = Member(self.server.url, identity, token)
        await member.join()
        self._members.append(member)
        if audio:
            await member.publish_audio()
            await self.until(lambda: self._publishes(identity), f"the track of {identity} is listed")
        return member

    def token(
        self,
        identity: str,
        *,
        kind: Kind = "standard",
        grant: bool = False,
        attributes: Mapping[str, str] | None = None,
        hidden: bool = False,
        recorder: bool = False,
        name: str = "",
        details: Iterable[str] = (),
    ) -> str:
        """Make a token for the room that allows changes to one's own metadata; `details` are those of the kind."""
        grants = api.VideoGrants(
            room_join=True,
            room=self.room,
            agent=grant or None,
            hidden=hidden or None,
            recorder=recorder or None,
            can_update_own_metadata=True,
        )
        token = api.AccessToken(self.server.api_key, self.server.api_secret).with_identity(identity)
        token.claims = _Claims(kind_details=[*details] or None)
        return (
            token.with_kind(kind).with_grants(grants).with_name(name).with_attributes(dict(attributes or {})).to_jwt()
        )

    async def dispatch(self, agent_name: str, **metadata: object) -> Job:
        """Dispatch an agent of framework_agent.py, and wait until it has joined."""
        dispatch = await self._dispatch(agent_name, json.dumps(metadata))

        async def joined() -> Job | None:
            for info in (await self.listed()).values():
                # A participant whose room is closed while it joins hangs for a minute.
                active = info.state == api.ParticipantInfo.State.ACTIVE
                if active and info.attributes.get("harness.dispatch") == dispatch.id:
                    return Job(dispatch.id, info.identity, info.sid)
            return None

        return await self.until(joined, f"a job of {agent_name} joins")

    async def _dispatch(self, agent_name: str, metadata: str) -> api.AgentDispatch:
        now = time.monotonic()
        turn = max(now, World._next_turn)
        World._next_turn = turn + APART
        await asyncio.sleep(turn - now)
        request = api.CreateAgentDispatchRequest(agent_name=agent_name, room=self.room, metadata=metadata)
        return await self.api.agent_dispatch.create_dispatch(request)

    async def listed(self) -> dict[str, api.ParticipantInfo]:
        """Return everyone that the server lists, including hidden participants, by identity."""
        try:
            found = await self.api.room.list_participants(api.ListParticipantsRequest(room=self.room))
        except api.TwirpError as error:
            if error.code != api.TwirpErrorCode.NOT_FOUND:
                raise
            return {}
        return {info.identity: info for info in found.participants if info.identity != OBSERVER}

    async def guarding(self) -> dict[str, str]:
        """Return the sids of the bouncers that claim the room, by identity."""
        return {i: p.sid for i, p in (await self.listed()).items() if p.attributes.get("bouncer.guarding")}

    async def present(self) -> set[str]:
        """Return the identities of all participants, including the bouncer's."""
        return set(await self.listed())

    async def gone(self, who: str | Member | Job, *, within: float = LIMIT) -> None:
        """Wait until an identity, or this particular connection of a member, is no longer listed."""

        async def not_listed() -> bool:
            if isinstance(who, str):
                return who not in await self.present()
            return who.sid not in {info.sid for info in (await self.listed()).values()}

        await self.until(not_listed, f"{who if isinstance(who, str) else who.identity} is gone", within=within)

    async def stays(self, identities: Iterable[str], seconds: float) -> None:
        """Make sure that for so long none of these leaves, not even to come back."""
        expected = set(identities)
        first = {identity: info.sid for identity, info in (await self.listed()).items() if identity in expected}
        assert set(first) == expected, f"not there to begin with: {expected - set(first)}"
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(POLL)
            now = {identity: info.sid for identity, info in (await self.listed()).items() if identity in expected}
            assert now == first, f"left or came back: {set(first.items()) - set(now.items())}"

    async def message(self, *, within: float = LIMIT, **facts: object) -> Message:
        """Wait for a message to the room with these facts, and return it."""

        async def told() -> Message | None:
            return next((message for message in self.messages if facts.items() <= message.items()), None)

        return await self.until(told, f"the room is told {facts}", within=within)

    async def until(
        self,
        condition: Callable[[], Awaitable[T | None]],
        what: str,
        *,
        within: float = LIMIT,
        instead: Callable[[], object] = str,
    ) -> T:
        """Wait until the condition returns something true, and return that. `instead` describes a failure."""
        end = time.monotonic() + within
        while not (result := await condition()):
            if time.monotonic() > end:
                present = {identity: dict(info.attributes) for identity, info in (await self.listed()).items()}
                raise AssertionError(f"{within:g} s, and not yet: {what}. {instead()} Present: {present}")
            await asyncio.sleep(POLL)
        return result

    async def _publishes(self, identity: str) -> bool:
        info = (await self.listed()).get(identity)
        return info is not None and len(info.tracks) > 0

    def _on_data(self, packet: rtc.DataPacket) -> None:
        self._hears = True
        # Any participant may send on this topic; only messages without a sender come from the server.
        if packet.topic == "bouncer" and packet.participant is None:
            self.messages.append(json.loads(packet.data))


async def _bounded(call: Coroutine[Any, Any, T]) -> T:
    """Run a call of the client SDK, which may never return on a connection that has just ended.

    It goes on all the same: the native library ends the process if no one takes a connection that it has made.
    """
    async with asyncio.timeout(HANG):
        return await asyncio.shield(call)


def _text(metadata: Mapping[str, Any] | str | None) -> str:
    return metadata if isinstance(metadata, str) else json.dumps(metadata) if metadata is not None else ""
