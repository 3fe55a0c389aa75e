"""The rooms as the console lists them: one row each, and which rows have changed. Pure.

A row is made again only when something has happened to its room, so a page that is open costs little. So many are made
at once that webhooks don't wait for it.
"""

from collections.abc import Callable
from itertools import islice
from typing import Any

from bouncer.configuration.model import Config
from bouncer.decide import Finding
from bouncer.ports import ApiError
from bouncer.room import Instant
from gatekeeper.doors import Door, Doors
from gatekeeper.outlook import Outlooks
from gatekeeper.records import Command, ListRooms, News
from gatekeeper.reports import Reports
from gatekeeper.standing import Standing

Row = dict[str, Any]

WAITS = frozenset({Standing.UNKNOWN, Standing.WANTED, Standing.DISPATCHED, Standing.LOST, Standing.REFUSED})
LONG = 10.0
"""Seconds without a bouncer after which a room needs attention."""
GONE = 5000
"""Closed rooms that are remembered, so that open pages learn of them; a page that has missed more reads all again."""
AT_ONCE = 100
"""Rows that are made at once, which takes some 50 ms; the next are made after what waits meanwhile."""
NAMES = 20
"""Agent names of a row, at most."""


class Board:
    """All rows, with the version in which each last changed. It is told of calls and news as an observer is."""

    def __init__(
        self,
        doors: Doors,
        outlooks: Outlooks,
        reports: Reports,
        config: Callable[[str], Config | None],
        now: Callable[[], Instant],
        wall: Callable[[], float],
    ) -> None:
        """Make it; `now` is the doors' clock, `wall` gives Unix time."""
        self._doors, self._outlooks, self._reports = doors, outlooks, reports
        self._config, self._now, self._wall = config, now, wall
        self._rows: dict[str, tuple[int, Row]] = {}
        self._gone: dict[str, int] = {}
        self._dirty: dict[str, None] = {}
        """Rooms whose rows are to be made, in that order."""
        self._waiting: set[str] = set()
        """Rooms whose rows change with time alone."""
        self._all = True
        self._first = 0
        """The last version of which closed rooms are forgotten."""
        self.version = 0

    def touch(self, sid: str) -> None:
        """Something happened to a room."""
        self._dirty[sid] = None

    def notify(self, news: News) -> None:
        """Take in news of the gatekeeper."""
        if news.sid:
            self.touch(news.sid)
        else:
            self._all = True

    def called(self, command: Command, answer: object) -> None:
        """Take in what came of a call."""
        if isinstance(command, ListRooms):
            self._dirty |= dict.fromkeys(command.sids)
            self._all = self._all or not (command.sids or isinstance(answer, ApiError))
        else:
            self.touch(command.sid)

    def since(self, version: int) -> dict[str, Any]:
        """Return what has changed since a version: `rows` by sid (None for a closed room), and the `version` it makes.

        With `whole` true the page has to forget all other rows. With `more` true there is more to ask for at once.
        """
        self._refresh()
        whole = version < self._first or version == 0
        rows: dict[str, Row | None] = {}
        if whole or version < self.version:
            rows = {sid: row for sid, (at, row) in self._rows.items() if whole or at > version}
        if not whole:
            rows |= {sid: None for sid, at in self._gone.items() if at > version}
        return {
            "version": self.version,
            "whole": whole,
            "rows": rows,
            "blind": self._doors.blind,
            "more": bool(self._dirty),
        }

    def _refresh(self) -> None:
        doors, now, version = self._doors.doors, self._now(), self.version + 1
        if self._all:
            self._dirty |= dict.fromkeys(doors)
        elif not self._dirty:
            self._dirty = dict.fromkeys(self._waiting)
        self._dirty |= dict.fromkeys(doors.keys() - self._rows.keys())
        self._all = False
        closed = self._rows.keys() - doors.keys()
        changed = bool(closed)
        for sid in closed:
            del self._rows[sid]
            self._waiting.discard(sid)
            self._gone[sid] = version
        for sid in [*islice(self._dirty, AT_ONCE)]:
            del self._dirty[sid]
            if sid in doors and self._make(doors[sid], now, version):
                changed = True
        while len(self._gone) > GONE:
            self._first = self._gone.pop(next(iter(self._gone)))
        if changed:
            self.version = version

    def _make(self, door: Door, now: Instant, version: int) -> bool:
        """Make the row of a room. Return True if it has changed."""
        row = self._row(door, now)
        if door.standing in WAITS:
            self._waiting.add(door.sid)
        else:
            self._waiting.discard(door.sid)
        known = self._rows.get(door.sid)
        if known and known[1] == row:
            return False
        self._rows[door.sid] = version, row
        self._gone.pop(door.sid, None)
        return True

    def _row(self, door: Door, now: Instant) -> Row:
        config, report = self._config(door.sid), self._reports.of(door.sid)
        glance = self._outlooks.of(door.sid, now).glance(now)
        waits = door.standing in WAITS and now - min(door.wanted_at, now) > LONG
        refused = report.refused or ("" if config else "its metadata can't be read")
        attention = {
            "unguarded": "no bouncer guards it" if waits else "",
            "refused": f"configuration refused: {refused}" if refused else "",
            "failing": f"failing: {report.trouble}" if report.trouble else "",
            "held": f"held back: {', '.join(sorted(set(report.held.values())))}" if report.held else "",
        }
        return {
            "name": door.name,
            "people": glance.people,
            "agents": glance.agents,
            "names": list(glance.names[:NAMES]),
            "standing": str(door.standing),
            "bouncer": report.standing if door.standing is Standing.GUARDED else "",
            "mode": config.mode if config else report.mode,
            "policies": [rule.id for rule in config.rules] if config else [],
            "evicted": max(report.evicted, glance.evicted),
            "attention": {word: what for word, what in attention.items() if what},
            "next": self._next(glance.next, now),
        }

    def _next(self, finding: Finding | None, now: Instant) -> Row | None:
        if finding is None:
            return None
        # To 0.1 s: the two clocks are read one after the other, and the row must not change by that.
        due = round((self._wall() + finding.verdict.due - now) * 10) * 100
        return {"policy": finding.rule.id, "who": finding.participant.agent_name, "due": due}
