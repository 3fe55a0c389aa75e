"""Traces: a span per attempt at an eviction."""

from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from bouncer.decide import Outcome, Rung
from bouncer.observers import Evicted, News
from bouncer.observers.traces import Traces
from tests.dates import MIDNIGHT, records
from tests.unit.test_records import FOUND, HOUSE, SAID

STEPS = (
    Rung("looked_again", 196.0, 0.25),
    Rung("dispatch_ended", 196.25, 0.5),
    Rung("proven", 196.75, 2.25, ok=False),
    Rung("removed", 199.0, 0.25),
    Rung("proven", 199.25, 0.5),
)


def spans(*news: News) -> list[ReadableSpan]:
    """Return the spans of a room's news, which comes at 200."""
    exporter = InMemorySpanExporter()
    observer = Traces("1.2", [SimpleSpanProcessor(exporter)]).room(records("lobby", lambda: 200.0))
    for each in news:
        observer.notify(each)
    return list(exporter.get_finished_spans())


def seconds(nanoseconds: int | None) -> float:
    """Return the instant of a timestamp."""
    assert nanoseconds is not None
    return round(nanoseconds / 1e9 - MIDNIGHT, 3)


def test_an_eviction() -> None:
    """From due to its end, with the steps of the ladder as they were done."""
    (span,) = spans(Evicted(FOUND, Outcome.REMOVED, 4.0, "", STEPS, HOUSE, "enforce"))

    assert (span.name, seconds(span.start_time), seconds(span.end_time)) == ("evict", 180, 200)
    assert [(event.name, seconds(event.timestamp)) for event in span.events] == [
        ("due", 180),
        ("looked_again", 196.25),
        ("dispatch_ended", 196.75),
        ("proven", 199),
        ("removed", 199.25),
        ("proven", 199.75),
    ]
    assert [dict(event.attributes or {}).get("bouncer.ok") for event in span.events] == [
        None,
        True,
        True,
        False,
        True,
        True,
    ]
    assert span.status.is_ok or span.status.is_unset
    attributes: dict[str, Any] = dict(span.attributes or {})
    assert attributes["lk.pii.participant_identity"] == "agent-AJ_1"
    assert (attributes["bouncer.policy"], attributes["bouncer.outcome"]) == ("idle_timeout", "removed")
    assert span.resource.attributes["service.name"] == "bouncer"


def test_one_that_failed() -> None:
    """Is an error, and says why."""
    (span,) = spans(Evicted(FOUND, Outcome.DENIED, 4.0, "LiveKit denies it", STEPS[:1], HOUSE))

    assert not span.status.is_ok
    assert span.status.description == "LiveKit denies it"


def test_nothing_else_is_a_span() -> None:
    """One for each attempt: a dry run makes none."""
    endings = [news for news in SAID if isinstance(news, Evicted) and news.outcome is not Outcome.WOULD]

    assert len(spans(*SAID)) == len(endings) == len(Outcome) - 1
