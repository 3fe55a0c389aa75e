"""Rooms that do all they can to keep their worker busy, and how late it removes intruders in other rooms meanwhile.

The attacks go on all the time. Only whether the worker guards these rooms changes, in turns: so what they cost the
server and this machine is in both figures, and the ratio is what sharing a worker with them costs.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import cycle, islice

from livekit import api
from rich.table import Table

from benchmarks.arena import Guard, Stand
from benchmarks.attackers import ATTACKS, attacked
from benchmarks.figures import milliseconds, ratio
from tests.e2e.world import World

TURNS, REMOVALS = 3, 20
"""How often the worker guards the other rooms, and lets them be; how many intruders of a kind it removes each time."""
CALM = 8
"""Rooms in which intruders come in turns, so that none has many more a minute than are removed by default."""
SETTLED = 3.0


async def neighbours(guard: Guard, client: api.LiveKitAPI) -> Table:
    """Measure from an intruder's arrival until it is gone, with and without the attacked rooms on the same worker."""
    alone: dict[str, list[float]] = {"publishing": [], "silent": []}
    beside: dict[str, list[float]] = {"publishing": [], "silent": []}
    async with AsyncExitStack() as stack:
        stands = []
        for _ in range(CALM):
            world = await stack.enter_async_context(World(guard.server, client))
            await guard.enter(world)
            stand = Stand(world)
            await stand.watch()
            await stand.publishing()
            stands.append(stand)
        async with AsyncExitStack() as attacks:
            rooms = [await attacks.enter_async_context(attacked(name, guard.server, client)) for name in ATTACKS]
            for _ in range(TURNS):
                await _measure(stands, alone)
                dispatches = [await guard.come(room.world) for room in rooms]
                await _measure(stands, beside)
                for room, dispatch in zip(rooms, dispatches, strict=True):
                    await client.agent_dispatch.delete_dispatch(dispatch, room.world.room)
                await asyncio.sleep(SETTLED)
    table = Table("rooms alongside others", "takes (5th to 99th percentile)", "to itself", "at the 99th", box=None)
    for kind, base in alone.items():
        for what, seconds in (("that are let be", base), ("that are guarded too", beside[kind])):
            table.add_row(f"{kind}, {what}", milliseconds(seconds), ratio(seconds, base), ratio(seconds, base, 99))
    rates = (f"{name} {room.rate:.0f}" for name, room in zip(ATTACKS, rooms, strict=True))
    table.caption = f"changes a second: {', '.join(rates)}"
    return table


async def _measure(stands: Sequence[Stand], found: dict[str, list[float]]) -> None:
    for stand in islice(cycle(stands), REMOVALS):
        found["publishing"].append(await stand.publishing())
        found["silent"].append(await stand.silent())
