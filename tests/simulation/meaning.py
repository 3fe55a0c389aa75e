"""What a configuration means, written down once more from the contract: the simulation's own reading of it.

Nothing here goes through the code under test; only valid configurations are read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "allow_list": {"grace": 0},
    "crosstalk": {"overlap": 3},
    "deny_list": {"agent_names": [], "identities": [], "grace": 0},
    "duplicates": {"key": "agent_name", "max": 1, "keep": "oldest", "grace": 2, "unnamed": False},
    "empty_room": {"grace": 20, "never_joined": 120},
    "human_takeover": {"identity": [], "attributes": {}, "grace": 3},
    "idle_timeout": {"timeout": 300},
    "lone_chatter": {"timeout": 60, "keep": "none"},
    "max_agents": {"grace": 2},
    "max_lifetime": {},
    "no_return": {"window": 60},
    "orphaned_avatar": {"grace": 5},
    "stuck_state": {"limits": {"initializing": 60, "thinking": 180}},
    "superseded": {"grace": 2},
    "unresponsive": {"timeout": 20, "action": "report"},
}
CLEARS_ROOM = {"allow_list", "deny_list", "human_takeover", "superseded", "max_lifetime", "no_return"}
"""The policies that evict the last agent even under `keep_last_agent`."""
HEARS = {"idle_timeout", "crosstalk", "lone_chatter", "unresponsive"}
"""The policies for which a room is listened to."""


def matches(text: str, globs: Any) -> bool:
    """Whether one of the globs matches the whole text."""
    return any(fnmatchcase(text, glob) for glob in globs)


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """A policy with its options, defaults filled in."""

    policy: str
    options: Mapping[str, Any]

    def __getitem__(self, option: str) -> Any:
        return self.options[option]

    @property
    def evicts(self) -> bool:
        """Whether it does more than report."""
        return bool(self.options.get("action", "evict") == "evict")

    def judges(self, name: str) -> bool:
        """Whether it judges an agent of this name."""
        only = self.options.get("only")
        return only is None or matches(name, only)


class Meaning:
    """What the room's metadata mean, the defaults included."""

    def __init__(self, ours: Mapping[str, Any]) -> None:
        """Read the value of our key; {} where there is none."""
        eviction, exempt = ours.get("eviction", {}), ours.get("exempt", {})
        self.mode: str = ours.get("mode", "enforce")
        self.exempt_identities: list[str] = exempt.get("identity", [])
        self.exempt_names: list[str] = exempt.get("agent_name", [])
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

    def exempts(self, identity: str, name: str) -> bool:
        """Whether somebody may never be evicted."""
        return matches(identity, self.exempt_identities) or (name != "" and matches(name, self.exempt_names))
