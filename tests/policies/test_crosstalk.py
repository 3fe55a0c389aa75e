"""crosstalk: who speaks over an older one, and for how long."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bouncer import Participant, Role, Room
from bouncer.testing import agent, avatar, due, human, participant, room
from policies.crosstalk import Crosstalk
from tests.strategies import rooms


def verdicts(house: Room, **options: Any) -> dict[str, float]:
    """Who is due under the policy with these options."""
    return due(Crosstalk(**options).evaluate(house))


@pytest.mark.parametrize(
    ("older", "younger", "out"),
    [
        pytest.param(100, 110, 113, id="the younger one falls in"),
        pytest.param(110, 100, 113, id="the older one falls in"),
        pytest.param(100, 100, 103, id="both begin at once"),
    ],
)
def test_the_younger_is_due_one_overlap_after_both_speak(older: float, younger: float, out: float) -> None:
    """Whoever began, it is the oldest in the room that stays."""
    house = room(agent("A", joined=1, speaking_since=older), agent("B", joined=2, speaking_since=younger))

    assert verdicts(house) == {"B": out}
    assert verdicts(house, overlap=10) == {"B": out + 7}


def test_all_but_the_oldest_of_those_that_speak() -> None:
    """An agent that is older still and silent changes nothing; each counts against the oldest speaker, not the next."""
    house = room(
        agent("A", joined=1),
        agent("B", joined=2, speaking_since=50),
        agent("C", joined=3, speaking_since=60),
        agent("D", joined=4, speaking_since=40),
    )

    assert verdicts(house) == {"C": 63, "D": 53}


@pytest.mark.parametrize(
    "participants",
    [
        pytest.param([], id="empty room"),
        pytest.param([agent("A", speaking_since=1)], id="one that speaks"),
        pytest.param([agent("A", speaking_since=9), agent("B", spoke_at=9)], id="agents that take turns"),
        pytest.param([agent("A", "x"), agent("B", "x")], id="silent agents of one name"),
        pytest.param([agent("A", speaking_since=1), human("H", speaking_since=1)], id="an agent and a person"),
        pytest.param([human("G", speaking_since=1), human("H", speaking_since=1)], id="people"),
        pytest.param([agent("A", speaking_since=1), avatar("V", "A", speaking_since=1)], id="an agent and its avatar"),
        pytest.param(
            [agent("A", speaking_since=1), participant("E", role=Role.OTHER, speaking_since=1)], id="an ingress"
        ),
        pytest.param(
            [agent("A", speaking_since=1), participant("J", role=Role.AGENT, active=False, speaking_since=1)],
            id="one that is still joining",
        ),
    ],
)
def test_nothing_happens(participants: list[Participant]) -> None:
    """It takes two agents that speak at the same time."""
    assert verdicts(room(*participants)) == {}


@given(rooms, st.integers(0, 20))
def test_the_oldest_speaker_is_always_spared(house: Room, overlap: int) -> None:
    """And everybody else who speaks is due, one overlap after the later of the two began."""
    speaking = {agent.identity: agent.speaking_since for agent in house.agents if agent.speaking_since is not None}
    oldest = next(iter(speaking.values()), 0)

    assert verdicts(house, overlap=overlap) == {
        identity: max(since, oldest) + overlap for identity, since in list(speaking.items())[1:]
    }
