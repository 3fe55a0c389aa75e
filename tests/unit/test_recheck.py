"""What is still due right before a removal, while others are under way, gone, or would stay if asked now."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from operator import methodcaller
from typing import Any

import pytest

from bouncer import Participant, Policy, Room, Verdict
from bouncer.decide import Finding, Guards, Outcome
from bouncer.guard.history import Debt, History
from bouncer.guard.recheck import Moment, Recheck, owed, remaining
from bouncer.policy import Rule
from bouncer.testing import agent, avatar, human, room
from policies.deny_list import DenyList
from policies.duplicates import Duplicates
from policies.empty_room import EmptyRoom
from policies.human_takeover import HumanTakeover
from policies.idle_timeout import IdleTimeout
from policies.lone_chatter import LoneChatter
from policies.max_lifetime import MaxLifetime
from policies.superseded import Superseded
from tests.told import calls

IDLE = IdleTimeout(timeout=60)
CHATTER = LoneChatter(timeout=60)
OLD = MaxLifetime(limit=95)


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

    def send(self, identity: str) -> None:
        """Send one agent's removal."""
        self.history.send(self.decided[identity], self.now)

    def leave(self, identity: str) -> None:
        """One agent leaves."""
        self.room = replace(self.room, participants=tuple(p for p in self.room.participants if p.identity != identity))

    def end(self, identity: str, outcome: Outcome) -> None:
        """One agent's eviction ends."""
        self.history.end(self.decided[identity], outcome, self.now)

    def remove(self, identity: str) -> None:
        """One agent is removed, and its eviction ends."""
        self.send(identity)
        self.end(identity, Outcome.REMOVED)
        self.leave(identity)

    def lack(self, identity: str) -> None:
        """A list lacks one agent."""
        self.unsure = frozenset({f"PA_{identity}"})

    def guard(self, **guards: Any) -> None:
        """Put other guards into force."""
        self.guards = Guards(**guards)

    def apply(self, *policies: Policy) -> None:
        """Put other policies into force."""
        self.policies = policies

    def change(self, who: Participant) -> None:
        """Change a fact of one agent."""
        others = tuple(p for p in self.room.participants if p.identity != who.identity)
        self.room = replace(self.room, participants=(*others, who))


def chatting(identity: str) -> Participant:
    """Return an agent that has been speaking since before any human did."""
    return agent(identity, identity, speaking_since=10, chatting_since=10)


CHAT = room(chatting("A"), chatting("B"))
TRIO = room(*(agent(who, "x", joined=at, active=90) for at, who in enumerate("CAB")))
"""Duplicates: C is the oldest, and the other two are evicted."""
PAIR = room(agent("A", "x"), agent("B", "x", joined=10))
IDLE_AND_YOUNGER = room(agent("A", "x", active=0), agent("B", "x", joined=30, active=90))
WITH_AVATAR = room(agent("A", "x", active=10), avatar("V", "A"))
DESKS = room(*(agent(desk, desk, joined=at) for at, desk in enumerate("TUV")))
HAND_OFF = Superseded(by={"T": ("U",), "U": ("V",)})
DENIED = DenyList(agent_names=("A",))

Step = methodcaller
Row = tuple[str, Room, Sequence[Policy], Sequence[Step], str]
"""What it shows; the room and the policies that the decision was taken on; what happens then; who is still due."""

AS_DECIDED: Sequence[Row] = [
    ("nothing has happened", CHAT, [CHATTER], [], "AB"),
    ("one is on its way out", CHAT, [CHATTER], [Step("send", "A")], "AB"),
    ("one was removed, and its eviction hasn't ended", CHAT, [CHATTER], [Step("send", "A"), Step("leave", "A")], "B"),
    ("one was removed", CHAT, [CHATTER], [Step("remove", "A")], "B"),
    ("one left by itself, so that the other is not alone because of us", CHAT, [CHATTER], [Step("leave", "A")], ""),
    ("and its eviction has ended", CHAT, [CHATTER], [Step("leave", "A"), Step("end", "A", Outcome.GONE)], ""),
    ("nothing was sent, so all may be called off", CHAT, [CHATTER], [Step("change", agent("A", spoke_at=20))], ""),
    ("a list lacks the one that we removed", CHAT, [CHATTER], [Step("send", "A"), Step("lack", "A")], "AB"),
    ("one leaves under another rule too", CHAT, [CHATTER, DENIED], [], "AB"),
    ("one is carried out under a rule that it broke earlier", CHAT, [CHATTER, DENIED], [Step("remove", "A")], "B"),
    *(
        (what, CHAT, [CHATTER], [Step("send", "A"), Step("change", who)], due)
        for what, who, due in [
            ("the last words of the one that is sent away end", agent("A", "A", spoke_at=20, chatting_since=10), "AB"),
            ("the last words of the other end", agent("B", "B"), "AB"),
            ("a person speaks at last", human("H", spoke_at=99), "AB"),
            ("a person who can't be heard may have spoken: a doubt", human("H", audible=False), ""),
            ("the other is another participant by now", agent("B", "B", sid="PA_another"), "A"),
        ]
    ),
]

AS_COMMITTED: Sequence[Row] = [
    ("A would stay by now, but is being evicted", TRIO, [Duplicates()], [Step("send", "A"), Step("leave", "C")], ""),
    ("A would have stayed, and is gone", TRIO, [Duplicates()], [Step("remove", "A"), Step("leave", "C")], ""),
    ("until A's removal is sent, one must go, and A is older", TRIO, [Duplicates()], [Step("leave", "C")], "B"),
    ("an idle one that leaves makes no duplicate", IDLE_AND_YOUNGER, [Duplicates(), IDLE], [], "A"),
    (
        "until the eviction that failed is tried again, it is there",
        IDLE_AND_YOUNGER,
        [Duplicates(), IDLE],
        [Step("end", "A", Outcome.FAILED)],
        "B",
    ),
    (
        "A has become idle too, and leaves in any case",
        TRIO,
        [Duplicates(), IDLE],
        [Step("leave", "C"), Step("change", agent("A", "x", joined=1, active=0))],
        "A",
    ),
    (
        "A has become idle too, and counts as gone",
        TRIO,
        [Duplicates(), IDLE],
        [Step("send", "A"), Step("leave", "C"), Step("change", agent("A", "x", joined=1, active=0))],
        "A",
    ),
    ("a successor that leaves too leaves the hand-off as it is", DESKS, [HAND_OFF], [Step("remove", "U")], "T"),
]

BY_NOW: Sequence[Row] = [
    ("nothing has happened", PAIR, [Duplicates()], [], "B"),
    ("its group has shrunk, and the last one stays", PAIR, [Duplicates()], [Step("leave", "A")], ""),
    ("it is at work again", room(agent("A", active=10)), [IDLE], [Step("change", agent("A", active=99))], ""),
    ("it is exempt", PAIR, [Duplicates()], [Step("guard", exempt_identities=("B",))], ""),
    ("its rule is gone", PAIR, [Duplicates(), OLD], [Step("apply", OLD)], "A"),
    ("another rule evicts it too", PAIR, [Duplicates(), OLD], [Step("apply", MaxLifetime(limit=60))], "AB"),
    (
        "another participant has its identity",
        PAIR,
        [Duplicates()],
        [Step("change", agent("B", "x", joined=50, sid="PA_another"))],
        "",
    ),
    (
        "of those that leave under one rule one stays for the person who came",
        room(agent("A"), agent("B", active=10)),
        [IDLE],
        [Step("guard", keep_last_agent=True), Step("change", human("H"))],
        "A",
    ),
    (
        "the budget is spent, but its share was set aside",
        room(agent("A"), agent("B")),
        [IDLE],
        [Step("remove", "A"), Step("guard", max_per_minute=1)],
        "B",
    ),
    ("an older one that may have left makes no duplicate", PAIR, [Duplicates()], [Step("lack", "A")], ""),
    ("nor does it shield an idle one", room(agent("A"), agent("B")), [IDLE], [Step("lack", "A")], "B"),
]

AVATARS: Sequence[Row] = [
    ("it follows", WITH_AVATAR, [IDLE], [], "AV"),
    ("its principal is called off", WITH_AVATAR, [IDLE], [Step("change", agent("A", "x", active=99))], ""),
    ("its principal was removed", WITH_AVATAR, [IDLE], [Step("remove", "A")], "V"),
    ("it is exempt", WITH_AVATAR, [IDLE], [Step("guard", exempt_identities=("V",))], "A"),
    (
        "it is exempt, and its principal was removed",
        WITH_AVATAR,
        [IDLE],
        [Step("remove", "A"), Step("guard", exempt_identities=("V",))],
        "",
    ),
]


@pytest.mark.parametrize(
    ("house", "policies", "steps", "due"),
    [
        pytest.param(*row, id=f"{world}: {what}")
        for world, rows in [
            ("as decided", AS_DECIDED),
            ("as committed", AS_COMMITTED),
            ("by now", BY_NOW),
            ("an avatar", AVATARS),
        ]
        for what, *row in rows
    ],
)
def test_who_is_still_due(house: Room, policies: Sequence[Policy], steps: Sequence[Step], due: str) -> None:
    """Of those whose eviction is under way, in the worlds that the module names."""
    night = Guarded(house, policies)
    for step in steps:
        step(night)

    assert night.due() == set(due)


def test_one_that_leaves_counts_only_for_those_that_were_decided_with_it() -> None:
    """A leaves as denied, and chatted with B. C and D chat later, so for them A counts as gone."""
    night = Guarded(room(chatting("A"), chatting("B"), agent("C"), agent("D")), [CHATTER, DENIED])
    assert night.decided["A"].rule.id == "deny_list"
    night.change(chatting("C"))
    night.change(chatting("D"))
    night.decide()
    assert night.due() == {"A", "B", "C", "D"}

    night.leave("B")
    night.leave("C")

    assert night.due() == {"A"}


def test_what_may_be_gone_makes_no_duplicate() -> None:
    """Only agents due both with and without it are evicted."""
    assert Guarded(PAIR, [Duplicates()], unsure=frozenset({"PA_A"})).decided == {}


def test_a_person_that_may_have_left_did_so_just_now() -> None:
    """Nobody is due for a room without people in which the operator was a moment ago."""
    house = room(agent("A", "x", joined=10), human("operator", joined=90))
    rules: list[Policy] = [HumanTakeover(identity=("operator",), grace=3), EmptyRoom(grace=20, never_joined=60)]

    assert Guarded(house, rules).decided.keys() == {"A"}
    assert Guarded(house, rules, unsure=frozenset({"PA_operator"})).decided == {}
    assert Guarded(house.without(frozenset({"PA_operator"})), rules, unsure=frozenset({"PA_B"})).decided.keys() == {"A"}


class TestDebts:
    """One alone would be no chatter, but is owed once the first removal is sent."""

    def test_it_is_owed_whatever_fails_or_waits(self) -> None:
        """After a failed call, or once the budget allows it: the new decision includes it, though it is alone."""
        night = Guarded(room(chatting("A"), chatting("B"), chatting("C")), [CHATTER], Guards(max_per_minute=2))
        night.end("B", Outcome.FAILED)
        night.remove("A")
        night.now = 161.0

        assert [f.participant.identity for f in night.moment().decision().evictions] == ["B", "C"]

    @pytest.mark.parametrize("guards", [Guards(exempt_identities=("B",)), Guards(keep_last_agent=True)])
    def test_what_holds_it_back_ends_it(self, guards: Guards) -> None:
        """Later it is judged like any other agent."""
        night = Guarded(CHAT, [CHATTER])
        night.remove("A")
        night.end("B", Outcome.VOID)
        night.now, night.guards = 110.0, guards
        night.change(human("H"))
        moment = night.moment()
        assert not moment.decision().evictions

        assert not remaining(moment.ledger.owed, moment.decision(), night.now)

    def test_another_configuration_ends_it(self) -> None:
        """The rule is gone, or allows more time."""
        night = Guarded(CHAT, [CHATTER])
        night.remove("A")
        night.apply(LoneChatter(timeout=600))
        moment = night.moment()

        assert not remaining(moment.ledger.owed, moment.decision(), night.now)
        night.apply(IDLE)
        assert not night.moment().ledger.owed

    def test_what_a_rule_no_longer_wants_is_not_owed(self) -> None:
        """The list of denied agents has changed."""
        house = room(agent("A", "x"), agent("B", "y"))
        then, now = (Rule(policy=DenyList(agent_names=(name,))) for name in ("x", "y"))
        debt = Debt(Finding(Verdict(house.agents[0], 0, "is denied"), then), house)

        assert owed([debt], house, [now]) == ()
        assert [each.participant.identity for each in owed([debt], house, [then])] == ["A"]


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
