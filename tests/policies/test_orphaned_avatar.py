"""orphaned_avatar: avatars whose principal is gone."""

from typing import Any

import pytest

from bouncer import Participant, Role, Room
from bouncer.testing import agent, avatar, due, human, participant, room
from policies.orphaned_avatar import OrphanedAvatar


def verdicts(house: Room, **options: Any) -> dict[str, float]:
    """Return what is due under the policy with these options."""
    return due(OrphanedAvatar(**options).evaluate(house))


def orphan(identity: str, *, joined: float = 0, left: float = 100, **facts: Any) -> Participant:
    """Return an avatar whose principal has left, which makes it an ordinary agent."""
    return agent(identity, joined=joined, on_behalf_of="A", principal_left_at=left, **facts)


def test_due_one_grace_after_the_principal_left() -> None:
    """An avatar that joined later has its own grace. Another agent's presence changes nothing."""
    house = room(orphan("V", left=100), orphan("W", joined=120, left=100), agent("B"), human("H"))

    assert verdicts(house) == {"V": 105, "W": 125}
    assert verdicts(house, grace=30) == {"V": 130, "W": 150}


@pytest.mark.parametrize("facts", [{"state": "speaking"}, {"speaking_since": 90}, {"active": 104}, {"alive": 104}])
def test_whatever_it_does(facts: dict[str, Any]) -> None:
    """Activity doesn't give it a principal."""
    assert verdicts(room(orphan("V", **facts))) == {"V": 105}


@pytest.mark.parametrize(
    "participants",
    [
        pytest.param([], id="empty room"),
        pytest.param([agent("A"), avatar("V", "A")], id="an avatar and its principal"),
        pytest.param([agent("A")], id="an agent"),
        pytest.param(
            [agent("A"), agent("V", attributes={"lk.publish_on_behalf": "A"})], id="a claim that wasn't believed"
        ),
        pytest.param([human("H")], id="a person"),
        pytest.param([human("H", principal_left_at=100)], id="a person, whatever is noted about them"),
        pytest.param(
            [participant("J", role=Role.AGENT, on_behalf_of="A", principal_left_at=100, active=False)],
            id="an orphan that is still joining",
        ),
    ],
)
def test_nothing_happens(participants: list[Participant]) -> None:
    """A participant that has a principal, or never had one, is no orphan."""
    assert verdicts(room(*participants), grace=0) == {}
