"""Nobody left to talk to."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from bouncer import Room, Seconds, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class EmptyRoom:
    """Once no human is left, or if none comes, every agent has to leave.

    Agents alone in a room are paid for by the minute, until LiveKit closes it: its `departure_timeout` after the last
    human left (20 s, unless the room has another), or its `empty_timeout` (5 minutes) if none came. This is for rooms
    in which these are long, and for agents that shall leave while the room stays open.

    What counts: people of every kind, callers by phone and connectors included. What doesn't: agents, avatars, egress
    and ingress. A human who is back within `grace` finds everybody still there; while any human is in the room nobody
    is due.

    What it won't notice: a human who is connected and gone from the screen. For agents that shall outlive their humans,
    narrow it with `only`, or exempt them.
    """

    name: ClassVar[str] = "empty_room"

    grace: Seconds = 20
    """Seconds after the last human left."""
    never_joined: Seconds = 120
    """Seconds for the first human to come."""

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        if room.humans:
            return
        left_at = room.humans_left_at
        for agent in room.agents:
            if left_at is None:
                due = max(room.opened_at, agent.joined_at) + self.never_joined
                yield Verdict(agent, due, f"was in the room for {self.never_joined:g} s and no human came")
            else:
                due = max(left_at, agent.joined_at) + self.grace
                yield Verdict(agent, due, f"is in the room {self.grace:g} s after the last human left")
