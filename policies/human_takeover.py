"""A human takes over."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from annotated_types import MaxLen

from bouncer import AttributeGlobs, Globs, Options, Room, Seconds, Selector, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class HumanTakeover:
    """When an operator (a human that matches) joins, the agents must leave.

    For warm transfers: the operator should not have to talk over the agent that called for help.

    What counts: a human that matches everything given; at least one key must be given. The grace begins once all of it
    is so: a person that becomes an operator later gives the agents as much time. What doesn't: agents that call
    themselves operators, and other people.

    What it won't notice: an impostor. Anyone allowed to set their own attributes, name or metadata can fake a match and
    send the agents away. If guests can do that, match the identity instead: only the holder of an API key can set it.
    """

    name: ClassVar[str] = "human_takeover"
    may_clear_room: ClassVar[bool] = True
    example: ClassVar[Options] = {"identity": ["operator-*"]}

    identity: Globs = ()
    """Globs on the operator's identity."""
    agent_name: Globs = ()
    """Globs on the operator's agent name, for a participant that only `people` makes a person."""
    display_name: Globs = field(default=(), metadata={"key": "name"})
    """Globs on the operator's display name."""
    attributes: Annotated[AttributeGlobs, MaxLen(32)] = field(default_factory=dict)
    """The operator's attributes: each name with a glob on its value."""
    metadata: Globs = ()
    """Globs on the operator's metadata."""
    grace: Seconds = 3
    """Seconds that the agents have for the hand-over."""

    def __post_init__(self) -> None:
        if not (self.identity or self.agent_name or self.display_name or self.attributes or self.metadata):
            raise ValueError("needs `identity`, `agent_name`, `name`, `attributes` or `metadata`")

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        operator = Selector.of(
            identity=self.identity,
            agent_name=self.agent_name,
            name=self.display_name,
            attributes=self.attributes,
            metadata=self.metadata,
        )
        people = [human for human in room.humans if human.active and not human.ringing and operator.matches(human)]
        dates = (max(operator.since(human), human.answered_at, human.role_at) for human in people)
        since = min(dates, default=None)
        if since is None:
            return
        for agent in room.agents:
            yield Verdict(agent, max(since, agent.joined_at) + self.grace, "has been relieved by a human")
