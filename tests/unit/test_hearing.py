"""Readings in, speech activity out: tables of polls, and laws for any order of them."""

from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bouncer.events import Heard
from bouncer.hearing import KNOWN_FOR, LISTEN_FOR, POLL, Gate, Reading, Track, Voices

WORDS = {True: "speaking", False: "silent", None: "unknown"}
PACKETS_PER_SECOND = 50


class Tape:
    """Events of one track, a letter each. The clock starts at 0, and each poll comes `POLL` after the last one.

    `L` a poll after loud sound, `q` after quiet, `s` after a stall (nothing was received), `f` a poll that fails, `n`
    the first poll of a new receiver; in no time: `M` muted, `U` unmuted, `x` the subscription is lost; `D` from now on
    the detector decides, `V` loudness does; `O` the detector begins to listen, `C` it ceases to, and what it says:
    speech began (`B`), ended (`E`).
    """

    def __init__(self, *, encrypted: bool = False, loud: float = -20.0, quiet: float = -60.0) -> None:
        self.at = 0.0
        self.track = Track(self.at, encrypted=encrypted)
        self.changes = [self.now]
        self._energy = self._duration = 0.0
        self._packets = 0
        self._level = {"L": loud, "q": quiet}

    @property
    def now(self) -> tuple[str, float]:
        """The track's state, and when it began."""
        return WORDS[self.track.sound.speaking], self.track.sound.since

    def play(self, script: str) -> "Tape":
        """Play all of this."""
        for letter in script:
            if letter in "MU":
                self.track.mute(self.at, muted=letter == "M")
            elif letter == "x":
                self.track.lose(self.at)
            elif letter in "BE":
                self.track.hear(self.at, speaking=letter == "B")
            elif letter in "DO":
                (self.track.by_speech if letter == "D" else self.track.listen)(self.at)
            elif letter in "VC":
                self.track.by_level(self.at) if letter == "V" else self.track.rest()
            else:
                self.at += POLL
                self._poll(letter)
            if self.now[0] != self.changes[-1][0]:
                self.changes.append(self.now)
        return self

    def _poll(self, letter: str) -> None:
        if letter == "n":
            self._energy = self._duration = self._packets = 0
        # A receiver's time passes whether or not anything arrives.
        self._duration += POLL
        if letter in self._level:
            self._energy += 10 ** (self._level[letter] / 10) * POLL
            self._packets += round(PACKETS_PER_SECOND * POLL)
        if letter == "f":
            self.track.miss(self.at)
        else:
            self.track.read(Reading(self.at, self._energy, self._duration, self._packets))


@pytest.mark.parametrize(
    ("script", "changes"),
    [
        ("", [("unknown", 0)]),
        ("q", [("unknown", 0)]),
        ("L", [("unknown", 0)]),
        ("qq", [("unknown", 0), ("silent", 0.5)]),
        ("LL", [("unknown", 0), ("speaking", 0.5)]),
        ("qqLL", [("unknown", 0), ("silent", 0.5), ("speaking", 1)]),
        # One quiet interval is a breath. Two are the end, which came with the last loud one.
        ("LLLq", [("unknown", 0), ("speaking", 0.5)]),
        ("LLLqq", [("unknown", 0), ("speaking", 0.5), ("silent", 1)]),
        ("LLqLqLqq", [("unknown", 0), ("speaking", 0.5), ("silent", 2.5)]),
        (
            "qqLqqqLqq",
            [("unknown", 0), ("silent", 0.5), ("speaking", 1), ("silent", 1), ("speaking", 3), ("silent", 3)],
        ),
        # A new receiver counts from zero.
        ("LLnL", [("unknown", 0), ("speaking", 0.5)]),
        ("qqnq", [("unknown", 0), ("silent", 0.5)]),
        ("nnnnn", [("unknown", 0)]),
    ],
)
def test_speech_begins_and_ends(script: str, changes: list[tuple[str, float]]) -> None:
    """An interval between readings is loud or quiet, and a change is dated to its start."""
    assert Tape().play(script).changes == changes


@pytest.mark.parametrize(
    ("script", "changes"),
    [
        ("LLff", [("unknown", 0), ("speaking", 0.5)]),
        ("LLss", [("unknown", 0), ("speaking", 0.5)]),
        ("LLfff", [("unknown", 0), ("speaking", 0.5), ("unknown", 1)]),
        ("LLsss", [("unknown", 0), ("speaking", 0.5), ("unknown", 1)]),
        ("LLfsn", [("unknown", 0), ("speaking", 0.5), ("unknown", 1)]),
        ("qqfff", [("unknown", 0), ("silent", 0.5), ("unknown", 1)]),
        ("LLqsss", [("unknown", 0), ("speaking", 0.5), ("unknown", 1.5)]),
        # A failed poll leaves a longer interval. Too long an interval tells nothing; the next one does.
        ("LLfL", [("unknown", 0), ("speaking", 0.5)]),
        ("LLfqq", [("unknown", 0), ("speaking", 0.5), ("silent", 0.5)]),
        ("LLffL", [("unknown", 0), ("speaking", 0.5), ("unknown", 1)]),
        ("LLffLL", [("unknown", 0), ("speaking", 0.5), ("unknown", 1), ("speaking", 2.5)]),
        ("LLssL", [("unknown", 0), ("speaking", 0.5)]),
        ("LLsssqL", [("unknown", 0), ("speaking", 0.5), ("unknown", 1), ("silent", 2.5), ("speaking", 3)]),
        ("LLx", [("unknown", 0), ("speaking", 0.5), ("unknown", 1)]),
        ("LLxLL", [("unknown", 0), ("speaking", 0.5), ("unknown", 1), ("speaking", 1.5)]),
    ],
)
def test_what_is_not_known(script: str, changes: list[tuple[str, float]]) -> None:
    """Three polls without information make it unknown from when it was last known. Fewer change nothing."""
    assert Tape().play(script).changes == changes


@pytest.mark.parametrize(
    ("script", "changes"),
    [
        ("M", [("unknown", 0), ("silent", 0)]),
        ("LLM", [("unknown", 0), ("speaking", 0.5), ("silent", 1)]),
        ("LLMLLLfffsss", [("unknown", 0), ("speaking", 0.5), ("silent", 1)]),
        ("LLMxMM", [("unknown", 0), ("speaking", 0.5), ("silent", 1)]),
        # After unmuting it is silent until heard. Ringing doesn't count, since the baseline is new.
        ("LLMUL", [("unknown", 0), ("speaking", 0.5), ("silent", 1)]),
        ("LLMULL", [("unknown", 0), ("speaking", 0.5), ("silent", 1), ("speaking", 1.5)]),
        ("MffUff", [("unknown", 0), ("silent", 0)]),
        ("MffUfff", [("unknown", 0), ("silent", 0), ("unknown", 1)]),
        ("MffUx", [("unknown", 0), ("silent", 0), ("unknown", 1)]),
    ],
)
def test_muted_is_silent(script: str, changes: list[tuple[str, float]]) -> None:
    """By definition, at once, and whatever the receiver says."""
    assert Tape().play(script).changes == changes


@pytest.mark.parametrize(
    ("level", "word"), [(-20, "speaking"), (-44.9, "speaking"), (-45.1, "silent"), (-90, "silent")]
)
def test_how_loud_is_loud(level: float, word: str) -> None:
    """From -45 dB on."""
    assert Tape(loud=level).play("LL").now == (word, 0.5)


@pytest.mark.parametrize(
    "reading",
    [
        Reading(1.0, 4.9, 1.0, 9),
        Reading(1.0, 6.0, 0.5, 9),
        Reading(1.0, 6.0, 0.4, 9),
        Reading(1.0, 6.0, 1.0, 5),
        Reading(1.0, 6.0, 1.0, 4),
        Reading(0.5, 6.0, 1.0, 9),
        Reading(0.4, 6.0, 1.0, 9),
        Reading(0.5 + KNOWN_FOR, 6.0, 2.0, 9),
        Reading(1.0, nan, 1.0, 9),
        Reading(1.0, inf, 1.0, 9),
        Reading(1.0, 6.0, nan, 9),
        Reading(1.0, 6.0, inf, 9),
    ],
)
def test_two_readings_that_tell_nothing(reading: Reading) -> None:
    """Counters and time only grow. A counter that fell belongs to a new receiver."""
    track = Track(0.0)
    track.read(Reading(0.5, 5.0, 0.5, 5))
    track.read(reading)

    assert track.sound.speaking is None


@pytest.mark.parametrize(
    ("script", "changes"),
    [
        ("DO", [("unknown", 0)]),
        ("DOqq", [("unknown", 0), ("silent", 0.5)]),
        # A sound that isn't speech is silence, however loud.
        ("DOqqLLLLqqLL", [("unknown", 0), ("silent", 0.5)]),
        ("DOLLLL", [("unknown", 0), ("silent", 0.5)]),
        ("DOqqLBLLEqq", [("unknown", 0), ("silent", 0.5), ("speaking", 1.5), ("silent", 2.5)]),
        (
            "DOqqLBLLEqBLEq",
            [("unknown", 0), ("silent", 0.5), *[("speaking", 1.5), ("silent", 2.5)], ("speaking", 3), ("silent", 3.5)],
        ),
        # The detector hears fainter speech than level detection.
        ("DOqqBqqqEq", [("unknown", 0), ("silent", 0.5), ("speaking", 1), ("silent", 2.5)]),
        ("DOqqBBEEq", [("unknown", 0), ("silent", 0.5), ("speaking", 1), ("silent", 1)]),
        # Two utterances with hardly a pause are one.
        ("DOqqLBLLEBLEq", [("unknown", 0), ("silent", 0.5), ("speaking", 1.5), ("silent", 3)]),
        # The end of speech counts once something arrived after it, since a stall sounds like silence too.
        ("DOqqLBLLs", [("unknown", 0), ("silent", 0.5), ("speaking", 1.5)]),
        ("DOqqLBLLEff", [("unknown", 0), ("silent", 0.5), ("speaking", 1.5)]),
        ("DOqqLBLLsEsq", [("unknown", 0), ("silent", 0.5), ("speaking", 1.5), ("silent", 3)]),
        ("DOqqLBLLsEss", [("unknown", 0), ("silent", 0.5), ("speaking", 1.5), ("unknown", 2.5)]),
        ("DOqqLBLLsssEqq", [("unknown", 0), ("silent", 0.5), *[("speaking", 1.5), ("unknown", 2.5)], ("silent", 4)]),
        (
            "DOqqLBLLEsssLB",
            [("unknown", 0), ("silent", 0.5), *[("speaking", 1.5), ("unknown", 2.5)], ("speaking", 4.5)],
        ),
        ("DOqqLBLLEsssLLL", [("unknown", 0), ("silent", 0.5), *[("speaking", 1.5), ("unknown", 2.5)], ("silent", 4)]),
        (
            "DOqqLBLLsssELB",
            [("unknown", 0), ("silent", 0.5), *[("speaking", 1.5), ("unknown", 2.5)], ("speaking", 4.5)],
        ),
        # Silent before and after a stall, it may have spoken in between.
        ("DOqqsssqq", [("unknown", 0), ("silent", 0.5), ("unknown", 1), ("silent", 2.5)]),
        ("DOqqsssLB", [("unknown", 0), ("silent", 0.5), ("unknown", 1), ("speaking", 3)]),
        ("DOqqLBLLsssL", [("unknown", 0), ("silent", 0.5), *[("speaking", 1.5), ("unknown", 2.5)], ("speaking", 4)]),
        # The detector starts with a sound. Until it decides the sound is unknown; speech is dated to its start.
        ("DqqqqL", [("unknown", 0), ("silent", 0.5), ("unknown", 2)]),
        ("DqqLOB", [("unknown", 0), ("silent", 0.5), ("unknown", 1), ("speaking", 1)]),
        ("DqqLOLBLEq", [("unknown", 0), ("silent", 0.5), ("unknown", 1), ("speaking", 1), ("silent", 2.5)]),
        ("DqqLOLLLL", [("unknown", 0), ("silent", 0.5), ("unknown", 1), ("silent", 1)]),
        ("DqqLOLLLLB", [("unknown", 0), ("silent", 0.5), ("unknown", 1), ("silent", 1), ("speaking", 3.5)]),
        ("DqqLOqqq", [("unknown", 0), ("silent", 0.5), ("unknown", 1), ("silent", 1)]),
        ("DqqLLLLLLLLOB", [("unknown", 0), ("silent", 0.5), ("unknown", 1), ("speaking", 5 - KNOWN_FOR)]),
        # Once it stops listening, its word no longer counts.
        ("DOqqLBLCL", [("unknown", 0), ("silent", 0.5), ("speaking", 1.5), ("unknown", 1.5)]),
        ("DOqqCB", [("unknown", 0), ("silent", 0.5)]),
        ("DOLBLM", [("unknown", 0), ("speaking", 0.5), ("silent", 1)]),
        ("DMOB", [("unknown", 0), ("silent", 0)]),
        ("DOLBLMCULBL", [("unknown", 0), ("speaking", 0.5), ("silent", 1), ("unknown", 1.5)]),
        ("DOLBLMCUOLLBL", [("unknown", 0), ("speaking", 0.5), ("silent", 1), ("speaking", 2)]),
        ("DOLBLx", [("unknown", 0), ("speaking", 0.5), ("unknown", 1)]),
        # A detector can't make a track known that isn't received.
        ("DOLBLLsss", [("unknown", 0), ("speaking", 0.5), ("unknown", 1.5)]),
        # From then on, loudness decides.
        ("OBLL", [("unknown", 0), ("speaking", 0.5)]),
        ("DOLLLLVL", [("unknown", 0), ("silent", 0.5), ("speaking", 2)]),
        ("DOqqBqqVq", [("unknown", 0), ("silent", 0.5), ("speaking", 1), ("silent", 2)]),
        ("DOLLLLBVL", [("unknown", 0), ("silent", 0.5), ("speaking", 2)]),
        ("LLDL", [("unknown", 0), ("speaking", 0.5), ("unknown", 1)]),
        ("DOBDLL", [("unknown", 0), ("speaking", 0)]),
    ],
)
def test_by_speech(script: str, changes: list[tuple[str, float]]) -> None:
    """The detector decides what is speech. A sound that it had no time to judge is unknown."""
    assert Tape().play(script).changes == changes


scripts = st.text("LqsfnMUxDVOCBE", max_size=30)


@given(scripts)
def test_encrypted_is_never_known(script: str) -> None:
    """It sounds like noise without its key, and like silence with a wrong one."""
    assert Tape(encrypted=True).play(script).changes == [("unknown", 0)]


@given(scripts, st.text("fs", min_size=3, max_size=3))
def test_unknown_is_never_silent(script: str, nothing: str) -> None:
    """After three polls without information, a track that isn't muted is unknown, whatever it was before."""
    assert Tape().play(script + "U" + nothing).now[0] == "unknown"


@given(scripts)
def test_muted_after_anything(script: str) -> None:
    """Muting silences any track, and it can be heard again afterwards."""
    tape = Tape().play(script + "M")
    assert tape.now[0] == "silent"
    assert tape.play("VULL").now[0] == "speaking"
    assert tape.play("qq").now[0] == "silent"
    assert tape.play("MUDOqqB").now[0] == "speaking"
    assert tape.play("qEq").now[0] == "silent"


@given(st.text("qsfnMUxDVOCE", max_size=30))
def test_no_sound_no_speech(script: str) -> None:
    """Without sound, no participant speaks."""
    assert "speaking" not in {word for word, _ in Tape().play(script).changes}


@given(st.text("LqsfnMUxDOCE", max_size=30))
def test_by_speech_sound_is_no_speech(script: str) -> None:
    """With speech detection, only the detector's word makes a participant speak."""
    assert "speaking" not in {word for word, _ in Tape().play("D" + script).changes}


@pytest.mark.parametrize(
    ("script", "worth"),
    [
        ("", True),
        ("q" * 59, True),
        ("q" * 60, False),
        ("L" * 500, True),
        ("LL" + "q" * 59, True),
        ("LL" + "q" * 60, False),
    ],
)
def test_what_to_listen_to(script: str, worth: bool) -> None:  # noqa: FBT001 - a table
    """Tracks that sound, sounded in the last half minute, or became able to only since then."""
    assert LISTEN_FOR == 60 * POLL
    tape = Tape().play(script)
    assert tape.track.worth_listening(tape.at) == worth
    assert not tape.play("M").track.worth_listening(tape.at)
    assert tape.play("U").track.worth_listening(tape.at)


def test_faint_speech_is_worth_listening_to() -> None:
    """While the detector says that it continues, and as long afterwards as after any sound."""
    tape = Tape().play("DO" + "q" * 4 + "B" + "q" * 200)
    assert tape.track.sounds
    assert tape.track.worth_listening(tape.at)
    assert not tape.play("Eq").track.sounds
    assert tape.play("q" * 58).track.worth_listening(tape.at)
    assert not tape.play("q").track.worth_listening(tape.at)


def test_encrypted_is_not_worth_listening_to() -> None:
    """What it sounds like means nothing."""
    assert not Tape(encrypted=True).track.worth_listening(0)


@pytest.mark.parametrize(
    ("script", "heard"),
    [
        ("", ""),
        ("qqqq", "...."),
        ("L", "0"),
        ("qqqL", "...23"),
        ("qqqLqqqqqqqq", "...23,4,5,6,7,8..."),
        ("qLqqqqqqqL", ".01,2,3,4,5,6..89"),
        ("qLqqqLqqqqqqq", ".01,2,3,4,5,6,7,8,9,10.."),
    ],
)
def test_what_the_detector_gets(script: str, heard: str) -> None:
    """It gets frames that sound, the one before and some after, none of them twice."""
    gate = Gate[int]()
    told = ""
    for i, letter in enumerate(script):
        frames = gate.let_through(i, loud=letter == "L")
        told += "".join(map(str, frames)) + "," if frames else "."
    assert told.replace(",.", ".").removesuffix(",") == heard


numbers = st.floats() | st.sampled_from([0.0, 0.5, 1.0, 1e308])
readings = st.builds(Reading, numbers, numbers, numbers, st.integers(-3, 3))


@given(st.lists(readings | numbers | st.booleans()))
def test_whatever_is_read(happens: list[Reading | float | bool]) -> None:
    """Readings that fall, jump or are not numbers raise nothing, and dates never go back."""
    track = Track(0.0)
    since = 0.0
    for what in happens:
        match what:
            case Reading():
                track.read(what)
            case bool():
                track.mute(since, muted=what)
            case _:
                track.miss(what)
        assert track.sound.since >= since
        since = track.sound.since


def spoken(*, since: float = 1.0, speaking: bool | None = True) -> Track:
    """Return a track in this state since then."""
    track = Track(since)
    if speaking is not None:
        track.mute(since, muted=True)
    if speaking:
        track.mute(since, muted=False)
        track.read(Reading(since, 0, 0, 0))
        track.read(Reading(since + POLL, 1, POLL, 1))
    assert (track.sound.speaking, track.sound.since) == (speaking, since)
    return track


SPEAKING, SILENT, UNKNOWN = True, False, None


@pytest.mark.parametrize(
    ("tracks", "heard"),
    [
        ([], (SILENT, 10)),
        ([(SILENT, 3)], (SILENT, 10)),
        ([(SPEAKING, 3)], (SPEAKING, 3)),
        ([(UNKNOWN, 3)], (UNKNOWN, 10)),
        ([(SILENT, 3), (SPEAKING, 5)], (SPEAKING, 5)),
        ([(UNKNOWN, 3), (SPEAKING, 5)], (SPEAKING, 5)),
        ([(SPEAKING, 5), (SPEAKING, 4)], (SPEAKING, 4)),
        ([(UNKNOWN, 3), (SILENT, 5)], (UNKNOWN, 10)),
        ([(SILENT, 3), (SILENT, 5)], (SILENT, 10)),
    ],
)
def test_a_participant_is_what_its_tracks_are(
    tracks: list[tuple[bool | None, float]], heard: tuple[bool | None, float]
) -> None:
    """It speaks if one track does; otherwise it is unknown if one is. Without a track it is silent."""
    mine = [spoken(speaking=speaking, since=since) for speaking, since in tracks]

    assert Voices().changes(10, {"PA": mine}) == [Heard(heard[1], "PA", heard[0])]


def test_only_changes_are_told() -> None:
    """Each participant has its own changes."""
    ana, bob = Tape(), Tape()
    voices = Voices()

    def told(script_of_ana: str, script_of_bob: str) -> list[tuple[float, str, Any]]:
        ana.play(script_of_ana)
        bob.play(script_of_bob)
        return [(h.at, h.sid, h.speaking) for h in voices.changes(ana.at, {"A": [ana.track], "B": [bob.track]})]

    assert told("", "") == [(0, "A", UNKNOWN), (0, "B", UNKNOWN)]
    assert told("q", "q") == []
    assert told("q", "L") == [(0.5, "A", SILENT), (0.5, "B", SPEAKING)]
    assert told("q", "L") == []
    assert told("L", "q") == [(1.5, "A", SPEAKING)]
    assert told("L", "q") == [(1, "B", SILENT)]
    assert told("L", "q") == []


def test_a_track_that_goes_ends_its_speech() -> None:
    """The end is when this track went, not when the other fell silent. A new track brings no old dates."""
    voices = Voices()
    talking, muted = spoken(since=5), spoken(speaking=SILENT, since=3)

    assert voices.changes(6, {"A": [talking, muted]}) == [Heard(5, "A", SPEAKING)]
    assert voices.changes(8, {"A": [muted]}) == [Heard(8, "A", SILENT)]
    assert voices.changes(9, {"A": [muted, spoken(since=7)]}) == [Heard(8, "A", SPEAKING)]
    assert voices.changes(10, {"A": []}) == [Heard(10, "A", SILENT)]


def test_who_leaves_is_forgotten() -> None:
    """Nothing is told about it. When it returns, everything is told again."""
    voices = Voices()
    voices.changes(1, {"A": [], "B": []})

    assert voices.changes(2, {"B": []}) == []
    assert voices.changes(3, {"A": [], "B": []}) == [Heard(3, "A", SILENT)]


def test_the_end_makes_everything_unknown() -> None:
    """Everything that was known becomes unknown, once."""
    voices = Voices()
    voices.changes(6, {"A": [spoken(since=5)], "B": [], "C": [spoken(speaking=UNKNOWN)]})

    assert voices.end(7) == [Heard(7, "A", UNKNOWN), Heard(7, "B", UNKNOWN)]
    assert voices.end(8) == []


@given(st.lists(st.tuples(st.sampled_from("AB"), st.integers(0, 2), st.sampled_from("LqsfnMUxDVOCBE+-"))))
def test_what_is_told_adds_up(happens: list[tuple[str, int, str]]) -> None:
    """The changes add up to the truth, and their dates neither go back nor lie in the future."""
    voices = Voices()
    tapes: dict[str, dict[int, Tape]] = {"A": {}, "B": {}}
    known: dict[str, Heard] = {}
    now = 0.0
    for sid, number, letter in happens:
        mine = tapes[sid]
        if letter == "+":
            mine.setdefault(number, Tape())
        elif letter == "-":
            mine.pop(number, None)
        elif tape := mine.get(number):
            tape.play(letter)
            now = max(now, tape.at)
        for heard in voices.changes(now, {sid: [tape.track for tape in mine.values()] for sid, mine in tapes.items()}):
            assert heard.at <= now
            before = known.get(heard.sid)
            assert before is None or (before.at <= heard.at and before.speaking is not heard.speaking)
            known[heard.sid] = heard
        for of, tapes_of in tapes.items():
            sounds = [tape.track.sound.speaking for tape in tapes_of.values()]
            assert known[of].speaking is (True if True in sounds else None if None in sounds else False)


def test_three_polls_are_what_they_are_said_to_be() -> None:
    """The constants fit each other."""
    assert 2 * POLL < KNOWN_FOR < 3 * POLL
