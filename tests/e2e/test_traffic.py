"""What participants do, as the engine is told of it, on a real server: who does what, and on which channel."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from livekit import api, rtc

from bouncer.adapter.clock import ServerClock
from bouncer.adapter.records import listed
from bouncer.adapter.sdkevents import UNUSED, own_events_only
from bouncer.adapter.traffic import Traffic
from bouncer.events import Channel, Event, Joined, Left, Medium, Publication, Published, Signal, Transcribed
from devserver import Server
from tests.e2e import command
from tests.e2e.listener import encrypting
from tests.e2e.world import Member, World

Do = Callable[[Member], Awaitable[object]]
ON_ITS_WAY = 1000
"""Milliseconds for which a packet may be on its way to the server, on a busy machine."""


class Watched:
    """What is told of a room."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.told: list[Event] = []
        self.heard: list[rtc.DataPacket] = []
        self.room = rtc.Room()
        self.traffic = Traffic(self.room, ServerClock(), self.told.append)

    async def until(self, condition: Callable[[Event], object], what: str) -> Event:
        """Wait for an event."""

        async def told() -> Event | None:
            return next((event for event in self.told if condition(event)), None)

        return await self.world.until(told, f"{what} is told")

    async def sees(self, *sids: str) -> None:
        """Wait until these are announced."""
        for sid in sids:
            await self.until(lambda event, sid=sid: isinstance(event, Joined) and event.info.sid == sid, "who joined")  # type: ignore[misc]

    async def used(self, sid: str, channel: Channel) -> None:
        """Wait until a participant is active on a channel."""
        await self.until(
            lambda event: (
                isinstance(event, Signal) and (event.sid, event.channel, event.active) == (sid, channel, True)
            ),
            channel,
        )

    async def publishes(self, sid: str, *publications: Publication) -> None:
        """Wait until these are all of a participant's tracks."""
        await self.until(lambda event: event == Published(event.at, sid, publications), "these tracks")


@asynccontextmanager
async def watching(world: World) -> AsyncIterator[Watched]:
    """Watch the room, hidden, as a bouncer does."""
    watched = Watched(world)
    token = world.token("watcher", kind="agent", grant=True, hidden=True)
    await watched.room.connect(world.server.url, token, rtc.RoomOptions(auto_subscribe=False))
    own_events_only(watched.room)
    watched.room.on("data_received", watched.heard.append)

    async def hears() -> bool:
        await world.send(b"", topic="harness.probe")
        return bool(watched.heard)

    await world.until(hears, "the watcher hears")
    try:
        yield watched
    finally:
        await watched.room.disconnect()


async def text(member: Member, topic: str = "my.topic", name: str | None = None) -> None:
    """Write two pieces of text, a moment apart."""
    writer = await member.room.local_participant.stream_text(topic=topic, sender_identity=name)
    for piece in ("one", "two"):
        await writer.write(piece)
        await asyncio.sleep(0.3)
    await writer.aclose()


async def picture(member: Member) -> None:
    """Send a few bytes."""
    writer = await member.room.local_participant.stream_bytes("picture.png", topic="pictures", total_size=3)
    await writer.write(b"123")
    await writer.aclose()


async def track(member: Member, kind: str) -> rtc.LocalTrackPublication:
    """Publish a track."""
    if kind == "audio":
        made: rtc.LocalTrack = rtc.LocalAudioTrack.create_audio_track(kind, rtc.AudioSource(48_000, 1))
    else:
        made = rtc.LocalVideoTrack.create_video_track(kind, rtc.VideoSource(32, 32))
    return await member.room.local_participant.publish_track(made)


@pytest.mark.parametrize(
    ("do", "channel"),
    [
        pytest.param(lambda it: it.room.local_participant.send_text("hi", topic="any"), Channel.TEXT, id="a text"),
        pytest.param(text, Channel.TEXT, id="a stream of text"),
        pytest.param(picture, Channel.BYTES, id="bytes"),
        pytest.param(lambda it: it.room.local_participant.publish_data("x", topic="any"), Channel.DATA, id="data"),
        pytest.param(
            lambda it: it.room.local_participant.publish_data("x", reliable=False), Channel.DATA, id="lossy data"
        ),
        pytest.param(lambda it: it.room.local_participant.publish_dtmf(code=1, digit="1"), Channel.DTMF, id="DTMF"),
        pytest.param(lambda it: track(it, "audio"), Channel.TRACK, id="an audio track"),
        pytest.param(lambda it: track(it, "video"), Channel.TRACK, id="a video track"),
        pytest.param(
            lambda it: it.room.local_participant.publish_data_track(name="joints"), Channel.TRACK, id="a data track"
        ),
    ],
)
async def test_whatever_an_agent_does_is_seen(lobby: World, do: Do, channel: Channel) -> None:
    """On any topic, though nothing is read or subscribed to."""
    await lobby.create()
    async with watching(lobby) as watched:
        agent = await lobby.agent("A")
        await watched.sees(agent.sid, (await lobby.agent("B")).sid)

        await do(agent)

        await watched.used(agent.sid, channel)
        assert {event.sid for event in watched.told if isinstance(event, Signal)} == {agent.sid}


async def test_what_a_session_mirrors_is_no_activity(lobby: World) -> None:
    """An AgentSession sends its events to the room, such as that the user is away. That only shows that it lives."""
    await lobby.create()
    async with watching(lobby) as watched:
        agent = await lobby.agent("A")
        await watched.sees(agent.sid)
        writer = await agent.room.local_participant.stream_bytes("", topic="lk.agent.session")
        await writer.write(b"123")
        await writer.aclose()

        told = await watched.until(lambda event: isinstance(event, Signal), "a sign of life")
        assert told == Signal(told.at, agent.sid, active=False, channel=Channel.BYTES)


async def test_what_is_written_before_its_writer_is_announced(lobby: World) -> None:
    """A participant that publishes nothing is announced up to 3 s late; what it writes meanwhile counts."""
    await lobby.create()
    async with watching(lobby) as watched:
        agent = await lobby.agent("A")
        for _ in range(5):
            await agent.room.local_participant.send_text("hi", topic="any")
            await asyncio.sleep(0.1)
        early = agent.sid not in {event.info.sid for event in watched.told if isinstance(event, Joined)}
        assert early == (not [event for event in watched.told if isinstance(event, Signal)])

        await watched.used(agent.sid, Channel.TEXT)


async def test_a_long_stream_is_seen_to_go_on(lobby: World) -> None:
    """Each of its pieces is a sign of life, at most a few a second."""
    await lobby.create()
    async with watching(lobby) as watched:
        agent = await lobby.agent("A")
        await watched.sees(agent.sid)
        writer = await agent.room.local_participant.stream_text(topic="any")
        for _ in range(100):
            await writer.write("word ")
            await asyncio.sleep(0.02)
        await writer.aclose()
        await asyncio.sleep(0.5)

        assert 3 <= len([event for event in watched.told if isinstance(event, Signal)]) <= 20


async def test_a_transcriber_is_known_by_what_it_writes(lobby: World) -> None:
    """It writes in the name of the person that speaks; the pieces of its text name it."""
    await lobby.create()
    async with watching(lobby) as watched:
        person, agent = await lobby.human("h"), await lobby.agent("A")
        await watched.sees(person.sid, agent.sid)

        await text(agent, "lk.transcription", "h")

        await watched.until(lambda event: event == Transcribed(event.at, "h", "A"), "who has written it")
        await watched.used(agent.sid, Channel.TEXT)
        assert person.sid not in {event.sid for event in watched.told if isinstance(event, Signal)}


async def test_a_person_cannot_write_in_an_agents_name(lobby: World) -> None:
    """The server puts its true name to it."""
    await lobby.create()
    async with watching(lobby) as watched:
        person = await lobby.human("h")
        agent = await lobby.agent("A")
        await watched.sees(person.sid, agent.sid)

        await text(person, "lk.transcription", "A")

        await watched.until(lambda event: event == Transcribed(event.at, "h", "h"), "who has written it")
        assert not [event for event in watched.told if isinstance(event, Transcribed) and event.identity == "A"]


async def test_nothing_reaches_us_that_was_sent_before_we_joined(lobby: World) -> None:
    """Though the server keeps reliable data for 2 s. So what a bouncer hears first shows life next to all before it."""
    await lobby.create()
    agent = await lobby.agent("A")
    heard: list[rtc.DataPacket] = []
    room = rtc.Room()
    room.on("data_received", heard.append)

    async def talk() -> None:
        while True:
            await agent.send_data(str(round(time.time() * 1000)))
            await asyncio.sleep(0.02)

    talking = asyncio.create_task(talk())
    try:
        await asyncio.sleep(3)
        token = lobby.token("watcher", kind="agent", grant=True, hidden=True)
        await room.connect(lobby.server.url, token, rtc.RoomOptions(auto_subscribe=False))

        async def hears() -> rtc.DataPacket | None:
            return heard[0] if heard else None

        first = await lobby.until(hears, "the watcher hears")
        joined_ms = (await lobby.listed())["watcher"].joined_at_ms
    finally:
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)
        await room.disconnect()

    assert int(first.data) > joined_ms - ON_ITS_WAY


@pytest.mark.parametrize(
    ("environment", "passes", "writes"),
    [
        pytest.param({}, False, False, id="by default"),
        pytest.param({"RUST_LOG": "livekit=warn"}, False, True, id="with RUST_LOG"),
        pytest.param({"LIVEKIT_RTC_DEBUG": "1"}, True, False, id="with the SDK's own variable"),
    ],
)
async def test_what_the_native_library_logs(
    server: Server, environment: Mapping[str, str], *, passes: bool, writes: bool
) -> None:
    """Nothing of it reaches Python unless someone asks for it: passing it on took most of a quiet room's CPU."""
    env = command.environment()
    env.pop("RUST_LOG", None)  # which this process has set for itself
    ran = await command.module("tests.e2e.refused", server.url, env=env | dict(environment))

    assert ran.out.splitlines()[0] == ("passed on" if passes else "kept")
    assert "401 Unauthorized" in ran.out, "what went wrong is raised all the same"
    assert ("python: livekit" in ran.err) is passes
    assert ("WARN  livekit" in ran.err) is writes
    assert passes or writes or not ran.err


async def test_what_an_agent_has_published(lobby: World) -> None:
    """Tracks of any kind with their names, whether they are muted, and until they are taken back."""
    await lobby.create()
    agent = await lobby.agent("A")
    before = await agent.room.local_participant.publish_data_track(name="joints")
    async with watching(lobby) as watched:
        joints = Publication(Medium.DATA, "joints")
        await watched.publishes(agent.sid, joints)
        video = await track(agent, "video")
        await watched.publishes(agent.sid, Publication(Medium.VIDEO, "video"), joints)
        assert isinstance(video.track, rtc.LocalVideoTrack)
        video.track.mute()
        await watched.publishes(agent.sid, Publication(Medium.VIDEO, "video", muted=True), joints)
        listed = await listed_publications(lobby)
        assert listed == {Publication(Medium.VIDEO, "video", muted=True), joints}
        await agent.room.local_participant.unpublish_track(video.sid)
        await watched.publishes(agent.sid, joints)
        await before.unpublish()
        await watched.publishes(agent.sid)


async def listed_publications(world: World) -> set[Publication]:
    """The tracks of the agent A in the server's list."""
    answer = await world.api.room.list_participants(api.ListParticipantsRequest(room=world.room))
    return {p for info in answer.participants if info.identity == "A" for p in listed(info, ServerClock()).publications}


async def test_that_an_agent_encrypts_is_seen(lobby: World) -> None:
    """Its tracks say so; nothing of its data is seen, not even that there is any."""
    await lobby.create()
    async with watching(lobby) as watched, encrypting(lobby, "E") as encrypted:
        me = encrypted.local_participant
        await watched.sees(me.sid)
        await me.publish_data("secret", topic="any")
        await me.publish_track(rtc.LocalAudioTrack.create_audio_track("voice", rtc.AudioSource(48_000, 1)))

        await watched.publishes(me.sid, Publication(Medium.AUDIO, "voice", encrypted=True))
        assert Channel.DATA not in {event.channel for event in watched.told if isinstance(event, Signal)}


async def test_a_flood_of_streams_leaves_nothing_behind(lobby: World) -> None:
    """A participant opens thousands of them, closes none, and leaves."""
    await lobby.create()
    async with watching(lobby) as watched:
        agent = await lobby.agent("A")
        tasks = len(asyncio.all_tasks())
        for _ in range(1000):
            writer = await agent.room.local_participant.stream_text(topic="any")
            await writer.write("one")
        await watched.used(agent.sid, Channel.TEXT)
        assert len(asyncio.all_tasks()) - tasks < 10
        await agent.leave()

        await watched.until(lambda event: event == Left(event.at, agent.sid), "that it has left")


async def test_a_room_is_woken_by_its_own_events_only(lobby: World) -> None:
    """The SDK tells every room of the process what happens in any; those of the others don't reach ours."""
    await lobby.create()
    async with watching(lobby) as watched:
        events = watched.room._ffi_queue  # noqa: SLF001 - as own_events_only does
        put, woken = events.put_nowait, list[tuple[str, int]]()

        def noted(event: Any) -> None:
            told = event.room_event
            woken.append((told.WhichOneof("message") or event.WhichOneof("message"), told.room_handle))
            put(event)

        events.put_nowait = noted
        agent = await lobby.agent("A", audio=True)
        await agent.say()
        await watched.used(agent.sid, Channel.TRACK)
        await agent.send_data()
        await watched.used(agent.sid, Channel.DATA)

        assert {handle for _, handle in woken} == {watched.room._ffi_handle.handle}  # type: ignore[union-attr]  # noqa: SLF001
        assert not UNUSED & {what for what, _ in woken}
        assert "participant_connected" in {what for what, _ in woken}


async def test_a_room_that_is_not_connected_is_left_as_it_is(lobby: World) -> None:  # noqa: ARG001 - the SDK runs
    """Nor does an SDK that keeps its events in another way stop us."""
    own_events_only(rtc.Room())
