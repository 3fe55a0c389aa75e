"""Hearing: from what is counted of each audio track to who speaks, since when, and of whom that is not known.

Pure: readings and dates in, `Heard` events out. «Not known» is not «silent»: what was known last holds for three polls
that tell nothing, and no longer. Muted is silent by definition, as is a participant without an audio track; what is
encrypted end to end is never known.

By level, whatever sounds speaks. By speech, a detector of voices decides: loudness says when a track is worth listening
to, and a sound is not known to be speech or none until the detector has listened to it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import inf
from typing import Generic, TypeVar

from bouncer.events import Heard
from bouncer.room import Instant

POLL = 0.5
"""Seconds from one reading to the next: with `HOLD` it found 230 of 230 utterances, 0.41 s after their start in the
median and 0.79 s at worst. Polling twice as often would tell 0.2 s earlier and date no better, at 3 % of a core for 8
tracks."""
LOUD = 10 ** (-45 / 10)
"""Mean energy from which on a track sounds: -45 dB of full scale, as the receiver counts it (see `Reading`)."""
HOLD = 0.7
"""Seconds of quiet that end an utterance: less than a pause for breath doesn't."""
KNOWN_FOR = 1.4
"""Seconds for which a track that tells nothing is what it was: three polls in a row, less their jitter. Silence is no
such case: its packets come every 0.4 s."""
JUDGED_AFTER = 1.0
"""Seconds after which a sound in which the detector, that came later, finds no speech is none. It needs 0.1 to 0.3."""
LISTEN_FOR = 30.0
"""Seconds of quiet after which nobody listens to a track any more: its loudness says when to begin again. Within them
96 of 96 utterances were found, at -20 and -42 dB, 0.4 s after their start and dated 0.15 s late. Of 48 first ones after
them it was 38, 0.65 s after their start; the others, of half a second and less, were over before the detector came,
and were not known to be speech or none."""
FRAME = 0.256
"""Seconds of sound that are looked at together: eight windows of the detector. In frames of 0.1 s a stream costs half
as much again."""
HANG = 5
"""Quiet frames after a loud one that the detector still gets, so that it finds the end by itself."""

Frame = TypeVar("Frame")


@dataclass(frozen=True, slots=True)
class Reading:
    """What a receiver has counted of one track until `at`. All of it only grows, until the receiver is a new one."""

    at: Instant
    energy: float
    """Loudness squared times seconds, full scale being 1. libwebrtc takes the peak of each 10 ms for its loudness, so a
    tone counts 3 dB more than its mean power, and speech more than that."""
    duration: float
    """Seconds of sound made of the track. They pass whether anything is received or not."""
    packets: int
    """Packets received: the only one of the three that stands still when the sender, or the way from it, does."""


@dataclass(frozen=True, slots=True)
class Sound:
    """Whether something sounds, and since when that is so; None: not known."""

    speaking: bool | None
    since: Instant


class Track:
    """One audio track, by the loudness of each stretch between two readings, and what a detector makes of it.

    A stretch is dated by its beginning, the last one of an utterance too: what is received is 0.1 to 0.2 s late and
    rings on for 0.25 s, so that an utterance that seems to end at the end of a stretch ended around its beginning. Of
    1,360 beginnings and ends dated like this, 95 % were right to within 0.5 s.
    """

    def __init__(self, at: Instant, *, encrypted: bool = False) -> None:
        """Begin with one that is not muted, of which nothing is known, and that is heard by level."""
        self._level = Sound(None, at)
        self._encrypted = encrypted
        self._muted = False
        self._last: Reading | None = None
        self._known_at = self._known_since = at
        self._received_since: Instant | None = None
        """When the last stretch began in which something was received."""
        self._loud: tuple[Instant, Instant] = (at, at)
        self._voice: Sound | None = None
        """What the detector says; not known before it has listened. None: heard by level."""
        self._listened_since: Instant | None = None
        self._quiet_since: Instant | None = None
        """When speech ended by the detector, until it is known that this was silence and no stall."""
        self._awake_at = at
        """When it sounded last, or could begin to."""

    @property
    def sound(self) -> Sound:
        """What it sounds like, and since when."""
        level, voice = self._level, self._voice
        if voice is None or level.speaking is None:
            return level
        if voice.speaking is None:
            return Sound(None, max(level.since, voice.since)) if level.speaking else level
        return voice

    def mute(self, at: Instant, *, muted: bool) -> None:
        """Take in whether it is muted. One that no longer is stays silent until it is heard, or not known any more."""
        if muted == self._muted:
            return
        self._muted = muted
        self._last, self._known_at, self._awake_at = None, at, at
        if muted and not self._encrypted:
            self.rest()
            self._become(speaking=False, since=at)
            self._voice = self._voice and Sound(speaking=False, since=max(at, self._voice.since))
        elif self._voice and not muted:
            self._voice = Sound(None, self._voice.since)

    def lose(self, at: Instant) -> None:
        """Take in that it is not received any more."""
        self._last, self._awake_at = None, at
        self.rest()
        if not self._muted:
            self._become(speaking=None, since=at)

    def miss(self, at: Instant) -> None:
        """Take in that it could not be read."""
        if not self._muted and at - self._known_at >= KNOWN_FOR:
            self._become(speaking=None, since=self._known_at)

    def read(self, reading: Reading) -> None:
        """Take in a reading. The first one after anything else than a reading only tells from where to count."""
        if self._muted or self._encrypted:
            return
        last, self._last = self._last, reading
        loudness = None if last is None else _loudness(last, reading)
        if last is None or loudness is None:
            self.miss(reading.at)
            return
        self._known_at, self._received_since = reading.at, last.at
        if loudness >= LOUD:
            self._loud, self._awake_at = (last.at, reading.at), reading.at
            self._become(speaking=True, since=last.at)
        elif self._level.speaking is None:
            self._become(speaking=False, since=last.at)
        elif reading.at - self._loud[1] >= HOLD:
            self._become(speaking=False, since=self._loud[0])
        self._fall_silent()
        self._judge(reading.at)

    def by_level(self, at: Instant) -> None:
        """Go by loudness from now on."""
        before = self.sound.speaking
        self._voice = self._listened_since = self._quiet_since = None
        if self._level.speaking is not before:
            # That it sounded before as well was no speech then.
            self._level = Sound(self._level.speaking, max(at, self._level.since))

    def by_speech(self, at: Instant) -> None:
        """Go by the detector from now on, if it doesn't already."""
        self._voice = self._voice or Sound(None, at)

    @property
    def sounds(self) -> bool:
        """Whether there is a sound, speech or not."""
        return self._level.speaking is True or (self._voice is not None and self._voice.speaking is True)

    def worth_listening(self, at: Instant) -> bool:
        """Whether it sounds, or did lately, or could begin to only lately."""
        return not (self._muted or self._encrypted) and (self.sounds or at - self._awake_at < LISTEN_FOR)

    def listen(self, at: Instant) -> None:
        """Take in that the detector listens from now on."""
        if not (self._muted or self._encrypted):
            self._listened_since = at

    def rest(self) -> None:
        """Take in that the detector doesn't listen any more."""
        self._listened_since = self._quiet_since = None
        if self._voice and not self._muted:
            self._voice = Sound(None, self._voice.since)

    def hear(self, at: Instant, *, speaking: bool) -> None:
        """Take in that the detector found the beginning of speech, or its end."""
        began, voice, level = self._listened_since, self._voice, self._level
        if began is None or voice is None:
            return
        if not speaking:
            self._quiet_since = at
            if level.speaking is None:
                self._doubt_silence()
            else:
                self._fall_silent()
            return
        self._quiet_since = None
        if voice.speaking is None and level.speaking and level.since < began:
            # It was called because of this sound, and heard only the rest of it.
            at = min(at, max(level.since, began - KNOWN_FOR))
        if not voice.speaking:
            self._say(speaking=True, since=at)

    def _fall_silent(self) -> None:
        """Believe the detector that speech has ended, once anything was received that was sent after it.

        A track that stalls sounds like silence to it.
        """
        ended, received = self._quiet_since, self._received_since
        if ended is not None and received is not None and ended <= received:
            self._quiet_since = None
            self._say(speaking=False, since=ended)

    def _doubt_silence(self) -> None:
        """Nothing is received: the detector may take that for silence, and says nothing new when it is over."""
        if self._voice and (self._voice.speaking is False or self._quiet_since is not None):
            self._voice, self._quiet_since = Sound(None, self._voice.since), None

    def _judge(self, at: Instant) -> None:
        """A detector that had the time to find speech, and did not, says that there is none."""
        began, voice, level = self._listened_since, self._voice, self._level
        if began is None or voice is None or voice.speaking is not None:
            return
        if level.speaking is False or at - max(began, self._known_since) >= JUDGED_AFTER:
            self._voice = Sound(speaking=False, since=max(level.since, voice.since))

    def _say(self, *, speaking: bool, since: Instant) -> None:
        if self._voice:
            self._voice, self._awake_at = Sound(speaking, max(since, self._voice.since)), max(since, self._awake_at)

    def _become(self, *, speaking: bool | None, since: Instant) -> None:
        if speaking is self._level.speaking:
            return
        voice, unknown_since = self._voice, self._level.since
        if speaking is None:
            self._doubt_silence()
        elif self._level.speaking is None:
            self._known_since = since
            if voice and voice.speaking and voice.since < unknown_since:
                # Whether it spoke all the while isn't known.
                self._voice = Sound(speaking=True, since=since)
        self._level = Sound(speaking, max(since, self._level.since))


class Gate(Generic[Frame]):
    """Lets the detector have the frames in which something sounds, the one before, and `HANG` more."""

    def __init__(self) -> None:
        """Begin with one that is shut."""
        self._before: list[Frame] = []
        self._left = 0

    def take(self, frame: Frame, *, loud: bool) -> list[Frame]:
        """The frames that are to be heard, given the next one; none while the gate is shut."""
        if loud:
            before, self._before = self._before, []
            self._left = HANG
            return [*before, frame]
        if self._left:
            self._left -= 1
            return [frame]
        self._before = [frame]
        return []


def _loudness(earlier: Reading, later: Reading) -> float | None:
    """Mean energy between two readings; None if they tell nothing about it."""
    energy, duration = later.energy - earlier.energy, later.duration - earlier.duration
    told = 0 < later.at - earlier.at < KNOWN_FOR and later.packets > earlier.packets
    return energy / duration if told and 0 <= energy < inf and 0 < duration < inf else None


@dataclass(slots=True)
class _Voice:
    """One participant: its tracks, and what was told of it last."""

    silent_since: Instant
    """When it last lost a track; before it had any, when it was first seen."""
    tracks: Collection[Track] = ()
    told: Heard | None = None


class Voices:
    """What is heard of everybody in a room, each by all of their tracks."""

    def __init__(self) -> None:
        self._voices: dict[str, _Voice] = {}

    def take(self, at: Instant, tracks: Mapping[str, Collection[Track]]) -> list[Heard]:
        """What has changed, given everybody's tracks by the participant's sid; those it doesn't name are forgotten."""
        self._voices = {sid: self._voices.get(sid) or _Voice(at) for sid in tracks}
        changes = []
        for sid, voice in self._voices.items():
            if any(track not in tracks[sid] for track in voice.tracks):
                voice.silent_since = at
            voice.tracks = tuple(tracks[sid])
            sound, told = _together(voice), voice.told
            if told is None or sound.speaking is not told.speaking:
                voice.told = Heard(max(sound.since, told.at if told else sound.since), sid, sound.speaking)
                changes.append(voice.told)
        return changes

    def end(self, at: Instant) -> list[Heard]:
        """Forget everybody, and what they sound like is not known any more."""
        told = [voice.told for voice in self._voices.values() if voice.told]
        self._voices.clear()
        return [Heard(max(at, last.at), last.sid, None) for last in told if last.speaking is not None]


def _together(voice: _Voice) -> Sound:
    """A participant speaks if any of its tracks does; if none does and one is not known, neither is the participant."""
    sounds = [track.sound for track in voice.tracks]
    if speaking := [sound.since for sound in sounds if sound.speaking]:
        return Sound(speaking=True, since=min(speaking))
    known = all(sound.speaking is False for sound in sounds)
    since = max([voice.silent_since, *(sound.since for sound in sounds)])
    return Sound(speaking=False if known else None, since=since)
