"""`python -m tests.simulation`: play simulated rooms, and say which of them broke an invariant.

python -m tests.simulation [--from 0] [--rooms 10000]    a range of seeds, on all processors
python -m tests.simulation --seed 123                    one room, with its trace
"""

import argparse
import sys
import time
from collections.abc import Sequence
from multiprocessing import Pool

from tests.simulation.room import Outcome, play

SHOWN = 30
"""Lines of the trace that a failure shows."""
MOST_FAILURES = 5


def describe(outcome: Outcome, lines: int = SHOWN) -> str:
    """A failure: what was broken and when, how it came to it, and how to see it again."""
    at = f"{outcome.at - outcome.began:.3f} s"
    headline = f"seed {outcome.seed}: at {at} it was not so that {outcome.invariant}: {outcome.what}"
    trace = [line[:400] for line in outcome.trace[-lines:]] if lines else []
    return "\n".join([headline, *trace, f"to see all of it: make simulate SEED={outcome.seed}"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Play what is asked for; 1 if an invariant was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="Play simulated rooms.")
    parser.add_argument("--rooms", type=int, default=10_000)
    parser.add_argument("--from", type=int, default=0, dest="first")
    parser.add_argument("--seed", type=int)
    options = parser.parse_args(arguments)
    if options.seed is not None:
        outcome = play(options.seed)
        print("\n".join(outcome.trace))
        print(describe(outcome, 0) if outcome.invariant else f"seed {options.seed}: all is well, {outcome.digest[:12]}")
        return 1 if outcome.invariant else 0

    began, failures, seconds, evictions, calls, decisions = time.monotonic(), 0, 0.0, 0, 0, 0
    with Pool() as pool:
        for outcome in pool.imap(play, range(options.first, options.first + options.rooms), chunksize=20):
            seconds, evictions = seconds + outcome.seconds, evictions + outcome.evictions
            calls, decisions = calls + outcome.calls, decisions + outcome.decisions
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
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
