"""crosstalk: agents that speak over an older one."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bouncer import LATE, Participant, Role, Room
from bouncer.testing import agent, avatar, due, human, participant, room
from policies.crosstalk import Crosstalk
from tests.strategies import rooms


def verdicts(house: Room, **options: Any) -> dict[str, float]:
    """Return what is due under the policy with these options."""
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
    """The oldest in the room stays, no matter which began."""
    house = room(agent("A", joined=1, speaking_since=older), agent("B", joined=2, speaking_since=younger))

    assert verdicts(house) == {"B": out}
    assert verdicts(house, overlap=10) == {"B": out + 7}


def test_all_but_the_oldest_of_those_that_speak() -> None:
    """An older but silent agent changes nothing. Each speaker counts against the oldest one, not the next."""
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


@pytest.mark.parametrize(
    ("older", "younger", "out"),
    [
        pytest.param((100, 104), (101, 105), {"B": 106}, id="both ended, which was told late"),
        pytest.param((100, 104), (101, None), {"B": 106}, id="the older one ended"),
        pytest.param((100, None), (101, 105), {"B": 106}, id="the younger one ended"),
        pytest.param((100, 103), (101, 105), {}, id="they met too briefly"),
        pytest.param((100, 110), (101, 110), {}, id="it was known in time that they had ended"),
    ],
)
def test_an_end_that_is_told_late(
    older: tuple[float, float | None], younger: tuple[float, float | None], out: dict[str, float]
) -> None:
    """What is heard is due 2 s later than what is claimed, and rests on what was heard before."""

    def speech(began: float, ended: float | None) -> dict[str, Any]:
        return {"speaking_since": began} if ended is None else {"spoke_since": began, "spoke_at": ended}

    house = room(
        agent("A", joined=1, audible=True, **speech(*older)), agent("B", joined=2, audible=True, **speech(*younger))
    )

    assert verdicts(house) == out


@pytest.mark.parametrize(
    ("facts", "certain"),
    [
        pytest.param({}, False, id="it has shown no life since the younger one joined"),
        pytest.param({"alive": 20}, True, id="it has"),
        pytest.param({"alive": 19.5}, True, id="it had just shown life"),
        pytest.param({"audible": True}, True, id="it is heard"),
    ],
)
def test_a_corpse_may_claim_to_speak(facts: dict[str, Any], *, certain: bool) -> None:
    """With hearing off, a killed agent says that it speaks for as long as it is listed."""
    house = room(agent("A", joined=1, speaking_since=9, **facts), agent("B", joined=20, speaking_since=21))

    assert [verdict.doubt == "" for verdict in Crosstalk().evaluate(house)] == [certain]


def test_an_agent_that_certainly_speaks_counts_all_the_same() -> None:
    """A may be a corpse; B lives, and C speaks over both."""
    house = room(
        agent("A", joined=1, speaking_since=9),
        agent("B", joined=2, speaking_since=9, alive=30),
        agent("C", joined=20, spoke_since=21, spoke_at=24),
    )

    assert {(v.participant.identity, v.doubt == "") for v in Crosstalk().evaluate(house)} >= {
        ("C", False),
        ("C", True),
    }


@given(rooms, st.integers(0, 20))
def test_the_oldest_speaker_is_always_spared(house: Room, overlap: int) -> None:
    """Every other speaker is due one overlap after the later of the two began, and 2 s if they are heard."""
    house = replace(house, participants=tuple(replace(p, spoke_since=None) for p in house.participants))
    speaking = [agent for agent in house.agents if agent.speaking_since is not None]

    assert verdicts(house, overlap=overlap) == {
        agent.identity: max(agent.speaking_since or 0, speaking[0].speaking_since or 0)
        + overlap
        + (LATE if agent.audible or speaking[0].audible else 0)
        for agent in speaking[1:]
    }
