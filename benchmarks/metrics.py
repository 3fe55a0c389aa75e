"""What metrics cost, as a share of a worker's CPU. `make bench-metrics`.

A real worker guards rooms with an event a second each, and says itself how much CPU it took, how often it judged a room
and how many calls it made. What these cost in metrics is measured apart, thousands of times each: so the share is known
to a hundredth of a percent, on a machine that does other things too.
"""

import asyncio
import re
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
from livekit import api
from prometheus_client import CollectorRegistry, generate_latest

from benchmarks.figures import screen
from bouncer.decide import Decision, Ledger
from bouncer.observers import Decided, Guarding, Stands
from bouncer.observers.metrics import Metrics
from bouncer.testing import agent, human, room
from devserver import own_server, worker
from devserver.process import LOOPBACK, free_port
from policies import BUILTIN
from tests.dates import records
from tests.e2e.world import World

ROOT = Path(__file__).parents[1]
ROOMS = 8
SETTLED, MEASURED = 10, 60
"""Seconds that the worker runs before it is measured, and while it is."""
SCRAPED_EVERY = 15.0
"""Seconds between two scrapes: Prometheus's own default is 60, and 15 is common."""
TIMES = 20_000
SCRAPES = 200

console = screen()


def cost(work: Callable[[], object], times: int) -> float:
    """Return the seconds that it takes: of five rounds, the fastest."""
    found = []
    for _ in range(5):
        began = time.process_time()
        for _ in range(times // 5):
            work()
        found.append((time.process_time() - began) / (times // 5))
    return min(found)


def unit_costs() -> tuple[float, float, float]:
    """Return the seconds that metrics add to judging a room, to a call, and those of a scrape with `ROOMS` rooms."""
    registry = CollectorRegistry()
    names = [policy.name for policy in BUILTIN]
    metrics = Metrics(names, "0", max_rooms=100, budget_left=lambda: 600, registry=registry)
    house = room(agent("A"), agent("B"), human("h"))
    decided = Decided(0, house, Decision(), Ledger())
    observers = [metrics.room(records(f"room {n}")) for n in range(ROOMS)]
    for observer in observers:
        for news in (Guarding(), Stands("acting", "blind"), decided):
            observer.notify(news)

    def judge() -> None:
        began = time.perf_counter()
        metrics.judged(time.perf_counter() - began)
        observers[0].notify(decided)

    def call() -> None:
        metrics.called("list_participants", "ok", 0.001)

    return cost(judge, TIMES), cost(call, TIMES), cost(lambda: generate_latest(registry), SCRAPES)


async def counted(session: aiohttp.ClientSession, address: str) -> dict[str, float]:
    """Return what the worker says of itself: its CPU, how often it judged, and how many calls it made."""
    async with session.get(address) as answer:
        text = await answer.text()

    def total(name: str) -> float:
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))

    return {
        "cpu": total("process_cpu_seconds_total"),
        "judged": total("bouncer_decide_seconds_count"),
        "calls": total("bouncer_api_calls_total"),
    }


async def busy(world: World) -> None:
    """Have a room with an event a second."""
    await world.open()
    await world.human("h")
    assistant = await world.agent("A")
    for number in count():
        await assistant.set_state(("listening", "thinking")[number % 2])
        await asyncio.sleep(1)


async def worked() -> dict[str, float]:
    """Return what a worker did within `MEASURED` seconds."""
    port = free_port()
    environment = {"BOUNCER_METRICS_PORT": str(port), "BOUNCER_HOST": LOOPBACK}
    with TemporaryDirectory(prefix="livekit-bouncer-metrics-") as folder:
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(own_server(say=console.print))
            client = await stack.enter_async_context(api.LiveKitAPI(server.url, server.api_key, server.api_secret))
            log_file = Path(folder) / "log"
            await stack.enter_async_context(worker(ROOT / "agent.py", server, env=environment, log_file=log_file))
            session = await stack.enter_async_context(aiohttp.ClientSession())
            worlds = [await stack.enter_async_context(World(server, client)) for _ in range(ROOMS)]
            tasks = [asyncio.create_task(busy(world)) for world in worlds]
            await asyncio.sleep(SETTLED)
            address = f"http://{LOOPBACK}:{port}/metrics"
            before = await counted(session, address)
            await asyncio.sleep(MEASURED)
            after = await counted(session, address)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for world in worlds:
                await world.close()
    return {what: after[what] - before[what] for what in before}


async def main() -> None:
    """Measure, and print the share."""
    judging, calling, scraping = unit_costs()
    did = await worked()
    scrapes = MEASURED / SCRAPED_EVERY
    parts = {
        f"judging a room, {did['judged']:.0f} times {judging * 1e6:.1f} µs": did["judged"] * judging,
        f"a call, {did['calls']:.0f} times {calling * 1e6:.1f} µs": did["calls"] * calling,
        f"a scrape, {scrapes:.0f} times {scraping * 1e3:.1f} ms": scrapes * scraping,
    }
    took = f"{did['cpu']:.2f} s of CPU in {MEASURED} s"
    console.print(f"{ROOMS} rooms with an event a second took {took}, of which metrics:")
    for what, seconds in parts.items():
        console.print(f"  {what}: {seconds / did['cpu']:.2%}")
    console.print(f"  together: {sum(parts.values()) / did['cpu']:.2%}")


if __name__ == "__main__":
    asyncio.run(main())
