"""lone_chatter: agents that keep talking among themselves."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bouncer import LATE, Kind, Participant, Role, Room
from bouncer.testing import agent, avatar, due, human, participant, room
from policies.lone_chatter import LoneChatter
from tests.strategies import rooms


def verdicts(house: Room, **options: Any) -> dict[str, float]:
    """Return what is due under the policy with these options."""
    return due(LoneChatter(**options).evaluate(house))


@pytest.mark.parametrize(
    ("speech", "out"),
    [
        pytest.param({"speaking_since": 90}, 162, id="spoke on through the end"),
        pytest.param({"speaking_since": 160}, 162, id="begins at the end"),
        pytest.param({"speaking_since": 200}, 202, id="begins after it"),
        pytest.param({"spoke_at": 160}, 162, id="ended at the end"),
        pytest.param({"spoke_at": 170}, 172, id="ended after it"),
        pytest.param({"spoke_since": 90, "spoke_at": 161}, 162, id="ended just now, after it"),
        pytest.param({"spoke_since": 161, "spoke_at": 161.5}, 163, id="began after it, and ended just now"),
        pytest.param({"spoke_at": 150, "speaking_since": 200}, 202, id="ended before it and begins after it"),
    ],
)
def test_due_at_the_first_agent_speech_once_the_timeout_is_over(speech: dict[str, Any], out: float) -> None:
    """The time counts from when the second agent spoke. Then the next speech of any of them makes all due."""
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

    assert verdicts(house) == {"A": 172, "B": 172, "C": 172}


def test_keep_oldest_lets_one_stay() -> None:
    """The oldest of those that talked."""
    house = room(
        agent("A", joined=1),
        agent("B", joined=2, chatting_since=100),
        agent("C", joined=3, chatting_since=80, speaking_since=170),
    )

    assert verdicts(house, keep="oldest") == {"C": 172}
    assert verdicts(house, keep="none") == verdicts(house) == {"B": 172, "C": 172}


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
        pytest.param([CHATTING, agent("B"), human("H", speaking_since=399)], id="a human who speaks"),
        pytest.param(
            [agent("A", chatting_since=80, spoke_at=159), agent("B", chatting_since=100, spoke_at=150)],
            id="silence since before the timeout was over",
        ),
    ],
)
def test_nothing_happens(participants: list[Participant]) -> None:
    """It takes two agents that keep talking, and no human who speaks."""
    assert verdicts(room(*participants)) == {}


def test_a_human_who_only_listens_is_no_company() -> None:
    """Nor is one who spoke before the agents did."""
    house = room(CHATTING, agent("B", chatting_since=100), human("H", spoke_at=70))

    assert verdicts(house) == {"A": 402, "B": 402}


def test_a_silent_agent_stays() -> None:
    """A third agent that says nothing takes no part."""
    house = room(CHATTING, agent("B", chatting_since=100), agent("C", spoke_at=30))

    assert set(verdicts(house)) == {"A", "B"}


@pytest.mark.parametrize(
    ("until", "out"),
    [
        pytest.param(161, {"A": 162, "B": 162}, id="a human spoke when they were due already"),
        pytest.param(160, {"A": 162, "B": 162}, id="in the same moment"),
        pytest.param(159, {}, id="in time"),
    ],
)
def test_what_is_told_late_of_a_human_takes_nothing_back(until: float, out: dict[str, float]) -> None:
    """The verdict rests on what was heard up to 2 s before it came due."""
    house = room(
        agent("A", joined=1, chatted=(80, until), speaking_since=90),
        agent("B", joined=2, chatted=(100, until)),
        human("H", speaking_since=until),
    )

    assert verdicts(house) == out


def test_a_human_that_cannot_be_heard() -> None:
    """It may have spoken, so the verdict is in doubt; unless its phone still rings."""
    chat = (CHATTING, agent("B", chatting_since=100))
    rings = human("H", kind=Kind.SIP, audible=False, attributes={"sip.callStatus": "ringing"})

    assert all(v.doubt for v in LoneChatter().evaluate(room(*chat, human("H", audible=False))))
    assert not any(v.doubt for v in LoneChatter().evaluate(room(*chat, human("H", audible=True), rings)))


@given(rooms, st.integers(0, 20), st.sampled_from(["none", "oldest"]))
def test_never_before_two_have_talked_for_as_long(house: Room, timeout: int, keep: str) -> None:
    """None is due earlier, all are due together, and with `keep` the oldest of the talkers stays."""
    house = replace(house, participants=tuple(replace(p, chatted=None) for p in house.participants))
    out = verdicts(house, timeout=timeout, keep=keep)
    talked = [agent.identity for agent in house.agents if agent.chatting_since is not None]

    assert len(set(out.values())) <= 1
    if out:
        assert house.chatter_since is not None
        assert min(out.values()) >= house.chatter_since + timeout + LATE
        assert len(talked) > 1
        assert list(out) == (talked if keep == "none" else talked[1:])
