"""Out is out."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from bouncer import Room, Seconds, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class NoReturn:
    """An identity that was evicted and is back within `window` seconds has to leave at once.

    A token stays valid after a removal, and some clients simply come back. Without this rule they have again whatever
    time the other rules give.

    What counts: agents with an identity whose removal this bouncer sent less than `window` seconds before they joined.
    What doesn't: a new job of the same agent, which has an identity of its own.

    What it won't notice: evictions by others, and those from before this bouncer came.
    """

    name: ClassVar[str] = "no_return"
    may_clear_room: ClassVar[bool] = True

    window: Seconds = 60
    """Seconds after a removal in which the identity may not be back."""

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        for agent in room.agents:
            evicted_at = room.evicted_at.get(agent.identity)
            if evicted_at is not None and 0 <= agent.joined_at - evicted_at < self.window:
                yield Verdict(agent, agent.joined_at, f"was evicted less than {self.window:g} s before it came back")
