"""The memory of one room: events in, a `Room` of dated facts out. It does no I/O and reads no clock.

Events are hints and lists are the truth (LiveKit announces silent participants late, or never), so both end in the
same two operations: a participant is seen, a participant is gone. It is gone when an event says so or two lists in a
row don't show it. Its history outlives that for a while: a full reconnect replays everyone's leaving and joining.

This file keeps who is here. What they are is in `people`, what they do in `conversation`.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from bouncer.conversation import Conversation, Voice
from bouncer.events import (
    Attributes,
    Channel,
    Connected,
    Described,
    Disconnected,
    Dispatched,
    Earlier,
    Encrypted,
    Event,
    Heard,
    Info,
    Joined,
    Left,
    Listed,
    Published,
    RemovalSent,
    Signal,
    Stalled,
    Transcribed,
)
from bouncer.people import Member, Named, People, introduce, shortened
from bouncer.room import ALIVE_WITHIN, JOB_IDENTITY, JOB_KNOWN_IN, STAY_WITHIN, Age, Instant, Participant, Role, Room
from bouncer.selectors import named_in_nfc

STATE_ATTRIBUTE = "lk.agent.state"

MISSING_FOR = 0.9
"""Seconds between two lists in a row without a participant, for it to be gone. In a cluster one list may drop it for a
moment (livekit/livekit #4316), and so may the next if it is requested at once."""
ANNOUNCED_WITHIN = 3.0
"""Seconds by which LiveKit's announcements of a participant that publishes nothing are late at most."""
RECENT = 10.0
"""Seconds for which speech that has ended still counts where it made an agent due: longer than an eviction takes."""
DOUBTED_EVERY = 60.0
"""Seconds in which no second reconnect gives an agent the time in which its job may turn out to be a new one."""
MAX_DEPARTED = 1024
"""How many of those who left are remembered, in case they are back with the same sid after a reconnect. Of more, people
are forgotten first: in a reconnect of ours a crowd leaves too, and what agents may do depends on how old they are."""


@dataclass(slots=True)
class _Connection:
    """How we came to know of one sid, and when."""

    member: Member
    voice: Voice
    first_at: Instant
    """When it was first seen."""
    seen_at: Instant
    """When it was first seen, or was back."""
    alive_at: Instant
    after_ms: int = 0
    """The milliseconds of the youngest participant of which we saw that it came before this one."""
    earlier_jobs: frozenset[str] | None = None
    """The jobs of the earlier connections whose stay it continues; None if it continues none."""
    stay_known_at: Instant = 0.0
    """From when on it is known that it is none of another job; 0 if it can be none."""
    told_at: Instant = 0.0
    """As of when it was last shown; a list that was requested earlier knows less."""
    shown: Info | None = None
    """How it was last shown, if it hasn't changed since: to be shown so again says nothing new."""
    made: Participant | None = None
    """What was last made of it, if that still holds."""
    left_at: Instant = 0.0


@dataclass(slots=True)
class Tracker:
    """Keeps the record of one room. Feed it with `apply`, read it with `room`."""

    my_agent_name: str = "bouncer"
    """The agent name under which bouncers are dispatched."""
    reads_jobs: bool = True
    """False where jobs are never listed: see `People.reads_jobs`."""
    blind: bool = True
    """True if the connection is down or not yet made, so that nothing may be decided."""
    _watching_since: Instant = 0.0
    _came_at: Instant = float("-inf")
    """When we joined: nothing that was sent earlier reaches us."""
    _came_ms: int = 0
    """The same as the server wrote it; 0 if that is not known."""
    _opened_before_at: Instant | None = None
    _left_before_at: Instant | None = None
    """When a gatekeeper saw the last person leave, before we came."""
    _last_at: Instant = 0.0
    """The date of the latest event."""
    _here: dict[str, _Connection] = field(default_factory=dict)
    _missing: dict[str, Instant] = field(default_factory=dict)
    """By sid, when the first of the last lists in a row without it was requested."""
    _departed: OrderedDict[str, _Connection] = field(default_factory=OrderedDict)
    _last: dict[str, str] = field(default_factory=dict)
    """By identity, the sid of its last connection that departed and is remembered."""
    _listed_at: Instant = float("-inf")
    """When the latest list was requested: those first seen since have joined since."""
    _listed_ms: int = 0
    """The milliseconds of the youngest participant that was here by then."""
    _people: People = field(init=False)
    _conversation: Conversation = field(init=False)
    _evicted_at: OrderedDict[str, Instant] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self._people = People(self.my_agent_name, reads_jobs=self.reads_jobs)
        self._conversation = Conversation(self._people)

    def apply(self, event: Event) -> None:
        """Take in one event. Events of one source come in order; sources may be interleaved at will."""
        self._last_at = max(self._last_at, event.at)
        match event:
            case Connected(at, me, others):
                self._people.me, self.blind = me.identity, False
                self._come(me)
                self._restart_watching(at)
                self._take_list(at, at, (me, *others), complete=False)
            case Disconnected():
                self.blind = True
            case Stalled(at):
                self._restart_watching(at, believe_nothing=True)
            case Joined(at, info):
                self._see(info, at, as_of=at)
                self._settle(at)
            case Left(at, sid):
                self._leave(sid, at)
                self._settle(at)
            case (
                Attributes(sid=sid)
                | Described(sid=sid)
                | Encrypted(sid=sid)
                | Heard(sid=sid)
                | Published(sid=sid)
                | Signal(sid=sid)
            ):
                if known := self._here.get(sid):
                    self._take_sign(known, event)
                    self._changed(known)
                    if isinstance(event, Attributes | Described) and self._people.named != Named():
                        # The configuration may say what it is by what it is called.
                        self._settle(event.at)
            case Transcribed(at, identity, writer):
                named = self._here.get(self._people.sid_of(identity))
                self._conversation.transcribe(named.voice if named else None, writer, at)
                if named:
                    self._alive(named, at)
                    self._changed(named)
            case Listed(at, asked_at, infos):
                self._take_list(at, asked_at, infos)
            case Dispatched(at, asked_at, jobs):
                self._people.dispatched(asked_at, jobs)
                self._take_jobs()
                self._settle(at)
            case RemovalSent(at, identity):
                self._note_eviction(identity, at)
            case Earlier():  # pragma: no branch - mypy proves that there is no other
                self._believe(event)

    def configure(
        self, at: Instant, *, named: Named | None = None, hears: bool = False, ignored: Collection[str] = ()
    ) -> None:
        """Take in the configuration: the participants it names, whether it listens, which tracks are no one's voice."""
        named = named or Named()
        if named != self._people.named:
            self._people.configure(named)
            self._settle(at)
        self._conversation.configure(at, hears=hears, ignored=ignored)
        self._forget_made()

    def _come(self, me: Info) -> None:
        """Note when we joined. What reaches us after a reconnect may still be of our first connection."""
        if me.joined_ms and not self._came_ms:
            self._came_at, self._came_ms = me.joined_at, me.joined_ms

    def _restart_watching(self, at: Instant, *, believe_nothing: bool = False) -> None:
        """Begin a new time of watching: unwatched time counts for no one.

        If we believe nothing, recent news proves no life: it may be old.
        """
        self._watching_since, self._opened_before_at = at, None
        if self._left_before_at is not None:
            self._left_before_at = at
        if believe_nothing:
            for known in self._here.values():
                known.alive_at = known.member.info.joined_at
        self._conversation.restart_watching(at)
        self._forget_made()

    def _believe(self, earlier: Earlier) -> None:
        """Take in what a gatekeeper saw before we came: its time wasn't unwatched."""
        self._opened_before_at, self._left_before_at = earlier.opened_at, earlier.people_left_at
        for identity, at in sorted(earlier.evicted_at.items(), key=lambda item: item[1]):
            self._note_eviction(identity, at)
        for sid, at in earlier.alive_at.items():
            if known := self._here.get(sid):
                known.alive_at = max(known.alive_at, at)
        self._forget_made()

    def _note_eviction(self, identity: str, at: Instant) -> None:
        if (back := self._here.get(self._people.sid_of(identity))) and back.first_at > at:
            self._end_stay(back)
        self._evicted_at[identity] = at
        self._evicted_at.move_to_end(identity)
        if len(self._evicted_at) > MAX_DEPARTED:
            self._evicted_at.popitem(last=False)

    def has(self, sid: str) -> bool:
        """Return True if this participant is in the room, as far as we know."""
        return sid in self._here

    @property
    def present(self) -> frozenset[str]:
        """The sids in the room, as far as we know."""
        return frozenset(self._here)

    @property
    def unsure(self) -> frozenset[str]:
        """The sids that were missing from the last list, and that nothing else shows to be gone."""
        return frozenset(self._missing)

    @property
    def fallback_avatars(self) -> frozenset[str]:
        """The sids that take over as avatars if those missing from the last list have left."""
        return self._people.fallback_avatars(self.unsure)

    @property
    def unsettled(self) -> frozenset[str]:
        """The sids of the agents, JOINING ones included, whose dispatch is not known yet, nor that they have none."""
        return self._people.unsettled

    def room(self) -> Room:
        """Return the room as it is known now; equal facts give equal rooms."""
        participants = tuple(known.made or self._made(known) for known in self._here.values())
        humans_left_at = self._watched(self._people.humans_left_at)
        if humans_left_at is None and not any(p.is_human for p in participants):
            humans_left_at = self._left_before_at
        return Room(
            me=self._people.me,
            participants=participants,
            watching_since=self._watching_since,
            opened_before_at=self._opened_before_at,
            humans_left_at=humans_left_at,
            evicted_at=dict(self._evicted_at),
        )

    def _made(self, known: _Connection) -> Participant:
        """Return the participant that policies see. That of a quiet person in a crowd is kept until it changes."""
        made, voice = self._participant(known), known.voice
        recent = self._is_recent(voice.spoke_at) or (voice.chatted and self._is_recent(voice.chatted[1]))
        if self._people.stands_alone(known.member) and not recent:
            known.made = made
        return made

    def _changed(self, known: _Connection) -> None:
        """Take in that what is known of a participant may have changed."""
        known.made = None
        self._people.sort(known.member)

    def _forget_made(self) -> None:
        """Keep nothing that was made of anyone."""
        for known in self._here.values():
            known.made = None

    def departed(self) -> Iterator[tuple[Participant, Instant]]:
        """Yield those that left, as they were, and when; the latest first. Only the latest are remembered."""
        for known in reversed(self._departed.values()):
            yield self._participant(known), known.left_at

    def left_since(self, infos: Iterable[Info]) -> tuple[Participant, ...]:
        """Return those of a list that have left since, as they were: in a full reconnect that is everyone."""
        gone = (self._departed.get(info.sid) for info in infos if info.sid not in self._here)
        return tuple(self._participant(known) for known in gone if known)

    def _is_recent(self, at: Instant | None) -> bool:
        """Return True if it is so recent that a verdict that rests on it may not have been carried out yet."""
        return at is not None and at >= self._last_at - RECENT

    def _watched(self, at: Instant | None) -> Instant | None:
        """Return the instant, but not from before we began to watch: unwatched time counts for no one."""
        return None if at is None else max(at, self._watching_since)

    def _participant(self, known: _Connection, *, avatars: bool = True) -> Participant:
        member, voice = known.member, known.voice
        info, job, is_avatar = member.info, member.job, self._people.is_avatar(member)
        principal = self._here.get(self._people.sid_of(member.on_behalf_of)) if is_avatar and avatars else None
        return Participant(
            sid=info.sid,
            identity=info.identity,
            kind=info.kind,
            role=self._people.public_role(member),
            role_at=member.role_at,
            agent_name=member.agent_name,
            dispatch=job.dispatch if job else "",
            dispatches=frozenset(job.dispatch for job in member.jobs),
            replaced=self._people.replaced(member),
            dispatch_metadata=shortened(job.metadata) if job else "",
            serves=job.serves if job else "",
            may_serve=self._people.may_serve(member),
            attributes=info.attributes,
            attributes_at=member.attributes_at,
            name=info.name,
            name_at=member.name_at,
            metadata=info.metadata,
            metadata_at=member.metadata_at,
            hidden=bool(info.hidden),
            agent_grant=bool(info.agent_grant),
            foreign=self._people.is_foreign(member),
            on_behalf_of=member.on_behalf_of if is_avatar else "",
            principal=self._participant(principal, avatars=False) if principal else None,
            active=info.active,
            joined_at=member.since,
            stay_known_at=known.stay_known_at,
            joined_ms=info.joined_ms,
            age=member.age,
            alive_at=known.alive_at,
            active_at=max(voice.active_at, self._watching_since),
            audible=self._conversation.audible(voice),
            unseen=self._conversation.unseen(voice) if member.agent_by_grant else "",
            state=voice.state,
            state_at=max(voice.state_at, self._watching_since),
            acted_in_state=voice.active_at > max(voice.state_at, member.since),
            avatar_sounds=voice.avatar_sounds,
            speaking_since=self._watched(voice.speaking_since),
            spoke_at=voice.spoke_at,
            spoke_since=voice.spoke_since if self._is_recent(voice.spoke_at) else None,
            unanswered_since=self._watched(voice.unanswered_since),
            chatting_since=self._watched(voice.chatting_since),
            chatted=voice.chatted if voice.chatted and self._is_recent(voice.chatted[1]) else None,
            contested=self._people.is_contested(member),
            principal_left_at=self._watched(member.principal_left_at) if is_avatar else None,
        )

    def _settle(self, at: Instant) -> None:
        """Draw the conclusions from who is here: what they are, then what that says of what they did."""
        principals = self._people.settle(at, self.unsure)
        self._conversation.recast(principals, at)
        for identity in principals:
            if known := self._here.get(self._people.sid_of(identity)):
                known.made = None

    def _take_list(self, at: Instant, asked_at: Instant, infos: Iterable[Info], *, complete: bool = True) -> None:
        """Take in who was here at some instant since `asked_at`; all of them if it is `complete`."""
        listed = set()
        for info in infos:
            departed = self._departed.get(info.sid)
            if departed and departed.left_at > asked_at:
                continue
            listed.add(info.sid)
            self._see(info, at, as_of=asked_at)
        for sid, known in list(self._here.items()):
            if sid in listed or known.seen_at > asked_at:
                self._missing.pop(sid, None)
            elif asked_at - self._missing.setdefault(sid, asked_at) >= MISSING_FOR:
                self._leave(sid, at)
        if complete and asked_at > self._listed_at:
            here = (known for sid, known in self._here.items() if sid in listed or known.first_at <= asked_at)
            self._listed_at, self._listed_ms = asked_at, max((known.member.age[0] for known in here), default=0)
        self._settle(at)

    def _see(self, info: Info, at: Instant, *, as_of: Instant) -> None:
        """Take in how a participant was shown at `as_of`."""
        known = self._here.get(info.sid)
        if known and known.shown == info and as_of >= known.told_at:
            known.told_at = as_of
            return
        if known is None:
            other = self._here.get(self._people.sid_of(info.identity))
            if other and other.member.info.joined_ms > info.joined_ms:
                return
            if other:
                self._leave(other.member.info.sid, at)
            known = self._departed.pop(info.sid, None)
            if known:
                known.member.principal_left_at = None
            else:
                known = self._first_sight(info, at)
            known.seen_at = at
            self._here[info.sid] = known
            self._people.enter(known.member)
            self._conversation.enter(known.voice, at)
        member = known.member
        if info.joined_ms and not member.info.joined_ms and as_of >= known.told_at:
            self._date(known, info)
        earlier = member.info
        if as_of >= known.told_at:
            known.told_at, known.shown = as_of, info
            member.info = replace(
                _permitted(info, earlier, info),
                joined_at=earlier.joined_at,
                joined_ms=earlier.joined_ms,
                attributes=earlier.attributes,
                name=earlier.name,
                metadata=earlier.metadata,
            )
            member.describe(info.name, info.metadata, at)
            self._take_attributes(known, info.attributes, at)
        else:
            member.info = _permitted(earlier, earlier, info)
        known.voice.audio |= info.audio
        self._people.assign_jobs(member)
        self._changed(known)

    def _first_sight(self, info: Info, at: Instant) -> _Connection:
        """Begin the record of a connection; it may continue the stay of an earlier one."""
        # By a clock that we know better by now, one that joined after us could seem to have been here before.
        joined_at = max(info.joined_at, self._came_at) if info.joined_ms > self._came_ms else info.joined_at
        # One dated before the last list, which didn't show it, may have joined only now.
        info = replace(info, joined_at=min(joined_at, at) if joined_at >= self._listed_at else at)
        member = introduce(info, identity_known=info.identity in self._last)
        member.order = _order(info, self._listed_ms)
        known = _Connection(
            member,
            Voice(member, active_at=info.joined_at),
            first_at=at,
            seen_at=at,
            alive_at=min(max(joined_at, self._listed_at), at),
            after_ms=self._listed_ms,
        )
        if earlier := self._departed.get(self._last.get(info.identity, "")):
            self._people.recall(member, earlier.member)
            before = earlier.member
            alike = info.kind is before.info.kind and member.claimed_name == before.claimed_name
            recent = at - earlier.left_at <= STAY_WITHIN
            if alike and recent and self._evicted_at.get(info.identity, float("-inf")) <= earlier.first_at:
                self._continue_stay(known, earlier)
        return known

    def _continue_stay(self, known: _Connection, earlier: _Connection) -> None:
        """Let a connection continue the stay of an earlier one: neither its time nor its place begins again."""
        member, voice, before = known.member, known.voice, earlier.voice
        known.earlier_jobs = frozenset(job.job for job in earlier.member.jobs) | (earlier.earlier_jobs or frozenset())
        if known.earlier_jobs and not member.identity.startswith(JOB_IDENTITY):
            # It may be a new job, which isn't listed yet. One that reconnects again and again gains nothing by that.
            again = earlier.stay_known_at and known.first_at < earlier.stay_known_at + DOUBTED_EVERY
            known.stay_known_at = earlier.stay_known_at if again else known.first_at + JOB_KNOWN_IN
        known.alive_at = max(known.alive_at, earlier.alive_at)
        member.continue_stay(earlier.member)
        voice.active_at, voice.worked, voice.reacted_at = before.active_at, before.worked, before.reacted_at
        voice.state, voice.state_at = before.state, before.state_at

    def _end_stay(self, known: _Connection) -> None:
        """Take back that a connection continues a stay: it began its own."""
        if known.earlier_jobs is not None:
            member, info = known.member, known.member.info
            known.earlier_jobs = known.made = None
            member.since, member.order = info.joined_at, _order(info, known.after_ms)
            known.stay_known_at = 0.0
            known.voice.active_at = max(known.voice.active_at, info.joined_at)

    def _date(self, known: _Connection, info: Info) -> None:
        """Date a connection that was shown without a date until now."""
        member = known.member
        member.info = replace(member.info, joined_at=min(info.joined_at, known.first_at), joined_ms=info.joined_ms)
        if known.earlier_jobs is None:
            member.since, member.order = member.info.joined_at, _order(info, known.after_ms)

    def _take_jobs(self) -> None:
        """Take in what jobs are listed. Connections with others than an earlier one had don't continue its stay."""
        for known in self._here.values():
            if known.member.jobs:
                known.made = None
            if known.earlier_jobs and not {job.job for job in known.member.jobs} <= known.earlier_jobs:
                self._end_stay(known)

    def _take_sign(
        self, known: _Connection, event: Attributes | Described | Encrypted | Heard | Published | Signal
    ) -> None:
        match event:
            case Described(at, _, name, metadata):
                known.told_at, known.shown = max(known.told_at, at), None
                known.member.describe(name, metadata, at)
            case Attributes(at, _, attributes):
                known.told_at, known.shown = max(known.told_at, at), None
                attributes = named_in_nfc(attributes)
                if attributes != known.member.info.attributes:
                    # What a list has shown already is of before, and may be told late.
                    self._showed(known, at)
                self._take_attributes(known, attributes, at)
            case Published(at, _, publications):
                known.told_at, known.shown = max(known.told_at, at), None
                known.member.info = replace(known.member.info, publications=publications)
                known.voice.audio &= publications != ()
            case Encrypted(_, _, encrypted):
                known.voice.encrypted = encrypted
            case Signal(at, _, active, audio, channel):
                known.voice.audio |= audio
                # A data track that we find is announced as if it were new.
                self._alive(known, at, sent=channel not in (None, Channel.TRACK))
                if active:
                    self._conversation.send(known.voice, at, channel)
            case Heard(at, _, speaking):  # pragma: no branch - as above
                for voice in self._conversation.hear(known.voice, at, speaking=speaking):
                    self._alive(self._here[voice.member.info.sid], at)

    def _take_attributes(self, known: _Connection, attributes: Mapping[str, str], at: Instant) -> None:
        """Take in a participant's attributes. The state that it was found in is no sign of life of today."""
        known.member.take_attributes(attributes, at)
        self._conversation.recall(known.voice, at)
        state = shortened(attributes.get(STATE_ATTRIBUTE, ""))
        if state == known.voice.state:
            return
        found = known.seen_at >= at
        if not found:
            self._showed(known, at)
        self._conversation.state(known.voice, state, at, reacts=not found)

    def _showed(self, known: _Connection, at: Instant) -> None:
        """Take a change of its attributes as a sign of life, at the earliest instant at which it may have happened."""
        self._alive(known, at if known.voice.audio else at - ANNOUNCED_WITHIN)

    def _alive(self, known: _Connection, at: Instant, *, sent: bool = True) -> None:
        """Take in a sign of life; unless it was `sent`, it may be of before we came."""
        if at < self._watching_since + ANNOUNCED_WITHIN:
            # It may be late news of a time in which we were blind or frozen, but not of one before we came. So it is
            # dated to show life next to those that were here before us, and to none that joined since.
            at = min(at, self._came_at - ALIVE_WITHIN) if sent else float("-inf")
        known.alive_at = max(known.alive_at, at)

    def _leave(self, sid: str, at: Instant) -> None:
        known = self._here.pop(sid, None)
        if known is None:
            return
        self._missing.pop(sid, None)
        known.left_at, known.shown, known.made = at, None, None
        if self._left_before_at is not None and self._people.role(known.member) is Role.HUMAN:
            self._left_before_at = at
        self._conversation.leave(known.voice, at)
        self._people.leave(known.member)
        known.member.forget_attributes()
        self._departed[sid] = known
        self._last[known.member.info.identity] = sid
        if len(self._departed) > MAX_DEPARTED:
            crowd = (sid for sid, gone in self._departed.items() if gone.member.of_crowd)
            forgotten = next(crowd, next(iter(self._departed)))
            identity = self._departed.pop(forgotten).member.info.identity
            if self._last.get(identity) == forgotten:
                del self._last[identity]


def _order(info: Info, after_ms: int) -> Age | None:
    """Return its place by age, if we saw that it came after one that has no earlier date; else None."""
    return (after_ms + 1, info.joined_ms, info.sid) if 0 < info.joined_ms <= after_ms else None


def _permitted(info: Info, *sources: Info) -> Info:
    """Return a participant with the permissions that the last of the sources shows: only lists show them."""

    def last(permission: str) -> bool | None:
        shown = (getattr(source, permission) for source in (*reversed(sources), info))
        return next((each for each in shown if each is not None), None)

    return replace(
        info,
        agent_grant=last("agent_grant"),
        hidden=last("hidden"),
        recorder=last("recorder"),
        can_publish=last("can_publish"),
        can_send_data=last("can_send_data"),
    )
