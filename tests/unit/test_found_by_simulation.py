"""What only the simulation found: races between lists, events, evictions and reconnects."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

import pytest

from bouncer.events import Connected, Disconnected, Dispatched, Event, Heard, Info, Joined, Left, Signal, Stalled
from bouncer.observers import Reported
from bouncer.policy import Policy
from bouncer.ports import ApiError, Trouble
from bouncer.room import Kind
from bouncer.testing import agent as resident
from bouncer.testing import due
from bouncer.testing import room as house_of
from bouncer.tracker import Tracker
from policies.duplicates import Duplicates
from policies.max_agents import MaxAgents
from policies.stuck_state import StuckState
from tests.fake import FakeRoom
from tests.told import ME, agent, avatar, info, job, reconnected, state, tracked, who
from tests.unit.test_handover import STRICT, comes, two_of_a_kind
from tests.unit.test_patrol import house, jobs
from tests.virtual import virtual


@virtual
async def test_a_standby_takes_over_after_a_reconnect_too() -> None:
    """It stops listing while it is blind, and must resume by itself."""
    async with FakeRoom(STRICT) as room:
        comes(room, "agent-AJ_elder")
        await two_of_a_kind(room)
        await asyncio.sleep(10)
        room.patrol.tell(Disconnected(room.loop.time()))
        await asyncio.sleep(10)
        room.reconnect()
        await asyncio.sleep(10)
        assert room.removed == []
        del room.here["agent-AJ_elder"]

        await asyncio.sleep(20)

        assert [identity for _, identity in room.removed] == ["B"]


class TestAListAnsweredWhileEveryoneSeemsToHaveLeft:
    """On a full reconnect the SDK reports everyone as gone, a millisecond before it says that it is reconnecting."""

    @virtual
    async def test_ends_no_healthy_job(self) -> None:
        """The removed corpse's dispatch is its replacement's too."""
        async with FakeRoom() as room:
            room.jobs = jobs(("AD_1", "agent-AJ_1"), ("AD_1", "agent-AJ_2"))
            room.join("agent-AJ_1", "assistant")
            room.join("agent-AJ_2", "assistant")
            with reconnecting_once(room, lambda: bool(room.recorder.outcomes())) as reconnects:
                await asyncio.sleep(60)

            assert reconnects
            assert room.recorder.outcomes() == [("agent-AJ_1", "removed")]
            assert room.calls["delete_dispatch"] == 0
            assert room.identities == {"agent-AJ_2"}

    @virtual
    async def test_repeats_no_report(self) -> None:
        """What was handled is forgotten only once the participant is really gone."""
        async with FakeRoom(house(max_lifetime={"limit": 5, "action": "report"})) as room:
            room.join("A", "assistant")
            with reconnecting_once(room, lambda: room.now > 6) as reconnects:
                await asyncio.sleep(60)

            assert reconnects
            assert len([news for news in room.recorder.news if isinstance(news, Reported)]) == 1


@contextmanager
def reconnecting_once(room: FakeRoom, when: Callable[[], bool]) -> Iterator[list[float]]:
    """Answer the first list requested after that when everyone seems to have left, and return when that was."""
    prompt, reconnects = room.list_participants, list[float]()

    async def list_participants(*, urgent: bool = False) -> tuple[Info, ...]:
        breaks = when() and not reconnects
        infos = await prompt(urgent=urgent)
        if breaks and not reconnects:
            reconnects.append(room.now)
            for identity in room.identities:
                room.patrol.tell(Left(room.loop.time(), room.here[identity].sid))
            room.loop.call_later(0.001, room.reconnect)
        return infos

    with patch.object(room, "list_participants", list_participants):
        yield reconnects


class TestADispatchIsNotDeletedFor:
    """Deleting it would end all its jobs, even those that no policy sees."""

    @virtual
    async def test_an_agent_that_is_still_joining(self) -> None:
        """It is not judged before it is ACTIVE, but it has a job."""
        async with FakeRoom() as room:
            room.jobs = jobs(("AD_1", "agent-AJ_1"), ("AD_2", "agent-AJ_2"), ("AD_2", "agent-AJ_3"))
            room.join("agent-AJ_1", "assistant")
            room.join("agent-AJ_2", "assistant")
            room.join("agent-AJ_3", "assistant", active=False)
            await asyncio.sleep(30)

            assert room.recorder.outcomes() == [("agent-AJ_2", "removed")]
            assert room.calls["delete_dispatch"] == 0

    @virtual
    async def test_a_bouncer(self) -> None:
        """A visible agent is not a bouncer, but its dispatch may be a bouncer's."""
        async with FakeRoom(house(deny_list={"agent_names": ["bouncer"]})) as room:
            comes(room, "agent-AJ_visible", before_us=False, hidden=False, dispatch="AD_1")
            comes(room, "agent-AJ_hidden", before_us=False, dispatch="AD_1")
            await asyncio.sleep(30)

            assert room.recorder.outcomes() == [("agent-AJ_visible", "removed")]
            assert room.calls["delete_dispatch"] == 0

    @virtual
    async def test_one_with_an_identity_that_its_worker_gives_to_every_job(self) -> None:
        """Its dispatch can't be known: the jobs of earlier participants with its identity are listed too."""
        async with FakeRoom() as room:
            room.jobs = (
                *jobs(("AD_1", "agent-AJ_1"), ("AD_2", "agent-AJ_2")),
                *(job("desk", "support", dispatch) for dispatch in ("AD_2", "AD_3")),
            )
            for identity, name in (("agent-AJ_1", "assistant"), ("agent-AJ_2", "assistant"), ("desk", "support")):
                room.join(identity, name)
            await asyncio.sleep(30)

            assert room.recorder.outcomes() == [("agent-AJ_2", "removed")]
            assert room.calls["delete_dispatch"] == 0

    @virtual
    async def test_nor_one_that_took_over_such_an_identity_and_is_not_listed_yet(self) -> None:
        """The listed job is that of its predecessor."""
        async with FakeRoom(house(duplicates={"grace": 0})) as room:
            room.jobs = (*jobs(("AD_1", "agent-AJ_1"), ("AD_2", "agent-AJ_2")), job("desk", "support", "AD_3"))
            room.join("desk", "support")
            room.join("agent-AJ_1", "assistant")
            await asyncio.sleep(10)
            room.join("desk", "support")
            room.join("agent-AJ_2", "assistant")
            await asyncio.sleep(3)
            room.jobs += (job("desk", "support", "AD_2"),)
            await asyncio.sleep(30)

            assert room.recorder.outcomes() == [("agent-AJ_2", "removed")]
            assert room.calls["delete_dispatch"] == 0


class TestTheDispatchOfAnAgent:
    """It follows from the jobs with its identity, which a worker may reuse."""

    EARLIER, LATER = replace(agent("desk", "support"), sid="PA_1"), replace(agent("desk", "support", 20), sid="PA_2")
    JOB, OTHER = job("desk", "support", "AD_1"), job("desk", "support", "AD_2")

    def test_is_not_known_if_it_may_be_of_several(self) -> None:
        """Each of them may have to stay because of it."""
        desk = who("desk", Joined(10, self.EARLIER), Dispatched(20, 20, (self.JOB, self.OTHER)))

        assert desk.dispatch == ""
        assert desk.dispatches == {"AD_1", "AD_2"}

    def test_is_not_known_while_only_the_job_of_the_one_before_may_be_listed(self) -> None:
        """The old job is listed forever, its own up to 5 s late."""
        tracker = tracked(Joined(10, self.EARLIER), Dispatched(11, 11, (self.JOB,)), Joined(20, self.LATER))
        for asked_at, dispatch in ((25.9, ""), (26, "AD_1")):
            tracker.apply(Dispatched(26, asked_at, (self.JOB,)))

            assert [p.dispatch for p in tracker.room().participants if p.sid == "PA_2"] == [dispatch]
            assert ("PA_2" in tracker.unsettled) is (dispatch == "")

    def test_is_none_if_the_job_was_last_listed_before_it_joined(self) -> None:
        """It came with a token and the identity of an agent whose dispatch is deleted."""
        tracker = tracked(Joined(10, self.EARLIER), Dispatched(11, 11, (self.JOB,)), Joined(20, self.LATER))
        tracker.apply(Dispatched(26, 26, ()))

        assert [p.dispatches for p in tracker.room().participants if p.sid == "PA_2"] == [frozenset()]

    def test_is_known_at_once_of_the_first_with_its_identity(self) -> None:
        """Workers that give each job its own identity need not wait."""
        tracker = tracked(Joined(10, self.EARLIER), Dispatched(11, 11, (self.JOB,)))

        assert [p.dispatch for p in tracker.room().participants if p.sid == "PA_1"] == ["AD_1"]
        assert not tracker.unsettled


def test_what_an_agent_did_in_its_state_is_remembered_when_watching_begins_again() -> None:
    """After a freeze it isn't stuck in the state in which it was seen at work."""
    listens = agent("A", "assistant", state="listening")
    tracker = tracked(Joined(1, listens), Signal(10, "PA_A"), Stalled(20))
    (verdict,) = StuckState(limits={"listening": 3}).evaluate(tracker.room())

    assert verdict.due == 23
    assert verdict.doubt


class TestAnAgentThatIsStuckSpeaking:
    """Its state is no proof that it did something in that state."""

    SPEAKS = agent("A", "assistant", state="speaking", audio=True)

    def doubt(self, tracker: Tracker) -> str:
        """Return the doubt about the verdict on it."""
        (verdict,) = StuckState(limits={"speaking": 3}).evaluate(tracker.room())
        return verdict.doubt

    @pytest.mark.parametrize("hears", [True, False])
    def test_has_done_nothing_as_we_begin_or_cease_to_listen(self, *, hears: bool) -> None:
        """Then its own word counts no more, or again."""
        tracker = tracked()
        tracker.configure(0, hears=not hears)
        tracker.apply(Joined(1, self.SPEAKS))
        tracker.configure(10, hears=hears)

        assert not self.doubt(tracker)

    @pytest.mark.parametrize(
        "end",
        [
            pytest.param([Heard(10, "PA_A", speaking=False)], id="silent"),
            pytest.param([Heard(10, "PA_A", None)], id="unheard"),
            pytest.param(reconnected(10, SPEAKS), id="reconnected"),
        ],
    )
    def test_unless_it_was_heard(self, end: list[Event]) -> None:
        """It was found speaking, and was heard until then."""
        tracker = tracked()
        tracker.configure(0, hears=True)
        for event in (Joined(1, self.SPEAKS), Heard(1, "PA_A", speaking=True), *end):
            tracker.apply(event)

        assert self.doubt(tracker)


class TestWhatIsStillDueRightBeforeARemoval:
    """Each eviction takes a second look at room and configuration while others are under way."""

    @virtual
    async def test_not_the_last_of_a_group_whose_other_leaves_by_another_rule(self) -> None:
        """Of a pair, the younger is a duplicate and the older is idle. Once the older leaves, the younger is alone."""
        async with FakeRoom(house(duplicates={"grace": 10}, idle_timeout={"timeout": 10})) as room:
            room.join("A", "assistant", attributes={"lk.agent.state": "listening"})
            room.join("B", "assistant", attributes={"lk.agent.state": "thinking"})
            await asyncio.sleep(30)

            assert room.identities == {"B"}
            assert room.recorder.outcomes() == [("B", "void"), ("A", "removed")]

    @virtual
    async def test_nor_if_that_other_was_to_leave_by_the_same_rule_first(self) -> None:
        """Both are duplicates of a third that left by itself, and one of them has become idle as well."""
        async with FakeRoom(house(duplicates={"grace": 10}, idle_timeout={"timeout": 10.02})) as room:
            for identity, now_does in (("A", "thinking"), ("B", "listening"), ("C", "thinking")):
                room.join(identity, "assistant", attributes={"lk.agent.state": now_does})

            async def the_first_leaves() -> None:
                await asyncio.sleep(0.1)
                room.leave("A")

            with before_recheck(room, lambda: asyncio.sleep(0.2), the_first_leaves):
                await asyncio.sleep(30)

            assert room.identities == {"C"}
            assert room.recorder.outcomes() == [("C", "void"), ("B", "removed")]

    @virtual
    async def test_not_an_avatar_that_has_become_exempt(self) -> None:
        """Even though its principal must leave, and its removal has not gone out yet."""
        async with FakeRoom() as room:
            for identity in ("A", "B"):
                room.join(identity, "assistant")
            room.join("V", kind=Kind.AGENT, attributes={"lk.publish_on_behalf": "B"})

            async def exempt() -> None:
                room.configure({"bouncer": {"exempt": {"identity": ["V"]}}})

            with before_recheck(room, lambda: asyncio.sleep(0.1), exempt):
                await asyncio.sleep(30)

            assert room.identities == {"A", "V"}
            assert room.recorder.outcomes() == [("V", "void"), ("B", "removed")]


@contextmanager
def before_recheck(room: FakeRoom, *happens: Callable[[], Awaitable[None]]) -> Iterator[None]:
    """Let these happen, one before each answer to the lists of evictions under way, in the order of the requests.

    The first list shows who is there; the next urgent one belongs to the decision itself. Each eviction reads its own.
    """
    prompt, asked = room.list_participants, iter((lambda: asyncio.sleep(0), *happens))

    async def list_participants(*, urgent: bool = False) -> tuple[Info, ...]:
        if urgent and room.calls["list_participants"] and (happen := next(asked, None)):
            await happen()
        return await prompt(urgent=urgent)

    with patch.object(room, "list_participants", list_participants), patch("bouncer.guard.watch.FRESH", -1.0):
        yield


@virtual
async def test_an_agent_that_may_not_return_is_tried_again_after_a_failure() -> None:
    """The failed attempt is not an eviction; the one that it returned from still counts."""
    async with FakeRoom(house(no_return={})) as room:
        room.jobs = jobs(("AD_A", "A"))
        room.join("A", "assistant")
        room.join("B", "assistant")
        await asyncio.sleep(5)
        room.leave("A")
        room.removal_trouble = Trouble.UNAVAILABLE
        room.join("B", "assistant")
        await asyncio.sleep(0.1)
        assert room.recorder.outcomes() == [("B", "removed"), ("B", "failed")]

        room.removal_trouble = None
        await asyncio.sleep(30)

        assert room.identities == set()


class TestACorpse:
    """A crashed agent stays listed for 20 s next to its replacement, and its last words come late."""

    OLD, NEW = agent("agent-AJ_1", "assistant"), agent("agent-AJ_2", "assistant", 20)

    def wait(self, old: Info, *events: Event) -> float:
        """Return the seconds that the replacement, which joined at 20, gets after these events."""
        room = tracked(
            Joined(10, old), Dispatched(11, 11, (job(old.identity, "assistant"),)), Joined(20, self.NEW), *events
        ).room()
        return due(Duplicates(grace=2).evaluate(room))["agent-AJ_2"] - 20

    @pytest.mark.parametrize(
        "events",
        [
            pytest.param([state(21.9, "idle", "PA_agent-AJ_1")], id="a change that may be 3 s old"),
            pytest.param(
                [Disconnected(21), Connected(22, ME, (OLD, NEW)), Signal(24.9, OLD.sid)], id="news after a reconnect"
            ),
            pytest.param([Stalled(22), Signal(24.9, OLD.sid)], id="news after a freeze"),
            pytest.param([Signal(22, OLD.sid), Stalled(22)], id="news after a freeze, before that is noticed"),
        ],
    )
    def test_late_news_is_no_sign_of_life(self, events: list[Event]) -> None:
        """It may date from before the crash, so the replacement gets the time in which a corpse is listed."""
        assert self.wait(self.OLD, *events) == 25

    @pytest.mark.parametrize(
        "event",
        [
            pytest.param(Heard(21, "PA_agent-AJ_1", speaking=False), id="it is heard to be silent"),
            pytest.param(Left(21, "PA_agent-AJ_1"), id="it leaves, and is back by the same connection"),
        ],
    )
    def test_having_been_found_speaking_is_no_sign_of_life(self, event: Event) -> None:
        """Its state is old, and its end is not its own doing."""
        old = agent("agent-AJ_1", "assistant", state="speaking")

        assert self.wait(old, event, Joined(22, old)) == 25

    @pytest.mark.parametrize(
        ("old", "events"),
        [
            pytest.param(OLD, [state(23.1, "idle", OLD.sid)], id="a change that is younger in any case"),
            pytest.param(
                agent("agent-AJ_1", "assistant", audio=True),
                [state(20.1, "idle", OLD.sid)],
                id="a change that is announced at once",
            ),
            pytest.param(OLD, [Heard(20.1, OLD.sid, speaking=True)], id="it is heard"),
            pytest.param(
                OLD,
                [Joined(20, avatar("V", OLD.identity)), Heard(20.1, "PA_V", speaking=True)],
                id="its avatar is heard",
            ),
            pytest.param(OLD, [Disconnected(21), Connected(22, ME, (OLD, NEW)), Signal(25, OLD.sid)], id="fresh news"),
        ],
    )
    def test_what_it_did_since_is_a_sign_of_life(self, old: Info, events: list[Event]) -> None:
        """Then only the grace remains."""
        assert self.wait(old, *events) == 2


class TestAJobThatWasReplaced:
    """Of one dispatch's jobs, the newest is the rightful one, even after it has left."""

    @virtual
    async def test_counts_for_nothing_until_its_removal_is_tried_again(self) -> None:
        """The newer job was a duplicate of another dispatch's agent, which stays."""
        async with FakeRoom() as room:
            room.jobs = jobs(("AD_1", "agent-AJ_1"), ("AD_2", "agent-AJ_2"), ("AD_1", "agent-AJ_3"))
            room.join("agent-AJ_1", "assistant")
            room.join("agent-AJ_2", "assistant")
            room.join("agent-AJ_3", "assistant")
            prompt, failed = room.remove_participant, list[str]()

            async def remove_participant(identity: str) -> bool:
                if identity == "agent-AJ_1" and not failed:
                    failed.append(identity)
                    raise ApiError(Trouble.DENIED, "once")
                return await prompt(identity)

            with patch.object(room, "remove_participant", remove_participant):
                room.hanging = {"agent-AJ_1"}
                await asyncio.sleep(60)

            assert failed
            assert room.identities == {"agent-AJ_2"}

    OLD, NEW = agent("agent-AJ_1", "assistant"), agent("agent-AJ_2", "assistant", 20)
    TWO = Dispatched(26, 26, (job(OLD.identity, "assistant"), job(NEW.identity, "assistant")))

    def replaced(self, *events: Event) -> list[str]:
        """Return the identities that were replaced after these events."""
        return [p.identity for p in tracked(Joined(10, self.OLD), *events).room().participants if p.replaced]

    def test_stays_replaced(self) -> None:
        """Even if it comes back with its own token, later than the newer one; also if a restarted server forgot it."""
        back = replace(self.OLD, sid="PA_back", joined_at=30, joined_ms=30_000)

        assert self.replaced(Joined(20, self.NEW), self.TWO) == ["agent-AJ_1"]
        assert self.replaced(Joined(20, self.NEW), self.TWO, Left(27, self.NEW.sid)) == ["agent-AJ_1"]
        assert self.replaced(Joined(20, self.NEW), self.TWO, Joined(30, back)) == ["agent-AJ_1"]
        much_later = replace(self.OLD, sid="PA_back", joined_at=60, joined_ms=60_000)
        forgotten = Left(27, self.OLD.sid), Dispatched(28, 28, ())
        assert self.replaced(Joined(20, self.NEW), self.TWO, *forgotten, Joined(60, much_later)) == ["agent-AJ_1"]

    def test_stays_replaced_through_a_reconnect(self) -> None:
        """To us everyone left and came back, and meanwhile a restarted server listed no jobs."""
        gone = Left(27, self.NEW.sid), Left(28, self.OLD.sid), Dispatched(29, 29, ())

        assert self.replaced(Joined(20, self.NEW), self.TWO, *gone, Joined(30, self.OLD)) == ["agent-AJ_1"]

    def test_that_comes_back_is_as_old_as_it_was(self) -> None:
        """Its connection is the younger one, but not its job."""
        back = replace(self.OLD, sid="PA_back", joined_at=30, joined_ms=30_000)

        assert self.replaced(Left(19, self.OLD.sid), Joined(20, self.NEW), self.TWO, Joined(30, back)) == ["agent-AJ_1"]

    def test_was_replaced_by_one_that_was_here(self) -> None:
        """One that was never ACTIVE alongside doesn't replace it, nor another dispatch's, nor another publisher's."""
        old, new = job(self.OLD.identity, "assistant"), job(self.NEW.identity, "assistant")

        assert self.replaced(Joined(20, replace(self.NEW, active=False)), self.TWO) == []
        assert self.replaced(Left(19, self.OLD.sid), Joined(20, self.NEW), self.TWO) == []
        for other in (replace(new, dispatch="AD_2"), replace(new, serves="ana")):
            assert self.replaced(Joined(20, self.NEW), Dispatched(26, 26, (old, other))) == []


def test_no_agent_owes_an_answer_to_speech_from_before_it_joined() -> None:
    """Hearing is late, and dates speech back to its end."""
    events: list[Event] = [
        Joined(5, info("ana")),
        Heard(20, "PA_ana", speaking=True),
        Joined(26, agent("A", "assistant", 26)),
    ]

    assert who("A", *events, Heard(25.9, "PA_ana", speaking=False)).unanswered_since is None
    assert who("A", *events, Heard(26.1, "PA_ana", speaking=False)).unanswered_since == 26.1


@pytest.mark.parametrize(("ended", "chatting_since"), [(19.9, None), (20, None), (20.1, 20)])
def test_an_agent_that_fell_silent_before_the_human_is_no_chatter(ended: float, chatting_since: float | None) -> None:
    """Even if that is told after the human's end: each is heard with its own delay, and dated back."""
    spoke = who(
        "A",
        Joined(5, info("ana")),
        Joined(6, agent("A", "assistant", audio=True)),
        Heard(10, "PA_A", speaking=True),
        Heard(15, "PA_ana", speaking=True),
        Heard(20, "PA_ana", speaking=False),
        Heard(ended, "PA_A", speaking=False),
    )

    assert spoke.chatting_since == chatting_since


@virtual
async def test_an_avatar_left_behind_by_a_real_eviction_is_told_of_once_in_a_dry_run() -> None:
    """It would follow its principal until that has been told once."""
    async with FakeRoom() as room:
        room.jobs = jobs(("AD_A", "A"))
        room.join("A", "assistant")
        room.join("B", "assistant")
        await asyncio.sleep(5)
        room.configure(house("dry_run"))
        room.join("V", kind=Kind.AGENT, attributes={"lk.publish_on_behalf": "B"})
        await asyncio.sleep(60)

        assert room.recorder.outcomes() == [("B", "removed"), ("V", "would")]


@pytest.mark.parametrize("policy", [Duplicates(max=2), MaxAgents(max=2)], ids=lambda policy: policy.name)
def test_grace_counts_from_when_the_group_became_too_large(policy: Policy) -> None:
    """A job was restarted twice. Only with the third is the first one a duplicate."""
    jobs_of_one = [resident(f"agent-AJ_{at}", "x", joined=at, replaced=at < 20) for at in (1, 10, 20)]

    assert due(policy.evaluate(house_of(*jobs_of_one))) == {"agent-AJ_1": 22}


@pytest.mark.parametrize("trouble", [Trouble.DENIED, Trouble.UNAVAILABLE])
@virtual
async def test_an_agent_that_was_never_evicted_may_return(trouble: Trouble) -> None:
    """A denied or failed removal doesn't count: the agent left and returned by itself."""
    async with FakeRoom({"bouncer": {"policies": {"no_return": {}}}}) as room:
        room.join("A", "assistant")
        room.join("B", "assistant")
        room.removal_trouble = trouble
        await asyncio.sleep(10)
        assert room.calls["remove_participant"] > 0
        room.leave("A")
        room.leave("B")
        room.removal_trouble = None
        await asyncio.sleep(5)
        room.join("B", "assistant")
        await asyncio.sleep(20)

        assert room.identities == {"B"}


@pytest.mark.parametrize("seconds", [3.0, 3.3, 3.6, 4.0, 4.4, 4.8])
@virtual
async def test_a_freeze_of_three_seconds_is_noticed_whenever_it_begins(seconds: float) -> None:
    """An agent worked while it lasted, and would have been idle at its end: the news was on its way to us."""
    async with FakeRoom({"bouncer": {"policies": {"idle_timeout": {"timeout": 6.5}}}}) as room:
        room.join("A", "assistant")
        await asyncio.sleep(seconds)
        room.loop.skip(3.0)  # type: ignore[attr-defined]
        await asyncio.sleep(0.02)
        room.signal("A")
        await asyncio.sleep(5)

        assert room.identities == {"A"}
