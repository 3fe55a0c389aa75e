"""What guarding costs, as ratios within one run. `make bench`; absolute numbers are this machine's.

The engine first: deciding and looking again should take time in proportion to the room. Then real rooms: how long after
an intruder's arrival it is gone, against a bare handler that checks nothing and a script that lists every second, and
what many rooms in one worker take. Each part runs alone: `make bench ARGS="decide gone"`.
"""

import asyncio
import json
import os
import statistics
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from livekit import api
from rich.table import Table

from benchmarks.arena import Stand, each, guarding
from benchmarks.bare import NAME as BARE
from benchmarks.figures import among, milliseconds, ratio, screen
from benchmarks.leak import leaks
from benchmarks.neighbours import neighbours
from benchmarks.rooms import flood, idle, rooms
from bouncer.cli.replaying import seldom_collected
from bouncer.configuration.load import load
from bouncer.configuration.model import Layer
from bouncer.configuration.settings import Settings
from bouncer.decide import Guards, decide
from bouncer.events import Attributes
from bouncer.guard.history import History
from bouncer.guard.recheck import Moment, Recheck
from bouncer.policy import Rule
from bouncer.recording.otherwise import otherwise
from bouncer.recording.replay import Registry, follow, opened
from bouncer.room import Room
from bouncer.testing import agent, human, room
from devserver import Server, own_server
from policies import BUILTIN
from policies.duplicates import Duplicates
from tests.bench import Bench
from tests.e2e.world import World
from tests.recordings import Tapes

ROOT = Path(__file__).parents[1]
SIZES = (10, 100, 1000)
DUE = (50, 200, 500)
REPEATED = 15
LEAST = 3
"""How often each of the engine's figures is taken, at most and at least."""
PUBLISHING, SILENT = 60, 20
"""How many intruders of each kind each guard removes."""
BURSTS = (100, 1000)
CROWDS = ((5, 30), (50, 300))
"""How many agents join a room of how many."""
JOINED_WITHIN = 5.0
SOME_TIME = 0.05
"""Seconds that one taking of a figure lasts at least."""
LONG = 10.0
"""Seconds after which a figure is not taken again; it is taken three times at least."""

console = screen()


def timed(work: Callable[[], object]) -> list[float]:
    """Return the seconds of CPU that it takes, each time: on a busy machine those of the clock say little."""
    began = time.process_time()
    work()
    times = max(1, round(SOME_TIME / (time.process_time() - began)))
    found: list[float] = []
    ends_at = time.process_time() + LONG
    while len(found) < REPEATED and (time.process_time() < ends_at or len(found) < LEAST):
        began = time.process_time()
        for _ in range(times):
            work()
        found.append((time.process_time() - began) / times)
    return found


def every_policy() -> tuple[Rule, ...]:
    """Return a rule for each policy that there is."""
    policies = {policy.name: dict(getattr(policy, "example", {})) for policy in BUILTIN}
    return load([Layer("benchmark", json.dumps({"bouncer": {"policies": policies}}))], BUILTIN).rules


def crowd(size: int) -> Room:
    """Return a room in which every other participant is an agent."""
    agents = [agent(f"A{i}", f"name {i}", joined=i / 100, active=i) for i in range(size // 2)]
    people = [human(f"H{i}", joined=i / 100) for i in range(size - size // 2)]
    return room(*agents, *people)


def under_way(due: int) -> Callable[[], object]:
    """Return the work of looking again at that many evictions that came due at once, in a room of 2.5 times as many."""
    agents = [agent(f"A{i}", "assistant", joined=i / 100) for i in range(due + 1)]
    people = [human(f"H{i}") for i in range(3 * due // 2)]
    history, rules = History(jitter=lambda _: 0.5), (Rule(policy=Duplicates()),)
    guards, now = Guards(max_per_minute=due), 10_000.0
    house = room(*agents, *people)
    decided = decide(house, rules, guards, now).evictions
    for finding in decided:
        history.begin(finding, (), house, now, "enforce")

    def look_again() -> None:
        moment = Moment(
            room=house,
            rules=rules,
            guards=guards,
            now=now,
            ledger=history.ledger(now),
            under_way=dict(history.under_way),
        )
        recheck = Recheck(moment)
        for finding in decided:
            recheck.still_due(finding)

    if len(decided) != due:
        raise ValueError(f"{len(decided)} of {due} are due")
    return look_again


def growing(what: str, works: Mapping[int, Callable[[], object]]) -> Table:
    """Measure work of several sizes, and compare what each thing in it takes."""
    table = Table(what, "takes", "for each", "to the smallest, for each", box=None)
    smallest: list[float] = []
    for size, work in works.items():
        per = [seconds / size for seconds in timed(work)]
        smallest = smallest or per
        takes = milliseconds([one * size for one in per])
        table.add_row(f"{size:,}", takes, f"{1e6 * statistics.median(per):.1f} µs", ratio(per, smallest))
    return table


def decisions() -> Table:
    """Measure deciding, with every policy, and how much of that the policies are."""
    rules, guards = every_policy(), Guards()
    works = {size: partial(decide, crowd(size), rules, guards, 500) for size in SIZES}
    table = growing("decide, participants", works)
    size, house = SIZES[-1], crowd(SIZES[-1])
    alone = timed(lambda: [[*rule.policy.evaluate(house)] for rule in rules])
    share = f"{statistics.median(alone) / statistics.median(timed(works[size])):.2f} of a decision"
    table.add_row(
        f"{size:,}, policies alone", milliseconds(alone), f"{1e6 * statistics.median(alone) / size:.1f} µs", share
    )
    return table


def rechecks() -> Table:
    """Measure looking again."""
    return growing("look again, evictions due at once", {due: under_way(due) for due in DUE})


def busy_room(people: int) -> Bench:
    """Return a watch in a room with so many people, of which nothing is known but that they are there."""
    bench = Bench(eviction={"max_per_minute": 100_000})
    bench.until(1)
    for i in range(people):
        bench.joins(f"H{i}")
    bench.until(60)
    return bench


def burst(events: int) -> Callable[[], object]:
    """Return the work of taking in events that come at once, and judging the room after them."""
    bench = busy_room(20)
    bench.joins("A", "assistant")
    sid, states = bench.here["A"].sid, ("listening", "speaking")

    def happen() -> None:
        for number in range(events):
            state = {"lk.agent_name": "assistant", "lk.agent.state": states[number % 2]}
            bench.watch.tell(Attributes(bench.now, sid, state))
        bench.until(bench.now + 0.1)

    return happen


def bursts() -> Table:
    """Measure a burst of events."""
    return growing("a burst, events", {events: burst(events) for events in BURSTS})


def crowded(agents: int, people: int) -> list[float]:
    """Return the CPU seconds of one watch while agents join a room within `JOINED_WITHIN` s, all but one duplicates."""
    found = []
    for _ in range(LEAST):
        bench = busy_room(people)
        began = time.process_time()
        for number in range(agents):
            bench.joins(f"A{number}", "assistant")
            bench.until(bench.now + JOINED_WITHIN / agents)
        bench.until(bench.now + 30)
        found.append(time.process_time() - began)
        if len(bench.outcomes) != agents - 1:
            raise ValueError(f"{len(bench.outcomes)} of {agents - 1} were evicted")
    return found


def crowds() -> Table:
    """Measure a room in which many agents join, and all but one must leave."""
    head = f"agents join within {JOINED_WITHIN:g} s, and all but one leave"
    table = Table(head, "CPU of the engine", "for each", "to the smaller, for each", box=None)
    base: list[float] = []
    for agents, people in CROWDS:
        found = crowded(agents, people)
        per = [seconds / agents for seconds in found]
        base = base or per
        table.add_row(f"{agents} in a room of {people}", milliseconds(found), milliseconds(per), among(per, base))
    return table


RECORDED = 3600
"""Seconds of the recording that is replayed: a room of four with an event every two seconds."""


def replays() -> Table:
    """Measure how much faster than real time a recorded room is replayed, on one core."""
    tapes = Tapes()
    bench = Bench(tapes=tapes)
    for identity, name in (("A", "alpha"), ("B", "beta"), ("H", ""), ("I", "")):
        bench.joins(identity, name, attributes={"lk.agent.state": "listening"} if name else {})
    for second in range(2, RECORDED, 2):
        bench.until(second)
        bench.says("AB"[second // 2 % 2], ("speaking", "listening")[second // 4 % 2])
    (lines,) = tapes.recordings()
    other = (Layer("benchmark", json.dumps({"bouncer": {"policies": {"idle_timeout": {"timeout": 60}}}})),)
    registry = Registry(BUILTIN)
    table = Table(f"replaying {RECORDED / 3600:g} h", "takes", "times real time", box=None)
    for what, work in (
        ("the same again", lambda: deque(follow(opened(lines), registry), maxlen=0)),
        ("another configuration", lambda: otherwise(opened(lines), registry, other)),
    ):
        seldom_collected()
        seconds = timed(work)
        table.add_row(what, milliseconds(seconds), f"{RECORDED / statistics.median(seconds):,.0f}")
    return table


class Script:
    """A script in a process of its own for each room."""

    name = "script, every second"

    def __init__(self, server: Server, stack: AsyncExitStack) -> None:
        self.server, self._stack = server, stack

    async def enter(self, world: World) -> None:
        """Open the room, and run the script for it until the stack is unwound."""
        await world.create()
        command = (sys.executable, "-m", "benchmarks.script", world.room)
        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env={**os.environ, **self.server.env})
        self._stack.push_async_callback(process.wait)
        self._stack.callback(process.kill)


async def removals() -> Table:
    """Measure from an intruder's arrival until it is gone, with each guard in turns."""
    table = Table("event to gone", "takes (5th to 99th percentile)", "to the bare handler", "at the 99th", box=None)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(own_server(say=console.print))
        client = await stack.enter_async_context(api.LiveKitAPI(server.url, server.api_key, server.api_secret))
        bare = await stack.enter_async_context(guarding(BARE, ROOT / "benchmarks" / "bare.py", server))
        ours = await stack.enter_async_context(guarding("bouncer", ROOT / "agent.py", server))
        guards = (bare, ours, Script(server, stack))
        for kind, measure, times in (
            ("publishing", Stand.publishing, PUBLISHING),
            ("silent", Stand.silent, SILENT),
        ):
            took = await each(guards, client, times, measure)
            for name, seconds in took.items():
                base = took[bare.name]
                table.add_row(f"{kind}, {name}", milliseconds(seconds), ratio(seconds, base), ratio(seconds, base, 99))
    return table


async def neighbourhood() -> Table:
    """Measure what rooms that keep their worker busy cost another one; the worker has its usual budget of calls."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(own_server(say=console.print))
        client = await stack.enter_async_context(api.LiveKitAPI(server.url, server.api_key, server.api_secret))
        usual = {"BOUNCER_API_PER_MINUTE": str(Settings().api_per_minute)}
        bare = await stack.enter_async_context(guarding(BARE, ROOT / "benchmarks" / "bare.py", server))
        ours = await stack.enter_async_context(guarding("bouncer", ROOT / "agent.py", server, usual))
        return await neighbours((bare, ours), client)


ENGINE: Mapping[str, Callable[[], Table]] = {
    "decide": decisions,
    "recheck": rechecks,
    "burst": bursts,
    "crowd": crowds,
    "replay": replays,
}
SERVER: Mapping[str, Callable[[], Awaitable[Table]]] = {
    "gone": removals,
    "idle": partial(idle, console.print),
    "rooms": partial(rooms, console.print),
    "flood": partial(flood, console.print),
    "neighbours": neighbourhood,
    "leak": partial(leaks, console.print),
}


async def main(parts: Sequence[str]) -> int:
    """Print these parts; all if there are none."""
    known = (*ENGINE, *SERVER)
    if unknown := [part for part in parts if part not in known]:
        console.print(f"no part is called {unknown[0]!r}; the parts are {', '.join(known)}")
        return 2
    console.print("In brackets: the spread of what was taken; for ratios, what 90 % of resampled runs give.\n")
    for name in known:
        if not parts or name in parts:
            console.print(ENGINE[name]() if name in ENGINE else await SERVER[name](), "")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
