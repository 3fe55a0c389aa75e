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
from unicodedata import normalize

from bouncer.events import (
    Attributes,
    Channel,
    Connected,
    Disconnected,
    Encrypted,
    Event,
    Heard,
    Info,
    Job,
    Joined,
    Left,
    Medium,
    Publication,
    Published,
    Signal,
    Transcribed,
)
from bouncer.guard.patrol import Patrol
from bouncer.ports import ApiError, Says, Trouble
from bouncer.room import Kind, Room
from tests.simulation.meaning import Meaning, selects
from tests.virtual import VirtualLoop

T = TypeVar("T")

STAY_WITHIN = 20.1
"""Seconds within which an identity that is back continues its stay, and a little more."""
BATCH = 3.0
"""Seconds by which the announcement of a participant that publishes nothing is late at most."""
UNLISTED = 5.0
"""Seconds by which `list_dispatch` is late at most."""
DEAD_LISTED = (20.0, 23.0)
"""Seconds for which a client that died is still listed as ACTIVE."""
HEARD_LATE = 2.0
"""Seconds by which news of what is heard is dated back at most."""
FROZEN = 2.0
"""Seconds by which our process has to be late for it to know that it was frozen."""
MOST_FAILURES = 10_000
"""Calls of one bouncer that fail; a hundred is many."""
CALL_LIMIT = 3.0
"""Seconds after which a call without an answer is given up."""
NAME = "bouncer"
"""The agent name of our dispatches."""
OTHER = "doorman"
"""That of another fleet of bouncers."""
GUARDING = "bouncer.guarding"
STANDING = "bouncer.standing"
STATE = "lk.agent.state"
CALL_STATUS = "sip.callStatus"
RINGING = ("dialing", "ringing")
JOB_IDENTITY = "agent-AJ_"
HANDING_OVER = "hands over"
"""The name of the task in which a bouncer hands over."""

Trouble_ = Literal["denied", "throttled", "unavailable", "slow"]
Act = Literal["data", "dtmf", "text", "bytes", "caption", "rpc", "published", "unmuted", "muted"]
Works = Literal["", "rpc", "dtmf", "bytes", "caption", "video", "data track", "encrypted", "whisper"]
"""How an agent works that doesn't do all that others do: by RPC no one else sees, or on a track, or encrypted, or with
a voice that only its listener is permitted to hear."""
UNSEEN: frozenset[Works] = frozenset({"rpc", "video", "data track", "encrypted"})
"""The ways of working that no bystander ever sees."""
TRACKS: Mapping[Works, Publication] = {
    "video": Publication(Medium.VIDEO, "camera"),
    "data track": Publication(Medium.DATA, "joints"),
    "whisper": Publication(Medium.AUDIO, "voice"),
}
AMBIENCE = Publication(Medium.AUDIO, "background_audio")


@dataclass(slots=True, eq=False)
class Dispatch:
    """The request for an agent, and the jobs that came of it."""

    id: str
    agent_name: str
    per_publisher: bool = False
    """True if it gives one job to each human."""
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
    recorder: bool = False
    mute: bool = False
    """True if it may neither publish nor send data."""
    audio: bool = False
    ambience: bool = False
    """True if it plays the framework's ambience, which is no one's voice."""
    works: Works = ""
    nameless: bool = False
    """True if its captions come without their writer."""
    name: str = ""
    """Its display name."""
    metadata: str = ""
    publishes: bool = False
    """True if it is announced at once."""
    active_at: float = 0.0
    dispatch: Dispatch | None = None
    serves: str = ""
    listed_at: float = 0.0
    """From when on `list_dispatch` shows its job."""
    offset: float = 0.0
    """Seconds by which the server's clock was ahead when it joined."""
    comes_back: bool = False
    """True if it joins again at once when it is removed: its token stays valid."""
    hangs: bool = False
    """True if it stays when its job is ended."""
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
        """True if the server has it in the room."""
        return self.left_at is None

    @property
    def state(self) -> str:
        """What it says that it is doing."""
        return self.attributes.get(STATE, "")

    @property
    def publications(self) -> tuple[Publication, ...]:
        """Its tracks."""
        tracks = (TRACKS.get(self.works), self.audio and Publication(Medium.AUDIO), self.ambience and AMBIENCE)
        return tuple(track for track in tracks if track)

    def __str__(self) -> str:
        return f"{self.identity}/{self.sid}"


LASTING: tuple[str, ...] = ("kind", "attributes", "hidden", "simulated", "grant", "recorder", "mute", "publishes")
LASTING += ("audio", "ambience", "works", "nameless", "name", "metadata")
"""What a participant brings along each time that it joins."""


def is_agent(member: Member) -> bool:
    """Return True if policies may judge it: an agent by kind or grant that is no simulated caller, service or asker."""
    agent = member.kind is Kind.AGENT or (member.grant and member.kind not in (Kind.EGRESS, Kind.INGRESS))
    asks = member.hidden and member.mute and member.kind is not Kind.AGENT
    return agent and not member.simulated and not asks


@dataclass(slots=True)
class Speech:
    """A time in which a participant is known to have spoken."""

    since: float
    told_at: float
    claimed: bool = False
    """True if its state says so, and nothing was heard."""
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
    """True if it was shown as ACTIVE."""
    listed_at: float = 0.0
    """True if a list has shown it, with the agent grant or without."""
    job: Job | None = None
    """Its job, if `list_dispatch` has shown it."""
    since: float = 0.0
    """When its stay began: it may have had another connection before."""
    first_sid: str = ""
    """The sid of that connection."""
    jobs: set[str] = field(default_factory=set)
    """The jobs that were last listed with its identity, and may be its own."""
    earlier_jobs: set[str] = field(default_factory=set)
    """Those of the connection whose stay it continues, as far as they were listed by then."""
    first_since: float = 0.0
    """When its identity, if that is a job's, was first here, as far as can be known."""
    alive_at: float = 0.0
    adopted: bool = False
    """True if the principal that it names was ever known to be here with it."""
    guarded: bool = False
    """True if it was ever known to say that it guards the room."""
    attributes_at: dict[str, float] = field(default_factory=dict)
    """When attributes that changed since it was first seen got their values, as it was told."""
    left_told: bool = False
    left_told_at: float = inf
    lacked_at: float | None = None
    """As of when the last list lacked it, if it did."""
    state: str = ""
    state_at: float = 0.0
    state_told: float = 0.0
    """When we were told of its state."""
    acted_at: float = 0.0
    acted_told: float = 0.0
    """When we were told of what it last did."""
    reacted_at: float = 0.0
    """When we were told of its last reaction; of what is heard, when it truly was."""
    worked: bool = False
    """True if it was ever seen to do something that no other can do in its name."""
    wrote: bool = False
    """True if something was written in its name, maybe by another."""
    heard: bool | None = None
    """True if it is loud; None while we don't listen."""
    speech: list[Speech] = field(default_factory=list)

    @property
    def agent_name(self) -> str:
        """The agent name, whichever Unicode form it has: the dispatch's word, else what it first called itself."""
        return normalize("NFD", self.job.agent_name if self.job else self.name)

    @property
    def called(self) -> Mapping[str, str]:
        """What selectors look at besides its attributes."""
        named = {"identity": self.member.identity, "agent_name": self.agent_name}
        return named | {"name": self.member.name, "metadata": self.member.metadata}

    @property
    def speaking_since(self) -> float | None:
        """Since when it is known to speak."""
        return self.speech[-1].since if self.speech and self.speech[-1].until is None else None


def names_principal(known: Known) -> str:
    """The identity of the agent whose avatar it may be; "" if there is none."""
    member = known.member
    service = member.kind in (Kind.EGRESS, Kind.INGRESS)
    nameless = not member.simulated and not known.name and not known.job and not service
    return known.claims if nameless and known.claims != member.identity else ""


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

    def broken(self, invariant: str, what: str) -> None:
        """An invariant doesn't hold."""

    def calls(self, line: "Line", name: str, *arguments: object) -> None:
        """A call to the API is being made."""

    def listed(self, line: "Line") -> None:
        """A list of the participants was answered."""

    def asks(self, line: "Line") -> None:
        """A participant is about to be read, perhaps for the last time before its removal."""

    def sends(self, line: "Line", meant: Member) -> None:
        """A removal is being sent; `meant` has the identity at this moment."""

    def ends(self, line: "Line", dispatch: str, jobs: list[Member]) -> None:
        """The end of a dispatch is being sent, which has these jobs, if it still is there."""

    def evicts(self, line: "Line", member: Member) -> None:
        """It has reached the server, and hits `member`."""

    def rejoins(self, line: "Line", before: Room, lost_at: float) -> None:
        """A bouncer has reconnected fully; `before` is the room as its patrol knew it at `lost_at`."""


class Streams:
    """Chance that can be had again: a stream of its own for each purpose, so that one more draw disturbs no other."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._streams: dict[str, Random] = {}

    def __call__(self, *purpose: object) -> Random:
        """The stream for a purpose."""
        name = " ".join(map(str, purpose))
        if name not in self._streams:
            self._streams[name] = Random(f"{self._seed} {name}")  # noqa: S311 - chance that can be had again
        return self._streams[name]


class Server:
    """The server, with one room."""

    def __init__(self, streams: Streams, trace: Callable[..., None]) -> None:
        self.loop = cast(VirtualLoop, asyncio.get_running_loop())
        self.streams = streams
        self.trace = trace
        self.now = self.loop.time()
        """The time on the server; behind the loop's while what happened in a frozen time is made up for."""
        self.members: dict[str, Member] = {}
        self.past: list[Member] = []
        self.dispatches: dict[str, Dispatch] = {}
        self.lines: list[Line] = []
        self.thawed_at = 0.0
        self.offset = 0.0
        """Seconds by which its clock is ahead."""
        self.happened_at = 0.0
        """When a participant last came, went or did something."""
        self.metadata: tuple[str, Meaning | None] = ("", Meaning({}))
        self.wanted: Callable[[Dispatch], None] = lambda _dispatch: None
        """Told of each bouncer that is dispatched by another."""
        self.lost: Callable[[Member, str, Line | None], None] = lambda _member, _how, _by: None
        """Told of everyone who is gone, and why."""
        self.kinds: Counter[str] = Counter()
        """How many of each kind of participant joined, and of what they did."""
        self.sids = count(1)
        self._dispatches = count(1)
        self._per_publisher: dict[str, bool] = {}
        """By agent name: whether its workers take one job for each human."""
        self._queue: list[tuple[float, int, Callable[[], object]]] = []
        self._order = count()
        self._pumping: asyncio.TimerHandle | None = None

    # Time

    def at(self, when: float, do: Callable[[], object]) -> None:
        """Have something happen on the server."""
        heapq.heappush(self._queue, (when, next(self._order), do))
        if self._pumping is None or when < self._pumping.when():
            self._pump_at(when)

    def after(self, seconds: float, do: Callable[[], object]) -> None:
        """Have something happen on the server in a while."""
        self.at(self.now + seconds, do)

    def _pump_at(self, when: float) -> None:
        if self._pumping:
            self._pumping.cancel()
        self._pumping = self.loop.call_at(when, self._pump)

    def _pump(self) -> None:
        while self._queue and self._queue[0][0] <= self.loop.time():
            when, _, do = heapq.heappop(self._queue)
            self.now = max(self.now, when)
            do()
        self._pumping = None
        if self._queue:
            self._pump_at(self._queue[0][0])

    def freeze(self, seconds: float) -> None:
        """Let no bouncer's process run for a while."""
        self.trace("frozen for", seconds)
        self.loop.skip(seconds)
        self.thawed_at = self.loop.time()

    # Who is here

    def dispatch(self, agent_name: str) -> Dispatch:
        """Ask for an agent."""
        name = normalize("NFC", agent_name)
        if name not in self._per_publisher:
            # The workers of one name have one job type.
            mine = self.streams("type", name).random() < 0.15
            self._per_publisher[name] = mine and name not in (NAME, OTHER)
        made = Dispatch(f"AD_{next(self._dispatches)}", agent_name, self._per_publisher[name])
        self.dispatches[made.id] = made
        return made

    def join(
        self, identity: str = "", *, joining: float = 0.05, dispatch: Dispatch | None = None, **facts: Any
    ) -> Member:
        """Let a participant join. Any other with its identity is dropped. A job without one is called by its id."""
        self.happened_at = self.loop.time()
        sid = f"PA_{next(self.sids)}"
        member = Member(sid=sid, identity=identity or f"agent-AJ_{sid}", joined_at=self.now, **facts)
        member.offset = self.offset
        member.active_at = self.now + joining
        member.state_at = self.now
        member.publishes |= member.audio
        if dispatch:
            member.dispatch, member.attributes = dispatch, {"lk.agent_name": dispatch.agent_name, **member.attributes}
            member.listed_at = self.now + self.streams("listed", sid).uniform(0.05, UNLISTED)
            dispatch.jobs.append(member)
        if old := self.members.get(member.identity):
            self.leave(old, "was dropped for a newcomer")
        self.members[member.identity] = member
        works = member.works or ("plays ambience" if member.ambience else "")
        self.trace("joined", member, member.kind, dispatch.id if dispatch else "", dict(member.attributes), works)
        self._announce(member)
        self.at(member.active_at, lambda: self._announce(member))
        return member

    def join_again(self, member: Member) -> Member:
        """Let a participant come back with the same token, without a job."""
        facts = {name: getattr(member, name) for name in LASTING}
        return self.join(member.identity, comes_back=member.comes_back, **facts)

    def leave(self, member: Member, how: str = "left", by: "Line | None" = None) -> None:
        """Let a participant leave."""
        if not member.here:
            return
        self.happened_at = self.loop.time()
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
        """Let a client die. It stays listed for a while."""
        if member.died_at is None:
            self.happened_at = self.loop.time()
            self.trace("died", member)
            self.speak(member, speaking=False)
            member.died_at = self.now
            self.after(self.streams("dead", member).uniform(*DEAD_LISTED), lambda: self.leave(member, "was found dead"))

    def active(self, member: Member) -> bool:
        """Return True if it is in the room and not JOINING any more."""
        return member.here and member.active_at <= self.now

    # What they do

    def set_attributes(self, member: Member, **attributes: str) -> None:
        """Change a participant's attributes."""
        self.happened_at = self.loop.time()
        state = attributes.get(STATE, member.state)
        if state != member.state:
            member.state_at = self.now
        self.trace("says", member, attributes)
        member.attributes = {**member.attributes, **attributes}
        self._announce(member)

    def act(self, member: Member, what: Act, whose: Member | None = None) -> None:
        """Let a participant send something, or do something with a track. Captions carry the speaker's name."""
        self.happened_at = self.loop.time()
        self.trace(what, member, whose or "")
        self.kinds[f"sends {what}"] += 1
        if what == "published":
            member.audio = member.publishes = True
        for line in self.lines:
            if self.loop.time() > self.now + FROZEN and not line.blind and member.sid in line.announced:
                line.coming[member.sid] = self.now
            line.later(line.random("signal").uniform(0.005, 0.015), partial(line.signal, member, what, self.now, whose))
            if what == "published":
                line.later(0.5, partial(line.hear, member))

    def step(self, seconds: float) -> None:
        """Put the server's clock, if everyone has been listed: else no one could know who came before."""
        known = [line.known.get(m.sid) for line in self.lines for m in self.members.values() if m is not line.me]
        if all(k and k.listed_at for k in known):
            self.trace("puts its clock", seconds)
            self.offset += seconds

    def restart(self) -> None:
        """The server restarts: it forgets dispatches and metadata, and everyone comes back with another sid."""
        self.trace("restarts")
        self.dispatches.clear()
        self.metadata = ("", Meaning({}))
        random = self.streams("restart")
        bouncers = [line.me for line in self.lines if not line.ended]
        for line in self.lines:
            line.interrupt(random.uniform(1.0, 4.0), full=True)
        for member in [m for m in self.members.values() if m not in bouncers]:
            self.leave(member, "was cut off")
            if member.died_at is None:
                self.after(random.uniform(0.3, 5.0), partial(self.join_again, member))

    def speak(self, member: Member, *, speaking: bool) -> None:
        """Let a participant become loud or quiet."""
        if speaking == (member.speaking_since is not None):
            return
        self.happened_at = self.loop.time()
        self.trace("speaks" if speaking else "falls silent", member)
        if speaking:
            member.speaking_since = self.now
        else:
            member.speaking_since, member.spoke_at = None, self.now
        for line in self.lines:
            late = line.random("hear").uniform(0.25, 0.8) if line.random("late").random() < 0.9 else HEARD_LATE - 0.05
            line.later(late, partial(line.hear, member))

    def write_metadata(self, text: str, meaning: Meaning | None) -> None:
        """The room's metadata are replaced."""
        self.happened_at = self.loop.time()
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
        joined_ms = round((member.joined_at + member.offset) * 1000)
        return Info(
            sid=member.sid,
            identity=member.identity,
            kind=member.kind,
            simulated=member.simulated,
            active=member.active_at <= self.now,
            joined_at=joined_ms / 1000 - line.offset + line.skew,
            joined_ms=joined_ms,
            attributes=member.attributes,
            name=member.name,
            metadata=member.metadata,
            audio=member.audio or member.ambience or member.works == "whisper",
            publications=member.publications,
            agent_grant=member.grant if listed else None,
            hidden=member.hidden if listed else None,
            recorder=member.recorder if listed else None,
            can_publish=not member.mute if listed else None,
            can_send_data=not member.mute if listed else None,
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
                        serves=member.serves,
                    )


class Line:
    """One bouncer's connection: what it is told, and the server's API as it finds it. It is the patrol's `RoomApi`."""

    def __init__(self, server: Server, me: Member, faults: tuple[Fault, ...] = ()) -> None:  # noqa: PLR0915
        self.server = server
        self.me = me
        self.fleet = me.dispatch.agent_name if me.dispatch else NAME
        """The agent name of its fleet's dispatches."""
        self.proven: set[str] = set()
        """The identities that a list of jobs ever showed to be of its fleet: a server that restarts forgets them."""
        self.budget = self.random("budget").choice((inf, inf, inf, 30, 60))
        """How many calls a minute its worker may make that aren't urgent."""
        self.faults = faults
        self.skew = self.random("skew").uniform(0.0, 0.1)
        """By how much what the server dates comes out late on our clock."""
        self.offset = 0.0
        """By how much the server's clock is ahead, as we last measured it: when a participant is announced."""
        self.asked_at = 0.0
        """When the last list of the participants was asked for, of which we had the answer."""
        self.patrol: Patrol = cast(Patrol, None)
        self.close: Callable[[], None] = lambda: None
        """Closes the patrol, once there is one."""
        self.shown = server.info(me, self, listed=False)
        """What our own SDK goes on showing of us."""
        self.known: dict[str, Known] = {}
        self.jobs: tuple[Job, ...] = ()
        """The last list of jobs."""
        self.surplus_since: float | None = None
        """Since which of our lists there were more bouncers than one that acts and one that stands by."""
        self.shown_jobs: dict[str, set[str]] = {}
        """By dispatch, the identities of all jobs that were ever listed, also of a dispatch that is deleted by now."""
        self.replaced: set[str] = set()
        """The jobs that a newer one of their dispatch, for the same publisher, was known to replace."""
        self.jobs_asked_at = 0.0
        self.last_lacked: set[str] = set()
        """The sids that the last list didn't show, though an event may have told of them since."""
        self.ours_asked_at = 0.0
        """When the jobs were last asked for and ours was among them."""
        """When the last list of jobs was asked for, of which we had the answer."""
        self.captions_at = -inf
        """When a transcription last came in the name of a participant that is no agent."""
        self.coming: dict[str, float] = {}
        """When a participant was last active while our process was frozen: the news is on its way to us."""
        self.announced: dict[str, tuple[bool, Mapping[str, str]]] = {}
        self.meanings: list[tuple[float, Meaning]] = []
        """What the metadata that we were told mean, and since when."""
        self.watching_since = 0.0
        self.listening_since = 0.0
        """Since when it has listened to the room, or hasn't."""
        self.blind = True
        self.losing = False
        """True while it is being lost fully: to us, everyone has left, or does at this moment."""
        self.ended = False
        self.hears = False
        self.drops = 0.0
        """The share of lists that lack a participant."""
        self.calls: Counter[str] = Counter()
        self.called_at: list[float] = []
        self.failed_at: list[float] = []
        self.heard_at = 0.0
        """When we last learnt of something, by an event or from a list."""
        self.told_at: list[float] = []
        """When we were told of something that is a reason to look at the lists."""
        self.decided: dict[str, bool] = {}
        """Whom our patrol ever decided to evict, and whether as another's avatar."""
        self.successors: set[str] = set()
        """The dispatches of the successors that we sent for: one that doesn't come is deleted."""
        self.leaving: set[str] = set()
        """Those of them for which it was sent, while the attempt lasts."""
        self.sent: list[tuple[float, Member]] = []
        """Whom we sent an eviction for, and when."""
        self.group: dict[str, str] = {}
        """By sid, who was decided on together with one of those, and by which policy: they may go in any case."""
        self.owed: dict[str, Meaning] = {}
        """Those of them who have to go, by sid, as long as that is what the metadata mean."""
        self.evicted: set[str] = set()
        """Those of them that left because of us, as far as we know."""
        self.read: dict[str, float] = {}
        """As of when each identity was last asked for by itself."""
        self.lists: list[float] = []
        """As of when the lists were, of which we had the answer."""
        self.pending: dict[str, float] = {}
        self.waiting: list[Callable[[], None]] = []
        self.judge: Judge = cast(Judge, None)
        self.dropped: dict[str, float] = {}
        self._backlog_at = 0.0

    def random(self, *purpose: object) -> Random:
        """The stream of chance for a purpose of this bouncer's."""
        return self.server.streams(self.me.identity, *purpose)

    # Events

    def later(self, seconds: float, do: Callable[[], None]) -> None:
        """Have something reach us in so many seconds; later if our process is frozen meanwhile."""

        def reach() -> None:
            now = self.server.loop.time()
            if now > self.server.now + 0.001:
                # Made up for after a frozen time: it takes a moment to come in.
                self._backlog_at = max(self._backlog_at, now) + self.random("backlog").uniform(0.0, 0.02)
                self.server.at(self._backlog_at, do)
            else:
                do()

        self.server.after(seconds, reach)

    def tell(self, event: Event) -> None:
        """Tell the patrol."""
        if isinstance(event, Joined | Connected):
            self.told_at.append(self.server.loop.time())
        self.heard_at = self.server.loop.time()
        if not self.ended:
            self.patrol.tell(event)

    def connect(self) -> None:
        """Be connected, for the first time or again."""
        self.blind, self.losing, self.watching_since = False, False, self.server.loop.time()
        others = [m for m in self.server.members.values() if m.sid in self.announced]
        self._lack_all(self.watching_since)
        self.server.trace("connected", self.me)
        self.tell(Connected(self.watching_since, self.shown, tuple(map(self._show, others))))
        for member in others:
            self.later(0.5, partial(self.hear, member))
            self._show_encryption(member)
        waiting, self.waiting = self.waiting, []
        for do in waiting:
            self.later(0.01, do)

    def _lack_all(self, as_of: float) -> None:
        """A list comes in: participants that it doesn't show are missing."""
        for known in self.known.values():
            known.lacked_at = as_of if known.lacked_at is None else known.lacked_at

    def first_look(self) -> None:
        """See who is here already."""
        for member in self.server.members.values():
            if not member.hidden:
                self.announced[member.sid] = (self.server.active(member), member.attributes)
        self.connect()

    def interrupt(self, seconds: float, *, full: bool, losing_for: float = 0.001) -> None:
        """Lose the connection for a while. If fully, to us everyone leaves and joins, and we get another sid.

        For a moment, everyone has left already and we aren't told yet that it is our connection.
        """
        if self.blind or self.ended:
            return
        self.server.trace("loses its connection" + (" fully" if full else ""), self.me, seconds)
        now, before = self.server.loop.time(), self.patrol.tracker.room()
        if full:
            self.losing = True
            for sid in self.announced:
                self.tell(Left(now, sid))
            self.announced.clear()
            self.server.after(losing_for, self._disconnect)
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
            if known.heard is not None or (not known.member.audio and not known.left_told):
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
            self.me.offset = self.offset = self.server.offset
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
        """Have what is new about a participant told, at once or with the next batch."""
        if self.blind or self.ended or member is self.me:
            return
        random = self.random("announce")
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
                    known.left_told, known.left_told_at, known.heard = True, now, None
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
            self.offset = member.offset
            self.tell(Joined(now, self._show(member)))
            self._show_encryption(member)
            if not member.audio:
                self.hear(member)

    def _show_encryption(self, member: Member) -> None:
        """Which packets are encrypted is told by an event of its own."""
        if member.works == "encrypted":
            self.tell(Encrypted(self.server.loop.time(), member.sid, encrypted=True))

    def _show(self, member: Member) -> Info:
        """Return a participant as events show it, and remember that we know."""
        info = self.server.info(member, self, listed=False)
        self._note(info, member, member.state_at, self.server.loop.time())
        return info

    def _note(self, info: Info, member: Member, state_at: float, as_of: float) -> Known:
        """Remember what we are told about a participant."""
        known, attributes = self.known.get(member.sid), info.attributes
        first = known is None
        if known is None:
            name = attributes.get("lk.agent_name") or attributes.get("lk.agent.name") or ""
            claims = attributes.get("lk.publish_on_behalf", "")
            joined_at = member.joined_at
            known = Known(member, self.server.loop.time(), name, claims, acted_at=joined_at, acted_told=joined_at)
            self._note_job(known)
            self._note_stay(known)
            self.known[member.sid] = known
        if first or known.lacked_at is not None or (known.active, known.attributes) != (info.active, attributes):
            self.heard_at = self.server.loop.time()
        known.left_told, known.lacked_at = False, None
        if as_of < known.as_of:
            return known
        known.as_of, known.active = as_of, info.active
        if not first and attributes != known.attributes:
            known.alive_at = self.server.now
        before, known.state = known.state, attributes.get(STATE, "")
        if not first:
            changed = [key for key in attributes if attributes[key] != known.attributes.get(key)]
            known.attributes_at |= dict.fromkeys(changed, self.server.loop.time())
        known.attributes = attributes
        known.guarded |= any(attributes.get(key, "") for key in (GUARDING, STANDING))
        if known.state != before:
            known.state_at, known.state_told = state_at, self.server.loop.time()
            if not first:
                known.reacted_at = self.server.loop.time()
            if {known.state, before} & {"thinking", "speaking"}:
                known.acted_at = max(known.acted_at, state_at)
                known.acted_told = self.server.loop.time()
            self._note_speech(known, state_at)
        self._note_replaced()
        self._note_adopted()
        return known

    def _note_stay(self, known: Known) -> None:
        """Remember since when it may be taken to be here: one that was away for long begins again."""
        known.since, first_seen = known.member.joined_at, known.told_at - self.skew
        known.first_since = min(known.since, first_seen)
        known.first_sid = known.member.sid
        if known.member.offset != self.offset or known.since + self.skew < self.asked_at:
            # Its date can't be right: it is from before the last list, which didn't show it, or yet to come.
            known.since = known.acted_at = known.told_at
            known.first_since = first_seen
        same = [k for k in self.known.values() if k.member.identity == known.member.identity]
        if not same:
            return
        before = same[-1]
        left_at = before.left_told_at if before.left_told else self.server.loop.time()
        if known.member.identity.startswith("agent-AJ_"):
            known.first_since, known.job = before.first_since, known.job or before.job
            known.jobs = known.jobs or before.jobs
        # A removal whose answer was lost may have been in vain.
        evicted = before.member.sid in self.evicted
        recent = self.server.loop.time() - left_at <= STAY_WITHIN
        alike = known.name == before.name and known.member.kind is before.member.kind
        if recent and not evicted and alike:
            known.first_sid = before.first_sid
            known.earlier_jobs = before.jobs
            known.since, known.acted_at = before.since, before.acted_at
            known.worked, known.wrote = before.worked, before.wrote
            known.acted_told, known.alive_at = before.acted_told, before.alive_at
            known.state, known.state_at, known.state_told = before.state, before.state_at, before.state_told
            dates = {key: before.attributes_at.get(key, 0.0) for key, value in before.attributes.items()}
            known.attributes_at = {
                key: dates[key] if before.attributes.get(key) == value else known.member.joined_at
                for key, value in known.member.attributes.items()
            }

    def _note_job(self, known: Known) -> None:
        """Remember a participant's dispatch, if the listed jobs tell it.

        An identity that isn't made from a job's id may be that of several, one after the other; and those that are over
        are listed too.
        """
        member = known.member
        jobs = [job for job in self.jobs if job.identity == member.identity]
        if not jobs:
            return
        others = [k for k in self.known.values() if k.member.identity == member.identity and k.member is not member]
        reused = others and not member.identity.startswith(JOB_IDENTITY)
        if not known.left_told and (not reused or self.jobs_asked_at >= member.joined_at):
            known.jobs = {job.job for job in jobs}
        if known.earlier_jobs and known.jobs - known.earlier_jobs:
            # Another job than the one before it, and another stay.
            known.since, known.first_sid = member.joined_at, member.sid
            known.acted_at, known.acted_told = max(known.acted_at, known.since), max(known.acted_told, known.since)
        unclear = reused and self.jobs_asked_at < member.joined_at + UNLISTED + 1.0
        known.job = None if unclear or len({(job.dispatch, job.serves) for job in jobs}) > 1 else jobs[-1]

    def may_be_of(self, known: Known, dispatch: str) -> bool:
        """Return True if a job of this dispatch ever had its identity: then we may take it for that job."""
        return known.member.identity in self.shown_jobs.get(dispatch, ())

    def claims(self, known: Known) -> str:
        """The agent whose avatar it may be, if the metadata allow it to be one; "" if there is none."""
        avatars = self.meanings[-1][1].avatars if self.meanings else None
        return names_principal(known) if avatars is None or selects(avatars, known) else ""

    def _note_adopted(self) -> None:
        """Keep in mind who was seen together with the principal that it names."""
        here = [k for k in self.known.values() if not k.left_told]
        principals = {k.member.identity for k in here if not self.claims(k)}
        for known in here:
            known.adopted |= self.claims(known) in principals

    def _note_replaced(self) -> None:
        """Remember which jobs have a newer one of their dispatch alongside."""
        sure = [k for k in self.known.values() if not k.left_told and k.lacked_at is None]
        # By identity: who was dropped for a newcomer may not have been told to have left yet.
        here = {k.member.identity: k for k in sure if k.active and is_agent(k.member)}.values()
        first: dict[str, Known] = {}
        for known in self.known.values():
            first.setdefault(known.member.identity, known)

        def job_age(known: Known) -> tuple[int, str]:
            # A job is as old as the first participant with its identity.
            of = first[known.member.identity] if known.member.identity.startswith(JOB_IDENTITY) else known
            return round(of.since * 1000), of.first_sid

        newest: dict[tuple[str, str], Job] = {}
        for known in sorted(here, key=job_age):
            if (job := known.job) and job.job not in self.replaced:
                if older := newest.get((job.dispatch, job.serves)):
                    self.replaced.add(older.job)
                newest[job.dispatch, job.serves] = job

    def _note_speech(self, known: Known, at: float, *, complete: bool = True) -> None:
        """Remember that a participant began or stopped speaking, if so."""
        claims = not self.hears and known.heard is None and known.state == "speaking"
        claims = claims and not known.claims and is_agent(known.member)
        speaking = not known.left_told and (known.heard is True or claims)
        if speaking == (known.speaking_since is not None):
            return
        known.reacted_at = max(known.acted_at, at)
        if not (claims if speaking else known.speech[-1].claimed):
            # What only its state says shows nothing that it did since it entered that state.
            known.acted_at, known.acted_told = max(known.acted_at, at), max(known.acted_told, at)
        if speaking:
            known.speech.append(Speech(at, self.server.loop.time(), claimed=claims))
        else:
            # That it stopped saying so may be told late; what is heard is dated back.
            known.speech[-1].until = self.server.loop.time() if known.heard is None else at
            ringing = known.attributes.get(CALL_STATUS) in RINGING
            # What a phone plays that still rings asks for no answer.
            if complete and known.heard is False and not ringing:
                known.speech[-1].ended_told = self.server.loop.time()

    def signal(self, member: Member, what: Act, at: float, whose: Member | None = None) -> None:
        """Take in a sign of life."""
        if what == "caption":
            self.caption(member, whose, at)
            return
        if what == "rpc" or self.blind or self.ended or member.sid not in self.announced:
            if what == "published":
                self.announce(member)
            return
        known, now = self.known[member.sid], self.server.loop.time()
        # A frozen process that had no timer running can't know that what it hears is old.
        known.alive_at = now
        if what != "muted":
            known.acted_at, known.acted_told = max(known.acted_at, at), now
        if what == "text":
            known.reacted_at, known.wrote = now, True
            self.tell(Transcribed(now, member.identity, "" if member.nameless else member.identity))
            if member.nameless and not (is_agent(member) and (known.listed_at or member.kind is Kind.AGENT)):
                # Only a list shows that a bot of another kind is an agent.
                self.captions_at = now
        else:
            known.worked |= what in ("data", "dtmf")
            known.wrote |= what == "bytes"
            channel = Channel(what) if what in ("data", "dtmf", "bytes") else Channel.TRACK
            self.tell(Signal(now, member.sid, what != "muted", what in ("published", "unmuted"), channel))
            if channel is Channel.TRACK:
                self.tell(Published(now, member.sid, member.publications))
            if what == "published" and self.hears and known.heard is None:
                self.tell(Heard(now, member.sid, None))

    def caption(self, writer: Member, whose: Member | None, at: float) -> None:
        """Take in a piece of a transcription in the name of another; who wrote it isn't always shown."""
        if self.blind or self.ended:
            return
        now = self.server.loop.time()
        if whose and whose.sid in self.announced:
            known = self.known[whose.sid]
            known.alive_at = known.reacted_at = now
            known.acted_at, known.acted_told, known.wrote = max(known.acted_at, at), now, True
            self.tell(Transcribed(now, whose.identity, "" if writer.nameless else writer.identity))
            if writer.nameless and not (is_agent(whose) and (known.listed_at or whose.kind is Kind.AGENT)):
                self.captions_at = now
        if writer.sid in self.announced and not writer.nameless:
            known = self.known[writer.sid]
            known.alive_at = now
            known.acted_at, known.acted_told, known.wrote = max(known.acted_at, at), now, True
            self.tell(Signal(now, writer.sid, channel=Channel.TEXT))

    def hear(self, member: Member) -> None:
        """Notice if a participant is loud by now."""
        if self.blind or self.ended or not self.hears or member.sid not in self.announced:
            return
        if not member.audio:
            if member.works == "whisper":
                return
            # A participant without a track is reported as silent.
            self.tell(Heard(self.server.loop.time(), member.sid, speaking=False))
            return
        known, loud = self.known[member.sid], member.speaking_since is not None
        if known.heard is loud:
            return
        at = max(member.speaking_since or member.spoke_at, self.watching_since, member.joined_at)
        if known.heard is None:
            at = self.server.loop.time()
            known.acted_at, known.acted_told = max(known.acted_at, at), at
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
            self.heard_at = self.server.loop.time()
            self.meanings.append((self.heard_at, meaning))
            hears = meaning.hears and meaning.mode != "off"
            if hears and not self.hears:
                for sid in self.announced:
                    self.later(0.5, partial(self.hear, self.known[sid].member))
            if hears != self.hears:
                self.hears, self.listening_since = hears, self.heard_at
            if not hears:
                self._stop_hearing()
            for known in self.known.values():
                self._note_speech(known, self.server.loop.time(), complete=False)
        self.told_at.append(self.server.loop.time())
        self.patrol.configure(text)

    # The API

    async def _call(self, name: str, do: Callable[[], T], *arguments: object) -> T:
        """Make a call: it takes effect at some instant between its beginning and its answer."""
        server, random = self.server, self.random("call", name)
        now = server.loop.time()
        self.calls[name] += 1
        self.called_at.append(now)
        self.judge.calls(self, name, *arguments)
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

    def _afford(self, *, urgent: bool) -> None:
        """See that there is a call left for this minute. Raises: ApiError."""
        now = self.server.loop.time()
        if not urgent and sum(at > now - 60.0 for at in self.called_at) >= self.budget:
            self.failed_at.append(now)
            if len(self.failed_at) > MOST_FAILURES:
                self.judge.broken("the loop doesn't spin", "what is refused is asked for again at once")
            raise ApiError(Trouble.THROTTLED, "simulated: no call is left")

    def _looks_for_successor(self) -> bool:
        """Return True if a hand-over asks, which keeps what it is told to itself."""
        return cast("asyncio.Task[None]", asyncio.current_task()).get_name() == HANDING_OVER

    async def list_participants(self, *, urgent: bool = False) -> tuple[Info, ...]:
        """Return everyone, as of some instant; at times one is missing."""

        def snapshot() -> tuple[float, list[tuple[Member, Info, float]]]:
            members = list(self.server.members.values())
            if self.random("drops").random() < self.drops:
                missing = self.random("dropped").choice(members)
                # Never in two lists in a row: only for a moment.
                if missing is not self.me and self.dropped.get(missing.sid, 0.0) <= self.server.now:
                    self.dropped[missing.sid] = self.server.now + 60.0
                    self.server.trace("list lacks", missing)
                    members.remove(missing)
            return self.server.now, [(m, self.server.info(m, self, listed=True), m.state_at) for m in members]

        self._afford(urgent=urgent)
        self.judge.asks(self)
        asked_at = self.server.loop.time()
        as_of, shown = await self._call("list_participants", snapshot)
        if self._looks_for_successor():
            return tuple(info for _, info, _ in shown)
        self.lists.append(as_of)
        self._lack_all(as_of)
        for member, info, state_at in shown:
            if member is not self.me:
                left_told = member.sid in self.known and self.known[member.sid].left_told
                seen = self._note(info, member, state_at, asked_at)
                if not seen.listed_at:
                    self.heard_at = seen.listed_at = self.server.loop.time()
                seen.left_told = left_told
        if any(known.lacked_at == as_of for known in self.known.values()):
            self.heard_at = self.server.loop.time()
        self.last_lacked = {sid for sid, known in self.known.items() if known.lacked_at is not None}
        self.asked_at = max(self.asked_at, asked_at)
        self.judge.listed(self)
        return tuple(info for _, info, _ in shown)

    async def list_jobs(self, *, urgent: bool = False) -> tuple[Job, ...]:
        """All jobs that are shown by now."""
        self._afford(urgent=urgent)
        asked_at = self.server.loop.time()
        jobs = await self._call("list_jobs", lambda: tuple(self.server.jobs()))
        if self._looks_for_successor():
            return jobs
        settled = [known.first_since + self.skew + UNLISTED + 1.0 for known in self.known.values()]
        if jobs != self.jobs or any(self.jobs_asked_at < at <= asked_at for at in settled):
            # That a job is not listed says something too, once it would have been.
            self.heard_at = self.server.loop.time()
        self.jobs_asked_at = max(self.jobs_asked_at, asked_at)
        if any(job.identity == self.me.identity for job in jobs):
            self.ours_asked_at = self.jobs_asked_at
        self.jobs = jobs
        self.proven |= {job.identity for job in jobs if job.agent_name == self.fleet}
        for job in jobs:
            self.shown_jobs.setdefault(job.dispatch, set()).add(job.identity)
        for known in self.known.values():
            self._note_job(known)
        self._note_replaced()
        return jobs

    async def get_participant(self, identity: str) -> Info | None:
        """Return the participant with this identity."""

        def look() -> tuple[float, Info | None]:
            member = self.server.members.get(identity)
            return self.server.now, self.server.info(member, self, listed=True) if member else None

        self.judge.asks(self)
        self.read[identity], info = await self._call("get_participant", look, identity)
        return info

    async def remove_participant(self, identity: str) -> bool:
        """Remove the participant with this identity."""
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

        return await self._call("remove_participant", remove, identity)

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
                        late = self.random("ending").choice((0.01, 0.05, 1.0, 3.0))
                        self.server.after(late, partial(self._over, member))
            return ended is not None

        return await self._call("delete_dispatch", end, dispatch)

    def _over(self, member: Member) -> None:
        """A job has ended, whatever sid it has by now: a bouncer may have reconnected meanwhile."""
        line = next((line for line in self.server.lines if line.me.identity == member.identity), None)
        self.server.leave(line.me if line else member, "was ended", self)

    async def send_data(self, payload: bytes) -> None:  # noqa: ARG002 - the protocol's
        """Send a message to the room."""
        await self._call("send_data", lambda: None)

    async def say(self, says: Says) -> None:
        """Set our own attributes."""
        attributes = {
            GUARDING: "true" if says is Says.GUARDING else "",
            STANDING: says if says is Says.UNCONFIGURED else "",
        }
        await self._call("say", lambda: self.server.set_attributes(self.me, **attributes), says)

    async def dispatch_successor(self) -> str:
        """Dispatch another bouncer."""

        def ask() -> str:
            dispatch = self.server.dispatch(self.fleet)
            self.successors.add(dispatch.id)
            self.server.wanted(dispatch)
            return dispatch.id

        return await self._call("dispatch_successor", ask)

    async def resign(self, why: str) -> None:  # noqa: ARG002 - as in the port
        """End our own job; what fails of it doesn't matter, since the job is over."""
        if dispatch := self.me.dispatch:
            with suppress(ApiError):
                await self._call("resign", lambda: self.server.dispatches.pop(dispatch.id, None))
        self.end()

    def end(self) -> None:
        """Be gone from the room, and hear no more."""
        self.server.leave(self.me, "resigned")
