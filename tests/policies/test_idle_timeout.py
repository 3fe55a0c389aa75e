"""idle_timeout: agents that have done nothing for a while."""

import pytest

from bouncer import Participant
from bouncer.testing import agent, avatar, due, human, room
from policies.idle_timeout import IdleTimeout


def test_due_one_timeout_after_the_last_activity() -> None:
    """Each agent has its own deadline, counted from when it last did something."""
    house = room(agent("A", active=100), agent("B", active=130), human("H"))

    assert due(IdleTimeout(timeout=60).evaluate(house)) == {"A": 160, "B": 190}


@pytest.mark.parametrize("state", ["", "initializing", "idle", "listening"])
def test_being_ready_is_not_being_active(state: str) -> None:
    """`listening` alone is not activity."""
    assert due(IdleTimeout(timeout=60).evaluate(room(agent("A", state=state, state_at=50)))) == {"A": 60}


@pytest.mark.parametrize(
    "who",
    [
        pytest.param(agent("A", state="thinking"), id="a long tool call"),
        pytest.param(agent("A", state="speaking"), id="a long speech"),
        pytest.param(human("H"), id="a person"),
        pytest.param(avatar("V", "A"), id="an avatar"),
    ],
)
def test_nothing_happens(who: Participant) -> None:
    """An agent at work is not idle, and only agents are judged."""
    assert due(IdleTimeout(timeout=1).evaluate(room(who))) == {}


def test_silence_that_proves_nothing_is_in_doubt() -> None:
    """An agent that may be speaking without our knowing gets a verdict that can't be carried out."""
    (verdict,) = IdleTimeout(timeout=60).evaluate(room(agent("A", unseen="unclear")))

    assert (verdict.due, verdict.doubt != "") == (60, True)


def test_a_team_that_knows_its_agents() -> None:
    """It has them evicted all the same."""
    (verdict,) = IdleTimeout(timeout=60, unseen="evict").evaluate(room(agent("A", unseen="unclear")))

    assert (verdict.due, verdict.doubt) == (60, "")


@pytest.mark.parametrize(("audible", "out"), [(None, 60), (False, 60), (True, 62)])
def test_hearing_is_late(audible: bool | None, out: float) -> None:  # noqa: FBT001 - a column
    """Of an agent that is heard, speech of the last 2 s may not have been told yet."""
    assert due(IdleTimeout(timeout=60).evaluate(room(agent("A", audible=audible)))) == {"A": out}
