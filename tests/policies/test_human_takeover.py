"""human_takeover: agents relieved by an operator."""

from typing import Any

import pytest

from bouncer import Participant, Role, Room
from bouncer.testing import agent, avatar, due, human, participant, room
from policies.human_takeover import HumanTakeover


def verdicts(house: Room, **options: Any) -> dict[str, float]:
    """Return what is due under the policy with these options."""
    return due(HumanTakeover(**options).evaluate(house))


def test_every_agent_is_due_one_grace_after_the_operator_joined() -> None:
    """An agent that joins later has its own grace."""
    house = room(agent("A", joined=1), agent("B", joined=95), agent("C", joined=110), human("op-7", joined=100))

    assert verdicts(house, identity=["op-*"]) == {"A": 103, "B": 103, "C": 113}
    assert verdicts(house, identity=["op-*"], grace=10) == {"A": 110, "B": 110, "C": 120}


def test_the_first_operator_counts() -> None:
    """A second operator gives no agent more time."""
    house = room(agent("A"), human("op-2", joined=200), human("op-1", joined=100))

    assert verdicts(house, identity=["op-*"]) == {"A": 103}


@pytest.mark.parametrize(
    ("options", "matches"),
    [
        ({"identity": ["ana"]}, True),
        ({"identity": ["bob", "an?"]}, True),
        ({"identity": ["Ana"]}, False),
        ({"identity": ["an"]}, False),
        ({"attributes": {"role": "operator"}}, True),
        ({"attributes": {"role": "op*", "desk": "*"}}, True),
        ({"attributes": {"role": "operator", "desk": "2"}}, False),
        ({"attributes": {"role": "Operator"}}, False),
        ({"attributes": {"team": "*"}}, False),
        ({"attributes": {"role": "operator", "team": "*"}}, False),
        ({"identity": ["ana"], "attributes": {"role": "operator"}}, True),
        ({"identity": ["bob"], "attributes": {"role": "operator"}}, False),
        ({"identity": ["ana"], "attributes": {"role": "guest"}}, False),
    ],
)
def test_what_is_given_has_to_match(options: dict[str, Any], matches: bool) -> None:  # noqa: FBT001 - a column
    """One glob must match the identity, and every attribute must match; a missing attribute doesn't."""
    house = room(agent("A"), human("ana", joined=10, attributes={"role": "operator", "desk": "1"}))

    assert verdicts(house, **options) == ({"A": 13} if matches else {})


@pytest.mark.parametrize(
    "who",
    [
        pytest.param(human("guest"), id="another human"),
        pytest.param(human("op", active=False), id="an operator who is still joining"),
        pytest.param(participant("op", role=Role.AGENT, active=False), id="an agent that calls itself one"),
        pytest.param(avatar("op", "A"), id="an avatar that calls itself one"),
        pytest.param(participant("op", role=Role.BOUNCER), id="a bouncer that calls itself one"),
        pytest.param(participant("op", role=Role.OTHER), id="a recording that calls itself one"),
    ],
)
def test_nothing_happens(who: Participant) -> None:
    """Only an operator who is present sends agents away, and an operator is a human."""
    assert verdicts(room(agent("A"), who), identity=["op"]) == {}


def test_an_agent_is_no_operator_whatever_it_says_of_itself() -> None:
    """It is judged, not obeyed."""
    house = room(agent("op", attributes={"role": "operator"}), agent("A"))

    assert verdicts(house, identity=["op"]) == {}
    assert verdicts(house, attributes={"role": "operator"}) == {}


def test_it_needs_to_know_an_operator() -> None:
    """Without anything to match, every human would be one."""
    with pytest.raises(ValueError, match="needs `identity`, "):
        HumanTakeover()
