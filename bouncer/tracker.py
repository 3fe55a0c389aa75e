"""The memory of one room: events in, a `Room` of dated facts out. It does no I/O and reads no clock.

Events are hints and lists are the truth (LiveKit announces silent participants late, or never), so both end in the
same two operations: somebody is seen, somebody is gone. A participant is gone when an event says so or two lists in a
row lack it, and its history outlives that for a while: a full reconnect replays everybody's leaving and joining.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain

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
    Stalled,
    Transcribed,
)
from bouncer.room import ACTIVE_STATES, JOB_IDENTITY, UNLISTED_FOR, Instant, Kind, Participant, Role, Room

AGENT_NAME_ATTRIBUTES = ("lk.agent_name", "lk.agent.name")
"""Where an agent's name stands: stamped by the server for every worker, then as the Python worker writes it."""
STATE_ATTRIBUTE = "lk.agent.state"
ON_BEHALF_OF_ATTRIBUTE = "lk.publish_on_behalf"

MISSING_FOR = 0.9
"""Seconds between two lists in a row that lack somebody, for them to be gone: one may drop somebody for a moment in a
cluster (livekit/livekit #4316), and so may the next if it is asked for at once."""
ANNOUNCED_WITHIN = 3.0
"""Seconds by which LiveKit is late at most with what a participant that publishes nothing says of itself."""
LONGEST_NAME = 256
"""Characters of a name or a state that are kept as they are; LiveKit takes no longer identities."""
MAX_DEPARTED = 1024
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
    told_at: Instant = 0.0
    """As of when it was last shown; a list that was asked for earlier knows less."""
    jobs: tuple[Job, ...] = ()
    """All that were listed with its identity. Those that are over are listed too, and say nothing of it."""
    job_sought: bool = False
    """Whether the dispatches were asked for so late that its job would have been listed, if it has one."""
    reused: bool = False
    """Whether its identity isn't made from a job's id, and was another's before: so may be a job that is listed."""
    transcribed: bool = False
    audio: bool = False
    heard: bool | None = None
    """Whether it is heard speaking; None while that is not known."""
    speaking_since: Instant | None = None
    spoke_at: Instant | None = None
    unanswered_since: Instant | None = None
    reacted_at: Instant = 0.0
    """When it last reacted; what is heard is told late, and dated back."""
    chatting_since: Instant | None = None
    missing_since: Instant | None = None
    """When the first of the last lists in a row was asked for that lacked it."""
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
    _jobs: dict[str, tuple[Job, ...]] = field(default_factory=dict)
    _replaced: set[str] = field(default_factory=set)
    """The jobs beside which a newer one of their dispatch was seen: who is back with such a job's token is no newer."""
    _avatars: dict[str, str] = field(default_factory=dict)
    """The sids of the avatars, also orphaned ones, by the identity of the principal that they name."""
    _humans_came: bool = False
    _humans_left_at: Instant | None = None
    _evicted_at: OrderedDict[str, Instant] = field(default_factory=OrderedDict)

    def apply(self, event: Event) -> None:
        """Take in one event. Events of one source come in order; sources may be interleaved at will."""
        match event:
            case Connected(at, me, others):
                self._me, self.blind = me.identity, False
                self._watch_anew(at)
                self._take_list(at, at, (me, *others))
            case Disconnected():
                self.blind = True
            case Stalled(at):
                self._watch_anew(at, believe_nothing=True)
            case Joined(at, info):
                self._see(info, at, as_of=at)
                self._settle(at)
            case Left(at, sid):
                self._leave(sid, at)
                self._settle(at)
            case Attributes(sid=sid) | Signal(sid=sid) | Heard(sid=sid):
                if member := self._members.get(sid):
                    self._take_sign(member, event)
            case Transcribed(at, identity):
                if member := self._members.get(self._by_identity.get(identity, "")):
                    member.transcribed = True
                    self._react(member, at)
                    self._alive(member, at, active=True)
            case Listed(at, asked_at, infos):
                self._take_list(at, asked_at, infos)
            case Dispatched(at, asked_at, jobs):
                self._jobs = _by_identity(jobs)
                for known in self._members.values():
                    known.jobs = self._jobs.get(known.info.identity, known.jobs)
                    known.job_sought |= known.info.joined_at + UNLISTED_FOR <= asked_at
                remembered = chain(jobs, *(known.jobs for known in self._members.values()))
                self._replaced &= {job.job for job in remembered}
                self._settle(at)
            case RemovalSent(at, identity):
                self._evicted_at[identity] = at
                self._evicted_at.move_to_end(identity)
                if len(self._evicted_at) > MAX_DEPARTED:
                    self._evicted_at.popitem(last=False)

    def _watch_anew(self, at: Instant, *, believe_nothing: bool = False) -> None:
        """Begin a new time of watching: what was not watched is nobody's fault.

        If we believe nothing, what we just heard proves nobody alive: it may be old.
        """
        self._watching_since = at
        for member in self._members.values():
            if believe_nothing:
                member.alive_at = member.info.joined_at
            member.unanswered_since = member.chatting_since = None

    def has(self, sid: str) -> bool:
        """Whether this participant is in the room, as far as we know."""
        return sid in self._members

    @property
    def unsure(self) -> frozenset[str]:
        """The sids that the last list lacked, and of which nothing else says that they are gone."""
        return frozenset(sid for sid, member in self._members.items() if member.missing_since is not None)

    @property
    def heirs(self) -> frozenset[str]:
        """The sids of those who are somebody's avatar if the one that the last list lacked is gone."""
        unsure = self.unsure
        orphaned = {principal for principal, sid in self._avatars.items() if sid in unsure}
        members = self._members.items()
        return frozenset(sid for sid, m in members if m.on_behalf_of in orphaned and _claims_principal(m)) - unsure

    @property
    def unsettled(self) -> frozenset[str]:
        """The sids of the agents, also JOINING ones, of whom it isn't known yet of which dispatch they are, if any."""
        return frozenset(sid for sid, member in self._members.items() if self._is_unsettled(member))

    def room(self) -> Room:
        """The room as it is known now; equal facts give equal rooms."""
        return Room(
            me=self._me,
            participants=tuple(map(self._participant, self._members.values())),
            watching_since=self._watching_since,
            humans_left_at=self._watched(self._humans_left_at),
            evicted_at=dict(self._evicted_at),
        )

    def _watched(self, at: Instant | None) -> Instant | None:
        """The instant, or since when we watch if that is later: unwatched time is nobody's fault."""
        return None if at is None else max(at, self._watching_since)

    def _participant(self, member: _Member) -> Participant:
        info, job = member.info, _job(member)
        is_avatar = self._avatars.get(member.on_behalf_of) == info.sid
        return Participant(
            sid=info.sid,
            identity=info.identity,
            kind=info.kind,
            # What it does is kept as of any agent, in case it turns out to be one.
            role=Role.OTHER if self._may_be_bouncer(member) else self._role(member),
            agent_name=job.agent_name if job else member.agent_name,
            dispatch=job.dispatch if job else "",
            dispatches=frozenset(job.dispatch for job in member.jobs),
            replaced=job is not None and job.job in self._replaced,
            publisher=job.publisher if job else "",
            attributes=info.attributes,
            hidden=bool(info.hidden),
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
            principal_left_at=self._watched(member.principal_left_at) if is_avatar else None,
        )

    def _role(self, member: _Member) -> Role:
        info = member.info
        if info.identity == self._me:
            return Role.BOUNCER
        if info.simulated or info.kind in (Kind.INGRESS, Kind.EGRESS):
            return Role.OTHER
        if info.kind is not Kind.AGENT and not info.agent_grant:
            return Role.HUMAN
        if info.hidden and any(job.agent_name == self.my_agent_name for job in member.jobs):
            return Role.BOUNCER
        attached = self._avatars.get(member.on_behalf_of) == info.sid and member.principal_left_at is None
        return Role.AVATAR if attached else Role.AGENT

    def _is_unsettled(self, member: _Member) -> bool:
        return _job(member) is None and not member.job_sought and self._role(member) is Role.AGENT

    def _may_be_bouncer(self, member: _Member) -> bool:
        """Whether it looks like another bouncer whose dispatch is not listed yet; once it is hidden, by any name."""
        hidden = member.info.hidden or (member.info.hidden is None and member.agent_name == self.my_agent_name)
        return hidden and member.info.identity.startswith(JOB_IDENTITY) and self._is_unsettled(member)

    def _settle(self, at: Instant) -> None:
        """Draw the conclusions from who is here: who was replaced, whose avatar is who, whether a human is left."""
        members = self._members.values()
        newest: dict[tuple[str, str], Job] = {}
        for member in sorted(members, key=lambda m: (m.info.joined_ms, m.info.sid)):
            present = member.info.active and member.missing_since is None and self._role(member) is Role.AGENT
            if present and (job := _job(member)) and job.job not in self._replaced:
                if older := newest.get((job.dispatch, job.publisher)):
                    self._replaced.add(older.job)
                newest[job.dispatch, job.publisher] = job

        claimants = [m for m in members if _claims_principal(m)]
        principals = {
            m.info.identity for m in members if self._role(m) in (Role.AGENT, Role.AVATAR) and not _claims_principal(m)
        }
        before, self._avatars = self._avatars, {}
        changed = set()
        for member in sorted(claimants, key=lambda m: (m.info.joined_ms, m.info.sid)):
            self._avatars.setdefault(member.on_behalf_of, member.info.sid)
            if (member.on_behalf_of in principals) == (member.principal_left_at is None):
                continue
            member.principal_left_at = None if member.on_behalf_of in principals else at
            changed.add(member.on_behalf_of)
        changed |= {i for i in before.keys() | self._avatars.keys() if before.get(i) != self._avatars.get(i)}
        for identity in sorted(changed):
            avatar = self._members.get(self._avatars.get(identity, ""))
            if avatar and self._role(avatar) is Role.AVATAR:
                avatar.speaking_since = avatar.spoke_at = avatar.unanswered_since = avatar.chatting_since = None
            for voice in (avatar, self._members.get(self._by_identity.get(identity, ""))):
                if voice:
                    self._note_speech(voice, at)

        humans = [m for m in members if self._role(m) is Role.HUMAN]
        if humans:
            self._humans_left_at = None
            # Who turns out to be a bot with the agent grant never was one.
            self._humans_came |= any(m.info.agent_grant is False or m.info.kind is not Kind.STANDARD for m in humans)
        elif self._humans_came and self._humans_left_at is None:
            self._humans_left_at = at

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
                member.missing_since = None
            elif member.missing_since is None:
                member.missing_since = asked_at
            elif asked_at - member.missing_since >= MISSING_FOR:
                self._leave(sid, at)
        self._settle(at)

    def _see(self, info: Info, at: Instant, *, as_of: Instant) -> None:
        """Take in how a participant was shown at `as_of`."""
        member = self._members.get(info.sid)
        if member is None:
            known = self._members.get(self._by_identity.get(info.identity, ""))
            if known and known.info.joined_ms > info.joined_ms:
                return
            if known:
                self._leave(known.info.sid, at)
            member = self._departed.pop(info.sid, None) or self._new_member(info, at)
            member.left_at = member.missing_since = member.principal_left_at = None
            member.seen_at = at
            self._members[info.sid] = member
            self._by_identity[info.identity] = info.sid
            self._note_speech(member, at)
        earlier = member.info
        if as_of >= member.told_at:
            member.told_at = as_of
            first = earlier if earlier.joined_ms else info
            member.info = replace(info, joined_at=first.joined_at, joined_ms=first.joined_ms)
            self._take_state(member, info.attributes, at)
        member.info = replace(
            member.info,
            agent_grant=earlier.agent_grant if info.agent_grant is None else info.agent_grant,
            hidden=earlier.hidden if info.hidden is None else info.hidden,
        )
        member.audio |= info.audio
        member.jobs = self._jobs.get(info.identity, member.jobs)

    def _new_member(self, info: Info, at: Instant) -> _Member:
        of_a_job = info.identity.startswith(JOB_IDENTITY)
        return _Member(
            info=info,
            seen_at=at,
            agent_name=_short(next((name for key in AGENT_NAME_ATTRIBUTES if (name := info.attributes.get(key))), "")),
            on_behalf_of=_short(info.attributes.get(ON_BEHALF_OF_ATTRIBUTE, "")),
            alive_at=info.joined_at,
            active_at=info.joined_at,
            reused=not of_a_job and any(m.info.identity == info.identity for m in self._departed.values()),
        )

    def _take_sign(self, member: _Member, event: Attributes | Signal | Heard) -> None:
        match event:
            case Attributes(at, _, attributes):
                member.told_at = max(member.told_at, at)
                if attributes != member.info.attributes:
                    # What a list has shown already is of before, and may be told late.
                    self._showed(member, at)
                member.info = replace(member.info, attributes=dict(attributes))
                self._take_state(member, attributes, at)
            case Signal(at, _, active, audio):
                member.audio |= audio
                self._alive(member, at, active=active)
            case Heard(at, _, speaking):
                unheard, member.heard = member.audio and member.heard is None and speaking is not None, speaking
                is_avatar = self._role(member) is Role.AVATAR
                speaker = self._members.get(self._by_identity.get(member.on_behalf_of, "")) if is_avatar else member
                for voice in (member, speaker) if speaking else ():
                    if voice:
                        self._alive(voice, at)
                if unheard and speaker:
                    # For all we know it spoke until now: time in which it wasn't heard is nobody's fault.
                    speaker.active_at = max(speaker.active_at, at)
                self._note_speech(speaker or member, at)

    def _take_state(self, member: _Member, attributes: Mapping[str, str], at: Instant) -> None:
        """Take in the state that an agent publishes. The one that it was found in is no sign of life of today."""
        state = _short(attributes.get(STATE_ATTRIBUTE, ""))
        if state == member.state:
            return
        if state in ACTIVE_STATES or member.state in ACTIVE_STATES:
            member.active_at = max(member.active_at, at)
        if member.seen_at < at:
            self._showed(member, at)
            self._react(member, at)
        member.state, member.state_at = state, at
        self._note_speech(member, at)

    def _showed(self, member: _Member, at: Instant) -> None:
        """Take a change of its attributes as a sign of life, at the earliest instant at which it may have happened."""
        self._alive(member, at if member.audio else at - ANNOUNCED_WITHIN)

    def _alive(self, member: _Member, at: Instant, *, active: bool = False) -> None:
        if at >= self._watching_since + ANNOUNCED_WITHIN:
            # Before, it may be late news of a time in which we were blind or frozen.
            member.alive_at = max(member.alive_at, at)
        if active:
            member.active_at = max(member.active_at, at)

    def _leave(self, sid: str, at: Instant) -> None:
        member = self._members.pop(sid, None)
        if member is None:
            return
        member.left_at = at
        self._note_speech(member, at)
        member.heard = member.unanswered_since = member.chatting_since = None
        # They come with whoever is back, and are up to 64 KiB.
        member.info = replace(member.info, attributes={})
        if self._by_identity.get(member.info.identity) == sid:
            del self._by_identity[member.info.identity]
        self._departed[sid] = member
        if len(self._departed) > MAX_DEPARTED:
            self._departed.popitem(last=False)

    def _heard(self, member: _Member) -> bool | None:
        """Whether it is heard speaking, itself or through its avatar; None if that is not known."""
        avatar = self._members.get(self._avatars.get(member.info.identity, ""))
        if avatar and self._role(avatar) is not Role.AVATAR:
            avatar = None
        voices = [m for m in (member, avatar) if m and (m.audio or m.heard is not None)]
        if any(voice.heard for voice in voices):
            return True
        return False if voices and all(voice.heard is False for voice in voices) else None

    def _note_speech(self, member: _Member, at: Instant) -> None:
        """Draw the consequences, if the member began or ended speaking by what is now known of it."""
        role = self._role(member)
        heard = self._heard(member)
        # An avatar's own state says nothing, also once it is an orphan: its principal says when it speaks.
        claims = role is Role.AGENT and not _claims_principal(member)
        claimed = heard is None and claims and member.state == "speaking"
        speaking = member.left_at is None and (heard is True or claimed)
        if speaking == (member.speaking_since is not None) or role not in (Role.AGENT, Role.HUMAN):
            return
        member.speaking_since = at if speaking else None
        if not speaking:
            member.spoke_at = at
        if role is Role.AGENT:
            self._agent_spoke(member, at)
        else:
            # Speech that is cut off because it can't be heard any more, or its speaker left, asks for no answer.
            self._human_spoke(at, asks=not speaking and heard is False)

    def _agent_spoke(self, agent: _Member, at: Instant) -> None:
        """An agent began or ended speaking."""
        agent.active_at = max(agent.active_at, at)
        self._react(agent, at)
        if agent.speaking_since is not None:
            if agent.chatting_since is None and not self._a_human_speaks():
                agent.chatting_since = at
        elif agent.chatting_since is not None and at <= agent.chatting_since:
            # The last human's end, which is dated back too, was told before this agent's, but was not before it.
            agent.chatting_since = None

    def _human_spoke(self, at: Instant, *, asks: bool) -> None:
        """A human began or ended speaking; `asks` for an answer if that was said to the end."""
        quiet = not self._a_human_speaks()
        for agent in self._members.values():
            if self._role(agent) is Role.AGENT:
                unmoved = agent.speaking_since is None and max(agent.reacted_at, agent.info.joined_at) <= at
                if asks and unmoved and agent.unanswered_since is None:
                    agent.unanswered_since = at
                agent.chatting_since = at if quiet and agent.speaking_since is not None else None

    def _react(self, member: _Member, at: Instant) -> None:
        member.reacted_at, member.unanswered_since = max(member.reacted_at, at), None

    def _a_human_speaks(self) -> bool:
        return any(m.speaking_since is not None and self._role(m) is Role.HUMAN for m in self._members.values())


def _by_identity(jobs: Iterable[Job]) -> dict[str, tuple[Job, ...]]:
    found: dict[str, tuple[Job, ...]] = {}
    for job in jobs:
        found[job.identity] = (*found.get(job.identity, ()), job)
    return found


def _job(member: _Member) -> Job | None:
    """Its job, if that is known: of several with its identity it may be any."""
    if member.reused and not member.job_sought:
        return None
    return member.jobs[-1] if len({(job.dispatch, job.publisher) for job in member.jobs}) == 1 else None


def _short(text: str) -> str:
    """The text itself; of one that is longer than any honest one the beginning, told from others by a digest."""
    if len(text) <= LONGEST_NAME:
        return text
    return f"{text[:64]}… {hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()}"


def _claims_principal(member: _Member) -> bool:
    """Whether it says that it is somebody's avatar, and nothing known about it says otherwise."""
    return (
        member.info.kind is Kind.AGENT
        and not member.info.simulated
        and member.on_behalf_of not in ("", member.info.identity)
        and not member.agent_name
        and not member.jobs
    )
