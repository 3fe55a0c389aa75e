"""deny_list: agents that are on the list."""

from typing import Any

import pytest

from bouncer import Participant, Role, Room, Selector
from bouncer.testing import agent, due, human, participant, room
from policies.deny_list import DenyList


def verdicts(house: Room, **options: Any) -> dict[str, float]:
    """Return what is due under the policy with these options."""
    return due(DenyList(**options).evaluate(house))


def test_due_one_grace_after_joining_and_without_one_at_once() -> None:
    """The date is when it joined; by default nothing is added to it."""
    house = room(agent("A", "assistant", joined=10), agent("B", "old-assistant", joined=20))

    assert verdicts(house, agent_names=["old-*"]) == {"B": 20}
    assert verdicts(house, agent_names=["old-*"], grace=5) == {"B": 25}


def test_the_name_or_the_identity_is_enough() -> None:
    """Either list denies by itself. An agent on both is due once, on the same date."""
    house = room(agent("A", "spy", joined=1), agent("spy-2", "helper", joined=2), agent("spy-3", "spy", joined=3))

    assert verdicts(house, agent_names=["spy"]) == {"A": 1, "spy-3": 3}
    assert verdicts(house, identities=["spy-*"]) == {"spy-2": 2, "spy-3": 3}
    assert verdicts(house, agent_names=["spy"], identities=["spy-*"]) == {"A": 1, "spy-2": 2, "spy-3": 3}


def test_a_selector_denies_from_when_it_matches() -> None:
    """An attribute that the agent sets later denies it from then on."""
    house = room(agent("A", "x", attributes={"tier": "trial"}, attributes_at={"tier": 30}), agent("B", "x"))

    assert verdicts(house, who=Selector(attributes={"tier": "trial"}), grace=5) == {"A": 35}


@pytest.mark.parametrize("glob", ["sp", "py", "Spy", "spy?", "*pie*", "[!s]py", "PA_A"])
def test_a_glob_is_matched_whole_and_with_its_case(glob: str) -> None:
    """Part of the name is not the name, nor is it the sid."""
    assert verdicts(room(agent("A", "spy")), agent_names=[glob], identities=[glob]) == {}


def test_an_identity_is_no_name_and_a_name_no_identity() -> None:
    """Each list is about its own."""
    house = room(agent("spy", "helper"), agent("A", "spook"))

    assert verdicts(house, agent_names=["spy"], identities=["spook"]) == {}


def test_an_agent_without_a_name_is_denied_by_its_identity_alone() -> None:
    """No glob on names matches a missing name."""
    house = room(agent("A", joined=5))

    assert verdicts(house, agent_names=["*"]) == {}
    assert verdicts(house, identities=["*"]) == {"A": 5}


@pytest.mark.parametrize(
    "who",
    [
        pytest.param(human("spy"), id="a person"),
        pytest.param(participant("spy", role=Role.BOUNCER, agent_name="spy"), id="a bouncer"),
        pytest.param(participant("spy", role=Role.OTHER, agent_name="spy"), id="an ingress"),
        pytest.param(
            participant("spy", role=Role.AGENT, agent_name="spy", active=False), id="one that is still joining"
        ),
        pytest.param(agent("A", "helper", attributes={"name": "spy"}), id="an attribute"),
    ],
)
def test_nothing_happens(who: Participant) -> None:
    """Only agents are ever denied, and only by name or identity."""
    assert verdicts(room(who), agent_names=["spy"], identities=["spy"]) == {}


def test_it_needs_a_glob() -> None:
    """A list with nothing on it is a mistake."""
    with pytest.raises(ValueError, match="needs `agent_names`, `identities` or `who`"):
        DenyList()
