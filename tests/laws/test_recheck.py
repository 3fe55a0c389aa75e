"""The laws of what is still due: whatever happens between a decision and its removals, and in whatever order."""

from collections.abc import Callable
from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from bouncer import Participant, Role, Room
from bouncer.decide import Finding, Guards
from bouncer.history import History, Outcome
from bouncer.policy import Rule
from bouncer.recheck import Moment, still_due
from policies.duplicates import Duplicates
from tests.strategies import guards, instants, participants, policies, rule_lists

one_rule = policies().map(lambda policy: (Rule(policy=policy),))
with_duplicates = st.builds(
    lambda policy, others: (Rule(policy=policy), *(r for r in others if not isinstance(r.policy, Duplicates))),
    policies((Duplicates,)),
    rule_lists(),
)


def _at_large(who: Participant) -> Participant:
    """The same one, so that there is mostly something to be decided about it."""
    role = who.role if who.role in (Role.AVATAR, Role.HUMAN) else Role.AGENT
    joined = who.joined_at % 10
    follows = who.on_behalf_of if role is Role.AVATAR else ""
    return replace(
        who,
        role=role,
        on_behalf_of=follows,
        active=True,
        joined_at=joined,
        joined_ms=round(joined * 1000),
        attributes={},
    )


crowds = st.lists(participants().map(_at_large), min_size=2, max_size=6, unique_by=lambda p: p.identity).map(tuple)


class Night:
    """A room that is guarded, step by step."""

    def __init__(self, room: Room, rules: tuple[Rule, ...], guards: Guards, now: float, unsure: frozenset[str]) -> None:
        self.room, self.rules, self.guards, self.now, self.unsure = room, rules, guards, now, unsure
        self.history = History(jitter=lambda: 0.5)
        self.sent: list[Finding] = []

    def moment(self) -> Moment:
        """All that there is to decide by."""
        ledger, under_way = self.history.ledger(self.now), dict(self.history.under_way)
        return Moment(
            room=self.room,
            rules=self.rules,
            guards=self.guards,
            now=self.now,
            ledger=ledger,
            under_way=under_way,
            unsure=self.unsure,
        )

    def decide(self) -> list[Finding]:
        """Begin the evictions that are decided on."""
        evictions = self.moment().decision().evictions
        for finding in evictions:
            self.history.begin(finding, evictions, self.now, sends=True)
        return list(evictions)

    def ask(self, finding: Finding) -> bool:
        """Send the removal if it is still due, and call it off otherwise."""
        if not still_due(finding, self.moment()):
            self.history.end(finding, Outcome.VOID, self.now)
            return False
        self.history.send(finding, self.now)
        self.sent.append(finding)
        return True

    def play(self, random: Random, newcomers: list[Participant], judge: Callable[[Finding], None]) -> None:
        """Have lists answered, removals arrive, people come, go and change, in any order."""
        waiting = self.decide()
        steps = random.choices(("ask", "arrives", "ends", "leaves", "comes", "decide"), (4, 2, 2, 1, 2, 2), k=20)
        for step in (*steps, *["ask"] * 20):
            random.shuffle(waiting)
            match step:
                case "ask" if waiting:
                    finding = waiting.pop()
                    if self.ask(finding):
                        judge(finding)
                case "arrives" if self.sent:
                    self.lose(random.choice(self.sent).participant.sid)
                case "ends":
                    here = {p.sid for p in self.room.participants}
                    if gone := [f for f in self.sent if f.participant.sid in self.history.under_way.keys() - here]:
                        self.history.end(gone[0], Outcome.REMOVED, self.now)
                case "leaves" if self.room.participants:
                    self.lose(random.choice(self.room.participants).sid)
                case "comes" if newcomers:
                    who = newcomers.pop()
                    self.lose(who.sid)
                    self.room = replace(self.room, participants=(*self.room.participants, who))
                case "decide":
                    waiting += self.decide()
                case _:
                    pass

    def lose(self, sid: str) -> None:
        """One is gone."""
        self.room = self.room.without(frozenset({sid}))

    def staying(self) -> list[Participant]:
        """The agents that are not being sent away."""
        sent = {sid for sid, eviction in self.history.under_way.items() if not eviction.unsent}
        return [agent for agent in self.room.agents if agent.sid not in sent]


@st.composite
def nights(draw: st.DrawFn, rules: st.SearchStrategy[tuple[Rule, ...]]) -> Night:
    """A room that is crowded, and old enough that much is due; perhaps the last list lacked somebody."""
    present = draw(crowds)
    unsure = draw(st.frozensets(st.sampled_from([p.sid for p in present]), max_size=1))
    room = Room(participants=present, humans_left_at=draw(st.none() | instants))
    return Night(room, draw(rules), draw(guards), 20 + draw(instants), unsure)


changes = st.lists(participants().map(_at_large), max_size=3)


@given(nights(one_rule))
def test_what_one_rule_decided_is_still_due_at_once(night: Night) -> None:
    """Nobody who leaves by the same rule makes another one undue; nor does the budget, or a principal its avatar."""
    assert all(still_due(finding, night.moment()) for finding in night.decide())


@given(nights(rule_lists()), st.randoms(), st.booleans())
def test_of_what_was_decided_somebody_leaves(night: Night, random: Random, removed: bool) -> None:  # noqa: FBT001
    """By several rules one may be called off because of another that leaves, but never all because of each other."""
    decided = night.decide()
    random.shuffle(decided)
    for finding in decided:
        if night.ask(finding) and removed:
            night.lose(finding.participant.sid)

    assert bool(night.sent) == bool(decided)


@given(nights(rule_lists()), st.randoms())
def test_the_order_in_which_evictions_began_makes_no_difference(night: Night, random: Random) -> None:
    """Nor does the order in which they were decided on."""
    for finding in (decided := night.decide()):
        if random.random() < 0.3:
            night.history.send(finding, night.now)
    moment = night.moment()
    shuffled = list(moment.under_way.items())
    random.shuffle(shuffled)
    other = replace(moment, under_way={sid: replace(e, together=tuple(reversed(e.together))) for sid, e in shuffled})

    assert [still_due(f, moment) for f in decided] == [still_due(f, other) for f in decided]


@given(nights(rule_lists()), st.randoms(), changes)
def test_only_who_may_be_evicted_is_ever_sent_away(night: Night, random: Random, newcomers: list[Participant]) -> None:
    """Law 3, at the moment of the removal: the same sid, here, no human, not exempt."""

    def judge(finding: Finding) -> None:
        (who,) = (p for p in night.room.participants if p.sid == finding.participant.sid)
        assert who.role in (Role.AGENT, Role.AVATAR)
        assert who.active
        assert not night.guards.exempts(who)

    night.play(random, newcomers, judge)


@given(nights(with_duplicates), st.randoms(), changes)
def test_no_group_of_duplicates_is_emptied(night: Night, random: Random, newcomers: list[Participant]) -> None:
    """Law 7, at the moment of the removal: whoever else leaves by whatever rule, one that isn't sent away is left."""

    def judge(finding: Finding) -> None:
        policy, (who,) = finding.rule.policy, (p for p in night.room.participants if p.sid == finding.participant.sid)
        if isinstance(policy, Duplicates) and not finding.follows:
            by_name = policy.key == "agent_name"
            alike = [a for a in night.staying() if a.publisher == who.publisher]
            assert [a for a in alike if not by_name or a.agent_name == who.agent_name]

    night.play(random, newcomers, judge)


@given(nights(rule_lists()), st.randoms(), changes)
def test_the_last_agent_is_kept(night: Night, random: Random, newcomers: list[Participant]) -> None:
    """`keep_last_agent`, at the moment of the removal: where a human is, one that isn't sent away is left."""
    night.guards = replace(night.guards, keep_last_agent=True)

    def judge(finding: Finding) -> None:
        (who,) = (p for p in night.room.participants if p.sid == finding.participant.sid)
        orphan = who.principal_left_at is not None
        if night.room.humans and not (finding.follows or finding.rule.may_clear_room or orphan):
            others = [a for a in night.staying() if a.principal_left_at is None and not night.guards.exempts(a)]
            assert others

    night.play(random, newcomers, judge)
