"""These agents may not be here."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from bouncer import Globs, Options, Room, Seconds, Verdict, matches


@dataclass(frozen=True, slots=True, kw_only=True)
class DenyList:
    """An agent whose name or identity matches a glob has to leave.

    For agents that were retired and are still dispatched by something, or that have no business in this room.

    What counts: the agent name and the identity, either of them. What doesn't: attributes and metadata. At least one
    glob has to be given. An agent without a name is only matched by its identity.

    What it won't notice: an agent under another name.
    """

    name: ClassVar[str] = "deny_list"
    may_clear_room: ClassVar[bool] = True
    example: ClassVar[Options] = {"agent_names": ["retired-*"]}

    agent_names: Globs = ()
    """Globs on the names of agents that may not be here."""
    identities: Globs = ()
    """Globs on the identities of agents that may not be here."""
    grace: Seconds = 0
    """Seconds that they may be here all the same."""

    def __post_init__(self) -> None:
        if not self.agent_names and not self.identities:
            raise ValueError("needs `agent_names` or `identities`")

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        for agent in room.agents:
            by_name = agent.agent_name != "" and matches(agent.agent_name, self.agent_names)
            if by_name or matches(agent.identity, self.identities):
                what = "agent name" if by_name else "identity"
                yield Verdict(agent, agent.joined_at + self.grace, f"has a denied {what}")
