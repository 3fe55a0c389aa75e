"""What `bouncer replay` does with each recording, behind the interface of `concurrent.futures`."""

import gc
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from bouncer.configuration.model import Layer
from bouncer.configuration.plugins import installed
from bouncer.recording.comparison import Comparison, compare, unchanged
from bouncer.recording.files import texts
from bouncer.recording.format import FormatError
from bouncer.recording.otherwise import otherwise
from bouncer.recording.replay import Registry, follow, opened
from policies import BUILTIN

GC_THRESHOLD = (100_000, 50, 50)
"""Objects that are made between two looks for garbage, and looks of one kind between two of the next."""
IN_FLIGHT = 64
"""Recordings that are given to an executor at a time: more wait, so that memory doesn't grow with their number."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be done with each recording."""

    overlays: tuple[tuple[Layer, ...], ...] = ()
    """Configurations above the room's metadata, each compared with what was; none: what was is done again."""
    since: float = 0.0
    """As a Unix time: recordings that began before are left out."""
    policy: str = ""
    """The only policy, or rule, that is compared."""
    timelines: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one recording: a comparison for each overlay, or what is wrong with the file."""

    file: str
    comparisons: tuple[Comparison, ...] = ()
    problem: str = ""


def seldom_collected() -> None:
    """Look for garbage seldom: looking took a third of the time, and a replay leaves next to none in circles."""
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)


def replay_one(file: Path, job: Task) -> Result:
    """Replay a recording. Never raises for what the file holds."""
    seldom_collected()
    registry = Registry(BUILTIN, installed())
    try:
        if opened(texts(file)).header.unix < job.since:
            return Result(str(file))
        if not job.overlays:
            return Result(str(file), (_again(file, registry, job.policy),))
        return Result(
            str(file),
            tuple(
                compare(
                    otherwise(opened(texts(file)), registry, overlay), str(file), job.policy, timelines=job.timelines
                )
                for overlay in job.overlays
            ),
        )
    except FormatError as error:
        return Result(str(file), problem=str(error))
    except Exception as error:  # noqa: BLE001 - whatever was done to the file, the others go on
        return Result(str(file), problem=f"can't be replayed: {type(error).__name__}: {error}")


def _again(file: Path, registry: Registry, policy: str) -> Comparison:
    """Do a recording again, and see that everything is the same."""
    recording = opened(texts(file))
    evicted: dict[str, str] = {}
    for line, _ in follow(recording, registry):
        for what, *about in line["step"].get("news", ()) if "step" in line else ():
            if what == "evicted" and about[3] in ("removed", "left", "would"):
                evicted.setdefault(about[0], about[1])
    return unchanged(recording.header, max(recording.at, recording.header.began_at), [*evicted.values()], policy)


def replay_all(files: Iterable[Path], job: Task, executor: Executor) -> Iterator[Result]:
    """Yield what comes of each recording, as it comes."""
    waiting = iter(files)
    running: set[Future[Result]] = set()
    while True:
        running |= {executor.submit(replay_one, file, job) for file in islice(waiting, IN_FLIGHT - len(running))}
        if not running:
            return
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            yield future.result()
