"""Agents that talk among themselves."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import ClassVar, Literal

from bouncer import LATE, Hearing, Instant, Participant, Room, Seconds, Verdict

MIN_CHATTERS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class LoneChatter:
    """Agents (two or more) that keep talking while no human speaks must leave.

    Two agents can keep each other talking forever, at twice the price.

    What counts: speech of at least two distinct agents since a human last spoke. Once that has lasted for `timeout`
    seconds, the next speech of any of them makes them due. What doesn't: a single agent that talks, and agents that
    have been silent since. As long as a human speaks now and then, the time starts over.

    What it won't notice: with level detection, whether a sound is speech. Noise from a human's microphone counts as
    human speech, and an agent's hold music counts as talking, unless the room asks for `"hearing": "speech"`. The
    policy requires hearing: without it, silence of the humans would be a guess.
    """

    name: ClassVar[str] = "lone_chatter"
    together: ClassVar[bool] = True
    watches: ClassVar[bool] = True
    hearing: ClassVar[Hearing] = "needed"

    timeout: Seconds = 60
    """Seconds that agents may talk among themselves."""
    keep: Literal["none", "oldest"] = "none"
    """`none`, or `oldest` to let the oldest of them stay."""

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        unheard = any(human.audible is False and not human.ringing for human in room.humans)
        doubt = "a person who can't be heard may have spoken" if unheard else ""
        # What came late of a human who spoke takes no verdict back that was due before.
        for chat in (
            [(agent, agent.chatting_since, inf) for agent in room.agents if agent.chatting_since is not None],
            [(agent, *agent.chatted) for agent in room.agents if agent.chatted is not None],
        ):
            if (due := self._due(chat)) is None:
                continue
            for agent, *_ in chat[1 if self.keep == "oldest" else 0 :]:
                yield Verdict(agent, due, f"talked among agents for {self.timeout:g} s", doubt)

    def _due(self, chat: Sequence[tuple[Participant, Instant, Instant]]) -> Instant | None:
        """Return when agents that chat among themselves, each since and until an instant, are due; None if never."""
        if len(chat) < MIN_CHATTERS:
            return None
        end = sorted(since for _, since, _ in chat)[1] + self.timeout
        spoke = ((_speech_after(end, agent), until) for agent, _, until in chat)
        return min((at + LATE for at, until in spoke if at is not None and at <= until), default=None)


def _speech_after(end: Instant, agent: Participant) -> Instant | None:
    """Return when the agent first spoke at or after `end`, as far as it is known."""
    if agent.spoke_at is not None and agent.spoke_at >= end:
        return max(end, agent.spoke_at if agent.spoke_since is None else agent.spoke_since)
    return None if agent.speaking_since is None else max(end, agent.speaking_since)
