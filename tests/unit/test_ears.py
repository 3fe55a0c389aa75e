"""Ears on a room in memory, in virtual time: for what a real server can't be made to do, or not a thousand times.

That a real one behaves like this is for tests/e2e/test_hearing.py to show, and that speech is found for test_speech.py.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any, cast

import pytest
from livekit import rtc
from livekit.rtc._proto.stats_pb2 import RtcStats

from bouncer.adapter import ears as module
from bouncer.adapter.ears import ANSWER_WITHIN, APART, AT_ONCE, DEAF_FOR, MAX_LISTENERS, PATIENCE, Ears
from bouncer.adapter.speech import Hear
from bouncer.config import Config
from bouncer.events import Event, Heard
from bouncer.hearing import KNOWN_FOR, LISTEN_FOR, POLL
from bouncer.observers import Configured
from tests.virtual import virtual

SUBSCRIBED_AFTER = 0.05
PLACES = 100
"""More than a test needs that is not about them."""
WORDS = {True: "speaking", False: "silent", None: "unknown"}


class Track:
    """A track that is received: as loud as its publication says, from when it was subscribed to."""

    def __init__(self, publication: "Publication") -> None:
        self._publication = publication
        self._began = publication.room.now
        self._received = 0.0

    async def get_stats(self) -> list[RtcStats]:
        """What the receiver has counted."""
        room, publication = self._publication.room, self._publication
        room.readings += 1
        room.at_once = max(room.at_once, 1 + room.reading)
        room.reading += 1
        try:
            await asyncio.sleep(publication.answers_after)
        finally:
            room.reading -= 1
        meanwhile, publication.meanwhile = publication.meanwhile, None
        if meanwhile:
            meanwhile()
        if publication.error:
            raise publication.error
        counted = RtcStats()
        if publication.receiving:
            elapsed = room.now - self._began
            if not publication.stalled:
                self._received = elapsed
            counted.inbound_rtp.inbound.total_samples_duration = elapsed
            counted.inbound_rtp.inbound.total_audio_energy = self._received * (1e-2 if publication.loud else 1e-6)
            counted.inbound_rtp.received.packets_received = round(self._received * 50)
        else:
            counted.codec.SetInParent()
        return [RtcStats(), counted]


class Publication:
    """A published track, as its room shows it."""

    def __init__(self, room: "FakeRoom", sid: str, **facts: Any) -> None:
        self.room = room
        self.sid = sid
        self.kind = rtc.TrackKind.KIND_AUDIO
        self.encryption_type = rtc.EncryptionType.NONE
        self.muted = False
        self.track: Track | None = None
        self.loud = False
        self.talks = False
        self.receiving = True
        self.stalled = False
        self.granted = True
        self.answers_after = 0.002
        self.meanwhile: Callable[[], None] | None = None
        """What happens once while it is read."""
        self.error: Exception | None = None
        self.asked: list[tuple[float, bool]] = []
        vars(self).update(facts)

    def set_subscribed(self, subscribed: bool) -> None:  # noqa: FBT001 - the SDK's signature
        """Subscribe or unsubscribe, a moment later."""
        self.asked.append((round(self.room.now, 3), subscribed))
        self.room.loop.call_later(SUBSCRIBED_AFTER, self._subscribe, subscribed)

    def _subscribe(self, subscribed: bool) -> None:  # noqa: FBT001 - as above
        if subscribed == bool(self.track) or (subscribed and not self.granted):
            return
        self.track = Track(self) if subscribed else None
        self.room.emit("track_subscribed" if subscribed else "track_unsubscribed")


class Participant:
    """Somebody in the room."""

    def __init__(self, identity: str) -> None:
        self.identity = identity
        self.sid = f"PA_{identity}"
        self.track_publications: dict[str, Publication] = {}


class FakeRoom(rtc.EventEmitter[str]):
    """As much of a room as ears look at, and what they tell of it."""

    def __init__(self) -> None:
        super().__init__()
        self.name = "room"
        self.loop = asyncio.get_running_loop()
        self._started_at = self.loop.time()
        self.here: dict[str, Participant] = {}
        self.told: list[Heard] = []
        self.readings = self.reading = self.at_once = 0
        self.looks = 0
        self.error: Exception | None = None

    @property
    def now(self) -> float:
        """Seconds since the test began."""
        return self.loop.time() - self._started_at

    @property
    def remote_participants(self) -> Mapping[str, Participant]:
        """Everybody but us."""
        self.looks += 1
        if self.error:
            raise self.error
        return self.here

    def join(self, identity: str) -> Participant:
        """Somebody joins."""
        self.here[identity] = Participant(identity)
        self.emit("participant_connected", self.here[identity])
        return self.here[identity]

    def leave(self, identity: str) -> None:
        """Somebody leaves."""
        self.emit("participant_disconnected", self.here.pop(identity))

    def publish(self, identity: str, number: int = 1, **facts: Any) -> Publication:
        """Somebody publishes a track, joining first if need be."""
        participant = self.here.get(identity) or self.join(identity)
        publication = Publication(self, f"TR_{identity}_{number}", **facts)
        participant.track_publications[publication.sid] = publication
        self.emit("track_published", publication, participant)
        return publication

    def unpublish(self, identity: str, number: int = 1) -> None:
        """Somebody takes a track back."""
        publication = self.here[identity].track_publications.pop(f"TR_{identity}_{number}")
        self.emit("track_unpublished", publication, self.here[identity])

    def mute(self, identity: str, *, muted: bool = True) -> None:
        """Somebody mutes its first track."""
        publication = self.here[identity].track_publications[f"TR_{identity}_1"]
        publication.muted = muted
        self.emit("track_muted" if muted else "track_unmuted", self.here[identity], publication)

    def words(self, identity: str) -> list[str]:
        """What was told of somebody."""
        return [WORDS[heard.speaking] for heard in self.told if heard.sid == f"PA_{identity}"]


def configured(**config: Any) -> Configured:
    """The news that this is in force."""
    return Configured(Config(**config))


def free(places: threading.Semaphore) -> int:
    """How many places are free; none is afterwards."""
    taken = 0
    while places.acquire(blocking=False):
        taken += 1
    return taken


@asynccontextmanager
async def listening(
    room: FakeRoom,
    tell: Callable[[Event], None] | None = None,
    places: threading.Semaphore | None = None,
    **config: Any,
) -> AsyncIterator[Ears]:
    """Ears in that room."""
    ears = Ears(cast(rtc.Room, room), places or threading.Semaphore(PLACES))
    ears.notify(configured(**config or {"hearing": "level"}))
    task = asyncio.create_task(ears.run(tell or cast(Callable[[Event], None], room.told.append)))
    await asyncio.sleep(0)
    try:
        yield ears
    finally:
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@virtual
async def test_it_hears() -> None:
    """Silent before there is a track, not known before it is heard, then as it is."""
    room = FakeRoom()
    async with listening(room):
        publication = room.publish("ana", loud=True)
        await asyncio.sleep(3)

        assert room.words("ana") == ["unknown", "speaking"]
        assert [wanted for _, wanted in publication.asked] == [True]


@virtual
async def test_without_an_open_microphone_nothing_is_asked() -> None:
    """No audio track, only muted ones, only encrypted ones: then it sleeps until something happens."""
    room = FakeRoom()
    async with listening(room):
        room.join("bob")
        room.publish("cam", kind=rtc.TrackKind.KIND_VIDEO)
        room.publish("ana", muted=True)
        encrypted = room.publish("eve", encryption_type=rtc.EncryptionType.GCM)
        await asyncio.sleep(10)
        looks = room.looks
        await asyncio.sleep(10_000)

        assert (room.readings, room.looks) == (0, looks)
        assert [room.words(who) for who in ("ana", "bob", "cam", "eve")] == [["silent"]] * 3 + [["unknown"]]
        assert encrypted.asked == []
        room.mute("ana", muted=False)
        await asyncio.sleep(10)
        assert 15 <= room.readings <= 20


@pytest.mark.parametrize("config", [{"hearing": "off"}, {"hearing": "level", "mode": "off"}])
@virtual
async def test_switched_off_it_does_nothing(config: dict[str, Any]) -> None:
    """Nothing is subscribed to, nothing told."""
    room = FakeRoom()
    async with listening(room, **config):
        publication = room.publish("ana", loud=True)
        await asyncio.sleep(10)

        assert (room.told, publication.asked, room.looks) == ([], [], 0)


@virtual
async def test_off_and_on_are_kept_apart() -> None:
    """A subscription that is given up is not asked for again at once: that sticks."""
    room = FakeRoom()
    async with listening(room) as ears:
        publication = room.publish("ana", loud=True)
        muted = room.publish("bob", muted=True)
        await asyncio.sleep(2)
        for hearing in ("off", "level", "off", "level"):
            ears.notify(configured(hearing=hearing))
            await asyncio.sleep(0.1)
        await asyncio.sleep(5)

        assert room.words("ana") == ["unknown", "speaking", *["unknown"] * 3, "speaking"]
        assert room.words("bob") == ["silent", "unknown", "silent", "unknown", "silent"]
        asked = [at for at, _ in publication.asked]
        assert [wanted for _, wanted in publication.asked] == [True, False, True]
        assert asked[2] - asked[1] >= APART
        assert muted.track


@virtual
async def test_a_muted_track_is_subscribed_to_as_well() -> None:
    """So that it is heard as soon as it is unmuted."""
    room = FakeRoom()
    async with listening(room) as ears:
        publication = room.publish("ana", muted=True)
        await asyncio.sleep(2)
        for hearing in ("off", "level"):
            ears.notify(configured(hearing=hearing))
            await asyncio.sleep(0.1)
        await asyncio.sleep(2)

        assert publication.track
        assert [wanted for _, wanted in publication.asked] == [True, False, True]


@virtual
async def test_a_subscription_that_does_not_come(caplog: pytest.LogCaptureFixture) -> None:
    """It is asked for anew, less and less often, and that somebody can't be heard is said once."""
    room = FakeRoom()
    async with listening(room):
        publication = room.publish("ana", granted=False, loud=True)
        await asyncio.sleep(400)

        assert room.words("ana") == ["unknown"]
        on = [at for at, wanted in publication.asked if wanted]
        pauses = [round(later - earlier) for earlier, later in pairwise(on)]
        assert pauses[0] == pytest.approx(PATIENCE[0], abs=1)
        assert pauses[-1] == pytest.approx(PATIENCE[1], abs=1)
        off = [at for at, wanted in publication.asked if not wanted]
        assert all(APART <= later - earlier <= 1 for earlier, later in zip(off, on[1:], strict=False))
        publication.granted = True
        await asyncio.sleep(70)
        assert room.words("ana") == ["unknown", "speaking"]
        (record,) = caplog.records
        assert (record.levelno, record.getMessage()) == (logging.WARNING, "cannot hear a participant")
        assert vars(record)["lk.pii.participant_identity"] == "ana"


@virtual
async def test_a_subscription_that_is_taken_away() -> None:
    """Not known at once, and asked for anew."""
    room = FakeRoom()
    async with listening(room):
        publication = room.publish("ana", loud=True)
        await asyncio.sleep(2)
        publication.track = None
        room.emit("track_unsubscribed")
        await asyncio.sleep(0.1)
        assert room.words("ana") == ["unknown", "speaking", "unknown"]
        await asyncio.sleep(PATIENCE[0] - 1)
        assert len(publication.asked) == 1

        await asyncio.sleep(5)
        assert room.words("ana") == ["unknown", "speaking", "unknown", "speaking"]


@pytest.mark.parametrize(
    "trouble",
    [{"error": Exception("the SDK raises such")}, {"answers_after": 1e9}, {"receiving": False}],
    ids=["fails", "hangs", "receives nothing"],
)
@virtual
async def test_readings_that_fail(trouble: dict[str, Any]) -> None:
    """One that can't be read is not known, and the others are heard all the same."""
    room = FakeRoom()
    async with listening(room):
        fine = {"error": None, "answers_after": 0.002, "receiving": True}
        publication = room.publish("ana", loud=True)
        other = room.publish("bob")
        await asyncio.sleep(2)
        vars(publication).update(trouble)
        await asyncio.sleep(5)
        assert room.words("ana") == ["unknown", "speaking", "unknown"]
        other.loud = True
        await asyncio.sleep(5)
        assert room.words("bob") == ["unknown", "silent", "speaking"]

        vars(publication).update(fine)
        await asyncio.sleep(5)
        assert room.words("ana") == ["unknown", "speaking", "unknown", "speaking"]


@virtual
async def test_many_tracks_are_read_a_few_at_a_time() -> None:
    """So many that it takes long: then less often, so that it is never busier than idle."""
    room = FakeRoom()
    async with listening(room):
        for i in range(400):
            room.publish(f"P{i}", answers_after=0.008)
        await asyncio.sleep(60)

        assert room.at_once == AT_ONCE
        one_round = 400 / AT_ONCE * 0.008
        assert one_round > POLL
        assert room.readings / 400 == pytest.approx(60 / (2 * one_round), abs=2)


@virtual
async def test_gone_in_the_middle_of_a_reading() -> None:
    """A track, or its participant, that goes while it is read is no error, and what the reading says is not told."""
    room = FakeRoom()
    async with listening(room):
        ana, bob = room.publish("ana"), room.publish("bob")
        await asyncio.sleep(3.1)
        assert (room.words("ana"), room.words("bob")) == (["unknown", "silent"], ["unknown", "silent"])

        def go() -> None:
            room.leave("ana")
            room.unpublish("bob")

        ana.loud = bob.loud = True
        bob.meanwhile = go
        await asyncio.sleep(3)

        assert list(room.here) == ["bob"]
        assert (room.words("ana"), room.words("bob")) == (["unknown", "silent"], ["unknown", "silent"])


@virtual
async def test_a_burst_of_events_is_one_look() -> None:
    """Or a few, if it lasts."""
    room = FakeRoom()
    async with listening(room):
        room.publish("ana", muted=True)
        await asyncio.sleep(3)
        looks = room.looks
        for muted in (False, True) * 100:
            room.mute("ana", muted=muted)
            await asyncio.sleep(0.001)

        assert room.looks - looks <= 0.2 / module.SETTLE + 2


@virtual
async def test_thousands_of_changes_leave_nothing_behind() -> None:
    """Mutes, tracks and participants that come and go: in the end there is what there was."""
    room = FakeRoom()
    async with listening(room) as ears:
        publication = room.publish("ana")
        tasks = len(asyncio.all_tasks())
        for _ in range(3000):
            room.mute("ana")
            await asyncio.sleep(0.03)
            room.mute("ana", muted=False)
            room.publish("ana", 2)
            room.publish("eve", encryption_type=rtc.EncryptionType.GCM)
            await asyncio.sleep(0.03)
            room.leave("eve")
            room.unpublish("ana", 2)
        publication.loud = True
        await asyncio.sleep(3)

        assert room.words("ana")[-1] == "speaking"
        assert len(publication.asked) == 1
        assert len(asyncio.all_tasks()) == tasks
        assert (len(ears._ears), len(ears._voices._voices)) == (1, 1)  # noqa: SLF001 - what is meant by a leak
        for i in range(2 * module.REMEMBERED):
            room.publish(f"P{i}", encryption_type=rtc.EncryptionType.GCM)
            await asyncio.sleep(0.03)
            room.leave(f"P{i}")
        assert len(ears._said) == module.REMEMBERED  # noqa: SLF001 - as above


@pytest.mark.parametrize("blind", [0.0, 0.1])
@virtual
async def test_a_full_reconnect(blind: float) -> None:
    """Everybody is back with the same sids and other objects, unsubscribed: all is asked for and told anew.

    But not before it is over: a subscription asked for earlier is lost.
    """
    room = FakeRoom()
    async with listening(room):
        room.publish("ana", loud=True)
        room.join("bob")
        await asyncio.sleep(3)
        room.told.clear()
        for identity in ("ana", "bob"):
            room.leave(identity)
        room.emit("reconnecting")
        before = room.readings
        if blind:
            await asyncio.sleep(blind)
        publication = room.publish("ana", loud=True)
        room.join("bob")
        if blind:
            await asyncio.sleep(blind)
        assert (publication.asked, room.readings) == ([], before)
        known = len(room.told)
        room.emit("reconnected")
        await asyncio.sleep(3)

        assert {heard.speaking for heard in room.told[:known]} <= {None}
        del room.told[:known]
        assert (room.words("ana"), room.words("bob")) == (["unknown", "speaking"], ["silent"])
        assert len(publication.asked) == 1


@virtual
async def test_a_reconnect_in_the_middle_of_a_reading() -> None:
    """What is published meanwhile is not asked for before it is over."""
    room = FakeRoom()
    async with listening(room):
        publication = room.publish("ana")
        await asyncio.sleep(3.1)
        again = []

        def reconnect() -> None:
            room.leave("ana")
            room.emit("reconnecting")
            again.append(room.publish("ana", loud=True))

        publication.meanwhile = reconnect
        await asyncio.sleep(1)
        assert again[0].asked == []
        room.emit("reconnected")
        await asyncio.sleep(2)

        assert [wanted for _, wanted in again[0].asked] == [True]
        assert room.words("ana")[-2:] == ["unknown", "speaking"]


@virtual
async def test_a_short_interruption() -> None:
    """The subscription lives on, and yet nobody knows what was said meanwhile."""
    room = FakeRoom()
    async with listening(room):
        publication = room.publish("ana", loud=True)
        await asyncio.sleep(3)
        room.told.clear()
        room.emit("reconnecting")
        await asyncio.sleep(0.1)
        assert room.words("ana") == ["unknown"]
        room.emit("reconnected")
        at = room.loop.time()
        await asyncio.sleep(3)

        assert room.words("ana") == ["unknown", "unknown", "speaking"]
        assert room.told[-1].at >= at
        assert len(publication.asked) == 1


@virtual
async def test_an_error_of_ours_is_logged_once_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Meanwhile nothing is known of anybody."""
    room = FakeRoom()
    async with listening(room):
        room.publish("ana", loud=True)
        await asyncio.sleep(3)
        room.error = RuntimeError("the test says so")
        await asyncio.sleep(60)
        assert room.words("ana") == ["unknown", "speaking", "unknown"]
        assert [record.getMessage() for record in caplog.records] == ["hearing failed"]

        room.error = None
        await asyncio.sleep(10)
        assert room.words("ana") == ["unknown", "speaking", "unknown", "unknown", "speaking"]


@virtual
async def test_a_listener_that_raises_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Not even one that does so all the time."""

    def tell(event: Event) -> None:
        raise RuntimeError(str(event))

    room = FakeRoom()
    async with listening(room, tell):
        room.publish("ana", loud=True)
        await asyncio.sleep(60)

    assert [record.getMessage() for record in caplog.records] == ["hearing failed"]


class Detector:
    """Stands in for what listens to tracks: it finds speech where a publication says that there is some."""

    def __init__(self, room: FakeRoom) -> None:
        self._room = room
        self.loaded: object | None = object()
        self.open: list[str] = []
        """The tracks that are listened to, by their sid."""
        self.opened = 0
        self.error: Exception | None = None

    async def load(self) -> object | None:
        """The detector, if it could be loaded."""
        return self.loaded

    async def listen(self, track: Track, vad: object, hear: Hear) -> None:
        """Listen until cancelled."""
        assert vad is self.loaded
        publication = track._publication  # noqa: SLF001 - a double of this module
        assert publication.track is track
        assert not publication.muted
        self.open.append(publication.sid)
        self.opened += 1
        try:
            said = False
            while True:
                await asyncio.sleep(0.3)
                if self.error:
                    raise self.error
                if said is not publication.talks:
                    said = publication.talks
                    hear(self._room.loop.time() - 0.2, speaking=said)
        finally:
            # Closing takes a moment, and something may still be told.
            hear(self._room.loop.time(), speaking=True)
            await asyncio.sleep(0.05)
            hear(self._room.loop.time(), speaking=True)
            self.open.remove(publication.sid)


@asynccontextmanager
async def listening_for_speech(
    room: FakeRoom, monkeypatch: pytest.MonkeyPatch, places: int = PLACES
) -> AsyncIterator[tuple[Ears, Detector]]:
    """Ears that go by speech, and what they listen with; in the end all places are free."""
    detector = Detector(room)
    monkeypatch.setattr(module, "detector", detector.load)
    monkeypatch.setattr(module, "listen", detector.listen)
    shared = threading.BoundedSemaphore(places)
    async with listening(room, places=shared, hearing="speech") as ears:
        yield ears, detector
    assert detector.open == []
    assert free(shared) == places


@virtual
async def test_sound_is_no_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loud track is silent until somebody talks, and again once nobody does; both are dated as they are told."""
    room = FakeRoom()
    async with listening_for_speech(room, monkeypatch):
        publication = room.publish("ana", loud=True)
        await asyncio.sleep(3)
        assert room.words("ana") == ["unknown", "silent"]
        for talks in (True, False):
            publication.talks = talks
            at = room.loop.time()
            await asyncio.sleep(2)
            assert at - 0.2 <= room.told[-1].at <= at + 0.1

        assert room.words("ana") == ["unknown", "silent", "speaking", "silent"]


@virtual
async def test_only_what_sounds_is_listened_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """For half a minute after it was published, unmuted or last heard; never while muted, and never what can't be."""
    room = FakeRoom()
    async with listening_for_speech(room, monkeypatch) as (_, detector):
        quiet, talker = room.publish("ana"), room.publish("bob", loud=True, talks=True)
        room.publish("cam", kind=rtc.TrackKind.KIND_VIDEO)
        room.publish("eve", encryption_type=rtc.EncryptionType.GCM)
        room.publish("mia", muted=True)
        await asyncio.sleep(LISTEN_FOR - 2)
        assert sorted(detector.open) == ["TR_ana_1", "TR_bob_1"]
        await asyncio.sleep(4)
        assert detector.open == ["TR_bob_1"]
        room.mute("mia", muted=False)
        await asyncio.sleep(1)
        assert sorted(detector.open) == ["TR_bob_1", "TR_mia_1"]
        await asyncio.sleep(LISTEN_FOR)
        talker.loud = talker.talks = False
        await asyncio.sleep(LISTEN_FOR - 2)
        assert detector.open == ["TR_bob_1"]
        await asyncio.sleep(4)
        assert (detector.open, detector.opened) == ([], 3)

        quiet.loud = quiet.talks = True
        at = room.loop.time()
        await asyncio.sleep(2)
        assert room.words("ana") == ["unknown", "silent", "unknown", "speaking"]
        assert at - POLL <= room.told[-1].at <= at + POLL
        assert detector.open == ["TR_ana_1"]
        room.mute("ana")
        await asyncio.sleep(1)
        assert detector.open == []
        assert room.words("ana")[-1] == "silent"


@virtual
async def test_several_tracks_that_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who talks on any of them speaks."""
    room = FakeRoom()
    async with listening_for_speech(room, monkeypatch):
        voice, music = room.publish("ana"), room.publish("ana", 2, loud=True)
        await asyncio.sleep(3)
        assert room.words("ana") == ["unknown", "silent"]
        voice.loud = voice.talks = True
        await asyncio.sleep(3)
        assert room.words("ana") == ["unknown", "silent", "speaking"]
        music.talks = True
        await asyncio.sleep(3)
        room.unpublish("ana", 1)
        await asyncio.sleep(3)
        assert room.words("ana") == ["unknown", "silent", "speaking"]


@virtual
async def test_more_than_can_be_listened_to(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The first that sound are listened to, the same ones always; the rest is heard by level, and that is said once."""
    room = FakeRoom()
    async with listening_for_speech(room, monkeypatch) as (_, detector):
        for i in range(200):
            room.publish(f"quiet{i}")
        await asyncio.sleep(3)
        assert len(detector.open) == MAX_LISTENERS
        assert caplog.records == []
        first = [room.publish(f"first{i}", loud=True) for i in range(MAX_LISTENERS)]
        await asyncio.sleep(3)
        assert sorted(detector.open) == sorted(publication.sid for publication in first)
        assert caplog.records == []
        late = room.publish("late", loud=True)
        room.publish("later", loud=True)
        for i in range(10):
            await asyncio.sleep(POLL)
            room.mute("quiet1", muted=i % 2 == 0)
        assert detector.opened == 2 * MAX_LISTENERS
        assert room.words("late") == room.words("later") == ["unknown", "speaking"]
        assert {tuple(room.words(f"first{i}")) for i in range(MAX_LISTENERS)} == {("unknown", "silent")}

        room.here["quiet0"].track_publications["TR_quiet0_1"].loud = True
        await asyncio.sleep(3)
        assert detector.opened == 2 * MAX_LISTENERS
        assert room.words("quiet0") == ["unknown", "silent", "speaking"]
        room.leave("quiet0")
        room.mute("first3")
        await asyncio.sleep(3)
        assert late.sid in detector.open
        assert room.words("late")[-1] == "silent"
        assert room.words("later") == ["unknown", "speaking"]
        (record,) = caplog.records
        assert (record.levelno, record.getMessage()) == (logging.WARNING, "hearing some by level")
        assert str(MAX_LISTENERS) in vars(record)["why"]


@virtual
async def test_the_places_of_the_worker(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever sounds gets one before who doesn't; if there is none, it is heard by level, and that is said once."""
    room = FakeRoom()
    async with listening_for_speech(room, monkeypatch, places=3) as (_, detector):
        for i in range(10):
            room.publish(f"quiet{i}")
        await asyncio.sleep(3)
        assert len(detector.open) == 3
        first = [room.publish(f"first{i}", loud=True) for i in range(3)]
        await asyncio.sleep(3)
        assert sorted(detector.open) == sorted(publication.sid for publication in first)
        assert {tuple(room.words(f"first{i}")) for i in range(3)} == {("unknown", "silent")}
        assert caplog.records == []
        late = room.publish("late", loud=True)
        await asyncio.sleep(10)
        assert detector.opened == 6
        assert room.words("late") == ["unknown", "speaking"]
        assert room.words("quiet0") == ["unknown", "silent"]

        room.mute("first1")
        await asyncio.sleep(3)
        assert late.sid in detector.open
        assert room.words("late")[-1] == "silent"
        (record,) = caplog.records
        assert (record.levelno, record.getMessage()) == (logging.WARNING, "hearing some by level")
        assert "BOUNCER_MAX_SPEECH" in vars(record)["why"]


@virtual
async def test_rooms_share_the_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one room doesn't need any more is another one's."""
    places = threading.BoundedSemaphore(1)
    first, other = FakeRoom(), FakeRoom()
    detector = Detector(first)
    monkeypatch.setattr(module, "detector", detector.load)
    monkeypatch.setattr(module, "listen", detector.listen)
    async with listening(other, places=places, hearing="speech"):
        async with listening(first, places=places, hearing="speech"):
            first.publish("ana", loud=True)
            await asyncio.sleep(3)
            other.publish("bob", loud=True)
            await asyncio.sleep(3)
            assert detector.open == ["TR_ana_1"]
            assert (first.words("ana"), other.words("bob")) == (["unknown", "silent"], ["unknown", "speaking"])
        await asyncio.sleep(3)
        assert detector.open == ["TR_bob_1"]
        assert other.words("bob")[-1] == "silent"
    assert free(places) == 1


@virtual
async def test_listening_that_fails(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """That track is heard by level for a while, which is said once; the others are listened to."""
    room = FakeRoom()
    async with listening_for_speech(room, monkeypatch) as (_, detector):
        room.publish("ana", loud=True)
        await asyncio.sleep(60)
        failed_at = room.loop.time()
        detector.error = ValueError("the test says so")
        await asyncio.sleep(1)
        detector.error = None
        other = room.publish("bob", loud=True)
        await asyncio.sleep(3)
        assert (room.words("ana"), room.words("bob")) == (["unknown", "silent", "speaking"], ["unknown", "silent"])
        assert detector.open == [other.sid]
        # That the noise of the last minute was no speech remains so.
        assert next(heard.at for heard in room.told if heard.speaking) >= failed_at
        await asyncio.sleep(DEAF_FOR)
        assert room.words("ana") == ["unknown", "silent", "speaking", "unknown", "silent"]
        assert len(detector.open) == 2
        detector.error = ValueError("the test says so")
        await asyncio.sleep(1)
        (record,) = caplog.records
        assert record.getMessage() == "listening failed"
        assert record.exc_info


@virtual
async def test_without_a_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    """All are heard by level."""
    room = FakeRoom()
    async with listening_for_speech(room, monkeypatch) as (_, detector):
        detector.loaded = None
        room.publish("ana", loud=True)
        await asyncio.sleep(3)

        assert room.words("ana") == ["unknown", "speaking"]
        assert detector.opened == 0


@virtual
async def test_the_way_of_hearing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often; from one to the other the subscription is kept."""
    room = FakeRoom()
    async with listening_for_speech(room, monkeypatch) as (ears, detector):
        noise, talk = room.publish("ana", loud=True), room.publish("bob", loud=True, talks=True)
        await asyncio.sleep(3)
        for _ in range(300):
            for hearing in ("level", "speech"):
                ears.notify(configured(hearing=hearing))
                await asyncio.sleep(0.02)
        ears.notify(configured(hearing="level"))
        await asyncio.sleep(3)
        assert detector.open == []
        assert room.words("ana")[-1] == room.words("bob")[-1] == "speaking"
        ears.notify(configured(hearing="speech"))
        await asyncio.sleep(3)
        assert room.words("ana")[-2:] == ["unknown", "silent"]
        assert room.words("bob")[-2:] == ["unknown", "speaking"]
        assert len(noise.asked) == len(talk.asked) == 1
        for config in ({"hearing": "off"}, {"hearing": "speech", "mode": "off"}):
            ears.notify(configured(**config))
            await asyncio.sleep(1)
            assert detector.open == []
        assert noise.asked[-1][1] is False


@virtual
async def test_listening_through_thousands_of_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutes, tracks, participants and connections that come and go: each track that is open has one listener."""
    room = FakeRoom()
    async with listening_for_speech(room, monkeypatch) as (ears, detector):
        publication, noise = room.publish("ana", loud=True, talks=True), room.publish("bob", loud=True)
        await asyncio.sleep(3)
        tasks = len(asyncio.all_tasks())
        for i in range(2000):
            for who in ("ana", "bob"):
                room.mute(who)
            await asyncio.sleep(0.03)
            for who in ("ana", "bob"):
                room.mute(who, muted=False)
            room.publish("ana", 2)
            room.publish("eve", loud=True)
            await asyncio.sleep(0.12)
            room.leave("eve")
            room.unpublish("ana", 2)
            if i % 10 == 0:
                room.emit("reconnecting")
                await asyncio.sleep(0.05 * (i % 20 == 0))
                room.emit("reconnected")
            assert len(detector.open) <= 8
        await asyncio.sleep(3)

        assert detector.opened > 5000
        assert sorted(detector.open) == [publication.sid, noise.sid]
        assert room.words("ana")[-1] == "speaking"
        assert "speaking" not in room.words("bob")
        assert len(asyncio.all_tasks()) == tasks
        assert len(ears._listeners) == 2  # noqa: SLF001 - what is meant by a leak
        for who in ("ana", "bob"):
            room.leave(who)
        await asyncio.sleep(1)
        assert (detector.open, len(ears._listeners)) == ([], 0)  # noqa: SLF001 - as above


@pytest.mark.parametrize("blind", [0.0, 0.1])
@virtual
async def test_an_interruption_while_somebody_talks(blind: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever talks is listened to anew, whether the publication is another one or the same."""
    room = FakeRoom()
    async with listening_for_speech(room, monkeypatch) as (_, detector):
        room.publish("ana", loud=True, talks=True)
        room.publish("bob", loud=True, talks=True)
        await asyncio.sleep(3)
        room.told.clear()
        room.leave("ana")
        room.emit("reconnecting")
        await asyncio.sleep(blind)
        assert bool(detector.open) is not bool(blind)
        room.publish("ana", loud=True, talks=True)
        room.emit("reconnected")
        await asyncio.sleep(3)

        assert room.words("ana")[-2:] == room.words("bob")[-2:] == ["unknown", "speaking"]
        assert sorted(detector.open) == ["TR_ana_1", "TR_bob_1"]
        assert detector.opened == 4


@virtual
async def test_another_track_of_the_same_publication(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new subscription has a new track: that is what is listened to."""
    room = FakeRoom()
    async with listening_for_speech(room, monkeypatch) as (_, detector):
        publication = room.publish("ana", loud=True, talks=True)
        await asyncio.sleep(3)
        publication.track = Track(publication)
        room.emit("track_subscribed")
        await asyncio.sleep(3)

        assert detector.opened == 2
        assert detector.open == [publication.sid]
        assert room.words("ana") == ["unknown", "speaking", "unknown", "speaking"]


@virtual
async def test_a_track_published_anew_under_the_same_sid(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is another one, of which nothing is known, whatever the listener of the first still says."""
    room = FakeRoom()
    async with listening_for_speech(room, monkeypatch) as (_, detector):
        room.publish("ana", loud=True, talks=True)
        await asyncio.sleep(3)
        room.unpublish("ana")
        again = room.publish("ana")
        await asyncio.sleep(3)

        assert room.words("ana") == ["unknown", "speaking", "unknown", "silent"]
        assert (detector.open, detector.opened) == ([again.sid], 2)
        again.loud = again.talks = True
        await asyncio.sleep(3)
        assert room.words("ana")[-1] == "speaking"


@virtual
async def test_a_track_that_stalls_while_somebody_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The detector hears silence, and yet that is not known."""
    room = FakeRoom()
    async with listening_for_speech(room, monkeypatch):
        publication = room.publish("ana", loud=True, talks=True)
        await asyncio.sleep(3)
        publication.stalled, publication.talks = True, False
        await asyncio.sleep(5)
        assert room.words("ana") == ["unknown", "speaking", "unknown"]

        publication.stalled, publication.talks = False, True
        await asyncio.sleep(3)
        assert room.words("ana") == ["unknown", "speaking", "unknown", "speaking"]


def test_the_constants_fit_each_other() -> None:
    """A reading that hangs, and the pause that it makes longer, don't make the others unknown."""
    assert 2 * ANSWER_WITHIN < KNOWN_FOR
