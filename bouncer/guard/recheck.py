"""Would an eviction that is under way be decided on at this moment too? Pure.

Between a decision and a removal the room goes on: people come, states change, agents leave or are removed. So right
before each removal the whole decision is taken again. But other evictions are under way at the same time, and a
decision depends on who is there. So it is taken again on a room that differs from the one that is seen.

As committed: agents whose removal has been sent are gone, and so are agents that leave under other rules. Agents that
    leave under the same rule and may still be called off are there. Worked example: C, A and B have one name, C is the
    oldest, and `duplicates` evicts A and B. Then C leaves. Until A's removal is sent, A stays, as the oldest by now,
    and B goes. Once it is sent, B is alone and stays.

As decided: if a policy decides on several agents because of each other (`together`), then from the first removal on
    all agents count as they were in that decision. People, exemptions and the configuration count as they are now.
    Worked example: A and B are lone chatter. A's removal is sent, and A's last words end. B alone is no chatter, but
    A is gone because of us: as decided, the two still chat, and B is owed. It stays owed while a call fails or the
    budget is spent. An exemption, another configuration or a doubt ends that.

Without the rule: an agent that leaves under the same rule, but would be evicted without that rule too, leaves in any
    case. So it is gone, even before its removal is sent, except for agents that were decided on together with it.
    Worked example: C, A and B are as above. C leaves, and by now `idle_timeout` would evict A too. So A goes, and B
    is alone and stays, though A's removal hasn't been sent.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from bouncer.decide import Decision, Fault, Finding, Guards, HeldBy, Ledger, decide, judge
from bouncer.guard.history import Debt, Eviction
from bouncer.policy import Rule, Verdict
from bouncer.room import Instant, Participant, Room


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """All that a decision rests on at one moment, and the evictions that are under way then."""

    room: Room
    rules: tuple[Rule, ...]
    guards: Guards
    now: Instant
    ledger: Ledger = field(default_factory=Ledger)
    under_way: Mapping[str, Eviction] = field(default_factory=dict)
    """By sid; `ledger.leaving` are all of these sids."""
    unsure: frozenset[str] = frozenset()
    """Sids of participants that may have left, and of those that are avatars only if such a participant has left."""

    def decision(self) -> Decision:
        """Return the decision, without evictions that depend on a participant whose presence is unconfirmed.

        An agent is evicted only if it has to leave in either case.
        """
        decision = decide(self.room, self.rules, self.guards, self.now, self.ledger)
        # A participant that we sent away, and that is missing, has left because of us.
        unsure = self.unsure - {sid for sid, eviction in self.under_way.items() if not eviction.unsent}
        if not decision.evictions or not unsure:
            return decision
        gone = self.room.without(unsure)
        if self.room.humans and not gone.humans:
            # If the last people have left, then just now: what waits from then on has all its time.
            gone = replace(gone, humans_left_at=self.now)
        otherwise = _sids(decide(gone, self.rules, self.guards, self.now, self.ledger))
        return replace(decision, evictions=tuple(f for f in decision.evictions if f.participant.sid in otherwise))


class Recheck:
    """The evictions that are under way at one moment, decided again. What many of them share is decided once."""

    def __init__(self, moment: Moment) -> None:
        # Its share of the budget was set aside at the decision.
        self._moment = replace(moment, guards=moment.guards.without_budget())
        self._anyway: dict[str, set[str]] = {}
        """By rule, who would be evicted without it."""
        self._stay: dict[tuple[str, frozenset[str]], tuple[set[str], set[str]]] = {}
        """By rule and companions, who counts as there although it is leaving, and who is due then."""
        self._by_dispatch: dict[str, list[Participant]] | None = None
        """The participants that may be jobs of each dispatch."""

    def still_due(self, finding: Finding) -> bool:
        """Return True if this eviction, which is under way, would be decided on at this moment too."""
        if finding.follows:
            return self._avatar_still_due(finding)
        sid, under_way = finding.participant.sid, self._moment.under_way
        own = under_way.get(sid)
        companions = frozenset(f.participant.sid for f in own.group) if own else frozenset[str]()
        stay, due = self._as_committed(finding.rule.id, companions)
        if sid not in stay:
            due = self._due(left=under_way.keys() - stay - {sid})
        return sid in due

    def _as_committed(self, rule: str, companions: frozenset[str]) -> tuple[set[str], set[str]]:
        """Return who leaves under a rule and may still be called off, and who is due while they are there."""
        if (rule, companions) not in self._stay:
            under_way = self._moment.under_way
            alike = {s for s, e in under_way.items() if e.unsent and (s in companions or e.finding.rule.id == rule)}
            if rule not in self._anyway:
                others = tuple(other for other in self._moment.rules if other.id != rule)
                self._anyway[rule] = _due(replace(self._moment, rules=others, unsure=frozenset()))
            stay = alike - (self._anyway[rule] - companions)
            self._stay[rule, companions] = stay, self._due(left=under_way.keys() - stay)
        return self._stay[rule, companions]

    def _due(self, *, left: AbstractSet[str]) -> set[str]:
        """Return the sids that would be evicted if some participants had left."""
        return _due(self._moment, left=left)

    def _avatar_still_due(self, finding: Finding) -> bool:
        """Return True while the principal that an avatar follows out is due; after that, if it is due by itself."""
        avatar = finding.participant
        principal = self._moment.ledger.evicted.get(avatar.on_behalf_of)
        if principal and self._may_be_called_off(principal):
            return not self._moment.guards.exempts(avatar) and self.still_due(principal)
        return avatar.sid in self._due(left=self._moment.under_way.keys() - {avatar.sid})

    def _may_be_called_off(self, finding: Finding) -> bool:
        eviction = self._moment.under_way.get(finding.participant.sid)
        return eviction is not None and eviction.unsent

    def may_end_dispatch(self, finding: Finding) -> bool:
        """Return True if the dispatch of an agent that is being evicted may be deleted, which ends all of its jobs.

        All its jobs that are here must be leaving. A dispatch with one job per participant also serves those yet to
        come.
        """
        who = finding.participant
        if not who.dispatch or who.serves:
            return False
        others = (p for p in self._of_dispatch(who.dispatch) if p.sid != who.sid)
        evictions = (self._moment.under_way.get(p.sid) for p in others)
        return all(eviction and self.still_due(eviction.finding) for eviction in evictions)

    def _of_dispatch(self, dispatch: str) -> list[Participant]:
        """Return the participants that may be jobs of a dispatch."""
        if self._by_dispatch is None:
            self._by_dispatch = {}
            for who in self._moment.room.participants:
                for each in {who.dispatch, *who.dispatches}:
                    self._by_dispatch.setdefault(each, []).append(who)
        return self._by_dispatch.get(dispatch, [])


def owed(debts: Iterable[Debt], room: Room, rules: Iterable[Rule]) -> tuple[Finding, ...]:
    """Return what is still owed under these rules, with its verdict in the world as decided."""
    here, by_id = {p.sid: p for p in room.participants}, {rule.id: rule for rule in rules}
    verdicts: dict[tuple[str, int], dict[str, Verdict]] = {}
    still: list[Finding] = []
    for debt in debts:
        rule, who = by_id.get(debt.finding.rule.id), here.get(debt.finding.participant.sid)
        if rule is None or who is None:
            continue
        world = (rule.id, id(debt.room))
        if world not in verdicts:
            verdicts[world] = _verdicts(rule, _as_decided(room, debt.room))
        if verdict := verdicts[world].get(who.sid):
            still.append(Finding(replace(verdict, participant=who), rule))
    return tuple(still)


def _verdicts(rule: Rule, room: Room) -> dict[str, Verdict]:
    findings = judge(rule, room)
    return {} if isinstance(findings, Fault) else {f.participant.sid: f.verdict for f in findings}


def remaining(owed: Iterable[Finding], decision: Decision, now: Instant) -> set[tuple[str, str]]:
    """Return the keys of the debts that remain: nothing about the agent itself cancels them."""
    held = {hold.finding.key for hold in decision.held if hold.by is not HeldBy.BUDGET}
    return {f.key for f in owed if f.key not in held and f.verdict.due <= now}


def _as_decided(room: Room, then: Room) -> Room:
    """Return the room with the agents of a decision, their part in the conversation as it was then."""
    agents = {p.sid: p for p in then.participants if p.evictable}
    here = {p.sid: _conversing_as(agents.get(p.sid, p), p) for p in room.participants}
    return replace(room, participants=tuple((agents | here).values()))


def _conversing_as(then: Participant, now: Participant) -> Participant:
    return replace(
        now,
        speaking_since=then.speaking_since,
        spoke_at=then.spoke_at,
        spoke_since=then.spoke_since,
        chatting_since=then.chatting_since,
        chatted=then.chatted,
    )


def _due(moment: Moment, *, left: AbstractSet[str] = frozenset()) -> set[str]:
    """Return the sids that would be evicted if some participants had left."""
    return _sids(replace(moment, ledger=replace(moment.ledger, leaving=frozenset(left))).decision())


def _sids(decision: Decision) -> set[str]:
    return {f.participant.sid for f in decision.evictions}
