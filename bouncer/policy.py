"""What a policy is: facts in, dated verdicts out.

A policy is a frozen, slotted dataclass. Its fields are its options with their defaults, the string under each field
documents that option, and its docstring is its page in the reference. `evaluate` is a pure generator that never asks
the time: it names the agents that must leave and by when, and the engine compares that with now.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Protocol, get_args, get_type_hints, runtime_checkable

from annotated_types import Ge, Le

from bouncer.room import Instant, Participant, Room
from bouncer.selectors import Selector, among_since

MAX_SECONDS = 10 * 365 * 24 * 3600.0
"""Ten years: longer than any room lives, and far from where adding seconds to an instant loses precision."""

Seconds = Annotated[float, Ge(0), Le(MAX_SECONDS)]
"""A length of time."""

Count = Annotated[int, Ge(1), Le(1_000_000)]
"""A number of participants."""

Action = Literal["evict", "report"]

Options = Mapping[str, Any]
"""A policy's options as written in the configuration."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """An agent that must leave, by when, and why."""

    participant: Participant
    due: Instant
    reason: str
    """Completes "evicted because it …", in the past or present tense, without names."""
    doubt: str = ""
    """Why this is uncertain. A verdict in doubt is reported when it comes due and never carried out."""


Hearing = Literal["unused", "useful", "needed"]


@runtime_checkable
class Policy(Protocol):
    """One policy with its options.

    Apart from `name`, a policy may set these class variables where the default does not fit:
    `default_action: ClassVar[Action] = "evict"`, what happens if the configuration names no action;
    `hearing: ClassVar[Hearing] = "unused"`, how much its facts depend on hearing;
    `judges_avatars: ClassVar[bool] = False`, True if it judges avatars like any agent;
    `may_clear_room: ClassVar[bool] = False`, True if it evicts even the last agent despite `keep_last_agent`;
    `together: ClassVar[bool] = False`, True if a verdict rests on others that leave under it too;
    `watches: ClassVar[bool] = False`, True if its facts are known only from inside the room;
    `times: ClassVar[tuple[str, ...]]`, the options that say how long an agent has; by default all that are `Seconds`;
    `example: ClassVar[Options]`, the options that its page shows. By default these are all options with their
    defaults, so a policy with a required option must set it.

    An option whose key can't be the field's name has it in the field's metadata: `field(metadata={"key": "name"})`.
    """

    name: ClassVar[str]

    def evaluate(self, room: Room) -> Iterable[Verdict]:
        """Yield a verdict for each agent that must leave. Pure: the same room always gives the same verdicts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A policy as applied in a room, with the options that every policy takes."""

    policy: Policy
    index: int = 0
    """Its position, if the configuration applies the policy several times."""
    action: Action = "evict"
    notice: float = 0.0
    """How many seconds before an eviction the room is told; 0 gives no notice."""
    only: tuple[str, ...] | Selector | tuple[Selector, ...] | None = None
    """Globs on the agent name, or selectors: the agents that the policy judges, not those it sees. None judges all."""

    def judges(self, who: Participant) -> bool:
        """Return True unless `only` leaves this participant out."""
        return self.judges_since(who) is not None

    def judges_since(self, who: Participant) -> Instant | None:
        """Return since when it judges this participant, at the earliest since joining; None if `only` leaves it out."""
        return who.joined_at if self.only is None else among_since(self.only, who)

    @property
    def gives(self) -> float:
        """The shortest time that it gives an agent, in seconds."""
        return min(times_given(self.policy).values(), default=0.0)

    @property
    def may_clear_room(self) -> bool:
        """True if it evicts even the last agent despite `keep_last_agent`."""
        return bool(getattr(self.policy, "may_clear_room", False))

    @property
    def judges_avatars(self) -> bool:
        """True if it judges avatars like any agent."""
        return bool(getattr(self.policy, "judges_avatars", False))

    @property
    def together(self) -> bool:
        """True if a verdict rests on others that leave under it too."""
        return bool(getattr(self.policy, "together", False))

    @property
    def watches(self) -> bool:
        """True if its facts are known only from inside the room."""
        return bool(getattr(self.policy, "watches", False))

    @property
    def id(self) -> str:
        """The rule's name in logs and messages: `idle_timeout`, or `idle_timeout[1]` for the second in a list."""
        return f"{self.policy.name}[{self.index}]" if self.index else self.policy.name


def is_seconds(hint: Any) -> bool:
    """Return True for the type of a length of time, or of an object of such lengths."""
    marks = getattr(hint, "__metadata__", ())
    return any(isinstance(mark, Le) and mark.le == MAX_SECONDS for mark in marks) or any(
        map(is_seconds, get_args(hint))
    )


@cache
def times_of(policy: type[Policy]) -> Sequence[str] | None:
    """Return the options that say how long an agent has; None if nothing is known of that.

    They are those that are lengths of time, unless the policy's `times` says otherwise.
    """
    hints = get_type_hints(policy, include_extras=True)
    lengths = tuple(option.name for option in fields(policy) if is_seconds(hints[option.name]))  # type: ignore[arg-type]
    times: Sequence[str] | None = getattr(policy, "times", lengths or None)
    return times


def times_given(policy: Policy) -> Mapping[str, float]:
    """Return the times that a policy gives an agent, by option; those of an object of times one by one."""
    times: dict[str, float] = {}
    for name in times_of(type(policy)) or ():
        value = getattr(policy, name)
        times |= {f"{name}.{key}": time for key, time in value.items()} if isinstance(value, Mapping) else {name: value}
    return times
