"""What we are doing and have done to one room: decisions and outcomes in, the next decision's `Ledger` out. Pure.

The tracker remembers what others do; this remembers what we do. So nothing is done twice, what failed is tried again
after a pause, and participants that are gone are forgotten.
"""

from collections import Counter, deque
from collections.abc import Collection
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from bouncer.configuration.model import Mode
from bouncer.decide import BUDGET_WINDOW, Finding, Ledger, Outcome, Removal
from bouncer.guard.schedule import Backoff, Jitter, spread
from bouncer.ports import Doing
from bouncer.room import Instant, Room

BACKOFF = Backoff(0.5, 30.0)
"""Pauses before something that failed is tried again."""
DENIED_PAUSE = 30.0
"""Seconds, give or take a fifth, before a removal that our credentials did not allow is tried again."""
REMEMBERED = 256
"""How many evicted identities are remembered, to remove what they leave behind."""


class Topic(Enum):
    """What something that is said once is about; the rest of its key says which."""

    TROUBLE = auto()
    """What we were doing, and what went wrong."""
    FAULT = auto()
    """A rule, and how its policy broke its contract."""
    HOLD = auto()
    """An identity, a rule, and what holds the eviction back."""
    SLOWNESS = auto()
    """That judging the room takes long."""
    DENIAL = auto()
    """An identity and a rule whose eviction our credentials don't allow."""


_OF_ONE = frozenset({Topic.HOLD, Topic.DENIAL})
MAX_SAID = 1024
"""How many of the things said about single participants are remembered; the latest are kept."""


@dataclass(slots=True)
class Once:
    """Remembers what has been said, so that it is said once."""

    _said: dict[tuple[Topic, tuple[str, ...]], None] = field(default_factory=dict)
    """In the order in which it was said."""

    def first(self, topic: Topic, *what: str) -> bool:
        """Return True the first time it is called with these arguments."""
        new = (topic, what) not in self._said
        self._said[topic, what] = None
        return new

    def recovered(self, doing: Doing) -> None:
        """Note that it works again, so its next failure is told."""
        gone = [key for key in self._said if (key[0], key[1][:1]) == (Topic.TROUBLE, (doing,))]
        for key in gone:
            del self._said[key]

    def keep(self, identities: AbstractSet[str]) -> None:
        """Forget the oldest of what was said about others than these; one that comes and goes is still told of once."""
        others = [key for key in self._said if key[0] in _OF_ONE and key[1][0] not in identities]
        for key in others[: max(0, len(others) - MAX_SAID)]:
            del self._said[key]

    def clear(self) -> None:
        """Forget everything."""
        self._said.clear()


@dataclass(frozen=True, slots=True)
class Debt:
    """A verdict that is owed, because the removal of an agent that it rested on has been sent."""

    finding: Finding
    room: Room
    """The room in which it was decided."""


@dataclass(frozen=True, slots=True)
class Eviction:
    """An eviction that is under way."""

    finding: Finding
    group: tuple[Finding, ...]
    """What is owed once its removal is sent: what was decided on it, and on others because of it."""
    room: Room
    """The room in which that was decided."""
    mode: Mode
    """The mode that it was decided in."""
    as_of: Instant
    """As of when it was decided: a list that it rests on is no older."""
    removal: Removal | None = None
    """Its removal, once it has gone out; the last one, if it went out again."""

    @property
    def unsent(self) -> bool:
        """True if a removal that costs some of the budget has yet to go out: until then it may still be called off."""
        return self.removal is None and not self.finding.free

    @property
    def at(self) -> Instant:
        """When its removal went out; before that, as of when it was decided."""
        return self.removal.at if self.removal else self.as_of


@dataclass(slots=True)
class History:
    """Keeps the record of what we do in one room. Tell it with its verbs, read it with `ledger`."""

    jitter: Jitter
    under_way: dict[str, Eviction] = field(default_factory=dict)
    """The evictions that are under way, by sid."""
    spent: set[str] = field(default_factory=set)
    """Dispatches whose agents were removed: to be deleted, so that nothing restarts them."""
    denied: set[Doing] = field(default_factory=set)
    """What our credentials don't allow, until it works."""
    told: Once = field(default_factory=Once)
    debts: dict[tuple[str, str], Debt] = field(default_factory=dict)
    """Debts, by the keys of their findings."""
    evictions: int = 0
    """How many participants were evicted, and seen gone."""
    _agents_gone: int = 0
    _gone_at: float = 0.0
    """The sum of the instants at which those agents were seen gone."""
    _evicted: dict[str, Finding] = field(default_factory=dict)
    """By identity, why it was evicted. When that was is a fact about the room, and stands there."""
    _sent: deque[Removal] = field(default_factory=deque)
    """The removals that still count against the budget."""
    _handled: set[tuple[str, str]] = field(default_factory=set)
    _noticed: dict[tuple[str, str], Instant] = field(default_factory=dict)
    _retry_at: dict[str, Instant] = field(default_factory=dict)
    _failures: Counter[str] = field(default_factory=Counter)
    """Failures in a row: of what we do, and by sid of evictions."""

    def ledger(self, now: Instant) -> Ledger:
        """Return what a decision must know of it."""
        while self._sent and self._sent[0].at + BUDGET_WINDOW <= now:
            self._sent.popleft()
        return Ledger(
            sent=tuple(self._sent),
            leaving=frozenset(self.under_way),
            unsent=sum(eviction.unsent for eviction in self.under_way.values()),
            handled=frozenset(self._handled),
            noticed=dict(self._noticed),
            retry_at=dict(self._retry_at),
            evicted=self._evicted | {e.finding.participant.identity: e.finding for e in self.under_way.values()},
        )

    def begin(self, finding: Finding, group: tuple[Finding, ...], room: Room, as_of: Instant, mode: Mode) -> None:
        """Note that an eviction begins, decided as of that instant."""
        self.under_way[finding.participant.sid] = Eviction(finding, group, room, mode, as_of)

    def send(self, finding: Finding, now: Instant) -> None:
        """Note that a removal goes out, or the end of its dispatch and then the removal: that counts once."""
        who = finding.participant
        eviction, removal = self.under_way[who.sid], Removal(now, who.sid, who.identity)
        if eviction.unsent:
            self._sent.append(removal)
            # What is owed already stays as it was decided first.
            self.debts = {f.key: Debt(f, eviction.room) for f in eviction.group} | self.debts
        self.under_way[who.sid] = replace(eviction, removal=removal)

    def end(self, finding: Finding, outcome: Outcome, now: Instant) -> Eviction:
        """Note how an eviction ended. Return its record."""
        who = finding.participant
        match outcome:
            case Outcome.REMOVED | Outcome.LEFT:
                self._evicted[who.identity] = finding
                self.evictions += 1
                self._agents_gone += not finding.follows
                self._gone_at += 0.0 if finding.follows else now
            case Outcome.WOULD:
                self._handled.add(finding.key)
            case Outcome.FAILED | Outcome.VOID:
                self._retry_at[who.sid] = now + self.pause(who.sid)
            case Outcome.DENIED:
                self._retry_at[who.sid] = now + DENIED_PAUSE * spread(self.jitter(who.sid))
            case _:
                pass
        eviction = self.under_way.pop(who.sid)
        # One that failed may have removed it all the same: the answer can be lost, or the proof.
        removed = outcome is Outcome.REMOVED or (outcome is Outcome.FAILED and not eviction.unsent)
        if removed and who.dispatch and not who.serves:
            self.spent.add(who.dispatch)
        return eviction

    def ended_early(self, now: Instant) -> float:
        """Return the seconds since their end, of all evicted agents together."""
        return self._agents_gone * now - self._gone_at

    def report(self, finding: Finding) -> None:
        """Note that it has been reported; that happens once under each configuration."""
        self._handled.add(finding.key)

    def notice(self, finding: Finding) -> None:
        """Note that the room is told when it comes due."""
        self._noticed[finding.key] = finding.verdict.due

    def pause(self, what: str) -> float:
        """Note that something failed, once more in a row. Return the seconds to wait before it is tried again."""
        self._failures[what] += 1
        return BACKOFF.pause(self._failures[what], self.jitter(what))

    def succeed(self, doing: Doing) -> None:
        """Note that it worked: its next failure is the first again, and is told."""
        self._failures.pop(doing, None)
        self.denied.discard(doing)
        self.told.recovered(doing)

    def reconfigure(self) -> None:
        """Start over under another configuration: report, tell and notice everything again."""
        self._handled.clear()
        self.told.clear()
        self._noticed.clear()

    def forgive_all_but(self, remaining: Collection[tuple[str, str]]) -> None:
        """Keep only these debts, by the keys of their findings."""
        self.debts = {key: debt for key, debt in self.debts.items() if key in remaining}

    def take_spent(self, room: Room, unsure: AbstractSet[str]) -> list[str]:
        """Return the dispatches that may be deleted now, and take them off the list.

        A dispatch that has a job here, for example a replacement, is left alone for good. If that job is `unsure`, it
        may be gone: we wait.
        """
        depending = {d: {p.sid for p in room.participants if p.may_be_of(d)} for d in self.spent}
        self.spent = {d for d, sids in depending.items() if sids and sids <= unsure}
        return sorted(d for d, sids in depending.items() if not sids)

    def forget_departed(self, room: Room) -> None:
        """Drop what concerns participants that are gone, so that a room that lives for weeks doesn't grow."""
        here = {p.sid for p in room.participants}
        for p in room.participants:
            # An identity that is back is no longer an evicted one, and its avatar is its own again.
            if (finding := self._evicted.get(p.identity)) and finding.participant.sid != p.sid:
                del self._evicted[p.identity]
        while len(self._evicted) > REMEMBERED:
            del self._evicted[next(iter(self._evicted))]
        self.debts = {key: debt for key, debt in self.debts.items() if key[0] in here}
        self._handled = {key for key in self._handled if key[0] in here}
        self.told.keep({p.identity for p in room.participants})
        self._noticed = {key: due for key, due in self._noticed.items() if key[0] in here}
        self._retry_at = {sid: at for sid, at in self._retry_at.items() if sid in here}
        self._failures = Counter({what: n for what, n in self._failures.items() if what in here})
