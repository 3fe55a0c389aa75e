"""Ears: they subscribe to the audio of one room and tell the patrol who speaks.

The room is the truth: an event only makes us look at it, and what we are subscribed to is compared with what is
published each time. By level there is no audio stream, and no sound is ever received: the SDK is asked what the
receiver of each track has counted, and `bouncer.hearing` makes of that who speaks. By speech, tracks that sound are
listened to as well (`bouncer.adapter.speech`). While nobody has an open microphone, nothing is asked.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, cast

from livekit import rtc
from livekit.agents.vad import VAD
from livekit.rtc.room import EventTypes

from bouncer.adapter.speech import detector, listen
from bouncer.events import Event
from bouncer.hearing import POLL, Reading, Track, Voices
from bouncer.observers import Configured, News
from bouncer.room import Instant

logger = logging.getLogger("bouncer")

AT_ONCE = 4
"""Tracks read at the same time, so that one that hangs doesn't hold up the rest. More are no faster, and no dearer."""
ANSWER_WITHIN = 0.5
"""Seconds for one reading; it takes 2 ms, and 30 on a busy machine."""
SETTLE = 0.02
"""Seconds for which what happened is gathered before the room is looked at."""
APART = 0.3
"""Seconds between switching a subscription off and on: done at once, it often stays off for good (9 of 25 times)."""
PATIENCE = (5.0, 60.0)
"""Seconds to wait for a subscription before it is asked for anew: at first, and, doubled each time, at most."""
TROUBLE_PAUSE = 5.0
"""Seconds before we listen again after an error of ours."""
MAX_LISTENERS = 16
"""Tracks of a room that are listened to at the same time: speech on all of them took 32 % of a core, 14 % by level."""
DEAF_FOR = 60.0
"""Seconds before a track is listened to again after that went wrong; until then it is heard by level."""
REMEMBERED = 1024
"""How many participants are remembered of whom it was said that they can't be heard."""

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
    """Listens to one room while its configuration says so: an observer of the patrol, and a task beside it."""

    def __init__(self, room: rtc.Room, places: threading.Semaphore) -> None:
        """Make them for a room that is connected or will be; they listen while `run` runs.

        Each track that is listened to for speech takes a place, and all rooms of a worker share those that there are.
        """
        self._room = room
        self._places = places
        self._hearing = "off"
        self._changed = asyncio.Event()
        self._blind = self._interrupted = False
        self._vad: VAD | None = None
        self._voices = Voices()
        self._ears: dict[str, _Ear] = {}
        self._ask_at: Instant = 0.0
        self._poll_at: Instant = 0.0
        self._said: dict[str, None] = {}
        self._listeners: set[asyncio.Task[None]] = set()
        self._warned: set[str] = set()
        for change in _CHANGES:
            room.on(change, self._wake)
        room.on("reconnecting", lambda: self._interrupt(blind=True))
        room.on("reconnected", lambda: self._interrupt(blind=False))

    def notify(self, news: News) -> None:
        """Take in a configuration. One of mode `off` listens to nobody."""
        if isinstance(news, Configured):
            self._hearing = "off" if news.config.mode == "off" else news.config.hearing
            self._wake()

    async def run(self, tell: Callable[[Event], None]) -> None:
        """Listen, for ever, and tell what is heard of whom. An error in here is logged and never ends it."""
        try:
            await self._run(tell)
        finally:
            self._rest()
            await asyncio.gather(*self._listeners, return_exceptions=True)

    async def _run(self, tell: Callable[[Event], None]) -> None:
        in_trouble = False
        while True:
            self._changed.clear()
            try:
                self._vad = (self._vad or await detector()) if self._hearing == "speech" else None
                wake_at = None
                if self._blind:
                    # A subscription asked for now would be lost, without a sign.
                    self._rest()
                    self._forget(tell)
                elif self._hearing != "off":
                    wake_at = await self._listen(tell)
                else:
                    self._stop(tell)
                in_trouble = False
            except Exception:
                if not in_trouble:
                    logger.exception("hearing failed", extra={"lk.pii.room_name": self._room.name})
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
        """Look at the room, and read its tracks if it is time to. When to do so again if nothing happens."""
        time = asyncio.get_running_loop().time
        began = time()
        tracks = self._look(began)
        if began >= self._poll_at and (open_ears := [ear for ear in self._ears.values() if ear.open]):
            await _poll(open_ears)
            # Never busier than idle: very many tracks are read less often.
            self._poll_at = max(began + POLL, 2 * time() - began)
            if self._blind:
                return None
            # Meanwhile somebody may have been muted, or gone.
            tracks = self._look(time())
        for heard in self._voices.take(time(), tracks):
            tell(heard)
        if any(ear.open for ear in self._ears.values()):
            return self._poll_at
        return time() + POLL if any(ear.waits for ear in self._ears.values()) else None

    def _look(self, now: Instant) -> Mapping[str, list[Track]]:
        """Have an ear for each audio track that is published, and for no other; the tracks, by participant."""
        if self._interrupted:
            self._interrupted, self._voices = False, Voices()
            for ear in self._ears.values():
                ear.heard.lose(now)
                ear.rest()
        ears: dict[str, _Ear] = {}
        tracks: dict[str, list[Track]] = {}
        for participant in self._room.remote_participants.values():
            mine = tracks.setdefault(participant.sid, [])
            for publication in _audio(participant):
                known = self._ears.get(publication.sid)
                ear = known if known and known.publication is publication else _Ear(publication, now, self._ask_at)
                ears[publication.sid] = ear
                mine.append(ear.heard)
                ear.look(now)
                if ear.encrypted:
                    self._say(participant, "its audio is encrypted end to end")
                elif ear.tried > 1:
                    self._say(participant, "the server grants no subscription to its audio")
        for sid, gone in self._ears.items():
            if ears.get(sid) is not gone:
                gone.rest()
        self._ears = ears
        self._attend(self._vad, now)
        return tracks

    def _attend(self, vad: VAD | None, now: Instant) -> None:
        """Have a listener for each track that is worth it, as far as there are places, and for no other."""
        worth = [ear for ear in self._ears.values() if vad and ear.worth_listening(now)]
        # Who sounds comes first, then who is listened to already: of too many that sound it is always the same.
        worth.sort(key=lambda ear: (not ear.heard.sounds, ear.listener is None))
        chosen = worth[:MAX_LISTENERS]
        for ear in self._ears.values():
            if ear not in chosen:
                ear.rest()
        for ear in chosen:
            if vad and not ear.listener and self._places.acquire(blocking=False):
                listener = ear.listen(vad, now, self._wake)
                self._listeners.add(listener)
                listener.add_done_callback(partial(self._ended, ear))
        waiting = [ear for ear in worth if ear.heard.sounds and not ear.listener]
        quiet = [ear for ear in chosen if ear.listener and not ear.heard.sounds]
        for ear in quiet[: len(waiting)]:
            # Its place will be free in a moment.
            ear.rest()
        left_out = set(waiting[len(quiet) :])
        if left_out:
            limit = f"of {MAX_LISTENERS} in a room" if len(worth) > len(chosen) else "of the worker, BOUNCER_MAX_SPEECH"
            self._warn("hearing some by level", why=f"more tracks sound at the same time than the limit {limit}")
        for ear in self._ears.values():
            if not vad or ear in left_out or ear.deaf(now):
                ear.heard.by_level(now)
            else:
                ear.heard.by_speech(now)

    def _ended(self, ear: "_Ear", listener: asyncio.Task[None]) -> None:
        """A listener ended: because it was to, or because something went wrong."""
        self._places.release()
        self._listeners.discard(listener)
        if ear.listener is listener:
            ear.fail(asyncio.get_running_loop().time())
            self._wake()
        if not listener.cancelled() and (error := listener.exception()):
            self._warn("listening failed", error, why="heard by level meanwhile")

    def _warn(self, what: str, error: BaseException | None = None, *, why: str) -> None:
        """Log something that concerns the whole room, once."""
        if what not in self._warned:
            self._warned.add(what)
            logger.warning(what, exc_info=error, extra={"lk.pii.room_name": self._room.name, "why": why})

    def _rest(self) -> None:
        """Listen to no track any more."""
        for ear in self._ears.values():
            ear.rest()

    def _forget(self, tell: Callable[[Event], None]) -> Instant:
        """What was known of anybody no longer is."""
        now = asyncio.get_running_loop().time()
        for heard in self._voices.end(now):
            tell(heard)
        return now

    def _stop(self, tell: Callable[[Event], None]) -> None:
        """Listen to nobody."""
        now = self._forget(tell)
        ears, self._ears = self._ears, {}
        for ear in ears.values():
            ear.rest()
            ear.close()
            self._ask_at = now + APART

    def _say(self, participant: rtc.RemoteParticipant, why: str) -> None:
        """Log, once for each participant, that it can't be heard."""
        sid = participant.sid
        if sid in self._said:
            return
        self._said[sid] = None
        if len(self._said) > REMEMBERED:
            del self._said[next(iter(self._said))]
        facts = {"lk.pii.room_name": self._room.name, "lk.pii.participant_identity": participant.identity}
        logger.warning("cannot hear a participant", extra={**facts, "sid": sid, "why": why})

    def _wake(self, *_: object) -> None:
        self._changed.set()

    def _interrupt(self, *, blind: bool) -> None:
        """The connection broke, or is back: then all is told anew.

        In a full reconnect everybody leaves and is back at once, with the same sids and other publications.
        """
        self._blind, self._interrupted = blind, True
        self._wake()


class _Ear:
    """One audio publication of somebody, our subscription to it, and what is heard of it."""

    def __init__(self, publication: rtc.RemoteTrackPublication, now: Instant, ask_at: Instant) -> None:
        self.publication = publication
        self.encrypted = publication.encryption_type != rtc.EncryptionType.NONE
        self.heard = Track(now, encrypted=self.encrypted)
        self.tried = 0
        """How often a subscription was asked for since there was one."""
        self._received: rtc.RemoteTrack | None = None
        self.listener: asyncio.Task[None] | None = None
        self._deaf_until = now
        self._asked = False
        self._turn_at = ask_at
        self._patience, self._longest = PATIENCE

    @property
    def open(self) -> bool:
        """Whether there may be something to hear."""
        return not (self.encrypted or self.publication.muted)

    @property
    def waits(self) -> bool:
        """Whether it waits for its subscription."""
        return not (self.encrypted or self.publication.track)

    def look(self, now: Instant) -> None:
        """Take in how the publication is now, and see to the subscription."""
        self.heard.mute(now, muted=self.publication.muted)
        if self._received and self._received is not self.publication.track:
            self.heard.lose(now)
            self.rest()
        self._received = self.publication.track
        if not self.waits:
            self._patience, self._longest = PATIENCE
            self._turn_at, self.tried = now + self._patience, 0
        elif now >= self._turn_at:
            # Asked and not given: switched off, and a moment later on again.
            self._asked = not self._asked
            self.publication.set_subscribed(self._asked)
            self._turn_at = now + (self._patience if self._asked else APART)
            if self._asked:
                self.tried += 1
                self._patience = min(2 * self._patience, self._longest)

    def deaf(self, now: Instant) -> bool:
        """Whether listening went wrong lately."""
        return now < self._deaf_until

    def worth_listening(self, now: Instant) -> bool:
        """Whether there may be speech to hear."""
        return self.publication.track is not None and not self.deaf(now) and self.heard.worth_listening(now)

    def listen(self, vad: VAD, now: Instant, wake: Callable[[], None]) -> asyncio.Task[None]:
        """Begin to listen for speech to a track that is worth it; the task that does."""
        track = cast("rtc.Track", self.publication.track)

        def hear(at: Instant, *, speaking: bool) -> None:
            if self.listener is listener:
                self.heard.hear(at, speaking=speaking)
                wake()

        listener = self.listener = asyncio.create_task(listen(track, vad, hear))
        self.heard.by_speech(now)
        self.heard.listen(now)
        return listener

    def fail(self, now: Instant) -> None:
        """Take in that the listener ended by itself."""
        self.rest()
        self._deaf_until = now + DEAF_FOR

    def rest(self) -> None:
        """Listen for speech no more."""
        listener, self.listener = self.listener, None
        if listener:
            listener.cancel()
            self.heard.rest()

    def close(self) -> None:
        """Give the subscription up."""
        if self._asked or self.publication.track:
            self.publication.set_subscribed(False)

    async def read(self) -> None:
        """Read what was received, if anything was."""
        track, reading = self.publication.track, None
        if track:
            # The SDK raises a bare Exception, for a track that is gone for instance.
            with suppress(Exception):
                async with asyncio.timeout(ANSWER_WITHIN):
                    reading = _reading(await track.get_stats())
        if reading:
            self.heard.read(reading)
        else:
            self.heard.miss(asyncio.get_running_loop().time())


async def _poll(ears: Iterable[_Ear]) -> None:
    """Read all of these, a few at the same time."""
    waiting = iter(ears)

    async def read() -> None:
        for ear in waiting:
            await ear.read()

    await asyncio.gather(*(read() for _ in range(AT_ONCE)))


def _audio(participant: rtc.RemoteParticipant) -> Iterator[rtc.RemoteTrackPublication]:
    """The audio tracks that a participant has published."""
    for publication in participant.track_publications.values():
        if publication.kind == rtc.TrackKind.KIND_AUDIO:
            yield publication


def _reading(stats: Iterable[Any]) -> Reading | None:
    """What the receiver has counted; None before the first packet, when there is no receiver yet."""
    for entry in stats:
        if entry.HasField("inbound_rtp"):
            counted, received = entry.inbound_rtp.inbound, entry.inbound_rtp.received
            return Reading(
                at=asyncio.get_running_loop().time(),
                energy=counted.total_audio_energy,
                duration=counted.total_samples_duration,
                packets=received.packets_received,
            )
    return None
