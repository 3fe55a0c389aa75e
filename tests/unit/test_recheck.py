"""What is still due right before a removal, while others are under way, gone, or would stay if asked now."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from bouncer import Participant, Policy, Room
from bouncer.decide import Finding, Guards
from bouncer.history import History, Outcome
from bouncer.policy import Rule
from bouncer.recheck import Moment, may_end_dispatch, still_due
from bouncer.testing import agent, avatar, human, room
from policies.duplicates import Duplicates
from policies.idle_timeout import IdleTimeout
from policies.lone_chatter import LoneChatter
from policies.max_lifetime import MaxLifetime
from policies.superseded import Superseded

IDLE = IdleTimeout(timeout=60)
CHATTER = LoneChatter(timeout=60)


@dataclass
class Guarded:
    """A room in which all that is decided at 100 is under way, and nothing has been sent yet."""

    room: Room
    policies: Sequence[Policy]
    guards: Guards = field(default_factory=Guards)
    unsure: frozenset[str] = frozenset()
    now: float = 100.0

    def __post_init__(self) -> None:
        self.history = History(jitter=lambda: 0.5)
        evictions = self.moment().decision().evictions
        self.decided = {finding.participant.identity: finding for finding in evictions}
        for finding in evictions:
            self.history.begin(finding, evictions, self.now, sends=True)

    def moment(self) -> Moment:
        """All that there is to decide by."""
        return Moment(
            room=self.room,
            rules=tuple(Rule(policy=policy) for policy in self.policies),
            guards=self.guards,
            now=self.now,
            ledger=self.history.ledger(self.now),
            under_way=dict(self.history.under_way),
            unsure=self.unsure,
        )

    def due(self) -> set[str]:
        """Who of those whose eviction is under way would be evicted at this moment too."""
        under_way = [eviction.finding for eviction in self.history.under_way.values()]
        return {f.participant.identity for f in under_way if still_due(f, self.moment())}

    def send(self, identity: str) -> Finding:
        """The removal of one goes out."""
        self.history.send(self.decided[identity], self.now)
        return self.decided[identity]

    def leave(self, identity: str) -> None:
        """One is gone."""
        self.room = replace(self.room, participants=tuple(p for p in self.room.participants if p.identity != identity))

    def remove(self, identity: str) -> None:
        """One is removed, and its eviction has ended."""
        self.history.end(self.send(identity), Outcome.REMOVED, self.now)
        self.leave(identity)

    def change(self, who: Participant) -> None:
        """Something else is true of one."""
        others = tuple(p for p in self.room.participants if p.identity != who.identity)
        self.room = replace(self.room, participants=(*others, who))


def chatting(identity: str) -> Participant:
    """An agent that speaks, and has since before any human did."""
    return agent(identity, identity, speaking_since=10, chatting_since=10)


class TestWhoLeavesByTheSameRule:
    """One alone would be no chatter and no hand-off, and has to leave all the same."""

    def test_is_counted_while_it_is_on_its_way_out(self) -> None:
        """Both are still due, also once the removal of one went out."""
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

    def test_is_not_counted_when_it_left_by_itself(self) -> None:
        """Then the other is alone without our doing."""
        night = Guarded(room(chatting("A"), chatting("B")), [CHATTER])
        night.leave("A")
        assert night.due() == set()

        night.history.end(night.decided["A"], Outcome.GONE, night.now)

        assert night.due() == set()

    def test_is_not_counted_when_it_would_stay_by_now(self) -> None:
        """A and B are duplicates of a third that left: A would stay, but is being sent away, so B is the last one."""
        night = Guarded(room(*(agent(who, "x", joined=at) for at, who in enumerate("CAB"))), [Duplicates()])
        night.send("A")
        night.leave("C")

        assert night.due() == set()

    def test_nor_when_it_would_have_stayed_and_is_gone(self) -> None:
        """As before, and it has left meanwhile."""
        night = Guarded(room(*(agent(who, "x", joined=at) for at, who in enumerate("CAB"))), [Duplicates()])
        night.remove("A")
        night.leave("C")

        assert night.due() == set()

    def test_keeps_its_place_as_long_as_it_may_be_called_off(self) -> None:
        """As long as A was not sent away, one of the two has to go, and A is the older one."""
        night = Guarded(room(*(agent(who, "x", joined=at) for at, who in enumerate("CAB"))), [Duplicates()])
        night.leave("C")

        assert night.due() == {"B"}


class TestWhoLeavesByAnotherRule:
    """It has left."""

    HOUSE = room(agent("A", "x", active=0), agent("B", "x", joined=30, active=90))

    def test_makes_nobody_a_duplicate(self) -> None:
        """Of a pair the older is idle."""
        assert Guarded(self.HOUSE, [Duplicates(), IDLE]).due() == {"A"}

    def test_unless_its_eviction_has_ended_without(self) -> None:
        """It is tried again after a pause; until then it is there."""
        night = Guarded(self.HOUSE, [Duplicates(), IDLE])
        night.history.end(night.decided["A"], Outcome.FAILED, night.now)

        assert night.due() == {"B"}

    def test_also_if_it_was_first_sent_away_by_the_same(self) -> None:
        """A and B are duplicates of a third that left; A is idle by now too, so that B is the last one."""
        trio = (agent(who, "x", joined=at, active=90) for at, who in enumerate("CAB"))
        night = Guarded(room(*trio), [Duplicates(), IDLE])
        night.send("A")
        night.leave("C")
        night.change(agent("A", "x", joined=1, active=0))

        assert night.due() == {"A"}


class TestWhatChangedMeanwhile:
    """The whole decision is taken again, by what is known now."""

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
        """It was idle when it was decided."""
        night = Guarded(room(agent("A", active=10)), [IDLE])
        night.change(agent("A", active=99))

        assert night.due() == set()

    def test_it_is_exempt(self) -> None:
        """Exempt wins."""
        night = Guarded(self.PAIR, [Duplicates()])
        night.guards = Guards(exempt_identities=("B",))

        assert night.due() == set()

    def test_the_rule_is_gone(self) -> None:
        """Unless another rule wants it out as well."""
        night = Guarded(self.PAIR, [Duplicates(), MaxLifetime(limit=95)])
        night.policies = [MaxLifetime(limit=95)]
        assert night.due() == {"A"}

        night.policies = [MaxLifetime(limit=60)]

        assert night.due() == {"A", "B"}

    def test_somebody_else_has_its_identity(self) -> None:
        """Another sid is another participant."""
        night = Guarded(self.PAIR, [Duplicates()])
        night.change(agent("B", "x", joined=50, sid="PA_another"))

        assert night.due() == set()

    def test_it_is_the_last_agent_of_a_human_who_came(self) -> None:
        """`keep_last_agent` counts those who are on their way out by the same rule, so that one of them stays."""
        night = Guarded(room(agent("A"), agent("B", active=10)), [IDLE], Guards(keep_last_agent=True))
        assert night.due() == {"A", "B"}
        night.change(human("H"))

        assert night.due() == {"A"}

    def test_the_budget_is_spent(self) -> None:
        """It was set aside when it was decided."""
        night = Guarded(room(agent("A"), agent("B")), [IDLE], Guards(max_per_minute=2))
        night.remove("A")
        night.guards = Guards(max_per_minute=1)

        assert night.due() == {"B"}


class TestAnAvatar:
    """It follows its principal out."""

    def test_that_follows_is_due_as_long_as_its_principal_is(self) -> None:
        """Until the removal of that one has gone out it may be called off."""
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
        """Though its principal leaves."""
        night = Guarded(room(agent("A", "x", active=10), avatar("V", "A")), [IDLE])
        if removed:
            night.remove("A")
        night.guards = Guards(exempt_identities=("V",))

        assert night.due() == ({"A"} - ({"A"} if removed else set()))


class TestSomebodyWhomTheLastListLacked:
    """Only who is due with and without them."""

    def test_makes_nobody_a_duplicate(self) -> None:
        """The older one may have left."""
        night = Guarded(room(agent("A", "x"), agent("B", "x", joined=10)), [Duplicates()])
        night.unsure = frozenset({"PA_A"})

        assert night.due() == set()
        assert night.moment().decision().evictions == ()

    def test_shields_nobody(self) -> None:
        """Who is idle is so in either case."""
        assert Guarded(room(agent("A"), agent("B")), [IDLE], unsure=frozenset({"PA_A"})).due() == {"B"}


def test_a_successor_that_is_sent_away_too_leaves_the_hand_off_as_it_is() -> None:
    """By the same rule, first to billing and from there on."""
    chain = Superseded(by={"triage": ("billing",), "billing": ("sales",)})
    desks = ("triage", "billing", "sales")
    night = Guarded(room(*(agent(desk, desk, joined=at) for at, desk in enumerate(desks))), [chain])
    night.remove("billing")

    assert night.due() == {"triage"}


class TestADispatch:
    """Deleting it ends all of its jobs."""

    OLD = agent("A", dispatch="AD_1")

    def may_end(self, *others: Participant, old: Participant = OLD) -> bool:
        """Whether the dispatch of an idle agent may be deleted."""
        night = Guarded(room(old, *others), [IDLE])
        return may_end_dispatch(night.decided[old.identity], night.moment())

    def test_may_be_deleted_if_its_jobs_all_leave(self) -> None:
        """The others in the room are of other dispatches."""
        assert self.may_end()
        assert self.may_end(agent("B", active=90), agent("C", active=90, dispatch="AD_2"), human("H"))
        assert self.may_end(agent("B", dispatch="AD_1"))

    def test_may_not_while_another_job_of_it_stays(self) -> None:
        """Also one that is JOINING, and is not judged."""
        assert not self.may_end(agent("B", dispatch="AD_1", active=90))
        assert not self.may_end(agent("B", dispatch="AD_1", joined=90))

    def test_may_not_once_another_job_of_it_would_stay(self) -> None:
        """Its eviction is under way, and will be called off."""
        night = Guarded(room(self.OLD, agent("B", dispatch="AD_1")), [IDLE])
        night.change(agent("B", dispatch="AD_1", active=99))

        assert not may_end_dispatch(night.decided["A"], night.moment())

    def test_may_not_if_there_is_none_or_it_serves_those_to_come(self) -> None:
        """A per-publisher worker's dispatch is for all humans."""
        assert not self.may_end(old=agent("A"))
        assert not self.may_end(old=agent("A", dispatch="AD_1", publisher="H"))
