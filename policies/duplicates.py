"""Two agents of one name in a room: one too many."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import MaxLen

from bouncer import Count, Options, Participant, Room, Seconds, Verdict, in_order, known_by


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicates:
    """Of agents with the same name, all but the oldest have to leave.

    LiveKit dispatches an agent as often as it is asked to: by the token, by CreateRoom, by the API, by a retry. Nothing
    removes the second one, and two agents answer one caller.

    What counts: agents with the same agent name (or the same value of an attribute), those of other bouncers' rules
    and exempt ones included. What doesn't: agents without a name, unless `unnamed` is true; agents that serve different
    publishers (job type JT_PUBLISHER), which are one for each human by design.

    A crashed agent stays listed for about 20 s while its restarted job joins beside it. So of agents from the same
    dispatch the newest is the rightful one, whatever `keep` says; and where the newcomer's dispatch isn't known yet and
    the older agent has shown no life since, nothing is decided before 6 s have passed.

    What it won't notice: duplicates under different names, and which of two is genuine. An agent that joined with a
    token of its own, gave itself the name and was there first, stays, and the dispatched one leaves. With `keep:
    "newest"`, and with an attribute as the key, an agent that can join can push out another at any time.
    """

    name: ClassVar[str] = "duplicates"
    example: ClassVar[Options] = {"max": 1, "keep": "oldest", "grace": 2}

    key: Annotated[str, MaxLen(256)] = "agent_name"
    """What makes agents the same: `agent_name`, or `attribute:NAME` for the value of that participant attribute."""
    max: Count = 1
    """How many may stay."""
    keep: Literal["oldest", "newest"] = "oldest"
    """Which of them stay."""
    grace: Seconds = 2
    """Seconds that they may be there together."""
    unnamed: bool = False
    """Whether agents without a name are one group too."""

    def __post_init__(self) -> None:
        if self.key != "agent_name" and not (self.key.startswith("attribute:") and self.key != "attribute:"):
            raise ValueError('key: must be "agent_name", or "attribute:NAME" with the name of an attribute')

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        groups: defaultdict[tuple[str, str], list[Participant]] = defaultdict(list)
        for agent in room.agents:
            value = self._value(agent)
            if value or self.unnamed:
                groups[value, agent.publisher].append(agent)
        for group in groups.values():
            yield from self._surplus(group)

    def _value(self, agent: Participant) -> str:
        if self.key == "agent_name":
            return agent.agent_name
        return agent.attributes.get(self.key.removeprefix("attribute:"), "")

    def _surplus(self, group: list[Participant]) -> Iterator[Verdict]:
        """Verdicts on all but the `max` agents of a group with the best right to stay."""
        order = in_order(group, newest=self.keep == "newest")
        kept = order[: self.max]
        for place, agent in enumerate(order[self.max :], self.max):
            full_at = sorted(other.joined_at for other in order[:place])[self.max - 1]
            due = max(agent.joined_at, full_at) + self.grace
            yield Verdict(agent, max(due, known_by(agent, kept)), self._reason(agent))

    def _reason(self, agent: Participant) -> str:
        if agent.replaced:
            return "was replaced by a newer job of its dispatch"
        what = "agent name" if self.key == "agent_name" else self.key.removeprefix("attribute:")
        stays = f"the {self.keep} stays" if self.max == 1 else f"the {self.max} {self.keep} stay"
        return f"is one too many with its {what}; {stays}"
