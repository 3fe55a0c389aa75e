"""Long enough."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Gt

from bouncer import Options, Room, Seconds, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxLifetime:
    """An agent that has been in the room for `limit` seconds must leave.

    The last line of defence against a forgotten call: whatever the agent does, it costs no more than this.

    What counts: the time since the agent joined according to the server, even if the bouncer came later. What doesn't:
    activity of any kind. An agent that is back within 20 s continues its stay; after that it starts over.

    What it won't notice: a conversation in progress. Without `notice`, people learn of it only when the agent is gone,
    so configure a notice for phone calls.
    """

    name: ClassVar[str] = "max_lifetime"
    judges_avatars: ClassVar[bool] = True
    may_clear_room: ClassVar[bool] = True
    example: ClassVar[Options] = {"limit": 3600, "notice": 60}

    limit: Annotated[Seconds, Gt(0)]
    """Seconds that an agent may be in the room."""

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        reason = f"has been in the room for {self.limit:g} s"
        for agent in room.agents_and_avatars:
            yield Verdict(agent, agent.joined_at + self.limit, reason)
