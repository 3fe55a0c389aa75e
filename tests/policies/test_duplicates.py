"""duplicates: who is one too many, and from when on."""

from typing import Any

import pytest

from bouncer import Participant, Role, Room
from bouncer.testing import agent, due, human, participant, room
from policies.duplicates import Duplicates

JOB_1, JOB_2 = "agent-AJ_1", "agent-AJ_2"


def verdicts(house: Room, **options: Any) -> dict[str, float]:
    """Who is due under the policy with these options."""
    return due(Duplicates(**options).evaluate(house))


def test_the_younger_of_two_is_due_one_grace_after_it_joined() -> None:
    """The oldest stays; the other has `grace` seconds from when both were there."""
    house = room(agent("A", "assistant", joined=10), agent("B", "assistant", joined=30), human("H"))

    assert verdicts(house) == {"B": 32}
    assert verdicts(house, grace=5) == {"B": 35}


def test_keep_newest_counts_from_when_the_newest_joined() -> None:
    """Nobody is one too many before the one that is preferred to it has come."""
    house = room(agent("A", "assistant", joined=10), agent("B", "assistant", joined=30))

    assert verdicts(house, keep="newest") == {"A": 32}


def test_max_lets_that_many_stay() -> None:
    """With `max` 2, two of four stay."""
    house = room(*(agent(i, "assistant", joined=j) for i, j in [("A", 1), ("B", 2), ("C", 3), ("D", 4)]))

    assert verdicts(house, max=2) == {"C": 5, "D": 6}
    assert verdicts(house, max=2, keep="newest") == {"A": 5, "B": 6}


@pytest.mark.parametrize(
    "participants",
    [
        pytest.param([], id="empty room"),
        pytest.param([agent("A", "assistant")], id="one agent"),
        pytest.param([agent("A", "assistant"), agent("B", "support")], id="two names"),
        pytest.param([agent("A", "assistant"), agent("B", "Assistant")], id="names differ in case"),
        pytest.param([agent("A"), agent("B")], id="agents without a name"),
        pytest.param([human("A"), human("B")], id="people"),
        pytest.param([agent("A", "x"), participant("B", agent_name="x")], id="an agent and a person"),
        pytest.param(
            [agent("A", "x"), participant("B", role=Role.BOUNCER, agent_name="x")], id="an agent and a bouncer"
        ),
        pytest.param([agent("A", "x", publisher="ana"), agent("B", "x", publisher="bob")], id="two publishers' agents"),
    ],
)
def test_nothing_happens(participants: list[Participant]) -> None:
    """What isn't a second agent of the same name is nobody's surplus."""
    assert verdicts(room(*participants)) == {}


def test_one_that_is_still_joining_counts_for_nothing() -> None:
    """Only ACTIVE participants are judged, and they are not judged by somebody who may never arrive."""
    joining = participant("B", role=Role.AGENT, agent_name="assistant", active=False)

    assert verdicts(room(agent("A", "assistant", joined=5), joining)) == {}


def test_two_agents_for_one_publisher_are_duplicates() -> None:
    """Per-publisher workers give each human one agent, not two."""
    house = room(agent("A", "x", joined=1, publisher="ana"), agent("B", "x", joined=2, publisher="ana"))

    assert verdicts(house) == {"B": 4}


def test_unnamed_agents_are_one_group_if_asked() -> None:
    """`unnamed` makes agents without a name duplicates of each other, not of named ones."""
    house = room(agent("A", joined=1), agent("B", joined=2), agent("C", "x", joined=3))

    assert verdicts(house, unnamed=True) == {"B": 4}


def test_an_attribute_can_be_the_key() -> None:
    """Agents with the same value of the attribute are duplicates; those without it are not."""
    house = room(
        agent("A", "x", joined=1, attributes={"desk": "1"}),
        agent("B", "y", joined=2, attributes={"desk": "1"}),
        agent("C", "x", joined=3, attributes={"desk": "2"}),
        agent("D", "x", joined=4),
    )

    assert verdicts(house, key="attribute:desk") == {"B": 4}


@pytest.mark.parametrize("key", ["", "name", "attribute", "attribute:"])
def test_a_key_is_the_name_or_an_attribute(key: str) -> None:
    """Anything else is refused with what is allowed."""
    with pytest.raises(ValueError, match='must be "agent_name", or "attribute:NAME"'):
        Duplicates(key=key)


class TestReplacements:
    """A crashed agent stays listed for about 20 s, and its restarted job joins beside it."""

    def test_of_one_dispatch_the_newest_job_stays_whatever_keep_says(self) -> None:
        """The restarted job is the rightful one."""
        house = room(agent(JOB_1, "x", joined=1, replaced=True), agent(JOB_2, "x", joined=20, dispatch="AD_1"))

        assert verdicts(house) == {JOB_1: 22}
        assert verdicts(house, keep="newest") == {JOB_1: 22}

    def test_one_that_was_replaced_stays_so(self) -> None:
        """Its replacement is gone again, and it may be dead: nobody else leaves for its sake."""
        house = room(agent(JOB_1, "x", joined=1, replaced=True), agent("B", "x", joined=10))

        assert verdicts(house) == {JOB_1: 12}
        assert verdicts(room(agent(JOB_1, "x", joined=1, replaced=True))) == {}

    def test_keep_chooses_between_dispatches(self) -> None:
        """Of two dispatches, each with a dead and a restarted job, the oldest dispatch's restarted job stays."""
        house = room(
            agent("A1", "x", joined=1, replaced=True),
            agent("B1", "x", joined=2, replaced=True),
            agent("A2", "x", joined=20, dispatch="AD_A"),
            agent("B2", "x", joined=21, dispatch="AD_B"),
        )

        assert set(verdicts(house)) == {"A1", "B1", "B2"}
        assert set(verdicts(house, keep="newest")) == {"A1", "B1", "A2"}

    def test_a_newcomer_whose_dispatch_is_unknown_has_six_seconds(self) -> None:
        """It may be the restarted job of an agent that shows no life."""
        house = room(agent(JOB_1, "x", joined=1, dispatch="AD_1"), agent(JOB_2, "x", joined=20))

        assert verdicts(house) == {JOB_2: 26}
        assert verdicts(house, grace=10) == {JOB_2: 30}

    def test_an_elder_that_shows_life_is_no_corpse(self) -> None:
        """Then there is nothing to wait for."""
        house = room(agent(JOB_1, "x", joined=1, alive=20.5, dispatch="AD_1"), agent(JOB_2, "x", joined=20))

        assert verdicts(house) == {JOB_2: 22}

    def test_a_newcomer_from_another_dispatch_is_no_replacement(self) -> None:
        """Once its dispatch is listed, `keep` decides at once."""
        house = room(agent(JOB_1, "x", joined=1, dispatch="AD_1"), agent(JOB_2, "x", joined=20, dispatch="AD_2"))

        assert verdicts(house) == {JOB_2: 22}

    def test_one_without_a_job_identity_is_no_replacement(self) -> None:
        """Only jobs are restarted."""
        house = room(agent(JOB_1, "x", joined=1, dispatch="AD_1"), agent("B", "x", joined=20))

        assert verdicts(house) == {"B": 22}
