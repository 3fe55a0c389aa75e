"""The law of dates, for every policy and every rule: what rests on a fact gives it its time from the fact's own date.

An attribute, a name, metadata, a state or a role may have come a moment ago. A verdict that would not be there without
it, or that would be due later, is due no earlier than that plus the shortest time that the rule gives.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bouncer import Kind, Participant, Policy, Role, Room, Seconds, Selector, Verdict
from bouncer.decide import Fault, judge
from bouncer.policy import Rule
from bouncer.testing import agent, human, room
from policies import BUILTIN
from policies.allow_list import AllowList
from policies.human_takeover import HumanTakeover
from tests.strategies import identities, instants, participants, policies, selections


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """A policy of another package: an agent at a desk must leave."""

    name: ClassVar[str] = "desk"

    grace: Seconds = 5
    """Seconds that it may stay."""

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        """Count the grace from the attribute's date."""
        for who in room.agents:
            if who.attributes.get("desk"):
                yield Verdict(who, who.attribute_at("desk") + self.grace, "is at a desk")


@dataclass(frozen=True, slots=True, kw_only=True)
class Careless(Desk):
    """The same, and forgets that the attribute may be new."""

    name: ClassVar[str] = "careless"

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        """Count the grace from joining."""
        for who in room.agents:
            if who.attributes.get("desk"):
                yield Verdict(who, who.joined_at + self.grace, "is at a desk")


Change = Callable[[Participant, Any], Participant]


@dataclass(frozen=True, slots=True)
class Dated:
    """A fact about a participant that may change: since when it is so, how it is put later, and what else it may be."""

    at: Callable[[Participant], float]
    later: Change
    otherwise: Change
    values: tuple[Any, ...]


def _attribute(name: str) -> Dated:
    def later(who: Participant, by: float) -> Participant:
        return replace(who, attributes_at={**who.attributes_at, name: who.attribute_at(name) + by})

    def otherwise(who: Participant, value: str | None) -> Participant:
        others = {key: own for key, own in who.attributes.items() if key != name}
        return replace(who, attributes=others if value is None else {**others, name: value})

    return Dated(lambda who: who.attribute_at(name), later, otherwise, (None, "1", "2", "ringing"))


def _field(name: str, *values: Any) -> Dated:
    at = f"{name}_at"
    return Dated(
        lambda who: max(who.joined_at, getattr(who, at)),
        lambda who, by: replace(who, **{at: getattr(who, at) + by}),
        lambda who, value: replace(who, **{name: value}),
        values,
    )


FACTS: Mapping[str, Dated] = {
    **{name: _attribute(name) for name in ("desk", "role", "sip.callStatus")},
    "display name": _field("name", "", "Eva"),
    "metadata": _field("metadata", "", "{}"),
    "state": _field("state", "", "listening"),
    "a person": _field("role", Role.OTHER),
}


def dues(house: Room, rule: Rule) -> dict[str, float]:
    """Return by sid when a rule wants participants out, under the engine's hands."""
    found = judge(rule, house)
    assert not isinstance(found, Fault), found
    return {finding.participant.sid: finding.verdict.due for finding in found}


def objections(house: Room, rule: Rule, who: Participant, by: float) -> Iterator[str]:
    """Say what of a rule breaks the law, where a fact about one participant is new."""
    now = dues(house, rule)

    def other(changed: Participant) -> dict[str, float]:
        return dues(replace(house, participants=tuple(changed if p is who else p for p in house.participants)), rule)

    for name, fact in FACTS.items():
        if name == "a person" and not who.is_human:
            continue  # what the server says of an agent is no news about others
        for sid, due in other(fact.later(who, by)).items():
            if due < now.get(sid, inf):
                yield f"{sid} is due earlier, at {due}, if {name} is newer"
        for value in fact.values:
            before = other(fact.otherwise(who, value))
            for sid, due in now.items():
                if due < before.get(sid, inf) and due < fact.at(who) + rule.gives:
                    yield f"{sid} is due at {due} by {name}, which is so since {fact.at(who)}"


def _present(who: Participant) -> Participant:
    """Return the same participant, ACTIVE, and an agent to the server too if it is one to us; a phone may ring.

    What it does, it does since it joined.
    """
    kind = Kind.SIP if "sip.callStatus" in who.attributes else Kind.STANDARD
    sinces = {name: getattr(who, name) for name in ("unanswered_since", "speaking_since", "chatting_since")}
    facts: dict[str, Any] = {name: max(who.joined_at, at) for name, at in sinces.items() if at is not None}
    return replace(who, active=True, kind=Kind.AGENT if who.is_agent else kind, contested=False, **facts)


crowd = st.lists(participants().map(_present), min_size=3, max_size=5, unique_by=lambda who: who.identity).map(tuple)
crowds = st.builds(
    Room,
    participants=crowd,
    humans_left_at=st.none() | instants,
    evicted_at=st.dictionaries(identities, instants, max_size=2),
)


@pytest.mark.parametrize("policy", [*BUILTIN, Desk], ids=lambda policy: policy.name)
@pytest.mark.timeout(600)
@settings(max_examples=settings().max_examples // 4)
@given(st.data(), crowds, st.none() | selections, st.integers(1, 20))
def test_no_verdict_is_due_before_the_date_of_what_it_rests_on(
    policy: type[Policy], data: st.DataObject, house: Room, only: Any, by: int
) -> None:
    """In any room, with any options, and narrowed to any agents."""
    rule = Rule(policy=data.draw(policies((policy,))), only=only)

    who = data.draw(st.sampled_from(house.participants))

    assert [*objections(house, rule, who, float(by))] == []


AT_DESK = agent("A", joined=10, attributes={"desk": "1"}, attributes_at={"desk": 50})


@pytest.mark.parametrize(
    ("policy", "only", "due"),
    [
        (Desk(grace=5), None, 55),
        (AllowList(agent_names=("x",), grace=5), None, 15),
        (AllowList(agent_names=("x",), grace=5), Selector(attributes={"desk": "*"}), 55),
        (AllowList(agent_names=("x",), grace=5), (Selector(attributes={"desk": "*"}), Selector(identity=("A",))), 15),
    ],
)
def test_the_dates(policy: Any, only: Any, due: float) -> None:
    """An attribute that brings an agent under a rule gives it as much time as joining does."""
    assert dues(room(AT_DESK), Rule(policy=policy, only=only)) == {"PA_A": due}
    assert [*objections(room(AT_DESK), Rule(policy=policy, only=only), AT_DESK, 1)] == []


def test_the_law_can_be_broken() -> None:
    """A policy that forgets the date is found out."""
    found = [*objections(room(AT_DESK), Rule(policy=Careless(grace=5)), AT_DESK, 1)]

    assert found == ["PA_A is due at 15 by desk, which is so since 50"]


@pytest.mark.parametrize(("role_at", "due"), [(0, 13), (40, 43)])
def test_a_person_by_the_configurations_word(role_at: float, due: float) -> None:
    """An operator who just became a person, by an attribute or another configuration, gives the agents their time."""
    house = room(agent("A", joined=10), human("op-1", joined=5, role_at=role_at))

    assert dues(house, Rule(policy=HumanTakeover(identity=("op-*",), grace=3))) == {"PA_A": due}
