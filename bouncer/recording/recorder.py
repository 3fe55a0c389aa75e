"""Recordings as files: one for each room that is guarded, written by one thread of the worker.

A room's loop only appends to a list. Every `FLUSH` seconds the thread turns what has come into lines, compresses them
and writes them, so that a file that is cut anywhere can be read up to the cut. Whatever goes wrong with a file costs
the records, and never the room.
"""

import asyncio
import atexit
import contextlib
import hashlib
import hmac
import logging
import math
import os
import platform
import re
import secrets
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bouncer.configuration.model import NO_PLUGINS, Layer, PluginLoaders
from bouncer.configuration.settings import RecordingSettings
from bouncer.guard.schedule import Jitter
from bouncer.observers.log_events import LogEvent
from bouncer.policy import Policy
from bouncer.recording.format import Header, render
from bouncer.recording.pseudonyms import Pseudonyms
from bouncer.recording.scribe import Scribe
from bouncer.recording.tape import Note, Taped
from bouncer.room import Instant
from bouncer.tracker import Tracker

logger = logging.getLogger("bouncer")

FLUSH = 2.0
"""Seconds for which records wait for the disk, and that a killed worker loses."""
MAX_WAITING = 50_000
"""Records of a room that wait. With more, the disk is too slow, and the recording of the room ends."""
TIDY = 60.0
"""Seconds between two looks at how much the folder holds."""
GZIP, LEVEL = 31, 6
"""zlib's names for the format, and for how hard it tries."""
MB, DAY = 1_000_000, 86_400.0
SUFFIX = ".jsonl.gz"
_NAME = re.compile(rf"\d{{8}}T\d{{6}}Z-([0-9a-f]{{16}})-[0-9a-f]{{8}}{re.escape(SUFFIX)}")
"""The name of a recording: when it began, which room it is of, and a random part. No other file is ever deleted."""
PACKAGES = ("livekit-bouncer", "livekit-agents", "livekit")


def pseudonym_key(secret: str) -> bytes:
    """Return the key of the pseudonyms: workers with one API secret give one text the same; without one, none do."""
    return hmac.new(secret.encode() or secrets.token_bytes(32), b"bouncer recordings", hashlib.sha256).digest()


def versions() -> dict[str, str]:
    """Return the versions of what makes a recording."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


@dataclass(slots=True, eq=False)
class _Tape:
    """One room's file."""

    path: Path
    scribe: Scribe
    header: Header
    waiting: list[Note] = field(default_factory=list)
    file: int = -1
    """The descriptor; -1 before the file is opened, and once it is closed."""
    size: int = 0
    ended_at: float = math.inf
    """When the room was no longer guarded."""
    lost: bool = False
    """True if the recording ended before the room did."""
    deflate: "zlib._Compress" = field(default_factory=lambda: zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP))

    def take(self, note: Note) -> None:
        """Take a note, on the room's loop."""
        if not self.lost and len(self.waiting) < MAX_WAITING:
            self.waiting.append(note)
        else:
            self.lost = True


class Recorder:
    """Records the rooms of a worker into a folder."""

    def __init__(self, settings: RecordingSettings, secret: str, agent_name: str) -> None:
        """Make one. Nothing is written before the first room is recorded."""
        self._settings = settings
        self._folder = Path(settings.folder)
        self._key = pseudonym_key(secret)
        self._agent_name = agent_name
        self._versions = versions()
        self._tapes: list[_Tape] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._failed = False
        self._tidy_at = 0.0
        self._thread: threading.Thread | None = None

    def room(self, name: str, sid: str, clock: Callable[[], Instant]) -> "RoomRecorder":
        """Return what records a room, whose loop has this clock."""
        return RoomRecorder(self, name, sid, clock)

    def begin(self, name: str, sid: str, began_at: Instant, layers: Sequence[Layer]) -> _Tape:
        """Begin the recording of a room."""
        tag = Pseudonyms(self._key).text(name)[1:] or "0" * 16
        unix = time.time()
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(unix))
        header = Header(
            room=name,
            room_sid=sid,
            agent_name=self._agent_name,
            began_at=began_at,
            unix=unix,
            personal=self._settings.personal,
            layers=tuple(layers),
            versions=self._versions,
        )
        path = self._folder / f"{stamp}-{tag}-{secrets.token_hex(4)}{SUFFIX}"
        tape = _Tape(path, Scribe(None if self._settings.personal else self._key), header)
        with self._lock:
            self._tapes.append(tape)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="bouncer_recorder", daemon=True)
                self._thread.start()
                atexit.register(self.close)
        return tape

    def close(self) -> None:
        """Write what is waiting, and end all files."""
        self._closing.set()
        if self._thread:
            self._thread.join(timeout=5.0)
        atexit.unregister(self.close)

    def _run(self) -> None:
        closing = False
        while not closing:
            closing = self._closing.wait(FLUSH)
            with self._lock:
                tapes = [*self._tapes]
            if time.monotonic() >= self._tidy_at:
                self._tidy_at = time.monotonic() + TIDY
                self._guarded(self.tidy)
            for tape in tapes:
                ended = closing or time.monotonic() >= tape.ended_at + FLUSH
                self._guarded(self._write, tape)
                if ended or tape.lost:
                    self._guarded(self._end, tape)
                    with self._lock:
                        self._tapes.remove(tape)

    def _guarded(self, work: Callable[..., None], *tapes: _Tape) -> None:
        """Do something with a file. What goes wrong is logged once, until something works again."""
        try:
            work(*tapes)
        except Exception as error:  # noqa: BLE001 - whatever it is, the rooms stay guarded
            for tape in tapes:
                tape.lost = True
                tape.waiting.clear()
            if not self._failed:
                what = f"{type(error).__name__}: {error}"
                logger.error(LogEvent.RECORDING_FAILED, extra={"setting": "BOUNCER_RECORD", "error": what})  # noqa: TRY400
            self._failed = True

    def _write(self, tape: _Tape) -> None:
        notes, tape.waiting = tape.waiting, []
        if not notes:
            return
        lines = [line for note in notes for line in tape.scribe.lines(note)]
        if tape.file < 0:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            tape.file = os.open(tape.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            lines.insert(0, tape.scribe.header(tape.header))
        text = "".join(f"{render(line)}\n" for line in lines)
        data = tape.deflate.compress(text.encode()) + tape.deflate.flush(zlib.Z_SYNC_FLUSH)
        _write_all(tape.file, data)
        tape.size += len(data)
        self._failed = False
        if tape.size > self._settings.file_mb * MB:
            tape.lost = True
            logger.warning(LogEvent.RECORDING_LIMIT, extra={"setting": "BOUNCER_RECORD_FILE_MB"})

    def _end(self, tape: _Tape) -> None:
        if tape.file >= 0:
            file, tape.file = tape.file, -1
            try:
                _write_all(file, tape.deflate.flush())
            finally:
                os.close(file)

    def tidy(self) -> None:
        """Delete the oldest recordings, beyond what the folder and each room may hold, and those that are too old."""
        limits = self._settings
        folder, rooms, oldest = 0, dict[str, int](), time.time() - limits.days * DAY
        # The newest first: what is older than all that fits is deleted.
        for path in sorted(self._folder.glob(f"*{SUFFIX}"), reverse=True):
            if not (named := _NAME.fullmatch(path.name)):
                continue
            with contextlib.suppress(FileNotFoundError):  # another worker tidies too
                facts = path.stat()
                room = named[1]
                folder, rooms[room] = folder + facts.st_size, rooms.get(room, 0) + facts.st_size
                if folder > limits.folder_mb * MB or rooms[room] > limits.room_mb * MB or facts.st_mtime < oldest:
                    self._delete(path)

    def _delete(self, path: Path) -> None:
        with self._lock:
            for tape in self._tapes:
                if tape.path == path:
                    tape.lost = True
        path.unlink()


class RoomRecorder:
    """Records one room. It makes the watch that the patrol is to have."""

    def __init__(self, recorder: Recorder, name: str, sid: str, clock: Callable[[], Instant]) -> None:
        self._recorder = recorder
        self._name, self._sid, self.clock = name, sid, clock
        self._tape: _Tape | None = None

    def watch(
        self,
        tracker: Tracker,
        registry: Sequence[type[Policy]],
        jitter: Jitter,
        began_at: Instant,
        plugins: PluginLoaders = NO_PLUGINS,
        layers: tuple[Layer, ...] = (),
    ) -> Taped:
        """Make a watch that is recorded."""
        self._tape = self._recorder.begin(self._name, self._sid, began_at, layers)
        watch = Taped(tracker, registry, jitter, began_at, plugins, layers)
        return watch.record(self._tape.take, self.clock)

    async def run(self) -> None:
        """Record until the room is no longer guarded, which cancels it."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.end()

    def end(self) -> None:
        """End the recording. What is still told while the room is left is written too."""
        if self._tape:
            self._tape.ended_at = time.monotonic()


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]
