"""Finding a successor: another bouncer is dispatched, and once it guards the room ours is over, or no longer missed.

A self-hosted server restarts no job whose worker ends, nor one that has lost its connection, and gives a dispatch to
nobody if no worker is free at that moment. So a dispatch that brings nobody is taken back and made anew.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress

from bouncer.api import ApiError, LostRoomApi, RoomApi, SuccessorApi, Trouble
from bouncer.room import GUARDING_ATTRIBUTE

SUCCESSOR_WITHIN = 20.0
"""Seconds for a successor to be there and to be listed as what it is; forty at once needed 7 s on two busy cores, and
a job is listed up to 5 s late."""
LOOK_EVERY = (1.0, 16.0)
"""Seconds between two looks for the successor, and at most, if they aren't answered; doubled each time."""
PAUSE = (1.0, 60.0)
"""First and longest pause, in seconds, before another successor is dispatched; doubled each time."""

Troubled = Callable[[ApiError], None]
Jitter = Callable[[], float]
Turns = AbstractAsyncContextManager[object]
Wait = Callable[[float], Awaitable[object]]


class _UnwantedError(Exception):
    """Nobody wants a successor."""


async def hand_over(api: RoomApi, *, troubled: Troubled, jitter: Jitter) -> str:
    """Say that we don't guard the room for much longer, have a successor do so, and return its identity.

    Tries for ever. `troubled` is told what went wrong; `jitter` gives numbers in [0, 1).
    """

    async def dispatch() -> str:
        # First, so that the successor neither stands by nor counts us when it looks whether it is needed.
        await api.say_guarding(guarding=False)
        return await api.dispatch_successor()

    return await _find(api, dispatch, nullcontext(), asyncio.sleep, troubled, jitter)


async def replace(
    api: LostRoomApi, ours: str, *, turns: Turns, wait: Wait, troubled: Troubled, jitter: Jitter
) -> str | None:
    """Have a successor take our place in a room that we have lost, and return its identity; None if nobody wants one.

    `ours` is our dispatch. If it is no longer there, somebody has closed the room, which another dispatch would open
    again, or has sent us away. Tries for ever: each time within `turns`, and with `wait` between them.
    """
    made = ""
    before: frozenset[str] | None = None

    async def dispatch() -> str:
        nonlocal made, before
        listed = await api.list_dispatches()
        if ours not in listed:
            raise _UnwantedError
        if before is not None:
            # The answer was lost. What it would have said may be there all the same: one more would be one too many.
            made = min(listed - before, default="")
        if made not in listed:
            before = listed
            made = await api.dispatch_successor()
        before = None
        return made

    try:
        successor = await _find(api, dispatch, turns, wait, troubled, jitter)
    except _UnwantedError:
        return None
    with suppress(ApiError):
        await api.delete_dispatch(ours)
    return successor


async def _find(
    api: SuccessorApi,
    dispatch: Callable[[], Awaitable[str]],
    turns: Turns,
    wait: Wait,
    troubled: Troubled,
    jitter: Jitter,
) -> str:
    """Dispatch successors until one guards the room, and return its identity. What is no ApiError ends it."""
    pause, longest = PAUSE
    # All rooms of a worker look for one at the same time.
    await wait(pause * jitter())
    while True:
        async with turns:
            try:
                made = await dispatch()
                if successor := await _arrival(api, made):
                    return successor
                await api.delete_dispatch(made)
                nobody = f"no worker took the room within {SUCCESSOR_WITHIN:g} s; we try again"
                troubled(ApiError(Trouble.UNAVAILABLE, nobody))
            except ApiError as error:
                troubled(error)
        await wait(pause * (0.8 + 0.4 * jitter()))
        pause = min(2 * pause, longest)


async def _arrival(api: SuccessorApi, dispatch: str) -> str | None:
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
