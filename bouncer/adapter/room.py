"""One job: a patrol's connection to the room that it guards."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Protocol

from livekit import rtc
from livekit.agents import AutoSubscribe, JobContext
from livekit.protocol import agent

from bouncer import earlier
from bouncer.adapter import endings
from bouncer.adapter.calls import RoomCalls
from bouncer.adapter.clock import SleepWatch, WallClock
from bouncer.adapter.drain import Drain
from bouncer.adapter.health import Health, RoomStatus
from bouncer.adapter.line import LineHistory
from bouncer.adapter.records import joined
from bouncer.adapter.sdkevents import own_events_only
from bouncer.adapter.traffic import Traffic
from bouncer.adapter.turns import RoomTurns
from bouncer.configuration.carried import carried, carry
from bouncer.events import Connected, Disconnected, Stalled
from bouncer.guard.patrol import Patrol
from bouncer.observers.log_events import LogEvent
from bouncer.observers.records import Records

logger = logging.getLogger("bouncer")

CONNECT_WITHIN = 30.0
"""Seconds for connecting to the room. One that hangs is listed ACTIVE all the same, so it must not go on unnoticed."""
GATHERING_ONCE = rtc.RtcConfiguration(continual_gathering_policy=rtc.ContinualGatheringPolicy.GATHER_ONCE)
"""How we connect: as long as it gathers candidates, the SDK keeps sockets open on each network interface."""
MUTE_FOR = 30.0
"""Seconds after which a connection on which the server takes nothing that we say is dead. Now and then one is, after
connecting on a busy machine. The SDK doesn't notice, and what the server says doesn't arrive either."""
HANDED_WITHIN = 55.0
"""Seconds after which a worker that is to end gives up looking for a successor: orchestrators are told to give it a
minute (docs/how-to/deploys.md), and then kill it."""
REASON_WITHIN = 1.0
"""Seconds in which the reason arrives for which the server has ended our job: both are sent at once, on two lines."""
LOOK_EVERY = 2.0
"""Seconds between two looks at the clocks and at the room's standing."""


class RequestSuccessor(Protocol):
    """Has another bouncer dispatched in place of a job. May be called from any thread."""

    def __call__(self, job: agent.Job, *, never_began: bool = False, metadata: str | None = None) -> None:
        """Request one, to be dispatched with this metadata, by default the job's own.

        Of jobs that `never_began` to guard only a few a minute get a successor.
        """


class LiveKitRoom:
    """The connection to one room: it tells the patrol what happens there, and ends with the job."""

    def __init__(
        self,
        ctx: JobContext,
        calls: RoomCalls,
        *,
        drain: Drain,
        turns: RoomTurns,
        health: Health,
        request_successor: RequestSuccessor,
    ) -> None:
        """Make it for a job, from within the job's entrypoint; `turns` are those of connecting."""
        self.calls = calls
        self._ctx = ctx
        self._drain = drain
        self._turns = turns
        self._health = health
        self._status = RoomStatus()
        self._request_successor = request_successor
        self._room = ctx.room
        self._personal = {"lk.pii.room_name": ctx.job.room.name}
        self._loop = asyncio.get_running_loop()
        self.records = Records(ctx.job.room.name, WallClock(self._loop.time), ctx.job.room.sid)
        """Renders what the room's observers are told."""
        self._background: set[asyncio.Task[None]] = set()
        self._room_sid = ""
        self._line = LineHistory()
        self._changed = False
        """True if the room's metadata changed while we reconnected."""

    async def guard(self, patrol: Patrol, *background: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Connect, and have the patrol guard the room until the job ends. Returns once it does.

        If connecting hangs, a successor is requested.

        Raises: TimeoutError if the connection can't be made; the framework's errors if it is refused.
        """
        self._room_sid = self._ctx.job.room.sid
        self._mind_disconnecting()
        traffic = Traffic(self._room, self.calls.clock, patrol.tell)
        self._follow(patrol, traffic)
        try:
            async with self._turns.turn(), asyncio.timeout(CONNECT_WITHIN):
                # Not with single_peer_connection=False: a track that was once unsubscribed can't be subscribed to again
                # then, so hearing can't be switched off and on (livekit 1.1.21).
                await self._ctx.connect(auto_subscribe=AutoSubscribe.SUBSCRIBE_NONE, rtc_config=GATHERING_ONCE)
        except TimeoutError:
            self._request_successor(self._ctx.job, never_began=True)
            raise
        own_events_only(self._room)
        self._line.up(self._loop.time())
        self._connected(patrol, traffic)
        if seen := earlier.read(self._ctx.job.metadata, self._loop.time(), self.calls.clock.instant):
            patrol.tell(seen)
        metadata = self._room.metadata or ""
        if not metadata and self._ctx.job.room.metadata and await self._room.sid != self._room_sid:
            # A restarted server has created the room again, without the metadata that we were dispatched under.
            metadata = self._ctx.job.room.metadata
        before = carried(self._ctx.job.metadata)
        if before:
            patrol.configure(before.metadata)
        if before is None or not before.outlives(metadata):
            patrol.configure(metadata)

        guarding = self._run_in_background(patrol.run())
        for work in (self._hand_over(patrol), *(run() for run in background), self._look_around(patrol)):
            self._run_in_background(work)

        async def close() -> None:
            await self._close(patrol, guarding)

        self._health.guard(self._status)
        self._ctx.add_shutdown_callback(close)

    def _to_carry(self, patrol: Patrol) -> str:
        """Return what a successor is dispatched with."""
        job, watch = self._ctx.job, patrol.watch
        return carry(job.metadata, watch.metadata, self._room.metadata or "") if watch.config else job.metadata

    async def _hand_over(self, patrol: Patrol) -> None:
        """Have another bouncer take the room over once the worker drains."""
        await self._drain.begun()
        self.calls.metadata = self._to_carry(patrol)
        try:
            async with asyncio.timeout(HANDED_WITHIN):
                await patrol.hand_over()
        except TimeoutError:
            facts = {**self._personal, "within": HANDED_WITHIN, "next": "the next worker to start finds the room"}
            logger.warning(LogEvent.HANDED_TO_NO_ONE, extra=facts)
            patrol.close()
            self.calls.resigned = True  # in deed if not in word: no successor is to be looked for
            self._ctx.shutdown("no successor")

    async def _close(self, patrol: Patrol, guarding: asyncio.Task[None]) -> None:
        """End what runs in the background, and request a successor if no one wanted the end."""
        self._health.leave(self._status)
        patrol.close()
        hangs_at = self._loop.time() + endings.CLOSED_WITHIN
        # It ends by itself, and has something to say until then. If it were cancelled, that would be lost.
        await asyncio.wait([guarding], timeout=endings.CLOSED_WITHIN)
        for task in self._background:
            task.cancel()
        left = max(0.0, hangs_at - self._loop.time())
        if self._background and (await asyncio.wait(self._background, timeout=left))[1]:
            endings.hangs("background task", self._ctx.job.room.name)
        self._line.ending(self._loop.time())
        if not self.calls.resigned and self._line.is_untimely_end:
            self._request_successor(self._ctx.job, metadata=self._to_carry(patrol))

    def _mind_disconnecting(self) -> None:
        """Have the framework wait with the end of the connection for its reason, and for no part of a job's end long.

        When our job is to end, this comes first, and whoever has closed the room has also ended the job.
        """
        disconnect = self._room.disconnect

        async def minded(**options: Any) -> None:
            self._line.ending(self._loop.time())
            try:
                async with asyncio.timeout(endings.CLOSED_WITHIN):
                    if not self.calls.resigned and self._line.is_untimely_end:
                        await self._reason()
                    await disconnect(**options)
            except TimeoutError:
                endings.hangs("connection", self._ctx.job.room.name)

        self._room.disconnect = minded  # type: ignore[method-assign]

    async def _reason(self) -> None:
        """Wait a moment for the server to disconnect us, and to say why."""
        told = asyncio.Event()
        self._room.on("disconnected", lambda _: told.set())
        if self._room.isconnected():
            with suppress(TimeoutError):
                async with asyncio.timeout(REASON_WITHIN):
                    await told.wait()

    async def _reconfigure(self, patrol: Patrol) -> None:
        """Take in metadata that changed while we reconnected, unless the server has only forgotten it.

        A restarted server creates the room again, without its metadata. That lifts no exemption and ends no dry run;
        whatever anyone has written since does.
        """
        before, self._room_sid = self._room_sid, await self._room.sid
        self.records.room_sid = self._room_sid
        changed, self._changed = self._changed, False
        if not changed:
            return
        if self._room_sid == before or self._room.metadata:
            patrol.configure(self._room.metadata or "")
        else:
            logger.warning(LogEvent.ROOM_RECREATED, extra={**self._personal, "in_force": "as before"})

    async def _look_around(self, patrol: Patrol) -> None:
        """Note how the room is; tell the patrol when the machine has slept, which its own clock doesn't show.

        End the job if its connection is dead.
        """
        watch = SleepWatch(self._loop.time)
        while not self._is_mute():
            self._status.standing = patrol.watch.standing
            await asyncio.sleep(LOOK_EVERY)
            if watch.slept():
                patrol.tell(Stalled(self._loop.time()))
        logger.warning(LogEvent.CONNECTION_LOST, extra={**self._personal, "mute_for": MUTE_FOR})
        self._line.lost()
        patrol.tell(Disconnected(self._loop.time()))
        self._ctx.shutdown("the connection is dead")

    def _is_mute(self) -> bool:
        """Return True if the server has taken nothing that we said for too long, though it seems to be connected."""
        since = self.calls.mute_since
        return since is not None and not self._line.down and self._loop.time() - since >= MUTE_FOR

    def _connected(self, patrol: Patrol, traffic: Traffic) -> None:
        """Start watching, for the first time or again.

        A signal-only reconnect leaves seconds unwatched too (3 s were seen), and our sid doesn't tell it from a full
        one: after a full reconnect the SDK goes on showing the old sid and joined_at (livekit 1.1.21).
        """
        now, me, clock = self._loop.time(), self._room.local_participant, self.calls.clock
        clock.joined(me.sid, now, joined(me))
        for participant in self._room.remote_participants.values():
            clock.seen(participant.sid)
        others = tuple(map(traffic.info, self._room.remote_participants.values()))
        patrol.tell(Connected(now, traffic.info(me), others))

    def _follow(self, patrol: Patrol, traffic: Traffic) -> None:
        """Tell the patrol what becomes of our connection, and what the room's metadata is."""
        room, now = self._room, self._loop.time

        def reconfigured(_: str, metadata: str) -> None:
            if self._line.down:
                self._changed = True
            else:
                patrol.configure(metadata)

        def reconnecting() -> None:
            logger.warning(LogEvent.CONNECTION_LOST, extra=self._personal)
            self._line.lost()
            patrol.tell(Disconnected(now()))

        def reconnected() -> None:
            logger.info(LogEvent.CONNECTION_RESTORED, extra=self._personal)
            self._line.up(now())
            self._connected(patrol, traffic)
            self._run_in_background(self._reconfigure(patrol))

        def disconnected(reason: rtc.DisconnectReason.ValueType) -> None:
            self._line.ended(reason)
            patrol.close()

        room.on("room_metadata_changed", reconfigured)
        room.on("reconnecting", reconnecting)
        room.on("reconnected", reconnected)
        room.on("disconnected", disconnected)

    def _run_in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run it until it is done or the job ends."""
        task = self._loop.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task
