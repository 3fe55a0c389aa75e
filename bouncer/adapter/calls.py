"""LiveKit's server API for one room, in our records and with our errors."""

import asyncio
import os
import threading
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from livekit import api
from livekit.agents import JobContext
from livekit.protocol import agent

from bouncer.adapter.clock import ServerClock
from bouncer.adapter.errors import CALL_WITHIN, answer_of
from bouncer.adapter.orphans import surplus
from bouncer.adapter.records import listed, listed_job
from bouncer.events import Info, Job
from bouncer.guard.schedule import POSTPONED_FOR
from bouncer.ports import ApiError, Says, Trouble
from bouncer.room import GUARDING_ATTRIBUTE, STANDING_ATTRIBUTE, Instant

T = TypeVar("T")

TOPIC = "bouncer"
_CODES = frozenset(code for name, code in vars(api.TwirpErrorCode).items() if name.isupper())
"""The codes that an answer may have. Another one, such as a proxy's, counts as unknown."""


ROOM_PER_MINUTE = 60
"""Calls a minute that every room may make for what is urgent, whatever it does otherwise and whatever others do. An
eviction takes one list, and one of the jobs while a dispatch is unknown."""
ROOM_PART = 4
"""No room makes more than this part of its worker's other calls. Removals don't count: `max_per_minute` bounds them."""


class CallBudget:
    """How many API calls this worker makes a minute, fairly divided among its rooms.

    What ends an eviction always goes, and so does what is urgent, as long as its room has made few urgent calls.
    Anything else goes within what is left, and within the room's part.
    """

    def __init__(self, per_minute: int) -> None:
        """Make one for all rooms of the worker; the rooms run in threads of their own."""
        self._per_minute = per_minute
        self._room_limit = max(ROOM_PER_MINUTE, per_minute // ROOM_PART)
        self._made: deque[tuple[Instant, tuple[str, bool]]] = deque()
        self._rooms: Counter[tuple[str, bool]] = Counter()
        """The calls of this minute, by room and whether they were urgent; those that end an eviction are of room ''."""
        self._lock = threading.Lock()

    def spend(self, now: Instant, *, urgent: bool, room: str = "", ends: bool = False) -> bool:
        """Count a call that is about to be made for a room; `ends` if it ends an eviction.

        Return False if it has to wait.
        """
        with self._lock:
            while self._made and self._made[0][0] + 60.0 <= now:
                _, of = self._made.popleft()
                self._rooms[of] -= 1
                if not self._rooms[of]:
                    del self._rooms[of]
            if not (ends or (urgent and self._rooms[room, True] < ROOM_PER_MINUTE)):
                made = self._rooms[room, True] + self._rooms[room, False] if room else 0
                if made >= self._room_limit or len(self._made) >= self._per_minute:
                    return False
            of = ("", False) if ends else (room, urgent)
            self._made.append((now, of))
            self._rooms[of] += 1
            return True

    def left(self, now: Instant) -> int:
        """Return how many calls may still be made in this minute."""
        with self._lock:
            return max(0, self._per_minute - sum(at + 60.0 > now for at, _ in self._made))


Called = Callable[[str, str, float | None], None]
"""Is told of each call: its method, how it ended, and its seconds; None if it was not made."""


def _unnoted(_method: str, _code: str, _seconds: float | None) -> None:
    """Take no note of a call."""


class Calls:
    """The server API for the room of a job. It outlives our connection to the room."""

    def __init__(
        self,
        client: api.LiveKitAPI,
        job: agent.Job,
        budget: CallBudget,
        answered: Callable[[], None] = lambda: None,
        called: Called = _unnoted,
    ) -> None:
        """Make it on the event loop that the client belongs to; `answered` is told of each answer."""
        self.clock = ServerClock()
        """Dates what is listed; lists read before we were connected have no dates."""
        self.metadata = job.metadata
        """What a successor is dispatched with."""
        self._client = client
        self._job = job
        self._name = job.room.name
        self._budget = budget
        self._answered = answered
        self._called = called
        self._loop = asyncio.get_running_loop()
        self._refused_since: dict[str, Instant] = {}
        """Since when calls of a method have had to wait."""

    async def list_participants(self, *, urgent: bool = False) -> tuple[Info, ...]:
        """Return everyone in the room, hidden ones and ourselves included."""
        request = api.ListParticipantsRequest(room=self._name)
        answer = await self._call(
            "list_participants", lambda: self._client.room.list_participants(request), urgent=urgent
        )
        if answer is None:
            raise ApiError(Trouble.UNAVAILABLE, "the server does not know the room")
        return tuple(listed(participant, self.clock) for participant in answer.participants)

    async def list_jobs(self, *, urgent: bool = False) -> tuple[Job, ...]:
        """Return the jobs of all the room's dispatches."""
        dispatches = await self._call(
            "list_dispatch", lambda: self._client.agent_dispatch.list_dispatch(self._name), urgent=urgent
        )
        return tuple(listed_job(dispatch, job) for dispatch in dispatches or () for job in dispatch.state.jobs)

    async def list_dispatches(self) -> frozenset[str]:
        """Return the ids of the room's dispatches that carry our agent name; none if the room is closed."""
        request = api.ListRoomsRequest(names=[self._name])
        # Asked for the dispatches of an unknown room, the server keeps silent for 3 s and then says "unavailable",
        # which can't be told from a server that is.
        rooms = await self._call("list_rooms", lambda: self._client.room.list_rooms(request))
        if rooms is None or not rooms.rooms:
            return frozenset()
        dispatches = await self._call("list_dispatch", lambda: self._client.agent_dispatch.list_dispatch(self._name))
        return frozenset(found.id for found in dispatches or () if found.agent_name == self._job.agent_name)

    async def get_participant(self, identity: str) -> Info | None:
        """Return the participant that has this identity now; None if there is none."""
        request = api.RoomParticipantIdentity(room=self._name, identity=identity)
        answer = await self._call("get_participant", lambda: self._client.room.get_participant(request), ends=True)
        return None if answer is None else listed(answer, self.clock)

    async def remove_participant(self, identity: str) -> bool:
        """Remove the participant that has this identity. Return False if there was none."""
        request = api.RoomParticipantIdentity(room=self._name, identity=identity)
        answer = await self._call(
            "remove_participant", lambda: self._client.room.remove_participant(request), ends=True
        )
        return answer is not None

    async def delete_dispatch(self, dispatch: str) -> bool:
        """End all jobs of a dispatch gracefully, so that nothing restarts them. Return False if there was none."""
        client = self._client.agent_dispatch
        answer = await self._call("delete_dispatch", lambda: client.delete_dispatch(dispatch, self._name), ends=True)
        return answer is not None

    async def send_data(self, payload: bytes) -> None:
        """Send a reliable data packet on our topic to everyone in the room."""
        request = api.SendDataRequest(
            room=self._name, data=payload, kind=api.DataPacket.Kind.RELIABLE, topic=TOPIC, nonce=os.urandom(16)
        )
        await self._call("send_data", lambda: self._client.room.send_data(request))

    async def dispatch_successor(self) -> str:
        """Dispatch another bouncer to the room in our place. Return the id of its dispatch."""
        request = api.CreateAgentDispatchRequest(
            agent_name=self._job.agent_name, room=self._name, metadata=self.metadata
        )
        dispatch = await self._call(
            "create_dispatch", lambda: self._client.agent_dispatch.create_dispatch(request), urgent=True
        )
        if dispatch is None:
            raise ApiError(Trouble.UNAVAILABLE, "the server does not know the room")
        return dispatch.id

    async def take_back_surplus(self) -> tuple[str, ...]:
        """Delete the marked dispatches of this room that are too many. Return their ids."""
        infos = await self.list_participants(urgent=True)
        answer = await self._call("list_dispatch", lambda: self._client.agent_dispatch.list_dispatch(self._name))
        jobs = {
            each.id: (each.metadata, [job.state.participant_identity for job in each.state.jobs])
            for each in answer or ()
        }
        extra = surplus(jobs, infos, self._job.room.sid)
        for dispatch in extra:
            await self.delete_dispatch(dispatch)
        return extra

    async def _call(
        self, method: str, call: Callable[[], Awaitable[T]], *, urgent: bool = False, ends: bool = False
    ) -> T | None:
        """Make an API call. Return None if the server answers "not found".

        A call that has had to wait for POSTPONED_FOR is urgent, whatever it is for.

        Raises: ApiError for every other failure.
        """
        now = self._loop.time()
        urgent |= now - self._refused_since.get(method, now) >= POSTPONED_FOR
        if not self._budget.spend(now, urgent=urgent, room=self._name, ends=ends):
            self._refused_since.setdefault(method, now)
            self._called(method, "out_of_budget", None)
            raise ApiError(Trouble.THROTTLED, "this worker has made its API calls of this minute")
        self._refused_since.pop(method, None)
        answer = await answer_of(lambda: self._noted(method, call), CALL_WITHIN)
        if answer is not None:
            self._answered()
        return answer

    async def _noted(self, method: str, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call, and tell how it ended."""
        began, code = self._loop.time(), "no_answer"
        try:
            answer = await call()
            code = "ok"
        except asyncio.CancelledError:
            code = "timeout"
            raise
        except api.TwirpError as error:
            code = error.code if error.code in _CODES else "unknown"
            raise
        finally:
            self._called(method, code, self._loop.time() - began)
        return answer


class RoomCalls(Calls):
    """The server API for a room that we are connected to, and what we say there about ourselves."""

    def __init__(
        self,
        client: api.LiveKitAPI,
        ctx: JobContext,
        budget: CallBudget,
        answered: Callable[[], None] = lambda: None,
        called: Called = _unnoted,
    ) -> None:
        super().__init__(client, ctx.job, budget, answered, called)
        self.resigned = False
        self.mute_since: Instant | None = None
        """Since when the server has taken nothing that we say; None if it takes it."""
        self._ctx = ctx

    async def say(self, says: Says) -> None:
        """Say in our own attributes what we are in the room."""
        me = self._ctx.room.local_participant
        attributes = {
            GUARDING_ATTRIBUTE: "true" if says is Says.GUARDING else "",
            STANDING_ATTRIBUTE: says if says is Says.UNCONFIGURED else "",
        }
        try:
            async with asyncio.timeout(CALL_WITHIN):
                await me.set_attributes(attributes)
        except Exception as error:  # noqa: BLE001 - as for any call, whatever the SDK makes of a dead line
            self.mute_since = self._loop.time() if self.mute_since is None else self.mute_since
            raise ApiError(Trouble.UNAVAILABLE, f"{type(error).__name__}: {error}") from None
        self.mute_since = None

    async def resign(self, why: str) -> None:
        """End our own job for the reason given, so that nothing restarts it."""
        self.resigned = True
        with suppress(ApiError):
            await self.delete_dispatch(self._job.dispatch_id)
        self._ctx.shutdown(why)
