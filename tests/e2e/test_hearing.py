"""Level detection on a real server: real tracks carry tones, and the events come in order."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from livekit import rtc

from tests.e2e.listener import FAINT, LOUD, QUIET, Listener, encrypting, listening
from tests.e2e.world import World

pytestmark = pytest.mark.realtime


@pytest_asyncio.fixture(loop_scope="session")
async def listener(lobby: World, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Listener]:
    """A listener in a fresh room until the end of the test, without errors."""
    async with listening(lobby, "level", caplog) as listener:
        yield listener


async def test_speaking_and_pausing(listener: Listener) -> None:
    """Silent without a track, unknown until it is heard, then correct, faint or loud."""
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
    """Muted is silent at once, whatever still rings. After unmuting, it is heard again."""
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
    """Silent by definition, but subscribed to, and heard once it is unmuted."""
    ana = await listener.world.human("ana")
    await listener.hears(ana, "silent")
    voice = await listener.microphone(ana, LOUD, muted=True)
    await listener.sees(lambda: [p.subscribed for p in listener.publications(ana)] == [True], "the subscription")
    await listener.hears_nothing(ana, 3)

    voice.unmute()
    await listener.hears(ana, "speaking")


async def test_hundreds_of_mutes(listener: Listener) -> None:
    """However fast they come, the last event is correct."""
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
    """No track, no sound. The next track is unknown at first."""
    ana = await listener.world.human("ana")
    await listener.hears(ana, "silent")
    voice = await listener.microphone(ana, LOUD)
    await listener.hears(ana, "unknown", "speaking")

    await voice.unpublish()
    await listener.comes_to(ana, "silent")
    await listener.microphone(ana, LOUD)
    await listener.hears(ana, "unknown", "speaking")


async def test_gone_while_speaking(listener: Listener) -> None:
    """The room reports that it left. When it returns, it is a new participant."""
    ana = await listener.world.human("ana")
    await listener.microphone(ana, LOUD)
    await listener.comes_to(ana, "speaking")

    first = ana.sid
    await ana.rejoin()
    await listener.hears(ana, "silent")
    assert ana.sid != first
    await listener.hears_nothing(first)


async def test_several_tracks_of_one(listener: Listener) -> None:
    """It speaks while any of its tracks sounds, whatever the source."""
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
    await listener.comes_to(ana, "silent")


async def test_each_is_heard_alone(listener: Listener) -> None:
    """Of several participants, only the one that speaks is heard."""
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
    """It is silent, and its video is not subscribed to."""
    ana = await listener.world.human("ana")
    track = rtc.LocalVideoTrack.create_video_track("camera", rtc.VideoSource(64, 64))
    await ana.room.local_participant.publish_track(track)
    bob = await listener.world.human("bob")
    await listener.microphone(bob, LOUD)
    await listener.comes_to(bob, "speaking")

    await listener.hears(ana, "silent")
    assert [publication.subscribed for publication in listener.publications(ana)] == [False]


async def test_a_track_that_stalls(listener: Listener) -> None:
    """A track that is not muted but sends nothing is unknown."""
    ana = await listener.world.human("ana")
    await listener.hears(ana, "silent")
    voice = await listener.microphone(ana, LOUD, queue=0)
    await listener.hears(ana, "unknown", "speaking")

    voice.sends(None)
    await listener.hears(ana, "unknown")


async def test_switched_off_and_on(listener: Listener) -> None:
    """Off: no subscriptions, nothing known. On: everyone is heard. It holds however fast the changes come."""
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
    """Everyone is unknown until it is over. Then all are heard as before, with one subscription each."""
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
    """Undecrypted audio would sound like noise, so it is unknown and not subscribed to, and that is logged once."""
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
