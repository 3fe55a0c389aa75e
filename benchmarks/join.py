"""What `--join when-needed` saves, and what it costs in time, alongside `--join always`. `make bench-join`.

The agent minutes are computed: rooms are drawn for a given traffic, and the engine says of each when a bouncer is
needed there. The times are measured, on a real server: how long after it joined an intruder was gone.
"""

import argparse
import asyncio
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from livekit import api
from rich.table import Table

from benchmarks.figures import milliseconds, screen
from bouncer.configuration.load import load
from bouncer.configuration.model import BUILT_IN, NO_PLUGINS, Config, Layer
from bouncer.events import Info
from bouncer.room import Kind
from demo.scene import AGENT
from devserver import free_port, gatekeeper, own_server, worker
from gatekeeper.outlook import Outlook
from policies import BUILTIN
from tests.e2e.world import World

COMES_WITHIN, GONE_WITHIN = 1.0, 2.0
"""Seconds until a bouncer has come, and until an intruder has gone; the bill hardly depends on them."""
LINGERS = 3.0
"""Seconds for which an agent is still there after its person has left; then the room closes."""
INTRUDERS = 10
SETTLED = 8.0
"""Seconds for which the first agent is there before: LiveKit would have listed its job by then, if it had one."""
CONFIGURATIONS: dict[str, dict[str, object]] = {
    "the default (duplicates)": {},
    "and empty_room": {"empty_room": {}},
    "and max_lifetime of an hour": {"max_lifetime": {"limit": 3600}},
    "and idle_timeout": {"idle_timeout": {}},
}

console = screen()


def bill(connections: Sequence[float]) -> int:
    """Return the agent minutes of connections that lasted so many seconds: each is rounded up, as on LiveKit Cloud."""
    return sum(math.ceil(seconds / 60) for seconds in connections)


def stays(config: Config, seconds: float, second_at: float | None, leave_after: float) -> list[float]:
    """Return how long bouncers stay in one room: a person and an agent, and perhaps a second agent at that second."""
    outlook = Outlook("bouncer", 0.0, complete=True)
    outlook.configure(config, 0.0)
    agents = [Info(sid=f"PA_{a}", identity=a, kind=Kind.AGENT, attributes={"lk.agent_name": "x"}) for a in "AB"]
    person = Info(sid="PA_h", identity="h", agent_grant=False, hidden=False)
    events: list[tuple[float, Callable[[float], None]]] = [(0.0, lambda t: outlook.joined(person, t))]
    events += [(0.5, lambda t: outlook.joined(agents[0], t)), (seconds, lambda t: outlook.left("PA_h", t))]
    events += [(seconds + LINGERS, lambda t: outlook.left("PA_A", t))]
    if second_at is not None:
        events += [(second_at, lambda t: outlook.joined(agents[1], t))]
        events += [(second_at + GONE_WITHIN, lambda t: outlook.left("PA_B", t))]
    found: list[float] = []
    came_at: float | None = None
    unneeded_at = math.inf
    for at, happens in sorted(events, key=lambda event: event[0]):
        if came_at is not None and at > unneeded_at + leave_after:
            found.append(unneeded_at + leave_after - came_at)
            came_at = None
        happens(at)
        needed = outlook.why_needed(at) != ""
        unneeded_at = math.inf if needed else min(unneeded_at, at)
        if needed and came_at is None:
            came_at = at + COMES_WITHIN
    if came_at is not None:  # the room closes
        found.append(seconds + LINGERS - came_at)
    return [each for each in found if each > 0]


def compute(rooms: int, minutes: float, second: float, leave_after: float) -> None:
    """Print the agent minutes of a day with these rooms."""
    table = Table(title=f"{rooms} rooms of {minutes:g} min at the mean, a second agent in {second:.0%} of them")
    for heading in ("policies", "agent minutes, always", "when needed", "saved"):
        table.add_column(heading, justify="left" if heading == "policies" else "right")
    for name, policies in CONFIGURATIONS.items():
        random = Random(0)  # noqa: S311 - a draw that can be repeated
        layer = Layer("traffic", json.dumps({"bouncer": {"policies": policies}}))
        config = load([BUILT_IN, layer], BUILTIN, NO_PLUGINS)
        always = needed = 0
        for _ in range(rooms):
            seconds = random.expovariate(1 / (60 * minutes))
            second_at = random.uniform(0, seconds) if random.random() < second else None
            always += bill([seconds + LINGERS - COMES_WITHIN])
            needed += bill(stays(config, seconds, second_at, leave_after))
        table.add_row(name, f"{always}", f"{needed}", f"{1 - needed / always:.0%}")
    console.print(table)


async def measure() -> None:
    """Print how soon after it joined an intruder was gone, either way."""
    table = Table(title=f"Seconds from joining to gone, grace 2 s, {INTRUDERS} second agents each")
    for heading in ("join", "median, and the 5th to the 99th percentile"):
        table.add_column(heading)
    port = free_port()
    with TemporaryDirectory() as folder:
        config = Path(folder) / "config.json"
        config.write_text(json.dumps({"bouncer": {"leave_after": 1}}))
        async with (
            own_server(say=console.print, webhook=f"http://127.0.0.1:{port}/livekit") as server,
            api.LiveKitAPI(server.url, server.api_key, server.api_secret) as client,
            worker(AGENT, server),
        ):
            for join, more in (("always", ()), ("when-needed", ("--config", str(config)))):
                found = []
                async with gatekeeper(server, port=port, args=("--join", join, *more)):
                    for _ in range(INTRUDERS):
                        async with World(server, client) as world:
                            await world.human("ana")
                            await world.agent("A", audio=True, lively=True)
                            await asyncio.sleep(SETTLED)
                            began = asyncio.get_running_loop().time()
                            await world.gone(await world.agent("B"))
                            found.append(asyncio.get_running_loop().time() - began)
                table.add_row(join, milliseconds(found))
    console.print(table)


def main() -> int:
    """Compute, and measure unless told not to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.join")
    parser.add_argument("--rooms", type=int, default=10_000, help="rooms a day")
    parser.add_argument("--minutes", type=float, default=10.0, help="the mean length of a room")
    parser.add_argument("--second", type=float, default=0.02, help="the part of the rooms that get a second agent")
    parser.add_argument("--leave-after", type=float, default=30.0)
    parser.add_argument("--computed", action="store_true", help="measure nothing")
    options = parser.parse_args()
    compute(options.rooms, options.minutes, options.second, options.leave_after)
    if not options.computed:
        asyncio.run(measure())
    return 0


if __name__ == "__main__":
    sys.exit(main())
