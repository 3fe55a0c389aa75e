"""lone_chatter: agents that go on talking among themselves."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bouncer import Participant, Role, Room
from bouncer.testing import agent, avatar, due, human, participant, room
from policies.lone_chatter import LoneChatter
from tests.strategies import rooms


def verdicts(house: Room, **options: Any) -> dict[str, float]:
    """Who is due under the policy with these options."""
    return due(LoneChatter(**options).evaluate(house))


@pytest.mark.parametrize(
    ("speech", "out"),
    [
        pytest.param({"speaking_since": 90}, 160, id="spoke on through the end"),
        pytest.param({"speaking_since": 160}, 160, id="begins at the end"),
        pytest.param({"speaking_since": 200}, 200, id="begins after it"),
        pytest.param({"spoke_at": 160}, 160, id="ended at the end"),
        pytest.param({"spoke_at": 170}, 170, id="ended after it"),
        pytest.param({"spoke_at": 150, "speaking_since": 200}, 200, id="ended before it and begins after it"),
    ],
)
def test_due_at_the_first_agent_speech_once_the_timeout_is_over(speech: dict[str, Any], out: float) -> None:
    """It counts from when the second of them spoke, and it takes a word too many: whose, makes no difference."""
    house = room(agent("A", joined=1, chatting_since=80, **speech), agent("B", joined=2, chatting_since=100))

    assert verdicts(house) == {"A": out, "B": out}
    assert verdicts(house, timeout=60) == {"A": out, "B": out}


def test_the_earliest_of_several_speeches_counts() -> None:
    """All are due on one date."""
    house = room(
        agent("A", chatting_since=80, speaking_since=175),
        agent("B", chatting_since=100, spoke_at=170),
        agent("C", chatting_since=140, spoke_at=150),
    )

    assert verdicts(house) == {"A": 170, "B": 170, "C": 170}


def test_keep_oldest_lets_one_stay() -> None:
    """The oldest of those that talked."""
    house = room(
        agent("A", joined=1),
        agent("B", joined=2, chatting_since=100),
        agent("C", joined=3, chatting_since=80, speaking_since=170),
    )

    assert verdicts(house, keep="oldest") == {"C": 170}
    assert verdicts(house, keep="none") == verdicts(house) == {"B": 170, "C": 170}


CHATTING = agent("A", joined=1, chatting_since=80, speaking_since=400)


@pytest.mark.parametrize(
    "participants",
    [
        pytest.param([], id="empty room"),
        pytest.param([CHATTING], id="one that talks to itself"),
        pytest.param([CHATTING, agent("B")], id="one that talks to a silent one"),
        pytest.param([CHATTING, agent("B", spoke_at=300)], id="the other spoke before a human did"),
        pytest.param(
            [CHATTING, participant("J", role=Role.AGENT, chatting_since=100, active=False)],
            id="the other is still joining",
        ),
        pytest.param([CHATTING, avatar("V", "A", chatting_since=100)], id="one with its avatar"),
        pytest.param([CHATTING, participant("B", role=Role.BOUNCER, chatting_since=100)], id="one with a bouncer"),
        pytest.param(
            [CHATTING, agent("B", chatting_since=100), human("H", speaking_since=399)], id="a human who speaks"
        ),
        pytest.param(
            [agent("A", chatting_since=80, spoke_at=159), agent("B", chatting_since=100, spoke_at=150)],
            id="silence since before the timeout was over",
        ),
    ],
)
def test_nothing_happens(participants: list[Participant]) -> None:
    """It takes two agents that go on, and no human who speaks."""
    assert verdicts(room(*participants)) == {}


def test_a_human_who_only_listens_is_no_company() -> None:
    """Nor is one who spoke before all of this."""
    house = room(CHATTING, agent("B", chatting_since=100), human("H", spoke_at=70))

    assert verdicts(house) == {"A": 400, "B": 400}


def test_who_did_not_talk_stays() -> None:
    """A third agent that is silent has no part in it."""
    house = room(CHATTING, agent("B", chatting_since=100), agent("C", spoke_at=30))

    assert set(verdicts(house)) == {"A", "B"}


@given(rooms, st.integers(0, 20), st.sampled_from(["none", "oldest"]))
def test_never_before_two_have_talked_for_as_long(house: Room, timeout: int, keep: str) -> None:
    """Nobody is due before that, all are due at once, and with `keep` the oldest of those that talked stays."""
    out = verdicts(house, timeout=timeout, keep=keep)
    talked = [agent.identity for agent in house.agents if agent.chatting_since is not None]

    assert len(set(out.values())) <= 1
    if out:
        assert house.chatter_since is not None
        assert min(out.values()) >= house.chatter_since + timeout
        assert len(talked) > 1
        assert list(out) == (talked if keep == "none" else talked[1:])
