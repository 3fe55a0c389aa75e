"""Virtual time: an event loop whose clock jumps to whatever comes next, so that a minute passes in no time."""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

START = 1000.0
"""What the clock shows at first: far enough from zero that a forgotten date shows."""


class _Selector(selectors.SelectSelector):
    """Doesn't wait: it moves the clock on by the time it would have waited."""

    now = START

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Pass that time."""
        if timeout is None:
            raise RuntimeError("everybody waits for something that can't happen any more")
        self.now += max(timeout, 0.0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)
        # One tick of a clock that otherwise stands exactly still at each deadline.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        """The virtual time."""
        return self._virtual.now

    def skip(self, seconds: float) -> None:
        """Let time pass in which nothing runs, as when the process is frozen."""
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
