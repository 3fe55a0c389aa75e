"""The sounds of tests and benchmarks: recorded speech, and synthetic noise, tones and music.

A sound is an array of samples at `RATE` with full scale 1. Each is the same every time.
"""

import wave
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Sound = NDArray[np.float64]

RATE = 16_000
SAMPLES = Path(__file__).parent / "samples"
SPEECH = tuple(sorted(path.stem for path in SAMPLES.glob("*.wav")))
"""The recorded utterances, 0.5 to 2.4 s long; samples/README.md says how they were made."""


def speech(name: str) -> Sound:
    """Return one of the utterances."""
    with wave.open(str(SAMPLES / f"{name}.wav")) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    return samples.astype(np.float64) / 32768


def silence(seconds: float) -> Sound:
    """Return silence."""
    return np.zeros(round(seconds * RATE))


def white(seconds: float) -> Sound:
    """Return white noise, as on a bad line."""
    return np.random.default_rng(1).normal(size=round(seconds * RATE))


def pink(seconds: float) -> Sound:
    """Return pink noise, as of wind, traffic or an air conditioner."""
    spectrum = np.fft.rfft(white(seconds))
    return np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), round(seconds * RATE))


def tone(seconds: float, *hertz: float) -> Sound:
    """Return pure tones played together: one of 440 Hz by default."""
    return _mixed(np.sin(2 * np.pi * f * _clock(seconds)) for f in hertz or (440.0,))


def hum(seconds: float) -> Sound:
    """Return mains hum with its overtones."""
    return _mixed(np.sin(2 * np.pi * 50 * n * _clock(seconds)) / n for n in range(1, 12))


def ringing(seconds: float) -> Sound:
    """Return a ringback tone: two tones, 2 s in every 6."""
    return tone(seconds, 440.0, 480.0) * (_clock(seconds) % 6 < 2)


def music(seconds: float) -> Sound:
    """Return hold music: broken chords of plucked notes over a bass, four notes a second."""
    chords = ((262, 330, 392, 523), (220, 262, 330, 440), (175, 220, 262, 349), (196, 247, 294, 392))
    time = _clock(seconds)
    note, since = (4 * time).astype(int), (time % 0.25)
    hertz = np.array(chords)[note // 4 % 4, note % 4]
    bass = np.array(chords)[note // 4 % 4, 0] / 2
    plucked = _mixed(np.sin(2 * np.pi * n * hertz * time) / n**2 for n in range(1, 6)) * np.exp(-4 * since)
    return _mixed((plucked, 0.5 * np.sin(2 * np.pi * bass * time)))


NOISES = {"white": white, "pink": pink, "tone": tone, "hum": hum, "ringing": ringing, "music": music}
"""Sounds that are not speech, by name; each takes its length in seconds."""


def at(sound: Sound, db: float) -> Sound:
    """Return the sound at this mean power in dBFS, clipped where needed."""
    power = float(np.mean(sound**2))
    leveled: Sound = np.clip(sound * 10 ** (db / 20) / np.sqrt(power or 1.0), -1, 1)
    return leveled


def pcm(sound: Sound) -> bytes:
    """Return the sound as 16-bit samples."""
    return np.round(sound * 32767).astype("<i2").tobytes()


def _mixed(sounds: Iterable[Sound]) -> Sound:
    mixed: Sound = np.sum(list(sounds), axis=0)
    return mixed


def _clock(seconds: float) -> Sound:
    return np.arange(round(seconds * RATE)) / RATE
