"""Handing a room over: another bouncer is dispatched, and once it guards the room ours is over.

A self-hosted server restarts no job whose worker ends, and gives a dispatch to nobody if no worker is free at that
moment, so a dispatch that brings nobody is taken back and made anew, for as long as we are here.
"""

import asyncio
from collections.abc import Callable

from bouncer.api import ApiError, RoomApi, Trouble
from bouncer.room import GUARDING_ATTRIBUTE

SUCCESSOR_WITHIN = 20.0
"""Seconds for a successor to be there and to be listed as what it is; forty at once needed 7 s on two busy cores, and
a job is listed up to 5 s late."""
LOOK_EVERY = (1.0, 16.0)
"""Seconds between two looks for the successor, and at most, if they aren't answered; doubled each time."""
PAUSE = (1.0, 60.0)
"""First and longest pause, in seconds, before another successor is dispatched; doubled each time."""


async def hand_over(api: RoomApi, *, troubled: Callable[[ApiError], None], jitter: Callable[[], float]) -> str:
    """Say that we don't guard the room for much longer, have a successor do so, and return its identity.

    Tries for ever. `troubled` is told what went wrong; `jitter` gives numbers in [0, 1).
    """
    pause, longest = PAUSE
    # All rooms of a worker are handed over at the same time.
    await asyncio.sleep(pause * jitter())
    while True:
        try:
            # First, so that the successor neither stands by nor counts us when it looks whether it is needed.
            await api.say_guarding(guarding=False)
            dispatch = await api.dispatch_successor()
            if successor := await _arrival(api, dispatch):
                return successor
            await api.delete_dispatch(dispatch)
            nobody = f"no other worker took the room within {SUCCESSOR_WITHIN:g} s; it stays guarded, and we try again"
            troubled(ApiError(Trouble.UNAVAILABLE, nobody))
        except ApiError as error:
            troubled(error)
        await asyncio.sleep(pause * (0.8 + 0.4 * jitter()))
        pause = min(2 * pause, longest)


async def _arrival(api: RoomApi, dispatch: str) -> str | None:
    """Wait for the agent of this dispatch to guard the room; its identity, or None if it doesn't in time.

    A look that isn't answered says nothing: a worker with many rooms may be out of calls for minutes, and successors
    that have come must not be taken back for that.
    """
    loop = asyncio.get_running_loop()
    deadline, pause = loop.time() + SUCCESSOR_WITHIN, LOOK_EVERY[0]
    while True:
        await asyncio.sleep(pause)
        asked_at = loop.time()
        try:
            infos = await api.list_participants()
            guarding = {i.identity for i in infos if i.active and i.hidden and i.attributes.get(GUARDING_ATTRIBUTE)}
            jobs = await api.list_jobs(urgent=True) if guarding else ()
        except ApiError as error:
            if error.trouble is Trouble.DENIED:
                raise
            pause = min(2 * pause, LOOK_EVERY[1])
            continue
        pause = LOOK_EVERY[0]
        for job in jobs:
            if job.dispatch == dispatch and job.identity in guarding:
                return job.identity
        if asked_at >= deadline:
            return None
