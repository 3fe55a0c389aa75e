"""What the gatekeeper does next about all rooms. Pure: told of webhooks and answers, asked for commands.

The rule: a dispatch is made only for a room that a list under a second old shows under its sid, because a dispatch for
a room that is gone would open it again. Webhooks make it quick, and lists make it right.
"""

import heapq
import math
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from bouncer.guard.schedule import Backoff
from bouncer.ports import ApiError, Trouble
from bouncer.room import Instant
from gatekeeper.budget import Budget
from gatekeeper.mark import surplus
from gatekeeper.records import (
    Bouncer,
    Command,
    Create,
    Dispatch,
    Event,
    ListBouncers,
    ListDispatches,
    ListRooms,
    News,
    Remove,
    Room,
    Sight,
    Step,
    TakeBack,
    Webhook,
)
from gatekeeper.standing import Sign, Standing, after

RECONCILE = 30.0
"""Seconds between two lists of all rooms, give or take a fifth."""
AUDIT = 60.0
"""Seconds after which we look whether the bouncer is still there, since a webhook that says otherwise may be lost."""
FRESH = 1.0
"""Seconds for which a list proves that a room is open."""
LOOKED_FOR = 5.0
"""Seconds for which a list of a room's dispatches counts."""
CHECKS = (2.0, 5.0, 15.0)
"""Seconds after a dispatch at which we look for its bouncer; a webhook usually comes first. The last one decides."""
IN_FLIGHT = 20
"""Rooms for which a bouncer is on its way. LiveKit serves more at once from one pool."""
READS = 20
"""Calls in flight that only read about one room."""
TOGETHER = 100
"""Rooms that one list asks about by name."""
PAUSES = Backoff(2.0, 40.0)
"""After a lost bouncer or a failed dispatch."""
CALM = 60.0
"""Seconds for which a room has to be guarded before its next pause is the first one again."""
BARREN = 60.0
"""Seconds without any bouncer that we dispatched, after which the next one shows that workers take rooms again."""
SURPLUS_AFTER = 30.0
"""Seconds for which two bouncers are left alone: a dead one is listed for up to 23 s after its replacement came."""
GHOST_WITHIN = 60.0
"""Seconds after a dispatch in which another room of that name may be one that the dispatch itself opened."""
CLOSED_FOR = 60.0
"""Seconds for which a closed room's sid is remembered."""
MISSING = (1.0, 3)
"""Seconds between two lists for a room that only webhooks show, and how many may miss it before it is forgotten."""
AWAY = Backoff(1.0, 15.0)
"""Before the next list if LiveKit doesn't answer."""
DENYING = Backoff(1.0, 60.0)
"""Before the next list if it denies this one."""
QUIET = 10.0
"""Seconds without calls after LiveKit said that there were too many."""
SETTLE = 0.02
"""Seconds for which new rooms gather, so that one list serves all of them."""
KEEP = {Standing.DISPATCHED: 0.0, Standing.WANTED: 0.6, Standing.UNKNOWN: 0.5, Standing.GUARDED: 0.5}
"""The standings in which we read about a room, most urgent first, and the part of a burst of calls that this leaves to
rooms that are being dispatched into."""

URGENT = frozenset({Standing.DISPATCHED})
"""Those that are read before more is dispatched: few, and they say whether there is a bouncer."""

T = TypeVar("T")
_NONE: frozenset[str] = frozenset()


@dataclass(slots=True, eq=False)
class Door:
    """What is known of one room's sid."""

    sid: str
    name: str
    seen_at: Instant
    standing: Standing = Standing.UNKNOWN
    chosen: bool = True
    since: Instant = -math.inf
    due: Instant = math.inf
    """When to attend to it next."""
    busy: bool = False
    """A call about it is in flight."""
    people: int = 0
    listed_at: Instant = -math.inf
    """When the last list that shows it was requested."""
    lacked: int = 0
    """Lists that lacked it before any showed it."""
    bouncers: tuple[Bouncer, ...] = ()
    checked_at: Instant = -math.inf
    """When the last list of its bouncers was requested."""
    looked_at: Instant = -math.inf
    """When the last list of its dispatches was requested."""
    looked: tuple[Dispatch, ...] = ()
    """That list, until the room is guarded."""
    spent: frozenset[str] = _NONE
    """Dispatches that bring no bouncer any more."""
    overdue: bool = False
    """Others dispatched a bouncer that hadn't come in time. It may come yet."""
    left: tuple[str, ...] = ()
    """Sids of the last bouncers that left: late webhooks may say that they joined."""
    gone: frozenset[str] = _NONE
    """Identities of bouncers that left."""
    failures: int = 0
    crowded_at: Instant = math.inf
    """Since when two bouncers or more have been there."""
    crowd: frozenset[str] = _NONE
    """Sids of bouncers that were found to be none too many."""
    unlisted: frozenset[str] = _NONE
    """Identities of bouncers that the last list of dispatches lacked while there were two or more."""
    suspect: bool = False
    """It may be a ghost: its name is that of another sid that we dispatched into a moment ago."""
    ghost: bool = False
    wanted_at: Instant = math.inf
    """Since when it has had no bouncer, as far as we know."""


class Doors:
    """All rooms that are open.

    `jitter` gives numbers in [0, 1). `needed` says of a room's sid whether a bouncer is needed there, or may be.
    """

    def __init__(
        self,
        per_minute: int,
        now: Instant,
        jitter: Callable[[], float],
        needed: Callable[[str, Instant], bool] = lambda _sid, _now: True,
    ) -> None:
        self.doors: dict[str, Door] = {}
        self.blind = True
        """True until a list of all rooms was read, and again while LiveKit doesn't answer."""
        self.webhooks = 0
        self.listed_at: Instant = -math.inf
        """When the last list of all rooms was requested that was answered."""
        self._jitter, self._needed = jitter, needed
        self._budget = Budget(per_minute, now)
        self._audits = Budget(per_minute / 2, now)
        self._list_due = now
        self._listing = self._verifying = False
        self._verify_at = math.inf
        self._away = 0
        self._trouble: Trouble | None = None
        self._quiet_until = -math.inf
        self._reads: set[str] = set()
        self._timers: list[tuple[Instant, str]] = []
        self._news: list[News] = []
        # Each is a queue without repetitions.
        self._verify: dict[str, None] = {}
        self._wanted: dict[str, None] = {}
        self._going: dict[str, None] = {}
        self._checks: dict[Standing, dict[str, None]] = {s: {} for s in KEEP}
        self._back: dict[str, TakeBack | Remove] = {}
        self._slots: set[str] = set()
        self._longest: list[tuple[Instant, str]] = []
        """The wanted rooms by how long they have waited, as a heap; it may hold rooms that are no longer wanted."""
        self._late: dict[str, Instant] = {}
        """Rooms that are guarded while a dispatch of ours may still bring another bouncer, and until when it may."""
        self._taken_at = now
        """When a bouncer that we dispatched last came."""
        self._made: dict[str, tuple[str, Instant]] = {}
        """By room name: the sid that we last dispatched into, and when."""
        self._closed: dict[str, Instant] = {}
        """When webhooks said that rooms closed: what comes later about them is late."""

    # What we are told

    def tell(self, webhook: Webhook) -> None:
        """Take in a webhook. It may be late, repeated, or about a room that has closed."""
        self.webhooks += 1
        now, room = webhook.at, webhook.room
        if webhook.sight is Sight.FINISHED:
            self._forget(room.sid)
            self._closed[room.sid] = now
            return
        if room.sid in self._closed:
            return
        door = self.doors.get(room.sid) or self._appear(room, now, started=webhook.sight is Sight.STARTED)
        bouncer = webhook.bouncer
        if webhook.sight is Sight.JOINED and not bouncer:
            door.people = max(door.people, 1)
            self._no_ghost(door, now)
        if bouncer and webhook.sight is Sight.JOINED and bouncer.sid not in door.left:
            self._present(door, (*(b for b in door.bouncers if b.sid != bouncer.sid), bouncer), now)
        elif bouncer and webhook.sight is Sight.LEFT:
            self._departed(door, bouncer, now)
        self._consider(door, now)

    def answered(self, command: Command, answer: object, now: Instant) -> None:
        """Take in what came of a command: its answer, or the ApiError that it ended in."""
        if isinstance(answer, ApiError):
            self._failed(command, answer, now)
            return
        match command:
            case ListRooms():
                self._rooms(command, _typed(answer, Room), now)
            case ListBouncers():
                self._bouncers(command, _typed(answer, Bouncer), now)
            case ListDispatches():
                self._dispatches(command, _typed(answer, Dispatch), now)
            case Create():
                self._created(command, str(answer), now)
            case TakeBack() | Remove():
                if answer and (isinstance(command, Remove) or command.why == "ghost"):
                    self._news.append(News(Event.GHOST, command.name, command.sid))

    # What we do

    def step(self, now: Instant) -> Step:
        """Return the commands and news of this moment, and when to ask again at the latest."""
        while self._timers and self._timers[0][0] <= now:
            at, sid = heapq.heappop(self._timers)
            door = self.doors.get(sid)
            if door and door.due == at and not door.busy:
                self._attend(door, now)
        commands = [] if now < self._quiet_until else list(self._commands(now))
        news, self._news = tuple(self._news), []
        return Step(tuple(commands), news, self._wake_at(now))

    def _commands(self, now: Instant) -> Iterator[Command]:
        if now >= self._list_due and not self._listing and self._take(now):
            self._listing = True
            yield ListRooms(now)
        if self.blind:
            return
        for dispatch, command in list(self._back.items()):
            if command.sid not in self.doors and not (isinstance(command, TakeBack) and command.why == "ghost"):
                del self._back[dispatch]  # it ended with its room
            elif self._take(now):
                yield self._back.pop(dispatch)
            else:
                return
        if now >= self._verify_at and not self._verifying and self._any_free(self._verify) and self._take(now):
            self._verifying = True
            yield self._batch(now)
        yield from self._reading(now, URGENT)
        yield from self._dispatching(now)
        yield from self._reading(now, KEEP.keys() - URGENT)

    def _batch(self, now: Instant) -> ListRooms:
        sids = tuple(sid for sid in self._verify if not self.doors[sid].busy)[:TOGETHER]
        for sid in sids:
            del self._verify[sid]
            self.doors[sid].busy = True
        self._verify_at = now + SETTLE if self._verify else math.inf
        return ListRooms(now, sids, tuple(dict.fromkeys(self.doors[sid].name for sid in sids)))

    def _dispatching(self, now: Instant) -> Iterator[Command]:
        """Move rooms without a bouncer on, oldest first, `IN_FLIGHT` of them at a time."""
        self._late = {sid: until for sid, until in self._late.items() if until > now}
        while self._wanted and not self._full():
            sid = heapq.heappop(self._longest)[1]
            if sid in self._wanted:
                del self._wanted[sid]
                self._checks[Standing.WANTED].pop(sid, None)
                self._slots.add(sid)
                self._going[sid] = None
        # Those that are furthest on go first: with few calls, what was read for them would be stale before they end.
        for sid in sorted(self._going, key=lambda sid: self.doors[sid].looked_at < now - LOOKED_FOR):
            door = self.doors[sid]
            if door.busy:
                continue
            if door.looked_at >= now - LOOKED_FOR and door.listed_at < now - FRESH:
                self._to_verify(sid, now)
            elif not self._take(now):
                return
            elif door.looked_at < now - LOOKED_FOR:
                door.busy = True
                yield ListDispatches(now, sid, door.name)
            else:
                door.busy = True
                self._made[door.name] = (sid, now)
                yield Create(now, sid, door.name)
            del self._going[sid]

    def _reading(self, now: Instant, standings: Collection[Standing]) -> Iterator[Command]:
        for standing, sids in self._checks.items():
            for sid in list(sids) if standing in standings else ():
                door = self.doors[sid]
                if door.busy:
                    continue
                if len(self._reads) >= READS or self._readable_at(standing, now) > now:
                    break
                if standing is Standing.GUARDED:
                    self._audits.take(now)
                self._budget.take(now)
                del sids[sid]
                self._reads.add(sid)
                door.busy = True
                crowded = self._too_many(door) and door.checked_at >= door.crowded_at + SURPLUS_AFTER
                if standing is Standing.WANTED or (standing is Standing.GUARDED and (door.suspect or crowded)):
                    yield ListDispatches(now, sid, door.name)
                else:
                    yield ListBouncers(now, sid, door.name)

    def _full(self) -> bool:
        """Return True if no further bouncer may be on its way."""
        return len(self._slots | self._late.keys()) >= IN_FLIGHT

    def _readable_at(self, standing: Standing, now: Instant) -> Instant:
        """Return when there are calls to list the bouncers of a room of this standing."""
        at = self._budget.ready_at(now, keep=KEEP[standing])
        return max(at, self._audits.ready_at(now)) if standing is Standing.GUARDED else at

    def _attend(self, door: Door, now: Instant) -> None:
        """Queue what a room needs, now that it is due."""
        door.due = math.inf
        match door.standing:
            case Standing.LOST | Standing.REFUSED:
                self._sign(door, Sign.DUE, now)
            case Standing.UNWANTED if door.listed_at > -math.inf:
                return
            case Standing.UNNEEDED if door.listed_at > -math.inf:
                self._checks[Standing.GUARDED][door.sid] = None
            case _ if door.listed_at == -math.inf:
                self._to_verify(door.sid, now)
            case Standing.WANTED if door.sid in self._slots:
                self._going[door.sid] = None
            case Standing.WANTED:
                if door.sid not in self._wanted:
                    self._wanted[door.sid] = None
                    heapq.heappush(self._longest, (door.wanted_at, door.sid))
                if door.looked_at < door.since and self._full():
                    self._checks[door.standing][door.sid] = None  # what is pending can be waited for meanwhile
            case Standing.UNKNOWN if door.failures:
                self._checks[Standing.DISPATCHED][door.sid] = None  # its bouncer was lost
            case _:
                self._checks[door.standing][door.sid] = None

    # What the answers say

    def _rooms(self, command: ListRooms, rooms: tuple[Room, ...], now: Instant) -> None:
        if command.sids:
            self._verifying = False
        else:
            self._listing, self.listed_at = False, command.at
            self._list_due = now + RECONCILE * (0.8 + 0.4 * self._jitter())
            self._made = {name: made for name, made in self._made.items() if made[1] > now - GHOST_WITHIN}
            self._closed = {sid: at for sid, at in self._closed.items() if at > now - CLOSED_FOR}
            self._seeing(now)
        for room in rooms:
            door = self.doors.get(room.sid) or self._appear(room, now, started=False)
            door.listed_at, door.people = max(door.listed_at, command.at), room.people
            if room.people:
                self._no_ghost(door, now)
            self._choose(door, room, now)
        shown = {room.sid for room in rooms}
        for sid in command.sids or list(self.doors):
            door_asked = self._free(sid, now) if command.sids else self.doors.get(sid)
            if not door_asked:
                continue
            if sid not in shown:
                self._lacking(door_asked, command, now)
            elif command.sids:
                self._plan(door_asked, now)

    def _lacking(self, door: Door, command: ListRooms, now: Instant) -> None:
        """Forget a room that is missing from a list, unless it may be too young to be listed."""
        if door.seen_at >= command.at or door.listed_at > command.at:
            self._plan(door, now)
            return
        pause, lists = MISSING
        door.lacked += bool(command.sids)
        if door.listed_at > -math.inf or door.lacked >= lists:
            self._forget(door.sid)
        elif command.sids:
            self._wake(door, now + pause)

    def _bouncers(self, command: ListBouncers, bouncers: tuple[Bouncer, ...], now: Instant) -> None:
        self._reads.discard(command.sid)
        door = self._free(command.sid, now)
        if not door:
            return
        door.checked_at = command.at
        # A bouncer that a webhook announced after the list was requested may not be on it.
        listed = {b.sid for b in bouncers}
        late = (b for b in door.bouncers if b.sid not in listed and door.since > command.at)
        here = (*(b for b in bouncers if b.sid not in door.left), *late)
        if here:
            self._present(door, here, now)
        elif door.standing is Standing.DISPATCHED:
            if command.at >= door.since + CHECKS[-1]:
                self._refuse(door, Event.REFUSED, now, "no bouncer came")
        else:
            door.gone |= {b.identity for b in door.bouncers}
            door.bouncers = ()
            self._consider(door, now)
            self._sign(door, Sign.ABSENT, now)
        self._plan(door, now)

    def _dispatches(self, command: ListDispatches, dispatches: tuple[Dispatch, ...], now: Instant) -> None:
        self._reads.discard(command.sid)
        door = self._free(command.sid, now)
        if not door:
            return
        foreign = [d for d in dispatches if d.mark and d.mark != door.sid]
        ghostly = (foreign or door.suspect) and not door.people
        door.looked_at, door.suspect = command.at, False
        if ghostly and door.listed_at < now - FRESH:
            door.suspect = True  # people may have come since: look once more
            self._to_verify(door.sid, now)
            return
        if ghostly:
            for dispatch in foreign:
                self._take_back(door, dispatch.id, "ghost", now)
            door.ghost = True
            self._leave_ghost(door, now)
            self._sign(door, Sign.PASSED_OVER, now)
        elif door.standing is Standing.WANTED:
            door.gone &= frozenset[str]().union(*(d.identities for d in dispatches))
            spent = [d for d in dispatches if d.id in door.spent or (d.identities and d.identities <= door.gone)]
            door.spent = frozenset(d.id for d in spent)
            for dispatch in spent:
                if dispatch.mark:
                    self._take_back(door, dispatch.id, "spent", now)
            door.looked = tuple(d for d in dispatches if d.id not in door.spent)
            if door.looked:
                self._sign(door, Sign.PENDING, now)
                if all(d.identities for d in door.looked):
                    self._slots.discard(door.sid)  # workers have them, so nothing is in flight
        elif door.standing is Standing.GUARDED and len(door.bouncers) > 1:
            unlisted = frozenset(b.identity for b in door.bouncers).difference(*(d.identities for d in dispatches))
            # One that was merely taken back by others is gone by the second look.
            seen_before, door.unlisted = unlisted <= door.unlisted, unlisted
            taken = surplus(dispatches, door.bouncers, unlisted if seen_before else _NONE)
            for dispatch_id in taken:
                self._take_back(door, dispatch_id, "surplus", now)
                self._say(Event.SURPLUS, door)
            settled = not taken and seen_before and any(b.ready for b in door.bouncers)
            door.crowd = frozenset(b.sid for b in door.bouncers) if settled else _NONE
            door.crowded_at = now
        self._plan(door, now)

    def _created(self, command: Create, dispatch: str, now: Instant) -> None:
        door = self._free(command.sid, now)
        if not door:
            # It closed meanwhile, and another room of its name has got our dispatch.
            self._back[dispatch] = TakeBack(now, command.sid, command.name, dispatch, "ghost")
            return
        door.looked = (*door.looked, Dispatch(dispatch, door.sid))
        if door.standing is Standing.GUARDED:
            self._late[door.sid] = now + CHECKS[-1]
        self._say(Event.DISPATCHED, door)
        self._sign(door, Sign.SENT, now)
        self._plan(door, now)

    def _failed(self, command: Command, error: ApiError, now: Instant) -> None:
        denied = error.trouble is Trouble.DENIED
        if error.trouble is Trouble.THROTTLED:
            self._quiet_until = now + QUIET * (0.8 + 0.4 * self._jitter())
            self._complain(Event.THROTTLED, error)
        elif denied or (isinstance(command, ListRooms) and not command.sids):
            self.blind = True
            self._complain(Event.DENIED if denied else Event.BLIND, error)
        sids: tuple[str, ...]
        match command:
            case ListRooms(sids=()):
                self._listing = False
                self._away += 1
                pause = (DENYING if denied else AWAY).pause(self._away, self._jitter())
                self._list_due = max(self._quiet_until, now + pause)
                return
            case ListRooms():
                sids = command.sids
                self._verifying = False
            case _:
                sids = (command.sid,)
                self._reads.discard(command.sid)
        for door in filter(None, (self._free(sid, now) for sid in sids)):
            if isinstance(command, Create):
                # Its answer may be lost, and the dispatch there all the same: before the next one we look.
                self._refuse(door, Event.FAILED, now, str(error))
            elif not isinstance(command, TakeBack | Remove):
                self._wake(door, now + 1.0 + self._jitter())
        if error.trouble is not Trouble.THROTTLED:
            # Is it LiveKit that is away, or was it just this call?
            self._list_soon(now)

    # How rooms change

    def _appear(self, room: Room, now: Instant, *, started: bool) -> Door:
        door = self.doors[room.sid] = Door(room.sid, room.name, now, since=now, people=room.people, wanted_at=now)
        made = self._made.get(room.name)
        door.suspect = made is not None and made[0] != room.sid and made[1] > now - GHOST_WITHIN
        if started and room.chosen:
            door.standing = after(door.standing, Sign.STARTED)
        self._choose(door, room, now)
        self._plan(door, now)
        return door

    def _leave_ghost(self, door: Door, now: Instant) -> None:
        """Have the bouncers of a ghost room removed: their dispatch went with a room that has closed."""
        for bouncer in door.bouncers:
            self._back[bouncer.identity] = Remove(now, door.sid, door.name, bouncer.identity)

    def _no_ghost(self, door: Door, now: Instant) -> None:
        if door.ghost:
            door.ghost = False
            door.failures = max(door.failures, 1)  # it has waited, as one whose bouncer was lost
            self._consider(door, now)

    def _choose(self, door: Door, room: Room, now: Instant) -> None:
        door.chosen = room.chosen
        self._consider(door, now)

    def _consider(self, door: Door, now: Instant) -> None:
        """Note whether the room is to have a bouncer now. One that is there stays, and one that is on its way comes."""
        if not door.chosen or door.ghost:
            self._sign(door, Sign.PASSED_OVER, now)
        elif door.bouncers or door.standing is Standing.DISPATCHED or self._needed(door.sid, now):
            self._sign(door, Sign.CHOSEN, now)
        else:
            self._sign(door, Sign.UNNEEDED, now)

    def _present(self, door: Door, bouncers: tuple[Bouncer, ...], now: Instant) -> None:
        if {b.sid for b in bouncers} != {b.sid for b in door.bouncers}:
            door.crowded_at = now if len(bouncers) > 1 else math.inf
        door.bouncers = bouncers
        if door.ghost:
            self._leave_ghost(door, now)
        if door.standing not in (Standing.GUARDED, Standing.UNWANTED):
            if door.standing is Standing.UNNEEDED:
                door.wanted_at = now
            self._say(Event.GUARDED, door, unguarded=round(max(0.0, now - door.wanted_at), 3))
            door.wanted_at = math.inf
            door.looked = ()
        if door.standing is Standing.DISPATCHED:
            self._taken(now)
        if self._made.get(door.name, ("",))[0] == door.sid:
            del self._made[door.name]  # where it shows up under another sid, the server was restarted
        self._sign(door, Sign.ARRIVED, now)
        if len(bouncers) > 1:
            self._plan(door, now)

    def _taken(self, now: Instant) -> None:
        """A worker took a room. If none had for a while, the other rooms' failures say nothing about those rooms."""
        if now >= self._taken_at + BARREN:
            for door in self.doors.values():
                if door.standing in (Standing.DISPATCHED, Standing.REFUSED):
                    door.failures = 0
                if door.standing is Standing.REFUSED:
                    self._wake(door, min(door.due, now + PAUSES.first * self._jitter()))
        self._taken_at = now

    def _departed(self, door: Door, bouncer: Bouncer, now: Instant) -> None:
        door.left = (*door.left[-3:], bouncer.sid)
        if bouncer.identity:
            door.gone |= {bouncer.identity}
        here = tuple(b for b in door.bouncers if b.sid != bouncer.sid)
        if here:
            self._present(door, here, now)
        elif door.bouncers:
            door.bouncers = ()
            self._consider(door, now)
            self._sign(door, Sign.ABSENT, now)

    def _refuse(self, door: Door, event: Event, now: Instant, why: str) -> None:
        """Take back what brought no bouncer, and pause."""
        self._say(event, door, why=why)
        for dispatch in door.looked:
            if dispatch.mark == door.sid:
                self._take_back(door, dispatch.id, "no bouncer", now)
        if event is Event.REFUSED:
            door.spent |= {dispatch.id for dispatch in door.looked}
            door.overdue = any(dispatch.mark != door.sid for dispatch in door.looked)
        door.looked, door.looked_at = (), -math.inf
        self._sign(door, Sign.FAILED, now)

    def _take_back(self, door: Door, dispatch: str, why: str, now: Instant) -> None:
        self._back[dispatch] = TakeBack(now, door.sid, door.name, dispatch, why)

    def _sign(self, door: Door, sign: Sign, now: Instant) -> None:
        """Change a room's standing as the table says, and see to what follows."""
        before, door.standing = door.standing, after(door.standing, sign)
        if door.standing is before:
            return
        if before is Standing.GUARDED and now - door.since >= CALM:
            door.failures = 0
        door.since = now
        if door.standing not in (Standing.WANTED, Standing.DISPATCHED):
            if door.standing is Standing.GUARDED and door.sid in self._slots and door.overdue:
                self._late[door.sid] = now + CHECKS[-1]  # this may be the bouncer that was overdue
            self._slots.discard(door.sid)
            self._going.pop(door.sid, None)
        if door.standing is not Standing.WANTED:
            self._wanted.pop(door.sid, None)
        if door.standing is Standing.LOST:
            self._say(Event.LOST, door)
        if before in (Standing.GUARDED, Standing.UNWANTED, Standing.UNNEEDED):
            door.wanted_at = now
        if door.standing in (Standing.LOST, Standing.REFUSED):
            door.failures += 1
            self._wake(door, now + PAUSES.pause(door.failures, self._jitter()))
        self._unqueue(door.sid)
        self._plan(door, now)

    def _plan(self, door: Door, now: Instant) -> None:
        """Set when to attend to a room next, unless a call about it is in flight or it pauses."""
        if door.busy:
            return
        if door.listed_at == -math.inf:
            if door.due == math.inf and door.sid not in self._verify:
                self._wake(door, now)
            return
        match door.standing:
            case Standing.UNKNOWN | Standing.WANTED:
                self._wake(door, now)
            case Standing.DISPATCHED:
                checks = (door.since + after_dispatch for after_dispatch in CHECKS)
                self._wake(door, next((at for at in checks if at > max(door.checked_at, now - 1.0)), now + 1.0))
            case Standing.GUARDED | Standing.UNNEEDED:
                audit = max(door.checked_at, door.since) + AUDIT * (0.8 + 0.4 * self._jitter())
                if door.suspect:
                    audit = now
                elif self._too_many(door):
                    audit = min(audit, door.crowded_at + SURPLUS_AFTER)
                self._wake(door, max(now, audit))
            case Standing.UNWANTED | Standing.LOST | Standing.REFUSED:
                pass

    def _too_many(self, door: Door) -> bool:
        return len(door.bouncers) > 1 and {b.sid for b in door.bouncers} != door.crowd

    def _wake(self, door: Door, at: Instant) -> None:
        door.due = at
        heapq.heappush(self._timers, (at, door.sid))

    def _list_soon(self, now: Instant) -> None:
        self._list_due = min(self._list_due, max(now, self.listed_at + FRESH))

    def _to_verify(self, sid: str, now: Instant) -> None:
        self._verify_at = min(self._verify_at, now + SETTLE) if self._verify else now + SETTLE
        self._verify[sid] = None

    def _free(self, sid: str, now: Instant) -> Door | None:
        """Return the room that a call was about, which is over; None if the room has closed."""
        door = self.doors.get(sid)
        if door:
            door.busy = False
            if door.due <= now:
                self._wake(door, now)
        return door

    def _forget(self, sid: str) -> None:
        self.doors.pop(sid, None)
        self._slots.discard(sid)
        self._unqueue(sid)
        for queue in (self._verify, self._wanted, self._going, self._late):
            queue.pop(sid, None)

    def _unqueue(self, sid: str) -> None:
        for sids in self._checks.values():
            sids.pop(sid, None)

    def _take(self, now: Instant) -> bool:
        if not self._budget.has(now):
            return False
        self._budget.take(now)
        return True

    def _say(self, event: Event, door: Door, **facts: object) -> None:
        self._news.append(News(event, door.name, door.sid, facts))

    def _complain(self, event: Event, error: ApiError) -> None:
        """Say what is wrong with LiveKit, once until it answers again."""
        if error.trouble is not self._trouble:
            self._trouble = error.trouble
            self._news.append(News(event, facts={"error": str(error)}))

    def _seeing(self, now: Instant) -> None:
        """A list of all rooms was read. After an outage, bouncers may be gone unseen."""
        if self._trouble:
            self._news.append(News(Event.SEEING))
        if self.blind and self._away:
            for door in self.doors.values():
                if door.standing is Standing.GUARDED and not door.busy:
                    self._wake(door, min(door.due, now + RECONCILE * self._jitter()))
        self.blind, self._away, self._trouble = False, 0, None

    def _wake_at(self, now: Instant) -> Instant:
        if now < self._quiet_until:
            return self._quiet_until
        times = [math.inf if self._listing else max(self._list_due, self._budget.ready_at(now))]
        if self._timers:
            times.append(self._timers[0][0])
        if not self.blind:
            if not self._verifying and self._any_free(self._verify):
                times.append(max(self._verify_at, self._budget.ready_at(now)))
            if self._wanted and self._late:
                times.append(min(self._late.values()))
            if self._back or self._any_free(self._going):
                times.append(self._budget.ready_at(now))
            if len(self._reads) < READS:
                times += [self._readable_at(s, now) for s, sids in self._checks.items() if self._any_free(sids)]
        return min(times)

    def _any_free(self, sids: Iterable[str]) -> bool:
        return any(not self.doors[sid].busy for sid in sids)


def _typed(answer: object, kind: type[T]) -> tuple[T, ...]:
    """Return an answer that has to be a tuple of these."""
    if not isinstance(answer, tuple) or not all(isinstance(each, kind) for each in answer):
        raise TypeError(f"not a tuple of {kind.__name__}: {answer!r:.80}")
    return answer
