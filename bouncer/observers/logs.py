"""The log: one record per event, with a static name and the facts as fields."""

import logging
from collections.abc import Mapping
from typing import Any

from bouncer.configuration.model import Config
from bouncer.decide import Finding, HeldBy, Outcome
from bouncer.observers import Configured, Decided, News
from bouncer.observers.log_events import TO_DO, LogEvent
from bouncer.observers.records import ENVELOPE, Record, Records
from bouncer.plain import plain
from bouncer.room import Room

logger = logging.getLogger("bouncer")

_EVENTS: Mapping[str, tuple[int, LogEvent]] = {
    "guarding": (logging.INFO, LogEvent.GUARDING),
    "unguarded": (logging.INFO, LogEvent.NO_LONGER_GUARDING),
    "configured": (logging.INFO, LogEvent.CONFIGURED),
    "config_error": (logging.ERROR, LogEvent.CONFIGURATION_REFUSED),
    "notice": (logging.INFO, LogEvent.NOTICE_GIVEN),
    "reported": (logging.WARNING, LogEvent.REPORTED),
    "held": (logging.WARNING, LogEvent.HELD_BACK),
    "fault": (logging.ERROR, LogEvent.POLICY_FAULT),
    "trouble": (logging.ERROR, LogEvent.FAILING),
    "handed_over": (logging.INFO, LogEvent.HANDED_OVER),
    Outcome.REMOVED: (logging.INFO, LogEvent.EVICTED),
    Outcome.LEFT: (logging.INFO, LogEvent.EVICTED),
    Outcome.WOULD: (logging.INFO, LogEvent.WOULD_EVICT),
    Outcome.GONE: (logging.INFO, LogEvent.EVICTION_NOT_NEEDED),
    Outcome.VOID: (logging.WARNING, LogEvent.EVICTION_CALLED_OFF),
    Outcome.FAILED: (logging.WARNING, LogEvent.EVICTION_FAILED),
    Outcome.DENIED: (logging.ERROR, LogEvent.EVICTION_DENIED),
}
"""The level and the text of each event, and of each outcome."""
_PARTS = (LogEvent.ACTING, LogEvent.STANDING_BY, LogEvent.NOT_NEEDED)
_PERSONAL = {
    "identity": "lk.pii.participant_identity",
    "successor": "lk.pii.participant_identity",
    "seniors": "lk.pii.participant_identities",
}
"""The names under which LiveKit redacts personal data."""
RAW = frozenset({"exc_info", "exc_text", "stack_info"})
"""What of a record is not text, or has lines of its own."""


class Plainly(logging.Filter):
    """Escapes control characters in all that a record says: names and identities are texts from others."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Escape them. Every record passes."""
        record.__dict__.update({key: _plainly(value) for key, value in record.__dict__.items() if key not in RAW})
        return True


class WithAdvice(logging.Filter):
    """Adds to each error what to do about it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add it. Every record passes."""
        if record.levelno >= logging.ERROR and record.msg in TO_DO:
            record.__dict__["do"] = TO_DO[record.msg]
        return True


def _plainly(value: Any) -> Any:
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, Mapping):
        return {_plainly(key): _plainly(inner) for key, inner in value.items()}
    return [*map(_plainly, value)] if isinstance(value, list) else value


class Logs:
    """Writes what happens in one room to the logger `bouncer`, and each new or moved countdown at DEBUG."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._room = {"lk.pii.room_name": records.room}
        self._config: Config | None = None
        self._warned: list[str] = []
        self._seniors = 0
        self._unnamed_told = False
        self._counting: dict[tuple[str, str], Finding] = {}

    def notify(self, news: News) -> None:
        """Log it."""
        if isinstance(news, Configured):
            self._config = news.config
        elif isinstance(news, Decided):
            self._unnamed(news.room)
            self._countdowns(news)
        if record := self._records.of(news):
            self._write(record)

    def _write(self, record: Record) -> None:
        """Write a record: its facts are the fields, except those that every record of a room has."""
        facts = {_PERSONAL.get(key, key): fact for key, fact in record.items() if key not in ENVELOPE}
        match record["event"]:
            case "standing":
                self._ranked(record)
                return
            case "configured":
                self._configured(record)
                return
            case "config_error":
                problems = [f"{e['layer']}: {e['path']}: {e['message']}" for e in record["errors"]]
                in_force = "the last good configuration" if record["kept"] else "none: no agent is evicted"
                facts = {"problems": problems, "in_force": in_force}
            case _:
                pass
        level, event = _EVENTS[str(record.get("outcome", record["event"]))]
        if record.get("held_by") == HeldBy.EXEMPT:
            level = logging.INFO
        self._log(level, event, **facts)

    def _ranked(self, record: Record) -> None:
        """Log which part we have among several bouncers."""
        seniors = record["seniors"]
        if record["standing"] in ("acting", "standing_by") and len(seniors) != self._seniors:
            self._seniors = len(seniors)
            self._log(logging.INFO, _PARTS[min(len(seniors), 2)], **{_PERSONAL["seniors"]: seniors})

    def _configured(self, record: Record) -> None:
        """Log what is in force: all of it at first, then what has changed. The end of a refusal is a change too."""
        what = "changed" if "changed" in record else "configuration"
        self._log(logging.INFO, LogEvent.CONFIGURED, **{what: record[what], "origins": record["origins"]})
        if record["warnings"] and record["warnings"] != self._warned:
            self._log(logging.WARNING, LogEvent.CONFIGURATION_QUESTIONABLE, warnings=record["warnings"])
        self._warned = record["warnings"]

    def _unnamed(self, room: Room) -> None:
        """Say once which agents `duplicates` doesn't judge since they have no name, and the option that would."""
        if self._unnamed_told or self._config is None:
            return
        rules = [rule.policy for rule in self._config.rules if rule.policy.name == "duplicates"]
        if not rules or any(getattr(each, "unnamed", True) or each.key != "agent_name" for each in rules):  # type: ignore[attr-defined]
            return
        if unnamed := [agent for agent in room.agents if not agent.agent_name]:
            self._unnamed_told = True
            self._log(
                logging.INFO,
                LogEvent.UNNAMED_NOT_JUDGED,
                **{"lk.pii.participant_identity": unnamed[0].identity},
                agents=len(unnamed),
                policy="duplicates",
                option='{"policies": {"duplicates": {"unnamed": true}}}',
            )

    def _countdowns(self, news: Decided) -> None:
        if not logger.isEnabledFor(logging.DEBUG):
            return
        decision = news.decision
        counting = {f.key: f for f in decision.pending}
        due = {f.key for f in (*decision.evictions, *decision.reports, *(hold.finding for hold in decision.held))}
        for key, finding in counting.items():
            known = self._counting.get(key)
            if known is None or known.verdict.due != finding.verdict.due:
                due_in = round(finding.verdict.due - news.at, 3)
                self._log(logging.DEBUG, LogEvent.COUNTDOWN, **about(finding), due_in=due_in)
        for key in self._counting.keys() - counting.keys():
            event = LogEvent.COUNTDOWN_OVER if key in due else LogEvent.COUNTDOWN_CALLED_OFF
            self._log(logging.DEBUG, event, **about(self._counting[key]))
        self._counting = counting

    def _log(self, level: int, event: LogEvent, **facts: Any) -> None:
        logger.log(level, event, extra=self._room | {key: fact for key, fact in facts.items() if fact != ""})


def about(finding: Finding) -> dict[str, Any]:
    """Return the facts of a finding, for a log record."""
    who = finding.participant
    return {
        "lk.pii.participant_identity": who.identity,
        "sid": who.sid,
        "agent_name": who.agent_name,
        "policy": finding.rule.id,
        "reason": finding.verdict.reason,
    }
