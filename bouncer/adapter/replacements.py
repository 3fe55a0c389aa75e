"""Rooms whose bouncer has gone though nobody wanted it to, and which wait for a successor.

A job has a thread and an event loop of its own, and they end with it. So this goes on in the worker's own loop: it
keeps no place taken that a successor may need, and ends when the worker does.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import suppress

from livekit.protocol import agent

from bouncer.api import ApiError, LostRoomApi
from bouncer.handover import replace

logger = logging.getLogger("bouncer")

GIVE_UP_AFTER = 600.0
"""Seconds for which a successor is looked for. No room is kept open by that, so it costs two calls a minute at most;
but what is away for longer comes back as something else, with rooms that somebody has given a bouncer anew."""
AT_ONCE = 10
"""Rooms of one worker for which a successor is looked for at the same time. A server that comes back gives all rooms
back at once; joining takes a second or two, so that a hundred are guarded within half a minute."""


class Replacements:
    """All rooms of a worker that wait. For the worker's loop only."""

    def __init__(self, is_registered: Callable[[], bool]) -> None:
        """Make it for a worker; `is_registered` says whether its server knows it at the moment."""
        self._is_registered = is_registered
        self._registered = asyncio.Event()
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = False

    def begin(self, room: LostRoomApi, job: agent.Job) -> None:
        """Look for a successor of the job that this room had, unless the worker ends."""
        if not self._ended:
            task = asyncio.get_running_loop().create_task(self._replace(room, job))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def registered(self) -> None:
        """The server has come to know the worker, for the first time or anew."""
        self._registered.set()
        self._registered = asyncio.Event()

    async def end(self) -> None:
        """Give up."""
        self._ended = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _replace(self, room: LostRoomApi, job: agent.Job) -> None:
        name = {"lk.pii.room_name": job.room.name}
        logger.warning("to be replaced", extra=name)

        def troubled(error: ApiError) -> None:
            logger.warning("not replaced yet", extra={**name, "error": str(error)})

        try:
            async with asyncio.timeout(GIVE_UP_AFTER):
                successor = await replace(
                    room, job.dispatch_id, turns=self._turns, wait=self._wait, troubled=troubled, jitter=random.random
                )
        except TimeoutError:
            logger.warning("not replaced", extra={**name, "why": f"nobody took the room within {GIVE_UP_AFTER:g} s"})
        except asyncio.CancelledError:
            logger.warning("not replaced", extra={**name, "why": "the worker ends"})
            raise
        else:
            if successor:
                logger.info("replaced", extra={**name, "lk.pii.participant_identity": successor})
            else:
                logger.info("not replaced", extra={**name, "why": "the room or the dispatch is gone"})

    async def _wait(self, seconds: float) -> None:
        """Wait for so long, or until the worker is registered anew; as long as it isn't, nobody might take the room."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._registered.wait()
        while not self._is_registered():
            await self._registered.wait()
