"""Turns that the rooms of a worker take, each in a thread and on an event loop of its own."""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager


class RoomTurns:
    """Lets few rooms do something at a time, in the order in which they come."""

    def __init__(self, at_once: int, longest: float) -> None:
        """Make it for so many at a time. A turn that takes longer, in seconds, holds up no one any more."""
        self._longest = longest
        self._lock = threading.Lock()
        self._free = at_once
        self._waiting: deque[Future[None]] = deque()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and have it until the context ends."""
        turn, over = self._ask(), False

        def end() -> None:
            nonlocal over
            if not over:
                over = True
                self._pass_on()

        try:
            await asyncio.wrap_future(turn)
            asyncio.get_running_loop().call_later(self._longest, end)
            yield
        finally:
            # It may have come just before it was given up.
            if not turn.cancel():
                end()

    def _ask(self) -> Future[None]:
        turn = Future[None]()
        with self._lock:
            if self._free:
                self._free -= 1
                turn.set_result(None)
            else:
                self._waiting.append(turn)
        return turn

    def _pass_on(self) -> None:
        with self._lock:
            while self._waiting:
                turn = self._waiting.popleft()
                if turn.set_running_or_notify_cancel():
                    turn.set_result(None)
                    return
            self._free += 1
