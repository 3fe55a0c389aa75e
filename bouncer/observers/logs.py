"""The log: one record per thing that happened, a static event name and the facts beside it."""

import logging
from typing import Any

from bouncer.config import BUILT_IN, Config
from bouncer.decide import Finding, Held
from bouncer.effective import difference
from bouncer.history import Outcome
from bouncer.observers import (
    Configured,
    Decided,
    Evicted,
    Faulted,
    HandedOver,
    HeldBack,
    News,
    Noticed,
    Ranked,
    Refused,
    Reported,
    Troubled,
)

logger = logging.getLogger("bouncer")

_EVENTS = {
    Outcome.REMOVED: (logging.INFO, "evicted"),
    Outcome.LEFT: (logging.INFO, "evicted"),
    Outcome.WOULD: (logging.INFO, "would evict"),
    Outcome.GONE: (logging.INFO, "eviction not needed"),
    Outcome.VOID: (logging.WARNING, "eviction called off"),
    Outcome.FAILED: (logging.WARNING, "eviction failed"),
    Outcome.DENIED: (logging.ERROR, "eviction denied"),
}


class Logs:
    """Writes what happens in one room to the logger `bouncer`, and each new or moved countdown at DEBUG."""

    def __init__(self, room_name: str) -> None:
        self._room = {"lk.pii.room_name": room_name}
        self._config: Config | None = None
        self._refused = False
        self._counting: dict[tuple[str, str], Finding] = {}

    def notify(self, news: News) -> None:
        """Log it."""
        match news:
            case Configured(config):
                self._configured(config)
            case Refused(error, kept):
                self._refused = True
                problems = [str(problem) for problem in error.problems]
                in_force = "the last good configuration" if kept else "none: nobody is evicted"
                self._log(logging.ERROR, "configuration refused", problems=problems, in_force=in_force)
            case Decided():
                self._countdowns(news)
            case Noticed(finding, due_in):
                self._log(logging.INFO, "notice given", **about(finding), due_in=round(due_in, 3))
            case Reported(finding):
                self._log(logging.WARNING, "reported", **about(finding))
            case HeldBack(hold):
                level = logging.INFO if hold.by is Held.EXEMPT else logging.WARNING
                doubt = hold.finding.verdict.doubt
                self._log(level, "held back", **about(hold.finding), held_by=str(hold.by), doubt=doubt)
            case Evicted(finding, outcome, took, why):
                level, event = _EVENTS[outcome]
                self._log(level, event, **about(finding), outcome=str(outcome), took=round(took, 3), why=why)
            case Faulted(fault):
                self._log(logging.ERROR, "policy fault", policy=fault.rule.id, error=fault.error)
            case Ranked(seniors):
                self._ranked([senior.identity for senior in seniors])
            case HandedOver(successor):
                self._log(logging.INFO, "handed over", **{"lk.pii.participant_identity": successor})
            case Troubled(doing, error):
                self._log(logging.ERROR, "trouble", doing=doing, error=f"{type(error).__name__}: {error}")

    def _ranked(self, seniors: list[str]) -> None:
        """Log which part we have among several bouncers."""
        part = ("acting: no older bouncer guards the room", "standing by", "not needed: one acts and one stands by")[
            min(len(seniors), 2)
        ]
        self._log(logging.INFO, part, bouncers=seniors)

    def _configured(self, config: Config) -> None:
        """Log what is in force: all of it at first, then what has changed. The end of a refusal is a change too."""
        given = {path: layer for path, layer in config.origins.items() if layer != BUILT_IN.name}
        if self._config is None:
            self._log(logging.INFO, "configured", configuration=config.effective, origins=given)
        elif (changes := difference(self._config.effective, config.effective)) or self._refused:
            changed = {path: {"from": old, "to": new} for path, (old, new) in changes.items()}
            self._log(logging.INFO, "configured", changed=changed, origins=given)
        self._config, self._refused = config, False

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
                self._log(logging.DEBUG, "countdown", **about(finding), due_in=due_in)
        for key in self._counting.keys() - counting.keys():
            event = "countdown over" if key in due else "countdown called off"
            self._log(logging.DEBUG, event, **about(self._counting[key]))
        self._counting = counting

    def _log(self, level: int, event: str, **facts: Any) -> None:
        logger.log(level, event, extra=self._room | {key: fact for key, fact in facts.items() if fact != ""})


def about(finding: Finding) -> dict[str, Any]:
    """The facts of a finding, for a log record."""
    who = finding.participant
    return {
        "lk.pii.participant_identity": who.identity,
        "sid": who.sid,
        "agent_name": who.agent_name,
        "policy": finding.rule.id,
        "reason": finding.verdict.reason,
    }
