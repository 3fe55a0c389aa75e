"""Virtual time: an event loop whose clock jumps to whatever comes next, so that a minute passes at once."""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

START = 1000.0
"""The clock's first reading, far enough from zero to expose a date that was never set."""


class _Selector(selectors.SelectSelector):
    """A selector that advances the clock instead of waiting."""

    now = START
    io = True

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Advance by the timeout."""
        if timeout is None:
            raise RuntimeError("every task waits for something that can no longer happen")
        self.now += max(timeout, 0.0)
        return super().select(0) if self.io else []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time."""

    def __init__(self, *, io: bool = True) -> None:
        """Make one; without `io`, threads and sockets can't wake it, which saves a system call each round."""
        self._virtual = _Selector()
        self._virtual.io = io
        super().__init__(self._virtual)
        # One tick, since the clock otherwise stands exactly at each deadline.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        """The virtual time."""
        return self._virtual.now

    def skip(self, seconds: float) -> None:
        """Let time pass while nothing runs, as when the process is frozen."""
        self._virtual.now += seconds


def virtual(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test in virtual time."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        loop = VirtualLoop()
        try:
            loop.run_until_complete(test(*args, **kwargs))
        finally:
            loop.close()

    return run
