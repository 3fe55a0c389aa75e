"""LiveKit's server API, as far as the gatekeeper needs it, in its own records and with `ApiError` for what fails."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus

from livekit import api

from bouncer.configuration.settings import Credentials
from bouncer.ports import ApiError, Trouble
from gatekeeper.mark import mark_of
from gatekeeper.records import (
    Command,
    Create,
    Dispatch,
    ListBouncers,
    ListDispatches,
    ListRooms,
    Remove,
    TakeBack,
)
from gatekeeper.sights import Chosen, bouncer_of, room_of
from gatekeeper.witness import Witness

CALL_WITHIN = 3.0
LIST_WITHIN = 10.0
"""Seconds for one call, and for a list of rooms, which may be large."""
Connected = AbstractAsyncContextManager[api.LiveKitAPI]


def connected(credentials: Credentials) -> Connected:
    """Return a client of the server API, for `async with`; one for the whole process."""
    return api.LiveKitAPI(credentials.url, credentials.api_key, credentials.api_secret)


class Calls:
    """Carries commands out."""

    def __init__(
        self,
        client: api.LiveKitAPI,
        agent_name: str,
        chosen: Chosen,
        metadata: Callable[[str, str], str],
        witness: Witness | None = None,
    ) -> None:
        """Make it; `metadata` returns what to dispatch with for a room's sid and name. The witness sees every list."""
        self._api = client
        self._agent_name = agent_name
        self._chosen = chosen
        self._metadata = metadata
        self._witness = witness

    async def __call__(self, command: Command) -> object:
        """Return what `Doors.answered` takes for a command; an ApiError is returned too, not raised."""
        try:
            async with asyncio.timeout(LIST_WITHIN if isinstance(command, ListRooms) else CALL_WITHIN):
                return await self._carry_out(command)
        except api.TwirpError as error:
            if error.code == api.TwirpErrorCode.NOT_FOUND and isinstance(command, ListBouncers | ListDispatches):
                return ()
            if error.code == api.TwirpErrorCode.NOT_FOUND and isinstance(command, TakeBack | Remove):
                return False
            return _api_error(error)
        except Exception as error:  # noqa: BLE001 - whatever the SDK makes of a dead line or of a proxy's own answer
            return ApiError(Trouble.UNAVAILABLE, f"{type(error).__name__}: {error}")

    async def _carry_out(self, command: Command) -> object:
        match command:
            case ListRooms(names=names):
                rooms = await self._api.room.list_rooms(api.ListRoomsRequest(names=names))
                if self._witness:
                    for room in rooms.rooms:
                        self._witness.restore(room)
                # First whether each is chosen, which reads its metadata.
                chosen = tuple(room_of(room, self._chosen) for room in rooms.rooms)
                if self._witness:
                    self._witness.rooms(rooms.rooms, all_of_them=not names)
                return chosen
            case ListBouncers(at=at, sid=sid, name=name):
                found = await self._api.room.list_participants(api.ListParticipantsRequest(room=name))
                if self._witness:
                    self._witness.listed(sid, found.participants, at)
                bouncers = (bouncer_of(participant, self._agent_name) for participant in found.participants)
                return tuple(bouncer for bouncer in bouncers if bouncer)
            case ListDispatches(name=name):
                dispatches = await self._api.agent_dispatch.list_dispatch(name)
                return tuple(_dispatch_of(each) for each in dispatches if each.agent_name == self._agent_name)
            case Create(sid=sid, name=name):
                request = api.CreateAgentDispatchRequest(
                    agent_name=self._agent_name, room=name, metadata=self._metadata(sid, name)
                )
                return (await self._api.agent_dispatch.create_dispatch(request)).id
            case TakeBack(name=name, dispatch=dispatch):
                return await _truth(self._api.agent_dispatch.delete_dispatch(dispatch, name))
            case Remove(name=name, identity=identity):
                request_ = api.RoomParticipantIdentity(room=name, identity=identity)
                return await _truth(self._api.room.remove_participant(request_))


def _dispatch_of(dispatch: api.AgentDispatch) -> Dispatch:
    identities = (job.state.participant_identity for job in dispatch.state.jobs)
    return Dispatch(dispatch.id, mark_of(dispatch.metadata), frozenset(filter(None, identities)))


async def _truth(call: Awaitable[object]) -> bool:
    await call
    return True


def _api_error(error: api.TwirpError) -> ApiError:
    if error.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        wrong = "LIVEKIT_API_KEY and LIVEKIT_API_SECRET must be a valid key of the server at LIVEKIT_URL"
        return ApiError(Trouble.DENIED, f"LiveKit denies it ({error.code}: {error.message}); {wrong}")
    if error.status == HTTPStatus.TOO_MANY_REQUESTS or error.code == api.TwirpErrorCode.RESOURCE_EXHAUSTED:
        return ApiError(Trouble.THROTTLED, f"too many API calls ({error.code}: {error.message})")
    return ApiError(Trouble.UNAVAILABLE, f"{error.code}: {error.message}")
