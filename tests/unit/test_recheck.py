"""What is still due right before a removal, while others are under way, gone, or would stay if asked now."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from bouncer import Participant, Policy, Room, Verdict
from bouncer.decide import Finding, Guards, Outcome
from bouncer.guard.history import Debt, History
from bouncer.guard.recheck import Moment, Recheck, owed, remaining
from bouncer.policy import Rule
from bouncer.testing import agent, avatar, human, room
from policies.deny_list import DenyList
from policies.duplicates import Duplicates
from policies.idle_timeout import IdleTimeout
from policies.lone_chatter import LoneChatter
from policies.max_lifetime import MaxLifetime
from policies.superseded import Superseded
from tests.told import calls

IDLE = IdleTimeout(timeout=60)
CHATTER = LoneChatter(timeout=60)


@dataclass
class Guarded:
    """A room where everything decided at 100 is under way and nothing has been sent yet."""

    room: Room
    policies: Sequence[Policy]
    guards: Guards = field(default_factory=Guards)
    unsure: frozenset[str] = frozenset()
    now: float = 100.0

    def __post_init__(self) -> None:
        self.history = History(jitter=lambda _: 0.5)
        self.decided: dict[str, Finding] = {}
        self.decide()

    def decide(self) -> None:
        """Begin the evictions that are decided on now."""
        decision = self.moment().decision()
        for finding in decision.evictions:
            self.decided[finding.participant.identity] = finding
            self.history.begin(finding, decision.group(finding), self.room, self.now, "enforce")

    def moment(self) -> Moment:
        """Return everything that the decision rests on."""
        rules = tuple(Rule(policy=policy) for policy in self.policies)
        debts = owed(self.history.debts.values(), self.room, rules)
        return Moment(
            room=self.room,
            rules=rules,
            guards=self.guards,
            now=self.now,
            ledger=replace(self.history.ledger(self.now), owed=debts),
            under_way=dict(self.history.under_way),
            unsure=self.unsure,
        )

    def due(self) -> set[str]:
        """Return the agents under eviction that would be evicted at this moment too."""
        under_way = [eviction.finding for eviction in self.history.under_way.values()]
        recheck = Recheck(self.moment())
        return {f.participant.identity for f in under_way if recheck.still_due(f)}

    def send(self, identity: str) -> Finding:
        """Send one agent's removal."""
        self.history.send(self.decided[identity], self.now)
        return self.decided[identity]

    def leave(self, identity: str) -> None:
        """One agent leaves."""
        self.room = replace(self.room, participants=tuple(p for p in self.room.participants if p.identity != identity))

    def remove(self, identity: str) -> None:
        """One agent is removed, and its eviction ends."""
        self.history.end(self.send(identity), Outcome.REMOVED, self.now)
        self.leave(identity)

    def change(self, who: Participant) -> None:
        """Change a fact of one agent."""
        others = tuple(p for p in self.room.participants if p.identity != who.identity)
        self.room = replace(self.room, participants=(*others, who))


def chatting(identity: str) -> Participant:
    """Return an agent that has been speaking since before any human did."""
    return agent(identity, identity, speaking_since=10, chatting_since=10)


class TestDecidedTogether:
    """One alone would be no chatter and no hand-off, but is owed once the first removal is sent."""

    def test_is_counted_while_it_is_on_its_way_out(self) -> None:
        """Both are still due, even after one's removal went out."""
        night = Guarded(room(chatting("A"), chatting("B")), [CHATTER])
        assert night.due() == {"A", "B"}

        night.send("A")

        assert night.due() == {"A", "B"}

    def test_is_counted_when_it_was_removed(self) -> None:
        """Whether or not its eviction has ended."""
        night = Guarded(room(chatting("A"), chatting("B")), [CHATTER])
        night.send("A")
        night.leave("A")
        assert "B" in night.due()

        night.history.end(night.decided["A"], Outcome.REMOVED, night.now)

        assert night.due() == {"B"}

    def test_counts_only_for_those_that_were_decided_with_it(self) -> None:
        """A leaves as denied, and chatted with B. C and D chat later, so for them A counts as gone."""
        house = room(chatting("A"), chatting("B"), agent("C"), agent("D"))
        night = Guarded(house, [CHATTER, DenyList(agent_names=("A",))])
        night.change(chatting("C"))
        night.change(chatting("D"))
        night.decide()
        assert night.due() == {"A", "B", "C", "D"}

        night.leave("B")
        night.leave("C")

        assert night.due() == {"A"}

    def test_is_not_counted_when_it_left_by_itself(self) -> None:
        """Then we did not cause the other to be alone."""
        night = Guarded(room(chatting("A"), chatting("B")), [CHATTER])
        night.leave("A")
        assert night.due() == set()

        night.history.end(night.decided["A"], Outcome.GONE, night.now)

        assert night.due() == set()

    @pytest.mark.parametrize(
        ("change", "owed"),
        [
            # The last words of the one that is sent away end, and those of the other, or a person speaks at last.
            (agent("A", "A", spoke_at=20, chatting_since=10), {"A", "B"}),
            (agent("B", "B"), {"A", "B"}),
            (human("H", spoke_at=99), {"A", "B"}),
            # A person who can't be heard may have spoken: a doubt.
            (human("H", audible=False), set()),
            # Another participant by now.
            (agent("B", "B", sid="PA_another"), {"A"}),
        ],
    )
    def test_is_called_off_only_by_what_speaks_for_it(self, change: Participant, owed: set[str]) -> None:
        """Not by what others do. The one that was sent away is asked about again if it was given time to leave."""
        night = Guarded(room(chatting("A"), chatting("B")), [CHATTER])
        night.send("A")
        night.change(change)

        assert night.due() == owed

    def test_is_owed_whatever_fails_or_waits(self) -> None:
        """After a failed call, or once the budget allows it: the new decision includes it, though it is alone."""
        night = Guarded(room(chatting("A"), chatting("B"), chatting("C")), [CHATTER], Guards(max_per_minute=2))
        night.history.end(night.decided["B"], Outcome.FAILED, night.now)
        night.remove("A")
        night.now = 161.0

        assert [f.participant.identity for f in night.moment().decision().evictions] == ["B", "C"]

    def test_is_not_owed_while_nothing_was_sent(self) -> None:
        """Then everything may be called off."""
        night = Guarded(room(chatting("A"), chatting("B")), [CHATTER])
        night.change(agent("A", "A", spoke_at=20))

        assert night.due() == set()

    @pytest.mark.parametrize("guards", [Guards(exempt_identities=("B",)), Guards(keep_last_agent=True)])
    def test_what_holds_it_back_ends_the_debt(self, guards: Guards) -> None:
        """Later it is judged like any other agent."""
        night = Guarded(room(chatting("A"), chatting("B")), [CHATTER])
        night.remove("A")
        night.history.end(night.decided["B"], Outcome.VOID, night.now)
        night.now, night.guards = 110.0, guards
        night.change(human("H"))
        moment = night.moment()
        assert not moment.decision().evictions

        assert not remaining(moment.ledger.owed, moment.decision(), night.now)

    def test_another_configuration_ends_the_debt(self) -> None:
        """The rule is gone, or allows more time."""
        night = Guarded(room(chatting("A"), chatting("B")), [CHATTER])
        night.remove("A")
        night.policies = [LoneChatter(timeout=600)]
        moment = night.moment()

        assert not remaining(moment.ledger.owed, moment.decision(), night.now)
        night.policies = [IDLE]
        assert not night.moment().ledger.owed

    def test_an_agent_that_we_removed_is_not_unsure(self) -> None:
        """A list without it, before its leaving is announced, shows that it is gone, and by our doing."""
        night = Guarded(room(chatting("A"), chatting("B")), [CHATTER])
        night.send("A")
        night.unsure = frozenset({"PA_A"})

        assert night.due() == {"A", "B"}

    def test_under_another_rule_too(self) -> None:
        """A is carried out under a rule that it broke earlier, but the two were found chatting."""
        night = Guarded(room(chatting("A"), chatting("B")), [CHATTER, DenyList(agent_names=("A",))])
        assert night.decided["A"].rule.id == "deny_list"
        night.remove("A")

        assert night.due() == {"B"}


class TestLeavingUnderTheSameRule:
    """It is there until its removal is sent."""

    def test_is_not_counted_when_it_would_stay_by_now(self) -> None:
        """A and B are duplicates of a third that left. A would stay but is being evicted, so B is the last one."""
        night = Guarded(room(*(agent(who, "x", joined=at) for at, who in enumerate("CAB"))), [Duplicates()])
        night.send("A")
        night.leave("C")

        assert night.due() == set()

    def test_nor_when_it_would_have_stayed_and_is_gone(self) -> None:
        """As before, and A has left by now."""
        night = Guarded(room(*(agent(who, "x", joined=at) for at, who in enumerate("CAB"))), [Duplicates()])
        night.remove("A")
        night.leave("C")

        assert night.due() == set()

    def test_keeps_its_place_as_long_as_it_may_be_called_off(self) -> None:
        """Until A's removal is sent, one of the two must go, and A is the older one."""
        night = Guarded(room(*(agent(who, "x", joined=at) for at, who in enumerate("CAB"))), [Duplicates()])
        night.leave("C")

        assert night.due() == {"B"}


class TestLeavingUnderAnotherRule:
    """Such an agent counts as gone."""

    HOUSE = room(agent("A", "x", active=0), agent("B", "x", joined=30, active=90))

    def test_makes_no_agent_a_duplicate(self) -> None:
        """Of a pair, the older one is idle."""
        assert Guarded(self.HOUSE, [Duplicates(), IDLE]).due() == {"A"}

    def test_unless_its_eviction_has_ended_without(self) -> None:
        """It will be tried again after a pause. Until then it is there."""
        night = Guarded(self.HOUSE, [Duplicates(), IDLE])
        night.history.end(night.decided["A"], Outcome.FAILED, night.now)

        assert night.due() == {"B"}

    def test_even_if_it_was_first_evicted_under_the_same(self) -> None:
        """A and B are duplicates of a third that left. A is idle by now as well, so B is the last one."""
        trio = (agent(who, "x", joined=at, active=90) for at, who in enumerate("CAB"))
        night = Guarded(room(*trio), [Duplicates(), IDLE])
        night.send("A")
        night.leave("C")
        night.change(agent("A", "x", joined=1, active=0))

        assert night.due() == {"A"}


class TestChangesInTheMeantime:
    """The whole decision is taken again on what is known now."""

    PAIR = room(agent("A", "x"), agent("B", "x", joined=10))

    def test_nothing(self) -> None:
        """Then it is due."""
        assert Guarded(self.PAIR, [Duplicates()]).due() == {"B"}

    def test_its_group_has_shrunk(self) -> None:
        """The last one stays."""
        night = Guarded(self.PAIR, [Duplicates()])
        night.leave("A")

        assert night.due() == set()

    def test_it_is_at_work_again(self) -> None:
        """It was idle at the time of the decision."""
        night = Guarded(room(agent("A", active=10)), [IDLE])
        night.change(agent("A", active=99))

        assert night.due() == set()

    def test_it_is_exempt(self) -> None:
        """Exempt wins."""
        night = Guarded(self.PAIR, [Duplicates()])
        night.guards = Guards(exempt_identities=("B",))

        assert night.due() == set()

    def test_the_rule_is_gone(self) -> None:
        """It stays, unless another rule evicts it too."""
        night = Guarded(self.PAIR, [Duplicates(), MaxLifetime(limit=95)])
        night.policies = [MaxLifetime(limit=95)]
        assert night.due() == {"A"}

        night.policies = [MaxLifetime(limit=60)]

        assert night.due() == {"A", "B"}

    def test_another_participant_has_its_identity(self) -> None:
        """Another sid is another participant."""
        night = Guarded(self.PAIR, [Duplicates()])
        night.change(agent("B", "x", joined=50, sid="PA_another"))

        assert night.due() == set()

    def test_it_is_the_last_agent_of_a_human_who_came(self) -> None:
        """`keep_last_agent` counts agents leaving under the same rule, so that one of them stays."""
        night = Guarded(room(agent("A"), agent("B", active=10)), [IDLE], Guards(keep_last_agent=True))
        assert night.due() == {"A", "B"}
        night.change(human("H"))

        assert night.due() == {"A"}

    def test_the_budget_is_spent(self) -> None:
        """Its share was set aside at the decision."""
        night = Guarded(room(agent("A"), agent("B")), [IDLE], Guards(max_per_minute=2))
        night.remove("A")
        night.guards = Guards(max_per_minute=1)

        assert night.due() == {"B"}


class TestAnAvatar:
    """It follows its principal out."""

    def test_that_follows_is_due_as_long_as_its_principal_is(self) -> None:
        """Until the principal's removal has gone out, it may be called off."""
        night = Guarded(room(agent("A", "x", active=10), avatar("V", "A")), [IDLE])
        assert night.due() == {"A", "V"}

        night.change(agent("A", "x", active=99))

        assert night.due() == set()

    def test_follows_one_that_was_removed(self) -> None:
        """Then it is due by itself."""
        night = Guarded(room(agent("A", "x", active=10), avatar("V", "A")), [IDLE])
        night.remove("A")

        assert night.due() == {"V"}

    @pytest.mark.parametrize("removed", [False, True])
    def test_stays_if_it_has_become_exempt(self, *, removed: bool) -> None:
        """Even though its principal leaves."""
        night = Guarded(room(agent("A", "x", active=10), avatar("V", "A")), [IDLE])
        if removed:
            night.remove("A")
        night.guards = Guards(exempt_identities=("V",))

        assert night.due() == ({"A"} - ({"A"} if removed else set()))


class TestAParticipantMissingFromTheLastList:
    """Only agents due both with and without it are evicted."""

    def test_makes_no_agent_a_duplicate(self) -> None:
        """The older one may have left."""
        night = Guarded(room(agent("A", "x"), agent("B", "x", joined=10)), [Duplicates()])
        night.unsure = frozenset({"PA_A"})

        assert night.due() == set()
        assert night.moment().decision().evictions == ()

    def test_shields_no_agent(self) -> None:
        """An idle agent is idle in either case."""
        assert Guarded(room(agent("A"), agent("B")), [IDLE], unsure=frozenset({"PA_A"})).due() == {"B"}


def test_what_a_rule_no_longer_wants_is_not_owed() -> None:
    """The list of denied agents has changed."""
    house = room(agent("A", "x"), agent("B", "y"))
    then, now = (Rule(policy=DenyList(agent_names=(name,))) for name in ("x", "y"))
    debt = Debt(Finding(Verdict(house.agents[0], 0, "is denied"), then), house)

    assert owed([debt], house, [now]) == ()
    assert [each.participant.identity for each in owed([debt], house, [then])] == ["A"]


def test_a_successor_that_is_evicted_too_leaves_the_hand_off_as_it_is() -> None:
    """Under the same rule, first to billing and then onwards."""
    chain = Superseded(by={"triage": ("billing",), "billing": ("sales",)})
    desks = ("triage", "billing", "sales")
    night = Guarded(room(*(agent(desk, desk, joined=at) for at, desk in enumerate(desks))), [chain])
    night.remove("billing")

    assert night.due() == {"triage"}


def test_many_that_came_due_at_once_take_time_in_proportion() -> None:
    """What they share is decided once."""

    def work(size: int) -> int:
        agents = [agent(f"A{i}", "assistant", joined=i / 100, dispatch="AD_1") for i in range(size + 1)]
        night = Guarded(room(*agents), [Duplicates(wait_for_life=0)], Guards(max_per_minute=size))
        assert len(night.decided) == size

        def again() -> None:
            recheck = Recheck(night.moment())
            assert all(map(recheck.still_due, night.decided.values()))
            assert not any(map(recheck.may_end_dispatch, night.decided.values()))

        return calls(again)

    assert work(200) < 3 * work(100)


class TestADispatch:
    """Deleting it ends all of its jobs."""

    OLD = agent("A", dispatch="AD_1")

    def may_end(self, *others: Participant, old: Participant = OLD) -> bool:
        """Return True if the dispatch of an idle agent may be deleted."""
        night = Guarded(room(old, *others), [IDLE])
        return Recheck(night.moment()).may_end_dispatch(night.decided[old.identity])

    def test_may_be_deleted_if_its_jobs_all_leave(self) -> None:
        """The other agents have other dispatches."""
        assert self.may_end()
        assert self.may_end(agent("B", active=90), agent("C", active=90, dispatch="AD_2"), human("H"))
        assert self.may_end(agent("B", dispatch="AD_1"))

    def test_may_not_while_another_job_of_it_stays(self) -> None:
        """Even one that is JOINING and not judged."""
        assert not self.may_end(agent("B", dispatch="AD_1", active=90))
        assert not self.may_end(agent("B", dispatch="AD_1", joined=90))

    def test_may_not_once_another_job_of_it_would_stay(self) -> None:
        """Its eviction is under way, and will be called off."""
        night = Guarded(room(self.OLD, agent("B", dispatch="AD_1")), [IDLE])
        night.change(agent("B", dispatch="AD_1", active=99))

        assert not Recheck(night.moment()).may_end_dispatch(night.decided["A"])

    def test_may_not_if_there_is_none_or_it_serves_those_to_come(self) -> None:
        """A per-publisher worker's dispatch serves all humans."""
        assert not self.may_end(old=agent("A"))
        assert not self.may_end(old=agent("A", dispatch="AD_1", serves="H"))
