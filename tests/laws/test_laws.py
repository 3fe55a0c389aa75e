"""The laws of the engine, for every policy in the registry, now and in the future."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar

from hypothesis import given, settings
from hypothesis import strategies as st

from bouncer import Kind, Participant, Role, Room, Verdict
from bouncer.decide import Decision, Finding, Guards, Ledger, Removal, decide
from bouncer.policy import Rule
from bouncer.testing import agent as resident
from bouncer.testing import room as house_of
from policies import BUILTIN
from policies.duplicates import Duplicates
from policies.max_agents import MaxAgents
from tests.strategies import guards, instants, ledgers, participants, policies, rooms, rule_lists


@dataclass(frozen=True)
class Situation:
    """Everything a decision depends on, except the time."""

    room: Room
    rules: tuple[Rule, ...]
    guards: Guards
    ledger: Ledger

    def at(self, now: float) -> Decision:
        """Return the decision at that instant."""
        return decide(self.room, self.rules, self.guards, now, self.ledger)


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    """Draw any situation."""
    rules = draw(rule_lists())
    return Situation(draw(rooms), rules, draw(guards), draw(ledgers(rules)))


def sids(decision: Decision) -> set[str]:
    """Return the sids of the evicted participants."""
    return {f.participant.sid for f in decision.evictions}


def apply(situation: Situation, decision: Decision) -> Situation:
    """Return the situation after the decision: evicted participants are gone, reported ones are handled."""
    gone = frozenset(sids(decision))
    return replace(
        situation,
        room=situation.room.without(gone),
        ledger=replace(
            situation.ledger,
            owed=tuple(f for f in situation.ledger.owed if f.participant.sid not in gone),
            handled=situation.ledger.handled | {f.key for f in decision.reports},
            noticed={**situation.ledger.noticed, **{f.key: f.verdict.due for f in decision.notices}},
            evicted={f.participant.identity: f for f in decision.evictions},
        ),
    )


@given(situations(), instants, instants)
def test_1_time_only_adds_evictions(situation: Situation, now: float, later: float) -> None:
    """In the same room with the same history, a participant evicted at one time is evicted at every later time.

    The exception is a spent budget: it goes to the agents that are due first and may be tried again.
    """
    if situation.ledger.retry_at:
        situation = replace(situation, guards=situation.guards.without_budget())
    assert sids(situation.at(now)) <= sids(situation.at(now + later))


@given(situations(), instants, st.floats(0, 1))
def test_2_nothing_changes_before_wake_at(situation: Situation, now: float, part: float) -> None:
    """Between now and `wake_at` the decision is the same; without a `wake_at` it stays the same forever."""
    decision = situation.at(now)
    until = now + 1000 if decision.wake_at is None else decision.wake_at
    between = now + part * (until - now)

    assert until > now
    if between < until or decision.wake_at is None:
        assert situation.at(between) == decision


@given(situations(), instants)
def test_3_only_other_agents_are_ever_evicted(situation: Situation, now: float) -> None:
    """Never a human, EGRESS, INGRESS, a bouncer, an exempt participant, or one that is not there."""
    for finding in situation.at(now).evictions:
        who = finding.participant
        assert who in situation.room.participants
        assert who.role in (Role.AGENT, Role.AVATAR)
        assert who.active
        assert who.identity != situation.room.me
        assert not situation.guards.exempts(who)
        assert finding.rule.action == "evict"


@dataclass(frozen=True, slots=True, kw_only=True)
class Everyone:
    """A policy that wants everyone out, including the bouncer and the people."""

    name: ClassVar[str] = "everyone"

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        """Spare no one."""
        for who in room.participants:
            yield Verdict(who, 0, "is here")


@given(participants(), guards)
def test_3_holds_against_any_policy(who: Participant, guards: Guards) -> None:
    """`decide` enforces it: a policy that names an untouchable participant is at fault and evicts none."""
    decision = decide(Room(participants=(who,)), [Rule(policy=Everyone())], guards, 1000)

    service = who.kind in (Kind.EGRESS, Kind.INGRESS)
    agent = who.role in (Role.AGENT, Role.AVATAR) and (who.kind is Kind.AGENT or (who.agent_grant and not service))
    untouchable = not agent or not who.active
    assert bool(decision.faults) == untouchable
    assert bool(decision.evictions) == (not untouchable and not guards.exempts(who) and not who.contested)


@given(situations(), instants)
def test_4_each_at_most_once_and_the_earliest_due_wins(situation: Situation, now: float) -> None:
    """Each participant is evicted once, under the rule with the earliest due; ties go to the first rule."""
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
    """The decision does not depend on the order of the participants."""
    shuffled = list(situation.room.participants)
    random.shuffle(shuffled)

    assert replace(situation, room=replace(situation.room, participants=tuple(shuffled))).at(now) == situation.at(now)


class _Broken:
    """A policy that fails after some verdicts that look right."""

    name: ClassVar[str] = "broken"

    def __init__(self, how: str) -> None:
        self.how = how

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        """Fail."""
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


FAILURES = ("raises", "recurses", "absent", "no verdict", "endless", "nan", "inf", "-inf")


@settings(max_examples=2 * settings().max_examples)
@given(st.sampled_from(FAILURES), situations(), instants)
def test_6_a_policy_that_fails_evicts_no_one(how: str, situation: Situation, now: float) -> None:
    """It becomes a fault, its verdicts are dropped, and the others count as if it were not there."""
    agents = tuple(p for p in situation.room.without(situation.ledger.leaving).agents)
    broken = Rule(policy=_Broken(how))
    decision = replace(situation, rules=(broken, *situation.rules)).at(now)

    if agents or how in ("raises", "absent", "no verdict"):
        assert [fault.rule for fault in decision.faults] == [broken]
    if decision.faults:
        assert replace(decision, faults=()) == situation.at(now)


@given(rooms, policies((Duplicates,)))
def test_7_duplicates_never_empties_a_group(room: Room, policy: Duplicates) -> None:
    """If any agent with a key was present, one stays."""
    out = {verdict.participant.sid for verdict in policy.evaluate(room)}

    def value(part: str, agent: Participant) -> str:
        attribute = agent.attributes.get(part.removeprefix("attribute:"), "")
        return attribute if part.startswith("attribute:") else str(getattr(agent, part))

    def key(agent: Participant) -> tuple[str, ...]:
        parts = (policy.key,) if isinstance(policy.key, str) else policy.key
        return (*(value(part, agent) for part in parts), agent.serves)

    staying = {key(agent) for agent in room.agents if agent.sid not in out}
    assert {key(agent) for agent in room.agents} == staying


@given(situations(), instants)
def test_8_a_decision_that_was_carried_out_asks_for_nothing_new(situation: Situation, now: float) -> None:
    """A second decision evicts, reports and notifies no one new; agents held back by the budget stay held back.

    Or they are due later, since one of their group has gone, and that is told. Or sooner, where an elder has gone that
    they might have replaced: with that, no wait for a sign of its life. Or one with a dispatch had the place of one
    that only said its name; with that gone, it may be one too many next to an exempt one.
    """
    decision = situation.at(now)
    paid = [f.participant for f in decision.evictions if not f.free]
    sent = [Removal(now, p.sid, p.identity) for p in paid]
    carried_out = apply(situation, decision)
    carried_out = replace(carried_out, ledger=replace(carried_out.ledger, sent=(*carried_out.ledger.sent, *sent)))

    again = carried_out.at(now)

    held_back = {hold.finding.participant.sid for hold in decision.held}
    waited = {f.key for f in decision.findings if _ranks(f)}
    impostors = {f.participant.agent_name for f in decision.evictions if not f.participant.dispatch} - {""}

    def displaced(f: Finding) -> bool:
        return _ranks(f) and f.participant.dispatch != "" and f.participant.agent_name in impostors

    new = [f for f in (*again.evictions, *again.reports) if f.key not in waited]
    assert [f for f in new if not displaced(f)] == []
    assert [f for f in again.notices if f.participant.sid not in held_back and not displaced(f)] == []


def _ranks(finding: Finding) -> bool:
    """Return True if it is of a policy that lets those stay that have the best right to."""
    return hasattr(finding.rule.policy, "wait_for_life")


def test_8_allows_that_a_place_goes_with_the_one_that_had_it() -> None:
    """Of one name, the dispatched agent stays in place of the older one without a dispatch, the exempt one after it."""
    impostor, exempt = resident("A", "assistant"), resident("B", "vip", joined=1)
    house = house_of(impostor, exempt, resident("C", "assistant", joined=2, dispatch="AD_1"))
    rules = (Rule(policy=MaxAgents(max=1, wait_for_life=0)),)
    situation = Situation(house, rules, Guards(exempt_identities=("B",)), Ledger())
    decision = situation.at(1000)

    assert sids(decision) == {"PA_A"}
    assert sids(apply(situation, decision).at(1000)) == {"PA_C"}
    test_8_a_decision_that_was_carried_out_asks_for_nothing_new.hypothesis.inner_test(situation, 1000)  # type: ignore[attr-defined]


@given(situations(), instants)
def test_9_two_bouncers_choose_the_same_victims(situation: Situation, now: float) -> None:
    """The decision depends on the view alone."""
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
    """A report, or a dry run's eviction, happens once; then the loop sleeps until something else is due."""
    decision = situation.at(now)
    keys = {f.key for f in (*decision.reports, *decision.evictions)}
    handled = replace(situation, ledger=replace(situation.ledger, handled=situation.ledger.handled | keys)).at(now)

    assert not keys & {f.key for f in (*handled.reports, *handled.evictions)}
    assert handled.wake_at is None or handled.wake_at > now


def test_the_registry_is_alphabetical_and_its_names_are_unique() -> None:
    """The first one listed wins a tie, so the order must be predictable."""
    assert [p.name for p in BUILTIN] == sorted({p.name for p in BUILTIN})
