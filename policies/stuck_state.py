"""An agent that gets no further."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from annotated_types import MaxLen

from bouncer import Room, Seconds, Verdict

State = Literal["initializing", "idle", "listening", "thinking", "speaking"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckState:
    """An agent that stays in one state for longer than that state's limit must leave.

    An agent that never gets past `initializing` answers no one. One that is `thinking` for minutes is waiting for a
    model or a tool that hangs. This policy also bounds `idle_timeout`, where an agent that thinks or speaks counts as
    active however long it takes.

    What counts: `lk.agent.state` as the agent publishes it, for as long as this bouncer has seen it unchanged.
    What doesn't: states without a limit. If `limits` is given, it replaces the default.

    If the agent was active in that state all the same, the verdict is in doubt, and is not carried out.

    What it won't notice: agents that publish no state, and agents that look healthy but do nothing (see
    `unresponsive`). An agent that flips between two states every few seconds is neither stuck nor idle: each change may
    be work. `max_lifetime` bounds it, and `unresponsive` finds it if it doesn't speak while people wait.
    """

    name: ClassVar[str] = "stuck_state"
    watches: ClassVar[bool] = True

    limits: Annotated[Mapping[State, Seconds], MaxLen(5)] = field(
        default_factory=lambda: {"initializing": 60, "thinking": 180}
    )
    """Seconds allowed in each state."""

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        for agent in room.agents:
            for state, limit in self.limits.items():
                if agent.state == state:
                    active = agent.active_at > max(agent.state_at, agent.joined_at) or agent.acted_in_state
                    doubt = "it was active in that state" if active else ""
                    yield Verdict(agent, agent.state_at + limit, f"has been {state} for {limit:g} s", doubt)
