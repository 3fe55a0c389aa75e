"""A room on a real server with a person and dispatched agents, watched from all sides."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
from livekit import api, rtc

from bouncer.adapter.sdklogs import keep_native_log
from demo.roster import Roster
from devserver import LOOPBACK, Server, Worker

T = TypeVar("T")

TOPIC = "bouncer"
"""The topic of the bouncer's messages to the room."""
SLACK = 40.0
"""Seconds that anything may be late before it counts as failed. On a busy machine an agent can't be heard at times,
and its idle time begins again."""
LOOK = 0.5
"""Seconds between lists while nothing happens."""
REACTION = 0.05
"""Seconds between looks at a worker's log, or at a condition."""
JOINING = 40.0
"""Seconds to wait for a participant to join; it takes less than one."""
TAKEN_WITHIN = 20.0
"""Seconds after which a dispatch whose agent has not joined is taken for lost."""

TROUBLE = (api.TwirpError, aiohttp.ClientError, TimeoutError)
"""What calls to the server's API raise."""


class Stuck(RuntimeError):  # noqa: N818 - a finding about what is shown, not an error of ours
    """Something that should have happened did not; the text says what."""


class Stage:
    """The room and what can be done in it. `roster` stays up to date while the room is `watched`."""

    def __init__(
        self, room: str, roster: Roster, server: Server, client: api.LiveKitAPI, *, bouncer: Worker, cast: Worker
    ) -> None:
        self.room = room
        self.roster = roster
        self._server = server
        self._client = client
        self._workers = {"bouncer": bouncer, "agents' worker": cast}
        self._bouncer = bouncer
        self._cast = cast
        keep_native_log()
        self._ada = rtc.Room()
        self._stirred = asyncio.Event()

    @asynccontextmanager
    async def opened(self, metadata: str, bouncer_name: str) -> AsyncIterator[None]:
        """Create the room with this metadata and a bouncer, if it is named, and delete it at the end."""
        # A room without any agent would get every unnamed one of the server.
        asked_for = [api.RoomAgentDispatch(agent_name=bouncer_name or "none")]
        request = api.CreateRoomRequest(name=self.room, metadata=metadata, agents=asked_for, empty_timeout=60)
        await within(SLACK, self._client.room.create_room(request), "the room could not be created")
        try:
            yield
        finally:
            with suppress(*TROUBLE):
                async with asyncio.timeout(SLACK):
                    await self._client.room.delete_room(api.DeleteRoomRequest(room=self.room))
                    await self._ada.disconnect()

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Keep the roster up to date from the server's list, the bouncer's log and the agents' output."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._keep_looking()),
                group.create_task(self._follow(self._bouncer, self.roster.logged)),
                group.create_task(self._follow(self._cast, self.roster.told)),
            ]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()

    async def ada_joins(self) -> str:
        """Connect a person, and return her identity."""
        identity = "ada"
        token = (
            api.AccessToken(self._server.api_key, self._server.api_secret)
            .with_identity(identity)
            .with_name("Ada")
            .with_grants(api.VideoGrants(room_join=True, room=self.room))
        )

        def stirred(*_: object) -> None:
            self._stirred.set()

        def data(packet: rtc.DataPacket) -> None:
            if packet.topic == TOPIC:
                self.roster.received(packet.data)

        def disconnected(reason: rtc.DisconnectReason.ValueType) -> None:
            self.roster.out[identity] = rtc.DisconnectReason.Name(reason)

        for event in ("participant_connected", "participant_disconnected", "participant_attributes_changed"):
            self._ada.on(event, stirred)
        self._ada.on("data_received", data)
        self._ada.on("disconnected", disconnected)
        if urlsplit(self._server.url).hostname == LOOPBACK:
            # LiveKit's client library would use a proxy even for this machine.
            for name in ("http_proxy", "https_proxy"):
                os.environ.pop(name, None)
                os.environ.pop(name.upper(), None)
        # She subscribes to the agents' tracks: an AgentSession that no one hears never starts to speak.
        await within(JOINING, self._ada.connect(self._server.url, token.to_jwt()), "Ada could not join")
        await self.look()
        return identity

    async def dispatch(self, agent_name: str, act: str) -> str:
        """Dispatch an agent that acts in one of the ways of cast.py, and return its identity.

        LiveKit gives a worker 7.5 s to take a job. A busy machine may need longer: then there is a second dispatch.
        """
        request = api.CreateAgentDispatchRequest(agent_name=agent_name, room=self.room, metadata=act)
        failure = f"{agent_name} was dispatched but did not join"
        for seconds in (TAKEN_WITHIN, JOINING):
            dispatch = await within(JOINING, self._client.agent_dispatch.create_dispatch(request), failure)
            joining = self._cast.line(partial(_joined, dispatch.id))
            try:
                return str((await within(seconds, joining, failure))["identity"])
            except Stuck:
                with suppress(api.TwirpError):
                    await self._client.agent_dispatch.delete_dispatch(dispatch.id, self.room)
        raise Stuck(f"{failure} within {JOINING:g} s, nor when it was dispatched before")

    async def until(self, condition: Callable[[], bool], what: str, due_in: float = 0.0) -> None:
        """Wait for a condition that should hold within `due_in` seconds. Raises Stuck if it is far too late."""
        try:
            async with asyncio.timeout(due_in + SLACK):
                while not condition():
                    await asyncio.sleep(REACTION)
                    self._check_workers()
        except TimeoutError:
            raise Stuck(f"waited {due_in + SLACK:g} s in vain for this: {what}") from None

    async def look(self) -> None:
        """Refresh the roster from the server's list. Raises Stuck if the server does not answer."""
        listing = self._client.room.list_participants(api.ListParticipantsRequest(room=self.room))
        self.roster.listed((await within(SLACK, listing, "the participants could not be listed")).participants)

    def _check_workers(self) -> None:
        for name, worker in self._workers.items():
            if worker.returncode is not None:
                raise Stuck(f"the {name} ended with status {worker.returncode}")

    async def _keep_looking(self) -> None:
        while True:
            self._stirred.clear()
            with suppress(Stuck):
                await self.look()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await self._stirred.wait()
            await asyncio.sleep(REACTION)

    async def _follow(self, worker: Worker, take: Callable[[Mapping[str, Any]], None]) -> None:
        """Pass on a worker's log line by line. The participant of a line has been looked up by then."""
        taken = 0
        while True:
            for line in worker.log[taken:]:
                if line.get("sid", "") not in {"", *self.roster.rows}:
                    with suppress(Stuck):
                        await self.look()
                take(line)
                taken += 1
            await asyncio.sleep(REACTION)


def _joined(dispatch: str, line: Mapping[str, Any]) -> bool:
    return line["message"] == "joined" and line.get("dispatch") == dispatch


async def within(seconds: float, awaitable: Awaitable[T], failure: str) -> T:
    """Await something for so many seconds. Raises Stuck with the failure and its reason."""
    try:
        async with asyncio.timeout(seconds):
            return await awaitable
    except TimeoutError:
        raise Stuck(f"{failure} within {seconds:g} s") from None
    except (api.TwirpError, aiohttp.ClientError, rtc.ConnectError) as error:
        raise Stuck(f"{failure}: {error}") from None
