"""How many calls a minute the gatekeeper makes. Pure."""

from bouncer.room import Instant

ROUNDING = 1e-6
BURST = 0.25
"""The part of a minute's calls that may be made at once. The rest comes in evenly, so no minute has more than its
budget, and a burst of new rooms never uses up the calls of a whole minute."""


class Budget:
    """A token bucket."""

    def __init__(self, per_minute: float, now: Instant) -> None:
        self._most = max(1.0, per_minute * BURST)
        self._rate = per_minute * (1.0 - BURST) / 60.0
        self._left = self._most
        self._at = now

    def has(self, now: Instant, *, keep: float = 0.0) -> bool:
        """Return True if a call may be made now; `keep` is the part of a burst that is left for more urgent calls."""
        return self._now(now) >= 1.0 + keep * (self._most - 1.0) - ROUNDING

    def take(self, now: Instant) -> None:
        """Count a call."""
        self._left, self._at = self._now(now) - 1.0, now

    def ready_at(self, now: Instant, *, keep: float = 0.0) -> Instant:
        """Return when a call may be made next."""
        missing = 1.0 + keep * (self._most - 1.0) - self._now(now)
        return now if missing <= ROUNDING else now + missing / self._rate

    def _now(self, now: Instant) -> float:
        return min(self._most, self._left + max(0.0, now - self._at) * self._rate)
