"""An audio track that carries what it is told to: one sound over and over, or another one once."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, repeat

import numpy as np
from livekit import rtc

from tests.sounds import RATE, Sound, pcm, silence

NOTHING = silence(0.1)


@dataclass(frozen=True, slots=True)
class Played:
    """When a sound began and finished leaving the microphone, on the event loop's clock."""

    began: float
    ended: float


class Microphone:
    """A track that is fed from publishing until `close`, at first with silence."""

    def __init__(self, room: rtc.Room, *, rate: int = RATE, channels: int = 1, queue: int = 50) -> None:
        """Make a microphone for a connected participant.

        `queue` is in milliseconds and delays what is captured. Without a queue, the track sends nothing while nothing
        is captured; otherwise it sends silence.
        """
        self._room = room
        self._rate, self._channels, self._queue = rate, channels, queue / 1000
        self._source = rtc.AudioSource(rate, channels, queue_size_ms=queue)
        self._track = rtc.LocalAudioTrack.create_audio_track("voice", self._source)
        self._feeding: asyncio.Task[None] | None = None
        self._once: tuple[Sound, asyncio.Future[Played]] | None = None
        self.sends(NOTHING)

    @property
    def sid(self) -> str:
        """The track's sid, once it is published."""
        return self._publication.sid

    def sends(self, sound: Sound | None) -> None:
        """Carry this over and over from now on. None captures nothing at all."""
        self._again = None if sound is None else chain.from_iterable(map(self._frames, repeat(sound)))

    async def plays(self, sound: Sound) -> Played:
        """Carry this once, then continue as before. Return when it has left."""
        done = asyncio.get_running_loop().create_future()
        self._once = (sound, done)
        played: Played = await done
        await asyncio.sleep(played.ended - asyncio.get_running_loop().time())
        return played

    def mute(self) -> None:
        """Mute the track."""
        self._track.mute()

    def unmute(self) -> None:
        """Unmute it."""
        self._track.unmute()

    async def publish(self, source: rtc.TrackSource.ValueType = rtc.TrackSource.SOURCE_MICROPHONE) -> None:
        """Publish the track."""
        options = rtc.TrackPublishOptions(source=source)
        self._publication = await self._room.local_participant.publish_track(self._track, options)
        self._feeding = asyncio.create_task(self._feed())

    async def unpublish(self) -> None:
        """Unpublish the track."""
        await self._room.local_participant.unpublish_track(self._publication.sid)

    async def close(self) -> None:
        """Stop feeding the track."""
        if self._feeding:
            self._feeding.cancel()
            await asyncio.gather(self._feeding, return_exceptions=True)
        await self._source.aclose()

    async def _feed(self) -> None:
        time = asyncio.get_running_loop().time
        while True:
            if self._once:
                (sound, done), self._once = self._once, None
                began = time() + self._queue
                for frame in self._frames(sound):
                    await self._source.capture_frame(frame)
                if not done.done():
                    done.set_result(Played(began, time() + self._queue))
            elif self._again:
                await self._source.capture_frame(next(self._again))
            else:
                await asyncio.sleep(0.01)

    def _frames(self, sound: Sound) -> Iterator[rtc.AudioFrame]:
        """Yield the sound in frames of 10 ms, which the SDK needs without a queue."""
        size = self._rate // 100
        length = -(-len(sound) * self._rate // RATE // size) * size
        clock = np.arange(length) * RATE / self._rate
        sound = np.interp(clock, np.arange(len(sound)), sound, right=0.0)
        data = pcm(np.repeat(sound, self._channels))
        step = 2 * size * self._channels
        for start in range(0, len(data), step):
            yield rtc.AudioFrame(data[start : start + step], self._rate, self._channels, size)
