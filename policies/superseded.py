"""The next one has taken over."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import MaxLen, MinLen

from bouncer import Glob, Globs, Options, Room, Seconds, Verdict, matches


@dataclass(frozen=True, slots=True, kw_only=True)
class Superseded:
    """An agent whose successor joined later has to leave.

    For hand-offs between agents: once billing is there, triage has nothing more to say.

    What counts: the agent names, those of the dispatches first. A successor has to have joined after the agent that it
    supersedes; an exempt one counts too. What doesn't: a successor that was there before, or that is gone again.

    What it won't notice: an impostor. It believes what agents without a dispatch call themselves, so one that joins
    under a successor's name sends its predecessors away.
    """

    name: ClassVar[str] = "superseded"
    may_clear_room: ClassVar[bool] = True
    example: ClassVar[Options] = {"by": {"triage": ["billing", "support-*"]}}

    by: Annotated[Mapping[Glob, Annotated[Globs, MinLen(1)]], MinLen(1), MaxLen(64)]
    """For each agent name, a glob, the globs on the names of its successors."""
    grace: Seconds = 2
    """Seconds for the hand-off."""

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        for agent in room.agents:
            successors = [
                globs for name, globs in self.by.items() if agent.agent_name and matches(agent.agent_name, [name])
            ]
            for other in room.agents:
                if other.age > agent.age and other.agent_name and any(matches(other.agent_name, s) for s in successors):
                    yield Verdict(agent, other.joined_at + self.grace, "has been superseded by its successor")
                    break
