"""These agents may not be here."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from bouncer import Globs, Options, Room, Seconds, Selection, Verdict, matches, selected_since


@dataclass(frozen=True, slots=True, kw_only=True)
class DenyList:
    """An agent whose name or identity matches a glob must leave.

    For retired agents that something still dispatches, and for agents that have no business in this room.

    What counts: the agent name or the identity; either may match. What doesn't: attributes and metadata. At least one
    glob is required. An agent without a name can be matched only by its identity.

    What it won't notice: the same agent under another name.
    """

    name: ClassVar[str] = "deny_list"
    judges_avatars: ClassVar[bool] = True
    may_clear_room: ClassVar[bool] = True
    example: ClassVar[Options] = {"agent_names": ["retired-*"]}

    agent_names: Globs = ()
    """Globs on the names of agents that must leave."""
    identities: Globs = ()
    """Globs on the identities of agents that must leave."""
    who: Selection | None = None
    """Further agents that must leave: a selector, or a list of selectors of which one match is enough."""
    grace: Seconds = 0
    """Seconds that they may stay."""

    def __post_init__(self) -> None:
        if not self.agent_names and not self.identities and not self.who:
            raise ValueError("needs `agent_names`, `identities` or `who`")

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        for agent in room.agents_and_avatars:
            by_name = agent.agent_name != "" and matches(agent.agent_name, self.agent_names)
            if by_name or matches(agent.identity, self.identities):
                what = "agent name" if by_name else "identity"
                yield Verdict(agent, agent.joined_at + self.grace, f"has a denied {what}")
            elif (since := selected_since(self.who, agent)) is not None:
                yield Verdict(agent, since + self.grace, "is denied by what it is called")
