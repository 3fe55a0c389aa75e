"""No one left to talk to."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from bouncer import Room, Seconds, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class EmptyRoom:
    """When the last human has left, or none ever comes, every agent must leave.

    Agents alone in a room cost money by the minute until LiveKit closes the room: `departure_timeout` after the last
    human left (20 s by default), or `empty_timeout` after the room opened if no one came (5 minutes by default). This
    policy is for rooms where those timeouts are long, and for rooms that stay open without their agents.

    What counts: people of every kind, including phone callers and connectors. What doesn't: agents, avatars, egress
    and ingress. If a human returns within `grace`, no agent has left. While any human is in the room, none is due.

    What it won't notice: a person who is connected but has walked away. To keep some agents longer than the people,
    narrow the policy with `only`, or exempt those agents.
    """

    name: ClassVar[str] = "empty_room"

    grace: Seconds = 20
    """Seconds after the last human left."""
    never_joined: Seconds = 120
    """Seconds to wait for the first human."""

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
