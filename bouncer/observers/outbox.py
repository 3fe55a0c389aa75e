"""Records on their way to a webhook: which go out now, which wait, and which are given up. Pure.

The records of one room go out one after the other, each once the one before it has arrived or is given up. Rooms don't
wait for each other. What can't be kept is dropped, and counted.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf

from bouncer.guard.schedule import Backoff
from bouncer.observers.records import Record
from bouncer.room import Instant

AT_ONCE = 16
"""Rooms whose records are under way at the same time."""
MAX_WAITING = 10_000
"""Records of all rooms that wait; further ones are dropped. One takes about 2 KiB."""
MAX_OF_A_ROOM = 1_000
"""Records of one room that wait."""
KEPT_FOR = 600.0
"""Seconds after which a record that does not arrive is given up."""
PAUSES = Backoff(0.5, 30.0)
"""Before a record is sent again."""


class Fate(StrEnum):
    """What became of an attempt."""

    ARRIVED = "arrived"
    FAILED = "failed"
    """It is tried again."""
    REFUSED = "refused"
    """The receiver won't take it, however often it is sent."""


@dataclass(eq=False, slots=True)
class Parcel:
    """A record, with what the webhook adds to it."""

    room: str
    record: Record
    since: Instant
    dropped: int = 0
    """How many records were lost before this one, since the last that arrived."""
    attempts: int = 0


@dataclass(slots=True)
class _Line:
    """The records of one room, oldest first."""

    waiting: deque[Parcel] = field(default_factory=deque)
    sending: bool = False
    not_before: Instant = -inf


@dataclass(slots=True)
class Outbox:
    """Keeps the records that wait."""

    lost: int = 0
    """How many were dropped, refused or given up."""
    waiting: int = 0
    _unsaid: int = 0
    """How many were lost since the receiver was last told."""
    _sending: int = 0
    _lines: dict[str, _Line] = field(default_factory=dict)

    def add(self, room: str, record: Record, now: Instant) -> bool:
        """Take in a record. Return False if it is dropped because too many wait."""
        line = self._lines.get(room)
        if self.waiting >= MAX_WAITING or (line and len(line.waiting) >= MAX_OF_A_ROOM):
            self._lose()
            return False
        if line is None:
            line = self._lines[room] = _Line()
        line.waiting.append(Parcel(room, record, now))
        self.waiting += 1
        return True

    def take(self, now: Instant) -> Iterator[Parcel]:
        """Yield what is to be sent now. Each has to be answered."""
        for line in self._lines.values():
            if self._sending >= AT_ONCE:
                return
            if line.waiting and not line.sending and line.not_before <= now:
                parcel = line.waiting[0]
                if not parcel.attempts:
                    parcel.dropped, self._unsaid = self._unsaid, 0
                parcel.attempts += 1
                line.sending = True
                self._sending += 1
                yield parcel

    def answered(self, parcel: Parcel, fate: Fate, now: Instant, chance: float) -> bool:
        """Take in what became of an attempt; `chance` is in [0, 1). Return False if the record is lost."""
        line = self._lines[parcel.room]
        line.sending = False
        self._sending -= 1
        late = now - parcel.since >= KEPT_FOR
        if fate is Fate.FAILED and not late:
            line.not_before = now + PAUSES.pause(parcel.attempts, chance)
            return True
        line.waiting.popleft()
        self.waiting -= 1
        # What failed for one record is likely to fail for the next.
        line.not_before = now + PAUSES.first if fate is Fate.FAILED else -inf
        # A room that has just sent goes to the end, so that none is forgotten while many wait.
        del self._lines[parcel.room]
        if line.waiting:
            self._lines[parcel.room] = line
        if fate is Fate.ARRIVED:
            return True
        self._unsaid += parcel.dropped
        self._lose()
        return False

    def hurry(self) -> None:
        """Wait for no pause any more: the end is near."""
        for line in self._lines.values():
            line.not_before = -inf

    def wake_at(self) -> Instant:
        """Return when the next record may go out, if nothing is answered before."""
        if self._sending >= AT_ONCE:
            return inf
        return min((line.not_before for line in self._lines.values() if line.waiting and not line.sending), default=inf)

    def _lose(self) -> None:
        self.lost += 1
        self._unsaid += 1
