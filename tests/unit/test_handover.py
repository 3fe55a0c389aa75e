"""Handing a room over: a successor is found, and relieves us once it guards the room."""

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from typing import Any
from unittest.mock import patch

import pytest

from bouncer.adapter.calls import CallBudget
from bouncer.events import Info, Job
from bouncer.observers import Failing, HandedOver
from bouncer.observers.messages import RoomMessages
from bouncer.ports import ApiError, Says, Trouble
from bouncer.room import GUARDING_ATTRIBUTE, Kind
from tests.dates import records
from tests.fake import ME, FakeRoom
from tests.virtual import virtual

STRICT = {
    "bouncer": {
        "policies": {"duplicates": {"grace": 1, "notice": 0.5}, "max_lifetime": {"limit": 3, "action": "report"}}
    }
}


def comes(
    room: FakeRoom,
    identity: str,
    *,
    before_us: bool = True,
    guarding: bool = True,
    dispatched: bool = True,
    dispatch: str = "",
    **facts: Any,
) -> Info:
    """Let another agent with our name join unannounced, with all that makes it a bouncer."""
    now = room.loop.time()
    joined = room.here[ME.identity].joined_at - 10 if before_us else now + 0.001
    facts = dict[str, Any](kind=Kind.AGENT, hidden=True, agent_grant=True) | facts
    attributes = {"lk.agent_name": "bouncer"} | ({GUARDING_ATTRIBUTE: "true"} if guarding else {})
    info = Info(
        sid=f"PA_{identity}",
        identity=identity,
        **facts,
        joined_at=joined,
        joined_ms=round(joined * 1000),
        attributes=attributes,
    )
    room.here[identity] = info
    if dispatched:
        job = Job(dispatch=dispatch or f"AD_{identity}", job=identity, agent_name="bouncer", identity=identity)
        room.jobs = (*room.jobs, job)
    return info


def resigned(room: FakeRoom) -> bool:
    """Return True if we have ended our own job."""
    return room.calls["resign"] == 1


async def two_of_a_kind(room: FakeRoom) -> None:
    """Let a human and two agents with one name join: the second is one too many."""
    room.join("ana")
    room.join("A", "assistant")
    await asyncio.sleep(1)
    room.join("B", "assistant")
    room.signal("A")  # or B might be its replacement


@virtual
async def test_handing_over() -> None:
    """We give up our claim, and go on guarding the room until the successor claims it."""
    async with FakeRoom(STRICT) as room:
        await room.say(Says.GUARDING)
        handing_over = asyncio.create_task(room.patrol.hand_over())
        await asyncio.sleep(3)
        assert room.here[ME.identity].attributes == {}
        assert room.dispatched == 1
        await two_of_a_kind(room)
        await asyncio.sleep(8)
        assert [who for _, who in room.removed] == ["B"]

        comes(room, "agent-AJ_next", before_us=False, guarding=False, dispatch="AD_successor_1")
        await asyncio.sleep(5)
        assert not resigned(room)

        comes(room, "agent-AJ_next", before_us=False, dispatch="AD_successor_1")
        await handing_over

        assert resigned(room)
        assert room.recorder.news[-2:-1] == [HandedOver("agent-AJ_next")]


@virtual
async def test_only_the_dispatched_successor_relieves_us() -> None:
    """A bouncer that was there anyway does not, nor does a forged one."""
    async with FakeRoom(STRICT) as room:
        comes(room, "agent-AJ_second", before_us=False)
        comes(room, "agent-AJ_forged", before_us=False, dispatched=False)
        handing_over = asyncio.create_task(room.patrol.hand_over())
        await asyncio.sleep(15)

        assert not handing_over.done()
        handing_over.cancel()


@virtual
async def test_a_dispatch_that_finds_no_worker_is_renewed() -> None:
    """A server never offers it again if no worker is free at that moment. That is said once."""
    async with FakeRoom(STRICT) as room:
        handing_over = asyncio.create_task(room.patrol.hand_over())
        await asyncio.sleep(200)
        assert 4 <= room.dispatched <= 8
        assert room.calls["delete_dispatch"] == room.dispatched - 1
        (trouble,) = (news for news in room.recorder.news if isinstance(news, Failing))
        assert (trouble.doing, str(trouble.error).partition(";")[0]) == (
            "handing over",
            "no worker took the room within 20 s",
        )

        for _ in range(100):
            await asyncio.sleep(1)
            comes(room, "agent-AJ_next", before_us=False, dispatch=f"AD_successor_{room.dispatched}")

        assert resigned(room)
        await handing_over


@virtual
async def test_rooms_that_are_drained_together_do_not_ask_for_successors_at_the_same_time() -> None:
    """The first requests are spread over a second. If no successor comes, each room waits for a pause of its own."""

    async def asks(jitter: float) -> list[float]:
        times: list[float] = []
        async with FakeRoom(STRICT, jitter=jitter) as room:

            async def dispatch_successor() -> str:
                times.append(room.now)
                return "AD_next"

            with patch.object(room, "dispatch_successor", dispatch_successor):
                handing_over = asyncio.create_task(room.patrol.hand_over())
                await asyncio.sleep(30)
            handing_over.cancel()
        return times

    first, again = await asks(0.0)
    late_first, late_again = await asks(0.999)

    assert late_first - first == pytest.approx(1, abs=0.01)
    assert (late_again - late_first) - (again - first) == pytest.approx(0.4, abs=0.01)


@virtual
async def test_handing_over_gets_over_trouble() -> None:
    """Whatever the API answers, we go on guarding the room, and trying."""
    async with FakeRoom(STRICT) as room:
        await asyncio.sleep(1)
        room.trouble = Trouble.UNAVAILABLE
        handing_over = asyncio.create_task(room.patrol.hand_over())
        await asyncio.sleep(100)
        assert not handing_over.done()

        room.trouble = None
        for _ in range(200):
            await asyncio.sleep(1)
            comes(room, "agent-AJ_next", before_us=False, dispatch=f"AD_successor_{room.dispatched}")

        assert resigned(room)
        await handing_over


@virtual
@pytest.mark.parametrize("trouble", [Trouble.THROTTLED, Trouble.UNAVAILABLE])
async def test_a_successor_is_not_taken_back_because_lists_failed(trouble: Trouble) -> None:
    """There is no answer for minutes; a successor that has joined in the meantime stays."""
    async with FakeRoom(STRICT) as room:
        handing_over = asyncio.create_task(room.patrol.hand_over())
        await asyncio.sleep(3)
        room.trouble = trouble
        await asyncio.sleep(200)
        room.trouble = None
        comes(room, "agent-AJ_next", before_us=False, dispatch="AD_successor_1")
        async with asyncio.timeout(60):
            await handing_over

        assert room.dispatched == 1
        assert room.calls["delete_dispatch"] == 0
        assert resigned(room)


@virtual
async def test_a_worker_of_very_many_rooms_takes_no_successor_back() -> None:
    """All are handed over at once, within one worker's call budget. Each successor joins after 5 s."""
    loop, budget, rooms = asyncio.get_running_loop(), CallBudget(600), [FakeRoom(STRICT) for _ in range(150)]

    async def drain(room: FakeRoom) -> None:
        listing, dispatching = room.list_participants, room.dispatch_successor

        async def list_participants(*, urgent: bool = False) -> tuple[Info, ...]:
            if not budget.spend(loop.time(), urgent=urgent):
                raise ApiError(Trouble.THROTTLED, "out of calls")
            return await listing(urgent=urgent)

        async def dispatch_successor() -> str:
            dispatch = await dispatching()
            loop.call_later(5, partial(comes, room, "agent-AJ_next", before_us=False, dispatch=dispatch))
            return dispatch

        with patch.multiple(room, list_participants=list_participants, dispatch_successor=dispatch_successor):
            await room.patrol.hand_over()

    async with AsyncExitStack() as stack:
        for room in rooms:
            await stack.enter_async_context(room)
        async with asyncio.timeout(120):
            await asyncio.gather(*map(drain, rooms))

        assert all(map(resigned, rooms))
        assert {room.dispatched for room in rooms} == {1}


@virtual
async def test_a_room_that_is_off_is_handed_over_too() -> None:
    """Its metadata must still be watched."""
    async with FakeRoom({"bouncer": {"mode": "off"}}) as room:
        handing_over = asyncio.create_task(room.patrol.hand_over())
        await asyncio.sleep(3)
        comes(room, "agent-AJ_next", before_us=False, dispatch="AD_successor_1")

        await handing_over

        assert resigned(room)


@virtual
async def test_the_acting_bouncer_alone_reports_a_bad_configuration() -> None:
    """A standby says nothing to the room."""
    async with FakeRoom(STRICT) as room:
        messages = RoomMessages(room.send_data, records(now=room.loop.time))
        room.recorder.notify = messages.notify  # type: ignore[method-assign]
        sending = asyncio.create_task(messages.run())
        comes(room, "agent-AJ_elder")
        await asyncio.sleep(10)
        room.configure({"bouncer": {"mode": "of"}})
        await asyncio.sleep(1)
        assert room.sent == []

        del room.here["agent-AJ_elder"]
        await asyncio.sleep(10)
        room.configure({"bouncer": {"mode": "on"}})
        await asyncio.sleep(1)

        assert [message["event"] for message in room.sent] == ["config_error"]
        sending.cancel()
