"""Its successor has taken over."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import MaxLen, MinLen

from bouncer import Age, Glob, Globs, Options, Participant, Room, Seconds, Verdict, matches


@dataclass(frozen=True, slots=True, kw_only=True)
class Superseded:
    """An agent whose successor joined later must leave.

    For hand-offs between agents: once billing has joined, triage is done.

    What counts: the agent names; the name in a dispatch wins. A successor must have joined after the agent it
    supersedes. An exempt successor counts too. What doesn't: a successor that was there first, or that has left again.

    What it won't notice: an impostor. An agent without a dispatch is believed about its name, so one that joins under a
    successor's name sends the predecessors away.
    """

    name: ClassVar[str] = "superseded"
    together: ClassVar[bool] = True
    may_clear_room: ClassVar[bool] = True
    example: ClassVar[Options] = {"by": {"triage": ["billing", "support-*"]}}

    by: Annotated[Mapping[Glob, Annotated[Globs, MinLen(1)]], MinLen(1), MaxLen(64)]
    """For each agent name (a glob), the globs on the names of its successors."""
    grace: Seconds = 2
    """Seconds for the hand-off."""

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        named = [agent for agent in room.agents if agent.agent_name]
        successors = {name: [a for a in named if matches(a.agent_name, globs)] for name, globs in self.by.items()}
        for agent in named:
            came = [_after(agent, successors[name]) for name in self.by if matches(agent.agent_name, [name])]
            if later := [other for other in came if other]:
                first = min(later, key=_age)
                yield Verdict(agent, first.joined_at + self.grace, "has been superseded by its successor")


def _age(agent: Participant) -> Age:
    return agent.age


def _after(agent: Participant, others: list[Participant]) -> Participant | None:
    """Return the first of the others, oldest first, that joined after an agent."""
    later = others[bisect_right(others, agent.age, key=_age) :][:1]
    return later[0] if later else None
