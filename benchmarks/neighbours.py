"""Rooms that do all they can to keep their worker busy, and how late it removes intruders in other rooms meanwhile.

The attacks go on all the time. Only whether the worker guards these rooms changes, in turns: so what they cost the
server and this machine is in both figures, and the ratio is what sharing a worker with them costs. A bare handler does
the same alongside: its ratio is what the SDK and a shared process cost by themselves. The machine's load is printed,
because on a machine that is full everything is late.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import cycle, islice
from statistics import fmean

import psutil  # type: ignore[import-untyped]  # the framework brings it, without its types
from livekit import api
from rich.table import Table

from benchmarks.arena import Guard, Stand
from benchmarks.attackers import ATTACKS, attacked
from benchmarks.figures import milliseconds, ratio
from benchmarks.rooms import stand_in

TURNS = 2
"""How often each worker guards the other rooms, and lets them be."""
PUBLISHING, SILENT = 15, 3
"""How many intruders of each kind are removed each time."""
CALM = 2
"""Rooms in which intruders come in turns; each has an observer and a watcher, which take CPU too."""
SETTLED = 3.0


@dataclass(slots=True)
class _Found:
    """What was measured of a worker while the attacked rooms were in one state."""

    publishing: list[float] = field(default_factory=list)
    silent: list[float] = field(default_factory=list)
    worker: list[float] = field(default_factory=list)
    """Shares of one core."""
    machine: list[float] = field(default_factory=list)
    """Shares of all cores."""

    async def measure(self, guard: Guard, stands: Sequence[Stand]) -> None:
        """Send in intruders, and add how long they stayed."""
        began, cpu, idle = time.monotonic(), guard.took()[0], psutil.cpu_times().idle
        for stand in islice(cycle(stands), PUBLISHING):
            self.publishing.append(await stand.publishing())
        for stand in islice(cycle(stands), SILENT):
            self.silent.append(await stand.silent())
        seconds = time.monotonic() - began
        self.worker.append((guard.took()[0] - cpu) / seconds)
        self.machine.append(1 - (psutil.cpu_times().idle - idle) / seconds / psutil.cpu_count())


async def neighbours(guards: Sequence[Guard], client: api.LiveKitAPI) -> Table:
    """Measure from an intruder's arrival until it is gone, with and without the attacked rooms on the same worker."""
    alone, beside = ({guard.name: _Found() for guard in guards} for _ in range(2))
    async with AsyncExitStack() as stack:
        stands = {guard.name: [await stand_in(guard, client, stack) for _ in range(CALM)] for guard in guards}
        rooms = [await stack.enter_async_context(attacked(name, guards[0].server, client)) for name in ATTACKS]
        for _ in range(TURNS):
            for guard in guards:
                await alone[guard.name].measure(guard, stands[guard.name])
                dispatches = [await guard.come(room.world) for room in rooms]
                await beside[guard.name].measure(guard, stands[guard.name])
                for room, dispatch in zip(rooms, dispatches, strict=True):
                    await client.agent_dispatch.delete_dispatch(dispatch, room.world.room)
                await asyncio.sleep(SETTLED)
    heads = ("takes (5th to 99th percentile)", "to itself", "at the 99th", "worker's CPU", "machine's")
    table = Table("rooms alongside others", *heads, box=None)
    for guard in guards:
        base = alone[guard.name]
        for what, found in (("let be", base), ("guarded", beside[guard.name])):
            load = (f"{100 * fmean(found.worker):.0f} %", f"{100 * fmean(found.machine):.0f} %")
            for kind in ("publishing", "silent"):
                seconds, first = getattr(found, kind), getattr(base, kind)
                ratios = ratio(seconds, first), ratio(seconds, first, 99)
                table.add_row(f"{guard.name}, {kind}, others {what}", milliseconds(seconds), *ratios, *load)
    rates = (f"{name} {room.rate:.0f}" for name, room in zip(ATTACKS, rooms, strict=True))
    table.caption = f"changes a second: {', '.join(rates)}"
    return table
