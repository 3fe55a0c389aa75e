"""LiveKit with one room, simulated: who is really there, and what each bouncer gets to see of it and to do about it.

It knows everything, and tells it as the real one does: publishers' events in some milliseconds, those of all others in
batches up to 3 s late, hidden participants and the agent grant in lists only, jobs up to 5 s late. What is done to the
room happens in a queue of its own, on the server's clock, which goes on while a bouncer's process is frozen.
"""

import asyncio
import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from math import inf
from random import Random
from typing import Any, Literal, Protocol, TypeVar, cast

from bouncer.api import ApiError, Trouble
from bouncer.events import (
    Attributes,
    Connected,
    Disconnected,
    Event,
    Heard,
    Info,
    Job,
    Joined,
    Left,
    Signal,
    Transcribed,
)
from bouncer.patrol import Patrol
from bouncer.room import Kind, Room
from tests.simulation.meaning import Meaning
from tests.virtual import VirtualLoop

T = TypeVar("T")

BATCH = 3.0
"""Seconds by which the announcement of a participant that publishes nothing is late at most."""
UNLISTED = 5.0
"""Seconds by which `list_dispatch` is late at most."""
DEAD_LISTED = (20.0, 23.0)
"""Seconds for which a client that died is still listed as ACTIVE."""
FROZEN = 2.0
"""Seconds by which our process has to be late for it to know that it was frozen."""
CALL_LIMIT = 3.0
"""Seconds after which a call without an answer is given up."""
NAME = "bouncer"
"""The agent name of our dispatches."""
GUARDING = "bouncer.guarding"
STATE = "lk.agent.state"
JOB_IDENTITY = "agent-AJ_"

Trouble_ = Literal["denied", "throttled", "unavailable", "slow"]
Act = Literal["data", "text", "published", "unmuted", "muted"]


@dataclass(slots=True, eq=False)
class Dispatch:
    """The request for an agent, and the jobs that came of it."""

    id: str
    agent_name: str
    per_publisher: bool = False
    """Whether it gives one job to each human."""
    jobs: list["Member"] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Member:
    """One connection to the room, as it really is."""

    sid: str
    identity: str
    joined_at: float
    kind: Kind = Kind.STANDARD
    attributes: Mapping[str, str] = field(default_factory=dict)
    hidden: bool = False
    simulated: bool = False
    grant: bool = False
    audio: bool = False
    publishes: bool = False
    """Whether it is announced at once."""
    active_at: float = 0.0
    dispatch: Dispatch | None = None
    publisher: str = ""
    listed_at: float = 0.0
    """From when on `list_dispatch` shows its job."""
    comes_back: bool = False
    """Whether it joins again at once when it is removed: its token stays valid."""
    hangs: bool = False
    """Whether it stays when its job is ended."""
    died_at: float | None = None
    left_at: float | None = None
    speaking_since: float | None = None
    spoke_at: float = 0.0
    state_at: float = 0.0

    @property
    def job(self) -> str:
        """The id of its job, if it has one; it keeps that through a reconnect."""
        named = self.identity.startswith(JOB_IDENTITY)
        return self.identity.removeprefix("agent-") if named else f"AJ_{self.sid}"

    @property
    def here(self) -> bool:
        """Whether the server has it in the room."""
        return self.left_at is None

    @property
    def state(self) -> str:
        """What it says that it is doing."""
        return self.attributes.get(STATE, "")

    def __str__(self) -> str:
        return f"{self.identity}/{self.sid}"


def is_agent(member: Member) -> bool:
    """Whether policies may judge it: an agent by kind or grant, that is not simulated."""
    return (member.kind is Kind.AGENT or member.grant) and not member.simulated


@dataclass(slots=True)
class Speech:
    """A time for which somebody is known to have spoken."""

    since: float
    told_at: float
    until: float | None = None
    ended_told: float = inf
    """When its end was heard, so that it may ask for an answer."""


@dataclass(slots=True)
class Known:
    """What one bouncer has been told of one participant, with the dates at which it truly happened."""

    member: Member
    told_at: float
    name: str
    """As it called itself at first sight."""
    claims: str
    """The principal that it named at first sight."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    as_of: float = 0.0
    """As of when it was last shown; a list that was asked for earlier knows less."""
    active: bool = False
    """Whether it was shown as ACTIVE."""
    listed: bool = False
    """Whether a list has shown it, with the agent grant or without."""
    job: Job | None = None
    """Its job, if `list_dispatch` has shown it."""
    alive_at: float = 0.0
    left_told: bool = False
    lacked_at: float | None = None
    """As of when the last list lacked it, if it did."""
    state: str = ""
    state_at: float = 0.0
    acted_at: float = 0.0
    reacted_at: float = 0.0
    """When we were told of its last reaction; of what is heard, when it truly was."""
    shows: bool = False
    """Whether it ever published a state or a transcription."""
    heard: bool | None = None
    """Whether it is loud; None while we don't listen."""
    speech: list[Speech] = field(default_factory=list)

    @property
    def speaking_since(self) -> float | None:
        """Since when it is known to speak."""
        return self.speech[-1].since if self.speech and self.speech[-1].until is None else None


@dataclass(frozen=True, slots=True)
class Fault:
    """A time in which calls go wrong."""

    begin: float
    end: float
    kind: Trouble_
    share: float
    """Of so many calls."""


class Judge(Protocol):
    """Who looks at what the bouncers do."""

    def asks(self, line: "Line") -> None:
        """Somebody is about to be read, perhaps for the last time before they are removed."""

    def sends(self, line: "Line", meant: Member) -> None:
        """A removal is being sent; `meant` has the identity at this moment."""

    def ends(self, line: "Line", dispatch: str, jobs: list[Member]) -> None:
        """The end of a dispatch is being sent, which has these jobs, if it still is there."""

    def evicts(self, line: "Line", member: Member) -> None:
        """It has reached the server, and hits `member`."""

    def rejoins(self, line: "Line", before: Room, lost_at: float) -> None:
        """A bouncer has reconnected fully; `before` is the room as its patrol knew it at `lost_at`."""


class Server:
    """The server, with one room."""

    def __init__(self, random: Random, trace: Callable[..., None]) -> None:
        self.loop = cast(VirtualLoop, asyncio.get_running_loop())
        self.random = random
        self.trace = trace
        self.now = self.loop.time()
        """The time on the server; behind the loop's while what happened in a frozen time is made up for."""
        self.members: dict[str, Member] = {}
        self.past: list[Member] = []
        self.dispatches: dict[str, Dispatch] = {}
        self.lines: list[Line] = []
        self.thawed_at = 0.0
        self.metadata: tuple[str, Meaning | None] = ("", Meaning({}))
        self.wanted: Callable[[Dispatch], None] = lambda _dispatch: None
        """Told of each bouncer that is dispatched by another."""
        self.lost: Callable[[Member, str, Line | None], None] = lambda _member, _how, _by: None
        """Told of everybody who is gone, and by what."""
        self.sids = count(1)
        self._dispatches = count(1)
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._pump_at: float | None = None

    # Time

    def at(self, when: float, do: Callable[[], None]) -> None:
        """Have something happen on the server."""
        heapq.heappush(self._queue, (when, next(self._order), do))
        if self._pump_at is None or when < self._pump_at:
            self._pump_at = when
            self.loop.call_at(when, self._pump)

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        """Have something happen on the server in a while."""
        self.at(self.now + seconds, do)

    def _pump(self) -> None:
        while self._queue and self._queue[0][0] <= self.loop.time():
            when, _, do = heapq.heappop(self._queue)
            self.now = max(self.now, when)
            do()
        self._pump_at = self._queue[0][0] if self._queue else None
        if self._pump_at is not None:
            self.loop.call_at(self._pump_at, self._pump)

    def freeze(self, seconds: float) -> None:
        """Let no bouncer's process run for a while."""
        self.trace("frozen for", seconds)
        self.loop.skip(seconds)
        self.thawed_at = self.loop.time()

    # Who is here

    def dispatch(self, agent_name: str) -> Dispatch:
        """Ask for an agent."""
        made = Dispatch(f"AD_{next(self._dispatches)}", agent_name, agent_name != NAME and self.random.random() < 0.1)
        self.dispatches[made.id] = made
        return made

    def join(
        self, identity: str = "", *, joining: float = 0.05, dispatch: Dispatch | None = None, **facts: Any
    ) -> Member:
        """Somebody joins; whoever had the identity is dropped. A job without one is called by its id."""
        sid = f"PA_{next(self.sids)}"
        member = Member(sid=sid, identity=identity or f"agent-AJ_{sid}", joined_at=self.now, **facts)
        member.active_at = self.now + joining
        member.state_at = self.now
        member.publishes |= member.audio
        if dispatch:
            member.dispatch, member.attributes = dispatch, {"lk.agent_name": dispatch.agent_name, **member.attributes}
            member.listed_at = self.now + self.random.uniform(0.05, UNLISTED)
            dispatch.jobs.append(member)
        if old := self.members.get(member.identity):
            self.leave(old, "was dropped for a newcomer")
        self.members[member.identity] = member
        self.trace("joined", member, member.kind, dispatch.id if dispatch else "", dict(member.attributes))
        self._announce(member)
        self.at(member.active_at, lambda: self._announce(member))
        return member

    def leave(self, member: Member, how: str = "left", by: "Line | None" = None) -> None:
        """Somebody is gone."""
        if not member.here:
            return
        self.speak(member, speaking=False)
        member.left_at = self.now
        self.past.append(member)
        if self.members.get(member.identity) is member:
            del self.members[member.identity]
        self.trace(how, member)
        for line in self.lines:
            if line.me is member and not line.ended:
                line.ended = True
                line.close()
        self._announce(member)
        self.lost(member, how, by)

    def crash(self, member: Member) -> None:
        """Somebody's client dies, and is listed for a while yet."""
        if member.died_at is None:
            self.trace("died", member)
            self.speak(member, speaking=False)
            member.died_at = self.now
            self.after(self.random.uniform(*DEAD_LISTED), lambda: self.leave(member, "was found dead"))

    def active(self, member: Member) -> bool:
        """Whether it is in the room and not JOINING any more."""
        return member.here and member.active_at <= self.now

    # What they do

    def set_attributes(self, member: Member, **attributes: str) -> None:
        """Somebody's attributes change."""
        state = attributes.get(STATE, member.state)
        if state != member.state:
            member.state_at = self.now
        self.trace("says", member, attributes)
        member.attributes = {**member.attributes, **attributes}
        self._announce(member)

    def act(self, member: Member, what: Act) -> None:
        """Somebody sends something, or does something with a track."""
        self.trace(what, member)
        if what == "published":
            member.audio = member.publishes = True
        for line in self.lines:
            if self.loop.time() > self.now + FROZEN and not line.blind and member.sid in line.announced:
                line.coming[member.sid] = self.now
            line.later(self.random.uniform(0.005, 0.015), partial(line.signal, member, what, self.now))
            if what == "published":
                line.later(0.5, partial(line.hear, member))

    def speak(self, member: Member, *, speaking: bool) -> None:
        """Somebody begins or ends to be loud."""
        if speaking == (member.speaking_since is not None):
            return
        self.trace("speaks" if speaking else "falls silent", member)
        if speaking:
            member.speaking_since = self.now
        else:
            member.speaking_since, member.spoke_at = None, self.now
        for line in self.lines:
            line.later(self.random.uniform(0.25, 0.8), partial(line.hear, member))

    def write_metadata(self, text: str, meaning: Meaning | None) -> None:
        """The room's metadata are replaced."""
        self.trace("metadata", text)
        self.metadata = (text, meaning)
        for line in self.lines:
            line.later(0.004, partial(line.configure, text, meaning))

    def _announce(self, member: Member) -> None:
        for line in self.lines:
            line.announce(member)

    # What the API shows

    def info(self, member: Member, line: "Line", *, listed: bool) -> Info:
        """A participant as an event or a list shows it."""
        joined_ms = round(member.joined_at * 1000)
        return Info(
            sid=member.sid,
            identity=member.identity,
            kind=member.kind,
            simulated=member.simulated,
            active=member.active_at <= self.now,
            joined_at=joined_ms / 1000 + line.skew,
            joined_ms=joined_ms,
            attributes=member.attributes,
            audio=member.audio,
            agent_grant=member.grant if listed else None,
            hidden=member.hidden if listed else None,
        )

    def jobs(self) -> Iterator[Job]:
        """All jobs that are shown by now, also those that are over."""
        for dispatch in self.dispatches.values():
            for member in dispatch.jobs:
                if member.listed_at <= self.now:
                    yield Job(
                        dispatch=dispatch.id,
                        job=member.job,
                        agent_name=dispatch.agent_name,
                        identity=member.identity,
                        publisher=member.publisher,
                    )


class Line:
    """One bouncer's connection: what it is told, and the server's API as it finds it. It is the patrol's `RoomApi`."""

    def __init__(self, server: Server, me: Member, faults: tuple[Fault, ...] = ()) -> None:  # noqa: PLR0915
        self.server = server
        self.me = me
        self.faults = faults
        self.skew = server.random.uniform(0.0, 0.1)
        """By how much what the server dates comes out late on our clock."""
        self.patrol: Patrol = cast(Patrol, None)
        self.close: Callable[[], None] = lambda: None
        """Closes the patrol, once there is one."""
        self.shown = server.info(me, self, listed=False)
        """What our own SDK goes on showing of us."""
        self.known: dict[str, Known] = {}
        self.jobs: tuple[Job, ...] = ()
        """The last list of jobs."""
        self.replaced: set[str] = set()
        """The jobs beside which a newer one of their dispatch, for the same publisher, was known to be."""
        self.jobs_asked_at = 0.0
        """When the last list of jobs was asked for, of which we had the answer."""
        self.coming: dict[str, float] = {}
        """When somebody was last active while our process was frozen: it is on its way to us."""
        self.announced: dict[str, tuple[bool, Mapping[str, str]]] = {}
        self.meanings: list[tuple[float, Meaning]] = []
        """What the metadata that we were told mean, and since when."""
        self.watching_since = 0.0
        self.blind = True
        self.ended = False
        self.hears = False
        self.drops = 0.0
        """The share of lists that lack somebody."""
        self.calls: Counter[str] = Counter()
        self.called_at: list[float] = []
        self.failed_at: list[float] = []
        self.told_at: list[float] = []
        """When we were told of something that is a reason to look at the lists."""
        self.decided: dict[str, bool] = {}
        """Whom our patrol ever decided to evict, and whether as the avatar of somebody else."""
        self.successors: set[str] = set()
        """The dispatches of those whom we sent for to take over: what doesn't come is taken back."""
        self.leaving: set[str] = set()
        """Those of them for whom it was sent, while the attempt lasts."""
        self.sent: list[tuple[float, Member]] = []
        """Whom we sent an eviction for, and when."""
        self.evicted: set[str] = set()
        """Those of them of whom we know that it was our doing that they left."""
        self.read: dict[str, float] = {}
        """As of when each identity was last asked for by itself."""
        self.lists: list[float] = []
        """As of when the lists were, of which we had the answer."""
        self.pending: dict[str, float] = {}
        self.waiting: list[Callable[[], None]] = []
        self.judge: Judge = cast(Judge, None)
        self.dropped: dict[str, float] = {}
        self._backlog_at = 0.0

    # Events

    def later(self, seconds: float, do: Callable[[], None]) -> None:
        """Have something reach us in so many seconds; later if our process is frozen meanwhile."""

        def reach() -> None:
            now = self.server.loop.time()
            if now > self.server.now + 0.001:
                # Made up for after a frozen time: it takes a moment to come in.
                self._backlog_at = max(self._backlog_at, now) + self.server.random.uniform(0.0, 0.02)
                self.server.at(self._backlog_at, do)
            else:
                do()

        self.server.after(seconds, reach)

    def tell(self, event: Event) -> None:
        """Tell the patrol."""
        if isinstance(event, Joined | Connected):
            self.told_at.append(self.server.loop.time())
        if not self.ended:
            self.patrol.tell(event)

    def connect(self) -> None:
        """Be connected, for the first time or again."""
        self.blind, self.watching_since = False, self.server.loop.time()
        others = [m for m in self.server.members.values() if m.sid in self.announced]
        self._lack_all(self.watching_since)
        self.server.trace("connected", self.me)
        self.tell(Connected(self.watching_since, self.shown, tuple(map(self._show, others))))
        for member in others:
            self.later(0.5, partial(self.hear, member))
        waiting, self.waiting = self.waiting, []
        for do in waiting:
            self.later(0.01, do)

    def _lack_all(self, as_of: float) -> None:
        """A list comes in: whom it doesn't show, it lacks."""
        for known in self.known.values():
            known.lacked_at = as_of if known.lacked_at is None else known.lacked_at

    def first_look(self) -> None:
        """See who is here already."""
        for member in self.server.members.values():
            if not member.hidden:
                self.announced[member.sid] = (self.server.active(member), member.attributes)
        self.connect()

    def interrupt(self, seconds: float, *, full: bool) -> None:
        """Lose the connection for a while. If fully, everybody leaves and joins for us, and we get another sid."""
        if self.blind or self.ended:
            return
        self.server.trace("loses its connection" + (" fully" if full else ""), self.me, seconds)
        now, before = self.server.loop.time(), self.patrol.tracker.room()
        if full:
            for sid in self.announced:
                self.tell(Left(now, sid))
            self.announced.clear()
            self.server.after(0.001, self._disconnect)
        else:
            self._disconnect()

        def reconnect() -> None:
            self._reconnect(full=full)
            if full and not self.ended:
                self.judge.rejoins(self, before, now)

        self.server.after(seconds, reconnect)

    def _disconnect(self) -> None:
        self.blind = True
        self.tell(Disconnected(self.server.loop.time()))
        self._stop_hearing()

    def _stop_hearing(self) -> None:
        now = self.server.loop.time()
        for known in self.known.values():
            if known.heard is not None:
                known.heard = None
                self._note_speech(known, now, complete=False)
                self.tell(Heard(now, known.member.sid, None))

    def _reconnect(self, *, full: bool) -> None:
        if self.ended:
            return
        now = self.server.loop.time()
        if full:
            old = self.me
            old.left_at = self.server.now
            self.me = replace(old, sid=f"PA_{next(self.server.sids)}", joined_at=self.server.now, left_at=None)
            self.server.members[self.me.identity] = self.me
            if self.me.dispatch:
                self.me.dispatch.jobs = [self.me if m is old else m for m in self.me.dispatch.jobs]
            for member in self.server.members.values():
                if not member.hidden:
                    self.announced[member.sid] = (self.server.active(member), member.attributes)
                    self.tell(Joined(now, self._show(member)))
                    if (known := self.known[member.sid]).speaking_since is not None:
                        # It left and joined for us, before we were connected again: since when it speaks isn't known.
                        known.speech[-1].until = now
                        known.speech.append(Speech(now, known.speech[-1].told_at))
        self.connect()
        for member in (*self.server.members.values(), *self.server.past):
            self.announce(member)

    def announce(self, member: Member) -> None:
        """Have what is new about somebody told, at once or with the next batch."""
        if self.blind or self.ended or member is self.me:
            return
        random = self.server.random
        late = random.uniform(0.005, 0.015) if member.publishes else random.uniform(0.0, BATCH)
        when = self.server.now + late
        if self.pending.get(member.sid, inf) > when:
            self.pending[member.sid] = when
            self.later(late, lambda: self._flush(member))

    def _flush(self, member: Member) -> None:
        self.pending.pop(member.sid, None)
        if self.blind or self.ended:
            return
        before, now = self.announced.get(member.sid), self.server.loop.time()
        if not member.here:
            if before:
                del self.announced[member.sid]
                if known := self.known.get(member.sid):
                    known.left_told, known.heard = True, None
                    self._note_speech(known, now, complete=False)
                self.tell(Left(now, member.sid))
            return
        seen = (self.server.active(member), member.attributes)
        if member.hidden or before == seen:
            return
        self.announced[member.sid] = seen
        if before and before[0] == seen[0]:
            self._show(member)
            self.tell(Attributes(now, member.sid, member.attributes))
        else:
            self.tell(Joined(now, self._show(member)))

    def _show(self, member: Member) -> Info:
        """Somebody as events show them; it is kept in mind that we know."""
        info = self.server.info(member, self, listed=False)
        self._note(info, member, member.state_at, self.server.loop.time())
        return info

    def _note(self, info: Info, member: Member, state_at: float, as_of: float) -> Known:
        """Keep in mind what we are told of somebody."""
        known, attributes = self.known.get(member.sid), info.attributes
        first = known is None
        if known is None:
            name = attributes.get("lk.agent_name") or attributes.get("lk.agent.name") or ""
            claims = attributes.get("lk.publish_on_behalf", "")
            known = Known(member, self.server.loop.time(), name, claims, acted_at=member.joined_at)
            self._note_job(known)
            self.known[member.sid] = known
        known.left_told, known.lacked_at = False, None
        if as_of < known.as_of:
            return known
        known.as_of, known.active = as_of, info.active
        if not first and attributes != known.attributes:
            known.alive_at = self.server.now
        before, known.state = known.state, attributes.get(STATE, "")
        known.attributes = attributes
        if known.state != before:
            known.shows, known.state_at = True, state_at
            if not first:
                known.reacted_at = self.server.loop.time()
            if {known.state, before} & {"thinking", "speaking"}:
                known.acted_at = max(known.acted_at, state_at)
            self._note_speech(known, state_at)
        self._note_replaced()
        return known

    def _note_job(self, known: Known) -> None:
        """Keep in mind of which dispatch somebody is, if the jobs that are listed can say so.

        An identity that isn't made from a job's id may be that of several, one after the other; and those that are over
        are listed too.
        """
        member = known.member
        jobs = [job for job in self.jobs if job.identity == member.identity]
        if not jobs:
            return
        others = [k for k in self.known.values() if k.member.identity == member.identity and k.member is not member]
        early = self.jobs_asked_at < member.joined_at + UNLISTED + 1.0
        unclear = others and early and not member.identity.startswith(JOB_IDENTITY)
        known.job = None if unclear or len({(job.dispatch, job.publisher) for job in jobs}) > 1 else jobs[-1]

    def _note_replaced(self) -> None:
        """Keep in mind whose job has a newer one of its dispatch beside it."""
        sure = [k for k in self.known.values() if not k.left_told and k.lacked_at is None]
        # By identity: who was dropped for a newcomer may not have been told to have left yet.
        here = {k.member.identity: k for k in sure if k.active and is_agent(k.member)}.values()
        newest: dict[tuple[str, str], Job] = {}
        for known in sorted(here, key=lambda k: (round(k.member.joined_at * 1000), k.member.sid)):
            if (job := known.job) and job.job not in self.replaced:
                if older := newest.get((job.dispatch, job.publisher)):
                    self.replaced.add(older.job)
                newest[job.dispatch, job.publisher] = job

    def _note_speech(self, known: Known, at: float, *, complete: bool = True) -> None:
        """Keep in mind that somebody began or ended speaking, if so."""
        claims = known.heard is None and known.state == "speaking" and not known.claims and is_agent(known.member)
        speaking = not known.left_told and (known.heard is True or claims)
        if speaking == (known.speaking_since is not None):
            return
        known.acted_at = known.reacted_at = max(known.acted_at, at)
        if speaking:
            known.speech.append(Speech(at, self.server.loop.time()))
        else:
            # That it stopped saying so may be told late; what is heard is dated back.
            known.speech[-1].until = self.server.loop.time() if known.heard is None else at
            if complete and known.heard is False:
                known.speech[-1].ended_told = self.server.loop.time()

    def signal(self, member: Member, what: Act, at: float) -> None:
        """Take in a sign of life."""
        if self.blind or self.ended or member.sid not in self.announced:
            if what == "published":
                self.announce(member)
            return
        known, now = self.known[member.sid], self.server.loop.time()
        # A frozen process that had no timer running can't know that what it hears is old.
        known.alive_at = now
        if what != "muted":
            known.acted_at = max(known.acted_at, at)
        if what == "text":
            known.shows, known.reacted_at = True, now
            self.tell(Transcribed(now, member.identity))
        else:
            self.tell(Signal(now, member.sid, active=what != "muted", audio=what in ("published", "unmuted")))

    def hear(self, member: Member) -> None:
        """Notice whether somebody is loud by now."""
        if self.blind or self.ended or not self.hears or not member.audio or member.sid not in self.announced:
            return
        known, loud = self.known[member.sid], member.speaking_since is not None
        if known.heard is loud:
            return
        at = max(member.speaking_since or member.spoke_at, self.watching_since, member.joined_at)
        if known.heard is None:
            at = self.server.loop.time()
            known.acted_at = max(known.acted_at, at)
        known.heard, known.alive_at = loud, self.server.now
        self._note_speech(known, at)
        self.tell(Heard(at, member.sid, loud))

    def configure(self, text: str, meaning: Meaning | None) -> None:
        """Be told of the room's metadata."""
        if self.ended:
            return
        if self.blind:
            self.waiting.append(lambda: self.configure(text, meaning))
            return
        if meaning is not None:
            self.meanings.append((self.server.loop.time(), meaning))
            hears = meaning.hears and meaning.mode != "off"
            if hears and not self.hears:
                for sid in self.announced:
                    self.later(0.5, partial(self.hear, self.known[sid].member))
            self.hears = hears
            if not hears:
                self._stop_hearing()
        self.told_at.append(self.server.loop.time())
        self.patrol.configure(text)

    # The API

    async def _call(self, name: str, do: Callable[[], T]) -> T:
        """Make a call: it takes effect at some instant between its beginning and its answer."""
        server, random = self.server, self.server.random
        now = server.loop.time()
        self.calls[name] += 1
        self.called_at.append(now)
        answer: asyncio.Future[T] = server.loop.create_future()
        fault = next((f for f in self.faults if f.begin <= now < f.end and random.random() < f.share), None)
        there, back = (random.uniform(0.00025, 0.015) for _ in range(2))
        kind: Trouble_ | Literal["late", ""] = fault.kind if fault else ""
        if kind == "slow":
            there, back = random.uniform(0, CALL_LIMIT), random.uniform(0, CALL_LIMIT)
            kind = "late" if there + back > CALL_LIMIT else ""
        lost = kind in ("denied", "throttled") or (kind in ("late", "unavailable") and random.random() < 0.5)

        def arrive() -> None:
            result = None if lost else do()
            server.at(
                max(now + CALL_LIMIT if kind in ("late", "unavailable") else server.now + back, server.now),
                lambda: end(result),
            )

        def end(result: T | None) -> None:
            if answer.done():
                return
            if kind:
                trouble = {"denied": Trouble.DENIED, "throttled": Trouble.THROTTLED}.get(kind, Trouble.UNAVAILABLE)
                answer.set_exception(ApiError(trouble, f"simulated: {kind}"))
            else:
                answer.set_result(cast(T, result))

        if kind:
            self.failed_at.append(now)
            server.trace("call fails", name, kind, "without effect" if lost else "with effect")
        server.at(max(now, server.now) + there, arrive)
        return await answer

    async def list_participants(self, *, urgent: bool = False) -> tuple[Info, ...]:  # noqa: ARG002 - the protocol's
        """Everybody, as of some instant; at times somebody is missing."""

        def snapshot() -> tuple[float, list[tuple[Member, Info, float]]]:
            members = list(self.server.members.values())
            if self.server.random.random() < self.drops:
                missing = self.server.random.choice(members)
                # Never in two lists in a row: only for a moment.
                if missing is not self.me and self.dropped.get(missing.sid, 0.0) <= self.server.now:
                    self.dropped[missing.sid] = self.server.now + 60.0
                    self.server.trace("list lacks", missing)
                    members.remove(missing)
            return self.server.now, [(m, self.server.info(m, self, listed=True), m.state_at) for m in members]

        self.judge.asks(self)
        asked_at = self.server.loop.time()
        as_of, shown = await self._call("list_participants", snapshot)
        self.lists.append(as_of)
        self._lack_all(as_of)
        for member, info, state_at in shown:
            if member is not self.me:
                left_told = member.sid in self.known and self.known[member.sid].left_told
                seen = self._note(info, member, state_at, asked_at)
                seen.left_told, seen.listed = left_told, True
        return tuple(info for _, info, _ in shown)

    async def list_jobs(self, *, urgent: bool = False) -> tuple[Job, ...]:  # noqa: ARG002 - the protocol's
        """All jobs that are shown by now."""
        asked_at = self.server.loop.time()
        jobs = await self._call("list_jobs", lambda: tuple(self.server.jobs()))
        self.jobs_asked_at = max(self.jobs_asked_at, asked_at)
        self.jobs = jobs
        for known in self.known.values():
            self._note_job(known)
        self._note_replaced()
        return jobs

    async def get_participant(self, identity: str) -> Info | None:
        """Whoever has the identity."""

        def look() -> tuple[float, Info | None]:
            member = self.server.members.get(identity)
            return self.server.now, self.server.info(member, self, listed=True) if member else None

        self.judge.asks(self)
        self.read[identity], info = await self._call("get_participant", look)
        return info

    async def remove_participant(self, identity: str) -> bool:
        """Remove whoever has the identity."""
        known = [k.member for k in self.known.values() if k.member.identity == identity]
        meant = self.server.members.get(identity) or next(reversed(known), None)
        self.server.trace("is to be removed", meant or identity)
        if meant:
            self.judge.sends(self, meant)

        def remove() -> bool:
            member = self.server.members.get(identity)
            if member is None:
                return False
            self.judge.evicts(self, member)
            self.server.leave(member, "was removed", self)
            return True

        return await self._call("remove_participant", remove)

    async def delete_dispatch(self, dispatch: str) -> bool:
        """End all jobs of a dispatch: each leaves in a while, unless it hangs or is dead."""
        known = self.server.dispatches.get(dispatch)
        meant = [member for member in known.jobs if member.here] if known else []
        self.server.trace("is to be ended", dispatch, *meant)
        self.judge.ends(self, dispatch, known.jobs if known else [])

        def end() -> bool:
            ended = self.server.dispatches.pop(dispatch, None)
            for member in ended.jobs if ended else ():
                if member.here and member is not self.me:
                    self.judge.evicts(self, member)
                    if not member.hangs and member.died_at is None:
                        late = self.server.random.choice((0.01, 0.05, 1.0, 3.0))
                        self.server.after(late, partial(self._over, member))
            return ended is not None

        return await self._call("delete_dispatch", end)

    def _over(self, member: Member) -> None:
        """A job has ended, whatever sid it has by now: a bouncer may have reconnected meanwhile."""
        line = next((line for line in self.server.lines if line.me.identity == member.identity), None)
        self.server.leave(line.me if line else member, "was ended", self)

    async def send_data(self, payload: bytes) -> None:  # noqa: ARG002 - the protocol's
        """Send a message to the room."""
        await self._call("send_data", lambda: None)

    async def say_guarding(self, *, guarding: bool) -> None:
        """Set our own attribute."""
        says = {GUARDING: "true" if guarding else ""}
        await self._call("say_guarding", lambda: self.server.set_attributes(self.me, **says))

    async def dispatch_successor(self) -> str:
        """Dispatch another bouncer."""

        def ask() -> str:
            dispatch = self.server.dispatch(NAME)
            self.successors.add(dispatch.id)
            self.server.wanted(dispatch)
            return dispatch.id

        return await self._call("dispatch_successor", ask)

    async def resign(self) -> None:
        """End our own job; what fails of it doesn't matter, since the job is over."""
        if dispatch := self.me.dispatch:
            with suppress(ApiError):
                await self._call("resign", lambda: self.server.dispatches.pop(dispatch.id, None))
        self.end()

    def end(self) -> None:
        """Be gone from the room, and hear no more."""
        self.server.leave(self.me, "resigned")
