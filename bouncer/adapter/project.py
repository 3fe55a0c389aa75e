"""LiveKit's server API across the rooms of a server, in our records and with our errors: what the commands stand on."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import aiohttp
from livekit import api
from livekit.protocol import models

from bouncer.adapter.clock import ServerClock
from bouncer.adapter.errors import CALL_WITHIN, answer_of
from bouncer.adapter.records import listed, listed_job
from bouncer.adapter.start import obstacle
from bouncer.configuration.settings import Credentials
from bouncer.events import Info, Job
from bouncer.guard.outside import Lists
from bouncer.ports import ApiError, Trouble

T = TypeVar("T")

REACHED_WITHIN = 3.5
"""Seconds for the server's first answer: a command that gets none has said so after 5 s, its start included."""
LIST_WITHIN = 10.0
"""Seconds for a list of all rooms, which may be large."""
IN_FLIGHT = 20
"""Calls made at the same time; many dispatches at once share a pool on the server (docs/livekit.md)."""


@dataclass(frozen=True, slots=True)
class OpenRoom:
    """An open room, as the server lists it."""

    name: str
    sid: str
    metadata: str = ""
    created_ms: int = 0
    """When it was created, in the server's milliseconds."""
    visible: int = 0
    """Participants that aren't hidden, agents included; it may be a few seconds behind."""


@dataclass(frozen=True, slots=True)
class Dispatch:
    """A dispatch of a room; all of its jobs, those that are over too."""

    id: str
    agent_name: str
    metadata: str = ""
    created_ms: int = 0
    """When it was created, in the server's milliseconds."""
    jobs: tuple[Job, ...] = ()


class UnknownRoom(LookupError):  # noqa: N818 - it is an answer, not a failure
    """The server has no open room of that name."""


class Project:
    """What can be asked of a LiveKit server, and done there, with an API key. All of it raises ApiError."""

    def __init__(self, client: api.LiveKitAPI, credentials: Credentials, clock: ServerClock) -> None:
        self.credentials = credentials
        self.made = 0
        """Calls made so far."""
        self._client = client
        self._clock = clock
        self._slots = asyncio.Semaphore(IN_FLIGHT)

    async def rooms(self, *names: str) -> tuple[OpenRoom, ...]:
        """Return the open rooms, or those of them that have these names."""
        request = api.ListRoomsRequest(names=names)
        answer = await self._call(lambda: self._client.room.list_rooms(request), LIST_WITHIN)
        return tuple(map(_open_room, answer.rooms)) if answer else ()

    async def room(self, name: str, sid: str = "") -> OpenRoom:
        """Return the open room of that name, and of that sid if one is given.

        Raises: UnknownRoom if there is none.
        """
        request = api.ListRoomsRequest(names=[name])
        answer = await self._call(lambda: self._client.room.list_rooms(request))
        for room in answer.rooms if answer else ():
            if room.name == name and sid in ("", room.sid):
                return _open_room(room)
        raise UnknownRoom(name)

    async def participants(self, room: str) -> tuple[Info, ...]:
        """Return everyone in a room, hidden ones included; no one if it has closed.

        `joined_at` counts from the epoch, by the server's clock.
        """
        request = api.ListParticipantsRequest(room=room)
        answer = await self._call(lambda: self._client.room.list_participants(request))
        return tuple(listed(each, self._clock) for each in answer.participants) if answer else ()

    async def participant(self, room: str, identity: str) -> Info | None:
        """Return the participant that has this identity now; None if there is none."""
        request = api.RoomParticipantIdentity(room=room, identity=identity)
        answer = await self._call(lambda: self._client.room.get_participant(request))
        return listed(answer, self._clock) if answer else None

    async def remove_participant(self, room: str, identity: str) -> bool:
        """Remove the participant that has this identity. Return False if there was none."""
        request = api.RoomParticipantIdentity(room=room, identity=identity)
        return await self._call(lambda: self._client.room.remove_participant(request)) is not None

    async def dispatches(self, room: str) -> tuple[Dispatch, ...]:
        """Return the dispatches of an open room. For a room that isn't, the server answers late, and with an error."""
        answer = await self._call(lambda: self._client.agent_dispatch.list_dispatch(room))
        return tuple(map(_dispatch, answer or ()))

    async def lists(self, room: OpenRoom) -> tuple[Lists, dict[str, str]]:
        """Return what the server lists of a room now, and the metadata of its dispatches by id."""
        infos, dispatches = await asyncio.gather(self.participants(room.name), self.dispatches(room.name))
        jobs = tuple(job for dispatch in dispatches for job in dispatch.jobs)
        lists = Lists(name=room.name, sid=room.sid, metadata=room.metadata, infos=infos, jobs=jobs, at=time.time())
        return lists, {dispatch.id: dispatch.metadata for dispatch in dispatches}

    async def create_dispatch(self, room: str, agent_name: str, metadata: str = "") -> Dispatch:
        """Dispatch an agent into a room. A room that isn't open is created, so look for it first."""
        request = api.CreateAgentDispatchRequest(agent_name=agent_name, room=room, metadata=metadata)
        answer = await self._call(lambda: self._client.agent_dispatch.create_dispatch(request))
        if answer is None:
            raise ApiError(Trouble.UNAVAILABLE, "the server does not know the room")
        return _dispatch(answer)

    async def delete_dispatch(self, room: str, dispatch: str) -> bool:
        """End all jobs of a dispatch gracefully, so that nothing restarts them. Return False if there was none."""
        return await self._call(lambda: self._client.agent_dispatch.delete_dispatch(dispatch, room)) is not None

    async def update_metadata(self, room: str, metadata: str) -> OpenRoom:
        """Replace a room's metadata, all of it.

        Raises: UnknownRoom if the room has closed.
        """
        request = api.UpdateRoomMetadataRequest(room=room, metadata=metadata)
        answer = await self._call(lambda: self._client.room.update_room_metadata(request))
        if answer is None:
            raise UnknownRoom(room)
        return _open_room(answer)

    async def send_data(self, room: str, payload: bytes, topic: str, to: Sequence[str] = ()) -> None:
        """Send a reliable data packet to everyone in a room, or to these identities.

        Raises: UnknownRoom if the room has closed.
        """
        request = api.SendDataRequest(
            room=room,
            data=payload,
            kind=api.DataPacket.Kind.RELIABLE,
            topic=topic,
            destination_identities=to,
            nonce=os.urandom(16),
        )
        if await self._call(lambda: self._client.room.send_data(request)) is None:
            raise UnknownRoom(room)

    async def create_room(
        self, name: str, *, metadata: str, agents: Sequence[str], empty_timeout: int, departure_timeout: int
    ) -> OpenRoom:
        """Create a room that closes after so many seconds without participants.

        A room that is created without agents gets an unnamed one: name one that doesn't exist to have none.
        """
        request = api.CreateRoomRequest(
            name=name,
            metadata=metadata,
            agents=[api.RoomAgentDispatch(agent_name=each) for each in agents],
            empty_timeout=empty_timeout,
            departure_timeout=departure_timeout,
        )
        answer = await self._call(lambda: self._client.room.create_room(request))
        if answer is None:
            raise UnknownRoom(name)
        return _open_room(answer)

    async def delete_room(self, name: str) -> bool:
        """Close a room, and disconnect everyone in it. Return False if there was none."""
        request = api.DeleteRoomRequest(room=name)
        return await self._call(lambda: self._client.room.delete_room(request)) is not None

    async def _call(self, call: Callable[[], Awaitable[T]], within: float = CALL_WITHIN) -> T | None:
        async with self._slots:
            self.made += 1
            return await answer_of(call, within)


@asynccontextmanager
async def opened(credentials: Credentials) -> AsyncIterator[Project]:
    """Open the server API with these credentials, for `async with`.

    Raises: ApiError, whose text is one line, if the server can't be reached or doesn't know the key.
    """
    if wrong := await obstacle(credentials, REACHED_WITHIN):
        raise ApiError(Trouble.UNAVAILABLE, wrong)
    clock = ServerClock()
    async with (
        aiohttp.ClientSession(trust_env=True) as session,
        # Not the client's own session: it takes no proxy from the environment.
        api.LiveKitAPI(credentials.url, credentials.api_key, credentials.api_secret, session=session) as client,
    ):
        yield Project(client, credentials, clock)


def _open_room(room: models.Room) -> OpenRoom:
    created_ms = room.creation_time_ms or room.creation_time * 1000
    return OpenRoom(room.name, room.sid, room.metadata, created_ms, room.num_participants)


def _dispatch(dispatch: api.AgentDispatch) -> Dispatch:
    jobs = tuple(listed_job(dispatch, job) for job in dispatch.state.jobs)
    return Dispatch(dispatch.id, dispatch.agent_name, dispatch.metadata, dispatch.state.created_at // 1_000_000, jobs)
