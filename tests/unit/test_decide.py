"""The decision: holds, the scope of a rule, notices, avatars, and ties."""

import asyncio
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from bouncer import Kind, Participant, Policy, Role, Room, Verdict
from bouncer.decide import MAX_ERROR, Decision, Finding, Guards, Ledger, Removal, decide
from bouncer.policy import Rule
from bouncer.selectors import Selector
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
    """Return the decision at that instant, given what was done before."""
    applied = [rule if isinstance(rule, Rule) else Rule(policy=rule) for rule in rules]
    return decide(house, applied, guards or Guards(), now, Ledger(**done))


def evicted(decision: Decision) -> dict[str, str]:
    """Return the evicted participants in order, each with its rule."""
    return {f.participant.identity: f.rule.id for f in decision.evictions}


def held(decision: Decision) -> set[tuple[str, str]]:
    """Return the participants that are held back, each with the guard."""
    return {(hold.finding.participant.identity, str(hold.by)) for hold in decision.held}


def removals(*instants: float) -> tuple[Removal, ...]:
    """Return removals of other agents at these instants."""
    return tuple(Removal(at, "PA_Z", "Z") for at in instants)


def told(findings: tuple[Finding, ...]) -> list[tuple[str, str]]:
    """Return the participants that these are about, with the rules."""
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
        """The server's milliseconds decide, then the sid."""
        house = room(agent("A", joined=2, active=10), agent("B", joined=1, active=10), human("H"))

        assert held(at(100, house, IDLE, guards=KEEP)) == {("B", "keep_last_agent")}

    def test_it_is_off_unless_asked_for(self) -> None:
        """Without it, all of them leave."""
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
    def test_without_a_human_none_is_kept(self, others: list[Participant]) -> None:
        """No one is left in a dead room."""
        assert "A" in evicted(at(100, room(agent("A"), *others), IDLE, guards=KEEP))

    @pytest.mark.parametrize("kind", [Kind.STANDARD, Kind.SIP, Kind.CONNECTOR, Kind.BRIDGE])
    def test_any_human_counts_however_connected(self, kind: Kind) -> None:
        """Even if still joining."""
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
        """Such a rule means that no agent should stay."""
        house = room(agent("A", "triage", joined=5), human("H"), evicted_at={"A": 1})

        assert evicted(at(100, house, policy, guards=KEEP)) == {"A": policy.name}

    def test_superseded_may_too(self) -> None:
        """Its successor is due earlier under another rule, but that doesn't make it the last one either."""
        house = room(agent("A", "triage", state="thinking"), agent("B", "billing", joined=70, active=1), human("H"))
        decision = at(100, house, IDLE, Superseded(by={"triage": ("billing",)}, grace=20), guards=KEEP)

        assert evicted(decision) == {"B": "idle_timeout", "A": "superseded"}

    @pytest.mark.parametrize(
        ("policy", "facts"),
        [
            (Crosstalk(), {"speaking_since": 50, "audible": True}),
            (Duplicates(), {}),
            (IdleTimeout(timeout=1), {}),
            (MaxAgents(max=1), {}),
            (StuckState(), {"state": "initializing"}),
        ],
        ids=lambda value: getattr(value, "name", ""),
    )
    def test_all_other_rules_leave_one(self, policy: Policy, facts: Mapping[str, Any]) -> None:
        """If they would leave none, the guard keeps one."""
        house = room(agent("A", "x", joined=1, **facts), agent("B", "x", joined=2, **facts), human("H"))

        assert len(at(1000, house, policy, guards=KEEP).evictions) == 1

    def test_the_last_one_leaves_by_a_rule_that_may_clear_the_room_although_others_hold_it(self) -> None:
        """Only the rule that may not clear the room is held. The other one is carried out when due."""
        house = room(agent("A"), human("H"))

        early, late = at(99, house, IDLE, OLD, guards=KEEP), at(100, house, IDLE, OLD, guards=KEEP)

        assert (evicted(early), held(early)) == ({}, {("A", "keep_last_agent")})
        assert (evicted(late), held(late)) == ({"A": "max_lifetime"}, {("A", "keep_last_agent")})

    def test_an_exempt_agent_is_not_the_last_one(self) -> None:
        """It stays anyway, and does not let another agent go."""
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
            pytest.param(agent("B", "x", unseen="unclear"), id="in doubt"),
            pytest.param(agent("B", "watched"), id="only reported"),
            pytest.param(agent("B", "other"), id="not judged"),
        ],
    )
    def test_an_agent_that_stays_anyway_is_company_enough(self, other: Participant) -> None:
        """Then none must be held back."""
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
    def test_an_agent_that_can_not_take_over_is_no_company(self, other: Participant) -> None:
        """People would be left without anyone who answers."""
        house = room(agent("A"), other, human("H"))
        decision = at(100, house, IDLE, guards=KEEP)

        assert "A" not in evicted(decision)
        assert ("A", "keep_last_agent") in held(decision)

    def test_an_orphaned_avatar_is_not_kept_as_the_last_agent(self) -> None:
        """A face with no one behind it answers no one."""
        house = room(agent("V", on_behalf_of="P", principal_left_at=100), human("H"))

        assert evicted(at(200, house, OrphanedAvatar(), guards=KEEP)) == {"V": "orphaned_avatar"}

    def test_while_others_are_leaving_the_one_that_is_left_is_the_last(self) -> None:
        """An agent whose eviction is under way no longer counts."""
        house = room(agent("A", active=10), agent("B", active=0), human("H"))

        assert held(at(100, house, IDLE, guards=KEEP, leaving=frozenset({"PA_B"}))) == {("A", "keep_last_agent")}
        assert held(at(100, house, IDLE, guards=KEEP, leaving=frozenset({"PA_A"}))) == {("B", "keep_last_agent")}

    def test_one_that_failed_to_be_removed_is_on_its_way_out(self) -> None:
        """Its presence lets no other agent go."""
        house = room(agent("A", active=10), agent("B", active=0), human("H"))
        decision = at(100, house, IDLE, guards=KEEP, retry_at={"PA_B": 130})

        assert (evicted(decision), held(decision)) == ({}, {("A", "keep_last_agent")})

    def test_a_dry_run_holds_the_same_one(self) -> None:
        """An agent that it would have evicted is still there, but doesn't make the last one expendable."""
        house = room(agent("A", active=10), agent("B", active=0), human("H"))
        decision = at(100, house, IDLE, guards=KEEP, handled=frozenset({("PA_B", "idle_timeout")}))

        assert (evicted(decision), held(decision)) == ({}, {("A", "keep_last_agent")})

    def test_it_spends_no_budget(self) -> None:
        """A held agent leaves the budget to the others."""
        house = room(agent("A", active=0), agent("B", active=10), human("H"))
        guards = Guards(keep_last_agent=True, max_per_minute=1)

        assert evicted(at(100, house, IDLE, guards=guards)) == {"A": "idle_timeout"}

    def test_a_report_on_the_last_one_is_made(self) -> None:
        """Reporting ends no call."""
        report = Rule(policy=IdleTimeout(timeout=60), action="report")
        decision = at(100, room(agent("A"), human("H")), report, guards=KEEP)

        assert (told(decision.reports), held(decision)) == ([("A", "idle_timeout")], set())


class TestBudget:
    """Beyond `max_per_minute`, nothing more is evicted until the minute has slid on."""

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
        """The first ones due go; the others are held back."""
        decision = at(100, self.THREE, IDLE, guards=Guards(max_per_minute=per_minute), sent=removals(*sent))

        assert "".join(evicted(decision)) == out
        assert held(decision) == {(identity, "max_per_minute") for identity in "ABC" if identity not in out}

    def test_of_those_that_joined_at_once_the_sid_decides(self) -> None:
        """This way two bouncers choose the same."""
        house = room(agent("A", sid="PA_2"), agent("B", sid="PA_1"))

        assert list(evicted(at(100, house, IDLE, guards=Guards(max_per_minute=1)))) == ["B"]

    def test_it_looks_again_when_the_minute_has_slid_on(self) -> None:
        """Then the next one may go."""
        decision = at(100, self.THREE, IDLE, guards=Guards(max_per_minute=2), sent=removals(45, 70))

        assert decision.wake_at == 105

    def test_what_is_decided_and_not_sent_counts_too(self) -> None:
        """Otherwise parallel evictions would overspend."""
        decision = at(100, self.THREE, IDLE, guards=Guards(max_per_minute=2), unsent=1)

        assert list(evicted(decision)) == ["C"]

    def test_reports_and_those_held_back_cost_nothing(self) -> None:
        """Only what is removed counts."""
        house = room(agent("A"), agent("rec", "recorder"), agent("D", unseen="unclear"), agent("E", active=30))
        report = Rule(policy=OLD.policy, action="report")
        guards = Guards(max_per_minute=1, exempt_agent_names=("recorder",))
        decision = at(100, house, IDLE, report, guards=guards)

        assert list(evicted(decision)) == ["A"]
        assert ("E", "max_per_minute") in held(decision)
        assert len(decision.reports) == 3

    def test_avatars_cost_nothing(self) -> None:
        """They leave in the same decision as their principals, whatever the budget."""
        house = room(agent("A"), avatar("V", "A"), agent("B", active=10), avatar("W", "B"))
        decision = at(100, house, IDLE, guards=Guards(max_per_minute=1))

        assert list(evicted(decision)) == ["A", "V"]

    @pytest.mark.parametrize(
        ("sid", "returned", "out"),
        [
            pytest.param("PA_A", 1, ["A", "B"], id="it may come back once"),
            pytest.param("PA_A", 2, ["B"], id="half of the budget is its share"),
            pytest.param("PA_0", 2, ["A", "B"], id="attempts at the same connection don't count"),
        ],
    )
    def test_an_identity_that_keeps_coming_back_takes_half_of_it_at_most(
        self, sid: str, returned: int, out: list[str]
    ) -> None:
        """So that it shields no one else."""
        house = room(agent("A", sid=sid), agent("B", active=10))
        sent = tuple(Removal(60 + i, f"PA_{0 if sid == 'PA_0' else i}", "A") for i in range(returned))
        decision = at(100, house, IDLE, guards=Guards(max_per_minute=4), sent=sent)

        assert list(evicted(decision)) == out


class TestExempt:
    """An exempt participant is seen and counted, and never evicted."""

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
            (Guards(exempt=(Selector(name=("Ana",)), Selector(identity=("A",)))), True),
            (Guards(exempt=(Selector(identity=("A",), name=("Ana",)),)), False),
        ],
    )
    def test_by_identity_or_by_agent_name(self, guards: Guards, exempt: bool) -> None:  # noqa: FBT001 - a column
        """Globs match whole names and their case, each kind against its own."""
        decision = at(100, room(agent("A", "assistant")), IDLE, guards=guards)

        assert ("A" not in evicted(decision)) == exempt
        assert (("A", "exempt") in held(decision)) == exempt

    @pytest.mark.parametrize(
        ("identity", "dispatch", "now", "exempt"),
        [
            ("A", "", 100, False),
            ("A", "AD_1", 100, True),
            ("agent-AJ_1", "", 93, True),
            ("agent-AJ_1", "", 99, False),
            ("agent-AJ_1", "AD_1", 99, True),
        ],
    )
    def test_a_name_counts_only_where_a_dispatch_gives_it(
        self,
        identity: str,
        dispatch: str,
        now: float,
        exempt: bool,  # noqa: FBT001 - a column
    ) -> None:
        """With `dispatched_only`. A job's dispatch may be listed some seconds late; until then its name counts."""
        house = room(agent(identity, "vip", dispatch=dispatch, joined=90))
        guards = Guards(exempt_agent_names=("vip",), dispatched_only=True)
        decision = at(now, house, MaxLifetime(limit=1), guards=guards)

        assert (identity not in evicted(decision)) == exempt
        if exempt and not dispatch:
            assert decision.wake_at == 96

    def test_an_agent_without_a_name_is_exempt_by_its_identity_alone(self) -> None:
        """No glob on names matches a missing name."""
        assert evicted(at(100, room(agent("A")), IDLE, guards=Guards(exempt_agent_names=("*",))))

    def test_none_is_held_back_before_it_is_due(self) -> None:
        """Until then there is nothing to report."""
        assert held(at(59, room(agent("A")), IDLE, guards=Guards(exempt_identities=("A",)))) == set()

    def test_it_counts_as_a_member_of_its_group(self) -> None:
        """The other agent with its name is the duplicate, whether older or younger."""
        guards = Guards(exempt_identities=("A",))
        older = room(agent("A", "x", joined=1), agent("B", "x", joined=2))
        younger = room(agent("A", "x", joined=2), agent("B", "x", joined=1))

        assert evicted(at(100, older, Duplicates(), guards=guards)) == {"B": "duplicates"}
        assert evicted(at(100, younger, Duplicates(), guards=guards)) == {}
        assert evicted(at(100, younger, Duplicates(keep="newest"), guards=guards)) == {"B": "duplicates"}

    def test_it_counts_as_a_successor_and_among_the_agents(self) -> None:
        """Exempt does not mean absent."""
        house = room(agent("A", "triage", joined=1), agent("B", "billing", joined=2))
        guards = Guards(exempt_identities=("B",))

        assert evicted(at(100, house, Superseded(by={"triage": ("billing",)}), guards=guards)) == {"A": "superseded"}
        assert evicted(at(100, house, MaxAgents(max=1), guards=Guards(exempt_identities=("A",)))) == {"B": "max_agents"}

    def test_it_is_not_reported_by_rules_that_report(self) -> None:
        """No policy applies to it, not even one that reports."""
        report = Rule(policy=IdleTimeout(timeout=60), action="report")
        decision = at(100, room(agent("A")), report, guards=Guards(exempt_identities=("A",)))

        assert (decision.reports, held(decision)) == ((), {("A", "exempt")})

    def test_an_exempt_avatar_stays_behind(self) -> None:
        """Its own identity exempts it."""
        house = room(agent("A"), avatar("V", "A"))

        assert list(evicted(at(100, house, IDLE, guards=Guards(exempt_identities=("V",))))) == ["A"]


class TestOnly:
    """`only` narrows what a policy judges, not what it sees."""

    def test_an_agent_that_is_not_judged_is_seen(self) -> None:
        """The oldest counts as the one that stays, although the rule doesn't judge it."""
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
        """Globs match whole names and their case. An agent without a name matches only `*`."""
        house = room(agent("A", "assistant", joined=1), agent("B", "support", joined=2), agent("C", joined=3))

        assert list(evicted(at(100, house, Rule(policy=IdleTimeout(timeout=60), only=only)))) == out

    @pytest.mark.parametrize(
        ("policy", "since", "due"),
        [
            (MaxLifetime(limit=60), 0, 60),
            (MaxLifetime(limit=60), 70, 130),
            (StuckState(limits={"thinking": 60, "speaking": 20}), 30, 60),
            (StuckState(limits={"thinking": 60, "speaking": 20}), 70, 90),
            (DenyList(agent_names=("x",)), 70, 70),
        ],
    )
    def test_an_attribute_that_brings_an_agent_under_it_gives_it_as_long_as_joining(
        self, policy: Policy, since: int, due: int
    ) -> None:
        """That is the shortest time that the rule gives. An agent that has more left keeps it."""
        who = agent("A", "x", state="thinking", attributes={"desk": "7"}, attributes_at={"desk": since})
        rule = Rule(policy=policy, only=Selector(attributes={"desk": "7"}))

        assert evicted(at(due - 1, room(who), rule)) == {}
        assert evicted(at(due, room(who), rule)) == {"A": policy.name}

    def test_an_agent_that_is_not_judged_is_not_reported_held_or_told(self) -> None:
        """Nothing is said about it."""
        rule = Rule(policy=IdleTimeout(timeout=60), only=("other",), notice=30, action="report")
        guards = Guards(exempt_identities=("A",))

        for now in (40, 100):
            decision = at(now, room(agent("A", "x")), rule, guards=guards)
            assert decision == Decision()


class TestSeveralRules:
    """One policy several times, and several policies on one agent."""

    def test_each_of_a_list_judges_by_its_own_options(self) -> None:
        """Each has its own name, too."""
        first = Rule(policy=IdleTimeout(timeout=60), only=("x",))
        second = Rule(policy=IdleTimeout(timeout=20), index=1, only=("y",))
        third = Rule(policy=IdleTimeout(timeout=10), index=2, action="report")
        decision = at(30, room(agent("A", "x"), agent("B", "y")), first, second, third)

        assert evicted(decision) == {"B": "idle_timeout[1]"}
        assert told(decision.reports) == [("A", "idle_timeout[2]"), ("B", "idle_timeout[2]")]
        assert told(decision.pending) == [("A", "idle_timeout")]

    def test_the_earliest_due_wins(self) -> None:
        """The order of the rules doesn't matter then."""
        house = room(agent("A"))

        assert evicted(at(200, house, IDLE, OLD)) == {"A": "idle_timeout"}
        assert evicted(at(200, house, OLD, IDLE)) == {"A": "idle_timeout"}

    def test_a_tie_goes_to_the_rule_that_is_listed_first(self) -> None:
        """The registry's order decides, then the list's."""
        house = room(agent("A"))
        old = Rule(policy=MaxLifetime(limit=60))
        again = Rule(policy=IdleTimeout(timeout=60), index=1)

        assert evicted(at(100, house, IDLE, old)) == {"A": "idle_timeout"}
        assert evicted(at(100, house, old, IDLE)) == {"A": "max_lifetime"}
        assert evicted(at(100, house, IDLE, again)) == {"A": "idle_timeout"}

    def test_evictions_are_in_order_of_due_then_age(self) -> None:
        """A budget is spent in this order."""
        house = room(agent("A", joined=3), agent("B", joined=2), agent("C", joined=1, active=9))

        assert list(evicted(at(100, house, IDLE))) == ["B", "A", "C"]

    def test_what_is_held_for_one_rule_may_leave_by_another(self) -> None:
        """Guards come first. Among the verdicts that remain, the earliest due wins."""
        decision = at(200, room(agent("A", unseen="unclear")), IDLE, OLD)

        assert (evicted(decision), held(decision)) == ({"A": "max_lifetime"}, {("A", "doubt")})

    def test_a_report_and_an_eviction_of_one_agent_are_two_things(self) -> None:
        """A report doesn't prevent the eviction, nor the eviction the report."""
        report = Rule(policy=IdleTimeout(timeout=60), action="report")
        house = room(agent("A"))

        early, late = at(99, house, report, OLD), at(100, house, report, OLD)

        assert (told(early.reports), evicted(early)) == ([("A", "idle_timeout")], {})
        assert (told(late.reports), evicted(late)) == ([("A", "idle_timeout")], {"A": "max_lifetime"})

    def test_what_was_handled_is_not_asked_for_again(self) -> None:
        """Each is handled once per participant and rule. Other rules continue."""
        report = Rule(policy=IdleTimeout(timeout=60), action="report")
        decision = at(100, room(agent("A")), report, OLD, handled=frozenset({("PA_A", "idle_timeout")}))

        assert (decision.reports, evicted(decision)) == ((), {"A": "max_lifetime"})

    def test_a_report_does_not_wait_for_a_removal_that_failed(self) -> None:
        """A report needs no removal."""
        report = Rule(policy=IdleTimeout(timeout=60), action="report")
        decision = at(100, room(agent("A")), report, OLD, retry_at={"PA_A": 130})

        assert (told(decision.reports), evicted(decision)) == ([("A", "idle_timeout")], {})
        assert decision.wake_at == 130


class TestNotices:
    """The room is told once `notice` seconds before an agent is due, and again if the date moves."""

    TEN = Rule(policy=IdleTimeout(timeout=60), notice=10)
    KEY = ("PA_A", "idle_timeout")

    @pytest.mark.parametrize(
        ("now", "is_told"), [(49, False), (49.9, False), (50, True), (59.9, True), (60, False), (100, False)]
    )
    def test_from_notice_before_due_until_due(self, now: float, is_told: bool) -> None:  # noqa: FBT001 - a column
        """Not earlier, and not when it is too late."""
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
            pytest.param({("PA_B", "idle_timeout"): 60.0}, True, id="told about another agent"),
        ],
    )
    def test_once_and_again_if_the_date_moved(
        self,
        noticed: Mapping[tuple[str, str], float],
        again: bool,  # noqa: FBT001 - a column
    ) -> None:
        """Each participant and rule has its own notice."""
        assert bool(at(55, room(agent("A")), self.TEN, noticed=noticed).notices) == again

    def test_no_notice_is_given_of_what_will_not_happen(self) -> None:
        """Neither for exempt agents nor for verdicts in doubt."""
        exempt = Guards(exempt_identities=("A",))

        assert not at(55, room(agent("A")), self.TEN, guards=exempt).notices
        assert not at(55, room(agent("A", unseen="unclear")), self.TEN).notices
        assert not at(55, room(agent("A")), IDLE).notices

    def test_a_notice_does_not_postpone_anything(self) -> None:
        """A notice longer than the timeout is given at once, and the due date stays."""
        longer = Rule(policy=IdleTimeout(timeout=60), notice=600)

        assert told(at(1, room(agent("A")), longer).notices) == [("A", "idle_timeout")]
        assert evicted(at(60, room(agent("A")), longer)) == {"A": "idle_timeout"}


class TestAvatars:
    """An evicted agent's avatar leaves with it, in the same decision."""

    HOUSE = room(agent("A", "x"), avatar("V", "A"), agent("B", "x", joined=1), avatar("W", "B"), human("H"))

    def test_it_goes_with_its_principal_by_the_same_rule(self) -> None:
        """The other agent's avatar stays."""
        decision = at(100, self.HOUSE, Duplicates())

        assert evicted(decision) == {"B": "duplicates", "W": "duplicates"}
        assert "avatar" in decision.evictions[1].verdict.reason

    @pytest.mark.parametrize(
        ("rule", "guards"),
        [
            pytest.param(Rule(policy=Duplicates(), action="report"), Guards(), id="a report"),
            pytest.param(Rule(policy=Duplicates()), Guards(exempt_identities=("B",)), id="an exempt principal"),
            pytest.param(Rule(policy=Duplicates(grace=500)), Guards(), id="a principal that is not due yet"),
            pytest.param(Rule(policy=EmptyRoom(grace=0, never_joined=0)), Guards(), id="no one is due"),
        ],
    )
    def test_it_stays_while_its_principal_stays(self, rule: Rule, guards: Guards) -> None:
        """Whatever the reason."""
        assert evicted(at(100, self.HOUSE, rule, guards=guards)) == {}

    def test_it_stays_with_the_last_agent(self) -> None:
        """Its principal is held back."""
        house = room(agent("A", active=10), avatar("V", "A"), agent("B"), avatar("W", "B"), human("H"))

        assert list(evicted(at(100, house, IDLE, guards=KEEP))) == ["B", "W"]

    def test_one_that_was_left_behind_follows(self) -> None:
        """Its removal failed, or it was recognised as an avatar later. The ledger knows its principal."""
        principal = Finding(at(100, self.HOUSE, Duplicates()).evictions[0].verdict, Rule(policy=Duplicates()))
        left_behind = agent("W", on_behalf_of="B", principal_left_at=101)
        house = room(agent("A", "x"), left_behind)

        assert evicted(at(102, house, Duplicates(), evicted={"B": principal})) == {"W": "duplicates"}
        assert evicted(at(102, house, Duplicates())) == {}

    def test_one_that_comes_later_costs_some_of_the_budget(self) -> None:
        """Only the same decision is free: avatars of an evicted agent may come for ever."""
        principal = Finding(at(100, self.HOUSE, Duplicates()).evictions[0].verdict, Rule(policy=Duplicates()))
        house = room(agent("A", "x"), agent("W", on_behalf_of="B", principal_left_at=101))
        decision = at(102, house, guards=Guards(max_per_minute=1), sent=removals(101), evicted={"B": principal})

        assert evicted(decision) == {}
        assert held(decision) == {("W", "max_per_minute")}
        assert decision.wake_at == 161

    def test_none_follows_an_avatar(self) -> None:
        """An avatar that names an avatar as its principal is judged as an agent."""
        house = room(agent("A", "x"), agent("B", "x", joined=1), avatar("V", "B"))
        _, follower = at(100, house, Duplicates()).evictions
        claimant = agent("W", on_behalf_of="V", principal_left_at=101)

        assert follower.follows
        assert evicted(at(102, room(agent("A", "x"), claimant), Duplicates(), evicted={"V": follower})) == {}

    def test_a_failed_removal_of_it_is_tried_again_when_it_may_be(self) -> None:
        """It is like any other removal."""
        principal = Finding(at(100, self.HOUSE, Duplicates()).evictions[0].verdict, Rule(policy=Duplicates()))
        house = room(agent("A", "x"), agent("W", on_behalf_of="B", principal_left_at=101))
        done: dict[str, Any] = {"evicted": {"B": principal}, "retry_at": {"PA_W": 110}}

        early, late = at(102, house, Duplicates(), **done), at(110, house, Duplicates(), **done)

        assert (evicted(early), early.wake_at) == ({}, 110)
        assert evicted(late) == {"W": "duplicates"}

    def test_a_following_avatar_is_evicted_once_although_a_rule_says_so_too(self) -> None:
        """It appears once per decision."""
        principal = Finding(at(100, self.HOUSE, Duplicates()).evictions[0].verdict, Rule(policy=Duplicates()))
        house = room(agent("W", on_behalf_of="B", principal_left_at=101))
        decision = at(200, house, OrphanedAvatar(), evicted={"B": principal})

        assert [f.participant.identity for f in decision.evictions] == ["W"]

    @pytest.mark.parametrize(
        "state", [{}, {"role": Role.AGENT, "kind": Kind.AGENT, "active": False}], ids=["here", "JOINING"]
    )
    def test_the_avatar_of_one_that_is_back_stays(self, state: Mapping[str, Any]) -> None:
        """It belongs to the new participant, or has its principal again."""
        principal = Finding(at(100, self.HOUSE, Duplicates()).evictions[0].verdict, Rule(policy=Duplicates()))
        back = participant("B", joined=150, sid="PA_2", **state) if state else agent("B", "x", joined=150, sid="PA_2")
        house = room(back, avatar("W", "B"))

        assert evicted(at(200, house, Duplicates(), evicted={"B": principal})) == {}

    def test_one_that_is_still_joining_is_left_alone(self) -> None:
        """Removed while joining, it would only come back."""
        house = room(agent("A"), avatar("V", "A", active=False))

        assert list(evicted(at(100, house, IDLE))) == ["A"]


class TestDoubt:
    """An uncertain verdict is told, not carried out."""

    def test_it_is_held_when_it_comes_due(self) -> None:
        """Not before."""
        house = room(agent("A", unseen="unclear"))

        assert held(at(59, house, IDLE)) == set()
        assert held(at(60, house, IDLE)) == {("A", "doubt")}
        assert evicted(at(1000, house, IDLE)) == {}

    def test_a_rule_that_only_reports_reports_it(self) -> None:
        """A report does no harm."""
        report = Rule(policy=IdleTimeout(timeout=60), action="report")
        decision = at(60, room(agent("A", unseen="unclear")), report)

        assert (told(decision.reports), held(decision)) == ([("A", "idle_timeout")], set())


def test_what_comes_is_listed_by_date_and_the_first_of_it_wakes() -> None:
    """Countdowns can be shown from it."""
    house = room(agent("A", joined=30), agent("B", joined=10))
    decision = at(50, house, IDLE, OLD)

    assert told(decision.pending) == [
        ("B", "idle_timeout"), ("A", "idle_timeout"), ("B", "max_lifetime"), ("A", "max_lifetime")
    ]  # fmt: skip
    assert decision.wake_at == 70


def test_nothing_comes_and_nothing_wakes() -> None:
    """A room without violations is left alone."""
    assert at(50, room(human("H"), agent("A", state="thinking")), IDLE) == Decision()


class Unspeakable(Exception):  # noqa: N818 - not an error of ours
    """An exception that can't be shown."""

    def __str__(self) -> str:
        raise self


@dataclass(frozen=True, slots=True, kw_only=True)
class Saying:
    """Yields given verdicts."""

    name: ClassVar[str] = "saying"
    verdicts: tuple[Verdict, ...]

    def evaluate(self, _: Room) -> Iterable[Verdict]:
        """Yield them."""
        yield from self.verdicts


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
    """Even what would end a program or a task, and what has no text or too much."""
    decision = at(200, room(agent("A")), Raising(error=error), OLD)

    (fault,) = decision.faults
    assert fault.error.startswith(type(error).__name__)
    assert re.search(rf" \({re.escape(__file__)}:\d+\)$", fault.error), "where it was raised"
    assert len(fault.error) <= MAX_ERROR
    assert evicted(decision) == {"A": "max_lifetime"}


A, ABSENT, PERSON = agent("A"), agent("B"), human("H")


class Shouted(str):
    """A text of a policy's own making."""

    __slots__ = ()

    def __str__(self) -> str:
        return self.upper()


def test_what_a_policy_says_is_kept_in_plain_types() -> None:
    """Whatever its texts are made of, and whichever state of the room its participant is from."""
    earlier = agent("A", state="thinking")
    for verdict in (Verdict(A, 0, Shouted("loud")), Verdict(A, 0, "LOUD", Shouted("")), Verdict(earlier, 0, "LOUD")):
        (finding,) = at(200, room(A), Saying(verdicts=(verdict,))).findings

        assert finding.verdict == Verdict(A, 0, "LOUD")
        assert type(finding.verdict.reason) is type(finding.verdict.doubt) is str


@pytest.mark.parametrize(
    ("verdicts", "words"),
    [
        ([Verdict(ABSENT, 0, "is not here")], "a verdict on a participant that is not in the room"),
        (
            [Verdict(PERSON, 0, "is a person")],
            "a verdict on a participant that may never be evicted",
        ),
        ([Verdict(A, math.nan, "never")], "a due date that is no point in time: nan"),
        ([Verdict(A, 0, "again")] * 100, "more than 36 verdicts on 2 participants"),
    ],
)
def test_a_verdict_that_cannot_be_one_is_a_fault(verdicts: list[Verdict], words: str) -> None:
    """None of the policy's verdicts counts, not even an earlier one that looks right."""
    decision = at(200, room(A, PERSON), Saying(verdicts=(Verdict(A, 0, "looks right"), *verdicts)))

    assert [fault.error.partition(": ")[2].startswith(words) for fault in decision.faults] == [True], decision.faults
    assert evicted(decision) == {}


def test_a_fault_does_not_prevent_ending_the_program() -> None:
    """Ctrl-C is the user's, not the policy's."""
    with pytest.raises(KeyboardInterrupt):
        at(200, room(agent("A")), Raising(error=KeyboardInterrupt()))
