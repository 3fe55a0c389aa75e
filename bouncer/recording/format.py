"""The format of a recording: lines of JSON. Pure.

The first line is the header: `Header` says what is in it. Each other line has the instant `at`, in seconds on the
clock that the header anchors, and one of:

    event       what the tracker was told, by name (`EVENTS`), with the event's fields
    configure   the room's metadata, without what belongs to other applications; null if they were refused
    step        the watch was stepped: `commands` given and `news` told, both by kind and sid
    answer      how a command ended, by its number in the order of all commands
    took        the last step or answer took so many seconds that the room is judged later
    listed      the list that an eviction read
    sent        a removal, by sid, went out
    end         the last `news`
    failing, cut_off, hand_over, close
    globs       `texts`: for each pseudonym, which of these globs match what it stands for

A participant that is listed as it was in the list before is only its sid. Fields that have their default are left out.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from math import inf
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bouncer.configuration.model import KEY, Layer
from bouncer.decide import Finding, Outcome
from bouncer.events import (
    Attributes,
    Connected,
    Described,
    Disconnected,
    Dispatched,
    Earlier,
    Encrypted,
    Event,
    Heard,
    Info,
    Job,
    Joined,
    Left,
    Listed,
    Publication,
    Published,
    RemovalSent,
    Signal,
    Stalled,
    Transcribed,
)
from bouncer.guard.watch import Claim, Command, DeleteDispatch, Ending, Evict, Leave, ListJobs, ListParticipants
from bouncer.observers import (
    Configured,
    Decided,
    Evicted,
    Failing,
    Faulted,
    HeldBack,
    News,
    Noticed,
    Refused,
    Reported,
    Stands,
    Unguarded,
)
from bouncer.ports import ApiError, Trouble
from bouncer.recording.pseudonyms import Pseudonyms
from bouncer.room import Instant

VERSION = 1
MAGIC = "bouncer_recording"
"""The key of the header that says what the file is, with the version of its format."""
LATEST = 1e11
"""Seconds: no date is later, nor as much earlier; the year 5138."""
LONGEST_LINE = 16 * 1024 * 1024
"""Characters of a line; a list of a thousand participants has less than one million."""
EVENTS: Mapping[str, type[Any]] = {
    kind.__name__.lower(): kind
    for kind in (
        Connected,
        Disconnected,
        Stalled,
        Joined,
        Left,
        Attributes,
        Described,
        Signal,
        Published,
        Encrypted,
        Heard,
        Transcribed,
        Listed,
        Dispatched,
        Earlier,
        RemovalSent,
    )
}

Line = dict[str, Any]


class FormatError(ValueError):
    """A recording that can't be used. The text says what is wrong with it, and where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The first line of a recording."""

    room: str
    """The room's name, or its pseudonym."""
    room_sid: str
    agent_name: str
    """The agent name under which the bouncers of this fleet are dispatched."""
    began_at: Instant
    """When the watch began, on the clock of all instants here."""
    unix: float
    """The same instant in seconds since 1970, by the worker's wall clock."""
    personal: bool
    """True if personal texts are as they were."""
    layers: tuple[Layer, ...]
    """The configuration beneath the room's metadata, lowest first."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """The packages that recorded it."""


def header_line(header: Header) -> Line:
    """Return the header as a line."""
    layers = [
        {"name": layer.name, "text": layer.text, "shared": layer.shared, "expected": layer.expected}
        for layer in header.layers
    ]
    facts = {each.name: getattr(header, each.name) for each in fields(header)}
    return {MAGIC: VERSION, **facts, "layers": layers, "versions": dict(header.versions)}


def read_header(line: Line) -> Header:
    """Return the header of a recording. Raises: FormatError if it is none, or of another version."""
    if MAGIC not in line:
        raise FormatError("isn't a recording of a bouncer: its first line is no header")
    if line[MAGIC] != VERSION:
        raise FormatError(f"has version {line[MAGIC]!r} of the format; this bouncer reads version {VERSION}")
    header: Header = _valid(_HEADER, {key: value for key, value in line.items() if key != MAGIC}, "the header")
    if not (0 <= header.unix < LATEST and abs(header.began_at) < LATEST):
        raise FormatError("the header: its dates are none")
    return header


def ours(text: str) -> str:
    """Return the metadata of a room or a dispatch without what belongs to other applications."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(document, dict) or KEY not in document:
        return ""
    return json.dumps({KEY: document[KEY]}, ensure_ascii=False)


def ours_only(layers: Iterable[Layer]) -> tuple[Layer, ...]:
    """Return the layers without their files' paths, and without what belongs to other applications."""
    named = (replace(each, name=each.name.partition(" (")[0]) for each in layers)
    return tuple(replace(each, text=ours(each.text)) if each.shared else each for each in named)


@dataclass(slots=True)
class Encoder:
    """Turns what happened into lines, in the order in which it happened."""

    mask: Pseudonyms
    _listed: dict[str, Info] = field(default_factory=dict)
    """Each participant as it was last listed, by sid."""

    def event(self, event: Event) -> Line:
        """Return an event as the fields of a line; `at` is its own date."""
        line: Line = {"event": type(event).__name__.lower()}
        match event:
            case Connected(_, me, others):
                line |= {"me": self.info(me), "others": [*map(self.info, others)]}
            case Joined(_, info):
                line["info"] = self.info(info)
            case Attributes(_, sid, attributes):
                line |= {"sid": sid, "attributes": self._attributes(attributes)}
            case Described(_, sid, name, metadata):
                line |= {"sid": sid, "name": self.mask.name(name), "metadata": self.mask.metadata(metadata)}
            case Published(_, sid, publications):
                line |= {"sid": sid, "publications": [*map(self._publication, publications)]}
            case Transcribed(_, identity, writer):
                line |= {"identity": self.mask.identity(identity), "writer": self.mask.identity(writer)}
            case Listed(_, asked_at, infos):
                line |= {"asked_at": asked_at, "infos": self.infos(infos)}
            case Dispatched(_, asked_at, jobs):
                line |= {"asked_at": asked_at, "jobs": self.jobs(jobs)}
            case Earlier(evicted_at=evicted_at):
                line |= {**_plain(event), "evicted_at": {self.mask.identity(i): at for i, at in evicted_at.items()}}
            case RemovalSent(_, identity):
                line["identity"] = self.mask.identity(identity)
            case _:
                line |= _plain(event)
        return line

    def info(self, info: Info) -> Line:
        """Return a participant."""
        line = _plain(info)
        line["identity"] = self.mask.identity(info.identity)
        if info.attributes:
            line["attributes"] = self._attributes(info.attributes)
        if info.name:
            line["name"] = self.mask.name(info.name)
        if info.metadata:
            line["metadata"] = self.mask.metadata(info.metadata)
        if info.publications:
            line["publications"] = [*map(self._publication, info.publications)]
        return line

    def infos(self, infos: Sequence[Info]) -> list[Line | str]:
        """Return a list of the participants."""
        before = self._listed
        self._listed = {info.sid: info for info in infos}
        return [info.sid if before.get(info.sid) == info else self.info(info) for info in infos]

    def jobs(self, jobs: Iterable[Job]) -> list[Line]:
        """Return a list of the jobs."""
        hide = self.mask.identity
        lines = [{**_plain(job), "identity": hide(job.identity), "serves": hide(job.serves)} for job in jobs]
        for line, job in zip(lines, jobs, strict=True):
            if job.metadata:
                line["metadata"] = self.mask.name(job.metadata)
        return lines

    def answer(self, answer: Any) -> Line:  # noqa: PLR0911 - one for each kind of answer
        """Return the answer to a command."""
        match answer:
            case ApiError():
                return {"trouble": str(answer.trouble)}
            case Exception():
                return {"error": type(answer).__name__}
            case Ending(outcome):
                return {"outcome": str(outcome)}
            case (Info(), *_):
                return {"infos": self.infos(answer)}
            case (Job(), *_):
                return {"jobs": self.jobs(answer)}
            case ():
                return {"nothing": True}
            case _:
                return {"value": answer}

    def _attributes(self, attributes: Mapping[str, str]) -> dict[str, str]:
        return {name: self.mask.attribute(name, value) for name, value in attributes.items()}

    def _publication(self, publication: Publication) -> Line:
        return {**_plain(publication), "name": self.mask.track(publication.name)}


def command_line(command: Command) -> list[Any]:
    """Return a command as its kind and what it is about."""
    match command:
        case ListParticipants(urgent):
            return ["list_participants", urgent]
        case ListJobs(urgent):
            return ["list_jobs", urgent]
        case DeleteDispatch(dispatch):
            return ["delete_dispatch", dispatch]
        case Claim(says):
            return ["claim", str(says)]
        case Evict(finding, mode):
            return ["evict", *_key(finding), finding.verdict.due, mode]
        case Leave():
            return ["leave"]


def news_line(news: News) -> list[Any]:  # noqa: PLR0911 - one for each kind
    """Return news as their kind and what they are about, without any text that may be personal."""
    match news:
        case Configured(config):
            return ["configured", config.mode, config.hearing]
        case Refused():
            return ["refused"]
        case Decided(_, _, decision):
            done = [[*map(_key, some)] for some in (decision.evictions, decision.reports, decision.notices)]
            return ["decided", *done, len(decision.held), len(decision.pending), decision.wake_at]
        case Noticed(finding, due_in):
            return ["noticed", *_key(finding), due_in]
        case Reported(finding):
            return ["reported", *_key(finding), finding.verdict.due]
        case HeldBack(hold):
            return ["held", *_key(hold.finding), hold.finding.verdict.due, str(hold.by)]
        case Evicted(finding, outcome, took):
            return ["evicted", *_key(finding), finding.verdict.due, str(outcome), took]
        case Faulted(fault):
            return ["fault", fault.rule.id]
        case Failing(doing):
            return ["failing", str(doing)]
        case Stands(standing, _, seniors):
            return ["stands", str(standing), len(seniors)]
        case Unguarded(seconds, evictions, ended_early):
            return ["unguarded", seconds, evictions, ended_early]
        case _:
            return [type(news).__name__.lower()]


def _key(finding: Finding) -> list[str]:
    return [finding.participant.sid, finding.rule.id]


_HIDDEN = frozenset({"at", "attributes", "name", "metadata", "publications", "me", "others", "info", "infos", "jobs"})
"""The fields of records that are not written as they are."""
_FIELDS: Mapping[type[Any], tuple[tuple[str, Any], ...]] = {
    kind: tuple((each.name, each.default) for each in fields(kind) if each.name not in _HIDDEN)
    for kind in (*EVENTS.values(), Info, Job, Publication)
}
"""The fields that are, with their defaults."""


def _plain(record: Any) -> Line:
    """Return the fields of a record that hold plain values, without those that have their default."""
    line = {}
    for name, default in _FIELDS[type(record)]:
        value = getattr(record, name)
        if default is MISSING or value != default:
            line[name] = value
    return line


_HEADER = TypeAdapter(Header)
_INFO = TypeAdapter(Info)
_JOB = TypeAdapter(Job)
_SIMPLE: Mapping[str, TypeAdapter[Any]] = {
    name: TypeAdapter(kind) for name, kind in EVENTS.items() if kind not in (Connected, Joined, Listed, Dispatched)
}


def _valid(adapter: TypeAdapter[Any], value: Any, what: str) -> Any:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise FormatError(f"{what}: {where}: {first['msg']}") from None


@dataclass(slots=True)
class Decoder:
    """Turns lines back into what happened. Every method raises FormatError for what can't be."""

    _listed: dict[str, Info] = field(default_factory=dict)

    def event(self, line: Line) -> Event:
        """Return the event of a line; one that is dated back has its own date in `of`."""
        name, at = line["event"], number(line, "at")
        facts: Line = {key: value for key, value in line.items() if key not in ("event", "at", "of")}
        facts["at"] = number(line, "of") if "of" in line else at
        made: Event
        if name in _SIMPLE:
            made = _valid(_SIMPLE[name], facts, name)
        elif name == "connected":
            made = Connected(facts["at"], self.info(line.get("me")), tuple(map(self.info, _list(line, "others"))))
        elif name == "joined":
            made = Joined(facts["at"], self.info(line.get("info")))
        elif name == "listed":
            made = Listed(facts["at"], number(line, "asked_at"), self.infos(_list(line, "infos")))
        elif name == "dispatched":
            made = Dispatched(facts["at"], number(line, "asked_at"), self.jobs(_list(line, "jobs")))
        else:
            raise FormatError(f"there is no event {str(name)[:40]!r}")
        return made

    def info(self, line: Any) -> Info:
        """Return a participant."""
        made: Info = _valid(_INFO, line, "a participant")
        return made

    def infos(self, lines: Sequence[Any]) -> tuple[Info, ...]:
        """Return a list of the participants."""
        before = self._listed
        try:
            infos = tuple(before[each] if isinstance(each, str) else self.info(each) for each in lines)
        except KeyError as error:
            raise FormatError(f"{error.args[0]!r} stands for a participant that wasn't listed before") from None
        self._listed = {info.sid: info for info in infos}
        return infos

    def jobs(self, lines: Sequence[Any]) -> tuple[Job, ...]:
        """Return a list of the jobs."""
        return tuple(_valid(_JOB, line, "a job") for line in lines)

    def answer(self, line: Line) -> Any:  # noqa: PLR0911 - one for each kind of answer
        """Return the answer to a command."""
        if "infos" in line:
            return self.infos(_list(line, "infos"))
        if "jobs" in line:
            return self.jobs(_list(line, "jobs"))
        if "nothing" in line:
            return ()
        if "outcome" in line:
            return Ending(one_of(Outcome, line["outcome"]))
        if "trouble" in line:
            return ApiError(one_of(Trouble, line["trouble"]), "as it was recorded")
        if "error" in line:
            return type(str(line["error"])[:80] or "Exception", (Exception,), {})("as it was recorded")
        return line.get("value")


def number(line: Line, key: str) -> float:
    """Return a number of a line."""
    value = line.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -inf < value < inf:
        raise FormatError(f"“{key}” must be a number, not {value!r:.40}")
    return value


def record(line: Line, key: str) -> Line:
    """Return an object of a line."""
    value = line.get(key)
    if not isinstance(value, dict):
        raise FormatError(f"“{key}” must be an object")
    return value


def one_of(kinds: Callable[[Any], Any], value: Any) -> Any:
    """Return a value as a member of an enumeration."""
    try:
        return kinds(value)
    except ValueError as error:
        raise FormatError(str(error)) from None


def _list(line: Line, key: str) -> list[Any]:
    value = line.get(key, [])
    if not isinstance(value, list):
        raise FormatError(f"“{key}” must be a list")
    return value


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no number")


_read = json.JSONDecoder(parse_constant=_no_constant).decode


def parse(text: str) -> Line:
    """Return a line of a recording. Raises: FormatError if it is no JSON object."""
    try:
        line = _read(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"isn't valid JSON: {error}") from None
    if not isinstance(line, dict):
        raise FormatError("must be a JSON object")
    return line


_write = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def render(line: Line) -> str:
    """Return a line as text."""
    return _write(line)
