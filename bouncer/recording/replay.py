"""A recording, done again: the real watch, in virtual time. Pure.

`follow` does exactly what was done, and says where this bouncer would do otherwise.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from bouncer.configuration.load import load
from bouncer.configuration.model import NO_PLUGINS, ROOM, Config, ConfigError, Layer, PluginLoaders
from bouncer.guard.watch import Command, Evict, Step, Watch
from bouncer.observers import News, Refused
from bouncer.policy import Policy
from bouncer.ports import ApiError, Doing, Trouble
from bouncer.recording.format import (
    LATEST,
    LONGEST_LINE,
    MAGIC,
    Decoder,
    FormatError,
    Header,
    Line,
    command_line,
    news_line,
    number,
    one_of,
    parse,
    read_header,
)
from bouncer.recording.pseudonyms import Matches
from bouncer.recording.tape import PULSE, TIMER
from bouncer.room import Instant
from bouncer.tracker import Tracker

EMPTY = "is empty"
"""What is wrong with a file that was cut before its first line ended: a worker was killed as it began."""
REFUSED = '{"bouncer": 0}'
"""Metadata that every bouncer refuses, in place of those that were refused."""


@dataclass(frozen=True, slots=True)
class Registry:
    """The policies that there are."""

    policies: Sequence[type[Policy]]
    plugins: PluginLoaders = field(default_factory=lambda: NO_PLUGINS)


@dataclass(slots=True)
class Recording:
    """A recording that is being read. `lines` are those after the header."""

    header: Header
    _texts: Iterator[str]
    line: int = 1
    """The number of the line that was read last."""
    at: Instant = -math.inf
    """Its instant."""

    def lines(self) -> Iterator[Line]:
        """Yield the lines. Raises: FormatError, with the number of the line that is wrong."""
        for self.line, text in enumerate(self._texts, 2):  # noqa: B020 - the number is what the error names
            with self.locating():
                line = _parse(text)
                if MAGIC in line:
                    raise FormatError("a second recording begins here: each has to be a file of its own")
                if "globs" not in line:
                    at = number(line, "at")
                    if abs(at) > LATEST:
                        raise FormatError("its instant is no date")
                    if at < self.at:
                        raise FormatError("is of an earlier instant than the line before")
                    self.at = at
            yield line

    @contextmanager
    def locating(self) -> Iterator[None]:
        """Have an error in the block name the line that was read last. Raises: FormatError, whatever the error was."""
        try:
            yield
        except FormatError as error:
            raise FormatError(f"line {self.line}: {error}") from None
        except Exception as error:
            raise FormatError(f"line {self.line}: can't be replayed: {type(error).__name__}: {error}") from error


def opened(texts: Iterable[str]) -> Recording:
    """Begin to read a recording, given its lines. Raises: FormatError if it is none, or none of this version."""
    texts = iter(texts)
    first = next(texts, None)
    if first is None:
        raise FormatError(EMPTY)
    try:
        header = read_header(_parse(first))
    except FormatError as error:
        raise FormatError(f"line 1: {error}") from None
    return Recording(header, texts)


def _parse(text: str) -> Line:
    if len(text) > LONGEST_LINE:
        raise FormatError("is too long")
    return parse(text)


class Replayed(Watch):
    """A watch in virtual time. Its pulse rings only where it did something when it was recorded."""

    matches: Matches
    """What is known of the pseudonyms."""
    overlay: tuple[Layer, ...] = ()
    """Configuration above the room's metadata."""
    late: str = ""
    """Which timer rang too late in this step when it was recorded."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._pulse_at = math.inf

    def step_with_pulse(self, now: Instant) -> Step:
        """Step as when the pulse rings."""
        self._pulse_at = now
        step = self.step(now)
        self._pulse_at = math.inf
        return step

    def _overslept(self, timer: Instant) -> bool:
        return self.late == (PULSE if timer == self._pulse_at else TIMER)

    def valid(self, metadata: str) -> None:
        """See that the room's own configuration is valid, without the overlay. Raises: FormatError."""
        try:
            load((*self.layers, Layer(ROOM, metadata, shared=True)), self.registry, self.plugins)
        except ConfigError as error:
            problems = "; ".join(map(str, error.problems))
            raise FormatError(f"the configuration is no longer valid: {problems}") from None

    def _load(self, metadata: str) -> Config:
        layers = (*self.layers, Layer(ROOM, metadata, shared=True), *self.overlay)
        config = load(layers, self.registry, self.plugins)
        self.matches.answer_for(config)
        return config


@dataclass(slots=True)
class Follower:
    """Does again what a recording says, step by step. `news` are what the watch said last."""

    header: Header
    registry: Registry
    decoder: Decoder = field(default_factory=Decoder)
    matches: Matches = field(default_factory=Matches)
    watch: Replayed = field(init=False)
    news: tuple[News, ...] = ()
    _chance: list[float] = field(default_factory=list)
    _commands: dict[int, Command] = field(default_factory=dict)
    _count: int = 0

    def __post_init__(self) -> None:
        tracker, registry = Tracker(self.header.agent_name), self.registry
        self.watch = Replayed(
            tracker,
            registry.policies,
            self._draw,
            self.header.began_at,
            registry.plugins,
            self.header.layers,
        )
        self.watch.matches = self.matches

    def do(self, line: Line) -> None:  # noqa: PLR0912 - one for each kind of line
        """Do what a line says. Raises: FormatError if it can't be done, or if this bouncer does otherwise."""
        self.news = ()
        watch = self.watch
        if "globs" in line:
            self.matches.learn(line["globs"], line["texts"])
            return
        at = number(line, "at")
        match line:
            case {"event": _}:
                watch.tell(self.decoder.event(line))
            case {"step": dict(step)}:
                self._step(at, step)
            case {"answer": int(which)}:
                if which not in self._commands:
                    raise FormatError(f"answers command {which}, which this bouncer never gave")
                self._chance = [*line.get("chance", ())]
                watch.answered(self._commands.pop(which), self.decoder.answer(line), at)
            case {"configure": metadata}:
                self._configure(metadata, at)
            case {"listed": asked_at}:
                watch.listed(self.decoder.infos(line["infos"]), asked_at, at)
            case {"sent": sid}:
                watch.sent(watch.history.under_way[sid].finding, at)
            case {"took": _}:
                watch.took(number(line, "took"))
            case {"failing": doing, "trouble": trouble}:
                watch.failing(one_of(Doing, doing), ApiError(one_of(Trouble, trouble), "as it was recorded"))
            case {"cut_off": which} if isinstance(command := self._commands.get(which), Evict):
                watch.cut_off(command, at)
            case {"end": _}:
                self.news = watch.end(at)
                _same("news", line, [*map(news_line, self.news)])
            case {"hand_over": _}:
                watch.hand_over()
            case {"close": _}:
                watch.close()
            case _:
                raise FormatError(f"says nothing that is known: {', '.join(map(str, line))!s:.80}")

    def _configure(self, metadata: Any, at: Instant) -> None:
        before = self.watch.config
        self.watch.configure(REFUSED if metadata is None else str(metadata), at)
        told = self.watch._news[-1]  # noqa: SLF001 - it is told with the next step, and then it is too late
        if metadata is not None and isinstance(told, Refused):
            self.watch.valid(str(metadata))
        if metadata is None and self.watch.config is not before:
            raise FormatError("a configuration that was refused is valid now")

    def _step(self, at: Instant, recorded: Line) -> None:
        self._chance = [*recorded.get("chance", ())]
        self.watch.late = recorded.get("late", "")
        step = self.watch.step_with_pulse(at) if recorded.get("pulse") else self.watch.step(at)
        self.news = step.news
        for command in step.commands:
            self._commands[self._count] = command
            self._count += 1
        _same("commands", recorded, [*map(command_line, step.commands)])
        _same("news", recorded, [*map(news_line, step.news)])

    def _draw(self, purpose: str) -> float:
        if not self._chance:
            raise FormatError(f"chance is needed for {purpose!r}, and none was recorded")
        return self._chance.pop(0)


def _same(what: str, recorded: Line, replayed: list[Any]) -> None:
    was = recorded.get(what, [])
    if was != replayed:
        raise FormatError(f"this bouncer decides otherwise: {what} were {was}, and are {replayed}")


def follow(recording: Recording, registry: Registry) -> Iterator[tuple[Line, Follower]]:
    """Do a recording again, under its own configuration. Yields each line, once it has been done.

    Raises: FormatError where it can't be done, or this bouncer would do otherwise.
    """
    follower = Follower(recording.header, registry)
    for line in recording.lines():
        with recording.locating():
            follower.do(line)
        yield line, follower
