"""Long enough."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Gt

from bouncer import Options, Room, Seconds, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxLifetime:
    """An agent that has been in the room for `limit` seconds has to leave.

    The last line of defence against a forgotten call: whatever the agent does, it costs no more than this.

    What counts: the time since it joined, as the server says, whenever the bouncer came. What doesn't: activity of any
    kind. An agent that is back with a new connection starts anew (`no_return` is for that).

    What it won't notice: that a conversation is going on. Without `notice` the people in the room learn of it when the
    agent is gone; for phone calls give them some.
    """

    name: ClassVar[str] = "max_lifetime"
    may_clear_room: ClassVar[bool] = True
    example: ClassVar[Options] = {"limit": 3600, "notice": 60}

    limit: Annotated[Seconds, Gt(0)]
    """Seconds in the room."""

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        for agent in room.agents:
            yield Verdict(agent, agent.joined_at + self.limit, f"has been in the room for {self.limit:g} s")
