"""No one home."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from bouncer import LATE, Action, Hearing, Room, Seconds, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Unresponsive:
    """An agent that does not react while people speak is reported.

    The worst ghosts look healthy: state `listening`, track published, session closed. Only this policy finds them.

    What counts: the time since the first human speech that the agent has not reacted to. Speech, a change of state and
    a transcription are reactions. What doesn't: agents that are thinking or speaking, and speech that ended because the
    speaker left or could no longer be heard. If an agent's reactions would not be seen, the verdict is in doubt.

    What it won't notice: who is being spoken to. People also talk to each other, and some agents are meant to keep
    quiet. That is why this policy only reports, unless its `action` is `"evict"`. It requires hearing. With level
    detection, noise from a human's microphone counts as speech; with `"hearing": "speech"` it doesn't.
    """

    name: ClassVar[str] = "unresponsive"
    watches: ClassVar[bool] = True
    default_action: ClassVar[Action] = "report"
    hearing: ClassVar[Hearing] = "needed"

    timeout: Seconds = 20
    """Seconds without a reaction."""

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        for agent in room.agents:
            if agent.unanswered_since is not None and not agent.busy:
                due = agent.unanswered_since + self.timeout + LATE
                yield Verdict(agent, due, f"did not react for {self.timeout:g} s to people who spoke", agent.unseen)
