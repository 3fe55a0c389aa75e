"""Two agents with one name: one too many."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from bouncer import (
    JOB_KNOWN_IN,
    LONGEST_METADATA,
    UNLISTED_FOR,
    WAIT_FOR_LIFE,
    Count,
    Instant,
    Options,
    Participant,
    Room,
    Seconds,
    Texts,
    Verdict,
    full_since,
    in_order,
    may_be_confirmed,
    may_replace,
)

PLAIN = ("agent_name", "dispatch_metadata", "metadata")
ATTRIBUTE = "attribute:"
UNKNOWN = "it is not known yet whether each serves a participant of its own"


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicates:
    """Of agents with the same name, all but the oldest must leave.

    LiveKit dispatches an agent as often as it is asked to: by a token, by CreateRoom, by the API, by a retry. Nothing
    removes the second agent, and then two of them answer one caller.

    What counts: agents with the same agent name, or the same `key`. Exempt agents count, and so do
    agents that `only` leaves out. What doesn't: agents without a name, unless `unnamed` is true; avatars, even
    orphaned ones; agents that serve different participants (job types JT_PUBLISHER and JT_PARTICIPANT), where one agent
    for each is the intended setup.

    LiveKit lists a killed agent for about 20 s while its replacement joins alongside. Of agents from the same dispatch,
    the newest is therefore the rightful one, whatever `keep` says. The replacement may also come from another dispatch.
    So if an older agent has shown no sign of life since the younger one joined, nor in the second before, the younger
    one has `wait_for_life` seconds from joining. Any sign ends the wait: speech, another state, text, data, a track. In
    a live conversation one comes within seconds. Next to an agent that only listens, a duplicate stays that long.

    Of agents with one name, those whose dispatch confirms it take precedence over those that only say so, whichever
    came first. LiveKit lists a dispatch's job up to 5 s late, so that may take 6 s to decide. So may whether two that
    came at the same time each serve a participant of their own: until their jobs are listed, or for 7.5 s, both stay.
    The 6 s are for LiveKit's own identities (`agent-AJ_…`): one that its worker chose looks like a plain token's.

    What it won't notice: duplicates under different names, or which of two agents without a dispatch is genuine. With
    `keep: "newest"`, or with an attribute as the key, any agent that can join can push another one out.
    """

    name: ClassVar[str] = "duplicates"
    example: ClassVar[Options] = {"max": 1, "keep": "oldest", "grace": 2}
    times: ClassVar[tuple[str, ...]] = ("grace",)

    key: Texts = "agent_name"
    """What duplicates share: `agent_name`, `attribute:NAME`, `dispatch_metadata`, `metadata`, or a list of these."""
    max: Count = 1
    """How many agents of a group may stay."""
    keep: Literal["oldest", "newest"] = "oldest"
    """Which agents stay."""
    grace: Seconds = 2
    """Seconds that they may overlap."""
    wait_for_life: Seconds = WAIT_FOR_LIFE
    """Seconds that a younger agent has next to older ones that show no life, since it may replace them; 0: no wait."""
    unnamed: bool = False
    """If true, agents without a name form one group."""

    def __post_init__(self) -> None:
        for part in self._parts:
            if part not in PLAIN and not part.removeprefix(ATTRIBUTE) != part != ATTRIBUTE:
                raise ValueError(
                    'key: must be "agent_name", or "attribute:NAME" with the name of an attribute, or '
                    f'"dispatch_metadata", or "metadata", or a list of these, not "{part}"'
                )

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        groups: defaultdict[tuple[str, ...], list[Participant]] = defaultdict(list)
        for agent in (each for each in room.agents if not each.orphaned):
            values = tuple(_value(part, agent) for part in self._parts)
            if all(v or (self.unnamed and part == "agent_name") for part, v in zip(self._parts, values, strict=True)):
                groups[*values, agent.serves].append(agent)
        for group in groups.values():
            if len(group) > self.max:
                yield from self._surplus(group)

    @property
    def _parts(self) -> tuple[str, ...]:
        return (self.key,) if isinstance(self.key, str) else self.key

    def _since(self, agent: Participant) -> Instant:
        """Return since when the agent has its key."""
        return max(_since(part, agent) for part in self._parts)

    def _surely_since(self, agent: Participant) -> Instant:
        """Return since when it surely makes others one too many: it may yet turn out to serve someone of its own."""
        since = self._since(agent)
        return max(since, agent.joined_at + JOB_KNOWN_IN) if agent.may_serve else since

    def _surplus(self, group: list[Participant]) -> Iterator[Verdict]:
        """Yield verdicts on all but the `max` agents of a group with the best right to stay."""
        order = in_order(group, newest=self.keep == "newest")
        kept = order[: self.max]
        alive_at = min(agent.alive_at for agent in kept)
        full = full_since(map(self._since, order), self.max)
        surely_full = full_since(map(self._surely_since, order), self.max)
        for agent, full_at, surely_at in zip(order[self.max :], full, surely_full, strict=True):
            due = max(self._since(agent), surely_at if agent.replaced else full_at) + self.grace
            if self.keep == "oldest" and not agent.replaced and may_replace(agent, alive_at):
                due = max(due, agent.joined_at + self.wait_for_life)
            if may_be_confirmed(agent, kept, newest=self.keep == "newest"):
                due = max(due, agent.joined_at + UNLISTED_FOR)
            unknown = any(o.may_serve or (o.unlisted and agent.may_serve) for o in kept) and not agent.replaced
            if unknown:
                due = max(due, agent.joined_at + JOB_KNOWN_IN)
            yield Verdict(agent, due, self._reason(agent), UNKNOWN if unknown else "")

    def _reason(self, agent: Participant) -> str:
        if agent.replaced:
            return "was replaced by a newer job of its dispatch"
        what = " and ".join(part.removeprefix(ATTRIBUTE).replace("_", " ") for part in self._parts)
        stays = f"the {self.keep} stays" if self.max == 1 else f"the {self.max} {self.keep} stay"
        return f"is one too many with its {what}; {stays}"


def _value(part: str, agent: Participant) -> str:
    """Return what an agent has for a part of the key; "" if nothing, or metadata that isn't kept whole."""
    match part:
        case "agent_name":
            return agent.agent_name
        case "dispatch_metadata":
            return agent.dispatch_metadata
        case "metadata":
            return agent.metadata if len(agent.metadata) < LONGEST_METADATA else ""
        case _:
            return agent.attributes.get(part.removeprefix(ATTRIBUTE), "")


def _since(part: str, agent: Participant) -> Instant:
    match part:
        case "agent_name" | "dispatch_metadata":
            return agent.joined_at
        case "metadata":
            return max(agent.joined_at, agent.metadata_at)
        case _:
            return agent.attribute_at(part.removeprefix(ATTRIBUTE))
