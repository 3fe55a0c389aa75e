"""One audio track of a participant: our subscription to it, and what its receiver counts."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, cast

from livekit import rtc
from livekit.agents.vad import VAD

from bouncer.adapter.speech import detect
from bouncer.guard.schedule import Backoff
from bouncer.hearing import Reading, Track
from bouncer.room import Instant

ANSWER_WITHIN = 0.5
"""Seconds for one reading; it takes 2 ms, and 30 on a busy machine."""
APART = 0.3
"""Seconds between switching a subscription off and on: done at once, it often stays off for good (9 of 25 times)."""
PATIENCE = Backoff(5.0, 60.0)
"""Waits for a subscription before asking again."""
DEAF_FOR = 60.0
"""Seconds for which a track is judged by its level after its detector failed."""


class Microphone:
    """An audio publication, and what is heard of it."""

    def __init__(self, publication: rtc.RemoteTrackPublication, now: Instant, ask_at: Instant) -> None:
        self.publication = publication
        self.encrypted = publication.encryption_type != rtc.EncryptionType.NONE
        self.heard = Track(now, encrypted=self.encrypted)
        self.tried = 0
        """How often we have asked for a subscription since there was one."""
        self.placed = False
        """True if it may be listened to; without that we don't subscribe to it."""
        self.detection: asyncio.Task[None] | None = None
        """Runs the speech detector on this track."""
        self._received: rtc.RemoteTrack | None = None
        self._failed_until = now
        self._asked = False
        self._turn_at = ask_at

    @property
    def open(self) -> bool:
        """Return True if there may be something to hear."""
        return not (self.encrypted or self.publication.muted)

    @property
    def listened(self) -> bool:
        """Return True if we listen to it: there may be something to hear, and it has a place."""
        return self.open and self.placed

    @property
    def waits(self) -> bool:
        """Return True if it waits for its subscription."""
        return not (self.encrypted or self.publication.track)

    def follow(self, now: Instant) -> None:
        """Take in the publication as it is now, and subscribe if need be."""
        self.heard.mute(now, muted=self.publication.muted)
        if self._received and self._received is not self.publication.track:
            self.heard.lose(now)
            self.stop_detecting()
        self._received = self.publication.track
        if not self.placed:
            self._rest(now)
        elif not self.waits:
            self._turn_at, self.tried = now + PATIENCE.first, 0
        elif now >= self._turn_at:
            # Asked for and not granted: off, and a moment later on again.
            self._asked = not self._asked
            self.publication.set_subscribed(self._asked)
            self.tried += self._asked
            self._turn_at = now + (PATIENCE.pause(self.tried, chance=0.5) if self._asked else APART)

    def _rest(self, now: Instant) -> None:
        if self._asked or (self.publication.track and not self.encrypted):
            self._asked, self._turn_at = False, now + APART
            self.publication.set_subscribed(False)

    def detectable(self, now: Instant) -> bool:
        """Return True unless detecting speech has failed lately."""
        return now >= self._failed_until

    def worth_listening(self, now: Instant) -> bool:
        """Return True if there may be speech to detect."""
        return self.publication.track is not None and self.detectable(now) and self.heard.worth_listening(now)

    def detect(self, vad: VAD, now: Instant, wake: Callable[[], None]) -> asyncio.Task[None]:
        """Start detecting speech on a track that is worth it. Return the task that does."""
        track = cast("rtc.Track", self.publication.track)

        def spoken(at: Instant, *, speaking: bool) -> None:
            if self.detection is detection:
                self.heard.hear(at, speaking=speaking)
                wake()

        detection = self.detection = asyncio.create_task(detect(track, vad, spoken))
        self.heard.by_speech(now)
        self.heard.listen(now)
        return detection

    def detection_failed(self, now: Instant) -> None:
        """Take in that detection ended by itself."""
        self.stop_detecting()
        self._failed_until = now + DEAF_FOR

    def stop_detecting(self) -> None:
        """Detect speech no more."""
        detection, self.detection = self.detection, None
        if detection:
            detection.cancel()
            self.heard.rest()

    def unsubscribe(self) -> None:
        """Give the subscription up."""
        if self._asked or self.publication.track:
            self.publication.set_subscribed(False)

    async def read(self) -> None:
        """Read what was received, if anything was."""
        track, reading = self.publication.track, None
        if track:
            # The SDK raises a bare Exception, for example for a track that is gone.
            with suppress(Exception):
                async with asyncio.timeout(ANSWER_WITHIN):
                    reading = _reading(await track.get_stats())
        if reading:
            self.heard.read(reading)
        else:
            self.heard.miss(asyncio.get_running_loop().time())


def _reading(stats: Iterable[Any]) -> Reading | None:
    """Return what the receiver has counted; None before the first packet, when there is no receiver yet."""
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
