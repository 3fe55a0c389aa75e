"""What only the simulation found, each told by itself: races between lists, events, evictions and reconnects."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

import pytest

from bouncer.api import ApiError, Trouble
from bouncer.events import Connected, Disconnected, Dispatched, Event, Heard, Info, Joined, Left, Signal, Stalled
from bouncer.observers import Reported
from bouncer.policy import Policy
from bouncer.room import Kind
from bouncer.testing import agent as resident
from bouncer.testing import due
from bouncer.testing import room as house_of
from policies.duplicates import Duplicates
from policies.max_agents import MaxAgents
from tests.fake import FakeRoom
from tests.unit.test_bouncers import STRICT, comes, two_of_a_kind
from tests.unit.test_patrol import house, jobs
from tests.unit.test_tracker import ME, agent, avatar, info, job, state, tracked, who
from tests.virtual import virtual


@virtual
async def test_a_bouncer_that_stands_by_takes_over_also_after_a_reconnect() -> None:
    """It lists no more while it is blind, and has to begin again by itself."""
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


class TestAListThatIsAnsweredWhileEverybodySeemsToHaveLeft:
    """In a full reconnect the SDK reports all as gone, and only a millisecond later that it is reconnecting."""

    @virtual
    async def test_ends_no_healthy_job(self) -> None:
        """The dispatch of the corpse that was removed is its replacement's too."""
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
        """What was handled is forgotten only with those who are really gone."""
        async with FakeRoom(house(max_lifetime={"limit": 5, "action": "report"})) as room:
            room.join("A", "assistant")
            with reconnecting_once(room, lambda: room.now > 6) as reconnects:
                await asyncio.sleep(60)

            assert reconnects
            assert len([news for news in room.recorder.news if isinstance(news, Reported)]) == 1


@contextmanager
def reconnecting_once(room: FakeRoom, when: Callable[[], bool]) -> Iterator[list[float]]:
    """Have the first list asked for after that answered when all have left for us; gives when that was."""
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
    """Deleting it would end all its jobs, also those that no policy sees."""

    @virtual
    async def test_an_agent_that_is_still_joining(self) -> None:
        """It is not judged before it is ACTIVE, but it is a job."""
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
        """A visible agent is none, whatever its dispatch; that dispatch may be a bouncer's all the same."""
        async with FakeRoom(house(deny_list={"agent_names": ["bouncer"]})) as room:
            comes(room, "agent-AJ_visible", before_us=False, hidden=False, dispatch="AD_1")
            comes(room, "agent-AJ_hidden", before_us=False, dispatch="AD_1")
            await asyncio.sleep(30)

            assert room.recorder.outcomes() == [("agent-AJ_visible", "removed")]
            assert room.calls["delete_dispatch"] == 0

    @virtual
    async def test_one_with_an_identity_that_its_worker_gives_to_every_job(self) -> None:
        """Of which dispatch it is, nobody can tell: the jobs of those who had the identity before are listed too."""
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
        """What is listed is the job of the one before."""
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


class TestOfWhichDispatchAnAgentIs:
    """Told by the jobs with its identity, which a worker can give to one after the other."""

    EARLIER, LATER = replace(agent("desk", "support"), sid="PA_1"), replace(agent("desk", "support", 20), sid="PA_2")
    JOB, OTHER = job("desk", "support", "AD_1"), job("desk", "support", "AD_2")

    def test_is_not_known_if_it_may_be_of_several(self) -> None:
        """Each of them may have to stay for its sake."""
        desk = who("desk", Joined(10, self.EARLIER), Dispatched(20, 20, (self.JOB, self.OTHER)))

        assert desk.dispatch == ""
        assert desk.dispatches == {"AD_1", "AD_2"}

    def test_is_not_known_while_only_the_job_of_the_one_before_may_be_listed(self) -> None:
        """It is listed for ever, and its own job up to 5 s late."""
        tracker = tracked(Joined(10, self.EARLIER), Dispatched(11, 11, (self.JOB,)), Joined(20, self.LATER))
        for asked_at, dispatch in ((25.9, ""), (26, "AD_1")):
            tracker.apply(Dispatched(26, asked_at, (self.JOB,)))

            assert [p.dispatch for p in tracker.room().participants if p.sid == "PA_2"] == [dispatch]
            assert ("PA_2" in tracker.unsettled) is (dispatch == "")

    def test_is_known_at_once_of_the_first_with_its_identity(self) -> None:
        """Workers that give each job an identity of its own needn't wait."""
        tracker = tracked(Joined(10, self.EARLIER), Dispatched(11, 11, (self.JOB,)))

        assert [p.dispatch for p in tracker.room().participants if p.sid == "PA_1"] == ["AD_1"]
        assert not tracker.unsettled


class TestWhatIsStillDueRightBeforeARemoval:
    """The room and the configuration are looked at once more for each eviction, while others are under way."""

    @virtual
    async def test_not_the_last_of_a_group_whose_other_leaves_by_another_rule(self) -> None:
        """Of a pair the younger is a duplicate, the older idle: once that one is leaving, the younger is alone."""
        async with FakeRoom(house(idle_timeout={"timeout": 2})) as room:
            room.join("A", "assistant", attributes={"lk.agent.state": "listening"})
            room.join("B", "assistant", attributes={"lk.agent.state": "thinking"})
            await asyncio.sleep(30)

            assert room.identities == {"B"}
            assert room.recorder.outcomes() == [("B", "void"), ("A", "removed")]

    @virtual
    async def test_nor_if_that_other_was_to_leave_by_the_same_rule_first(self) -> None:
        """Both are duplicates of a third that goes by itself; one of the two has become idle meanwhile, too."""
        async with FakeRoom(house(idle_timeout={"timeout": 2.02})) as room:
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
        """Though its principal, whose removal has not gone out yet, has to leave."""
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
    """Have these happen, one by one, before the lists for evictions under way are answered, in the order of asking.

    The first list of the room shows who is there; the next that is urgent is that of the decision itself.
    """
    prompt, asked = room.list_participants, iter((lambda: asyncio.sleep(0), *happens))

    async def list_participants(*, urgent: bool = False) -> tuple[Info, ...]:
        if urgent and room.calls["list_participants"] and (happen := next(asked, None)):
            await happen()
        return await prompt(urgent=urgent)

    with patch.object(room, "list_participants", list_participants):
        yield


@virtual
async def test_who_may_not_return_is_tried_again_when_its_removal_failed() -> None:
    """The attempt is no eviction before which it came: the one that it returned from still counts."""
    async with FakeRoom(house(no_return={})) as room:
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
    """A crashed agent stays listed for 20 s beside its replacement, and what it last said comes late."""

    OLD, NEW = agent("agent-AJ_1", "assistant"), agent("agent-AJ_2", "assistant", 20)

    def wait(self, old: Info, *events: Event) -> float:
        """Seconds that the replacement, which joined at 20 and is not listed yet, is given after these."""
        room = tracked(
            Joined(10, old), Dispatched(11, 11, (job(old.identity, "assistant"),)), Joined(20, self.NEW), *events
        ).room()
        return due(Duplicates(grace=2).evaluate(room))["agent-AJ_2"] - 20

    @pytest.mark.parametrize(
        "events",
        [
            pytest.param([state(22.9, "idle", "PA_agent-AJ_1")], id="a change that may be 3 s old"),
            pytest.param(
                [Disconnected(21), Connected(22, ME, (OLD, NEW)), Signal(24.9, OLD.sid)], id="news after a reconnect"
            ),
            pytest.param([Stalled(22), Signal(24.9, OLD.sid)], id="news after a freeze"),
            pytest.param([Signal(22, OLD.sid), Stalled(22)], id="news after a freeze, before that is noticed"),
        ],
    )
    def test_late_news_makes_nobody_alive(self, events: list[Event]) -> None:
        """It may have been said before the agent died, so its replacement has the time to be listed."""
        assert self.wait(self.OLD, *events) == 6

    @pytest.mark.parametrize(
        "event",
        [
            pytest.param(Heard(21, "PA_agent-AJ_1", speaking=False), id="it is heard to be silent"),
            pytest.param(Left(21, "PA_agent-AJ_1"), id="it leaves, and is back by the same connection"),
        ],
    )
    def test_to_have_been_found_speaking_makes_nobody_alive(self, event: Event) -> None:
        """That it said so is old, and nothing that it did itself ends it."""
        old = agent("agent-AJ_1", "assistant", state="speaking")

        assert self.wait(old, event, Joined(22, old)) == 6

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
    def test_what_it_did_since_does(self, old: Info, events: list[Event]) -> None:
        """Then there is nothing to wait for but the grace."""
        assert self.wait(old, *events) == 2


class TestAJobThatWasReplaced:
    """Of the jobs of one dispatch the newest is the rightful one, also once it has left."""

    @virtual
    async def test_counts_for_nothing_until_its_removal_is_tried_again(self) -> None:
        """The newer job was one too many beside the agent of another dispatch, which stays."""
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
        """Who was replaced after these, by identity."""
        return [p.identity for p in tracked(Joined(10, self.OLD), *events).room().participants if p.replaced]

    def test_stays_replaced(self) -> None:
        """Also by its own token, as which it comes back later than the newer one."""
        back = replace(self.OLD, sid="PA_back", joined_at=30, joined_ms=30_000)

        assert self.replaced(Joined(20, self.NEW), self.TWO) == ["agent-AJ_1"]
        assert self.replaced(Joined(20, self.NEW), self.TWO, Left(27, self.NEW.sid)) == ["agent-AJ_1"]
        assert self.replaced(Joined(20, self.NEW), self.TWO, Joined(30, back)) == ["agent-AJ_1"]

    def test_was_replaced_by_one_that_was_here(self) -> None:
        """Not by one that never was ACTIVE beside it, nor by one of another dispatch, or for another publisher."""
        old, new = job(self.OLD.identity, "assistant"), job(self.NEW.identity, "assistant")

        assert self.replaced(Joined(20, replace(self.NEW, active=False)), self.TWO) == []
        assert self.replaced(Left(19, self.OLD.sid), Joined(20, self.NEW), self.TWO) == []
        for other in (replace(new, dispatch="AD_2"), replace(new, publisher="ana")):
            assert self.replaced(Joined(20, self.NEW), Dispatched(26, 26, (old, other))) == []


def test_nobody_owes_an_answer_to_what_was_said_before_they_joined() -> None:
    """What is heard is told late, and dated back to when it ended."""
    events: list[Event] = [
        Joined(5, info("ana")),
        Heard(20, "PA_ana", speaking=True),
        Joined(26, agent("A", "assistant", 26)),
    ]

    assert who("A", *events, Heard(25.9, "PA_ana", speaking=False)).unanswered_since is None
    assert who("A", *events, Heard(26.1, "PA_ana", speaking=False)).unanswered_since == 26.1


@pytest.mark.parametrize(("ended", "chatting_since"), [(19.9, None), (20, None), (20.1, 20)])
def test_no_chatter_is_who_fell_silent_before_the_human_did(ended: float, chatting_since: float | None) -> None:
    """Also if that is told after the human's end: each is heard in its own time, and dated back."""
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
    """It would follow its principal, and nothing but having said so ends that."""
    async with FakeRoom() as room:
        room.join("A", "assistant")
        room.join("B", "assistant")
        await asyncio.sleep(5)
        room.configure(house("dry_run"))
        room.join("V", kind=Kind.AGENT, attributes={"lk.publish_on_behalf": "B"})
        await asyncio.sleep(60)

        assert room.recorder.outcomes() == [("B", "removed"), ("V", "would")]


@pytest.mark.parametrize("policy", [Duplicates(max=2), MaxAgents(max=2)], ids=lambda policy: policy.name)
def test_grace_counts_from_when_there_were_too_many(policy: Policy) -> None:
    """A job was restarted twice: with the third, and not before, its first is one too many."""
    jobs_of_one = [resident(f"agent-AJ_{at}", "x", joined=at, replaced=at < 20) for at in (1, 10, 20)]

    assert due(policy.evaluate(house_of(*jobs_of_one))) == {"agent-AJ_1": 22}


@pytest.mark.parametrize("trouble", [Trouble.DENIED, Trouble.UNAVAILABLE])
@virtual
async def test_who_was_never_evicted_may_return(trouble: Trouble) -> None:
    """A removal that the server denied, or that failed, is none: it left by itself, and comes back alone."""
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
