"""The memory of one room: events in, a `Room` of dated facts out. It does no I/O and reads no clock.

Events are hints and lists are the truth (LiveKit announces silent participants late, or never), so both end in the
same two operations: somebody is seen, somebody is gone. A participant is gone when an event says so or two lists in a
row lack it, and its history outlives that for a while: a full reconnect replays everybody's leaving and joining.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from bouncer.events import (
    Attributes,
    Connected,
    Disconnected,
    Dispatched,
    Event,
    Heard,
    Info,
    Job,
    Joined,
    Left,
    Listed,
    RemovalSent,
    Signal,
    Transcribed,
)
from bouncer.room import ACTIVE_STATES, Instant, Kind, Participant, Role, Room

AGENT_NAME_ATTRIBUTES = ("lk.agent_name", "lk.agent.name")
"""Where an agent's name stands: stamped by the server for every worker, then as the Python worker writes it."""
STATE_ATTRIBUTE = "lk.agent.state"
ON_BEHALF_OF_ATTRIBUTE = "lk.publish_on_behalf"

LISTS_UNTIL_GONE = 2
"""One list may drop somebody for a moment in a cluster (livekit/livekit #4316); two in a row do not."""
MAX_DEPARTED = 256
"""How many of those who left are remembered, in case they are back with the same sid after a reconnect."""


@dataclass(slots=True)
class _Member:
    """What is remembered of one sid."""

    info: Info
    seen_at: Instant
    agent_name: str
    """As claimed at first sight: agents can rewrite it later, and a name decides over others too."""
    on_behalf_of: str
    alive_at: Instant
    active_at: Instant
    state: str = ""
    state_at: Instant = 0.0
    changed_at: Instant = 0.0
    """When an event last told its attributes; a list that was asked for earlier knows less."""
    job: Job | None = None
    transcribed: bool = False
    audio: bool = False
    heard: bool | None = None
    """Whether it is heard speaking; None while that is not known."""
    speaking_since: Instant | None = None
    spoke_at: Instant | None = None
    unanswered_since: Instant | None = None
    chatting_since: Instant | None = None
    missing: int = 0
    """How many lists in a row lacked it."""
    left_at: Instant | None = None
    principal_left_at: Instant | None = None


@dataclass(slots=True)
class Tracker:
    """Keeps the record of one room. Feed it with `apply`, read it with `room`."""

    my_agent_name: str = "bouncer"
    """The agent name under which bouncers are dispatched: who else has it, hidden and dispatched, is one of us."""
    blind: bool = True
    """Whether the connection is down or not yet made, so that nothing may be decided."""
    _me: str = ""
    _watching_since: Instant = 0.0
    _members: dict[str, _Member] = field(default_factory=dict)
    _by_identity: dict[str, str] = field(default_factory=dict)
    _departed: OrderedDict[str, _Member] = field(default_factory=OrderedDict)
    _jobs: dict[str, Job] = field(default_factory=dict)
    _humans_came: bool = False
    _humans_left_at: Instant | None = None
    _evicted_at: OrderedDict[str, Instant] = field(default_factory=OrderedDict)

    def apply(self, event: Event) -> None:
        """Take in one event. Events of one source come in order; sources may be interleaved at will."""
        match event:
            case Connected(at, me, others):
                self._me, self._watching_since, self.blind = me.identity, at, False
                for known in self._members.values():
                    known.unanswered_since = known.chatting_since = None
                self._take_list(at, at, (me, *others))
            case Disconnected():
                self.blind = True
            case Joined(at, info):
                self._see(info, at, as_of=at)
            case Left(at, sid):
                self._leave(sid, at)
            case Attributes(sid=sid) | Signal(sid=sid) | Heard(sid=sid):
                if member := self._members.get(sid):
                    self._take_sign(member, event)
            case Transcribed(at, identity):
                if member := self._members.get(self._by_identity.get(identity, "")):
                    member.transcribed = True
                    member.unanswered_since = None
                    self._alive(member, at, active=True)
            case Listed(at, asked_at, infos):
                self._take_list(at, asked_at, infos)
            case Dispatched(_, jobs):
                self._jobs = {job.identity: job for job in jobs}
                for known in self._members.values():
                    known.job = self._jobs.get(known.info.identity, known.job)
            case RemovalSent(at, identity):
                self._evicted_at[identity] = at
                self._evicted_at.move_to_end(identity)
                if len(self._evicted_at) > MAX_DEPARTED:
                    self._evicted_at.popitem(last=False)

    def has(self, sid: str) -> bool:
        """Whether this participant is in the room, as far as we know."""
        return sid in self._members

    def room(self) -> Room:
        """The room as it is known now; equal facts give equal rooms."""
        principals = {m.info.identity for m in self._members.values() if _is_agent(m) and not _claims_principal(m)}
        avatars: dict[str, _Member] = {}
        for member in sorted(self._members.values(), key=lambda m: (m.info.joined_ms, m.info.sid)):
            if _claims_principal(member):
                avatars.setdefault(member.on_behalf_of, member)
        return Room(
            me=self._me,
            participants=tuple(
                self._participant(
                    m, is_avatar=avatars.get(m.on_behalf_of) is m, has_principal=m.on_behalf_of in principals
                )
                for m in self._members.values()
            ),
            watching_since=self._watching_since,
            humans_left_at=self._watched(self._humans_left_at),
            evicted_at=dict(self._evicted_at),
        )

    def _watched(self, at: Instant | None) -> Instant | None:
        """The instant, or since when we watch if that is later: unwatched time is nobody's fault."""
        return None if at is None else max(at, self._watching_since)

    def _participant(self, member: _Member, *, is_avatar: bool, has_principal: bool) -> Participant:
        info, job = member.info, member.job
        agent_name = job.agent_name if job else member.agent_name
        return Participant(
            sid=info.sid,
            identity=info.identity,
            kind=info.kind,
            role=self._role(member, attached=is_avatar and has_principal),
            agent_name=agent_name,
            dispatch=job.dispatch if job else "",
            publisher=job.publisher if job else "",
            attributes=info.attributes,
            hidden=bool(info.hidden),
            may_be_bouncer=job is None and info.hidden is not False and agent_name == self.my_agent_name,
            on_behalf_of=member.on_behalf_of if is_avatar else "",
            active=info.active,
            joined_at=info.joined_at,
            joined_ms=info.joined_ms,
            alive_at=member.alive_at,
            active_at=max(member.active_at, self._watching_since),
            observable=member.state != "" or member.transcribed or not member.audio or self._heard(member) is not None,
            state=member.state,
            state_at=max(member.state_at, self._watching_since),
            speaking_since=self._watched(member.speaking_since),
            spoke_at=member.spoke_at,
            unanswered_since=self._watched(member.unanswered_since),
            chatting_since=self._watched(member.chatting_since),
            principal_left_at=self._watched(member.principal_left_at) if is_avatar and not has_principal else None,
        )

    def _role(self, member: _Member, *, attached: bool) -> Role:
        info, job = member.info, member.job
        if info.identity == self._me:
            return Role.BOUNCER
        if info.simulated or info.kind in (Kind.INGRESS, Kind.EGRESS):
            return Role.OTHER
        if not _is_agent(member):
            return Role.HUMAN
        if info.hidden and job and job.agent_name == self.my_agent_name:
            return Role.BOUNCER
        return Role.AVATAR if attached else Role.AGENT

    def _take_list(self, at: Instant, asked_at: Instant, infos: Iterable[Info]) -> None:
        listed = set()
        for info in infos:
            departed = self._departed.get(info.sid)
            if departed and departed.left_at is not None and departed.left_at > asked_at:
                continue
            listed.add(info.sid)
            self._see(info, at, as_of=asked_at)
        for sid, member in list(self._members.items()):
            if sid in listed or member.seen_at > asked_at:
                member.missing = 0
            else:
                member.missing += 1
                if member.missing >= LISTS_UNTIL_GONE:
                    self._leave(sid, at)

    def _see(self, info: Info, at: Instant, *, as_of: Instant) -> None:
        """Take in how a participant was shown at `as_of`."""
        member = self._members.get(info.sid)
        if member is None:
            known = self._members.get(self._by_identity.get(info.identity, ""))
            if known and known.info.joined_ms > info.joined_ms:
                return
            if known:
                self._leave(known.info.sid, at)
            member = self._departed.pop(info.sid, None) or _new_member(info, at)
            member.left_at, member.missing, member.seen_at = None, 0, at
            self._members[info.sid] = member
            self._by_identity[info.identity] = info.sid
            self._note_principal(info.identity, left_at=None)
        earlier = member.info
        member.info = Info(
            sid=info.sid,
            identity=info.identity,
            kind=info.kind,
            simulated=info.simulated,
            active=info.active,
            joined_at=earlier.joined_at,
            joined_ms=earlier.joined_ms,
            attributes=earlier.attributes,
            agent_grant=earlier.agent_grant if info.agent_grant is None else info.agent_grant,
            hidden=earlier.hidden if info.hidden is None else info.hidden,
        )
        member.audio |= info.audio
        member.job = self._jobs.get(info.identity, member.job)
        if as_of >= member.changed_at:
            self._take_state(member, info.attributes, at)
        self._count_humans(at)

    def _take_sign(self, member: _Member, event: Attributes | Signal | Heard) -> None:
        match event:
            case Attributes(at, _, attributes):
                self._alive(member, at)
                self._take_state(member, attributes, at)
                member.changed_at = at
            case Signal(at, _, active, audio):
                member.audio |= audio
                self._alive(member, at, active=active)
            case Heard(at, _, speaking):
                self._hear(member, at, speaking)

    def _take_state(self, member: _Member, attributes: Mapping[str, str], at: Instant) -> None:
        member.info = _with_attributes(member.info, attributes)
        state = attributes.get(STATE_ATTRIBUTE, "")
        if state == member.state:
            return
        if state in ACTIVE_STATES or member.state in ACTIVE_STATES:
            self._alive(member, at, active=True)
        member.state, member.state_at, member.unanswered_since = state, at, None
        self._note_speech(member, at)

    def _alive(self, member: _Member, at: Instant, *, active: bool = False) -> None:
        member.alive_at = max(member.alive_at, at)
        if active:
            member.active_at = max(member.active_at, at)

    def _leave(self, sid: str, at: Instant) -> None:
        member = self._members.pop(sid, None)
        if member is None:
            return
        member.left_at = at
        self._note_speech(member, at)
        member.heard = None
        if self._by_identity.get(member.info.identity) == sid:
            del self._by_identity[member.info.identity]
            self._note_principal(member.info.identity, left_at=at)
        self._departed[sid] = member
        if len(self._departed) > MAX_DEPARTED:
            self._departed.popitem(last=False)
        self._count_humans(at)

    def _count_humans(self, at: Instant) -> None:
        """Note when the last human leaves. Who turns out to be a bot with the agent grant never was one."""
        humans = [m for m in self._members.values() if self._role(m, attached=False) is Role.HUMAN]
        if humans:
            self._humans_left_at = None
            self._humans_came |= any(m.info.agent_grant is False or m.info.kind is not Kind.STANDARD for m in humans)
        elif self._humans_came and self._humans_left_at is None:
            self._humans_left_at = at

    def _hear(self, member: _Member, at: Instant, speaking: bool | None) -> None:  # noqa: FBT001 - a fact, not a switch
        """Take in what is heard of a participant; what is heard of an avatar is said by its principal."""
        member.heard = speaking
        if speaking:
            self._alive(member, at)
        principal = self._members.get(self._by_identity.get(member.on_behalf_of, ""))
        self._note_speech(principal if principal and _claims_principal(member) else member, at)

    def _heard(self, member: _Member) -> bool | None:
        """Whether it is heard speaking, itself or through an avatar; None if that is not known."""
        voices = [m for m in self._members.values() if m.on_behalf_of == member.info.identity and _claims_principal(m)]
        known = [m.heard for m in (member, *voices) if m.audio or m.heard is not None]
        if True in known:
            return True
        return False if known and None not in known else None

    def _note_speech(self, member: _Member, at: Instant) -> None:
        """Draw the consequences, if the member began or ended speaking by what is now known of it."""
        heard = self._heard(member)
        claimed = member.state == "speaking" and _is_agent(member)
        speaking = member.left_at is None and (claimed if heard is None else heard)
        if speaking == (member.speaking_since is not None):
            return
        member.speaking_since = at if speaking else None
        if not speaking:
            member.spoke_at = at
        if _is_agent(member):
            self._alive(member, at, active=True)
            member.unanswered_since = None
            if speaking and member.chatting_since is None and not self._a_human_speaks():
                member.chatting_since = at
            return
        for agent in filter(_is_agent, self._members.values()):
            # Speech that is cut off because it can't be heard any more, or its speaker left, asks for no answer.
            if not speaking and heard is False and agent.unanswered_since is None and not agent.speaking_since:
                agent.unanswered_since = at
            agent.chatting_since = at if agent.speaking_since and not self._a_human_speaks() else None

    def _a_human_speaks(self) -> bool:
        return any(m.speaking_since is not None and not _is_agent(m) for m in self._members.values())

    def _note_principal(self, identity: str, *, left_at: Instant | None) -> None:
        for member in self._members.values():
            if member.on_behalf_of == identity:
                member.principal_left_at = left_at


def _new_member(info: Info, at: Instant) -> _Member:
    return _Member(
        info=info,
        seen_at=at,
        agent_name=next((name for key in AGENT_NAME_ATTRIBUTES if (name := info.attributes.get(key))), ""),
        on_behalf_of=info.attributes.get(ON_BEHALF_OF_ATTRIBUTE, ""),
        alive_at=info.joined_at,
        active_at=info.joined_at,
        principal_left_at=at,
    )


def _is_agent(member: _Member) -> bool:
    return member.info.kind is Kind.AGENT or bool(member.info.agent_grant)


def _claims_principal(member: _Member) -> bool:
    """Whether it says it is an avatar, and nothing known about it says otherwise."""
    return (
        member.info.kind is Kind.AGENT
        and bool(member.on_behalf_of)
        and not member.agent_name
        and member.job is None
        and member.on_behalf_of != member.info.identity
    )


def _with_attributes(info: Info, attributes: Mapping[str, str]) -> Info:
    return info if info.attributes == attributes else replace(info, attributes=dict(attributes))
