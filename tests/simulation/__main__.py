"""`python -m tests.simulation`: play simulated rooms, and say which of them broke an invariant.

python -m tests.simulation [--from 0] [--rooms 10000]    a range of seeds, on all processors
python -m tests.simulation --seed 123                    one room, with its trace
python -m tests.simulation --digests before.txt          a digest of what the bouncers of each room did, into a file
python -m tests.simulation --digests now.txt --against before.txt    and which rooms went otherwise
"""

import argparse
import hashlib
import sys
import time
from collections import Counter
from collections.abc import Sequence
from multiprocessing import Pool
from pathlib import Path

from tests.simulation.plan import INHABITANTS
from tests.simulation.room import Played, play

SHOWN = 30
"""Lines of the trace that a failure shows."""
MOST_FAILURES = 5
MANY = 1000
"""Rooms in which every kind of inhabitant has to occur."""


def describe(outcome: Played, lines: int = SHOWN) -> str:
    """A failure: what was broken and when, how it came to it, and how to see it again."""
    at = f"{outcome.at - outcome.began:.3f} s"
    headline = f"seed {outcome.seed}: at {at} it was not so that {outcome.invariant}: {outcome.what}"
    trace = [line[:400] for line in outcome.trace[-lines:]] if lines else []
    return "\n".join([headline, *trace, f"to see all of it: make simulate SEED={outcome.seed}"])


def _digest(outcome: Played) -> str:
    return hashlib.sha256("\n".join(outcome.record).encode()).hexdigest()[:16]


def main(arguments: Sequence[str] | None = None) -> int:
    """Play what is asked for; 1 if an invariant was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="Play simulated rooms.")
    parser.add_argument("--rooms", type=int, default=10_000)
    parser.add_argument("--from", type=int, default=0, dest="first")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--digests", type=Path, help="write a digest of each room's decisions, calls and messages")
    parser.add_argument("--against", type=Path, help="an earlier file of digests to compare them with")
    options = parser.parse_args(arguments)
    if options.seed is not None:
        outcome = play(options.seed)
        print("\n".join(outcome.record if options.digests else outcome.trace))
        print(describe(outcome, 0) if outcome.invariant else f"seed {options.seed}: all is well, {outcome.digest[:12]}")
        return 1 if outcome.invariant else 0

    digests: list[str] = []
    kinds: Counter[str] = Counter()
    began, failures, seconds, evictions, calls, decisions = time.monotonic(), 0, 0.0, 0, 0, 0
    with Pool() as pool:
        for outcome in pool.imap(play, range(options.first, options.first + options.rooms), chunksize=20):
            seconds, evictions = seconds + outcome.seconds, evictions + outcome.evictions
            calls, decisions = calls + outcome.calls, decisions + outcome.decisions
            kinds.update(outcome.kinds)
            digests.append(f"{outcome.seed} {_digest(outcome)}")
            if outcome.invariant:
                failures += 1
                if failures <= MOST_FAILURES:
                    print(describe(outcome), end="\n\n")
    took = time.monotonic() - began
    print(
        f"{options.rooms} rooms from seed {options.first}, {failures} broke an invariant: {seconds / 3600:.1f} hours "
        f"of theirs in {took:.1f} s, {options.rooms / took:.0f} rooms/s; {decisions} decisions, {evictions} evictions, "
        f"{calls} API calls"
    )
    print(", ".join(f"{kinds[kind]} {kind}" for kind in INHABITANTS))
    missing = [kind for kind in INHABITANTS if not kinds[kind] and options.rooms >= MANY]
    if missing:
        print(f"in none of them: {', '.join(missing)}")
    different = 0
    if options.digests:
        options.digests.write_text("\n".join(digests) + "\n")
    if options.against:
        known = set(options.against.read_text().splitlines())
        others = [line.split()[0] for line in digests if line not in known]
        different = len(others)
        print(f"{different} of {len(digests)} rooms went otherwise than in {options.against}: {' '.join(others[:20])}")
    return 1 if failures or different or missing else 0


if __name__ == "__main__":
    sys.exit(main())
