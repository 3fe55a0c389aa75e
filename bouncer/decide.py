"""The decision: verdicts, guards and now in; the agents that must leave out. Pure.

Only here is a due date compared with now, and only here is it decided which participants the engine may ever touch:
whatever a policy yields, nothing but another agent that is present and not exempt gets into `Decision.evictions`.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import islice
from math import inf, isfinite
from types import TracebackType

from bouncer.policy import Policy, Rule, Verdict
from bouncer.room import UNLISTED_FOR, Instant, Participant, Room
from bouncer.selectors import Selector, matches

BUDGET_WINDOW = 60.0
"""Seconds over which `max_per_minute` counts."""

NO_LIMIT = 2**31
"""A `max_per_minute` that no room ever spends."""

MAX_ERROR = 500
"""Characters that are kept of what a policy raised."""

CONTESTED = "several participants claim to be the avatar of one and the same"
"""Why a verdict is in doubt, unless its policy judges avatars like any agent."""

RETELL = 0.5
"""Seconds by which a due date has to move before its notice is given again, so that rounding never repeats it."""


class HeldBy(StrEnum):
    """What keeps a due verdict from being carried out."""

    EXEMPT = "exempt"
    DOUBT = "doubt"
    LAST = "keep_last_agent"
    BUDGET = "max_per_minute"


class Outcome(StrEnum):
    """How an eviction ended."""

    REMOVED = "removed"
    """We removed it, and it was seen gone."""
    LEFT = "left"
    """We ended its job by deleting its dispatch, and it left in time."""
    GONE = "gone"
    """It had left already, without our doing."""
    VOID = "void"
    """Its identity belongs to another participant by now, or it is no longer due: nothing was done."""
    DENIED = "denied"
    """Our credentials may not remove participants."""
    FAILED = "failed"
    """The server didn't do it; it will be tried again."""
    WOULD = "would"
    """A dry run: it would have been evicted."""


@dataclass(frozen=True, slots=True)
class Rung:
    """One step of an attempt at an eviction: what was tried, when, for how many seconds, and whether it worked."""

    step: str
    at: Instant
    took: float
    ok: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """What the engine never does, whatever the policies say."""

    exempt_identities: tuple[str, ...] = ()
    exempt_agent_names: tuple[str, ...] = ()
    exempt: tuple[Selector, ...] = ()
    """The selectors of further participants that are exempt; one match is enough."""
    dispatched_only: bool = False
    """True if an exempt agent name counts only where a dispatch gives it, not as an agent's own word."""
    max_per_minute: int = 10
    keep_last_agent: bool = False

    def exempts(self, who: Participant, now: Instant = inf) -> bool:
        """Return True if the configuration has put this participant beyond every policy."""
        return self.exempted_by(who, now) != ""

    def exempted_by(self, who: Participant, now: Instant = inf) -> str:
        """Return what makes a participant exempt, in words that say whose word is taken; empty if it isn't."""
        if matches(who.identity, self.exempt_identities):
            return "its identity"
        known = not who.may_serve and self.dispatch_known_at(who) <= now
        if self.dispatched_only and not who.dispatch and known:
            who = replace(who, agent_name="")
        if who.agent_name and matches(who.agent_name, self.exempt_agent_names):
            return f"its agent name, {_whose_word(who)}"
        for selector in self.exempt:
            if selector.matches(who):
                keys = ", ".join(selector.found(who))
                return f"its {keys}, {_whose_word(who)}" if selector.agent_name else f"its {keys}"
        if who.principal and not who.contested and self.exempts(who.principal, now):
            return "its principal, which is exempt"
        return ""

    def dispatch_known_at(self, who: Participant) -> Instant:
        """Return when it can be known that no dispatch has its name; until then a name is taken at its word."""
        own = who.joined_at + UNLISTED_FOR if self.dispatched_only and who.unlisted else -inf
        return max(own, self.dispatch_known_at(who.principal)) if who.principal else own

    def without_budget(self) -> "Guards":
        """Return the same guards for what costs nothing, or was counted before."""
        return replace(self, max_per_minute=NO_LIMIT)


def _whose_word(who: Participant) -> str:
    return "which its dispatch gives" if who.dispatch else "which it gives itself"


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict together with the rule it comes from."""

    verdict: Verdict
    rule: Rule
    follows: bool = False
    """True if it is an avatar that follows its evicted principal."""
    free: bool = False
    """True if it costs none of the budget: an avatar that leaves in the same decision as its principal."""

    @property
    def participant(self) -> Participant:
        """The participant that it is about."""
        return self.verdict.participant

    @property
    def key(self) -> tuple[str, str]:
        """What is handled once under one configuration: (sid, rule id)."""
        return (self.verdict.participant.sid, self.rule.id)


@dataclass(frozen=True, slots=True)
class Removal:
    """A removal that has been sent, or the end of its dispatch: when, and of which participant."""

    at: Instant
    sid: str
    identity: str


@dataclass(frozen=True, slots=True)
class Hold:
    """A finding that is due, and what holds it back."""

    finding: Finding
    by: HeldBy
    why: str = ""
    """For an exemption, what makes the participant exempt."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A policy that broke its contract in this evaluation; all it said in it was dropped."""

    rule: Rule
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What has been done so far, so that nothing is done twice: the history that `decide` needs."""

    sent: tuple[Removal, ...] = ()
    """The removals that count against the budget."""
    leaving: frozenset[str] = frozenset()
    """Sids whose eviction is under way: for the policies they have left."""
    unsent: int = 0
    """How many of those have not sent their removal yet, and so are not in `sent`."""
    handled: frozenset[tuple[str, str]] = frozenset()
    """Keys of findings that have been reported, or carried out in a dry run, under this configuration."""
    noticed: Mapping[tuple[str, str], Instant] = field(default_factory=dict)
    """Keys of findings of which the room was told, with the due date it was told."""
    retry_at: Mapping[str, Instant] = field(default_factory=dict)
    """Sids whose removal failed, and when it may be tried again."""
    evicted: Mapping[str, Finding] = field(default_factory=dict)
    """Identities that were evicted, and why: what is left of them, an avatar, has to follow."""
    owed: tuple[Finding, ...] = ()
    """What was decided together with agents whose removal has been sent: due, whatever the room without them says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do now, what is kept from being done, and when to look again."""

    evictions: tuple[Finding, ...] = ()
    """The participants that must leave now, each at most once, in order of (due, joined_at, sid)."""
    reports: tuple[Finding, ...] = ()
    """What is due, and only to be reported; each once per configuration."""
    notices: tuple[Finding, ...] = ()
    """What the room is to be warned of."""
    held: tuple[Hold, ...] = ()
    """What is due, and held back."""
    pending: tuple[Finding, ...] = ()
    """What comes due later, earliest first."""
    together: tuple[Finding, ...] = ()
    """What is due because of others that leave too: once the removal of one is sent, the others are owed."""
    wake_at: Instant | None = None
    """Until this instant nothing changes by itself; None: not before something happens."""
    faults: tuple[Fault, ...] = ()
    findings: tuple[Finding, ...] = ()
    """Every verdict on a participant that isn't leaving, whatever becomes of it, earliest first."""

    def group(self, finding: Finding) -> tuple[Finding, ...]:
        """Return what is due together with the eviction of this participant, its own verdict included."""
        rules = {f.rule.id for f in self.together if f.participant.sid == finding.participant.sid}
        return tuple(f for f in self.together if f.rule.id in rules)


NOTHING_DONE = Ledger()
"""The history of a room in which nothing has been done yet."""


def decide(room: Room, rules: Sequence[Rule], guards: Guards, now: Instant, ledger: Ledger = NOTHING_DONE) -> Decision:
    """Apply the rules to the room as it is at `now`.

    Timeless in the room: between now and `Decision.wake_at` the decision is the same, and who is due stays due.
    """
    room = room.without(ledger.leaving)
    owed = [f for f in ledger.owed if f.participant.sid not in ledger.leaving]
    findings: list[Finding] = []
    faults: list[Fault] = []
    for rule in rules:
        judged = judge(rule, room)
        owing = {f.participant.sid: f for f in owed if f.rule.id == rule.id}
        if isinstance(judged, Fault):
            faults.append(judged)
        else:
            findings += [f for f in judged if f.participant.sid not in owing]
        findings += owing.values()
    # Those of one age and one due date stay in the order of the rules.
    findings.sort(key=lambda f: (f.verdict.due, f.verdict.participant.age))
    first_pending = bisect_right(findings, now, key=lambda f: f.verdict.due)
    due, pending = findings[:first_pending], findings[first_pending:]
    ahead = [f.verdict.due for f in pending[:1]]

    # Why each is exempt, or "": worked out once, since many rules judge the same agent.
    judged_at_all = (*(f.participant for f in owed), *room.agents_and_avatars)
    exempt = {who.sid: guards.exempted_by(who, now) for who in judged_at_all}
    last = _last_agent(due, room, guards, exempt)
    held: list[Hold] = []
    free: list[Finding] = []
    for f in due:
        if by := _held(f, exempt, last):
            held.append(Hold(f, by, exempt[f.participant.sid]))
        elif f.key not in ledger.handled:
            free.append(f)
    if guards.dispatched_only:
        ahead += [guards.dispatch_known_at(f.participant) for f in due]
    reports = [f for f in free if f.rule.action == "report"]

    candidates: dict[str, Finding] = {}
    for f in free:
        if f.rule.action == "evict" and ledger.retry_at.get(f.participant.sid, now) <= now:
            candidates.setdefault(f.participant.sid, f)
    # Including those still JOINING: a principal that is back has its avatar again.
    present = {p.identity for p in room.participants if p.is_agent}
    gone = {i: f for i, f in ledger.evicted.items() if i not in present and not f.follows}
    candidates |= {f.participant.sid: f for f in _avatars_of(gone, candidates, room, exempt, now, ledger)}
    ahead += ledger.retry_at.values()

    in_order = sorted(candidates.values(), key=lambda f: (f.verdict.due, f.participant.age))
    evictions, over = _within_budget(in_order, guards, now, ledger)
    if over:
        ahead += [removal.at + BUDGET_WINDOW for removal in ledger.sent]

    principals, leaving = {f.participant.identity: f for f in evictions}, {f.participant.sid for f in evictions}
    avatars = _avatars_of(principals, leaving, room, exempt, now, ledger)
    evictions += [replace(f, free=True) for f in avatars]
    leaving |= {f.participant.sid for f in avatars}
    held += [Hold(f, HeldBy.BUDGET) for f in over if f.participant.sid not in leaving]
    notices, notice_times = _notices(pending, exempt, ledger, now)
    ahead += notice_times
    return Decision(
        evictions=tuple(evictions),
        reports=tuple(reports),
        notices=tuple(notices),
        held=tuple(held),
        pending=tuple(pending),
        together=tuple(f for f in free if f.rule.together and f.rule.action == "evict"),
        wake_at=min((at for at in ahead if at > now), default=None),
        faults=tuple(faults),
        findings=tuple(findings),
    )


def judge(rule: Rule, room: Room) -> list[Finding] | Fault:
    """Return what the rule says of the room, the earliest verdict on each participant."""
    try:
        return _findings(rule, room)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - law 6: whatever a policy raises is a fault of that policy alone
        return Fault(rule, _described(error, rule.policy))


def _findings(rule: Rule, room: Room) -> list[Finding]:
    """Return what the rule says of the room, the earliest verdict on each participant.

    Raises: whatever the policy raises; ValueError for a verdict that can't be one.
    """
    earliest: dict[str, Verdict] = {}
    limit = (len(room.participants) + 4) ** 2
    for count, verdict in enumerate(islice(iter(rule.policy.evaluate(room)), limit + 1)):
        if count == limit:
            raise ValueError(f"more than {limit} verdicts on {len(room.participants)} participants")
        who = room.evictable.get(verdict.participant.sid)
        if who is None:
            here = [p for p in room.participants if p.sid == verdict.participant.sid]
            why = f"may never be evicted (its role is {here[0].role})" if here else "is not in the room"
            raise ValueError(f"a verdict on a participant that {why}")
        if not isfinite(verdict.due):
            raise ValueError(f"a due date that is no point in time: {verdict.due}")
        since = rule.judges_since(who)
        if since is None:
            continue
        doubt = str(verdict.doubt) or (CONTESTED if who.contested and not rule.judges_avatars else "")
        due = max(verdict.due, who.stay_known_at)
        if since > who.joined_at:
            # An attribute that brings an agent under the rule gives it as much time as joining does.
            due = max(due, since + rule.gives)
        as_given = verdict.participant is who and (due, doubt) == (verdict.due, verdict.doubt)
        plain = verdict if as_given and _is_plain(verdict) else Verdict(who, due, str(verdict.reason), doubt)
        known = earliest.get(who.sid)
        if known is None or plain.due < known.due:
            earliest[who.sid] = plain
    return [Finding(verdict, rule) for verdict in earliest.values()]


def _is_plain(verdict: Verdict) -> bool:
    """Return True if nothing in a verdict is of a type of the policy's own making."""
    return type(verdict) is Verdict and type(verdict.reason) is type(verdict.doubt) is str


def _described(error: BaseException, policy: Policy) -> str:
    """Describe what a policy raised and where, in MAX_ERROR characters: it may quote the whole room."""
    try:
        text = str(error)
    except BaseException as failure:  # noqa: BLE001 - as above
        text = f"its text raises {type(failure).__name__}"
    place = _place(error.__traceback__, policy)
    return f"{type(error).__name__}: {text}"[: MAX_ERROR - len(place)] + place


def _place(traceback: TracebackType | None, policy: Policy) -> str:
    """Name the file and the line in which a policy raised; for a verdict that can't be one, where it evaluates."""
    place = ""
    while traceback:
        file = traceback.tb_frame.f_code.co_filename
        place = f" ({file}:{traceback.tb_lineno})" if file != __file__ else ""
        traceback = traceback.tb_next
    code = getattr(getattr(type(policy), "evaluate", None), "__code__", None)
    return place or (f" ({code.co_filename}:{code.co_firstlineno})" if code else "")


def _held(finding: Finding, exempt: Mapping[str, str], last: str = "") -> HeldBy | None:
    """Return what holds a due finding back; `last` is the sid of the agent that has to stay, if any."""
    if exempt[finding.participant.sid]:
        return HeldBy.EXEMPT
    if finding.rule.action == "report":
        return None
    if finding.verdict.doubt:
        return HeldBy.DOUBT
    if finding.participant.sid == last and not finding.rule.may_clear_room:
        return HeldBy.LAST
    return None


def _last_agent(due: Iterable[Finding], room: Room, guards: Guards, exempt: Mapping[str, str]) -> str:
    """Return the sid of the agent that `keep_last_agent` keeps: the one that came due last, once all are; else "".

    An orphaned avatar does not count as the last agent.

    It goes by all that came due rather than by what is left to do, so that time alone never takes an eviction back.
    """
    if not guards.keep_last_agent or not room.humans:
        return ""
    first: dict[str, Instant] = {}
    for f in due:
        if f.rule.action == "evict" and _held(f, exempt) is None:
            first.setdefault(f.participant.sid, f.verdict.due)
    agents = [a for a in room.agents if not (exempt[a.sid] or a.orphaned)]
    if not agents or any(agent.sid not in first for agent in agents):
        return ""
    return min(agents, key=lambda agent: (-first[agent.sid], agent.age)).sid


def _within_budget(
    candidates: Iterable[Finding], guards: Guards, now: Instant, ledger: Ledger
) -> tuple[list[Finding], list[Finding]]:
    """Divide those who have to leave into those that may be evicted now and those that have to wait.

    An identity that is back after each removal takes half of the budget at most, so that it shields no one else.
    """
    sent = [removal for removal in ledger.sent if removal.at + BUDGET_WINDOW > now]
    of_identity, of_sid = Counter(each.identity for each in sent), Counter(each.sid for each in sent)
    left = max(0, guards.max_per_minute - len(sent) - ledger.unsent)
    share = (guards.max_per_minute + 1) // 2
    within: list[Finding] = []
    over: list[Finding] = []
    for finding in candidates:
        who = finding.participant
        earlier = of_identity[who.identity] - of_sid[who.sid]
        (within if len(within) < left and earlier < share else over).append(finding)
    return within, over


def _avatars_of(
    principals: Mapping[str, Finding],
    leaving: Container[str],
    room: Room,
    exempt: Mapping[str, str],
    now: Instant,
    ledger: Ledger,
) -> list[Finding]:
    """Return the avatars of evicted principals, except those leaving anyway."""
    return [
        Finding(
            Verdict(avatar, principal.verdict.due, "is the avatar of an evicted agent"), principal.rule, follows=True
        )
        for avatar in room.avatars
        if (principal := principals.get(avatar.on_behalf_of))
        and avatar.sid not in leaving
        and (avatar.sid, principal.rule.id) not in ledger.handled
        and avatar.sid in room.evictable
        and not avatar.contested
        and not exempt[avatar.sid]
        and ledger.retry_at.get(avatar.sid, now) <= now
    ]


def _notices(
    pending: Iterable[Finding], exempt: Mapping[str, str], ledger: Ledger, now: Instant
) -> tuple[list[Finding], list[Instant]]:
    """Return what the room has to be told now, and when the next notices are to be given."""
    notices: list[Finding] = []
    times: list[Instant] = []
    for f in pending:
        due, notice = f.verdict.due, f.rule.notice
        if not notice or _held(f, exempt):
            continue
        times.append(due - notice)
        told = ledger.noticed.get(f.key)
        if due - notice <= now and (told is None or abs(told - due) > RETELL):
            notices.append(f)
    return notices, times
