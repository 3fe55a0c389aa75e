"""A guarded room on a bench, which a console asks as it would ask a bouncer through LiveKit."""

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

from bouncer.dates import rfc3339
from bouncer.guard.outside import Lists
from bouncer.guard.view import snapshot, view
from bouncer.observers.recent import Recent
from bouncer.observers.records import Records
from tests.bench import Bench


class Guarded:
    """Answers for the bouncer of one room. What happens there is told once it is `told`."""

    def __init__(self, bench: Bench, name: str = "lobby", sid: str = "RM_1") -> None:
        self.bench, self.name, self.sid = bench, name, sid
        self._epoch = time.time() - bench.now
        self._recent = Recent(Records(name, self, sid))
        self._heard = 0
        self._told = asyncio.Condition()
        self.looking = 0
        """Pages that look at it."""

    def now(self) -> float:
        """Return the instant on the bench."""
        return self.bench.now

    def dated(self, instant: float) -> str:
        """Return the date of an instant: the bench began when this was made."""
        return rfc3339(self._epoch + instant)

    @property
    def view(self) -> dict[str, Any]:
        """The room as its bouncer sees it now."""
        for news in self.bench.news[self._heard :]:
            self._recent.notify(news)
        self._heard = len(self.bench.news)
        seen = snapshot(self.bench.watch, self.bench.now, name=self.name, sid=self.sid)
        return view(seen, self.dated) | {"recent": self._recent.latest()}

    async def tell(self) -> None:
        """Tell those who look of what has happened."""
        async with self._told:
            self._told.notify_all()

    async def views(self, _name: str, _sid: str, _bouncer: str) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        """Yield the room at first, and each time that it is told."""
        self.looking += 1
        try:
            while True:
                yield self.dated(self.bench.now), self.view
                async with self._told:
                    await self._told.wait()
        finally:
            self.looking -= 1

    async def lists(self, _name: str, _sid: str) -> tuple[Lists, dict[str, str]]:
        """Return what a server would list of it."""
        moved = self._epoch
        infos = tuple(replace(info, joined_at=info.joined_at + moved) for info in self.bench.here.values())
        lists = Lists(
            name=self.name,
            sid=self.sid,
            metadata="",
            infos=infos,
            jobs=self.bench.jobs,
            at=moved + self.bench.now,
        )
        return lists, {}
