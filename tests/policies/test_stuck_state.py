"""stuck_state: agents that stay in one state for too long."""

from typing import Any

import pytest

from bouncer import Participant, Role, Room
from bouncer.testing import agent, avatar, due, human, participant, room
from policies.stuck_state import StuckState


def verdicts(house: Room, **options: Any) -> dict[str, float]:
    """Return what is due under the policy with these options."""
    return due(StuckState(**options).evaluate(house))


def test_due_one_limit_after_it_got_into_the_state() -> None:
    """Each state has its own limit: by default a minute for `initializing`, three for `thinking`."""
    house = room(agent("A", state="initializing", state_at=100), agent("B", state="thinking", state_at=130), human("H"))

    assert verdicts(house) == {"A": 160, "B": 310}
    assert verdicts(house, limits={"initializing": 5, "thinking": 7}) == {"A": 105, "B": 137}


@pytest.mark.parametrize("state", ["idle", "listening", "speaking"])
def test_limits_that_are_given_replace_the_default_ones(state: str) -> None:
    """Other states can have a limit, and then the default ones have none."""
    house = room(agent("A", state=state, state_at=100), agent("B", state="thinking", state_at=100))

    assert verdicts(house, limits={state: 10}) == {"A": 110}
    assert verdicts(house) == {"B": 280}


@pytest.mark.parametrize("facts", [{"alive": 500}, {"speaking_since": 500}])
def test_only_the_state_counts(facts: dict[str, Any]) -> None:
    """Signs of life don't change the state."""
    assert verdicts(room(agent("A", state="thinking", state_at=100, **facts))) == {"A": 280}


@pytest.mark.parametrize(
    "who",
    [
        pytest.param(agent("A"), id="an agent without a state"),
        pytest.param(agent("A", state="speaking"), id="a state without a limit"),
        pytest.param(agent("A", state="Thinking"), id="a state that LiveKit doesn't know"),
        pytest.param(human("H", state="thinking"), id="a person"),
        pytest.param(avatar("V", "A", state="thinking"), id="an avatar"),
        pytest.param(participant("B", role=Role.BOUNCER, state="thinking"), id="a bouncer"),
        pytest.param(participant("J", role=Role.AGENT, state="thinking", active=False), id="one that is still joining"),
    ],
)
def test_nothing_happens(who: Participant) -> None:
    """An agent can't be stuck in a state without a limit, and only agents are judged."""
    assert verdicts(room(who)) == {}


def test_without_limits_none_is_due() -> None:
    """An empty object replaces the defaults too."""
    assert verdicts(room(agent("A", state="thinking")), limits={}) == {}


@pytest.mark.parametrize(
    ("facts", "doubt"),
    [({}, False), ({"active": 90}, False), ({"active": 500}, True), ({"acted_in_state": True}, True)],
)
def test_work_in_that_state(facts: dict[str, Any], doubt: bool) -> None:  # noqa: FBT001 - a column
    """An agent that was active since can't be stuck, whatever it says; so that is in doubt."""
    (verdict,) = StuckState().evaluate(room(agent("A", state="thinking", state_at=100, **facts)))

    assert bool(verdict.doubt) is doubt
