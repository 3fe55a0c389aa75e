"""unresponsive: agents that don't react while people speak."""

import pytest

from bouncer import Participant, Role
from bouncer.testing import agent, avatar, due, human, participant, room
from policies.unresponsive import Unresponsive


def test_due_one_timeout_after_the_first_speech_that_went_unanswered() -> None:
    """Each agent has its own deadline; the default is 20 seconds."""
    house = room(agent("A", unanswered_since=100), agent("B", unanswered_since=130), human("H", spoke_at=140))

    assert due(Unresponsive().evaluate(house)) == {"A": 122, "B": 152}
    assert due(Unresponsive(timeout=60).evaluate(house)) == {"A": 162, "B": 192}


@pytest.mark.parametrize("state", ["", "initializing", "idle", "listening"])
def test_looking_healthy_is_no_reaction(state: str) -> None:
    """The worst ghosts look healthy: they publish a track and are present."""
    ghost = agent("A", state=state, unanswered_since=100, active=110, alive=150)

    assert due(Unresponsive().evaluate(room(ghost))) == {"A": 122}


@pytest.mark.parametrize(
    "who",
    [
        pytest.param(agent("A"), id="no one asked it anything"),
        pytest.param(agent("A", spoke_at=100), id="it answered"),
        pytest.param(agent("A", unanswered_since=100, state="thinking"), id="it thinks"),
        pytest.param(agent("A", unanswered_since=100, state="speaking"), id="it says that it speaks"),
        pytest.param(agent("A", unanswered_since=100, speaking_since=90), id="it is heard speaking"),
        pytest.param(human("H", unanswered_since=100), id="a person"),
        pytest.param(avatar("V", "A", unanswered_since=100), id="an avatar"),
        pytest.param(participant("B", role=Role.BOUNCER, unanswered_since=100), id="a bouncer"),
        pytest.param(
            participant("J", role=Role.AGENT, unanswered_since=100, active=False), id="one that is still joining"
        ),
    ],
)
def test_nothing_happens(who: Participant) -> None:
    """An agent at work is about to react, and only agents must."""
    assert due(Unresponsive(timeout=0).evaluate(room(who))) == {}


def test_reactions_that_would_not_be_seen() -> None:
    """Then it may have reacted, and the verdict is in doubt."""
    (verdict,) = Unresponsive().evaluate(room(agent("A", unanswered_since=100, unseen="unclear")))

    assert verdict.doubt
