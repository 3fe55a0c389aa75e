"""The end of a worker, as its rooms learn of it: each room runs in a thread of its own."""

import asyncio
import threading
from contextlib import suppress


class Drain:
    """An event that the worker's thread sets and the rooms' threads wait for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun = False
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    def begin(self) -> None:
        """Tell all rooms."""
        with self._lock:
            self._begun = True
            for loop, event in self._waiting:
                with suppress(RuntimeError):  # that room's loop has just closed
                    loop.call_soon_threadsafe(event.set)

    async def begun(self) -> None:
        """Wait until the worker drains."""
        waiting = asyncio.get_running_loop(), asyncio.Event()
        with self._lock:
            if self._begun:
                return
            self._waiting.add(waiting)
        try:
            await waiting[1].wait()
        finally:
            with self._lock:
                self._waiting.discard(waiting)
