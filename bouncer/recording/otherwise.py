"""A recorded room under another configuration: what the real watch would have done, in virtual time. Pure.

The watch learns of the room exactly what was recorded, when it was recorded: its own looks at the server's lists add
nothing. What it would evict that was evicted then too ends as it ended then. What wasn't is gone from here on; that is
the room's first difference, and what comes after it is what a recording can't vouch for.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bouncer.configuration.model import Layer
from bouncer.decide import HeldBy, Outcome
from bouncer.events import Connected, Dispatched, Event, Info, Joined, Left, Listed, Stalled
from bouncer.guard.watch import Command, Ending, Evict, Leave, ListJobs, ListParticipants
from bouncer.observers import Decided, HeldBack, News, Noticed, Refused, Reported
from bouncer.recording.format import Decoder, FormatError, Header, Line, number, record
from bouncer.recording.pseudonyms import Matches
from bouncer.recording.replay import Recording, Registry, Replayed
from bouncer.recording.story import Story
from bouncer.room import Instant
from bouncer.tracker import Tracker

TOGETHER = 1.0
"""Seconds between an eviction then and now that is the same one."""
MOST_STEPS = 20_000
"""Steps from one line to the next; a watch that needs more goes round in circles."""
MOST_WAITING = 1000
"""Lines between two steps."""
PATIENCE = 40.0
"""Seconds: longer than the longest pause before what failed is tried again."""
EVICTED = frozenset({Outcome.REMOVED, Outcome.LEFT})


@dataclass(frozen=True, slots=True)
class Exit:
    """An eviction, or one that a dry run would have made."""

    sid: str
    rule: str
    at: Instant
    real: bool
    """False in a dry run."""
    reason: str = ""


@dataclass(slots=True)
class Course:
    """How a room went then, and how it would have gone."""

    header: Header
    ended_at: Instant
    then: dict[str, Exit]
    now: dict[str, Exit]
    story: Story
    shifted: frozenset[str]
    """The sids whose removal `max_per_minute` held back, then or now."""
    deaf: frozenset[str]
    """The sids that would be due, as far as the recording can tell: they weren't listened to."""
    verdicts: tuple[tuple[Instant, str, str], ...]
    """What else would be told of verdicts: when, the sid, and what."""
    asked: bool
    """True if a selector would have had to match a pseudonym."""


class Otherwise(Replayed):
    """A watch to which its own lists say nothing: it learns what was recorded, when it was recorded."""

    def listed(self, infos: Sequence[Info], asked_at: Instant, now: Instant) -> None:
        """Take no note of a list of our own."""

    def take(self, event: Listed | Dispatched) -> None:
        """Take in a list that was recorded."""
        super()._learn(event)
        self._changed = True

    def _learn(self, event: Event) -> None:
        if not isinstance(event, Dispatched):
            super()._learn(event)


@dataclass(slots=True)
class _Attempt:
    """An eviction that is under way now."""

    command: Evict
    ends_at: Instant
    """When it ends, unless the one of then says when and how."""


@dataclass(slots=True)
class _Given:
    """A command of then that isn't answered yet."""

    kind: str
    about: list[Any]
    at: Instant


class Driver:
    """Drives a watch through a recording: `do` each line, then ask for the `course`."""

    def __init__(self, header: Header, registry: Registry, overlay: tuple[Layer, ...] = ()) -> None:
        """Make one. `overlay` is configuration above the room's metadata."""
        self.header = header
        self.watch = Otherwise(
            Tracker(header.agent_name),
            registry.policies,
            lambda _: 0.5,
            header.began_at,
            registry.plugins,
            header.layers,
        )
        self.matches = self.watch.matches = Matches()
        self.watch.overlay = overlay
        self.story = Story()
        self.then: dict[str, Exit] = {}
        self.now: dict[str, Exit] = {}
        self._decoder = Decoder()
        self._at = header.began_at
        self._wake_at = math.inf
        self._given: dict[int, _Given] = {}
        self._count = 0
        self._listed_at = header.began_at
        self._hearing = "off"
        self._under_way: dict[str, Exit] = {}
        """What is being evicted then, by sid."""
        self._attempts: dict[str, _Attempt] = {}
        """What is being evicted now, by sid."""
        self._removed: set[str] = set()
        """The sids that were evicted now, and were not then."""
        self._lists = False
        """True if the server's list has been read since we were connected, and the last one didn't fail."""
        self._failed_at = -math.inf
        """When the list could not be read the last time."""
        self._looks: list[Command] = []
        """Our own looks that wait for that."""
        self._frozen = False
        self._patience: dict[str, float] = {}
        """Seconds that an attempt waits for one of then: longer for an agent that couldn't be removed then."""
        self._held: set[str] = set()
        self._deaf: set[str] = set()
        self._verdicts: list[tuple[Instant, str, str]] = []

    def course(self) -> Course:
        """Return how it went, once all lines are done."""
        self._advance(self._at + TOGETHER)
        self.story.end(self._at)
        return Course(
            header=self.header,
            ended_at=self._at,
            then=self._under_way | self.then,
            now=self.now,
            story=self.story,
            shifted=frozenset(self._held),
            deaf=frozenset(self._deaf - self.now.keys()),
            verdicts=tuple(self._verdicts),
            asked=bool(self.matches.asked),
        )

    def freeze(self) -> None:
        """The bouncer doesn't run until the next step that is late: nothing is decided meanwhile."""
        self._frozen = True

    def do(self, line: Line) -> None:
        """Take in a line. Raises: FormatError if it says nothing that can be."""
        if "globs" in line:
            self.matches.learn(line["globs"], line["texts"])
            return
        at = number(line, "at")
        if "step" in line:
            self._step(record(line, "step"), at)
            return
        self._advance(at)
        self._at = at
        match line:
            case {"event": _}:
                self._happened(self._decoder.event(line), at)
            case {"answer": which}:
                self._answered(self._given.pop(which, None), self._decoder.answer(line), at)
            case {"configure": str(metadata)}:
                self.watch.configure(metadata, at)
                if self.watch.refused:
                    self.watch.valid(metadata)
            case {"listed": asked_at}:
                self._list(Listed(at, asked_at, self._decoder.infos(line["infos"])))
            case {"sent": sid} if attempt := self._attempts.get(sid):
                self.watch.sent(attempt.command.finding, at)
            case {"hand_over": _}:
                self.watch.hand_over()
            case {"close": _} | {"end": _}:
                self.watch.close()
            case _:
                return
        self._go(at)

    # What was done then

    def _step(self, step: Line, at: Instant) -> None:
        if not step:
            return
        if "late" in step:
            self._frozen = False
            self.watch.tell(Stalled(at))
            self._go(at)
        for kind, *about in step.get("commands", ()):
            self._given[self._count] = _Given(kind, about, at)
            self._count += 1
            if kind == "evict":
                self._advance(at)
                self._begins(*about, at=at)
        for what, *about in step.get("news", ()):
            if what == "configured":
                self._hearing = about[1]
            elif what == "held" and about[-1] == HeldBy.BUDGET:
                self._held.add(about[0])

    def _begins(self, sid: str, rule: str, _due: Instant, mode: str, *, at: Instant) -> None:
        self._under_way[sid] = Exit(sid, rule, at, mode == "enforce")
        if attempt := self._attempts.get(sid):
            attempt.ends_at = math.inf
            self.now[sid] = replace(self.now[sid], at=at)

    def _answered(self, given: _Given | None, answer: Any, at: Instant) -> None:
        match given:
            case _Given("evict", [sid, *_]):
                self._ended(sid, answer, at)
            case _Given("list_participants", _, asked_at):
                if isinstance(answer, Exception):
                    self._lists, self._failed_at = False, at
                else:
                    self._listed_at = at
                    self._list(Listed(at, asked_at, answer))
            case _Given("list_jobs") if not isinstance(answer, Exception):
                # The jobs are asked for as soon as the participants are listed.
                self.watch.take(Dispatched(at, self._listed_at, answer))
            case _:
                pass

    def _ended(self, sid: str, answer: Any, at: Instant) -> None:
        then = self._under_way.pop(sid)
        outcome = answer.outcome if isinstance(answer, Ending) else Outcome.FAILED
        if outcome in EVICTED:
            self.then[sid] = then
        if outcome is Outcome.WOULD:
            self.then.setdefault(sid, then)
            if attempt := self._attempts.get(sid):
                attempt.ends_at = at
            return
        gone = outcome in EVICTED or outcome is Outcome.GONE
        if gone:
            self.story.leave(sid, at)
        if attempt := self._attempts.pop(sid, None):
            self.watch.answered(attempt.command, Ending(outcome), at)
            if outcome not in EVICTED:
                del self.now[sid]
                self._patience[sid] = PATIENCE
        elif gone and self.watch.tracker.has(sid):
            self.watch.tell(Left(at, sid))

    def _happened(self, event: Event, at: Instant) -> None:
        self.story.take(event, at)
        if isinstance(event, Connected):
            self._lists = False
            event = Connected(event.at, event.me, self._still_here(event.others))
        sid = event.info.sid if isinstance(event, Joined) else getattr(event, "sid", "")
        if sid not in self._removed:
            self.watch.tell(event)

    def _list(self, event: Listed) -> None:
        self.story.take(event, event.at)
        self.watch.take(Listed(event.at, event.asked_at, self._still_here(event.infos)))
        self._lists = True
        looks, self._looks = self._looks, []
        for command in looks:
            self.watch.answered(command, (), event.at)

    def _still_here(self, infos: tuple[Info, ...]) -> tuple[Info, ...]:
        if not self._removed:
            return infos
        return tuple(info for info in infos if info.sid not in self._removed)

    # What is done now

    def _advance(self, until: Instant) -> None:
        """Let time pass: step the watch whenever it wants to be, and let evictions end."""
        for _ in range(MOST_STEPS):
            ends_at = min((attempt.ends_at for attempt in self._attempts.values()), default=math.inf)
            now = min(self._wake_at, ends_at)
            if now > until or self._frozen:
                return
            for sid in [sid for sid, attempt in self._attempts.items() if attempt.ends_at <= now]:
                self._end(sid, now)
            self._go(now)
        raise FormatError(f"the watch did not get from {self._at} to {until} in {MOST_STEPS} steps")

    def _end(self, sid: str, now: Instant) -> None:
        """End an attempt that was not made then, as an evictor does: it looks again, and removes the agent."""
        attempt = self._attempts[sid]
        if self._server_was_slow(now) and now < attempt.command.began_at + PATIENCE:
            attempt.ends_at = now + TOGETHER
            return
        del self._attempts[sid]
        if self.watch.tracker.has(sid) and self.watch.still_due(attempt.command.finding, now):
            self._removed.add(sid)
            self.watch.sent(attempt.command.finding, now)
            self.watch.answered(attempt.command, Ending(Outcome.REMOVED), now)
        else:
            del self.now[sid]
            self.watch.answered(attempt.command, Ending(Outcome.VOID), now)

    def _server_was_slow(self, now: Instant) -> bool:
        """Return True if an eviction could not be decided then, because the server's list could not be read."""
        looking = any(given.kind == "list_participants" and given.about == [True] for given in self._given.values())
        return looking or not self._lists or now < self._failed_at + PATIENCE

    def _go(self, now: Instant) -> None:
        """Step the watch, until it has nothing more to do now."""
        while True:
            step = self.watch.step(now)
            for news in step.news:
                self._hear(news, now)
            if not [command for command in step.commands if self._carry_out(command, now)]:
                self._wake_at = step.wake_at
                return

    def _carry_out(self, command: Command, now: Instant) -> bool:
        """Carry out a command. Return True if it is answered already."""
        match command:
            case ListParticipants() if not self._lists:
                self._looks.append(command)
                return False
            case ListParticipants() | ListJobs():
                answer: Any = ()
            case Evict(finding, mode):
                sid = finding.participant.sid
                removal = Exit(sid, finding.rule.id, now, mode == "enforce", finding.verdict.reason)
                if mode == "enforce":
                    self.now[sid] = removal
                    patience = math.inf if sid in self._under_way else self._patience.get(sid, TOGETHER)
                    ends_at = now + patience
                    self._attempts[sid] = _Attempt(command, ends_at)
                    return False
                self.now.setdefault(sid, removal)
                answer = Ending(Outcome.WOULD)
            case Leave():
                self.watch.close()
                answer = None
            case _:
                answer = True
        self.watch.answered(command, answer, now)
        return True

    def _hear(self, news: News, now: Instant) -> None:
        match news:
            case Decided(_, room) if self.story.changed:
                self.story.cast((each.sid, each.role) for each in room.participants)
            case HeldBack(hold):
                sid, rule = hold.finding.key
                self._verdicts.append((now, sid, f"held back: {hold.by} ({rule})"))
                if hold.by is HeldBy.BUDGET:
                    self._held.add(sid)
                elif hold.by is HeldBy.DOUBT and self._hearing == "off" and self._listens:
                    self._deaf.add(sid)
            case Reported(finding):
                self._verdicts.append((now, finding.participant.sid, f"reported ({finding.rule.id})"))
            case Noticed(finding, due_in):
                what = f"notice given: due in {due_in:.1f} s ({finding.rule.id})"
                self._verdicts.append((now, finding.participant.sid, what))
            case Refused(error):
                problems = "; ".join(map(str, error.problems))
                raise FormatError(f"the room's configuration and this one don't fit together: {problems}")
            case _:
                pass

    @property
    def _listens(self) -> bool:
        return self.watch.config is not None and self.watch.config.hearing != "off"


def _frozen(lines: Iterable[Line], freeze: Callable[[], None]) -> Iterator[Line]:
    """Yield the lines. Before those that had to wait for a step that is late, call `freeze`."""
    waiting: list[Line] = []
    for line in lines:
        waiting.append(line)
        if "step" in line or len(waiting) > MOST_WAITING:
            if isinstance(step := line.get("step"), dict) and "late" in step:
                freeze()
            yield from waiting
            waiting = []
    yield from waiting


def otherwise(recording: Recording, registry: Registry, overlay: tuple[Layer, ...] = ()) -> Course:
    """Return how a recorded room would have gone. Raises: FormatError for a recording that can't be used."""
    driver = Driver(recording.header, registry, overlay)
    for line in _frozen(recording.lines(), driver.freeze):
        with recording.locating():
            driver.do(line)
    return driver.course()
