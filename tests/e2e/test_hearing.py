"""Hearing by level, on a real server: real tracks with tones in them, and what is told of whom, in order."""

import asyncio
import logging
import math
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Literal

import pytest
import pytest_asyncio
from livekit import api, rtc

from bouncer.adapter.ears import Ears
from bouncer.config import Config
from bouncer.events import Event, Heard
from bouncer.observers import Configured
from tests.e2e.world import Member, World

RATE = 48_000
BLOCK = RATE // 100
QUIET, FAINT, LOUD = -60.0, -38.0, -20.0
"""dB of full scale."""

Word = Literal["speaking", "silent", "unknown"]
WORDS: dict[bool | None, Word] = {True: "speaking", False: "silent", None: "unknown"}


def tone(db: float) -> bytes:
    """10 ms of a tone with this mean power."""
    peak = 32767 * math.sqrt(2) * 10 ** (db / 20)
    return array("h", (round(peak * math.sin(2 * math.pi * 500 * i / RATE)) for i in range(BLOCK))).tobytes()


class Microphone:
    """An audio track of somebody, at any level."""

    def __init__(self, room: rtc.Room, db: float, queue: int) -> None:
        self.sends(db)
        self._room = room
        self._source = rtc.AudioSource(RATE, 1, queue_size_ms=queue)
        self._track = rtc.LocalAudioTrack.create_audio_track("voice", self._source)
        self._feeding: asyncio.Task[None] | None = None

    def sends(self, db: float | None) -> None:
        """Sound at this level from now on; None: capture nothing at all."""
        self._sound = None if db is None else tone(db)

    def mute(self) -> None:
        """Mute the track."""
        self._track.mute()

    def unmute(self) -> None:
        """Unmute it."""
        self._track.unmute()

    async def publish(self, source: rtc.TrackSource.ValueType) -> None:
        """Publish the track."""
        options = rtc.TrackPublishOptions(source=source)
        self._publication = await self._room.local_participant.publish_track(self._track, options)
        self._feeding = asyncio.create_task(self._feed())

    async def unpublish(self) -> None:
        """Take it back."""
        await self._room.local_participant.unpublish_track(self._publication.sid)

    async def close(self) -> None:
        """Stop feeding it."""
        if self._feeding:
            self._feeding.cancel()
            await asyncio.gather(self._feeding, return_exceptions=True)
        await self._source.aclose()

    async def _feed(self) -> None:
        while True:
            if self._sound is None:
                await asyncio.sleep(0.01)
            else:
                await self._source.capture_frame(rtc.AudioFrame(self._sound, RATE, 1, BLOCK))


class Listener:
    """A hidden participant with ears, and what they tell."""

    def __init__(self, world: World, room: rtc.Room, stack: AsyncExitStack) -> None:
        self.world = world
        self.room = room
        self.ears = Ears(room)
        self.told: list[Heard] = []
        self._noted: Counter[str] = Counter()
        self._in_future = False
        self._stack = stack

    def hear(self, hearing: Literal["off", "level"]) -> None:
        """Change the configuration."""
        self.ears.notify(Configured(Config(hearing=hearing)))

    def tell(self, event: Event) -> None:
        """Be told."""
        assert isinstance(event, Heard)
        self.told.append(event)
        self._in_future |= event.at > asyncio.get_running_loop().time()

    def words(self, who: str | Member) -> list[Word]:
        """What was told of somebody so far."""
        sid = who if isinstance(who, str) else who.sid
        return [WORDS[heard.speaking] for heard in self.told if heard.sid == sid]

    def check(self) -> None:
        """What was told has dates that make sense."""
        assert not self._in_future
        for sid in {heard.sid for heard in self.told}:
            dates = [heard.at for heard in self.told if heard.sid == sid]
            assert dates == sorted(dates)

    async def microphone(
        self,
        who: Member | rtc.Room,
        db: float = QUIET,
        *,
        muted: bool = False,
        queue: int = 50,
        source: rtc.TrackSource.ValueType = rtc.TrackSource.SOURCE_MICROPHONE,
    ) -> Microphone:
        """Give somebody a microphone. With no queue, its track sends nothing while it captures nothing."""
        microphone = Microphone(who.room if isinstance(who, Member) else who, db, queue)
        self._stack.push_async_callback(microphone.close)
        if muted:
            microphone.mute()
        await microphone.publish(source)
        return microphone

    async def hears(self, who: str | Member, *expected: Word) -> None:
        """Wait until somebody was told of again: exactly this, in this order."""
        sid = who if isinstance(who, str) else who.sid
        noted = self._noted[sid]
        self._noted[sid] += len(expected)
        await self.sees(lambda: len(self.words(sid)) >= self._noted[sid], f"{expected} after {self.words(sid)}")
        assert self.words(sid)[noted:] == list(expected), f"told in all: {self.words(sid)}"

    async def hears_nothing(self, who: str | Member, seconds: float = 0.0) -> None:
        """Make sure that nothing more is told of somebody for so long."""
        await asyncio.sleep(seconds)
        sid = who if isinstance(who, str) else who.sid
        assert self.words(sid)[self._noted[sid] :] == []

    async def comes_to(self, who: Member, word: Word) -> None:
        """Wait until this is what was told of somebody last."""
        await self.sees(lambda: self.words(who)[-1:] == [word], f"{who.identity} is {word}")
        self._noted[who.sid] = len(self.words(who))

    async def sees(self, condition: Callable[[], object], what: str) -> None:
        """Wait for something that it can see."""

        async def seen() -> bool:
            return bool(condition())

        await self.world.until(seen, what)

    def publications(self, who: Member | str) -> list[rtc.RemoteTrackPublication]:
        """What somebody has published, as it sees it."""
        participant = self.room.remote_participants.get(who if isinstance(who, str) else who.identity)
        return list(participant.track_publications.values()) if participant else []


@pytest_asyncio.fixture(loop_scope="session")
async def listener(lobby: World, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Listener]:
    """Somebody who listens in a room of its own until the end of the test, without any trouble."""
    await lobby.create()
    async with AsyncExitStack() as stack:
        member = await lobby.join("listener", kind="agent", hidden=True)
        listener = Listener(lobby, member.room, stack)
        listener.hear("level")
        task = asyncio.create_task(listener.ears.run(listener.tell))
        yield listener
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        listener.check()
        assert [record for record in caplog.records if record.name == "bouncer" and record.exc_info] == []


@asynccontextmanager
async def encrypting(world: World, identity: str) -> AsyncIterator[rtc.Room]:
    """Have somebody join who encrypts end to end, with a key that nobody else has."""
    token = api.AccessToken(world.server.api_key, world.server.api_secret).with_identity(identity)
    token = token.with_grants(api.VideoGrants(room_join=True, room=world.room))
    keys = rtc.KeyProviderOptions(shared_key=b"between the two of us")
    encryption = rtc.E2EEOptions(key_provider_options=keys)
    room = rtc.Room()
    options = rtc.RoomOptions(auto_subscribe=False, encryption=encryption)
    await room.connect(world.server.url, token.to_jwt(), options)
    try:
        yield room
    finally:
        await room.disconnect()


async def test_speaking_and_pausing(listener: Listener) -> None:
    """Silent without a track, not known until it is heard, then as it is, faint or loud."""
    ana = await listener.world.human("ana")
    await listener.hears(ana, "silent")
    voice = await listener.microphone(ana)
    await listener.hears(ana, "unknown", "silent")

    for level in (LOUD, FAINT):
        voice.sends(level)
        await listener.hears(ana, "speaking")
        voice.sends(QUIET)
        await listener.hears(ana, "silent")
    await listener.hears_nothing(ana, 3)


async def test_a_breath_ends_nothing(listener: Listener) -> None:
    """A tone that pauses for 0.2 s again and again is one utterance."""
    ana = await listener.world.human("ana")
    await listener.hears(ana, "silent")
    voice = await listener.microphone(ana, LOUD)
    await listener.hears(ana, "unknown", "speaking")

    for _ in range(8):
        await asyncio.sleep(0.4)
        voice.sends(QUIET)
        await asyncio.sleep(0.2)
        voice.sends(LOUD)
    await listener.hears_nothing(ana)
    voice.sends(QUIET)
    await listener.hears(ana, "silent")


async def test_muted_while_speaking(listener: Listener) -> None:
    """Muted is silent at once, whatever still rings; unmuted, it is heard anew."""
    ana = await listener.world.human("ana")
    await listener.hears(ana, "silent")
    voice = await listener.microphone(ana, LOUD)
    await listener.hears(ana, "unknown", "speaking")

    voice.mute()
    await listener.hears(ana, "silent")
    await listener.hears_nothing(ana, 3)
    voice.unmute()
    await listener.hears(ana, "speaking")


async def test_muted_from_the_start(listener: Listener) -> None:
    """Silent by definition, and subscribed to all the same; heard once it is unmuted."""
    ana = await listener.world.human("ana")
    await listener.hears(ana, "silent")
    voice = await listener.microphone(ana, LOUD, muted=True)
    await listener.sees(lambda: [p.subscribed for p in listener.publications(ana)] == [True], "the subscription")
    await listener.hears_nothing(ana, 3)

    voice.unmute()
    await listener.hears(ana, "speaking")


async def test_hundreds_of_mutes(listener: Listener) -> None:
    """However fast they come, what is told in the end is so."""
    ana = await listener.world.human("ana")
    voice = await listener.microphone(ana, LOUD)
    await listener.comes_to(ana, "speaking")

    for _ in range(200):
        voice.mute()
        await asyncio.sleep(0.005)
        voice.unmute()
        await asyncio.sleep(0.005)
    voice.mute()
    await listener.comes_to(ana, "silent")
    voice.unmute()
    await listener.comes_to(ana, "speaking")


async def test_unpublished_while_speaking(listener: Listener) -> None:
    """No track, no sound; the next track is another one, of which nothing is known yet."""
    ana = await listener.world.human("ana")
    await listener.hears(ana, "silent")
    voice = await listener.microphone(ana, LOUD)
    await listener.hears(ana, "unknown", "speaking")

    await voice.unpublish()
    await listener.hears(ana, "silent")
    await listener.microphone(ana, LOUD)
    await listener.hears(ana, "unknown", "speaking")


async def test_gone_while_speaking(listener: Listener) -> None:
    """That it left is for the room to say. Back again, it is somebody new."""
    ana = await listener.world.human("ana")
    await listener.microphone(ana, LOUD)
    await listener.comes_to(ana, "speaking")

    first = ana.sid
    await ana.rejoin()
    await listener.hears(ana, "silent")
    assert ana.sid != first
    await listener.hears_nothing(first)


async def test_several_tracks_of_one(listener: Listener) -> None:
    """It speaks as long as any of them sounds, whatever its source."""
    ana = await listener.world.human("ana")
    await listener.hears(ana, "silent")
    voice = await listener.microphone(ana)
    await listener.hears(ana, "unknown", "silent")
    film = await listener.microphone(ana, source=rtc.TrackSource.SOURCE_SCREENSHARE_AUDIO)
    await listener.hears(ana, "unknown", "silent")

    voice.sends(LOUD)
    film.sends(LOUD)
    await listener.hears(ana, "speaking")
    await listener.hears_nothing(ana, 3)
    voice.sends(QUIET)
    await listener.hears_nothing(ana, 3)
    await film.unpublish()
    await listener.hears(ana, "silent")


async def test_each_is_heard_alone(listener: Listener) -> None:
    """Of several, the one that speaks."""
    members = [await listener.world.human(name) for name in ("ana", "bob", "eve")]
    voices = [await listener.microphone(member) for member in members]
    for member in members:
        await listener.comes_to(member, "silent")

    for member, voice in zip(members, voices, strict=True):
        voice.sends(LOUD)
        await listener.hears(member, "speaking")
        voice.sends(QUIET)
        await listener.hears(member, "silent")
    for member in members:
        await listener.hears_nothing(member)


async def test_only_video(listener: Listener) -> None:
    """It is silent, and what can't be heard is not subscribed to."""
    ana = await listener.world.human("ana")
    track = rtc.LocalVideoTrack.create_video_track("camera", rtc.VideoSource(64, 64))
    await ana.room.local_participant.publish_track(track)
    bob = await listener.world.human("bob")
    await listener.microphone(bob, LOUD)
    await listener.comes_to(bob, "speaking")

    await listener.hears(ana, "silent")
    assert [publication.subscribed for publication in listener.publications(ana)] == [False]


async def test_a_track_that_stalls(listener: Listener) -> None:
    """One that sends nothing at all although it is not muted may be saying anything."""
    ana = await listener.world.human("ana")
    await listener.hears(ana, "silent")
    voice = await listener.microphone(ana, LOUD, queue=0)
    await listener.hears(ana, "unknown", "speaking")

    voice.sends(None)
    await listener.hears(ana, "unknown")


async def test_switched_off_and_on(listener: Listener) -> None:
    """Off, nothing is subscribed to and nothing is known; on, all are heard, however fast the changes came."""
    ana, bob = [await listener.world.human(name) for name in ("ana", "bob")]
    await listener.microphone(ana, LOUD)
    await listener.comes_to(ana, "speaking")

    for pause in (2.0, 0.5, 0.2, 0.05, 0.0, 0.05, 0.0, 2.0):
        listener.hear("off")
        await asyncio.sleep(pause)
        listener.hear("level")
        await asyncio.sleep(pause)
    listener.hear("off")
    await listener.comes_to(ana, "unknown")
    await listener.comes_to(bob, "unknown")
    await listener.sees(lambda: [p.subscribed for p in listener.publications(ana)] == [False], "no subscription")
    await listener.hears_nothing(ana, 2)

    listener.hear("level")
    await listener.hears(bob, "silent")
    await listener.hears(ana, "unknown", "speaking")


@pytest.mark.parametrize("scenario", ["FULL_RECONNECT", "SIGNAL_RECONNECT"])
async def test_reconnecting(listener: Listener, scenario: str, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is known of anybody until it is over; then all are heard as before, asked for only once."""
    ana, bob, eve = [await listener.world.human(name) for name in ("ana", "bob", "eve")]
    await listener.microphone(ana, LOUD)
    await listener.microphone(bob)
    await listener.comes_to(ana, "speaking")
    await listener.comes_to(bob, "silent")
    await listener.comes_to(eve, "silent")
    again = asyncio.Event()
    listener.room.on("reconnected", again.set)
    listener.room.on("reconnecting", listener.told.clear)

    await listener.room.simulate_scenario(rtc.SimulateScenarioKind.Value(f"SIMULATE_{scenario}"))
    async with asyncio.timeout(30):
        await again.wait()
    await listener.sees(lambda: listener.words(eve)[-1:] == ["silent"], "eve is silent again")
    await listener.sees(lambda: listener.words(bob)[-1:] == ["silent"], "bob is silent again")
    await listener.sees(lambda: listener.words(ana)[-1:] == ["speaking"], "ana is speaking again")
    assert set(listener.words(ana)[:-1]) == set(listener.words(bob)[:-1]) == {"unknown"}
    assert [record for record in caplog.records if record.name == "bouncer"] == []


async def test_encrypted(listener: Listener, caplog: pytest.LogCaptureFixture) -> None:
    """What can't be decrypted would sound like noise: it is not known, not subscribed to, and that is said once."""
    async with encrypting(listener.world, "ana") as room:
        sid = room.local_participant.sid
        await listener.hears(sid, "silent")
        voice = await listener.microphone(room, LOUD)
        await listener.hears(sid, "unknown")
        await listener.microphone(room)
        await listener.hears_nothing(sid, 2)
        voice.mute()
        await listener.hears_nothing(sid, 1)

        assert [publication.subscribed for publication in listener.publications("ana")] == [False, False]
        (record,) = [record for record in caplog.records if record.name == "bouncer"]
        assert (record.levelno, record.getMessage()) == (logging.WARNING, "cannot hear a participant")
        assert (vars(record)["lk.pii.participant_identity"], vars(record)["sid"]) == ("ana", sid)
        assert "encrypted" in vars(record)["why"]
