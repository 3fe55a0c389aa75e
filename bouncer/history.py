"""What we are doing and have done to one room: decisions and outcomes in, the `Ledger` of the next decision out. Pure.

The tracker remembers what others do; this remembers what we do. So nothing is done twice, what failed is tried again
after a pause, and whoever is gone is forgotten.
"""

from collections import Counter, deque
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from enum import StrEnum

from bouncer.decide import BUDGET_WINDOW, Finding, Ledger
from bouncer.room import Instant, Room

BACKOFF = (0.5, 30.0)
"""First and longest pause, in seconds, before something that failed is tried again; doubled each time."""
DENIED_PAUSE = 30.0
"""Seconds, give or take a fifth, before a removal is tried again for which our credentials did not suffice."""
REMEMBERED = 256
"""How many evicted identities are remembered, to remove what they leave behind."""


class Outcome(StrEnum):
    """How an eviction ended."""

    REMOVED = "removed"
    """We removed it, and it was seen gone."""
    LEFT = "left"
    """We ended its job by deleting its dispatch, and it left in time."""
    GONE = "gone"
    """It had left already, without our doing."""
    VOID = "void"
    """Its identity belongs to another participant by now, or it is no longer due: nothing was done."""
    DENIED = "denied"
    """Our credentials may not remove participants."""
    FAILED = "failed"
    """The server didn't do it; it will be tried again."""
    WOULD = "would"
    """A dry run: it would have been evicted."""


@dataclass(frozen=True, slots=True)
class Eviction:
    """An eviction that is under way."""

    finding: Finding
    together: tuple[Finding, ...]
    """All that were decided on at the same moment, this one too."""
    unsent: bool
    """Whether a removal that costs some of the budget has yet to go out: until then it may still be called off."""
    at: Instant
    """When its removal went out; before that, when it began."""


@dataclass(slots=True)
class History:
    """Keeps the record of what we do in one room. Tell it with its verbs, read it with `ledger`."""

    jitter: Callable[[], float]
    """Gives numbers in [0, 1), so that not all rooms try again at the same time."""
    under_way: dict[str, Eviction] = field(default_factory=dict)
    """The evictions that are under way, by sid."""
    spent: set[str] = field(default_factory=set)
    """Dispatches whose agents were removed: to be deleted, so that nothing restarts them."""
    denied: set[str] = field(default_factory=set)
    """What our credentials did not suffice for, until it works: listing, evicting."""
    _evicted: dict[str, Finding] = field(default_factory=dict)
    _sent: deque[Instant] = field(default_factory=deque)
    _handled: set[tuple[str, str]] = field(default_factory=set)
    _noticed: dict[tuple[str, str], Instant] = field(default_factory=dict)
    _retry_at: dict[str, Instant] = field(default_factory=dict)
    _failures: Counter[str] = field(default_factory=Counter)
    _told: set[tuple[str, ...]] = field(default_factory=set)

    def ledger(self, now: Instant) -> Ledger:
        """What a decision has to know of it."""
        while self._sent and self._sent[0] + BUDGET_WINDOW <= now:
            self._sent.popleft()
        return Ledger(
            sent=tuple(self._sent),
            leaving=frozenset(self.under_way),
            unsent=sum(eviction.unsent for eviction in self.under_way.values()),
            handled=frozenset(self._handled),
            noticed=dict(self._noticed),
            retry_at=dict(self._retry_at),
            evicted=dict(self._evicted),
        )

    def begin(self, finding: Finding, together: tuple[Finding, ...], now: Instant, *, sends: bool) -> None:
        """An eviction begins; a dry run `sends` no removal. An avatar that follows costs none of the budget."""
        who = finding.participant
        self._evicted[who.identity] = finding
        self.under_way[who.sid] = Eviction(finding, together, sends and not finding.follows, now)

    def send(self, finding: Finding, now: Instant) -> None:
        """The removal goes out, or the end of its dispatch and then the removal: that counts once."""
        sid = finding.participant.sid
        if self.under_way[sid].unsent:
            self._sent.append(now)
        self.under_way[sid] = replace(self.under_way[sid], unsent=False, at=now)

    def end(self, finding: Finding, outcome: Outcome, now: Instant) -> Eviction:
        """The eviction has ended; what it was."""
        who = finding.participant
        if outcome not in (Outcome.REMOVED, Outcome.LEFT):
            self._evicted.pop(who.identity, None)
        match outcome:
            case Outcome.WOULD:
                self._handled.add(finding.key)
            case Outcome.FAILED | Outcome.VOID:
                self._retry_at[who.sid] = now + self.fail(who.sid)
            case Outcome.DENIED:
                self._retry_at[who.sid] = now + DENIED_PAUSE * self._spread()
            case _:
                pass
        eviction = self.under_way.pop(who.sid)
        # One that failed may have removed it all the same: the answer can be lost, or the proof.
        removed = outcome is Outcome.REMOVED or (outcome is Outcome.FAILED and not eviction.unsent)
        if removed and who.dispatch and not who.publisher:
            self.spent.add(who.dispatch)
        return eviction

    def report(self, finding: Finding) -> None:
        """It is reported, once under this configuration."""
        self._handled.add(finding.key)

    def notice(self, finding: Finding) -> None:
        """The room is told when it comes due."""
        self._noticed[finding.key] = finding.verdict.due

    def first_time(self, *what: str) -> bool:
        """Whether this is still to be told. It begins with the sid that it is about, or else with "fault" or "api"."""
        new = what not in self._told
        self._told.add(what)
        return new

    def fail(self, what: str) -> float:
        """Something failed, once more in a row; the seconds to wait before it is tried again."""
        self._failures[what] += 1
        first, longest = BACKOFF
        return min(first * 2.0 ** min(self._failures[what] - 1, 16), longest) * self._spread()

    def _spread(self) -> float:
        return 0.8 + 0.4 * self.jitter()

    def succeed(self, what: str) -> None:
        """It worked: the next time that it fails is the first again, and is told."""
        self._failures.pop(what, None)
        self.denied.discard(what)
        self._told = {told for told in self._told if told[:2] != ("api", what)}

    def reconfigure(self) -> None:
        """Under another configuration everything is reported, told and noticed anew."""
        self._handled.clear()
        self._told.clear()
        self._noticed.clear()

    def take_spent(self, room: Room, unsure: AbstractSet[str]) -> list[str]:
        """The dispatches that may be deleted now.

        One that has a job here, say a replacement, is let alone for good. If that is `unsure`, it may be gone: we wait.
        """
        depending = {d: {p.sid for p in room.participants if p.may_be_of(d)} for d in self.spent}
        self.spent = {d for d, sids in depending.items() if sids and sids <= unsure}
        return sorted(d for d, sids in depending.items() if not sids)

    def forget_departed(self, room: Room) -> None:
        """Drop what was noted of those who are gone, so that a room that lives for weeks doesn't grow."""
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
