"""LiveKit's server API for one room, in our records and with our errors. Nothing here needs to be connected to it."""

import asyncio
import os
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import TypeVar

from livekit import api
from livekit.protocol import agent, models

from bouncer.api import ApiError, Trouble
from bouncer.events import Info, Job
from bouncer.room import Instant, Kind

T = TypeVar("T")

TOPIC = "bouncer"
CALL_WITHIN = 3.0
"""Seconds for one call to the server API; on loopback it takes 0.5 to 5 ms. The client's own limit is 300 s."""

_LISTED_KINDS: Mapping[int, Kind] = {
    models.ParticipantInfo.STANDARD: Kind.STANDARD,
    models.ParticipantInfo.INGRESS: Kind.INGRESS,
    models.ParticipantInfo.EGRESS: Kind.EGRESS,
    models.ParticipantInfo.SIP: Kind.SIP,
    models.ParticipantInfo.AGENT: Kind.AGENT,
    models.ParticipantInfo.CONNECTOR: Kind.CONNECTOR,
    models.ParticipantInfo.BRIDGE: Kind.BRIDGE,
}
"""The numbers of CONNECTOR and BRIDGE differ between the two APIs. An unknown kind counts as STANDARD: a person."""


class CallBudget:
    """How many API calls this worker makes a minute: removals always go, lists only within what is left."""

    def __init__(self, per_minute: int) -> None:
        """Make one for all rooms of the worker; the rooms run in threads of their own."""
        self._per_minute = per_minute
        self._made: deque[Instant] = deque()
        self._lock = threading.Lock()

    def take(self, now: Instant, *, urgent: bool) -> bool:
        """Count a call that is about to be made; False if it has to wait."""
        with self._lock:
            while self._made and self._made[0] + 60.0 <= now:
                self._made.popleft()
            if not urgent and len(self._made) >= self._per_minute:
                return False
            self._made.append(now)
            return True


class Calls:
    """The server API for the room of a job: all of the patrol's `RoomApi` that outlives our connection to it."""

    def __init__(self, client: api.LiveKitAPI, job: agent.Job, budget: CallBudget) -> None:
        """Make it on the event loop that the client belongs to."""
        self._api = client
        self._job = job
        self._name = job.room.name
        self._budget = budget
        self._loop = asyncio.get_running_loop()
        self._server_epoch: float | None = None
        """What to add to the server's seconds to get an Instant; None before we are connected."""

    def _instant(self, server_ms: int) -> Instant:
        """The server's milliseconds as an Instant; right only once we are connected."""
        return (self._server_epoch or 0.0) + server_ms / 1000

    def _listed(self, participant: models.ParticipantInfo) -> Info:
        joined_ms = participant.joined_at_ms or participant.joined_at * 1000
        return Info(
            sid=participant.sid,
            identity=participant.identity,
            kind=_LISTED_KINDS.get(participant.kind, Kind.STANDARD),
            simulated=models.ParticipantInfo.SIMULATION in participant.kind_details,
            active=participant.state == models.ParticipantInfo.ACTIVE,
            joined_at=self._instant(joined_ms),
            joined_ms=joined_ms,
            attributes=dict(participant.attributes),
            audio=any(track.type == models.TrackType.AUDIO for track in participant.tracks),
            agent_grant=participant.permission.agent,
            hidden=participant.permission.hidden,
        )

    async def list_participants(self, *, urgent: bool = False) -> tuple[Info, ...]:
        """Everybody in the room, hidden ones and ourselves included."""
        request = api.ListParticipantsRequest(room=self._name)
        answer = await self._call(lambda: self._api.room.list_participants(request), urgent=urgent)
        if answer is None:
            raise ApiError(Trouble.UNAVAILABLE, "the server does not know the room")
        return tuple(map(self._listed, answer.participants))

    async def list_jobs(self, *, urgent: bool = False) -> tuple[Job, ...]:
        """The jobs of all the room's dispatches."""
        dispatches = await self._call(lambda: self._api.agent_dispatch.list_dispatch(self._name), urgent=urgent)
        return tuple(_listed_job(dispatch, job) for dispatch in dispatches or () for job in dispatch.state.jobs)

    async def list_dispatches(self) -> frozenset[str]:
        """The ids of the room's dispatches that are for us by their name; none if the room is closed."""
        request = api.ListRoomsRequest(names=[self._name])
        # Asked for the dispatches of a room that it does not know, the server says nothing for 3 s, and then that it
        # is unavailable: not to be told from one that is.
        rooms = await self._call(lambda: self._api.room.list_rooms(request))
        if rooms is None or not rooms.rooms:
            return frozenset()
        dispatches = await self._call(lambda: self._api.agent_dispatch.list_dispatch(self._name))
        return frozenset(found.id for found in dispatches or () if found.agent_name == self._job.agent_name)

    async def get_participant(self, identity: str) -> Info | None:
        """The participant that has this identity now; None if there is none."""
        request = api.RoomParticipantIdentity(room=self._name, identity=identity)
        answer = await self._call(lambda: self._api.room.get_participant(request))
        return None if answer is None else self._listed(answer)

    async def remove_participant(self, identity: str) -> bool:
        """Remove whoever has this identity; False if there was nobody."""
        request = api.RoomParticipantIdentity(room=self._name, identity=identity)
        return await self._call(lambda: self._api.room.remove_participant(request)) is not None

    async def delete_dispatch(self, dispatch: str) -> bool:
        """End all jobs of a dispatch, gracefully, and let nothing restart them; False if there was no such dispatch."""
        return await self._call(lambda: self._api.agent_dispatch.delete_dispatch(dispatch, self._name)) is not None

    async def send_data(self, payload: bytes) -> None:
        """Send a reliable data packet on our topic to everybody in the room."""
        request = api.SendDataRequest(
            room=self._name, data=payload, kind=models.DataPacket.Kind.RELIABLE, topic=TOPIC, nonce=os.urandom(16)
        )
        await self._call(lambda: self._api.room.send_data(request))

    async def dispatch_successor(self) -> str:
        """Dispatch another bouncer to the room, as we were dispatched; the id of its dispatch."""
        job = self._job
        request = api.CreateAgentDispatchRequest(agent_name=job.agent_name, room=self._name, metadata=job.metadata)
        dispatch = await self._call(lambda: self._api.agent_dispatch.create_dispatch(request))
        if dispatch is None:
            raise ApiError(Trouble.UNAVAILABLE, "the server does not know the room")
        return dispatch.id

    async def _call(self, call: Callable[[], Awaitable[T]], *, urgent: bool = True) -> T | None:
        """Make an API call; None if the server says «not found».

        Raises: ApiError for every other failure.
        """
        if not self._budget.take(self._loop.time(), urgent=urgent):
            raise ApiError(Trouble.THROTTLED, "this worker has made its API calls of this minute")
        try:
            async with asyncio.timeout(CALL_WITHIN):
                return await call()
        except api.TwirpError as error:
            if error.code == api.TwirpErrorCode.NOT_FOUND:
                return None
            raise _api_error(error) from None
        except Exception as error:  # noqa: BLE001 - whatever the SDK makes of a dead line or of a proxy's own answer
            raise ApiError(Trouble.UNAVAILABLE, f"{type(error).__name__}: {error}") from None


def _api_error(error: api.TwirpError) -> ApiError:
    if error.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return ApiError(
            Trouble.DENIED,
            f"LiveKit denies it ({error.code}: {error.message}); LIVEKIT_API_KEY and LIVEKIT_API_SECRET must be a "
            "valid key of this server, since removing participants needs a token with roomAdmin for the room",
        )
    if error.status == HTTPStatus.TOO_MANY_REQUESTS or error.code == api.TwirpErrorCode.RESOURCE_EXHAUSTED:
        return ApiError(Trouble.THROTTLED, error.message)
    return ApiError(Trouble.UNAVAILABLE, f"{error.code}: {error.message}")


def _listed_job(dispatch: api.AgentDispatch, job: agent.Job) -> Job:
    return Job(
        dispatch=dispatch.id,
        job=job.id,
        agent_name=dispatch.agent_name,
        identity=job.state.participant_identity or f"agent-{job.id}",
        publisher=job.participant.identity if job.type == agent.JobType.JT_PUBLISHER else "",
    )
