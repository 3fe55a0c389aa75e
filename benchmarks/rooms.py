"""Many rooms in one worker, and one room that floods: what they take, and how late evictions are because of them."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp
import psutil  # type: ignore[import-untyped]  # the framework brings it, without its types
from livekit import api
from rich.table import Table

from benchmarks.arena import LIMIT, Guard, Stand, guarding
from benchmarks.attackers import GIVE_WAY
from benchmarks.bare import NAME as BARE
from benchmarks.figures import among, milliseconds, ratio, spread
from benchmarks.weighed import NAME as FRAMEWORK
from devserver import LOOPBACK, Server, free_port, own_server
from tests.e2e.world import World

ROOT = Path(__file__).parents[1]
NUMBERS = (25, 50, 100, 200)
ALONE = 50
"""Rooms of the framework's worker with no code of ours: its jobs only connect."""
WINDOWS, WINDOW = 4, 10.0
"""How often a worker's CPU and calls are measured, and for how many seconds each."""
OPENED = 5
"""Rooms that are opened at the same time."""
INTRUDERS = 15
QUIET = 40
FLOODS = 2
"""How often evictions are measured without a flood and with one, in turns."""
FLOODED = 60
"""Seconds that a flood lasts at most."""
STARTS = 3
"""How often each worker is started, to see what it takes before its first room."""
SETTLED = 5.0
EMPTY = 3600
"""Seconds that an empty room stays open."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Taken:
    """What a worker has taken so far."""

    cpu: float
    calls: int


async def taken(guard: Guard, metrics: int) -> Taken:
    """Return what the worker has taken, by its own metrics for the calls; none without a port of metrics."""
    if not metrics:
        return Taken(guard.took()[0], 0)
    async with aiohttp.ClientSession() as session, session.get(f"http://{LOOPBACK}:{metrics}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    calls = sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("bouncer_api_calls_total{"))
    return Taken(guard.took()[0], int(calls))


async def windows(guard: Guard, metrics: int, number: int) -> tuple[list[float], list[float]]:
    """Return for each of so many rooms, in each window, the percents of a core and the calls a minute."""
    cpu: list[float] = []
    calls: list[float] = []
    for _ in range(WINDOWS):
        before, began = await taken(guard, metrics), time.monotonic()
        await asyncio.sleep(WINDOW)
        after, seconds = await taken(guard, metrics), time.monotonic() - began
        cpu.append(100 * (after.cpu - before.cpu) / seconds / number)
        calls.append(60 * (after.calls - before.calls) / seconds / number)
    return cpu, calls


async def open_quiet(guard: Guard, client: api.LiveKitAPI, number: int) -> list[float]:
    """Open rooms with the worker's agent and no one else, a few at a time. Return the seconds from dispatch to there.

    A bouncer is there once it guards the room.
    """

    async def opened() -> float:
        world = World(guard.server, client)
        agents = [api.RoomAgentDispatch(agent_name=guard.name)]
        began = time.monotonic()
        await client.room.create_room(api.CreateRoomRequest(name=world.room, agents=agents, empty_timeout=EMPTY))
        there = partial(guard.is_in, world) if guard.name == BARE else world.guarding
        await world.until(there, f"{world.room} is guarded", within=LIMIT)
        return time.monotonic() - began

    took: list[float] = []
    while len(took) < number:
        took += await asyncio.gather(*(opened() for _ in range(min(OPENED, number - len(took)))))
    return took


async def stand_in(guard: Guard, client: api.LiveKitAPI, stack: AsyncExitStack) -> Stand:
    """Return a room that this worker guards, in which intruders can be sent."""
    world = await stack.enter_async_context(World(guard.server, client))
    await guard.enter(world)
    stand = Stand(world)
    await stand.watch()
    await stand.publishing()  # the first one warms up
    return stand


async def intrude(stand: Stand, times: int = INTRUDERS) -> list[float]:
    """Return how long intruders stayed, one after the other."""
    return [await stand.publishing() for _ in range(times)]


async def idle(say: Say) -> Table:
    """Measure what a worker takes before its first room, against the bare one."""
    table = Table("before the first room", "memory", "to the bare worker", "open files", box=None)
    memory: dict[str, list[float]] = {}
    files: dict[str, list[int]] = {}
    async with own_server(say=say) as server:
        for _ in range(STARTS):
            for name, script in ((BARE, ROOT / "benchmarks" / "bare.py"), ("bouncer", ROOT / "agent.py")):
                async with guarding(name, script, server) as guard:
                    await asyncio.sleep(SETTLED)
                    memory.setdefault(name, []).append(guard.took()[1])
                    files.setdefault(name, []).append(psutil.Process(guard.worker.pid).num_fds())
    for name, found in memory.items():
        table.add_row(name, f"{spread(found)} MB", among(found, memory[BARE]), str(max(files[name])))
    return table


async def rooms(say: Say, numbers: Sequence[int] = NUMBERS) -> Table:
    """Measure what quiet rooms take of one worker, and how late evictions are alongside them."""
    table = Table(
        "quiet rooms",
        "memory for each",
        "files for each",
        "CPU for each",
        "to the fewest",
        "calls a room-minute",
        "dispatch to guarding",
        "event to gone",
        "to no quiet rooms",
        box=None,
    )
    port = free_port()
    env = {"BOUNCER_METRICS_PORT": str(port), "BOUNCER_HOST": LOOPBACK, "BOUNCER_MAX_ROOMS": str(2 * max(numbers))}
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(own_server(say=say))
        client = await stack.enter_async_context(api.LiveKitAPI(server.url, server.api_key, server.api_secret))
        table.add_row(*await framework(server, client))
        guard = await stack.enter_async_context(guarding("bouncer", ROOT / "agent.py", server, env))
        stand = await stand_in(guard, client, stack)
        process = psutil.Process(guard.worker.pid)
        alone, first, first_files, opened = await intrude(stand), guard.took()[1], process.num_fds(), 0
        table.add_row("0", *[""] * 6, milliseconds(alone), "")
        fewest: list[float] = []
        for number in numbers:
            guarded = await open_quiet(guard, client, number - opened)
            opened = number
            await asyncio.sleep(SETTLED)
            cpu, calls = await windows(guard, port, number + 1)
            fewest = fewest or cpu
            memory, files = guard.took()[1] - first, process.num_fds() - first_files
            gone = await intrude(stand)
            table.add_row(
                str(number),
                f"{memory / number:.2f} MB",
                f"{files / number:.0f}",
                f"{spread(cpu)} %",
                among(cpu, fewest),
                spread(calls),
                milliseconds(guarded),
                milliseconds(gone),
                ratio(gone, alone),
            )
    return table


async def framework(server: Server, client: api.LiveKitAPI) -> tuple[str, ...]:
    """Return what a job of the framework's own worker takes that only connects to a quiet room."""
    env = {"PYTHONPATH": str(ROOT)}
    async with guarding(FRAMEWORK, ROOT / "benchmarks" / "weighed.py", server, env) as guard:
        process = psutil.Process(guard.worker.pid)
        await open_quiet(guard, client, 1)
        first, files = guard.took()[1], process.num_fds()
        took = await open_quiet(guard, client, ALONE)
        await asyncio.sleep(SETTLED)
        cpu, _ = await windows(guard, 0, ALONE + 1)
        memory, files = guard.took()[1] - first, process.num_fds() - files
    each = (f"{memory / ALONE:.2f} MB", f"{files / ALONE:.0f}", f"{spread(cpu)} %")
    return (f"{ALONE}, framework only", *each, "", "", milliseconds(took))


@asynccontextmanager
async def flooding(guard: Guard, client: api.LiveKitAPI) -> AsyncIterator[None]:
    """Have a person and an agent change their attributes as fast as the server takes it, in a room of their own.

    They give way to what is measured, as anyone on another machine does.
    """
    async with World(guard.server, client) as world:
        await guard.enter(world)
        tokens = [world.token("someone"), world.token("noise", kind="agent", grant=True)]
        command = (sys.executable, "-m", "tests.e2e.flood", guard.server.url, str(FLOODED), *tokens)
        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.DEVNULL)
        psutil.Process(process.pid).nice(GIVE_WAY)
        try:
            await asyncio.sleep(SETTLED)
            yield
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def flood(say: Say) -> Table:
    """Measure how late evictions are in quiet rooms while another room of the same worker floods."""
    table = Table(f"{QUIET} quiet rooms", "event to gone", "with one that floods", "ratio", "at the 99th", box=None)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(own_server(say=say))
        client = await stack.enter_async_context(api.LiveKitAPI(server.url, server.api_key, server.api_secret))
        for name, script in ((BARE, ROOT / "benchmarks" / "bare.py"), ("bouncer", ROOT / "agent.py")):
            async with AsyncExitStack() as hired:
                guard = await hired.enter_async_context(guarding(name, script, server))
                stand = await stand_in(guard, client, hired)
                await open_quiet(guard, client, QUIET)
                without: list[float] = []
                within: list[float] = []
                for _ in range(FLOODS):
                    without += await intrude(stand)
                    async with flooding(guard, client):
                        within += await intrude(stand)
                ratios = (ratio(within, without, percent) for percent in (50, 99))
                table.add_row(name, milliseconds(without), milliseconds(within), *ratios)
    return table
