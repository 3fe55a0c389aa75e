"""The driver of a watch, and one attempt at an eviction, in virtual time."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from typing import Any
from unittest.mock import patch

import pytest

from bouncer.configuration.load import load
from bouncer.decide import Outcome, decide
from bouncer.events import Heard, Info, Job, Joined
from bouncer.guard import recheck
from bouncer.observers import Evicted, Failing, Faulted
from bouncer.ports import ApiError, Trouble
from tests.fake import FakeRoom
from tests.virtual import virtual


def house(mode: str = "enforce", /, **policies: Any) -> dict[str, Any]:
    """Return room metadata with these policies in addition to the default ones."""
    return {"bouncer": {"mode": mode, "policies": policies}}


def evicting() -> bool:
    """Return True if the current task is an eviction."""
    task = asyncio.current_task()
    return task is not None and task.get_name() == "bouncer_evict"


def each_reads_a_list() -> AbstractContextManager[object]:
    """Have each eviction read a list of its own, as if the one that it was decided on were old by then."""
    return patch("bouncer.guard.watch.FRESH", -1.0)


IDLE_10 = house(idle_timeout={"timeout": 10})


@virtual
async def test_a_duplicate_leaves_one_grace_after_it_joined_and_the_oldest_stays() -> None:
    """The whole way: joined, due, looked at again, removed, seen gone."""
    async with FakeRoom() as room:
        room.join("ana")
        room.join("A", "assistant")
        await asyncio.sleep(5)
        room.join("B", "assistant")
        room.signal("A")
        await asyncio.sleep(10)

        ((at, who),) = room.removed
        assert who == "B"
        assert 7 <= at < 7.1
        assert room.identities == {"ana", "A"}
        assert room.recorder.outcomes() == [("B", "removed")]


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
    """Return jobs with these (dispatch, identity)."""
    return tuple(
        Job(dispatch=dispatch, job=identity.removeprefix("agent-"), agent_name="assistant", identity=identity)
        for dispatch, identity in pairs
    )


@virtual
async def test_an_agent_whose_dispatch_has_no_other_job_may_leave_by_itself() -> None:
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
async def test_the_dispatch_of_an_evicted_agent_is_deleted_once_no_agent_may_depend_on_it() -> None:
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
    """The removal worked and its answer was lost, or the look that would have proven it failed."""
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
async def test_an_agent_that_is_slow_to_leave_delays_no_other() -> None:
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
        room.jobs = jobs(("AD_A", "A"))
        room.join("A", "assistant")
        room.join("B", "assistant")
        with patch.object(room, "remove_participant", side_effect=ValueError("the test says so")):
            await asyncio.sleep(2.1)

        await asyncio.sleep(10)

        assert room.recorder.outcomes() == [("B", "failed"), ("B", "removed")]
        assert [n.why for n in room.recorder.news if isinstance(n, Evicted)] == ["ValueError: the test says so", ""]
        assert [n.doing for n in room.recorder.news if isinstance(n, Failing)] == ["evicting"]


@virtual
async def test_many_evictions_run_side_by_side() -> None:
    """Forty duplicates are gone in a fraction of what one after the other would take."""
    async with FakeRoom(metadata={"bouncer": {"eviction": {"max_per_minute": 100}}}) as room:
        room.jobs = jobs(("AD_A", "A"))
        room.join("A", "assistant")
        for i in range(40):
            room.join(f"B{i}", "assistant")
        await asyncio.sleep(5)

        times = [at for at, _ in room.removed]
        assert len(times) == 40
        assert max(times) - min(times) < 40 * 0.01 / 4


@virtual
async def test_an_agent_on_its_way_out_is_no_reason_to_evict_the_last_one() -> None:
    """A and B were duplicates of C, which has left. B's dispatch is already deleted, so A must stay."""
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
    """B and C were duplicates of A, which has left. B is gone and would be idle by now, so C stays."""
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
async def test_agents_that_leave_together_all_leave_though_one_is_gone_first() -> None:
    """One alone would be no chatter, but the decision was about both."""
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
async def test_one_of_a_group_stays_if_it_has_become_the_last() -> None:
    """Of three alike two must leave. One is removed, the oldest leaves by itself, so the third stays."""
    async with FakeRoom(metadata=house(duplicates={"grace": 10})) as room:
        for identity in ("A", "B", "C"):
            room.join(identity, "assistant")
        with late_answers(room, since=9.99, but=2):
            await asyncio.sleep(10.05)
            room.leave("A")
            await asyncio.sleep(10)

        assert room.identities == {"C"}
        assert room.recorder.outcomes() == [("B", "removed"), ("C", "void")]


@contextmanager
def late_answers(room: FakeRoom, *, since: float, but: int) -> Iterator[None]:
    """Have each list of participants after that many take 0.1 s longer, from `since` on; each eviction reads one."""
    prompt, asked = room.list_participants, count()

    async def late(*, urgent: bool = False) -> tuple[Info, ...]:
        if room.now > since and next(asked) >= but:
            await asyncio.sleep(0.1)
        return await prompt(urgent=urgent)

    with patch.object(room, "list_participants", late), each_reads_a_list():
        yield


CALLS = {
    "seen gone": ("removed", {"list_participants": 1, "remove_participant": 1}),
    "unannounced": ("removed", {"list_participants": 1, "remove_participant": 1, "get_participant": 1}),
    "a dispatch of its own": ("left", {"list_participants": 1, "delete_dispatch": 1}),
    "it doesn't leave": ("removed", {"list_participants": 3, "delete_dispatch": 2, "remove_participant": 1}),
}


@virtual
@pytest.mark.parametrize(("how", "ended", "calls"), [(how, *row) for how, row in CALLS.items()], ids=list(CALLS))
async def test_an_eviction_takes_at_most_three_calls(how: str, ended: str, calls: dict[str, int]) -> None:
    """The list that confirms the decision serves the removal too. One that was given time to leave takes more."""
    metadata = house(max_lifetime={"limit": 10})
    metadata["bouncer"] |= {"reconcile": 60, "eviction": {"leave_within": 2}}
    async with FakeRoom(metadata) as room:
        if "leave" in how or "dispatch" in how:
            room.jobs = jobs(("AD_1", "agent-AJ_1"))
            room.hanging.update({"agent-AJ_1"} if "leave" in how else ())
        room.announces = how != "unannounced"
        room.join("agent-AJ_1", "assistant")
        await asyncio.sleep(9.9)
        before = Counter(room.calls)
        await asyncio.sleep(10)

        assert room.recorder.outcomes() == [("agent-AJ_1", ended)]
        assert Counter(room.calls) - before == calls


@virtual
@pytest.mark.parametrize(
    ("alike", "late", "lists"),
    [
        pytest.param(8, 0.0, 1, id="decided together: one list"),
        pytest.param(8, 0.4, 1, id="it is still fresh"),
        pytest.param(8, 0.6, 2, id="it is old: another for all"),
        pytest.param(60, 0.0, 1, id="more than may be carried out at a time"),
    ],
)
async def test_one_list_serves_all_that_were_decided_on_together(alike: int, late: float, lists: int) -> None:
    """From the decision to the last removal, unless half a second has passed since it was asked for."""
    metadata = house(max_lifetime={"limit": 10}, duplicates=None)
    metadata["bouncer"] |= {"reconcile": 60, "eviction": {"max_per_minute": 100}}
    async with FakeRoom(metadata) as room:
        for i in range(alike):
            room.join(f"A{i}", "assistant")
        await asyncio.sleep(9.9)
        before, prompt = room.calls["list_participants"], room.list_participants

        async def answered_late(*, urgent: bool = False) -> tuple[Info, ...]:
            infos = await prompt(urgent=urgent)
            await asyncio.sleep(late)
            return infos

        with patch.object(room, "list_participants", answered_late):
            await asyncio.sleep(5)

        assert room.identities == set()
        assert room.calls["list_participants"] - before == lists


@virtual
async def test_a_list_that_made_an_eviction_due_does_not_confirm_it() -> None:
    """B comes due. The list that is read for it shows A, which must leave too: another list has to confirm that."""
    async with FakeRoom(metadata=house(max_lifetime={"limit": 10}, deny_list={"agent_names": ["x"]})) as room:
        room.join("B", "assistant")
        await asyncio.sleep(9.9)
        before = room.calls["list_participants"]
        room.join("A", "x", announced=False)
        await asyncio.sleep(0.3)

        assert [who for _, who in room.removed] == ["B", "A"]
        assert room.calls["list_participants"] - before == 2


@virtual
async def test_they_are_decided_on_again_together_too() -> None:
    """Only what we didn't do ourselves makes it worth deciding again, so eighty cost hardly more than ten."""
    rules = {"policies": {"duplicates": {"wait_for_life": 0}}, "eviction": {"max_per_minute": 100}}
    with patch.object(recheck, "decide", wraps=decide) as decides:
        async with FakeRoom({"bouncer": rules}) as room:
            for number in range(81):
                room.join(f"A{number}", "assistant")
            await asyncio.sleep(10)

            assert room.identities == {"A0"}
    assert decides.call_count < 40


@virtual
@pytest.mark.parametrize(("takes", "times"), [(0.3, 5), (0.0, 70)])
async def test_metadata_that_flips_is_read_now_and_then(takes: float, times: int) -> None:
    """Ever more seldom, the longer that takes. The latest counts in the end."""
    with patch("bouncer.guard.watch.load", wraps=load) as loads:
        async with FakeRoom({"bouncer": {}}, computed=lambda: loads.call_count * takes) as room:
            await asyncio.sleep(5)
            before = loads.call_count
            for number in range(140):
                room.configure({"bouncer": {"reconcile": 20 + number}})
                await asyncio.sleep(0.05)
            assert abs(loads.call_count - before - times) <= 1
            await asyncio.sleep(2)

            assert room.patrol.config
            assert room.patrol.config.reconcile == 20 + 139


@virtual
async def test_metadata_that_waits_is_read_before_a_removal() -> None:
    """It may exempt the agent."""
    async with FakeRoom() as room:
        room.join("A", "assistant")
        room.join("B", "assistant")
        listed = room.list_participants

        async def write(*, urgent: bool = False) -> tuple[Info, ...]:
            if evicting():
                room.configure({"bouncer": {"reconcile": 20}})
                room.configure({"bouncer": {"exempt": {"identity": ["B"]}}})
            return await listed(urgent=urgent)

        with patch.object(room, "list_participants", write), each_reads_a_list():
            await asyncio.sleep(10)

        assert room.identities == {"A", "B"}


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
    """An eviction that is under way at that moment is called off."""
    async with FakeRoom() as room:
        room.join("A", "assistant")
        room.join("B", "assistant")
        listed = room.list_participants

        async def close(*, urgent: bool = False) -> tuple[Info, ...]:
            if evicting():
                room.patrol.close()
            return await listed(urgent=urgent)

        with patch.object(room, "list_participants", close), each_reads_a_list():
            await asyncio.sleep(10)

        assert room.recorder.outcomes() == [("B", "void")]
        assert room.calls["remove_participant"] == 0


@virtual
@pytest.mark.parametrize(
    ("call", "outcome", "why"),
    [
        ("list_participants", Outcome.VOID, "shutting down"),
        ("remove_participant", Outcome.FAILED, "shutting down; removal unconfirmed"),
    ],
)
async def test_an_eviction_that_our_end_cuts_off_is_recorded(call: str, outcome: Outcome, why: str) -> None:
    """Before the removal went out it is void; after that it is unconfirmed."""
    async with FakeRoom() as room:
        room.join("A", "assistant")
        room.join("B", "assistant")
        during = getattr(room, call)

        async def end(*args: Any, **options: Any) -> Any:
            if evicting():
                room.patrol.close()
                await asyncio.sleep(1)
            return await during(*args, **options)

        with patch.object(room, call, end), each_reads_a_list():
            await asyncio.sleep(10)

        (told,) = [n for n in room.recorder.news if isinstance(n, Evicted)]
        assert (told.finding.participant.identity, told.outcome, told.why) == ("B", outcome, why)
        assert room.identities == {"A", "B"}


@virtual
async def test_an_eviction_that_was_called_off_or_failed_says_why() -> None:
    """The log shows it."""
    async with FakeRoom(metadata=house(duplicates={"wait_for_life": 0})) as room:
        room.jobs = jobs(("AD_A", "A"))
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
        with patch.object(room, "list_participants", list_participants), each_reads_a_list():
            await asyncio.sleep(10)

        why = [n.why for n in room.recorder.news if isinstance(n, Evicted)]
        assert why == [
            "the test says: unavailable",
            "another participant has its identity by now",
            "",
        ]


@virtual
async def test_a_freeze_is_noticed_with_nothing_pending() -> None:
    """The room was empty. An agent that joined during the freeze counts as idle from when it is first seen."""
    async with FakeRoom(metadata=IDLE_10) as room:
        await asyncio.sleep(2)
        listens = {"lk.agent.state": "listening"}
        info = room.join("A", "assistant", announced=False, attributes=listens)
        room.loop.skip(12)  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        room.patrol.tell(Joined(room.loop.time(), info))
        await asyncio.sleep(9)
        assert room.removed == []

        await asyncio.sleep(5)
        assert [who for _, who in room.removed] == ["A"]
