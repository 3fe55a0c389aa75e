"""An eviction by hand: the engine's own decision, evictor and proof, for one participant that is named."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import ClassVar

from bouncer.adapter.fleet import OUTSIDE, apparent_jobs, look
from bouncer.adapter.project import OpenRoom, Project
from bouncer.configuration.model import ROOM, Config, Layer, Mode
from bouncer.dates import rfc3339
from bouncer.decide import NO_LIMIT, Decision, Finding, Outcome
from bouncer.events import Connected, Dispatched, Info, Listed
from bouncer.guard.eviction import DryRun, Remover
from bouncer.guard.history import History
from bouncer.guard.plan import beneath
from bouncer.guard.recheck import Moment, Recheck
from bouncer.observers import Evicted
from bouncer.observers.records import Record, Records
from bouncer.people import named_by
from bouncer.policy import Rule, Verdict
from bouncer.ports import ApiError
from bouncer.room import JOB_IDENTITY, Instant, Participant, Role, Room
from bouncer.tracker import Tracker

LOOK_EVERY = 0.1
"""Seconds between two lists while a participant is awaited to be gone."""
REASON = "was named by hand"
UNDONE = (Outcome.VOID, Outcome.DENIED, Outcome.FAILED)
"""The endings after which the participant is still there."""


class NotEvicted(LookupError):  # noqa: N818 - it is an answer, not a failure
    """The participant may not be evicted, and why."""


@dataclass(frozen=True, slots=True)
class TheOne:
    """Names one participant, by its sid, that must leave now."""

    name: ClassVar[str] = "by_hand"
    judges_avatars: ClassVar[bool] = True

    sid: str
    at: Instant
    reason: str = REASON

    def evaluate(self, room: Room) -> Iterable[Verdict]:
        """Yield the one verdict, if the participant is one that may be evicted at all."""
        for each in room.agents_and_avatars:
            if each.sid == self.sid:
                yield Verdict(each, self.at, self.reason)


@dataclass(frozen=True, slots=True)
class _Api:
    """The server API for one room, as the evictor uses it."""

    project: Project
    room: str

    async def get_participant(self, identity: str) -> Info | None:
        """Return the participant that has this identity now; None if there is none."""
        return await self.project.participant(self.room, identity)

    async def remove_participant(self, identity: str) -> bool:
        """Remove the participant that has this identity. Return False if there was none."""
        return await self.project.remove_participant(self.room, identity)

    async def delete_dispatch(self, dispatch: str) -> bool:
        """End all jobs of a dispatch gracefully. Return False if there was none."""
        return await self.project.delete_dispatch(self.room, dispatch)


class _Wall:
    """Dates what is read from outside a room, where instants are Unix times."""

    @staticmethod
    def now() -> Instant:
        """Return the instant."""
        return time.time()

    @staticmethod
    def dated(instant: Instant) -> str:
        """Return an instant as an RFC 3339 time with milliseconds."""
        return rfc3339(instant)


async def layers_in_force(
    project: Project, room: OpenRoom, agent_name: str, below: Sequence[Layer], unguarded: Sequence[Layer] = ()
) -> list[Layer]:
    """Return the layers that count in a room: those below, its bouncer's dispatch, and its own.

    A room without a bouncer has `unguarded` in place of a dispatch.
    """
    sight = await look(project, room.name, agent_name)
    dispatched = None
    if acting := sight.acting:
        sent = (each.metadata for each in sight.dispatches if any(job.identity == acting.identity for job in each.jobs))
        dispatched = next(sent, "")
    return [*beneath(below, dispatched, unguarded), Layer(ROOM, room.metadata, shared=True)]


class ByHand:
    """The eviction of one participant from outside its room: the scene that the engine's evictor plays in.

    Of the room's configuration only the exemptions count, and the time that an agent gets to leave.
    """

    def __init__(self, project: Project, room: OpenRoom, agent_name: str, config: Config) -> None:
        self._project = project
        self._open = room
        self._name = room.name
        self._config = config
        self._tracker = Tracker(agent_name)
        self._history = History(lambda _: 0.5)
        self._rules: tuple[Rule, ...] = ()
        self._tracker.apply(Connected(time.time(), OUTSIDE))
        named = named_by(config.people_also, config.people_except, config.avatars)
        self._tracker.configure(time.time(), named=named)

    @property
    def room(self) -> Room:
        """The room as it is known now."""
        return self._tracker.room().without(frozenset({OUTSIDE.sid}))

    def decide(self, identity: str, sid: str = "", reason: str = REASON) -> Decision:
        """Decide that the participant of this identity must leave, if it has this sid. Its avatar leaves with it.

        Raises: NotEvicted if it may not be evicted.
        """
        who = next((each for each in self.room.participants if each.identity == identity), None)
        if who is None:
            close = get_close_matches(identity, [each.identity for each in self.room.participants], n=1)
            hint = f"did you mean “{close[0]}”?" if close else f"`bouncer plan {self._name}` lists those that are"
            raise NotEvicted(f"no participant “{identity}” is in “{self._name}”; {hint}")
        why = "it has left, and this is a newer connection" if sid not in ("", who.sid) else protection(who)
        if why:
            raise NotEvicted(f"“{identity}” is not evicted: {why}")
        self._rules = (Rule(policy=TheOne(who.sid, time.time(), reason)),)
        decision = self._moment().decision()
        if decision.held:
            what = decision.held[0].why
            raise NotEvicted(
                f"“{identity}” is not evicted: the configuration exempts it by {what}; `bouncer plan` shows it"
            )
        if not decision.evictions:
            raise NotEvicted(f"“{identity}” is not evicted: it is no agent that may be evicted")
        return decision

    async def evict(self, decision: Decision, *, dry_run: bool = False) -> list[Evicted]:
        """Carry a decision out. Return how each eviction ended."""
        room = self._tracker.room()
        mode: Mode = "dry_run" if dry_run else "enforce"
        for finding in decision.evictions:
            self._history.begin(finding, decision.group(finding), room, time.time(), mode)
        evictor = DryRun() if dry_run else Remover(_Api(self._project, self._name), self)

        async def evict(finding: Finding) -> Evicted:
            began = time.monotonic()
            ended = await evictor.evict(finding)
            took = time.monotonic() - began
            return Evicted(finding, ended.outcome, took, ended.why, ended.rungs, room, mode)

        endings = await asyncio.gather(*map(evict, decision.evictions))
        for ending in endings:
            self._history.end(ending.finding, ending.outcome, time.time())
        if any(ending.outcome is Outcome.REMOVED for ending in endings):
            await self._delete_spent_dispatches()
        return endings

    def records(self, endings: Iterable[Evicted]) -> list[Record]:
        """Return the records of evictions that ended, as a bouncer's would be."""
        render = Records(self._name, _Wall(), self._open.sid)
        return [record for each in endings if (record := render.of(each))]

    async def look(self, finding: Finding | None = None) -> tuple[Info, ...]:  # noqa: ARG002 - the Scene's signature
        """Read who is in the room."""
        asked_at = time.time()
        infos = await self._project.participants(self._name)
        self._tracker.apply(Listed(time.time(), asked_at, infos))
        if self._tracker.unsettled:
            asked_at = time.time()
            jobs = tuple(job for dispatch in await self._project.dispatches(self._name) for job in dispatch.jobs)
            apparent = apparent_jobs(infos, self._tracker.my_agent_name)
            self._tracker.apply(Dispatched(time.time(), asked_at, (*jobs, *apparent)))
        return infos

    def still_due(self, finding: Finding) -> bool:
        """Return True unless it has become something that is never evicted."""
        return Recheck(self._moment()).still_due(finding)

    def leave_within(self, finding: Finding) -> float:
        """Return the seconds it gets to leave once its dispatch is deleted; 0 where others may depend on that."""
        if self._tracker.unsettled or not Recheck(self._moment()).may_end_dispatch(finding):
            return 0.0
        return self._config.leave_within

    def sent(self, finding: Finding) -> None:
        """Note that the end of its dispatch, or its removal, goes out."""
        self._history.send(finding, time.time())

    async def absent(self, sid: str, within: float) -> bool:
        """Wait for two lists without it, since one may miss a participant for a moment."""
        deadline = time.monotonic() + within
        missing = 0
        while missing < 2:  # noqa: PLR2004 - as above
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(LOOK_EVERY)
            infos = await self._project.participants(self._name)
            missing = 0 if any(info.sid == sid for info in infos) else missing + 1
        return True

    def failing(self, error: ApiError) -> None:
        """Be told why it failed; the ending says so."""

    async def _delete_spent_dispatches(self) -> None:
        """Delete the dispatch of an agent that was removed, unless others depend on it, so that nothing restarts it."""
        await self.look()
        if not self._tracker.unsettled:
            for dispatch in self._history.take_spent(self._tracker.room(), self._tracker.unsure):
                await self._project.delete_dispatch(self._name, dispatch)

    def _moment(self) -> Moment:
        now = time.time()
        return Moment(
            room=self._tracker.room(),
            rules=self._rules,
            guards=replace(self._config.guards, max_per_minute=NO_LIMIT, keep_last_agent=False),
            now=now,
            ledger=self._history.ledger(now),
            under_way=dict(self._history.under_way),
            unsure=self._tracker.unsure | self._tracker.fallback_avatars,
        )


def named(finding: Finding) -> str:
    """Return what a participant is, and its names."""
    who = finding.participant
    role = "its avatar" if finding.follows else who.role
    return f"{role} {who.identity}" + (f" ({who.agent_name})" if who.agent_name else "")


def told(ending: Evicted) -> str:
    """Say for people how an eviction ended."""
    words = {
        Outcome.LEFT: f"left once its dispatch was deleted, after {ending.took:.2f} s",
        Outcome.REMOVED: f"was removed, and seen gone after {ending.took:.2f} s",
        Outcome.GONE: "had left already",
    }.get(ending.outcome, "was not evicted")
    line = f"{named(ending.finding)} {words}" + (f": {ending.why}" if ending.why else "")
    return line[:1].upper() + line[1:]


def protection(who: Participant) -> str:
    """Return why a participant is never evicted; empty if it may be."""
    why = ""
    match who.role:
        case Role.HUMAN:
            why = "it is a person, and people are never evicted"
        case Role.BOUNCER:
            why = "it is a bouncer; `bouncer release` takes it out of the room"
        case Role.OTHER if who.hidden and who.identity.startswith(JOB_IDENTITY):
            why = "it may be a bouncer that has just come; try again in some seconds"
        case Role.OTHER:
            why = "it is neither an agent nor an avatar, but a service or an onlooker"
        case Role.AGENT | Role.AVATAR if not who.active:
            why = "it is still joining; try again in a moment"
        case Role.AGENT | Role.AVATAR if not who.evictable:
            why = "only the server can say that a participant is an agent, and it doesn't"
        case _:
            pass
    return why
