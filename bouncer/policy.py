"""What a policy is: facts in, dated verdicts out.

A policy is a frozen, slotted dataclass. Its fields are its options with their defaults, the string under each field
documents it, its docstring is its page in the README. `evaluate` is a pure generator that never asks the time: it
says who has to be out and by when, and the engine compares that with now.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal, Protocol, runtime_checkable

from annotated_types import Ge, Le, MaxLen, MinLen

from bouncer.room import Instant, Participant, Room

MAX_SECONDS = 10 * 365 * 24 * 3600.0
"""Ten years: longer than any room lives, and far below where adding seconds to an instant loses precision."""

Seconds = Annotated[float, Ge(0), Le(MAX_SECONDS)]
"""A length of time."""

Count = Annotated[int, Ge(1), Le(1_000_000)]
"""A number of participants."""

Glob = Annotated[str, MinLen(1), MaxLen(256)]
"""A case-sensitive pattern that has to match the whole name: `*` any text, `?` one character, `[ab]` one of these."""

Globs = Annotated[tuple[Glob, ...], MaxLen(256)]
"""Some such patterns."""

Action = Literal["evict", "report"]

Options = Mapping[str, Any]
"""Options of a policy, as they stand in the configuration."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who has to be out, by when, and why."""

    participant: Participant
    due: Instant
    reason: str
    """Completes «evicted because it …»; for people, in the past or present tense, without names."""
    doubt: str = ""
    """Why this can't be known for certain. A verdict in doubt is reported when it comes due, never carried out."""


Hearing = Literal["unused", "useful", "needed"]


@runtime_checkable
class Policy(Protocol):
    """One house rule with its options.

    Beside `name` a policy may have these class variables, where what they say of most policies is not so of it:
    `default_action: ClassVar[Action] = "evict"`, what happens if the configuration doesn't say;
    `hearing: ClassVar[Hearing] = "unused"`, whether its facts depend on what is heard;
    `may_clear_room: ClassVar[bool] = False`, whether it evicts the last agent even under `keep_last_agent`;
    `example: ClassVar[Options]`, what its page shows; without it every option with its default, so it is needed where
    an option is required.
    """

    name: ClassVar[str]

    def evaluate(self, room: Room) -> Iterable[Verdict]:
        """Yield who has to be out by when. Pure: the same room always gives the same verdicts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A policy as it is applied in a room: with the options that every policy takes."""

    policy: Policy
    index: int = 0
    """Its place in the list, where the configuration applies one policy several times."""
    action: Action = "evict"
    notice: float = 0.0
    """Seconds before due at which the room is told; 0 tells nobody."""
    only: tuple[str, ...] | None = None
    """Globs on the agent name: whom the policy judges, not whom it sees. None judges everybody."""

    @property
    def may_clear_room(self) -> bool:
        """Whether it evicts the last agent even under `keep_last_agent`."""
        return bool(getattr(self.policy, "may_clear_room", False))

    @property
    def id(self) -> str:
        """Names the rule in logs and messages: `idle_timeout`, and `idle_timeout[1]` for the second of a list."""
        return f"{self.policy.name}[{self.index}]" if self.index else self.policy.name


def matches(text: str, globs: Iterable[str]) -> bool:
    """Whether one of the globs matches the whole text, in time linear in the text for each `*`."""
    return any(_compiled(glob).match(text) for glob in globs)


@lru_cache(maxsize=1024)
def _compiled(glob: str) -> re.Pattern[str]:
    # translate() puts everything before a `*` in an atomic group, so a long glob can't make the match backtrack.
    return re.compile(translate(glob))
