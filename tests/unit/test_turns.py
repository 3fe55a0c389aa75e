"""Turns that rooms on different event loops take."""

import asyncio
from collections.abc import Callable, Coroutine
from threading import Thread
from typing import Any

import pytest

from bouncer.adapter.turns import RoomTurns


def in_threads(*work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run each in a thread and on an event loop of its own, until all are done."""
    threads = [Thread(target=lambda each=each: asyncio.run(each())) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_few_have_a_turn_at_a_time() -> None:
    """However many come, and from whichever loop."""
    turns, having, most = RoomTurns(3, 60.0), 0, 0

    async def room() -> None:
        nonlocal having, most
        for _ in range(5):
            async with turns.turn():
                having += 1
                most = max(most, having)
                await asyncio.sleep(0.002)
                having -= 1

    in_threads(*[room] * 12)

    assert (most, having) == (3, 0)


async def test_they_come_in_order() -> None:
    """Who comes first has the first turn, and who gives up takes none from the others."""
    turns, order = RoomTurns(1, 60.0), list[str]()

    async def room(name: str) -> None:
        async with turns.turn():
            order.append(name)
            await asyncio.sleep(0.01)

    rooms = [asyncio.create_task(room(name)) for name in "ABCD"]
    await asyncio.sleep(0)
    rooms[1].cancel()
    await asyncio.gather(*rooms, return_exceptions=True)
    await room("E")

    assert order == ["A", "C", "D", "E"]


async def test_a_turn_that_comes_as_it_is_given_up_is_passed_on() -> None:
    """The one that waits is told on its own loop, a moment later."""
    turns = RoomTurns(1, 60.0)
    first, second = turns.turn(), asyncio.create_task(turns.turn().__aenter__())
    await first.__aenter__()
    await asyncio.sleep(0)
    await first.__aexit__(None, None, None)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)

    async with asyncio.timeout(60), turns.turn():
        pass


async def test_a_long_turn_holds_up_no_one() -> None:
    """It goes on all the same, and its end gives no second turn away."""
    turns = RoomTurns(1, 0.01)

    async with asyncio.timeout(60), turns.turn(), turns.turn():
        pass

    held = RoomTurns(1, 0.2)
    async with asyncio.timeout(60), held.turn():
        pass
    async with held.turn():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), held.turn():
                pass
