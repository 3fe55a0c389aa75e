"""2,000 rooms on a simulated LiveKit; `make simulate` plays as many as one likes."""

import subprocess
import sys

import pytest

from tests.simulation.__main__ import describe
from tests.simulation.mutants import MUTANTS, Mutant, applied
from tests.simulation.room import play

ROOMS = 2000
CHUNKS = 16


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_room_breaks_an_invariant(chunk: int) -> None:
    """Whatever happens in a room, and whatever LiveKit does: see `room.py` for what has to hold."""
    evictions = 0
    for seed in range(chunk, ROOMS, CHUNKS):
        outcome = play(seed)
        assert not outcome.invariant, describe(outcome)
        evictions += outcome.evictions
    assert evictions > ROOMS / CHUNKS, "rooms in which nothing happens show nothing"


def test_the_same_seed_plays_the_same_room() -> None:
    """Event by event, in another process too: a failure can be seen again."""
    digests = [play(seed).digest for seed in (7, 7, 8)]
    command = [sys.executable, "-c", "from tests.simulation.room import play; print(play(7).digest)"]
    elsewhere = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert digests[0] == digests[1] == elsewhere
    assert digests[0] != digests[2]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.name)
def test_each_mutant_is_still_an_edit_of_the_code(mutant: Mutant) -> None:
    """Whether all of them are caught takes longer to find out: `make mutants`."""
    with applied(mutant):
        pass


@pytest.mark.parametrize("name", ["ignore exempt", "no budget", "evict all duplicates", "decide while blind"])
def test_the_simulation_can_fail(name: str) -> None:
    """Four of the bugs that `make mutants` puts into the engine are caught by its first rooms."""
    (mutant,) = (one for one in MUTANTS if one.name == name)
    with applied(mutant):
        assert any(play(seed).invariant for seed in range(40))
