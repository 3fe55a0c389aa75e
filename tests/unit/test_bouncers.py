"""Bouncers among themselves: the oldest acts, the next stands by, the rest is sent away; and handing a room over."""

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import pytest

from bouncer.adapter.calls import CallBudget
from bouncer.api import ApiError, Trouble
from bouncer.events import Info, Job
from bouncer.observers import HandedOver, Ranked, Troubled
from bouncer.observers.messages import RoomMessages
from bouncer.patrol import SURPLUS_FOR, WAITS_FOR
from bouncer.room import GUARDING_ATTRIBUTE, Kind, Participant, Role, Room
from tests.fake import ME, FakeRoom
from tests.virtual import virtual

STRICT = {
    "bouncer": {"policies": {"duplicates": {"grace": 1, "notice": 1}, "max_lifetime": {"limit": 3, "action": "report"}}}
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
    """Another agent with our name joins, unannounced as hidden ones do, and with all that makes it a bouncer."""
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
    """Whether we have ended our own job."""
    return room.calls["resign"] == 1


async def two_of_a_kind(room: FakeRoom) -> None:
    """A human and two agents with one name: the second is one too many."""
    room.join("ana")
    room.join("A", "assistant")
    await asyncio.sleep(1)
    room.join("B", "assistant")


@virtual
async def test_an_older_bouncer_acts_and_we_stand_by() -> None:
    """Nobody is evicted twice, told of twice, reported twice."""
    async with FakeRoom(STRICT) as room:
        comes(room, "agent-AJ_elder")
        await two_of_a_kind(room)

        await asyncio.sleep(60)

        assert room.removed == []
        assert [type(news) for news in room.recorder.news[1:]] == [Ranked]
        assert room.recorder.evaluations == 0


@virtual
async def test_standing_by_costs_a_list_every_five_seconds() -> None:
    """However much happens in the room."""
    async with FakeRoom(STRICT) as room:
        comes(room, "agent-AJ_elder")
        await asyncio.sleep(10)
        room.calls.clear()
        for i in range(100):
            room.join(f"human {i}")
            await asyncio.sleep(1)

        assert set(room.calls) == {"list_participants"}
        assert 18 <= room.calls["list_participants"] <= 23


@virtual
async def test_we_take_over_when_it_is_gone() -> None:
    """Its leaving is announced to nobody; two lists say so."""
    async with FakeRoom(STRICT) as room:
        comes(room, "agent-AJ_elder")
        await two_of_a_kind(room)
        await asyncio.sleep(20)
        gone_at = room.now
        del room.here["agent-AJ_elder"]

        await asyncio.sleep(10)

        ((at, who),) = room.removed
        assert who == "B"
        assert at - gone_at < 7.5


@virtual
async def test_no_eviction_is_carried_on_with_once_an_older_bouncer_is_seen() -> None:
    """It may have been missing from a list, or have said late that it guards the room."""
    async with FakeRoom(STRICT) as room:
        comes(room, "agent-AJ_elder", guarding=False)
        await asyncio.sleep(1)
        list_participants = room.list_participants

        async def list_and_guard(*, urgent: bool = False) -> tuple[Info, ...]:
            if urgent:
                comes(room, "agent-AJ_elder")
            return await list_participants(urgent=urgent)

        room.list_participants = list_and_guard  # type: ignore[method-assign]
        await two_of_a_kind(room)
        await asyncio.sleep(30)

        assert room.removed == []


@virtual
async def test_nothing_is_decided_before_the_server_was_asked_who_is_there() -> None:
    """A bouncer that guards the room is hidden; only the list shows it. Reports need no list, but would be doubled."""
    metadata = {"bouncer": {"policies": {"max_lifetime": {"limit": 1, "action": "report"}}}}
    async with FakeRoom(metadata, trouble=Trouble.UNAVAILABLE) as room:
        room.join("A", "assistant")
        await asyncio.sleep(10)
        assert room.recorder.evaluations == 0

        room.trouble = None
        await asyncio.sleep(30)

        assert room.recorder.evaluations > 0


@virtual
async def test_who_is_not_obeyed() -> None:
    """Who came later, doesn't say that it guards, is no bouncer by its dispatch, can be seen, or is not ACTIVE."""
    strangers: list[dict[str, Any]] = [
        {"before_us": False},
        {"guarding": False},
        {"dispatched": False},
        {"hidden": False},
        {"active": False},
    ]
    for facts in strangers:
        async with FakeRoom(STRICT) as room:
            comes(room, "agent-AJ_other", **facts)
            await two_of_a_kind(room)

            await asyncio.sleep(10)

            assert "B" in [who for _, who in room.removed], facts


@virtual
async def test_a_forged_bouncer_hides_from_nothing() -> None:
    """It has our name and is hidden, says that it guards, and looks like a job; but nobody dispatched it."""
    async with FakeRoom({"bouncer": {"policies": {"deny_list": {"agent_names": ["bouncer"]}}}}) as room:
        comes(room, "agent-AJ_elder")
        comes(room, "agent-AJ_forged", before_us=False, dispatched=False)
        await asyncio.sleep(20)
        del room.here["agent-AJ_elder"]

        await asyncio.sleep(20)

        assert [who for _, who in room.removed] == ["agent-AJ_forged"]


@virtual
async def test_a_third_bouncer_is_sent_away_by_the_one_that_acts() -> None:
    """But not before it is sure that none of them is what is still listed of one that was killed."""
    async with FakeRoom(STRICT) as room:
        await room.say_guarding(guarding=True)
        for i in range(4):
            comes(room, f"agent-AJ_{i}", before_us=False)

        await asyncio.sleep(SURPLUS_FOR - 2)
        assert room.calls["delete_dispatch"] == 0

        await asyncio.sleep(20)
        assert room.identities == {"agent-AJ_0"}
        assert room.calls["delete_dispatch"] == 3
        await asyncio.sleep(60)
        assert room.calls["delete_dispatch"] == 3


@virtual
async def test_a_third_bouncer_takes_over_from_two_that_were_killed() -> None:
    """They are listed as long as it takes to be sure of anything else, and it stays."""
    async with FakeRoom(STRICT) as room:
        comes(room, "agent-AJ_1")
        comes(room, "agent-AJ_2")
        await two_of_a_kind(room)
        await asyncio.sleep(200)
        assert room.removed == []
        assert not resigned(room)

        del room.here["agent-AJ_1"]
        await asyncio.sleep(10)
        del room.here["agent-AJ_2"]
        await asyncio.sleep(10)

        assert [who for _, who in room.removed] == ["B"]
        assert [len(news.seniors) for news in room.recorder.news if isinstance(news, Ranked)] == [2, 1, 0]


@virtual
async def test_a_third_bouncer_becomes_the_second() -> None:
    """The one that stood by went in time; so it may stay."""
    async with FakeRoom(STRICT) as room:
        await room.say_guarding(guarding=True)
        comes(room, "agent-AJ_1", before_us=False)
        comes(room, "agent-AJ_2", before_us=False)
        await asyncio.sleep(SURPLUS_FOR - 10)
        del room.here["agent-AJ_1"]

        await asyncio.sleep(60)

        assert room.identities == {"agent-AJ_2"}
        assert room.calls["delete_dispatch"] == 0


@virtual
async def test_who_sends_no_bouncer_away() -> None:
    """Who stands by, and who hands the room over."""
    for stands_by in (True, False):
        async with FakeRoom(STRICT) as room:
            await room.say_guarding(guarding=stands_by)
            if stands_by:
                comes(room, "agent-AJ_elder")
            comes(room, "agent-AJ_1", before_us=False)
            comes(room, "agent-AJ_2", before_us=False)

            await asyncio.sleep(2 * SURPLUS_FOR)

            assert room.calls["delete_dispatch"] == 0


@virtual
async def test_one_that_does_not_go_is_asked_again_only_now_and_then() -> None:
    """It hangs, say."""
    async with FakeRoom(STRICT) as room:
        await room.say_guarding(guarding=True)
        comes(room, "agent-AJ_1", before_us=False)
        comes(room, "agent-AJ_2", before_us=False)
        room.hanging.add("agent-AJ_2")

        await asyncio.sleep(600)

        assert 600 / SURPLUS_FOR / 2 <= room.calls["delete_dispatch"] <= 600 / SURPLUS_FOR


def claims(room: FakeRoom) -> bool:
    """Whether we say that we guard the room."""
    return GUARDING_ATTRIBUTE in room.here[ME.identity].attributes


@virtual
async def test_who_is_denied_removals_does_not_claim_the_room() -> None:
    """Until one works, so that a younger bouncer acts. It says so once, however often it tries meanwhile."""
    async with FakeRoom(STRICT, removal_trouble=Trouble.DENIED) as room:
        await room.say_guarding(guarding=True)
        await two_of_a_kind(room)
        await asyncio.sleep(5)
        assert not claims(room)

        await asyncio.sleep(600)
        assert room.calls["say_guarding"] == 2
        assert room.calls["remove_participant"] <= 21

        room.removal_trouble = None
        await asyncio.sleep(35)
        assert [who for _, who in room.removed] == ["B"]
        assert claims(room)
        assert room.calls["say_guarding"] == 3


@virtual
async def test_who_is_denied_lists_does_not_claim_the_room() -> None:
    """Its key was replaced, say; with a list that works it claims the room again."""
    async with FakeRoom(STRICT) as room:
        await room.say_guarding(guarding=True)
        await asyncio.sleep(20)
        room.trouble = Trouble.DENIED
        await two_of_a_kind(room)
        await asyncio.sleep(20)
        assert not claims(room)
        assert room.removed == []

        room.trouble = None
        await asyncio.sleep(35)
        assert claims(room)
        assert [who for _, who in room.removed] == ["B"]


@virtual
async def test_other_trouble_is_no_reason_to_give_the_room_up() -> None:
    """The server that doesn't answer us answers nobody."""
    async with FakeRoom(STRICT, removal_trouble=Trouble.UNAVAILABLE) as room:
        await room.say_guarding(guarding=True)
        await two_of_a_kind(room)
        await asyncio.sleep(60)
        room.trouble = Trouble.THROTTLED
        await asyncio.sleep(60)

        assert claims(room)
        assert room.calls["say_guarding"] == 1


@virtual
async def test_a_worker_out_of_calls_still_sees_that_it_has_to_take_over() -> None:
    """Its lists wait for a while, not for ever: nothing else tells who stands by that the one that acts is gone."""
    async with FakeRoom(STRICT) as room:
        listing, urgent_at = room.list_participants, list[float]()

        async def list_participants(*, urgent: bool = False) -> tuple[Info, ...]:
            if not urgent:
                raise ApiError(Trouble.THROTTLED, "out of calls")
            urgent_at.append(room.loop.time())
            return await listing(urgent=urgent)

        with patch.object(room, "list_participants", list_participants):
            comes(room, "agent-AJ_elder")
            await two_of_a_kind(room)
            await asyncio.sleep(100)
            assert room.removed == []
            quiet = urgent_at[1:]
            room.here.pop("agent-AJ_elder")
            await asyncio.sleep(2 * WAITS_FOR + 10)

        assert [who for _, who in room.removed] == ["B"]
        assert not [news for news in room.recorder.news if isinstance(news, Troubled)]
        assert min(later - sooner for sooner, later in pairwise(quiet)) >= WAITS_FOR


@virtual
async def test_who_was_denied_and_stands_by_is_there_for_the_next_time() -> None:
    """The older one's key was put right first; whether ours was too, nobody knows."""
    async with FakeRoom(STRICT, removal_trouble=Trouble.DENIED) as room:
        await room.say_guarding(guarding=True)
        await two_of_a_kind(room)
        await asyncio.sleep(20)
        assert not claims(room)

        comes(room, "agent-AJ_elder")
        await asyncio.sleep(30)

        assert claims(room)


@virtual
async def test_who_hands_the_room_over_does_not_claim_it_again() -> None:
    """Whatever works again meanwhile."""
    async with FakeRoom(STRICT, trouble=Trouble.DENIED) as room:
        await room.say_guarding(guarding=True)
        await asyncio.sleep(5)
        assert not claims(room)
        handing_over = asyncio.create_task(room.patrol.hand_over())
        await asyncio.sleep(5)
        room.trouble = None
        await asyncio.sleep(120)

        assert not claims(room)
        handing_over.cancel()


def test_of_any_number_of_bouncers_exactly_one_has_no_senior() -> None:
    """By the server's milliseconds, then by sid; all come to the same result."""
    bouncers = tuple(
        Participant(
            sid=f"PA_{i}",
            identity=f"B{i}",
            role=Role.BOUNCER,
            joined_ms=i // 2,
            attributes={GUARDING_ATTRIBUTE: "true"},
        )
        for i in range(5)
    )

    rooms = [Room(me=me.identity, participants=bouncers) for me in bouncers]
    assert [(len(room.seniors), len(room.juniors)) for room in rooms] == [(0, 4), (1, 3), (2, 2), (3, 1), (4, 0)]


@virtual
async def test_handing_over() -> None:
    """We say that we don't guard any longer, and do so until the successor says that it does."""
    async with FakeRoom(STRICT) as room:
        await room.say_guarding(guarding=True)
        handing_over = asyncio.create_task(room.patrol.hand_over())
        await asyncio.sleep(3)
        assert room.here[ME.identity].attributes == {}
        assert room.dispatched == 1
        await two_of_a_kind(room)
        await asyncio.sleep(3)
        assert [who for _, who in room.removed] == ["B"]

        comes(room, "agent-AJ_next", before_us=False, guarding=False, dispatch="AD_successor_1")
        await asyncio.sleep(5)
        assert not resigned(room)

        comes(room, "agent-AJ_next", before_us=False, dispatch="AD_successor_1")
        await handing_over

        assert resigned(room)
        assert room.recorder.news[-1] == HandedOver("agent-AJ_next")


@virtual
async def test_only_the_dispatched_successor_relieves_us() -> None:
    """Not one that is there anyway, nor a forged one."""
    async with FakeRoom(STRICT) as room:
        comes(room, "agent-AJ_second", before_us=False)
        comes(room, "agent-AJ_forged", before_us=False, dispatched=False)
        handing_over = asyncio.create_task(room.patrol.hand_over())
        await asyncio.sleep(15)

        assert not handing_over.done()
        handing_over.cancel()


@virtual
async def test_a_dispatch_that_brings_nobody_is_made_anew() -> None:
    """A server gives a dispatch to nobody if no worker is free at that moment. That is said, once."""
    async with FakeRoom(STRICT) as room:
        handing_over = asyncio.create_task(room.patrol.hand_over())
        await asyncio.sleep(200)
        assert 4 <= room.dispatched <= 8
        assert room.calls["delete_dispatch"] == room.dispatched - 1
        (trouble,) = (news for news in room.recorder.news if isinstance(news, Troubled))
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
    """Neither at first, within a second, nor after that: nobody comes, and each asks anew after its own pause."""

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
    """Whatever the API answers, we guard the room and go on trying."""
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
async def test_a_successor_is_not_taken_back_because_nobody_could_look(trouble: Trouble) -> None:
    """For minutes there is no answer; whoever has come meanwhile stays."""
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
    """All are handed over at once, within the calls of a worker; each successor comes after 5 s."""
    loop, budget, rooms = asyncio.get_running_loop(), CallBudget(600), [FakeRoom(STRICT) for _ in range(150)]

    async def drain(room: FakeRoom) -> None:
        listing, dispatching = room.list_participants, room.dispatch_successor

        async def list_participants(*, urgent: bool = False) -> tuple[Info, ...]:
            if not budget.take(loop.time(), urgent=urgent):
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
    """Its metadata has to be watched."""
    async with FakeRoom({"bouncer": {"mode": "off"}}) as room:
        handing_over = asyncio.create_task(room.patrol.hand_over())
        await asyncio.sleep(3)
        comes(room, "agent-AJ_next", before_us=False, dispatch="AD_successor_1")

        await handing_over

        assert resigned(room)


@virtual
async def test_what_is_wrong_with_the_configuration_is_told_by_one_of_them() -> None:
    """The one that acts."""
    async with FakeRoom(STRICT) as room:
        messages = RoomMessages(room.send_data)
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


@virtual
async def test_a_list_of_before_a_reconnect_tells_nothing_of_now() -> None:
    """It was asked for while we were blind, and is answered once we are back: an older bouncer may have come."""
    async with FakeRoom({"bouncer": {"policies": {"max_lifetime": {"limit": 1, "action": "report"}}}}) as room:
        await asyncio.sleep(30)
        answer = await room.list_participants()
        held = asyncio.Event()

        async def late(*, urgent: bool = False) -> tuple[Info, ...]:
            room.calls["late"] += not urgent
            await held.wait()
            return answer

        room.list_participants = late  # type: ignore[method-assign]
        room.patrol.list_soon()
        await asyncio.sleep(1)
        room.reconnect()
        comes(room, "agent-AJ_elder")
        room.join("A", "assistant")
        evaluations = room.recorder.evaluations
        del room.list_participants
        held.set()
        await asyncio.sleep(20)

        assert room.calls["late"] == 1
        assert room.recorder.evaluations == evaluations
