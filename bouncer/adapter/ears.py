"""Ears: they subscribe to the audio of one room, and tell the patrol who speaks.

The room is the truth: an event only makes us look at it, and each time our subscriptions are compared with what is
published. In level mode there is no audio stream and no sound is ever received: the SDK is asked what each track's
receiver has counted, and `bouncer.hearing` concludes who speaks. In speech mode a speech detector listens to tracks
that sound (`bouncer.adapter.speech`). While no microphone is open, nothing is asked.
"""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial

from livekit import rtc
from livekit.agents.vad import VAD
from livekit.rtc.room import EventTypes

from bouncer.adapter.microphone import APART, Microphone
from bouncer.adapter.speech import detector
from bouncer.events import Event
from bouncer.hearing import POLL, Track, Voices
from bouncer.observers import Configured, News
from bouncer.observers.log_events import LogEvent
from bouncer.room import Instant
from bouncer.selectors import matches

logger = logging.getLogger("bouncer")

AT_ONCE = 4
"""Tracks read at the same time, so that one that hangs doesn't hold up the rest. More are no faster, and no cheaper."""
SETTLE = 0.02
"""Seconds for which events are gathered before we look at the room."""
TROUBLE_PAUSE = 5.0
"""Seconds before we listen again after an error of ours."""
MAX_DETECTORS = 16
"""Tracks of a room with a speech detector at the same time: with all of them talking it took 32 % of a core, in level
mode 14 %."""
REMEMBERED = 1024
"""How many participants that can't be heard are remembered, so that each is logged once."""

_CHANGES: tuple[EventTypes, ...] = (
    "participant_connected",
    "participant_disconnected",
    "track_published",
    "track_unpublished",
    "track_subscribed",
    "track_unsubscribed",
    "track_muted",
    "track_unmuted",
)


class Ears:
    """Listens to one room while its configuration says so: an observer of the patrol, and a task alongside it."""

    def __init__(
        self,
        room: rtc.Room,
        places: threading.Semaphore,
        detectors: threading.Semaphore,
        load: Callable[[], Awaitable[VAD | None]] = detector,
    ) -> None:
        """Make them for a room that is connected or will be; they listen while `run` runs.

        Each track that we listen to takes one of `places`, and each speech detector one of `detectors`. All rooms of a
        worker share these. `load` gives the model.
        """
        self._room = room
        self._places = places
        self._detectors = detectors
        self._load = load
        self._hearing = "off"
        self._ignored: Iterable[str] = ()
        self._changed = asyncio.Event()
        self._blind = self._interrupted = False
        self._vad: VAD | None = None
        self._voices = Voices()
        self._microphones: dict[str, Microphone] = {}
        self._ask_at: Instant = 0.0
        self._poll_at: Instant = 0.0
        self._unheard: dict[str, None] = {}
        self._detections: set[asyncio.Task[None]] = set()
        self._warned: set[str] = set()
        for change in _CHANGES:
            room.on(change, self._wake)
        room.on("reconnecting", lambda: self._interrupt(blind=True))
        room.on("reconnected", lambda: self._interrupt(blind=False))

    def notify(self, news: News) -> None:
        """Take in a configuration. In mode `off` no one is listened to."""
        if isinstance(news, Configured):
            self._hearing = "off" if news.config.mode == "off" else news.config.hearing
            self._ignored = news.config.ignore_tracks
            self._wake()

    def tracks(self) -> dict[str, int]:
        """Return how many tracks are listened to in each mode. From any thread."""
        listened = [each for each in tuple(self._microphones.values()) if each.listened]
        by_speech = sum(each.detection is not None for each in listened)
        return {"level": len(listened) - by_speech, "speech": by_speech}

    async def run(self, tell: Callable[[Event], None]) -> None:
        """Listen until cancelled, and tell what is heard. Our own errors are logged and never end it."""
        try:
            await self._run(tell)
        finally:
            self._stop_detecting()
            for microphone in self._microphones.values():
                self._give_up_place(microphone)
            await asyncio.gather(*self._detections, return_exceptions=True)

    async def _run(self, tell: Callable[[Event], None]) -> None:
        in_trouble = False
        while True:
            self._changed.clear()
            try:
                self._vad = (self._vad or await self._load()) if self._hearing == "speech" else None
                wake_at = None
                if self._blind:
                    # A subscription asked for now would be lost, without a sign.
                    self._stop_detecting()
                    self._forget(tell)
                elif self._hearing != "off":
                    wake_at = await self._listen(tell)
                else:
                    self._stop(tell)
                in_trouble = False
            except Exception:
                if not in_trouble:
                    logger.exception(LogEvent.HEARING_FAILED, extra={"lk.pii.room_name": self._room.name})
                in_trouble = True
                with suppress(Exception):
                    self._stop(tell)
                await asyncio.sleep(TROUBLE_PAUSE)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout_at(wake_at):
                    await self._changed.wait()
                await asyncio.sleep(SETTLE)

    async def _listen(self, tell: Callable[[Event], None]) -> Instant | None:
        """Look at the room, and read its tracks if it is time. Return when to do so again if nothing happens."""
        time = asyncio.get_running_loop().time
        began = time()
        tracks = self._tracks(began)
        if began >= self._poll_at and (to_read := [each for each in self._microphones.values() if each.listened]):
            await _read(to_read)
            # Never busier than idle: very many tracks are read less often.
            self._poll_at = max(began + POLL, 2 * time() - began)
            if self._blind:
                return None
            # Meanwhile a track may have been muted, or be gone.
            tracks = self._tracks(time())
        for heard in self._voices.changes(time(), tracks):
            tell(heard)
        if any(microphone.open for microphone in self._microphones.values()):
            return self._poll_at
        return time() + POLL if any(microphone.waits for microphone in self._microphones.values()) else None

    def _tracks(self, now: Instant) -> Mapping[str, list[Track]]:
        """Have a Microphone for each published audio track, and no other. Return the tracks, by participant."""
        if self._interrupted:
            self._interrupted, self._voices = False, Voices()
            for microphone in self._microphones.values():
                microphone.heard.lose(now)
                microphone.stop_detecting()
        microphones: dict[str, Microphone] = {}
        published: list[tuple[rtc.RemoteParticipant, Microphone]] = []
        tracks: dict[str, list[Track]] = {}
        for participant in self._room.remote_participants.values():
            mine = tracks.setdefault(participant.sid, [])
            for publication in _audio(participant, self._ignored):
                known = self._microphones.get(publication.sid)
                same = known and known.publication is publication
                microphone = known if known and same else Microphone(publication, now, self._ask_at)
                microphones[publication.sid] = microphone
                published.append((participant, microphone))
                mine.append(microphone.heard)
        for sid, gone in self._microphones.items():
            if microphones.get(sid) is not gone:
                gone.stop_detecting()
                self._give_up_place(gone)
        self._microphones = microphones
        self._assign_places()
        for participant, microphone in published:
            microphone.follow(now)
            if microphone.encrypted:
                self._cannot_hear(participant, "its audio is encrypted end to end")
            elif microphone.open and not microphone.placed:
                self._cannot_hear(participant, "the worker listens to BOUNCER_MAX_MICROPHONES others")
            elif microphone.tried > 1:
                self._cannot_hear(participant, "the server grants no subscription to its audio")
        self._assign_detectors(self._vad, now)
        return tracks

    def _assign_places(self) -> None:
        """Have as many tracks listened to as there are places: those that are not muted first."""
        muted = [each for each in self._microphones.values() if each.placed and not each.open]
        lacking = (each for each in self._microphones.values() if not (each.placed or each.encrypted))
        for microphone in sorted(lacking, key=lambda each: not each.open):
            microphone.placed = self._places.acquire(blocking=False)
            if microphone.open and not microphone.placed and muted:
                muted.pop().placed = False
                microphone.placed = True

    def _give_up_place(self, microphone: Microphone) -> None:
        if microphone.placed:
            microphone.placed = False
            self._places.release()

    def _assign_detectors(self, vad: VAD | None, now: Instant) -> None:
        """Have a detector on each track that is worth it, as far as there are places, and on no other."""
        worth = [each for each in self._microphones.values() if vad and each.worth_listening(now)]
        # Audible tracks first, then those that have a detector already, so the selection is stable.
        worth.sort(key=lambda microphone: (not microphone.heard.sounds, microphone.detection is None))
        chosen = worth[:MAX_DETECTORS]
        for microphone in self._microphones.values():
            if microphone not in chosen:
                microphone.stop_detecting()
        for microphone in chosen:
            if vad and not microphone.detection and self._detectors.acquire(blocking=False):
                detection = microphone.detect(vad, now, self._wake)
                self._detections.add(detection)
                detection.add_done_callback(partial(self._detection_ended, microphone))
        waiting = [each for each in worth if each.heard.sounds and not each.detection]
        quiet = [each for each in chosen if each.detection and not each.heard.sounds]
        for microphone in quiet[: len(waiting)]:
            # Its place will be free in a moment.
            microphone.stop_detecting()
        left_out = set(waiting[len(quiet) :])
        if left_out:
            limit = f"of {MAX_DETECTORS} in a room" if len(worth) > len(chosen) else "of the worker, BOUNCER_MAX_SPEECH"
            why = f"more tracks sound at the same time than the limit {limit}"
            self._warn(LogEvent.LEVEL_DETECTION, why=why)
        for microphone in self._microphones.values():
            if not vad or microphone in left_out or not microphone.detectable(now):
                microphone.heard.by_level(now)
            else:
                microphone.heard.by_speech(now)

    def _detection_ended(self, microphone: Microphone, detection: asyncio.Task[None]) -> None:
        """Take in that a detection ended: because we stopped it, or because something went wrong."""
        self._detectors.release()
        self._detections.discard(detection)
        if microphone.detection is detection:
            microphone.detection_failed(asyncio.get_running_loop().time())
            self._wake()
        if not detection.cancelled() and (error := detection.exception()):
            self._warn(LogEvent.SPEECH_DETECTION_FAILED, error, why="using the level meanwhile")

    def _warn(self, what: LogEvent, error: BaseException | None = None, *, why: str) -> None:
        """Log something about the whole room, once."""
        if what not in self._warned:
            self._warned.add(what)
            logger.warning(what, exc_info=error, extra={"lk.pii.room_name": self._room.name, "why": why})

    def _stop_detecting(self) -> None:
        for microphone in self._microphones.values():
            microphone.stop_detecting()

    def _forget(self, tell: Callable[[Event], None]) -> Instant:
        """Tell that what was known of anyone no longer is."""
        now = asyncio.get_running_loop().time()
        for heard in self._voices.end(now):
            tell(heard)
        return now

    def _stop(self, tell: Callable[[Event], None]) -> None:
        """Listen to no one."""
        now = self._forget(tell)
        microphones, self._microphones = self._microphones, {}
        for microphone in microphones.values():
            microphone.stop_detecting()
            microphone.unsubscribe()
            self._give_up_place(microphone)
            self._ask_at = now + APART

    def _cannot_hear(self, participant: rtc.RemoteParticipant, why: str) -> None:
        """Log, once for each participant, that it can't be heard."""
        sid = participant.sid
        if sid in self._unheard:
            return
        self._unheard[sid] = None
        if len(self._unheard) > REMEMBERED:
            del self._unheard[next(iter(self._unheard))]
        facts = {"lk.pii.room_name": self._room.name, "lk.pii.participant_identity": participant.identity}
        logger.warning(LogEvent.CANNOT_HEAR, extra={**facts, "sid": sid, "why": why})

    def _wake(self, *_: object) -> None:
        self._changed.set()

    def _interrupt(self, *, blind: bool) -> None:
        """Take in that the connection broke, or is back: then everything is told again.

        In a full reconnect everyone leaves and is back at once, with the same sids and other publications.
        """
        self._blind, self._interrupted = blind, True
        self._wake()


async def _read(microphones: Iterable[Microphone]) -> None:
    """Read all of these, a few at the same time."""
    waiting = iter(microphones)

    async def read() -> None:
        for microphone in waiting:
            await microphone.read()

    await asyncio.gather(*(read() for _ in range(AT_ONCE)))


def _audio(participant: rtc.RemoteParticipant, ignored: Iterable[str]) -> Iterator[rtc.RemoteTrackPublication]:
    """Yield the audio tracks that a participant has published, except those that are no one's voice."""
    for publication in participant.track_publications.values():
        if publication.kind == rtc.TrackKind.KIND_AUDIO and not matches(publication.name, ignored):
            yield publication
