"""One simulated room, from its seed to its end, with the real patrol in it, and participants that break the rules."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Any

from bouncer.decide import Decision, Finding, HeldBy
from bouncer.guard.patrol import Patrol
from bouncer.guard.watch import Watch
from bouncer.observers import Configured, Decided, Evicted, Failing, Faulted, HeldBack, News, Refused, Reported
from bouncer.observers.messages import RoomMessages
from bouncer.ports import ApiError
from bouncer.room import Kind
from bouncer.room import Room as Seen
from bouncer.tracker import Tracker
from policies import BUILTIN
from tests.dates import records
from tests.simulation import plan
from tests.simulation.laws import check
from tests.simulation.livekit import (
    GUARDING,
    HANDING_OVER,
    NAME,
    OTHER,
    STATE,
    Act,
    Dispatch,
    Line,
    Member,
    Server,
    Streams,
    is_agent,
)
from tests.simulation.meaning import TOGETHER, Meaning
from tests.simulation.oracle import (
    EPSILON,
    age,
    forgotten,
    is_bouncer,
    is_ours,
    is_surplus,
    lacked,
    may_be_kept,
    objection,
    overdue,
    undeniable,
)
from tests.virtual import VirtualLoop

SEVERAL = 0.25
"""The share of rooms in which bouncers come and go."""
MOST_BOUNCERS = 4
HAPPENS = {
    "join": 10,
    "leave": 5,
    "crash": 3,
    "state": 9,
    "act": 8,
    "speak": 9,
    "again": 1.5,
    "metadata": 2,
    "freeze": 0.6,
    "blind": 2,
    "restart": 0.15,
    "clock": 0.5,
    "desk": 0.5,
    "rename": 0.5,
}
"""What happens in a room, and how often."""
MORE_OF: Mapping[str, Mapping[str, float]] = {
    "chatter": {"speak": 30},
    "work": {"act": 20, "freeze": 2},
    "malice": {"desk": 5},
}
"""What happens more often in rooms of a theme."""
MOST = 8
"""Participants in a room at the same time."""
LAWS_EVERY = 0.03
"""The share of the decisions on which the laws are checked: each costs a dozen decisions more."""
MOST_DECISIONS = 20_000
FIRST_PAUSE = 0.5
"""Seconds before what failed once is tried again, doubled each time."""
LONGEST_PAUSE = 30.0
PROMPT = 1.0
"""Seconds after it came due in which an agent has to be on its way out, where nothing else happens."""
REVIVED = 3.0
"""Seconds after a gap in watching in which it may not be known yet who is alive."""
SENT_AWAY_AFTER = 25.0
"""Seconds for which there have to be too many bouncers before one is sent away."""
LONGEST_LADDER = 3.5
"""Seconds between the end of a dispatch and the removal of who stays all the same, at most."""
SHORTENED, PROLONGED = 0.8, 1.2
"""What chance may make of a pause."""


@dataclass(slots=True)
class Played:
    """How a room went."""

    seed: int
    invariant: str = ""
    """What was broken; "" if nothing was."""
    what: str = ""
    began: float = 0.0
    at: float = 0.0
    trace: list[str] = field(default_factory=list)
    digest: str = ""
    """Of the trace."""
    record: list[str] = field(default_factory=list)
    """What the bouncers decided, did, called and told: all that another shape of the engine must not change."""
    decisions: int = 0
    evictions: int = 0
    calls: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    """How many of each kind of participant joined, and of what they did."""
    seconds: float = 0.0


def play(seed: int, make_watch: Callable[..., Watch] = Watch, theme: str | None = None) -> Played:
    """Play one room, of this theme or of any. The same seed and theme always give the same trace."""
    loop = VirtualLoop(io=False)
    try:
        return loop.run_until_complete(_play(seed, loop, make_watch, theme))
    finally:
        loop.close()


async def _play(seed: int, loop: VirtualLoop, make_watch: Callable[..., Watch], theme: str | None) -> Played:
    return await Room(seed, loop, make_watch, theme).play()


class Room:
    """A room while it is played. It is the judge of what its bouncers do."""

    def __init__(
        self, seed: int, loop: VirtualLoop, make_watch: Callable[..., Watch] = Watch, theme: str | None = None
    ) -> None:
        self.make_watch = make_watch
        self.streams = Streams(str(seed))
        self.random, self.laws = self.streams("plan"), self.streams("laws")
        self.loop = loop
        self.began = loop.time()
        self.log: list[tuple[float, tuple[Any, ...]]] = []
        self.record: list[tuple[float, tuple[Any, ...]]] = []
        self.outcome = Played(seed, began=self.began)
        self.over = asyncio.Event()
        self.server = Server(self.streams, self.note)
        self.server.lost = self.lost
        loop.set_exception_handler(lambda _, context: self.broken("no exception escapes", str(context)))
        self.bouncers: list[Bouncer] = []
        events = self.random.choices((5, 10, 20, 40, 100), (3, 4, 4, 2, 1))[0]
        length = self.random.uniform(10.0, 20.0) + events * self.random.choice((0.1, 0.5, 1.0))
        self.calm_at = self.began + length
        """When faults stop and no one does anything any more."""
        self.times = sorted(self.random.uniform(self.began, self.calm_at) for _ in range(events))
        self.malice = self.random.choice((0.0, 0.0, 0.3))
        self.redispatches = self.random.random() < 0.2
        any_theme = self.random.choices(list(plan.THEMES), (6, 2, 2, 1, 1, 1))[0]
        self.theme = any_theme if theme is None else theme
        self.malice = 0.7 if self.theme == "malice" else self.malice
        who_is_who = plan.who_is_who(self.random, self.theme)
        self.ours: Any = plan.configuration(self.random, theme=self.theme, before=who_is_who)
        self.server.metadata = (plan.metadata(self.ours, self.random), Meaning(self.ours))
        self.server.wanted = self.send_bouncer
        self.several = self.random.random() < SEVERAL
        """True if other bouncers come and go."""

    # What the trace says

    def note(self, *what: Any) -> None:
        """Add a line to the trace."""
        self.log.append((self.loop.time(), what))

    def broken(self, invariant: str, what: str) -> None:
        """An invariant doesn't hold. Only the first counts."""
        if not self.outcome.invariant:
            self.outcome.invariant, self.outcome.what, self.outcome.at = invariant, what, self.loop.time()
            self.note("BROKEN", invariant, what)
        self.over.set()

    # The judge

    def calls(self, line: Line, name: str, *arguments: object) -> None:
        """Record a call to the API."""
        if name == "dispatch_successor" and line.me.attributes.get(GUARDING):
            self.broken("a successor is sent for once the claim is given up, not before", str(line.me))
        self.record.append((self.loop.time(), (line.me.identity, "calls", name, *arguments)))

    def listed(self, line: Line) -> None:
        """Note since when there have been too many bouncers."""
        surplus = any(is_surplus(line, k.member) for k in line.known.values() if k.active and not k.left_told)
        line.surplus_since = (line.surplus_since or self.loop.time()) if surplus else None

    def asks(self, line: Line) -> None:
        """Here it may be tempted: it asks for the list that the removal rests on."""
        self.tempt(line, [m for m in self.server.members.values() if m.sid in line.decided], within=0.04)

    def tempt(self, line: Line, targets: list[Member], within: float) -> None:
        """The worst moment: between the decision and the removal."""
        random = line.random("malice")
        if targets and random.random() < self.malice and self.loop.time() < self.calm_at:
            target = random.choice(targets)
            self.server.after(random.uniform(0.0, within), lambda: self.spite(line, target))

    def sends(self, line: Line, meant: Member) -> None:
        """Look at a removal as it is sent."""
        bouncer, now = self.of(line), self.loop.time()
        bouncer.object(meant)
        alike = [k.member for k in line.known.values() if k.member.identity == meant.identity]
        # Another may have taken the identity meanwhile.
        bouncer.charge(meant if meant.sid in bouncer.trying else next(filter(bouncer.is_to_charge, alike), meant))
        bouncer.commit([meant])
        line.sent.append((now, meant))

    def ends(self, line: Line, dispatch: str, jobs: list[Member]) -> None:
        """Look at the end of a dispatch as it is sent."""
        if dispatch in line.successors:
            return
        bouncer, now = self.of(line), self.loop.time()
        meant = [k.member for k in line.known.values() if line.may_be_of(k, dispatch)]
        unsent = [member for member in meant if bouncer.is_to_charge(member)]
        if jobs and not unsent and all(is_bouncer(line, job) for job in jobs):
            here = [job for job in jobs if job.here]
            if not all(is_surplus(line, job) for job in here):
                self.broken("no bouncer is sent away unless one acts and one stands by", str(jobs))
            if here and now < (line.surplus_since or inf) + SENT_AWAY_AFTER - EPSILON:
                self.broken("no bouncer is sent away before there have been too many for a while", str(jobs))
            return
        here = [k.member for k in line.known.values() if k.job and k.job.dispatch == dispatch and k.member.here]
        if still_here := [member for member in unsent if member.here]:
            bouncer.charge(still_here[0])
        else:
            bouncer.in_vain += [(now, member) for member in unsent]
        for member in jobs:
            if member.here:
                bouncer.object(member)
        bouncer.commit(here)
        # One that another bouncer has just ended is taken for ended by this one.
        ended = [k.member for k in line.known.values() if k.job and k.job.dispatch == dispatch and not k.left_told]
        line.sent += [(now, member) for member in dict.fromkeys((*ended, *(job for job in jobs if job.here)))]
        self.tempt(line, here, within=LONGEST_LADDER)

    def evicts(self, line: Line, member: Member) -> None:
        """Judge an eviction as it reaches the server. Those that joined after it was sent could not be known."""
        self.outcome.evictions += 1
        if reason := self.of(line).objections.get(member.sid):
            self.broken("no one is evicted without right", f"{member}: {reason}")

    def rejoins(self, line: Line, before: Seen, lost_at: float) -> None:
        """Check what is known once everyone has left and joined for a bouncer. It notices a freeze a little late."""
        frozen = self.server.thawed_at > lost_at - 5.0
        for what in forgotten(before, line.patrol.tracker.room(), frozen=frozen):
            self.broken("nothing is forgotten by a full reconnect", what)

    def of(self, line: Line) -> "Bouncer":
        """The bouncer of a line."""
        return next(b for b in self.bouncers if b.line is line)

    # The room

    async def play(self) -> Played:
        """Play it to the end."""
        for _ in range(self.random.choice((0, 1, 3, 5))):
            plan.arrival(self.server, self.random, self.theme)
        self.add_bouncer(self.server.dispatch(NAME))
        if self.streams("fleets").random() < SEVERAL / 3:
            self.add_bouncer(self.server.dispatch(OTHER))
        for at in self.times:
            self.server.at(at, self.happen)
        self.server.at(self.calm_at, self.calm)
        inspection = self.loop.create_task(self._inspect())
        try:
            async with asyncio.timeout_at(self.calm_at):
                await self.over.wait()
        except TimeoutError:
            pass
        if not self.outcome.invariant:
            await self.settle()
        inspection.cancel()
        for bouncer in self.bouncers:
            await bouncer.stop()
        out = self.outcome
        out.seconds = self.loop.time() - self.began
        out.trace = [f"{at - self.began:9.3f}  " + " ".join(map(str, what)) for at, what in self.log]
        out.digest = hashlib.sha256("\n".join(out.trace).encode()).hexdigest()
        # Sorted, so that the order of what happens at one instant makes no difference.
        out.record = [
            f"{at:.3f} {text}"
            for at, text in sorted((round(at - self.began, 3), " ".join(map(str, what))) for at, what in self.record)
        ]
        out.calls = sum(len(b.line.called_at) for b in self.bouncers)
        out.kinds = self.server.kinds
        return out

    async def _inspect(self) -> None:
        """Check now and then that everyone who is due is on the way out."""
        random = self.streams("inspection")
        while True:
            await asyncio.sleep(random.uniform(0.5, 1.5))
            for bouncer in self.bouncers:
                for what in bouncer.late():
                    self.broken("who is due leaves at once", what)

    async def settle(self) -> None:
        """Wait until everyone who is due must be gone, and check that they are."""
        meaning = Meaning(self.ours)
        bound = LONGEST_PAUSE * PROLONGED + 2.2 * meaning.reconcile + 25.0 + 60.0 * (MOST // meaning.budget)
        try:
            async with asyncio.timeout_at(max(self.calm_at, self.loop.time()) + bound + 25.0):
                await self.over.wait()
        except TimeoutError:
            pass
        for bouncer in self.bouncers:
            if bouncer.meaning and bouncer.guards:
                for what in overdue(bouncer.line, bouncer.meaning, self.loop.time() - bound).values():
                    self.broken("everyone who is due is gone in the end", what)
                for dispatch in bouncer.left_behind() if bouncer.meaning.mode != "off" else ():
                    self.broken("no dispatch is left whose jobs were all removed", dispatch)
                if bouncer.running.done():
                    self.broken("the loop never ends by itself", str(bouncer.line.me))
            bouncer.count_calls()
        if not any(bouncer.guards for bouncer in self.bouncers):
            self.broken("a bouncer guards the room in the end", "")

    def send_bouncer(self, dispatch: Dispatch) -> None:
        """Bouncers come when dispatched, mostly, and in a moment."""
        random = self.streams("successor", dispatch.id)
        if random.random() < 0.8:
            self.server.after(random.uniform(0.3, 3.0), lambda: self.add_bouncer(dispatch))

    def add_bouncer(self, dispatch: Dispatch) -> None:
        """Let a bouncer into the room, unless its dispatch is gone."""
        if dispatch.id not in self.server.dispatches:
            return
        me = self.server.join(kind=Kind.AGENT, hidden=True, dispatch=dispatch, joining=0.0, grant=True)
        random = self.streams("bouncer", me.identity)
        line = Line(self.server, me, plan.faults(random, self.began, self.calm_at))
        line.drops = random.choice((0.0, 0.0, 0.05, 0.2))
        line.judge = self
        bouncer = Bouncer(self, line)
        self.bouncers.append(bouncer)
        self.server.lines.append(line)
        self.server.after(random.uniform(0.01, 1.0), bouncer.start)

    def change_bouncers(self) -> None:
        """One more bouncer comes, one is killed, or one whose worker ends hands the room over."""
        alive = [b for b in self.bouncers if b.guards]
        staying = [b for b in alive if b.line.me.dispatch and b.line.me.dispatch.id in self.server.dispatches]
        match self.random.choice(("comes", "is killed", "hands over")):
            case "comes" if len(self.bouncers) < MOST_BOUNCERS:
                self.add_bouncer(self.server.dispatch(NAME))
            case "is killed" if len(staying) > 1 and not any(bouncer.handing_over for bouncer in alive):
                self.random.choice(staying).die()
            case "hands over" if len(self.bouncers) < MOST_BOUNCERS and (
                staying := [bouncer for bouncer in alive if not bouncer.handing_over]
            ):
                self.random.choice(staying).hand_over()
            case _:
                pass

    def calm(self) -> None:
        """From now on nothing happens any more."""
        self.note("calm")
        for member in list(self.server.members.values()):
            self.server.speak(member, speaking=self.theme == "chatter" and member.audio and is_agent(member))
        if self.random.random() < 0.7:
            self.ours = plan.configuration(self.random, mode="enforce", theme=self.theme, before=self.ours)
            self.server.write_metadata(plan.metadata(self.ours, self.random), Meaning(self.ours))

    def lost(self, member: Member, how: str, by: Line | None) -> None:
        """Someone has left: some come back, some are replaced."""
        if self.server.now >= self.calm_at or how not in ("was removed", "was ended", "died"):
            return
        if by and member.comes_back:
            self.later(0.2, 2.0, lambda: self.server.join_again(member))
        elif by and self.redispatches and member.dispatch:
            self.later(0.5, 3.0, lambda: self.replace(member))

    def replace(self, member: Member) -> None:
        """A job is started once more, in its dispatch if there still is one."""
        if member.dispatch and self.server.now < self.calm_at:
            again = self.server.dispatches.get(member.dispatch.id) or self.server.dispatch(member.dispatch.agent_name)
            facts: dict[str, Any] = {
                "hidden": member.hidden,
                "publishes": member.publishes,
                "serves": member.serves,
            }
            self.server.join(kind=Kind.AGENT, dispatch=again, **facts)

    def later(self, low: float, high: float, do: Callable[[], object]) -> None:
        """Have something happen after a while, unless all is calm by then."""

        def unless_calm() -> None:
            if self.server.now < self.calm_at:
                do()

        self.server.after(self.random.uniform(low, high), unless_calm)

    def happen(self) -> None:  # noqa: C901, PLR0912 - as many as there are things that happen
        """Something happens."""
        if self.several and self.random.random() < 0.1:
            self.change_bouncers()
        others = [m for m in self.server.members.values() if m not in [b.line.me for b in self.bouncers]]
        alive = [m for m in others if m.died_at is None and m.active_at <= self.server.now]
        agents = [m for m in alive if m.kind is Kind.AGENT]
        actors = [m for m in agents if not m.works]
        random, server = self.random, self.server
        happens = {**HAPPENS, **MORE_OF.get(self.theme, {})}
        what = random.choices(*zip(*happens.items(), strict=True))[0]
        match what:
            case "join" if len(others) < MOST:
                plan.arrival(server, random, self.theme)
            case "leave" if alive:
                server.leave(random.choice(alive))
            case "crash" if agents:
                self.crash(random.choice(agents))
            case "state" if actors:
                server.set_attributes(random.choice(actors), **{STATE: random.choice(plan.STATES)})
            case "desk" if agents:
                server.set_attributes(random.choice(agents), desk=random.choice("12"))
            case "rename" if agents:
                self.rename(random.choice(agents))
            case "act" if alive:
                self.act(random.choice(alive))
            case "speak" if talkers := [m for m in alive if m.audio]:
                talker = random.choice(talkers)
                server.speak(talker, speaking=talker.speaking_since is None)
            case "again" if alive:
                self.take_identity(random.choice(alive))
            case "metadata":
                self.change()
            case "restart":
                server.restart()
            case "clock" if not self.several:
                server.step(random.choice((-310.0, 310.0, 3600.0)))
            case "freeze":
                seconds = random.choice((0.5, 3.0, 8.0))
                if agents:
                    # What a freeze could make wrong: someone does something meanwhile.
                    server.after(random.uniform(0.0, seconds), partial(self.act, random.choice(agents)))
                server.freeze(seconds)
            case "blind":
                full = random.random() < 0.5
                for agent in agents:
                    # What counts is how it called itself at first sight, which is not to be seen afterwards.
                    if full and random.random() < 0.3:
                        self.rename(agent)
                for bouncer in self.random.sample(self.bouncers, (len(self.bouncers) + 1) // 2):
                    bouncer.line.interrupt(random.uniform(0.3, 5.0), full=full)
            case _:
                pass

    def act(self, actor: Member) -> None:
        """Let a participant do something, if it is still here."""
        if actor.works:
            self.work(actor)
            return
        acts: tuple[Act, ...] = ("data", "text")
        if not actor.attributes.get("lk.publish_on_behalf"):
            acts = (*acts, "unmuted", "muted") if actor.audio else (*acts, "published")
        if actor.here:
            self.server.act(actor, self.random.choice(acts))

    def work(self, worker: Member) -> None:
        """One that works in a way of its own does so."""
        match worker.works:
            case "caption" if spoken := [m for m in self.server.members.values() if not m.hidden and m is not worker]:
                self.server.act(worker, "caption", self.random.choice(spoken))
            case "encrypted":
                self.server.act(worker, "data")
            case "rpc" | "dtmf" | "bytes" as act:
                self.server.act(worker, act)
            case _:
                pass

    def rename(self, agent: Member) -> None:
        """An agent calls itself something else."""
        self.server.set_attributes(agent, **{"lk.agent_name": self.random.choice(plan.NAMES)})

    def crash(self, member: Member) -> None:
        """A client dies; its job may be started again at once, next to the corpse."""
        self.server.crash(member)
        if self.random.random() < 0.6:
            self.later(0.3, 3.0, lambda: self.replace(member))

    def take_identity(self, member: Member) -> None:
        """Someone else joins with an identity that is taken: a person, or an agent."""
        facts: dict[str, Any] = {"kind": Kind.AGENT, "attributes": member.attributes}
        if self.random.random() < 0.5:
            facts = {}
        self.server.join(member.identity, publishes=self.random.random() < 0.5, **facts)

    def change(self, exempt: str = "") -> None:
        """The metadata change."""
        text, meaning, self.ours = plan.change(self.random, self.ours, self.theme, exempt)
        self.server.write_metadata(text, meaning)

    def spite(self, line: Line, member: Member) -> None:
        """What could make an eviction wrong that is about to be carried out."""
        random, server = line.random("spite"), self.server
        if not member.here:
            return
        what = random.choice(("exempt", "exempt", "human", "leave", "taken", "elder", "state", "blind"))
        self.note("now of all times:", what, member)
        match what:
            case "exempt":
                self.change(member.identity)
            case "human":
                server.join(random.choice(plan.HUMAN_NAMES), publishes=True, joining=0.0)
            case "leave":
                server.leave(member)
            case "taken":
                self.take_identity(member)
            case "elder":
                others = [m for m in server.members.values() if m.kind is Kind.AGENT and m is not member]
                if others and (elder := random.choice(others)) is not line.me:
                    server.leave(elder)
            case "state" if member.kind is Kind.AGENT and not member.works:
                server.set_attributes(member, **{STATE: "thinking"})
            case "blind":
                # What is told of everyone's leaving may come between a list and its answer.
                losing_for = line.random("losing").choice((0.001, 0.03)) if self.theme == "malice" else 0.001
                line.interrupt(random.uniform(0.3, 3.0), full=random.random() < 0.5, losing_for=losing_for)
            case _:
                pass


class Bouncer:
    """A patrol of the real engine in the room, and what it says of itself."""

    def __init__(self, room: Room, line: Line) -> None:
        self.room = room
        self.line = line
        self.objections: dict[str, str] = {}
        self.objected_at: dict[str, float] = {}
        """When that was looked at last."""
        self.removed: dict[str, str] = {}
        """Whom it removed, by sid, and from which dispatch as far as it knew."""
        self.charged: list[tuple[float, Member]] = []
        """When removals were sent that cost some of the budget, each once."""
        self.in_vain: list[tuple[float, Member]] = []
        """When a dispatch was ended whose job had just left by itself: it may have cost some of the budget."""
        self.paid: set[str] = set()
        """The sids of those that it is evicting, and has sent something for."""
        self.attempts: list[float] = []
        self.failures: Counter[str] = Counter()
        self.not_before: dict[str, float] = {}
        """When an eviction may be tried again, by sid."""
        self.reported: set[tuple[str, str]] = set()
        self.trying: dict[str, str] = {}
        """Whom it is evicting, by sid, and the rule."""
        self.together: dict[str, tuple[str, set[str], set[str]]] = {}
        """By sid: the policy that decided on it and others, which others, and which of them had to go for certain."""
        self.owed_since: dict[str, float] = {}
        """When another was first sent away that was decided on together with one, but under another rule; by sid."""
        self.spared_at = 0.0
        """When an eviction last ended without one: its share of the budget is free again, and it stays in its group."""
        self.config: Any = None
        self.handing_over = False
        self.decided: tuple[str, ...] = ()
        self.messages = RoomMessages(self.record_message, records(now=self.room.loop.time))
        self.tasks: list[asyncio.Task[None]] = []
        self.running: asyncio.Task[None]

    @property
    def guards(self) -> bool:
        """True if it is in the room, and its process runs."""
        return bool(self.tasks) and not self.line.ended

    def start(self) -> None:
        """Connect, be configured, and guard."""
        room, line = self.room, self.line
        if line.ended:
            return
        self.patrol = line.patrol = Patrol(
            tracker=Tracker(my_agent_name=line.fleet),
            api=line,
            registry=BUILTIN,
            observers=(self,),
            jitter=lambda purpose: line.random("jitter", purpose).random(),
            make_watch=room.make_watch,
            computed=lambda: 0.0,
        )
        line.close = self.patrol.close
        line.first_look()
        line.configure(*room.server.metadata)
        self.running = room.loop.create_task(self.patrol.run())
        self.tasks = [self.running, room.loop.create_task(self.messages.run())]

    def hand_over(self) -> None:
        """Its worker is to end: see that another bouncer comes."""
        self.room.note("hands over", self.line.me)
        # At once: while our process is frozen the hand-over doesn't begin, and no worker ends twice.
        self.handing_over = True
        self.tasks.append(self.room.loop.create_task(self.patrol.hand_over(), name=HANDING_OVER))

    def die(self) -> None:
        """Its process is killed; the server lists it for a while yet."""
        self.line.ended = True
        for task in self.tasks:
            task.cancel()
        self.room.server.crash(self.line.me)

    async def stop(self) -> None:
        """Be closed."""
        if self.tasks:
            self.patrol.close()
            for task in self.tasks[1:]:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)

    @property
    def meaning(self) -> Meaning | None:
        """What the last valid metadata mean, as far as it was told of them."""
        return self.line.meanings[-1][1] if self.line.meanings else None

    def object(self, member: Member) -> None:
        """Keep in mind what speaks against an eviction that is being sent, as far as the bouncer can know."""
        line = self.line
        reason = objection(line, self.meaning, member)
        if member.sid not in line.decided:
            # Of one that no event has told of yet, and that the last list lacked or was too early for, no one can know.
            shown = member.sid in line.known or member.joined_at <= line.read.get(member.identity, 0.0)
            reason = "no one decided on it" if shown else ""
        self.objections[member.sid] = reason
        self.objected_at[member.sid] = self.room.loop.time()
        self.line.leaving.add(member.sid)

    def decide_together(self, decision: Decision, now: float) -> None:
        """Note who was decided on because of each other; and who of those that are owed is held back rightly."""
        certain = {f.key for f in (*decision.evictions, *(h.finding for h in decision.held if h.by is HeldBy.BUDGET))}
        by_rule: dict[str, list[Finding]] = {}
        for f in decision.findings:
            if f.rule.policy.name in TOGETHER and f.rule.action == "evict" and f.verdict.due <= now:
                by_rule.setdefault(f.rule.id, []).append(f)
        now_evicted = {f.participant.sid for f in decision.evictions}
        under_way = {s: group for s, group in self.together.items() if s in self.trying and s not in now_evicted}
        self.together = under_way | {
            f.participant.sid: (
                f.rule.policy.name,
                {other.participant.sid for other in group},
                {other.participant.sid for other in group if other.key in certain},
            )
            for group in by_rule.values()
            for f in group
        }
        for hold in decision.held:
            if hold.by is not HeldBy.BUDGET:
                self.line.owed.pop(hold.finding.participant.sid, None)

    def commit(self, members: Iterable[Member]) -> None:
        """A participant is being sent away: those decided on together with it are owed."""
        for member in members:
            policy, others, certain = self.together.get(member.sid, ("", set(), set()))
            self.line.group |= dict.fromkeys(others - self.line.group.keys(), policy)
            # If the oldest, which may stay, leaves under another rule, one of the others may stay instead of it.
            rules = self.meaning.rules if self.meaning else ()
            spares = any(r.policy == policy == "lone_chatter" and r["keep"] == "oldest" for r in rules)
            if self.meaning and not (spares and self.trying.keys() - others):
                if self.trying.get(member.sid, "").partition("[")[0] != policy:
                    self.owed_since = dict.fromkeys(certain, self.room.loop.time()) | self.owed_since
                self.line.owed |= dict.fromkeys(certain, self.meaning)

    def count_calls(self) -> None:
        """See that no minute had more calls to the API than there were reasons for."""
        line, began = self.line, self.room.began
        for minute in range(int((self.room.loop.time() - began) / 60) + 1):
            # A bouncer that stands by looks each 5 s.
            stands_by = self.room.several or any(is_ours(line, k.member) for k in line.known.values())
            reconcile = min([15.0, *(m.reconcile for _, m in line.meanings), *([5.0] if stands_by else [])])
            at = began + 60 * minute

            def within(dates: Iterable[float], before: float, at: float = at) -> int:
                return sum(at - before <= date < at + 60 for date in dates)

            agents = within((k.told_at for k in line.known.values() if is_agent(k.member)), 10)
            allowed = (
                # Two lists at each regular look.
                2 * (60 / (0.9 * reconcile) + 2)
                # The same each second, until an agent's dispatch is listed or can't be any more.
                + 2 * 8 * agents
                # The same for whatever hints at a change, and to see again who is lacked by a list.
                + 4 * within(line.told_at, 2)
                # An attempt: two looks before it, two as it is made, the calls, four proofs, one look after it.
                + 14 * within(self.attempts, 10)
                # To hand over, the two lists each second, until a successor is there.
                + (130 if self.handing_over else 0)
                # What failed, and what is tried again for it: the lists, and one dispatch that is to be deleted.
                + 4 * within(line.failed_at, 2)
            )
            if (calls := within(line.called_at, 0)) > allowed:
                self.room.broken("no minute has too many API calls", f"{calls}, and {allowed:.0f} are explained")

    def pause(self, sid: str, outcome: str, took: float) -> None:
        """Note an attempt, and check that it began long enough after the last one failed, longer each time."""
        now = self.room.loop.time()
        self.attempts.append(now)
        if now - took < self.not_before.get(sid, 0.0) - EPSILON:
            self.room.broken("what fails is tried again ever more seldom", f"{sid}, {self.failures[sid]} times")
        if outcome in ("failed", "void"):
            self.failures[sid] += 1
            self.not_before[sid] = now + min(FIRST_PAUSE * 2 ** (self.failures[sid] - 1), LONGEST_PAUSE) * SHORTENED
        elif outcome == "denied":
            self.not_before[sid] = now + LONGEST_PAUSE * SHORTENED

    def called_off(self, sid: str) -> None:
        """Check that it didn't give up on a participant that would still have to leave."""
        line, meaning = self.line, self.meaning
        others = self.trying.keys() - {sid}
        if meaning is None or line.losing or line.blind or self.obeys() or (meaning.keep_last and others):
            # Which agent is the last may depend on the others that are leaving.
            return
        if line.asked_at < line.watching_since:
            # It has just reconnected, and no list since then has shown it the room.
            return
        # Our clock may date it later than it was.
        owed = undeniable(line, meaning, self.room.loop.time() - line.skew - EPSILON, self.trying.keys())
        # What is called off as the other is sent under another rule is decided on again, and owed then.
        if sid in owed and self.owed_since.get(sid) != self.room.loop.time():
            self.room.broken("nothing is called off for no reason", owed[sid])

    def obeys(self) -> bool:
        """Return True if an older bouncer guards the room, as far as this one was told."""
        line = self.line
        others = [k for k in line.known.values() if k.attributes.get(GUARDING) and k.active and not k.left_told]
        ours = (k for k in others if k.member.identity in line.proven and k.member.hidden)
        return any(age(k) < age(line.me) for k in ours)

    def late(self) -> Iterable[str]:
        """Find out who is due and not on the way out, though nothing new was learnt for a while."""
        line, meaning, now = self.line, self.meaning, self.room.loop.time()
        if not self.guards or meaning is None or line.blind or self.obeys():
            return ()
        known_at = max(
            line.heard_at,
            self.spared_at,
            line.watching_since + REVIVED,
            self.room.server.thawed_at + REVIVED,
            *(fault.end + LONGEST_PAUSE * PROLONGED for fault in line.faults if fault.begin < now),
        )
        # One that the last list lacked may be there all the same, and due before the others.
        lacking = {sid for sid in lacked(line) if is_agent(line.known[sid].member)}
        setting_out = self.trying.keys() - self.paid
        if known_at > now - PROMPT or self.spent() + len(setting_out | lacking) >= meaning.budget:
            return ()
        owed = undeniable(line, meaning, now - PROMPT, self.trying.keys())
        waiting = {sid for sid in owed if self.has_its_share(sid, meaning.budget)}
        late = {
            sid: what
            for sid, what in owed.items()
            if sid not in self.trying.keys() | waiting and self.not_before.get(sid, 0.0) < now - LONGEST_PAUSE
        }
        # Of all that are due, one may be kept: the others wait, and it stays.
        kept = waiting and len(late) == 1 and may_be_kept(line, meaning, owed)
        return () if kept else late.values()

    def spent(self) -> int:
        """Return how much of the budget of a minute may be spent, or was a moment ago."""
        return sum(at > self.room.loop.time() - 60.0 - PROMPT for at, _ in (*self.charged, *self.in_vain))

    def has_its_share(self, sid: str, budget: int) -> bool:
        """Return True if so many earlier participants of the same identity were removed that this one has to wait."""
        identity, since = self.line.known[sid].member.identity, self.room.loop.time() - 60.0 - PROMPT
        sent = (*self.charged, *self.in_vain)
        return sum(at > since and m.identity == identity and m.sid != sid for at, m in sent) * 2 >= budget

    def ended(self, news: Evicted) -> None:
        """Take in how an eviction has ended."""
        finding, outcome, line = news.finding, news.outcome, self.line
        who = finding.participant
        if outcome == "void" and news.why.endswith("due"):
            self.called_off(who.sid)
        self.outcome_is_true(line.known[who.sid].member, outcome, news.why)
        self.trying.pop(who.sid, "")
        self.paid.discard(who.sid)
        line.leaving.discard(who.sid)
        for sid, at in list(self.objected_at.items()):
            if at == self.room.loop.time() and sid in line.decided and sid != who.sid and self.objections[sid]:
                # That this one stays was known when the other was sent, and is told to us only now.
                self.object(line.known[sid].member)
        if outcome in ("removed", "left"):
            line.evicted.add(who.sid)
        elif outcome != "gone":
            self.spared_at = self.room.loop.time()
        if outcome == "removed" and not who.serves:
            self.removed[who.sid] = who.dispatch
        self.pause(who.sid, outcome, news.took)
        due = f"due {finding.verdict.due - self.room.began:.3f}"
        self.room.note("evicted", who.sid, finding.rule.id, due, outcome, f"in {news.took:.3f} s")

    def outcome_is_true(self, member: Member, outcome: str, why: str) -> None:
        """See that what it says of an eviction is so."""
        left_at = member.left_at
        if outcome in ("removed", "left", "gone") and member.here and not (self.line.losing or self.line.blind):
            self.room.broken("what is said of an eviction is true", f"{member} {outcome}, and is here")
        if why.startswith("it is still there") and left_at is not None and left_at < self.room.loop.time() - 3.0:
            self.room.broken("what is said of an eviction is true", f"{member} is not still there")

    def left_behind(self) -> list[str]:
        """The dispatches that are still there though it removed all who ever were of them, or had a job's identity."""
        server = self.room.server
        ever = (*server.past, *server.members.values())
        left = []
        for dispatch in server.dispatches.values():
            jobs = {member.identity for member in dispatch.jobs}
            if jobs and all(self.removed.get(m.sid) == dispatch.id for m in ever if m.identity in jobs):
                left.append(dispatch.id)
        return left

    def is_to_charge(self, member: Member) -> bool:
        """Return True if a removal of this one is yet to be sent. An avatar that leaves with its principal is free."""
        evicting = member.sid in self.trying and member.sid not in self.paid
        return evicting and not self.line.decided.get(member.sid, True)

    def charge(self, member: Member) -> None:
        """Count a removal, or the end of a dispatch before it, against the budget of a minute."""
        now = self.room.loop.time()
        if not self.is_to_charge(member):
            return
        self.paid.add(member.sid)
        self.charged = [(at, who) for at, who in self.charged if at > now - 60.0] + [(now, member)]
        meanings = self.line.meanings
        ends = [*(at for at, _ in meanings[1:]), inf]
        # What is under way was allowed by the configuration that was in force when it was decided on.
        most = max((m.budget for (_, m), end in zip(meanings, ends, strict=True) if end > now - 20.0), default=0)
        most = max(most, self.meaning.budget if self.meaning else 0)
        if len(self.charged) > most:
            self.room.broken("the budget is kept", f"{len(self.charged)} removals in a minute, {most} are allowed")

    def record_decision(self, decision: Decision) -> None:
        """Record a decision that is another one than the last."""

        def of(findings: Iterable[Finding]) -> str:
            return ",".join(f"{f.participant.sid}/{f.rule.id}@{f.verdict.due - self.room.began:.3f}" for f in findings)

        holds = ",".join(f"{hold.by}:{of([hold.finding])}" for hold in decision.held)
        wake_at = "" if decision.wake_at is None else f"{decision.wake_at - self.room.began:.3f}"
        says = (
            of(decision.evictions),
            of(decision.reports),
            of(decision.notices),
            holds,
            of(decision.pending),
            wake_at,
        )
        if says != self.decided:
            self.decided = says
            self.room.record.append((self.room.loop.time(), (self.line.me.identity, "decides", *says)))

    async def record_message(self, message: bytes) -> None:
        """Record what the room is told."""
        self.room.record.append((self.room.loop.time(), (self.line.me.identity, "tells", message.decode())))

    def notify(self, news: News) -> None:  # noqa: PLR0912 - as many as there are kinds of news
        """Listen to what the patrol says."""
        room = self.room
        self.messages.notify(news)
        match news:
            case Decided(_, _, decision):
                room.outcome.decisions += 1
                self.record_decision(decision)
                self.decide_together(decision, news.at)
                for what in self.late() if {f.participant.sid for f in decision.evictions} - self.trying.keys() else ():
                    room.broken("who is due leaves at once", what)
                self.line.decided |= {f.participant.sid: f.free for f in decision.evictions}
                self.trying |= {f.participant.sid: "follows" if f.follows else f.rule.id for f in decision.evictions}
                if self.line.blind:
                    room.broken("nothing is decided while blind", "")
                if room.outcome.decisions > MOST_DECISIONS:
                    room.broken("the loop doesn't spin", "")
                if room.laws.random() < LAWS_EVERY and (law := check(self.patrol, news, room.laws)):
                    room.broken("the laws hold", law)
            case Configured(config):
                if config != self.config:
                    self.config = config
                    self.reported.clear()
                room.note("configured", config.mode)
            case Refused():
                room.note("refused")
            case Reported(finding):
                room.note("reports", finding.participant.sid, finding.rule.id)
                if finding.key in self.reported:
                    room.broken("what is reported is reported once", str(finding.key))
                self.reported.add(finding.key)
            case HeldBack(hold):
                room.note("holds back", hold.finding.participant.sid, hold.by)
            case Evicted():
                self.ended(news)
            case Faulted(fault):
                room.broken("no policy fails", f"{fault.rule.id}: {fault.error}")
            case Failing(doing, error):
                room.note("trouble", doing, error)
                if not isinstance(error, ApiError):
                    room.broken("nothing unexpected is raised", f"{doing}: {type(error).__name__}: {error}")
            case _:
                room.note(type(news).__name__)
