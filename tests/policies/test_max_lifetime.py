"""max_lifetime: agents that have been here long enough."""

import pytest

from bouncer import Participant, Role
from bouncer.testing import agent, due, human, participant, room
from policies.max_lifetime import MaxLifetime


def test_due_one_limit_after_joining() -> None:
    """The server's date counts, even if the bouncer came later."""
    house = room(agent("A", joined=10), agent("B", joined=25), human("H"), watching_since=50)

    assert due(MaxLifetime(limit=60).evaluate(house)) == {"A": 70, "B": 85}


@pytest.mark.parametrize(
    "who",
    [
        pytest.param(agent("A", active=100), id="activity"),
        pytest.param(agent("A", alive=100), id="a sign of life"),
        pytest.param(agent("A", speaking_since=50), id="speech"),
        pytest.param(agent("A", state="thinking", state_at=50), id="a tool call"),
    ],
)
def test_nothing_prolongs_it(who: Participant) -> None:
    """Whatever the agent does, it stays no longer."""
    assert due(MaxLifetime(limit=60).evaluate(room(who))) == {"A": 60}


@pytest.mark.parametrize(
    "who",
    [
        pytest.param(human("H"), id="a person"),
        pytest.param(participant("B", role=Role.BOUNCER), id="a bouncer"),
        pytest.param(participant("E", role=Role.OTHER), id="a recording"),
        pytest.param(participant("J", role=Role.AGENT, active=False), id="one that is still joining"),
    ],
)
def test_nothing_happens(who: Participant) -> None:
    """Only agents are judged."""
    assert due(MaxLifetime(limit=1).evaluate(room(who))) == {}
