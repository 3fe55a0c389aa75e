"""What a bouncer has to say, as frozen records; each backend that renders them is a file."""

from dataclasses import dataclass
from typing import Protocol

from bouncer.configuration.model import Config, ConfigError, Mode
from bouncer.decide import Decision, Fault, Finding, Hold, Ledger, Outcome, Rung
from bouncer.ports import Doing
from bouncer.room import Instant, Participant, Room

EMPTY = Room()


@dataclass(frozen=True, slots=True)
class Guarding:
    """The room has this bouncer from now on."""


@dataclass(frozen=True, slots=True)
class Unguarded:
    """The room no longer has this bouncer: the last news of a room."""

    seconds: float
    """How long it was guarded."""
    evictions: int
    """How many agents and avatars were evicted, and seen gone."""
    ended_early: float
    """Agent-seconds: for each evicted agent, the time from its end until now. It may have left by itself before."""


@dataclass(frozen=True, slots=True)
class Configured:
    """A configuration is in force from now on."""

    config: Config


@dataclass(frozen=True, slots=True)
class Refused:
    """A configuration was refused. `kept` stays in force; without one, no agent is evicted."""

    error: ConfigError
    kept: Config | None


@dataclass(frozen=True, slots=True)
class Decided:
    """The room was looked at. Comes with every evaluation."""

    at: Instant
    room: Room
    decision: Decision
    ledger: Ledger
    """What had been done until then."""


@dataclass(frozen=True, slots=True)
class Noticed:
    """An agent will be evicted in `due_in` seconds."""

    finding: Finding
    due_in: float
    room: Room = EMPTY
    """The room that was judged."""


@dataclass(frozen=True, slots=True)
class Reported:
    """An agent breaks a rule that only reports."""

    finding: Finding
    room: Room = EMPTY
    """The room that was judged."""


@dataclass(frozen=True, slots=True)
class HeldBack:
    """An agent is due but held back."""

    hold: Hold
    room: Room = EMPTY
    """The room that was judged."""


@dataclass(frozen=True, slots=True)
class Evicted:
    """An attempt at an eviction ended after `took` seconds; `why`, if the outcome alone doesn't tell."""

    finding: Finding
    outcome: Outcome
    took: float
    why: str = ""
    rungs: tuple[Rung, ...] = ()
    """The steps of the attempt; none in a dry run, or if the worker ended meanwhile."""
    room: Room = EMPTY
    """The room that was judged."""
    mode: Mode = "enforce"
    """The mode in which it was begun."""


@dataclass(frozen=True, slots=True)
class Faulted:
    """A policy broke its contract; its verdicts of that evaluation were dropped."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class Failing:
    """Something of ours went wrong, and we go on."""

    doing: Doing
    error: Exception


@dataclass(frozen=True, slots=True)
class Stands:
    """What we are in the room has changed: with an older bouncer we stand by, with two we are not needed."""

    standing: str
    """A `Standing` of guard/watch.py."""
    before: str
    seniors: tuple[Participant, ...] = ()
    """The older bouncers that guard the room too."""


@dataclass(frozen=True, slots=True)
class HandedOver:
    """The worker is about to end; the bouncer of this identity has taken the room over."""

    successor: str


News = (
    Guarding
    | Unguarded
    | Stands
    | Configured
    | Refused
    | Decided
    | Noticed
    | Reported
    | HeldBack
    | Evicted
    | Faulted
    | Failing
    | HandedOver
)


class Observer(Protocol):
    """A recipient of news. It is called on the event loop and must not block; what it raises ends nothing."""

    def notify(self, news: News) -> None:
        """Take note."""
