"""Bugs that were planted by hand and that no test caught. `make mutants` plants each again, and one of these fails."""

import asyncio
from typing import Any
from unittest.mock import patch

from livekit import api
from livekit.protocol import agent as agent_protocol
from livekit.protocol.models import ParticipantInfo

from bouncer import Kind, Verdict
from bouncer.adapter.clock import ServerClock
from bouncer.adapter.records import listed_job
from bouncer.configuration.load import load
from bouncer.configuration.model import DISPATCH, ROOM, ConfigError, Layer
from bouncer.decide import Finding, Guards, Ledger, Outcome, decide
from bouncer.events import Joined, Left, RemovalSent
from bouncer.guard.history import History
from bouncer.guard.schedule import POSTPONED_FOR, SURPLUS_FOR, Listing
from bouncer.guard.watch import ListParticipants, Standing
from bouncer.people import People, introduce
from bouncer.policy import Rule
from bouncer.ports import Says, Trouble
from bouncer.room import in_order
from bouncer.testing import agent, room
from policies import BUILTIN
from policies.crosstalk import Crosstalk
from policies.idle_timeout import IdleTimeout
from policies.max_lifetime import MaxLifetime
from policies.stuck_state import StuckState
from tests import told
from tests.bench import Bench
from tests.fake import FakeRoom
from tests.unit.test_handover import STRICT, comes
from tests.unit.test_patrol import house
from tests.unit.test_watch_bouncers import elder
from tests.virtual import virtual

ANA = ParticipantInfo(identity="ana")


def test_a_participant_that_is_announced_again_sets_no_clock() -> None:
    """A full reconnect announces all again, long after they joined."""
    clock = ServerClock()
    for now in (100, 500):
        clock.joined("PA_1", now, 5_000_000)

    assert clock.instant(5_000_000) == 100


@virtual
async def test_the_time_of_too_many_bouncers_begins_with_the_last_of_them() -> None:
    """There were too many once before, but not for long enough."""
    async with FakeRoom(STRICT) as guarded:
        await guarded.say(Says.GUARDING)
        comes(guarded, "agent-AJ_1", before_us=False)
        comes(guarded, "agent-AJ_2", before_us=False)
        await asyncio.sleep(SURPLUS_FOR - 10)
        del guarded.here["agent-AJ_1"]
        await asyncio.sleep(40)

        comes(guarded, "agent-AJ_3", before_us=False)
        await asyncio.sleep(SURPLUS_FOR - 2)
        assert guarded.calls["delete_dispatch"] == 0
        await asyncio.sleep(20)
        assert guarded.identities == {"agent-AJ_2"}


@virtual
async def test_a_surplus_bouncer_stays_if_one_that_is_needed_has_its_dispatch() -> None:
    """Deleting the dispatch ends both jobs, and no bouncer would stand by."""
    async with FakeRoom(STRICT) as guarded:
        await guarded.say(Says.GUARDING)
        comes(guarded, "agent-AJ_1", before_us=False, dispatch="AD_shared")
        comes(guarded, "agent-AJ_2", before_us=False, dispatch="AD_shared")

        await asyncio.sleep(3 * SURPLUS_FOR)

        assert guarded.identities == {"agent-AJ_1", "agent-AJ_2"}
        assert guarded.calls["delete_dispatch"] == 0


@virtual
async def test_an_eviction_is_proven_though_another_has_its_identity() -> None:
    """A silent agent's leaving is announced late, and its token is used again at once."""
    async with FakeRoom({"bouncer": {"policies": {"duplicates": {"grace": 10}}}}) as guarded:
        removing = guarded.remove_participant
        guarded.join("A", "assistant")

        async def remove_participant(identity: str) -> bool:
            removed = await removing(identity)
            guarded.join(identity, "assistant", announced=False)
            return removed

        guarded.announces = False
        with patch.object(guarded, "remove_participant", remove_participant):
            guarded.join("B", "assistant")
            await asyncio.sleep(15)

        assert guarded.recorder.outcomes()[0] == ("B", "removed")


def test_a_list_is_postponed_from_the_first_refusal_on() -> None:
    """Further refusals move nothing, or a worker that is always out of calls would never list the room."""
    listing = Listing(answered_at=0)

    for at in range(100, 100 + int(POSTPONED_FOR)):
        assert not listing.overdue(at)
        listing.postpone(at, 1, asked_at=at)

    assert listing.overdue(100 + POSTPONED_FOR)


def test_a_spent_dispatch_waits_for_a_job_that_may_be_gone() -> None:
    """One list didn't show it; with the next it is gone, and the dispatch must not bring it back."""
    finding = Finding(Verdict(agent("A", dispatch="AD_1"), 10, "is idle"), Rule(policy=IdleTimeout()))
    history = History(jitter=lambda _: 0.5)
    history.begin(finding, (), room(), 100, "enforce")
    history.end(finding, Outcome.REMOVED, 101)
    other = agent("B", dispatch="AD_1")

    assert history.take_spent(room(other), frozenset({other.sid})) == []
    assert history.take_spent(room(), frozenset()) == ["AD_1"]


def test_the_last_to_enter_keeps_an_identity_whose_earlier_owner_leaves() -> None:
    """The leaving of a connection that was replaced may be told after the newcomer's joining."""
    people = People()
    old, new = (introduce(told.info("A", joined, sid=f"PA_{joined}"), identity_known=False) for joined in (1, 2))
    people.enter(old)
    people.enter(new)

    people.leave(old)

    assert people.sid_of("A") == "PA_2"


def test_a_replaced_job_is_forgotten_once_it_is_listed_no_more() -> None:
    """A room that lives for weeks sees any number of them."""
    tracker = told.tracked()
    for at in range(10, 1010, 10):
        old, new = (told.agent(f"agent-AJ_{at + i}", joined=at + i, kind=Kind.AGENT) for i in (0, 1))
        jobs = [told.job(each.identity, "assistant", f"AD_{at}") for each in (old, new)]
        events: list[Any] = [Joined(at, old), Joined(at + 1, new), told.dispatched(at + 2, *jobs)]
        for event in (*events, told.listed(at + 3), told.listed(at + 5), told.dispatched(at + 6)):
            tracker.apply(event)

    assert len(tracker._people._replaced) <= 2  # noqa: SLF001 - nothing else shows what is remembered


def test_the_apps_own_dispatch_metadata_leaves_the_room_its_configuration() -> None:
    """It is no mistake of ours to refuse, whether it is JSON or not."""
    for text in ("vip", '{"patient": 7}', "[1]"):
        dispatch = Layer(DISPATCH, text, shared=True, expected=True)
        room_metadata = Layer(ROOM, '{"bouncer": {"mode": "dry_run"}}', shared=True)
        try:
            mode = load([dispatch, room_metadata], BUILTIN).mode
        except ConfigError as error:
            raise AssertionError(text) from error
        assert mode == "dry_run"


def test_jobs_for_one_participant_are_told_apart() -> None:
    """Of either type: one for each person is right."""
    serves = [
        listed_job(api.AgentDispatch(id="AD_1"), agent_protocol.Job(id="AJ_1", type=of, participant=ANA)).serves
        for of in (agent_protocol.JT_ROOM, agent_protocol.JT_PUBLISHER, agent_protocol.JT_PARTICIPANT)
    ]

    assert serves == ["", "ana", "ana"]


def test_a_date_fits_what_the_last_list_showed() -> None:
    """The server's clock was put back, so that one that has just come seems to have been here for long."""
    back = told.agent("A", "assistant", joined=-300)

    came = told.who("A", told.listed(10), Joined(12, back))

    assert (came.joined_at, came.alive_at) == (12, 10)


def test_a_job_whose_date_cannot_be_right_may_be_listed_later() -> None:
    """It seems to have been here before the last list, which didn't show it: it may have joined only now.

    Until that is certain, no spent dispatch is deleted: it may be its own.
    """
    came = told.agent("agent-AJ_A", "assistant", joined=-300), told.agent("agent-AJ_B", "assistant", joined=11)

    def unsettled(asked_at: float) -> frozenset[str]:
        return told.tracked(told.listed(10), told.listed(20, *came), told.dispatched(asked_at)).unsettled

    assert unsettled(16) == {"PA_agent-AJ_A", "PA_agent-AJ_B"}
    assert unsettled(17) == unsettled(26) == {"PA_agent-AJ_A"}
    assert unsettled(26.5) == frozenset()


def test_an_order_that_we_saw_stands() -> None:
    """Whatever the dates say."""
    first, second = told.agent("A", "assistant", joined=9), told.agent("B", "assistant", joined=5)

    agents = told.house(Joined(9, first), told.listed(10, first), Joined(12, second)).agents

    assert [each.identity for each in agents] == ["A", "B"]


def test_a_stay_goes_on_unless_it_was_ended() -> None:
    """An agent that is back in time keeps its date; one that was removed doesn't."""
    came, back = told.agent("A", "assistant", joined=10), told.agent("A", "assistant", joined=102, sid="PA_back")
    left: list[Any] = [Joined(10, came), Left(100, came.sid), Joined(102, back)]

    assert told.who("A", *left).joined_at == 10
    assert told.who("A", left[0], RemovalSent(99, "A"), *left[1:]).joined_at == 102


def test_of_one_name_the_dispatched_agent_has_the_place() -> None:
    """An impostor was there first."""
    impostor, dispatched = agent("A", "assistant", joined=1), agent("B", "assistant", joined=2, dispatch="AD_1")

    assert in_order([impostor, dispatched]) == [dispatched, impostor]


def test_the_state_of_an_agent_is_no_work_in_that_state() -> None:
    """To us it left in a reconnect, and came back in the state in which it is stuck."""
    speaks = told.agent("A", state="speaking", audio=True)
    house = told.house(Joined(1, speaks), *told.reconnected(10, speaks))
    (verdict,) = StuckState(limits={"speaking": 3}).evaluate(house)

    assert not verdict.doubt


def test_what_agents_said_of_themselves_counts_no_more_once_they_are_heard() -> None:
    """Two interpreters that each speak to one listener can't be heard, and don't talk over each other."""
    interpreters = (Joined(5, told.agent(name, audio=True)) for name in "AB")
    tracker = told.tracked(*interpreters, *(told.state(6, "speaking", f"PA_{name}") for name in "AB"))
    spoke = tracker.room().agents
    tracker.configure(10, hears=True)
    by_then = tracker.room()

    assert [(p.speaking_since, p.chatting_since) for p in spoke] == [(6, 6), (6, 6)]
    assert [(p.speaking_since, p.chatting_since) for p in by_then.agents] == [(None, None), (None, None)]
    assert not [*Crosstalk(overlap=3).evaluate(by_then)]


@virtual
async def test_one_of_a_group_stays_due_though_another_leaves_for_another_reason() -> None:
    """Two agents were superseded by a third that has to leave too. One of them has lived for too long anyway."""
    async with FakeRoom(house(duplicates=None)) as guarded:
        for identity, name in (("A", "assistant"), ("B", "assistant"), ("C", "billing")):
            guarded.join(identity, name)
        await asyncio.sleep(20)
        guarded.configure(
            house(
                duplicates=None,
                superseded={"by": {"assistant": ["billing"]}},
                deny_list={"agent_names": ["billing"], "grace": 10},
                max_lifetime={"limit": 10, "only": {"identity": ["A"]}},
            )
        )
        await asyncio.sleep(5)

        assert sorted(guarded.recorder.outcomes()) == [("A", "removed"), ("B", "removed"), ("C", "removed")]


def test_agents_are_not_forgotten_because_a_crowd_leaves() -> None:
    """In a reconnect of ours everyone does. The older agent stays the older one, and its time goes on."""
    crowd = (told.info(f"H{i}", 2) for i in range(100))
    everyone = (told.agent("A", "assistant", 1), *crowd, told.agent("B", "assistant", 3))
    joined, again = (Joined(3, each) for each in everyone), told.reconnected(100, *everyone)
    with patch("bouncer.tracker.MAX_DEPARTED", 50):
        found = told.house(*joined, told.listed(50, *everyone), *again)

    assert [(p.identity, p.joined_at) for p in found.agents] == [("A", 1), ("B", 3)]


def test_nothing_is_due_before_it_is_known_whose_stay_goes_on() -> None:
    """An agent that is back may be a new job with the identity of an old one."""
    back, rules = room(agent("A", stay_known_at=107)), (Rule(policy=MaxLifetime(limit=100)),)
    early, late = (decide(back, rules, Guards(), now, Ledger()) for now in (106, 107))

    assert (early.evictions, early.wake_at, len(late.evictions)) == ((), 107, 1)


def test_a_list_follows_a_reconnect_at_once() -> None:
    """What happened meanwhile is told by no event, and for a bouncer that stands by not even by a later one."""
    bench = Bench()
    elder(bench)
    bench.until(61)
    bench.disconnects()
    bench.reconnects()
    bench.until(62)

    assert bench.watch.standing is Standing.STANDING_BY
    assert [at for at in bench.made(ListParticipants) if at > 60.5]


def test_who_learns_nothing_claims_nothing() -> None:
    """Lists go unanswered, so another bouncer has to act."""
    bench = Bench()
    bench.until(10)
    bench.trouble = Trouble.UNAVAILABLE
    bench.until(60)

    assert bench.claims[-1] is False


def test_time_that_we_computed_was_not_slept() -> None:
    """A decision took long, and the pulse rang late: that is no freeze."""
    bench = Bench()
    bench.until(10)
    since = bench.watch.room.watching_since

    bench.watch.step(16, busy=6)

    assert bench.watch.room.watching_since == since
