"""What holds for each policy in the registry, whatever it is about."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bouncer import Participant, Policy, Role, Room
from bouncer.decide import Guards, decide
from bouncer.policy import Rule
from bouncer.testing import agent, human, room
from policies import BUILTIN
from tests.strategies import policies, rooms

REQUIRED: Mapping[str, Mapping[str, Any]] = {
    "allow_list": {"agent_names": ("billing",)},
    "deny_list": {"agent_names": ("*",)},
    "human_takeover": {"identity": ("op-*",)},
    "max_agents": {"max": 1},
    "max_lifetime": {"limit": 60},
    "superseded": {"by": {"triage": ("billing",)}},
}
"""Options for the policies that can't do without."""

EVERY = [pytest.param(policy(**REQUIRED.get(policy.name, {})), id=policy.name) for policy in BUILTIN]


def dates(record: Participant | Room) -> dict[str, float]:
    """The instants that are known of it, by the names that all instants have."""
    known = {field.name: getattr(record, field.name) for field in fields(record)}
    return {name: at for name, at in known.items() if name.endswith(("_at", "_since")) and isinstance(at, float)}


def later(house: Room, by: float) -> Room:
    """The same room, with all that happened in it so many seconds later."""
    return replace(
        house,
        **{name: at + by for name, at in dates(house).items()},  # type: ignore[arg-type]  # by their names
        evicted_at={identity: at + by for identity, at in house.evicted_at.items()},
        participants=tuple(
            replace(
                who,
                joined_ms=who.joined_ms + round(by * 1000),
                **{name: at + by for name, at in dates(who).items()},  # type: ignore[arg-type]  # as above
            )
            for who in house.participants
        ),
    )


@given(rooms, policies(), st.integers(1, 10**6))
def test_it_knows_no_time_but_differences(house: Room, policy: Policy, by: int) -> None:
    """Had everything happened later, everybody would be due later by as much, for the same reasons."""
    verdicts = [(v.participant.sid, v.due + by, v.reason, v.doubt) for v in policy.evaluate(house)]

    assert [(v.participant.sid, v.due, v.reason, v.doubt) for v in policy.evaluate(later(house, by))] == verdicts


@given(rooms, policies())
def test_it_judges_agents_that_are_there_and_nobody_else(house: Room, policy: Policy) -> None:
    """Not a person, not an avatar, not a bouncer, nobody who is still joining; and it says why."""
    for verdict in policy.evaluate(house):
        assert verdict.participant in house.agents
        assert verdict.participant.role is Role.AGENT
        assert verdict.reason


@given(rooms, policies())
def test_it_says_the_same_each_time(house: Room, policy: Policy) -> None:
    """It remembers nothing."""
    assert list(policy.evaluate(house)) == list(policy.evaluate(house))


@pytest.mark.parametrize("policy", EVERY)
def test_a_reason_names_nobody(policy: Policy) -> None:
    """Reasons go to the log as they are, and identities are personal data."""
    facts: dict[str, Any] = {
        "speaking_since": 50.0, "chatting_since": 10.0, "state": "initializing", "principal_left_at": 5.0
    }  # fmt: skip
    crowd = [agent(f"agent-{name}", name, joined=i, **facts) for i, name in enumerate(("triage", "triage", "billing"))]
    ghost = agent("agent-ghost", "billing", joined=9, unanswered_since=9)
    for people in ((), (human("op-ana"),)):
        house = room(*crowd, ghost, *people, evicted_at={"agent-ghost": 5})
        for verdict in policy.evaluate(house):
            assert not [who.identity for who in house.participants if who.identity in verdict.reason + verdict.doubt]


@pytest.mark.parametrize("policy", EVERY)
def test_a_big_room_is_no_fault(policy: Policy) -> None:
    """Where a hundred agents and a hundred people meet, it says no more of each than is needed."""
    agents = [
        agent(
            f"{name}-{i:02}", name, joined=joined + i, speaking_since=150, chatting_since=150, principal_left_at=150,
            state="initializing", unanswered_since=150,
        )
        for name, joined in (("triage", 0), ("billing", 50))
        for i in range(50)
    ]  # fmt: skip
    people = [human(f"op-{i:02}", joined=100 + i) for i in range(100)]

    for house in (room(*agents), room(*agents, *people)):
        decision = decide(house, [Rule(policy=policy)], Guards(max_per_minute=1000), 10**6)
        assert decision.faults == ()
