"""Gatekeepers on a simulated LiveKit: every fault once, small. `python -m tests.gatekeeping` plays more, and larger."""

from dataclasses import replace

import pytest

from tests.gatekeeping.mutants import MUTANTS
from tests.gatekeeping.scenes import SCENES, played


@pytest.mark.parametrize("name", SCENES)
def test_no_invariant_is_broken(name: str) -> None:
    """No room stays without a bouncer, there is no storm, and nothing is dispatched on a late event alone."""
    world = played(1, replace(SCENES[name], rooms=60, webhooks=5.0, seconds=300.0))

    assert world.failures == []
    assert world.events["room guarded"] > 60, "nothing happened"


def test_the_same_seed_plays_the_same_run() -> None:
    """A failure can be seen again."""
    plan = replace(SCENES["two gatekeepers in trouble"], rooms=20, seconds=120.0)

    assert played(7, plan).calls == played(7, plan).calls
    assert played(7, plan).digest == played(7, plan).digest != played(8, plan).digest


def test_each_mutant_is_still_an_edit_of_the_code() -> None:
    """Whether all of them are caught takes longer to find out: `python -m tests.gatekeeping --mutants`."""
    assert [f"{mutant.name}: {mutant.stale}" for mutant in MUTANTS if mutant.stale] == []
