"""What the bouncer has to say, as frozen records; one file per backend says it somewhere."""

from dataclasses import dataclass
from typing import Protocol

from bouncer.config import Config, ConfigError
from bouncer.decide import Decision, Fault, Finding, Hold
from bouncer.history import Outcome
from bouncer.room import Instant, Participant, Room


@dataclass(frozen=True, slots=True)
class Configured:
    """A configuration is in force from now on."""

    config: Config


@dataclass(frozen=True, slots=True)
class Refused:
    """A configuration was refused; `kept` stays in force, and without one nobody is evicted."""

    error: ConfigError
    kept: Config | None


@dataclass(frozen=True, slots=True)
class Decided:
    """The room was looked at. Comes with every evaluation."""

    at: Instant
    room: Room
    decision: Decision


@dataclass(frozen=True, slots=True)
class Noticed:
    """Somebody is about to be evicted, in `due_in` seconds."""

    finding: Finding
    due_in: float


@dataclass(frozen=True, slots=True)
class Reported:
    """Somebody breaks a rule that only reports."""

    finding: Finding


@dataclass(frozen=True, slots=True)
class HeldBack:
    """Somebody is due, and something keeps us from evicting them."""

    hold: Hold


@dataclass(frozen=True, slots=True)
class Evicted:
    """An attempt at evicting somebody ended, after `took` seconds; `why`, where that isn't plain."""

    finding: Finding
    outcome: Outcome
    took: float
    why: str = ""


@dataclass(frozen=True, slots=True)
class Faulted:
    """A policy broke its contract; its verdicts of that evaluation were dropped."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class Troubled:
    """Something of ours went wrong, and we go on."""

    doing: str
    error: Exception


@dataclass(frozen=True, slots=True)
class Ranked:
    """Other bouncers guard the room too: with one that is older we stand by, with two we are not needed."""

    seniors: tuple[Participant, ...]


@dataclass(frozen=True, slots=True)
class HandedOver:
    """The worker is about to end; the bouncer of this identity has taken the room over."""

    successor: str


News = (
    Configured | Refused | Decided | Noticed | Reported | HeldBack | Evicted | Faulted | Troubled | Ranked | HandedOver
)


class Observer(Protocol):
    """Somebody who is told. Called on the event loop, so it must not block; what it raises ends nothing."""

    def notify(self, news: News) -> None:
        """Take note."""
