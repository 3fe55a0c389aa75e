"""A room on a real server, with a person and dispatched agents in it, watched from all sides."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
from livekit import api, rtc

from demo.roster import Roster
from demo.server import LOOPBACK, Server, Worker

T = TypeVar("T")

TOPIC = "bouncer"
"""Of the messages that the bouncer sends to everybody in the room."""
SLACK = 10.0
"""Seconds by which anything may be late before it counts as failed."""
LOOK = 0.5
"""Seconds between two lists while nothing happens in between."""
REACTION = 0.05
"""Seconds between two looks at what a worker logged, or whether what is waited for has come."""
JOINING = 20.0
"""Seconds for somebody to join; it takes less than one."""

TROUBLE = (api.TwirpError, aiohttp.ClientError, TimeoutError)
"""What calls of the server's API raise."""


class Stuck(RuntimeError):  # noqa: N818 - a finding about what is shown, not an error of ours
    """Something that should have happened did not; the text says what."""


class Stage:
    """The room, what one can do in it, and what is seen of it: `roster` is kept up to date while it is `watched`."""

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
        self._ada = rtc.Room()
        self._stirred = asyncio.Event()

    @asynccontextmanager
    async def opened(self, metadata: str, bouncer_name: str) -> AsyncIterator[None]:
        """Create the room, with this metadata and with a bouncer, and delete it at the end."""
        asked_for = [api.RoomAgentDispatch(agent_name=bouncer_name)]
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
        """Keep the roster up to date: from the server's list, the bouncer's log, and the agents' own words."""
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
        """Connect a person; her identity."""
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
            # LiveKit's client library would ask a proxy for the way to this machine.
            for name in ("http_proxy", "https_proxy"):
                os.environ.pop(name, None)
                os.environ.pop(name.upper(), None)
        # She subscribes to what the agents publish: an AgentSession that nobody hears doesn't even begin to speak.
        await within(JOINING, self._ada.connect(self._server.url, token.to_jwt()), "Ada could not join")
        await self.look()
        return identity

    async def dispatch(self, agent_name: str, act: str) -> str:
        """Have an agent join that behaves in one of the ways of cast.py; its identity."""
        request = api.CreateAgentDispatchRequest(agent_name=agent_name, room=self.room, metadata=act)
        failure = f"{agent_name} was dispatched and did not join"
        dispatch = await within(JOINING, self._client.agent_dispatch.create_dispatch(request), failure)
        joining = self._cast.line(lambda line: line["message"] == "joined" and line.get("dispatch") == dispatch.id)
        return str((await within(JOINING, joining, failure))["identity"])

    async def until(self, condition: Callable[[], bool], what: str, due_in: float = 0.0) -> None:
        """Wait for something that is due within some seconds. Raises Stuck if it is too late by far."""
        try:
            async with asyncio.timeout(due_in + SLACK):
                while not condition():
                    await asyncio.sleep(REACTION)
                    self._check_workers()
        except TimeoutError:
            raise Stuck(f"waited {due_in + SLACK:g} s in vain until {what}") from None

    async def look(self) -> None:
        """Have the server list who is here. Raises Stuck if it doesn't."""
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
        """Pass on what a worker logs, line by line. Whomever a line is about has been looked up by then."""
        taken = 0
        while True:
            for line in worker.log[taken:]:
                if line.get("sid", "") not in {"", *self.roster.rows}:
                    with suppress(Stuck):
                        await self.look()
                take(line)
                taken += 1
            await asyncio.sleep(REACTION)


async def within(seconds: float, awaitable: Awaitable[T], failure: str) -> T:
    """Await it for so many seconds. Raises Stuck with the failure, and the reason, if that is too long or fails."""
    try:
        async with asyncio.timeout(seconds):
            return await awaitable
    except TimeoutError:
        raise Stuck(f"{failure} within {seconds:g} s") from None
    except (api.TwirpError, aiohttp.ClientError, rtc.ConnectError) as error:
        raise Stuck(f"{failure}: {error}") from None
