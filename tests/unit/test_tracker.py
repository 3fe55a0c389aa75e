"""The memory of a room: events in, dated facts out."""

import sys
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bouncer import Kind, Participant, Role, Room
from bouncer.events import (
    Attributes,
    Connected,
    Disconnected,
    Dispatched,
    Event,
    Heard,
    Info,
    Job,
    Joined,
    Left,
    Listed,
    RemovalSent,
    Signal,
    Transcribed,
)
from bouncer.tracker import LONGEST_NAME, MAX_DEPARTED, Tracker


def info(identity: str, joined: float = 1, *, sid: str = "", **facts: Any) -> Info:
    """A person, as LiveKit shows one that joined then."""
    return Info(
        sid=sid or f"PA_{identity}", identity=identity, joined_at=joined, joined_ms=round(joined * 1000), **facts
    )


def agent(identity: str, name: str = "", joined: float = 1, *, state: str = "", **facts: Any) -> Info:
    """An agent with that name and state."""
    attributes = facts.pop("attributes", {})
    if name:
        attributes = {"lk.agent_name": name, **attributes}
    if state:
        attributes = {"lk.agent.state": state, **attributes}
    return info(identity, joined, attributes=attributes, **{"kind": Kind.AGENT, **facts})


def avatar(identity: str, principal: str, joined: float = 1, **facts: Any) -> Info:
    """An agent that says it is the avatar of another."""
    return agent(identity, "", joined, attributes={"lk.publish_on_behalf": principal}, **facts)


def job(identity: str, name: str, dispatch: str = "AD_1", publisher: str = "") -> Job:
    """A job of a dispatch, as `list_dispatch` shows it."""
    return Job(
        dispatch=dispatch, job=identity.removeprefix("agent-"), agent_name=name, identity=identity, publisher=publisher
    )


ME = agent("agent-AJ_me", joined=0)
A = agent("A", "assistant")


def tracked(*events: Event) -> Tracker:
    """The memory of a room in which these events came, after we connected at 0."""
    tracker = Tracker()
    for event in (Connected(0, ME), *events):
        tracker.apply(event)
    return tracker


def house(*events: Event) -> Room:
    """The room after these events."""
    return tracked(*events).room()


def here(*events: Event) -> set[str]:
    """The identities of all but ourselves after these events."""
    return {p.identity for p in house(*events).participants} - {ME.identity}


def who(identity: str, *events: Event) -> Participant:
    """One participant after these events."""
    (found,) = (p for p in house(*events).participants if p.identity == identity)
    return found


def state(at: float, value: str, sid: str = "PA_A") -> Attributes:
    """The event of a new `lk.agent.state`."""
    return Attributes(at, sid, {"lk.agent_name": "assistant", "lk.agent.state": value})


def listed(asked_at: float, *infos: Info, took: float = 0.5) -> Listed:
    """A list with us and these in it, asked for then and answered half a second later."""
    return Listed(asked_at + took, asked_at, (ME, *infos))


def dispatched(asked_at: float, *jobs: Job, took: float = 0.5) -> Dispatched:
    """A list of dispatches with these jobs, asked for then and answered half a second later."""
    return Dispatched(asked_at + took, asked_at, jobs)


class TestComing:
    """Who is seen is there, whatever shows it."""

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
        """Doubled events change nothing."""
        once = house(Joined(5, A), Signal(6, "PA_A"), Left(9, "PA_x"))

        assert once == house(Joined(5, A), Joined(5, A), Signal(6, "PA_A"), Signal(6, "PA_A"), Left(9, "PA_x"))

    def test_oldest_first(self) -> None:
        """By the server's milliseconds, then by sid, however they became known."""
        events = [Joined(9, info(i, j)) for i, j in [("C", 2), ("B", 2), ("D", 1)]]

        assert [p.identity for p in house(*events).participants] == [ME.identity, "D", "B", "C"]

    def test_becoming_active(self) -> None:
        """Somebody who is still JOINING is there, but not judged."""
        joining = Joined(5, replace(A, active=False))

        assert house(joining).agents == ()
        assert [p.identity for p in house(joining, Joined(6, A)).agents] == ["A"]

    def test_the_first_date_of_joining_stays(self) -> None:
        """The server doesn't change it, and the clocks are matched only once."""
        assert who("A", Joined(5, A), Joined(7, replace(A, joined_at=7, joined_ms=7000))).joined_at == 1


class TestGoing:
    """Gone is who an event says has left, or whom two lists in a row lack."""

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
            pytest.param([listed(6)], id="one list lacks it: a cluster drops somebody for a moment"),
            pytest.param([listed(6), listed(8, info("ana")), listed(10)], id="two lists, not in a row"),
            pytest.param([listed(4), listed(4.5), listed(4.9)], id="lists asked for before it came"),
            pytest.param([Left(6, "PA_bob")], id="somebody else left"),
            pytest.param([Left(6, "ana")], id="an identity is no sid"),
            pytest.param([Disconnected(6)], id="we lost our connection"),
        ],
    )
    def test_nothing_happens(self, events: list[Event]) -> None:
        """It is still there."""
        assert here(Joined(5, info("ana")), *events) == {"ana"}

    def test_a_list_asked_for_before_somebody_left_does_not_bring_them_back(self) -> None:
        """It was overtaken by the event."""
        assert here(Joined(5, info("ana")), Left(6, "PA_ana"), listed(5.8, info("ana"))) == set()

    def test_a_list_asked_for_afterwards_does(self) -> None:
        """Lists are the truth."""
        assert here(Joined(5, info("ana")), Left(6, "PA_ana"), listed(6.1, info("ana"))) == {"ana"}

    def test_who_came_after_the_list_was_asked_for_is_not_missing_in_it(self) -> None:
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
        """With a history of its own."""
        room = house(Joined(5, self.OLD), *events)
        (found,) = room.agents

        assert (found.sid, found.joined_at, found.state) == ("PA_2", 9, "")
        assert not tracked(Joined(5, self.OLD), *events).has("PA_1")

    def test_what_is_told_of_the_identity_is_told_of_the_new_one(self) -> None:
        """Transcriptions name an identity."""
        assert who("A", Joined(5, self.OLD), Joined(10, self.NEW), Transcribed(20, "A")).active_at == 20

    def test_what_is_told_of_the_old_sid_is_told_of_nobody(self) -> None:
        """Its last signs of life are not the new one's."""
        late: list[Event] = [Signal(20, "PA_1"), Attributes(20, "PA_1", {"lk.agent.state": "speaking"})]

        assert who("A", Joined(5, self.OLD), Joined(10, self.NEW), *late).active_at == 9


def reconnected(at: float, *infos: Info, lost: Sequence[Info] = ()) -> list[Event]:
    """What our own full reconnect looks like: everybody leaves, we are blind for a second, who is there joins."""
    return [
        *(Left(at, each.sid) for each in (*infos, *lost)),
        Disconnected(at),
        *(Joined(at + 1, each) for each in infos),
        Connected(at + 1, ME, infos),
    ]


class TestReconnecting:
    """Unwatched time is nobody's fault."""

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

        assert (after.agent_name, after.joined_at, after.alive_at, after.observable) == ("assistant", 1, 30, True)

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

    def test_who_left_meanwhile_is_gone(self) -> None:
        """Their leaving was announced, like everybody's, but not their coming."""
        assert here(Joined(1, A), Joined(1, info("ana")), *reconnected(9, A, lost=[info("ana")])) == {"A"}

    def test_a_resumed_connection_replays_nothing(self) -> None:
        """Then there is only a gap, and watching begins anew."""
        room = house(Joined(1, A), Disconnected(50), Connected(53, ME, (A,)))

        assert [(p.identity, p.active_at) for p in room.agents] == [("A", 53)]

    def test_who_only_lists_show_is_not_gone_by_connecting_again(self) -> None:
        """A hidden participant fires no event, and our SDK doesn't know it."""
        hidden = agent("agent-AJ_x", "spy", hidden=True)

        assert here(listed(1, hidden), Connected(50, ME), listed(51, hidden), Connected(90, ME)) == {"agent-AJ_x"}

    def test_in_a_large_room(self) -> None:
        """As many histories survive as are remembered, and nobody is lost who has none."""
        everybody = [agent(f"A{i}", "assistant", i) for i in range(MAX_DEPARTED + 50)]
        room = house(
            *(Joined(1, each) for each in everybody),
            *(Transcribed(3, each.identity) for each in everybody),
            *reconnected(5, *everybody),
        )

        assert len(room.agents) == len(everybody)
        assert sum(p.observable for p in room.agents) >= MAX_DEPARTED


class TestActivity:
    """`active_at`: what counts as doing something. `alive_at`: what counts as being there."""

    @pytest.mark.parametrize(
        ("events", "active_at"),
        [
            pytest.param([], 1, id="joining"),
            pytest.param([Transcribed(20, "A")], 20, id="a transcription"),
            pytest.param([Signal(20, "PA_A")], 20, id="data, text, a track published or unmuted"),
            pytest.param([state(20, "thinking")], 20, id="thinking"),
            pytest.param([state(20, "speaking")], 20, id="speaking"),
            pytest.param([state(20, "thinking"), state(30, "speaking")], 30, id="from one to the other"),
            pytest.param([state(20, "speaking"), state(50, "listening")], 50, id="it lasts until it ends"),
            pytest.param([state(20, "speaking"), state(50, "")], 50, id="also when it just vanishes"),
            pytest.param([listed(20, agent("A", "assistant", state="speaking"))], 20.5, id="speaking, as a list shows"),
            pytest.param([Signal(30, "PA_A"), Signal(40, "PA_A", active=False)], 30, id="the latest one that counts"),
        ],
    )
    def test_active(self, events: list[Event], active_at: float) -> None:
        """The latest of them counts."""
        assert who("A", Joined(5, A), *events).active_at == active_at

    @pytest.mark.parametrize(
        "events",
        [
            pytest.param([state(20, "listening")], id="listening"),
            pytest.param([state(20, "initializing"), state(25, "idle"), state(30, "listening")], id="getting ready"),
            pytest.param([state(20, "listening"), state(30, "idle")], id="from listening to idle"),
            pytest.param([Signal(20, "PA_A", active=False)], id="a track muted or unpublished"),
            pytest.param([Signal(20, "PA_A", active=False, audio=True)], id="an audio track that just is there"),
            pytest.param([Attributes(20, "PA_A", {"lk.agent_name": "assistant", "x": "y"})], id="another attribute"),
            pytest.param([Attributes(20, "PA_A", {"state": "speaking"})], id="an attribute of that name, but not it"),
            pytest.param([listed(20, A)], id="being listed"),
            pytest.param([Joined(20, A)], id="showing itself anew"),
            pytest.param([dispatched(20, job("A", "assistant"))], id="being dispatched"),
            pytest.param(
                [Transcribed(20, "B"), Signal(20, "PA_B"), state(20, "speaking", "PA_B")], id="another's doing"
            ),
            pytest.param([Signal(20, "A"), Transcribed(20, "PA_A")], id="a sid is no identity"),
        ],
    )
    def test_nothing_happens(self, events: list[Event]) -> None:
        """It did nothing since it joined."""
        assert who("A", Joined(5, A), *events).active_at == 1

    @pytest.mark.parametrize(
        ("event", "alive"),
        [
            (Signal(20, "PA_A", active=False), True),
            (Signal(20, "PA_A"), True),
            (Transcribed(20, "A"), True),
            (state(20, "listening"), True),
            (Attributes(20, "PA_A", {"x": "y"}), True),
            (listed(20, agent("A", "assistant", state="thinking")), True),
            (listed(20, A), False),
            (Joined(20, A), False),
            (dispatched(20, job("A", "assistant")), False),
        ],
    )
    def test_alive(self, event: Event, alive: bool) -> None:  # noqa: FBT001  # a column of the table
        """Any sign of its own; a crashed one stays listed for 20 s, so being listed is none."""
        assert (who("A", Joined(5, A), event).alive_at > 1) is alive

    def test_what_a_list_has_shown_already_is_no_sign_of_life(self) -> None:
        """It said so before it had a track, so it is announced late, maybe only after its crash."""
        thinking = agent("A", "assistant", state="thinking")
        events = (Joined(5, A), listed(20, thinking), Signal(21, "PA_A", active=True, audio=True))

        assert who("A", *events, Attributes(22.9, "PA_A", thinking.attributes)).alive_at == 21

    def test_a_state_it_was_found_in_is_no_sign_of_life(self) -> None:
        """A crashed agent is listed with its last state, also to a bouncer that just came."""
        found = who("A", Connected(50, ME, (agent("A", "assistant", state="thinking"),)))

        assert (found.busy, found.state_at, found.alive_at) == (True, 50, 1)

    def test_state_and_its_date(self) -> None:
        """Dated when it began, not when it was last told."""
        found = who("A", Joined(5, A), state(20, "listening"), state(30, "listening"), listed(40, A, took=0))
        assert (found.state, found.state_at) == ("", 40)

        found = who("A", Joined(5, A), state(20, "listening"), state(30, "listening"))
        assert (found.state, found.state_at) == ("listening", 20)

    @pytest.mark.parametrize(
        "early",
        [
            pytest.param(state(20, "thinking"), id="an event"),
            pytest.param(Joined(20, agent("A", "assistant", state="thinking")), id="its coming"),
            pytest.param(listed(20, agent("A", "assistant", state="thinking"), took=0), id="a list"),
        ],
    )
    def test_a_list_does_not_take_back_what_is_newer(self, early: Event) -> None:
        """It was asked for before, and shows the attributes of before."""
        found = who("A", early if isinstance(early, Joined) else Joined(5, A), early, listed(19, A, took=2))

        assert (found.state, found.state_at) == ("thinking", 20)

    def test_nor_that_it_became_active(self) -> None:
        """A list that was under way may still show it JOINING."""
        joining = replace(A, active=False)

        assert house(Joined(5, joining), Joined(20, A), listed(19, joining, took=2)).agents

    def test_a_list_tells_what_no_event_did(self) -> None:
        """Asked for after the last event, it is the truth."""
        found = who("A", Joined(5, A), state(20, "thinking"), listed(21, agent("A", "assistant", state="listening")))

        assert (found.state, found.state_at, found.active_at) == ("listening", 21.5, 21.5)

    @pytest.mark.parametrize(
        ("facts", "events", "observable"),
        [
            pytest.param({}, [], True, id="it has no audio, so it can't speak"),
            pytest.param({"audio": True}, [], False, id="audio only: it may speak unseen"),
            pytest.param({"audio": True, "state": "listening"}, [], True, id="a state beside audio"),
            pytest.param({"audio": True}, [state(9, "idle")], True, id="a state later on"),
            pytest.param({"audio": True}, [Transcribed(9, "A")], True, id="a transcription beside audio"),
            pytest.param({"audio": True}, [Heard(9, "PA_A", speaking=False)], True, id="audio that is listened to"),
            pytest.param({"audio": True}, [Heard(9, "PA_A", speaking=None)], False, id="audio that can't be heard"),
            pytest.param({"audio": True}, [Signal(9, "PA_A")], False, id="data beside audio"),
            pytest.param({}, [Signal(9, "PA_A", audio=True)], False, id="audio, published later"),
            pytest.param({}, [Signal(9, "PA_A"), Signal(10, "PA_A", audio=True)], False, id="data, then audio"),
            pytest.param({}, [listed(10, agent("A", "assistant", audio=True))], False, id="audio, as a list shows"),
        ],
    )
    def test_observable(self, facts: dict[str, Any], events: list[Event], observable: bool) -> None:  # noqa: FBT001
        """Whether its silence proves anything: only if we would see it at work."""
        assert who("A", Joined(5, agent("A", "assistant", **facts)), *events).observable is observable


class TestNames:
    """Who an agent says it is, and who says otherwise."""

    @pytest.mark.parametrize(
        ("attributes", "name"),
        [
            ({"lk.agent_name": "one"}, "one"),
            ({"lk.agent.name": "two"}, "two"),
            ({"lk.agent_name": "one", "lk.agent.name": "two"}, "one"),
            ({"lk.agent_name": "", "lk.agent.name": "two"}, "two"),
            ({"agent_name": "x", "name": "y"}, ""),
            ({}, ""),
        ],
    )
    def test_from_its_attributes(self, attributes: dict[str, str], name: str) -> None:
        """The one the server stamps, else the one the Python worker writes."""
        assert who("A", Joined(5, info("A", kind=Kind.AGENT, attributes=attributes))).agent_name == name

    @pytest.mark.parametrize(
        "event",
        [
            Attributes(9, "PA_A", {"lk.agent_name": "other"}),
            Attributes(9, "PA_A", {}),
            listed(9, agent("A", "other")),
            Joined(9, agent("A", "other")),
        ],
    )
    def test_rewriting_it_changes_nothing(self, event: Event) -> None:
        """The first one seen for a sid counts, while the other attributes are up to date."""
        found = who("A", Joined(5, A), event)

        assert found.agent_name == "assistant"
        assert found.attributes.get("lk.agent_name") != "assistant"

    @pytest.mark.parametrize("name", ["support", ""])
    def test_the_dispatch_has_the_last_word(self, name: str) -> None:
        """Also before the agent is seen, and also if it says there is no name."""
        asked = dispatched(6, job("A", name))

        assert who("A", Joined(5, A), asked).agent_name == name
        assert who("A", asked, Joined(7, A)).agent_name == name

    def test_once_said_it_holds(self) -> None:
        """A dispatch that is deleted is listed no more, and its agent may stay."""
        found = who("A", Joined(5, A), dispatched(6, job("A", "support", "AD_7")), dispatched(9))

        assert (found.agent_name, found.dispatch) == ("support", "AD_7")

    def test_another_job_is_another_agents(self) -> None:
        """Jobs are told apart by the identity they have."""
        found = who("A", Joined(5, A), dispatched(6, job("B", "support")))

        assert (found.agent_name, found.dispatch, found.publisher) == ("assistant", "", "")

    def test_the_publisher_it_serves(self) -> None:
        """For jobs of type JT_PUBLISHER."""
        assert who("A", Joined(5, A), dispatched(6, job("A", "assistant", publisher="ana"))).publisher == "ana"


class TestWhoIsWhat:
    """Kinds, grants, bouncers."""

    @pytest.mark.parametrize(
        ("shown", "role"),
        [
            (info("X", kind=Kind.STANDARD), Role.HUMAN),
            (info("X", kind=Kind.SIP), Role.HUMAN),
            (info("X", kind=Kind.CONNECTOR), Role.HUMAN),
            (info("X", kind=Kind.BRIDGE), Role.HUMAN),
            (info("X", kind=Kind.INGRESS), Role.OTHER),
            (info("X", kind=Kind.EGRESS), Role.OTHER),
            (info("X", kind=Kind.AGENT), Role.AGENT),
            (info("X", kind=Kind.AGENT, simulated=True), Role.OTHER),
            (info("X", kind=Kind.STANDARD, simulated=True), Role.OTHER),
            (info("X", kind=Kind.STANDARD, agent_grant=True), Role.AGENT),
            (info("X", kind=Kind.SIP, agent_grant=True), Role.AGENT),
            (info("X", kind=Kind.EGRESS, agent_grant=True), Role.OTHER),
            (info("X", kind=Kind.INGRESS, agent_grant=True), Role.OTHER),
            (info("X", kind=Kind.STANDARD, agent_grant=False), Role.HUMAN),
            (info("X", kind=Kind.AGENT, agent_grant=False), Role.AGENT),
            (info("X", attributes={"lk.agent_name": "x", "lk.agent.state": "speaking"}), Role.HUMAN),
            (info("agent-AJ_X"), Role.HUMAN),
        ],
    )
    def test_roles(self, shown: Info, role: Role) -> None:
        """What it may do and what it is says the server; its attributes and its identity say nothing."""
        assert who(shown.identity, listed(5, shown)).role is role

    def test_a_grant_that_a_list_showed_is_known_from_then_on(self) -> None:
        """Events don't show grants, and don't take them back."""
        bot = info("bot")

        assert who("bot", Joined(5, bot)).role is Role.HUMAN
        assert who("bot", Joined(5, bot), listed(6, replace(bot, agent_grant=True)), Joined(7, bot)).role is Role.AGENT

    def test_a_hidden_agent_of_somebody_else_is_an_agent(self) -> None:
        """Hiding protects nobody, once it is known that no dispatch of ours sent it."""
        spy = listed(5, agent("agent-AJ_x", "spy", hidden=True, agent_grant=True))
        found = who("agent-AJ_x", spy, dispatched(6, job("agent-AJ_x", "spy")))

        assert (found.role, found.hidden) == (Role.AGENT, True)

    @pytest.mark.parametrize(
        ("hidden", "name", "jobs", "role"),
        [
            pytest.param(True, "bouncer", ("bouncer",), Role.BOUNCER, id="hidden, our name, our dispatch"),
            pytest.param(True, "other", ("bouncer",), Role.BOUNCER, id="it may say what it likes"),
            pytest.param(True, "bouncer", (), Role.OTHER, id="not dispatched, or not listed yet"),
            pytest.param(None, "bouncer", (), Role.OTHER, id="nor is it known whether it is hidden"),
            pytest.param(True, "bouncer", ("spy",), Role.AGENT, id="forged: dispatched under another name"),
            pytest.param(False, "bouncer", (), Role.AGENT, id="forged: visible"),
            pytest.param(False, "bouncer", ("bouncer",), Role.AGENT, id="visible, whatever its dispatch"),
            pytest.param(True, "other", (), Role.OTHER, id="not listed yet, whatever it says"),
            pytest.param(None, "other", (), Role.AGENT, id="for all we know not hidden, and by another name"),
        ],
    )
    def test_other_bouncers(
        self,
        hidden: bool | None,  # noqa: FBT001  # a column of the table
        name: str,
        jobs: tuple[str, ...],
        role: Role,
    ) -> None:
        """A bouncer is hidden, and has our name by a dispatch."""
        other = agent("agent-AJ_2", name, hidden=hidden)
        found = who("agent-AJ_2", listed(5, other), dispatched(6, *(job("agent-AJ_2", each) for each in jobs)))

        assert found.role is role

    @pytest.mark.parametrize("kind", [Kind.AGENT, Kind.STANDARD])
    def test_a_bouncer_by_the_grant_too(self, kind: Kind) -> None:
        """What makes an agent makes a bouncer."""
        other = info("agent-AJ_2", kind=kind, agent_grant=True, hidden=True, attributes={"lk.agent_name": "bouncer"})

        assert who("agent-AJ_2", listed(5, other)).role is Role.OTHER
        assert who("agent-AJ_2", listed(5, other), dispatched(6, job("agent-AJ_2", "bouncer"))).role is Role.BOUNCER

    def test_without_a_job_identity_nothing_is_a_bouncer(self) -> None:
        """Whose dispatch can't become known is no bouncer whose dispatch is not known yet."""
        assert who("sneaky", listed(5, agent("sneaky", "bouncer", hidden=True))).role is Role.AGENT

    def test_our_name_is_the_one_that_we_are_dispatched_by(self) -> None:
        """It can be another."""
        tracker = Tracker("doorman")
        other = agent("agent-AJ_2", "doorman", hidden=True)
        for event in (Connected(0, ME), listed(5, other), dispatched(6, job("agent-AJ_2", "doorman"))):
            tracker.apply(event)

        assert [p.role for p in tracker.room().participants] == [Role.BOUNCER, Role.BOUNCER]


class TestUnsettled:
    """A job's dispatch is listed up to 5 s late: 6 s after an agent joined it can be known that it is no job."""

    MAYBE = agent("agent-AJ_2", "bouncer", 10, hidden=True)

    @pytest.mark.parametrize(
        ("events", "role"),
        [
            pytest.param([], Role.OTHER, id="nobody asked"),
            pytest.param([dispatched(15.9, took=9)], Role.OTHER, id="asked too early, whenever the answer came"),
            pytest.param([dispatched(16)], Role.AGENT, id="asked late enough"),
            pytest.param([dispatched(16), dispatched(12, took=9)], Role.AGENT, id="an older answer comes after it"),
            pytest.param([dispatched(16, job("agent-AJ_3", "bouncer"))], Role.AGENT, id="another is a job"),
            pytest.param([dispatched(16), dispatched(17, job("agent-AJ_2", "bouncer"))], Role.BOUNCER, id="it is one"),
        ],
    )
    def test_one_that_may_be_a_bouncer(self, events: list[Event], role: Role) -> None:
        """It is nothing to anybody until it is known what it is: with the first list asked for late enough."""
        assert who("agent-AJ_2", listed(11, self.MAYBE), *events).role is role

    def test_one_that_was_first_seen_late(self) -> None:
        """What was asked for before proves nothing to us; the next list does."""
        before: list[Event] = [dispatched(40), listed(50, self.MAYBE)]

        assert who("agent-AJ_2", *before).role is Role.OTHER
        assert who("agent-AJ_2", *before, dispatched(51)).role is Role.AGENT

    @pytest.mark.parametrize(
        "events",
        [
            pytest.param([Disconnected(20), Connected(21, ME), listed(22, MAYBE)], id="a short one"),
            pytest.param([Left(20, "PA_agent-AJ_2"), Connected(21, ME), listed(22, MAYBE)], id="a full one"),
        ],
    )
    def test_it_stays_known_over_a_reconnect(self, events: list[Event]) -> None:
        """It is the same connection of the same participant."""
        assert who("agent-AJ_2", listed(11, self.MAYBE), dispatched(16), *events).role is Role.AGENT

    def test_another_connection_is_another_participant(self) -> None:
        """It has six seconds of its own."""
        again = replace(self.MAYBE, sid="PA_again", joined_at=20, joined_ms=20_000)
        before: list[Event] = [listed(11, self.MAYBE), dispatched(16), listed(21, again)]

        assert who("agent-AJ_2", *before, dispatched(25.9)).role is Role.OTHER
        assert who("agent-AJ_2", *before, dispatched(26)).role is Role.AGENT

    def test_what_it_did_meanwhile_is_known(self) -> None:
        """Nobody gains by looking like a bouncer for a while."""
        shown = replace(self.MAYBE, hidden=None)
        speaks = Attributes(12, shown.sid, {"lk.agent.state": "speaking"})

        found = who("agent-AJ_2", Joined(11, shown), speaks, dispatched(16))

        assert (found.speaking_since, found.chatting_since, found.active_at) == (12, 12, 12)

    def test_who_is_unsettled(self) -> None:
        """All agents, also those that are JOINING or may be a bouncer; no job, nobody else."""
        joining = agent("agent-AJ_3", "support", 12, active=False)
        others = [info("ana", 10), agent("agent-AJ_4", "support", 10), avatar("V", "A"), info("E", kind=Kind.EGRESS)]
        tracker = tracked(listed(13, A, self.MAYBE, joining, *others), dispatched(14, job("agent-AJ_4", "support")))

        assert tracker.unsettled == {"PA_agent-AJ_2", "PA_agent-AJ_3"}
        tracker.apply(dispatched(17))
        assert tracker.unsettled == {"PA_agent-AJ_3"}
        tracker.apply(dispatched(18))
        assert tracker.unsettled == set()


class TestAvatars:
    """An avatar is the nameless agent that says it publishes on behalf of an agent."""

    def test_attached(self) -> None:
        """It belongs to its principal."""
        room = house(Joined(2, agent("A", "assistant")), Joined(3, avatar("V", "A", 3)))

        assert [(p.identity, p.on_behalf_of, p.principal_left_at) for p in room.avatars] == [("V", "A", None)]
        assert [p.identity for p in room.agents] == ["A"]

    def test_whichever_comes_first(self) -> None:
        """The principal may be announced later."""
        room = house(Joined(3, avatar("V", "A", 3)), Joined(4, agent("A", "assistant")))

        assert who("V", Joined(3, avatar("V", "A", 3)), Joined(4, agent("A", "assistant"))).role is Role.AVATAR
        assert [(p.identity, p.principal_left_at) for p in room.avatars] == [("V", None)]

    def test_of_an_agent_by_its_grant(self) -> None:
        """What makes an agent makes a principal."""
        bot = info("bot", agent_grant=True)

        assert who("V", listed(2, bot), Joined(3, avatar("V", "bot", 3))).role is Role.AVATAR

    def test_one_for_each_principal(self) -> None:
        """The attribute is its own claim, so whatever goes beyond the oldest is an ordinary agent."""
        events = [Joined(2, A), Joined(3, avatar("W", "A", 4)), Joined(4, avatar("V", "A", 3))]

        assert who("V", *events).role is Role.AVATAR
        assert (who("W", *events).role, who("W", *events).on_behalf_of) == (Role.AGENT, "")

    @pytest.mark.parametrize(
        "claimant",
        [
            pytest.param(agent("V", "x", attributes={"lk.publish_on_behalf": "A"}), id="with a name"),
            pytest.param(replace(avatar("V", "A"), kind=Kind.STANDARD, agent_grant=True), id="an agent by its grant"),
            pytest.param(avatar("V", ""), id="on behalf of nobody"),
            pytest.param(avatar("V", "V"), id="on behalf of itself"),
            pytest.param(avatar("V", "PA_A"), id="on behalf of a sid"),
            pytest.param(avatar("V", "nobody"), id="its principal was never there"),
            pytest.param(avatar("V", "ana"), id="on behalf of a person"),
            pytest.param(avatar("V", "W"), id="on behalf of an avatar"),
        ],
    )
    def test_no_avatar(self, claimant: Info) -> None:
        """It is judged like any agent."""
        events = [Joined(2, A), Joined(2, info("ana")), Joined(2, avatar("W", "A")), Joined(3, claimant)]

        assert who("V", *events).role is Role.AGENT

    def test_a_person_is_nobodys_avatar(self) -> None:
        """Whatever it says."""
        assert who("V", Joined(2, A), Joined(3, replace(avatar("V", "A"), kind=Kind.STANDARD))).role is Role.HUMAN

    def test_one_with_a_dispatch_is_none(self) -> None:
        """It was asked for by itself."""
        events: list[Event] = [Joined(2, A), Joined(3, avatar("V", "A")), dispatched(4, job("V", ""))]

        assert (who("V", *events).role, who("V", *events).on_behalf_of) == (Role.AGENT, "")

    @pytest.mark.parametrize(
        "event",
        [
            Attributes(9, "PA_V", {"lk.publish_on_behalf": "A"}),
            listed(9, A, avatar("V", "A")),
            Joined(9, avatar("V", "A")),
        ],
    )
    def test_one_cannot_become_one(self, event: Event) -> None:
        """The claim counts at first sight only."""
        assert who("V", Joined(2, A), Joined(3, agent("V")), event).role is Role.AGENT

    def test_nor_cease_to_be_one(self) -> None:
        """Or change sides."""
        found = who(
            "V", Joined(2, A), Joined(3, avatar("V", "A")), Attributes(9, "PA_V", {"lk.publish_on_behalf": "B"})
        )

        assert (found.role, found.on_behalf_of) == (Role.AVATAR, "A")

    @pytest.mark.parametrize(
        ("events", "left_at"),
        [
            pytest.param([Left(20, "PA_A")], 20, id="its principal left"),
            pytest.param([listed(18, avatar("V", "A")), listed(19.5, avatar("V", "A"))], 20, id="by two lists"),
            pytest.param([Left(20, "PA_A"), Left(30, "PA_A")], 20, id="told twice"),
            pytest.param([Left(10, "PA_A"), Joined(15, A), Left(20, "PA_A")], 20, id="for the second time"),
            pytest.param([Left(20, "PA_A"), Joined(25, agent("B", "assistant"))], 20, id="another came"),
        ],
    )
    def test_orphaned(self, events: list[Event], left_at: float) -> None:
        """It is left over from then on."""
        (found,) = house(Joined(2, A), Joined(3, avatar("V", "A")), *events).avatars

        assert (found.identity, found.role, found.principal_left_at) == ("V", Role.AGENT, left_at)

    @pytest.mark.parametrize(
        "events",
        [
            pytest.param([Left(20, "PA_A"), Joined(25, A)], id="the same connection"),
            pytest.param([Left(20, "PA_A"), Joined(25, agent("A", "x", 25, sid="PA_2"))], id="another one"),
            pytest.param([Joined(25, agent("A", "x", 25, sid="PA_2")), Left(26, "PA_A")], id="before it left"),
            pytest.param([Left(20, "PA_B"), listed(22, avatar("V", "A"))], id="it was never gone"),
        ],
    )
    def test_its_principal_is_back(self, events: list[Event]) -> None:
        """Then it is an avatar again."""
        found = who("V", Joined(2, A), Joined(3, avatar("V", "A")), *events)

        assert (found.role, found.principal_left_at) == (Role.AVATAR, None)

    @pytest.mark.parametrize("order", [("PA_A", "PA_V"), ("PA_V", "PA_A")])
    @pytest.mark.parametrize("first", ["A", "V"])
    def test_its_principal_was_lost_while_we_were_blind(self, order: tuple[str, str], first: str) -> None:
        """It is an orphan since we saw it alone, in whatever order our reconnect showed the two leaving."""
        shown = avatar("V", "A", 3)
        came: list[Event] = [Joined(3, A), Joined(3, shown)]
        found = who(
            "V",
            *(came if first == "A" else reversed(came)),
            *(Left(20, sid) for sid in order),
            Disconnected(20),
            Joined(21, shown),
            Connected(21, ME, (shown,)),
        )

        assert (found.role, found.on_behalf_of, found.principal_left_at) == (Role.AGENT, "A", 21)

    def test_being_orphaned_is_no_older_than_our_watching(self) -> None:
        """It may have been given a new principal meanwhile, and lost it again."""
        shown = avatar("V", "A", 3)
        found = who("V", Joined(2, A), Joined(3, shown), Left(20, "PA_A"), *reconnected(90, shown))

        assert found.principal_left_at == 91


def heard(at: float, identity: str, *, speaking: bool | None = True) -> Heard:
    """What is heard of somebody changed."""
    return Heard(at, f"PA_{identity}", speaking)


def said(identity: str, start: float, end: float) -> list[Event]:
    """Somebody is heard speaking."""
    return [heard(start, identity), heard(end, identity, speaking=False)]


class TestSpeech:
    """Who speaks: as it is heard, else as agents say of themselves."""

    @pytest.mark.parametrize(
        ("events", "since", "spoke_at"),
        [
            pytest.param([], None, None, id="never"),
            pytest.param([heard(20, "A")], 20, None, id="heard"),
            pytest.param([heard(20, "A"), heard(22, "A")], 20, None, id="heard on"),
            pytest.param(said("A", 20, 25), None, 25, id="until it ends"),
            pytest.param([*said("A", 20, 25), heard(30, "A")], 30, 25, id="and begins again"),
            pytest.param(
                [heard(20, "A"), heard(25, "A", speaking=None)], None, 25, id="until it can't be heard any more"
            ),
            pytest.param([state(20, "speaking")], 20, None, id="by its state, where nothing is heard"),
            pytest.param([state(20, "speaking"), state(25, "idle")], None, 25, id="by its state, until that changes"),
            pytest.param(
                [heard(10, "A", speaking=None), state(20, "speaking")], 20, None, id="by its state, where it can't be"
            ),
            pytest.param(
                [heard(10, "A", speaking=False), state(20, "speaking")], None, None, id="it says so, but is silent"
            ),
            pytest.param([heard(20, "A"), state(22, "idle")], 20, None, id="it says no, but is heard"),
            pytest.param([state(20, "thinking")], None, None, id="thinking is no speech"),
            pytest.param([Transcribed(20, "A")], None, None, id="nor is a transcription"),
            pytest.param([heard(20, "B"), heard(21, "ana")], None, None, id="somebody else"),
        ],
    )
    def test_an_agent(self, events: list[Event], since: float | None, spoke_at: float | None) -> None:
        """Its own claim counts only while we can't hear it."""
        others: list[Event] = [Joined(5, A), Joined(5, agent("B")), Joined(5, info("ana"))]
        found = who("A", *others, *events)

        assert (found.speaking_since, found.spoke_at, found.busy) == (
            since,
            spoke_at,
            since is not None or found.state in ("thinking", "speaking"),
        )

    def test_a_person_speaks_only_if_heard(self) -> None:
        """What people write into their attributes is nobody's business."""
        claims = Attributes(20, "PA_ana", {"lk.agent.state": "speaking"})

        assert who("ana", Joined(5, info("ana")), claims).speaking_since is None
        assert who("ana", Joined(5, info("ana")), heard(20, "ana")).speaking_since == 20

    def test_speaking_is_activity_while_it_lasts(self) -> None:
        """From its beginning to its end."""
        assert who("A", Joined(5, A), heard(20, "A")).active_at == 20
        assert who("A", Joined(5, A), *said("A", 20, 25)).active_at == 25
        assert who("A", Joined(5, A), heard(20, "A", speaking=False)).active_at == 1

    def test_an_avatars_voice_is_its_principals(self) -> None:
        """Also while the principal itself is silent."""
        events: list[Event] = [
            Joined(5, replace(A, audio=True)),
            Joined(6, avatar("V", "A")),
            heard(7, "A", speaking=False),
        ]

        assert who("A", *events, heard(20, "V")).speaking_since == 20
        assert who("A", *events, *said("V", 20, 25)).spoke_at == 25

    @pytest.mark.parametrize(
        "claimant",
        [
            pytest.param(agent("V", "x", attributes={"lk.publish_on_behalf": "A"}), id="it has a name"),
            pytest.param(avatar("V", "A", joined=9), id="the principal has an older avatar"),
            pytest.param(info("V", attributes={"lk.publish_on_behalf": "A"}), id="it is a person"),
        ],
    )
    def test_the_voice_of_one_that_only_says_so_is_its_own(self, claimant: Info) -> None:
        """A claim may harm only who makes it."""
        found = who("A", Joined(5, A), Joined(6, avatar("W", "A", 2)), Joined(6, claimant), heard(20, "V"))

        assert found.speaking_since is None

    def test_it_ends_when_its_avatar_leaves(self) -> None:
        """Else the principal would seem busy for ever."""
        events: list[Event] = [Joined(5, A), Joined(6, avatar("V", "A")), heard(20, "V"), Left(25, "PA_V")]

        assert (who("A", *events).speaking_since, who("A", *events).spoke_at) == (None, 25)

    def test_it_becomes_the_principals_when_that_is_back(self) -> None:
        """Whoever the voice belongs to, it is heard."""
        alone: list[Event] = [Joined(5, avatar("V", "A")), heard(20, "V")]
        assert who("V", *alone).speaking_since == 20

        both: list[Event] = [*alone, Joined(25, A)]
        assert (who("V", *both).speaking_since, who("A", *both).speaking_since) == (None, 25)

    def test_it_is_its_own_once_the_principal_has_left(self) -> None:
        """An orphan that goes on sounding is no idle one."""
        events: list[Event] = [Joined(5, A), Joined(6, avatar("V", "A")), heard(20, "V"), Left(25, "PA_A")]

        assert who("V", *events).speaking_since == 25

    def test_nobody_speaks_for_a_person(self) -> None:
        """Else an agent could make the others look unresponsive, or as if a person took part in their talk."""
        rogue = avatar("V", "ana")
        events = [Joined(5, info("ana")), Joined(5, A), Joined(6, rogue), *said("V", 20, 25)]

        assert who("ana", *events).spoke_at is None
        assert who("A", *events).unanswered_since is None

    def test_after_a_reconnect(self) -> None:
        """Who still says that it speaks still does, since we can tell."""
        speaking = agent("A", "assistant", state="speaking")

        assert who("A", Joined(5, speaking), *reconnected(90, speaking)).speaking_since == 91


class TestUnanswered:
    """`unanswered_since`: the end of the first human speech that an agent has not reacted to."""

    @pytest.mark.parametrize(
        ("events", "since"),
        [
            pytest.param(said("ana", 20, 25), 25, id="somebody spoke"),
            pytest.param([*said("ana", 20, 25), *said("ana", 30, 35)], 25, id="the first one counts"),
            pytest.param(
                [heard(20, "ana"), *said("bob", 21, 23), heard(25, "ana", speaking=False)], 23, id="of several"
            ),
            pytest.param([*said("ana", 20, 25), Signal(26, "PA_A")], 25, id="data is no reaction"),
            pytest.param([*said("ana", 20, 25), Transcribed(26, "B")], 25, id="nor is another's"),
            pytest.param([*said("ana", 20, 25), Transcribed(26, "A"), *said("ana", 30, 35)], 35, id="after a reaction"),
            pytest.param([*said("ana", 20, 25), listed(26, A, info("ana"))], 25, id="being listed is none"),
        ],
    )
    def test_unanswered(self, events: list[Event], since: float) -> None:
        """Counted from when the person ended."""
        others: list[Event] = [Joined(5, A), Joined(5, agent("B")), Joined(5, info("ana")), Joined(5, info("bob"))]
        assert who("A", *others, *events).unanswered_since == since

    @pytest.mark.parametrize(
        "events",
        [
            pytest.param([], id="nobody spoke"),
            pytest.param([heard(20, "ana")], id="somebody still speaks"),
            pytest.param([*said("ana", 20, 25), Transcribed(26, "A")], id="a transcription"),
            pytest.param([*said("ana", 20, 25), state(26, "thinking")], id="a change of state"),
            pytest.param([*said("ana", 20, 25), state(26, "idle")], id="any change of state"),
            pytest.param([*said("ana", 20, 25), heard(26, "A")], id="speech"),
            pytest.param([heard(21, "A"), *said("ana", 20, 25)], id="it was speaking already"),
            pytest.param(
                [heard(20, "ana"), heard(25, "ana", speaking=None)], id="the speech can't be heard to its end"
            ),
            pytest.param([heard(20, "ana"), Left(25, "PA_ana")], id="the speaker left"),
            pytest.param(said("B", 20, 25), id="an agent spoke"),
            pytest.param(said("stream", 20, 25), id="an ingress sounded"),
            pytest.param([*said("ana", 20, 25), Connected(30, ME, (A, info("ana")))], id="we were not watching"),
        ],
    )
    def test_nothing_happens(self, events: list[Event]) -> None:
        """There is nothing to react to, or it did."""
        stream = info("stream", kind=Kind.INGRESS)
        others: list[Event] = [Joined(5, A), Joined(5, agent("B")), Joined(5, info("ana")), Joined(5, stream)]
        assert who("A", *others, *events).unanswered_since is None

    def test_who_came_later_was_not_spoken_to(self) -> None:
        """And owes no answer."""
        assert who("A", Joined(5, info("ana")), *said("ana", 20, 25), Joined(26, A)).unanswered_since is None


class TestChatter:
    """`chatter_since`: when the second distinct agent spoke after the last human speech."""

    @pytest.mark.parametrize(
        ("events", "since"),
        [
            pytest.param([], None, id="silence"),
            pytest.param(said("A", 20, 25), None, id="a single agent"),
            pytest.param([*said("A", 20, 25), *said("A", 30, 35)], None, id="the same one again"),
            pytest.param([*said("A", 20, 25), heard(26, "B")], 26, id="a second one"),
            pytest.param([*said("A", 20, 25), *said("B", 26, 30), *said("A", 31, 33)], 26, id="they go on"),
            pytest.param([*said("ana", 10, 15), *said("A", 20, 25), heard(26, "B")], 26, id="after a human"),
            pytest.param([*said("A", 20, 25), *said("B", 26, 30), *said("ana", 31, 32)], None, id="a human spoke"),
            pytest.param([*said("A", 20, 25), *said("B", 26, 30), heard(31, "ana")], None, id="a human speaks"),
            pytest.param([*said("A", 20, 25), *said("ana", 26, 27), *said("B", 28, 30)], None, id="a human between"),
            pytest.param([*said("A", 20, 25), heard(26, "B"), *said("ana", 30, 40)], None, id="only one goes on"),
            pytest.param(
                [heard(20, "A"), heard(21, "B"), *said("ana", 30, 40)], 40, id="both go on when the human has ended"
            ),
            pytest.param([*said("A", 20, 25), heard(26, "B"), Left(30, "PA_B")], None, id="the second one left"),
            pytest.param([*said("A", 20, 25), *said("B", 26, 27), Connected(30, ME, (A,))], None, id="we were blind"),
            pytest.param(
                [*said("A", 20, 25), *said("stream", 26, 27), heard(28, "B")], 28, id="an ingress is no human"
            ),
        ],
    )
    def test_chatter(self, events: list[Event], since: float | None) -> None:
        """A human who speaks ends it."""
        stream = info("stream", kind=Kind.INGRESS)
        others: list[Event] = [Joined(5, A), Joined(5, agent("B")), Joined(5, info("ana")), Joined(5, stream)]

        assert house(*others, *events).chatter_since == since


class TestHumans:
    """`humans_left_at`: when the last human left."""

    ANA, BOB, CALLER = info("ana", agent_grant=False), info("bob", agent_grant=False), info("phone", kind=Kind.SIP)

    @pytest.mark.parametrize(
        ("events", "left_at"),
        [
            pytest.param([], None, id="none came"),
            pytest.param([Joined(5, ANA)], None, id="one is there"),
            pytest.param([Joined(5, ANA), Left(20, "PA_ana")], 20, id="one left"),
            pytest.param([Joined(5, CALLER), Left(20, "PA_phone")], 20, id="a caller left"),
            pytest.param([Joined(5, ANA), Joined(6, BOB), Left(20, "PA_ana")], None, id="one is still there"),
            pytest.param([Joined(5, ANA), Joined(6, BOB), Left(20, "PA_bob"), Left(25, "PA_ana")], 25, id="both left"),
            pytest.param([Joined(5, ANA), Left(20, "PA_ana"), Joined(25, ANA)], None, id="back again"),
            pytest.param([Joined(5, ANA), listed(18), listed(19.5)], 20, id="two lists lack the last one"),
            pytest.param(
                [Joined(5, ANA), Left(20, "PA_ana"), Joined(22, A), Left(30, "PA_A")], 20, id="agents don't count"
            ),
            pytest.param([Joined(5, ANA), Left(20, "PA_ana"), *said("A", 30, 31)], 20, id="nor what they do"),
            pytest.param(
                [Joined(5, ANA), Joined(20, info("ana", 20, sid="PA_2", agent_grant=False)), Left(21, "PA_ana")],
                None,
                id="a new connection took the old one's place",
            ),
            pytest.param([Joined(5, info("eg", kind=Kind.EGRESS)), Left(20, "PA_eg")], None, id="an egress"),
            pytest.param([Joined(5, info("in", kind=Kind.INGRESS)), Left(20, "PA_in")], None, id="an ingress"),
            pytest.param([Joined(5, agent("B")), Left(20, "PA_B")], None, id="an agent"),
            pytest.param(
                [listed(5, info("bot", agent_grant=True)), Left(20, "PA_bot")], None, id="a bot with the grant"
            ),
            pytest.param(
                [Joined(5, info("bot")), listed(6, info("bot", agent_grant=True)), Left(20, "PA_bot")],
                None,
                id="a bot that was taken for a person until it was listed",
            ),
        ],
    )
    def test_when(self, events: list[Event], left_at: float | None) -> None:
        """None while one is there, and as long as none has come."""
        assert house(Joined(4, A), *events).humans_left_at == left_at

    def test_not_before_we_watched(self) -> None:
        """Somebody may have been there meanwhile."""
        room = house(Joined(4, A), Joined(5, self.ANA), Left(20, "PA_ana"), *reconnected(90, A))

        assert room.humans_left_at == 91

    def test_a_reconnect_is_no_leaving(self) -> None:
        """Whoever is back never left."""
        assert house(Joined(5, self.ANA), *reconnected(90, self.ANA)).humans_left_at is None


class TestEvicted:
    """`evicted_at`: when removals were sent, by identity."""

    def test_the_latest_counts(self) -> None:
        """Each identity has its own."""
        room = house(RemovalSent(20, "A"), RemovalSent(30, "B"), RemovalSent(40, "A"))

        assert room.evicted_at == {"A": 40, "B": 30}

    def test_it_outlives_the_participant(self) -> None:
        """Whoever is back can be told so."""
        assert house(Joined(5, A), RemovalSent(20, "A"), Left(21, "PA_A"), Joined(30, A)).evicted_at == {"A": 20}

    def test_a_room_that_was_shown_does_not_change(self) -> None:
        """It is what was true then."""
        tracker = tracked(RemovalSent(20, "A"))
        before = tracker.room()
        tracker.apply(RemovalSent(30, "B"))

        assert before.evicted_at == {"A": 20}


class TestMemory:
    """A room may live for weeks."""

    def test_it_does_not_grow(self) -> None:
        """What is remembered of the past is bounded, however many came and went."""
        tracker = tracked()
        for i in range(5000):
            shown = agent(f"agent-AJ_{i}", "assistant", i, attributes={"lk.publish_on_behalf": f"agent-AJ_{i - 1}"})
            tracker.apply(Joined(i, shown))
            tracker.apply(Transcribed(i, shown.identity))
            tracker.apply(dispatched(i, job(shown.identity, "assistant")))
            tracker.apply(Left(i + 0.5, shown.sid))
            tracker.apply(Signal(i + 0.6, shown.sid))
            tracker.apply(RemovalSent(i + 0.7, shown.identity))

        assert [p.identity for p in tracker.room().participants] == [ME.identity]
        assert entries(tracker) < 4 * MAX_DEPARTED

    def test_nor_by_those_who_are_replaced(self) -> None:
        """One identity with ever new connections."""
        tracker = tracked()
        for i in range(2000):
            tracker.apply(Joined(i, agent("A", "assistant", i, sid=f"PA_{i}")))

        assert [p.sid for p in tracker.room().agents] == ["PA_1999"]
        assert entries(tracker) < 4 * MAX_DEPARTED

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


def calls(run: Callable[[], object]) -> int:
    """How many calls of Python and C functions it takes, generators' steps included."""
    count = 0

    def note(*_: object) -> None:
        nonlocal count
        count += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(before)
    return count


def entries(tracker: Tracker) -> int:
    """How many entries its containers have, all together."""
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
    """Anybody, by one of two connections."""
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
    """Anything that may happen at that instant."""
    instant = st.just(at)
    return st.one_of(
        st.builds(Joined, instant, infos()),
        st.builds(Joined, instant, infos()),
        st.builds(Left, instant, sids),
        st.builds(Attributes, instant, sids, attributes),
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

    @given(histories)
    def test_the_room_makes_sense(self, events: tuple[Event, ...]) -> None:
        """Nothing raises; nobody is there twice; nothing known by watching is older than our watching."""
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

    @given(histories, st.lists(infos(), max_size=5, unique_by=lambda shown: shown.identity))
    def test_the_lists_have_the_last_word(self, events: tuple[Event, ...], there: list[Info]) -> None:
        """Whatever was believed before, after a few lists the room is who they name."""
        asked_at = max([0.0, *(event.at for event in events)]) + 1
        room = house(*events, *(Listed(asked_at + i, asked_at + i, tuple(there)) for i in range(3)))

        assert {p.sid for p in room.participants} == {shown.sid for shown in there}

    @given(st.data())
    def test_order_among_events_of_one_date_makes_no_difference(self, data: st.DataObject) -> None:
        """As long as each participant's own come in their order: sources are interleaved at will."""
        one = two = [Connected(5, ME)] if data.draw(st.booleans()) else list[Event]()
        for at in range(10, 10 + data.draw(st.integers(1, 4))):
            mine = {identity: data.draw(st.lists(events_of(identity, at), max_size=3)) for identity in "AVW"}
            one = [*one, *(event for each in mine.values() for event in each)]
            two = [*two, *interleaved(data, list(mine.values()))]

        assert house(*one) == house(*two)


def events_of(identity: str, at: float) -> st.SearchStrategy[Event]:
    """Anything that one participant may do at that instant; it has one connection, and shows itself consistently."""
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
    """The events of all sequences, each in its order, but mixed."""
    left = [list(sequence) for sequence in sequences if sequence]
    while left:
        index = data.draw(st.integers(0, len(left) - 1))
        yield left[index].pop(0)
        left = [sequence for sequence in left if sequence]


def test_what_is_remembered_of_those_who_left_is_small() -> None:
    """Attributes are up to 64 KiB, a name among them too, and one token can come and go for ever."""
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


def test_long_names_are_told_apart() -> None:
    """Two of them are one only if they are the same to the last character."""
    long = "x" * LONGEST_NAME
    names = (long, f"{long}1", f"{long}1", f"{long}2")
    tracker = Tracker()
    tracker.apply(Connected(0, ME, tuple(agent(f"A{number}", name) for number, name in enumerate(names))))

    known = [p.agent_name for p in tracker.room().participants if p.identity != ME.identity]
    assert known[0] == long
    assert known[1] == known[2]
    assert len(set(known)) == 3
    assert all(len(name) <= LONGEST_NAME for name in known)
