"""Speech detection on a real server: it tells recorded speech from noise, tones and music, and policies use it."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import pytest_asyncio
from livekit import api, rtc
from livekit.rtc._ffi_client import FfiClient

from bouncer.adapter.speech import detect, detector, import_plugin
from devserver import Server, worker
from tests.e2e.conftest import AGENT
from tests.e2e.listener import Listener, encrypting, listening
from tests.e2e.world import Member, World
from tests.microphone import Microphone
from tests.sounds import NOISES, RATE, Sound, at, music, pink, speech

pytestmark = pytest.mark.realtime


@pytest.fixture(scope="module", autouse=True)
def plugin() -> None:
    """Import it on the main thread, as a worker does."""
    import_plugin()


UTTERANCE = at(speech("hurry"), -20)
TALK = at(np.concatenate([speech(name) for name in ("train", "flight", "table", "hurry")]), -20)
"""Speech without pauses for breath."""
NOISE = at(pink(2), -25)
MUSIC = at(music(8), -25)
HISS = at(pink(2), -60)


def house(hearing: Literal["level", "speech"], **policies: Any) -> dict[str, Any]:
    """Return room metadata with only these policies."""
    return {"bouncer": {"hearing": hearing, "policies": {"duplicates": None, **policies}}}


class Cast:
    """People and agents with microphones."""

    def __init__(self, world: World, stack: AsyncExitStack) -> None:
        self.world = world
        self._stack = stack

    async def human(self, identity: str) -> Microphone:
        """Let a person join."""
        return await self._microphone(await self.world.human(identity), HISS)

    async def agent(self, identity: str, sound: Sound = HISS) -> Microphone:
        """Let an agent join that publishes no state and sounds like this."""
        return await self._microphone(await self.world.agent(identity, name=identity.lower(), state=""), sound)

    async def _microphone(self, member: Member, sound: Sound) -> Microphone:
        microphone = Microphone(member.room)
        self._stack.push_async_callback(microphone.close)
        microphone.sends(sound)
        await microphone.publish()
        return microphone


@pytest_asyncio.fixture(loop_scope="session")
async def cast(world: World) -> AsyncIterator[Cast]:
    """The participants that a test needs, in a room for a bouncer to guard."""
    async with AsyncExitStack() as stack:
        yield Cast(world, stack)


async def in_turn(*voices: Microphone) -> None:
    """Speak in turns, with pauses, until cancelled."""
    while True:
        for voice in voices:
            await voice.plays(UTTERANCE)
            await asyncio.sleep(0.8)


async def test_hold_music_is_active_by_level_and_idle_by_speech(world: World, cast: Cast) -> None:
    """The same holds for any sound that is not speech. Speech is activity either way, over noise or not."""
    await world.open(house("level", idle_timeout={"timeout": 6}))
    await cast.agent("talking", TALK)
    await cast.agent("talking in noise", at(TALK + at(pink(len(TALK) / RATE), -32), -20))
    noises = {name: NOISES[name] for name in ("white", "tone", "music")}
    for name, noise in noises.items():
        await cast.agent(name, at(noise(8), -25))
    await cast.agent("silent")
    await world.gone("silent")
    await world.stays({"talking", "talking in noise", *noises}, seconds=3)

    await world.metadata(house("speech", idle_timeout={"timeout": 6}))

    for name in noises:
        # If the machine is so busy that the detector falls behind, a track uses level detection for a minute.
        await world.gone(name, within=100)
        assert (await world.message(event="evicted", identity=name))["policy"] == "idle_timeout"
    await world.stays({"talking", "talking in noise"}, seconds=2)


async def test_agents_that_talk_over_each_other(world: World, cast: Cast) -> None:
    """Agents that take turns stay, even with background music. If two talk simultaneously, the younger leaves."""
    await world.open(house("speech", crosstalk={"overlap": 2}))
    voices = [await cast.agent(name) for name in ("A", "B")]
    await cast.agent("C", MUSIC)
    async with asyncio.TaskGroup() as talks:
        talk = talks.create_task(in_turn(*voices))
        await world.stays({"A", "B", "C"}, seconds=9)
        talk.cancel()

    for voice in voices:
        voice.sends(TALK)

    await world.gone("B")
    assert (await world.message(event="evicted", identity="B"))["policy"] == "crosstalk"
    await world.stays({"A", "C"}, seconds=2)


async def test_agents_among_themselves(world: World, cast: Cast) -> None:
    """They stay while a human takes part. Noise from a human's microphone is not taking part."""
    await world.open(house("speech", lone_chatter={"timeout": 6}))
    ana = await cast.human("ana")
    voices = [await cast.agent(name) for name in ("A", "B")]
    async with asyncio.TaskGroup() as talks:
        talk = talks.create_task(in_turn(*voices, ana))
        await world.stays({"ana", "A", "B"}, seconds=15)
        talk.cancel()

    ana.sends(NOISE)
    async with asyncio.TaskGroup() as talks:
        talk = talks.create_task(in_turn(*voices))
        for name in ("A", "B"):
            await world.gone(name)
            assert (await world.message(event="evicted", identity=name))["policy"] == "lone_chatter"
        talk.cancel()
    assert "ana" in await world.present()


async def test_an_agent_that_does_not_answer(world: World, cast: Cast) -> None:
    """A human keeps asking. An agent that answers is fine; one that stays silent or plays music is not."""
    await world.open(house("speech", unresponsive={"timeout": 6}))
    ana = await cast.human("ana")
    answering = await cast.agent("answering")
    await cast.agent("silent")
    await cast.agent("playing", MUSIC)
    async with asyncio.TaskGroup() as talks:
        talk = talks.create_task(in_turn(ana, answering))
        for identity in ("silent", "playing"):
            told = await world.message(event="reported", identity=identity)
            assert told["policy"] == "unresponsive"
        await world.stays({"ana", "answering", "silent", "playing"}, seconds=3)
        talk.cancel()
    assert {message["identity"] for message in world.messages} == {"silent", "playing"}


async def test_a_conversation(world: World, cast: Cast) -> None:
    """A human and an agent talk for a while, and no policy objects."""
    policies: dict[str, Any] = {
        "idle_timeout": {"timeout": 6},
        "crosstalk": {"overlap": 1},
        "lone_chatter": {"timeout": 4},
        "unresponsive": {"timeout": 6},
    }
    await world.open(house("speech", **policies))
    voices = [await cast.human("ana"), await cast.agent("A")]
    async with asyncio.TaskGroup() as talks:
        talk = talks.create_task(in_turn(*voices))
        await world.stays({"ana", "A"}, seconds=15)
        talk.cancel()
    assert world.messages == []


async def test_rooms_share_what_a_worker_listens_to(
    lobby: World, server: Server, client: api.LiveKitAPI, tmp_path: Path
) -> None:
    """It listens to BOUNCER_MAX_SPEECH tracks in two rooms together, and logs where it falls back."""
    name = f"bouncer-{lobby.room}"
    environment = {"BOUNCER_AGENT_NAME": name, "BOUNCER_MAX_SPEECH": "1"}
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(worker(AGENT, server, env=environment, log_file=tmp_path / "log"))
        rooms = [lobby, await stack.enter_async_context(World(server, client))]
        for room in rooms:
            await room.open(house("speech", idle_timeout={"timeout": 300}), agent_name=name)
            await Cast(room, stack).agent("A", TALK)

        line = await running.line(lambda line: line["message"] == "falling back to level detection")

        assert line["lk.pii.room_name"] in {room.room for room in rooms}
        assert "BOUNCER_MAX_SPEECH" in line["why"]
        for room in rooms:
            await room.close()


@pytest_asyncio.fixture(loop_scope="session")
async def listener(lobby: World, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Listener]:
    """A listener with speech detection until the end of the test, without errors."""
    async with listening(lobby, "speech", caplog) as listener:
        yield listener


async def test_whatever_is_published(listener: Listener) -> None:
    """Speech is found at any rate, in any number of channels, next to noise on another track. Noise is not speech."""
    names = ("stereo", "odd", "telephone", "noisy", "filmed")
    stereo, odd, telephone, noisy, filmed = members = [await listener.world.human(name) for name in names]
    voices = {
        stereo: await listener.microphone(stereo, HISS, rate=48_000, channels=2),
        odd: await listener.microphone(odd, HISS, rate=44_100),
        telephone: await listener.microphone(telephone, HISS, rate=8_000),
        noisy: await listener.microphone(noisy, HISS),
    }
    await listener.microphone(noisy, NOISE, source=rtc.TrackSource.SOURCE_SCREENSHARE_AUDIO)
    video = rtc.LocalVideoTrack.create_video_track("camera", rtc.VideoSource(64, 64))
    await filmed.room.local_participant.publish_track(video)
    for member in members:
        await listener.comes_to(member, "silent")
    await listener.hears_nothing(noisy, 2)

    await asyncio.gather(*(voice.plays(UTTERANCE) for voice in voices.values()))
    for member in voices:
        await listener.hears(member, "speaking", "silent")
    await listener.hears_nothing(filmed)


async def test_cut_off(listener: Listener) -> None:
    """Muted or unpublished in mid-word, it is silent. When it is back, it is heard again."""
    ana = await listener.world.human("ana")
    await listener.hears(ana, "silent")
    voice = await listener.microphone(ana, TALK)
    await listener.hears(ana, "unknown", "speaking")

    voice.mute()
    await listener.hears(ana, "silent")
    await listener.hears_nothing(ana, 2)
    voice.unmute()
    await listener.hears(ana, "speaking")

    await voice.unpublish()
    await listener.comes_to(ana, "silent")
    await listener.hears_nothing(ana, 2)
    await listener.microphone(ana, TALK)
    await listener.hears(ana, "unknown", "speaking")


async def test_a_track_that_stalls(listener: Listener) -> None:
    """A track that is not muted but sends nothing is unknown, not silent."""
    ana = await listener.world.human("ana")
    await listener.hears(ana, "silent")
    voice = await listener.microphone(ana, TALK, queue=0)
    await listener.hears(ana, "unknown", "speaking")

    voice.sends(None)
    await listener.hears(ana, "unknown")
    await listener.hears_nothing(ana, 2)
    voice.sends(TALK)
    await listener.comes_to(ana, "speaking")


def streams() -> int:
    """Return this process's number of audio streams. Each subscribes to the native library's events."""
    subscribers = FfiClient.instance.queue._subscribers  # noqa: SLF001 - what is meant by a leak
    return sum("AudioStream" in accepts.__qualname__ for _, _, accepts in subscribers if accepts)


async def test_a_thousand_streams(listener: Listener) -> None:
    """Streams on one track are opened and closed, before the first frame or in mid-speech, and leave nothing behind."""
    ana = await listener.world.human("ana")
    await listener.microphone(ana, TALK)
    await listener.comes_to(ana, "speaking")
    (publication,) = listener.publications(ana)
    track, vad = publication.track, await detector()
    assert track
    assert vad
    before, tasks, threads = streams(), len(asyncio.all_tasks()), threading.active_count()
    assert before == 1
    heard = []

    def hear(at: float, *, speaking: bool) -> None:
        heard.append((at, speaking))

    for i in range(100):
        listeners = [asyncio.create_task(detect(track, vad, hear)) for _ in range(10)]
        await asyncio.sleep(0.8 if i % 10 == 0 else i % 3 / 10)
        assert streams() == before + 10
        for task in listeners:
            task.cancel()
        assert {*map(type, await asyncio.gather(*listeners, return_exceptions=True))} == {asyncio.CancelledError}

    assert heard

    async def ended() -> bool:
        return streams() == before and len(asyncio.all_tasks()) <= tasks

    await listener.world.until(ended, "their streams and tasks have ended")
    # The streams in which the detector runs, as many as allowed.
    assert threading.active_count() <= threads + 40
    await listener.hears_nothing(ana)


async def test_hundreds_of_changes(listener: Listener) -> None:
    """Mutes, tracks, hearing modes and connections change. In the end each open track has one stream."""
    ana, bob = [await listener.world.human(name) for name in ("ana", "bob")]
    voice, other = await listener.microphone(ana, TALK), await listener.microphone(bob, TALK)
    await listener.comes_to(ana, "speaking")
    await listener.comes_to(bob, "speaking")
    assert streams() == 2

    for i in range(100):
        for muted in (True, False):
            (voice.mute if muted else voice.unmute)()
            await asyncio.sleep(0.03)
        listener.hear("off" if i % 10 == 0 else "level")
        await asyncio.sleep(0.03)
        listener.hear("speech")
        await asyncio.sleep(0.03)
        if i % 10 == 5:
            await other.unpublish()
            await other.close()
            other = await listener.microphone(bob, TALK)
        if i % 50 == 25:
            again = asyncio.Event()
            listener.room.once("reconnected", again.set)
            await listener.room.simulate_scenario(rtc.SimulateScenarioKind.SIMULATE_FULL_RECONNECT)
            async with asyncio.timeout(30):
                await again.wait()

    for member in (ana, bob):
        await listener.comes_to(member, "speaking")
    await listener.sees(lambda: streams() == 2, "a stream for each")
    voice.mute()
    await listener.sees(lambda: streams() == 1, "none for who is muted")
    await asyncio.gather(voice.unpublish(), other.unpublish())
    await listener.sees(lambda: streams() == 0, "no stream")


async def test_encrypted(listener: Listener) -> None:
    """An end-to-end encrypted track is unknown, and never speech."""
    async with encrypting(listener.world, "ana") as room:
        sid = room.local_participant.sid
        await listener.hears(sid, "silent")
        await listener.microphone(room, TALK)
        await listener.hears(sid, "unknown")
        await listener.hears_nothing(sid, 3)
