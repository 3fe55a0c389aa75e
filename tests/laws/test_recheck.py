"""The laws of what is still due, whatever happens between a decision and its removals, in any order."""

from collections.abc import Callable
from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from bouncer import Participant, Role, Room
from bouncer.decide import Finding, Guards, Outcome, decide
from bouncer.guard.history import History
from bouncer.guard.recheck import Moment, Recheck, owed
from bouncer.policy import Rule
from policies.duplicates import Duplicates
from tests.strategies import guards, instants, participants, policies, rule_lists

one_rule = policies().map(lambda policy: (Rule(policy=policy),))
with_duplicates = st.builds(
    lambda policy, others: (Rule(policy=policy), *(r for r in others if not isinstance(r.policy, Duplicates))),
    policies((Duplicates,)),
    rule_lists(),
)


def _at_large(who: Participant) -> Participant:
    """Return the same participant, changed so that there is usually something to decide about it."""
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
    """A guarded room, step by step."""

    def __init__(self, room: Room, rules: tuple[Rule, ...], guards: Guards, now: float, unsure: frozenset[str]) -> None:
        self.room, self.rules, self.guards, self.now, self.unsure = room, rules, guards, now, unsure
        self.history = History(jitter=lambda _: 0.5)
        self.sent: list[Finding] = []
        self.recheck: Recheck | None = None
        """As a watch keeps it, until anything but our own removals changes."""

    def moment(self) -> Moment:
        """Return everything that the decision rests on."""
        debts = owed(self.history.debts.values(), self.room, self.rules)
        ledger, under_way = replace(self.history.ledger(self.now), owed=debts), dict(self.history.under_way)
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
        """Begin the evictions that were decided."""
        decision = self.moment().decision()
        evictions = decision.evictions
        for finding in evictions:
            self.recheck = None
            self.history.begin(finding, decision.group(finding), self.room, self.now, "enforce")
        return list(evictions)

    def ask(self, finding: Finding) -> bool:
        """Send the removal if it is still due; otherwise call it off."""
        self.recheck = self.recheck or Recheck(self.moment())
        if not self.recheck.still_due(finding):
            self.recheck = None
            self.history.end(finding, Outcome.VOID, self.now)
            return False
        self.history.send(finding, self.now)
        self.sent.append(finding)
        return True

    def play(self, random: Random, newcomers: list[Participant], judge: Callable[[Finding], None]) -> None:
        """Let lists and removals arrive, and people come, go and change, in any order."""
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
                    self.recheck = None
                    self.lose(random.choice(self.room.participants).sid)
                case "comes" if newcomers:
                    who, self.recheck = newcomers.pop(), None
                    self.lose(who.sid)
                    self.room = replace(self.room, participants=(*self.room.participants, who))
                case "decide":
                    waiting += self.decide()
                case _:
                    pass

    def lose(self, sid: str) -> None:
        """One participant leaves."""
        self.room = self.room.without(frozenset({sid}))

    def staying(self) -> list[Participant]:
        """The agents that are not being evicted."""
        sent = {sid for sid, eviction in self.history.under_way.items() if not eviction.unsent}
        return [agent for agent in self.room.agents if agent.sid not in sent]


@st.composite
def nights(draw: st.DrawFn, rules: st.SearchStrategy[tuple[Rule, ...]]) -> Night:
    """Draw a crowded room where much is due; a participant may be missing from the last list."""
    present = draw(crowds)
    unsure = draw(st.frozensets(st.sampled_from([p.sid for p in present]), max_size=1))
    room = Room(participants=present, humans_left_at=draw(st.none() | instants))
    return Night(room, draw(rules), draw(guards), 20 + draw(instants), unsure)


changes = st.lists(participants().map(_at_large), max_size=3)


@given(nights(one_rule))
def test_what_one_rule_decided_is_still_due_at_once(night: Night) -> None:
    """An agent that leaves under the same rule calls off no other; nor does the budget, nor a principal its avatar."""
    assert all(Recheck(night.moment()).still_due(finding) for finding in night.decide())


@given(nights(rule_lists()), st.randoms(), st.booleans())
def test_of_what_was_decided_an_agent_leaves(night: Night, random: Random, removed: bool) -> None:  # noqa: FBT001
    """Under several rules, an agent may be called off because another leaves, but never all because of each other."""
    decided = night.decide()
    random.shuffle(decided)
    for finding in decided:
        if night.ask(finding) and removed:
            night.lose(finding.participant.sid)

    assert bool(night.sent) == bool(decided)


@given(nights(rule_lists()), st.randoms())
def test_the_order_in_which_evictions_began_makes_no_difference(night: Night, random: Random) -> None:
    """Nor does the order of the decisions."""
    for finding in (decided := night.decide()):
        if random.random() < 0.3:
            night.history.send(finding, night.now)
    moment = night.moment()
    shuffled = list(moment.under_way.items())
    random.shuffle(shuffled)
    other = replace(moment, under_way={sid: replace(e, group=tuple(reversed(e.group))) for sid, e in shuffled})

    assert [Recheck(moment).still_due(f) for f in decided] == [Recheck(other).still_due(f) for f in decided]


@given(nights(rule_lists()), st.randoms(), changes)
def test_only_evictable_participants_are_evicted(night: Night, random: Random, newcomers: list[Participant]) -> None:
    """Law 3 at the moment of the removal: the same sid, present, not a human, not exempt."""

    def judge(finding: Finding) -> None:
        (who,) = (p for p in night.room.participants if p.sid == finding.participant.sid)
        assert who.role in (Role.AGENT, Role.AVATAR)
        assert who.active
        assert not night.guards.exempts(who)

    night.play(random, newcomers, judge)


@given(nights(with_duplicates), st.randoms(), changes)
def test_no_group_of_duplicates_is_emptied(night: Night, random: Random, newcomers: list[Participant]) -> None:
    """Law 7 at the moment of a removal that only this rule wants: one that is not evicted remains."""

    def judge(finding: Finding) -> None:
        policy, (who,) = finding.rule.policy, (p for p in night.room.participants if p.sid == finding.participant.sid)
        others = tuple(rule for rule in night.rules if rule.id != finding.rule.id)
        anyway = decide(night.room, others, night.guards.without_budget(), night.now).evictions
        if isinstance(policy, Duplicates) and not finding.follows and who not in [f.participant for f in anyway]:
            by_name = policy.key == "agent_name"
            alike = [a for a in night.staying() if a.serves == who.serves]
            assert [a for a in alike if not by_name or a.agent_name == who.agent_name]

    night.play(random, newcomers, judge)


@given(nights(rule_lists()), st.randoms(), changes)
def test_the_last_agent_is_kept(night: Night, random: Random, newcomers: list[Participant]) -> None:
    """`keep_last_agent` at the moment of the removal: if a human is present, one agent that is not evicted remains."""
    night.guards = replace(night.guards, keep_last_agent=True)

    def judge(finding: Finding) -> None:
        (who,) = (p for p in night.room.participants if p.sid == finding.participant.sid)
        orphan = who.principal_left_at is not None
        if night.room.humans and not (finding.follows or finding.rule.may_clear_room or orphan):
            others = [a for a in night.staying() if a.principal_left_at is None and not night.guards.exempts(a)]
            assert others

    night.play(random, newcomers, judge)
