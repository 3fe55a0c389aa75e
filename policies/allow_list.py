"""Only these agents may be here."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from bouncer import Globs, Options, Room, Seconds, Verdict, matches


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowList:
    """An agent whose name matches none of the globs has to leave.

    For rooms in which only known agents have any business: a call with a doctor, a room that is recorded. What isn't
    foreseen is not wanted.

    What counts: the agent name. An agent without one matches only `*`. What doesn't: its identity, its attributes; and
    nobody but agents is ever meant, so people need no entry.

    What it won't notice: an agent that claims an allowed name. The name that counts is the one of its dispatch, but an
    agent with a token of its own and no dispatch is called what it says at joining.
    """

    name: ClassVar[str] = "allow_list"
    may_clear_room: ClassVar[bool] = True
    example: ClassVar[Options] = {"agent_names": ["assistant", "notetaker-*"]}

    agent_names: Globs
    """Globs on the names of agents that may be here."""
    grace: Seconds = 0
    """Seconds that any agent may be here."""

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        for agent in room.agents:
            if not matches(agent.agent_name, self.agent_names):
                yield Verdict(agent, agent.joined_at + self.grace, "is not on the list of allowed agents")
