"""Who is here: lists and events in, connections out."""

import tracemalloc
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bouncer import Kind, Role
from bouncer.events import (
    Attributes,
    Channel,
    Connected,
    Described,
    Disconnected,
    Dispatched,
    Event,
    Heard,
    Info,
    Joined,
    Left,
    Listed,
    RemovalSent,
    Signal,
    Stalled,
    Transcribed,
)
from bouncer.testing import due
from bouncer.tracker import MAX_DEPARTED, Tracker
from policies.duplicates import Duplicates
from tests.told import (
    ME,
    A,
    agent,
    avatar,
    calls,
    dispatched,
    here,
    house,
    info,
    job,
    listed,
    reconnected,
    state,
    tracked,
    who,
)


@pytest.fixture
def few_remembered(monkeypatch: pytest.MonkeyPatch) -> int:
    """Have trackers remember this many participants that have left, instead of MAX_DEPARTED."""
    monkeypatch.setattr("bouncer.tracker.MAX_DEPARTED", 50)
    return 50


class TestComing:
    """A participant that anything shows is there."""

    @pytest.mark.parametrize(
        "event", [Joined(5, info("ana")), listed(5, info("ana")), Connected(5, ME, (info("ana"),))]
    )
    def test_by_an_event_a_list_or_at_connecting(self, event: Event) -> None:
        """All three show the same person, with the server's date."""
        found = who("ana", event)

        assert (found.sid, found.role, found.joined_at, found.joined_ms) == ("PA_ana", Role.HUMAN, 1, 1000)

    def test_we_are_there_too_and_are_a_bouncer(self) -> None:
        """Our identity says which one is us: our sid changes without notice."""
        room = house(listed(5, replace(ME, sid="PA_me2", joined_ms=5000)))

        assert [(p.sid, p.role) for p in room.participants] == [("PA_me2", Role.BOUNCER)]
        assert (room.me, room.agents) == (ME.identity, ())

    def test_once_is_enough(self) -> None:
        """A repeated event changes nothing."""
        once = house(Joined(5, A), Signal(6, "PA_A"), Left(9, "PA_x"))

        assert once == house(Joined(5, A), Joined(5, A), Signal(6, "PA_A"), Signal(6, "PA_A"), Left(9, "PA_x"))

    def test_oldest_first(self) -> None:
        """By the server's milliseconds, then by sid, whatever showed them."""
        events = [Joined(9, info(i, j)) for i, j in [("C", 2), ("B", 2), ("D", 1)]]

        assert [p.identity for p in house(*events).participants] == [ME.identity, "D", "B", "C"]

    def test_becoming_active(self) -> None:
        """A participant that is still JOINING is there, but not judged."""
        joining = Joined(5, replace(A, active=False))

        assert house(joining).agents == ()
        assert [p.identity for p in house(joining, Joined(6, A)).agents] == ["A"]

    def test_an_event_without_a_date_is_dated_by_the_next_list(self) -> None:
        """Events of a participant that is still connecting have none."""
        undated = replace(info("ana"), joined_at=5, joined_ms=0)
        found = who("ana", Joined(5, undated), listed(6, info("ana")))

        assert (found.joined_at, found.joined_ms) == (1, 1000)

    def test_the_first_date_of_joining_stays(self) -> None:
        """The server doesn't change it, and the clocks are matched only once."""
        assert who("A", Joined(5, A), Joined(7, replace(A, joined_at=7, joined_ms=7000))).joined_at == 1


class TestGoing:
    """A participant is gone once an event says so, or once two lists in a row lack it."""

    @pytest.mark.parametrize(
        "events",
        [
            pytest.param([Left(6, "PA_ana")], id="an event"),
            pytest.param([listed(6), listed(8)], id="two lists in a row"),
            pytest.param([listed(6), listed(8, info("bob")), Left(9, "PA_bob")], id="two lists with others in them"),
        ],
    )
    def test_gone(self, events: list[Event]) -> None:
        """And never before that."""
        assert here(Joined(5, info("ana")), *events) == set()
        assert "ana" in here(Joined(5, info("ana")), *events[:-2])

    @pytest.mark.parametrize(
        "events",
        [
            pytest.param([listed(6)], id="one list lacks it: a cluster drops a participant for a moment"),
            pytest.param([listed(6), listed(8, info("ana")), listed(10)], id="two lists, not in a row"),
            pytest.param([listed(4), listed(4.5), listed(4.9)], id="lists asked for before it came"),
            pytest.param([Left(6, "PA_bob")], id="someone else left"),
            pytest.param([Left(6, "ana")], id="an identity is no sid"),
            pytest.param([Disconnected(6)], id="we lost our connection"),
        ],
    )
    def test_nothing_happens(self, events: list[Event]) -> None:
        """It is still there."""
        assert here(Joined(5, info("ana")), *events) == {"ana"}

    def test_a_list_asked_for_before_a_leaving_does_not_bring_it_back(self) -> None:
        """It was overtaken by the event."""
        assert here(Joined(5, info("ana")), Left(6, "PA_ana"), listed(5.8, info("ana"))) == set()

    def test_a_list_asked_for_afterwards_does(self) -> None:
        """Lists are the truth."""
        assert here(Joined(5, info("ana")), Left(6, "PA_ana"), listed(6.1, info("ana"))) == {"ana"}

    def test_one_that_joined_after_the_list_was_asked_for_is_not_missing(self) -> None:
        """Not even in several of them that were under way."""
        slow = [listed(4, took=3), listed(4.5, took=3), listed(4.9, took=3)]

        assert here(Joined(5, info("ana")), *slow) == {"ana"}

    def test_has(self) -> None:
        """By sid, since an identity may be taken by another."""
        tracker = tracked(Joined(5, info("ana")))
        assert tracker.has("PA_ana")
        tracker.apply(Left(6, "PA_ana"))
        assert not tracker.has("PA_ana")


class TestSameIdentity:
    """LiveKit drops the older of two connections with one identity."""

    OLD, NEW = agent("A", "assistant", 1, sid="PA_1", state="thinking"), agent("A", "assistant", 9, sid="PA_2")

    @pytest.mark.parametrize(
        "events",
        [
            pytest.param([Left(10, "PA_1"), Joined(10, NEW)], id="leave and join"),
            pytest.param([Joined(10, NEW)], id="the leave got lost"),
            pytest.param([Joined(10, NEW), Left(10, "PA_1")], id="the leave comes late"),
            pytest.param([listed(10, NEW)], id="a list"),
            pytest.param([listed(10, OLD, NEW)], id="a list with both of them"),
            pytest.param([listed(10, NEW, OLD)], id="a list with both of them, the new one first"),
            pytest.param([Joined(10, NEW), listed(9.5, OLD)], id="an older list shows the old one"),
            pytest.param([Joined(10, NEW), Connected(11, ME, (OLD,))], id="our SDK still shows the old one"),
            pytest.param([Joined(10, NEW), Joined(10, OLD)], id="a late event of the old one"),
        ],
    )
    def test_the_new_one_takes_its_place(self, events: list[Event]) -> None:
        """The stay goes on, and what the old one said of itself doesn't."""
        room = house(Joined(5, self.OLD), *events)
        (found,) = room.agents

        assert (found.sid, found.joined_at, found.joined_ms, found.state) == ("PA_2", 1, 9000, "")
        assert not tracked(Joined(5, self.OLD), *events).has("PA_1")

    def test_what_is_told_of_the_identity_is_told_of_the_new_one(self) -> None:
        """Transcriptions name an identity."""
        assert who("A", Joined(5, self.OLD), Joined(10, self.NEW), Transcribed(20, "A")).active_at == 20

    def test_events_of_the_old_sid_count_for_no_one(self) -> None:
        """Its last signs of life are not the new one's."""
        late: list[Event] = [Signal(20, "PA_1"), Attributes(20, "PA_1", {"lk.agent.state": "speaking"})]

        assert who("A", Joined(5, self.OLD), Joined(10, self.NEW), *late).active_at == 10


class TestStays:
    """A stay survives a reconnect: the same identity, back within 20 s and not evicted meanwhile."""

    OLD = agent("A", "x", 1, attributes={"desk": "1"})

    @staticmethod
    def back(at: float = 15, name: str = "x", **facts: Any) -> Joined:
        """A has joined again, with another sid."""
        return Joined(at, agent("A", name, at, sid=f"PA_{at}", **facts))

    def test_it_keeps_its_date_and_its_seniority(self) -> None:
        """The oldest agent stays the oldest."""
        room = house(Joined(1, self.OLD), Joined(10, agent("B", "x", 10)), Left(14, "PA_A"), self.back())

        assert [(p.sid, p.joined_at) for p in room.agents] == [("PA_15", 1), ("PA_B", 10)]

    def test_however_often(self) -> None:
        """An agent that reconnects all the time is as long here, and as long idle, as one that stayed."""
        events: list[Event] = [Joined(1, self.OLD)]
        for at in range(10, 100, 10):
            events += [
                Left(at, f"PA_{at - 10}" if at > 10 else "PA_A"),
                self.back(at + 1),
                Left(at + 9, f"PA_{at + 1}"),
            ]
        found = who("A", *events[:-1])

        assert (found.joined_at, found.active_at) == (1, 1)

    def test_an_agent_does_not_continue_the_stay_of_a_person(self) -> None:
        """It may take over the identity, but has its own time."""
        found = who("A", Joined(1, info("A")), Left(14, "PA_A"), Joined(15, agent("A", joined=15, sid="PA_2")))

        assert (found.joined_at, found.active_at) == (15, 15)

    @pytest.mark.parametrize(
        ("events", "joined_at"),
        [
            pytest.param([Left(14, "PA_A"), back(34)], 1, id="20 s later"),
            pytest.param([Left(14, "PA_A"), back(34.1)], 34.1, id="more than 20 s later"),
            pytest.param([Left(14, "PA_A"), RemovalSent(13.9, "A"), back()], 15, id="it was evicted"),
            pytest.param([Left(14, "PA_A"), back(), RemovalSent(13.9, "A")], 15, id="it was, which is told afterwards"),
            pytest.param([back(), RemovalSent(16, "A")], 1, id="the one that is back is evicted"),
            pytest.param([RemovalSent(0.5, "A"), Left(14, "PA_A"), back()], 1, id="an earlier stay was ended"),
            pytest.param([Left(14, "PA_A"), back(name="y")], 15, id="it has another name"),
            pytest.param([Left(14, "PA_A"), Joined(15, agent("C", "x", 15))], None, id="another has come"),
        ],
    )
    def test_how_long(self, events: list[Event], joined_at: float | None) -> None:
        """Otherwise it begins again."""
        agents = house(Joined(1, self.OLD), *events).agents

        assert [p.joined_at for p in agents if p.identity == "A"] == ([] if joined_at is None else [joined_at])

    def test_it_may_be_shown_without_a_date_at_first(self) -> None:
        """The date that follows is the connection's, not the stay's."""
        back = self.back().info
        shown: list[Event] = [Joined(15, replace(back, joined_ms=0)), Joined(16, back)]
        (found,) = house(Joined(1, self.OLD), Left(14, "PA_A"), *shown).agents

        assert (found.joined_at, found.joined_ms, found.age) == (1, 15000, (1000, 1000, "PA_A"))

    def test_another_job_is_another_stay(self) -> None:
        """A worker may give all its jobs one identity."""
        first, second = job("A", "x", "AD_1"), replace(job("A", "x", "AD_2"), job="AJ_2")
        before: list[Event] = [Joined(1, self.OLD), dispatched(8, first), Left(14, "PA_A"), self.back()]

        assert who("A", *before, dispatched(25, first)).joined_at == 1
        assert who("A", *before, dispatched(25, first, second)).joined_at == 15

    def test_a_job_that_may_be_a_new_one_is_given_the_time_to_be_listed(self) -> None:
        """Only if its worker chose the identity, and once a minute: it may reconnect again and again."""
        events: list[Event] = [Joined(1, self.OLD), dispatched(8, job("A", "x", "AD_1"))]
        last, known = "PA_A", []
        for at in (15, 20, 84):
            events += [Left(at - 1, last), self.back(at)]
            last = f"PA_{at}"
            known.append(who("A", *events).stay_known_at)
        new = dispatched(90, job("A", "x", "AD_1"), replace(job("A", "x", "AD_2"), job="AJ_2"))

        assert known == [22.5, 22.5, 91.5]
        assert who("A", *events, new).stay_known_at == 0
        assert who("A", Joined(1, self.OLD), Left(14, "PA_A"), self.back()).stay_known_at == 0

    def test_an_attribute_that_is_another_by_now_has_its_own_date(self) -> None:
        """A grace that counts from an attribute isn't cut short."""
        same, other = self.back(attributes={"desk": "1"}), self.back(attributes={"desk": "2"})

        assert who("A", Joined(1, self.OLD), same).attribute_at("desk") == 1
        assert who("A", Joined(1, self.OLD), other).attribute_at("desk") == 15

    @pytest.mark.parametrize("key", ["name", "metadata"])
    def test_so_has_a_name_and_so_have_metadata(self, key: str) -> None:
        """A selector's grace counts from them."""
        before, same, other = ({key: value} for value in ("1", "1", "2"))
        old: dict[str, Any] = {"attributes": self.OLD.attributes, **before}
        joined = Joined(1, info("A", kind=Kind.AGENT, **old))

        def again(facts: dict[str, str]) -> float:
            back = Joined(15, info("A", 15, sid="PA_15", **{"kind": Kind.AGENT, **old, **facts}))
            return float(getattr(who("A", joined, back), f"{key}_at"))

        assert (again(same), again(other)) == (1, 15)

    @pytest.mark.parametrize(("principal", "orphaned_at"), [("A", 12), ("B", None)])
    def test_an_avatar_is_an_orphan_as_long_as_its_principal_is_the_same(
        self, principal: str, orphaned_at: float | None
    ) -> None:
        """One that is another agent's by now is that one's."""
        house: list[Event] = [Joined(1, self.OLD), Joined(1, agent("B", "y")), Joined(2, avatar("V", "A", 2))]
        back = Joined(15, avatar("V", principal, 15, sid="PA_15"))
        found = who("V", *house, Left(12, "PA_A"), Left(14, "PA_V"), back)

        assert (found.on_behalf_of, found.principal_left_at) == (principal, orphaned_at)

    def test_joining_again_is_a_sign_of_life(self) -> None:
        """A corpse doesn't."""
        assert who("A", Joined(1, self.OLD), self.back()).alive_at == 15


class TestClocks:
    """The server's clock may be stepped, be another node's, or run on while our machine sleeps."""

    @pytest.mark.parametrize(
        ("dated", "joined_at"),
        [
            pytest.param(-300, 24, id="dated back: it wasn't in the last list"),
            pytest.param(21, 21, id="between the list and our first sight"),
            pytest.param(3600, 24, id="dated ahead: we have seen it"),
        ],
    )
    def test_a_date_fits_what_we_saw(self, dated: float, joined_at: float) -> None:
        """No agent is due at once because of a clock, and none gets an hour of grace."""
        assert who("A", listed(10), listed(20), Joined(24, agent("A", joined=dated))).joined_at == joined_at

    def test_before_the_first_list_the_servers_date_counts(self) -> None:
        """Those that were here before us joined when the server says."""
        assert house(Connected(20, ME, (agent("A", joined=-300),))).agents[0].joined_at == -300
        assert who("A", listed(20, agent("A", joined=-300))).joined_at == -300

    @pytest.mark.parametrize("dated", [(10, 9), (3600, 30), (3600, 3600)])
    def test_the_order_that_we_saw_counts(self, dated: tuple[float, float]) -> None:
        """A younger agent, dated back, doesn't push out the one that was here before it."""
        old, young = agent("B", joined=dated[0]), agent("A", joined=dated[1])
        room = house(Joined(10, old), listed(20, old), Joined(30, young), listed(40, old, young))

        assert [p.identity for p in room.agents] == ["B", "A"]

    @pytest.mark.parametrize("stepped", [0, -9])
    def test_of_two_that_came_between_two_lists_the_servers_date_decides(self, stepped: float) -> None:
        """Events may be late by 3 s and in any order. The clock may have been put back before both of them."""
        newer, older = agent("A", joined=22 + stepped), agent("B", joined=21 + stepped)
        room = house(listed(20, agent("O", joined=15)), Joined(24, newer), Joined(25, older))

        assert [p.identity for p in room.agents] == ["O", "B", "A"]


class TestArriving:
    """What reaches us in our first seconds may be late, but was sent after we had joined: here at 50, told at 51."""

    ME, B = agent("agent-AJ_me", joined=50), agent("B", "assistant", 49.5)
    COME = Connected(51, ME, (A, B))

    @pytest.mark.parametrize(
        ("events", "corpse"),
        [
            ([], True),
            ([Signal(51.1, "PA_A", channel=Channel.DATA)], False),
            ([Signal(51.1, "PA_A", channel=Channel.TEXT)], False),
            ([Signal(51.1, "PA_A", active=False, channel=Channel.BYTES)], False),
            ([Transcribed(51.1, "A", "A")], False),
            ([Stalled(60), Signal(61, "PA_A", channel=Channel.DATA)], False),
            ([Disconnected(60), COME, Signal(61, "PA_A", channel=Channel.DATA)], False),
            ([Signal(51.1, "PA_A", audio=True, channel=Channel.TRACK), state(51.2, "thinking")], False),
            ([state(51.2, "thinking")], True),
            ([Signal(51.1, "PA_A", channel=Channel.TRACK)], True),
            ([Signal(51.1, "PA_A", active=False)], True),
            ([listed(51, A, B)], True),
            ([Signal(51.1, "PA_B", channel=Channel.DATA)], True),
        ],
        ids=[
            "nothing",
            "data",
            "text",
            "what its session mirrors",
            "a transcription",
            "after a freeze",
            "after a gap",
            "another state",
            "another state of one without a track, announced up to 3 s late",
            "a track, which may have been there before",
            "one muted",
            "being listed",
            "another's sign",
        ],
    )
    def test_who_was_here_before_us_replaces_none_that_lives(self, events: list[Event], *, corpse: bool) -> None:
        """What an older agent has sent since then shows that it outlived the younger one's joining."""
        room = house(self.COME, *events, dispatched(61))

        assert due(Duplicates().evaluate(room)) == {"B": 49.5 + (25 if corpse else 2)}

    @pytest.mark.parametrize("dated", [50.1, 49.6], ids=["as we are", "by a clock that we know better by now"])
    def test_who_joined_after_us_may_replace_one_that_lived_until_then(self, dated: float) -> None:
        """What we heard first may have been sent before that, so it proves nothing."""
        late = replace(agent("C", "assistant", 50.1), joined_at=dated)
        heard = Signal(51.1, "PA_A", channel=Channel.DATA)
        room = house(Connected(51, self.ME, (A,)), heard, Joined(51.2, late), dispatched(61))

        assert due(Duplicates().evaluate(room)) == {"C": max(dated, 50) + 25}

    def test_an_agent_that_was_here_long_before_us_has_no_job_unlisted(self) -> None:
        """One list of the dispatches shows that, so the younger one gets no more than its grace."""
        assert [p.may_serve for p in house(self.COME, dispatched(51.1)).agents] == [False, True]


class TestReconnecting:
    """Unwatched time counts against no one."""

    def test_blind_until_connected(self) -> None:
        """While we are blind nothing may be decided."""
        assert Tracker().blind
        assert not tracked().blind
        assert tracked(Disconnected(5), Joined(6, A)).blind
        assert not tracked(Disconnected(5), Connected(6, ME)).blind

    def test_histories_survive(self) -> None:
        """A sid that is back is the same connection: name, dates and what it once showed are kept."""
        rewritten = agent("A", "other", state="listening")
        joined = Joined(1, agent("A", "assistant", state="listening"))
        after = who("A", joined, Transcribed(30, "A"), *reconnected(40, rewritten))

        assert (after.agent_name, after.joined_at, after.alive_at, after.unseen) == ("assistant", 1, 30, "")

    def test_what_is_known_by_watching_is_never_older_than_our_watching(self) -> None:
        """`joined_at` is the server's, and counts in full."""
        joined = Joined(1, agent("A", "assistant", state="listening"))
        room = house(joined, *reconnected(100, agent("A", "assistant", state="listening")))
        (found,) = room.agents

        assert (room.watching_since, found.active_at, found.state_at, found.joined_at) == (101, 101, 101, 1)

    def test_a_change_that_we_did_not_see_is_dated_when_we_learn_of_it(self) -> None:
        """No earlier date could be defended."""
        joined = Joined(1, agent("A", "assistant", state="listening"))
        after = who("A", joined, *reconnected(100, agent("A", "assistant", state="thinking")))

        assert (after.state, after.state_at, after.busy) == ("thinking", 101, True)

    def test_one_that_left_meanwhile_is_gone(self) -> None:
        """Its leaving was announced, like everyone's, but no return."""
        assert here(Joined(1, A), Joined(1, info("ana")), *reconnected(9, A, lost=[info("ana")])) == {"A"}

    def test_a_resumed_connection_replays_nothing(self) -> None:
        """There is only a gap, and watching begins again."""
        room = house(Joined(1, A), Disconnected(50), Connected(53, ME, (A,)))

        assert [(p.identity, p.active_at) for p in room.agents] == [("A", 53)]

    def test_one_that_only_lists_show_is_not_gone_after_our_reconnect(self) -> None:
        """A hidden participant fires no event, and our SDK doesn't know it."""
        hidden = agent("agent-AJ_x", "spy", hidden=True)

        assert here(listed(1, hidden), Connected(50, ME), listed(51, hidden), Connected(90, ME)) == {"agent-AJ_x"}

    def test_in_a_large_room(self, few_remembered: int) -> None:
        """As many histories survive as are remembered, and no one without a history is lost."""
        everyone = [agent(f"A{i}", "assistant", i) for i in range(few_remembered + 50)]
        room = house(
            *(Joined(1, each) for each in everyone),
            *(Signal(3, each.sid, channel=Channel.DATA) for each in everyone),
            *reconnected(5, *everyone),
        )

        assert len(room.agents) == len(everyone)
        assert sum(not p.unseen for p in room.agents) == few_remembered


class TestEvicted:
    """`evicted_at`: when removals were sent, by identity."""

    def test_the_latest_counts(self) -> None:
        """Each identity has its own."""
        room = house(RemovalSent(20, "A"), RemovalSent(30, "B"), RemovalSent(40, "A"))

        assert room.evicted_at == {"A": 40, "B": 30}

    def test_it_outlives_the_participant(self) -> None:
        """An agent that is back can be recognised."""
        assert house(Joined(5, A), RemovalSent(20, "A"), Left(21, "PA_A"), Joined(30, A)).evicted_at == {"A": 20}

    def test_a_room_that_was_shown_does_not_change(self) -> None:
        """It shows what was true then."""
        tracker = tracked(RemovalSent(20, "A"))
        before = tracker.room()
        tracker.apply(RemovalSent(30, "B"))

        assert before.evicted_at == {"A": 20}


class TestMemory:
    """A room can be open for weeks."""

    def test_it_does_not_grow(self, few_remembered: int) -> None:
        """What is remembered of the past is bounded, however many came and went."""
        tracker = tracked()
        for i in range(500):
            shown = agent(f"agent-AJ_{i}", "assistant", i, attributes={"lk.publish_on_behalf": f"agent-AJ_{i - 1}"})
            tracker.apply(Joined(i, shown))
            tracker.apply(Transcribed(i, shown.identity))
            tracker.apply(dispatched(i, job(shown.identity, "assistant")))
            tracker.apply(Left(i + 0.5, shown.sid))
            tracker.apply(Signal(i + 0.6, shown.sid))
            tracker.apply(RemovalSent(i + 0.7, shown.identity))

        assert [p.identity for p in tracker.room().participants] == [ME.identity]
        assert few_remembered < entries(tracker) < 4 * few_remembered

    def test_nor_by_those_who_are_replaced(self, few_remembered: int) -> None:
        """One identity keeps coming back with new connections."""
        tracker = tracked()
        for i in range(500):
            tracker.apply(Joined(i, agent("A", "assistant", i, sid=f"PA_{i}")))

        assert [p.sid for p in tracker.room().agents] == ["PA_499"]
        assert few_remembered < entries(tracker) < 4 * few_remembered

    def test_work_grows_with_the_room_and_not_with_its_square(self) -> None:
        """Twice as many participants in a list are twice the work."""

        def work(size: int) -> int:
            crowd = tuple(info(f"P{i}", i, audio=True) for i in range(size))
            tracker = tracked(listed(5, *crowd))

            def again() -> None:
                tracker.apply(listed(6, *crowd))
                tracker.room()

            return calls(again)

        assert work(400) < 3 * work(200)

    @pytest.mark.parametrize(
        "event",
        [
            Joined(10, agent("A", "assistant", 10)),
            Joined(10, info("new", 10)),
            Left(10, "PA_P7"),
            Signal(10, "PA_P7", channel=Channel.TEXT),
            Heard(10, "PA_P7", speaking=True),
        ],
        ids=lambda event: type(event).__name__,
    )
    def test_an_event_is_no_more_work_in_a_crowd(self, event: Event) -> None:
        """What is concluded goes by the few that aren't simply people."""

        def work(size: int) -> int:
            crowd = [info(f"P{i}", i / 1000, agent_grant=False) for i in range(size)]
            tracker = tracked(listed(5, agent("B", "billing"), *crowd))
            return calls(lambda: tracker.apply(event))

        assert work(800) < 2 * work(100)

    def test_who_is_as_before_is_no_work(self) -> None:
        """A list of those that are known costs little, and a quiet person isn't made again."""
        crowd = [info(f"P{i}", i, agent_grant=False) for i in range(100)]
        tracker = tracked()

        def again() -> tuple[int, int]:
            return calls(lambda: tracker.apply(listed(5, *crowd))), calls(tracker.room)

        (taken_in, made), (taken_in_again, made_again) = again(), again()
        assert taken_in_again < taken_in / 3
        assert made_again < made / 2


def entries(tracker: Tracker) -> int:
    """Return the number of entries of all its containers."""
    facts = [getattr(tracker, name) for name in Tracker.__slots__]
    return sum(len(fact) for fact in facts if isinstance(fact, dict | list | set | tuple))


identities = st.sampled_from(["A", "B", "ana", "V", "W", ME.identity])


attributes = st.fixed_dictionaries(
    {},
    optional={
        "lk.agent_name": st.sampled_from(["assistant", "bouncer"]),
        "lk.agent.state": st.sampled_from(["listening", "thinking", "speaking"]),
        "lk.publish_on_behalf": identities,
    },
)


@st.composite
def infos(draw: st.DrawFn, who: st.SearchStrategy[str] = identities) -> Info:
    """Draw anyone, with one of two connections."""
    identity, connection = draw(who), draw(st.integers(1, 2))
    return Info(
        sid=f"PA_{identity}_{connection}",
        identity=identity,
        kind=draw(st.sampled_from([Kind.AGENT, Kind.AGENT, *Kind])),
        simulated=draw(st.sampled_from([False, False, False, True])),
        active=draw(st.sampled_from([True, True, True, False])),
        joined_at=float(connection),
        joined_ms=connection * 1000,
        attributes=draw(attributes),
        name=draw(st.sampled_from(["", "Ana"])),
        metadata=draw(st.sampled_from(["", "{}"])),
        audio=draw(st.booleans()),
        agent_grant=draw(st.none() | st.booleans()),
        hidden=draw(st.none() | st.booleans()),
    )


sids = infos().map(lambda shown: shown.sid)


jobs = st.builds(
    job,
    identities,
    st.sampled_from(["", "assistant", "bouncer"]),
    st.sampled_from(["AD_1", "AD_2"]),
    st.sampled_from(["", "ana"]),
)


def events_at(at: float) -> st.SearchStrategy[Event]:
    """Draw anything that may happen at that instant."""
    instant = st.just(at)
    return st.one_of(
        st.builds(Joined, instant, infos()),
        st.builds(Joined, instant, infos()),
        st.builds(Left, instant, sids),
        st.builds(Attributes, instant, sids, attributes),
        st.builds(Described, instant, sids, st.sampled_from(["", "Ana"]), st.sampled_from(["", "{}"])),
        st.builds(Signal, instant, sids, st.booleans(), st.booleans()),
        st.builds(Transcribed, instant, identities),
        st.builds(Heard, st.sampled_from([at, at - 1]), sids, st.none() | st.booleans()),
        st.builds(RemovalSent, instant, identities),
        st.builds(
            Listed,
            instant,
            st.sampled_from([at, at - 1, at - 3]),
            st.lists(infos(), max_size=4).map(tuple),
        ),
        st.builds(Dispatched, instant, st.sampled_from([at, at - 1, at - 3]), st.lists(jobs, max_size=3).map(tuple)),
        st.builds(Disconnected, instant),
        st.builds(Connected, instant, st.just(ME), st.lists(infos(), max_size=4).map(tuple)),
    )


histories = st.lists(st.integers(1, 4), max_size=25).flatmap(
    lambda steps: st.tuples(*(events_at(10.0 + sum(steps[:i])) for i in range(len(steps))))
)
"""Any events in the order of their dates, whether they make sense together or not."""


class TestAnything:
    """What holds whatever happens."""

    @settings(max_examples=20)  # drawing a whole history takes a second
    @given(histories)
    def test_the_room_makes_sense(self, events: tuple[Event, ...]) -> None:
        """Nothing raises, no one is there twice, and no date known by watching is older than our watching."""
        tracker = tracked(*events)
        room = tracker.room()

        assert room == tracker.room()
        assert len({p.sid for p in room.participants}) == len(room.participants)
        assert len({p.identity for p in room.participants}) == len(room.participants)
        assert all(tracker.has(p.sid) for p in room.participants)
        attached = [p.on_behalf_of for p in room.avatars]
        assert len(set(attached)) == len(attached)
        for p in room.participants:
            assert min(p.active_at, p.state_at) >= room.watching_since
            assert p.principal_left_at is None or p.principal_left_at >= room.watching_since
            assert (p.role is Role.BOUNCER) or p.identity != room.me
            assert p.role is not Role.AVATAR or (p.on_behalf_of and p.principal_left_at is None)

    @settings(max_examples=20)  # drawing a whole history takes a second
    @given(histories)
    def test_what_is_kept_is_as_if_it_was_made_anew(self, events: tuple[Event, ...]) -> None:
        """Whoever looks at the room after each event sees what one sees who looks only once."""
        looked = tracked()
        for event in events:
            looked.apply(event)
            looked.room()

        assert looked.room() == house(*events)
        people = looked._people  # noqa: SLF001 - as they are sorted at each change
        kept = [dict(each) for each in (people.agents, people._claiming, people._humans)]  # noqa: SLF001
        people.configure(people.named)
        assert kept == [people.agents, people._claiming, people._humans]  # noqa: SLF001

    @given(histories, st.lists(infos(), max_size=5, unique_by=lambda shown: shown.identity))
    def test_the_lists_have_the_last_word(self, events: tuple[Event, ...], there: list[Info]) -> None:
        """Whatever was believed before, after a few lists the room holds exactly those they name."""
        asked_at = max([0.0, *(event.at for event in events)]) + 1
        room = house(*events, *(Listed(asked_at + i, asked_at + i, tuple(there)) for i in range(3)))

        assert {p.sid for p in room.participants} == {shown.sid for shown in there}

    @given(st.data())
    def test_order_among_events_of_one_date_makes_no_difference(self, data: st.DataObject) -> None:
        """As long as each participant's own events stay in order."""
        one = two = [Connected(5, ME)] if data.draw(st.booleans()) else list[Event]()
        for at in range(10, 10 + data.draw(st.integers(1, 4))):
            mine = {identity: data.draw(st.lists(events_of(identity, at), max_size=3)) for identity in "AVW"}
            one = [*one, *(event for each in mine.values() for event in each)]
            two = [*two, *interleaved(data, list(mine.values()))]

        assert house(*one) == house(*two)


def events_of(identity: str, at: float) -> st.SearchStrategy[Event]:
    """Draw anything that one participant may do at that instant, with one connection and a consistent appearance."""
    shown = {
        "A": agent("A", "assistant", 1),
        "V": avatar("V", "A", 2),
        "W": avatar("W", "V", 3),
    }[identity]
    return st.sampled_from(
        [
            Joined(at, shown),
            Left(at, shown.sid),
            Signal(at, shown.sid),
            Transcribed(at, identity),
            Attributes(at, shown.sid, {**shown.attributes, "lk.agent.state": "speaking"}),
            RemovalSent(at, identity),
        ]
    )


def interleaved(data: st.DataObject, sequences: list[list[Event]]) -> Iterable[Event]:
    """Yield the events of all sequences, mixed, each sequence in its order."""
    left = [list(sequence) for sequence in sequences if sequence]
    while left:
        index = data.draw(st.integers(0, len(left) - 1))
        yield left[index].pop(0)
        left = [sequence for sequence in left if sequence]


def test_what_is_remembered_of_those_who_left_is_small() -> None:
    """Attributes can have 64 KiB, a name too, and one token can come and go for ever."""
    tracker = Tracker()
    tracker.apply(Connected(0, ME, ()))
    tracemalloc.start()
    try:
        for number in range(1, MAX_DEPARTED):
            big = f"{number}" * 16_000
            joined = agent("A", big, number, sid=f"PA_{number}", state=big, attributes={"lk.publish_on_behalf": big})
            tracker.apply(Joined(number, joined))
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert size < 8_000_000
