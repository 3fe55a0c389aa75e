"""Traces: one OpenTelemetry span per attempt at an eviction, from due to its end, with an event for each step."""

import os
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Status, StatusCode

from bouncer.dates import unix
from bouncer.observers import News
from bouncer.observers.records import Record, Records

SPAN = "evict"
ENDINGS = ("evicted", "failed", "called_off")
"""The events that are spans. A dry run evicts no one."""
SHOWN = {
    "room": "lk.pii.room_name",
    "identity": "lk.pii.participant_identity",
    **{name: f"bouncer.{name}" for name in ("room_sid", "sid", "agent_name", "dispatch_id", "policy", "reason")},
    **{name: f"bouncer.{name}" for name in ("mode", "outcome", "why")},
}
"""The attributes of a span, by the fields of the record. Personal data have the names that LiveKit redacts by."""
FLUSHED_WITHIN = 5.0
"""Seconds that a worker which ends waits for its last spans to be sent."""


class Traces:
    """Sends spans over HTTP, as the variables of OpenTelemetry say (OTEL_EXPORTER_OTLP_ENDPOINT and its like)."""

    def __init__(self, version: str, processors: Sequence[SpanProcessor] = ()) -> None:
        """Make them. Without `processors`, spans go to the collector in batches, from a thread of their own."""
        service = os.environ.get("OTEL_SERVICE_NAME", "bouncer")
        # Not the global one: the framework would send spans of its own there.
        self._provider = TracerProvider(resource=Resource.create({SERVICE_NAME: service, SERVICE_VERSION: version}))
        for processor in processors or (BatchSpanProcessor(OTLPSpanExporter()),):
            self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("bouncer", version)

    def room(self, records: Records) -> "RoomTraces":
        """Return an observer for a room."""
        return RoomTraces(self, records)

    def tell(self, record: Record) -> None:
        """Make a span of the record if it is the end of an attempt."""
        if record["event"] not in ENDINGS:
            return
        ended_at = unix(record["at"])
        attributes = {key: record[name] for name, key in SHOWN.items() if record[name] != ""}
        began_at = min(unix(record["due_at"]), ended_at)
        span = self._tracer.start_span(SPAN, attributes=attributes, start_time=_nanoseconds(began_at))
        span.add_event("due", timestamp=_nanoseconds(began_at))
        for step in record["steps"]:
            done_at = unix(step["at"]) + step["took"]
            facts = {"bouncer.took": step["took"], "bouncer.ok": step["ok"]}
            span.add_event(step["step"], facts, timestamp=_nanoseconds(done_at))
        if record["event"] == "failed":
            span.set_status(Status(StatusCode.ERROR, record["why"]))
        span.end(_nanoseconds(ended_at))

    def close(self) -> None:
        """Send what is left. Blocks for FLUSHED_WITHIN at most."""
        self._provider.force_flush(round(FLUSHED_WITHIN * 1000))


class RoomTraces:
    """An observer that makes spans of a room's evictions."""

    def __init__(self, traces: Traces, records: Records) -> None:
        self._traces, self._records = traces, records

    def notify(self, news: News) -> None:
        """Make a span of its record, if it is one."""
        if record := self._records.of(news):
            self._traces.tell(record)


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
