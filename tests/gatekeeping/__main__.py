"""`python -m tests.gatekeeping`: play gatekeepers on a simulated LiveKit, and say which run broke an invariant.

python -m tests.gatekeeping [--from 0] [--seeds 10]    every scene with so many seeds, 300 rooms each
python -m tests.gatekeeping --large                    10,000 rooms, one fault after the other, with the costs
python -m tests.gatekeeping --mutants                  one bug after the other, each to be caught
"""

import argparse
import sys
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace

from gatekeeper.doors import Doors
from gatekeeper.records import Bouncer, Room, Sight, Webhook
from tests.gatekeeping.mutants import MUTANTS
from tests.gatekeeping.scenes import LARGE, LARGE_FAULTS, SCENES, played
from tests.gatekeeping.world import World
from tests.simulation.edits import applied

SHOWN = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Play what is asked for; 1 if an invariant was broken, or a mutant wasn't caught."""
    parser = argparse.ArgumentParser(prog="python -m tests.gatekeeping")
    parser.add_argument("--from", type=int, default=0, dest="first")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--mutants", action="store_true")
    options = parser.parse_args(arguments)
    if options.mutants:
        return _mutants(options.seeds)
    failures = 0
    if options.large:
        print(f"memory: {_bytes_a_room():.0f} bytes a room")
        for name, faults in LARGE_FAULTS.items():
            failures += _tell(name, options.first, played(options.first, replace(LARGE, faults=faults)))
        return 1 if failures else 0
    for seed in range(options.first, options.first + options.seeds):
        for name, plan in SCENES.items():
            world = played(seed, plan)
            if world.failures:
                failures += _tell(name, seed, world)
    print(f"{options.seeds} seeds of {len(SCENES)} scenes: {failures} broke an invariant")
    return 1 if failures else 0


def _tell(name: str, seed: int, world: World) -> int:
    plan = world.plan
    waits = sorted(world.waits) or [0.0]
    calls, cpu = sum(world.calls.values()), sum(g.cpu for g in world.gatekeepers)
    hooks = sum(g.doors.webhooks for g in world.gatekeepers)
    print(
        f"{name}, seed {seed}: {len(world.rooms)} rooms, {hooks / plan.seconds:.0f} webhooks/s; "
        f"unguarded {waits[len(waits) // 2]:.2f} s at the median, {world.longest:.0f} s at the most; "
        f"{calls / plan.seconds * 60:.0f} calls/min "
        f"({dict(world.calls)}); {cpu / plan.seconds:.1%} of a core; {dict(world.events)}"
    )
    for failure in world.failures[:SHOWN]:
        print(f"  {failure}")
    return bool(world.failures)


def _bytes_a_room(rooms: int = 10_000) -> float:
    """Measure what one more guarded room takes."""
    doors = Doors(1_000_000, 0.0, lambda: 0.5)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(rooms):
        room = Room(f"RM_{number:012}", f"a room of some name {number}")
        bouncer = Bouncer(f"PA_{number:012}", f"agent-AJ_{number:012}", number, ready=True)
        doors.tell(Webhook(0.0, Sight.JOINED, room, bouncer))
        doors.step(0.0)
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return taken / rooms


def _mutants(seeds: int) -> int:
    missed = 0
    for mutant in MUTANTS:
        began = time.monotonic()
        with applied(*mutant.edits):
            caught = next(
                (
                    (name, world.failures[0])
                    for seed in range(seeds)
                    for name, plan in SCENES.items()
                    if (world := played(seed, plan)).failures
                ),
                None,
            )
        missed += caught is None
        print(f"{mutant.name}: {caught or 'NOT CAUGHT'} ({time.monotonic() - began:.0f} s)", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
