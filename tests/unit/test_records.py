"""The record: one JSON object for everything that is said, which every backend renders."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from bouncer.cli.pages import RECORD_SCHEMA, RECORDS, records
from bouncer.configuration.load import load
from bouncer.configuration.model import Config, ConfigError, Layer, Problem
from bouncer.decide import Fault, Finding, HeldBy, Hold, Outcome, Rung
from bouncer.guard.watch import Standing
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
from bouncer.observers.logs import Logs
from bouncer.observers.messages import RoomMessages, message
from bouncer.observers.records import ENVELOPE, EVENTS, STANDINGS, STEPS, Records, schema, schema_text
from bouncer.policy import Rule, Verdict
from bouncer.ports import ApiError, Doing, Trouble
from bouncer.testing import agent, human, room
from policies import BUILTIN
from policies.idle_timeout import IdleTimeout
from tests.bench import Bench
from tests.dates import records as rendering
from tests.virtual import virtual

ROOT = Path(__file__).parents[2]
NOW = 200.0


def config(**bouncer: Any) -> Config:
    """Return what room metadata with this under our key puts in force."""
    return load([Layer("room metadata", json.dumps({"bouncer": bouncer}), shared=True)], BUILTIN)


WHO = agent("agent-AJ_1", "assistant", sid="PA_1", joined=100, active=120, state="listening", dispatch="AD_1")
HOUSE = room(WHO, agent("agent-AJ_2", "helper", sid="PA_2", joined=110), human("ana", joined=90), watching_since=80)
FOUND = Finding(Verdict(WHO, 180.0, "did nothing for 60 s"), Rule(policy=IdleTimeout(timeout=60)))
DOUBTED = Finding(Verdict(WHO, 180.0, "did nothing for 60 s", "may be at work"), FOUND.rule)
RUNGS = tuple(Rung(step, 190.0 + number, 0.0044, ok=step != "removed") for number, step in enumerate(STEPS))
ERROR = ConfigError([Problem("room metadata", "$.bouncer.mode", "must be right"), Problem("BOUNCER_CONFIG", "$", "x")])

SAID: list[News] = [
    Guarding(),
    *(Stands(standing, Standing.BLIND, (agent("agent-AJ_9"),)) for standing in Standing),
    Configured(config(mode="enforce")),
    Configured(config(mode="dry_run", exempt={"identity": ["a.*"]})),
    Refused(ERROR, Config()),
    Noticed(FOUND, 9.87654, HOUSE),
    Reported(FOUND, HOUSE),
    *(HeldBack(Hold(DOUBTED, by, "its name"), HOUSE) for by in HeldBy),
    *(Evicted(FOUND, outcome, 0.12345, "so", RUNGS, HOUSE) for outcome in Outcome),
    Faulted(Fault(FOUND.rule, "ZeroDivisionError: division by zero")),
    *(Failing(doing, ApiError(Trouble.UNAVAILABLE, "no answer")) for doing in Doing),
    HandedOver("agent-AJ_3"),
    Unguarded(912.3456, 2, 631.2),
]
"""Every kind of news, and every value of each enum."""


def rendered(*news: News) -> list[dict[str, Any]]:
    """Return the records of a room, without what says nothing."""
    records = rendering("lobby", lambda: NOW, room_sid="RM_1")
    return [record for each in news if (record := records.of(each))]


def closed(node: Any) -> Any:
    """Return a schema in which nothing undescribed may be said."""
    if isinstance(node, list):
        return [closed(inner) for inner in node]
    if not isinstance(node, Mapping):
        return node
    same = {key: closed(inner) for key, inner in node.items()}
    free = node.get("description", "").startswith(("All of what is in force", "The layer that", "What is different"))
    if node.get("type") == "object" and not free and "properties" in node:
        same["unevaluatedProperties"] = False
    return same


OPEN = Draft202012Validator(schema(), format_checker=Draft202012Validator.FORMAT_CHECKER)
STRICT = Draft202012Validator(closed(schema()), format_checker=Draft202012Validator.FORMAT_CHECKER)


class TestSchema:
    """What is documented is what is said."""

    def test_what_is_committed_is_current(self) -> None:
        """The schema and the page."""
        assert (ROOT / RECORD_SCHEMA).read_text(encoding="utf-8") == schema_text(), "run `make docs`"
        assert (ROOT / RECORDS).read_text(encoding="utf-8") == records(), "run `make docs`"

    def test_every_record_fits(self) -> None:
        """All kinds of news are there, and nothing is said that the schema doesn't describe."""
        said = rendered(*SAID)

        assert {record["event"] for record in said} == set(EVENTS)
        for record in said:
            STRICT.validate(record)
            _, always, more = EVENTS[record["event"]]
            assert set(record) >= {
                *ENVELOPE,
                *always,
                *(set(more) - {"changed", "outcome", "took", "why", "steps", "by"}),
            }
        assert set(STANDINGS) == {str(standing) for standing in Standing}

    @pytest.mark.parametrize(
        "wrong",
        [{"v": 2}, {"event": "evict"}, {"mode": "on"}, {"identity": None}, {"outcome": "maybe"}, {"errors": []}],
    )
    def test_what_does_not_fit(self, wrong: dict[str, Any]) -> None:
        """The test above can fail."""
        (record,) = rendered(Evicted(FOUND, Outcome.FAILED, 1.0, "so", RUNGS, HOUSE))

        assert not STRICT.is_valid(record | wrong)
        assert not OPEN.is_valid({key: value for key, value in record.items() if key != "policy"})
        assert OPEN.is_valid(record | {"new": 1}), "a later version may say more"


class TestBackends:
    """Each renders the record, and invents nothing."""

    def test_messages(self) -> None:
        """A message is a part of the record, and fits its schema."""
        for record in rendered(*SAID):
            if record["event"] in ("config_error", "notice", "evicted", "reported", "held", "failed"):
                told = message(record)
                OPEN.validate(told)
                assert told.keys() <= record.keys()
                assert "facts" not in told, "the room need not know them"
                if record["event"] != "config_error":
                    assert told.items() <= record.items()

    def test_the_log(self, caplog: pytest.LogCaptureFixture) -> None:
        """Each field of a log record has its value from the record."""
        caplog.set_level(logging.DEBUG)
        usual = logging.makeLogRecord({}).__dict__.keys() | {"message", "taskName", "lk.pii.room_name"}
        names = {
            "lk.pii.participant_identity": ("identity", "successor"),
            "lk.pii.participant_identities": ("seniors",),
        }
        for news in SAID:
            records = rendering("lobby", lambda: NOW)
            logs = Logs(records)
            caplog.clear()
            logs.notify(news)
            record = records.of(news)
            assert record is not None
            if record["event"] == "config_error":
                continue
            for written in caplog.records:
                for field, value in written.__dict__.items():
                    if field not in usual:
                        assert value in [record.get(name) for name in names.get(field, (field,))]

    @virtual
    async def test_one_rendering_serves_all(self) -> None:
        """A piece of news is rendered once for all who ask."""
        records = rendering()

        async def send(_: bytes) -> None:
            raise AssertionError

        for backend in (Logs(records), RoomMessages(send, records)):
            backend.notify(SAID[0])

        assert records.of(SAID[0]) is records.of(SAID[0])


class TestContent:
    """What a person needs to judge it."""

    def test_an_eviction(self) -> None:
        """The facts with their dates, how long it was there, and each step of the ladder."""
        (record,) = rendered(Evicted(FOUND, Outcome.REMOVED, 3.0, "", RUNGS, HOUSE, "enforce"))

        assert record == {
            "v": 1,
            "event": "evicted",
            "at": "2025-01-01T00:03:20.000Z",
            "room": "lobby",
            "room_sid": "RM_1",
            "mode": "enforce",
            "identity": "agent-AJ_1",
            "sid": "PA_1",
            "agent_name": "assistant",
            "dispatch_id": "AD_1",
            "joined_at": "2025-01-01T00:01:40.000Z",
            "present_for": 100.0,
            "policy": "idle_timeout",
            "reason": "did nothing for 60 s",
            "due_at": "2025-01-01T00:03:00.000Z",
            "due_in": -20.0,
            "doubt": "",
            "facts": {
                "joined_at": "2025-01-01T00:01:40.000Z",
                "active_at": "2025-01-01T00:02:00.000Z",
                "alive_at": record["facts"]["alive_at"],
                "state": "listening",
                "state_at": record["facts"]["state_at"],
                "watching_since": "2025-01-01T00:01:20.000Z",
                "replaced": False,
                "alongside": [
                    {"sid": "PA_2", "agent_name": "helper", "joined_at": "2025-01-01T00:01:50.000Z", "state": ""}
                ],
                "agents": 2,
                "people": 1,
            },
            "outcome": "removed",
            "took": 3.0,
            "why": "",
            "steps": [
                {"step": "looked_again", "at": "2025-01-01T00:03:10.000Z", "took": 0.004, "ok": True},
                {"step": "dispatch_ended", "at": "2025-01-01T00:03:11.000Z", "took": 0.004, "ok": True},
                {"step": "removed", "at": "2025-01-01T00:03:12.000Z", "took": 0.004, "ok": False},
                {"step": "proven", "at": "2025-01-01T00:03:13.000Z", "took": 0.004, "ok": True},
            ],
        }

    def test_the_mode_of_an_eviction_is_the_one_that_it_began_in(self) -> None:
        """Even if the configuration has changed since."""
        *_, record = rendered(
            Configured(config(mode="dry_run")), Evicted(FOUND, Outcome.VOID, 1, "", (), HOUSE, "enforce")
        )

        assert (record["event"], record["mode"]) == ("called_off", "enforce")

    def test_a_configuration_is_told_when_it_changes_or_ends_a_refusal(self) -> None:
        """Other applications write to the room's metadata too."""
        enforce, dry = config(), config(mode="dry_run")
        said = rendered(*map(Configured, (enforce, enforce, dry)), Refused(ERROR, dry), Configured(dry))

        assert [(record["event"], record.get("changed")) for record in said] == [
            ("configured", None),
            ("configured", {"$.bouncer.mode": {"from": "enforce", "to": "dry_run"}}),
            ("config_error", None),
            ("configured", {}),
        ]

    def test_guarding_is_framed_with_totals(self) -> None:
        """From the first step to the last: how long, how many, and how much earlier they ended."""
        bench = Bench(policies={"duplicates": None, "max_lifetime": {"limit": 30}})
        bench.joins("A", "assistant")
        bench.joins("B", "assistant")
        bench.until(100)
        last = bench.watch.end(100)
        records = Records("lobby", rendering(now=lambda: 100).clock)
        said = [record for news in (*bench.news, *last) if (record := records.of(news))]

        assert said[0]["event"] == "guarding"
        assert [record["event"] for record in said].count("evicted") == 2
        assert said[-1] | {"event": "unguarded"} == said[-1]
        assert (said[-1]["seconds"], said[-1]["evictions"]) == (100, 2)
        assert said[-1]["agent_seconds_ended_early"] == pytest.approx(140, abs=2)

    def test_standings(self) -> None:
        """Each is told once the room is judged under it, with what was told before."""
        bench = Bench()
        bench.until(5)
        bench.disconnects()
        bench.until(6)
        bench.reconnects()
        bench.until(10)
        records = rendering()
        told = [record for news in bench.news if (record := records.of(news)) and record["event"] == "standing"]

        assert [(record["before"], record["standing"]) for record in told] == [
            ("blind", "unsurveyed"),
            ("unsurveyed", "acting"),
            ("acting", "blind"),
            ("blind", "unsurveyed"),
            ("unsurveyed", "acting"),
        ]
