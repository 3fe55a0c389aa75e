"""superseded: agents whose successor has joined."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bouncer import Participant, Role, Room, matches
from bouncer.testing import agent, avatar, due, human, participant, room
from policies.superseded import Superseded
from tests.strategies import rooms
from tests.told import calls

TRIAGE = {"triage": ["billing"]}


def verdicts(house: Room, by: Any = TRIAGE, **options: Any) -> dict[str, float]:
    """Return what is due with these successors."""
    return due(Superseded(by=by, **options).evaluate(house))


def test_due_one_grace_after_the_successor_joined() -> None:
    """Every agent with the name is due; the successor stays."""
    house = room(
        agent("A", "triage", joined=10),
        agent("B", "triage", joined=20),
        agent("C", "billing", joined=100),
        agent("D", "support", joined=5),
    )

    assert verdicts(house) == {"A": 102, "B": 102}
    assert verdicts(house, grace=10) == {"A": 110, "B": 110}


def test_the_first_of_several_successors_counts() -> None:
    """A later successor gives no more time."""
    house = room(agent("A", "triage", joined=10), agent("B", "billing", joined=200), agent("C", "sales", joined=100))

    assert verdicts(house, {"triage": ["billing", "sales"]}) == {"A": 102}
    assert verdicts(house, {"triage": ["billing"], "tri*": ["sales"]}) == {"A": 102}


def test_a_chain_of_hand_offs() -> None:
    """A successor may itself be superseded."""
    house = room(agent("A", "triage", joined=1), agent("B", "billing", joined=10), agent("C", "closing", joined=20))

    assert verdicts(house, {"triage": ["billing"], "billing": ["closing"]}) == {"A": 12, "B": 22}


def test_globs_on_both_sides() -> None:
    """Globs match whole names and their case. With `*` on both sides, only the newest agent stays."""
    house = room(agent("A", "triage-de", joined=1), agent("B", "Triage", joined=2), agent("C", "billing-de", joined=9))

    assert verdicts(house, {"triage-*": ["billing*"]}) == {"A": 11}
    assert verdicts(house, {"*": ["*"]}) == {"A": 4, "B": 11}


@pytest.mark.parametrize(
    "successor",
    [
        pytest.param(agent("B", "billing", joined=9), id="it was there before"),
        pytest.param(agent("B", "billing", joined=10, sid="PA_0"), id="they joined at once, and its sid comes first"),
        pytest.param(agent("B", "billing2", joined=20), id="another name"),
        pytest.param(agent("B", "Billing", joined=20), id="another case"),
        pytest.param(agent("B", joined=20), id="no name"),
        pytest.param(agent("billing", "other", joined=20), id="only its identity is called so"),
        pytest.param(agent("B", joined=20, attributes={"lk.agent_name": "billing"}), id="it renamed itself"),
        pytest.param(human("billing", joined=20, agent_name="billing"), id="a person"),
        pytest.param(avatar("V", "A", joined=20, agent_name="billing"), id="an avatar"),
        pytest.param(participant("B", joined=20, role=Role.BOUNCER, agent_name="billing"), id="a bouncer"),
        pytest.param(
            participant("B", joined=20, role=Role.AGENT, agent_name="billing", active=False), id="it is still joining"
        ),
    ],
)
def test_nothing_happens(successor: Participant) -> None:
    """A successor is a present, younger agent with that name."""
    assert verdicts(room(agent("A", "triage", joined=10), successor)) == {}


def test_an_agent_without_a_name_is_neither_superseded_nor_a_successor() -> None:
    """Not even a glob that matches everything changes that."""
    house = room(agent("A", joined=1), agent("B", "x", joined=2), agent("C", joined=3))

    assert verdicts(house, {"*": ["*"]}) == {}


PAIRS = st.dictionaries(
    st.sampled_from(["*", "assistant", "support", "s*"]),
    st.lists(st.sampled_from(["*", "assistant", "s*"]), min_size=1, max_size=2),
    min_size=1,
    max_size=2,
)


@given(rooms, PAIRS, st.integers(0, 20))
def test_none_leaves_without_a_younger_successor(house: Room, by: dict[str, list[str]], grace: int) -> None:
    """The successor may leave too, but only for its own: of all concerned, the youngest always stays."""
    out = verdicts(house, by, grace=grace)
    agents = {agent.identity: agent for agent in house.agents}

    for identity, at in out.items():
        who = agents[identity]
        globs = [glob for name, globs in by.items() if matches(who.agent_name, [name]) for glob in globs]
        younger = [a for a in house.agents if a.age > who.age and a.agent_name and matches(a.agent_name, globs)]
        assert at == min(other.joined_at for other in younger) + grace
    assert len(out) < max(1, len(agents))


def test_a_crowd_of_agents_takes_time_in_proportion() -> None:
    """Each agent isn't compared with each other one."""

    def work(size: int) -> int:
        house = room(*(agent(f"A{i}", f"{'triage' if i % 2 else 'billing'} {i}", joined=i) for i in range(size)))
        policy = Superseded(by={"triage*": ("billing*",)})
        return calls(lambda: list(policy.evaluate(house)))

    assert work(400) < 3 * work(200)
