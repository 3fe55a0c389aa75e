"""The loop that guards one room: wait, look, decide, act.

It is level-triggered: whatever happens only sets one flag, and then the whole room is looked at again. There is one
timer, set to the instant until which the last decision holds. Before anybody is evicted the server's list is read and
the decision taken once more, so that a human, a replacement or a configuration that came meanwhile is seen.

Of several bouncers in a room the oldest acts, the next stands by, and further ones leave. All go by the server's list:
who is a bouncer is told by the dispatches, which nobody in a room can forge.
"""

import asyncio
import contextlib
import math
import random
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from bouncer.api import ApiError, RoomApi, Trouble
from bouncer.config import NO_OTHERS, Config, ConfigError, Layer, Mode, Others, load
from bouncer.decide import BUDGET_WINDOW, Decision, Finding, Guards, Ledger, decide
from bouncer.events import Connected, Dispatched, Event, Info, Joined, Left, Listed, RemovalSent, Stalled
from bouncer.eviction import DryRun, Evictor, Outcome, Remover
from bouncer.handover import hand_over
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
from bouncer.policy import Policy, Rule
from bouncer.room import Instant, Participant, Room
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
BACKOFF = (0.5, 30.0)
"""First and longest pause, in seconds, before something that failed is tried again; doubled each time."""
STANDBY_LIST = 5.0
"""Seconds between lists at most while we stand by: that an older bouncer is gone is nowhere else to be seen."""
SURPLUS = 2
"""Older bouncers from which on we are not needed."""
SURPLUS_FOR = 25.0
"""Seconds for which they have to be there before we leave: one that was killed is listed for 20 to 23 s."""
DENIED_PAUSE = 30.0
"""Seconds before a removal is tried again for which our credentials did not suffice."""
REMEMBERED = 256
"""How many evicted identities are remembered, to remove what they leave behind."""


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
            sent=self._sent_one,
            absent=self._absent,
            leave_within=self._leave_within,
            troubled=lambda error: self._note_trouble("evicting", error),
        )
        self._evictors: Mapping[Mode, Evictor] = {"enforce": remover, "dry_run": DryRun()}
        self._changed = asyncio.Event()
        self._list_wanted = asyncio.Event()
        self._list_at: Instant = 0.0
        self._listed_at: Instant = -math.inf
        self._look_after: Instant = 0.0
        self._closed = self._surveyed = False
        self._connected_at: Instant = 0.0
        self._rank = 0
        self._surplus_at: Instant | None = None
        self._under_way: dict[str, Finding] = {}
        self._together: dict[str, tuple[Finding, ...]] = {}
        self._evictions: set[asyncio.Task[None]] = set()
        self._unsent: set[str] = set()
        self._sent: deque[Instant] = deque()
        self._sent_at: dict[str, Instant] = {}
        self._handled: set[tuple[str, str]] = set()
        self._told: set[tuple[str, str, str]] = set()
        self._noticed: dict[tuple[str, str], Instant] = {}
        self._retry_at: dict[str, Instant] = {}
        self._failures: Counter[str] = Counter()
        self._evicted: dict[str, Finding] = {}
        self._spent: set[str] = set()
        self._waiting: list[asyncio.Event] = []

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
            self._handled.clear()
            self._told.clear()
            self._noticed.clear()
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
                except Exception as error:  # noqa: BLE001 - whatever goes wrong, the room stays guarded
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
        successor = await hand_over(
            self._api, troubled=lambda error: self._note_trouble("handing over", error), jitter=self._jitter
        )
        self._notify(HandedOver(successor))
        await self._resign()

    async def _resign(self) -> None:
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
        if seniors := self._stand():
            return await self._stand_by(seniors)
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

    def _stand(self) -> Sequence[Participant]:
        """The older bouncers that guard the room; tells when their number has changed."""
        seniors = self.tracker.room().seniors
        if len(seniors) != self._rank:
            self._rank = len(seniors)
            if self._rank < SURPLUS:
                self._surplus_at = None
            self._notify(Ranked(seniors))
            self.list_soon()
        return seniors

    async def _stand_by(self, seniors: Sequence[Participant]) -> Instant | None:
        """Let the oldest act; leave if two were here before us for long enough."""
        if len(seniors) < SURPLUS:
            return None
        now = self._loop.time()
        self._surplus_at = self._surplus_at or now + SURPLUS_FOR
        if now < self._surplus_at:
            return self._surplus_at
        await self._resign()
        return None

    def _decide(self, config: Config) -> Decision:
        now = self._loop.time()
        while self._sent and self._sent[0] + BUDGET_WINDOW <= now:
            self._sent.popleft()
        room = self.tracker.room()
        guards = config.guards if self._evictors[config.mode].sends else _without_budget(config.guards)
        decision = self._certain(room, config.rules, guards, now, self._ledger())
        self._notify(Decided(now, room, decision))
        return decision

    def _certain(self, room: Room, rules: Sequence[Rule], guards: Guards, now: Instant, ledger: Ledger) -> Decision:
        """The decision, without the evictions that rest on somebody who may have left already, or not.

        Who is missing from one list is gone or isn't; whoever is evicted has to leave in either case.
        """
        decision = decide(room, rules, guards, now, ledger)
        if not decision.evictions or not (unsure := self.tracker.unsure):
            return decision
        otherwise = decide(room.without(unsure | self.tracker.heirs), rules, guards, now, ledger)
        certain = {f.participant.sid for f in otherwise.evictions}
        return replace(decision, evictions=tuple(f for f in decision.evictions if f.participant.sid in certain))

    def _ledger(self) -> Ledger:
        """What has been done so far."""
        return Ledger(
            sent=tuple(self._sent),
            leaving=frozenset(self._under_way),
            unsent=len(self._unsent),
            handled=frozenset(self._handled),
            noticed=self._noticed,
            retry_at=self._retry_at,
            evicted=self._evicted,
        )

    def _act(self, decision: Decision, evictor: Evictor) -> None:
        now = self._loop.time()
        for fault in decision.faults:
            # By its kind: the text may be another one each time.
            if self._first_time("fault", fault.rule.id, fault.error.partition(":")[0]):
                self._notify(Faulted(fault))
        for hold in decision.held:
            if self._first_time(*hold.finding.key, hold.by):
                self._notify(HeldBack(hold))
        for finding in decision.notices:
            self._noticed[finding.key] = finding.verdict.due
            self._notify(Noticed(finding, finding.verdict.due - now))
        for finding in decision.reports:
            self._handled.add(finding.key)
            self._notify(Reported(finding))
        for finding in decision.evictions:
            sid = finding.participant.sid
            if evictor.sends and not finding.follows:
                self._unsent.add(sid)
            self._evicted[finding.participant.identity] = finding
            self._under_way[sid] = finding
            self._together[sid] = decision.evictions
            task = asyncio.create_task(self._evict(finding, evictor), name="bouncer_evict")
            self._evictions.add(task)
            task.add_done_callback(self._evictions.discard)

    async def _evict(self, finding: Finding, evictor: Evictor) -> None:
        who, started = finding.participant, self._loop.time()
        try:
            outcome = await evictor.evict(finding)
        except Exception as error:  # noqa: BLE001 - one eviction's failure must not end another's
            self._notify(Troubled("evicting", error))
            outcome = Outcome.FAILED
        finally:
            self._unsent.discard(who.sid)
            self._under_way.pop(who.sid, None)
            self._together.pop(who.sid, None)
            sent_at = self._sent_at.pop(who.sid, started)
        now = self._loop.time()
        if outcome in (Outcome.REMOVED, Outcome.LEFT):
            self.tracker.apply(RemovalSent(sent_at, who.identity))
        else:
            self._evicted.pop(who.identity, None)
        match outcome:
            case Outcome.WOULD:
                self._handled.add(finding.key)
            case Outcome.FAILED | Outcome.VOID:
                self._retry_at[who.sid] = now + self._pause(who.sid)
            case Outcome.DENIED:
                self._retry_at[who.sid] = now + DENIED_PAUSE
            case Outcome.REMOVED | Outcome.GONE | Outcome.LEFT:
                self.tracker.apply(Left(now, who.sid))
                self._forget_trouble("evicting")
                if outcome is Outcome.REMOVED and who.dispatch and not who.publisher:
                    self._spent.add(who.dispatch)
        self.list_soon()
        self._notify(Evicted(finding, outcome, now - started))
        self._wake()

    def _still_due(self, finding: Finding) -> bool:
        """Whether this eviction, which is under way, would be decided on at this moment too.

        Those who are leaving by other rules have left, as in any decision. Those who are leaving by the same one have
        not, even if they are gone by now: one alone would be no chatter, and no hand-off. Unless one of them would have
        stayed, as the room is now: then what counts is who stays. The budget was set aside when it was decided.
        """
        config = self._in_force()
        if config is None or not self._evictors[config.mode].sends:
            return False
        who = finding.participant
        principal = self._evicted.get(who.on_behalf_of) if finding.follows else None
        if principal and principal.participant.sid in self._unsent:
            # As long as the removal of an avatar's principal has not gone out, it may still be called off.
            return not config.guards.exempts(who) and self._still_due(principal)
        now, guards, room = self._loop.time(), _without_budget(config.guards), self.tracker.room()
        ledger = replace(self._ledger(), leaving=frozenset(), unsent=0)
        gone = tuple(f.participant for f in self._together.get(who.sid, ()) if self._was_removed(f, finding))
        # Who has to leave by another rule too leaves in any case.
        others = [rule for rule in config.rules if rule.id != finding.rule.id]
        before = replace(room, participants=(*room.participants, *gone))
        anyway = {f.participant.sid for f in decide(before, others, guards, now, ledger).evictions}
        gone = tuple(other for other in gone if other.sid not in anyway)
        leaving = {
            sid
            for sid, other in self._under_way.items()
            if sid != who.sid and (finding.follows or other.rule.id != finding.rule.id or sid in anyway)
        }
        # What was sent can't be called off any more.
        going = self._under_way.keys() - leaving - self._unsent - {who.sid}

        def due(company: tuple[Participant, ...], leaving: set[str]) -> set[str]:
            before = replace(room, participants=(*room.participants, *company))
            decision = self._certain(before, config.rules, guards, now, replace(ledger, leaving=frozenset(leaving)))
            return {f.participant.sid for f in decision.evictions}

        together = due(gone, leaving)
        if not together >= going.union(other.sid for other in gone):
            together = due((), leaving | going)
        return who.sid in together

    def _was_removed(self, other: Finding, finding: Finding) -> bool:
        """Whether somebody who was to leave by the same rule is gone by our doing."""
        who = other.participant
        alike = other.rule.id == finding.rule.id and not finding.follows
        ours = self._evicted.get(who.identity) is other and who.sid not in self._unsent
        return alike and ours and not self.tracker.has(who.sid)

    def _leave_within(self, finding: Finding) -> float:
        """Seconds that an agent gets to leave once its dispatch is deleted; 0 where others could depend on that.

        Deleting a dispatch ends all of its jobs. So all that are here have to be leaving, and nobody may be here of
        whom it isn't known which dispatch it is of. A per-publisher dispatch also serves those who are yet to come.
        """
        who = finding.participant
        if self.config is None or not who.dispatch or who.publisher or self.tracker.unsettled:
            return 0.0
        for other in self.tracker.room().participants:
            if other.dispatch == who.dispatch and other.sid != who.sid:
                eviction = self._under_way.get(other.sid)
                if eviction is None or not self._still_due(eviction):
                    return 0.0
        return self.config.leave_within

    def _sent_one(self, finding: Finding) -> None:
        now = self._loop.time()
        self._unsent.discard(finding.participant.sid)
        if not finding.follows:
            self._sent.append(now)
        self._sent_at[finding.participant.sid] = now

    async def _absent(self, sid: str, within: float) -> bool:
        """Wait until a participant is seen gone, for so many seconds at most; whether it is."""
        woken = asyncio.Event()
        self._waiting.append(woken)
        try:
            async with asyncio.timeout(within):
                while self.tracker.has(sid):
                    await woken.wait()
                    woken.clear()
        except TimeoutError:
            return False
        finally:
            self._waiting.remove(woken)
        return True

    async def _look(self, *, urgent: bool = False) -> bool:
        """Read the server's lists into the tracker; whether they could be read, and if not, not before when again."""
        try:
            asked_at = self._loop.time()
            infos = await self._list(urgent=urgent)
            if self.tracker.unsettled:
                jobs_asked_at = self._loop.time()
                jobs = await self._api.list_jobs(urgent=urgent)
                self.tracker.apply(Dispatched(self._loop.time(), jobs_asked_at, jobs))
        except ApiError as error:
            self._look_after = self._loop.time() + self._pause("list")
            if error.trouble is not Trouble.THROTTLED:
                self._note_trouble("listing", error)
            return False
        self._failures.pop("list", None)
        self._forget_trouble("listing")
        # A list that was asked for before we were connected shows what was then.
        self._surveyed |= asked_at >= self._connected_at
        if all(self.tracker.has(info.sid) for info in infos):
            # Otherwise it may be the moment of a full reconnect at which everybody seems to have left.
            self._forget_departed()
            await self._delete_spent_dispatches()
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
        """Delete the dispatches whose agents were all evicted, so that nothing restarts them.

        One that has a healthy job here, say the one that replaced the evicted one, is let alone for good.
        """
        if not self._spent or self.tracker.unsettled:
            return
        spent, self._spent = self._spent - {p.dispatch for p in self.tracker.room().participants}, set()
        for dispatch in sorted(spent):
            try:
                await self._api.delete_dispatch(dispatch)
            except ApiError:
                self._spent.add(dispatch)

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
            try:
                if not await self._look():
                    self._list_at = self._look_after
                elif self.tracker.unsettled:
                    self.list_soon(RELIST)
            except Exception as error:  # noqa: BLE001 - whatever goes wrong, the room stays guarded
                self._notify(Troubled("listing", error))
                self._list_at = self._loop.time() + self._pause("list")

    def _pause(self, what: str) -> float:
        """Seconds to wait after another failure in a row, with jitter."""
        self._failures[what] += 1
        first, longest = BACKOFF
        return min(first * 2.0 ** min(self._failures[what] - 1, 16), longest) * (0.8 + 0.4 * self._jitter())

    def _forget_departed(self) -> None:
        """Drop what was noted of those who are gone, so that a room that lives for weeks doesn't grow."""
        room = self.tracker.room()
        here = {p.sid for p in room.participants}
        for p in room.participants:
            # Somebody who is back is no longer somebody who was evicted: what follows it is its own again.
            if (finding := self._evicted.get(p.identity)) and finding.participant.sid != p.sid:
                del self._evicted[p.identity]
        while len(self._evicted) > REMEMBERED:
            del self._evicted[next(iter(self._evicted))]
        self._handled = {key for key in self._handled if key[0] in here}
        self._told = {key for key in self._told if key[0] in here or key[0] in ("fault", "api")}
        self._noticed = {key: due for key, due in self._noticed.items() if key[0] in here}
        self._retry_at = {sid: at for sid, at in self._retry_at.items() if sid in here}
        self._failures = Counter({sid: n for sid, n in self._failures.items() if sid in here})

    def _note_trouble(self, doing: str, error: ApiError) -> None:
        """Say what is wrong with the API, once until a call of that kind works again."""
        if self._first_time("api", doing, error.trouble):
            self._notify(Troubled(doing, error))

    def _forget_trouble(self, doing: str) -> None:
        self._told = {key for key in self._told if key[:2] != ("api", doing)}

    def _first_time(self, *what: str) -> bool:
        key = (what[0], what[1], what[2])
        if key in self._told:
            return False
        self._told.add(key)
        return True

    def _notify(self, news: News) -> None:
        for observer in self._observers:
            try:
                observer.notify(news)
            except Exception as error:  # noqa: BLE001 - an observer only listens: what it raises ends nothing
                self._loop.call_exception_handler({"message": "a bouncer observer failed", "exception": error})

    def _wake(self) -> None:
        self._changed.set()
        for waiting in self._waiting:
            waiting.set()

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


def _without_budget(guards: Guards) -> Guards:
    return replace(guards, max_per_minute=sys.maxsize)
