"""What the participants of a recorded room did, as lanes of spans: what happened next, after an instant. Pure."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from math import inf

from bouncer.events import (
    Attributes,
    Channel,
    Connected,
    Event,
    Heard,
    Info,
    Joined,
    Left,
    Listed,
    Signal,
    Transcribed,
)
from bouncer.people import AGENT_NAME_ATTRIBUTES
from bouncer.room import Instant, Role
from bouncer.tracker import STATE_ATTRIBUTE

SPEAKING = "speaking"
LEAST = 1.0
"""Seconds of something that count: a word that was being ended, or a gap between two agents, is nothing."""

Span = tuple[Instant, Instant]


@dataclass(slots=True)
class Spans:
    """When something was so."""

    done: list[Span] = field(default_factory=list)
    since: Instant | None = None
    """Since when it is so now."""

    def begin(self, at: Instant) -> None:
        """Note that it is so from now on."""
        if self.since is None:
            self.since = at

    def end(self, at: Instant) -> None:
        """It is no longer so."""
        if self.since is not None:
            self.done.append((self.since, max(at, self.since)))
            self.since = None

    def within(self, begins: Instant, ends: Instant) -> Iterator[Span]:
        """Yield the spans between two instants, cut to them."""
        open_ones = [] if self.since is None else [(self.since, inf)]
        for a, b in (*self.done, *open_ones):
            if a < ends and b > begins:
                yield max(a, begins), min(b, ends)


@dataclass(slots=True)
class Lane:
    """What one participant did."""

    sid: str
    identity: str
    agent_name: str
    role: Role = Role.OTHER
    here: Spans = field(default_factory=Spans)
    heard: Spans = field(default_factory=Spans)
    """When it was heard to speak."""
    said: Spans = field(default_factory=Spans)
    """When it said itself that it spoke, by its state."""
    acts: list[Instant] = field(default_factory=list)
    """When it sent something, or a transcription was written in its name."""
    states: list[tuple[Instant, str]] = field(default_factory=list)
    listened_to: bool = False
    """True if it was ever known whether it spoke."""
    missing: int = 0
    """In how many lists in a row it was missing."""

    @property
    def left_at(self) -> Instant | None:
        """When it left for the last time; None if it is there."""
        return None if self.here.since is not None or not self.here.done else self.here.done[-1][1]

    @property
    def known(self) -> bool:
        """True if the recording can tell whether it did anything."""
        return self.listened_to or bool(self.states)


@dataclass(slots=True)
class Story:
    """The lanes of a room, by sid."""

    lanes: dict[str, Lane] = field(default_factory=dict)
    _by_identity: dict[str, str] = field(default_factory=dict)
    changed: bool = True
    """True if someone came whose role isn't known yet."""

    def take(self, event: Event, now: Instant) -> None:
        """Take in what happened."""
        match event:
            case Connected(_, me, others):
                self._listed((me, *others), now)
            case Listed(_, _, infos):
                self._listed(infos, now)
            case Joined(_, info):
                self._see(info, now)
            case Left(_, sid):
                self.leave(sid, now)
            case Attributes(at, sid, attributes) if lane := self.lanes.get(sid):
                self._state(lane, attributes.get(STATE_ATTRIBUTE, ""), at)
            case Heard(at, sid, speaking) if lane := self.lanes.get(sid):
                lane.listened_to |= speaking is not None
                lane.heard.begin(at) if speaking else lane.heard.end(at)
            case Signal(at, sid, True, channel=channel) if lane := self.lanes.get(sid):
                if channel is not Channel.TRACK:  # a track is no message
                    lane.acts.append(at)
            case Transcribed(at, identity) if lane := self.lanes.get(self._by_identity.get(identity, "")):
                lane.acts.append(at)
            case _:
                pass

    def leave(self, sid: str, at: Instant) -> None:
        """Take in that a participant left."""
        if lane := self.lanes.get(sid):
            for spans in (lane.here, lane.heard, lane.said):
                spans.end(at)

    def end(self, at: Instant) -> None:
        """The recording ends: what is so then was so until then."""
        for lane in self.lanes.values():
            for spans in (lane.heard, lane.said):
                spans.end(at)

    def cast(self, roles: Iterable[tuple[str, Role]]) -> None:
        """Take in what the participants are."""
        self.changed = False
        for sid, role in roles:
            if lane := self.lanes.get(sid):
                lane.role = role

    def _listed(self, infos: Iterable[Info], now: Instant) -> None:
        sids = set()
        self.changed = True  # a list may say what someone is
        for info in infos:
            sids.add(info.sid)
            self._see(info, now)
        for sid, lane in self.lanes.items():
            lane.missing = 0 if sid in sids else lane.missing + 1
            if lane.missing > 1 and lane.here.since is not None:
                self.leave(sid, now)

    def _see(self, info: Info, now: Instant) -> None:
        lane = self.lanes.get(info.sid)
        if lane is None:
            name = next((name for key in AGENT_NAME_ATTRIBUTES if (name := info.attributes.get(key))), "")
            lane = self.lanes[info.sid] = Lane(info.sid, info.identity, name)
            self._by_identity[info.identity] = info.sid
        if lane.here.since is None:
            lane.here.begin(now)
            self.changed = True
        self._state(lane, info.attributes.get(STATE_ATTRIBUTE, ""), now)

    def _state(self, lane: Lane, state: str, at: Instant) -> None:
        if state != (lane.states[-1][1] if lane.states else ""):
            lane.states.append((at, state))
            lane.said.begin(at) if state == SPEAKING else lane.said.end(at)

    # What happened next

    def spoke_to_person(self, sid: str, after: Instant, until: Instant) -> bool:
        """Return True if the participant spoke, wrote or sent something in that time, with a person there."""
        lane = self.lanes[sid]
        spoken = [
            (begin, end)
            for spans in (lane.heard, lane.said)
            for begin, end in spans.within(after, until)
            if end - begin >= LEAST or begin > after
        ]
        spoken += [(at, at) for at in lane.acts if after < at <= until]
        people = self._here(Role.HUMAN, after, until)
        return any(a <= d and c <= b for a, b in spoken for c, d in people)

    def left_alone(self, sid: str, after: Instant, until: Instant, without: Iterable[str] = ()) -> bool:
        """Return True if a person would have been there in that time with no agent but this one and those `without`."""
        agents = sorted(self._here(Role.AGENT, after, until, without={sid, *without}))
        people = self._here(Role.HUMAN, after, until)
        return any(b - a >= LEAST for person in people for a, b in _gaps(person, agents))

    def _here(self, role: Role, after: Instant, until: Instant, without: Collection[str] = ()) -> list[Span]:
        """Return when participants of a role were there."""
        lanes = (lane for lane in self.lanes.values() if lane.role is role and lane.sid not in without)
        return [span for lane in lanes for span in lane.here.within(after, until)]


def _gaps(span: Span, covers: Iterable[Span]) -> Iterator[Span]:
    """Yield the parts of a span that sorted others don't cover."""
    begins, ends = span
    for a, b in covers:
        if a > begins:
            yield begins, min(a, ends)
        begins = max(begins, b)
        if begins >= ends:
            return
    yield begins, ends
