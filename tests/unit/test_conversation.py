"""What each participant did: activity, speech, answers, chatter."""

from dataclasses import replace
from typing import Any

import pytest

from bouncer import Kind
from bouncer.events import (
    Attributes,
    Channel,
    Connected,
    Encrypted,
    Event,
    Info,
    Joined,
    Left,
    Medium,
    Publication,
    Published,
    Signal,
    Stalled,
    Transcribed,
)
from tests.told import (
    ME,
    A,
    agent,
    avatar,
    dispatched,
    heard,
    house,
    info,
    job,
    listed,
    reconnected,
    said,
    state,
    tracked,
    who,
)

VIDEO, MUTED = Publication(Medium.VIDEO), Publication(Medium.VIDEO, muted=True)
DATA, AMBIENCE = Publication(Medium.DATA), Publication(Medium.AUDIO, "background_audio")
WORKED = (Signal(9, "PA_A", channel=Channel.DATA),)


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
            pytest.param([Joined(20, A)], id="showing itself again"),
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
        """Any sign of its own. A crashed agent stays listed for 20 s, so being listed is no sign."""
        assert (who("A", Joined(5, A), event).alive_at > 1) is alive

    def test_what_a_list_has_shown_already_is_no_sign_of_life(self) -> None:
        """It was announced late, because it had no track when it said so; perhaps only after its crash."""
        thinking = agent("A", "assistant", state="thinking")
        events = (Joined(5, A), listed(20, thinking), Signal(21, "PA_A", active=True, audio=True))

        assert who("A", *events, Attributes(22.9, "PA_A", thinking.attributes)).alive_at == 21

    def test_a_state_it_was_found_in_is_no_sign_of_life(self) -> None:
        """A crashed agent is listed with its last state, also to a bouncer that just came."""
        found = who("A", Connected(50, ME, (agent("A", "assistant", state="thinking"),)))

        assert (found.busy, found.state_at, found.alive_at) == (True, 50, 1)

    def test_state_and_its_date(self) -> None:
        """It dates from when it began, not from when it was last repeated."""
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
        """It was asked for earlier, and shows earlier attributes."""
        found = who("A", early if isinstance(early, Joined) else Joined(5, A), early, listed(19, A, took=2))

        assert (found.state, found.state_at) == ("thinking", 20)

    def test_nor_that_it_became_active(self) -> None:
        """A list that was under way may still show it JOINING."""
        joining = replace(A, active=False)

        assert house(Joined(5, joining), Joined(20, A), listed(19, joining, took=2)).agents

    def test_a_list_tells_what_no_event_did(self) -> None:
        """A list asked for after the last event is the truth."""
        found = who("A", Joined(5, A), state(20, "thinking"), listed(21, agent("A", "assistant", state="listening")))

        assert (found.state, found.state_at, found.active_at) == ("listening", 21.5, 21.5)

    @pytest.mark.parametrize(
        ("facts", "events", "unseen"),
        [
            pytest.param({}, [], True, id="nothing was ever seen of it"),
            pytest.param({"state": "listening"}, [], False, id="it runs a session"),
            pytest.param({}, [state(9, "idle")], False, id="it does later on"),
            pytest.param({}, [Signal(9, "PA_A", channel=Channel.DATA)], False, id="it was seen at work"),
            pytest.param({}, [Signal(9, "PA_A", channel=Channel.DTMF)], False, id="by its tones"),
            pytest.param({}, [Signal(9, "PA_A", channel=Channel.TEXT)], False, id="by its text, with no other agent"),
            pytest.param({}, [Transcribed(9, "A")], False, id="by its transcriptions, with no other agent"),
            pytest.param(
                {}, [Joined(8, agent("B")), Signal(9, "PA_A", channel=Channel.TEXT)], True, id="another may write that"
            ),
            pytest.param({}, [Joined(8, agent("B")), Transcribed(9, "A")], True, id="another may write that too"),
            pytest.param({}, [Signal(9, "PA_A", channel=Channel.TRACK)], True, id="a track alone is no work"),
            pytest.param({}, [Joined(20, A)], True, id="nor is joining"),
            pytest.param({"audio": True}, [Signal(9, "PA_A", channel=Channel.DATA)], True, id="it may speak unheard"),
            pytest.param({"audio": True, "state": "idle"}, [], False, id="but it runs a session"),
            pytest.param({"audio": True}, [heard(9, "A", speaking=False)], False, id="it is heard"),
            pytest.param({}, [heard(9, "A", speaking=False)], True, id="silent, since it has no track"),
            pytest.param(
                {"state": "idle"},
                [heard(9, "A", speaking=False), Transcribed(10, "ana")],
                True,
                id="silent, and may write captions",
            ),
            pytest.param(
                {"audio": True},
                [Published(8, "PA_A", ()), heard(9, "A", speaking=False)],
                True,
                id="silent since it has taken its track back",
            ),
            pytest.param({"audio": True}, [heard(9, "A", speaking=None)], True, id="it can't be heard"),
            pytest.param({"state": "idle", "publications": (VIDEO,)}, [], True, id="it has video"),
            pytest.param({"state": "idle", "publications": (MUTED,)}, [], False, id="which is muted"),
            pytest.param({"state": "idle"}, [Published(9, "PA_A", (VIDEO,))], True, id="it has video later on"),
            pytest.param({"state": "idle", "publications": (DATA,)}, [], True, id="it has a data track"),
            pytest.param({"publications": (AMBIENCE,)}, [*WORKED], False, id="a track that is no one's voice"),
            pytest.param({}, [*WORKED, Encrypted(10, "PA_A", encrypted=True)], True, id="its data is encrypted"),
            pytest.param({"state": "idle"}, [Encrypted(10, "PA_A", encrypted=True)], False, id="but not its state"),
            pytest.param({"state": "idle"}, [Transcribed(10, "ana")], True, id="captions by an unknown writer"),
            pytest.param({"state": "idle"}, [Transcribed(10, "ana", "B")], False, id="captions by a known one"),
            pytest.param({}, [Transcribed(8, "ana"), *WORKED], False, id="it was active since"),
            pytest.param(
                {"audio": True}, [heard(9, "A", speaking=False), Transcribed(10, "ana")], False, id="it is heard anyway"
            ),
        ],
    )
    def test_unseen(self, facts: dict[str, Any], events: list[Event], unseen: bool) -> None:  # noqa: FBT001
        """An agent that may be working unseen: its silence proves nothing."""
        tracker = tracked(Joined(4, info("ana")))
        tracker.configure(4, hears=True, ignored=("background_audio",))
        for event in (Joined(5, agent("A", "assistant", **facts)), *events):
            tracker.apply(event)
        (found,) = (p for p in tracker.room().participants if p.identity == "A")

        assert bool(found.unseen) is unseen

    def test_hearing_off(self) -> None:
        """It is judged by everything except its sound."""
        assert who("A", Joined(5, agent("A", audio=True)), *WORKED).unseen == ""


class TestSpeech:
    """Speech as it is heard, otherwise as agents say of themselves."""

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
            pytest.param([heard(20, "B"), heard(21, "ana")], None, None, id="someone else"),
        ],
    )
    def test_an_agent(self, events: list[Event], since: float | None, spoke_at: float | None) -> None:
        """Its own claim counts only while we can't hear it."""
        others: list[Event] = [Joined(5, replace(A, audio=True)), Joined(5, agent("B")), Joined(5, info("ana"))]
        found = who("A", *others, *events)

        assert (found.speaking_since, found.spoke_at, found.busy) == (
            since,
            spoke_at,
            since is not None or found.state in ("thinking", "speaking"),
        )

    def test_a_person_speaks_only_if_heard(self) -> None:
        """A person's attributes do not count."""
        claims = Attributes(20, "PA_ana", {"lk.agent.state": "speaking"})

        assert who("ana", Joined(5, info("ana")), claims).speaking_since is None
        assert who("ana", Joined(5, info("ana")), heard(20, "ana")).speaking_since == 20

    def test_speaking_is_activity_while_it_lasts(self) -> None:
        """From the beginning of the speech to its end."""
        assert who("A", Joined(5, A), heard(20, "A")).active_at == 20
        assert who("A", Joined(5, A), *said("A", 20, 25)).active_at == 25
        assert who("A", Joined(5, A), heard(20, "A", speaking=False)).active_at == 1

    @pytest.mark.parametrize(
        ("state", "speaking_since", "spoke_at"),
        [("speaking", 20, 25), ("listening", None, None), ("", None, None)],
    )
    def test_an_avatars_sound(self, state: str, speaking_since: float | None, spoke_at: float | None) -> None:
        """It keeps its principal busy, and is its speech only while the principal says that it speaks."""
        events: list[Event] = [
            Joined(5, replace(A, audio=True)),
            Joined(6, avatar("V", "A")),
            heard(7, "A", speaking=False),
            heard(7, "V", speaking=False),
            Attributes(8, "PA_A", {"lk.agent.state": state}),
        ]
        sounding, over = who("A", *events, heard(20, "V")), who("A", *events, *said("V", 20, 25))

        assert (sounding.busy, sounding.speaking_since) == (True, speaking_since)
        assert (over.active_at, over.spoke_at, over.avatar_sounds) == (25, spoke_at, False)

    @pytest.mark.parametrize(
        "claimant",
        [
            pytest.param(agent("V", "x", attributes={"lk.publish_on_behalf": "A"}), id="it has a name"),
            pytest.param(avatar("V", "A", joined=9), id="the principal has an older avatar"),
            pytest.param(info("V", attributes={"lk.publish_on_behalf": "A"}), id="it is a person"),
        ],
    )
    def test_the_voice_of_one_that_only_says_so_is_its_own(self, claimant: Info) -> None:
        """A false claim can harm only the agent that makes it."""
        found = who("A", Joined(5, A), Joined(6, avatar("W", "A", 2)), Joined(6, claimant), heard(20, "V"))

        assert found.speaking_since is None

    def test_it_ends_when_its_avatar_leaves(self) -> None:
        """Otherwise the principal would seem busy for ever."""
        found = who("A", Joined(5, A), Joined(6, avatar("V", "A")), heard(20, "V"), Left(25, "PA_V"))

        assert (found.busy, found.active_at) == (False, 25)

    def test_it_becomes_the_principals_when_that_is_back(self) -> None:
        """A voice is always heard as someone's."""
        alone: list[Event] = [Joined(5, avatar("V", "A")), heard(20, "V")]
        assert who("V", *alone).speaking_since == 20

        both: list[Event] = [*alone, Joined(25, A)]
        assert (who("V", *both).speaking_since, who("A", *both).busy, who("A", *both).active_at) == (None, True, 25)

    def test_it_is_its_own_once_the_principal_has_left(self) -> None:
        """An orphan that goes on sounding is not idle."""
        events: list[Event] = [Joined(5, A), Joined(6, avatar("V", "A")), heard(20, "V"), Left(25, "PA_A")]

        assert who("V", *events).speaking_since == 25

    @pytest.mark.parametrize(
        ("status", "since"),
        [({}, 20), ({"sip.callStatus": "active"}, 20), ({"sip.callStatus": "ringing"}, None)],
    )
    def test_a_phone_that_rings_is_no_person_who_speaks(self, status: dict[str, str], since: float | None) -> None:
        """The person has not answered yet; what is heard is the ringing."""
        events: list[Event] = [Joined(5, info("ana", kind=Kind.SIP, attributes=status)), Joined(5, A), heard(20, "ana")]
        answered = Attributes(30, "PA_ana", {"sip.callStatus": "active"})

        assert who("ana", *events).speaking_since == since
        assert who("ana", *events, answered).speaking_since == (since or 30)

    def test_no_agent_speaks_for_a_person(self) -> None:
        """Otherwise an agent could make others look unresponsive, or a talk among agents look attended."""
        rogue = avatar("V", "ana")
        events = [Joined(5, info("ana")), Joined(5, A), Joined(6, rogue), *said("V", 20, 25)]

        assert who("ana", *events).spoke_at is None
        assert who("A", *events).unanswered_since is None

    def test_after_a_reconnect(self) -> None:
        """An agent that still says that it speaks does so from when we can tell."""
        speaking = agent("A", "assistant", state="speaking")

        assert who("A", Joined(5, speaking), *reconnected(90, speaking)).speaking_since == 91


class TestUnanswered:
    """`unanswered_since`: the end of the first human speech that an agent has not reacted to."""

    @pytest.mark.parametrize(
        ("events", "since"),
        [
            pytest.param(said("ana", 20, 25), 25, id="someone spoke"),
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
        """It counts from when the person finished."""
        others: list[Event] = [Joined(5, A), Joined(5, agent("B")), Joined(5, info("ana")), Joined(5, info("bob"))]
        assert who("A", *others, *events).unanswered_since == since

    @pytest.mark.parametrize(
        "events",
        [
            pytest.param([], id="no one spoke"),
            pytest.param([heard(20, "ana")], id="someone is still speaking"),
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
        """There was nothing to react to, or the agent reacted."""
        stream = info("stream", kind=Kind.INGRESS)
        others: list[Event] = [Joined(5, A), Joined(5, agent("B")), Joined(5, info("ana")), Joined(5, stream)]
        assert who("A", *others, *events).unanswered_since is None

    def test_an_agent_that_came_later_was_not_spoken_to(self) -> None:
        """It owes no answer."""
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
            pytest.param(
                [heard(20, "A"), heard(21, "ana"), heard(40, "B"), heard(39, "ana", speaking=False)],
                40,
                id="the human's end is told late, and the second began after it",
            ),
            pytest.param([*said("A", 20, 25), heard(26, "B"), Left(30, "PA_B")], None, id="the second one left"),
            pytest.param([*said("A", 20, 25), *said("B", 26, 27), Connected(30, ME, (A,))], None, id="we were blind"),
            pytest.param(
                [heard(20, "A"), heard(21, "B"), Stalled(30)], 30, id="both go on after a time that went unwatched"
            ),
            pytest.param(
                [heard(20, "A"), heard(21, "B"), heard(22, "ana"), Stalled(30)], None, id="and a human speaks on too"
            ),
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
