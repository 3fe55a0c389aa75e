"""A room as a policy sees it: frozen, dated facts, and nothing that moves.

The rule of this file: what is written here was true when it was written and never asks what time it is. Every
`*_at` is the `Instant` at which something happened, every `*_since` the one at which something still true began, and
None says «not so» or «not known». The tracker makes these records; policies and `decide` only read them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

Instant = float
"""Seconds on one monotonic clock, which never goes back. Only differences and comparisons mean anything."""

UNLISTED_FOR = 6.0
"""Seconds after joining in which a job's dispatch may still be unlisted: `list_dispatch` shows a job up to 5 s late."""

JOB_IDENTITY = "agent-AJ_"
"""How the identity of a job's participant begins, unless its worker gives it another."""

GUARDING_ATTRIBUTE = "bouncer.guarding"
"""Set by a bouncer while it guards the room: from when it is connected until it hands the room over."""

ACTIVE_STATES = frozenset({"thinking", "speaking"})
"""The values of `lk.agent.state` in which an agent is at work, however long that takes."""


class Kind(StrEnum):
    """LiveKit's participant kinds."""

    STANDARD = "standard"
    INGRESS = "ingress"
    EGRESS = "egress"
    SIP = "sip"
    AGENT = "agent"
    CONNECTOR = "connector"
    BRIDGE = "bridge"


class Role(StrEnum):
    """What a participant is to us. Only an AGENT is ever judged; its AVATAR leaves with it.

    Who may be a BOUNCER is OTHER until it is known: neither judged nor obeyed, and no policy counts it.
    """

    AGENT = "agent"
    AVATAR = "avatar"
    HUMAN = "human"
    BOUNCER = "bouncer"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Participant:
    """One connection to the room (`sid`) of one member (`identity`), with what is known about it."""

    sid: str
    identity: str
    kind: Kind = Kind.STANDARD
    role: Role = Role.HUMAN
    agent_name: str = ""
    """The dispatch's word, else `lk.agent_name`, else `lk.agent.name`, as first seen; empty for an unnamed agent."""
    dispatch: str = ""
    """The id of the dispatch whose job it is; empty if none is listed (yet), or of several it may be any."""
    dispatches: frozenset[str] = frozenset()
    """The dispatches of all jobs with its identity: a worker can give one identity to one job after the other."""
    replaced: bool = False
    """Whether a newer job of its dispatch was seen beside its own (for the same publisher), also if that has left."""
    publisher: str = ""
    """For a job of type JT_PUBLISHER the identity of the human it serves; empty for all others."""
    attributes: Mapping[str, str] = field(default_factory=dict, hash=False)
    hidden: bool = False
    on_behalf_of: str = ""
    """For an avatar, also an orphaned one, the identity of its principal."""
    active: bool = True
    """Whether its state is ACTIVE; one that is still JOINING is not judged."""
    joined_at: Instant = 0.0
    joined_ms: int = 0
    """`joined_at` as the server wrote it, in milliseconds of its clock: what «older» is decided by."""
    alive_at: Instant = 0.0
    """The last sign of life of any kind for this sid."""
    active_at: Instant = 0.0
    """When it last did something (POLICIES.md): joining, speaking, thinking, sending text or data, …"""
    observable: bool = True
    """Whether we would see it being active; if not, its silence proves nothing."""
    state: str = ""
    """`lk.agent.state`, if it publishes one."""
    state_at: Instant = 0.0
    """When it got into that state."""
    speaking_since: Instant | None = None
    """Since when it is speaking: as it is heard, else as an agent's state says; None while it isn't."""
    spoke_at: Instant | None = None
    """When its last speech ended."""
    unanswered_since: Instant | None = None
    """For an agent: the end of the first human speech that it has not reacted to."""
    chatting_since: Instant | None = None
    """For an agent: when it first spoke after the last human speech."""
    principal_left_at: Instant | None = None
    """For an orphaned avatar: when its principal left. Without a principal it is judged like any other agent."""

    @property
    def is_agent(self) -> bool:
        """Whether it is an ordinary agent, one that policies judge."""
        return self.role is Role.AGENT

    @property
    def is_human(self) -> bool:
        """Whether it is a person, however connected."""
        return self.role is Role.HUMAN

    @property
    def busy(self) -> bool:
        """Whether it is at work right now, so that time passing doesn't make it idle."""
        return self.state in ACTIVE_STATES or self.speaking_since is not None

    @property
    def unlisted(self) -> bool:
        """Whether it is a job by its identity, but no listed dispatch has that job."""
        return not self.dispatch and self.identity.startswith(JOB_IDENTITY)

    def may_be_of(self, dispatch: str) -> bool:
        """Whether it may be a job of this dispatch, so that deleting it could end it."""
        return dispatch == self.dispatch or dispatch in self.dispatches

    @property
    def guarding(self) -> bool:
        """Whether it is a bouncer that is here and says that it guards the room."""
        return self.role is Role.BOUNCER and self.active and self.attributes.get(GUARDING_ATTRIBUTE, "") != ""

    @property
    def age(self) -> tuple[int, str]:
        """Sorts the oldest first; the server's own milliseconds, then the sid, so that all bouncers agree."""
        return (self.joined_ms, self.sid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Everybody in the room, oldest first, with the facts that belong to the room as a whole."""

    me: str = ""
    """Our own identity. Not the sid: a full reconnect gives us another one, and our own SDK doesn't tell which."""
    participants: tuple[Participant, ...] = ()
    watching_since: Instant = 0.0
    """Since when nothing could escape us; facts known only by watching are never earlier."""
    humans_left_at: Instant | None = None
    """When the last human left; None while one is there, and as long as none has come."""
    evicted_at: Mapping[str, Instant] = field(default_factory=dict, hash=False)
    """When removals were sent that succeeded, the last for each identity."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "participants", tuple(sorted(self.participants, key=lambda p: p.age)))

    @property
    def agents(self) -> tuple[Participant, ...]:
        """The other agents that may be judged: ACTIVE ones, oldest first."""
        return tuple(p for p in self.participants if p.is_agent and p.active and p.identity != self.me)

    @property
    def humans(self) -> tuple[Participant, ...]:
        """The people, oldest first."""
        return tuple(p for p in self.participants if p.is_human)

    @property
    def avatars(self) -> tuple[Participant, ...]:
        """The avatars, also orphaned ones, oldest first; `on_behalf_of` says to whom each belongs."""
        return tuple(p for p in self.participants if p.on_behalf_of)

    @property
    def seniors(self) -> tuple[Participant, ...]:
        """The other bouncers that guard the room and have been here longer than we. With one we stand by."""
        mine = next((p.age for p in self.participants if p.identity == self.me), None)
        others = (p for p in self.participants if p.guarding and p.identity != self.me)
        return tuple(p for p in others if mine is None or p.age < mine)

    @property
    def juniors(self) -> tuple[Participant, ...]:
        """The bouncers that guard the room and came after us, oldest first; none unless we say that we guard it."""
        mine = next((p.age for p in self.participants if p.identity == self.me and p.guarding), None)
        return tuple(p for p in self.participants if p.guarding and mine is not None and p.age > mine)

    @property
    def opened_at(self) -> Instant:
        """Since when the room is open, as far as we can answer for it."""
        return self.watching_since

    @property
    def chatter_since(self) -> Instant | None:
        """When the second distinct agent spoke after the last human speech; None while fewer have."""
        began = sorted(p.chatting_since for p in self.agents if p.chatting_since is not None)
        return began[1] if len(began) > 1 else None

    def without(self, sids: frozenset[str]) -> "Room":
        """The same room once the participants with these sids have left."""
        if not sids:
            return self
        return replace(self, participants=tuple(p for p in self.participants if p.sid not in sids))


def in_order(agents: Iterable[Participant], *, newest: bool = False) -> list[Participant]:
    """Agents by their right to stay: the oldest first, or the newest; those replaced by a newer job come last.

    Of agents from one dispatch the newest job is the rightful one: a crashed agent stays listed for about 20 s, and its
    restarted job joins beside it. If that one is gone first, the crashed one must not outlive others for it.
    """
    oldest_first = sorted(agents, key=lambda agent: agent.age)
    rightful = [agent for agent in oldest_first if not agent.replaced]
    replaced = [agent for agent in oldest_first if agent.replaced]
    return [*(reversed(rightful) if newest else rightful), *reversed(replaced)]


def known_by(agent: Participant, elders: Iterable[Participant]) -> Instant:
    """When it can be known that an agent is no restarted job of one of these: when it joined, or some time later.

    An elder that showed life after the agent joined is no corpse. Otherwise the agent may be the replacement of one, if
    it is a job whose dispatch is not listed yet.
    """
    if agent.unlisted and any(elder.alive_at <= agent.joined_at for elder in elders):
        return agent.joined_at + UNLISTED_FOR
    return agent.joined_at
