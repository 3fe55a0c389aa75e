"""Speech in the frames of a track, with the real detector where it matters, and stand-ins where it fails.

That frames come from a real track like this is for tests/e2e/test_speech.py to show.
"""

import asyncio
import gc
import logging
import re
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from livekit import rtc
from livekit.agents.inference import VAD as NativeVAD  # noqa: N811 - the other one
from livekit.agents.vad import VAD, VADEventType
from livekit.plugins.silero import onnx_model

from bouncer.adapter import speech as module
from bouncer.adapter.speech import BEHIND, QUEUE, RATE, detect, detector, load_vad
from bouncer.hearing import FRAME, HANG
from tests.sounds import NOISES, SPEECH, Sound, at, pcm, silence, speech
from tests.virtual import virtual

ROOT = Path(__file__).parents[2]
SAMPLES = round(FRAME * RATE)
PAUSE = silence(1 + HANG * FRAME)


class Stream:
    """An audio stream that is fed by a test."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[rtc.AudioFrame | None] = asyncio.Queue()
        self.made_with: dict[str, Any] = {}
        self.closed = 0
        self.close_takes = 0.0
        self._taken = False

    def __call__(self, track: object, **options: Any) -> "Stream":
        """Be made."""
        assert track is self
        self.made_with = options
        return self

    def __aiter__(self) -> "Stream":
        return self

    async def __anext__(self) -> rtc.AudioFrameEvent:
        if self._taken:
            self.frames.task_done()
        self._taken = True
        frame = await self.frames.get()
        if frame is None:
            raise StopAsyncIteration
        return rtc.AudioFrameEvent(frame)

    async def aclose(self) -> None:
        """Close it."""
        self.closed += 1
        await asyncio.sleep(self.close_takes)


def frames(sound: Sound, samples: int = SAMPLES) -> Iterator[rtc.AudioFrame]:
    """Return the sound in frames; the last one may be short."""
    data = pcm(sound)
    for begin in range(0, len(data), 2 * samples):
        piece = data[begin : begin + 2 * samples]
        yield rtc.AudioFrame(piece, RATE, 1, len(piece) // 2)


@dataclass
class Listening:
    """A listener, its input, and what it told."""

    stream: Stream
    told: list[tuple[float, bool]] = field(default_factory=list)
    task: asyncio.Task[None] = field(init=False)

    @property
    def words(self) -> list[bool]:
        """Return what was told, without the dates."""
        return [speaking for _, speaking in self.told]

    async def plays(self, sound: Sound) -> None:
        """Play this to it as fast as it takes it, or as much of it as it takes."""
        for frame in frames(sound):
            self.stream.frames.put_nowait(frame)
        taken = asyncio.create_task(self.stream.frames.join())
        await asyncio.wait((taken, self.task), return_when=asyncio.FIRST_COMPLETED)
        taken.cancel()

    async def ends(self) -> BaseException | None:
        """Wait until it has ended, and return the reason."""
        (error,) = await asyncio.gather(self.task, return_exceptions=True)
        return error


@asynccontextmanager
async def listening(monkeypatch: pytest.MonkeyPatch, vad: object) -> AsyncIterator[Listening]:
    """Listen to a track. In the end everything is closed and no task is left."""
    before = asyncio.all_tasks()
    stream = Stream()
    monkeypatch.setattr(rtc, "AudioStream", stream)
    if isinstance(vad, VAD):
        # A minute is played at once.
        monkeypatch.setattr(module, "BEHIND", inf)
    result = Listening(stream)

    def hear(at: float, *, speaking: bool) -> None:
        result.told.append((at, speaking))

    result.task = asyncio.create_task(detect(cast(rtc.Track, stream), cast(VAD, vad), hear))
    await asyncio.sleep(0)
    try:
        yield result
    finally:
        result.task.cancel()
        await result.ends()
        assert stream.closed == 1
        if cancelled := asyncio.all_tasks() - before:  # with Python 3.13 it takes them a moment to end
            await asyncio.wait(cancelled, timeout=10)
        assert asyncio.all_tasks() == before


def native() -> VAD:
    """Return the other detector that exists."""
    return NativeVAD(min_silence_duration=0.55, max_buffered_speech=0.0, prefix_padding_duration=0.0)


@pytest.mark.parametrize("load", [load_vad, native])
@pytest.mark.parametrize("db", [-15, -25, -40])
async def test_each_utterance(load: Callable[[], VAD], db: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each begins and ends once, short or long, loud or faint, with either detector."""
    async with listening(monkeypatch, load()) as listener:
        for name in SPEECH:
            await listener.plays(PAUSE)
            await listener.plays(at(speech(name), db))
        await listener.plays(PAUSE)

        assert listener.words[:1] == [True]
        assert listener.words[-1:] == [False]
        assert all(listener.words[i] is not listener.words[i - 1] for i in range(1, len(listener.words)))
        assert len(SPEECH) <= listener.words.count(True) <= len(SPEECH) + 1
        assert listener.stream.made_with == {
            "sample_rate": RATE,
            "num_channels": 1,
            "frame_size_ms": 1000 * FRAME,
            "capacity": QUEUE,
        }


@pytest.mark.parametrize("db", [-15, -35])
@pytest.mark.parametrize("noise", NOISES)
async def test_noise_is_no_speech(noise: str, db: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """White and pink noise, tones, hum, ringing and hold music."""
    async with listening(monkeypatch, load_vad()) as listener:
        await listener.plays(at(NOISES[noise](5), db))
        await listener.plays(PAUSE)

        assert listener.words == []


async def test_a_silent_track_has_no_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    """A track has one while it sounds, and a moment longer."""
    async with listening(monkeypatch, load_vad()) as listener:
        tasks = len(asyncio.all_tasks())
        await listener.plays(silence(60))
        await listener.plays(at(NOISES["white"](60), -60))
        assert len(asyncio.all_tasks()) == tasks
        for _ in range(3):
            await listener.plays(at(NOISES["white"](1), -30))
            assert len(asyncio.all_tasks()) > tasks
            await listener.plays(PAUSE)
            assert len(asyncio.all_tasks()) == tasks


@dataclass
class Script:
    """A detector with given events after given amounts of sound, and the stream that it made."""

    events: list[tuple[float, VADEventType, float]]
    """When on its own clock it finds what, and how long that has lasted then."""

    def __post_init__(self) -> None:
        self._found: asyncio.Queue[SimpleNamespace | None] = asyncio.Queue()
        self.heard = 0.0
        self.closed = False

    def stream(self) -> "Script":
        """Begin."""
        return self

    def push_frame(self, frame: rtc.AudioFrame) -> None:
        """Hear a frame."""
        before, self.heard = self.heard, self.heard + frame.duration
        for when, kind, lasted in self.events:
            if before < when <= self.heard:
                self._put(type=kind, timestamp=when, speech_duration=lasted, silence_duration=lasted)
        self._put(type=VADEventType.INFERENCE_DONE, timestamp=self.heard)

    def _put(self, **event: Any) -> None:
        self._found.put_nowait(SimpleNamespace(**event))

    def end_input(self) -> None:
        """That was all."""
        self._found.put_nowait(None)

    def __aiter__(self) -> "Script":
        return self

    async def __anext__(self) -> SimpleNamespace:
        event = await self._found.get()
        if event is None:
            raise StopAsyncIteration
        return event

    async def aclose(self) -> None:
        """Close it."""
        self.closed = True


START, END = VADEventType.START_OF_SPEECH, VADEventType.END_OF_SPEECH
LOUD, QUIET = next(frames(at(NOISES["white"](1), -20))), next(frames(silence(1)))


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ([], []),
        ([(1.0, START, 0.2), (2.5, END, 0.6)], [(0.8, True), (1.9, False)]),
        # The end of all sound ends speech as well.
        ([(1.0, START, 0.2)], [(0.8, True), (9 * FRAME, False)]),
        (
            [(1.0, START, 0.2), (1.9, END, 0.6), (2.2, START, 0.1)],
            [(0.8, True), (1.3, False), (2.1, True), (9 * FRAME, False)],
        ),
    ],
)
@virtual
async def test_the_dates(
    events: list[tuple[float, VADEventType, float]], told: list[tuple[float, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The detector's time begins with the frame before the first loud one, dated by our clock."""
    async with listening(monkeypatch, vad := Script(events)) as listener:
        began = asyncio.get_running_loop().time() + 4 * FRAME
        for frame in [QUIET] * 5 + [LOUD] * 8 + [QUIET] * 8:
            await asyncio.sleep(FRAME)
            listener.stream.frames.put_nowait(frame)
        await asyncio.sleep(FRAME)

        assert listener.words == [what for _, what in told]
        assert [when - began for when, _ in listener.told] == pytest.approx([when for when, _ in told])
        assert vad.closed


@pytest.mark.parametrize(("db", "heard"), [(-45, True), (-55, False)])
@virtual
async def test_a_sound_of_20_ms(db: float, heard: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001 - a table
    """From -50 dB on it opens the gate, even at the very end of a frame, as an utterance may begin."""
    sound = np.concatenate([silence(FRAME - 0.016), at(NOISES["white"](0.016), db)])
    async with listening(monkeypatch, vad := Script([])) as listener:
        for frame in frames(sound):
            listener.stream.frames.put_nowait(frame)
        await asyncio.sleep(1)

        assert (vad.heard > 0) is heard


@pytest.mark.parametrize("samples", [1, 319, 321, 4095, 5000, 0])
async def test_frames_of_any_length(samples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A track may end in the middle of one."""
    async with listening(monkeypatch, load_vad()) as listener:
        short = rtc.AudioFrame(pcm(at(NOISES["white"](1), -20))[: 2 * samples], RATE, 1, samples)
        await listener.plays(at(speech(SPEECH[0]), -20))
        listener.stream.frames.put_nowait(short)
        await listener.plays(PAUSE)
        assert listener.words == [True, False]
        listener.stream.frames.put_nowait(short)
        listener.stream.frames.put_nowait(None)

        assert await listener.ends() is None


async def test_a_detector_that_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """The listener raises too, after it has closed everything."""

    def fail(*_: object) -> float:
        raise ValueError("the test says so")

    monkeypatch.setattr(onnx_model.OnnxModel, "__call__", fail)
    async with listening(monkeypatch, load_vad()) as listener:
        await listener.plays(np.concatenate([at(speech(SPEECH[0]), -20), PAUSE]))

        assert isinstance(await listener.ends(), ValueError)


@pytest.mark.parametrize("then", [LOUD, QUIET])
@virtual
async def test_a_detector_that_hangs(then: rtc.AudioFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets a few seconds at most, of sound or of time."""

    class Hanging(Script):
        """Never finds anything."""

        def _put(self, **event: Any) -> None:
            pass

        def end_input(self) -> None:
            """Still nothing."""

    async with listening(monkeypatch, vad := Hanging([])) as listener:
        for frame in [LOUD] * 2 + [then] * 100:
            await asyncio.sleep(FRAME)
            listener.stream.frames.put_nowait(frame)

        assert isinstance(await listener.ends(), TimeoutError)
        assert vad.heard <= BEHIND + FRAME


@virtual
async def test_a_stream_that_does_not_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is abandoned."""
    async with listening(monkeypatch, Script([])) as listener:
        listener.stream.close_takes = 1e9
        listener.task.cancel()

        assert isinstance(await listener.ends(), TimeoutError)


async def test_inference_does_not_block_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs on other threads."""
    threads = set()
    infer = onnx_model.OnnxModel.__call__

    def noted(model: onnx_model.OnnxModel, window: Any) -> float:
        threads.add(threading.get_ident())
        return infer(model, window)

    monkeypatch.setattr(onnx_model.OnnxModel, "__call__", noted)
    async with listening(monkeypatch, load_vad()) as listener:
        await listener.plays(at(speech(SPEECH[0]), -20))

    assert threads
    assert threading.get_ident() not in threads


async def test_no_audio_is_kept(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """What the detector has heard is gone; of silence the last frame is kept. Nothing of it is logged."""
    caplog.set_level(logging.DEBUG)
    heard: weakref.WeakSet[Any] = weakref.WeakSet()
    take = Stream.__anext__

    async def noted(stream: Stream) -> rtc.AudioFrameEvent:
        event = await take(stream)
        heard.add(event.frame)
        return event

    async def remain(most: int) -> None:
        gc.collect()
        while len(heard) > most:
            await asyncio.sleep(0.1)
            gc.collect()

    monkeypatch.setattr(Stream, "__anext__", noted)
    vad = load_vad()
    for _ in range(3):
        async with listening(monkeypatch, vad) as listener:
            for _ in range(3):
                await listener.plays(at(speech(SPEECH[0]), -20))
                assert heard
                await remain(3)
                await listener.plays(PAUSE)
                await remain(2)
        assert listener.words == [True, False] * 3

    gc.collect()
    # The last task still knows where it was ended, and with what.
    assert len(heard) <= 1
    # On a busy machine the detector may have something to say about itself.
    assert {record.getMessage() for record in caplog.records} <= {"VAD inference is slower than realtime"}


def test_one_module_alone_can_receive_audio() -> None:
    """No other part of a worker handles audio streams or frames; `listen` yields dates."""
    sources = [ROOT / "agent.py", *(ROOT / "bouncer").rglob("*.py"), *(ROOT / "policies").rglob("*.py")]
    receiving = [path for path in sources if re.search("AudioStream|AudioFrame", path.read_text(encoding="utf-8"))]

    assert len(sources) > 30
    assert receiving == [ROOT / "bouncer" / "adapter" / "speech.py"]


async def test_the_detector_has_no_buffer_for_speech() -> None:
    """Neither detector has one: it reports speech, and doesn't hand it out."""
    for vad in (load_vad(), native()):
        stream = vad.stream()
        for frame in frames(np.concatenate([at(speech(SPEECH[0]), -20), PAUSE])):
            stream.push_frame(frame)
        stream.end_input()
        found = [event async for event in stream if event.type in (START, END)]
        await stream.aclose()

        assert [event.type for event in found] == [START, END]
        assert {frame.samples_per_channel for event in found for frame in event.frames} == {0}


@pytest.fixture
def unloaded() -> Iterator[None]:
    """As in a process that has not needed it yet."""
    module._load_once.cache_clear()  # noqa: SLF001 - a process can't unload it
    yield
    module._load_once.cache_clear()  # noqa: SLF001 - as above


@pytest.mark.usefixtures("unloaded")
def test_it_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first room that needs it loads it, and all rooms of a process share it, each in its own thread."""
    loads = []

    def load() -> VAD:
        loads.append(threading.get_ident())
        return load_vad()

    monkeypatch.setattr(module, "load_vad", load)
    got: list[VAD | None] = []
    rooms = [threading.Thread(target=lambda: got.append(asyncio.run(detector()))) for _ in range(8)]
    for room in rooms:
        room.start()
    for room in rooms:
        room.join()

    assert len(loads) == 1
    assert len(got) == 8
    assert len(set(map(id, got))) == 1
    assert isinstance(got[0], VAD)


@pytest.mark.usefixtures("unloaded")
async def test_it_can_not_be_loaded(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """That is logged once, and not tried again."""

    def load() -> VAD:
        raise OSError("the test says so")

    monkeypatch.setattr(module, "load_vad", load)

    assert [await detector() for _ in range(3)] == [None] * 3
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "speech detector unavailable")
    assert record.exc_info
