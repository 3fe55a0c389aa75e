"""A room as a policy sees it: frozen, dated facts.

The rule of this file: a record states what was true when it was made, and never asks what time it is. Every `*_at` is
the `Instant` at which something happened, every `*_since` the one at which something still true began. None means
"not so" or "not known". The tracker makes these records; policies and `decide` only read them.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from heapq import heappush, heappushpop
from itertools import groupby

Instant = float
"""Seconds on one monotonic clock. Only differences and comparisons are meaningful."""
Age = tuple[int, int, str]
"""Sorts the oldest first: its place in milliseconds; when it joined, as the server wrote it; its sid."""

UNLISTED_FOR = 6.0
"""Seconds after joining during which a job's dispatch may be unlisted: `list_dispatch` shows a job up to 5 s late."""
JOB_KNOWN_IN = 7.5
"""Seconds after joining in which an agent's job is known, or known not to exist: one more list, and time to answer."""

LATE = 2.0
"""Seconds by which news of what is heard is dated back at most. A verdict that hearing decides is due that much later,
and rests on what was heard before: so nothing that is told after it came due takes it back."""

STAY_WITHIN = 20.0
"""Seconds within which an identity that is back continues its stay. LiveKit lists a lost connection about as long."""
WAIT_FOR_LIFE = 25.0
"""Seconds for which LiveKit may list a killed agent, and a little more: 20 to 23 s were measured."""

ALIVE_WITHIN = 1.0
"""Seconds before another agent's joining in which a sign of life still shows that an agent isn't replaced by it."""

LONGEST_METADATA = 4096
"""Characters of a participant's metadata that are kept, also once it has left; LiveKit takes 512 KiB."""

JOB_IDENTITY = "agent-AJ_"
"""The prefix of a job's identity, unless its worker chooses another one."""

GUARDING_ATTRIBUTE = "bouncer.guarding"
"""Set by a bouncer while it guards the room: from the first answered list until it hands the room over."""

STANDING_ATTRIBUTE = "bouncer.standing"
"""Set by a bouncer that is here and has no valid configuration, to `unconfigured`."""

CALL_STATUS_ATTRIBUTE = "sip.callStatus"
"""Set by LiveKit for a SIP participant: what has become of the call."""

RINGING = frozenset({"dialing", "ringing"})
"""The values of `sip.callStatus` before the call is answered."""

ACTIVE_STATES = frozenset({"thinking", "speaking"})
"""The values of `lk.agent.state` that mean an agent is at work, however long it takes."""


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
    """What a participant is to us. Only an AGENT is judged; its AVATAR leaves with it.

    A participant that may be a BOUNCER is OTHER until that is settled: neither judged nor obeyed nor counted.
    """

    AGENT = "agent"
    AVATAR = "avatar"
    HUMAN = "human"
    BOUNCER = "bouncer"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Participant:
    """One connection (`sid`) of one member (`identity`), with what is known about it."""

    sid: str
    identity: str
    kind: Kind = Kind.STANDARD
    role: Role = Role.HUMAN
    role_at: Instant = 0.0
    """Since when it counts as a person, if it counted as something else before; else 0."""
    agent_name: str = ""
    """The dispatch's agent name, else `lk.agent_name`, else `lk.agent.name`, as first seen; empty if it has none."""
    dispatch: str = ""
    """The id of the dispatch whose job it is; empty if none is listed (yet), or if several could be."""
    dispatches: frozenset[str] = frozenset()
    """The dispatches of all jobs with its identity: a worker may reuse one identity for job after job."""
    replaced: bool = False
    """True once a newer job of its dispatch was seen (serving the same participant), even if that one has left."""
    dispatch_metadata: str = ""
    """The metadata of its dispatch; of a long one the beginning, with a digest of the whole."""
    serves: str = ""
    """For a job of type JT_PUBLISHER or JT_PARTICIPANT, the identity of the participant it serves; else empty."""
    may_serve: bool = False
    """True while it may be such a job: its own is not listed yet, or several are listed with its identity."""
    attributes: Mapping[str, str] = field(default_factory=dict, hash=False)
    attributes_at: Mapping[str, Instant] = field(default_factory=dict, hash=False)
    """Since when each attribute has its value; an attribute that is not in here has had it since joining."""
    name: str = ""
    """The display name."""
    name_at: Instant = 0.0
    """Since when it has that name."""
    metadata: str = ""
    """The participant's own metadata; of long ones the beginning."""
    metadata_at: Instant = 0.0
    """Since when it has that metadata."""
    hidden: bool = False
    agent_grant: bool = False
    """True if it has the `agent` grant, which makes it an agent whatever its kind."""
    foreign: bool = False
    """True for a bouncer of another fleet, with another agent name than ours."""
    on_behalf_of: str = ""
    """For an avatar, even an orphaned one: the identity of its principal."""
    principal: "Participant | None" = None
    """For an avatar whose principal is here: that participant."""
    active: bool = True
    """True if its state is ACTIVE. A participant that is still JOINING is not judged."""
    joined_at: Instant = 0.0
    """When its stay began: the server's date, as far as it fits what we saw. A reconnect within 20 s continues it."""
    stay_known_at: Instant = 0.0
    """From when on its stay is known to go on, if a new job could have its identity: nothing is due before that."""
    joined_ms: int = 0
    """When this connection joined, as the server wrote it: milliseconds of its clock."""
    age: Age = (0, 0, "")
    """A sort key, oldest first: when its stay began, as the server wrote it; later if we saw ourselves that it came
    after another one, whatever the server's clock says."""
    alive_at: Instant = 0.0
    """The last sign of life, of any kind, from this sid."""
    active_at: Instant = 0.0
    """When it last did something: joining, speaking, thinking, sending text or data, …"""
    audible: bool | None = None
    """True if its sound is heard; None if it has none."""
    unseen: str = ""
    """Why it may be working unseen, so that its silence proves nothing; empty if its work would be seen."""
    state: str = ""
    """`lk.agent.state`, if it publishes one."""
    state_at: Instant = 0.0
    """When it entered that state."""
    acted_in_state: bool = False
    """True if it did something in that state before we began to watch again, which `active_at` no longer shows."""
    speaking_since: Instant | None = None
    """When its current speech began: as heard, else according to an agent's state. None while it isn't speaking."""
    spoke_at: Instant | None = None
    """When its last speech ended."""
    spoke_since: Instant | None = None
    """When its last speech began, if that has ended just now."""
    unanswered_since: Instant | None = None
    """For an agent: the end of the first human speech it has not reacted to."""
    avatar_sounds: bool = False
    """True for an agent whose avatar is heard, so that it is at work."""
    chatting_since: Instant | None = None
    """For an agent: when it first spoke after the last human speech."""
    chatted: tuple[Instant, Instant] | None = None
    """For an agent: `chatting_since` until just now, and when a human spoke then."""
    contested: bool = False
    """True if several participants claim the same principal, so that it is uncertain which one is its avatar."""
    principal_left_at: Instant | None = None
    """For an orphaned avatar: when its principal left. An avatar without a principal is judged like any agent."""

    @property
    def is_agent(self) -> bool:
        """True for an ordinary agent, the kind that policies judge."""
        return self.role is Role.AGENT

    @property
    def orphaned(self) -> bool:
        """True for an avatar whose principal has left. It is judged as an agent, and is not one more agent."""
        return self.principal_left_at is not None

    @property
    def evictable(self) -> bool:
        """True for an agent or an avatar that the server itself calls an agent; never for a person or a service."""
        agent = self.kind is Kind.AGENT or (self.agent_grant and self.kind not in (Kind.EGRESS, Kind.INGRESS))
        return agent and self.active and self.role in (Role.AGENT, Role.AVATAR)

    @property
    def is_human(self) -> bool:
        """True for a person, however connected."""
        return self.role is Role.HUMAN

    @property
    def ringing(self) -> bool:
        """True for a SIP participant whose call is not answered yet: the agents are still waiting for that person."""
        return self.kind is Kind.SIP and self.attributes.get(CALL_STATUS_ATTRIBUTE) in RINGING

    @property
    def answered_at(self) -> Instant:
        """When its call was answered, if that is known; else when it joined."""
        return self.attribute_at(CALL_STATUS_ATTRIBUTE)

    def attribute_at(self, name: str) -> Instant:
        """Return since when an attribute has its value: since joining, unless it was seen to change."""
        return max(self.joined_at, self.attributes_at.get(name, self.joined_at))

    @property
    def busy(self) -> bool:
        """True while it is at work, so that time passing does not make it idle."""
        return self.state in ACTIVE_STATES or self.speaking_since is not None or self.avatar_sounds

    @property
    def unlisted(self) -> bool:
        """True if its identity is a job's, but no listed dispatch has that job."""
        return not self.dispatch and self.identity.startswith(JOB_IDENTITY)

    def may_be_of(self, dispatch: str) -> bool:
        """Return True if it may be a job of this dispatch, so that deleting the dispatch could end it."""
        return dispatch == self.dispatch or dispatch in self.dispatches

    @property
    def claims(self) -> bool:
        """True for a bouncer, also of another fleet, that is present and claims the room."""
        return self.role is Role.BOUNCER and self.active and says_guarding(self.attributes)

    @property
    def guarding(self) -> bool:
        """True for a bouncer of our fleet that is present and claims the room."""
        return self.claims and not self.foreign

    @property
    def arrived(self) -> bool:
        """True for a bouncer of our fleet that claims the room, or would if it had a valid configuration."""
        return self.role is Role.BOUNCER and self.active and not self.foreign and says_arrived(self.attributes)

    @property
    def seniority(self) -> tuple[int, str]:
        """A sort key for bouncers, oldest first: the server's word for this connection, so that all of them agree."""
        return (self.joined_ms, self.sid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """All participants, oldest first, with the facts about the room as a whole."""

    me: str = ""
    """Our own identity. Not the sid, which a full reconnect changes without our SDK noticing."""
    participants: tuple[Participant, ...] = ()
    watching_since: Instant = 0.0
    """Since when we have watched without a gap. Facts known only from watching are never earlier."""
    opened_before_at: Instant | None = None
    """When the room opened, if a gatekeeper saw it and we have watched ever since it told us."""
    humans_left_at: Instant | None = None
    """When the last human left; None while one is present, or if none has come."""
    evicted_at: Mapping[str, Instant] = field(default_factory=dict, hash=False)
    """For each identity, when its last successful removal was sent."""

    agents: tuple[Participant, ...] = field(init=False, repr=False, compare=False)
    """The agents that may be judged: the ACTIVE ones except us, oldest first."""
    agents_and_avatars: tuple[Participant, ...] = field(init=False, repr=False, compare=False)
    """All participants that may be evicted at all, avatars with a principal included, oldest first."""
    evictable: Mapping[str, Participant] = field(init=False, repr=False, compare=False)
    """The same, by sid."""
    humans: tuple[Participant, ...] = field(init=False, repr=False, compare=False)
    """The people, oldest first."""
    avatars: tuple[Participant, ...] = field(init=False, repr=False, compare=False)
    """The avatars, including orphaned ones, oldest first; `on_behalf_of` names each one's principal."""
    bouncers: tuple[Participant, ...] = field(init=False, repr=False, compare=False)
    """The bouncers, ours and others', oldest first."""

    def __post_init__(self) -> None:
        everyone = tuple(sorted(self.participants, key=lambda p: p.age))
        evictable = tuple(p for p in everyone if p.evictable and p.identity != self.me)
        # Worked out once: a room may have ten thousand people, and each policy asks for its agents.
        for name, found in (
            ("participants", everyone),
            ("agents", tuple(p for p in evictable if p.is_agent)),
            ("agents_and_avatars", evictable),
            ("evictable", {p.sid: p for p in evictable}),
            ("humans", tuple(p for p in everyone if p.role is Role.HUMAN)),
            ("avatars", tuple(p for p in everyone if p.on_behalf_of)),
            ("bouncers", tuple(p for p in everyone if p.role is Role.BOUNCER)),
        ):
            object.__setattr__(self, name, found)

    @property
    def seniors(self) -> tuple[Participant, ...]:
        """The bouncers that claim the room and have been here longer than we have. With one of them, we stand by."""
        others = tuple(p for p in self.bouncers if p.guarding and p.identity != self.me)
        if not others:
            return ()
        mine = next((p.seniority for p in self.participants if p.identity == self.me), None)
        return tuple(p for p in others if mine is None or p.seniority < mine)

    @property
    def juniors(self) -> tuple[Participant, ...]:
        """The bouncers that have arrived and joined after us, oldest first; none unless we claim the room."""
        mine = next((p.seniority for p in self.bouncers if p.identity == self.me and p.guarding), None)
        younger = (p for p in self.bouncers if p.arrived and mine is not None and p.seniority > mine)
        return tuple(sorted(younger, key=lambda p: p.seniority))

    @property
    def opened_at(self) -> Instant:
        """When the room opened, as far as we can vouch for it."""
        return self.watching_since if self.opened_before_at is None else self.opened_before_at

    @property
    def chatter_since(self) -> Instant | None:
        """When the second distinct agent spoke after the last human speech; None if fewer have spoken."""
        began = sorted(p.chatting_since for p in self.agents if p.chatting_since is not None)
        return began[1] if len(began) > 1 else None

    def without(self, sids: frozenset[str]) -> "Room":
        """Return the same room without the participants that have these sids."""
        if not sids:
            return self
        return replace(self, participants=tuple(p for p in self.participants if p.sid not in sids))


def says_guarding(attributes: Mapping[str, str]) -> bool:
    """Return True if a bouncer with these attributes says that it guards the room."""
    return attributes.get(GUARDING_ATTRIBUTE, "") != ""


def says_arrived(attributes: Mapping[str, str]) -> bool:
    """Return True if it says that it guards the room, or would if it had a valid configuration."""
    return says_guarding(attributes) or attributes.get(STANDING_ATTRIBUTE, "") != ""


def in_order(agents: Iterable[Participant], *, newest: bool = False) -> list[Participant]:
    """Sort agents by their right to stay: oldest (or newest) first, those replaced by a newer job last.

    Of agents from one dispatch, the newest job is the rightful one: a crashed agent stays listed for about 20 s while
    its restarted job joins alongside. If the restarted job leaves first, the crashed one gains no seniority from that.
    Among agents with one name, those whose dispatch confirms it take the places that any of them has.
    """
    oldest_first = sorted(agents, key=lambda agent: agent.age)
    rightful = [agent for agent in oldest_first if not agent.replaced]
    replaced = [agent for agent in oldest_first if agent.replaced]
    if newest:
        rightful.reverse()
    confirmed = sorted(rightful, key=lambda agent: (agent.agent_name, not agent.dispatch))
    of_name = {name: list(alike) for name, alike in groupby(confirmed, key=lambda agent: agent.agent_name)}
    places = {name: iter(alike) for name, alike in of_name.items() if name}
    return [*(next(places[a.agent_name]) if a.agent_name else a for a in rightful), *reversed(replaced)]


def may_be_confirmed(agent: Participant, kept: Iterable[Participant], *, newest: bool = False) -> bool:
    """Return True if an agent would stay in place of one of those that are kept once its dispatch is listed.

    LiveKit lists a job up to 5 s late, so it can't be known for `UNLISTED_FOR` seconds after the agent joined. Another
    whose job may be listed yet too is ahead of it all the same.
    """
    if not agent.unlisted or agent.replaced:
        return False
    of_name = (other for other in kept if other.agent_name == agent.agent_name)
    alike = [other for other in of_name if not (other.unlisted and other.may_serve)]
    return any(not other.dispatch or (other.age < agent.age) == newest for other in alike)


def may_replace(agent: Participant, alive_at: Instant) -> bool:
    """Return True if an agent may replace an older one that was killed, and is still listed.

    The older one last showed life at `alive_at`; of several that is the earliest. One that did so after the agent
    joined, or less than `ALIVE_WITHIN` before, is no corpse.
    """
    return alive_at <= agent.joined_at - ALIVE_WITHIN


def full_since(dates: Iterable[Instant], most: int) -> Iterator[Instant]:
    """Yield for each date after the first `most` when that many were there: the `most`-th of all dates before it."""
    latest: list[float] = []
    for date in dates:
        if len(latest) < most:
            heappush(latest, -date)
        else:
            yield -latest[0]
            heappushpop(latest, -date)
