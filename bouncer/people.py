"""Who is what: each participant's role, whose avatar is whose, and which jobs were replaced. Pure.

Only the server's word makes a participant evictable: its kind, the agent grant, its dispatch. What a participant says
of itself, its name and its principal, counts as first seen, because agents can rewrite both.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from itertools import chain
from unicodedata import normalize

from bouncer.events import Info, Job
from bouncer.room import (
    CALL_STATUS_ATTRIBUTE,
    JOB_IDENTITY,
    LONGEST_METADATA,
    RINGING,
    UNLISTED_FOR,
    Age,
    Instant,
    Kind,
    Role,
    says_arrived,
)
from bouncer.selectors import Selector, named_in_nfc, selects

AGENT_NAME_ATTRIBUTES = ("lk.agent_name", "lk.agent.name")
"""Where an agent's name stands: stamped by the server for every worker, then as the Python worker writes it."""
ON_BEHALF_OF_ATTRIBUTE = "lk.publish_on_behalf"

LONGEST_NAME = 256
"""Characters of a name or a state that are kept as they are; LiveKit takes no longer identities."""
REMEMBERED_ATTRIBUTES = 32
"""Attributes whose dates are kept once a participant has left."""
REMEMBERED_BOUNCERS = 256
"""Identities that are remembered as proven to be bouncers of ours."""

SERVICES = (Kind.EGRESS, Kind.INGRESS)


@dataclass(slots=True)
class Member:
    """Who one participant is, as far as it is known."""

    info: Info
    claimed_name: str
    """The agent name that it gave itself at first sight."""
    on_behalf_of: str
    """The principal that it named at first sight."""
    name_at: Instant
    metadata_at: Instant
    attributes_at: dict[str, Instant]
    """Since when each of its attributes has its value."""
    since: Instant
    """When its stay began, which an earlier connection with its identity may have begun."""
    order: Age | None = None
    """Its age, if that isn't as `info.joined_ms` says: see `Participant.age`."""
    identity_reused: bool = False
    """True if an earlier participant had this identity, and it isn't a job's: a listed job may be that one's."""
    jobs: tuple[Job, ...] = ()
    """All listed jobs with its identity. Jobs that are over stay listed, and look no different."""
    listable_since: Instant = 0.0
    """Since when its job must be on its way to the list: since it joined, or its identity, if that is a job's, did."""
    dispatches_conclusive: bool = False
    """True if dispatches were listed late enough that its job, if it has one, must have appeared."""
    no_bouncer: bool = False
    """True if such a list had our own job, and so those of all bouncers: a server that has restarted lists none."""
    first_age: Age | None = None
    """The age of the first connection with its identity, if that is a job's and this is a later one: the job's age."""
    replaced_jobs: frozenset[str] = frozenset()
    """Of one that has left: those of its jobs that had been replaced."""
    guarded: bool = False
    """True if it ever said that it guards the room, or would if it had a valid configuration."""
    adopted: bool = False
    """True if the principal that it names was ever here with it."""
    principal_left_at: Instant | None = None
    role: Role | None = None
    """What it was when that was last settled."""
    role_at: Instant = 0.0
    """Since when it is a person, if it was something else before; else 0."""
    dates: dict[int, Instant] = field(default_factory=dict)
    """While it is gone: since when it had its attributes, by a hash of name and value."""

    @property
    def identity(self) -> str:
        """Its identity."""
        return self.info.identity

    @property
    def name(self) -> str:
        """Its display name."""
        return self.info.name

    @property
    def metadata(self) -> str:
        """The beginning of its metadata."""
        return self.info.metadata

    @property
    def attributes(self) -> Mapping[str, str]:
        """Its attributes; none once it has left."""
        return self.info.attributes

    @property
    def agent_name(self) -> str:
        """Its agent name in NFC, so that names compare as they look: the dispatch's word, else its own."""
        return normalize("NFC", job.agent_name if (job := self.job) else self.claimed_name)

    @property
    def job(self) -> Job | None:
        """Its job, once that is certain; None while it may be any of several."""
        if self.identity_reused and not self.dispatches_conclusive:
            return None
        return self.jobs[-1] if len({(job.dispatch, job.serves) for job in self.jobs}) == 1 else None

    @property
    def ringing(self) -> bool:
        """True if it is a SIP participant whose call is not answered yet."""
        return self.info.kind is Kind.SIP and self.info.attributes.get(CALL_STATUS_ATTRIBUTE) in RINGING

    @property
    def agent_by_grant(self) -> bool:
        """True if the server calls it an agent, by its kind or its grant; a simulated caller is none."""
        info = self.info
        agent = info.kind is Kind.AGENT or (bool(info.agent_grant) and info.kind not in SERVICES)
        return agent and not info.simulated

    @property
    def of_crowd(self) -> bool:
        """True if nothing shows that it is more than a person: what agents may do hardly depends on its past."""
        return not (self.agent_by_grant or self.on_behalf_of or self.jobs)

    @property
    def claims_principal(self) -> bool:
        """True if it says that it is an avatar, and nothing known about it says otherwise."""
        return (
            self.info.kind not in SERVICES
            and not self.info.simulated
            and self.on_behalf_of not in ("", self.info.identity)
            and not self.claimed_name
            and not self.jobs
        )

    @property
    def age(self) -> Age:
        """A sort key, oldest first."""
        return self.order or (self.info.joined_ms, self.info.joined_ms, self.info.sid)

    @property
    def job_age(self) -> Age:
        """Sorts the members with the oldest job first."""
        return self.first_age or self.age

    def describe(self, name: str, metadata: str, at: Instant) -> None:
        """Take in its display name and metadata, and since when it has them."""
        name, metadata = shortened(name), metadata[:LONGEST_METADATA]
        if name != self.info.name:
            self.name_at = at
        if metadata != self.info.metadata:
            self.metadata_at = at
        self.info = replace(self.info, name=name, metadata=metadata)

    def take_attributes(self, attributes: Mapping[str, str], at: Instant) -> None:
        """Take in its attributes, and since when they have these values."""
        attributes, before, dates = named_in_nfc(attributes), self.info.attributes, self.attributes_at
        self.attributes_at = {
            name: dates[name] if before.get(name) == value else self.dates.get(hash((name, value)), at)
            for name, value in attributes.items()
        }
        self.dates = {}
        self.info = replace(self.info, attributes=dict(attributes))
        self.guarded |= says_arrived(attributes)

    def continue_stay(self, earlier: "Member") -> None:
        """Take over what is known of an earlier connection of the same stay, which has left."""
        found, info = earlier.info, self.info
        self.since, self.order = earlier.since, earlier.age
        self.role, self.role_at = earlier.role, earlier.role_at
        if info.name == found.name:
            self.name_at = earlier.name_at
        if info.metadata == found.metadata:
            self.metadata_at = earlier.metadata_at
        for name, value in info.attributes.items():
            self.attributes_at[name] = earlier.dates.get(hash((name, value)), self.attributes_at[name])
        if self.on_behalf_of == earlier.on_behalf_of:
            self.adopted, self.principal_left_at = earlier.adopted, earlier.principal_left_at

    def forget_attributes(self) -> None:
        """Drop its attributes, which may be 64 KiB; they come again with the participant."""
        kept = list(self.attributes_at.items())[:REMEMBERED_ATTRIBUTES]
        self.dates = {hash((name, self.info.attributes[name])): at for name, at in kept}
        self.attributes_at = {}
        self.info = replace(self.info, attributes={})


def introduce(info: Info, *, identity_known: bool) -> Member:
    """Make the record of a participant at first sight; `identity_known` if an earlier one had its identity."""
    claimed = (name for key in AGENT_NAME_ATTRIBUTES if (name := info.attributes.get(key)))
    attributes = named_in_nfc(info.attributes)
    return Member(
        info=replace(info, name=shortened(info.name), metadata=info.metadata[:LONGEST_METADATA], attributes=attributes),
        claimed_name=shortened(next(claimed, "")),
        on_behalf_of=shortened(info.attributes.get(ON_BEHALF_OF_ATTRIBUTE, "")),
        name_at=info.joined_at,
        metadata_at=info.joined_at,
        attributes_at=dict.fromkeys(attributes, info.joined_at),
        since=info.joined_at,
        listable_since=info.joined_at,
        identity_reused=identity_known and not info.identity.startswith(JOB_IDENTITY),
        guarded=says_arrived(info.attributes),
    )


Choice = Callable[[Member], bool]
"""Says whether the configuration names a participant."""


def no_one(_: Member) -> bool:
    """Name no participant."""
    return False


@dataclass(frozen=True, slots=True)
class Named:
    """The participants that the configuration names for what they are."""

    people: Choice = no_one
    """Those that count as people although LiveKit says otherwise."""
    not_people: Choice = no_one
    """Those that don't count as people."""
    avatars: Choice | None = None
    """Those that may be avatars; None: any that claims it."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Names the participants that a selector of the configuration matches."""

    selection: Selector | tuple[Selector, ...]

    def __call__(self, member: Member) -> bool:
        """Return True if one of the selectors matches."""
        return selects(self.selection, member)


def named_by(
    people: Selector | tuple[Selector, ...] | None,
    not_people: Selector | tuple[Selector, ...] | None,
    avatars: Selector | tuple[Selector, ...] | None,
) -> Named:
    """Return the participants that a configuration's selectors name."""
    return Named(
        people=no_one if people is None else Chosen(people),
        not_people=no_one if not_people is None else Chosen(not_people),
        avatars=None if avatars is None else Chosen(avatars),
    )


@dataclass(slots=True)
class People:
    """Everyone who is in the room, and what follows from who they are."""

    my_agent_name: str = "bouncer"
    """The agent name under which bouncers are dispatched."""
    reads_jobs: bool = True
    """False where jobs are never listed: then none is taken for one that serves a single participant."""
    me: str = ""
    """Our own identity."""
    named: Named = Named()
    """Change it with `configure`."""
    humans_left_at: Instant | None = None
    """When the last human left; None while one is there, and as long as none has come."""
    _members: dict[str, Member] = field(default_factory=dict)
    agents: dict[str, Member] = field(default_factory=dict)
    """The members, by sid, that the server calls agents."""
    _claiming: dict[str, Member] = field(default_factory=dict)
    """The members, by sid, that name a principal."""
    _humans: dict[str, Member] = field(default_factory=dict)
    """The members, by sid, that are people and name no principal."""
    _by_identity: dict[str, str] = field(default_factory=dict)
    _jobs: dict[str, tuple[Job, ...]] = field(default_factory=dict)
    _jobs_asked_at: Instant = float("-inf")
    """When the last list of jobs was requested."""
    _replaced: set[str] = field(default_factory=set)
    """Jobs that were seen alongside a newer one of their dispatch. Rejoining with a job's token doesn't renew it."""
    _avatars: dict[str, str] = field(default_factory=dict)
    """The sids of the avatars, orphaned ones included, by the identity of the principal that they name."""
    _contested: set[str] = field(default_factory=set)
    """The identities of the principals that several participants claim."""
    _bouncers: OrderedDict[str, None] = field(default_factory=OrderedDict)
    """The job identities that a dispatch proved to be ours. A server that restarts forgets its dispatches."""
    _humans_came: bool = False
    _sorted: dict[str, Member] = field(default_factory=dict)
    """The participants that may have changed since their roles were last settled."""

    def configure(self, named: Named) -> None:
        """Take in the participants that the configuration names."""
        self.named = named
        for member in self._members.values():
            self.sort(member)

    def enter(self, member: Member) -> None:
        """Add a participant. Of two with one identity, the one that entered last has it."""
        self._replaced |= member.replaced_jobs
        self._members[member.info.sid] = member
        self._by_identity[member.info.identity] = member.info.sid
        self.sort(member)

    def sort(self, member: Member) -> None:
        """Take in that what is known of a participant may have changed.

        A crowd is people. What is concluded at each event goes by the few others, so it takes no longer in a crowd.
        """
        sid = member.info.sid
        self._sorted[sid] = member
        for members, belongs in (
            (self.agents, member.agent_by_grant),
            (self._claiming, member.on_behalf_of != ""),
            (self._humans, member.on_behalf_of == "" and self.role(member) is Role.HUMAN),
        ):
            if belongs:
                members[sid] = member
            else:
                members.pop(sid, None)

    def leave(self, member: Member) -> None:
        """Take a participant out."""
        sid = member.info.sid
        member.replaced_jobs = frozenset(job.job for job in member.jobs) & self._replaced
        del self._members[sid]
        for members in (self.agents, self._claiming, self._humans):
            members.pop(sid, None)
        if self._by_identity.get(member.info.identity) == sid:
            del self._by_identity[member.info.identity]

    def sid_of(self, identity: str) -> str:
        """Return the sid of the participant that has this identity now; "" if there is none."""
        return self._by_identity.get(identity, "")

    def avatar_of(self, identity: str) -> str:
        """Return the sid of this principal's avatar, an orphaned one included; "" if it has none."""
        return self._avatars.get(identity, "")

    def is_avatar(self, member: Member) -> bool:
        """Return True if this is the one avatar of the principal that it names, whether that is here or gone."""
        return self.avatar_of(member.on_behalf_of) == member.info.sid

    def is_contested(self, member: Member) -> bool:
        """Return True if it claims a principal that others claim too."""
        return member.on_behalf_of in self._contested and self._may_be_avatar(member)

    def stands_alone(self, member: Member) -> bool:
        """Return True if what it is rests on nothing but itself: it is a person that claims nothing, and has no job."""
        return member.info.sid in self._humans and not member.jobs

    def is_foreign(self, member: Member) -> bool:
        """Return True if it is a bouncer of another fleet."""
        return self.role(member) is Role.BOUNCER and not self._is_ours(member)

    def replaced(self, member: Member) -> bool:
        """Return True if a newer job of its dispatch was seen alongside its own."""
        return member.job is not None and member.job.job in self._replaced

    def may_serve(self, member: Member) -> bool:
        """Return True while its job may be one for a single participant, for all that was listed."""
        unknown = self._is_unsettled(member) or (member.job is None and any(job.serves for job in member.jobs))
        return unknown and self.reads_jobs

    def fallback_avatars(self, unsure: AbstractSet[str]) -> frozenset[str]:
        """Return the sids that take over as avatars if the present ones, among `unsure`, have left."""
        orphaned = {principal for principal, sid in self._avatars.items() if sid in unsure}
        members = self._claiming.items()
        return frozenset(s for s, m in members if m.on_behalf_of in orphaned and self._may_be_avatar(m)) - unsure

    @property
    def unsettled(self) -> frozenset[str]:
        """The sids of the agents, JOINING ones included, whose dispatch is not known yet, nor that they have none."""
        return frozenset(sid for sid, member in self.agents.items() if self._is_unsettled(member))

    def role(self, member: Member) -> Role:  # noqa: PLR0911 - docs/explanation/who-is-what.md, a row each
        """Return what a participant is: the first row that fits. A possible bouncer counts as what it is otherwise."""
        info = member.info
        if self._is_bouncer(member):
            return Role.BOUNCER
        if info.hidden and info.kind is not Kind.AGENT and info.can_publish is False and info.can_send_data is False:
            return Role.OTHER  # it asks bouncers what they see
        if info.simulated:
            return Role.HUMAN
        if self.is_avatar(member) and (member.principal_left_at is None or not member.agent_by_grant):
            return Role.AVATAR
        if member.agent_by_grant:
            return Role.AGENT
        if self.named.not_people(member):
            return Role.OTHER
        if self.named.people(member):
            return Role.HUMAN
        if info.kind in SERVICES or info.hidden or info.recorder:
            return Role.OTHER
        return Role.HUMAN

    def public_role(self, member: Member) -> Role:
        """Return the role that policies see: a participant that may be a bouncer is OTHER until that is settled."""
        # What it does is recorded as of any agent, in case it turns out to be one.
        return Role.OTHER if self._may_be_bouncer(member) else self.role(member)

    def _is_bouncer(self, member: Member) -> bool:
        """Return True for us, for a hidden job of our dispatches, and for a hidden job that says it is a bouncer."""
        if member.info.identity == self.me:
            return True
        return bool(member.info.hidden) and (self._is_ours(member) or (member.guarded and member.jobs != ()))

    def _is_ours(self, member: Member) -> bool:
        """Return True if one of its jobs is of our dispatches, as far as was ever listed."""
        return (
            member.info.identity == self.me
            or any(job.agent_name == self.my_agent_name for job in member.jobs)
            or member.info.identity in self._bouncers
        )

    def _is_unsettled(self, member: Member) -> bool:
        return self._has_no_job(member) and not member.dispatches_conclusive

    def _has_no_job(self, member: Member) -> bool:
        """Return True for an agent of which no job is listed, or several."""
        return member.job is None and self.role(member) is Role.AGENT

    def _may_be_bouncer(self, member: Member) -> bool:
        """Return True if it looks like a bouncer whose dispatch is not listed (yet); once hidden, under any name."""
        hidden = member.info.hidden or (member.info.hidden is None and member.agent_name == self.my_agent_name)
        alike = hidden and member.info.identity.startswith(JOB_IDENTITY)
        return alike and not member.no_bouncer and self._has_no_job(member)

    def _may_be_avatar(self, member: Member) -> bool:
        named = self.named.avatars
        return member.claims_principal and (named is None or named(member))

    def recall(self, member: Member, earlier: Member) -> None:
        """Take over what an earlier connection with the same identity proved for good: a job's identity is its own."""
        if member.info.identity.startswith(JOB_IDENTITY):
            member.jobs, member.listable_since = earlier.jobs, earlier.listable_since
            member.first_age = earlier.job_age
            member.dispatches_conclusive |= earlier.dispatches_conclusive
            member.no_bouncer |= earlier.no_bouncer
            self._replaced |= earlier.replaced_jobs

    def assign_jobs(self, member: Member) -> None:
        """Give a participant the jobs that were last listed with its identity; none listed takes none away.

        Jobs listed before it took over an identity that isn't a job's are those of the earlier participant.
        """
        identity = member.info.identity
        if member.identity_reused and self._jobs_asked_at < member.info.joined_at:
            return
        member.jobs = self._jobs.get(identity, member.jobs)
        ours = any(job.agent_name == self.my_agent_name for job in member.jobs)
        if ours and member.info.hidden and identity.startswith(JOB_IDENTITY):
            self._bouncers[identity] = None
            if len(self._bouncers) > REMEMBERED_BOUNCERS:
                self._bouncers.popitem(last=False)

    def dispatched(self, asked_at: Instant, jobs: Iterable[Job]) -> None:
        """Take in a list of all jobs, requested at `asked_at`."""
        self._jobs, self._jobs_asked_at = {}, asked_at
        for job in jobs:
            self._jobs[job.identity] = (*self._jobs.get(job.identity, ()), job)
        ours = self.me in self._jobs or not self.me.startswith(JOB_IDENTITY)
        for member in self._members.values():
            self.assign_jobs(member)
            if member.jobs:
                self.sort(member)
            conclusive = member.listable_since + UNLISTED_FOR <= asked_at
            member.dispatches_conclusive |= conclusive
            member.no_bouncer |= conclusive and ours
        remembered = chain(jobs, *(member.jobs for member in self._members.values()))
        self._replaced &= {job.job for job in remembered}

    def settle(self, at: Instant, unsure: AbstractSet[str]) -> set[str]:
        """Draw the conclusions from who is here; `unsure` are the sids missing from the last list.

        Returns: the identities of the principals whose avatar is another one than before, or was orphaned or adopted.
        """
        self._settle_jobs(unsure)
        changed = self._settle_avatars(at)
        self._settle_roles(at)
        self._settle_humans(at)
        return changed

    def _settle_jobs(self, unsure: AbstractSet[str]) -> None:
        """Conclude which jobs were replaced: those with a newer one of their dispatch alongside them."""
        newest: dict[tuple[str, str], Job] = {}
        for member in sorted(self.agents.values(), key=lambda m: m.job_age):
            present = member.info.active and member.info.sid not in unsure and self.role(member) is Role.AGENT
            if present and (job := member.job) and job.job not in self._replaced:
                if older := newest.get((job.dispatch, job.serves)):
                    self._replaced.add(older.job)
                newest[job.dispatch, job.serves] = job

    def _settle_avatars(self, at: Instant) -> set[str]:
        """Conclude whose avatar is whose, one for each principal, and which are orphaned."""
        claimants = [m for m in self._claiming.values() if self._may_be_avatar(m)]
        no_principals = {m.info.identity for m in claimants}
        before, self._avatars = self._avatars, {}
        changed: set[str] = set()
        claimed: set[str] = set()
        self._contested = set()
        for member in sorted(claimants, key=lambda m: m.age):
            principal = member.on_behalf_of
            is_here = principal in self._by_identity and principal not in no_principals
            self._contested |= {principal} & claimed
            claimed.add(principal)
            member.adopted |= is_here
            if member.adopted or member.agent_by_grant:
                self._avatars.setdefault(principal, member.info.sid)
            if is_here != (member.principal_left_at is None):
                member.principal_left_at = None if is_here else at
                changed.add(principal)
        return changed | {i for i in before.keys() | self._avatars.keys() if before.get(i) != self._avatars.get(i)}

    def _settle_roles(self, at: Instant) -> None:
        """Conclude what each one is, and since when it is a person if it was something else before."""
        for member in (*self._sorted.values(), *self._claiming.values()):
            role = self.role(member)
            if role is not member.role:
                member.role_at = at if role is Role.HUMAN and member.role else 0.0
                member.role = role
        self._sorted.clear()

    def _settle_humans(self, at: Instant) -> None:
        """Conclude whether a human is here, and when the last one left."""
        claiming = [m for m in self._claiming.values() if self.role(m) is Role.HUMAN]
        if self._humans or claiming:
            self.humans_left_at = None
            if not self._humans_came:
                # A bot of standard kind looks like a person until a list shows its grant, an avatar until its principal
                # is.
                humans = (*self._humans.values(), *(m for m in claiming if not self._may_be_avatar(m)))
                self._humans_came = any(m.info.agent_grant is False or m.info.kind is not Kind.STANDARD for m in humans)
        elif self._humans_came and self.humans_left_at is None:
            self.humans_left_at = at


def shortened(text: str) -> str:
    """Return the text itself, or of one longer than any honest name its beginning and a digest of the whole."""
    if len(text) <= LONGEST_NAME:
        return text
    return f"{text[:64]}… {hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()}"
