"""What bouncers have said, in a database: SQLite, or PostgreSQL where BOUNCER_DATABASE_URL says so.

A record is kept once, whenever and however often it arrives. The schema upgrades itself when the database is opened.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from bouncer.dates import rfc3339, unix

DEFAULT_URL = "sqlite:///bouncer.db"
DAY = 86400
TOP = 20
"""Names in a ranking."""
LOCK = 0x626F756E
"""The number of the advisory lock under which PostgreSQL's schema is upgraded."""
SHOWN = ("evicted", "reported", "held", "failed")
"""The events that are counted for each day."""
FAILURES = ("failed", "fault", "trouble", "config_error")
COLUMNS = ("at", "event", "room", "room_sid", "policy", "agent_name", "identity", "sid", "mode", "outcome", "reason")
"""What an export in CSV has; one in JSON has the whole records."""

_tables = sa.MetaData()
VERSIONS = sa.Table("bouncer_schema", _tables, sa.Column("version", sa.Integer, nullable=False))
RECORDS = sa.Table(
    "bouncer_records",
    _tables,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("event", sa.String(32), nullable=False),
    sa.Column("mode", sa.String(32), nullable=False),
    sa.Column("room", sa.Text, nullable=False),
    sa.Column("room_sid", sa.String(64), nullable=False),
    sa.Column("policy", sa.String(200), nullable=False),
    sa.Column("agent_name", sa.Text, nullable=False),
    sa.Column("seconds_saved", sa.Double, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Index("bouncer_records_at", "at"),
)


def _create(connection: sa.Connection) -> None:
    RECORDS.create(connection)


MIGRATIONS: Sequence[Callable[[sa.Connection], None]] = (_create,)
"""Each brings the schema from its place in this list to the next. None is ever changed once it was released."""


class HistoryError(Exception):
    """The database can't be used; the text says why, without the password."""


@dataclass(frozen=True, slots=True)
class Span:
    """Records from one instant to before another, in Unix time."""

    begin: float
    end: float


class History:
    """The database. All methods block; call them from a thread."""

    def __init__(self, url: str = DEFAULT_URL) -> None:
        """Open it, and upgrade its schema. Raises: HistoryError."""
        try:
            parsed = sa.make_url(url)
            if parsed.get_backend_name() == "postgresql":
                parsed = parsed.set(drivername=f"postgresql+{psycopg.__name__}")
            elif parsed.get_backend_name() != "sqlite":
                raise HistoryError(f"{parsed.get_backend_name()} is not supported: sqlite or postgresql")
            self._engine = sa.create_engine(parsed, pool_pre_ping=True)
        except sa.exc.SQLAlchemyError as error:
            raise HistoryError(str(error)) from None
        try:
            self._upgrade()
        except (sa.exc.SQLAlchemyError, HistoryError) as error:
            self._engine.dispose()
            raise HistoryError(_said(error)) from None

    def close(self) -> None:
        """Let go of it."""
        self._engine.dispose()

    def add(self, records: Sequence[Mapping[str, Any]], now: float) -> list[bool]:
        """Keep records that are not kept yet. Return for each of them whether it was new. Raises: HistoryError."""
        rows = [_row(record, now) for record in records]
        try:
            with self._engine.begin() as connection:
                return [self._insert(connection, row) for row in rows]
        except sa.exc.SQLAlchemyError as error:
            raise HistoryError(_said(error)) from None

    def forget(self, before: float) -> int:
        """Delete the records from before that instant. Return how many there were."""
        with self._engine.begin() as connection:
            return connection.execute(sa.delete(RECORDS).where(RECORDS.c.at < before)).rowcount

    def summary(self, span: Span) -> dict[str, Any]:
        """Return the figures that the console shows.

        `days`: for each day with records, in UTC, how many of each of SHOWN; `policies`, `agents`: the most evicted, as
        name and number; `failures`: kind and number; `minutes_saved`: agent minutes that evictions ended early.
        """
        within = (RECORDS.c.at >= span.begin) & (RECORDS.c.at < span.end)
        evicted = within & (RECORDS.c.event == "evicted")
        day = sa.cast(sa.func.floor(RECORDS.c.at / DAY), sa.Integer)
        number = sa.func.count()
        with self._engine.connect() as connection:

            def ranking(what: sa.ColumnElement[str], where: sa.ColumnElement[bool]) -> list[tuple[str, int]]:
                query = sa.select(what, number).where(where).group_by(what).order_by(number.desc(), what).limit(TOP)
                return [(name, count) for name, count in connection.execute(query)]

            days: dict[int, dict[str, int]] = {}
            counted = sa.select(day, RECORDS.c.event, number).where(within & RECORDS.c.event.in_(SHOWN))
            for at, event, count in connection.execute(counted.group_by(day, RECORDS.c.event).order_by(day)):
                days.setdefault(at, {})[event] = count
            saved = connection.scalar(sa.select(sa.func.sum(RECORDS.c.seconds_saved)).where(within))
            return {
                "days": [{"day": rfc3339(at * DAY)[:10], **counts} for at, counts in days.items()],
                "policies": ranking(RECORDS.c.policy, evicted),
                "agents": ranking(RECORDS.c.agent_name, evicted),
                "failures": ranking(RECORDS.c.event, within & RECORDS.c.event.in_(FAILURES)),
                "minutes_saved": round((saved or 0.0) / 60, 1),
                "records": connection.scalar(sa.select(number).select_from(RECORDS).where(within)),
            }

    def records(self, span: Span) -> Iterator[dict[str, Any]]:
        """Yield the records of a span, oldest first."""
        within = (RECORDS.c.at >= span.begin) & (RECORDS.c.at < span.end)
        query = sa.select(RECORDS.c.body).where(within).order_by(RECORDS.c.at, RECORDS.c.id)
        with self._engine.connect().execution_options(yield_per=500) as connection:
            for (body,) in connection.execute(query):
                yield json.loads(body)

    def _insert(self, connection: sa.Connection, row: Mapping[str, Any]) -> bool:
        insert = postgresql.insert if self._engine.dialect.name == "postgresql" else sqlite.insert
        inserted = insert(RECORDS).values(row).on_conflict_do_nothing().returning(RECORDS.c.id)
        return connection.execute(inserted).first() is not None

    def _upgrade(self) -> None:
        with self._engine.begin() as connection:
            if self._engine.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
            else:
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            VERSIONS.create(connection, checkfirst=True)
            version = connection.scalar(sa.select(VERSIONS.c.version)) or 0
            if version > len(MIGRATIONS):
                raise HistoryError(f"its schema is version {version}, newer than this gatekeeper's {len(MIGRATIONS)}")
            for migrate in MIGRATIONS[version:]:
                migrate(connection)
            connection.execute(sa.delete(VERSIONS))
            connection.execute(sa.insert(VERSIONS).values(version=len(MIGRATIONS)))


def _said(error: Exception) -> str:
    """Return what a driver said, which never has the password."""
    return f"{type(error).__name__}: {getattr(error, 'orig', None) or error}"[:300]


def _row(record: Mapping[str, Any], now: float) -> dict[str, Any]:
    saved = record.get("agent_seconds_ended_early")
    row = {key: _text(record.get(key)) for key in ("event", "mode", "room", "room_sid", "policy", "agent_name")}
    return {
        "id": _text(record.get("id"))[:64],
        "at": _date(record.get("at"), now),
        **row,
        "event": row["event"][:32],
        "mode": row["mode"][:32],
        "room_sid": row["room_sid"][:64],
        "policy": row["policy"][:200],
        "seconds_saved": float(saved) if isinstance(saved, int | float) and 0 <= saved < 1e9 else 0.0,  # noqa: PLR2004
        "body": json.dumps(record, ensure_ascii=True),
    }


def _text(value: object) -> str:
    """Return a text as a database takes it: without NUL, and without halves of characters."""
    text = value if isinstance(value, str) else ""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def _date(value: object, now: float) -> float:
    """Return a record's date; now if it has none, or one that is still to come."""
    try:
        return min(unix(value), now) if isinstance(value, str) else now
    except (ValueError, OverflowError):
        return now


def cells(records: Iterable[Mapping[str, Any]]) -> Iterator[list[str]]:
    """Yield the rows of a table for spreadsheets: first the headings. No cell can be taken for a formula."""
    yield [*COLUMNS]
    for record in records:
        yield [_cell(record.get(column)) for column in COLUMNS]


def _cell(value: object) -> str:
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
