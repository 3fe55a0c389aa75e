"""Ears on a room in memory, in virtual time: what a real server can't be made to do, or not a thousand times.

That a real one behaves like this is for tests/e2e/test_hearing.py to show, and that speech is found for test_speech.py.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any, cast

import pytest
from livekit import rtc
from livekit.rtc._proto.stats_pb2 import RtcStats

from bouncer.adapter import microphone as microphone_module
from bouncer.adapter.ears import AT_ONCE, MAX_DETECTORS, REMEMBERED, SETTLE, Ears
from bouncer.adapter.microphone import ANSWER_WITHIN, APART, DEAF_FOR, PATIENCE
from bouncer.adapter.speech import SpeechCallback
from bouncer.configuration.model import Config
from bouncer.events import Event, Heard
from bouncer.hearing import KNOWN_FOR, LISTEN_FOR, POLL
from bouncer.observers import Configured
from tests.virtual import virtual

SUBSCRIBED_AFTER = 0.05
PLACES = 100
"""More than a test needs that is not about them."""
WORDS = {True: "speaking", False: "silent", None: "unknown"}


class Track:
    """A received track: as loud as its publication says, from when it was subscribed to."""

    def __init__(self, publication: "Publication") -> None:
        self._publication = publication
        self._began = publication.room.now
        self._received = 0.0

    async def get_stats(self) -> list[RtcStats]:
        """Return what the receiver has counted."""
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
        self.name = "voice"
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
    """A participant in the room."""

    def __init__(self, identity: str) -> None:
        self.identity = identity
        self.sid = f"PA_{identity}"
        self.track_publications: dict[str, Publication] = {}


class FakeRoom(rtc.EventEmitter[str]):
    """As much of a room as ears look at, and what they tell about it."""

    def __init__(self) -> None:
        super().__init__()
        self.name = "room"
        self.loop = asyncio.get_running_loop()
        self._started_at = self.loop.time()
        self.here: dict[str, Participant] = {}
        self.published: list[Publication] = []
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
        """Everyone except us."""
        self.looks += 1
        if self.error:
            raise self.error
        return self.here

    def join(self, identity: str) -> Participant:
        """Join."""
        self.here[identity] = Participant(identity)
        self.emit("participant_connected", self.here[identity])
        return self.here[identity]

    def leave(self, identity: str) -> None:
        """Leave."""
        self.emit("participant_disconnected", self.here.pop(identity))

    def publish(self, identity: str, number: int = 1, **facts: Any) -> Publication:
        """Publish a track, joining first if need be."""
        participant = self.here.get(identity) or self.join(identity)
        publication = Publication(self, f"TR_{identity}_{number}", **facts)
        participant.track_publications[publication.sid] = publication
        self.published.append(publication)
        self.emit("track_published", publication, participant)
        return publication

    def unpublish(self, identity: str, number: int = 1) -> None:
        """Unpublish a track."""
        publication = self.here[identity].track_publications.pop(f"TR_{identity}_{number}")
        self.emit("track_unpublished", publication, self.here[identity])

    def mute(self, identity: str, *, muted: bool = True) -> None:
        """Mute a participant's first track."""
        publication = self.here[identity].track_publications[f"TR_{identity}_1"]
        publication.muted = muted
        self.emit("track_muted" if muted else "track_unmuted", self.here[identity], publication)

    def words(self, identity: str) -> str:
        """Return what was told about a participant."""
        return " ".join(WORDS[heard.speaking] for heard in self.told if heard.sid == f"PA_{identity}")

    def track(self, identity: str) -> "Publication":
        """Return a participant's first track."""
        return self.here[identity].track_publications[f"TR_{identity}_1"]

    def set(self, identity: str, **facts: Any) -> None:
        """Change a participant's first track."""
        vars(self.track(identity)).update(facts)


class Detector:
    """Stands in for the detector: it finds speech where a publication says that there is some."""

    def __init__(self, room: FakeRoom) -> None:
        self._room = room
        self.loaded: object | None = object()
        self.open: list[str] = []
        """The tracks that are listened to, by their sid."""
        self.opened = 0
        self.error: Exception | None = None

    async def load(self) -> object | None:
        """Return the detector, if it could be loaded."""
        return self.loaded

    async def listen(self, track: Track, vad: object, hear: SpeechCallback) -> None:
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


class Scene:
    """A room with ears, their detector, and what they have told."""

    def __init__(self, room: FakeRoom, ears: Ears, detector: Detector) -> None:
        self.room, self.ears, self.detector = room, ears, detector

    def configure(self, **config: Any) -> None:
        """Put this into force."""
        self.ears.notify(Configured(Config(**config)))

    def facts(self, names: Mapping[str, object], caplog: pytest.LogCaptureFixture) -> dict[str, object]:
        """Return what is known under these names; all others are participants."""
        asked = {
            f"asked {p.sid[3:-2]}": " ".join("on" if wanted else "off" for _, wanted in p.asked)
            for p in self.room.published
        }
        known = asked | {
            "open": " ".join(sorted(sid[3:-2] for sid in self.detector.open)),
            "opened": self.detector.opened,
            "log": caplog.messages,
            "readings": self.room.readings,
        }
        return {name: known.get(name, self.room.words(name)) for name in names}


Act = Callable[[Scene], object]
Row = tuple[float, Act, Mapping[str, object]]
"""Seconds after the row before; what happens; and what is known right before that happens."""


def no_places_left(places: threading.Semaphore) -> int:
    """Take all free places, and count them."""
    taken = 0
    while places.acquire(blocking=False):
        taken += 1
    return taken


@asynccontextmanager
async def listening(
    monkeypatch: pytest.MonkeyPatch,
    tell: Callable[[Event], None] | None = None,
    places: int | threading.Semaphore = PLACES,
    microphones: int = 10_000,
    **config: Any,
) -> AsyncIterator[Scene]:
    """Run ears in a room of their own. In the end nothing listens any more, and all places are free."""
    room = FakeRoom()
    detector = Detector(room)
    monkeypatch.setattr(microphone_module, "detect", detector.listen)
    shared = threading.BoundedSemaphore(places) if isinstance(places, int) else places
    listened = threading.BoundedSemaphore(microphones)
    scene = Scene(room, Ears(cast("rtc.Room", room), listened, shared, cast("Any", detector.load)), detector)
    scene.configure(**config or {"hearing": "level"})
    task = asyncio.create_task(scene.ears.run(tell or cast("Callable[[Event], None]", room.told.append)))
    await asyncio.sleep(0)
    try:
        yield scene
    finally:
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert detector.open == []
    assert no_places_left(listened) == microphones
    if isinstance(places, int):
        assert no_places_left(shared) == places


async def play(scene: Scene, rows: Sequence[Row], caplog: pytest.LogCaptureFixture) -> None:
    """Play these rows."""
    for number, (seconds, act, known) in enumerate(rows):
        await asyncio.sleep(seconds)
        assert scene.facts(known, caplog) == dict(known), f"row {number}"
        act(scene)


def nothing(_: Scene) -> None:
    """Do nothing, and look."""


def publish(identity: str, number: int = 1, **facts: Any) -> Act:
    """Publish a track."""
    return lambda scene: scene.room.publish(identity, number, **facts)


def become(identity: str, **facts: Any) -> Act:
    """Change a participant's first track."""
    return lambda scene: scene.room.set(identity, **facts)


def mute(identity: str, *, muted: bool = True) -> Act:
    """Mute a participant's first track."""
    return lambda scene: scene.room.mute(identity, muted=muted)


def hear(**config: Any) -> Act:
    """Put another configuration into force."""
    return lambda scene: scene.configure(**config)


def emit(event: str) -> Act:
    """Have the SDK tell something."""
    return lambda scene: scene.room.emit(event)


def all_of(*acts: Act) -> Act:
    """Do all of these at once."""
    return lambda scene: [act(scene) for act in acts]


def go_while_read(scene: Scene) -> None:
    """Have one participant leave, and another's track go, while it is read."""

    def go() -> None:
        scene.room.leave("ana")
        scene.room.unpublish("bob")

    scene.room.set("bob", meanwhile=go)


def reconnect_while_read(scene: Scene) -> None:
    """Have everything go and come back while a track is read, before `reconnected`."""

    def go() -> None:
        scene.room.leave("ana")
        scene.room.emit("reconnecting")
        scene.room.publish("ana", loud=True)

    scene.room.set("ana", meanwhile=go)


def another_track(scene: Scene) -> None:
    """Subscribe to the same publication again."""
    scene.room.track("ana").track = Track(scene.room.track("ana"))
    scene.room.emit("track_subscribed")


def take_away(scene: Scene) -> None:
    """Take the subscription away."""
    scene.room.track("ana").track = None
    scene.room.emit("track_unsubscribed")


def broken(error: Exception | None) -> Act:
    """Have looking at the room fail, or not."""
    return lambda scene: setattr(scene.room, "error", error)


def detector_fails(error: Exception | None) -> Act:
    """Have the detector fail, or not."""
    return lambda scene: setattr(scene.detector, "error", error)


def unread(**trouble: Any) -> list[Row]:
    """Have a track that can't be read for a while, and another one alongside."""
    fine = {"error": None, "answers_after": 0.002, "receiving": True}
    return [
        (0, all_of(publish("ana", loud=True), publish("bob")), {}),
        (2, become("ana", **trouble), {"ana": "unknown speaking"}),
        (5, become("bob", loud=True), {"ana": "unknown speaking unknown", "bob": "unknown silent"}),
        (5, become("ana", **fine), {"bob": "unknown silent speaking"}),
        (5, nothing, {"ana": "unknown speaking unknown speaking"}),
    ]


GCM = rtc.EncryptionType.GCM
VIDEO = rtc.TrackKind.KIND_VIDEO
ERROR = RuntimeError("the test says so")
BOTH_LEAVE = all_of(lambda it: it.room.leave("ana"), lambda it: it.room.leave("bob"), emit("reconnecting"))

LEVEL: dict[str, list[Row]] = {
    "it hears: silent before there is a track, unknown before it is heard, then as it is": [
        (0, publish("ana", loud=True), {}),
        (3, nothing, {"ana": "unknown speaking", "asked ana": "on"}),
    ],
    "no open microphone: nothing is read; what is encrypted is never known, nor subscribed to": [
        (0, all_of(publish("cam", kind=VIDEO), publish("ana", muted=True), publish("eve", encryption_type=GCM)), {}),
        (9999, nothing, {"readings": 0, "ana": "silent", "cam": "silent", "eve": "unknown", "asked eve": ""}),
    ],
    "a track that is no one's voice counts as absent, until the configuration says otherwise": [
        (0, publish("ana", loud=True, name="background_audio"), {}),
        (3, hear(hearing="level", ignore_tracks=("music*",)), {"ana": "silent", "asked ana": ""}),
        (3, nothing, {"ana": "silent unknown speaking", "asked ana": "on"}),
    ],
    "a muted track is subscribed to as well, so that it is heard once it is unmuted": [
        (0, publish("ana", muted=True), {}),
        (2, hear(hearing="off"), {"asked ana": "on"}),
        (0.1, hear(hearing="level"), {}),
        (2, nothing, {"asked ana": "on off on"}),
    ],
    "off and on are kept apart: a subscription given up and asked for at once would stick": [
        (0, all_of(publish("ana", loud=True), publish("bob", muted=True)), {}),
        (2, hear(hearing="off"), {}),
        (0.1, hear(hearing="level"), {}),
        (0.1, hear(hearing="off"), {}),
        (0.1, hear(hearing="level"), {"bob": "silent unknown silent unknown"}),
        (5, nothing, {"ana": "unknown speaking unknown unknown unknown speaking", "asked ana": "on off on"}),
    ],
    "a subscription that is taken away: unknown at once, and asked for again": [
        (0, publish("ana", loud=True), {}),
        (2, take_away, {}),
        (0.1, nothing, {"ana": "unknown speaking unknown"}),
        (PATIENCE.first - 1, nothing, {"asked ana": "on"}),
        (5, nothing, {"ana": "unknown speaking unknown speaking"}),
    ],
    "reading fails": unread(error=Exception("the SDK raises such")),
    "reading hangs": unread(answers_after=1e9),
    "nothing is received": unread(receiving=False),
    "gone in the middle of a reading, of which nothing is told": [
        (0, all_of(publish("ana"), publish("bob")), {}),
        (3.1, all_of(become("ana", loud=True), become("bob", loud=True), go_while_read), {}),
        (3, nothing, {"ana": "unknown silent", "bob": "unknown silent"}),
    ],
    "a full reconnect: all are back as other objects, subscribed to only once it is over": [
        (0, all_of(publish("ana", loud=True), lambda it: it.room.join("bob")), {}),
        (3, BOTH_LEAVE, {"ana": "unknown speaking", "bob": "silent"}),
        (0.1, all_of(publish("ana", loud=True), lambda it: it.room.join("bob")), {}),
        (0.1, emit("reconnected"), {"ana": "unknown speaking unknown", "asked ana": "", "bob": "silent unknown"}),
        (3, nothing, {"ana": "unknown speaking unknown unknown speaking", "bob": "silent unknown silent"}),
    ],
    "a reconnect in the middle of a reading": [
        (0, publish("ana"), {}),
        (3.1, reconnect_while_read, {}),
        (1, emit("reconnected"), {"asked ana": ""}),
        (2, nothing, {"asked ana": "on", "ana": "unknown silent unknown unknown speaking"}),
    ],
    "a short interruption: the subscription lives on, what was said meanwhile is unknown": [
        (0, publish("ana", loud=True), {}),
        (3, emit("reconnecting"), {}),
        (0.1, emit("reconnected"), {"ana": "unknown speaking unknown"}),
        (3, nothing, {"ana": "unknown speaking unknown unknown speaking", "asked ana": "on"}),
    ],
    "an error of ours is logged once and ends nothing; meanwhile nothing is known": [
        (0, publish("ana", loud=True), {}),
        (3, broken(ERROR), {}),
        (60, broken(None), {"ana": "unknown speaking unknown", "log": ["hearing failed"]}),
        (10, nothing, {"ana": "unknown speaking unknown unknown speaking"}),
    ],
}

SPEECH: dict[str, list[Row]] = {
    "sound is no speech: a loud track is silent until someone talks": [
        (0, publish("ana", loud=True), {}),
        (3, become("ana", talks=True), {"ana": "unknown silent"}),
        (2, become("ana", talks=False), {"ana": "unknown silent speaking"}),
        (2, nothing, {"ana": "unknown silent speaking silent"}),
    ],
    "only what sounds is listened to, and for half a minute what was published, unmuted or heard": [
        (0, all_of(publish("ana"), publish("bob", loud=True, talks=True), publish("cam", kind=VIDEO)), {}),
        (0, all_of(publish("eve", encryption_type=GCM), publish("mia", muted=True)), {}),
        (LISTEN_FOR - 2, nothing, {"open": "ana bob"}),
        (4, mute("mia", muted=False), {"open": "bob"}),
        (1, nothing, {"open": "bob mia"}),
        (LISTEN_FOR, become("bob", loud=False, talks=False), {}),
        (LISTEN_FOR - 2, nothing, {"open": "bob"}),
        (4, become("ana", loud=True, talks=True), {"open": "", "opened": 3}),
        (2, mute("ana"), {"open": "ana", "ana": "unknown silent unknown speaking"}),
        (1, nothing, {"open": "", "ana": "unknown silent unknown speaking silent"}),
    ],
    "several tracks: one that carries speech is enough": [
        (0, all_of(publish("ana"), publish("ana", 2, loud=True)), {}),
        (3, become("ana", loud=True, talks=True), {"ana": "unknown silent"}),
        (3, lambda it: vars(it.room.here["ana"].track_publications["TR_ana_2"]).update(talks=True), {}),
        (3, lambda it: it.room.unpublish("ana"), {"ana": "unknown silent speaking"}),
        (3, nothing, {"ana": "unknown silent speaking"}),
    ],
    "detection fails: that track is judged by level for a while, logged once; the others aren't": [
        (0, publish("ana", loud=True), {}),
        (60, detector_fails(ERROR), {}),
        (1, all_of(detector_fails(None), publish("bob", loud=True)), {}),
        (3, nothing, {"ana": "unknown silent speaking", "bob": "unknown silent", "open": "bob"}),
        (DEAF_FOR, detector_fails(ERROR), {"ana": "unknown silent speaking unknown silent", "open": "ana bob"}),
        (1, nothing, {"log": ["speech detection failed"]}),
    ],
    "no detector: all are heard by level": [
        (0, all_of(lambda it: setattr(it.detector, "loaded", None), publish("ana", loud=True)), {}),
        (3, nothing, {"ana": "unknown speaking", "opened": 0}),
    ],
    "an interruption: the same publication and another one are listened to again": [
        (0, all_of(publish("ana", loud=True, talks=True), publish("bob", loud=True, talks=True)), {}),
        (3, all_of(lambda it: it.room.leave("ana"), emit("reconnecting")), {"open": "ana bob"}),
        (0.1, all_of(publish("ana", loud=True, talks=True), emit("reconnected")), {"open": ""}),
        (3, nothing, {"open": "ana bob", "opened": 4, "bob": "unknown speaking unknown unknown speaking"}),
    ],
    "an interruption too short to be seen": [
        (0, publish("ana", loud=True, talks=True), {}),
        (3, all_of(emit("reconnecting"), emit("reconnected")), {}),
        (3, nothing, {"open": "ana", "opened": 2, "ana": "unknown speaking unknown speaking"}),
    ],
    "another track of the same publication": [
        (0, publish("ana", loud=True, talks=True), {}),
        (3, another_track, {}),
        (3, nothing, {"open": "ana", "opened": 2, "ana": "unknown speaking unknown speaking"}),
    ],
    "published again under the same sid: nothing is known of it, whatever the first detection says": [
        (0, publish("ana", loud=True, talks=True), {}),
        (3, all_of(lambda it: it.room.unpublish("ana"), publish("ana")), {}),
        (3, become("ana", loud=True, talks=True), {"ana": "unknown speaking unknown silent", "opened": 2}),
        (3, nothing, {"ana": "unknown speaking unknown silent speaking"}),
    ],
    "a track that stalls sounds silent to the detector, and is unknown": [
        (0, publish("ana", loud=True, talks=True), {}),
        (3, become("ana", stalled=True, talks=False), {}),
        (5, become("ana", stalled=False, talks=True), {"ana": "unknown speaking unknown"}),
        (3, nothing, {"ana": "unknown speaking unknown speaking"}),
    ],
    "the mode changes; the subscription stays until nothing is heard": [
        (0, all_of(publish("ana", loud=True), publish("bob", loud=True, talks=True)), {}),
        (3, hear(hearing="level"), {"open": "ana bob", "ana": "unknown silent", "bob": "unknown speaking"}),
        (3, hear(hearing="speech"), {"open": "", "ana": "unknown silent speaking"}),
        (3, hear(hearing="off"), {"ana": "unknown silent speaking unknown silent", "asked ana": "on"}),
        (1, hear(hearing="speech", mode="off"), {"open": "", "asked ana": "on off"}),
        (1, nothing, {"open": ""}),
    ],
}


@pytest.mark.parametrize(
    ("hearing", "rows"),
    [
        *(pytest.param("level", rows, id=f"level: {name}") for name, rows in LEVEL.items()),
        *(pytest.param("speech", rows, id=f"speech: {name}") for name, rows in SPEECH.items()),
    ],
)
@virtual
async def test_scenes(
    hearing: str, rows: list[Row], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each scene is a table of what happens when, and what is known by then."""
    async with listening(monkeypatch, hearing=hearing) as scene:
        await play(scene, rows, caplog)


@pytest.mark.parametrize("config", [{"hearing": "off"}, {"hearing": "level", "mode": "off"}])
@virtual
async def test_switched_off_it_does_nothing(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is subscribed to, read or told."""
    async with listening(monkeypatch, **config) as scene:
        publication = scene.room.publish("ana", loud=True)
        await asyncio.sleep(10)

        assert (scene.room.told, publication.asked, scene.room.looks) == ([], [], 0)


@virtual
async def test_while_no_microphone_is_open_it_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """It polls only once something happens."""
    async with listening(monkeypatch) as scene:
        scene.room.publish("ana", muted=True)
        await asyncio.sleep(10)
        looks = scene.room.looks
        await asyncio.sleep(10_000)
        assert scene.room.looks == looks

        scene.room.mute("ana", muted=False)
        await asyncio.sleep(10)
        assert 15 <= scene.room.readings <= 20


@virtual
async def test_a_subscription_that_does_not_come(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is requested again, less and less often, each time off and then on. That is logged once."""
    async with listening(monkeypatch) as scene:
        publication = scene.room.publish("ana", granted=False, loud=True)
        await asyncio.sleep(400)

        on = [at for at, wanted in publication.asked if wanted]
        off = [at for at, wanted in publication.asked if not wanted]
        pauses = [round(later - earlier) for earlier, later in pairwise(on)]
        assert (pauses[0], pauses[-1]) == pytest.approx((PATIENCE.first, PATIENCE.longest), abs=1)
        assert all(APART <= later - earlier <= 1 for earlier, later in zip(off, on[1:], strict=False))
        publication.granted = True
        await asyncio.sleep(70)
        assert scene.room.words("ana") == "unknown speaking"
        (record,) = caplog.records
        assert (record.levelname, record.message) == ("WARNING", "cannot hear a participant")
        assert vars(record)["lk.pii.participant_identity"] == "ana"


@virtual
async def test_many_tracks_are_read_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """If reading takes long, it is done less often, so that it is never busier than idle."""
    async with listening(monkeypatch) as scene:
        for i in range(400):
            scene.room.publish(f"P{i}", answers_after=0.008)
        await asyncio.sleep(60)

        one_round = 400 / AT_ONCE * 0.008
        assert scene.room.at_once == AT_ONCE
        assert one_round > POLL
        assert scene.room.readings / 400 == pytest.approx(60 / (2 * one_round), abs=2)


@virtual
async def test_a_burst_of_events_is_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long burst is a few looks."""
    async with listening(monkeypatch) as scene:
        scene.room.publish("ana", muted=True)
        await asyncio.sleep(3)
        looks = scene.room.looks
        for muted in (False, True) * 100:
            scene.room.mute("ana", muted=muted)
            await asyncio.sleep(0.001)

        assert scene.room.looks - looks <= 0.2 / SETTLE + 2


@virtual
async def test_an_observer_that_raises_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even if it raises every time. That is logged once."""

    def tell(event: Event) -> None:
        raise RuntimeError(str(event))

    async with listening(monkeypatch, tell) as scene:
        scene.room.publish("ana", loud=True)
        await asyncio.sleep(60)

    assert caplog.messages == ["hearing failed"]


@virtual
async def test_dates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speech has the detector's date. After an interruption, nothing began before its end."""
    async with listening(monkeypatch, hearing="speech") as scene:
        scene.room.publish("ana", loud=True)
        await asyncio.sleep(3)
        for talks in (True, False, True):
            scene.room.set("ana", talks=talks)
            at = scene.room.loop.time()
            await asyncio.sleep(2)
            assert at - 0.2 <= scene.room.told[-1].at <= at + 0.1
        scene.room.emit("reconnecting")
        await asyncio.sleep(0.1)
        scene.room.emit("reconnected")
        at = scene.room.loop.time()
        await asyncio.sleep(3)

        assert (scene.room.told[-1].speaking, scene.room.told[-1].at >= at) == (True, True)


@virtual
async def test_noise_before_a_failure_was_no_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    """If detection fails, the level counts from then on, not from when the noise began."""
    async with listening(monkeypatch, hearing="speech") as scene:
        scene.room.publish("ana", loud=True)
        await asyncio.sleep(60)
        failed_at, scene.detector.error = scene.room.loop.time(), ERROR
        await asyncio.sleep(3)

        assert next(heard.at for heard in scene.room.told if heard.speaking) >= failed_at


@pytest.mark.parametrize(
    ("places", "limit", "names"), [(PLACES, MAX_DETECTORS, f"{MAX_DETECTORS} in a room"), (3, 3, "BOUNCER_MAX_SPEECH")]
)
@virtual
async def test_more_than_can_be_listened_to(
    places: int, limit: int, names: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Audible tracks come first, always the same ones. The rest is heard using the level, and that is logged once."""
    async with listening(monkeypatch, places=places, hearing="speech") as scene:
        room, detector = scene.room, scene.detector
        for i in range(limit + 1):
            room.publish(f"quiet{i}")
        await asyncio.sleep(3)
        assert (len(detector.open), caplog.records) == (limit, [])
        first = [room.publish(f"first{i}", loud=True) for i in range(limit)]
        await asyncio.sleep(3)
        assert (sorted(detector.open), caplog.records) == (sorted(p.sid for p in first), [])
        late = room.publish("late", loud=True)
        for i in range(10):
            await asyncio.sleep(POLL)
            room.mute("quiet1", muted=i % 2 == 0)
        assert (detector.opened, room.words("late")) == (2 * limit, "unknown speaking")
        assert {room.words(f"first{i}") for i in range(limit)} == {"unknown silent"}

        room.mute("first1")
        await asyncio.sleep(3)
        assert (late.sid in detector.open, room.words("late").split()[-1]) == (True, "silent")
        (record,) = caplog.records
        assert (record.levelname, record.message) == ("WARNING", "falling back to level detection")
        assert names in vars(record)["why"]


@pytest.mark.parametrize("hearing", ["level", "speech"])
@virtual
async def test_more_microphones_than_places(
    hearing: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Those without a place aren't subscribed to, and are unknown; a muted one gives its place up."""
    async with listening(monkeypatch, microphones=2, hearing=hearing) as scene:
        room = scene.room
        late = [room.publish(identity, loud=True, talks=True) for identity in ("ana", "bob", "cem", "dan")][2:]
        await asyncio.sleep(3)
        assert [bool(publication.track) for publication in room.published] == [True, True, False, False]
        assert [room.words(identity) for identity in ("bob", "cem")] == ["unknown speaking", "unknown"]
        unheard = {vars(record)["lk.pii.participant_identity"] for record in caplog.records}
        assert unheard == {"cem", "dan"}
        assert all("BOUNCER_MAX_MICROPHONES" in vars(record)["why"] for record in caplog.records)

        room.mute("ana")
        await asyncio.sleep(3)
        assert [bool(publication.track) for publication in room.published] == [False, True, True, False]
        assert room.words("cem") == "unknown speaking"

        room.leave("bob")
        await asyncio.sleep(3)
        assert all(publication.track for publication in late)


@virtual
async def test_rooms_share_the_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """A place that one room no longer needs goes to another."""
    places = threading.BoundedSemaphore(1)
    async with listening(monkeypatch, places=places, hearing="speech") as first:
        first.room.publish("ana", loud=True)
        await asyncio.sleep(3)
        async with listening(monkeypatch, places=places, hearing="speech") as other:
            other.room.publish("bob", loud=True)
            await asyncio.sleep(3)
            assert (first.room.words("ana"), other.room.words("bob")) == ("unknown silent", "unknown speaking")
            first.room.unpublish("ana")
            await asyncio.sleep(3)
            assert other.room.words("bob") == "unknown speaking unknown silent"
    assert no_places_left(places) == 1


@pytest.mark.parametrize("hearing", ["level", "speech"])
@virtual
async def test_thousands_of_changes_leave_nothing_behind(hearing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutes, tracks, participants and connections come and go; in the end nothing is left of them."""
    async with listening(monkeypatch, hearing=hearing) as scene:
        room, detector = scene.room, scene.detector
        room.publish("ana", loud=True, talks=True)
        await asyncio.sleep(3)
        tasks = len(asyncio.all_tasks())
        for i in range(2000):
            room.mute("ana")
            await asyncio.sleep(0.03)
            room.mute("ana", muted=False)
            room.publish("ana", 2)
            room.publish("eve", loud=True)
            await asyncio.sleep(0.12)
            room.leave("eve")
            room.unpublish("ana", 2)
            if i % 10 == 0:
                room.emit("reconnecting")
                await asyncio.sleep(0.05 * (i % 20 == 0))
                room.emit("reconnected")
            assert len(detector.open) <= 6
        await asyncio.sleep(3)

        assert room.words("ana").split()[-1] == "speaking"
        assert len(asyncio.all_tasks()) == tasks
        assert len(detector.open) == (hearing == "speech")


@virtual
async def test_participants_that_cannot_be_heard_are_forgotten(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is logged once, unless very many others came in the meantime."""
    async with listening(monkeypatch) as scene:

        async def comes(identity: str) -> int:
            scene.room.publish(identity, encryption_type=GCM)
            await asyncio.sleep(0.03)
            scene.room.leave(identity)
            return len(caplog.records)

        assert [await comes("eve"), await comes("eve")] == [1, 1]
        for i in range(REMEMBERED):
            await comes(f"P{i}")
        assert await comes("eve") == REMEMBERED + 2


def test_the_constants_fit_each_other() -> None:
    """A hanging reading, and the longer pause after it, leave other tracks known."""
    assert 2 * ANSWER_WITHIN < KNOWN_FOR
