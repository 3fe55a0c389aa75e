"""no_return: agents that were evicted and are back."""

from typing import Any

import pytest

from bouncer import Participant, Role, Room
from bouncer.testing import agent, due, human, participant, room
from policies.no_return import NoReturn


def verdicts(house: Room, **options: Any) -> dict[str, float]:
    """Return what is due under the policy with these options."""
    return due(NoReturn(**options).evaluate(house))


@pytest.mark.parametrize(
    ("back_at", "is_due"),
    [
        pytest.param(99, False, id="joined before its removal was sent"),
        pytest.param(100, True, id="at once"),
        pytest.param(159, True, id="within the window"),
        pytest.param(160, False, id="when the window is over"),
        pytest.param(1000, False, id="much later"),
    ],
)
def test_due_the_moment_it_is_back_within_the_window(back_at: float, is_due: bool) -> None:  # noqa: FBT001 - a column
    """Its removal was sent at 100, and 60 seconds is the default."""
    house = room(agent("A", joined=back_at), evicted_at={"A": 100})

    assert verdicts(house) == verdicts(house, window=60) == ({"A": back_at} if is_due else {})


def test_the_window_is_an_option() -> None:
    """A window of 0 lets every agent return."""
    house = room(agent("A", joined=105), agent("B", joined=115), evicted_at={"A": 100, "B": 100})

    assert verdicts(house, window=10) == {"A": 105}
    assert verdicts(house, window=16) == {"A": 105, "B": 115}
    assert verdicts(house, window=0) == {}


def test_it_never_becomes_due_by_staying() -> None:
    """An agent that came back after the window is never due, however long it stays."""
    assert verdicts(room(agent("A", joined=161), evicted_at={"A": 100})) == {}


@pytest.mark.parametrize(
    "who",
    [
        pytest.param(agent("B", "assistant", joined=101), id="another identity of the same agent"),
        pytest.param(human("A", joined=101), id="a person with the identity"),
        pytest.param(participant("A", joined=101, role=Role.AGENT, active=False), id="one that is still joining"),
    ],
)
def test_nothing_happens(who: Participant) -> None:
    """The identity counts, and only agents are judged."""
    assert verdicts(room(who, evicted_at={"A": 100})) == {}


def test_no_agent_was_evicted() -> None:
    """Then none returns."""
    assert verdicts(room(agent("A"))) == {}
