"""What a configuration means, written down once more from the contract: the simulation's own reading of it.

Nothing here goes through the code under test; only valid configurations are read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Protocol
from unicodedata import normalize

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "allow_list": {"grace": 0},
    "crosstalk": {"overlap": 3},
    "deny_list": {"agent_names": [], "identities": [], "who": None, "grace": 0},
    "duplicates": {"key": "agent_name", "max": 1, "keep": "oldest", "grace": 2, "unnamed": False, "wait_for_life": 25},
    "empty_room": {"grace": 20, "never_joined": 120},
    "human_takeover": {
        "identity": [],
        "agent_name": [],
        "name": [],
        "attributes": {},
        "metadata": [],
        "grace": 3,
    },
    "idle_timeout": {"timeout": 300, "unseen": "hold"},
    "lone_chatter": {"timeout": 60, "keep": "none"},
    "max_agents": {"grace": 2, "wait_for_life": 25},
    "max_lifetime": {},
    "no_return": {"window": 60},
    "orphaned_avatar": {"grace": 5},
    "stuck_state": {"limits": {"initializing": 60, "thinking": 180}},
    "superseded": {"grace": 2},
    "unresponsive": {"timeout": 20, "action": "report"},
}
CLEARS_ROOM = {"allow_list", "deny_list", "human_takeover", "superseded", "max_lifetime", "no_return"}
"""The policies that evict the last agent even under `keep_last_agent`."""
JUDGES_AVATARS = {"allow_list", "deny_list", "max_lifetime", "no_return"}
"""The policies that judge avatars like any agent."""
TOGETHER = {"lone_chatter", "superseded"}
"""The policies that decide on several agents because of each other: these leave together, or none does."""
HEARS = {"idle_timeout", "crosstalk", "lone_chatter", "unresponsive"}
"""The policies for which a room is listened to."""


def matches(text: str, globs: Any) -> bool:
    """Return True if one of the globs matches the whole text, in whichever Unicode form either is."""
    return any(fnmatchcase(normalize("NFD", text), normalize("NFD", glob)) for glob in globs)


class Named(Protocol):
    """A participant, with everything that it is called."""

    @property
    def called(self) -> Mapping[str, str]:
        """Identity, agent name, display name and metadata."""

    @property
    def attributes(self) -> Mapping[str, str]:
        """The attributes."""


def found(selector: Mapping[str, Any], who: Named) -> list[bool]:
    """Which keys of a selector match; an attribute each counts as one of `attributes`, which all have to."""
    own = who.attributes
    return [
        all(name in own and matches(own[name], [glob]) for name, glob in given.items())
        if key == "attributes"
        else who.called[key] != "" and matches(who.called[key], given)
        for key, given in selector.items()
    ]


def selects(selection: Any, who: Named) -> bool:
    """Return True if one of the selectors matches with all of its keys. No selectors match no one."""
    several = selection if isinstance(selection, list) else [selection] if selection else []
    return any(all(found(selector, who)) for selector in several)


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """A policy with its options, defaults filled in."""

    policy: str
    options: Mapping[str, Any]

    def __getitem__(self, option: str) -> Any:
        return self.options[option]

    @property
    def evicts(self) -> bool:
        """True if it does more than report."""
        return bool(self.options.get("action", "evict") == "evict")

    @property
    def gives(self) -> float:
        """The shortest time that it gives an agent."""
        names = ("grace", "overlap", "timeout", "never_joined", "limit")
        times = [self.options[name] for name in names if name in self.options]
        return float(min([*times, *self.options.get("limits", {}).values()], default=0.0))

    def judged_by(self) -> set[str]:
        """The names of the attributes by which it judges."""
        only = self.options.get("only") or ()
        selectors = [each for each in (only if isinstance(only, list) else [only]) if isinstance(each, Mapping)]
        return {name for selector in selectors for name in selector.get("attributes", ())}

    def judges(self, who: Named) -> bool:
        """Return True if it judges this one: a list of globs is about agent names."""
        only = self.options.get("only")
        globs = isinstance(only, list) and all(isinstance(glob, str) for glob in only)
        return only is None or (matches(who.called["agent_name"], only) if globs else selects(only, who))


class Meaning:
    """What the room's metadata mean, the defaults included."""

    def __init__(self, ours: Mapping[str, Any]) -> None:
        """Read the value of our key; {} where there is none."""
        eviction, exempt = ours.get("eviction", {}), ours.get("exempt", {})
        self.mode: str = ours.get("mode", "enforce")
        self.exempt: list[Mapping[str, Any]] = exempt if isinstance(exempt, list) else [exempt]
        self.any_key = not isinstance(exempt, list)
        """True if one key of the exemption is enough: so it is in an object, but not in a list of them."""
        self.people: Mapping[str, Any] = ours.get("people", {})
        self.avatars: Any = ours.get("avatars")
        self.budget: int = eviction.get("max_per_minute", 10)
        self.keep_last: bool = eviction.get("keep_last_agent", False)
        self.leave_within: float = eviction.get("leave_within", 3.5)
        self.reconcile: float = ours.get("reconcile", 15.0)
        policies = {"duplicates": {}} | ours.get("policies", {})
        self.rules = [
            Rule(name, DEFAULTS[name] | each)
            for name, given in sorted(policies.items())
            if given is not None
            for each in (given if isinstance(given, list) else [given])
        ]
        self.hears: bool = ours.get("hearing", "auto") == "level" or (
            ours.get("hearing", "auto") == "auto" and any(rule.policy in HEARS for rule in self.rules)
        )

    def exempts(self, who: Named) -> bool:
        """Return True if this participant may never be evicted."""
        return any(found(self.exempt[0], who)) if self.any_key else selects(self.exempt, who)
