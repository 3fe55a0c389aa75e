"""Recordings: what is in them, how they survive a bad disk and a bad file, and that a room can be done again."""

import errno
import gzip
import json
import os
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from inspect import isfunction
from pathlib import Path
from typing import Any, get_args

import pytest

from bouncer.configuration.settings import RecordingSettings
from bouncer.events import Described, Earlier, Event, Medium, Publication, Transcribed
from bouncer.guard.watch import Watch
from bouncer.observers.log_events import LogEvent
from bouncer.recording import recorder as recorder_module
from bouncer.recording.files import recordings, texts
from bouncer.recording.format import EVENTS, FormatError
from bouncer.recording.recorder import Recorder
from bouncer.recording.replay import Registry, follow, opened
from bouncer.recording.tape import Taped
from bouncer.room import Kind
from policies import BUILTIN
from tests.bench import Bench
from tests.recordings import KEY, Tapes

IDLE = {"idle_timeout": {"timeout": 60}}
EXEMPT = {"identity": ["vip-*"], "name": ["*Boss*"], "attributes": {"team": "night*"}, "metadata": ["*keep*"]}
AGENTS: Sequence[tuple[str, dict[str, Any]]] = (
    ("vip-1", {}),
    ("agent-AJ_b", {}),
    ("agent-AJ_c", {"attributes": {"team": "night shift"}}),
    ("agent-AJ_d", {"metadata": "please keep me"}),
    ("agent-AJ_e", {"publications": (Publication(Medium.VIDEO, "holiday pictures", muted=True),)}),
)
PERSONAL = ("alice", "Alice", "vip-1", "AJ_b", "The Boss", "night shift", "keep me", "holiday", "4930", "other app")


def replayed(lines: Sequence[str]) -> int:
    """Do a recording again. Return how many lines it has."""
    return sum(1 for _ in follow(opened(lines), Registry(BUILTIN)))


def play(bench: Bench) -> None:
    """Let agents be idle, some of them exempt, and a person come and go."""
    bench.watch.configure(json.dumps({"bouncer": {"policies": IDLE, "exempt": EXEMPT}, "other app": "x"}), bench.now)
    bench.joins("alice@example.org", attributes={"sip.phoneNumber": "+4930123", "sip.callStatus": "active"})
    for identity, facts in AGENTS:
        attributes = {"lk.agent_name": "helper", "lk.agent.state": "listening", **facts.get("attributes", {})}
        bench.joins(identity, **{**facts, "kind": Kind.AGENT, "attributes": attributes})
    bench.watch.tell(Transcribed(bench.now, "alice@example.org", "vip-1"))
    life = {bench.here["vip-1"].sid: bench.now}
    bench.watch.tell(Earlier(bench.now, opened_at=0, evicted_at={"agent-AJ_b": bench.now}, alive_at=life))
    for identity, name in (("alice@example.org", "Alice"), ("agent-AJ_b", "The Boss")):
        bench.here[identity] = replace(bench.here[identity], name=name)
        bench.watch.tell(Described(bench.now, bench.here[identity].sid, name, ""))
    bench.until(100)
    bench.leaves("alice@example.org")
    bench.watch.configure('{"bouncer": not JSON', bench.now)
    bench.until(120)


@pytest.fixture(params=[KEY, None], ids=["pseudonyms", "personal"])
def lines(request: pytest.FixtureRequest) -> list[str]:
    """The lines of a room's recording."""
    tapes = Tapes(request.param)
    bench = Bench(tapes=tapes)
    play(bench)
    assert bench.outcomes == [("agent-AJ_e", "removed")]
    (found,) = tapes.recordings()
    return found


def test_a_recording_gives_the_same_decisions(lines: list[str]) -> None:
    """Also where the exemptions in force go by texts that are hidden."""
    assert replayed(lines) == len(lines) - 1
    assert sum('["evicted"' in line for line in lines) == 1


def test_every_event_can_be_recorded() -> None:
    """One that couldn't would end the room's recording."""
    assert set(EVENTS.values()) == set(get_args(Event))


def test_personal_texts_are_hidden_unless_they_are_asked_for(lines: list[str]) -> None:
    """Agent names and LiveKit's own attributes stay; a configuration stays as our key has it."""
    text = "".join(lines)
    hidden = json.loads(lines[0])["personal"] is False

    assert {word: word in text for word in PERSONAL if word != "other app"} == dict.fromkeys(PERSONAL[:-1], not hidden)
    assert "other app" not in text, "what belongs to other applications is never recorded"
    assert "helper" in text
    assert '"listening"' in text
    assert '"sip.callStatus":"active"' in text
    assert "vip-*" in text


def test_a_bouncer_that_decides_otherwise_is_found(lines: list[str]) -> None:
    """One date that is another one, and the recording no longer fits."""
    (place,) = (n for n, line in enumerate(lines) if '["evicted"' in line)
    lines[place] = lines[place].replace('"removed"', '"left"')

    with pytest.raises(FormatError, match=f"line {place + 1}: this bouncer decides otherwise"):
        replayed(lines)


def header(lines: list[str], **changes: Any) -> list[str]:
    """Return the recording with another header."""
    return [json.dumps(json.loads(lines[0]) | changes), *lines[1:]]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda _: [], "is empty"),
        (lambda lines: lines[1:], "line 1: isn't a recording of a bouncer"),
        (lambda lines: header(lines, bouncer_recording=2), "line 1: has version 2 of the format; this bouncer reads"),
        (lambda lines: header(lines, began_at="now"), "line 1: the header: began_at: Input should be a valid number"),
        (lambda lines: [*lines, *lines], "a second recording begins here"),
        (lambda lines: [*lines[:9], lines[9][:-5], *lines[10:]], "line 10: isn't valid JSON"),
        (lambda lines: [*lines[:9], "[]"], "line 10: must be a JSON object"),
        (lambda lines: [*lines[:3], '{"at": NaN, "close": true}'], "line 4: isn't valid JSON: NaN is no number"),
        (lambda lines: [*lines, '{"at": 1, "close": true}'], "is of an earlier instant than the line before"),
        (lambda lines: [*lines, '{"at": 999, "event": "sung"}'], "there is no event 'sung'"),
        (lambda lines: [*lines, '{"at": 999, "sang": 1}'], "says nothing that is known: at, sang"),
        (lambda lines: [*lines, '{"at": 999, "event": "left"}'], "left: sid: Field required"),
        (lambda lines: [*lines, '{"at": 999, "answer": 777}'], "answers command 777, which this bouncer never gave"),
        (lambda lines: [*lines, '{"at": 999, "sent": "PA_x"}'], "can't be replayed: KeyError"),
        (
            lambda lines: header(lines, layers=[{"name": "BOUNCER_CONFIG", "text": '{"bouncer": {"modus": "off"}}'}]),
            "the configuration is no longer valid: BOUNCER_CONFIG: $.bouncer",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said(spoil: Any, message: str, lines: list[str]) -> None:
    """With the line that is wrong, and what would be right."""
    with pytest.raises(FormatError) as caught:
        replayed(spoil(lines))

    assert message in str(caught.value)


def test_no_edit_does_more_than_end_the_replay(lines: list[str]) -> None:
    """Whatever someone does to a line, the complaint is about this file, and nothing else happens."""
    rng = random.Random(7)  # noqa: S311 - the same edits each time
    values: list[Any] = [None, True, -1, 1e300, "", "x" * 400, [], {}, [1], {"a": 1}]
    for _ in range(100):
        edited = [*lines]
        place = rng.randrange(len(edited))
        line = json.loads(edited[place])
        line[rng.choice([*line])] = rng.choice(values)
        edited[place] = json.dumps(line)
        try:
            replayed(edited)
        except FormatError:
            continue


# Files


def recorded(folder: Path, room: str = "Alice's room", **settings: Any) -> Iterator[Path]:
    """Play a room that is recorded into the folder. Yield its files."""
    recorder = Recorder(RecordingSettings(folder=str(folder), **settings), "secret", "bouncer")
    taped = recorder.room(room, "RM_1", time.monotonic)
    bench = Bench(tapes=taped)
    play(bench)
    taped.end()
    recorder.close()
    yield from recordings([folder])


def test_a_room_is_a_file(tmp_path: Path) -> None:
    """It is readable by its owner alone, and its name tells no one who was there."""
    (path,) = recorded(tmp_path / "new" / "folder")

    assert replayed([*texts(path)]) > 20
    assert path.stat().st_mode & 0o077 == 0
    assert "Alice" not in path.name


def test_a_file_that_is_cut_is_read_up_to_the_cut(tmp_path: Path) -> None:
    """Anywhere: a worker may be killed while it writes."""
    (path,) = recorded(tmp_path)
    whole, data = [*texts(path)], path.read_bytes()
    cut: list[str] = []

    for size in range(0, len(data), 37):
        path.write_bytes(data[:size])
        cut = [*texts(path)]
        assert cut == whole[: len(cut)]
        if cut:
            replayed(cut)
    assert len(cut) > len(whole) / 2


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: data[:200] + bytes(50) + data[250:], "is damaged"),
        (lambda data: data + data, "a second recording begins here"),
        (lambda data: b"PNG" + data, "is damaged"),
        (gzip.decompress, "isn't compressed; gzip it first"),
        (lambda _: gzip.compress(b"\xff\n"), "isn't valid UTF-8"),
    ],
)
def test_a_spoilt_file_is_complained_of(spoil: Any, message: str, tmp_path: Path) -> None:
    """So that the other files go on."""
    (path,) = recorded(tmp_path)
    path.write_bytes(spoil(path.read_bytes()))

    with pytest.raises(FormatError, match=message):
        replayed([*texts(path)])


def test_a_file_that_is_missing_is_complained_of(tmp_path: Path) -> None:
    """As any other."""
    with pytest.raises(FormatError, match="can't be read: No such file or directory"):
        [*texts(tmp_path / "missing")]


def full(_file: int, _data: bytes) -> int:
    """Be a full disk."""
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("disk", ["full", "no folder"])
def test_a_bad_disk_costs_records_and_nothing_else(
    disk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The room is guarded as before, and the log says once why nothing is recorded."""
    folder = tmp_path / "folder"
    if disk == "full":
        monkeypatch.setattr(os, "write", full)
    else:
        folder.write_text("a file")

    found = [*recorded(folder)]

    assert [path.stat().st_size for path in found] == ([0] if disk == "full" else [len("a file")])
    assert [record.msg for record in caplog.records] == [LogEvent.RECORDING_FAILED]


def test_a_room_that_outruns_the_disk_loses_its_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded, and what is there can be read."""
    monkeypatch.setattr(recorder_module, "MAX_WAITING", 30)
    (path,) = recorded(tmp_path)

    assert 20 < replayed([*texts(path)]) < 50


def kept(folder: Path, *files: tuple[str, str, int, float], **settings: Any) -> list[str]:
    """Return which of the files (date, room, size, days) a recorder keeps."""
    for date, room, size, days in files:
        path = folder / f"{date}T000000Z-{room * 16}-00000000.jsonl.gz"
        path.write_bytes(bytes(size))
        os.utime(path, (time.time() - days * 86_400,) * 2)
    Recorder(RecordingSettings(folder=str(folder), **settings), "secret", "bouncer").tidy()
    return sorted(path.name[:8] for path in folder.iterdir())


MB = 1_000_000


def test_the_oldest_recordings_go_first(tmp_path: Path) -> None:
    """By what a room may have, by what the folder may have, and by their age."""
    files = (
        ("20260101", "a", MB, 1),
        ("20260102", "a", MB, 1),
        ("20260103", "b", MB, 1),
        ("20260104", "a", MB, 1),
        ("20250101", "c", 10, 400),
    )

    assert kept(tmp_path, *files) == ["20260101", "20260102", "20260103", "20260104"]
    assert kept(tmp_path, *files, room_mb=2) == ["20260102", "20260103", "20260104"]
    assert kept(tmp_path, *files, folder_mb=2) == ["20260103", "20260104"]


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    """A recorder deletes only what it has written."""
    (tmp_path / "notes.jsonl.gz").write_bytes(bytes(2 * MB))

    assert kept(tmp_path, folder_mb=1) == ["notes.js"]


def test_a_recording_ends_at_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is there by then is kept, and can be replayed."""
    monkeypatch.setattr(recorder_module, "MB", 1)
    (path,) = recorded(tmp_path, file_mb=100, folder_mb=1_000_000, room_mb=1_000_000)

    assert [record.msg for record in caplog.records] == [LogEvent.RECORDING_LIMIT]
    assert replayed([*texts(path)])


def test_every_call_to_a_watch_is_recorded() -> None:
    """Or only asks: what changes a watch and is not recorded would make its recordings useless."""
    public = {name for name, value in vars(Watch).items() if not name.startswith("_") and isfunction(value)}

    assert public - vars(Taped).keys() == {"ledger", "may", "list_since", "still_due", "leave_within"}
