"""Rooms that have lost their bouncer though no one wanted that, and wait for a successor.

A job's thread and event loop end with the job. So this runs in the worker's own loop: it keeps no place taken that a
successor may need, and ends when the worker does.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import suppress

from livekit.protocol import agent

from bouncer.adapter.calls import CallBudget
from bouncer.adapter.orphans import LISTED_BY
from bouncer.configuration.carried import carried
from bouncer.configuration.model import MARK
from bouncer.guard.handover import SUCCESSOR_WITHIN, replace_lost
from bouncer.observers.log_events import LogEvent
from bouncer.ports import ApiError, LostRoomApi

logger = logging.getLogger("bouncer")

GIVE_UP_AFTER = 600.0
"""Seconds for which a successor is looked for. That keeps no room open and costs at most two calls a minute. A server
that was away for longer comes back with other rooms, which have been given bouncers of their own."""
AT_ONCE = 10
"""Rooms of one worker for which a successor is looked for at the same time. A server that comes back brings all rooms
back at once; joining takes a second or two, so a hundred are guarded within half a minute."""
LOST_PER_MINUTE = 6
"""Jobs of one worker that get a successor in a minute though they never began to guard. Those that hang take 30 s to
fail and leave nothing behind, so there are never more than this, however long it goes on."""
TAKEN_BACK_WITHIN = SUCCESSOR_WITHIN + 10.0
"""Seconds in which a bouncer that finds no successor takes its dispatch back and makes another. A successor that never
began is that bouncer's to replace: if we did so too, both would come, and one would stand by until the room ends."""


class Replacements:
    """All rooms of a worker that wait. Use it on the worker's loop only."""

    def __init__(self, is_registered: Callable[[], bool]) -> None:
        """Make it for a worker; `is_registered` returns True while its server knows it."""
        self._is_registered = is_registered
        self._registered = asyncio.Event()
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._tasks: dict[asyncio.Task[None], str] = {}
        self._lost_jobs = CallBudget(LOST_PER_MINUTE)
        self._ended = False

    def begin(self, room: LostRoomApi, job: agent.Job, *, never_began: bool = False) -> None:
        """Look for a successor to this room's job, unless the worker ends or too many jobs `never_began`."""
        limited = never_began and not self._lost_jobs.spend(asyncio.get_running_loop().time(), urgent=False)
        if not (self._ended or limited):
            after = TAKEN_BACK_WITHIN if never_began and carried(job.metadata) else 0.0
            task = asyncio.get_running_loop().create_task(self._replace(room, job, after))
            self._tasks[task] = job.room.name
            task.add_done_callback(self._tasks.pop)

    def looks_for(self, room: str) -> bool:
        """Return True if a successor is being looked for in the room of this name."""
        return room in self._tasks.values()

    def registered(self) -> None:
        """Take in that the server has registered the worker, for the first time or again."""
        self._registered.set()
        self._registered = asyncio.Event()

    async def end(self) -> None:
        """Give up."""
        self._ended = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _replace(self, room: LostRoomApi, job: agent.Job, after: float) -> None:
        name = {"lk.pii.room_name": job.room.name}
        await asyncio.sleep(after)
        said = False

        def requested() -> None:
            """Say so once. Of a room that was only closed there is nothing to say."""
            nonlocal said
            if not said:
                logger.warning(LogEvent.SUCCESSOR_REQUESTED, extra=name)
            said = True

        if not self._is_registered():
            requested()

        def failing(error: ApiError) -> None:
            requested()
            logger.warning(LogEvent.SUCCESSOR_PENDING, extra={**name, "error": str(error)})

        try:
            async with asyncio.timeout(GIVE_UP_AFTER):
                successor = await replace_lost(
                    room,
                    job.dispatch_id,
                    turns=self._turns,
                    wait=self._wait,
                    wanted=requested,
                    failing=failing,
                    jitter=random.random,
                )
        except TimeoutError:
            requested()
            logger.warning(
                LogEvent.NOT_REPLACED, extra={**name, "why": f"no worker took the room within {GIVE_UP_AFTER:g} s"}
            )
        except asyncio.CancelledError:
            requested()
            logger.warning(LogEvent.NOT_REPLACED, extra={**name, "why": "the worker ends"})
            raise
        else:
            if successor:
                logger.info(LogEvent.REPLACED, extra={**name, "lk.pii.participant_identity": successor})
                await self._take_back_surplus(room, job, name)
            elif said:
                logger.info(LogEvent.NOT_REPLACED, extra={**name, "why": "the room or the dispatch is gone"})

    async def _take_back_surplus(self, room: LostRoomApi, job: agent.Job, name: dict[str, str]) -> None:
        """Of the bouncers that several workers have sent into a room that they found orphaned, leave the oldest."""
        if MARK not in job.metadata:
            return
        await asyncio.sleep(LISTED_BY)
        with suppress(ApiError):
            if taken := await room.take_back_surplus():
                logger.info(LogEvent.SURPLUS_TAKEN_BACK, extra={**name, "dispatches": list(taken)})

    async def _wait(self, seconds: float) -> None:
        """Wait for so long, or until the worker registers again; until then no worker might take the room."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._registered.wait()
        while not self._is_registered():
            await self._registered.wait()
