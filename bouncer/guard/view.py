"""A guarded room as its bouncer sees it, in JSON: what the commands, the console and an asker show. Pure.

The shape is documented in docs/reference/asking.md. Every date is given by the caller's `date`, because the engine's
instants mean nothing elsewhere. Nothing in a view counts from now, so a room in which nothing happens has the same
view. Facts that don't hold, or aren't known, are left out.
"""

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from bouncer.configuration.model import KEY, Config, Problem
from bouncer.decide import Decision, Finding, Guards, HeldBy, Ledger, decide
from bouncer.guard.history import Eviction
from bouncer.guard.watch import Standing, Watch
from bouncer.room import Instant, Participant, Role, Room

VERSION = 1
MOST = 1000
"""Participants that a view shows; of more, those that aren't people come first."""
MOST_DEPARTED = 100
"""Participants that have left that a view shows, the latest."""
MOST_ATTRIBUTES = 16
LONGEST_TEXT = 256
"""Characters of an attribute's value or of the metadata that a view shows."""

Date = Callable[[Instant], str]
"""Gives the date of an instant as text."""

ROLES: Mapping[Role, str] = {
    Role.AGENT: "agent",
    Role.AVATAR: "avatar",
    Role.HUMAN: "person",
    Role.BOUNCER: "bouncer",
    Role.OTHER: "nobody",
}
"""What people and tools are told a participant's role is."""

WATCHED = frozenset(
    {
        *("active_at", "alive_at", "state_at", "audible", "unseen", "busy", "avatar_sounds", "speaking_since"),
        *("spoke_at", "unanswered_since", "chatting_since", "principal_left_at"),
    }
)
"""The facts about a participant that are known only from watching."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that a view is made of, at one moment."""

    name: str
    """The room's name."""
    sid: str
    now: Instant
    standing: Standing
    room: Room
    config: Config | None
    decision: Decision = field(default_factory=Decision)
    ledger: Ledger = field(default_factory=Ledger)
    under_way: Mapping[str, Eviction] = field(default_factory=dict)
    evictions: int = 0
    """How many participants were evicted, and seen gone."""
    departed: tuple[tuple[Participant, Instant], ...] = ()
    """Those that left, the latest first, and when."""
    problems: tuple[Problem, ...] = ()
    """What is wrong with the latest configuration."""
    outside: bool = False
    """True if it is seen from outside the room: what is known only from watching is not shown."""


def snapshot(watch: Watch, now: Instant, *, name: str, sid: str) -> Snapshot:
    """Return how a bouncer sees its room now, whatever its standing."""
    config, room = watch.config, watch.room
    ledger = watch.ledger(config, now) if config else Ledger()
    decision = decide(room, config.rules, config.guards, now, ledger) if config and config.mode != "off" else Decision()
    return Snapshot(
        name=name,
        sid=sid,
        now=now,
        standing=watch.standing,
        room=room,
        config=config,
        decision=decision,
        ledger=ledger,
        under_way=dict(watch.history.under_way),
        evictions=watch.history.evictions,
        problems=watch.refused.problems if watch.refused else (),
        departed=tuple(islice(watch.tracker.departed(), MOST_DEPARTED)),
    )


def view(seen: Snapshot, date: Date) -> dict[str, Any]:
    """Return the room as JSON: from outside all of it, from inside MOST participants, since that has to be sent."""
    room, config = seen.room, seen.config
    present = [p for p in room.participants if p.sid]
    most = len(present) if seen.outside else MOST
    shown = sorted(present, key=lambda p: p.role is Role.HUMAN)[:most] if len(present) > most else present
    sids = {p.sid for p in shown}
    facts: dict[str, Any] = {
        "v": VERSION,
        "room": seen.name,
        "room_sid": seen.sid,
        "bouncer": room.me,
        "standing": "" if seen.outside else str(seen.standing),
        "mode": config.mode if config else "",
        "hearing": config.hearing if config and not seen.outside else "",
        "guarded_by": [p.identity for p in present if p.claims],
        "participants": [_participant(p, seen, date) for p in shown],
        "not_shown": len(present) - len(shown),
        "verdicts": [each for each in _verdicts(seen, date) if each["sid"] in sids],
        "departed": [_departed(p, at, seen, date) for p, at in seen.departed],
        "configuration": {KEY: config.effective} if config else None,
        "origins": dict(config.origins) if config else {},
        "problems": [{"layer": p.layer, "path": p.path, "message": p.message} for p in seen.problems],
        "rules": [_rule(rule) for rule in config.rules] if config else [],
    }
    if not seen.outside:
        facts["watching_since"] = date(room.watching_since)
        if room.humans_left_at is not None:
            facts["people_left_at"] = date(room.humans_left_at)
        counts = {"all": seen.evictions, "last_minute": len(seen.ledger.sent), "under_way": len(seen.under_way)}
        facts["evictions"] = counts
    return facts


def _rule(rule: Any) -> dict[str, Any]:
    return {"policy": rule.id, "action": rule.action, "notice": rule.notice, "watches": rule.watches}


def _participant(who: Participant, seen: Snapshot, date: Date) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "identity": who.identity,
        "sid": who.sid,
        "role": ROLES[who.role],
        "kind": str(who.kind),
        "agent_name": who.agent_name,
        "joined_at": date(who.joined_at),
    }
    texts = {
        "name": who.name,
        "metadata": who.metadata[:LONGEST_TEXT],
        "dispatch_id": who.dispatch,
        "serves": who.serves,
        "on_behalf_of": who.on_behalf_of,
        "state": who.state,
        "unseen": who.unseen,
    }
    facts |= {key: text for key, text in texts.items() if text}
    flags = {
        "joining": not who.active,
        "hidden": who.hidden,
        "replaced": who.replaced,
        "contested": who.contested,
        "foreign": who.foreign,
        "guarding": who.claims,
        "ringing": who.ringing,
        "busy": who.busy,
        "avatar_sounds": who.avatar_sounds,
        "unlisted": who.is_agent and who.unlisted,
    }
    facts |= {key: True for key, flag in flags.items() if flag}
    if who.audible is not None:
        facts["audible"] = who.audible
    agent = who.role in (Role.AGENT, Role.AVATAR)
    dates = {
        "active_at": who.active_at if agent else None,
        "alive_at": who.alive_at if agent else None,
        "state_at": who.state_at if who.state else None,
        "speaking_since": who.speaking_since,
        "spoke_at": who.spoke_at,
        "unanswered_since": who.unanswered_since,
        "chatting_since": who.chatting_since,
        "principal_left_at": who.principal_left_at,
        "evicted_at": seen.room.evicted_at.get(who.identity),
    }
    facts |= {key: date(at) for key, at in dates.items() if at is not None}
    if attributes := _attributes(who, date):
        facts["attributes"] = attributes
    if seen.config and who.evictable and (why := seen.config.guards.exempted_by(who, seen.now)):
        facts["exempt"] = why
    return {key: fact for key, fact in facts.items() if key not in WATCHED} if seen.outside else facts


def _attributes(who: Participant, date: Date) -> dict[str, dict[str, str]]:
    some = islice(who.attributes.items(), MOST_ATTRIBUTES)
    return {name: {"value": value[:LONGEST_TEXT], "at": date(who.attribute_at(name))} for name, value in some}


def _verdicts(seen: Snapshot, date: Date) -> Iterable[dict[str, Any]]:
    """Yield all that the rules say, in the order of the due dates; first what is being carried out."""
    config, decision = seen.config, seen.decision
    if config is None:
        return
    for eviction in seen.under_way.values():
        yield {
            **_verdict(eviction.finding, date),
            "status": "leaving",
            "leaving_since" if eviction.unsent else "sent_at": date(eviction.at),
        }
    held = {hold.finding.key: hold for hold in decision.held}
    now = {finding.key for finding in decision.evictions}
    for finding in (*decision.findings, *(each for each in decision.evictions if each.follows)):
        facts = _verdict(finding, date)
        if hold := held.get(finding.key):
            facts |= {"status": "held", "held_by": str(hold.by)} | ({"why": hold.why} if hold.why else {})
        elif finding.verdict.due > seen.now:
            facts |= {"status": "pending", **_held_later(finding, config.guards, seen.now)}
        else:
            facts |= _due(finding, seen.ledger, now, seen.now, date)
        yield facts


def _verdict(finding: Finding, date: Date) -> dict[str, Any]:
    who = finding.participant
    return {
        "identity": who.identity,
        "sid": who.sid,
        "policy": finding.rule.id,
        "action": finding.rule.action,
        "due_at": date(finding.verdict.due),
        "reason": finding.verdict.reason,
        "held_by": "",
        "doubt": finding.verdict.doubt,
    }


def _held_later(finding: Finding, guards: Guards, now: Instant) -> dict[str, str]:
    """Return what will hold it back once it comes due, as far as that is plain already."""
    if why := guards.exempted_by(finding.participant, now):
        return {"held_by": str(HeldBy.EXEMPT), "why": why}
    if finding.verdict.doubt and finding.rule.action == "evict":
        return {"held_by": str(HeldBy.DOUBT)}
    return {}


def _due(
    finding: Finding, ledger: Ledger, evicted: AbstractSet[tuple[str, str]], now: Instant, date: Date
) -> dict[str, str]:
    """Return what becomes of a verdict that is due and that nothing holds back."""
    sid = finding.participant.sid
    if finding.rule.action == "report" or finding.key in ledger.handled:
        return {"status": "reported"}
    if (retry_at := ledger.retry_at.get(sid, now)) > now:
        return {"status": "retrying", "retry_at": date(retry_at)}
    return {"status": "due" if finding.key in evicted else "covered"}


def _departed(who: Participant, left_at: Instant, seen: Snapshot, date: Date) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "identity": who.identity,
        "sid": who.sid,
        "role": ROLES[who.role],
        "agent_name": who.agent_name,
        "joined_at": date(who.joined_at),
        "left_at": date(left_at),
    }
    finding, at = seen.ledger.evicted.get(who.identity), seen.room.evicted_at.get(who.identity)
    if finding and at is not None and finding.participant.sid == who.sid:
        facts |= {"evicted_at": date(at), "policy": finding.rule.id, "reason": finding.verdict.reason}
    return facts
