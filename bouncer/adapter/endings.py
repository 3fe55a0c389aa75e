"""The ends of jobs, which may hang: each part has a limit, and a job that hangs all the same gives its place back.

The framework sets no limit in its threads (livekit-agents 1.8.9). A job whose disconnecting hangs would count as a room
of its worker for ever, and the worker could not drain. See docs/decisions/0057-jobs-that-never-end.md.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any

from bouncer.observers.log_events import LogEvent
from bouncer.room import Instant

logger = logging.getLogger("bouncer")

CLOSED_WITHIN = 10.0
"""Seconds for each part of a job's end; all of them take a fraction of one."""
ENDED_WITHIN = 45.0
"""Seconds for a job to end: the framework waits 15 for its entrypoint, and two parts may take their whole time."""
LOOK_EVERY = 2.0


def hangs(part: str, room: str, within: float | None = None) -> None:
    """Log that a part of a job's end takes too long, and is not waited for any longer."""
    facts = {"part": part, "within": CLOSED_WITHIN if within is None else within, "lk.pii.room_name": room}
    logger.error(LogEvent.CLOSING_HANGS, extra=facts)


class Endings:
    """The jobs of a worker that are ending. Use it on the worker's loop only.

    An executor is the framework's `ThreadJobExecutor`. Nothing public tells that its job is ending, or makes it give
    up. tests/e2e/test_endings.py notices if that changes.
    """

    def __init__(self, executors: Callable[[], Iterable[Any]]) -> None:
        """Make it; `executors` returns those of the worker."""
        self._executors = executors
        self._since: dict[Any, Instant] = {}
        self._given_up: list[threading.Thread] = []

    @property
    def hang(self) -> bool:
        """True while a thread that was given up is alive: the process would not end by itself."""
        return any(thread.is_alive() for thread in self._given_up)

    async def run(self) -> None:
        """Look at them for ever."""
        while True:
            self.look(asyncio.get_running_loop().time())
            await asyncio.sleep(LOOK_EVERY)

    def look(self, now: Instant) -> None:
        """Give up those that have been ending for too long."""
        self._since = {each: self._since.get(each, now) for each in self._executors() if _is_ending(each)}
        for executor, since in self._since.items():
            if now - since >= ENDED_WITHIN:
                self._give_up(executor)

    def _give_up(self, executor: Any) -> None:
        """Have the framework take this job for ended, so that it counts no more and is not waited for."""
        hangs("job", executor.running_job.job.room.name, ENDED_WITHIN)
        self._given_up.append(executor._thread)  # noqa: SLF001 - see above
        joined, executor._join_fut = executor._join_fut, asyncio.get_running_loop().create_future()  # noqa: SLF001
        joined.set_result(None)


def _is_ending(executor: Any) -> bool:
    """Return True if the job was told to end, or has begun to by itself, and hasn't been given up."""
    begun = executor._closing or executor._shutting_down_fut.done()  # noqa: SLF001 - see above
    return bool(executor.running_job and begun and not executor._join_fut.done())  # noqa: SLF001
