"""What a bouncer does next in one room: tables of integers, no event loop."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from bouncer.events import Attributes, Disconnected, Heard, Job, Left, Signal
from bouncer.guard.watch import (
    ALLOWED,
    TRANSITIONS,
    Command,
    DeleteDispatch,
    Evict,
    Leave,
    ListJobs,
    ListParticipants,
    May,
    Standing,
)
from bouncer.observers import Faulted, Noticed, Refused
from bouncer.ports import ApiError, Trouble
from bouncer.room import Kind, Room
from policies.max_lifetime import MaxLifetime
from tests.bench import ME, OURS, Bench

KEEP = {"keep_last_agent": True}
IDLE_30 = {"duplicates": None, "idle_timeout": {"timeout": 30}}


def idle(bench: Bench, *identities: str, name: str = "x") -> None:
    """Let agents join that say that they are listening."""
    for identity in identities:
        bench.joins(identity, name, attributes={"lk.agent.state": "listening"})


class TestStanding:
    """What we are in the room, and what that allows."""

    def test_every_standing_has_its_row_in_both_tables(self) -> None:
        """Closed is the end, and only a bouncer that acts decides."""
        assert set(ALLOWED) == set(TRANSITIONS) == set(Standing)
        assert TRANSITIONS[Standing.CLOSED] == frozenset()
        assert [s for s in Standing if May.DECIDE in ALLOWED[s]] == [Standing.ACTING]

    def test_the_first_list_after_each_connection_comes_before_any_decision(self) -> None:
        """It shows the hidden participants, and so whether another bouncer acts."""
        bench = Bench(policies={"max_lifetime": {"limit": 5}})
        bench.until(1)
        bench.disconnects()
        bench.joins("A", "x")
        bench.until(20)
        assert bench.identities == {"A"}, "nothing is decided while blind"
        bench.trouble = Trouble.UNAVAILABLE
        bench.reconnects()
        bench.until(25)
        assert bench.identities == {"A"}, "nor before the list is answered"

        bench.trouble = None
        bench.until(60)

        assert bench.identities == set()
        assert [standing for _, standing in bench.standings] == [
            Standing.UNSURVEYED,
            Standing.ACTING,
            Standing.BLIND,
            Standing.UNSURVEYED,
            Standing.ACTING,
        ]

    @pytest.mark.parametrize(("mode", "calls"), [("off", 0), ("dry_run", 1), ("enforce", 1)])
    def test_off_calls_nothing(self, mode: str, calls: int) -> None:
        """The other modes list the room. Every change of the mode takes effect at once."""
        bench = Bench(mode=mode)
        bench.joins("A", "x")
        bench.joins("B", "x")
        bench.until(60)
        assert min(len(bench.made(ListParticipants, ListJobs, DeleteDispatch, Evict)), 1) == calls

        bench.configure(mode="enforce")
        bench.until(61)

        assert bench.identities == {"A"}

    def test_without_a_valid_configuration_nothing_is_done(self) -> None:
        """It says what is wrong. The first valid one takes effect at once."""
        bench = Bench(policies="none")
        bench.joins("A", "x")
        bench.joins("B", "x")
        bench.until(60)
        assert bench.made(ListParticipants, ListJobs, Evict) == []
        assert bench.watch.standing == Standing.UNCONFIGURED
        bench.configure(policies=None)
        bench.until(61)

        assert bench.identities == {"A"}
        assert [news.kept for news in bench.news if isinstance(news, Refused)] == [None]

    def test_a_refused_configuration_leaves_the_last_valid_one_in_force(self) -> None:
        """Also the timers under it."""
        bench = Bench(policies=IDLE_30)
        idle(bench, "A")
        bench.until(10)
        valid = bench.watch.config
        bench.configure(policies={"idle_timeout": {"timeout": "soon"}})
        bench.until(31)

        assert bench.identities == set()
        assert [news.kept for news in bench.news if isinstance(news, Refused)] == [valid]

    @pytest.mark.parametrize(("timeout", "stays"), [(60, False), (200, True)])
    def test_a_changed_configuration_takes_effect_at_once(self, timeout: float, *, stays: bool) -> None:
        """An agent that is past the new timeout leaves."""
        bench = Bench(policies={"idle_timeout": {"timeout": 1000}})
        idle(bench, "A")
        bench.until(100)
        bench.configure(policies={"idle_timeout": {"timeout": timeout}})
        bench.until(101)

        assert ("A" in bench.identities) is stays

    def test_a_full_reconnect_evicts_no_one(self) -> None:
        """To us everyone leaves and joins, which makes no agent newer or idler."""
        bench = Bench(policies={"idle_timeout": {"timeout": 30}})
        bench.joins("ana")
        idle(bench, "A")
        idle(bench, "S", name="support")
        for at in range(3, 18, 3):
            bench.until(at)
            bench.reconnects_fully()
        bench.until(40)

        assert bench.identities == {"ana", "A", "S"}

    def test_once_closed_nothing_is_done(self) -> None:
        """Whatever is due."""
        bench = Bench(policies={"max_lifetime": {"limit": 5}})
        bench.joins("A", "x")
        bench.watch.close()
        bench.until(60)

        assert bench.identities == {"A"}
        assert bench.watch.standing is Standing.CLOSED


class TestLists:
    """When the server's list is read."""

    def test_an_attribute_that_flips_causes_few(self) -> None:
        """Each time that it makes an agent due, the list shows otherwise."""
        bench = Bench(policies={"human_takeover": {"attributes": {"operator": "*"}, "grace": 0}})
        bench.joins("A", "x")
        bench.joins("H")
        info = bench.here["H"]
        bench.until(5)
        before = len(bench.made(ListParticipants))
        for i in range(600):
            bench.watch.tell(Attributes(bench.now, info.sid, {"operator": "yes"} if i % 2 else {}))
            bench.until(bench.now + 0.1)

        assert "A" in bench.identities
        assert len(bench.made(ListParticipants)) - before <= 30

    @pytest.mark.parametrize(("seconds", "lists"), [(14, 1), (16, 2), (61, 5), (601, 41)])
    def test_a_quiet_room_is_listed_every_reconcile(self, seconds: float, lists: int) -> None:
        """15 seconds unless configured otherwise. Each list is judged, and nothing in between."""
        bench = Bench(policies={"idle_timeout": {"timeout": 3600}})
        bench.until(seconds)

        assert len(bench.made(ListParticipants, ListJobs)) == lists
        assert bench.evaluations <= lists + 1

    def test_a_list_for_an_eviction_is_also_the_next_regular_one(self) -> None:
        """So an agent that is due as it joins costs one list of participants, and one of the dispatches."""
        bench = Bench(policies={"deny_list": {"agent_names": ["spy"]}})
        bench.until(40)
        bench.joins("A", "spy")
        bench.until(50)

        assert bench.outcomes == [("A", "removed")]
        assert [at for at in bench.made(ListParticipants, ListJobs) if at == 40] == [40, 40]

    def test_a_participant_that_no_event_shows_is_found_by_listing(self) -> None:
        """Events are hints."""
        bench = Bench()
        bench.joins("A", "x")
        bench.joins("B", "x", announced=False)
        bench.until(20)

        assert bench.identities == {"A"}

    def test_the_dispatches_are_listed_until_those_of_all_agents_are_known(self) -> None:
        """Once a second for six seconds, and no longer."""
        bench = Bench()
        bench.joins("agent-AJ_1", "x")
        bench.until(100)
        at = bench.made(ListJobs)

        assert 6 <= len(at) <= 9
        assert at[-1] - at[0] <= 8

    def test_a_crowd_that_joins_costs_two_lists_a_second(self) -> None:
        """Lists are kept apart, whatever happens."""
        bench = Bench()
        bench.until(10)
        for i in range(100):
            bench.joins(f"ana-{i}")
            bench.until(10 + i / 10)

        assert len([at for at in bench.made(ListParticipants) if at > 10]) <= 21

    def test_what_fails_is_tried_again_ever_later(self) -> None:
        """Half a second at first, half a minute at most."""
        bench = Bench(trouble=Trouble.UNAVAILABLE)
        bench.joins("A", "x")
        bench.joins("B", "x")
        for second in range(200):
            bench.signals("A")
            bench.until(second)
        at = bench.made(ListParticipants)
        assert [round(later - sooner, 1) for sooner, later in pairwise(at)][:8] == [
            *(0.5, 1, 2, 4, 8, 16, 30, 30),
        ]
        assert (bench.failing, bench.identities) == (["listing"], {"A", "B"})
        bench.trouble = None
        bench.until(230)

        assert bench.identities == {"A"}

    def test_an_agent_that_is_due_leaves_though_the_worker_is_out_of_calls(self) -> None:
        """Regular lists are postponed. A room's first one is not, nor one on which an eviction rests."""
        bench = Bench(policies=IDLE_30, throttled=True)
        idle(bench, "A")
        bench.until(40)

        assert bench.outcomes == [("A", "removed")]
        assert bench.failing == []

    @pytest.mark.parametrize(("seconds", "told"), [(20, []), (200, ["listing"])])
    def test_being_out_of_calls_is_told_if_it_lasts(self, seconds: float, told: list[str]) -> None:
        """For a moment it is how a crowd is borne; for longer the room is unguarded."""
        bench = Bench()
        bench.until(5)
        bench.trouble = Trouble.THROTTLED
        bench.until(5 + seconds)

        assert bench.failing == told

    @pytest.mark.parametrize(("kind", "doing"), [(ListParticipants, "listing"), (ListJobs, "listing")])
    def test_an_answer_that_makes_no_sense_is_a_failure(self, kind: type, doing: str) -> None:
        """Whatever the call raises. The next lists find what they should have found."""
        bench = Bench(fails={kind: ValueError("the test says so")})
        bench.joins("A", "x")
        bench.joins("B", "x", announced=False)
        bench.until(60)
        assert doing in bench.failing
        bench.fails = {}
        bench.until(120)

        assert bench.identities == {"A"}

    @pytest.mark.parametrize("broken_part", ["Moment", "PULSE"])
    def test_an_error_while_judging_is_told_once_and_ends_nothing(
        self, broken_part: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The room is judged again half a second later."""
        bench = Bench()
        with monkeypatch.context() as broken:
            broken.setattr(f"bouncer.guard.watch.{broken_part}", None)
            bench.joins("A", "x")
            bench.joins("B", "x")
            bench.until(10)
        bench.until(12)

        assert bench.failing == ["looking at the room"]
        assert bench.identities == {"A"}

    def test_a_burst_of_events_is_one_evaluation(self) -> None:
        """The first is judged at once; those that follow are gathered for ten milliseconds."""
        bench = Bench()
        bench.until(10)
        before = bench.evaluations
        for i in range(200):
            bench.joins(f"ana-{i}")
        assert bench.evaluations - before == 1
        bench.until(10.1)

        assert bench.evaluations - before <= 3

    def test_gathering_delays_nothing_that_is_due(self) -> None:
        """Whatever happens right before."""
        bench = Bench(policies={"max_lifetime": {"limit": 10}})
        bench.joins("A", "x")
        bench.until(9.995)
        bench.joins("ana")
        bench.joins("H")
        bench.until(10)

        assert bench.made(Evict) == [10]

    @pytest.mark.parametrize("joined", [0, 20])
    def test_time_in_which_the_process_was_frozen_makes_no_agent_idle(self, joined: float) -> None:
        """A timer that rings late tells of it, even if nothing was due: idleness counts from then."""
        bench = Bench(policies=IDLE_30)
        bench.until(joined)
        idle(bench, "A")
        bench.until(20)
        bench.now = 28.0
        bench.until(55)
        assert bench.identities == {"A"}

        bench.until(60)

        assert bench.identities == set()

    def test_a_room_that_takes_long_is_judged_less_often_and_says_so_once(self) -> None:
        """Judging it takes a fifth of the time at most, however much happens in it."""
        bench = Bench({"max_lifetime": {"limit": 40}})
        bench.joins("A", "x")
        bench.until(20)
        before = bench.evaluations
        for at in range(21, 41):
            bench.watch.took(1)
            bench.signals("A")
            bench.until(at)

        assert 4 <= bench.evaluations - before <= 6
        assert bench.failing == ["looking at the room"]
        bench.until(46)
        assert bench.outcomes == [("A", "removed")]

    @pytest.mark.parametrize(("busy", "due"), [(0, 66), (6, 60)])
    def test_our_own_computing_is_no_freeze(self, busy: float, due: float) -> None:
        """Only time in which we neither ran nor slept went unwatched."""
        bench = Bench({"idle_timeout": {"timeout": 50, "unseen": "evict"}})
        bench.until(10)
        bench.joins("A", "x")
        bench.until(50)

        bench.now = 56
        bench.watch.step(56, busy)
        bench.until(due + 40)

        assert min(at for at, command in bench.commands if isinstance(command, Evict)) == due + (0 if busy else 40)

    @pytest.mark.parametrize(("leaves", "deleted"), [("ana", ["AD_1"]), ("agent-AJ_1", [])])
    def test_a_list_is_acted_on_though_someone_left_meanwhile(self, leaves: str, deleted: list[str]) -> None:
        """In a lively room someone always does. One that the list shows may be back: that may be a full reconnect."""
        bench = Bench()
        bench.joins("ana")
        bench.joins("agent-AJ_1", "x", dispatch="AD_1")
        bench.until(10)
        if leaves == "ana":
            bench.leaves("agent-AJ_1")
        bench.until(20)
        bench.watch.history.spent.add("AD_1")
        listed = tuple(bench.here.values())
        (command,) = (c for c in bench.watch.step(40).commands if isinstance(c, ListParticipants))

        bench.watch.tell(Left(40.1, bench.here[leaves].sid))
        bench.watch.answered(command, listed, 40.2)

        commands = bench.watch.step(40.2).commands
        assert [c.dispatch for c in commands if isinstance(c, DeleteDispatch)] == deleted
        assert bench.watch.history.spent == ({"AD_1"} - set(deleted))

    @pytest.mark.parametrize("happens", ["", "off", "disconnected"])
    def test_a_list_is_not_acted_on_once_nothing_may_be_done(self, happens: str) -> None:
        """The room was switched off, or the connection lost, while the server answered. It may be done later."""
        bench = Bench(policies={"max_lifetime": {"limit": 40}})
        bench.joins("A", "x")
        bench.until(39)
        bench.watch.history.spent.add("AD_1")
        (command,) = (c for c in bench.watch.step(40).commands if isinstance(c, ListParticipants))

        match happens:
            case "off":
                bench.watch.configure('{"bouncer": {"mode": "off"}}', 40.1)
            case "disconnected":
                bench.watch.tell(Disconnected(40.1))
            case _:
                pass
        bench.watch.answered(command, tuple(bench.here.values()), 40.2)

        bench.now = 40.2
        bench.until(60)
        done = len(bench.made(DeleteDispatch)), bench.outcomes, bench.watch.history.spent
        assert done == ((0, [], {"AD_1"}) if happens else (1, [("A", "removed")], set()))


class TestEvictions:
    """From the decision to its end."""

    def test_a_duplicate_leaves_after_its_grace(self) -> None:
        """The whole way."""
        bench = Bench()
        bench.joins("A", "x")
        bench.until(10)
        bench.joins("B", "x")
        bench.until(11.9)
        assert bench.identities == {"A", "B"}

        bench.until(60)

        assert bench.identities == {"A"}
        assert bench.outcomes == [("B", "removed")]

    @pytest.mark.parametrize(
        ("trouble", "attempts"), [(Trouble.UNAVAILABLE, [0.5, 1, 2, 4, 8]), (Trouble.DENIED, [30, 30])]
    )
    def test_a_removal_that_fails_is_tried_again(self, trouble: Trouble, attempts: list[float]) -> None:
        """Inside the budget; a rejected key every half minute."""
        bench = Bench(policies={"max_lifetime": {"limit": 5}}, removal_trouble=trouble)
        bench.joins("A", "x")
        bench.until(70)
        at = bench.made(Evict)

        assert [round(later - sooner, 1) for sooner, later in pairwise(at)][: len(attempts)] == attempts

    def test_removals_that_fail_spend_the_budget_too(self) -> None:
        """Each one that goes out counts."""
        bench = Bench(eviction={"max_per_minute": 2}, removal_trouble=Trouble.UNAVAILABLE)
        bench.joins("A", "x")
        bench.joins("B", "x")
        bench.until(60)

        assert len(bench.made(Evict)) == 2

    def test_an_attempt_that_breaks_down_has_failed(self) -> None:
        """It is told, and tried again: the agent isn't on its way out for ever."""
        bench = Bench(policies={"max_lifetime": {"limit": 5}}, fails={Evict: RuntimeError("the test says so")})
        bench.joins("A", "x")
        bench.until(7)
        bench.fails = {}
        bench.until(20)

        assert bench.failing == ["evicting"] * (len(bench.outcomes) - 1)
        assert {outcome for _, outcome in bench.outcomes[:-1]} == {"failed"}
        assert bench.outcomes[-1] == ("A", "removed")

    @pytest.mark.parametrize("bouncer", ['{"mode": "off"}', '{"mode": "dry_run"}', '{"exempt": {"identity": ["A"]}}'])
    def test_a_configuration_that_comes_right_before_the_removal_calls_it_off(self, bouncer: str) -> None:
        """Nothing goes out that it does not allow."""
        bench = Bench(policies={"max_lifetime": {"limit": 5}})
        bench.meanwhile = lambda: bench.watch.configure(f'{{"bouncer": {bouncer}}}', bench.now)
        bench.joins("A", "x")
        bench.until(60)

        assert bench.outcomes == [("A", "void")]

    def test_a_spent_dispatch_is_deleted_once_that_works(self) -> None:
        """It would restart the agent. Until the other agent's job is known, its dispatch may be the same."""
        bench = Bench(
            policies={"max_lifetime": {"limit": 5}}, fails={DeleteDispatch: ApiError(Trouble.UNAVAILABLE, "")}
        )
        bench.joins("agent-AJ_1", "x", dispatch="AD_1")
        bench.until(4)
        bench.joins("agent-AJ_2", "x")
        bench.until(30)
        assert ("agent-AJ_1", "removed") in bench.outcomes
        assert "AD_1" in {job.dispatch for job in bench.jobs}
        bench.fails = {}
        bench.until(60)

        assert "AD_1" not in {job.dispatch for job in bench.jobs}

    def test_a_notice_comes_before_the_eviction_and_postpones_nothing(self) -> None:
        """It is given once, and again if the date moved."""
        bench = Bench(policies={"duplicates": None, "idle_timeout": {"timeout": 20, "notice": 5}})
        idle(bench, "A")
        bench.until(17)
        bench.signals("A")
        bench.until(60)

        assert [round(news.due_in, 1) for news in bench.news if isinstance(news, Noticed)] == [5, 5]
        assert [round(at) for at in bench.made(Evict)] == [37]

    def test_an_agent_that_may_be_at_work_unseen_is_held_back(self) -> None:
        """It gives no sign, and that is told once."""
        bench = Bench(policies=IDLE_30)
        bench.joins("A", "x", audio=True)
        bench.until(200)

        assert bench.told == [("held", "A", "doubt")]

    def test_a_fault_is_told_once_whatever_its_text(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A policy may quote what it was looking at, and that is never the same twice."""

        def fail(_: object, room: Room) -> None:
            raise RuntimeError(f"went wrong in {room}")

        bench = Bench(policies={"max_lifetime": {"limit": 5}})
        monkeypatch.setattr(MaxLifetime, "evaluate", fail)
        for at in range(10):
            bench.joins("A", "x")
            bench.until(at)

        assert len([news for news in bench.news if isinstance(news, Faulted)]) == 1

    def test_a_configuration_that_comes_in_between_calls_it_off(self) -> None:
        """Nothing goes out once the room is off, or in a dry run."""
        bench = Bench(policies={"max_lifetime": {"limit": 5}})
        bench.joins("A", "x")
        bench.until(4)
        bench.configure(mode="dry_run")
        bench.until(60)

        assert bench.identities == {"A"}
        assert bench.outcomes == [("A", "would")]

    @pytest.mark.parametrize("per_minute", [1, 4])
    def test_an_agent_that_ignores_the_end_of_its_job_is_removed(self, per_minute: int) -> None:
        """Even with the last of the budget: one eviction is paid for once."""
        bench = Bench(policies={"max_lifetime": {"limit": 30}}, eviction={"max_per_minute": per_minute})
        for i in range(per_minute):
            bench.joins(f"agent-AJ_{i}", "x", dispatch=f"AD_{i}")
            bench.stuck.add(f"agent-AJ_{i}")
        bench.until(60)

        assert bench.identities == set()
        assert {outcome for _, outcome in bench.outcomes} == {"removed"}

    def test_a_dry_run_spends_no_budget(self) -> None:
        """So nothing is held back for it."""
        bench = Bench(mode="dry_run", eviction={"max_per_minute": 1})
        for i in range(5):
            bench.joins(f"A{i}", "x")
        bench.until(90)

        assert [kind for kind, *_ in bench.told] == []
        assert sorted(bench.outcomes) == [(f"A{i}", "would") for i in range(1, 5)]

    def test_over_the_budget_the_rest_waits_for_the_next_minute(self) -> None:
        """It is said once for each."""
        bench = Bench(eviction={"max_per_minute": 2}, policies={"duplicates": None, "max_lifetime": {"limit": 10}})
        for i in range(5):
            bench.joins(f"A{i}", "x")
        bench.until(20)
        assert bench.identities == {"A2", "A3", "A4"}
        bench.until(200)

        assert bench.identities == set()
        assert [who for kind, who, by in bench.told if (kind, by) == ("held", "max_per_minute")] == ["A2", "A3", "A4"]


class TestKeepLastAgent:
    """A person is not left alone with a dead line."""

    def bench(self) -> Bench:
        """Return a room with a person and an idle agent whose time is up."""
        bench = Bench(policies=IDLE_30, eviction=KEEP)
        bench.joins("ana")
        idle(bench, "A")
        bench.until(100)
        assert bench.identities == {"ana", "A"}
        return bench

    def test_the_last_agent_is_held_back_and_that_is_said_once(self) -> None:
        """For as long as it takes, without work."""
        bench = self.bench()
        before = len(bench.news)
        bench.until(700)

        assert bench.told == [("held", "A", "keep_last_agent")]
        assert len(bench.news) - before < 60

    def test_it_leaves_when_the_person_has_left(self) -> None:
        """There is no one to keep it for."""
        bench = self.bench()
        bench.leaves("ana")
        bench.until(101)

        assert bench.identities == set()

    def test_it_leaves_when_another_agent_has_come(self) -> None:
        """The newcomer is the last agent from then on."""
        bench = self.bench()
        idle(bench, "B")
        bench.until(101)
        assert bench.identities == {"ana", "B"}
        bench.until(300)

        assert bench.identities == {"ana", "B"}

    def test_of_several_at_once_one_is_kept(self) -> None:
        """Each is checked again before it is sent."""
        bench = Bench(policies=IDLE_30, eviction=KEEP)
        bench.joins("ana")
        idle(bench, *(f"A{i}" for i in range(6)))
        bench.until(90)

        assert bench.identities == {"ana", "A0"}


class TestReports:
    """A report is made once per participant, rule and configuration."""

    @pytest.mark.parametrize(
        ("again", "reports"), [("nothing", 1), ("it is back", 2), ("a person joins", 1), ("another configuration", 2)]
    )
    def test_once(self, again: str, reports: int) -> None:
        """The connection is reported; another configuration rearms it. No budget is spent."""
        policies: dict[str, Any] = {"max_lifetime": {"limit": 30, "action": "report"}}
        bench = Bench(policies=policies, eviction={"max_per_minute": 1})
        bench.joins("A", "x")
        bench.until(40)
        match again:
            case "it is back":
                bench.leaves("A")
                bench.until(100)
                bench.joins("A", "x")
            case "a person joins":
                bench.joins("ana")
            case "another configuration":
                bench.configure(policies={"max_lifetime": {"limit": 31, "action": "report"}})
            case _:
                pass
        bench.until(200)

        assert bench.told == [("reported", "A", "max_lifetime")] * reports
        assert bench.made(Evict) == []


class TestAvatars:
    """An evicted agent's avatar leaves with it."""

    @pytest.mark.parametrize("per_minute", [1, 3])
    def test_avatars_cost_no_budget(self, per_minute: int) -> None:
        """They hold back neither their principals nor the next agent."""
        bench = Bench(eviction={"max_per_minute": per_minute})
        bench.joins("A", "x")
        for i in range(3):
            bench.joins(f"B{i}", "x")
            bench.joins(f"V{i}", kind=Kind.AGENT, attributes={"lk.publish_on_behalf": f"B{i}"})
        bench.until(40)
        assert len([who for who in bench.identities if who[0] in "BV"]) == 6 - 2 * per_minute

        bench.until(300)

        assert bench.identities == {"A"}

    def test_an_avatar_whose_removal_failed_follows_later(self) -> None:
        """Its principal has gone by then, and the eviction is not forgotten."""
        bench = Bench(policies={"duplicates": None, "max_lifetime": {"limit": 30}})
        bench.joins("ana")
        bench.joins("A", "x")
        bench.joins("V", kind=Kind.AGENT, attributes={"lk.publish_on_behalf": "A"})
        bench.until(29)
        bench.here["V"], bench.removal_trouble = bench.here["V"], Trouble.UNAVAILABLE
        bench.until(31)
        bench.leaves("A")
        bench.removal_trouble = None
        bench.until(120)

        assert bench.identities == {"ana"}

    def test_an_avatar_of_an_agent_that_came_back_is_that_ones_own(self) -> None:
        """It came with the one that was let in, and stays when that one leaves by itself."""
        bench = Bench()
        bench.joins("A", "x")
        bench.joins("B", "x")
        bench.until(10)
        assert bench.outcomes == [("B", "removed")]
        bench.leaves("A")
        bench.joins("B", "x")
        bench.joins("V", kind=Kind.AGENT, attributes={"lk.publish_on_behalf": "B"})
        bench.until(20)
        bench.leaves("B")
        bench.until(60)

        assert bench.identities == {"V"}

    def test_an_avatar_whose_turn_it_may_be_stays(self) -> None:
        """Two name one principal. The list lacks the first, so the second is an agent like others, or the avatar."""
        bench = Bench(policies={"max_agents": {"max": 1, "grace": 10}})
        bench.joins("A", "x")
        for identity in ("V", "W"):
            bench.joins(identity, kind=Kind.AGENT, attributes={"lk.publish_on_behalf": "A"})
        bench.until(9.9)
        del bench.here["V"]
        bench.until(40)

        assert (bench.identities, bench.outcomes) == ({"A", "W"}, [])


class TestUncertain:
    """What one list or one event cannot show is waited for."""

    def test_an_agent_that_may_have_left_is_no_reason_to_evict_the_next(self) -> None:
        """The list lacks the old agent, and no event says yet that it is gone."""
        bench = Bench(policies={"duplicates": {"grace": 0}})
        bench.joins("A", "x")
        bench.until(20)
        del bench.here["A"]
        bench.joins("B", "x")
        bench.until(60)

        assert (bench.identities, bench.outcomes) == ({"B"}, [])

    def test_time_in_which_an_agent_was_not_heard_does_not_make_it_idle(self) -> None:
        """Hearing comes late: the agent may have spoken until then, so its idleness begins there."""
        bench = Bench(policies=IDLE_30)
        bench.joins("A", "x", audio=True)
        bench.until(60)
        bench.watch.tell(Heard(60, bench.here["A"].sid, speaking=False))
        bench.until(89)
        assert bench.identities == {"A"}
        bench.until(93)

        assert bench.identities == set()

    def test_a_restarted_job_stays_and_the_dead_one_leaves(self) -> None:
        """The list of dispatches names the newcomer within five seconds, and it is waited for."""
        bench = Bench()
        bench.joins("agent-AJ_1", "x", dispatch="AD_1")
        bench.until(30)
        bench.joins("agent-AJ_2", "x")
        bench.until(34)
        assert bench.outcomes == []
        bench.jobs += (Job(dispatch="AD_1", job="AJ_2", agent_name="x", identity="agent-AJ_2"),)
        bench.until(40)

        assert bench.identities == {"agent-AJ_2"}

    @pytest.mark.parametrize(("name", "listed"), [("bouncer", True), ("bouncer", False), ("spy", False)])
    def test_a_hidden_agent_may_be_a_bouncer_for_six_seconds(self, name: str, *, listed: bool) -> None:
        """Another bouncer is left alone, also before its dispatch is listed. One that forges our name is not."""
        bench = Bench(policies={"deny_list": {"agent_names": ["bouncer", "spy"]}})
        bench.joins("agent-AJ_1", name, hidden=True)
        bench.until(4)
        if listed:
            bench.jobs += (Job(dispatch="AD_1", job="AJ_1", agent_name=name, identity="agent-AJ_1"),)
        bench.until(60)

        assert (bench.identities == {"agent-AJ_1"}) is listed
        assert all(at >= (6 if name == "bouncer" else 0) for at in bench.made(Evict))

    @pytest.mark.parametrize("identity", ["agent-AJ_1", "vip-bot"])
    @pytest.mark.parametrize("listed", [True, False])
    def test_an_exempt_name_counts_until_it_is_known_that_no_dispatch_gives_it(
        self, identity: str, *, listed: bool
    ) -> None:
        """With `dispatched_only`. The job may be listed five seconds late, whatever identity its worker chose."""
        exempt = {"agent_name": ["vip"], "dispatched_only": True}
        bench = Bench(policies={"deny_list": {"agent_names": ["vip"]}}, exempt=exempt)
        bench.joins(identity, "vip")
        bench.until(5)
        if listed:
            bench.jobs += (Job(dispatch="AD_1", job="AJ_1", agent_name="vip", identity=identity),)
        bench.until(60)

        assert (bench.identities == {identity}) is listed

    @pytest.mark.parametrize("identity", ["agent-AJ_1", "vip-bot"])
    @pytest.mark.parametrize("away", [0, 10])
    def test_an_exempt_name_that_a_dispatch_gives_outlives_a_reconnect(self, identity: str, away: float) -> None:
        """It is not known at once whether an identity that is back is the same job."""
        exempt = {"agent_name": ["vip"], "dispatched_only": True}
        bench = Bench(policies={"deny_list": {"agent_names": ["vip"]}}, exempt=exempt)
        bench.joins(identity, "vip", dispatch="AD_1")
        bench.until(100)
        if away:
            bench.leaves(identity)
            bench.until(100 + away)
        bench.joins(identity, "vip")
        bench.until(160)

        assert bench.outcomes == []

    def test_no_agent_leaves_on_account_of_another_bouncer(self) -> None:
        """It is no agent too many, and no company under `keep_last_agent`, also before its dispatch is listed."""
        policies = {"max_agents": {"max": 1, "grace": 0}, "idle_timeout": {"timeout": 3, "unseen": "evict"}}
        bench = Bench(policies=policies, eviction=KEEP)
        bench.joins("ana")
        bench.joins("agent-AJ_1", "bouncer", hidden=True)
        bench.joins("A", "x")
        bench.until(5)
        bench.jobs += (Job(dispatch="AD_1", job="AJ_1", agent_name="bouncer", identity="agent-AJ_1"),)
        bench.until(60)

        assert (bench.outcomes, bench.told) == ([], [("held", "A", "keep_last_agent")])

    @pytest.mark.parametrize(("known_for", "outcome"), [(10, "left"), (0, "removed")])
    def test_no_dispatch_is_ended_while_a_bouncer_could_be_of_it(self, known_for: float, outcome: str) -> None:
        """Once it is known that it has none, it keeps no agent from leaving by itself."""
        bench = Bench()
        bench.joins("agent-AJ_forged", "bouncer", hidden=True)
        bench.until(known_for)
        for i in (1, 2):
            bench.joins(f"agent-AJ_{i}", "x", dispatch=f"AD_{i}")
        bench.until(known_for + 4)

        assert bench.outcomes == [("agent-AJ_2", outcome)]
        assert len(bench.made(DeleteDispatch)) == 0


class TestTogether:
    """Several are due at once, and one of them because of another."""

    def test_an_agent_that_is_due_only_because_of_one_that_leaves_stays(self) -> None:
        """Of a pair, the older one leaves as idle, so the younger is no duplicate."""
        bench = Bench(policies={"duplicates": {"grace": 30}, "idle_timeout": {"timeout": 30}})
        idle(bench, "A")
        bench.joins("B", "x", attributes={"lk.agent.state": "thinking"})
        bench.until(90)

        assert bench.identities == {"B"}

    def test_a_chain_of_hand_offs_ends_with_its_last_agent(self) -> None:
        """Also if all of them are there when the rule comes."""
        bench = Bench(policies={"duplicates": None})
        for at, name in enumerate(("triage", "billing", "closing")):
            bench.until(5 * at)
            bench.joins(name, name)
        bench.until(30)
        bench.configure(policies={"superseded": {"by": {"triage": ["billing"], "billing": ["closing"]}}})
        bench.until(90)

        assert bench.identities == {"closing"}


class TestLeaving:
    """A bouncer that isn't needed leaves, if the configuration says after how long."""

    @pytest.mark.parametrize(
        ("settings", "agents", "leaves_at"),
        [
            ({}, "x", [30]),
            ({"mode": "off"}, "xx", [30]),
            ({"leave_after": None}, "x", []),
            ({}, "xx", [37]),
            ({"mode": "dry_run"}, "xx", [37]),
            ({"leave_after": 3.0}, "xx", [10]),
            ({"fails": {ListJobs: ApiError(Trouble.UNAVAILABLE, "no answer")}}, "xx", [38]),
            ({"policies": IDLE_30}, "", [30]),
            ({"policies": IDLE_30}, "x", []),
            ({"policies": {"idle_timeout": {"timeout": 3600, "only": ["y"]}}}, "x", [30]),
            ({"policies": {"max_lifetime": {"limit": 100}}}, "x", [130]),
            ({"policies": {"max_lifetime": {"limit": 100}}, "exempt": {"agent_name": ["x"]}}, "x", [30]),
            ({"policies": {"max_lifetime": {"limit": 100, "action": "report"}}}, "x", [130]),
            ({"policies": {"max_lifetime": {"limit": 5}}, "eviction": {"keep_last_agent": True}}, "x", [35]),
            ({"policies": {"max_lifetime": {"limit": 5}}, "eviction": {"max_per_minute": 1}}, "xx", [95]),
        ],
        ids=[
            "nothing due",
            "off",
            "not configured",
            "one was evicted",
            "a dry run",
            "a doubt that will be settled",
            "held in doubt",
            "no agent to watch",
            "an agent to watch",
            "no agent that the rule judges",
            "will come due",
            "exempt",
            "reported",
            "held for good",
            "held by the budget",
        ],
    )
    def test_it_leaves_once_not_needed_for_so_long(
        self, settings: dict[str, Any], agents: str, leaves_at: list[int]
    ) -> None:
        """A person is there all the time."""
        bench = Bench(**{"leave_after": 30.0} | settings)
        bench.joins("ana")
        for number, name in enumerate(agents):
            bench.joins(f"A{number}", name, attributes={"lk.agent.state": "thinking"})
        bench.until(300)

        assert [round(at) for at in bench.made(Leave)] == leaves_at

    def test_what_makes_it_needed_starts_the_time_again(self) -> None:
        """So does a connection that is lost: unwatched time doesn't count."""
        bench = Bench(leave_after=30.0, policies={"empty_room": {"grace": 10}})
        bench.joins("ana")
        bench.joins("A", "x")
        bench.until(20)
        bench.leaves("ana")
        bench.until(25)
        bench.joins("ana")
        bench.until(50)
        bench.disconnects()
        bench.until(54)
        bench.reconnects()
        bench.until(200)

        assert [round(at) for at in bench.made(Leave)] == [84]

    def test_it_leaves_once_whatever_happens_until_it_has_left(self) -> None:
        """Its connection takes a moment to close."""
        bench = Bench(leave_after=30.0)
        bench.joins("ana")
        bench.until(29)
        commands: list[Command] = []
        for at in (30, 40, 50):
            bench.watch.tell(Signal(at, bench.here["ana"].sid))
            commands += [*bench.watch.step(at).commands, *bench.watch.step(at + 1).commands]

        assert [type(command) for command in commands].count(Leave) == 1

    def test_a_standby_stays_as_long_as_the_other_acts(self) -> None:
        """It is there in case that one fails."""
        bench = Bench(leave_after=30.0)
        bench.here["elder"] = replace(ME, sid="PA_0", identity="agent-AJ_elder", joined_ms=-1)
        bench.jobs += (replace(OURS, dispatch="AD_elder", job="AJ_elder", identity="agent-AJ_elder"),)
        bench.until(100)

        assert bench.made(Leave) == []
