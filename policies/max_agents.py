"""So many agents and no more."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from bouncer import Count, Options, Room, Seconds, Verdict, in_order, known_by


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxAgents:
    """Agents past the `max`-th have to leave; the oldest stay.

    A cap, whatever the agents are called: for budgets, and against dispatchers gone wild.

    What counts: every agent, exempt ones too. What doesn't: people, avatars, bouncers. An agent that a newer job of its
    dispatch has replaced counts last, so that a restarted job is not one too many beside its own corpse; and an agent
    whose dispatch is not known yet has 6 s if it may be such a job.

    What it won't notice: which of the agents is the useful one, or a genuine one: whoever was here first stays. To keep
    certain agents, use `allow_list` or `exempt`.
    """

    name: ClassVar[str] = "max_agents"
    example: ClassVar[Options] = {"max": 3}

    max: Count
    """How many agents may be here."""
    grace: Seconds = 2
    """Seconds that further ones may be here."""

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        order = in_order(room.agents)
        kept = order[: self.max]
        for place, agent in enumerate(order[self.max :], self.max):
            full_at = sorted(other.joined_at for other in order[:place])[self.max - 1]
            due = max(max(agent.joined_at, full_at) + self.grace, known_by(agent, kept))
            yield Verdict(agent, due, f"is past the limit of {self.max} in the room")
