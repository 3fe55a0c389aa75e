"""An agent that does nothing, and costs all the same."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from bouncer import Hearing, Room, Seconds, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleTimeout:
    """An agent that has done nothing for `timeout` seconds has to leave.

    What counts as doing something: joining, speaking, a transcription, data or text it sent, a track it published or
    unmuted, a change of its `lk.agent.state` into or out of `thinking` or `speaking`; and all the time for which it is
    in one of those two states, so that a long tool call is not idleness. What doesn't: the state `listening`, a track
    that is open and silent.

    What it won't notice: by level, that what sounds is noise or hold music; `"hearing": "speech"` tells them from
    speech. With `"hearing": "off"`, an agent that has an audio track and never published a state or a transcription
    could be speaking without our knowing: it is reported once, and not evicted. Agents can send transcriptions in each
    other's name, and so keep each other.
    """

    name: ClassVar[str] = "idle_timeout"
    hearing: ClassVar[Hearing] = "useful"

    timeout: Seconds = 300
    """Seconds without any activity."""

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        for agent in room.agents:
            if not agent.busy:
                yield Verdict(
                    agent,
                    due=agent.active_at + self.timeout,
                    reason=f"did nothing for {self.timeout:g} s",
                    doubt=""
                    if agent.observable
                    else "it publishes no state or transcription, so it may be at work unseen",
                )
