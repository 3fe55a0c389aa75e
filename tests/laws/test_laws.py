"""The laws of the engine, for every policy in the registry, now and in the future."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bouncer import Participant, Role, Room, Verdict
from bouncer.decide import Decision, Guards, Ledger, decide
from bouncer.policy import Rule
from policies import BUILTIN
from policies.duplicates import Duplicates
from tests.strategies import guards, instants, ledgers, participants, policies, rooms, rule_lists


@dataclass(frozen=True)
class Situation:
    """All that a decision depends on but the time."""

    room: Room
    rules: tuple[Rule, ...]
    guards: Guards
    ledger: Ledger

    def at(self, now: float) -> Decision:
        """The decision at that instant."""
        return decide(self.room, self.rules, self.guards, now, self.ledger)


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    """Any situation."""
    rules = draw(rule_lists())
    return Situation(draw(rooms), rules, draw(guards), draw(ledgers(rules)))


def sids(decision: Decision) -> set[str]:
    """Who is evicted."""
    return {f.participant.sid for f in decision.evictions}


def apply(situation: Situation, decision: Decision) -> Situation:
    """The situation once the decision is carried out: the evicted are gone, the reported are handled."""
    return replace(
        situation,
        room=situation.room.without(frozenset(sids(decision))),
        ledger=replace(
            situation.ledger,
            handled=situation.ledger.handled | {f.key for f in decision.reports},
            noticed={**situation.ledger.noticed, **{f.key: f.verdict.due for f in decision.notices}},
            evicted={f.participant.identity: f for f in decision.evictions},
        ),
    )


@given(situations(), instants, instants)
def test_1_time_only_adds_evictions(situation: Situation, now: float, later: float) -> None:
    """Whoever is evicted at one time is evicted at every later time, the room and the history being the same.

    Unless there is no budget left by then: it goes to whoever is due first, and may be tried again.
    """
    if situation.ledger.retry_at:
        situation = replace(situation, guards=situation.guards.without_budget())
    assert sids(situation.at(now)) <= sids(situation.at(now + later))


@given(situations(), instants, st.floats(0, 1))
def test_2_nothing_changes_before_wake_at(situation: Situation, now: float, part: float) -> None:
    """Between now and `wake_at` the decision is the same; without one it stays the same for ever."""
    decision = situation.at(now)
    until = now + 1000 if decision.wake_at is None else decision.wake_at
    between = now + part * (until - now)

    assert until > now
    if between < until or decision.wake_at is None:
        assert situation.at(between) == decision


@given(situations(), instants)
def test_3_only_other_agents_are_ever_evicted(situation: Situation, now: float) -> None:
    """Never a human, never EGRESS or INGRESS, never a bouncer, never anyone exempt, never somebody who isn't there."""
    for finding in situation.at(now).evictions:
        who = finding.participant
        assert who in situation.room.participants
        assert who.role in (Role.AGENT, Role.AVATAR)
        assert who.active
        assert who.identity != situation.room.me
        assert not situation.guards.exempts(who)
        assert finding.rule.action == "evict"


@dataclass(frozen=True, slots=True, kw_only=True)
class Everybody:
    """A policy that wants everybody out, the bouncer and the people too."""

    name: ClassVar[str] = "everybody"

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        """Spare nobody."""
        for who in room.participants:
            yield Verdict(who, 0, "is here")


@given(participants(), guards)
def test_3_holds_against_any_policy(who: Participant, guards: Guards) -> None:
    """It is `decide` that enforces it: a policy that asks for somebody untouchable is at fault, and gets nobody."""
    decision = decide(Room(participants=(who,)), [Rule(policy=Everybody())], guards, 1000)

    untouchable = who.role not in (Role.AGENT, Role.AVATAR) or not who.active
    assert bool(decision.faults) == untouchable
    assert bool(decision.evictions) == (not untouchable and not guards.exempts(who))


@given(situations(), instants)
def test_4_each_at_most_once_and_the_earliest_due_wins(situation: Situation, now: float) -> None:
    """Each participant is evicted once, for the earliest of what it may be evicted for; ties go to the first rule."""
    decision = situation.at(now)
    assert all(n == 1 for n in Counter(f.participant.sid for f in decision.evictions).values())

    for finding in decision.evictions:
        if finding.follows:
            continue
        for position, rule in enumerate(situation.rules):
            alone = replace(situation, rules=(rule,), ledger=replace(situation.ledger, sent=(), unsent=0)).at(now)
            for other in alone.evictions:
                if other.participant.sid == finding.participant.sid and not other.follows:
                    ours = (finding.verdict.due, situation.rules.index(finding.rule))
                    assert ours <= (other.verdict.due, position)


@given(situations(), instants, st.randoms())
def test_5_order_makes_no_difference(situation: Situation, now: float, random: Random) -> None:
    """In whatever order the participants are given, the decision is the same."""
    shuffled = list(situation.room.participants)
    random.shuffle(shuffled)

    assert replace(situation, room=replace(situation.room, participants=tuple(shuffled))).at(now) == situation.at(now)


class _Broken:
    """A policy that goes wrong, after some verdicts that look right."""

    name: ClassVar[str] = "broken"

    def __init__(self, how: str) -> None:
        self.how = how

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        """Go wrong."""
        for agent in room.agents:
            yield Verdict(agent, 0, "looks right")
        match self.how:
            case "raises":
                raise RuntimeError("went wrong")
            case "recurses":
                yield from self.evaluate(room)
            case "absent":
                yield Verdict(Participant(sid="PA_?", identity="?", role=Role.AGENT), 0, "is not here")
            case "no verdict":
                yield None  # type: ignore[misc]
            case "endless":
                while room.agents:
                    yield Verdict(room.agents[0], 0, "again")
            case due:
                yield from (Verdict(agent, float(due), "is due at no time") for agent in room.agents)


@pytest.mark.parametrize("how", ["raises", "recurses", "absent", "no verdict", "endless", "nan", "inf", "-inf"])
@given(situation=situations(), now=instants)
def test_6_a_policy_that_goes_wrong_evicts_nobody(how: str, situation: Situation, now: float) -> None:
    """It is a fault, all that it said is dropped, and the others count as if it weren't there."""
    agents = tuple(p for p in situation.room.without(situation.ledger.leaving).agents)
    broken = Rule(policy=_Broken(how))
    decision = replace(situation, rules=(broken, *situation.rules)).at(now)

    if agents or how in ("raises", "absent", "no verdict"):
        assert [fault.rule for fault in decision.faults] == [broken]
    if decision.faults:
        assert replace(decision, faults=()) == situation.at(now)


@given(rooms, policies((Duplicates,)))
def test_7_duplicates_never_empties_a_group(room: Room, policy: Duplicates) -> None:
    """Where an agent of a key was present, one stays."""
    out = {verdict.participant.sid for verdict in policy.evaluate(room)}

    def key(agent: Participant) -> tuple[str, str]:
        by_name = policy.key == "agent_name"
        return (agent.agent_name if by_name else agent.attributes.get(policy.key[10:], ""), agent.publisher)

    staying = {key(agent) for agent in room.agents if agent.sid not in out}
    assert {key(agent) for agent in room.agents} == staying


@given(situations(), instants)
def test_8_a_decision_that_was_carried_out_asks_for_nothing_new(situation: Situation, now: float) -> None:
    """Decided again, nobody further is evicted, reported or noticed: whom the budget held back is still held back.

    Or is due later, since one of the group has gone, and is told so.
    """
    decision = situation.at(now)
    spent = len([f for f in decision.evictions if f.participant.role is not Role.AVATAR])
    carried_out = apply(situation, decision)
    carried_out = replace(
        carried_out, ledger=replace(carried_out.ledger, sent=(*carried_out.ledger.sent, *[now] * spent))
    )

    again = carried_out.at(now)

    held_back = {hold.finding.participant.sid for hold in decision.held}
    assert (again.evictions, again.reports) == ((), ())
    assert [f for f in again.notices if f.participant.sid not in held_back] == []


@given(situations(), instants)
def test_9_two_bouncers_choose_the_same_victims(situation: Situation, now: float) -> None:
    """The decision follows from the view alone."""
    twin = Situation(
        Room(
            me=situation.room.me,
            participants=tuple(replace(p) for p in reversed(situation.room.participants)),
            watching_since=situation.room.watching_since,
            humans_left_at=situation.room.humans_left_at,
            evicted_at=situation.room.evicted_at,
        ),
        situation.rules,
        situation.guards,
        situation.ledger,
    )
    assert twin.at(now) == situation.at(now)


@given(situations(), instants)
def test_what_was_handled_neither_repeats_nor_wakes_the_loop(situation: Situation, now: float) -> None:
    """A report, or a dry run's eviction, is asked for once; after it the loop sleeps until something else comes due."""
    decision = situation.at(now)
    keys = {f.key for f in (*decision.reports, *decision.evictions)}
    handled = replace(situation, ledger=replace(situation.ledger, handled=situation.ledger.handled | keys)).at(now)

    assert not keys & {f.key for f in (*handled.reports, *handled.evictions)}
    assert handled.wake_at is None or handled.wake_at > now


def test_the_registry_is_alphabetical_and_its_names_are_unique() -> None:
    """What is listed first wins a tie, so the order has to be one that anybody can predict."""
    assert [p.name for p in BUILTIN] == sorted({p.name for p in BUILTIN})
