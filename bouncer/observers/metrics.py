"""Metrics for Prometheus: what all rooms of a worker come to. No label has a room, an identity or a sid.

Counters and histograms follow the records. Gauges are read when Prometheus asks: until then a room costs next to
nothing. Rooms run in threads of their own, so what they share is locked.
"""

import platform
import threading
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from bouncer.observers import Decided, News
from bouncer.observers.records import STANDINGS, Record, Records

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Buckets for what takes between a call and minutes."""
DECIDING = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 1.0)
"""Buckets for deciding: 1 ms is a room of about a hundred."""
ENDED = ("removed", "left", "failed", "denied")
"""The outcomes that are shown from the start, so that a first one is a change."""
UNCONFIGURED = "none"
"""The mode of a room before its first configuration."""


@dataclass(eq=False)
class _Early:
    """Evicted agents, and when they were seen gone: together, the seconds since."""

    agents: int = 0
    gone_at: float = 0.0

    def seconds(self, now: float) -> float:
        """Return the agent-seconds until now."""
        return self.agents * now - self.gone_at


@dataclass(eq=False)
class RoomMetrics:
    """One room: an observer that counts, and holds what the gauges show."""

    shared: "Metrics"
    records: Records
    hearing: Callable[[], Mapping[str, int]]
    """The tracks that are listened to, by the way in which they are."""
    standing: str = "blind"
    decided: Decided | None = None
    """The last evaluation, while we act."""
    blind_since: float | None = None
    early: dict[str, _Early] = field(default_factory=dict)

    def notify(self, news: News) -> None:
        """Count it."""
        if isinstance(news, Decided):
            self.decided = news
        elif record := self.records.of(news):
            self.shared.count(record, self)


class Metrics:
    """All metrics of a worker."""

    def __init__(
        self,
        policies: Sequence[str],
        version: str,
        *,
        max_rooms: int,
        budget_left: Callable[[], int],
        registry: CollectorRegistry = REGISTRY,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Register them. `budget_left` gives the API calls that may still be made in this minute."""
        self._max_rooms, self._budget_left, self._now = max_rooms, budget_left, now
        self._rooms: set[RoomMetrics] = set()
        self._lock = threading.Lock()
        self._blind = 0.0
        self._early: dict[str, float] = dict.fromkeys(policies, 0.0)
        self._policies = tuple(policies)

        disable_created_metrics()  # type: ignore[no-untyped-call] # twice the series, and no one reads them

        def counter(name: str, about: str, *labels: str) -> Counter:
            return Counter(name, about, labels, registry=registry)

        def histogram(name: str, about: str, *labels: str, buckets: Sequence[float] = SECONDS) -> Histogram:
            return Histogram(name, about, labels, registry=registry, buckets=buckets)

        build = Gauge("bouncer_build_info", "What runs; always 1.", ["version", "python"], registry=registry)
        build.labels(version, platform.python_version()).set(1)
        self._evictions = counter(
            "bouncer_evictions_total", "Attempts at an eviction that ended.", "policy", "outcome", "mode"
        )
        self._reports = counter("bouncer_reports_total", "Agents that a rule only reported.", "policy")
        self._held = counter("bouncer_held_total", "Agents that are due and stay.", "policy", "held_by")
        self._lateness = histogram("bouncer_lateness_seconds", "From due to gone, of evicted agents.")
        self._eviction = histogram("bouncer_eviction_seconds", "From the decision to the end of an attempt.", "outcome")
        self._decide = histogram("bouncer_decide_seconds", "Judging a room once.", buckets=DECIDING)
        self._calls = counter("bouncer_api_calls_total", "Calls to LiveKit's server API.", "method", "code")
        self._call = histogram("bouncer_api_call_seconds", "A call to LiveKit's server API.")
        self._refused = counter("bouncer_config_refused_total", "Configurations that were refused.")
        self.webhook_lost = counter("bouncer_webhook_lost_total", "Records that were not delivered.")
        self.webhook_sent = counter("bouncer_webhook_sent_total", "Records that were delivered.")
        self._faults = counter("bouncer_policy_faults_total", "Policies that broke their contract.", "policy")
        for policy in policies:
            self._reports.labels(policy)
            self._faults.labels(policy)
            self._held.labels(policy, "max_per_minute")
            for outcome in ENDED:
                self._evictions.labels(policy, outcome, "enforce")
        for outcome in ENDED:
            self._eviction.labels(outcome)
        registry.register(self)

    def room(self, records: Records, hearing: Callable[[], Mapping[str, int]] = dict) -> RoomMetrics:
        """Return an observer for a room. The room counts from its first news to its last."""
        return RoomMetrics(self, records, hearing)

    def judged(self, seconds: float) -> None:
        """Take in how long it took to judge a room."""
        self._decide.observe(seconds)

    def called(self, method: str, code: str, seconds: float | None) -> None:
        """Take in a call to the server API; one that was not made, for want of budget, took no seconds."""
        self._calls.labels(method, code).inc()
        if seconds is not None:
            self._call.observe(seconds)

    def count(self, record: Record, room: RoomMetrics) -> None:
        """Take in a record of a room."""
        policy = str(record.get("policy", "")).partition("[")[0]
        match record["event"]:
            case "guarding":
                with self._lock:
                    self._rooms.add(room)
            case "unguarded":
                self._leave(room)
            case "standing":
                self._stand(room, record["standing"])
            case "config_error":
                self._refused.inc()
            case "fault":
                self._faults.labels(policy).inc()
            case "held":
                self._held.labels(policy, record["held_by"]).inc()
            case "reported" if "outcome" not in record:
                self._reports.labels(policy).inc()
            case "evicted" | "reported" | "failed" | "called_off":
                self._ended(record, room, policy)
            case _:
                pass

    def _ended(self, record: Record, room: RoomMetrics, policy: str) -> None:
        self._evictions.labels(policy, record["outcome"], record["mode"]).inc()
        self._eviction.labels(record["outcome"]).observe(record["took"])
        if record["event"] == "evicted":
            self._lateness.observe(max(-record["due_in"], 0.0))
            with self._lock:
                early = room.early.setdefault(policy, _Early())
                early.agents, early.gone_at = early.agents + 1, early.gone_at + self._now()

    def _stand(self, room: RoomMetrics, standing: str) -> None:
        with self._lock:
            room.standing = standing
            if standing != "acting":
                room.decided = None
            if standing == "blind" and room.blind_since is None:
                room.blind_since = self._now()
            elif standing != "blind":
                self._see(room)

    def _see(self, room: RoomMetrics) -> None:
        if room.blind_since is not None:
            self._blind += self._now() - room.blind_since
        room.blind_since = None

    def _leave(self, room: RoomMetrics) -> None:
        with self._lock:
            self._see(room)
            for policy, early in room.early.items():
                self._early[policy] = self._early.get(policy, 0.0) + early.seconds(self._now())
            room.early = {}
            self._rooms.discard(room)

    def collect(self) -> Iterator[Metric]:
        """Return what is so now, of all rooms."""
        with self._lock:
            now, rooms = self._now(), list(self._rooms)
            early = dict(self._early)
            for room in rooms:
                for policy, since in room.early.items():
                    early[policy] = early.get(policy, 0.0) + since.seconds(now)
            blind = self._blind + sum(now - room.blind_since for room in rooms if room.blind_since is not None)
        yield self._standings(rooms)
        yield from _present(rooms, self._policies)
        tracks: Tally[str] = Tally()
        for room in rooms:
            tracks.update(room.hearing())
        hearing = GaugeMetricFamily("bouncer_hearing_tracks", "Audio tracks that are listened to.", labels=["mode"])
        for mode in ("level", "speech"):
            hearing.add_metric([mode], tracks[mode])
        yield hearing
        ended_early = CounterMetricFamily(
            "bouncer_agent_seconds_ended_early",
            "For each evicted agent, the seconds from its end for which its room was guarded.",
            labels=["policy"],
        )
        for policy, seconds in sorted(early.items()):
            ended_early.add_metric([policy], max(seconds, 0.0))
        yield ended_early
        yield CounterMetricFamily("bouncer_blind_seconds", "Room-seconds without a connection.", blind)
        yield GaugeMetricFamily("bouncer_rooms_max", "The rooms at which the worker is full.", self._max_rooms)
        yield GaugeMetricFamily(
            "bouncer_api_budget_left", "Calls that may still be made in this minute.", self._budget_left()
        )

    def _standings(self, rooms: Sequence[RoomMetrics]) -> Metric:
        found = Tally((room.standing, room.records.mode or UNCONFIGURED) for room in rooms)
        family = GaugeMetricFamily(
            "bouncer_rooms", "Rooms, by what the bouncer is in them.", labels=["standing", "mode"]
        )
        shown = {(standing, "enforce") for standing in STANDINGS if standing != "closed"}
        for standing, mode in sorted(shown | found.keys()):
            family.add_metric([standing, mode], found[standing, mode])
        return family


def _present(rooms: Sequence[RoomMetrics], policies: Sequence[str]) -> Iterator[Metric]:
    """Yield who is in the rooms where we act, and what comes due there."""
    latest = [decided for room in rooms if (decided := room.decided)]
    agents = sum(len(decided.room.agents) for decided in latest)
    yield GaugeMetricFamily("bouncer_agents", "Agents that may be judged, where we act.", agents)
    people = sum(len(decided.room.humans) for decided in latest)
    yield GaugeMetricFamily("bouncer_people", "People, where we act.", people)
    pending = Tally(finding.rule.policy.name for decided in latest for finding in decided.decision.pending)
    family = GaugeMetricFamily("bouncer_pending_verdicts", "Verdicts that come due later.", labels=["policy"])
    for policy in sorted({*policies, *pending}):
        family.add_metric([policy], pending[policy])
    yield family
