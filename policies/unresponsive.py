"""Nobody home."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from bouncer import Action, Hearing, Room, Seconds, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Unresponsive:
    """An agent that does not react while people speak is reported.

    The worst ghosts look healthy: state `listening`, track published, session closed. Only this shows them.

    What counts: the time since the first human speech that the agent has not reacted to; speech, a change of its state
    and a transcription are reactions. What doesn't: agents that are thinking or speaking; speech that ended because the
    speaker left or could no longer be heard.

    What it won't notice: to whom people speak. They also talk to each other, and an agent may be meant to keep quiet.
    So it only reports, unless its `action` says "evict". It needs hearing; by level, noise from a human's microphone
    counts as speech, with `"hearing": "speech"` it doesn't.
    """

    name: ClassVar[str] = "unresponsive"
    default_action: ClassVar[Action] = "report"
    hearing: ClassVar[Hearing] = "needed"

    timeout: Seconds = 20
    """Seconds without a reaction."""

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        for agent in room.agents:
            if agent.unanswered_since is not None and not agent.busy:
                due = agent.unanswered_since + self.timeout
                yield Verdict(agent, due, f"did not react for {self.timeout:g} s to people who spoke")
