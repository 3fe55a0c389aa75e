"""One at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import ClassVar

from bouncer import LATE, Hearing, Instant, Participant, Room, Seconds, Verdict, may_replace

Speech = tuple[Participant, Instant, Instant]
"""Who spoke, from when until when."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crosstalk:
    """Of agents that speak at the same time for `overlap` seconds, all but the oldest must leave.

    Two agents that talk over each other help no one, whatever their names.

    What counts: agents that are heard speaking at the same time without a pause. What doesn't: people, short overlaps,
    and agents that take turns. An avatar's voice counts as its principal's.

    What it won't notice: with level detection, whether a sound is speech. Noise and hold music count too, unless the
    room asks for `"hearing": "speech"`. With `"hearing": "off"` it relies on the `speaking` state that agents publish,
    and an older agent can claim that state falsely. A killed agent claims it for as long as LiveKit lists it; so if the
    older agent has shown no sign of life since the younger one joined, the verdict is in doubt, and is not carried out.
    """

    name: ClassVar[str] = "crosstalk"
    watches: ClassVar[bool] = True
    hearing: ClassVar[Hearing] = "useful"

    overlap: Seconds = 3
    """Seconds that agents may speak at the same time."""

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        speaking = [(agent, agent.speaking_since, inf) for agent in room.agents if agent.speaking_since is not None]
        spoke = [
            (agent, agent.spoke_since, agent.spoke_at)
            for agent in room.agents
            if agent.spoke_since is not None and agent.spoke_at is not None
        ]
        pairs = [(one, speaking[0]) for one in speaking[1:]]
        # An end that was told late takes nothing back.
        pairs += [(one, other) for one in spoke for other in (*speaking, *spoke)]
        pairs += [(one, other) for one in speaking for other in spoke]
        dues: dict[tuple[str, str], tuple[Participant, Instant]] = {}
        for one, other in pairs:
            due, doubt = self._due(one, other), _doubt(one[0], other)
            if due is not None and due < dues.get((one[0].sid, doubt), (None, inf))[1]:
                dues[one[0].sid, doubt] = one[0], due
        for (_, doubt), (agent, due) in dues.items():
            yield Verdict(agent, due, f"spoke over an older one for {self.overlap:g} s", doubt)

    def _due(self, one: Speech, other: Speech) -> Instant | None:
        """Return when an agent is due for a speech during that of an older one; None if it isn't."""
        (agent, began, ended), (elder, earlier, over) = one, other
        met, parted = max(began, earlier), min(ended, over)
        if elder.age >= agent.age or parted - met < self.overlap:
            return None
        due = met + self.overlap + (LATE if agent.audible or elder.audible else 0)
        return due if parted == inf or parted <= due else None


def _doubt(agent: Participant, other: Speech) -> str:
    """Return why it is uncertain that an older agent speaks: a killed one stays listed, with its last state."""
    elder, since, _ = other
    corpse = not elder.audible and may_replace(agent, max(since, elder.alive_at))
    return "it may replace an older agent that was killed while it spoke" if corpse else ""
