"""max_agents: agents beyond the first `max`."""

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
    """Return what is due under the policy with these options."""
    return due(MaxAgents(**options).evaluate(house))


def joining(identity: str, *, at: float) -> Participant:
    """An agent that is not ACTIVE yet."""
    return participant(identity, joined=at, role=Role.AGENT, active=False)


def test_agents_past_the_limit_are_due_one_grace_after_they_joined() -> None:
    """The oldest stay, whatever their names."""
    house = room(
        *(
            agent(i, name, joined=j, alive=9)
            for i, name, j in [("A", "x", 1), ("B", "y", 2), ("C", "", 3), ("D", "x", 4)]
        )
    )

    assert verdicts(house, max=1) == {"B": 4, "C": 5, "D": 6}
    assert verdicts(house, max=2) == {"C": 5, "D": 6}
    assert verdicts(house, max=2, grace=10) == {"C": 13, "D": 14}


def test_of_those_that_joined_at_once_the_sid_decides() -> None:
    """All bouncers must agree on the same agent."""
    house = room(agent("A", sid="PA_2"), agent("B", sid="PA_1"))

    assert verdicts(house, max=1) == {"A": 2}


@pytest.mark.parametrize(
    "participants",
    [
        pytest.param([], id="empty room"),
        pytest.param([agent("A"), agent("B")], id="as many as may be"),
        pytest.param([agent("A"), agent("B"), human("G"), human("H")], id="people"),
        pytest.param([agent("A"), avatar("V", "A"), agent("B"), avatar("W", "B")], id="avatars"),
        pytest.param([agent("V", principal_left_at=5), agent("A", joined=9), agent("B", joined=9)], id="an orphan"),
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
    """A crashed agent stays listed for about 20 s while its restarted job joins alongside."""

    def test_the_corpse_is_one_too_many_not_the_restarted_job(self) -> None:
        """Of one dispatch the newest job is the rightful one, and it has its place at once."""
        house = room(agent(JOB_1, "x", joined=1, replaced=True), agent(JOB_2, "x", joined=20, dispatch="AD_1"))

        assert verdicts(house, max=1) == {JOB_1: 22}

    def test_a_corpse_counts_last_among_others_too(self) -> None:
        """Agents that joined after the corpse keep their places."""
        house = room(
            agent(JOB_1, "x", joined=1, replaced=True),
            agent("B", "y", joined=10),
            agent(JOB_2, "x", joined=20, dispatch="AD_1"),
        )

        assert verdicts(house, max=2) == {JOB_1: 22}

    @pytest.mark.parametrize("identity", [JOB_2, "B"])
    def test_one_that_may_replace_a_silent_one_has_25_s(self, identity: str) -> None:
        """A killed agent is listed that long; one that shows life is no corpse."""
        newcomer = agent(identity, "x", joined=20, dispatch="AD_2")
        silent, alive = room(agent(JOB_1, joined=1), newcomer), room(agent(JOB_1, joined=1, alive=19.5), newcomer)

        assert verdicts(silent, max=1) == {identity: 45}
        assert verdicts(silent, max=1, grace=30) == {identity: 50}
        assert verdicts(silent, max=1, wait_for_life=10) == {identity: 30}
        assert verdicts(silent, max=1, wait_for_life=0) == verdicts(alive, max=1) == {identity: 22}

    def test_one_that_was_replaced_waits_for_no_one(self) -> None:
        """Its own replacement is there."""
        house = room(agent("A", joined=1), agent(JOB_1, joined=20, replaced=True))

        assert verdicts(house, max=1) == {JOB_1: 22}


def test_among_agents_of_one_name_those_with_a_dispatch_take_precedence() -> None:
    """The dispatched X takes the place of the one that only calls itself so; Y's place is its own."""
    house = room(
        agent("impostor", "x", joined=1, alive=90),
        agent("Y", "y", joined=2, alive=90),
        agent(JOB_1, "x", joined=20, dispatch="AD_1", alive=90),
    )

    assert verdicts(house, max=1) == {"Y": 22, "impostor": 4}
    assert verdicts(house, max=2) == {"impostor": 22}


def test_an_agent_whose_dispatch_may_confirm_its_name_is_waited_for() -> None:
    """A job is listed up to 5 s late; then the one that only calls itself so may have to leave instead."""
    house = room(agent("impostor", "x", joined=1, alive=90), agent(JOB_1, "x", joined=20), agent("B", "y", joined=20))

    assert verdicts(house, max=1) == {JOB_1: 26, "B": 22}
    assert verdicts(house, max=1, grace=9) == {JOB_1: 29, "B": 29}


@given(rooms, st.integers(1, 4), st.integers(0, 20))
def test_as_many_as_may_be_here_always_stay(house: Room, limit: int, grace: int) -> None:
    """Exactly `max` stay, or as many as there were, besides orphaned avatars. None is due before it joined."""
    out = verdicts(house, max=limit, grace=grace)
    agents = [agent for agent in house.agents if not agent.orphaned]

    assert len(agents) - len(out) == min(limit, len(agents))
    assert all(out[agent.identity] >= agent.joined_at + grace for agent in agents if agent.identity in out)
