"""allow_list: agents that are not on the list."""

from typing import Any

import pytest

from bouncer import Participant, Role, Room
from bouncer.testing import agent, due, human, participant, room
from policies.allow_list import AllowList


def verdicts(house: Room, *agent_names: str, **options: Any) -> dict[str, float]:
    """Return what is due if these are allowed."""
    return due(AllowList(agent_names=agent_names, **options).evaluate(house))


def test_due_one_grace_after_joining_and_without_one_at_once() -> None:
    """The date is when it joined; by default nothing is added to it."""
    house = room(agent("A", "assistant", joined=10), agent("B", "scraper", joined=20), agent("C", "spy", joined=30))

    assert verdicts(house, "assistant") == {"B": 20, "C": 30}
    assert verdicts(house, "assistant", grace=5) == {"B": 25, "C": 35}


@pytest.mark.parametrize("globs", [["assistant"], ["other", "assistant"], ["assist*"], ["?ssistant"], ["[ab]*"], ["*"]])
def test_one_glob_that_matches_is_enough(globs: list[str]) -> None:
    """One match is enough to stay."""
    assert verdicts(room(agent("A", "assistant")), *globs) == {}


@pytest.mark.parametrize("globs", [["assist"], ["ssistant"], ["Assistant"], ["assistant2"], ["?"], ["A"], ["PA_A"], []])
def test_a_glob_is_matched_whole_with_its_case_and_against_the_name_alone(globs: list[str]) -> None:
    """Part of the name is not the name, and neither are the identity and the sid. No agent is on an empty list."""
    assert verdicts(room(agent("A", "assistant")), *globs) == {"A": 0}


def test_an_agent_without_a_name_matches_only_what_matches_everything() -> None:
    """It can't be on a list of names."""
    house = room(agent("A", attributes={"lk.agent_name": "assistant"}))

    assert verdicts(house, "assistant", "?*") == {"A": 0}
    assert verdicts(house, "*") == {}


@pytest.mark.parametrize(("joined", "at"), [(10, 70), (69, 70), (80, 80)])
def test_an_avatar_has_the_time_in_which_its_principal_may_be_back(joined: float, at: float) -> None:
    """A connection that blinks orphans it for a moment; it has no name of its own."""
    house = room(agent("V", joined=joined, principal_left_at=50))

    assert verdicts(house, "assistant") == {"V": at}
    assert verdicts(house, "assistant", grace=5) == {"V": at + 5}


@pytest.mark.parametrize(
    "who",
    [
        pytest.param(human("H"), id="a person"),
        pytest.param(participant("B", role=Role.BOUNCER, agent_name="bouncer"), id="a bouncer"),
        pytest.param(participant("E", role=Role.OTHER), id="an egress"),
        pytest.param(participant("J", role=Role.AGENT, agent_name="spy", active=False), id="one that is still joining"),
    ],
)
def test_nothing_happens(who: Participant) -> None:
    """Only agents need to be on the list, and only once they are there."""
    assert verdicts(room(who), "assistant") == {}
