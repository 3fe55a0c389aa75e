"""Agents among themselves."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from bouncer import Hearing, Participant, Room, Seconds, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class LoneChatter:
    """Agents, two or more, that go on talking with no human speaking have to leave.

    Two agents can keep each other talking for ever, at the price of two.

    What counts: speech of at least two distinct agents since a human last spoke; once that has gone on for `timeout`
    seconds, the next speech of any of them is the end. What doesn't: a single agent that talks; agents that have been
    silent since. While a human takes part now and then, it never comes to it.

    What it won't notice: by level, whether it is speech. Noise of a human's microphone counts as taking part, and an
    agent's hold music as talking, unless `"hearing": "speech"` is asked for. It needs hearing, since without it nobody
    could know that no human speaks.
    """

    name: ClassVar[str] = "lone_chatter"
    hearing: ClassVar[Hearing] = "needed"

    timeout: Seconds = 60
    """Seconds for which they may talk among themselves."""
    keep: Literal["none", "oldest"] = "none"
    """Whether one of them stays."""

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        if room.chatter_since is None or any(human.speaking_since is not None for human in room.humans):
            return
        end = room.chatter_since + self.timeout
        chatting = [agent for agent in room.agents if agent.chatting_since is not None]
        due = min((at for agent in chatting if (at := self._speech_after(end, agent)) is not None), default=None)
        if due is not None:
            for agent in chatting[1 if self.keep == "oldest" else 0 :]:
                yield Verdict(agent, due, f"talked among agents for {self.timeout:g} s")

    def _speech_after(self, end: float, agent: Participant) -> float | None:
        """When the agent first spoke at or after `end`, as far as it is known."""
        if agent.speaking_since is not None:
            return max(end, agent.speaking_since)
        return agent.spoke_at if agent.spoke_at is not None and agent.spoke_at >= end else None
