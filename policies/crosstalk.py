"""One at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from bouncer import Hearing, Room, Seconds, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Crosstalk:
    """Of agents that speak at the same time for `overlap` seconds, all but the oldest have to leave.

    Two agents that talk over each other are of no use to anybody, whatever they are called.

    What counts: agents that are heard speaking, without a pause, at the same time. What doesn't: people; short
    overlaps; agents that take turns. An avatar's voice is its principal's.

    What it won't notice: by level, whether it is speech. Noise and hold music count as well, unless
    `"hearing": "speech"` is asked for. With `"hearing": "off"` it goes by the state `speaking` that agents publish
    about themselves, and believes an older one that claims it.
    """

    name: ClassVar[str] = "crosstalk"
    hearing: ClassVar[Hearing] = "useful"

    overlap: Seconds = 3
    """Seconds for which they may speak at the same time."""

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        speaking = [(agent, agent.speaking_since) for agent in room.agents if agent.speaking_since is not None]
        for agent, since in speaking[1:]:
            due = max(since, speaking[0][1]) + self.overlap
            yield Verdict(agent, due, f"spoke over an older one for {self.overlap:g} s")
