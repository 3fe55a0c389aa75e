"""So many agents and no more."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import ClassVar

from bouncer import (
    UNLISTED_FOR,
    WAIT_FOR_LIFE,
    Count,
    Options,
    Room,
    Seconds,
    Verdict,
    full_since,
    in_order,
    may_be_confirmed,
    may_replace,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxAgents:
    """Agents beyond the first `max` must leave; the oldest stay.

    A cap, whatever the agents' names: it protects budgets, and stops a dispatcher that runs wild.

    What counts: every agent, including exempt ones. What doesn't: people, bouncers, and avatars, even orphaned ones. An
    agent that a newer job of its dispatch has replaced counts last, so a restarted job is never one too many next to
    its own corpse. If an older agent has shown no sign of life since a younger one joined, nor in the second before,
    the younger one may replace it: LiveKit lists a killed agent for about 20 s. So it has `wait_for_life` seconds from
    joining.

    Of agents with one name, those whose dispatch confirms it take precedence over those that only say so.

    What it won't notice: which agents are useful, or genuine. The first ones to join stay. To keep particular agents,
    use `allow_list` or `exempt`.
    """

    name: ClassVar[str] = "max_agents"
    example: ClassVar[Options] = {"max": 3}
    times: ClassVar[tuple[str, ...]] = ("grace",)

    max: Count
    """How many agents may be here."""
    grace: Seconds = 2
    """Seconds that further agents may stay."""
    wait_for_life: Seconds = WAIT_FOR_LIFE
    """Seconds that a younger agent has next to older ones that show no life, since it may replace them; 0: no wait."""

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        reason = f"is past the limit of {self.max} in the room"
        order = in_order(agent for agent in room.agents if not agent.orphaned)
        kept = order[: self.max]
        alive_at = min((agent.alive_at for agent in kept), default=inf)
        full = full_since((agent.joined_at for agent in order), self.max)
        for agent, full_at in zip(order[self.max :], full, strict=True):
            due = max(agent.joined_at, full_at) + self.grace
            if not agent.replaced and may_replace(agent, alive_at):
                due = max(due, agent.joined_at + self.wait_for_life)
            if may_be_confirmed(agent, kept):
                due = max(due, agent.joined_at + UNLISTED_FOR)
            yield Verdict(agent, due, reason)
