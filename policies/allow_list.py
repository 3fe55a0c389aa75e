"""Only the agents on the list may be here."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from bouncer import STAY_WITHIN, Globs, Options, Role, Room, Seconds, Verdict, matches


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowList:
    """An agent whose name matches none of the globs must leave.

    For rooms that only known agents may enter, such as a medical consultation or a recorded call.

    What counts: the agent name. An agent without a name matches only `*`. What doesn't: its identity and its
    attributes. People are never affected and need no entry.

    An avatar may be here if its principal may. Once that has left, the avatar stays for the 20 s in which the principal
    may be back.

    What it won't notice: an agent that claims an allowed name. The name in the dispatch wins, but an agent that joined
    with its own token has no dispatch, so the name it gave itself counts.
    """

    name: ClassVar[str] = "allow_list"
    judges_avatars: ClassVar[bool] = True
    may_clear_room: ClassVar[bool] = True
    example: ClassVar[Options] = {"agent_names": ["assistant", "notetaker-*"]}

    agent_names: Globs
    """Globs on the names of the agents that may be here."""
    grace: Seconds = 0
    """Seconds that any other agent may stay."""

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        names = {agent.identity: agent.agent_name for agent in room.agents}
        for agent in room.agents_and_avatars:
            followed = agent.on_behalf_of if agent.role is Role.AVATAR else ""
            if not matches(names.get(followed, agent.agent_name), self.agent_names):
                unclear = followed and followed not in names
                doubt = "it is the avatar of a participant that is no agent" if unclear else ""
                left_at = agent.principal_left_at
                since = agent.joined_at if left_at is None else max(agent.joined_at, left_at + STAY_WITHIN)
                yield Verdict(agent, since + self.grace, "is not on the list of allowed agents", doubt)
