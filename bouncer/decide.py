"""The decision: verdicts, guards and the clock's reading in; who has to leave now out. Pure.

This is the one place that compares a due date with now, and the one place that says whom the engine may ever touch:
whatever a policy yields, nothing but another agent that is present and not exempt gets into `Decision.evictions`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import islice
from math import isfinite

from bouncer.policy import Rule, Verdict, matches
from bouncer.room import Instant, Participant, Role, Room

BUDGET_WINDOW = 60.0
"""Seconds over which `max_per_minute` counts."""

NO_LIMIT = 2**31
"""A `max_per_minute` that no room ever spends."""

MAX_ERROR = 500
"""Characters that are kept of what a policy raised."""

RETELL = 0.5
"""Seconds by which a due date has to move before its notice is given again, so that rounding never repeats it."""


class Held(StrEnum):
    """What keeps a due verdict from being carried out."""

    EXEMPT = "exempt"
    DOUBT = "doubt"
    LAST = "keep_last_agent"
    BUDGET = "max_per_minute"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """What the engine never does, whatever the policies say."""

    exempt_identities: tuple[str, ...] = ()
    exempt_agent_names: tuple[str, ...] = ()
    max_per_minute: int = 10
    keep_last_agent: bool = False

    def exempts(self, participant: Participant) -> bool:
        """Whether the configuration has put this participant beyond every policy."""
        return matches(participant.identity, self.exempt_identities) or (
            participant.agent_name != "" and matches(participant.agent_name, self.exempt_agent_names)
        )

    def without_budget(self) -> "Guards":
        """The same guards for what costs nothing, or was counted before."""
        return replace(self, max_per_minute=NO_LIMIT)


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict together with the rule it comes from."""

    verdict: Verdict
    rule: Rule
    follows: bool = False
    """Whether it is an avatar that follows its evicted principal: it costs none of the budget."""

    @property
    def participant(self) -> Participant:
        """Whom it is about."""
        return self.verdict.participant

    @property
    def key(self) -> tuple[str, str]:
        """What is handled once under one configuration: (sid, rule id)."""
        return (self.verdict.participant.sid, self.rule.id)


@dataclass(frozen=True, slots=True)
class Hold:
    """A finding that is due, and what holds it back."""

    finding: Finding
    by: Held


@dataclass(frozen=True, slots=True)
class Fault:
    """A policy that broke its contract in this evaluation; all it said in it was dropped."""

    rule: Rule
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What has been done so far, so that nothing is done twice: the history that `decide` needs."""

    sent: tuple[Instant, ...] = ()
    """When removals were sent."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do now, what is kept from being done, and when to look again."""

    evictions: tuple[Finding, ...] = ()
    """Who has to leave now; each participant at most once, in order of (due, joined_at, sid)."""
    reports: tuple[Finding, ...] = ()
    """What is due, and only to be reported; each once per configuration."""
    notices: tuple[Finding, ...] = ()
    """What the room should be told of in advance."""
    held: tuple[Hold, ...] = ()
    """What is due, and held back."""
    pending: tuple[Finding, ...] = ()
    """What comes due later, earliest first."""
    wake_at: Instant | None = None
    """Until this instant nothing changes by itself; None: not before something happens."""
    faults: tuple[Fault, ...] = ()


def decide(room: Room, rules: Sequence[Rule], guards: Guards, now: Instant, ledger: Ledger | None = None) -> Decision:
    """Apply the rules to the room as it is at `now`.

    Timeless in the room: between now and `Decision.wake_at` the decision is the same, and who is due stays due.
    """
    ledger = ledger or Ledger()
    room = room.without(ledger.leaving)
    findings: list[Finding] = []
    faults: list[Fault] = []
    for rule in rules:
        try:
            findings += _findings(rule, room)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - law 6: whatever a policy raises is a fault of that policy alone
            faults.append(Fault(rule, _described(error)))

    order = {rule.id: position for position, rule in enumerate(rules)}
    findings.sort(key=lambda f: (f.verdict.due, f.participant.age, order[f.rule.id]))
    ahead = [f.verdict.due for f in findings]
    due = [f for f in findings if f.verdict.due <= now]

    last = _last_agent(findings, room, guards, now)
    held = [Hold(f, by) for f in due if (by := _held(f, guards, last))]
    kept_back = {hold.finding.key for hold in held}
    free = [f for f in due if f.key not in kept_back and f.key not in ledger.handled]
    reports = [f for f in free if f.rule.action == "report"]

    candidates: dict[str, Finding] = {}
    for f in free:
        if f.rule.action == "evict" and ledger.retry_at.get(f.participant.sid, now) <= now:
            candidates.setdefault(f.participant.sid, f)
    ahead += ledger.retry_at.values()

    spent = [at + BUDGET_WINDOW for at in ledger.sent if at + BUDGET_WINDOW > now]
    budget = max(0, guards.max_per_minute - len(spent) - ledger.unsent)
    evictions = list(candidates.values())[:budget]
    over = list(candidates.values())[budget:]
    held += [Hold(f, Held.BUDGET) for f in over]
    if over:
        ahead += spent

    evictions += _with_their_avatars(evictions, room, guards, now, ledger)
    notices, notice_times = _notices(findings, guards, ledger, now)
    ahead += notice_times
    return Decision(
        evictions=tuple(evictions),
        reports=tuple(reports),
        notices=tuple(notices),
        held=tuple(held),
        pending=tuple(f for f in findings if f.verdict.due > now),
        wake_at=min((at for at in ahead if at > now), default=None),
        faults=tuple(faults),
    )


def _findings(rule: Rule, room: Room) -> list[Finding]:
    """What the rule says of the room, the earliest verdict on each participant.

    Raises: whatever the policy raises; ValueError for a verdict that can't be one.
    """
    present = {p.sid: p for p in room.participants}
    earliest: dict[str, Verdict] = {}
    limit = (len(present) + 4) ** 2
    for count, verdict in enumerate(islice(iter(rule.policy.evaluate(room)), limit + 1)):
        if count == limit:
            raise ValueError(f"more than {limit} verdicts on {len(present)} participants")
        who = present.get(verdict.participant.sid)
        if who is None:
            raise ValueError("a verdict on somebody who is not in the room")
        if not _evictable(who, room):
            raise ValueError(f"a verdict on a participant that may never be evicted (its role is {who.role})")
        if not isfinite(verdict.due):
            raise ValueError(f"a due date that is no point in time: {verdict.due}")
        if rule.only is not None and not matches(who.agent_name, rule.only):
            continue
        plain = Verdict(who, verdict.due, str(verdict.reason), str(verdict.doubt))
        known = earliest.get(who.sid)
        if known is None or plain.due < known.due:
            earliest[who.sid] = plain
    return [Finding(verdict, rule) for verdict in earliest.values()]


def _described(error: BaseException) -> str:
    """What a policy raised, cut to MAX_ERROR characters: it may quote the whole room. Its text may raise as well."""
    try:
        text = str(error)
    except BaseException as failure:  # noqa: BLE001 - as above
        text = f"its text raises {type(failure).__name__}"
    return f"{type(error).__name__}: {text}"[:MAX_ERROR]


def _evictable(who: Participant, room: Room) -> bool:
    # An avatar may be judged too, once its principal is gone; no other role ever is.
    return who.active and who.identity != room.me and who.role in (Role.AGENT, Role.AVATAR)


def _held(finding: Finding, guards: Guards, last: str = "") -> Held | None:
    """What holds a due finding back; `last` is the sid of the agent that has to stay, if any."""
    if guards.exempts(finding.participant):
        return Held.EXEMPT
    if finding.rule.action == "report":
        return None
    if finding.verdict.doubt:
        return Held.DOUBT
    if finding.participant.sid == last and not finding.rule.may_clear_room:
        return Held.LAST
    return None


def _last_agent(findings: Iterable[Finding], room: Room, guards: Guards, now: Instant) -> str:
    """The sid of the agent that `keep_last_agent` keeps: once all are due, the one that came due last; "" if none.

    Nobody is kept company by an orphaned avatar.

    It goes by all that came due rather than by what is left to do, so that time alone never takes an eviction back.
    """
    if not guards.keep_last_agent or not room.humans:
        return ""
    first: dict[str, Instant] = {}
    for f in findings:
        if f.rule.action == "evict" and f.verdict.due <= now and _held(f, guards) is None:
            first.setdefault(f.participant.sid, f.verdict.due)
    agents = [a for a in room.agents if not (guards.exempts(a) or a.principal_left_at is not None)]
    if not agents or any(agent.sid not in first for agent in agents):
        return ""
    return min(agents, key=lambda agent: (-first[agent.sid], agent.age)).sid


def _with_their_avatars(
    evictions: Iterable[Finding], room: Room, guards: Guards, now: Instant, ledger: Ledger
) -> list[Finding]:
    """The avatars of those who are being or were evicted: they leave in the same decision, whatever the budget."""
    # Also those that are still JOINING: whoever is back has its avatar again.
    present = {p.identity for p in room.participants if p.is_agent}
    principals = {i: f for i, f in ledger.evicted.items() if i not in present and not f.follows}
    principals |= {f.participant.identity: f for f in evictions}
    leaving = {f.participant.sid for f in evictions}
    return [
        Finding(
            Verdict(avatar, principal.verdict.due, "is the avatar of an evicted agent"), principal.rule, follows=True
        )
        for avatar in room.avatars
        if (principal := principals.get(avatar.on_behalf_of))
        and avatar.sid not in leaving
        and (avatar.sid, principal.rule.id) not in ledger.handled
        and avatar.active
        and not guards.exempts(avatar)
        and ledger.retry_at.get(avatar.sid, now) <= now
    ]


def _notices(
    findings: Iterable[Finding], guards: Guards, ledger: Ledger, now: Instant
) -> tuple[list[Finding], list[Instant]]:
    """What the room has to be told now, and when the next notices are to be given."""
    notices: list[Finding] = []
    times: list[Instant] = []
    for f in findings:
        due, notice = f.verdict.due, f.rule.notice
        if not notice or due <= now or _held(f, guards):
            continue
        times.append(due - notice)
        told = ledger.noticed.get(f.key)
        if due - notice <= now and (told is None or abs(told - due) > RETELL):
            notices.append(f)
    return notices, times
