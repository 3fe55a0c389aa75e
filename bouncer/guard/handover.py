"""Finding a successor: another bouncer is dispatched, and once it guards the room ours is free to go, or is replaced.

A self-hosted server restarts no job whose worker ends or loses its connection. It also gives a dispatch to no one if no
worker is free at that moment. So a dispatch that brings no bouncer is taken back, and another one is made.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from itertools import count

from bouncer.guard.schedule import Backoff
from bouncer.ports import ApiError, LostRoomApi, RoomApi, Says, SuccessorApi, Trouble
from bouncer.room import says_arrived, says_guarding

SUCCESSOR_WITHIN = 20.0
"""Seconds for a successor to arrive and to be listed as what it is. Forty at once needed 7 s on two busy cores, and a
job is listed up to 5 s late."""
LOOKS = Backoff(1.0, 16.0)
"""Pauses between two looks for the successor: the first after one that was answered, longer ones otherwise."""
ATTEMPTS = Backoff(1.0, 60.0)
"""Pauses before another successor is dispatched."""

Complain = Callable[[ApiError], None]
Chance = Callable[[], float]
"""Gives numbers in [0, 1)."""
Turns = AbstractAsyncContextManager[object]
Wait = Callable[[float], Awaitable[object]]


class _UnwantedError(Exception):
    """No successor is wanted."""


async def hand_over(api: RoomApi, *, configured: bool, failing: Complain, jitter: Chance) -> str:
    """Give up our claim to the room, have a successor guard it, and return the successor's identity.

    Tries for ever. `failing` is told what went wrong. If we have been `configured`, one that has no valid configuration
    may come, but we stay until it has one.
    """

    async def dispatch() -> str:
        # The claim goes first, so that the successor neither stands by nor counts us.
        await api.say(Says.NOTHING)
        return await api.dispatch_successor()

    return await _find(api, dispatch, nullcontext(), asyncio.sleep, failing, jitter, configured=configured)


async def replace_lost(
    api: LostRoomApi,
    ours: str,
    *,
    turns: Turns,
    wait: Wait,
    wanted: Callable[[], None],
    failing: Complain,
    jitter: Chance,
) -> str | None:
    """Have a successor take our place in a room that we have lost. Return its identity; None if none is wanted.

    `ours` is our dispatch. If it has gone, someone closed the room, which another dispatch would open again, or sent us
    away. Tries for ever: each time within `turns`, and with `wait` between them. `wanted` is told each time that it is
    still there, and `failing` what went wrong.
    """
    made = ""
    before: frozenset[str] | None = None

    async def dispatch() -> str:
        nonlocal made, before
        listed = await api.list_dispatches()
        if ours not in listed:
            raise _UnwantedError
        wanted()
        if before is not None:
            # The answer was lost. The dispatch it would have named may be there: another would be one too many.
            made = min(listed - before, default="")
        if made not in listed:
            before = listed
            made = await api.dispatch_successor()
        before = None
        return made

    try:
        successor = await _find(api, dispatch, turns, wait, failing, jitter, configured=False)
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
    failing: Complain,
    jitter: Chance,
    *,
    configured: bool,
) -> str:
    """Dispatch successors until one has arrived, and return its identity. Only an ApiError is survived."""
    # All rooms of a worker look for one at the same time.
    await wait(ATTEMPTS.first * jitter())
    for attempts in count(1):
        async with turns:
            try:
                made = await dispatch()
                if successor := await _arrival(api, made, configured=configured):
                    return successor
                await api.delete_dispatch(made)
                missing = f"no worker took the room within {SUCCESSOR_WITHIN:g} s; we try again"
                failing(ApiError(Trouble.UNAVAILABLE, missing))
            except ApiError as error:
                failing(error)
        await wait(ATTEMPTS.pause(attempts, jitter()))
    raise AssertionError  # count() has no end


async def _arrival(api: SuccessorApi, dispatch: str, *, configured: bool) -> str | None:
    """Wait for the agent of this dispatch to arrive. Return its identity, or None if it doesn't in time.

    It has arrived when it guards the room, or would if it had a valid configuration. If it has to be `configured`, then
    from that moment on the wait has no end.

    A look that isn't answered proves nothing: a worker with many rooms may be out of calls for minutes, and a successor
    that has arrived must not be taken back for that.
    """
    loop = asyncio.get_running_loop()
    deadline, unanswered = loop.time() + SUCCESSOR_WITHIN, 0
    while True:
        await asyncio.sleep(LOOKS.pause(unanswered + 1, chance=0.5))
        asked_at = loop.time()
        try:
            infos = await api.list_participants()
            hidden = [info for info in infos if info.active and info.hidden]
            guarding = {info.identity for info in hidden if says_guarding(info.attributes)}
            arrived = {info.identity for info in hidden if says_arrived(info.attributes)}
            jobs = await api.list_jobs(urgent=True) if arrived else ()
        except ApiError as error:
            if error.trouble is Trouble.DENIED:
                raise
            unanswered += 1
            continue
        unanswered = 0
        ours = {job.identity for job in jobs if job.dispatch == dispatch}
        for identity in ours & (guarding if configured else arrived):
            return identity
        if ours & arrived:
            deadline = math.inf
        if asked_at >= deadline:
            return None
