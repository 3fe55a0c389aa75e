"""The loop that guards one room: wait, look, decide, act.

It is level-triggered: whatever happens only sets one flag, and then the whole room is looked at again. There is one
timer, set to the instant until which the last decision holds. Before anybody is evicted the server's list is read and
the decision taken once more, so that a human, a replacement or a configuration that came meanwhile is seen.

Of several bouncers in a room the oldest acts, the next stands by, and further ones are sent away by the one that acts.
All go by the server's list: who is a bouncer is told by the dispatches, which nobody in a room can forge.
"""

import asyncio
import contextlib
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from bouncer.api import ApiError, RoomApi, Trouble
from bouncer.config import NO_OTHERS, Config, ConfigError, Layer, Mode, Others, load
from bouncer.decide import Decision, Finding
from bouncer.events import Connected, Dispatched, Event, Info, Joined, Left, Listed, RemovalSent, Stalled
from bouncer.eviction import DryRun, Evictor, Remover
from bouncer.handover import hand_over
from bouncer.history import BACKOFF, History, Outcome
from bouncer.observers import (
    Configured,
    Decided,
    Evicted,
    Faulted,
    HandedOver,
    HeldBack,
    News,
    Noticed,
    Observer,
    Ranked,
    Refused,
    Reported,
    Troubled,
)
from bouncer.policy import Policy
from bouncer.recheck import Moment, may_end_dispatch, still_due
from bouncer.room import Instant
from bouncer.tracker import Tracker

SETTLE = 0.01
"""Seconds for which what happened is gathered before it is looked at: a burst of events is one evaluation."""
STALL = 2.0
"""Seconds by which a timer may be late before we take it that the process was frozen, or the machine asleep."""
LIST_APART = 0.5
"""Seconds between two lists when much happens: a crowd that joins must not spend the calls that evictions need."""
PULSE = 2.0
"""Seconds between two looks at the clock, so that a freeze is noticed when nothing else was to happen meanwhile."""
RELIST = 1.0
"""Seconds between lists while an agent's dispatch is not listed yet, or somebody was missing from the last one."""
WAITS_FOR = 15.0
"""Seconds that a list may be put off because this worker is out of calls; then it goes all the same.

Whoever stands by learns from nothing else that it has to act. So each of the worker's rooms overdraws its calls by four
lists a minute at most.
"""
SILENT_FOR = 30.0
"""Seconds without an answered list from which on being out of calls is told."""
STANDBY_LIST = 5.0
"""Seconds between lists at most while we stand by: that an older bouncer is gone is nowhere else to be seen."""
STANDBYS = 1
"""Bouncers that stand by while we act; further ones we send away."""
SURPLUS_FOR = 25.0
"""Seconds for which there have to be too many before we do: one that was killed is listed for 20 to 23 s."""


class Patrol:
    """Guards one room. Tell it what happens with `tell` and `configure`, run it with `run`, end it with `close`."""

    def __init__(
        self,
        *,
        tracker: Tracker,
        api: RoomApi,
        registry: Sequence[type[Policy]],
        others: Others = NO_OTHERS,
        layers: Sequence[Layer] = (),
        observers: Sequence[Observer] = (),
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Make a patrol for one room, on the running event loop.

        `others` are policies that are loaded when a configuration names them. `layers` are those beneath the room's
        metadata, lowest first. `jitter` gives numbers in [0, 1).
        """
        self.tracker = tracker
        self.config: Config | None = None
        self._api = api
        self._registry = registry
        self._others = others
        self._layers = layers
        self._observers = observers
        self._jitter = jitter
        self._loop = asyncio.get_running_loop()
        remover = Remover(
            api,
            look=self._list,
            still_due=self._still_due,
            sent=lambda finding: self._history.send(finding, self._loop.time()),
            absent=self._absent,
            leave_within=self._leave_within,
            troubled=lambda error: self._note_trouble("evicting", error),
        )
        self._evictors: Mapping[Mode, Evictor] = {"enforce": remover, "dry_run": DryRun()}
        self._changed, self._happened = asyncio.Event(), asyncio.Event()
        self._list_wanted = asyncio.Event()
        self._list_at: Instant = 0.0
        self._listed_at: Instant = -math.inf
        self._look_after: Instant = 0.0
        self._looked_at: Instant = self._loop.time()
        self._put_off_at: Instant | None = None
        self._closed = self._surveyed = False
        self._connected_at: Instant = 0.0
        self._rank = 0
        self._surplus_at: Instant | None = None
        self._history = History(jitter)
        self._evictions: set[asyncio.Task[None]] = set()
        self._claims, self._hands_over = True, False

    def tell(self, event: Event) -> None:
        """Take in what happened. Cheap, and never raises: it may be called from LiveKit's event handlers."""
        self.tracker.apply(event)
        if isinstance(event, Connected):
            self._surveyed, self._connected_at = False, event.at
            self.list_soon()
        elif isinstance(event, Joined) and not self._rank:
            self.list_soon()
        self._wake()

    def configure(self, metadata: str) -> None:
        """Take in the room's metadata. A bad one changes nothing, and is reported."""
        try:
            layers = (*self._layers, Layer("room metadata", metadata, shared=True))
            config = load(layers, self._registry, self._others)
        except ConfigError as error:
            self._notify(Refused(error, self.config))
            return
        if config != self.config:
            self.config = config
            self._history.reconfigure()
        self._notify(Configured(config))
        self.list_soon()
        self._wake()

    def list_soon(self, after: float = 0.0) -> None:
        """Have the participants listed in that many seconds, but not too soon after the last list."""
        self._list_at = min(self._list_at, max(self._loop.time() + after, self._listed_at + LIST_APART))
        self._list_wanted.set()

    async def run(self) -> None:
        """Guard the room until `close` is called. An error in here is reported and never ends it."""
        beside = [asyncio.create_task(work) for work in (self._keep_listing(), self._keep_time())]
        try:
            while not self._closed:
                try:
                    wake_at = await self._round()
                    self._history.succeed("looking at the room")
                except Exception as error:  # noqa: BLE001 - whatever goes wrong, the room stays guarded
                    if self._history.first_time("api", "looking at the room", type(error).__name__):
                        self._notify(Troubled("looking at the room", error))
                    wake_at = self._loop.time() + BACKOFF[0]
                await self._until(wake_at)
        finally:
            self.close()
            tasks = (*beside, *self._evictions)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def hand_over(self) -> None:
        """Have another bouncer take the room over, guard it until that one does, and leave."""
        self._hands_over = True
        successor = await hand_over(
            self._api, troubled=lambda error: self._note_trouble("handing over", error), jitter=self._jitter
        )
        self._notify(HandedOver(successor))
        self.close()
        await self._api.resign()

    def close(self) -> None:
        """Stop deciding, at once and for good."""
        self._closed = True
        self._list_wanted.set()
        self._wake()

    def _watching(self) -> Config | None:
        """The configuration that we go by; None while the server is to be asked nothing."""
        if self._closed or self.tracker.blind or self.config is None or self.config.mode == "off":
            return None
        return self.config

    def _in_force(self) -> Config | None:
        """The configuration to act on; None while nothing may be decided.

        Not before the first list since we connected: it shows the hidden ones, and so whether another bouncer acts.
        """
        return self._watching() if self._surveyed and not self.tracker.room().seniors else None

    async def _round(self) -> Instant | None:
        """Look at the room once and act on it; the instant until which nothing changes by itself."""
        self._changed.clear()
        config = self._watching() if self._surveyed else None
        if config is None:
            return None
        if self._stands_by():
            return None
        decision = self._decide(config)
        if decision.evictions:
            if self._loop.time() < self._look_after or not await self._look(urgent=True):
                self._act(replace(decision, evictions=()), self._evictors[config.mode])
                return self._look_after
            config = self._in_force()
            if config is None:
                return None
            decision = self._decide(config)
        self._act(decision, self._evictors[config.mode])
        return decision.wake_at

    def _stands_by(self) -> bool:
        """Whether an older bouncer guards the room; tells when their number has changed."""
        seniors = self.tracker.room().seniors
        if len(seniors) != self._rank:
            self._rank = len(seniors)
            # Who stands by removes nobody, so it would never learn that it may again.
            self._history.denied.discard("evicting")
            self._notify(Ranked(seniors))
            self.list_soon()
        return bool(seniors)

    async def _claim(self) -> None:
        """Say whether we guard the room, if that has changed: while our credentials are refused the next one has to.

        Nothing else changes by it: we go on trying, as seldom as before, and claim the room again once that works.
        """
        claims = not self._history.denied
        if claims != self._claims and not self._hands_over:
            self._claims = claims
            try:
                await self._api.say_guarding(guarding=claims)
            except ApiError:
                self._claims = not claims

    async def _send_surplus_away(self) -> None:
        """End the jobs of the bouncers that are too many, once they were for long enough.

        They don't leave by themselves: the two before them may have been killed, and be listed all the same. Whoever
        sends somebody away is alive.
        """
        room = self.tracker.room()
        surplus = room.juniors[STANDBYS:] if self._in_force() else ()
        if not surplus:
            self._surplus_at = None
            return
        now = self._loop.time()
        self._surplus_at = self._surplus_at or now + SURPLUS_FOR
        if now < self._surplus_at:
            self.list_soon(self._surplus_at - now)
            return
        self._surplus_at = None
        needed = {p.dispatch for p in room.participants if p not in surplus}
        for dispatch in sorted({p.dispatch for p in surplus} - needed):
            with contextlib.suppress(ApiError):
                await self._api.delete_dispatch(dispatch)

    def _decide(self, config: Config) -> Decision:
        moment = self._moment(config)
        decision = moment.decision()
        self._notify(Decided(moment.now, moment.room, decision))
        return decision

    def _moment(self, config: Config) -> Moment:
        """All that there is to decide by right now."""
        now = self._loop.time()
        return Moment(
            room=self.tracker.room(),
            rules=config.rules,
            guards=config.guards if self._evictors[config.mode].sends else config.guards.without_budget(),
            now=now,
            ledger=self._history.ledger(now),
            under_way=dict(self._history.under_way),
            unsure=self.tracker.unsure | self.tracker.heirs,
        )

    def _act(self, decision: Decision, evictor: Evictor) -> None:
        now = self._loop.time()
        for fault in decision.faults:
            # By its kind: the text may be another one each time.
            if self._history.first_time("fault", fault.rule.id, fault.error.partition(":")[0]):
                self._notify(Faulted(fault))
        for hold in decision.held:
            if self._history.first_time(*hold.finding.key, hold.by):
                self._notify(HeldBack(hold))
        for finding in decision.notices:
            self._history.notice(finding)
            self._notify(Noticed(finding, finding.verdict.due - now))
        for finding in decision.reports:
            self._history.report(finding)
            self._notify(Reported(finding))
        for finding in decision.evictions:
            self._history.begin(finding, decision.evictions, now, sends=evictor.sends)
            task = asyncio.create_task(self._evict(finding, evictor), name="bouncer_evict")
            self._evictions.add(task)
            task.add_done_callback(self._evictions.discard)

    async def _evict(self, finding: Finding, evictor: Evictor) -> None:
        who, started = finding.participant, self._loop.time()
        try:
            outcome, why = await evictor.evict(finding)
        except asyncio.CancelledError:
            sent = not self._history.under_way[who.sid].unsent
            why = "we end, and don't know whether it has left" if sent else "we end"
            self._notify(Evicted(finding, Outcome.FAILED if sent else Outcome.VOID, self._loop.time() - started, why))
            raise
        except Exception as error:  # noqa: BLE001 - one eviction's failure must not end another's
            self._notify(Troubled("evicting", error))
            outcome, why = Outcome.FAILED, f"{type(error).__name__}: {error}"
        now = self._loop.time()
        eviction = self._history.end(finding, outcome, now)
        if outcome in (Outcome.REMOVED, Outcome.LEFT):
            self.tracker.apply(RemovalSent(eviction.at, who.identity))
        if outcome in (Outcome.REMOVED, Outcome.LEFT, Outcome.GONE):
            self.tracker.apply(Left(now, who.sid))
            self._history.succeed("evicting")
        self.list_soon()
        if outcome is not Outcome.DENIED or self._history.first_time(*finding.key, "denied"):
            self._notify(Evicted(finding, outcome, now - started, why))
        self._wake()
        await self._claim()

    def _still_due(self, finding: Finding) -> bool:
        """Whether an eviction that is under way would be decided on right now too."""
        config = self._in_force()
        if config is None or not self._evictors[config.mode].sends:
            return False
        return still_due(finding, self._moment(config))

    def _leave_within(self, finding: Finding) -> float:
        """Seconds that an agent gets to leave once its dispatch is deleted; 0 where others could depend on that.

        Nobody may be here of whom it isn't known which dispatch it is of.
        """
        config = self._in_force()
        if config is None or self.tracker.unsettled or not may_end_dispatch(finding, self._moment(config)):
            return 0.0
        return config.leave_within

    async def _absent(self, sid: str, within: float) -> bool:
        """Wait until a participant is seen gone, for so many seconds at most; whether it is."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                while self.tracker.has(sid):
                    await self._happened.wait()
        return not self.tracker.has(sid)

    async def _look(self, *, urgent: bool = False) -> bool:
        """Read the server's lists into the tracker; whether they could be read, and if not, not before when again."""
        asked_at = self._loop.time()
        try:
            infos = await self._list(urgent=urgent)
            if self.tracker.unsettled:
                jobs_asked_at = self._loop.time()
                jobs = await self._api.list_jobs(urgent=urgent)
                self.tracker.apply(Dispatched(self._loop.time(), jobs_asked_at, jobs))
        except ApiError as error:
            self._list_at = self._loop.time() + self._history.fail("listing")
            if urgent or error.trouble is not Trouble.THROTTLED:
                self._look_after = self._list_at
            else:
                # What this worker has no calls left for may be had where somebody is due, and in a while here too.
                self._put_off_at = self._put_off_at or asked_at
                self._list_at = min(self._list_at, self._put_off_at + WAITS_FOR)
            # Being out of calls for a moment is how a crowd is borne; for longer, the room is as good as unguarded.
            if error.trouble is not Trouble.THROTTLED or self._loop.time() - self._looked_at > SILENT_FOR:
                self._note_trouble("listing", error)
            await self._claim()
            return False
        self._looked_at, self._put_off_at = self._loop.time(), None
        self._history.succeed("listing")
        await self._claim()
        # A list that was asked for before we were connected shows what was then.
        self._surveyed |= asked_at >= self._connected_at
        if self._watching() and all(self.tracker.has(info.sid) for info in infos):
            # Otherwise it may be a full reconnect, at which everybody seems to have left.
            self._history.forget_departed(self.tracker.room())
            await self._delete_spent_dispatches()
            await self._send_surplus_away()
        self._wake()
        return True

    async def _list(self, *, urgent: bool = True) -> Iterable[Info]:
        """Read the list of participants into the tracker, and return it."""
        asked_at = self._loop.time()
        infos = await self._api.list_participants(urgent=urgent)
        self.tracker.apply(Listed(self._loop.time(), asked_at, infos))
        if self.tracker.unsure:
            self.list_soon(RELIST)
        return infos

    async def _delete_spent_dispatches(self) -> None:
        """Delete the dispatches whose agents were all evicted, so that nothing restarts them."""
        if self.tracker.unsettled:
            return
        for dispatch in self._history.take_spent(self.tracker.room(), self.tracker.unsure):
            try:
                await self._api.delete_dispatch(dispatch)
            except ApiError:
                self._history.spent.add(dispatch)

    async def _keep_listing(self) -> None:
        """List the participants when it is time to, for ever."""
        while not self._closed:
            self._list_wanted.clear()
            config, wait = self._watching(), self._list_at - self._loop.time()
            if config is None or wait > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait if config else None):
                        await self._list_wanted.wait()
                continue
            every = min(config.reconcile, STANDBY_LIST) if self._rank else config.reconcile
            self._listed_at = self._loop.time()
            self._list_at = self._listed_at + every * (0.9 + 0.2 * self._jitter())
            # The first one always goes: before it the room isn't guarded.
            overdue = self._put_off_at is not None and self._listed_at >= self._put_off_at + WAITS_FOR
            try:
                if await self._look(urgent=overdue or not self._surveyed) and self.tracker.unsettled:
                    self.list_soon(RELIST)
            except Exception as error:  # noqa: BLE001 - whatever goes wrong, the room stays guarded
                self._notify(Troubled("listing", error))
                self._list_at = self._loop.time() + self._history.fail("listing")

    def _note_trouble(self, doing: str, error: ApiError) -> None:
        """Say what is wrong with the API, once until a call of that kind works again."""
        if error.trouble is Trouble.DENIED:
            self._history.denied.add(doing)
        if self._history.first_time("api", doing, error.trouble):
            self._notify(Troubled(doing, error))

    def _notify(self, news: News) -> None:
        for observer in self._observers:
            try:
                observer.notify(news)
            except Exception as error:  # noqa: BLE001 - an observer only listens: what it raises ends nothing
                self._loop.call_exception_handler({"message": "a bouncer observer failed", "exception": error})

    def _wake(self) -> None:
        self._changed.set()
        self._happened.set()
        self._happened = asyncio.Event()

    async def _until(self, wake_at: Instant | None) -> None:
        """Sleep until something happens or that instant has come; then gather what else is happening."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(wake_at):
                await self._changed.wait()
            await asyncio.sleep(SETTLE)
        if wake_at is not None:
            self._notice_stall(wake_at)

    async def _keep_time(self) -> None:
        """Watch the clock, for ever."""
        while not self._closed:
            rings_at = self._loop.time() + PULSE
            await asyncio.sleep(PULSE)
            self._notice_stall(rings_at)

    def _notice_stall(self, timer: Instant) -> None:
        """Take it in if a timer rings late."""
        now = self._loop.time()
        if now > timer + STALL:
            self.tell(Stalled(now))
