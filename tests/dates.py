"""Records in tests: integers for time, dated from the day that tests are said to happen on."""

from collections.abc import Callable
from typing import Any

from bouncer.dates import rfc3339
from bouncer.observers.records import Records

MIDNIGHT = 1_735_689_600.0
"""The first second of 2025, which is Instant 0."""


class Day:
    """A clock on which Instant 0 is midnight."""

    def __init__(self, now: Callable[[], float] = lambda: 0.0) -> None:
        self.now = now

    def dated(self, instant: float) -> str:
        """Return the instant as a time of that day."""
        return rfc3339(MIDNIGHT + instant)


def records(room: str = "lobby", now: Callable[[], float] = lambda: 0.0, **facts: Any) -> Records:
    """Return what renders the news of a room."""
    return Records(room, Day(now), **facts)
