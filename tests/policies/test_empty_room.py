"""empty_room: agents with no human to talk to."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bouncer import Kind, Participant, Role, Room
from bouncer.testing import agent, avatar, due, human, participant, room
from policies.empty_room import EmptyRoom
from tests.strategies import rooms


def verdicts(house: Room, **options: Any) -> dict[str, float]:
    """Return what is due under the policy with these options."""
    return due(EmptyRoom(**options).evaluate(house))


def test_every_agent_is_due_one_grace_after_the_last_human_left() -> None:
    """An agent that joined later has its own grace."""
    house = room(agent("A", joined=1), agent("B", joined=95), agent("C", joined=110), humans_left_at=100)

    assert verdicts(house) == {"A": 120, "B": 120, "C": 130}
    assert verdicts(house, grace=5) == {"A": 105, "B": 105, "C": 115}


def test_if_no_human_ever_came_it_counts_from_when_we_watch_and_the_agent_is_there() -> None:
    """Time before we came counts for no one."""
    house = room(agent("A", joined=1), agent("B", joined=95), agent("C", joined=110), watching_since=100)

    assert verdicts(house) == {"A": 220, "B": 220, "C": 230}
    assert verdicts(house, never_joined=30) == {"A": 130, "B": 130, "C": 140}


def test_each_of_the_two_allowances_counts_for_its_own_case_alone() -> None:
    """`grace` applies after a human has left, `never_joined` if none came."""
    assert verdicts(room(agent("A"), humans_left_at=100), never_joined=0) == {"A": 120}
    assert verdicts(room(agent("A")), grace=0) == {"A": 120}


@pytest.mark.parametrize("kind", [Kind.STANDARD, Kind.SIP, Kind.CONNECTOR, Kind.BRIDGE])
@pytest.mark.parametrize("active", [True, False])
def test_none_is_due_while_any_human_is_there(kind: Kind, active: bool) -> None:  # noqa: FBT001 - a column
    """However connected, and even if still joining."""
    house = room(agent("A"), human("H", kind=kind, active=active))

    assert verdicts(house, grace=0, never_joined=0) == {}


@pytest.mark.parametrize(
    "who",
    [
        pytest.param(avatar("V", "A"), id="an avatar"),
        pytest.param(participant("B", role=Role.BOUNCER), id="a bouncer"),
        pytest.param(participant("E", kind=Kind.EGRESS, role=Role.OTHER), id="a recording"),
        pytest.param(participant("I", kind=Kind.INGRESS, role=Role.OTHER), id="an ingress"),
        pytest.param(participant("J", role=Role.AGENT, active=False), id="an agent that is still joining"),
    ],
)
def test_other_participants_are_no_company_and_not_due(who: Participant) -> None:
    """They keep no agent in the room, and are never due themselves."""
    assert verdicts(room(who), grace=0, never_joined=0) == {}
    assert verdicts(room(who, agent("A", joined=7))) == {"A": 127}


@given(rooms, st.integers(0, 20), st.integers(0, 20))
def test_with_a_human_none_is_due_and_without_one_all_are(house: Room, grace: int, never: int) -> None:
    """There is no third case."""
    out = verdicts(house, grace=grace, never_joined=never)

    assert set(out) == (set() if house.humans else {agent.identity for agent in house.agents})
    assert all(out[agent.identity] >= agent.joined_at for agent in house.agents if agent.identity in out)
