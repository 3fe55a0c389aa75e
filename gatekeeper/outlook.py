"""What the engine would say of rooms that have no bouncer: whether one is needed there. Pure.

The tracker and the decision are the bouncer's own, fed with webhooks and lists. So both sides of a departure judge
alike: a bouncer that leaves because it isn't needed isn't sent back.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from bouncer.configuration.model import Config
from bouncer.decide import Decision, Finding, Ledger, decide
from bouncer.earlier import Seen
from bouncer.events import Channel, Connected, Info, Joined, Left, Listed, RemovalSent, Signal
from bouncer.needed import why_needed
from bouncer.people import named_by
from bouncer.room import Instant, Room
from bouncer.tracker import Tracker

NO_ONE = Info(sid="", identity="")
"""The bouncer that isn't there, in whose place the tracker is."""
YOUNG = 60.0
"""Seconds for which a room may be missing from the list of all rooms and is remembered."""


@dataclass(frozen=True, slots=True)
class Glance:
    """A room in a few figures."""

    people: int = 0
    agents: int = 0
    names: tuple[str, ...] = ()
    """The agents' names, in alphabetical order."""
    evicted: int = 0
    """Identities that were evicted, as far as the room remembers."""
    next: Finding | None = None
    """What comes due next of what can be known from outside."""


class Outlook:
    """One room as a bouncer would know it."""

    def __init__(self, agent_name: str, now: Instant, *, complete: bool) -> None:
        """Make it; it is complete if the room has just opened, and otherwise with the first list."""
        # Whether agents serve a participant each is left to the bouncer, which reads the jobs.
        self._tracker = Tracker(agent_name, reads_jobs=False)
        self._tracker.apply(Connected(now, NO_ONE))
        self._config: Config | None = None
        self._handled: frozenset[tuple[str, str]] = frozenset()
        self._infos: tuple[Info, ...] = ()
        """The last list."""
        self._glance: Glance | None = None
        """The last glance, until something changes."""
        self.complete = complete
        self.began_at = now
        self.opened_ms = 0
        """When the room opened, in the server's milliseconds; 0 if unknown."""
        self.bouncers: set[str] = set()
        """Sids of the bouncers that are there."""
        self._alive_ms: dict[str, int] = {}
        """By sid: when a participant was alive for certain, in the server's milliseconds."""

    def configure(self, config: Config | None, now: Instant) -> None:
        """Take in the configuration in force; None if the room's can't be read."""
        if config is self._config:
            return
        self._glance = None
        if config is None:
            self._config = None
            return
        self._config, self._handled = config, frozenset()
        named = named_by(config.people_also, config.people_except, config.avatars)
        self._tracker.configure(now, named=named)

    def joined(self, info: Info, now: Instant) -> None:
        """Take in a participant that joined."""
        self._glance = None
        self._tracker.apply(Joined(now, info))

    def published(self, sid: str, now: Instant, *, audio: bool, at_ms: int) -> None:
        """Take in a participant that published a track, in the server's milliseconds; we may hear of it much later."""
        self._glance = None
        self._alive_ms[sid] = at_ms
        self._tracker.apply(Signal(now, sid, audio=audio, channel=Channel.TRACK))

    def left(self, sid: str, now: Instant) -> None:
        """Take in a participant that left. If it was a bouncer, what it only had to report is handled."""
        self._glance = None
        self._tracker.apply(Left(now, sid))
        self._alive_ms.pop(sid, None)
        if sid in self.bouncers:
            self.bouncers.discard(sid)
            self._settle(now)

    def removed(self, identity: str, now: Instant) -> None:
        """Take in an agent that was removed: evicted, if a bouncer is there."""
        if self.bouncers:
            self._glance = None
            self._tracker.apply(RemovalSent(now, identity))

    def listed(self, infos: Iterable[Info], asked_at: Instant, now: Instant) -> None:
        """Take in a list of who is there."""
        before, listed = self._tracker.present, (NO_ONE, *infos)
        self._tracker.apply(Listed(now, asked_at, listed))
        if listed != self._infos or self._tracker.present != before:
            self._infos, self._glance = listed, None
        self.complete = True

    def _settle(self, now: Instant) -> None:
        """Take what a bouncer only had to report as handled; what it had to evict is not, if it is there."""
        config = self._config
        if config:
            _, decision = self._judged(config, now)
            told = (f for f in decision.findings if f.rule.action == "report" or config.mode == "dry_run")
            self._handled |= {f.key for f in told if f.verdict.due <= now}

    def why_needed(self, now: Instant) -> str:
        """Return why a bouncer is needed there; empty if it isn't."""
        config = self._config
        if config is None:
            return "its configuration can't be read"
        if not self.complete:
            return "no list has shown who is there"
        if config.mode == "off":
            return ""
        room, decision = self._judged(config, now)
        return why_needed(room, config.rules, config.guards, decision, now, Ledger(handled=self._handled))

    def seen(self, now: Instant, milliseconds: Callable[[Instant], int]) -> Seen:
        """Return what the bouncer that is dispatched now should know."""
        room = self._tracker.room()
        left = room.humans_left_at if self.complete else None
        return Seen(
            at=milliseconds(now),
            opened=self.opened_ms or None,
            people_left=None if left is None else milliseconds(left),
            evicted={identity: milliseconds(at) for identity, at in room.evicted_at.items()},
            # Not what the tracker takes for a sign of life: a list may show late that a corpse once changed its state.
            alive={p.sid: at for p in room.agents if (at := self._alive_ms.get(p.sid, 0)) > p.joined_ms},
        )

    def glance(self, now: Instant) -> Glance:
        """Return what the console lists."""
        last = self._glance
        if last is None or (last.next and last.next.verdict.due <= now):
            last = self._glance = self._look(now)
        return last

    def _look(self, now: Instant) -> Glance:
        room, config = self._tracker.room(), self._config
        first: Finding | None = None
        if config and config.mode != "off" and room.agents_and_avatars:
            rules = tuple(rule for rule in config.rules if not rule.watches)
            pending = decide(room, rules, config.guards, now, Ledger(handled=self._handled)).pending
            first = next((f for f in pending if not config.guards.exempts(f.participant, now)), None)
        names = sorted({agent.agent_name for agent in room.agents} - {""})
        return Glance(len(room.humans), len(room.agents), tuple(names), len(room.evicted_at), first)

    def _judged(self, config: Config, now: Instant) -> tuple[Room, Decision]:
        room = self._tracker.room()
        if not room.agents_and_avatars:
            return room, Decision()
        return room, decide(room, config.rules, config.guards, now, Ledger(handled=self._handled))


class Outlooks:
    """The outlooks of all rooms, by sid."""

    def __init__(self, agent_name: str, config: Callable[[str], Config | None]) -> None:
        """Make them; `config` returns the configuration in force in a room."""
        self._agent_name, self._config = agent_name, config
        self._rooms: dict[str, Outlook] = {}

    def of(self, sid: str, now: Instant, *, complete: bool = False) -> Outlook:
        """Return the outlook of a room; a new one if there is none."""
        outlook = self._rooms.get(sid)
        if outlook is None:
            outlook = self._rooms[sid] = Outlook(self._agent_name, now, complete=complete)
        outlook.configure(self._config(sid), now)
        return outlook

    def needed(self, sid: str, now: Instant) -> bool:
        """Return True if a bouncer is needed there, or if that isn't known."""
        return self.why_needed(sid, now) != ""

    def why_needed(self, sid: str, now: Instant) -> str:
        """Return why a bouncer is needed in a room; empty if it isn't."""
        return self.of(sid, now).why_needed(now)

    def forget(self, sid: str) -> None:
        """Forget a room that has closed."""
        self._rooms.pop(sid, None)

    def keep(self, sids: Collection[str], now: Instant) -> None:
        """Forget all rooms but these and the young ones."""
        self._rooms = {s: o for s, o in self._rooms.items() if s in sids or o.began_at > now - YOUNG}
