"""What a configuration is: the schema of our key, what is in force once it has been read, and what can be wrong."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from bouncer.decide import Guards
from bouncer.policy import Action, Count, Policy, Rule, Seconds
from bouncer.selectors import MANY, MAX_SELECTORS, ONE, AttributeGlobs, Globs, Only, Selection, Selector, shape

KEY = "bouncer"
MARK = "bouncer_mark"
"""The key next to ours in the metadata of a dispatch that our own processes made: the sid of the room it is for."""
MAX_SIZE = 64 * 1024
"""Characters of JSON that the value of our key may take. LiveKit's own limit on the whole metadata is 512 KiB."""
MAX_GLOBS = 1000
"""Globs that one room's configuration may have in all; each is matched with every name."""
MAX_RULES = 16
"""How often one policy may be applied in one room; each costs an evaluation."""

PluginLoaders = Mapping[str, Callable[[], type[Policy]]]
"""Lazy loaders of other packages' policies, by name. A loader raises ValueError if the policy is unusable."""
NO_PLUGINS: PluginLoaders = MappingProxyType({})
ROOM, DISPATCH = "room metadata", "dispatch metadata"
"""The names of the layers that come with a room and with a job."""
DEFAULT_IGNORED = ("background_audio",)
"""The track on which the agents framework plays a room's ambience."""
WORD = "[word]"
"""The tag of a value that is not an object."""
Mode = Literal["enforce", "dry_run", "off"]
HearingMode = Literal["auto", "off", "level", "speech"]

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True, use_attribute_docstrings=True)

_GUARDS = Guards()


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where, and what would be right."""

    layer: str
    """Which layer it stands in: `room metadata`, `BOUNCER_CONFIG`, …"""
    path: str
    """JSON path, such as `$.bouncer.policies.idle_timeout.timeout`."""
    message: str

    def __str__(self) -> str:
        return f"{self.layer}: {self.path}: {self.message}"


class ConfigError(ValueError):
    """A configuration that was refused. `problems` has everything that is wrong with it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Layer:
    """One source of configuration: its name for error messages, and its text as it was found."""

    name: str
    text: str
    shared: bool = False
    """True if other applications may write there too, so that text without our key is no error."""
    expected: bool = False
    """True if it is worth a warning that a shared layer has text without our key."""


class Exempt(BaseModel):
    """The participants that are never evicted. One of the keys is enough."""

    model_config = STRICT

    identity: Globs = _GUARDS.exempt_identities
    """Globs on identities."""
    agent_name: Globs = _GUARDS.exempt_agent_names
    """Globs on agent names."""
    name: Globs = ()
    """Globs on display names."""
    attributes: Annotated[AttributeGlobs, MaxLen(32)] = {}
    """Participant attributes: name, and a glob on the value. All of them have to match."""
    metadata: Globs = ()
    """Globs on the participant's metadata."""
    dispatched_only: bool = _GUARDS.dispatched_only
    """If true, an agent name counts only if its dispatch gives it, and not if an agent calls itself so."""

    def selectors(self) -> tuple[Selector, ...]:
        """Return a selector for each of the keys that are given, besides identity and agent name."""
        keys: dict[str, Any] = {"name": self.name, "attributes": self.attributes, "metadata": self.metadata}
        return tuple(Selector(**{key: value}) for key, value in keys.items() if value)


class PeopleSection(BaseModel):
    """Who counts as a person. Neither key makes anyone evictable."""

    model_config = STRICT

    also: Selection | None = None
    """Participants that count as people although LiveKit says otherwise, such as a streamer's ingress."""
    but: Annotated[Selection | None, Field(alias="except")] = None
    """Participants that don't count as people."""


class Listening(BaseModel):
    """How the room is listened to, and to what."""

    model_config = STRICT

    mode: HearingMode = "auto"
    """As `hearing` is without further options."""
    ignore_tracks: Globs = DEFAULT_IGNORED
    """Globs on the names of tracks that are no one's voice."""


def _word_or_object(value: Any) -> str:
    return ONE if isinstance(value, Mapping | Listening) else WORD


class EvictionSection(BaseModel):
    """How agents are evicted."""

    model_config = STRICT

    leave_within: Seconds = 3.5
    """Seconds an agent has to leave by itself after its dispatch is deleted."""
    max_per_minute: Count = _GUARDS.max_per_minute
    """How many removals a room may see in any minute."""
    keep_last_agent: bool = _GUARDS.keep_last_agent
    """If true, the last agent stays while a human is in the room."""


class Bouncer(BaseModel):
    """What stands under our key. All of it is optional."""

    model_config = STRICT

    mode: Mode = "enforce"
    """`enforce`; `dry_run` to do everything but the removal; or `off` to stay, and do nothing."""
    exempt: Annotated[
        Annotated[Exempt, Tag(ONE)] | Annotated[tuple[Selector, ...], MinLen(1), MaxLen(MAX_SELECTORS), Tag(MANY)],
        Discriminator(shape),
    ] = Exempt()
    """The participants that are never evicted. They count as agents that are present."""
    people: PeopleSection = PeopleSection()
    """Who counts as a person, where LiveKit's kinds don't tell."""
    avatars: Selection | None = None
    """The participants that may be avatars; without it any that says so when it joins."""
    policies: Any = None
    """Which agents have to leave; each policy by its name, with its options."""
    eviction: EvictionSection = EvictionSection()
    """How agents are evicted, and the limits of it."""
    hearing: Annotated[
        Annotated[HearingMode, Tag(WORD)] | Annotated[Listening, Tag(ONE)], Discriminator(_word_or_object)
    ] = "auto"
    """`level` goes by the loudness of the tracks, `speech` by whether it is speech, `off` by what agents say about
    themselves; `auto` is `level` if a policy of this room needs it. Or an object with `mode` and `ignore_tracks`."""
    leave_after: Seconds | None = None
    """Seconds after which a bouncer that is not needed ends its own dispatch and leaves; null if it stays."""
    reconcile: Annotated[float, Ge(1), Le(3600)] = 15.0
    """Seconds between two looks at the server's list of participants."""
    announce: bool = True
    """If true, the room is told what is done, on the data topic `bouncer`."""


class CommonOptions(BaseModel):
    """The options that every policy takes."""

    model_config = STRICT

    action: Action = "evict"
    """`evict`, or `report` to only tell the log and the room."""
    notice: Seconds = 0
    """Seconds before due at which the room is told; 0 tells no one. An agent that is due at once, for example under a
    new configuration, leaves without notice."""
    only: Only | None = None
    """Globs on the agent name, a selector, or a list of selectors: the agents that the policy judges, not those that it
    sees."""


_DEFAULT = Bouncer()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The configuration in force in one room."""

    mode: Mode = _DEFAULT.mode
    rules: tuple[Rule, ...] = ()
    guards: Guards = _GUARDS
    reconcile: float = _DEFAULT.reconcile
    announce: bool = _DEFAULT.announce
    leave_within: float = _DEFAULT.eviction.leave_within
    people_also: Selector | tuple[Selector, ...] | None = None
    """Participants that count as people although LiveKit says otherwise."""
    people_except: Selector | tuple[Selector, ...] | None = None
    """Participants that don't count as people."""
    avatars: Selector | tuple[Selector, ...] | None = None
    """The participants that may be avatars; None lets any be one that says so when it joins."""
    leave_after: float | None = None
    """Seconds after which a bouncer that is not needed leaves; None if it stays."""
    hearing: Literal["off", "level", "speech"] = "off"
    """How the room is listened to; "auto" is resolved by what the rules need."""
    ignore_tracks: tuple[str, ...] = DEFAULT_IGNORED
    """Globs on the names of tracks that are no one's voice."""
    effective: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """The merged JSON it was made from, with every default filled in: what is logged and compared."""
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """Where each value of `effective` came from: JSON path to the name of a layer."""
    warnings: tuple[Problem, ...] = field(default=(), compare=False, repr=False)
    """What is valid and hardly meant."""
    silent: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """The names of the layers that have text, but not our key."""


BUILT_IN = Layer("built-in defaults", json.dumps({KEY: {"mode": _DEFAULT.mode, "policies": {"duplicates": {}}}}))
