"""Where the clocks meet: LiveKit dates by its servers' wall clocks, the engine by the event loop's monotonic one."""

import time
from collections import OrderedDict
from collections.abc import Callable

from bouncer.dates import rfc3339
from bouncer.room import Instant

ANNOUNCED_WITHIN = 5.0
"""Seconds in which a joiner is announced; a silent one takes up to 3. More than that is another clock, or our delay."""
REMEMBERED = 4096
"""Participants that are remembered as seen: after a reconnect all are announced again, long after they joined."""
SLEPT_FOR = 2.0
"""Seconds by which the machine's two clocks may drift apart before it must have slept."""


class ServerClock:
    """Turns the servers' dates into Instants, going by when those that join are announced.

    A joiner is announced some time after it joined, never before. So of all that were measured the least is nearest to
    the truth, and dates come out late rather than early: no grace is cut short. A much greater one means that the
    server's clock was put back, or that another node with another clock dates: then it counts from now on.
    """

    def __init__(self) -> None:
        self._epoch: Instant | None = None
        """The Instant at which the server's clock showed zero."""
        self._seen: OrderedDict[str, None] = OrderedDict()

    def joined(self, sid: str, now: Instant, server_ms: int) -> None:
        """Take in that a participant, dated by its server, was announced now. Each counts once."""
        if not server_ms or sid in self._seen:
            return
        self.seen(sid)
        epoch = now - server_ms / 1000
        if self._epoch is None or not self._epoch <= epoch <= self._epoch + ANNOUNCED_WITHIN:
            self._epoch = epoch

    def seen(self, sid: str) -> None:
        """Take in a participant whose announcement has no known date."""
        self._seen[sid] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)

    def instant(self, server_ms: int) -> Instant:
        """Return the server's milliseconds as an Instant. Meaningless before anyone has joined."""
        return (self._epoch or 0.0) + server_ms / 1000

    def milliseconds(self, instant: Instant) -> int:
        """Return an Instant as the server's milliseconds. Meaningless before anyone has joined."""
        return round((instant - (self._epoch or 0.0)) * 1000)


class WallClock:
    """Dates Instants for people: each by the system's clock as it is when it is asked."""

    def __init__(self, now: Callable[[], Instant]) -> None:
        """Make it for an event loop's clock."""
        self.now = now

    def dated(self, instant: Instant) -> str:
        """Return an instant as an RFC 3339 time with milliseconds."""
        return rfc3339(time.time() + instant - self.now())


class SleepWatch:
    """Notices that the machine has slept: meanwhile the monotonic clock of Linux and macOS stands still."""

    def __init__(self, running: Callable[[], float], passing: Callable[[], float] | None = None) -> None:
        """Compare the clock `running`, which stands still, with one that doesn't: by default the system's."""
        self._running = running
        self._passing = passing or _passing
        self._ahead = self._passing() - running()

    def slept(self) -> bool:
        """Return True if the machine has slept since this was last asked."""
        before, self._ahead = self._ahead, self._passing() - self._running()
        return self._ahead - before > SLEPT_FOR


def _passing() -> float:
    # Linux counts its sleep only in BOOTTIME; macOS counts it in what it calls MONOTONIC, which Python's isn't.
    clock = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))
    return time.monotonic() if clock is None else time.clock_gettime(clock)
