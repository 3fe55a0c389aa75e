"""The decision: what the guards hold back, whom a rule judges, who is told, who goes along, and who wins a tie."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from bouncer import Kind, Participant, Policy, Role, Room, Verdict
from bouncer.decide import MAX_ERROR, Decision, Finding, Guards, Ledger, decide
from bouncer.policy import Rule
from bouncer.testing import agent, avatar, human, participant, room
from policies.allow_list import AllowList
from policies.crosstalk import Crosstalk
from policies.deny_list import DenyList
from policies.duplicates import Duplicates
from policies.empty_room import EmptyRoom
from policies.human_takeover import HumanTakeover
from policies.idle_timeout import IdleTimeout
from policies.max_agents import MaxAgents
from policies.max_lifetime import MaxLifetime
from policies.no_return import NoReturn
from policies.orphaned_avatar import OrphanedAvatar
from policies.stuck_state import StuckState
from policies.superseded import Superseded

IDLE = Rule(policy=IdleTimeout(timeout=60))
OLD = Rule(policy=MaxLifetime(limit=100))
KEEP = Guards(keep_last_agent=True)


def at(now: float, house: Room, *rules: Rule | Policy, guards: Guards | None = None, **done: Any) -> Decision:
    """The decision at that instant, with what the ledger says was done."""
    applied = [rule if isinstance(rule, Rule) else Rule(policy=rule) for rule in rules]
    return decide(house, applied, guards or Guards(), now, Ledger(**done))


def evicted(decision: Decision) -> dict[str, str]:
    """Who has to leave, in order, and by which rule."""
    return {f.participant.identity: f.rule.id for f in decision.evictions}


def held(decision: Decision) -> set[tuple[str, str]]:
    """Who is held back, and by what."""
    return {(hold.finding.participant.identity, str(hold.by)) for hold in decision.held}


def told(findings: tuple[Finding, ...]) -> list[tuple[str, str]]:
    """Whom these are about, and the rules."""
    return [(f.participant.identity, f.rule.id) for f in findings]


class TestKeepLastAgent:
    """While a human is in the room, the last agent that is not exempt is held back."""

    def test_the_one_that_comes_due_last_stays(self) -> None:
        """The others leave."""
        house = room(agent("A", active=10), agent("B", active=30), agent("C", active=20), human("H"))
        decision = at(100, house, IDLE, guards=KEEP)

        assert evicted(decision) == {"A": "idle_timeout", "C": "idle_timeout"}
        assert held(decision) == {("B", "keep_last_agent")}

    def test_of_those_due_at_once_the_oldest_stays(self) -> None:
        """By the server's own milliseconds, and then by sid."""
        house = room(agent("A", joined=2, active=10), agent("B", joined=1, active=10), human("H"))

        assert held(at(100, house, IDLE, guards=KEEP)) == {("B", "keep_last_agent")}

    def test_it_is_off_unless_asked_for(self) -> None:
        """Then everybody leaves."""
        decision = at(100, room(agent("A"), human("H")), IDLE)

        assert (evicted(decision), held(decision)) == ({"A": "idle_timeout"}, set())

    @pytest.mark.parametrize(
        "others",
        [
            pytest.param([], id="alone"),
            pytest.param([participant("E", kind=Kind.EGRESS, role=Role.OTHER)], id="a recording"),
            pytest.param([participant("B", role=Role.BOUNCER)], id="a bouncer"),
            pytest.param([avatar("V", "A")], id="its avatar"),
        ],
    )
    def test_without_a_human_nobody_is_kept(self, others: list[Participant]) -> None:
        """There is nobody to leave in a dead room."""
        assert "A" in evicted(at(100, room(agent("A"), *others), IDLE, guards=KEEP))

    @pytest.mark.parametrize("kind", [Kind.STANDARD, Kind.SIP, Kind.CONNECTOR, Kind.BRIDGE])
    def test_any_human_counts_however_connected(self, kind: Kind) -> None:
        """And be it still joining."""
        assert not at(100, room(agent("A"), human("H", kind=kind)), IDLE, guards=KEEP).evictions
        assert not at(100, room(agent("A"), human("H", kind=kind, active=False)), IDLE, guards=KEEP).evictions

    @pytest.mark.parametrize(
        "policy",
        [
            AllowList(agent_names=("billing",)),
            DenyList(agent_names=("triage",)),
            HumanTakeover(identity=("H",)),
            MaxLifetime(limit=1),
            NoReturn(),
        ],
        ids=lambda policy: policy.name,
    )
    def test_rules_that_may_clear_the_room(self, policy: Policy) -> None:
        """Whoever asked for these wants nobody to stay."""
        house = room(agent("A", "triage", joined=5), human("H"), evicted_at={"A": 1})

        assert evicted(at(100, house, policy, guards=KEEP)) == {"A": policy.name}

    def test_superseded_may_too(self) -> None:
        """Its successor is due by a rule that may not, and came due first: that makes it no last one either."""
        house = room(agent("A", "triage", state="thinking"), agent("B", "billing", joined=70, active=1), human("H"))
        decision = at(100, house, IDLE, Superseded(by={"triage": ("billing",)}, grace=20), guards=KEEP)

        assert evicted(decision) == {"B": "idle_timeout", "A": "superseded"}

    @pytest.mark.parametrize(
        ("policy", "facts"),
        [
            (Crosstalk(), {"speaking_since": 50}),
            (Duplicates(), {}),
            (IdleTimeout(timeout=1), {}),
            (MaxAgents(max=1), {}),
            (StuckState(), {"state": "initializing"}),
        ],
        ids=lambda value: getattr(value, "name", ""),
    )
    def test_all_other_rules_leave_one(self, policy: Policy, facts: Mapping[str, Any]) -> None:
        """Where these would not leave one themselves, the guard does."""
        house = room(agent("A", "x", joined=1, **facts), agent("B", "x", joined=2, **facts), human("H"))

        assert len(at(1000, house, policy, guards=KEEP).evictions) == 1

    def test_the_last_one_leaves_by_a_rule_that_may_clear_the_room_although_others_hold_it(self) -> None:
        """The hold is on the rule that may not, and the other one is carried out when it comes due."""
        house = room(agent("A"), human("H"))

        early, late = at(99, house, IDLE, OLD, guards=KEEP), at(100, house, IDLE, OLD, guards=KEEP)

        assert (evicted(early), held(early)) == ({}, {("A", "keep_last_agent")})
        assert (evicted(late), held(late)) == ({"A": "max_lifetime"}, {("A", "keep_last_agent")})

    def test_an_exempt_agent_is_not_the_last_one(self) -> None:
        """It stays anyway, and is no reason to let another go."""
        house = room(agent("rec", "recorder", active=90), agent("A", "x", active=10), human("H"))
        guards = Guards(keep_last_agent=True, exempt_agent_names=("recorder",))
        decision = at(200, house, IDLE, guards=guards)

        assert evicted(decision) == {}
        assert held(decision) == {("rec", "exempt"), ("A", "keep_last_agent")}

    @pytest.mark.parametrize(
        "other",
        [
            pytest.param(agent("B", "x", active=90), id="not due yet"),
            pytest.param(agent("B", "x", state="thinking"), id="not due at all"),
            pytest.param(agent("B", "x", observable=False), id="in doubt"),
            pytest.param(agent("B", "watched"), id="only reported"),
            pytest.param(agent("B", "other"), id="not judged"),
        ],
    )
    def test_who_stays_anyway_is_company_enough(self, other: Participant) -> None:
        """Then nobody has to be held back."""
        house = room(agent("A", "x"), other, human("H"))
        idle = Rule(policy=IdleTimeout(timeout=60), only=("x",))
        watched = Rule(policy=IdleTimeout(timeout=60), index=1, action="report", only=("watched",))
        decision = at(100, house, idle, watched, guards=KEEP)

        assert evicted(decision) == {"A": "idle_timeout"}
        assert ("A", "keep_last_agent") not in held(decision)

    @pytest.mark.parametrize(
        "other",
        [
            pytest.param(participant("B", role=Role.AGENT, active=False), id="one that is still joining"),
            pytest.param(participant("B", role=Role.BOUNCER), id="a bouncer"),
            pytest.param(participant("B", kind=Kind.AGENT, role=Role.OTHER), id="one that may be a bouncer"),
            pytest.param(avatar("V", "A"), id="its avatar"),
            pytest.param(agent("V", on_behalf_of="P", active=99, principal_left_at=99), id="an orphaned avatar"),
        ],
    )
    def test_who_can_not_take_over_is_no_company(self, other: Participant) -> None:
        """The people would be left with nobody who answers."""
        house = room(agent("A"), other, human("H"))
        decision = at(100, house, IDLE, guards=KEEP)

        assert "A" not in evicted(decision)
        assert ("A", "keep_last_agent") in held(decision)

    def test_an_orphaned_avatar_is_not_kept_as_the_last_agent(self) -> None:
        """A face without anybody behind it answers nobody."""
        house = room(agent("V", on_behalf_of="P", principal_left_at=100), human("H"))

        assert evicted(at(200, house, OrphanedAvatar(), guards=KEEP)) == {"V": "orphaned_avatar"}

    def test_while_others_are_leaving_the_one_that_is_left_is_the_last(self) -> None:
        """An eviction under way takes away its agent already."""
        house = room(agent("A", active=10), agent("B", active=0), human("H"))

        assert held(at(100, house, IDLE, guards=KEEP, leaving=frozenset({"PA_B"}))) == {("A", "keep_last_agent")}
        assert held(at(100, house, IDLE, guards=KEEP, leaving=frozenset({"PA_A"}))) == {("B", "keep_last_agent")}

    def test_one_that_failed_to_be_removed_is_on_its_way_out(self) -> None:
        """Its being there still lets nobody else go."""
        house = room(agent("A", active=10), agent("B", active=0), human("H"))
        decision = at(100, house, IDLE, guards=KEEP, retry_at={"PA_B": 130})

        assert (evicted(decision), held(decision)) == ({}, {("A", "keep_last_agent")})

    def test_a_dry_run_holds_the_same_one(self) -> None:
        """What it has said it would evict is still there, and doesn't make the last one expendable."""
        house = room(agent("A", active=10), agent("B", active=0), human("H"))
        decision = at(100, house, IDLE, guards=KEEP, handled=frozenset({("PA_B", "idle_timeout")}))

        assert (evicted(decision), held(decision)) == ({}, {("A", "keep_last_agent")})

    def test_it_spends_no_budget(self) -> None:
        """Who is held back leaves the budget to the others."""
        house = room(agent("A", active=0), agent("B", active=10), human("H"))
        guards = Guards(keep_last_agent=True, max_per_minute=1)

        assert evicted(at(100, house, IDLE, guards=guards)) == {"A": "idle_timeout"}

    def test_a_report_on_the_last_one_is_made(self) -> None:
        """Reporting ends no call."""
        report = Rule(policy=IdleTimeout(timeout=60), action="report")
        decision = at(100, room(agent("A"), human("H")), report, guards=KEEP)

        assert (told(decision.reports), held(decision)) == ([("A", "idle_timeout")], set())


class TestBudget:
    """Over `max_per_minute`, nothing more is evicted until the minute has slid on."""

    THREE = room(agent("A", joined=3, active=5), agent("B", joined=2, active=5), agent("C", joined=9, active=1))

    @pytest.mark.parametrize(
        ("per_minute", "sent", "out"),
        [
            pytest.param(10, [], "CBA", id="all"),
            pytest.param(2, [], "CB", id="the earliest due first, then the oldest"),
            pytest.param(2, [99], "C", id="what was sent counts"),
            pytest.param(2, [99, 99], "", id="for a minute"),
            pytest.param(2, [40, 99], "C", id="and then no longer"),
            pytest.param(2, [41, 99], "", id="not even a second less"),
            pytest.param(1, [90, 95, 99], "", id="more than there may be"),
        ],
    )
    def test_it_lets_so_many_go(self, per_minute: int, sent: list[float], out: str) -> None:
        """Those that came due first; the others are held back."""
        decision = at(100, self.THREE, IDLE, guards=Guards(max_per_minute=per_minute), sent=tuple(sent))

        assert "".join(evicted(decision)) == out
        assert held(decision) == {(identity, "max_per_minute") for identity in "ABC" if identity not in out}

    def test_of_those_that_joined_at_once_the_sid_decides(self) -> None:
        """So that two bouncers choose the same."""
        house = room(agent("A", sid="PA_2"), agent("B", sid="PA_1"))

        assert list(evicted(at(100, house, IDLE, guards=Guards(max_per_minute=1)))) == ["B"]

    def test_it_looks_again_when_the_minute_has_slid_on(self) -> None:
        """That is when the next one may go."""
        decision = at(100, self.THREE, IDLE, guards=Guards(max_per_minute=2), sent=(45.0, 70.0))

        assert decision.wake_at == 105

    def test_what_is_decided_and_not_sent_counts_too(self) -> None:
        """Or evictions that run side by side would overspend."""
        decision = at(100, self.THREE, IDLE, guards=Guards(max_per_minute=2), unsent=1)

        assert list(evicted(decision)) == ["C"]

    def test_reports_and_those_held_back_cost_nothing(self) -> None:
        """Only what is removed counts."""
        house = room(agent("A"), agent("rec", "recorder"), agent("D", observable=False), agent("E", active=30))
        report = Rule(policy=OLD.policy, action="report")
        guards = Guards(max_per_minute=1, exempt_agent_names=("recorder",))
        decision = at(100, house, IDLE, report, guards=guards)

        assert list(evicted(decision)) == ["A"]
        assert ("E", "max_per_minute") in held(decision)
        assert len(decision.reports) == 3

    def test_avatars_cost_nothing(self) -> None:
        """They leave in the same decision as their principals, whatever is left."""
        house = room(agent("A"), avatar("V", "A"), agent("B", active=10), avatar("W", "B"))
        decision = at(100, house, IDLE, guards=Guards(max_per_minute=1))

        assert list(evicted(decision)) == ["A", "V"]


class TestExempt:
    """Who is exempt is seen and counted, and never evicted."""

    @pytest.mark.parametrize(
        ("guards", "exempt"),
        [
            (Guards(exempt_identities=("A",)), True),
            (Guards(exempt_identities=("x", "A*")), True),
            (Guards(exempt_agent_names=("assist*",)), True),
            (Guards(exempt_identities=("a",)), False),
            (Guards(exempt_identities=("assistant",)), False),
            (Guards(exempt_identities=("PA_A",)), False),
            (Guards(exempt_agent_names=("A",)), False),
            (Guards(exempt_agent_names=("assist",)), False),
            (Guards(exempt_agent_names=()), False),
        ],
    )
    def test_by_identity_or_by_agent_name(self, guards: Guards, exempt: bool) -> None:  # noqa: FBT001 - a column
        """Globs, matched whole and with their case, each against its own."""
        decision = at(100, room(agent("A", "assistant")), IDLE, guards=guards)

        assert ("A" not in evicted(decision)) == exempt
        assert (("A", "exempt") in held(decision)) == exempt

    def test_an_agent_without_a_name_is_exempt_by_its_identity_alone(self) -> None:
        """No glob on names means somebody who has none."""
        assert evicted(at(100, room(agent("A")), IDLE, guards=Guards(exempt_agent_names=("*",))))

    def test_nobody_is_held_back_before_they_are_due(self) -> None:
        """There is nothing to report yet."""
        assert held(at(59, room(agent("A")), IDLE, guards=Guards(exempt_identities=("A",)))) == set()

    def test_it_counts_as_a_member_of_its_group(self) -> None:
        """The other of its name is one too many, be it the older or the younger."""
        guards = Guards(exempt_identities=("A",))
        older = room(agent("A", "x", joined=1), agent("B", "x", joined=2))
        younger = room(agent("A", "x", joined=2), agent("B", "x", joined=1))

        assert evicted(at(100, older, Duplicates(), guards=guards)) == {"B": "duplicates"}
        assert evicted(at(100, younger, Duplicates(), guards=guards)) == {}
        assert evicted(at(100, younger, Duplicates(keep="newest"), guards=guards)) == {"B": "duplicates"}

    def test_it_counts_as_a_successor_and_among_the_agents(self) -> None:
        """Exempt from leaving is not absent."""
        house = room(agent("A", "triage", joined=1), agent("B", "billing", joined=2))
        guards = Guards(exempt_identities=("B",))

        assert evicted(at(100, house, Superseded(by={"triage": ("billing",)}), guards=guards)) == {"A": "superseded"}
        assert evicted(at(100, house, MaxAgents(max=1), guards=Guards(exempt_identities=("A",)))) == {"B": "max_agents"}

    def test_it_is_not_reported_by_rules_that_report(self) -> None:
        """Beyond every policy means also these."""
        report = Rule(policy=IdleTimeout(timeout=60), action="report")
        decision = at(100, room(agent("A")), report, guards=Guards(exempt_identities=("A",)))

        assert (decision.reports, held(decision)) == ((), {("A", "exempt")})

    def test_an_exempt_avatar_stays_behind(self) -> None:
        """By its own identity."""
        house = room(agent("A"), avatar("V", "A"))

        assert list(evicted(at(100, house, IDLE, guards=Guards(exempt_identities=("V",))))) == ["A"]


class TestOnly:
    """`only` narrows whom a policy judges, not whom it sees."""

    def test_who_is_not_judged_is_seen(self) -> None:
        """The oldest counts as the one that stays, although it is none of the rule's concern."""
        house = room(agent("A", "x", joined=1), agent("B", "y", joined=2), agent("C", "x", joined=3))

        assert evicted(at(100, house, Rule(policy=MaxAgents(max=1), only=("y",)))) == {"B": "max_agents"}
        assert evicted(at(100, house, Rule(policy=MaxAgents(max=2), only=("y",)))) == {}

    @pytest.mark.parametrize(
        ("only", "out"),
        [
            (None, ["A", "B", "C"]),
            (("*",), ["A", "B", "C"]),
            (("assistant",), ["A"]),
            (("assist*", "x"), ["A"]),
            (("assistant", "support"), ["A", "B"]),
            (("Assistant",), []),
            (("assist",), []),
            (("A", "PA_A"), []),
            ((), []),
        ],
    )
    def test_it_is_about_agent_names(self, only: tuple[str, ...] | None, out: list[str]) -> None:
        """Globs, matched whole and with their case; an agent without a name matches only what matches everything."""
        house = room(agent("A", "assistant", joined=1), agent("B", "support", joined=2), agent("C", joined=3))

        assert list(evicted(at(100, house, Rule(policy=IdleTimeout(timeout=60), only=only)))) == out

    def test_who_is_not_judged_is_not_reported_held_or_told(self) -> None:
        """Nothing at all."""
        rule = Rule(policy=IdleTimeout(timeout=60), only=("other",), notice=30, action="report")
        guards = Guards(exempt_identities=("A",))

        for now in (40, 100):
            decision = at(now, room(agent("A", "x")), rule, guards=guards)
            assert decision == Decision()


class TestSeveralRules:
    """One policy several times, and several policies on one agent."""

    def test_each_of_a_list_judges_by_its_own_options(self) -> None:
        """And goes by its own name."""
        first = Rule(policy=IdleTimeout(timeout=60), only=("x",))
        second = Rule(policy=IdleTimeout(timeout=20), index=1, only=("y",))
        third = Rule(policy=IdleTimeout(timeout=10), index=2, action="report")
        decision = at(30, room(agent("A", "x"), agent("B", "y")), first, second, third)

        assert evicted(decision) == {"B": "idle_timeout[1]"}
        assert told(decision.reports) == [("A", "idle_timeout[2]"), ("B", "idle_timeout[2]")]
        assert told(decision.pending) == [("A", "idle_timeout")]

    def test_the_earliest_due_wins(self) -> None:
        """Whichever rule is listed first."""
        house = room(agent("A"))

        assert evicted(at(200, house, IDLE, OLD)) == {"A": "idle_timeout"}
        assert evicted(at(200, house, OLD, IDLE)) == {"A": "idle_timeout"}

    def test_a_tie_goes_to_the_rule_that_is_listed_first(self) -> None:
        """In the order of the registry, then of the list."""
        house = room(agent("A"))
        old = Rule(policy=MaxLifetime(limit=60))
        again = Rule(policy=IdleTimeout(timeout=60), index=1)

        assert evicted(at(100, house, IDLE, old)) == {"A": "idle_timeout"}
        assert evicted(at(100, house, old, IDLE)) == {"A": "max_lifetime"}
        assert evicted(at(100, house, IDLE, again)) == {"A": "idle_timeout"}

    def test_evictions_are_in_order_of_due_then_age(self) -> None:
        """The order in which a budget would be spent."""
        house = room(agent("A", joined=3), agent("B", joined=2), agent("C", joined=1, active=9))

        assert list(evicted(at(100, house, IDLE))) == ["B", "A", "C"]

    def test_what_is_held_for_one_rule_may_leave_by_another(self) -> None:
        """Guards first: among what may be evicted the earliest due wins."""
        decision = at(200, room(agent("A", observable=False)), IDLE, OLD)

        assert (evicted(decision), held(decision)) == ({"A": "max_lifetime"}, {("A", "doubt")})

    def test_a_report_and_an_eviction_of_one_agent_are_two_things(self) -> None:
        """An earlier report doesn't keep it, and being evicted doesn't keep it from being reported."""
        report = Rule(policy=IdleTimeout(timeout=60), action="report")
        house = room(agent("A"))

        early, late = at(99, house, report, OLD), at(100, house, report, OLD)

        assert (told(early.reports), evicted(early)) == ([("A", "idle_timeout")], {})
        assert (told(late.reports), evicted(late)) == ([("A", "idle_timeout")], {"A": "max_lifetime"})

    def test_what_was_handled_is_not_asked_for_again(self) -> None:
        """Once per participant and rule; the other rules go on."""
        report = Rule(policy=IdleTimeout(timeout=60), action="report")
        decision = at(100, room(agent("A")), report, OLD, handled=frozenset({("PA_A", "idle_timeout")}))

        assert (decision.reports, evicted(decision)) == ((), {"A": "max_lifetime"})

    def test_a_report_does_not_wait_for_a_removal_that_failed(self) -> None:
        """It needs no removal."""
        report = Rule(policy=IdleTimeout(timeout=60), action="report")
        decision = at(100, room(agent("A")), report, OLD, retry_at={"PA_A": 130})

        assert (told(decision.reports), evicted(decision)) == ([("A", "idle_timeout")], {})
        assert decision.wake_at == 130


class TestNotices:
    """The room is told `notice` seconds before somebody is due, once, and again if the date moves."""

    TEN = Rule(policy=IdleTimeout(timeout=60), notice=10)
    KEY = ("PA_A", "idle_timeout")

    @pytest.mark.parametrize(
        ("now", "is_told"), [(49, False), (49.9, False), (50, True), (59.9, True), (60, False), (100, False)]
    )
    def test_from_notice_before_due_until_due(self, now: float, is_told: bool) -> None:  # noqa: FBT001 - a column
        """Not earlier, and not once it is too late for that."""
        decision = at(now, room(agent("A")), self.TEN)

        assert told(decision.notices) == ([("A", "idle_timeout")] if is_told else [])

    def test_it_wakes_for_the_notice_and_then_for_the_eviction(self) -> None:
        """A notice is something that changes."""
        house = room(agent("A"))

        assert at(10, house, self.TEN).wake_at == 50
        assert at(50, house, self.TEN, noticed={self.KEY: 60}).wake_at == 60

    @pytest.mark.parametrize(
        ("noticed", "again"),
        [
            pytest.param({("PA_A", "idle_timeout"): 60.0}, False, id="told"),
            pytest.param({("PA_A", "idle_timeout"): 60.3}, False, id="moved by a rounding"),
            pytest.param({("PA_A", "idle_timeout"): 61.0}, True, id="it is earlier now"),
            pytest.param({("PA_A", "idle_timeout"): 30.0}, True, id="it is later now"),
            pytest.param({("PA_A", "max_lifetime"): 60.0}, True, id="told for another rule"),
            pytest.param({("PA_B", "idle_timeout"): 60.0}, True, id="told of somebody else"),
        ],
    )
    def test_once_and_again_if_the_date_moved(
        self,
        noticed: Mapping[tuple[str, str], float],
        again: bool,  # noqa: FBT001 - a column
    ) -> None:
        """By participant and rule."""
        assert bool(at(55, room(agent("A")), self.TEN, noticed=noticed).notices) == again

    def test_nobody_is_told_of_what_will_not_happen(self) -> None:
        """Not of the exempt, and not of what is in doubt."""
        exempt = Guards(exempt_identities=("A",))

        assert not at(55, room(agent("A")), self.TEN, guards=exempt).notices
        assert not at(55, room(agent("A", observable=False)), self.TEN).notices
        assert not at(55, room(agent("A")), IDLE).notices

    def test_a_notice_does_not_postpone_anything(self) -> None:
        """One longer than the timeout is given at once, and due is due."""
        longer = Rule(policy=IdleTimeout(timeout=60), notice=600)

        assert told(at(1, room(agent("A")), longer).notices) == [("A", "idle_timeout")]
        assert evicted(at(60, room(agent("A")), longer)) == {"A": "idle_timeout"}


class TestAvatars:
    """An evicted agent's avatar leaves with it, in the same decision."""

    HOUSE = room(agent("A", "x"), avatar("V", "A"), agent("B", "x", joined=1), avatar("W", "B"), human("H"))

    def test_it_goes_with_its_principal_by_the_same_rule(self) -> None:
        """The other one's stays."""
        decision = at(100, self.HOUSE, Duplicates())

        assert evicted(decision) == {"B": "duplicates", "W": "duplicates"}
        assert "avatar" in decision.evictions[1].verdict.reason

    @pytest.mark.parametrize(
        ("rule", "guards"),
        [
            pytest.param(Rule(policy=Duplicates(), action="report"), Guards(), id="a report"),
            pytest.param(Rule(policy=Duplicates()), Guards(exempt_identities=("B",)), id="an exempt principal"),
            pytest.param(Rule(policy=Duplicates(grace=500)), Guards(), id="a principal that is not due yet"),
            pytest.param(Rule(policy=EmptyRoom(grace=0, never_joined=0)), Guards(), id="nobody due"),
        ],
    )
    def test_it_stays_while_its_principal_stays(self, rule: Rule, guards: Guards) -> None:
        """Whatever keeps that."""
        assert evicted(at(100, self.HOUSE, rule, guards=guards)) == {}

    def test_it_stays_with_the_last_agent(self) -> None:
        """Which is held back."""
        house = room(agent("A", active=10), avatar("V", "A"), agent("B"), avatar("W", "B"), human("H"))

        assert list(evicted(at(100, house, IDLE, guards=KEEP))) == ["B", "W"]

    def test_one_that_was_left_behind_follows(self) -> None:
        """Where its removal failed, or it came to be known as an avatar later: the ledger knows its principal."""
        principal = Finding(at(100, self.HOUSE, Duplicates()).evictions[0].verdict, Rule(policy=Duplicates()))
        left_behind = agent("W", on_behalf_of="B", principal_left_at=101)
        house = room(agent("A", "x"), left_behind)

        assert evicted(at(102, house, Duplicates(), evicted={"B": principal})) == {"W": "duplicates"}
        assert evicted(at(102, house, Duplicates())) == {}

    def test_nobody_follows_an_avatar(self) -> None:
        """Who names one as its principal has none: it is judged like any other agent."""
        house = room(agent("A", "x"), agent("B", "x", joined=1), avatar("V", "B"))
        _, follower = at(100, house, Duplicates()).evictions
        claimant = agent("W", on_behalf_of="V", principal_left_at=101)

        assert follower.follows
        assert evicted(at(102, room(agent("A", "x"), claimant), Duplicates(), evicted={"V": follower})) == {}

    def test_a_failed_removal_of_it_is_tried_again_when_it_may_be(self) -> None:
        """Like any other."""
        principal = Finding(at(100, self.HOUSE, Duplicates()).evictions[0].verdict, Rule(policy=Duplicates()))
        house = room(agent("A", "x"), agent("W", on_behalf_of="B", principal_left_at=101))
        done: dict[str, Any] = {"evicted": {"B": principal}, "retry_at": {"PA_W": 110}}

        early, late = at(102, house, Duplicates(), **done), at(110, house, Duplicates(), **done)

        assert (evicted(early), early.wake_at) == ({}, 110)
        assert evicted(late) == {"W": "duplicates"}

    def test_who_follows_is_evicted_once_although_a_rule_says_so_too(self) -> None:
        """At most once per decision."""
        principal = Finding(at(100, self.HOUSE, Duplicates()).evictions[0].verdict, Rule(policy=Duplicates()))
        house = room(agent("W", on_behalf_of="B", principal_left_at=101))
        decision = at(200, house, OrphanedAvatar(), evicted={"B": principal})

        assert [f.participant.identity for f in decision.evictions] == ["W"]

    @pytest.mark.parametrize(
        "state", [{}, {"role": Role.AGENT, "kind": Kind.AGENT, "active": False}], ids=["here", "JOINING"]
    )
    def test_the_avatar_of_one_that_is_back_stays(self, state: Mapping[str, Any]) -> None:
        """It is somebody else's now, or has its principal again."""
        principal = Finding(at(100, self.HOUSE, Duplicates()).evictions[0].verdict, Rule(policy=Duplicates()))
        back = participant("B", joined=150, sid="PA_2", **state) if state else agent("B", "x", joined=150, sid="PA_2")
        house = room(back, avatar("W", "B"))

        assert evicted(at(200, house, Duplicates(), evicted={"B": principal})) == {}

    def test_one_that_is_still_joining_is_left_alone(self) -> None:
        """Removed while joining, it would only come back."""
        house = room(agent("A"), avatar("V", "A", active=False))

        assert list(evicted(at(100, house, IDLE))) == ["A"]


class TestDoubt:
    """What can't be known for certain is said, not done."""

    def test_it_is_held_when_it_comes_due(self) -> None:
        """Not before."""
        house = room(agent("A", observable=False))

        assert held(at(59, house, IDLE)) == set()
        assert held(at(60, house, IDLE)) == {("A", "doubt")}
        assert evicted(at(1000, house, IDLE)) == {}

    def test_a_rule_that_only_reports_reports_it(self) -> None:
        """A report does no harm."""
        report = Rule(policy=IdleTimeout(timeout=60), action="report")
        decision = at(60, room(agent("A", observable=False)), report)

        assert (told(decision.reports), held(decision)) == ([("A", "idle_timeout")], set())


def test_what_comes_is_listed_by_date_and_the_first_of_it_wakes() -> None:
    """A countdown for whoever wants to show one."""
    house = room(agent("A", joined=30), agent("B", joined=10))
    decision = at(50, house, IDLE, OLD)

    assert told(decision.pending) == [
        ("B", "idle_timeout"), ("A", "idle_timeout"), ("B", "max_lifetime"), ("A", "max_lifetime")
    ]  # fmt: skip
    assert decision.wake_at == 70


def test_nothing_comes_and_nothing_wakes() -> None:
    """A room in which nobody breaks anything is left in peace."""
    assert at(50, room(human("H"), agent("A", state="thinking")), IDLE) == Decision()


class Unspeakable(Exception):  # noqa: N818 - not an error of ours
    """An exception that can't be shown."""

    def __str__(self) -> str:
        raise self


@dataclass(frozen=True, slots=True, kw_only=True)
class Raising:
    """Raises."""

    name: ClassVar[str] = "raising"
    error: BaseException

    def evaluate(self, _: Room) -> Iterable[Verdict]:
        """Raise it."""
        raise self.error


@pytest.mark.parametrize(
    "error",
    [SystemExit(), GeneratorExit(), asyncio.CancelledError(), Unspeakable(), RuntimeError("x" * 1_000_000)],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_policy_raises_is_a_fault(error: BaseException) -> None:
    """Also what would end a program or a task, and what has no text or too much of it."""
    decision = at(200, room(agent("A")), Raising(error=error), OLD)

    (fault,) = decision.faults
    assert fault.error.startswith(type(error).__name__)
    assert len(fault.error) <= MAX_ERROR
    assert evicted(decision) == {"A": "max_lifetime"}


def test_a_fault_does_not_keep_anybody_from_ending_the_program() -> None:
    """Ctrl-C is the user's, not the policy's."""
    with pytest.raises(KeyboardInterrupt):
        at(200, room(agent("A")), Raising(error=KeyboardInterrupt()))
