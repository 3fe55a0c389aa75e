"""A watch that writes down all that it is told, and what it makes of it. Pure.

What is written is enough to do the same again: every call in its order, with its instant, and the numbers that chance
gave. Steps in which nothing happened are left out; a guarded room has two a second.
"""

from collections.abc import Callable, Sequence
from typing import Any

from bouncer.decide import Finding
from bouncer.events import Event, Info
from bouncer.guard.watch import PACE, SETTLE, Command, Evict, Step, Watch
from bouncer.observers import News, Refused
from bouncer.ports import ApiError, Doing
from bouncer.room import Instant

Note = tuple[Any, ...]
"""What is written down: the instant, what was called, and its arguments."""
Write = Callable[[Note], None]

PULSE, TIMER = "pulse", "timer"
"""Which timer rang so late, in a step, that we can't have been running."""


class Taped(Watch):
    """A watch that is recorded, from the call of `record` on."""

    _write: Write
    _clock: Callable[[], Instant]

    def record(self, write: Write, clock: Callable[[], Instant]) -> "Taped":
        """Write to a tape from now on. `write` is called on the room's loop, and must neither block nor raise."""
        self._write, self._clock = write, clock
        self._numbers: dict[Command, int] = {}
        self._count = 0
        self._chance: list[float] = []
        self._late = ""
        self._inside = False
        draw = self.jitter

        def drawn(purpose: str) -> float:
            self._chance.append(number := draw(purpose))
            return number

        self.jitter = self.history.jitter = drawn
        return self

    def tell(self, event: Event) -> None:
        """Take in what happened."""
        self._note(self._clock(), "event", event)
        super().tell(event)

    def configure(self, metadata: str, now: Instant) -> None:
        """Take in the room's metadata."""
        super().configure(metadata, now)
        refused = isinstance(self._news[-1], Refused)
        self._write((now, "configure", None if refused else metadata, self.config))

    def answered(self, command: Command, answer: Any, now: Instant) -> None:
        """Take in the answer to a command."""
        number = self._numbers.pop(command)
        self._inside = True
        try:
            super().answered(command, answer, now)
        finally:
            self._inside = False
        self._write((now, "answer", number, answer, self._drawn()))

    def step(self, now: Instant, busy: float = 0.0) -> Step:
        """Return what is to be done now."""
        if self._inside:
            return super().step(now, busy)
        before, pulse = self._state(), now >= self._pulse_at
        self._inside = True
        try:
            step = super().step(now, busy)
        finally:
            self._inside = False
        for command in step.commands:
            self._numbers[command] = self._count
            self._count += 1
        late, self._late = self._late, ""
        if step.commands or step.news or late or self._state() != before:
            self._write((now, "step", step.commands, step.news, pulse, late, self._drawn()))
        return step

    def took(self, seconds: float) -> None:
        """Take in how long the last step or answer took. What delays nothing is left out."""
        if self._decided and self._now + (1 + PACE) * seconds > min(self._judge_at, self._judged_at + SETTLE):
            self._note(self._now, "took", seconds)
        super().took(seconds)

    def listed(self, infos: Sequence[Info], asked_at: Instant, now: Instant) -> None:
        """Take in a list of the participants."""
        self._note(now, "listed", asked_at, tuple(infos))
        super().listed(infos, asked_at, now)

    def sent(self, finding: Finding, now: Instant) -> None:
        """The end of its dispatch, or its removal, goes out."""
        self._note(now, "sent", finding.participant.sid)
        super().sent(finding, now)

    def failing(self, doing: Doing, error: ApiError) -> None:
        """Report what is wrong with the API."""
        self._note(self._clock(), "failing", doing, error.trouble)
        super().failing(doing, error)

    def cut_off(self, command: Evict, now: Instant) -> None:
        """The driver ends while an eviction is under way."""
        self._note(now, "cut_off", self._numbers[command])
        super().cut_off(command, now)

    def hand_over(self) -> None:
        """From now on the driver says whether we guard the room."""
        self._note(self._clock(), "hand_over")
        super().hand_over()

    def close(self) -> None:
        """Decide nothing from now on."""
        self._note(self._clock(), "close")
        super().close()

    def end(self, now: Instant) -> tuple[News, ...]:
        """Close for good."""
        self._inside = True
        try:
            news = super().end(now)
        finally:
            self._inside = False
        self._write((now, "end", news))
        return news

    def _note(self, at: Instant, what: str, *arguments: Any) -> None:
        """Write down a call from outside; what the watch does by itself follows from those."""
        if not self._inside:
            self._write((at, what, *arguments))

    def _drawn(self) -> list[float]:
        drawn, self._chance = self._chance, []
        return drawn

    def _state(self) -> tuple[Any, ...]:
        """Return all that a step can change without saying so, besides the pulse."""
        return (self._judged_at, self._judge_at, self.listing.next_at, self._round, self._regular, self._changed)

    def _overslept(self, timer: Instant) -> bool:
        late = super()._overslept(timer)
        if late:
            self._late = PULSE if timer == self._pulse_at else TIMER
        return late
