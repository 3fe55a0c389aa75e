"""Metrics: what all rooms come to, by names that alerts depend on."""

import re
from pathlib import Path

from prometheus_client import CollectorRegistry

from bouncer.configuration.model import ConfigError
from bouncer.decide import Decision, Finding, HeldBy, Hold, Ledger, Outcome
from bouncer.observers import Decided, Evicted, Guarding, HeldBack, News, Refused, Stands, Unguarded
from bouncer.observers.metrics import Metrics, RoomMetrics
from bouncer.policy import Rule
from policies import BUILTIN
from policies.idle_timeout import IdleTimeout
from tests.dates import records
from tests.unit.test_records import FOUND, HOUSE, SAID

REFERENCE = Path(__file__).parents[2] / "docs/reference/metrics.md"
POLICIES = [policy.name for policy in BUILTIN]


class Worker:
    """The metrics of a worker whose clock the test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.registry = CollectorRegistry()
        self.metrics = Metrics(
            POLICIES, "1.2", max_rooms=9, budget_left=lambda: 7, registry=self.registry, now=lambda: self.now
        )

    def room(self, name: str = "lobby") -> RoomMetrics:
        """Guard a room."""
        return self.metrics.room(records(name, lambda: self.now), lambda: {"level": 2, "speech": 1})

    def says(self, room: RoomMetrics, *news: News) -> None:
        """Let a room's news be counted."""
        for each in news:
            room.notify(each)

    def value(self, name: str, **labels: str) -> float | None:
        """Return a sample."""
        return self.registry.get_sample_value(name, labels)


def test_every_metric_is_documented_with_its_labels() -> None:
    """Also those that appear only once something has happened."""
    worker = Worker()
    worker.says(worker.room(), *SAID[:-1])
    worker.metrics.called("list_participants", "ok", 0.1)
    rows = re.findall(r"^\| `(bouncer_\w+)` \| ([^|]*)\|", REFERENCE.read_text(encoding="utf-8"), re.MULTILINE)
    documented = {name: frozenset(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    found: dict[str, frozenset[str]] = {}
    for family in worker.registry.collect():
        for sample in family.samples:
            name = family.name + ("_total" if family.type == "counter" else "")
            found[name] = frozenset(sample.labels) - {"le"}

    assert found == documented


def test_no_label_names_anyone() -> None:
    """Whatever a room says."""
    worker = Worker()
    worker.says(worker.room("call-with-ana"), *SAID)
    values = {v for f in worker.registry.collect() for sample in f.samples for v in sample.labels.values()}

    assert not [value for value in values if re.search(r"ana|AJ_|PA_|RM_|assistant|lobby", value)]


def test_what_ends_is_counted_by_policy_outcome_and_mode() -> None:
    """The index of a rule in a list isn't part of it."""
    worker = Worker()
    worker.now = 183.0
    room = worker.room()
    second = Finding(FOUND.verdict, Rule(policy=IdleTimeout(timeout=60), index=1))
    worker.says(room, Guarding(), *(Evicted(each, Outcome.REMOVED, 0.4, "", (), HOUSE) for each in (FOUND, second)))
    worker.says(room, Evicted(FOUND, Outcome.WOULD, 0.0, "", (), HOUSE, "dry_run"), HeldBack(Hold(FOUND, HeldBy.LAST)))

    count = "bouncer_evictions_total"
    assert worker.value(count, policy="idle_timeout", outcome="removed", mode="enforce") == 2
    assert worker.value(count, policy="idle_timeout", outcome="would", mode="dry_run") == 1
    assert worker.value(count, policy="duplicates", outcome="failed", mode="enforce") == 0
    assert worker.value("bouncer_held_total", policy="idle_timeout", held_by="keep_last_agent") == 1
    assert worker.value("bouncer_lateness_seconds_sum") == 6.0, "due at 180, gone at 183, twice"
    assert worker.value("bouncer_eviction_seconds_sum", outcome="removed") == 0.8


def test_time_that_goes_on_is_read_when_asked() -> None:
    """Agents that ended early, and rooms that are blind; a room that is left counts no further."""
    worker = Worker()
    room = worker.room()
    worker.says(room, Guarding(), Evicted(FOUND, Outcome.LEFT, 1.0, "", (), HOUSE), Stands("blind", "acting"))
    early = {"policy": "idle_timeout"}
    values = []
    for worker.now in (0, 10, 25):
        values.append(
            (
                worker.value("bouncer_agent_seconds_ended_early_total", **early),
                worker.value("bouncer_blind_seconds_total"),
            )
        )
    worker.says(room, Stands("acting", "blind"))
    worker.now = 40
    worker.says(room, Unguarded(40, 1, 40))
    worker.now = 100

    assert values == [(0, 0), (10, 10), (25, 25)]
    assert worker.value("bouncer_agent_seconds_ended_early_total", **early) == 40
    assert worker.value("bouncer_blind_seconds_total") == 25


def test_rooms_and_who_is_in_them() -> None:
    """Those where we act; a room counts from its first news to its last."""
    worker = Worker()
    acting, idle = worker.room(), worker.room()
    decided = Decided(0, HOUSE, Decision(pending=(FOUND,)), Ledger())
    worker.says(acting, Guarding(), Stands("acting", "blind"), decided)
    worker.says(idle, Guarding(), decided, Stands("standing_by", "acting"), Refused(ConfigError([]), None))

    def shown() -> list[float | None]:
        return [
            worker.value("bouncer_rooms", standing="acting", mode="none"),
            worker.value("bouncer_rooms", standing="standing_by", mode="none"),
            worker.value("bouncer_rooms", standing="blind", mode="enforce"),
            worker.value("bouncer_agents"),
            worker.value("bouncer_people"),
            worker.value("bouncer_pending_verdicts", policy="idle_timeout"),
            worker.value("bouncer_hearing_tracks", mode="level"),
        ]

    assert shown() == [1, 1, 0, 2, 1, 1, 4]
    assert worker.value("bouncer_config_refused_total") == 1
    assert (worker.value("bouncer_rooms_max"), worker.value("bouncer_api_budget_left")) == (9, 7)
    for room in (acting, idle):
        worker.says(room, Unguarded(1, 0, 0))
    assert shown() == [None, None, 0, 0, 0, 0, 0]


def test_calls() -> None:
    """One that was not made took no time."""
    worker = Worker()
    worker.metrics.called("list_participants", "ok", 0.25)
    worker.metrics.called("list_participants", "out_of_budget", None)

    assert worker.value("bouncer_api_calls_total", method="list_participants", code="out_of_budget") == 1
    assert worker.value("bouncer_api_call_seconds_count") == 1
