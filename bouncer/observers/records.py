"""The record: what a bouncer has to say, as one JSON object. News in, record out. Pure.

Every backend renders this record and invents nothing: the log, the messages to the room, the metrics, the webhook, a
recording, `--json`. The two tables at the head are the contract; the schema and the reference are made from them.
Adding a field makes no new version; changing one does.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from bouncer.configuration.model import BUILT_IN, Config, Problem
from bouncer.configuration.provenance import difference
from bouncer.configuration.schema import DIALECT, Schema
from bouncer.decide import Finding, HeldBy, Outcome
from bouncer.observers import (
    Configured,
    Evicted,
    Failing,
    Faulted,
    Guarding,
    HandedOver,
    HeldBack,
    News,
    Noticed,
    Refused,
    Reported,
    Stands,
    Unguarded,
)
from bouncer.ports import Doing
from bouncer.room import Instant, Participant, Room

VERSION = 1
ID = "urn:livekit-bouncer:record"
MAX_ALONGSIDE = 10
"""How many other agents the facts show."""

Record = dict[str, Any]


class Clock(Protocol):
    """Dates what is said."""

    def now(self) -> Instant:
        """Return the instant."""

    def dated(self, instant: Instant) -> str:
        """Return an instant as an RFC 3339 time with milliseconds."""


def _text(description: str, *allowed: str) -> Schema:
    return {"description": description, "type": "string"} | ({"enum": [*allowed]} if allowed else {})


def _date(description: str) -> Schema:
    return {"description": description, "type": "string", "format": "date-time"}


def _number(description: str, kind: str = "number") -> Schema:
    return {"description": description, "type": kind, "minimum": 0}


def _object(description: str, **properties: Schema) -> Schema:
    return {"description": description, "type": "object", "properties": properties}


def _list(description: str, items: Schema) -> Schema:
    return {"description": description, "type": "array", "items": items}


STEPS = ("looked_again", "dispatch_ended", "removed", "proven")
STANDINGS = ("closed", "blind", "unconfigured", "off", "unsurveyed", "standing_by", "acting")

FACTS: Mapping[str, Schema] = {
    "joined_at": _date("When it joined."),
    "active_at": _date("When it last did something."),
    "alive_at": _date("Its last sign of life."),
    "state": _text("`lk.agent.state`, if it publishes one."),
    "state_at": _date("When it entered that state."),
    "speaking_since": _date("When its current speech began."),
    "spoke_at": _date("When its last speech ended."),
    "unanswered_since": _date("The end of the first human speech that it has not reacted to."),
    "chatting_since": _date("When it first spoke after the last human speech."),
    "principal_left_at": _date("For an orphaned avatar, when its principal left."),
    "evicted_at": _date("When its identity was last evicted."),
    "unseen": _text("Why it may be working unseen."),
    "replaced": {"description": "Whether a newer job of its dispatch was seen.", "type": "boolean"},
    "alongside": _list(
        f"The other agents, oldest first; {MAX_ALONGSIDE} at most.",
        _object(
            "Another agent.",
            sid=_text("Its connection."),
            agent_name=_text("Its agent name."),
            joined_at=_date("When it joined."),
            state=_text("`lk.agent.state`, if it publishes one."),
        ),
    ),
    "agents": _number("The agents that may be judged, this one included.", "integer"),
    "people": _number("The people in the room.", "integer"),
    "humans_left_at": _date("When the last person left, if none is here."),
    "chatter_since": _date("When the second agent spoke after the last human speech."),
    "watching_since": _date("Since when the room has been watched without a gap."),
}
"""The facts that a verdict rests on, as they were when the room was judged. A fact that isn't so is left out."""

FIELDS: Mapping[str, Schema] = {
    "v": {"description": "The version of this shape.", "const": VERSION},
    "at": _date("When it was said."),
    "room": _text("The room's name."),
    "room_sid": _text("The room's sid; empty if it isn't known."),
    "mode": _text(
        "The mode in force, or in which the eviction began; empty before the first configuration.",
        *("enforce", "dry_run", "off", ""),
    ),
    "identity": _text("The agent's identity."),
    "sid": _text("The agent's connection."),
    "agent_name": _text("Its agent name; empty if it has none."),
    "dispatch_id": _text("Its dispatch; empty if none is known."),
    "joined_at": _date("When it joined."),
    "present_for": _number("How many seconds it had been there when this was said."),
    "policy": _text("The rule, such as `idle_timeout`, or `idle_timeout[1]` for the second in a list."),
    "reason": _text("Completes “evicted because it …”."),
    "due_at": _date("By when it had to leave."),
    "due_in": {"description": "Seconds from `at` until `due_at`; negative once it is due.", "type": "number"},
    "doubt": _text("Why the verdict is uncertain; empty if it isn't."),
    "facts": _object("The dated facts that the verdict rests on. What isn't so is left out.", **FACTS),
    "held_by": _text("The guard that holds it back.", *map(str, HeldBy)),
    "outcome": _text("How the attempt ended.", *map(str, Outcome)),
    "took": _number("Seconds from the decision to the end of the attempt."),
    "by": _text("In a gatekeeper's history: who evicted the agent by hand."),
    "why": _text("Why, where that isn't plain; empty otherwise."),
    "steps": _list(
        "The steps of the attempt, in order.",
        _object(
            "One step.",
            step=_text(
                "The last list before acting; the end of its dispatch; the removal; seeing that it is gone.", *STEPS
            ),
            at=_date("When it began."),
            took=_number("How many seconds it took."),
            ok={"description": "Whether it worked.", "type": "boolean"},
        ),
    ),
    "seconds": _number("How many seconds the room was guarded."),
    "evictions": _number("How many agents and avatars were evicted, and seen gone.", "integer"),
    "agent_seconds_ended_early": _number(
        "For each evicted agent, the seconds from its end to the end of guarding: at most so much longer it would have "
        "stayed."
    ),
    "standing": _text("What the bouncer is in the room from now on.", *STANDINGS),
    "before": _text("What it was until now.", *STANDINGS),
    "seniors": _list("The identities of older bouncers that guard the room too.", _text("An identity.")),
    "configuration": _object("All of what is in force, with every default filled in."),
    "origins": _object("The layer that each value came from, by JSON path, except the built-in defaults."),
    "changed": _object("What is different now, by JSON path: `from` and `to`. Missing at first."),
    "warnings": _list("What is valid and hardly meant.", _text("One such thing, with its layer and path.")),
    "errors": _list(
        "What is wrong.",
        _object(
            "One thing that is wrong.",
            layer=_text("Where it stands. A message to the room leaves it out."),
            path=_text("Its JSON path."),
            message=_text("What would be right."),
        ),
    ),
    "total": _number("How many things are wrong.", "integer"),
    "kept": {"description": "Whether an earlier configuration stays in force. If not, none is.", "type": "boolean"},
    "error": _text("What happened."),
    "doing": _text("What was being done.", *map(str, Doing)),
    "id": _text("In the webhook: the id of this record, the same each time it is sent."),
    "num_dropped": _number("In the webhook: how many records were lost before this one.", "integer"),
    "successor": _text("The identity of the bouncer that has taken the room over."),
}
"""All fields of all events. A message to the room may leave out those that aren't required."""

ENVELOPE = ("v", "event", "at", "room", "room_sid", "mode")
POSTAL = ("id", "num_dropped")
"""What the webhook adds to any record."""
_AGENT = ("identity", "sid", "agent_name")
_VERDICT = (*_AGENT, "policy", "reason")
_MORE = ("dispatch_id", "joined_at", "present_for", "due_at", "due_in", "doubt", "facts")
VERDICT = (*_VERDICT, *_MORE)
"""All that is said of an agent and the verdict on it."""
_ENDING = ("took", "why", "steps", "by")

EVENTS: Mapping[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "guarding": ("The room has this bouncer from now on.", (), ()),
    "unguarded": (
        "The room no longer has this bouncer.",
        ("seconds", "evictions", "agent_seconds_ended_early"),
        (),
    ),
    "standing": ("What the bouncer is in the room has changed.", ("standing", "before"), ("seniors",)),
    "configured": (
        "A configuration is in force.",
        ("configuration", "origins"),
        ("changed", "warnings"),
    ),
    "config_error": ("A configuration was refused.", ("errors", "total", "kept"), ()),
    "notice": ("An agent will be evicted in `due_in` seconds.", (*_VERDICT, "due_in"), _MORE),
    "evicted": (
        "An agent was removed and seen gone (`removed`), or left after its dispatch was deleted (`left`).",
        (*_VERDICT, "outcome"),
        (*_MORE, *_ENDING),
    ),
    "reported": (
        "An agent breaks a rule that only reports, or would have been evicted (`outcome` is `would`).",
        _VERDICT,
        (*_MORE, "outcome", *_ENDING),
    ),
    "held": ("An agent is due and stays.", (*_VERDICT, "held_by"), (*_MORE, "why")),
    "failed": (
        "The server did not do it (`failed`), or denied it (`denied`). It is tried again.",
        (*_VERDICT, "outcome"),
        (*_MORE, *_ENDING),
    ),
    "called_off": (
        "At the last look the agent had left (`gone`), or was another or no longer due (`void`).",
        (*_VERDICT, "outcome"),
        (*_MORE, *_ENDING),
    ),
    "fault": ("A policy broke its contract; its verdicts were dropped.", ("policy", "error"), ()),
    "trouble": ("Something of ours went wrong, and we go on.", ("doing", "error"), ()),
    "handed_over": ("The worker ends, and another bouncer has taken the room over.", ("successor",), ()),
}
"""For each event: when it is said, the fields that it always has, and those that only the full record has."""

OUTCOMES: Mapping[Outcome, str] = {
    Outcome.REMOVED: "evicted",
    Outcome.LEFT: "evicted",
    Outcome.WOULD: "reported",
    Outcome.GONE: "called_off",
    Outcome.VOID: "called_off",
    Outcome.DENIED: "failed",
    Outcome.FAILED: "failed",
}


@dataclass(slots=True)
class Records:
    """Renders the news of one room. All backends of a room share one, so that each news is rendered once."""

    room: str
    clock: Clock
    room_sid: str = ""
    mode: str = ""
    """The mode in force."""
    _config: Config | None = None
    _refused: bool = False
    _last: tuple[News | None, Record | None] = (None, None)

    def of(self, news: News) -> Record | None:
        """Return the record of a piece of news; None if nothing is said, as of an evaluation."""
        if news is not self._last[0]:
            self._last = news, self._record(news)
        return self._last[1]

    def _record(self, news: News) -> Record | None:
        said = self._said(news)
        if said is None:
            return None
        event, facts = said
        envelope = {"v": VERSION, "event": event, "at": self.clock.dated(self.clock.now()), "room": self.room}
        return envelope | {"room_sid": self.room_sid, "mode": self.mode} | facts

    def _said(self, news: News) -> tuple[str, Record] | None:
        said: tuple[str, Record] | None = None
        match news:
            case Guarding():
                said = "guarding", {}
            case Unguarded(seconds, evictions, early):
                totals = {"seconds": round(seconds, 3), "evictions": evictions}
                said = "unguarded", totals | {"agent_seconds_ended_early": round(max(early, 0.0), 3)}
            case Stands(standing, before, seniors):
                identities = [senior.identity for senior in seniors]
                said = "standing", {"standing": str(standing), "before": str(before), "seniors": identities}
            case Configured(config):
                said = self._configured(config)
            case Refused(error, kept):
                self._refused = True
                errors = [*map(_problem, error.problems)]
                said = "config_error", {"errors": errors, "total": len(errors), "kept": kept is not None}
            case Noticed(finding, due_in, room):
                said = "notice", self._about(finding, room) | {"due_in": round(due_in, 3)}
            case Reported(finding, room):
                said = "reported", self._about(finding, room)
            case HeldBack(hold, room):
                about = self._about(hold.finding, room)
                said = "held", about | {"held_by": str(hold.by), "why": hold.why}
            case Evicted(finding, outcome, took, why, rungs, room, mode):
                steps = [
                    {"step": r.step, "at": self.clock.dated(r.at), "took": round(r.took, 3), "ok": r.ok} for r in rungs
                ]
                ending = {"outcome": str(outcome), "took": round(took, 3), "why": why, "steps": steps, "mode": mode}
                said = OUTCOMES[outcome], self._about(finding, room) | ending
            case Faulted(fault):
                said = "fault", {"policy": fault.rule.id, "error": fault.error}
            case Failing(doing, error):
                said = "trouble", {"doing": str(doing), "error": f"{type(error).__name__}: {error}"}
            case HandedOver(successor):
                said = "handed_over", {"successor": successor}
            case _:
                pass
        return said

    def _configured(self, config: Config) -> tuple[str, Record] | None:
        """Say what is in force: at first, when it has changed, and when it ends a refusal."""
        before, refused = self._config, self._refused
        self._config, self._refused, self.mode = config, False, config.mode
        given = {path: layer for path, layer in config.origins.items() if layer != BUILT_IN.name}
        record: Record = {"configuration": config.effective, "origins": given}
        record["warnings"] = [*map(str, config.warnings)]
        if before is None:
            return "configured", record
        changes = difference(before.effective, config.effective)
        if not changes and not refused and config.warnings == before.warnings:
            return None
        record["changed"] = {path: {"from": old, "to": new} for path, (old, new) in changes.items()}
        return "configured", record

    def _about(self, finding: Finding, room: Room) -> Record:
        who, verdict = finding.participant, finding.verdict
        now, dated = self.clock.now(), self.clock.dated
        return {
            "identity": who.identity,
            "sid": who.sid,
            "agent_name": who.agent_name,
            "dispatch_id": who.dispatch,
            "joined_at": dated(who.joined_at),
            "present_for": round(max(now - who.joined_at, 0.0), 3),
            "policy": finding.rule.id,
            "reason": verdict.reason,
            "due_at": dated(verdict.due),
            "due_in": round(verdict.due - now, 3),
            "doubt": verdict.doubt,
            "facts": facts(who, room, self.clock),
        }


def facts(who: Participant, room: Room, clock: Clock) -> Record:
    """Return the dated facts that a verdict on this participant rests on; those that aren't so are left out."""
    dates = {
        "joined_at": who.joined_at,
        "active_at": who.active_at or None,
        "alive_at": who.alive_at or None,
        "state_at": who.state_at if who.state else None,
        "speaking_since": who.speaking_since,
        "spoke_at": who.spoke_at,
        "unanswered_since": who.unanswered_since,
        "chatting_since": who.chatting_since,
        "principal_left_at": who.principal_left_at,
        "evicted_at": room.evicted_at.get(who.identity),
        "humans_left_at": room.humans_left_at,
        "chatter_since": room.chatter_since,
        "watching_since": room.watching_since,
    }
    others = [agent for agent in room.agents if agent.sid != who.sid]
    alongside = [
        {"sid": a.sid, "agent_name": a.agent_name, "joined_at": clock.dated(a.joined_at), "state": a.state}
        for a in others[:MAX_ALONGSIDE]
    ]
    return {
        **{name: clock.dated(at) for name, at in dates.items() if at is not None},
        **{name: text for name, text in (("state", who.state), ("unseen", who.unseen)) if text},
        "replaced": who.replaced,
        "alongside": alongside,
        "agents": len(room.agents),
        "people": len(room.humans),
    }


def _problem(problem: Problem) -> Record:
    return {"layer": problem.layer, "path": problem.path, "message": problem.message}


def schema() -> Schema:
    """Return the JSON Schema of a record. It is open: a later version may have more fields."""
    return {
        "$schema": DIALECT,
        "$id": ID,
        "title": "Bouncer: a record",
        "description": "What a bouncer says of a room: in its webhook, in recordings, and in its messages to the room.",
        "type": "object",
        "required": [*ENVELOPE],
        "properties": {name: {"$ref": f"#/$defs/{name}"} for name in ENVELOPE},
        "oneOf": [{"$ref": f"#/$defs/events/{event}"} for event in EVENTS],
        "$defs": {
            "event": {"description": "What happened.", "enum": [*EVENTS]},
            **FIELDS,
            "events": {event: _event(event) for event in EVENTS},
        },
    }


def _event(event: str) -> Schema:
    meaning, always, more = EVENTS[event]
    return {
        "description": meaning,
        "required": [*always],
        "properties": {
            "event": {"const": event},
            **{name: {"$ref": f"#/$defs/{name}"} for name in POSTAL},
            **{name: {"$ref": f"#/$defs/{name}"} for name in (*always, *(f for f in more if f not in always))},
        },
    }


def schema_text() -> str:
    """Return the schema as the text of a file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"
