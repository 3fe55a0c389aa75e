"""Whether an eviction that is under way would be decided on at this moment too. Pure.

Between a decision and a removal the room goes on: people come, states change, others leave or are removed. So right
before each removal the whole decision is taken once more, as if it had not been taken yet.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from bouncer.decide import Decision, Finding, Guards, Ledger, decide
from bouncer.history import Eviction
from bouncer.policy import Rule
from bouncer.room import Instant, Participant, Room


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """All that a decision goes by at one moment, and the evictions that are under way then."""

    room: Room
    rules: tuple[Rule, ...]
    guards: Guards
    now: Instant
    ledger: Ledger = field(default_factory=Ledger)
    under_way: Mapping[str, Eviction] = field(default_factory=dict)
    """By sid; `ledger.leaving` are all of these sids."""
    unsure: frozenset[str] = frozenset()
    """Sids of those who may have left already, or not, and of those who are somebody's avatar only if they have."""

    def decision(self) -> Decision:
        """The decision, without the evictions that rest on somebody of whom it isn't sure that they are here.

        Whoever is evicted has to leave in either case.
        """
        decision = decide(self.room, self.rules, self.guards, self.now, self.ledger)
        if not decision.evictions or not self.unsure:
            return decision
        otherwise = _sids(decide(self.room.without(self.unsure), self.rules, self.guards, self.now, self.ledger))
        return replace(decision, evictions=tuple(f for f in decision.evictions if f.participant.sid in otherwise))


def still_due(finding: Finding, moment: Moment) -> bool:
    """Whether this eviction, which is under way, would be decided on at this moment too.

    Those who are leaving by other rules have left, as in any decision. Those who are leaving by the same one have not,
    even if they are gone by now: one alone would be no chatter, and no hand-off. Unless one of them would have stayed,
    as the room is now: then what counts is who stays. The budget was set aside when it was decided.
    """
    who, under_way = finding.participant, moment.under_way
    moment = replace(moment, guards=moment.guards.without_budget())
    if finding.follows:
        principal = moment.ledger.evicted.get(who.on_behalf_of)
        if principal and _may_be_called_off(principal, moment):
            return not moment.guards.exempts(who) and still_due(principal, moment)
        return who.sid in _due(moment, left=under_way.keys() - {who.sid})

    gone = _removed_with(finding, moment)
    others = tuple(rule for rule in moment.rules if rule.id != finding.rule.id)
    # Who has to leave by another rule too leaves in any case.
    anyway = _due(replace(moment, rules=others, unsure=frozenset()), back=gone)
    gone = [other for other in gone if other.sid not in anyway]
    alike = {sid for sid, other in under_way.items() if other.finding.rule.id == finding.rule.id} - anyway - {who.sid}
    left = under_way.keys() - alike - {who.sid}
    # What was sent can't be called off any more.
    going = {sid for sid in alike if not under_way[sid].unsent}

    due = _due(moment, left=left, back=gone)
    if not due >= going.union(other.sid for other in gone):
        due = _due(moment, left=left | going)
    return who.sid in due


def may_end_dispatch(finding: Finding, moment: Moment) -> bool:
    """Whether the dispatch of an agent that is being evicted may be deleted, which ends all of its jobs.

    All that are here have to be leaving. A per-publisher dispatch also serves those who are yet to come.
    """
    who = finding.participant
    if not who.dispatch or who.publisher:
        return False
    others = (p for p in moment.room.participants if p.may_be_of(who.dispatch) and p.sid != who.sid)
    evictions = (moment.under_way.get(p.sid) for p in others)
    return all(eviction and still_due(eviction.finding, moment) for eviction in evictions)


def _due(moment: Moment, *, left: AbstractSet[str] = frozenset(), back: Iterable[Participant] = ()) -> set[str]:
    """The sids of those who would be evicted once some have left, and others are back."""
    room = replace(moment.room, participants=(*moment.room.participants, *back))
    ledger = replace(moment.ledger, leaving=frozenset(left))
    return _sids(replace(moment, room=room, ledger=ledger).decision())


def _sids(decision: Decision) -> set[str]:
    return {f.participant.sid for f in decision.evictions}


def _removed_with(finding: Finding, moment: Moment) -> list[Participant]:
    """Those who were decided on together with this one, by the same rule, and are gone by our doing."""
    eviction, here = moment.under_way.get(finding.participant.sid), {p.sid for p in moment.room.participants}
    return [
        other.participant
        for other in (eviction.together if eviction else ())
        if other.rule.id == finding.rule.id
        and other.participant.sid not in here
        and moment.ledger.evicted.get(other.participant.identity) is other
        and not _may_be_called_off(other, moment)
    ]


def _may_be_called_off(finding: Finding, moment: Moment) -> bool:
    eviction = moment.under_way.get(finding.participant.sid)
    return eviction is not None and eviction.unsent
