"""The patrol's loop, in virtual time."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any
from unittest.mock import patch

import pytest

from bouncer.api import ApiError, Trouble
from bouncer.events import Disconnected, Heard, Info, Job, Joined
from bouncer.history import Outcome
from bouncer.observers import Evicted, Faulted, HeldBack, Noticed, Refused, Reported, Troubled
from bouncer.room import Kind, Room
from bouncer.tracker import Tracker
from policies.idle_timeout import IdleTimeout
from tests.fake import FakeRoom
from tests.virtual import virtual


def house(mode: str = "enforce", /, **policies: Any) -> dict[str, Any]:
    """Room metadata with these policies besides the default ones."""
    return {"bouncer": {"mode": mode, "policies": policies}}


def evicting() -> bool:
    """Whether this is run for an eviction."""
    task = asyncio.current_task()
    return task is not None and task.get_name() == "bouncer_evict"


IDLE_10 = house(idle_timeout={"timeout": 10})


@virtual
async def test_a_duplicate_leaves_one_grace_after_it_joined_and_the_oldest_stays() -> None:
    """The whole way: joined, due, looked at again, removed, seen gone."""
    async with FakeRoom() as room:
        room.join("ana")
        room.join("A", "assistant")
        await asyncio.sleep(5)
        room.join("B", "assistant")
        await asyncio.sleep(10)

        ((at, who),) = room.removed
        assert who == "B"
        assert 7 <= at < 7.1
        assert room.identities == {"ana", "A"}
        assert room.recorder.outcomes() == [("B", "removed")]


@virtual
async def test_who_is_not_announced_is_found_by_listing() -> None:
    """Events are hints: a duplicate that no event showed is seen at the next list."""
    async with FakeRoom() as room:
        room.join("A", "assistant")
        room.join("B", "assistant", announced=False)
        await asyncio.sleep(20)

        assert room.identities == {"A"}


@virtual
async def test_a_quiet_room_costs_one_list_per_reconcile() -> None:
    """No polling: in ten quiet minutes there are a few evaluations and one API call every 15 seconds."""
    async with FakeRoom(metadata=house(idle_timeout={"timeout": 3600})) as room:
        room.join("A", "assistant")
        room.join("ana")
        await asyncio.sleep(20)
        room.calls.clear()
        before = room.recorder.evaluations
        await asyncio.sleep(600)

        assert 38 <= room.calls.total() <= 42
        assert room.recorder.evaluations - before <= 42


@virtual
@pytest.mark.parametrize(("jitter", "lists"), [(0.0, 44), (0.999, 36)])
async def test_quiet_rooms_are_not_all_listed_at_the_same_time(jitter: float, lists: int) -> None:
    """Those that were opened together drift apart: each of their pauses is up to a tenth longer or shorter."""
    async with FakeRoom(jitter=jitter) as room:
        room.join("ana")
        await asyncio.sleep(20)
        room.calls.clear()
        await asyncio.sleep(600)

        assert lists - 1 <= room.calls["list_participants"] <= lists + 1


@virtual
async def test_a_burst_of_events_is_one_evaluation() -> None:
    """A thousand events at once cost one look at the room."""
    async with FakeRoom(metadata=house(idle_timeout={"timeout": 3600})) as room:
        room.join("A", "assistant")
        await asyncio.sleep(20)
        before = room.recorder.evaluations
        for _ in range(1000):
            room.signal("A")
        await asyncio.sleep(1)

        assert room.recorder.evaluations - before == 1


@virtual
async def test_an_agent_that_keeps_working_stays() -> None:
    """Activity moves the deadline; a state of work suspends it."""
    async with FakeRoom(metadata=IDLE_10) as room:
        room.join("busy", "assistant")
        room.join("caller", "dialer")
        room.state("caller", "thinking")
        for _ in range(20):
            await asyncio.sleep(9)
            room.signal("busy")
        assert room.identities == {"busy", "caller"}

        room.state("caller", "listening")
        await asyncio.sleep(5)
        room.signal("busy")
        await asyncio.sleep(6)

        assert room.identities == {"busy"}


@virtual
async def test_a_dry_run_removes_nobody_and_says_it_once() -> None:
    """Everything but the removal, and no repetition."""
    async with FakeRoom(metadata=house("dry_run")) as room:
        room.join("A", "assistant")
        room.join("B", "assistant")
        await asyncio.sleep(120)

        assert room.removed == []
        assert room.recorder.outcomes() == [("B", "would")]


@virtual
async def test_off_calls_nothing_and_can_be_switched_on() -> None:
    """`off` watches the metadata and does nothing else."""
    async with FakeRoom(metadata=house("off")) as room:
        room.join("A", "assistant")
        room.join("B", "assistant")
        await asyncio.sleep(60)
        assert room.calls.total() == 0

        room.configure(house())
        await asyncio.sleep(1)

        assert room.identities == {"A"}


@virtual
async def test_a_change_of_metadata_takes_effect_at_once() -> None:
    """A shorter timeout evicts right away who is past it; an exemption comes in time."""
    async with FakeRoom(metadata=house(idle_timeout={"timeout": 1000})) as room:
        room.join("A", "assistant", attributes={"lk.agent.state": "listening"})
        room.join("rec", "recorder", attributes={"lk.agent.state": "listening"})
        await asyncio.sleep(100)
        room.configure({"bouncer": {"exempt": {"agent_name": ["rec*"]}, "policies": {"idle_timeout": {"timeout": 60}}}})
        await asyncio.sleep(1)

        assert room.identities == {"rec"}
        assert [n.hold.by for n in room.recorder.news if isinstance(n, HeldBack)] == ["exempt"]


@virtual
async def test_bad_metadata_keeps_the_last_good_configuration() -> None:
    """It is reported, and the room goes on being guarded as before."""
    async with FakeRoom(metadata=IDLE_10) as room:
        room.join("A", "assistant", attributes={"lk.agent.state": "listening"})
        await asyncio.sleep(1)
        room.configure('{"bouncer": {"policies": {"idle_timeout": {"timeout": "soon"}}}}')
        await asyncio.sleep(20)

        assert room.identities == set()
        (refused,) = [n for n in room.recorder.news if isinstance(n, Refused)]
        assert refused.kept is not None
        assert [p.path for p in refused.error.problems] == ["$.bouncer.policies.idle_timeout.timeout"]


@virtual
async def test_a_bad_first_configuration_evicts_nobody() -> None:
    """Until there is a good one."""
    async with FakeRoom(metadata='{"bouncer": {"mode": "enforce",}}') as room:
        room.join("A", "assistant")
        room.join("B", "assistant")
        await asyncio.sleep(60)
        assert room.identities == {"A", "B"}

        room.configure({})
        await asyncio.sleep(1)

        assert room.identities == {"A"}


@virtual
async def test_nothing_is_decided_while_the_connection_is_down() -> None:
    """What happens meanwhile is unknown, and unwatched time is nobody's fault."""
    async with FakeRoom(metadata=IDLE_10) as room:
        room.join("A", "assistant", attributes={"lk.agent.state": "listening"})
        await asyncio.sleep(5)
        room.patrol.tell(Disconnected(room.loop.time()))
        await asyncio.sleep(100)
        assert room.identities == {"A"}

        room.reconnect()
        await asyncio.sleep(9)
        assert room.identities == {"A"}
        await asyncio.sleep(2)

        assert room.identities == set()


@virtual
async def test_a_full_reconnect_evicts_nobody_by_itself() -> None:
    """Everybody leaves and joins for us; nobody is newer or idler for that."""
    async with FakeRoom() as room:
        room.join("ana")
        room.join("A", "assistant")
        room.join("S", "support")
        for _ in range(5):
            await asyncio.sleep(3)
            room.reconnect()
        await asyncio.sleep(30)

        assert room.identities == {"ana", "A", "S"}
        assert room.removed == []


@virtual
async def test_an_api_that_fails_is_tried_again_with_growing_pauses() -> None:
    """Nobody is evicted unlooked at; once the API is back, the eviction happens."""
    async with FakeRoom() as room:
        room.join("A", "assistant")
        room.trouble = Trouble.UNAVAILABLE
        room.join("B", "assistant")
        await asyncio.sleep(120)
        assert room.identities == {"A", "B"}
        assert room.calls.total() < 30
        assert len([n for n in room.recorder.news if isinstance(n, Troubled)]) == 1

        room.trouble = None
        await asyncio.sleep(40)

        assert room.identities == {"A"}


@virtual
async def test_events_do_not_hurry_an_api_that_fails() -> None:
    """However much happens in the room, the pause between tries is kept."""
    async with FakeRoom() as room:
        room.join("A", "assistant")
        room.trouble = Trouble.UNAVAILABLE
        room.join("B", "assistant")
        for _ in range(1200):
            await asyncio.sleep(0.1)
            room.signal("A")

        assert room.calls.total() < 30


@virtual
async def test_a_failed_removal_is_tried_again() -> None:
    """With backoff, looking at the room anew each time."""
    async with FakeRoom() as room:
        room.join("A", "assistant")
        room.removal_trouble = Trouble.UNAVAILABLE
        room.join("B", "assistant")
        await asyncio.sleep(10)
        assert room.recorder.outcomes()[0] == ("B", "failed")
        assert 3 <= room.calls["remove_participant"] <= 5

        room.removal_trouble = None
        await asyncio.sleep(10)

        assert room.recorder.outcomes()[-1] == ("B", "removed")


@virtual
async def test_removals_that_keep_failing_stay_within_the_budget() -> None:
    """Each one that is sent counts."""
    async with FakeRoom(metadata={"bouncer": {"eviction": {"max_per_minute": 2}}}) as room:
        room.join("A", "assistant")
        room.removal_trouble = Trouble.UNAVAILABLE
        room.join("B", "assistant")
        await asyncio.sleep(60)

        assert room.calls["remove_participant"] <= 2


@virtual
async def test_missing_rights_are_not_tried_in_a_storm() -> None:
    """A key that may not remove is found out once a while, and the eviction happens when it may."""
    async with FakeRoom() as room:
        room.join("A", "assistant")
        room.removal_trouble = Trouble.DENIED
        room.join("B", "assistant")
        await asyncio.sleep(100)
        assert set(room.recorder.outcomes()) == {("B", "denied")}
        assert room.calls["remove_participant"] <= 4

        assert room.recorder.outcomes() == [("B", "denied")]

        room.removal_trouble = None
        await asyncio.sleep(40)

        assert room.identities == {"A"}


@virtual
async def test_who_is_due_leaves_though_the_worker_is_out_of_calls() -> None:
    """Its lists have to wait; the one on which a decision rests does not, nor the first of a room."""
    async with FakeRoom(IDLE_10) as room:
        listing = room.list_participants

        async def list_participants(*, urgent: bool = False) -> Any:
            if not urgent:
                room.calls["throttled"] += 1
                raise ApiError(Trouble.THROTTLED, "out of calls")
            return await listing(urgent=urgent)

        with patch.object(room, "list_participants", list_participants):
            room.join("ana")
            room.join("A", "assistant")
            await asyncio.sleep(100)
            room.join("A", "assistant")
            room.join("B", "assistant")
            await asyncio.sleep(5)

            assert room.calls["throttled"] > 3
            assert [who for at, who in room.removed if at > 100] == ["B"]


@virtual
async def test_being_out_of_calls_for_long_is_told() -> None:
    """For a moment it is how a crowd is borne; for longer nobody guards the room, and somebody has to know."""
    async with FakeRoom() as room:
        room.join("A", "assistant")
        await asyncio.sleep(5)
        room.trouble = Trouble.THROTTLED
        await asyncio.sleep(20)
        assert not [n for n in room.recorder.news if isinstance(n, Troubled)]

        await asyncio.sleep(200)

        (told,) = [n for n in room.recorder.news if isinstance(n, Troubled)]
        assert told.doing == "listing"


@virtual
async def test_the_budget_holds_back_what_is_over_it_and_says_so_once() -> None:
    """`max_per_minute` lets the minute slide on: no war with whoever re-creates what we evict."""
    async with FakeRoom(metadata={"bouncer": {"eviction": {"max_per_minute": 3}}}) as room:
        room.join("A", "assistant")
        for i in range(10):
            room.join(f"B{i}", "assistant")
        await asyncio.sleep(50)
        assert len(room.removed) == 3
        held = [n.hold.finding.participant.identity for n in room.recorder.news if isinstance(n, HeldBack)]
        assert sorted(held) == sorted(set(held))
        assert len(held) == 7

        await asyncio.sleep(200)

        assert len(room.removed) == 10
        assert room.identities == {"A"}


@virtual
async def test_an_identity_with_a_new_sid_is_let_alone() -> None:
    """Between the verdict and the removal somebody else took the identity: that one is innocent."""
    async with FakeRoom(metadata=IDLE_10) as room:
        room.join("A", "assistant", attributes={"lk.agent.state": "listening"})
        original = room.list_participants

        async def list_participants(*, urgent: bool = False) -> Any:
            looks[urgent] += 1
            if urgent and looks[urgent] == 3:  # the first is the room's, the second what the decision rests on
                room.join("A", "assistant", attributes={"lk.agent.state": "listening"})
            return await original(urgent=urgent)

        looks = Counter[bool]()
        room.list_participants = list_participants  # type: ignore[method-assign]
        await asyncio.sleep(12)

        assert room.recorder.outcomes() == [("A", "void")]
        assert room.identities == {"A"}
        await asyncio.sleep(10)
        assert room.identities == set()


@virtual
async def test_a_human_in_the_list_counts_before_any_event_shows_them() -> None:
    """The room is looked at again before acting: a bot with the agent grant and kind STANDARD is found there."""
    async with FakeRoom() as room:
        room.join("A", "assistant")
        room.join("B", kind=Kind.STANDARD, agent_grant=True, attributes={"lk.agent_name": "assistant"})
        room.join("ana", kind=Kind.STANDARD, agent_grant=False, attributes={"lk.agent_name": "assistant"})
        await asyncio.sleep(10)

        assert room.identities == {"A", "ana"}


@virtual
async def test_removal_is_proven_not_assumed() -> None:
    """Without an event the server is asked; as long as it still shows the participant, it is not gone."""
    async with FakeRoom() as room:
        room.announces = False
        room.join("A", "assistant")
        room.join("B", "assistant")
        await asyncio.sleep(10)

        assert room.recorder.outcomes() == [("B", "removed")]
        assert room.calls["get_participant"] == 1


@virtual
async def test_one_that_left_by_itself_is_not_removed() -> None:
    """Its leaving was not announced yet."""
    async with FakeRoom() as room:
        room.announces = False
        room.join("A", "assistant")
        room.join("B", "assistant")
        listed = room.list_participants

        async def list_participants(*, urgent: bool = False) -> Any:
            infos = await listed(urgent=urgent)
            if urgent and room.now > 1:
                room.here.pop("B", None)
            return infos

        room.list_participants = list_participants  # type: ignore[method-assign]
        await asyncio.sleep(10)

        assert room.recorder.outcomes() == [("B", "gone")]
        assert room.removed == []


def jobs(*pairs: tuple[str, str]) -> tuple[Job, ...]:
    """Jobs with these (dispatch, identity)."""
    return tuple(
        Job(dispatch=dispatch, job=identity.removeprefix("agent-"), agent_name="assistant", identity=identity)
        for dispatch, identity in pairs
    )


@virtual
async def test_an_agent_may_leave_by_itself_where_its_dispatch_has_no_other() -> None:
    """Its dispatch is deleted, which ends its job and lets nothing restart it; nothing needs to be removed."""
    async with FakeRoom() as room:
        room.jobs = jobs(("AD_1", "agent-AJ_1"), ("AD_2", "agent-AJ_2"))
        room.join("agent-AJ_1", "assistant")
        room.join("agent-AJ_2", "assistant")
        await asyncio.sleep(10)

        assert room.recorder.outcomes() == [("agent-AJ_2", "left")]
        assert {job.dispatch for job in room.jobs} == {"AD_1"}
        assert room.removed == []


@virtual
async def test_an_agent_that_does_not_leave_in_time_is_removed() -> None:
    """After `leave_within` seconds."""
    async with FakeRoom(metadata={"bouncer": {"eviction": {"leave_within": 2}}}) as room:
        room.jobs = jobs(("AD_1", "agent-AJ_1"), ("AD_2", "agent-AJ_2"))
        room.hanging.add("agent-AJ_2")
        room.join("agent-AJ_1", "assistant")
        room.join("agent-AJ_2", "assistant")
        await asyncio.sleep(10)

        assert room.recorder.outcomes() == [("agent-AJ_2", "removed")]
        ((at, _),) = room.removed
        assert 4 <= at < 4.2


@virtual
async def test_a_dispatch_that_a_healthy_job_depends_on_is_never_deleted() -> None:
    """Neither when the job that it replaced is evicted, nor later."""
    async with FakeRoom() as room:
        room.jobs = jobs(("AD_1", "agent-AJ_1"), ("AD_1", "agent-AJ_2"))
        room.join("agent-AJ_1", "assistant")
        room.join("agent-AJ_2", "assistant")
        await asyncio.sleep(60)
        assert room.recorder.outcomes() == [("agent-AJ_1", "removed")]

        room.leave("agent-AJ_2")
        await asyncio.sleep(60)

        assert room.calls["delete_dispatch"] == 0


@virtual
async def test_the_dispatch_of_an_evicted_agent_is_deleted_once_nobody_may_depend_on_it() -> None:
    """An agent whose dispatch isn't known yet could be of the same one: the agent is removed, the dispatch waits."""
    async with FakeRoom() as room:
        room.jobs = jobs(("AD_1", "agent-AJ_1"), ("AD_2", "agent-AJ_2"))
        room.join("agent-AJ_1", "assistant")
        room.join("agent-AJ_2", "assistant")
        await asyncio.sleep(1)
        room.join("custom", "support")
        await asyncio.sleep(4)
        assert room.recorder.outcomes() == [("agent-AJ_2", "removed")]
        assert room.calls["delete_dispatch"] == 0

        await asyncio.sleep(20)

        assert {job.dispatch for job in room.jobs} == {"AD_1"}


@virtual
@pytest.mark.parametrize("lost", ["remove_participant", "get_participant"])
async def test_nor_does_a_dispatch_stay_because_an_answer_was_lost(lost: str) -> None:
    """The removal has worked, and the server couldn't say so; or nobody could look whether it had."""
    async with FakeRoom() as room:
        room.announces = False
        room.jobs = jobs(("AD_1", "agent-AJ_1"), ("AD_2", "agent-AJ_2"))
        room.join("agent-AJ_1", "assistant")
        room.join("agent-AJ_2", "assistant")
        room.join("custom", "support")
        call = getattr(room, lost)

        async def lose(identity: str) -> Any:
            await call(identity)
            raise ApiError(Trouble.UNAVAILABLE, "the answer was lost")

        with patch.object(room, lost, lose):
            await asyncio.sleep(60)

        assert room.identities == {"agent-AJ_1", "custom"}
        assert "removed" not in dict(room.recorder.outcomes()).values()
        assert {job.dispatch for job in room.jobs} == {"AD_1"}


@virtual
async def test_a_removal_that_failed_is_no_reason_to_delete_a_dispatch() -> None:
    """It is still there, and may be exempt by now: if it leaves later, that is its own doing."""
    async with FakeRoom() as room:
        room.jobs = jobs(("AD_1", "agent-AJ_1"), ("AD_2", "agent-AJ_2"))
        room.join("agent-AJ_1", "assistant")
        room.join("agent-AJ_2", "assistant")
        room.join("custom", "support")
        room.removal_trouble = Trouble.UNAVAILABLE
        await asyncio.sleep(4)
        assert ("agent-AJ_2", "failed") in room.recorder.outcomes()
        room.configure({"bouncer": {"exempt": {"identity": ["agent-AJ_2"]}}})
        await asyncio.sleep(60)
        room.leave("agent-AJ_2")
        await asyncio.sleep(60)

        assert room.calls["delete_dispatch"] == 0


@virtual
async def test_who_takes_its_time_to_leave_delays_nobody() -> None:
    """Twenty agents hang for half a minute each; the twenty-first is removed in time."""
    metadata = house(max_lifetime={"limit": 10}, duplicates=None)
    metadata["bouncer"]["eviction"] = {"max_per_minute": 100, "leave_within": 30}
    async with FakeRoom(metadata) as room:
        hanging = [f"agent-AJ_{number}" for number in range(20)]
        room.jobs = jobs(*((f"AD_{number}", identity) for number, identity in enumerate(hanging)))
        room.hanging.update(hanging)
        for identity in hanging:
            room.join(identity, "assistant")
        await asyncio.sleep(1)
        room.join("B", "support")
        await asyncio.sleep(15)

        assert [(11 <= at < 12, who) for at, who in room.removed] == [(True, "B")]


@virtual
async def test_an_eviction_that_an_error_ends_is_tried_again() -> None:
    """Whatever was raised: it is told, and the agent isn't on its way out for ever."""
    async with FakeRoom() as room:
        room.join("A", "assistant")
        room.join("B", "assistant")
        with patch.object(room, "remove_participant", side_effect=ValueError("the test says so")):
            await asyncio.sleep(2.1)

        await asyncio.sleep(10)

        assert room.recorder.outcomes() == [("B", "failed"), ("B", "removed")]
        assert [n.why for n in room.recorder.news if isinstance(n, Evicted)] == ["ValueError: the test says so", ""]
        assert [n.doing for n in room.recorder.news if isinstance(n, Troubled)] == ["evicting"]


@virtual
async def test_many_evictions_run_side_by_side() -> None:
    """Forty duplicates are gone in a fraction of what one after the other would take."""
    async with FakeRoom(metadata={"bouncer": {"eviction": {"max_per_minute": 100}}}) as room:
        room.join("A", "assistant")
        for i in range(40):
            room.join(f"B{i}", "assistant")
        await asyncio.sleep(5)

        times = [at for at, _ in room.removed]
        assert len(times) == 40
        assert max(times) - min(times) < 40 * 0.01 / 4


@virtual
async def test_a_rejoining_agent_is_evicted_again() -> None:
    """Its token stays valid, so it may be back, as somebody new."""
    async with FakeRoom() as room:
        room.join("A", "assistant")
        for _ in range(3):
            room.join("B", "assistant")
            await asyncio.sleep(5)

        assert [who for _, who in room.removed] == ["B", "B", "B"]


@virtual
async def test_the_notice_comes_before_the_eviction_and_never_postpones_it() -> None:
    """Told once, and again if the date moved."""
    async with FakeRoom(metadata=house(duplicates=None, idle_timeout={"timeout": 20, "notice": 5})) as room:
        room.join("A", "assistant", attributes={"lk.agent.state": "listening"})
        await asyncio.sleep(17)
        room.signal("A")
        await asyncio.sleep(30)

        notices = [round(n.due_in, 1) for n in room.recorder.news if isinstance(n, Noticed)]
        assert notices == [5.0, 5.0]
        ((at, _),) = room.removed
        assert 37 <= at < 37.1


@virtual
async def test_a_report_is_made_once() -> None:
    """And once more when the configuration changes."""
    report = {"idle_timeout": {"timeout": 5, "action": "report"}}
    async with FakeRoom(metadata=house(**report)) as room:
        room.join("A", "assistant", attributes={"lk.agent.state": "listening"})
        await asyncio.sleep(60)
        assert len([n for n in room.recorder.news if isinstance(n, Reported)]) == 1

        room.configure(house(**report, duplicates={"grace": 3}))
        await asyncio.sleep(60)

        assert len([n for n in room.recorder.news if isinstance(n, Reported)]) == 2
        assert room.removed == []


@virtual
async def test_one_that_cannot_be_judged_is_reported_once_and_stays() -> None:
    """An agent that gives no sign may be at work unseen."""
    async with FakeRoom(metadata=IDLE_10) as room:
        room.join("A", "assistant", audio=True)
        await asyncio.sleep(120)

        assert room.identities == {"A"}
        assert [n.hold.by for n in room.recorder.news if isinstance(n, HeldBack)] == ["doubt"]


@virtual
async def test_a_restarted_job_stays_and_the_dead_one_leaves() -> None:
    """The list of dispatches names the replacement within five seconds, and it is waited for."""
    async with FakeRoom() as room:
        room.jobs = (Job(dispatch="AD_1", job="AJ_1", agent_name="assistant", identity="agent-AJ_1"),)
        room.join("agent-AJ_1", "assistant")
        await asyncio.sleep(30)
        room.join("agent-AJ_2", "assistant")
        await asyncio.sleep(4)
        assert room.removed == []
        room.jobs += (Job(dispatch="AD_1", job="AJ_2", agent_name="assistant", identity="agent-AJ_2"),)
        await asyncio.sleep(5)

        assert room.identities == {"agent-AJ_2"}


@virtual
async def test_another_bouncer_is_left_alone() -> None:
    """Hidden, with our name and a dispatch of ours: also before that dispatch is listed."""
    async with FakeRoom(metadata=house(duplicates={"grace": 0}, idle_timeout={"timeout": 1})) as room:
        for i in (1, 2):
            room.join(f"agent-AJ_{i}", "bouncer", hidden=True, attributes={"lk.agent.state": "listening"})
        await asyncio.sleep(4)
        room.jobs = tuple(
            Job(dispatch=f"AD_{i}", job=f"AJ_{i}", agent_name="bouncer", identity=f"agent-AJ_{i}") for i in (1, 2)
        )
        await asyncio.sleep(60)

        assert room.identities == {"agent-AJ_1", "agent-AJ_2"}


@virtual
async def test_nobody_leaves_on_account_of_another_bouncer() -> None:
    """Also before its dispatch is listed: it is no agent too many, and no company under `keep_last_agent`."""
    metadata = house(max_agents={"max": 1, "grace": 0}, idle_timeout={"timeout": 3})
    metadata["bouncer"]["eviction"] = {"keep_last_agent": True}
    async with FakeRoom(metadata=metadata) as room:
        room.join("ana")
        room.join("agent-AJ_1", "bouncer", hidden=True, announced=False)
        room.join("A", "assistant")
        await asyncio.sleep(5)
        room.jobs = (Job(dispatch="AD_1", job="AJ_1", agent_name="bouncer", identity="agent-AJ_1"),)
        await asyncio.sleep(60)

        assert room.removed == []
        assert [n.hold.by for n in room.recorder.news if isinstance(n, HeldBack)] == ["keep_last_agent"]


@virtual
async def test_an_agent_that_forges_our_name_is_an_ordinary_agent() -> None:
    """Without a dispatch of ours the name shields nobody; for six seconds that can't be known of who is hidden."""
    async with FakeRoom(metadata=house(deny_list={"agent_names": ["bouncer", "spy"]})) as room:
        room.join("agent-AJ_1", "bouncer", hidden=True, announced=False)
        room.join("agent-AJ_2", "spy", hidden=True, announced=False)
        await asyncio.sleep(10)

        assert {who for _, who in room.removed} == {"agent-AJ_1", "agent-AJ_2"}
        assert all(6 <= at < 7.5 for at, _ in room.removed)


@virtual
async def test_the_dispatches_are_listed_until_it_is_known_of_all_agents_whether_they_have_one() -> None:
    """Once a second for six seconds, and no longer."""
    async with FakeRoom() as room:
        room.join("agent-AJ_1", "bouncer", hidden=True, announced=False)
        await asyncio.sleep(10)
        asked = room.calls["list_jobs"]
        await asyncio.sleep(60)

        assert 6 <= asked <= 9
        assert room.calls["list_jobs"] == asked


@virtual
async def test_no_dispatch_is_ended_while_one_that_may_be_a_bouncer_could_be_of_it() -> None:
    """Once it is known that it has none, it keeps nobody from leaving by itself."""
    for before, outcome in ((10, "left"), (0, "removed")):
        async with FakeRoom() as room:
            room.join("agent-AJ_forged", "bouncer", hidden=True, announced=False)
            await asyncio.sleep(before)
            room.jobs = jobs(("AD_1", "agent-AJ_1"), ("AD_2", "agent-AJ_2"))
            room.join("agent-AJ_1", "assistant")
            room.join("agent-AJ_2", "assistant")
            await asyncio.sleep(4)

            assert room.recorder.outcomes() == [("agent-AJ_2", outcome)]
            assert room.calls["delete_dispatch"] == (outcome == "left")


@virtual
async def test_an_avatar_leaves_with_its_principal() -> None:
    """In the same decision; the other principal's avatar stays."""
    async with FakeRoom() as room:
        for identity in ("A", "B"):
            room.join(identity, "assistant")
            room.join(f"{identity}-avatar", kind=Kind.AGENT, attributes={"lk.publish_on_behalf": identity})
        await asyncio.sleep(5)

        assert room.identities == {"A", "A-avatar"}
        (first, second) = room.removed
        assert second[0] - first[0] < 0.05


@virtual
async def test_an_avatar_of_one_that_was_evicted_and_came_back_is_that_ones_own() -> None:
    """It came with the one that was let in, and stays when that one leaves by itself."""
    async with FakeRoom() as room:
        room.join("A", "assistant")
        room.join("B", "assistant")
        await asyncio.sleep(10)
        assert room.recorder.outcomes() == [("B", "removed")]

        room.leave("A")
        room.join("B", "assistant")
        room.join("B-avatar", kind=Kind.AGENT, attributes={"lk.publish_on_behalf": "B"})
        await asyncio.sleep(10)
        room.leave("B")
        await asyncio.sleep(30)

        assert room.identities == {"B-avatar"}


@virtual
async def test_an_error_in_the_loop_does_not_end_it() -> None:
    """It is reported, once however much happens, and the room is looked at again."""
    async with FakeRoom() as room:
        with patch.object(Tracker, "room", side_effect=RuntimeError("the test says so")):
            room.join("A", "assistant")
            room.join("B", "assistant")
            for _ in range(50):
                room.signal("A")
                await asyncio.sleep(0.02)
        await asyncio.sleep(5)

        assert room.identities == {"A"}
        told = [n.doing for n in room.recorder.news if isinstance(n, Troubled)]
        assert told.count("looking at the room") == 1


@virtual
async def test_a_crowd_that_joins_costs_two_lists_a_second() -> None:
    """Whoever joins and leaves all the time must not spend the calls that evictions, and other rooms, need."""
    async with FakeRoom() as room:
        await asyncio.sleep(5)
        before = room.calls["list_participants"]
        for number in range(200):
            room.join(f"human {number}")
            await asyncio.sleep(0.05)

        assert 2 <= room.calls["list_participants"] - before <= 22


@virtual
async def test_a_fault_is_told_once_whatever_its_text() -> None:
    """A policy may quote what it was looking at, and that is never the same twice."""

    def fail(_: object, room: Room) -> None:
        raise RuntimeError(f"went wrong in {room}")

    async with FakeRoom(metadata=house(idle_timeout={"timeout": 3600})) as room:
        with patch.object(IdleTimeout, "evaluate", fail):
            for _ in range(10):
                await asyncio.sleep(1)
                room.join("A", "assistant")

        assert len([news for news in room.recorder.news if isinstance(news, Faulted)]) == 1


@virtual
async def test_who_may_have_left_is_no_reason_to_evict_the_next() -> None:
    """The list lacks the old agent, and no event says yet that it is gone: the new one stays."""
    async with FakeRoom(metadata=house(duplicates={"grace": 0})) as room:
        room.announces = False
        room.join("A", "assistant")
        await asyncio.sleep(20)
        room.leave("A")
        room.join("B", "assistant")
        await asyncio.sleep(20)

        assert room.recorder.outcomes() == []
        assert room.identities == {"B"}


@virtual
async def test_who_is_on_the_way_out_is_no_reason_to_evict_the_last_one() -> None:
    """Two were too many beside a third, which has left; the dispatch of one is deleted, so the other has to stay."""
    async with FakeRoom(metadata=house(duplicates={"keep": "newest"})) as room:
        room.jobs = jobs(("AD_A", "A"), ("AD_B", "B"), ("AD_C", "C"))
        room.hanging = {"A", "B"}
        for identity in ("A", "B", "C"):
            room.join(identity, "assistant")
            await asyncio.sleep(1)
        await asyncio.sleep(2)
        room.leave("C")
        await asyncio.sleep(2)
        room.leave("B")
        await asyncio.sleep(20)

        assert room.calls["delete_dispatch"] == 2
        assert room.identities == {"A"}


@virtual
async def test_nor_is_one_that_is_gone_and_would_have_to_leave_by_another_rule_by_now() -> None:
    """Two were too many beside a third, which has left; of the two one is gone, and would be idle: the other stays."""
    thinking = {"lk.agent.state": "thinking"}
    async with FakeRoom(metadata=house(idle_timeout={"timeout": 4})) as room:
        room.jobs = jobs(("AD_A", "A"), ("AD_B", "B"), ("AD_C", "C"))
        room.hanging = {"C"}
        room.join("A", "assistant", attributes=thinking)
        room.join("B", "assistant")
        room.join("C", "assistant", attributes=thinking)
        await asyncio.sleep(3)
        assert room.identities == {"A", "C"}
        room.leave("A")
        await asyncio.sleep(20)

        assert room.identities == {"C"}
        assert room.recorder.outcomes() == [("B", "left"), ("C", "void")]


@virtual
async def test_nor_is_a_second_avatar_evicted_whose_turn_it_may_be() -> None:
    """Two name one principal; the list lacks the first, so the second is an agent like others, or the avatar."""
    async with FakeRoom(metadata=house(max_agents={"max": 1, "grace": 10})) as room:
        room.announces = False
        room.join("A", "assistant")
        for identity in ("V", "W"):
            room.join(identity, kind=Kind.AGENT, attributes={"lk.publish_on_behalf": "A"})
        await asyncio.sleep(9.99)
        room.leave("V")
        await asyncio.sleep(20)

        assert room.identities == {"A", "W"}
        assert room.recorder.outcomes() == []


@virtual
async def test_an_error_in_listing_does_not_end_that_either() -> None:
    """Somebody who was not announced is found once lists can be read again."""
    async with FakeRoom() as room:
        with patch.object(FakeRoom, "list_participants", side_effect=ValueError("the test says so")):
            room.join("A", "assistant")
            room.join("B", "assistant", announced=False)
            await asyncio.sleep(60)
        await asyncio.sleep(60)

        assert room.identities == {"A"}
        assert any(isinstance(n, Troubled) for n in room.recorder.news)


@virtual
async def test_time_in_which_an_agent_was_not_heard_does_not_make_it_idle() -> None:
    """Hearing comes late, or comes back: the agent may have spoken until then, so its idleness begins there."""
    async with FakeRoom(metadata=IDLE_10) as room:
        info = room.join("A", "assistant", audio=True)
        await asyncio.sleep(60)
        room.patrol.tell(Heard(room.loop.time(), info.sid, speaking=False))
        await asyncio.sleep(9)
        assert room.identities == {"A"}
        await asyncio.sleep(2)

        assert room.identities == set()


@virtual
async def test_after_a_freeze_nobody_is_judged_by_the_time_that_it_took() -> None:
    """What agents did meanwhile reaches us late: the timers are not to be believed, and idleness counts anew."""
    async with FakeRoom(metadata=IDLE_10) as room:
        room.join("A", "assistant", attributes={"lk.agent.state": "listening"})
        await asyncio.sleep(5)
        room.loop.skip(60)  # type: ignore[attr-defined]
        await asyncio.sleep(9)
        assert room.identities == {"A"}
        await asyncio.sleep(2)

        assert room.identities == set()


@virtual
async def test_all_who_leave_together_leave_though_one_is_gone_before_the_other_is_looked_at() -> None:
    """One alone would be no chatter: but two they were, and both were to go."""
    async with FakeRoom(metadata=house(lone_chatter={"timeout": 10})) as room:
        sids = [room.join(identity, identity.lower(), audio=True).sid for identity in ("A", "B")]
        with late_answers(room, since=11, but=2):
            for sid in (*sids, *sids, *sids):
                room.patrol.tell(Heard(room.loop.time(), sid, speaking=True))
                await asyncio.sleep(2)
                room.patrol.tell(Heard(room.loop.time(), sid, speaking=False))
                await asyncio.sleep(1)

        assert room.recorder.outcomes() == [("A", "removed"), ("B", "removed")]


@virtual
async def test_who_leaves_together_stays_if_it_is_the_last_that_may_stay() -> None:
    """Of three alike two have to leave: one is removed, the oldest leaves by itself, and so the third stays."""
    async with FakeRoom() as room:
        for identity in ("A", "B", "C"):
            room.join(identity, "assistant")
        with late_answers(room, since=1.99, but=2):
            await asyncio.sleep(2.05)
            room.leave("A")
            await asyncio.sleep(10)

        assert room.identities == {"C"}
        assert room.recorder.outcomes() == [("B", "removed"), ("C", "void")]


@contextmanager
def late_answers(room: FakeRoom, *, since: float, but: int) -> Iterator[None]:
    """Have each list of the participants after that many take 0.1 s longer, from `since` on."""
    prompt, asked = room.list_participants, count()

    async def late(*, urgent: bool = False) -> tuple[Info, ...]:
        if room.now > since and next(asked) >= but:
            await asyncio.sleep(0.1)
        return await prompt(urgent=urgent)

    with patch.object(room, "list_participants", late):
        yield


@virtual
async def test_close_ends_it_at_once() -> None:
    """Nothing is decided or called after it."""
    async with FakeRoom() as room:
        room.join("A", "assistant")
        room.join("B", "assistant")
        await asyncio.sleep(1.9)
        room.patrol.close()
        calls = room.calls.total()
        await asyncio.sleep(60)

        assert room.identities == {"A", "B"}
        assert room.calls.total() == calls
        assert not any(isinstance(n, Faulted) for n in room.recorder.news)


@virtual
async def test_once_it_is_closed_no_removal_goes_out() -> None:
    """Nor is an eviction carried on with that is under way at that moment."""
    async with FakeRoom() as room:
        room.join("A", "assistant")
        room.join("B", "assistant")
        listed = room.list_participants

        async def close(*, urgent: bool = False) -> tuple[Info, ...]:
            if evicting():
                room.patrol.close()
            return await listed(urgent=urgent)

        with patch.object(room, "list_participants", close):
            await asyncio.sleep(10)

        assert room.recorder.outcomes() == [("B", "void")]
        assert room.calls["remove_participant"] == 0


@virtual
@pytest.mark.parametrize(
    ("call", "outcome", "why"),
    [
        ("list_participants", Outcome.VOID, "we end"),
        ("remove_participant", Outcome.FAILED, "we end, and don't know whether it has left"),
    ],
)
async def test_an_eviction_that_our_end_cuts_off_is_recorded(call: str, outcome: Outcome, why: str) -> None:
    """Before its removal went out nobody was touched; after that, nobody knows."""
    async with FakeRoom() as room:
        room.join("A", "assistant")
        room.join("B", "assistant")
        during = getattr(room, call)

        async def end(*args: Any, **options: Any) -> Any:
            if evicting():
                room.patrol.close()
                await asyncio.sleep(1)
            return await during(*args, **options)

        with patch.object(room, call, end):
            await asyncio.sleep(10)

        (told,) = [n for n in room.recorder.news if isinstance(n, Evicted)]
        assert (told.finding.participant.identity, told.outcome, told.why) == ("B", outcome, why)
        assert room.identities == {"A", "B"}


@virtual
async def test_an_eviction_that_was_called_off_or_failed_says_why() -> None:
    """The log has it."""
    async with FakeRoom() as room:
        room.join("A", "assistant")
        room.join("B", "assistant")
        room.removal_trouble = Trouble.UNAVAILABLE
        await asyncio.sleep(2.3)
        room.removal_trouble = None
        listed = room.list_participants

        async def list_participants(*, urgent: bool = False) -> Any:
            if evicting() and "B" in room.here and room.here["B"].sid == first.sid:
                room.join("B", "assistant")
            return await listed(urgent=urgent)

        first = room.here["B"]
        with patch.object(room, "list_participants", list_participants):
            await asyncio.sleep(10)

        why = [n.why for n in room.recorder.news if isinstance(n, Evicted)]
        assert why == [
            "the test says: unavailable",
            "another participant has its identity by now",
            "",
        ]


@virtual
async def test_a_freeze_is_noticed_with_nothing_pending() -> None:
    """Nobody was there yet: who joined in that time is first seen after it, and had done nothing that we could see."""
    async with FakeRoom(metadata=IDLE_10) as room:
        await asyncio.sleep(2)
        info = room.join("A", "assistant", announced=False)
        room.loop.skip(12)  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        room.patrol.tell(Joined(room.loop.time(), info))
        await asyncio.sleep(9)
        assert room.removed == []

        await asyncio.sleep(5)
        assert [who for _, who in room.removed] == ["A"]
