"""What is true of every policy in the registry."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bouncer import Participant, Policy, Role, Room
from bouncer.decide import Guards, decide
from bouncer.policy import Rule
from bouncer.testing import agent, avatar, due, human, room
from policies import BUILTIN
from policies.allow_list import AllowList
from policies.deny_list import DenyList
from policies.idle_timeout import IdleTimeout
from policies.max_lifetime import MaxLifetime
from policies.no_return import NoReturn
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
    """Return its known instants, which all names of fields reveal."""
    known = {field.name: getattr(record, field.name) for field in fields(record)}
    return {name: at for name, at in known.items() if name.endswith(("_at", "_since")) and isinstance(at, float)}


def later(house: Room, by: float) -> Room:
    """Return the same room, with everything in it so many seconds later."""
    return replace(
        house,
        **{name: at + by for name, at in dates(house).items()},  # type: ignore[arg-type]  # by their names
        evicted_at={identity: at + by for identity, at in house.evicted_at.items()},
        participants=tuple(
            replace(
                who,
                joined_ms=who.joined_ms + round(by * 1000),
                chatted=who.chatted and (who.chatted[0] + by, who.chatted[1] + by),
                **{name: at + by for name, at in dates(who).items()},  # type: ignore[arg-type]  # as above
            )
            for who in house.participants
        ),
    )


@given(rooms, policies(), st.integers(1, 10**6))
def test_it_knows_no_time_but_differences(house: Room, policy: Policy, by: int) -> None:
    """If everything happened later, every agent would be due later by as much, for the same reasons."""
    verdicts = [(v.participant.sid, v.due + by, v.reason, v.doubt) for v in policy.evaluate(house)]

    assert [(v.participant.sid, v.due, v.reason, v.doubt) for v in policy.evaluate(later(house, by))] == verdicts


@given(rooms, policies())
def test_it_judges_only_agents_that_are_there(house: Room, policy: Policy) -> None:
    """No person, no bouncer, none that is still joining, and avatars only where it says so. It gives a reason."""
    judged = house.agents_and_avatars if getattr(policy, "judges_avatars", False) else house.agents
    for verdict in policy.evaluate(house):
        assert verdict.participant in judged
        assert verdict.participant.role is Role.AGENT or judged is not house.agents
        assert verdict.reason


@given(rooms, policies())
def test_it_says_the_same_each_time(house: Room, policy: Policy) -> None:
    """It remembers nothing."""
    assert list(policy.evaluate(house)) == list(policy.evaluate(house))


@pytest.mark.parametrize("policy", EVERY)
def test_a_reason_names_no_one(policy: Policy) -> None:
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
    """With a hundred agents and a hundred people, it yields no more verdicts than needed."""
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


@pytest.mark.parametrize(
    ("policy", "avatar_due"),
    [
        (AllowList(agent_names=("a*",)), {}),
        (AllowList(agent_names=("b*",)), {"A": 0, "V": 1}),
        (DenyList(agent_names=("b*",)), {}),
        (DenyList(identities=("V",)), {"V": 1}),
        (MaxLifetime(limit=60), {"A": 60, "V": 61}),
        (NoReturn(window=60), {"V": 1}),
        (IdleTimeout(timeout=60), {"A": 60}),
    ],
)
def test_avatars(policy: Policy, avatar_due: dict[str, float]) -> None:
    """Four policies judge avatars like any agent, by their own facts; an allowed agent's avatar is allowed."""
    house = room(agent("A", "a"), avatar("V", "A", joined=1), human("H"), evicted_at={"V": 0})

    assert due(policy.evaluate(house)) == avatar_due


def test_an_avatar_of_a_participant_that_is_no_agent() -> None:
    """Whether a list of allowed agents allows it is uncertain, so it is not evicted."""
    (verdict,) = AllowList(agent_names=("a*",)).evaluate(room(human("H"), avatar("V", "H")))

    assert verdict.doubt
