"""400 rooms on a simulated LiveKit; `make simulate` plays as many as one likes."""

import subprocess
import sys
import warnings

import pytest

from bouncer.recording.comparison import compare
from bouncer.recording.otherwise import otherwise
from bouncer.recording.replay import Registry, follow, opened
from policies import BUILTIN
from tests.recordings import KEY, Tapes
from tests.simulation.__main__ import describe
from tests.simulation.edits import StaleWarning, applied
from tests.simulation.mutants import MUTANTS
from tests.simulation.room import play

ROOMS = 400
CHUNKS = 16


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_room_breaks_an_invariant(chunk: int) -> None:
    """Whatever happens in a room, and whatever LiveKit does: see `room.py` for what has to hold.

    Each room is recorded too, every other one with pseudonyms. Its recording gives exactly the same decisions again.
    """
    evictions = 0
    for seed in range(chunk, ROOMS, CHUNKS):
        tapes = Tapes(key=KEY if seed // CHUNKS % 2 else None)
        outcome = play(seed, tapes.watch)
        assert not outcome.invariant, describe(outcome)
        evictions += outcome.evictions
        for recording in tapes.recordings():
            for _ in follow(opened(recording), Registry(BUILTIN)):
                pass
    assert evictions > ROOMS / CHUNKS, "rooms in which nothing happens show nothing"


@pytest.mark.parametrize(
    ("theme", "seed"),
    [
        (None, 831),
        (None, 3533),
        (None, 3841),
        (None, 13910),
        (None, 14097),
        (None, 14351),
        ("work", 352),
        ("work", 843),
        ("avatars", 77),
        ("avatars", 306),
        ("avatars", 751),
        ("avatars", 1373),
        ("malice", 512),
        ("people", 1031),
    ],
)
def test_no_bouncer_is_blamed_for_what_it_could_not_know(theme: str | None, seed: int) -> None:
    """Each room was judged wrongly once.

    A bouncer may not have been shown a job that a list lacked, may believe of one rule what it doesn't of another, may
    stand by for one that came on its own, and dates what it wasn't told by when it first saw it.
    """
    outcome = play(seed, theme=theme)

    assert not outcome.invariant, describe(outcome)


def test_nothing_else_would_have_been_done_under_the_same_configuration() -> None:
    """In virtual time, without the recorded answers of the server: at least 5 of 6 evictions are the same.

    The others are in rooms whose server failed, was slow, or lost our connection at the decisive moment.
    """
    same = different = 0
    for seed in range(100, 140):
        tapes = Tapes()
        play(seed, tapes.watch)
        for recording in tapes.recordings():
            comparison = compare(otherwise(opened(recording), Registry(BUILTIN)))
            same += comparison.total.unchanged
            different += len(comparison.differences())

    assert same > 50
    assert different <= same / 5


def test_the_same_seed_plays_the_same_room() -> None:
    """Event by event, in another process too: a failure can be seen again."""
    digests = [play(seed).digest for seed in (7, 7, 8)]
    command = [sys.executable, "-c", "from tests.simulation.room import play; print(play(7).digest)"]
    elsewhere = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert digests[0] == digests[1] == elsewhere
    assert digests[0] != digests[2]


def test_mutants_that_no_longer_apply_are_told() -> None:
    """They are a warning here, so that a refactoring goes on; `make mutants` fails for them."""
    for one in MUTANTS:
        if one.stale:
            warnings.warn(StaleWarning(f"{one.name}: {one.stale}"), stacklevel=1)


@pytest.mark.parametrize("name", ["ignore exempt", "no budget", "evict all duplicates", "decide while blind"])
def test_the_simulation_can_fail(name: str) -> None:
    """Four of the bugs that `make mutants` puts into the engine are caught by its first rooms."""
    (mutant,) = (one for one in MUTANTS if one.name == name)
    with applied(*mutant.edits):
        assert any(play(seed).invariant for seed in range(40))
