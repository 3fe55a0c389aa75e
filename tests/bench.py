"""A watch on a bench: a room that does at once what the watch commands, in whole seconds and without an event loop."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from bouncer.decide import Outcome
from bouncer.events import Attributes, Connected, Disconnected, Info, Job, Joined, Left, Signal
from bouncer.guard.watch import (
    TRANSITIONS,
    Claim,
    Command,
    DeleteDispatch,
    Ending,
    Evict,
    Leave,
    ListJobs,
    ListParticipants,
    Standing,
    Watch,
)
from bouncer.observers import Decided, Evicted, Failing, HeldBack, News, Noticed, Reported
from bouncer.ports import ApiError, Doing, Says, Trouble
from bouncer.recording.recorder import RoomRecorder
from bouncer.room import Kind
from bouncer.tracker import Tracker
from policies import BUILTIN
from tests.recordings import Tapes

ME = Info(sid="PA_me", identity="agent-AJ_me", kind=Kind.AGENT, hidden=True, attributes={"bouncer.guarding": "true"})
OURS = Job(dispatch="AD_me", job="AJ_me", agent_name="bouncer", identity="agent-AJ_me")


@dataclass
class Bench:
    """A room with one watch in it. `until` lets time pass; every call is answered at the instant it is made."""

    policies: Any = None
    """What stands under `policies`; None leaves the built-in defaults."""
    mode: str = "enforce"
    eviction: Any = None
    exempt: Any = None
    leave_after: float | None = None
    trouble: Trouble | None = None
    """How every list fails, if it does."""
    throttled: bool = False
    """True while the worker is out of calls: only urgent lists are answered."""
    removal_trouble: Trouble | None = None
    fails: dict[type, Exception] = field(default_factory=dict)
    """How all commands of a kind fail, while they do."""
    meanwhile: Callable[[], object] | None = None
    """What happens once, between the decision on an eviction and its removal."""
    now: float = 0.0
    tapes: Tapes | RoomRecorder | None = None
    """What records the watch, if it is to be recorded."""

    def __post_init__(self) -> None:
        self.here: dict[str, Info] = {ME.identity: ME}
        self.jobs: tuple[Job, ...] = (OURS,)
        self.commands: list[tuple[float, Command]] = []
        self.news: list[News] = []
        self.standings: list[tuple[float, Standing]] = []
        self.stuck: set[str] = set()
        """Identities that stay when their dispatch is deleted."""
        if self.tapes:
            self.tapes.clock = lambda: self.now
        make: Callable[..., Watch] = self.tapes.watch if self.tapes else Watch
        self.watch = make(Tracker(), BUILTIN, lambda _purpose: 0.5, self.now)
        self._sids = 0
        self._wake_at = self.now
        self.watch.tell(Connected(self.now, ME))
        self.configure()

    def configure(self, **changes: Any) -> None:
        """Write the room's metadata, with these changes to what it was."""
        for name, value in changes.items():
            setattr(self, name, value)
        keys = ("mode", "policies", "eviction", "exempt", "leave_after")
        ours = {key: getattr(self, key) for key in keys}
        text = json.dumps({"bouncer": {key: value for key, value in ours.items() if value is not None}})
        self.watch.configure(text, self.now)
        self._go()

    def joins(self, identity: str, name: str = "", *, dispatch: str = "", announced: bool = True, **facts: Any) -> None:
        """Let a participant join: an agent if it has a name, a person otherwise. No event announces hidden ones."""
        self._sids += 1
        attributes = ({"lk.agent_name": name} if name else {}) | facts.pop("attributes", {})
        facts = {"kind": Kind.AGENT if name else Kind.STANDARD, "agent_grant": False, "hidden": False} | facts
        milliseconds = round(self.now * 1000)
        info = Info(
            sid=f"PA_{self._sids}",
            identity=identity,
            joined_at=self.now,
            joined_ms=milliseconds,
            attributes=attributes,
            **facts,
        )
        if dispatch:
            self.jobs += (Job(dispatch=dispatch, job=f"AJ_{self._sids}", agent_name=name, identity=identity),)
        if old := self.here.pop(identity, None):
            self.watch.tell(Left(self.now, old.sid))
        self.here[identity] = info
        if announced and not info.hidden:
            self.watch.tell(Joined(self.now, replace(info, hidden=None, agent_grant=None)))
        self._go()

    def leaves(self, *identities: str) -> None:
        """Let participants leave."""
        for identity in identities:
            self.watch.tell(Left(self.now, self.here.pop(identity).sid))
        self._go()

    def says(self, identity: str, state: str) -> None:
        """Let an agent publish its state."""
        info = self.here[identity]
        self.here[identity] = replace(info, attributes={**info.attributes, "lk.agent.state": state})
        self.watch.tell(Attributes(self.now, info.sid, self.here[identity].attributes))
        self._go()

    def signals(self, identity: str) -> None:
        """Let a participant send data."""
        self.watch.tell(Signal(self.now, self.here[identity].sid))
        self._go()

    def disconnects(self) -> None:
        """Let the connection be lost."""
        self.watch.tell(Disconnected(self.now))
        self._go()

    def reconnects(self) -> None:
        """Let the connection be restored."""
        self.watch.tell(Connected(self.now, ME, tuple(i for i in self.here.values() if not i.hidden)))
        self._go()

    def reconnects_fully(self) -> None:
        """Let a new connection replace ours: to us, everyone leaves and joins."""
        shown = [info for info in self.here.values() if not info.hidden]
        for info in shown:
            self.watch.tell(Left(self.now, info.sid))
        self.watch.tell(Disconnected(self.now))
        for info in shown:
            self.watch.tell(Joined(self.now, info))
        self.reconnects()

    def until(self, when: float) -> None:
        """Let time pass."""
        while self._wake_at <= when:
            self.now = max(self.now, self._wake_at)
            self._go()
        self.now = when

    @property
    def identities(self) -> set[str]:
        """Everyone who is in the room, except us."""
        return self.here.keys() - {ME.identity}

    @property
    def outcomes(self) -> list[tuple[str, str]]:
        """How evictions ended: identity and outcome."""
        return [(n.finding.participant.identity, str(n.outcome)) for n in self.news if isinstance(n, Evicted)]

    @property
    def told(self) -> list[tuple[str, str, str]]:
        """What was reported, held back or noticed: kind, identity and rule; for a hold, what holds it."""
        found = []
        for news in self.news:
            match news:
                case Reported(finding):
                    found.append(("reported", finding.participant.identity, finding.rule.id))
                case HeldBack(hold):
                    found.append(("held", hold.finding.participant.identity, str(hold.by)))
                case Noticed(finding):
                    found.append(("notice", finding.participant.identity, finding.rule.id))
                case _:
                    pass
        return found

    @property
    def evaluations(self) -> int:
        """How often the room was judged."""
        return len([news for news in self.news if isinstance(news, Decided)])

    @property
    def failing(self) -> list[str]:
        """What was reported as failing."""
        return [str(news.doing) for news in self.news if isinstance(news, Failing)]

    @property
    def claims(self) -> list[bool]:
        """What we said, one time after the other, about guarding the room."""
        return [command.says is Says.GUARDING for _, command in self.commands if isinstance(command, Claim)]

    def made(self, *kinds: type) -> list[float]:
        """When commands of these kinds were given."""
        return [at for at, command in self.commands if isinstance(command, kinds)]

    def _go(self) -> None:
        """Step, and answer the commands, until there is nothing to do at this instant."""
        while True:
            step = self.watch.step(self.now)
            self.news += step.news
            self._note_standing()
            self._wake_at = step.wake_at
            for command in step.commands:
                self.commands.append((self.now, command))
                self.watch.answered(command, self._answer(command), self.now)
            if not step.commands:
                return

    def _note_standing(self) -> None:
        before, standing = self.standings[-1][1] if self.standings else Standing.BLIND, self.watch.standing
        if standing is not before or not self.standings:
            assert standing in TRANSITIONS[before] or standing is before, f"{before} -> {standing}"
            self.standings.append((self.now, standing))

    def _answer(self, command: Command) -> Any:
        if failure := self._failure(command):
            return failure
        match command:
            case ListParticipants():
                return tuple(self.here.values())
            case ListJobs():
                return self.jobs
            case DeleteDispatch(dispatch):
                return self._end(dispatch)
            case Claim(says):
                attributes = {"bouncer.guarding": "true"} if says is Says.GUARDING else {}
                self.here[ME.identity] = replace(ME, attributes=attributes)
            case Evict():
                return self._evict(command)
            case Leave():
                self.watch.close()
        return None

    def _failure(self, command: Command) -> Exception | None:
        match command:
            case ListParticipants() | ListJobs() if self.trouble:
                return ApiError(self.trouble, "the test says so")
            case ListParticipants(urgent) | ListJobs(urgent) if self.throttled and not urgent:
                return ApiError(Trouble.THROTTLED, "out of calls")
            case _:
                return self.fails.get(type(command))

    def _evict(self, command: Evict) -> Ending:
        """What the evictors do, without the waiting."""
        if command.mode == "dry_run":
            return Ending(Outcome.WOULD)
        if self.meanwhile:
            happens, self.meanwhile = self.meanwhile, None
            happens()
        finding, who = command.finding, command.finding.participant
        if self.watch.last_list.asked_at < self.watch.list_since(finding, self.now):
            self.watch.listed(tuple(self.here.values()), self.now, self.now)
        if not self.watch.still_due(finding, self.now):
            return Ending(Outcome.VOID, "it is no longer due")
        if self.watch.leave_within(finding, self.now):
            self.watch.sent(finding, self.now)
            self._end(who.dispatch)
            if who.identity not in self.here:
                return Ending(Outcome.LEFT)
        self.watch.sent(finding, self.now)
        if self.removal_trouble:
            self.watch.failing(Doing.EVICTING, ApiError(self.removal_trouble, "the test says so"))
            return Ending(Outcome.DENIED if self.removal_trouble is Trouble.DENIED else Outcome.FAILED)
        return Ending(Outcome.REMOVED if self.here.pop(who.identity, None) else Outcome.GONE)

    def _end(self, dispatch: str) -> bool:
        ended = [job for job in self.jobs if job.dispatch == dispatch]
        self.jobs = tuple(job for job in self.jobs if job.dispatch != dispatch)
        self._drop(job.identity for job in ended if job.identity not in self.stuck)
        return bool(ended)

    def _drop(self, identities: Iterable[str]) -> None:
        for identity in identities:
            if info := self.here.pop(identity, None):
                self.watch.tell(Left(self.now, info.sid))
