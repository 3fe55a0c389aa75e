"""Out is out."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from bouncer import Room, Seconds, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class NoReturn:
    """An identity that was evicted and returns within `window` seconds must leave at once.

    A token stays valid after a removal, and some clients simply come back. Without this policy they would again get
    all the time that the other policies allow.

    What counts: agents with an identity for which this bouncer sent a removal less than `window` seconds before they
    joined. What doesn't: a new job of the same agent, which has a new identity.

    What it won't notice: evictions by others, or those from before this bouncer came.
    """

    name: ClassVar[str] = "no_return"
    judges_avatars: ClassVar[bool] = True
    may_clear_room: ClassVar[bool] = True

    times: ClassVar[tuple[str, ...]] = ()

    window: Seconds = 60
    """Seconds after a removal during which the identity may not return."""

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        for agent in room.agents_and_avatars:
            evicted_at = room.evicted_at.get(agent.identity)
            if evicted_at is not None and 0 <= agent.joined_at - evicted_at < self.window:
                yield Verdict(agent, agent.joined_at, f"was evicted less than {self.window:g} s before it came back")
