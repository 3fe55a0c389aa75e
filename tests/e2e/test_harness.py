"""The harness itself, without a bouncer: what the other end-to-end tests take for granted."""

import json

import pytest
from livekit import api, rtc

from tests.e2e.scenes import at_once
from tests.e2e.world import World

AGENT = api.ParticipantInfo.Kind.AGENT
STANDARD = api.ParticipantInfo.Kind.STANDARD


async def test_people_and_agents_are_what_they_say(lobby: World) -> None:
    """A person is STANDARD; an agent is of kind AGENT with the grant, its name and its state."""
    await lobby.create()
    ana = await lobby.human("ana")
    agent = await lobby.agent("A", name="assistant", audio=True)

    listed = await lobby.listed()
    assert {info.identity: info.sid for info in listed.values()} == {"ana": ana.sid, "A": agent.sid}
    assert (listed["ana"].kind, listed["A"].kind) == (STANDARD, AGENT)
    assert (listed["ana"].permission.agent, listed["A"].permission.agent) == (False, True)
    assert dict(listed["A"].attributes) == {"lk.agent_name": "assistant", "lk.agent.state": "listening"}
    assert [track.source for track in listed["A"].tracks] == [api.TrackSource.MICROPHONE]


async def test_hidden_ones_are_listed_and_not_seen(lobby: World) -> None:
    """The server's list is the only place to find them."""
    await lobby.create()
    await lobby.agent("A", hidden=True)
    ana = await lobby.human("ana")

    assert await lobby.present() == {"A", "ana"}
    assert not ana.room.remote_participants


async def test_metadata_is_the_rooms(lobby: World) -> None:
    """Everyone in the room sees what a test sets, at creation and later."""
    await lobby.create({"bouncer": {"mode": "dry_run"}})
    ana = await lobby.human("ana")
    assert json.loads(ana.room.metadata) == {"bouncer": {"mode": "dry_run"}}

    await lobby.metadata("not JSON")

    async def seen() -> bool:
        return ana.room.metadata == "not JSON"

    await lobby.until(seen, "the change is seen")


async def test_members_act_and_others_notice(lobby: World) -> None:
    """State, data, transcriptions and sound of one member reach another."""
    await lobby.create()
    noticed: set[str] = set()
    ana = await lobby.human("ana")
    ana.room.on("participant_attributes_changed", lambda changed, _: noticed.update(changed.values()))
    ana.room.on("data_received", lambda packet: noticed.add(packet.data.decode()))
    ana.room.register_text_stream_handler("lk.transcription", lambda _, identity: noticed.add(f"text of {identity}"))
    ana.room.on("track_published", lambda publication, _: publication.set_subscribed(True))
    ana.room.on("active_speakers_changed", lambda who: noticed.update(f"{one.identity} speaks" for one in who))
    agent = await lobby.agent("A", audio=True)

    async def met() -> bool:
        return "A" in ana.room.remote_participants

    await lobby.until(met, "the agent is announced")
    await agent.set_state("thinking")

    async def all_noticed() -> bool:
        # A member that has just joined or subscribed may miss what comes in the first moment.
        await agent.send_data("hello")
        await agent.transcribe("good evening")
        await agent.say(1.5)
        return noticed >= {"thinking", "hello", "text of A", "A speaks"}

    await lobby.until(all_noticed, f"everything is noticed, not just {noticed}")


async def test_the_observer_hears_what_the_server_sends(lobby: World) -> None:
    """It hears the bouncer's topic and nothing else, and is not among those present."""
    await lobby.create()
    for topic in ("chat", "bouncer"):
        payload = json.dumps({"event": "evicted", "identity": "A", "topic": topic})
        await lobby.send(payload.encode(), topic)

    assert await lobby.message(event="evicted", identity="A") == {
        "event": "evicted",
        "identity": "A",
        "topic": "bouncer",
    }
    assert len(lobby.messages) == 1
    assert await lobby.present() == set()


async def test_a_removed_member_knows_why_and_can_come_back(lobby: World) -> None:
    """The token stays valid: it is the same identity with a new sid, and its track is back too."""
    await lobby.create()
    agent = await lobby.agent("A", audio=True)
    before = agent.sid

    await lobby.api.room.remove_participant(api.RoomParticipantIdentity(room=lobby.room, identity="A"))
    assert await agent.out() == rtc.DisconnectReason.PARTICIPANT_REMOVED
    await lobby.gone(agent)
    await agent.rejoin()

    async def publishes() -> api.ParticipantInfo | None:
        listed = (await lobby.listed())["A"]
        return listed if listed.tracks else None

    assert (await lobby.until(publishes, "its track is listed")).sid == agent.sid != before


async def test_staying_means_the_same_connection_all_the_time(lobby: World) -> None:
    """Coming back is not staying, and neither is never having been there."""
    await lobby.create()
    ana = await lobby.human("ana")
    await lobby.stays({"ana"}, seconds=0.5)

    with pytest.raises(AssertionError, match="not there to begin with"):
        await lobby.stays({"ana", "bob"}, seconds=0.5)

    await ana.leave()
    await lobby.gone("ana")
    await lobby.human("ana")
    with pytest.raises(AssertionError, match="not yet"):
        await lobby.gone("ana", within=0.3)


@pytest.mark.usefixtures("assistants")
@at_once("behaviour, states", [("busy", {"thinking", "speaking"}), ("idle", {"listening"}), ("silent", {""})])
async def test_framework_agents_behave_as_dispatched(lobby: World, behaviour: str, states: set[str]) -> None:
    """Each dispatch is one agent, named by the server, in a process that is not ours."""
    await lobby.create()
    job = await lobby.dispatch("assistant", behaviour=behaviour)

    async def settled() -> api.ParticipantInfo | None:
        info = (await lobby.listed())[job.identity]
        behaves = info.attributes.get("lk.agent.state", "") in states and len(info.tracks) == (behaviour != "silent")
        return info if behaves else None

    info = await lobby.until(settled, f"it is {behaviour}")
    assert info.sid == job.sid
    assert info.kind == AGENT
    assert info.attributes["lk.agent_name"] == "assistant"


@pytest.mark.usefixtures("assistants")
async def test_two_dispatches_are_two_agents(lobby: World) -> None:
    """Duplicates are as easy to make as users find them to be."""
    await lobby.create()

    first = await lobby.dispatch("assistant")
    second = await lobby.dispatch("assistant")

    assert await lobby.present() == {first.identity, second.identity}
    assert first.dispatch != second.dispatch
