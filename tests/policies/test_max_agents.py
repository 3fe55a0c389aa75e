"""max_agents: who is past the n-th."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bouncer import Participant, Role, Room
from bouncer.testing import agent, avatar, due, human, participant, room
from policies.max_agents import MaxAgents
from tests.strategies import rooms

JOB_1, JOB_2 = "agent-AJ_1", "agent-AJ_2"


def verdicts(house: Room, **options: Any) -> dict[str, float]:
    """Who is due under the policy with these options."""
    return due(MaxAgents(**options).evaluate(house))


def joining(identity: str, *, at: float) -> Participant:
    """An agent that is not ACTIVE yet."""
    return participant(identity, joined=at, role=Role.AGENT, active=False)


def test_agents_past_the_limit_are_due_one_grace_after_they_joined() -> None:
    """The oldest stay, whatever they are called."""
    house = room(
        *(agent(i, name, joined=j) for i, name, j in [("A", "x", 1), ("B", "y", 2), ("C", "", 3), ("D", "x", 4)])
    )

    assert verdicts(house, max=1) == {"B": 4, "C": 5, "D": 6}
    assert verdicts(house, max=2) == {"C": 5, "D": 6}
    assert verdicts(house, max=2, grace=10) == {"C": 13, "D": 14}


def test_of_those_that_joined_at_once_the_sid_decides() -> None:
    """All bouncers have to agree on who it is."""
    house = room(agent("A", sid="PA_2"), agent("B", sid="PA_1"))

    assert verdicts(house, max=1) == {"A": 2}


@pytest.mark.parametrize(
    "participants",
    [
        pytest.param([], id="empty room"),
        pytest.param([agent("A"), agent("B")], id="as many as may be"),
        pytest.param([agent("A"), agent("B"), human("G"), human("H")], id="people"),
        pytest.param([agent("A"), avatar("V", "A"), agent("B"), avatar("W", "B")], id="avatars"),
        pytest.param([agent("A"), agent("B"), participant("E", role=Role.OTHER)], id="a recording"),
        pytest.param([participant("C", role=Role.BOUNCER), agent("A"), agent("B")], id="a bouncer"),
        pytest.param([agent("A"), agent("B"), joining("J", at=9)], id="one that is still joining"),
        pytest.param(
            [joining("J", at=0), agent("A", joined=9), agent("B", joined=9)], id="one that has been joining for long"
        ),
    ],
)
def test_nothing_happens(participants: list[Participant]) -> None:
    """Only agents that are there are counted."""
    assert verdicts(room(*participants), max=2) == {}


class TestReplacements:
    """A crashed agent stays listed for about 20 s, and its restarted job joins beside it."""

    def test_the_corpse_is_one_too_many_not_the_restarted_job(self) -> None:
        """Of one dispatch the newest job is the rightful one, and it has its place at once."""
        house = room(agent(JOB_1, "x", joined=1, replaced=True), agent(JOB_2, "x", joined=20, dispatch="AD_1"))

        assert verdicts(house, max=1) == {JOB_1: 22}

    def test_a_corpse_counts_last_among_others_too(self) -> None:
        """Who came after it keeps its place."""
        house = room(
            agent(JOB_1, "x", joined=1, replaced=True),
            agent("B", "y", joined=10),
            agent(JOB_2, "x", joined=20, dispatch="AD_1"),
        )

        assert verdicts(house, max=2) == {JOB_1: 22}

    def test_a_newcomer_whose_dispatch_is_unknown_has_six_seconds(self) -> None:
        """It may be the restarted job of an agent that shows no life; one that does is no corpse."""
        newcomer = agent(JOB_2, "x", joined=20)

        assert verdicts(room(agent(JOB_1, "x", joined=1), newcomer), max=1) == {JOB_2: 26}
        assert verdicts(room(agent(JOB_1, "x", joined=1), newcomer), max=1, grace=10) == {JOB_2: 30}
        assert verdicts(room(agent(JOB_1, "x", joined=1, alive=21), newcomer), max=1) == {JOB_2: 22}


@given(rooms, st.integers(1, 4), st.integers(0, 20))
def test_as_many_as_may_be_here_always_stay(house: Room, limit: int, grace: int) -> None:
    """It never leaves fewer than `max`, or than there were, and never more; nobody is due before it joined."""
    out = verdicts(house, max=limit, grace=grace)

    assert len(house.agents) - len(out) == min(limit, len(house.agents))
    assert all(out[agent.identity] >= agent.joined_at + grace for agent in house.agents if agent.identity in out)
