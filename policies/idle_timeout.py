"""An agent that does nothing, and is billed all the same."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from bouncer import LATE, Hearing, Room, Seconds, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleTimeout:
    """An agent that has done nothing for `timeout` seconds must leave.

    What counts as activity: joining, speaking, sending a transcription, data or text, publishing or unmuting a track,
    and a change of `lk.agent.state` to or from `thinking` or `speaking`. An agent is active for as long as it is in one
    of those two states, so a long tool call is not idleness. What doesn't: the state `listening`, a track that is open
    but silent, or the events that a framework's session mirrors to the room.

    Silence is proof only where work would be seen: of an agent that is heard, itself or through its avatar; that
    publishes `lk.agent.state`; or that was seen at work during this stay and then stopped. Of any other, for example
    one that sends video, answers by RPC or writes captions in the speakers' names, the verdict is in doubt. It is then
    told as `held`, with the reason, and not carried out; `"unseen": "evict"` is for teams that know their agents.

    What it won't notice: with level detection, that a sound is only noise or hold music; `"hearing": "speech"` tells
    them apart. Agents can send text in each other's names, and so keep each other in the room. An agent that flips its
    state between `listening` and `thinking` is never idle.
    """

    name: ClassVar[str] = "idle_timeout"
    watches: ClassVar[bool] = True
    hearing: ClassVar[Hearing] = "useful"

    timeout: Seconds = 300
    """Seconds without any activity."""
    unseen: Literal["hold", "evict"] = "hold"
    """What happens to an agent that may be working unseen: it is held back, or evicted all the same."""

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        reason = f"did nothing for {self.timeout:g} s"
        for agent in room.agents:
            if not agent.busy:
                due = agent.active_at + self.timeout + (LATE if agent.audible else 0)
                doubt = agent.unseen if self.unseen == "hold" else ""
                yield Verdict(agent, due, reason, doubt)
