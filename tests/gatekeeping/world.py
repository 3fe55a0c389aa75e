"""A simulated LiveKit with thousands of rooms, gatekeepers that look after them, and faults. All of it in virtual time.

It knows what is true, and shows of it what the real one does: webhooks that may be lost, repeated or late, lists that
are right at the moment they are made, and dispatches that open a room that is gone. A seed decides everything.
"""

import heapq
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from random import Random

from bouncer.ports import ApiError, Trouble
from gatekeeper.doors import Doors
from gatekeeper.records import (
    Bouncer,
    Command,
    Create,
    Dispatch,
    ListBouncers,
    ListDispatches,
    ListRooms,
    News,
    Remove,
    Room,
    Sight,
    TakeBack,
    Webhook,
)

CALL_LIMIT = 3.0
"""Seconds after which a call without an answer is given up."""
CROWDED_FOR = 62.0
"""Seconds for which a room may have a bouncer too many: a minute, and two looks of the judge."""
CORPSE = (20.0, 23.0)
"""Seconds for which the bouncers of a killed worker are still listed."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is like."""

    rooms: int = 300
    seconds: float = 400.0
    lifetime: float = 200.0
    """The mean of a room's; the number of rooms stays about the same."""
    guarded: bool = False
    """True if the rooms are there at the start, each with a bouncer: another gatekeeper has been at work."""
    brief: float = 0.05
    """The part of the rooms that end at once."""
    webhooks: float = 25.0
    """People's comings and goings a second, in all rooms."""
    per_minute: int = 3000
    gatekeepers: int = 1
    workers: int = 4
    with_webhooks: bool = True
    when_needed: bool = False
    """True if rooms need a bouncer now and then only, and bouncers that aren't needed leave."""
    faults: tuple[str, ...] = ()
    """Of: lossy, restart, away, killed, idle (no worker takes anything), wiped (LiveKit restarts)."""
    fault_at: float = 100.0
    fault_for: float = 60.0

    @property
    def fault_ends(self) -> float:
        """When the last fault is over, and what it left behind is no longer listed."""
        if not self.faults:
            return 0.0
        return self.fault_at + self.fault_for + (CORPSE[1] if "killed" in self.faults else 0.0)


@dataclass(slots=True, eq=False)
class SimDispatch:
    """A dispatch, with the bouncers that came of it."""

    id: str
    mark: str
    identities: set[str] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class SimBouncer:
    """A bouncer in a room."""

    sid: str
    identity: str
    joined_ms: int
    dispatch: str
    worker: int
    ready: bool = False


@dataclass(slots=True, eq=False)
class SimRoom:
    """A room that is open."""

    sid: str
    name: str
    off: bool = False
    people: int = 0
    ghost: bool = False
    needed: bool = True
    opened_at: float = 0.0
    used_at: float = 0.0
    """Since when there have been people."""
    bouncers: dict[str, SimBouncer] = field(default_factory=dict)
    dispatches: dict[str, SimDispatch] = field(default_factory=dict)
    unguarded_since: float = math.inf
    crowded_since: float = math.inf


class Gatekeeper:
    """One gatekeeper's process: the real `Doors`, and a driver for virtual time."""

    def __init__(self, world: "World", index: int) -> None:
        self.world, self.index = world, index
        self.doors = Doors(world.plan.per_minute, world.now, world.random.random, self._needed)
        self.up = True
        self.blind = False
        """True if its last list of all rooms got no answer."""
        self.needs: dict[str, bool] = {}
        """True if a room needs a bouncer, as its last webhook or list showed it."""
        self.listed: dict[str, float] = {}
        """When the last list that showed a sid was requested."""
        self.awaiting: dict[str, float] = {}
        """Sids that it dispatched into and that have no bouncer yet, and when."""
        self.cpu = 0.0
        self._wakes_at = math.inf

    def _needed(self, sid: str, _: float) -> bool:
        return self.needs.get(sid, True)

    def tell(self, webhook: Webhook, *, needed: bool) -> None:
        """Deliver a webhook, which shows whether the room needed a bouncer then."""
        if self.up:
            self.needs[webhook.room.sid] = needed
            began = time.process_time()
            self.doors.tell(webhook)
            self.cpu += time.process_time() - began
            self.wake(self.world.now)

    def wake(self, at: float) -> None:
        """Have it step at that time at the latest."""
        if at < self._wakes_at:
            self._wakes_at = at
            self.world.at(at, lambda: self._step(at))

    def _step(self, at: float) -> None:
        if not self.up or at != self._wakes_at:
            return
        self._wakes_at = math.inf
        began = time.process_time()
        step = self.doors.step(self.world.now)
        self.cpu += time.process_time() - began
        for news in step.news:
            self.world.said(self, news)
        for command in step.commands:
            self.world.call(self, command)
        if not math.isinf(step.wake_at):
            if step.wake_at <= self.world.now and not step.commands:
                self.world.broken("it doesn't spin", f"asks to be woken at {step.wake_at}, now")
            self.wake(max(step.wake_at, self.world.now + 1e-6))

    def answer(self, command: Command, answer: object) -> None:
        """Deliver the answer to a call."""
        if self.up:
            if isinstance(command, ListRooms) and not command.sids:
                self.blind = isinstance(answer, ApiError)
            began = time.process_time()
            self.doors.answered(command, answer, self.world.now)
            self.cpu += time.process_time() - began
            self.wake(self.world.now)


class World:
    """LiveKit, its customers, its faults, and the judge."""

    def __init__(self, seed: int, plan: Plan) -> None:
        self.plan = plan
        self.now = 0.0
        self.random = Random(seed)  # noqa: S311 - a simulation
        self.rooms: dict[str, SimRoom] = {}
        """By name."""
        self.sids: dict[str, SimRoom] = {}
        self.failures: list[str] = []
        self.events: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.digest = 0
        self.waits: list[float] = []
        """How long rooms that opened had no bouncer, when there was no fault."""
        self.longest = 0.0
        """The longest that a room had no bouncer, since it opened, lost it, or the faults ended."""
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count(1)
        self._made_at: dict[str, list[float]] = {}
        self._call_times: dict[int, list[float]] = {}
        self._crowd: list[SimRoom] = []
        self._closed_at: dict[str, float] = {}
        self.gatekeepers = [Gatekeeper(self, index) for index in range(plan.gatekeepers)]

    # The machinery

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Do something at that time."""
        heapq.heappush(self._queue, (when, next(self._numbers), what))

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        """Do something in so many seconds."""
        self.at(self.now + seconds, what)

    def broken(self, invariant: str, what: str) -> None:
        """Note that an invariant is broken."""
        self.failures.append(f"{self.now:.3f} s: it was not so that {invariant}: {what}")

    def faulty(self, kind: str) -> bool:
        """Return True while a fault is on."""
        plan = self.plan
        return kind in plan.faults and plan.fault_at <= self.now < plan.fault_at + plan.fault_for

    def play(self) -> None:
        """Play it all."""
        plan, random = self.plan, self.random
        for _ in range(plan.rooms):
            self.at(0.0 if plan.guarded else random.uniform(0, 20.0), self.open)
        self.after(20.0, self._comings)
        if "restart" in plan.faults:
            self.at(plan.fault_at, self._stop)
            self.at(plan.fault_at + plan.fault_for, self._start)
        if "killed" in plan.faults:
            self.at(plan.fault_at, self._kill_workers)
        if "wiped" in plan.faults:
            self.at(plan.fault_at + plan.fault_for, self._wipe)
        for gatekeeper in self.gatekeepers:
            gatekeeper.wake(0.0)
        self.after(1.0, self._look)
        while self._queue and self._queue[0][0] <= plan.seconds:
            self.now, _, what = heapq.heappop(self._queue)
            what()
        self._finally()

    # What customers do

    def open(self, name: str = "") -> None:
        """Open a room, with what its token brings along."""
        random = self.random
        name = name or f"room-{next(self._numbers)}"
        if name in self.rooms:
            return
        room = self._room(name)
        room.off = random.random() < 0.03
        room.people = 1
        if self.plan.guarded and not self.now:
            self._arrive(room, room.dispatches.setdefault(room.sid, SimDispatch(room.sid, room.sid)))
        elif random.random() < 0.1:
            self._dispatch(room, mark="")
        brief = random.random() < self.plan.brief
        lasts = random.choice((0.1, 2.0)) * random.random() if brief else random.expovariate(1 / self.plan.lifetime)
        self.after(lasts, lambda: self.close(room))
        if self.plan.when_needed:
            room.needed = False
            self.after(random.expovariate(1 / 60.0), lambda: self._need(room))

    def _need(self, room: SimRoom) -> None:
        """Have an agent come, or go, that makes a bouncer needed. One that isn't needed leaves after a while."""
        if self.sids.get(room.sid) is not room:
            return
        room.needed = not room.needed
        if room.needed:
            room.unguarded_since = math.inf if room.bouncers else self.now
        else:
            self.after(10.0, lambda: self._go(room))
        self._hook(Sight.JOINED, room)
        self.after(self.random.expovariate(1 / 60.0), lambda: self._need(room))

    def _go(self, room: SimRoom) -> None:
        if not room.needed:
            for bouncer in list(room.bouncers.values()):
                room.dispatches.pop(bouncer.dispatch, None)
                self._leave(room, bouncer)

    def close(self, room: SimRoom) -> None:
        """Close a room, and open another one: often at once, and under the same name."""
        if self.rooms.get(room.name) is not room:
            return
        del self.rooms[room.name], self.sids[room.sid]
        self._closed_at[room.sid] = self.now
        self._hook(Sight.FINISHED, room)
        if room.people:
            again = self.random.random() < 0.2
            self.after(self.random.uniform(0.0, 2.0 if again else 4.0), lambda: self.open(room.name if again else ""))

    def _room(self, name: str) -> SimRoom:
        room = SimRoom(f"RM_{next(self._numbers)}", name, opened_at=self.now, unguarded_since=self.now)
        self.rooms[name] = self.sids[room.sid] = room
        self._hook(Sight.STARTED, room)
        return room

    def _comings(self) -> None:
        """Have people come and go: webhooks that say nothing new."""
        if not self._crowd:
            self._crowd = self.random.sample(list(self.rooms.values()), min(len(self.rooms), 200))
        room = self._crowd.pop() if self._crowd else None
        if room and self.rooms.get(room.name) is room:
            if room.ghost and not room.bouncers:
                room.unguarded_since = self.now  # only now it is a room that anyone uses
            room.used_at = room.used_at if room.people else self.now
            room.people, room.ghost = max(1, room.people), False
            self._hook(Sight.JOINED, room)
        self.after(self.random.expovariate(self.plan.webhooks), self._comings)

    # What fails

    def _stop(self) -> None:
        for gatekeeper in self.gatekeepers:
            gatekeeper.up = False

    def _start(self) -> None:
        self.gatekeepers = [Gatekeeper(self, index) for index in range(self.plan.gatekeepers)]
        for gatekeeper in self.gatekeepers:
            gatekeeper.wake(self.now)

    def _kill_workers(self) -> None:
        """One of the workers is killed; what it guarded is listed for a while."""
        for room in list(self.rooms.values()):
            for bouncer in list(room.bouncers.values()):
                if bouncer.worker == 0:
                    self.after(self.random.uniform(*CORPSE), lambda r=room, b=bouncer: self._leave(r, b))  # type: ignore[misc]

    def _wipe(self) -> None:
        """LiveKit restarts: every room is gone. Its people open it again, and its bouncer comes back."""
        rooms = dict(self.rooms)
        self.rooms.clear()
        self.sids.clear()
        for name, room in rooms.items():
            opens = self.random.uniform(0.0, 5.0)
            self.after(opens, lambda n=name: self.open(n))  # type: ignore[misc]
            for bouncer in list(room.bouncers.values())[:1]:
                back = opens + self.random.uniform(0.0, 5.0)
                self.after(back, lambda n=name, b=bouncer: self._come_back(n, b))  # type: ignore[misc]

    def _come_back(self, name: str, bouncer: SimBouncer) -> None:
        if room := self.rooms.get(name):
            number = next(self._numbers)
            here = replace(bouncer, sid=f"PA_{number}", joined_ms=round(self.now * 1000), dispatch="", ready=True)
            room.bouncers[here.sid] = here
            self._count(room)
            self._hook(Sight.JOINED, room, here)

    # What LiveKit does

    def _dispatch(self, room: SimRoom, mark: str) -> str:
        dispatch = SimDispatch(f"AD_{next(self._numbers)}", mark)
        room.dispatches[dispatch.id] = dispatch
        if not self.faulty("idle"):
            delay = self.random.uniform(0.2, 1.2) if self.random.random() < 0.98 else self.random.uniform(5.0, 30.0)
            self.after(delay, lambda: self._arrive(room, dispatch))
        return dispatch.id

    def _arrive(self, room: SimRoom, dispatch: SimDispatch) -> None:
        if dispatch.id not in room.dispatches:
            return
        if self.sids.get(room.sid) is not room:
            # Its room has closed: the bouncer joins, or opens, what has that name now.
            room = self.rooms.get(room.name) or self._ghost(room.name, ours=bool(dispatch.mark))
        number = next(self._numbers)
        bouncer = SimBouncer(
            f"PA_{number}",
            f"agent-AJ_{number}",
            round(self.now * 1000),
            dispatch.id,
            self.random.randrange(self.plan.workers),
        )
        if dispatch.id in room.dispatches:
            dispatch.identities.add(bouncer.identity)
        room.bouncers[bouncer.sid] = bouncer
        ready = 0.3 if self.random.random() < 0.95 else 75.0  # some take long to get to work
        self.after(ready, lambda: setattr(bouncer, "ready", True))
        self._count(room)
        self._hook(Sight.JOINED, room, bouncer)
        if not room.needed:
            self.after(10.0, lambda: self._go(room))
        if self.random.random() < 0.02:
            self.after(self.random.expovariate(1 / 60.0), lambda: self._leave(room, bouncer))

    def _leave(self, room: SimRoom, bouncer: SimBouncer) -> None:
        if room.bouncers.pop(bouncer.sid, None) and self.sids.get(room.sid) is room:
            self._count(room)
            self._hook(Sight.LEFT, room, bouncer)

    def _count(self, room: SimRoom) -> None:
        """Keep the dates that the judge goes by."""
        if room.bouncers:
            if room.unguarded_since < math.inf:
                self._judge_wait(room)
            room.unguarded_since = math.inf
            for gatekeeper in self.gatekeepers:
                gatekeeper.awaiting.pop(room.sid, None)
        elif room.unguarded_since == math.inf and room.needed:
            room.unguarded_since = self.now
        ours = [
            b
            for b in room.bouncers.values()
            if not b.dispatch or room.dispatches.get(b.dispatch, SimDispatch("", "")).mark
        ]
        if len(ours) < 2:
            room.crowded_since = math.inf
        elif room.crowded_since == math.inf:
            room.crowded_since = self.now

    def _hook(self, sight: Sight, room: SimRoom, bouncer: SimBouncer | None = None) -> None:
        if not self.plan.with_webhooks or self.faulty("away"):
            return
        shown = Room(room.sid, room.name, not room.off, room.people)
        who = Bouncer(bouncer.sid, bouncer.identity, bouncer.joined_ms) if bouncer else None
        for gatekeeper in self.gatekeepers:
            times = 1
            delay = self.random.uniform(0.002, 0.02)
            if self.faulty("lossy"):
                times = self.random.choices((0, 1, 2), (0.1, 0.8, 0.1))[0]
                delay = self.random.uniform(0.0, 30.0) if self.random.random() < 0.1 else delay
            for _ in range(times):
                deliver = partial(self._deliver, gatekeeper.index, sight, shown, who, needed=room.needed)
                self.after(delay, deliver)

    def _deliver(self, index: int, sight: Sight, room: Room, bouncer: Bouncer | None, *, needed: bool) -> None:
        self.gatekeepers[index].tell(Webhook(self.now, sight, room, bouncer), needed=needed)

    def call(self, gatekeeper: Gatekeeper, command: Command) -> None:
        """Carry a call to LiveKit, and its answer back."""
        self.calls[type(command).__name__] += 1
        self._judge_call(gatekeeper, command)
        if self.faulty("away"):
            away = ApiError(Trouble.UNAVAILABLE, "no answer")
            self.after(CALL_LIMIT, lambda: gatekeeper.answer(command, away))
            if isinstance(command, Create):
                del gatekeeper.awaiting[command.sid]
            return

        def serve() -> None:
            answer = self._serve(gatekeeper, command)
            self.after(self.random.uniform(0.0005, 0.01), lambda: gatekeeper.answer(command, answer))

        self.after(self.random.uniform(0.0005, 0.01), serve)

    def _serve(self, gatekeeper: Gatekeeper, command: Command) -> object:  # noqa: PLR0911 - one for each command
        if isinstance(command, ListRooms):
            found = list(self.rooms.values())
            if command.sids:
                found = [self.rooms[name] for name in command.names if name in self.rooms]
            for each in found:
                gatekeeper.listed[each.sid] = command.at
            return tuple(Room(r.sid, r.name, not r.off, r.people) for r in found)
        room = self.rooms.get(command.name)
        if not room and isinstance(command, Create):
            room = self._ghost(command.name)
        if not room:
            return False if isinstance(command, TakeBack | Remove) else ApiError(Trouble.UNAVAILABLE, "no such room")
        match command:
            case ListBouncers():
                gatekeeper.needs[room.sid] = room.needed
                return tuple(Bouncer(b.sid, b.identity, b.joined_ms, b.ready) for b in room.bouncers.values())
            case ListDispatches():
                return tuple(Dispatch(d.id, d.mark, frozenset(d.identities)) for d in room.dispatches.values())
            case Create():
                return self._dispatch(room, mark=command.sid)
            case TakeBack():
                return self._taken_back(room, command.dispatch)
            case Remove():
                return self._removed(room, command.identity)

    def _removed(self, room: SimRoom, identity: str) -> bool:
        if room.people and room.used_at < self.now - 1.5:
            self.broken("a bouncer is removed from a ghost only", room.sid)
        removed = [b for b in room.bouncers.values() if b.identity == identity]
        for bouncer in removed:
            self._leave(room, bouncer)
        return bool(removed)

    def _ghost(self, name: str, *, ours: bool = True) -> SimRoom:
        """Open a room that no one meant to open; a customer's own dispatch may have done it."""
        room = self._room(name)
        room.ghost = ours
        self.after(300.0, partial(self.close, room))
        return room

    def _taken_back(self, room: SimRoom, dispatch: str) -> bool:
        if dispatch not in room.dispatches:
            return False
        self._judge_take_back(room, room.dispatches[dispatch])
        del room.dispatches[dispatch]
        for bouncer in list(room.bouncers.values()):
            if bouncer.dispatch == dispatch:
                self._leave(room, bouncer)
        return True

    # The judge

    def said(self, gatekeeper: Gatekeeper, news: News) -> None:
        """Count what the gatekeepers say."""
        self.events[news.event] += 1
        self.digest = hash((self.digest, round(self.now * 1e6), gatekeeper.index, len(news.event), len(news.room)))

    def _judge_call(self, gatekeeper: Gatekeeper, command: Command) -> None:
        times = self._call_times.setdefault(gatekeeper.index, [])
        times.append(self.now)
        most = self.plan.per_minute
        if len(times) > most and times[-most - 1] > self.now - 60.0:
            self.broken("it keeps to its budget", f"{most + 1} calls in {self.now - times[-most - 1]:.1f} s")
        if gatekeeper.blind and not (isinstance(command, ListRooms) and not command.sids):
            self.broken("nothing else is asked while LiveKit is away", type(command).__name__)
        if isinstance(command, TakeBack):
            gatekeeper.awaiting.pop(command.sid, None)
        if not isinstance(command, Create):
            return
        if gatekeeper.listed.get(command.sid, -math.inf) < self.now - 1.0:
            self.broken("a list under a second old shows the room", f"{command.sid} was dispatched into")
        room = self.sids.get(command.sid)
        if room and room.off:
            self.broken("a room whose mode is off gets no bouncer", command.sid)
        waiting = gatekeeper.awaiting = {s: t for s, t in gatekeeper.awaiting.items() if s in self.sids}
        if not room or all(bouncer.dispatch for bouncer in room.bouncers.values()):
            waiting[command.sid] = self.now  # one that has just come back is taken for the one that is sent
        overdue = self.now - 16.0
        if sum(t > overdue for t in waiting.values()) > 20:
            self.broken("20 dispatches at most are in flight", f"{len(waiting)} are")
        made = self._made_at.setdefault(command.sid, [])
        made.append(self.now)
        if sum(t > self.now - 120.0 for t in made) > 7 * self.plan.gatekeepers:
            self.broken("there is no storm", f"{command.sid} was dispatched into at {made[-7:]}")

    def _judge_take_back(self, room: SimRoom, dispatch: SimDispatch) -> None:
        if not dispatch.mark:
            self.broken("what others dispatched is left alone", dispatch.id)
        others = [b for b in room.bouncers.values() if b.dispatch != dispatch.id and b.ready]
        mine = [b for b in room.bouncers.values() if b.dispatch == dispatch.id and b.joined_ms < (self.now - 1) * 1000]
        if mine and not others and not room.ghost and dispatch.mark == room.sid:
            self.broken("no room loses its only bouncer", f"{room.sid}, dispatch {dispatch.id}")

    def _judge_wait(self, room: SimRoom) -> None:
        """Check how long a room has had no bouncer, since the faults ended."""
        if room.off or room.ghost or not room.needed:
            return
        since = max(room.unguarded_since, self.plan.fault_ends)
        self.longest = max(self.longest, self.now - since)
        if self.now - since > 90.0:
            self.broken("no room is unguarded for more than 90 s", f"{room.sid} for {self.now - since:.0f} s")
            room.unguarded_since = math.inf
        if room.unguarded_since == room.opened_at > self.plan.fault_ends and room.bouncers:
            self.waits.append(self.now - room.opened_at)

    def _look(self) -> None:
        """Look at every room each second."""
        for room in self.rooms.values():
            if room.unguarded_since < math.inf:
                self._judge_wait(room)
            if room.crowded_since < math.inf and not any(b.ready for b in room.bouncers.values()):
                room.crowded_since = self.now  # none of them can be spared yet
            crowded = self.now - max(room.crowded_since, self.plan.fault_ends)
            if crowded > CROWDED_FOR:
                self.broken("surplus bouncers are taken back", f"{room.sid} has had {len(room.bouncers)} for a minute")
                room.crowded_since = math.inf
            late = any(dispatch.mark != room.sid for dispatch in room.dispatches.values())
            late |= any(bouncer.dispatch not in room.dispatches for bouncer in room.bouncers.values())
            if room.opened_at < self.plan.fault_ends:
                late = False  # what was known of it may be lost
            if room.ghost and late and self.now - max(room.opened_at, self.plan.fault_ends) > 60.0:
                self.broken("a ghost loses its dispatch", room.sid)
                room.ghost = False
        self.after(1.0, self._look)

    def _finally(self) -> None:
        for gatekeeper in self.gatekeepers:
            known = gatekeeper.doors.doors
            lost = [sid for sid in known if sid not in self.sids and self._closed_at.get(sid, 0.0) < self.now - 60.0]
            if lost:
                self.broken("closed rooms are forgotten", f"{len(lost)} are known, such as {lost[0]}")
