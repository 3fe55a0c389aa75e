"""A human takes over."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from annotated_types import MaxLen

from bouncer import Glob, Globs, Options, Participant, Room, Seconds, Verdict, matches


@dataclass(frozen=True, slots=True, kw_only=True)
class HumanTakeover:
    """When a matching human joins, an operator, the agents have to leave.

    For warm transfers: the operator shall not have to talk over the agent that called for help.

    What counts: a human whose identity matches, and whose attributes all match; one of the two has to be given, and
    what is given has to match. What doesn't: agents that call themselves operators; other people.

    What it won't notice: an impostor. Who may set their own attributes can make themselves match by them, and so send
    the agents away. Where guests may, go by the identity, which only who signs the tokens gives.
    """

    name: ClassVar[str] = "human_takeover"
    may_clear_room: ClassVar[bool] = True
    example: ClassVar[Options] = {"identity": ["operator-*"]}

    identity: Globs = ()
    """Globs on the operator's identity."""
    attributes: Annotated[Mapping[str, Glob], MaxLen(32)] = field(default_factory=dict)
    """Attributes of the operator: name, and a glob on the value."""
    grace: Seconds = 3
    """Seconds that the agents have to hand over."""

    def __post_init__(self) -> None:
        if not self.identity and not self.attributes:
            raise ValueError("needs `identity` or `attributes`")

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        operator = next((human for human in room.humans if human.active and self._matches(human)), None)
        if operator is None:
            return
        for agent in room.agents:
            due = max(operator.joined_at, agent.joined_at) + self.grace
            yield Verdict(agent, due, "has been relieved by a human")

    def _matches(self, human: Participant) -> bool:
        by_identity = not self.identity or matches(human.identity, self.identity)
        return by_identity and all(
            name in human.attributes and matches(human.attributes[name], [glob])
            for name, glob in self.attributes.items()
        )
