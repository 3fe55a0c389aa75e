"""What a bouncer does next in one room: events, answers and configurations in; commands and news out. Pure.

The watch decides, and does nothing itself. Its driver (`guard/patrol.py`; for replays, any loop over recorded events)
tells it what happens, carries out its commands, feeds back the answers, and calls `step` after each of these, and when
`Step.wake_at` has come.

It is level-triggered: an event only makes the room worth a look, and a look judges the whole room again. Before an
agent is evicted the server's list is read and the decision taken once more, so that a person, a replacement or a
configuration that came in the meantime is seen.

Of several bouncers in a room the oldest acts, the next stands by, and the acting one sends further ones away. They go
by the server's list: the dispatches say who is a bouncer, and no participant can forge those.
"""

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum, auto
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

from bouncer.configuration.load import load
from bouncer.configuration.model import NO_PLUGINS, Config, ConfigError, Layer, Mode, PluginLoaders
from bouncer.decide import Decision, Finding, Ledger, Outcome, Rung
from bouncer.events import Connected, Dispatched, Event, Info, Job, Joined, Left, Listed, RemovalSent, Stalled
from bouncer.guard.history import BACKOFF, History, Topic
from bouncer.guard.recheck import Moment, Recheck, owed, remaining
from bouncer.guard.schedule import STANDBY_LIST, Jitter, Listing, Surplus
from bouncer.needed import why_needed
from bouncer.observers import (
    Configured,
    Decided,
    Evicted,
    Failing,
    Faulted,
    Guarding,
    HeldBack,
    News,
    Noticed,
    Refused,
    Reported,
    Stands,
    Unguarded,
)
from bouncer.people import named_by
from bouncer.policy import Policy
from bouncer.ports import ApiError, Doing, Says, Trouble
from bouncer.room import Instant, Participant, Room
from bouncer.tracker import Tracker

T = TypeVar("T")


class Standing(StrEnum):
    """What a bouncer is in its room at this moment. The first that applies is the one."""

    CLOSED = "closed"
    """Our part is over."""
    BLIND = "blind"
    """The connection is not made yet, or is being restored: what we know may be old."""
    UNCONFIGURED = "unconfigured"
    """There has been no valid configuration yet."""
    OFF = "off"
    """The configuration says to do nothing."""
    UNSURVEYED = "unsurveyed"
    """No list since we connected: only a list shows hidden participants, and so the other bouncers."""
    STANDING_BY = "standing_by"
    """An older bouncer guards the room."""
    ACTING = "acting"
    """We guard the room."""


class May(Enum):
    """What a standing allows."""

    CALL = auto()
    """Read the server's lists."""
    DECIDE = auto()
    """Judge the room, and evict."""


ALLOWED: Mapping[Standing, frozenset[May]] = {
    Standing.CLOSED: frozenset(),
    Standing.BLIND: frozenset(),
    Standing.UNCONFIGURED: frozenset(),
    Standing.OFF: frozenset(),
    Standing.UNSURVEYED: frozenset({May.CALL}),
    Standing.STANDING_BY: frozenset({May.CALL}),
    Standing.ACTING: frozenset({May.CALL, May.DECIDE}),
}

_SURVEYED = frozenset({Standing.STANDING_BY, Standing.ACTING})
_EVER = frozenset({Standing.CLOSED, Standing.BLIND})
_AT_REST = frozenset({Standing.OFF, Standing.UNSURVEYED})

TRANSITIONS: Mapping[Standing, frozenset[Standing]] = {
    Standing.CLOSED: frozenset(),
    Standing.BLIND: _EVER | _AT_REST | {Standing.UNCONFIGURED},
    Standing.UNCONFIGURED: _EVER | _AT_REST,
    Standing.OFF: _EVER | _AT_REST | _SURVEYED,
    Standing.UNSURVEYED: _EVER | _AT_REST | _SURVEYED,
    Standing.STANDING_BY: _EVER | _AT_REST | _SURVEYED,
    Standing.ACTING: _EVER | _AT_REST | _SURVEYED,
}
"""Which standing may follow which. A configuration never goes away, and every connection needs a list of its own."""

SETTLE = 0.01
"""Seconds after a judgement in which events are gathered: a burst of them is one more evaluation. What is due then is
not delayed."""
FRESH = 0.5
"""Seconds for which a list serves evictions: from when it was asked for until they are carried out."""
STALL = 2.0
"""Seconds by which a timer may be late before we conclude that the process was frozen, or the machine asleep."""
PACE = 4.0
"""How many times as long as judging the room took, it isn't judged again: one room takes a fifth of a core at most."""
SLOW = 0.25
"""Seconds that judging a room may take before we say that it is judged less often."""
PULSE = 0.5
"""Seconds between two looks at the clock: a freeze of STALL + PULSE is noticed even while nothing else is due."""
RELIST = 1.0
"""Seconds between lists while an agent's dispatch is not listed yet, or the last list lacked a participant."""
CLAIM_WITHIN = 10.0
"""Seconds after joining in which a bouncer that is going to claim the room does so: connecting and one list."""
STANDBYS = 1
"""Bouncers that stand by; the acting one sends further ones away."""


@dataclass(frozen=True, slots=True, eq=False)
class ListParticipants:
    """Read who is in the room; the answer is a tuple of Info. Only an urgent list may exceed the worker's budget."""

    urgent: bool


@dataclass(frozen=True, slots=True, eq=False)
class ListJobs:
    """Read the jobs of all dispatches; the answer is a tuple of Job."""

    urgent: bool


@dataclass(frozen=True, slots=True, eq=False)
class DeleteDispatch:
    """End a dispatch; the answer is True if there was one."""

    dispatch: str


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """Say in the room what we are."""

    says: Says


@dataclass(frozen=True, slots=True, eq=False)
class Evict:
    """Make one attempt at an eviction, as the mode does it; the answer is an Ending."""

    finding: Finding
    mode: Mode
    began_at: Instant
    room: Room
    """The room that was judged."""


@dataclass(frozen=True, slots=True, eq=False)
class Leave:
    """End our own dispatch and leave; the answer doesn't matter."""


Command = ListParticipants | ListJobs | DeleteDispatch | Claim | Evict | Leave

Process = Generator[Command, Any, T]
"""A procedure that yields a command, waits for its answer, and returns a T. A failed call raises ApiError in it."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt at an eviction ended, and why where that isn't plain."""

    outcome: Outcome
    why: str = ""
    rungs: tuple[Rung, ...] = ()
    """The steps that were taken."""


@dataclass(frozen=True, slots=True)
class Step:
    """What to do now, what to say, and when to step again if nothing happens first."""

    commands: tuple[Command, ...]
    news: tuple[News, ...]
    wake_at: Instant


class SlowError(Exception):
    """Judging a room takes so long that it is judged less often."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"it took {seconds:.2g} s, so the room is judged at most every {(1 + PACE) * seconds:.2g} s")


@dataclass(slots=True)
class Watch:
    """Decides everything about one guarded room. Instants must never go back from one call to the next."""

    tracker: Tracker
    registry: Sequence[type[Policy]]
    jitter: Jitter
    began_at: Instant
    plugins: PluginLoaders = field(default_factory=lambda: NO_PLUGINS)
    """Policies that are loaded when a configuration names them."""
    layers: tuple[Layer, ...] = ()
    """The layers beneath the room's metadata, lowest first."""
    config: Config | None = None
    """The last good configuration."""
    metadata: str = field(init=False, default="")
    """The room metadata that it was made from."""
    refused: ConfigError | None = field(init=False, default=None)
    """Why the configuration given since then was refused; None if none was."""
    history: History = field(init=False)
    listing: Listing = field(init=False)
    surplus: Surplus = field(init=False, default_factory=Surplus)
    rank: int = field(init=False, default=0)
    """The number of older bouncers that guarded the room when it was last judged."""
    closed: bool = field(init=False, default=False)
    """True if our part is over, for good."""
    _guarding_since: Instant | None = field(init=False, default=None)
    _stood: tuple[Standing, int] = field(init=False, default=(Standing.BLIND, 0))
    """What was last told of our standing: it, and the number of older bouncers."""
    _surveyed: bool = field(init=False, default=False)
    _connected_at: Instant = field(init=False, default=0.0)
    _said: Says | None = field(init=False, default=Says.NOTHING)
    """What we last said of ourselves; None if we can't know, after a full reconnect or when no answer came."""
    _claiming: Process[None] | None = field(init=False, default=None)
    _hands_over: bool = field(init=False, default=False)
    _now: Instant = field(init=False)
    _room: Room | None = field(init=False, default=None)
    _seniors: tuple[Room | None, tuple[Participant, ...]] = field(init=False, default=(None, ()))
    """A room, and the older bouncers in it."""
    _unneeded_since: Instant | None = field(init=False, default=None)
    """Since when we have not been needed here; None while we are, or can't tell."""
    _leaves: bool = field(init=False, default=False)
    last_list: Listed = field(init=False, default=Listed(-math.inf, -math.inf, ()))
    """The last list of the participants that was answered."""
    _changed: bool = field(init=False, default=False)
    """True if anything happened since the room was last judged."""
    _rests_until: Instant = field(init=False, default=-math.inf)
    """Until when the room isn't judged, because judging it takes long."""
    _decided: bool = field(init=False, default=False)
    """True if the room was judged in the last step or answer."""
    _busy: float = field(init=False, default=0.0)
    """The seconds for which our thread has computed since the last step, for this room or for others."""
    _judged_at: Instant = field(init=False, default=-math.inf)
    """When it was last judged."""
    _judge_at: Instant = field(init=False, default=-math.inf)
    """Until when the last decision holds by itself."""
    _pulse_at: Instant = field(init=False)
    _recheck: Recheck | None = field(init=False, default=None)
    """What the evictions under way are decided again with; None if anything but our own removals has changed since."""
    _round: Process[Instant | None] | None = field(init=False, default=None)
    _regular: Process[bool] | None = field(init=False, default=None)
    _waiting: dict[Command, Process[Any]] = field(init=False, default_factory=dict)
    """Which procedure waits for the answer to which command."""
    _commands: list[Command] = field(init=False, default_factory=list)
    _news: list[News] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.history = History(self.jitter)
        self.listing = Listing(answered_at=self.began_at)
        self._now = self.began_at
        self._pulse_at = self.began_at + PULSE

    @property
    def standing(self) -> Standing:
        """What we are in this room at this moment."""
        if self.closed:
            return Standing.CLOSED
        if self.tracker.blind:
            return Standing.BLIND
        if self.config is None:
            return Standing.UNCONFIGURED
        if self.config.mode == "off":
            return Standing.OFF
        if not self._surveyed:
            return Standing.UNSURVEYED
        return Standing.STANDING_BY if self._older(self.room) else Standing.ACTING

    @property
    def room(self) -> Room:
        """The room as it is known now; built once per change."""
        if self._room is None:
            self._room = self.tracker.room()
        return self._room

    def _older(self, room: Room) -> tuple[Participant, ...]:
        """Return the older bouncers in a room; worked out once, because the standing is asked for again and again."""
        if self._seniors[0] is not room:
            self._seniors = room, room.seniors
        return self._seniors[1]

    def may(self, what: May) -> Config | None:
        """Return the configuration under which we may do this now; None if we may not."""
        return self.config if what in ALLOWED[self.standing] else None

    def ledger(self, config: Config, now: Instant) -> Ledger:
        """Return what has been done, and what is owed because of it, as a decision needs it."""
        debts = self.history.debts.values()
        return replace(self.history.ledger(now), owed=owed(debts, self.room, config.rules))

    # What the driver tells

    def tell(self, event: Event) -> None:
        """Take in what happened. Never raises."""
        self._learn(event)
        if isinstance(event, Connected):
            self._surveyed, self._connected_at = False, event.at
            self._said = self._said and None
            self.listing.soon(event.at)
        elif isinstance(event, Joined) and not self.rank:
            self.listing.soon(event.at)
        self._changed = True

    def configure(self, metadata: str, now: Instant) -> None:
        """Take in the room's metadata. Refused metadata changes nothing, and is reported."""
        self._now = now
        try:
            config = self._load(metadata)
        except ConfigError as error:
            self.refused = error
            self._news.append(Refused(error, self.config))
            return
        self.refused = None
        self.metadata = metadata
        if config != self.config:
            self.config, self._recheck = config, None
            self.tracker.configure(
                now,
                named=named_by(config.people_also, config.people_except, config.avatars),
                hears=config.hearing != "off" and config.mode != "off",
                ignored=config.ignore_tracks,
            )
            self.history.reconfigure()
        self._news.append(Configured(config))
        self.listing.soon(now)
        self._changed = True

    def _load(self, metadata: str) -> Config:
        return load((*self.layers, Layer("room metadata", metadata, shared=True)), self.registry, self.plugins)

    def hand_over(self) -> None:
        """From now on the driver says whether we guard the room: a successor is being found."""
        self._hands_over = True

    def close(self) -> None:
        """Decide nothing from now on."""
        self.closed = True

    def answered(self, command: Command, answer: Any, now: Instant) -> None:
        """Take in the answer to a command: what its call gave, or the exception that it raised."""
        self._now = now
        if isinstance(command, Evict):
            self._evicted(command, answer)
            return
        if isinstance(command, Leave):
            self._leaves = False
            return
        process = self._waiting.pop(command)
        resume = process.throw if isinstance(answer, Exception) else process.send
        self._advance(process, partial(resume, answer))

    def step(self, now: Instant, busy: float = 0.0) -> Step:
        """Return what to do now. `busy` is the seconds that our thread has computed since the last step."""
        self._now, self._busy = now, busy
        if self._guarding_since is None:
            self._guarding_since = now
            self._news.insert(0, Guarding())
        try:
            wake_at = self._proceed()
        except Exception as error:  # noqa: BLE001 - whatever goes wrong, the room stays guarded
            self._say_broken(error)
            wake_at = now + BACKOFF.first
        commands, self._commands = tuple(self._commands), []
        news, self._news = tuple(self._news), []
        return Step(commands, news, wake_at)

    def took(self, seconds: float) -> None:
        """Take in how many seconds the last step took, or the last answer.

        If the room was judged, it rests in proportion, and events are gathered meanwhile. So neither a crowd nor
        a large configuration slows other rooms.
        """
        if not self._decided:
            return
        self._decided = False
        self._rests_until = max(self._rests_until, self._now + (1 + PACE) * seconds)
        if seconds > SLOW and self.history.told.first(Topic.SLOWNESS):
            self._news.append(Failing(Doing.JUDGING, SlowError(seconds)))

    def end(self, now: Instant) -> tuple[News, ...]:
        """Close for good. Return the last news: what is still untold, and the totals."""
        self.close()
        news = self.step(now).news
        seconds = now - (now if self._guarding_since is None else self._guarding_since)
        return (*news, Unguarded(seconds, self.history.evictions, self.history.ended_early(now)))

    # What the evictor asks and tells

    def listed(self, infos: Sequence[Info], asked_at: Instant, now: Instant) -> None:
        """Take in a list of the participants that was asked for at `asked_at`."""
        self._now = now
        self.last_list = Listed(now, asked_at, tuple(infos))
        self._learn(self.last_list)
        if self.tracker.unsure:
            self.listing.soon(now, RELIST)

    def list_since(self, finding: Finding, now: Instant) -> Instant:
        """Return since when a list must have been asked for that an eviction under way may rest on.

        It must show the room after the decision, or after the end of its dispatch was sent, and must not be old.
        """
        return max(self.history.under_way[finding.participant.sid].at, now - FRESH)

    def still_due(self, finding: Finding, now: Instant) -> bool:
        """Return True if an eviction that is under way would be decided on now too, in the mode it began in."""
        self._now = now
        config = self.may(May.DECIDE)
        if config is None or config.mode != self.history.under_way[finding.participant.sid].mode:
            return False
        return self._rechecked(config).still_due(finding)

    def leave_within(self, finding: Finding, now: Instant) -> float:
        """Return the seconds an agent gets to leave once its dispatch is deleted; 0 where others may depend on that.

        While it is unknown which dispatch any participant is of, others may.
        """
        self._now = now
        config = self.may(May.DECIDE)
        if config is None or self.tracker.unsettled or not self._rechecked(config).may_end_dispatch(finding):
            return 0.0
        return config.leave_within

    def _rechecked(self, config: Config) -> Recheck:
        """Return what the evictions under way are decided again with.

        Our own removals don't change it, so that many evictions that came due at once are decided once more together.
        """
        if self._recheck is None:
            self._recheck = Recheck(self._moment(config))
        return self._recheck

    def sent(self, finding: Finding, now: Instant) -> None:
        """The end of its dispatch, or its removal, goes out."""
        debts = self.history.debts
        self.history.send(finding, now)
        if self.history.debts.keys() - debts.keys():
            # What is owed from now on is due, whoever else leaves.
            self._recheck = None

    def failing(self, doing: Doing, error: ApiError) -> None:
        """Report what is wrong with the API, once until a call for that purpose works again."""
        if error.trouble is Trouble.DENIED:
            self.history.denied.add(doing)
        if self.history.told.first(Topic.TROUBLE, doing, error.trouble):
            self._news.append(Failing(doing, error))

    def cut_off(self, command: Evict, now: Instant) -> None:
        """The driver ends while an eviction is under way."""
        sent = not self.history.under_way[command.finding.participant.sid].unsent
        why = "shutting down; removal unconfirmed" if sent else "shutting down"
        outcome = Outcome.FAILED if sent else Outcome.VOID
        self._news.append(
            Evicted(command.finding, outcome, now - command.began_at, why, (), command.room, command.mode)
        )

    def _proceed(self) -> Instant:
        """Do what is due. Return when to continue if nothing happens first."""
        if self.closed:
            return math.inf
        if self._now >= self._pulse_at:
            self._notice_stall(self._pulse_at)
            self._pulse_at = self._now + PULSE
            self._claim()
        if self._round is None and self._now >= self._judge_next_at:
            self._notice_stall(self._judge_at)
            self._changed = False
            self._round = self._judge()
            self._start(self._round)
        # After judging, since a list that an eviction needs is also the next regular one.
        self._list_if_due()
        ahead = [self._pulse_at]
        if self._round is None:
            ahead.append(self._judge_next_at)
        if self._regular is None and self.may(May.CALL):
            ahead.append(self.listing.next_at)
        return min(ahead)

    # Judging the room

    @property
    def _judge_next_at(self) -> Instant:
        """When the room is to be judged: once the last decision holds no longer, or soon after something happened.

        If judging takes long, not before it has rested.
        """
        at = min(self._judge_at, self._judged_at + SETTLE) if self._changed else self._judge_at
        return max(at, self._rests_until)

    def _judge(self) -> Process[Instant | None]:
        """Judge the room once, and act on it. Return the instant until which nothing changes by itself."""
        if self._surveyed and self.may(May.CALL):
            self._note_rank()
        self._tell_standing()
        config = self.may(May.DECIDE)
        if config is None:
            return self._leave_if_unneeded(needed=self.standing is not Standing.OFF)
        decision, confirmed = self._decide(config), dict[tuple[str, str], Instant]()
        if decision.evictions:
            confirmed = {finding.key: self._now for finding in decision.evictions}
            if self._now < self.listing.not_before or not (yield from self._look(config, urgent=True)):
                self._act(replace(decision, evictions=()), config)
                return self.listing.not_before
            if (config := self.may(May.DECIDE)) is None:
                return None
            decision = self._decide(config)
            self.listing.led_to(self._now, self.jitter("a look in vain"), something=bool(decision.evictions))
        self._act(decision, config, confirmed)
        leaves_at = self._leave_if_unneeded(needed=config.leave_after is None or self._needed(decision, config))
        return min((at for at in (decision.wake_at, leaves_at) if at is not None), default=None)

    def _needed(self, decision: Decision, config: Config) -> bool:
        ledger = self._moment(config).ledger
        return why_needed(self.room, config.rules, config.guards, decision, self._now, ledger) != ""

    def _leave_if_unneeded(self, *, needed: bool) -> Instant | None:
        """Leave once we haven't been needed for `leave_after`. Return when that will be; None if unknown."""
        after = self.config.leave_after if self.config else None
        if needed or after is None or self._hands_over:
            self._unneeded_since = None
            return None
        if self._unneeded_since is None:
            self._unneeded_since = self._now
        if self._now < self._unneeded_since + after:
            return self._unneeded_since + after
        if not self._leaves:
            self._leaves = True
            self._commands.append(Leave())
        return None

    def _decide(self, config: Config) -> Decision:
        moment, self._decided = self._moment(config), True
        decision = moment.decision()
        self.history.forgive_all_but(remaining(moment.ledger.owed, decision, moment.now))
        self._news.append(Decided(moment.now, moment.room, decision, moment.ledger))
        return decision

    def _moment(self, config: Config) -> Moment:
        """Return all that a decision rests on right now."""
        return Moment(
            room=self.room,
            rules=config.rules,
            guards=config.guards,
            now=self._now,
            ledger=self.ledger(config, self._now),
            under_way=dict(self.history.under_way),
            unsure=self.tracker.unsure | self.tracker.fallback_avatars,
        )

    def _act(
        self, decision: Decision, config: Config, confirmed: Mapping[tuple[str, str], Instant] = MappingProxyType({})
    ) -> None:
        """Do and tell what was decided. `confirmed` says when a list was asked for that confirmed an eviction."""
        told, history = self.history.told, self.history
        for fault in decision.faults:
            # By kind: the text may differ each time.
            if told.first(Topic.FAULT, fault.rule.id, fault.error.partition(":")[0]):
                self._news.append(Faulted(fault))
        for hold in decision.held:
            if told.first(Topic.HOLD, hold.finding.participant.identity, hold.finding.rule.id, hold.by):
                self._news.append(HeldBack(hold, self.room))
        for finding in decision.notices:
            history.notice(finding)
            self._news.append(Noticed(finding, finding.verdict.due - self._now, self.room))
        for finding in decision.reports:
            history.report(finding)
            self._news.append(Reported(finding, self.room))
        room = self.room.without(frozenset(history.under_way))
        for finding in decision.evictions:
            self._recheck = None
            as_of = confirmed.get(finding.key, self._now)
            history.begin(finding, decision.group(finding), room, as_of, config.mode)
            self._commands.append(Evict(finding, config.mode, self._now, self.room))

    def _evicted(self, command: Evict, answer: "Ending | Exception") -> None:
        """An attempt at an eviction has ended."""
        finding, now = command.finding, self._now
        if isinstance(answer, Exception):
            self._news.append(Failing(Doing.EVICTING, answer))
            answer = Ending(Outcome.FAILED, f"{type(answer).__name__}: {answer}")
        who, outcome = finding.participant, answer.outcome
        eviction, recheck = self.history.end(finding, outcome, now), None
        if outcome in (Outcome.REMOVED, Outcome.LEFT):
            recheck = self._recheck
            self._learn(RemovalSent(eviction.at, who.identity))
        if outcome in (Outcome.REMOVED, Outcome.LEFT, Outcome.GONE):
            self._learn(Left(now, who.sid))
            self.history.succeed(Doing.EVICTING)
        self._recheck = recheck
        if outcome not in (Outcome.REMOVED, Outcome.LEFT) or self.history.spent:
            self.listing.soon(now)
        if outcome is not Outcome.DENIED or self.history.told.first(Topic.DENIAL, who.identity, finding.rule.id):
            took = now - command.began_at
            told = Evicted(finding, outcome, took, answer.why, answer.rungs, command.room, command.mode)
            self._news.append(told)
        self._changed = True
        self._claim()

    # Reading the server's lists

    def _list_if_due(self) -> None:
        config = self.may(May.CALL)
        if self._regular is not None or config is None or self._now < self.listing.next_at:
            return
        # The first one always goes: before it the room isn't guarded.
        urgent = self.listing.overdue(self._now) or not self._surveyed
        self._regular = self._look(config, urgent=urgent)
        self._start(self._regular)

    def _look(self, config: Config, *, urgent: bool) -> Process[bool]:
        """Refresh the tracker from the server, and tidy up. Return False on failure, with the retry scheduled."""
        asked_at = self._now
        every = min(config.reconcile, STANDBY_LIST) if self.rank else config.reconcile
        self.listing.begin(asked_at, every, self.jitter("the next list"))
        try:
            infos: tuple[Info, ...] = yield ListParticipants(urgent)
            self.listed(infos, asked_at, self._now)
            if self.tracker.unsettled:
                jobs_asked_at = self._now
                jobs: tuple[Job, ...] = yield ListJobs(urgent)
                self._learn(Dispatched(self._now, jobs_asked_at, jobs))
        except ApiError as error:
            self._note_failed_look(error, asked_at, urgent=urgent)
            self._claim()
            return False
        self.listing.succeed(self._now)
        self.history.succeed(Doing.LISTING)
        # A list that was asked for before we were connected shows the room as it was then.
        self._surveyed |= asked_at >= self._connected_at
        self._claim()
        if self.may(May.CALL):
            # During a full reconnect everyone seems to have left, though the list shows them.
            gone = self.tracker.left_since(infos)
            there = replace(self.room, participants=(*self.room.participants, *gone)) if gone else self.room
            self.history.forget_departed(there)
            yield from self._delete_spent_dispatches(there, self.tracker.unsure | {who.sid for who in gone})
            yield from self._send_surplus_away()
            if self.tracker.unsettled or self._bouncers_begin():
                self.listing.soon(self._now, RELIST)
        self._changed = True
        return True

    def _note_failed_look(self, error: ApiError, asked_at: Instant, *, urgent: bool) -> None:
        pause, throttled = self.history.pause(Doing.LISTING), error.trouble is Trouble.THROTTLED
        if throttled:
            self.listing.postpone(self._now, pause, asked_at)
        if urgent or not throttled:
            self.listing.retry(self._now, pause)
        # While a crowd joins, it is normal to be out of calls for a moment.
        if not throttled or self.listing.silent(self._now):
            self.failing(Doing.LISTING, error)

    def _delete_spent_dispatches(self, room: Room, unsure: AbstractSet[str]) -> Process[None]:
        """Delete the dispatches whose agents were all evicted, so that nothing restarts them."""
        if self.tracker.unsettled:
            return
        for dispatch in self.history.take_spent(room, unsure):
            try:
                yield DeleteDispatch(dispatch)
            except ApiError:
                self.history.spent.add(dispatch)

    # Among bouncers

    def _bouncers_begin(self) -> bool:
        """Return True if a bouncer has just joined and not claimed the room yet: only a list shows when it does."""
        others = (p for p in self.room.bouncers if p.identity != self.room.me)
        return any(not (p.foreign or p.arrived) and self._now < p.joined_at + CLAIM_WITHIN for p in others)

    def _tell_standing(self) -> None:
        """Tell what we are in the room, if that has changed."""
        standing = self.standing
        seniors = self.room.seniors if standing in _SURVEYED else ()
        if (standing, len(seniors)) != self._stood:
            self._news.append(Stands(standing, self._stood[0], seniors))
            self._stood = standing, len(seniors)

    def _note_rank(self) -> None:
        """Take note of how many older bouncers guard the room, if that has changed."""
        seniors = self.room.seniors
        if len(seniors) == self.rank:
            return
        self.rank = len(seniors)
        # A standby never removes anyone, so it would never discover that its permission is back.
        self.history.denied.discard(Doing.EVICTING)
        self.listing.soon(self._now)

    @property
    def says(self) -> Says:
        """What we are to say of ourselves.

        A bouncer whose key is refused, or whose lists aren't answered, gives up its claim, so that the next one acts.
        It keeps trying, no more often than before, and claims the room again once that works.
        """
        if self.config is None:
            return Says.UNCONFIGURED
        if self.config.mode == "off":
            return Says.GUARDING
        if self.history.denied or not self.listing.answered or self.listing.stale(self._now, self.config.reconcile):
            return Says.NOTHING
        return Says.GUARDING

    def _claim(self) -> None:
        """Say in the room what we are, if that has changed."""
        mute = self._hands_over or self.standing in (Standing.CLOSED, Standing.BLIND)
        if self.says != self._said and not mute and self._claiming is None:
            self._claiming = self._say(self.says)
            self._start(self._claiming)

    def _say(self, says: Says) -> Process[None]:
        self._said = says
        try:
            yield Claim(says)
        except ApiError:
            # It may have been heard all the same.
            self._said = None

    def _send_surplus_away(self) -> Process[None]:
        """End the jobs of surplus bouncers, once they have been too many for long enough.

        They don't leave by themselves: the two before them may have been killed and still be listed. A bouncer that
        sends others away is alive.
        """
        room = self.room
        surplus: tuple[Participant, ...] = room.juniors[STANDBYS:] if self.may(May.DECIDE) else ()
        if not surplus:
            self.surplus.clear()
            return
        if (wait := self.surplus.wait(self._now)) > 0:
            self.listing.soon(self._now, wait)
            return
        self.surplus.clear()
        needed = {p.dispatch for p in room.participants if p not in surplus}
        for dispatch in sorted({p.dispatch for p in surplus} - needed):
            try:
                yield DeleteDispatch(dispatch)
            except ApiError:
                continue

    def _learn(self, event: Event) -> None:
        eviction = self.history.under_way.get(event.sid) if isinstance(event, Left) else None
        if eviction is None or eviction.unsent:
            self._recheck = None
        self.tracker.apply(event)
        self._room = None

    # Running the procedures

    def _start(self, process: Process[Any]) -> None:
        self._advance(process, partial(next, process))

    def _advance(self, process: Process[Any], resume: Callable[[], Command]) -> None:
        """Let a procedure go on to its next command, or to its end."""
        try:
            command = resume()
        except StopIteration as end:
            self._ended(process, end.value)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong, the room stays guarded
            self._failed(process, error)
        else:
            self._waiting[command] = process
            self._commands.append(command)

    def _ended(self, process: Process[Any], value: Any) -> None:
        if process is self._round:
            self._round, self._judged_at = None, self._now
            self._judge_at = math.inf if value is None else value
            self.history.succeed(Doing.JUDGING)
        elif process is self._regular:
            self._regular = None
        else:
            self._claiming = None

    def _failed(self, process: Process[Any], error: Exception) -> None:
        """A procedure broke down: it is reported once, and tried again after a pause."""
        if process is self._round:
            self._round, self._judged_at, self._judge_at = None, self._now, self._now + BACKOFF.first
            self._say_broken(error)
        elif process is self._regular:
            self._regular = None
            self._news.append(Failing(Doing.LISTING, error))
            self.listing.next_at = self._now + self.history.pause(Doing.LISTING)
        else:
            self._claiming = self._said = None
            self._say_broken(error)

    def _say_broken(self, error: Exception) -> None:
        if self.history.told.first(Topic.TROUBLE, Doing.JUDGING, type(error).__name__):
            self._news.append(Failing(Doing.JUDGING, error))

    def _notice_stall(self, timer: Instant) -> None:
        """Conclude from a late timer that we were frozen."""
        if self._overslept(timer):
            self.tell(Stalled(self._now))

    def _overslept(self, timer: Instant) -> bool:
        """Return True if a timer rings too late for what our thread computed meanwhile."""
        return -math.inf < timer and self._now > timer + STALL + self._busy
