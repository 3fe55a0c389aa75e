"""The history, on both databases: what is kept, counted, exported and forgotten."""

import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import sqlalchemy as sa

from bouncer.dates import rfc3339
from devserver.debian import find_or_install
from devserver.process import free_port
from gatekeeper import history
from gatekeeper.history import DAY, History, HistoryError, Span, cells

pytestmark = [pytest.mark.xdist_group("history"), pytest.mark.timeout(300)]
NOW = 20_000.5 * DAY
ALL = Span(0, NOW + 1)


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """Debian's PostgreSQL, in a folder and on a port of its own that go with the tests."""
    find_or_install("pg_ctlcluster", "postgresql", print)
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    # It refuses to run as root.
    as_no_root = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    port = free_port()
    with TemporaryDirectory(prefix="livekit-bouncer-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o777)
        data = f"{folder}/data"
        initdb = [*as_no_root, str(programs / "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"]
        subprocess.run(initdb, check=True, capture_output=True, cwd=folder)
        settings = ["-p", str(port), "-k", folder, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        with subprocess.Popen(
            [*as_no_root, str(programs / "postgres"), "-D", data, *settings], cwd=folder, stderr=subprocess.DEVNULL
        ) as process:
            try:
                url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
                await_answer(url)
                yield url
            finally:
                process.terminate()


def await_answer(url: str) -> None:
    """Wait until a database can be reached."""
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    for _ in range(600):
        try:
            engine.connect().close()
        except sa.exc.OperationalError:
            time.sleep(0.1)
        else:
            engine.dispose()
            return
    raise AssertionError("PostgreSQL does not answer within a minute")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/history.db"
    url: str = request.getfixturevalue("postgres")
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS bouncer_records, bouncer_schema")
    engine.dispose()
    return url


def record(number: int, event: str = "evicted", day: int = 20_000, **facts: Any) -> dict[str, Any]:
    """Return a record of that day."""
    at = rfc3339(day * DAY + number)
    return {"v": 1, "id": f"EV_{number}", "event": event, "at": at, "room": "lobby", "room_sid": "RM_1"} | facts


def test_a_record_is_kept_once(url: str) -> None:
    """However late and often it comes, also at the same time, and after a restart."""
    kept = History(url)
    assert kept.add([record(1), record(2), record(1)], NOW) == [True, True, False]
    with ThreadPoolExecutor(4) as threads:
        at_once = list(threads.map(lambda _: kept.add([record(3)], NOW), range(4)))
    assert sorted(new for (new,) in at_once) == [False, False, False, True]
    kept.close()
    kept = History(url)
    assert kept.add([record(2, day=19_000)], NOW) == [False]
    assert [each["id"] for each in kept.records(ALL)] == ["EV_1", "EV_2", "EV_3"]
    kept.close()


def test_what_it_counts(url: str) -> None:
    """Evictions by day, policy and agent name; failures; agent minutes saved. Only of the span that is asked for."""
    kept = History(url)
    kept.add(
        [
            record(1, policy="duplicates", agent_name="x"),
            record(2, policy="duplicates", agent_name="y"),
            record(3, policy="idle_timeout", agent_name="x", day=19_999),
            record(4, "held", policy="duplicates", agent_name="z"),
            record(5, "failed"),
            record(6, "trouble"),
            record(7, "trouble"),
            record(8, "unguarded", agent_seconds_ended_early=90.0),
            record(9, "unguarded", agent_seconds_ended_early="many"),
            record(10, policy="old", day=10_000),
        ],
        NOW,
    )

    found = kept.summary(Span(19_990 * DAY, NOW))

    assert found == {
        "days": [
            {"day": "2024-10-03", "evicted": 1},
            {"day": "2024-10-04", "evicted": 2, "failed": 1, "held": 1},
        ],
        "policies": [("duplicates", 2), ("idle_timeout", 1)],
        "agents": [("x", 2), ("y", 1)],
        "failures": [("trouble", 2), ("failed", 1)],
        "minutes_saved": 1.5,
        "records": 9,
    }
    assert kept.forget(19_990 * DAY) == 1
    assert kept.summary(ALL)["records"] == 9
    kept.close()


@pytest.mark.parametrize(
    "facts",
    [
        {"room": "a\0b", "agent_name": "\ud800", "policy": "x" * 1000},
        {"at": "tomorrow", "room": None, "event": "x" * 100},
        {"at": "9999-12-31T23:59:59Z", "room_sid": "y" * 500, "mode": ["enforce"]},
        {"agent_seconds_ended_early": float("nan")},
    ],
)
def test_odd_records_are_kept_too(url: str, facts: dict[str, Any]) -> None:
    """They come from our own bouncers, but names are anyone's. A date that is still to come counts as now."""
    kept = History(url)

    assert kept.add([record(1, **facts)], NOW) == [True]
    assert kept.summary(ALL)["records"] == 1
    assert [each["id"] for each in kept.records(ALL)] == ["EV_1"]
    kept.close()


def test_the_schema_upgrades_itself(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what is in it. A database of a later version is left alone, and the error says so."""
    kept = History(url)
    kept.add([record(1)], NOW)
    kept.close()
    added = sa.text("ALTER TABLE bouncer_records ADD COLUMN later INTEGER")
    more = (*history.MIGRATIONS, lambda connection: connection.execute(added))
    with monkeypatch.context() as later:
        later.setattr(history, "MIGRATIONS", more)
        for _ in range(2):
            kept = History(url)
            assert kept.summary(ALL)["records"] == 1
            kept.close()

    with pytest.raises(HistoryError, match="version 2, newer"):
        History(url)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("mysql://u:secret@h/d", "not supported"),
        ("nonsense", "Could not parse"),
        ("sqlite:////nowhere/at/all.db", "unable to open"),
        ("postgresql://u:secret@127.0.0.1:1/d", "refused"),
    ],
)
def test_a_database_that_cannot_be_used_is_named_without_its_password(url: str, why: str) -> None:
    """So that the error may be logged."""
    with pytest.raises(HistoryError, match=why) as refused:
        History(url)
    assert "secret" not in str(refused.value)


def test_no_cell_of_an_export_is_a_formula() -> None:
    """Names come from anyone, and spreadsheets run what begins with these."""
    names = ["=1+1", "+1", "-1", "@x", "\tx", "plain", "ä"]
    table = list(cells(record(n, room=name) for n, name in enumerate(names)))

    assert table[0][:3] == ["at", "event", "room"]
    assert [row[2] for row in table[1:]] == ["'=1+1", "'+1", "'-1", "'@x", "'\tx", "plain", "ä"]
