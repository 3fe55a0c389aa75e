"""What a bouncer would do in a room now, judged from outside it: lists in, a scene and the evictions out. Pure.

This drives the engine's own watch with the server's lists, in the place of the bouncer that acts there, or of one that
has just joined. Its commands are answered from the lists, and none is carried out. What a bouncer knows only from
watching is unknown here, so the rules that rest on it are left out. If that bouncer has answered how it sees the room,
its facts are added to what the lists say, and all rules are judged.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from bouncer.configuration.model import NO_PLUGINS, Layer, PluginLoaders
from bouncer.decide import BUDGET_WINDOW, Decision, Finding, Ledger, Removal, decide
from bouncer.events import Connected, Dispatched, Info, Job, Listed
from bouncer.guard.view import WATCHED, Snapshot
from bouncer.guard.watch import Command, Evict, ListJobs, ListParticipants, Watch
from bouncer.observers import Decided, News
from bouncer.policy import Policy
from bouncer.room import JOB_IDENTITY, UNLISTED_FOR, Instant, Participant, Role, Room, says_guarding
from bouncer.tracker import Tracker

STEPS = 20
"""Steps after which a watch that isn't disturbed has long decided; it takes five."""
NO_ONE = Info(sid="", identity="")
"""The bouncer that has just joined, where there is none."""


@dataclass(frozen=True, slots=True)
class Outside:
    """A room judged from outside."""

    snapshot: Snapshot
    evicted: tuple[Finding, ...]
    """The agents that would be evicted now; none in a dry run."""
    unknown: tuple[str, ...]
    """The policies in force that can't be judged from outside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lists:
    """What the server's API says of a room at `at`."""

    name: str
    sid: str
    metadata: str
    infos: tuple[Info, ...]
    jobs: tuple[Job, ...]
    at: Instant
    """In the instants in which the participants are dated."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How the bouncer that acts in a room sees it."""

    view: Mapping[str, Any]
    """As guard/view.py makes it."""
    instant: Callable[[str], Instant]
    """Gives the instant of one of its dates."""

    def room(self, room: Room) -> Room:
        """Return a room as it is listed, with the facts that the bouncer alone knows."""
        told = {each["sid"]: each for each in self.view["participants"]}
        evicted = [each for each in (*self.view["departed"], *told.values()) if "evicted_at" in each]
        return replace(
            room,
            # Of a crowd not all are told of: nothing is made up about the others.
            participants=tuple(self._participant(p, told) for p in room.participants if p.sid in told),
            watching_since=self._at(self.view, "watching_since") or room.watching_since,
            humans_left_at=self._at(self.view, "people_left_at"),
            evicted_at={each["identity"]: self.instant(each["evicted_at"]) for each in evicted},
        )

    def ledger(self, now: Instant) -> Ledger:
        """Return what the bouncer has done so far, as far as it counts under any configuration."""
        gone = [each for each in self.view["departed"] if "evicted_at" in each]
        sent = (Removal(self.instant(each["evicted_at"]), each["sid"], each["identity"]) for each in gone)
        leaving = (each["sid"] for each in self.view["verdicts"] if each["status"] == "leaving")
        return Ledger(sent=tuple(each for each in sent if each.at + BUDGET_WINDOW > now), leaving=frozenset(leaving))

    def _participant(self, who: Participant, of_sid: Mapping[str, Mapping[str, Any]]) -> Participant:
        told = of_sid[who.sid]
        known = {each.name: each.default for each in fields(Participant) if each.name in WATCHED}
        # What isn't so is left out of a view; so are the dates that every agent has, of people.
        facts: dict[str, Any] = {name: default for name, default in known.items() if not isinstance(default, float)}
        for name in known.keys() & told.keys():
            facts[name] = self._at(told, name) if name.endswith(("_at", "_since")) else told[name]
        if who.principal and who.principal.sid in of_sid:
            facts["principal"] = self._participant(who.principal, of_sid)
        attributes = told.get("attributes", {})
        dates = {name: self.instant(each["at"]) for name, each in attributes.items()}
        return replace(who, attributes_at={**who.attributes_at, **dates}, **facts)

    def _at(self, facts: Mapping[str, Any], name: str) -> Instant | None:
        return self.instant(facts[name]) if name in facts else None


def judge(
    lists: Lists,
    *,
    agent_name: str,
    layers: Sequence[Layer],
    registry: Sequence[type[Policy]],
    plugins: PluginLoaders = NO_PLUGINS,
    answer: Answer | None = None,
) -> Outside:
    """Return what a bouncer would do in this room now. `layers` are those beneath the room's metadata, lowest first."""
    now = max(lists.at, *(info.joined_at for info in lists.infos), lists.at)
    me = _acting(lists, agent_name, now)
    watch = Watch(Tracker(agent_name), registry, lambda _: 0.5, now, plugins, tuple(layers))
    watch.tell(Connected(now, me))
    _take(watch.tracker, lists, now)
    watch.configure(lists.metadata, now)
    in_force = watch.config
    if in_force:
        watch.config = replace(in_force, rules=tuple(rule for rule in in_force.rules if not rule.watches))
    news, evicted, now = _drive(watch, lists, now)
    decided = next((each for each in reversed(news) if isinstance(each, Decided)), None)
    if decided is None:
        decided = Decided(now, watch.room, Decision(), Ledger())
    unknown = _unknown(in_force.rules) if in_force else ()
    findings = [each.finding for each in evicted if each.mode == "enforce"]
    if answer and in_force and in_force.mode != "off":
        room, ledger = answer.room(decided.room), answer.ledger(now)
        decided = Decided(now, room, decide(room, in_force.rules, in_force.guards, now, ledger), ledger)
        findings = [*decided.decision.evictions] if in_force.mode == "enforce" else []
        unknown = ()
    return Outside(
        snapshot=Snapshot(
            name=lists.name,
            sid=lists.sid,
            now=decided.at,
            standing=watch.standing,
            room=decided.room,
            config=in_force,
            decision=decided.decision,
            ledger=decided.ledger,
            problems=watch.refused.problems if watch.refused else (),
            outside=True,
        ),
        evicted=tuple(findings),
        unknown=unknown,
    )


def acting(lists: Lists, agent_name: str) -> Participant | None:
    """Return our bouncer that acts in the room: the oldest that says so, else the oldest at all; None without one."""
    tracker = Tracker(agent_name)
    tracker.apply(Connected(lists.at, NO_ONE))
    hidden = replace(lists, infos=tuple(info for info in lists.infos if info.hidden))  # of a crowd, few
    _take(tracker, hidden, lists.at)
    ours = (p for p in tracker.room().participants if p.role is Role.BOUNCER and not p.foreign and p.sid and p.active)
    return min(ours, key=lambda p: (not p.guarding, p.age), default=None)


def arriving(lists: Lists) -> bool:
    """Return True if a participant may be a bouncer of ours whose dispatch the server doesn't list yet."""
    known = {job.identity for job in lists.jobs}
    return any(
        info.hidden
        and says_guarding(info.attributes)
        and info.identity.startswith(JOB_IDENTITY)
        and info.identity not in known
        and lists.at <= info.joined_at + UNLISTED_FOR
        for info in lists.infos
    )


def _acting(lists: Lists, agent_name: str, now: Instant) -> Info:
    found = acting(replace(lists, at=now), agent_name)
    return next((info for info in lists.infos if found and info.sid == found.sid), NO_ONE)


def _take(tracker: Tracker, lists: Lists, now: Instant) -> None:
    tracker.apply(Listed(now, now, lists.infos))
    tracker.apply(Dispatched(now, now, lists.jobs))


def _drive(watch: Watch, lists: Lists, now: Instant) -> tuple[list[News], list[Evict], Instant]:
    """Step the watch until it wants nothing more done now."""
    news: list[News] = []
    evicted: list[Evict] = []
    for _ in range(STEPS):
        step = watch.step(now)
        news += step.news
        evicted += [command for command in step.commands if isinstance(command, Evict)]
        asked = [command for command in step.commands if not isinstance(command, Evict)]
        for command in asked:
            watch.answered(command, _answer(command, lists, watch), now)
        if not asked and (evicted or any(isinstance(each, Decided) for each in step.news)):
            break
        if not asked:
            now = min(step.wake_at, now + 1)
    return news, evicted, now


def _answer(command: Command, lists: Lists, watch: Watch) -> Any:
    match command:
        case ListParticipants():
            # With the bouncer that isn't there: a watch finds itself in every list.
            return lists.infos if watch.room.me else (NO_ONE, *lists.infos)
        case ListJobs():
            return lists.jobs
        case _:
            return False


def _unknown(rules: Iterable[Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(rule.policy.name for rule in rules if rule.watches))
