"""What is different under another configuration, and what happened next in each recording."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import inf
from typing import Any

from bouncer.dates import rfc3339
from bouncer.recording.format import Header
from bouncer.recording.otherwise import TOGETHER, Course, Exit
from bouncer.recording.story import Lane, Span
from bouncer.room import Instant, Role

POINTLESS = 10.0
"""Seconds within which an agent that left by itself needed no eviction."""
BEFORE, AFTER = 60.0, 300.0
"""Seconds of a room that a timeline shows around a difference."""


class Next(StrEnum):
    """What happened next, the worst first."""

    REGRET = "regret"
    """It spoke to a person afterwards."""
    HARM = "harm"
    """A person would have been left without an agent."""
    UNKNOWN = "unknown"
    """The recording can't tell."""
    POINTLESS = "pointless"
    """It left by itself within seconds."""
    RIGHT = "right"
    """It did nothing for a person any more."""


ORDER = [*Next]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """An agent that would have been evicted and wasn't, or that was and wouldn't have been."""

    room: str
    room_sid: str
    file: str
    sid: str
    identity: str
    agent_name: str
    policy: str
    """The rule."""
    at: float
    """When it was or would have been evicted, as a Unix time."""
    next: Next
    also: tuple[Next, ...] = ()
    """What else happened next: a regret may be a harm too."""
    minutes: float | None = None
    """The agent-minutes that are saved; None if that is not known."""
    other_at: float | None = None
    """When it was evicted in the other course of things, if it was, as a Unix time."""
    reason: str = ""
    timeline: "Timeline | None" = None

    def counts_as(self, what: Next) -> bool:
        """Return True if that is what happened next, or also happened."""
        return what is self.next or what in self.also

    def json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        facts: dict[str, Any] = {
            "room": self.room,
            "room_sid": self.room_sid,
            "file": self.file,
            "identity": self.identity,
            "sid": self.sid,
            "agent_name": self.agent_name,
            "policy": self.policy,
            "reason": self.reason,
            "at": rfc3339(self.at),
            "next": str(self.next),
            "also": [*map(str, self.also)],
            "agent_minutes_saved": None if self.minutes is None else round(self.minutes, 3),
        }
        return facts | ({} if self.other_at is None else {"otherwise_at": rfc3339(self.other_at)})


@dataclass(frozen=True, slots=True)
class TimelineRow:
    """One participant in a timeline; all in seconds from the difference."""

    name: str
    role: str
    here: tuple[Span, ...]
    speech: tuple[Span, ...]
    states: tuple[tuple[float, float, str], ...]
    acts: tuple[float, ...]
    subject: bool


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that was decided."""

    at: float
    row: int
    what: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """What happened around a difference."""

    rows: tuple[TimelineRow, ...]
    marks: tuple[Mark, ...]
    begins: float
    ends: float


@dataclass(slots=True)
class Tally:
    """The figures of one policy, or of all."""

    new: int = 0
    gone: int = 0
    shifted: int = 0
    unchanged: int = 0
    regrets: int = 0
    harms: int = 0
    unknown: int = 0
    agent_minutes_saved: float = 0.0

    def add(self, other: "Tally") -> None:
        """Add the figures of others."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def count(self, difference: Difference) -> None:
        """Count what happened next."""
        self.regrets += difference.counts_as(Next.REGRET)
        self.harms += difference.counts_as(Next.HARM)
        self.unknown += difference.counts_as(Next.UNKNOWN)
        self.agent_minutes_saved += difference.minutes or 0.0


@dataclass(slots=True)
class Comparison:
    """What is different in one room, or in many."""

    rooms: int = 0
    room_hours: float = 0.0
    new: list[Difference] = field(default_factory=list)
    gone: list[Difference] = field(default_factory=list)
    shifted: list[Difference] = field(default_factory=list)
    by_policy: dict[str, Tally] = field(default_factory=dict)
    unknown: int = 0
    """What is unknown without being a difference."""

    @property
    def total(self) -> Tally:
        """The figures of all policies."""
        total = Tally(unknown=self.unknown)
        for tally in self.by_policy.values():
            total.add(tally)
        return total

    def tally(self, rule: str) -> Tally:
        """Return the figures of a rule's policy."""
        return self.by_policy.setdefault(policy_of(rule), Tally())

    def add(self, other: "Comparison") -> None:
        """Add what is different in other rooms."""
        self.rooms += other.rooms
        self.room_hours += other.room_hours
        self.unknown += other.unknown
        self.new += other.new
        self.gone += other.gone
        self.shifted += other.shifted
        for policy, tally in other.by_policy.items():
            self.tally(policy).add(tally)

    def keep_timelines(self, most: int) -> None:
        """Drop the timelines of all but the worst differences."""
        kept = {id(each) for each in self.differences()[:most]}
        for some in (self.new, self.gone, self.shifted):
            some[:] = [each if id(each) in kept or not each.timeline else replace(each, timeline=None) for each in some]

    def differences(self) -> list[Difference]:
        """Return all differences, regrets and harms first."""
        return sorted((*self.new, *self.gone, *self.shifted), key=lambda each: (ORDER.index(each.next), each.at))

    def json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        total = self.total

        def told(differences: list[Difference]) -> list[dict[str, Any]]:
            return [each.json() for each in sorted(differences, key=lambda each: (ORDER.index(each.next), each.at))]

        return {
            "v": 1,
            "rooms": self.rooms,
            "room_hours": round(self.room_hours, 3),
            "agent_minutes_saved": round(total.agent_minutes_saved, 3),
            "new": told(self.new),
            "gone": told(self.gone),
            "shifted": told(self.shifted),
            "unchanged": total.unchanged,
            "regrets": total.regrets,
            "harms": total.harms,
            "unknown": total.unknown,
            "by_policy": {policy: _figures(tally) for policy, tally in sorted(self.by_policy.items())},
        }


def _figures(tally: Tally) -> dict[str, Any]:
    figures = {name: getattr(tally, name) for name in tally.__slots__}
    return figures | {"agent_minutes_saved": round(tally.agent_minutes_saved, 3)}


def policy_of(rule: str) -> str:
    """Return the policy of a rule: `idle_timeout` for `idle_timeout[1]`."""
    return rule.partition("[")[0]


def unchanged(header: Header, ended_at: Instant, rules: Iterator[str] | list[str], policy: str = "") -> Comparison:
    """Return the comparison of a room with itself."""
    comparison = Comparison(rooms=1, room_hours=(ended_at - header.began_at) / 3600)
    for rule in rules:
        if _meant(rule, policy):
            comparison.tally(rule).unchanged += 1
    return comparison


def compare(course: Course, file: str = "", policy: str = "", *, timelines: bool = False) -> Comparison:
    """Return what is different in a room, of one policy or of all."""
    return _Comparing(course, file, timelines=timelines).compare(policy)


def _meant(rule: str, policy: str) -> bool:
    return policy in ("", rule, policy_of(rule))


class _Comparing:
    """The comparison of one room, in the making."""

    def __init__(self, course: Course, file: str, *, timelines: bool) -> None:
        self.course, self.file, self.timelines = course, file, timelines
        self.story = course.story
        pairs = ((course.then.get(sid), course.now.get(sid)) for sid in {**course.then, **course.now})
        self.pairs = [(then, now) for then, now in pairs if not _same(then, now)]
        self.alike = [then for sid, then in course.then.items() if _same(then, course.now.get(sid))]
        # A dry run leaves the room as it was, so it says what would have come later too.
        real = [_first(*pair) for pair in self.pairs if any(each and each.real for each in pair)]
        self.first_at = min(real, default=inf)
        self.evicted_now = {sid: removal.at for sid, removal in course.now.items()}

    def compare(self, policy: str) -> Comparison:
        course = self.course
        result = unchanged(course.header, course.ended_at, [each.rule for each in self.alike], policy)
        for then, now in sorted(self.pairs, key=lambda pair: _first(*pair)):
            removal = now if now and (then is None or not then.real or now.at < then.at) else then
            assert removal  # noqa: S101 - one of them there is
            if not _meant(removal.rule, policy):
                continue
            tally = result.tally(removal.rule)
            if removal.sid in course.shifted:
                result.shifted.append(self._difference(then, now, Next.UNKNOWN, ()))
                tally.shifted += 1
                continue
            if removal is now:
                found = self._judged(then, now)
                result.new.append(found)
                tally.new += 1
            else:
                found = self._difference(then, now, Next.UNKNOWN, ())
                result.gone.append(found)
                tally.gone += 1
            tally.count(found)
        result.unknown += len(course.deaf) if not policy else 0
        result.unknown += 1 if course.asked and not self.pairs else 0
        return result

    def _judged(self, then: Exit | None, now: Exit) -> Difference:
        """Say what happened next to an agent that would have been evicted."""
        lane, at = self.story.lanes[now.sid], now.at
        until = min(lane.left_at or self.course.ended_at, then.at if then and then.real else inf)
        by_itself = lane.left_at is not None and not (then and then.real)
        found: list[Next] = []
        if at > self.first_at + TOGETHER or self.course.asked:
            return self._difference(then, now, Next.UNKNOWN, ())
        if self.story.spoke_to_person(now.sid, at, until):
            found.append(Next.REGRET)
        if by_itself and until - at <= POINTLESS and not found:
            found.append(Next.POINTLESS)
        others = [sid for sid, gone_at in self.evicted_now.items() if gone_at <= at + TOGETHER]
        if Next.POINTLESS not in found and self.story.left_alone(now.sid, at, until, others):
            found.append(Next.HARM)
        if not found:
            found.append(Next.RIGHT if lane.known else Next.UNKNOWN)
        return self._difference(then, now, found[0], tuple(found[1:]), minutes=max(0.0, until - at) / 60)

    def _difference(
        self,
        then: Exit | None,
        now: Exit | None,
        what: Next,
        also: tuple[Next, ...],
        minutes: float | None = None,
    ) -> Difference:
        header = self.course.header
        one, other = (now, then) if now and (then is None or not then.real or now.at < then.at) else (then, now)
        assert one  # noqa: S101 - one of them there is
        lane = self.story.lanes.get(one.sid) or Lane(one.sid, "", "")
        return Difference(
            room=header.room,
            room_sid=header.room_sid,
            file=self.file,
            sid=one.sid,
            identity=lane.identity,
            agent_name=lane.agent_name,
            policy=one.rule,
            at=self._unix(one.at),
            next=what,
            also=also,
            minutes=minutes,
            other_at=self._unix(other.at) if other else None,
            reason=one.reason,
            timeline=self._timeline(one) if self.timelines else None,
        )

    def _unix(self, at: Instant) -> float:
        return self.course.header.unix + at - self.course.header.began_at

    def _timeline(self, one: Exit) -> Timeline:
        begins, ends = one.at - BEFORE, min(one.at + AFTER, max(self.course.ended_at, one.at + 1))
        begins = max(begins, self.course.header.began_at)
        rows, sids = [], []
        for lane in self.story.lanes.values():
            here = tuple(lane.here.within(begins, ends))
            if here and lane.role in (Role.AGENT, Role.HUMAN, Role.AVATAR):
                rows.append(_row(lane, one, here, begins, ends))
                sids.append(lane.sid)
        marks = [
            Mark(removal.at - one.at, sids.index(sid), f"{what} ({removal.rule})")
            for removals, what in ((self.course.then, "evicted, as recorded"), (self.course.now, "would be evicted"))
            for sid, removal in removals.items()
            if sid in sids and begins <= removal.at <= ends
        ]
        marks += [
            Mark(at - one.at, sids.index(sid), what)
            for at, sid, what in self.course.verdicts
            if sid in sids and begins <= at <= ends
        ]
        return Timeline(tuple(rows), tuple(marks), begins - one.at, ends - one.at)


def _row(lane: Lane, one: Exit, here: tuple[Span, ...], begins: Instant, ends: Instant) -> TimelineRow:
    def moved(spans: Iterator[Span] | tuple[Span, ...]) -> tuple[Span, ...]:
        return tuple((a - one.at, b - one.at) for a, b in spans)

    left = here[-1][1]
    changes = [(at, state) for at, state in lane.states if at < left]
    ended = [*(at for at, _ in changes[1:]), left][: len(changes)]
    states = tuple(
        (max(at, begins) - one.at, min(end, ends) - one.at, state)
        for (at, state), end in zip(changes, ended, strict=True)
        if state and end > begins and at < ends
    )
    speech = (*lane.heard.within(begins, ends), *(() if lane.listened_to else lane.said.within(begins, ends)))
    name = lane.agent_name or lane.identity
    acts = tuple(at - one.at for at in lane.acts if begins <= at <= ends)
    return TimelineRow(
        f"{name} · {lane.sid}", str(lane.role), moved(here), moved(speech), states, acts, lane.sid == one.sid
    )


def _first(then: Exit | None, now: Exit | None) -> Instant:
    return min(each.at for each in (then, now) if each)


def _same(then: Exit | None, now: Exit | None) -> bool:
    """Return True if an agent is evicted in both courses, at the same time, or is in neither."""
    if then is None or now is None:
        return then is now
    return abs(then.at - now.at) <= TOGETHER and (then.real or not now.real)
