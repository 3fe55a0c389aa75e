"""What operators see of the gatekeeper: log lines and metrics, of the same news."""

import json
import logging
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client import Counter as Total
from prometheus_client.core import GaugeMetricFamily, Metric

from bouncer.ports import ApiError
from gatekeeper.doors import Doors
from gatekeeper.records import Command, Event, News
from gatekeeper.standing import Standing

logger = logging.getLogger("bouncer.gatekeeper")

_LEVELS = {
    Event.REFUSED: logging.WARNING,
    Event.FAILED: logging.WARNING,
    Event.LOST: logging.WARNING,
    Event.GHOST: logging.WARNING,
    Event.THROTTLED: logging.WARNING,
    Event.NOT_BY_HAND: logging.WARNING,
    Event.BLIND: logging.ERROR,
    Event.DENIED: logging.ERROR,
    Event.DISPATCHED: logging.DEBUG,
}
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class Logs:
    """Writes each piece of news to the log."""

    def notify(self, news: News) -> None:
        """Log it."""
        about = {"lk.pii.room_name": news.room, "room_sid": news.sid} if news.room else {}
        logger.log(_LEVELS.get(news.event, logging.INFO), news.event, extra={**about, **news.facts})

    def called(self, command: Command, answer: object) -> None:
        """Say nothing: what matters about calls comes as news."""


class Metrics:
    """Counts news and calls, and shows the standings, for Prometheus. No label has the name of a room."""

    def __init__(self, doors: Doors, now: Callable[[], float]) -> None:
        self.registry = CollectorRegistry()
        self._doors, self._now = doors, now
        self._news = Total("bouncer_gatekeeper_events", "What happened.", ["event"], registry=self.registry)
        self._calls = Total("bouncer_gatekeeper_calls", "API calls.", ["call", "result"], registry=self.registry)
        self.webhooks = Total("bouncer_gatekeeper_webhooks", "Webhooks, by fate.", ["fate"], registry=self.registry)
        self.registry.register(self)

    def notify(self, news: News) -> None:
        """Count it."""
        self._news.labels(news.event.replace(" ", "_")).inc()

    def called(self, command: Command, answer: object) -> None:
        """Count a call."""
        result = str(answer.trouble) if isinstance(answer, ApiError) else "ok"
        self._calls.labels(type(command).__name__, result).inc()

    def collect(self) -> Iterator[Metric]:
        """Return the gauges, as the doors are now."""
        doors = list(self._doors.doors.values())
        standings = Counter(door.standing for door in doors)
        rooms = GaugeMetricFamily("bouncer_gatekeeper_rooms", "Open rooms, by standing.", labels=["standing"])
        for standing in Standing:
            rooms.add_metric([standing], standings[standing])
        yield rooms
        at_rest = (Standing.GUARDED, Standing.UNWANTED, Standing.UNNEEDED)
        waits = (d.wanted_at for d in doors if d.standing not in at_rest)
        oldest = max(0.0, self._now() - min(waits, default=math.inf))
        yield GaugeMetricFamily(
            "bouncer_gatekeeper_longest_unguarded_seconds", "The longest that a room waits.", oldest
        )
        age = self._now() - self._doors.listed_at
        yield GaugeMetricFamily("bouncer_gatekeeper_list_age_seconds", "The age of the last list of all rooms.", age)


class JsonLines(logging.Formatter):
    """One JSON object a line, like the worker's."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "message": record.getMessage(),
            "level": record.levelname,
            "name": record.name,
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            **_facts(record),
        }
        if record.exc_info:
            line["exc_info"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class PlainLines(logging.Formatter):
    """A line for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        facts = "".join(f"  {key.removeprefix('lk.pii.')}={value}" for key, value in _facts(record).items())
        trace = "\n" + self.formatException(record.exc_info) if record.exc_info else ""
        at = datetime.fromtimestamp(record.created, UTC).astimezone()
        return f"{at:%H:%M:%S} {record.levelname:7} {record.getMessage()}{facts}{trace}"


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _OWN}


def log_to_stderr(level: str) -> None:
    """Send the gatekeeper's log to stderr: JSON, or lines for people if that is a terminal."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainLines() if sys.stderr.isatty() else JsonLines())
    root = logging.getLogger("bouncer")
    root.handlers[:] = [handler]
    root.propagate = False
    root.setLevel(level.upper())
