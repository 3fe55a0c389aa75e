"""One simulated room, from its seed to its end: the real patrol in it, and whoever breaks a rule of ours."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

from bouncer.api import ApiError
from bouncer.observers import Configured, Decided, Evicted, Faulted, HeldBack, News, Refused, Reported, Troubled
from bouncer.patrol import Patrol
from bouncer.room import Kind
from bouncer.room import Room as Seen
from bouncer.tracker import Tracker
from policies import BUILTIN
from tests.simulation import plan
from tests.simulation.laws import check
from tests.simulation.livekit import NAME, STATE, Act, Dispatch, Line, Member, Server, is_agent
from tests.simulation.meaning import Meaning
from tests.simulation.oracle import EPSILON, forgotten, is_bouncer, is_surplus, objection, overdue
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
    "desk": 0.5,
    "rename": 0.5,
}
"""What happens in a room, and how often."""
MOST = 8
"""Participants in a room at the same time."""
LAWS_EVERY = 0.03
"""The share of the decisions on which the laws are checked: each costs a dozen decisions more."""
MOST_DECISIONS = 20_000
FIRST_PAUSE = 0.5
"""Seconds before what failed once is tried again, doubled each time."""
LONGEST_PAUSE = 30.0
SHORTENED, PROLONGED = 0.8, 1.2
"""What chance may make of a pause."""


@dataclass(slots=True)
class Outcome:
    """How a room went."""

    seed: int
    invariant: str = ""
    """What was broken; "" if nothing was."""
    what: str = ""
    began: float = 0.0
    at: float = 0.0
    trace: list[str] = field(default_factory=list)
    digest: str = ""
    decisions: int = 0
    evictions: int = 0
    calls: int = 0
    seconds: float = 0.0


def play(seed: int) -> Outcome:
    """Play one room. The same seed always gives the same trace."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(_play(seed, loop))
    finally:
        loop.close()


async def _play(seed: int, loop: VirtualLoop) -> Outcome:
    return await Room(seed, loop).play()


class Room:
    """A room while it is played. It is the judge of what its bouncers do."""

    def __init__(self, seed: int, loop: VirtualLoop) -> None:
        master = Random(seed)  # noqa: S311 - chance that can be had again
        self.random = Random(master.getrandbits(64))  # noqa: S311
        self.laws = Random(master.getrandbits(64))  # noqa: S311
        self.jitter = Random(master.getrandbits(64))  # noqa: S311
        self.loop = loop
        self.began = loop.time()
        self.log: list[tuple[float, tuple[Any, ...]]] = []
        self.outcome = Outcome(seed, began=self.began)
        self.over = asyncio.Event()
        self.server = Server(Random(master.getrandbits(64)), self.note)  # noqa: S311
        self.server.lost = self.lost
        loop.set_exception_handler(lambda _, context: self.broken("no exception escapes", str(context)))
        self.bouncers: list[Bouncer] = []
        events = self.random.choices((5, 10, 20, 40, 100), (3, 4, 4, 2, 1))[0]
        length = self.random.uniform(10.0, 20.0) + events * self.random.choice((0.1, 0.5, 1.0))
        self.calm_at = self.began + length
        """From when on faults stop and nobody does anything any more."""
        self.times = sorted(self.random.uniform(self.began, self.calm_at) for _ in range(events))
        self.malice = self.random.choice((0.0, 0.0, 0.3))
        self.redispatches = self.random.random() < 0.2
        self.ours: Any = plan.configuration(self.random)
        self.server.metadata = (plan.metadata(self.ours, self.random), Meaning(self.ours))
        self.server.wanted = self.send_bouncer
        self.several = self.random.random() < SEVERAL
        """Whether other bouncers come and go."""

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

    def asks(self, line: Line) -> None:
        """The worst moment: between the decision and the removal."""
        targets = [m for m in self.server.members.values() if m.sid in line.decided]
        if targets and self.random.random() < self.malice and self.loop.time() < self.calm_at:
            target = self.random.choice(targets)
            self.server.after(self.random.uniform(0.0, 0.04), lambda: self.spite(line, target))

    def sends(self, line: Line, meant: Member) -> None:
        """Look at a removal as it is sent."""
        bouncer, now = self.of(line), self.loop.time()
        bouncer.object(meant, max(line.read.get(meant.identity, 0.0), *line.lists))
        if now > bouncer.ended.get(meant.identity, 0.0) + 15.0:
            bouncer.charge(meant)
        line.sent.append((now, meant))

    def ends(self, line: Line, dispatch: str, jobs: list[Member]) -> None:
        """Look at the end of a dispatch as it is sent."""
        if dispatch in line.successors:
            return
        if jobs and all(is_bouncer(line, job) for job in jobs):
            if not all(is_surplus(line, job) for job in jobs if job.here):
                self.broken("no bouncer is sent away unless one acts and one stands by", str(jobs))
            return
        bouncer, now = self.of(line), self.loop.time()
        here = [k.member for k in line.known.values() if k.job and k.job.dispatch == dispatch and k.member.here]
        if decided := [member for member in here if member.sid in line.decided]:
            bouncer.charge(decided[0])
        for member in here:
            bouncer.ended[member.identity] = now
        for member in jobs:
            if member.here:
                bouncer.object(member, line.lists[-1])
        line.sent += [(now, member) for member in dict.fromkeys((*here, *jobs)) if member.here]

    def evicts(self, line: Line, member: Member) -> None:
        """Judge an eviction as it reaches the server. Who joined after it was sent is nobody's fault."""
        self.outcome.evictions += 1
        if reason := self.of(line).objections.get(member.sid):
            self.broken("nobody is evicted without right", f"{member}: {reason}")

    def rejoins(self, line: Line, before: Seen, lost_at: float) -> None:
        """Look at what is known once everybody has left and joined for a bouncer. It notices a freeze a little late."""
        frozen = self.server.thawed_at > lost_at - 5.0
        for what in forgotten(before, line.patrol.tracker.room(), frozen=frozen):
            self.broken("nothing is forgotten by a full reconnect", what)

    def of(self, line: Line) -> "Bouncer":
        """The bouncer of a line."""
        return next(b for b in self.bouncers if b.line is line)

    # The room

    async def play(self) -> Outcome:
        """Play it to the end."""
        for _ in range(self.random.choice((0, 1, 3, 5))):
            plan.arrival(self.server, self.random)
        self.add_bouncer(self.server.dispatch(NAME))
        for at in self.times:
            self.server.at(at, self.happen)
        self.server.at(self.calm_at, self.calm)
        try:
            async with asyncio.timeout_at(self.calm_at):
                await self.over.wait()
        except TimeoutError:
            pass
        if not self.outcome.invariant:
            await self.settle()
        for bouncer in self.bouncers:
            await bouncer.stop()
        out = self.outcome
        out.seconds = self.loop.time() - self.began
        out.trace = [f"{at - self.began:9.3f}  " + " ".join(map(str, what)) for at, what in self.log]
        out.digest = hashlib.sha256("\n".join(out.trace).encode()).hexdigest()
        out.calls = sum(len(b.line.called_at) for b in self.bouncers)
        return out

    async def settle(self) -> None:
        """Wait until everybody who is due has to be gone, and see whether they are."""
        meaning = Meaning(self.ours)
        bound = LONGEST_PAUSE * PROLONGED + 2.2 * meaning.reconcile + 25.0 + 60.0 * (MOST // meaning.budget)
        try:
            async with asyncio.timeout_at(max(self.calm_at, self.loop.time()) + bound + 25.0):
                await self.over.wait()
        except TimeoutError:
            pass
        for bouncer in self.bouncers:
            if bouncer.meaning and bouncer.guards:
                for what in overdue(bouncer.line, bouncer.meaning, self.loop.time() - bound):
                    self.broken("everybody who is due is gone in the end", what)
                for dispatch in bouncer.left_behind() if bouncer.meaning.mode != "off" else ():
                    self.broken("no dispatch is left whose jobs were all removed", dispatch)
                if bouncer.running.done():
                    self.broken("the loop never ends by itself", str(bouncer.line.me))
            bouncer.count_calls()
        if not any(bouncer.guards for bouncer in self.bouncers):
            self.broken("somebody guards the room in the end", "")

    def send_bouncer(self, dispatch: Dispatch) -> None:
        """Bouncers are there for whoever asks, mostly, and in a moment."""
        if self.random.random() < 0.8:
            self.server.after(self.random.uniform(0.3, 3.0), lambda: self.add_bouncer(dispatch))

    def add_bouncer(self, dispatch: Dispatch) -> None:
        """Let a bouncer into the room, unless nobody wants it any more."""
        if dispatch.id not in self.server.dispatches:
            return
        me = self.server.join(kind=Kind.AGENT, hidden=True, dispatch=dispatch, joining=0.0, grant=True)
        line = Line(self.server, me, plan.faults(self.random, self.began, self.calm_at))
        line.drops = self.random.choice((0.0, 0.0, 0.05))
        line.judge = self
        bouncer = Bouncer(self, line)
        self.bouncers.append(bouncer)
        self.server.lines.append(line)
        self.server.after(self.random.uniform(0.01, 1.0), bouncer.start)

    def change_bouncers(self) -> None:
        """One more bouncer comes, one is killed, or one whose worker ends hands the room over."""
        alive = [b for b in self.bouncers if b.guards]
        staying = [b for b in alive if b.line.me.dispatch and b.line.me.dispatch.id in self.server.dispatches]
        match self.random.choice(("comes", "is killed", "hands over")):
            case "comes" if len(self.bouncers) < MOST_BOUNCERS:
                self.add_bouncer(self.server.dispatch(NAME))
            case "is killed" if len(staying) > 1 and not any(bouncer.handing_over for bouncer in alive):
                self.random.choice(staying).die()
            case "hands over" if alive and len(self.bouncers) < MOST_BOUNCERS:
                self.random.choice(alive).hand_over()
            case _:
                pass

    def calm(self) -> None:
        """From now on nothing happens any more."""
        self.note("calm")
        for member in list(self.server.members.values()):
            self.server.speak(member, speaking=False)
        if self.random.random() < 0.7:
            self.ours = plan.configuration(self.random, mode="enforce")
            self.server.write_metadata(plan.metadata(self.ours, self.random), Meaning(self.ours))

    def lost(self, member: Member, how: str, by: Line | None) -> None:
        """Somebody is gone: some come back, some are replaced."""
        if self.server.now >= self.calm_at or how not in ("was removed", "was ended", "died"):
            return
        if by and member.comes_back:
            facts: dict[str, Any] = {
                "kind": member.kind,
                "attributes": member.attributes,
                "publishes": member.publishes,
            }
            self.later(0.2, 2.0, lambda: self.server.join(member.identity, comes_back=True, **facts))
        elif by and self.redispatches and member.dispatch:
            self.later(0.5, 3.0, lambda: self.replace(member))

    def replace(self, member: Member) -> None:
        """A job is started once more, in its dispatch if there still is one."""
        if member.dispatch and self.server.now < self.calm_at:
            again = self.server.dispatches.get(member.dispatch.id) or self.server.dispatch(member.dispatch.agent_name)
            facts: dict[str, Any] = {
                "hidden": member.hidden,
                "publishes": member.publishes,
                "publisher": member.publisher,
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
        random, server = self.random, self.server
        what = random.choices(*zip(*HAPPENS.items(), strict=True))[0]
        match what:
            case "join" if len(others) < MOST:
                plan.arrival(server, random)
            case "leave" if alive:
                server.leave(random.choice(alive))
            case "crash" if agents:
                self.crash(random.choice(agents))
            case "state" if agents:
                server.set_attributes(random.choice(agents), **{STATE: random.choice(plan.STATES)})
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
            case "freeze":
                seconds = random.choice((0.5, 3.0, 8.0))
                if agents:
                    # What a freeze could make wrong: somebody does something meanwhile.
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
        """Somebody does something, if they are still here."""
        acts: tuple[Act, ...] = ("data", "text")
        if not actor.attributes.get("lk.publish_on_behalf"):
            acts = (*acts, "unmuted", "muted") if actor.audio else (*acts, "published")
        if actor.here:
            self.server.act(actor, self.random.choice(acts))

    def rename(self, agent: Member) -> None:
        """An agent calls itself something else."""
        self.server.set_attributes(agent, **{"lk.agent_name": self.random.choice(plan.NAMES)})

    def crash(self, member: Member) -> None:
        """A client dies; its job may be started again at once, beside the corpse."""
        self.server.crash(member)
        if self.random.random() < 0.6:
            self.later(0.3, 3.0, lambda: self.replace(member))

    def take_identity(self, member: Member) -> None:
        """Somebody else joins with an identity that is taken: a person, or an agent."""
        facts: dict[str, Any] = {"kind": Kind.AGENT, "attributes": member.attributes}
        if self.random.random() < 0.5:
            facts = {}
        self.server.join(member.identity, publishes=self.random.random() < 0.5, **facts)

    def change(self, whom: str = "") -> None:
        """The metadata change."""
        text, meaning, self.ours = plan.change(self.random, self.ours, whom)
        self.server.write_metadata(text, meaning)

    def spite(self, line: Line, member: Member) -> None:
        """What could make an eviction wrong that is about to be carried out."""
        random, server = self.random, self.server
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
            case "state" if member.kind is Kind.AGENT:
                server.set_attributes(member, **{STATE: "thinking"})
            case "blind":
                line.interrupt(random.uniform(0.3, 3.0), full=random.random() < 0.5)
            case _:
                pass


class Bouncer:
    """A patrol of the real engine in the room, and what it says of itself."""

    def __init__(self, room: Room, line: Line) -> None:
        self.room = room
        self.line = line
        self.objections: dict[str, str] = {}
        self.ended: dict[str, float] = {}
        self.removed: dict[str, str] = {}
        """Whom it removed, by sid, and from which dispatch as far as it knew."""
        self.charged: list[float] = []
        self.attempts: list[float] = []
        self.failures: Counter[str] = Counter()
        self.not_before: dict[str, float] = {}
        """When somebody may be tried to be evicted again, by sid."""
        self.reported: set[tuple[str, str]] = set()
        self.trying: dict[str, str] = {}
        """Whom it is evicting, by sid, and the rule."""
        self.went: dict[str, str] = {}
        """Whom it has evicted, by sid, and the rule."""
        self.grounds: dict[str, tuple[Seen, Any, dict[str, str]]] = {}
        """What it last decided on somebody by: the room, the configuration, and whom it was evicting by which rule."""
        self.config: Any = None
        self.handing_over = False
        self.tasks: list[asyncio.Task[None]] = []
        self.running: asyncio.Task[None]

    @property
    def guards(self) -> bool:
        """Whether it is in the room, and its process runs."""
        return bool(self.tasks) and not self.line.ended

    def start(self) -> None:
        """Connect, be configured, and guard."""
        room, line = self.room, self.line
        if line.ended:
            return
        self.patrol = line.patrol = Patrol(
            tracker=Tracker(), api=line, registry=BUILTIN, observers=(self,), jitter=room.jitter.random
        )
        line.close = self.patrol.close
        line.first_look()
        line.configure(*room.server.metadata)
        self.running = room.loop.create_task(self.patrol.run())
        self.tasks = [self.running, room.loop.create_task(self._say_guarding())]

    def hand_over(self) -> None:
        """Its worker is to end: see that another bouncer comes."""
        self.room.note("hands over", self.line.me)
        self.tasks.append(self.room.loop.create_task(self._hand_over()))

    async def _hand_over(self) -> None:
        self.handing_over = True
        await self.patrol.hand_over()

    def die(self) -> None:
        """Its process is killed; the server lists it for a while yet."""
        self.line.ended = True
        for task in self.tasks:
            task.cancel()
        self.room.server.crash(self.line.me)

    async def _say_guarding(self) -> None:
        try:
            await self.line.say_guarding(guarding=True)
        except ApiError:
            self.room.note("could not say that it guards")

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

    def object(self, member: Member, looked_at: float) -> None:
        """Keep in mind what speaks against an eviction that is being sent, as of when the bouncer last looked."""
        reason = objection(self.line, self.meaning, member)
        if member.sid not in self.line.decided:
            # Between that look and the removal nobody can know who joins, or takes an identity.
            reason = "nobody decided on it" if member.joined_at <= looked_at else ""
        self.objections[member.sid] = reason
        self.line.leaving.add(member.sid)

    def count_calls(self) -> None:
        """See that no minute had more calls to the API than there were reasons for."""
        line, began = self.line, self.room.began
        for minute in range(int((self.room.loop.time() - began) / 60) + 1):
            # A bouncer that stands by looks each 5 s.
            reconcile = min([15.0, *(m.reconcile for _, m in line.meanings), *([5.0] if self.room.several else [])])
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
        """Note an attempt at somebody, and see that it began a while after the last one failed, ever longer."""
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
        """See that it didn't give up on somebody while everything was as when it decided, but for whom it removed.

        By another rule, or with its principal, somebody may leave for whose sake this one had to.
        """
        seen, config, together = self.grounds[sid]
        tracker, now, gone = self.patrol.tracker, self.patrol.tracker.room(), frozenset(self.went)
        rules = {
            *together.values(),
            *self.trying.values(),
            *(self.went.get(p.sid, together[sid]) for p in seen.participants),
        }
        as_it_was = (
            now.watching_since == seen.watching_since
            and now.without(gone).participants == seen.without(gone).participants
            and now.humans_left_at == seen.humans_left_at
            and self.patrol.config == config
            and rules == {together[sid]}
            and together.keys() <= self.trying.keys() | gone
            and not (tracker.blind or tracker.unsure)
        )
        if as_it_was:
            self.room.broken("nothing is called off for no reason", sid)

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

    def charge(self, member: Member) -> None:
        """Count a removal against the budget of a minute. Avatars that follow cost nothing."""
        now = self.room.loop.time()
        if self.line.decided.get(member.sid, True):
            return
        self.charged = [at for at in self.charged if at > now - 60.0] + [now]
        most = max((m.budget for at, m in self.line.meanings if at > now - 20.0), default=0)
        most = max(most, self.meaning.budget if self.meaning else 0)
        if len(self.charged) > most:
            self.room.broken("the budget is kept", f"{len(self.charged)} removals in a minute, {most} are allowed")

    def notify(self, news: News) -> None:  # noqa: C901, PLR0912 - as many as there are kinds of news
        """Listen to what the patrol says."""
        room = self.room
        match news:
            case Decided(at, seen, decision):
                room.outcome.decisions += 1
                self.line.decided |= {f.participant.sid: f.follows for f in decision.evictions}
                self.trying |= {f.participant.sid: "follows" if f.follows else f.rule.id for f in decision.evictions}
                grounds = (seen, self.patrol.config, dict(self.trying))
                self.grounds |= dict.fromkeys((f.participant.sid for f in decision.evictions), grounds)
                if self.line.blind:
                    room.broken("nothing is decided while blind", "")
                if room.outcome.decisions > MOST_DECISIONS:
                    room.broken("the loop doesn't spin", "")
                if room.laws.random() < LAWS_EVERY and (law := check(self.patrol, at, seen, decision, room.laws)):
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
            case Evicted(finding, outcome, took, why):
                if outcome == "void" and why.endswith("due"):
                    self.called_off(finding.participant.sid)
                rule = self.trying.pop(finding.participant.sid, "")
                self.line.leaving.discard(finding.participant.sid)
                if outcome in ("removed", "left"):
                    self.line.evicted.add(finding.participant.sid)
                    self.went[finding.participant.sid] = rule
                if outcome == "removed" and not finding.participant.publisher:
                    self.removed[finding.participant.sid] = finding.participant.dispatch
                self.pause(finding.participant.sid, outcome, took)
                due = f"due {finding.verdict.due - room.began:.3f}"
                room.note("evicted", finding.participant.sid, finding.rule.id, due, outcome, f"in {took:.3f} s")
            case Faulted(fault):
                room.broken("no policy fails", f"{fault.rule.id}: {fault.error}")
            case Troubled(doing, error):
                room.note("trouble", doing, error)
                if not isinstance(error, ApiError):
                    room.broken("nothing unexpected is raised", f"{doing}: {type(error).__name__}: {error}")
            case _:
                room.note(type(news).__name__)
