"""The policies at work in a room that changes, in virtual time."""

import asyncio
from typing import Any

import pytest

from bouncer.api import ApiError, Trouble
from bouncer.events import Heard, Info, Job
from bouncer.observers import HeldBack, Noticed, Reported
from bouncer.room import Kind
from tests.fake import FakeRoom
from tests.virtual import virtual

MOMENT = 0.1
"""Seconds within which what is due at once has happened."""


def house(eviction: dict[str, Any] | None = None, **policies: Any) -> dict[str, Any]:
    """Room metadata with these policies and no others."""
    return {"bouncer": {"eviction": eviction or {}, "policies": {"duplicates": None, **policies}}}


def human(room: FakeRoom, identity: str) -> Info:
    """Have somebody join of whom the server's list says that they are no agent."""
    return room.join(identity, agent_grant=False)


def idle(room: FakeRoom, identity: str, name: str = "assistant") -> Info:
    """Have an agent join that listens and does nothing."""
    return room.join(identity, name, attributes={"lk.agent.state": "listening"})


def avatar(room: FakeRoom, identity: str, principal: str) -> Info:
    """Have the avatar of an agent join."""
    return room.join(identity, kind=Kind.AGENT, attributes={"lk.publish_on_behalf": principal})


def held(room: FakeRoom) -> list[tuple[str, str, str]]:
    """Each time somebody was said to be held back: who, from which rule, by what."""
    holds = [n.hold for n in room.recorder.news if isinstance(n, HeldBack)]
    return [(h.finding.participant.identity, h.finding.rule.id, str(h.by)) for h in holds]


def reported(room: FakeRoom) -> list[tuple[str, str]]:
    """Each report: on whom, by which rule."""
    findings = [n.finding for n in room.recorder.news if isinstance(n, Reported)]
    return [(f.participant.identity, f.rule.id) for f in findings]


def noticed(room: FakeRoom) -> list[tuple[str, int]]:
    """Each notice: of whom, and how many seconds ahead."""
    return [
        (n.finding.participant.identity, round(n.due_in)) for n in room.recorder.news if isinstance(n, Noticed)
    ]  # fmt: skip


class TestNoReturn:
    """Out is out, for as long as the window."""

    @virtual
    async def test_one_that_is_back_within_the_window_leaves_at_once(self) -> None:
        """Each time, and each removal opens the window anew."""
        async with FakeRoom(metadata=house(idle_timeout={"timeout": 30}, no_return={})) as room:
            idle(room, "A")
            await asyncio.sleep(31)
            for pause in (1, 30, 59):
                assert "A" not in room.identities
                await asyncio.sleep(pause)
                idle(room, "A")
                await asyncio.sleep(MOMENT)

            assert "A" not in room.identities
            assert len(room.removed) == 4

    @virtual
    async def test_one_that_is_back_later_has_all_its_time_again(self) -> None:
        """And another identity of the same agent was never out."""
        async with FakeRoom(metadata=house(idle_timeout={"timeout": 30}, no_return={"window": 60})) as room:
            idle(room, "A")
            await asyncio.sleep(31)
            idle(room, "B")
            await asyncio.sleep(29)
            assert room.identities == {"B"}
            await asyncio.sleep(31)

            idle(room, "A")
            await asyncio.sleep(29)
            assert room.identities == {"A"}
            await asyncio.sleep(2)

            assert [(round(at), who) for at, who in room.removed] == [(30, "A"), (61, "B"), (121, "A")]

    @virtual
    async def test_one_that_left_by_itself_may_return(self) -> None:
        """Only what this bouncer removed is out; in a dry run, nobody is."""
        metadata = house(idle_timeout={"timeout": 30}, no_return={})
        async with FakeRoom(metadata=metadata) as room:
            idle(room, "A")
            room.leave("A")
            idle(room, "A")
            await asyncio.sleep(20)
            assert room.identities == {"A"}

        metadata["bouncer"]["mode"] = "dry_run"
        async with FakeRoom(metadata=metadata) as room:
            idle(room, "A")
            await asyncio.sleep(40)
            room.leave("A")
            idle(room, "A")
            await asyncio.sleep(20)
            assert room.recorder.outcomes() == [("A", "would")]


class TestEmptyRoom:
    """Humans come, go and come back."""

    @virtual
    async def test_agents_leave_one_grace_after_the_last_human_left(self) -> None:
        """While one of them is still there, nobody is counting."""
        async with FakeRoom(metadata=house(empty_room={})) as room:
            human(room, "ana")
            human(room, "bob")
            room.join("A", "x")
            room.join("B", "y")
            await asyncio.sleep(200)
            room.leave("ana")
            await asyncio.sleep(200)
            assert room.removed == []
            room.leave("bob")
            await asyncio.sleep(19)
            assert room.removed == []
            await asyncio.sleep(1 + MOMENT)

            assert room.identities == set()

    @virtual
    async def test_a_human_who_is_back_within_the_grace_finds_everybody_there(self) -> None:
        """The next leaving counts anew."""
        async with FakeRoom(metadata=house(empty_room={})) as room:
            human(room, "ana")
            room.join("A", "x")
            for _ in range(3):
                await asyncio.sleep(10)
                room.leave("ana")
                await asyncio.sleep(19)
                human(room, "ana")
            assert room.identities == {"A", "ana"}
            room.leave("ana")
            await asyncio.sleep(21)

            assert room.identities == set()

    @virtual
    async def test_a_human_who_comes_at_the_last_moment_is_seen_in_the_list(self) -> None:
        """The room is looked at again before anybody is removed."""
        async with FakeRoom(metadata=house(empty_room={"never_joined": 30})) as room:
            room.join("A", "x")
            await asyncio.sleep(29.5)
            room.join("ana", agent_grant=False, announced=False)
            await asyncio.sleep(300)

            assert room.identities == {"A", "ana"}

    @virtual
    async def test_if_no_human_ever_comes_agents_leave_after_never_joined(self) -> None:
        """And one that comes later has the same time."""
        async with FakeRoom(metadata=house(empty_room={})) as room:
            room.join("A", "x")
            await asyncio.sleep(60)
            room.join("B", "x")
            await asyncio.sleep(61)
            assert room.identities == {"B"}
            await asyncio.sleep(60)

            assert room.identities == set()

    @virtual
    async def test_a_bot_that_looks_like_a_human_at_first_is_none(self) -> None:
        """Of kind STANDARD with the agent grant: the list shows it, and it leaves with the others."""
        async with FakeRoom(metadata=house(empty_room={"never_joined": 30})) as room:
            room.join("A", "x")
            await asyncio.sleep(10)
            room.join("bot", agent_grant=True)
            await asyncio.sleep(20 + MOMENT)
            assert room.identities == {"bot"}
            await asyncio.sleep(10)

            assert room.identities == set()

    @virtual
    async def test_a_notice_comes_again_when_the_date_has_moved(self) -> None:
        """Each leaving is a countdown of its own; the return of the human ends it."""
        async with FakeRoom(metadata=house(empty_room={"notice": 5})) as room:
            human(room, "ana")
            room.join("A", "x")
            await asyncio.sleep(10)
            room.leave("ana")
            await asyncio.sleep(16)
            human(room, "ana")
            await asyncio.sleep(10)
            room.leave("ana")
            await asyncio.sleep(30)

            assert noticed(room) == [("A", 5), ("A", 5)]
            ((at, _),) = room.removed
            assert 56 <= at <= 56 + MOMENT


class TestHumanTakeover:
    """An operator relieves the agents."""

    METADATA = house(human_takeover={"identity": ["op-*"]})

    @virtual
    async def test_the_agents_leave_one_grace_after_the_operator_came(self) -> None:
        """And those that come after that, too."""
        async with FakeRoom(metadata=self.METADATA) as room:
            human(room, "ana")
            room.join("A", "x")
            await asyncio.sleep(100)
            human(room, "op-1")
            await asyncio.sleep(2.9)
            assert "A" in room.identities
            await asyncio.sleep(MOMENT + MOMENT)
            assert room.identities == {"ana", "op-1"}
            room.join("B", "x")
            await asyncio.sleep(3 + MOMENT)

            assert room.identities == {"ana", "op-1"}

    @virtual
    async def test_an_operator_who_is_gone_again_relieves_nobody(self) -> None:
        """The agents stay."""
        async with FakeRoom(metadata=self.METADATA) as room:
            room.join("A", "x")
            human(room, "op-1")
            await asyncio.sleep(2)
            room.leave("op-1")
            await asyncio.sleep(60)

            assert room.identities == {"A"}

    @virtual
    async def test_it_clears_the_room_although_the_last_agent_is_kept(self) -> None:
        """That is what it is for."""
        metadata = house({"keep_last_agent": True}, human_takeover={"identity": ["op-*"]})
        async with FakeRoom(metadata=metadata) as room:
            room.join("A", "x")
            human(room, "op-1")
            await asyncio.sleep(4)

            assert room.identities == {"op-1"}


class TestKeepLastAgent:
    """Nobody is left alone with a dead line."""

    METADATA = house({"keep_last_agent": True}, idle_timeout={"timeout": 30})

    @virtual
    async def test_the_last_one_is_held_back_and_that_is_said_once(self) -> None:
        """For as long as it takes, without repetition and without work."""
        async with FakeRoom(metadata=self.METADATA) as room:
            human(room, "ana")
            idle(room, "A")
            idle(room, "B")
            await asyncio.sleep(31)
            assert room.identities == {"ana", "A"}
            before = room.recorder.evaluations
            await asyncio.sleep(600)

            assert room.identities == {"ana", "A"}
            assert held(room) == [("A", "idle_timeout", "keep_last_agent")]
            assert room.recorder.evaluations - before < 50

    @virtual
    async def test_it_leaves_when_the_human_has_left(self) -> None:
        """There is nobody to keep it for."""
        async with FakeRoom(metadata=self.METADATA) as room:
            human(room, "ana")
            idle(room, "A")
            await asyncio.sleep(100)
            room.leave("ana")
            await asyncio.sleep(MOMENT)

            assert room.identities == set()

    @virtual
    async def test_it_leaves_when_another_has_come(self) -> None:
        """The people have somebody again."""
        async with FakeRoom(metadata=self.METADATA) as room:
            human(room, "ana")
            idle(room, "A")
            await asyncio.sleep(100)
            idle(room, "B")
            await asyncio.sleep(MOMENT)
            assert room.identities == {"ana", "B"}
            await asyncio.sleep(100)

            assert room.identities == {"ana", "B"}

    @virtual
    async def test_of_several_evictions_at_once_one_is_kept(self) -> None:
        """They run side by side, and each is checked once more before it is sent."""
        async with FakeRoom(metadata=self.METADATA) as room:
            human(room, "ana")
            for i in range(6):
                idle(room, f"A{i}")
            await asyncio.sleep(60)

            assert room.identities == {"ana", "A0"}

    @virtual
    async def test_a_removal_that_fails_lets_nobody_else_go(self) -> None:
        """Who could not be removed may be gone at the next try."""
        async with FakeRoom(metadata=self.METADATA) as room:
            human(room, "ana")
            idle(room, "A")
            await asyncio.sleep(1)
            idle(room, "B")
            room.removal_trouble = Trouble.UNAVAILABLE
            await asyncio.sleep(60)
            assert room.identities == {"ana", "A", "B"}
            room.removal_trouble = None
            await asyncio.sleep(60)

            assert room.identities == {"ana", "B"}


class TestReports:
    """A report is made once per participant and rule."""

    @virtual
    async def test_once_for_each_agent_and_each_rule(self) -> None:
        """Whatever happens in the room meanwhile."""
        report = {"action": "report"}
        metadata = house(
            idle_timeout=[{"timeout": 10, **report}, {"timeout": 20, **report}], max_lifetime={"limit": 30, **report}
        )
        async with FakeRoom(metadata=metadata) as room:
            idle(room, "A")
            idle(room, "B")
            for i in range(100):
                await asyncio.sleep(1)
                room.join(f"h{i}", agent_grant=False)

            assert sorted(reported(room)) == [
                (who, rule) for who in "AB" for rule in ("idle_timeout", "idle_timeout[1]", "max_lifetime")
            ]
            assert room.removed == []

    @virtual
    async def test_somebody_who_is_back_is_somebody_new(self) -> None:
        """It is the connection that is reported."""
        async with FakeRoom(metadata=house(max_lifetime={"limit": 30, "action": "report"})) as room:
            for _ in range(2):
                room.join("A", "x")
                await asyncio.sleep(40)
                room.leave("A")

            assert reported(room) == [("A", "max_lifetime"), ("A", "max_lifetime")]

    @virtual
    async def test_reports_spend_no_budget(self) -> None:
        """Nothing is removed for them."""
        metadata = house(
            {"max_per_minute": 1}, max_lifetime={"limit": 30, "action": "report"}, idle_timeout={"timeout": 40}
        )
        async with FakeRoom(metadata=metadata) as room:
            for i in range(5):
                room.join(f"A{i}", "x", attributes={"lk.agent.state": "thinking"})
            idle(room, "B")
            await asyncio.sleep(41)

            assert len(reported(room)) == 6
            assert [who for _, who in room.removed] == ["B"]


class TestMaxLifetime:
    """Long enough, whatever it does."""

    @virtual
    async def test_the_room_is_told_once_and_then_it_leaves(self) -> None:
        """On its date, however busy it is."""
        async with FakeRoom(metadata=house(max_lifetime={"limit": 600, "notice": 60})) as room:
            human(room, "ana")
            room.join("A", "x")
            for _ in range(119):
                await asyncio.sleep(5)
                room.signal("A")
            assert noticed(room) == [("A", 60)]
            assert "A" in room.identities
            await asyncio.sleep(5 + MOMENT)

            assert room.identities == {"ana"}
            assert noticed(room) == [("A", 60)]

    @virtual
    async def test_a_bouncer_that_comes_later_counts_in_full(self) -> None:
        """It is the server that says when an agent joined."""
        room = FakeRoom(metadata=house(max_lifetime={"limit": 600}))
        room.join("A", "x", announced=False)
        await asyncio.sleep(590)
        async with room:
            began = room.loop.time()
            await asyncio.sleep(11)
            assert room.identities == set()
            assert room.loop.time() - began < 12


class TestSuperseded:
    """Triage hands over to billing."""

    METADATA = house({"keep_last_agent": True}, superseded={"by": {"triage": ["billing"]}})

    @virtual
    async def test_the_one_leaves_when_the_next_has_come(self) -> None:
        """After the grace, and the successor stays."""
        async with FakeRoom(metadata=self.METADATA) as room:
            human(room, "ana")
            room.join("A", "triage")
            await asyncio.sleep(100)
            room.join("B", "billing")
            await asyncio.sleep(1.9)
            assert "A" in room.identities
            await asyncio.sleep(0.1 + MOMENT)

            assert room.identities == {"ana", "B"}

    @virtual
    async def test_a_successor_that_is_gone_again_supersedes_nobody(self) -> None:
        """The hand-off failed, and triage goes on."""
        async with FakeRoom(metadata=self.METADATA) as room:
            human(room, "ana")
            room.join("A", "triage")
            room.join("B", "billing")
            await asyncio.sleep(1)
            room.leave("B")
            await asyncio.sleep(60)

            assert room.identities == {"ana", "A"}

    @virtual
    async def test_one_that_comes_after_its_successor_stays(self) -> None:
        """It was called back."""
        async with FakeRoom(metadata=self.METADATA) as room:
            room.join("B", "billing")
            await asyncio.sleep(10)
            room.join("A", "triage")
            await asyncio.sleep(60)

            assert room.identities == {"A", "B"}

    @virtual
    async def test_the_dispatchs_word_wins_over_the_agents(self) -> None:
        """One that merely calls itself billing, while its dispatch says otherwise, sends nobody away."""
        async with FakeRoom(metadata=self.METADATA) as room:
            room.join("A", "triage")
            room.jobs = (Job(dispatch="AD_1", job="AJ_1", agent_name="spy", identity="agent-AJ_1"),)
            room.join("agent-AJ_1", "billing")
            await asyncio.sleep(60)

            assert room.identities == {"A", "agent-AJ_1"}


class TestStuckState:
    """One state for too long."""

    @virtual
    async def test_a_change_of_state_starts_anew(self) -> None:
        """And signs of life don't."""
        async with FakeRoom(metadata=house(stuck_state={"limits": {"thinking": 30}})) as room:
            room.join("A", "x")
            for _ in range(3):
                room.state("A", "thinking")
                await asyncio.sleep(29)
                room.state("A", "speaking")
                await asyncio.sleep(100)
            room.state("A", "thinking")
            for _ in range(29):
                await asyncio.sleep(1)
                room.signal("A")
            assert room.identities == {"A"}
            await asyncio.sleep(1 + MOMENT)

            assert room.identities == set()


class TestLists:
    """Who may be here and who may not."""

    @virtual
    async def test_whoever_is_not_allowed_leaves_at_once(self) -> None:
        """People and the allowed ones stay."""
        async with FakeRoom(metadata=house(allow_list={"agent_names": ["doctor-*"]})) as room:
            human(room, "ana")
            room.join("A", "doctor-1")
            room.join("B", "spy")
            room.join("C", kind=Kind.AGENT)
            await asyncio.sleep(MOMENT)

            assert room.identities == {"ana", "A"}

    @virtual
    async def test_whoever_is_denied_leaves_at_once(self) -> None:
        """By name or by identity."""
        async with FakeRoom(metadata=house(deny_list={"agent_names": ["spy"], "identities": ["bad-*"]})) as room:
            human(room, "bad-ana")
            room.join("A", "doctor")
            room.join("B", "spy")
            room.join("bad-C", "nurse")
            await asyncio.sleep(MOMENT)

            assert room.identities == {"bad-ana", "A"}

    @virtual
    async def test_the_name_of_the_dispatch_is_the_one_that_counts(self) -> None:
        """Whatever the agent calls itself."""
        async with FakeRoom(metadata=house(allow_list={"agent_names": ["doctor"], "grace": 2})) as room:
            room.jobs = (
                Job(dispatch="AD_1", job="AJ_1", agent_name="spy", identity="agent-AJ_1"),
                Job(dispatch="AD_2", job="AJ_2", agent_name="doctor", identity="agent-AJ_2"),
            )
            room.join("agent-AJ_1", "doctor")
            room.join("agent-AJ_2", "spy")
            await asyncio.sleep(10)

            assert room.identities == {"agent-AJ_2"}


class TestMaxAgents:
    """So many and no more."""

    @virtual
    async def test_whoever_comes_when_it_is_full_leaves(self) -> None:
        """Until one of the others has left."""
        async with FakeRoom(metadata=house(max_agents={"max": 2})) as room:
            room.join("A", "x")
            room.join("B", "y")
            room.join("C", "z")
            await asyncio.sleep(3)
            assert room.identities == {"A", "B"}
            room.leave("A")
            room.join("D", "z")
            await asyncio.sleep(60)

            assert room.identities == {"B", "D"}

    @virtual
    async def test_a_restarted_job_takes_the_place_of_its_corpse(self) -> None:
        """Although the dead one is still listed, and it has joined as one too many."""
        async with FakeRoom(metadata=house(max_agents={"max": 1})) as room:
            room.jobs = (Job(dispatch="AD_1", job="AJ_1", agent_name="x", identity="agent-AJ_1"),)
            room.join("agent-AJ_1", "x")
            room.hanging.add("agent-AJ_1")
            await asyncio.sleep(60)
            room.join("agent-AJ_2", "x")
            await asyncio.sleep(4)
            room.jobs += (Job(dispatch="AD_1", job="AJ_2", agent_name="x", identity="agent-AJ_2"),)
            await asyncio.sleep(10)

            assert room.identities == {"agent-AJ_2"}


class TestAvatars:
    """They leave with their principal, and by a rule when that is gone."""

    ORPHANS = house(orphaned_avatar={})

    @virtual
    async def test_an_avatar_that_was_left_behind_leaves(self) -> None:
        """One grace after its principal left by itself."""
        async with FakeRoom(metadata=self.ORPHANS) as room:
            room.join("A", "x")
            avatar(room, "V", "A")
            room.join("B", "x")
            avatar(room, "W", "B")
            await asyncio.sleep(60)
            room.leave("A")
            await asyncio.sleep(4.9)
            assert "V" in room.identities
            await asyncio.sleep(0.1 + MOMENT)

            assert room.identities == {"B", "W"}

    @virtual
    async def test_a_principal_that_is_back_in_time_keeps_its_avatar(self) -> None:
        """It reconnected."""
        async with FakeRoom(metadata=self.ORPHANS) as room:
            room.join("A", "x")
            avatar(room, "V", "A")
            await asyncio.sleep(10)
            room.leave("A")
            await asyncio.sleep(4)
            room.join("A", "x")
            await asyncio.sleep(60)

            assert room.identities == {"A", "V"}

    @virtual
    async def test_without_the_rule_an_orphan_stays(self) -> None:
        """Until a rule for agents asks it to leave: it is one now."""
        async with FakeRoom(metadata=house(empty_room={})) as room:
            human(room, "ana")
            room.join("A", "x")
            avatar(room, "V", "A")
            await asyncio.sleep(10)
            room.leave("A")
            await asyncio.sleep(100)
            assert room.identities == {"ana", "V"}
            room.leave("ana")
            await asyncio.sleep(21)

            assert room.identities == set()

    @virtual
    async def test_one_whose_removal_failed_follows_later(self) -> None:
        """Its principal is gone by then, and that it was evicted is not forgotten."""
        async with FakeRoom(metadata=house(max_lifetime={"limit": 30})) as room:
            removed = room.remove_participant

            async def remove_participant(identity: str) -> bool:
                if identity == "V" and room.now < 40:
                    raise ApiError(Trouble.UNAVAILABLE, "the test says so")
                return await removed(identity)

            room.remove_participant = remove_participant  # type: ignore[method-assign]
            human(room, "ana")
            room.join("A", "x")
            avatar(room, "V", "A")
            await asyncio.sleep(35)
            assert room.identities == {"ana", "V"}
            await asyncio.sleep(30)

            assert room.identities == {"ana"}
            assert room.recorder.outcomes()[-1] == ("V", "removed")

    @pytest.mark.parametrize("per_minute", [1, 3])
    @virtual
    async def test_avatars_leave_whatever_the_budget(self, per_minute: int) -> None:
        """They are no reason to hold their principals back, nor the next agent."""
        async with FakeRoom(metadata=house({"max_per_minute": per_minute}, duplicates={})) as room:
            room.join("A", "x")
            for i in range(3):
                room.join(f"B{i}", "x")
                avatar(room, f"V{i}", f"B{i}")
            await asyncio.sleep(5)
            assert len(room.removed) == 2 * per_minute
            assert not [outcome for _, outcome in room.recorder.outcomes() if outcome != "removed"]
            await asyncio.sleep(200)

            assert room.identities == {"A"}

    @virtual
    async def test_who_is_back_is_no_longer_evicted(self) -> None:
        """When it leaves by itself later, its avatar is an orphan like any other."""
        async with FakeRoom(metadata=house(duplicates={})) as room:
            room.join("A", "x")
            room.join("B", "x")
            await asyncio.sleep(5)
            room.leave("A")
            await asyncio.sleep(60)
            room.join("B", "x")
            avatar(room, "V", "B")
            await asyncio.sleep(60)
            room.leave("B")
            await asyncio.sleep(60)

            assert room.identities == {"V"}


class TestBudget:
    """What is spent, and on whom."""

    @pytest.mark.parametrize("per_minute", [1, 4])
    @virtual
    async def test_an_agent_that_ignores_its_jobs_end_is_removed_all_the_same(self, per_minute: int) -> None:
        """Also with the last of the budget: one eviction is paid for once."""
        async with FakeRoom(metadata=house({"max_per_minute": per_minute}, max_lifetime={"limit": 30})) as room:
            for i in range(per_minute):
                job = f"AJ_{i}"
                room.jobs += (Job(dispatch=f"AD_{i}", job=job, agent_name="x", identity=f"agent-{job}"),)
                room.join(f"agent-{job}", "x")
                room.hanging.add(f"agent-{job}")
            await asyncio.sleep(40)

            assert room.identities == set()
            assert {outcome for _, outcome in room.recorder.outcomes()} == {"removed"}

    @virtual
    async def test_a_dry_run_spends_nothing(self) -> None:
        """So nobody is said to be held back for it."""
        metadata = house({"max_per_minute": 1}, duplicates={})
        metadata["bouncer"]["mode"] = "dry_run"
        async with FakeRoom(metadata=metadata) as room:
            for i in range(5):
                room.join(f"A{i}", "x")
            await asyncio.sleep(60)

            assert held(room) == []
            assert sorted(room.recorder.outcomes()) == [(f"A{i}", "would") for i in range(1, 5)]


class TestTogether:
    """Several that are due at once, and one of them because of another."""

    @virtual
    async def test_whoever_is_due_only_because_of_one_that_is_leaving_stays(self) -> None:
        """The older of its name is sent away for another rule, so it is one too many no longer."""
        metadata = house(duplicates={"grace": 30}, idle_timeout={"timeout": 30})
        async with FakeRoom(metadata=metadata) as room:
            idle(room, "A")
            room.join("B", "assistant", attributes={"lk.agent.state": "thinking"})
            await asyncio.sleep(60)

            assert room.identities == {"B"}

    @virtual
    async def test_a_chain_of_hand_offs_ends_with_the_last_of_them(self) -> None:
        """Also where all of them are there when the rule comes."""
        async with FakeRoom(metadata=house()) as room:
            for identity, name in (("A", "triage"), ("B", "billing"), ("C", "closing")):
                room.join(identity, name)
                await asyncio.sleep(5)
            room.configure(house(superseded={"by": {"triage": ["billing"], "billing": ["closing"]}}))
            await asyncio.sleep(60)

            assert room.identities == {"C"}


class TestHearing:
    """What is heard, and what follows from it."""

    @staticmethod
    def speaks(room: FakeRoom, identity: str, speaking: bool | None = True) -> None:  # noqa: FBT001, FBT002 - a fact
        """Have somebody be heard, or no longer heard."""
        room.patrol.tell(Heard(room.loop.time(), room.here[identity].sid, speaking))

    async def say(self, room: FakeRoom, identity: str, seconds: float) -> None:
        """Have somebody speak for so long."""
        self.speaks(room, identity)
        await asyncio.sleep(seconds)
        self.speaks(room, identity, speaking=False)

    @virtual
    async def test_crosstalk(self) -> None:
        """Short overlaps are nothing; whoever speaks over the oldest for longer leaves."""
        async with FakeRoom(metadata=house(crosstalk={})) as room:
            for identity in ("A", "B", "C"):
                room.join(identity, identity.lower(), audio=True)
                self.speaks(room, identity, speaking=False)
            self.speaks(room, "B")
            for _ in range(5):
                await self.say(room, "C", 2.9)
            assert room.removed == []
            self.speaks(room, "A")
            await asyncio.sleep(2.9)
            assert room.removed == []
            await asyncio.sleep(MOMENT + MOMENT)

            assert room.identities == {"A", "C"}

    @virtual
    async def test_lone_chatter(self) -> None:
        """Two agents that keep each other talking leave; a human who says something starts it all over."""
        async with FakeRoom(metadata=house(lone_chatter={"timeout": 60})) as room:
            human(room, "ana")
            for identity in ("ana", "A", "B"):
                if identity != "ana":
                    room.join(identity, identity.lower(), audio=True)
                self.speaks(room, identity, speaking=False)
            for _ in range(5):
                await self.say(room, "ana", 2)
                for _ in range(5):
                    await self.say(room, "A", 5)
                    await self.say(room, "B", 5)
            await self.say(room, "A", 5)
            await self.say(room, "B", 5)
            assert room.removed == []
            await asyncio.sleep(60)
            assert room.removed == []
            self.speaks(room, "A")
            await asyncio.sleep(MOMENT)

            assert room.identities == {"ana"}

    @virtual
    async def test_unresponsive(self) -> None:
        """By default it reports, once; an agent that answers is let alone."""
        async with FakeRoom(metadata=house(unresponsive={})) as room:
            human(room, "ana")
            self.speaks(room, "ana", speaking=False)
            for identity in ("A", "B"):
                room.join(identity, identity.lower(), audio=True, attributes={"lk.agent.state": "listening"})
                self.speaks(room, identity, speaking=False)
            for _ in range(10):
                await self.say(room, "ana", 3)
                await asyncio.sleep(2)
                await self.say(room, "B", 5)

            assert reported(room) == [("A", "unresponsive")]
            assert room.removed == []
