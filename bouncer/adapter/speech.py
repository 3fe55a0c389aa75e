"""Speech: whether a track that sounds carries speech, decided by a voice activity detector (VAD).

No sound is kept, passed on or logged: only `detect` and its `_Sounding` ever hold a frame of audio; they hand it to the
detector and let go of it. At most `QUEUE` frames wait, one is kept for the beginning of an utterance, and the detector
holds what it hasn't processed yet, no more than `BEHIND` seconds.
"""

import asyncio
import importlib
import logging
import threading
from functools import cache
from typing import Protocol

import numpy as np
from livekit import rtc
from livekit.agents.vad import VAD, VADEventType

from bouncer.hearing import FRAME, HANG, Gate
from bouncer.observers.log_events import LogEvent
from bouncer.room import Instant

logger = logging.getLogger("bouncer")

RATE = 16_000
"""Samples per second, one channel: what the detector was made for. LiveKit makes this of whatever is sent."""
BLOCK = RATE // 50
LOUD = 10 ** (-50 / 10) * 32768**2
"""A frame sounds if the mean square of its loudest 20 ms reaches this: -50 dB of full scale."""
QUEUE = 4
BEHIND = 3.0
"""Seconds of sound that may wait for the detector. On an idle core it needs 16 ms for each."""
CLOSE_WITHIN = 5.0
"""Seconds for closing a stream; it takes some milliseconds."""

_loading = threading.Lock()

# We give the detector no buffer for speech; it would complain of a full one at each utterance.
for _name in ("livekit.plugins.silero", "livekit.agents"):
    logging.getLogger(_name).addFilter(lambda record: not str(record.msg).startswith("max_buffered_speech"))


def import_plugin() -> None:
    """Import the detector's plugin, which takes 20 MB. It registers itself, which only the main thread may do."""
    importlib.import_module("livekit.plugins.silero")


def load_vad() -> VAD:
    """Load the detector. `livekit.agents.inference.VAD` takes the same arguments, and has the same streams."""
    from livekit.plugins import silero  # noqa: PLC0415 - see import_plugin

    return silero.VAD.load(min_silence_duration=0.55, max_buffered_speech=0.0, prefix_padding_duration=0.0)


async def detector() -> VAD | None:
    """Return this process's detector, loaded when first wanted; None, and logged once, if that fails."""
    return await asyncio.to_thread(_detector)


def _detector() -> VAD | None:
    with _loading:
        return _load_once()


@cache
def _load_once() -> VAD | None:
    try:
        return load_vad()
    except Exception:
        logger.exception(LogEvent.SPEECH_DETECTOR_UNAVAILABLE)
        return None


class SpeechCallback(Protocol):
    """Is told when speech began or ended."""

    def __call__(self, at: Instant, *, speaking: bool) -> None:
        """Take it in."""


async def detect(track: rtc.Track, vad: VAD, spoken: SpeechCallback) -> None:
    """Listen to a track until cancelled, and tell when speech begins and ends. Raises whatever the detector does."""
    stream = rtc.AudioStream(track, sample_rate=RATE, num_channels=1, frame_size_ms=round(1000 * FRAME), capacity=QUEUE)
    gate = Gate[rtc.AudioFrame]()
    sounding: _Sounding | None = None
    try:
        async for event in stream:
            frames = gate.let_through(event.frame, loud=_is_loud(event.frame))
            if frames:
                sounding = sounding or _Sounding(vad, spoken)
                await sounding.feed(frames)
            elif sounding:
                await sounding.end()
                sounding = None
    finally:
        try:
            if sounding:
                await sounding.close()
        finally:
            # It never ends by itself when its track goes.
            async with asyncio.timeout(CLOSE_WITHIN):
                await stream.aclose()


class _Sounding:
    """A stretch in which something sounds, on its way through the detector."""

    def __init__(self, vad: VAD, spoken: SpeechCallback) -> None:
        self._stream = vad.stream()
        self._spoken = spoken
        self._fed = self._done = 0.0
        """Seconds that the detector was given, and how many of them it has processed."""
        self._fed_at: Instant = 0.0
        self._speaking = False
        self._reading = asyncio.create_task(self._read())

    async def feed(self, frames: list[rtc.AudioFrame]) -> None:
        """Process these frames, the last of which has just ended."""
        if self._reading.done():
            await self._reading
            raise RuntimeError("the speech detector stopped")
        for frame in frames:
            self._stream.push_frame(frame)
            self._fed += frame.duration
        self._fed_at = asyncio.get_running_loop().time()
        if self._fed - self._done > BEHIND:
            raise TimeoutError(f"the speech detector is {BEHIND:g} s behind")

    async def end(self) -> None:
        """Nothing sounds any more: process what is left, and end."""
        try:
            self._stream.end_input()
            async with asyncio.timeout(BEHIND):
                await self._reading
            if self._speaking:
                self._spoken(self._date(self._fed - HANG * FRAME), speaking=False)
        finally:
            await self.close()

    async def close(self) -> None:
        """End at once."""
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        await self._stream.aclose()

    async def _read(self) -> None:
        async for event in self._stream:
            self._done = event.timestamp
            if event.type is VADEventType.START_OF_SPEECH:
                self._speaking = True
                self._spoken(self._date(event.timestamp - event.speech_duration), speaking=True)
            elif event.type is VADEventType.END_OF_SPEECH:
                self._speaking = False
                self._spoken(self._date(event.timestamp - event.silence_duration), speaking=False)

    def _date(self, heard: float) -> Instant:
        """Return when the detector's clock showed this. It counts what it was fed, which has just ended."""
        return self._fed_at - (self._fed - heard)


def _is_loud(frame: rtc.AudioFrame) -> bool:
    samples = np.frombuffer(frame.data, dtype=np.int16).astype(np.float32)
    energies = np.add.reduceat(samples**2, np.arange(0, len(samples), BLOCK)) if len(samples) else np.zeros(1)
    return bool(np.any(energies >= LOUD * BLOCK))
