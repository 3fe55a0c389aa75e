"""An agent that doesn't get on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from annotated_types import MaxLen

from bouncer import Room, Seconds, Verdict

State = Literal["initializing", "idle", "listening", "thinking", "speaking"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckState:
    """An agent that stays in one state for longer than its limit has to leave.

    An agent that never gets past `initializing` answers nobody; one that is `thinking` for minutes hangs on a model or
    a tool. It also bounds `idle_timeout`, for which an agent that thinks or speaks is at work however long it takes.

    What counts: `lk.agent.state` as the agent publishes it, since when we have seen it unchanged. What doesn't: states
    without a limit. The limits that are given replace the default ones.

    What it won't notice: agents that publish no state, and those that look healthy and do nothing (`unresponsive`).
    """

    name: ClassVar[str] = "stuck_state"

    limits: Annotated[Mapping[State, Seconds], MaxLen(5)] = field(
        default_factory=lambda: {"initializing": 60, "thinking": 180}
    )
    """Seconds for each state."""

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        for agent in room.agents:
            for state, limit in self.limits.items():
                if agent.state == state:
                    yield Verdict(agent, agent.state_at + limit, f"has been {state} for {limit:g} s")
