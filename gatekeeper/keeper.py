"""Puts records into the history, many in one transaction, without holding up the event loop."""

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from gatekeeper.history import DAY, History, HistoryError, Span
from gatekeeper.webhooks import Seen

logger = logging.getLogger("bouncer.gatekeeper")

TOGETHER = 500
"""Records in one transaction, at most."""
WAITING = 10_000
"""Records that wait for the database, at most; a bouncer sends further ones again."""
FORGETS_EVERY = 3600.0
"""Seconds between two deletions of what is too old."""


class Keeper:
    """Keeps records. Without a history it only tells whether a record is new, as far as it remembers."""

    def __init__(self, history: History | None, days: float, wall: Callable[[], float]) -> None:
        """Make it; records older than so many days are deleted. `wall` gives Unix time."""
        self._history, self._days, self._wall = history, days, wall
        self._queue: asyncio.Queue[tuple[Mapping[str, Any], asyncio.Future[bool]]] = asyncio.Queue(WAITING)
        self._seen = Seen()

    @property
    def on(self) -> bool:
        """True if there is a history."""
        return self._history is not None

    async def keep(self, record: Mapping[str, Any]) -> bool:
        """Keep a record. Return True if it is new. Raises: HistoryError; the record is to be sent again."""
        if self._history is None:
            return self._seen.first(key(record), self._wall())
        kept: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait(({**record, "id": key(record)}, kept))
        except asyncio.QueueFull:
            raise HistoryError("too many records wait for the database") from None
        return await kept

    async def summary(self, days: float) -> dict[str, Any]:
        """Return the figures of the last days. Raises: HistoryError."""
        if self._history is None:
            raise HistoryError("there is no history")
        return await asyncio.to_thread(self._history.summary, self.span(days))

    def span(self, days: float) -> Span:
        """Return the last days."""
        now = self._wall()
        return Span(now - days * DAY, now + 1)

    @property
    def history(self) -> History | None:
        """The database."""
        return self._history

    async def run(self) -> None:
        """Carry records to the database until cancelled."""
        if self._history:
            await asyncio.gather(self._keep(self._history), self._forget(self._history))

    async def _keep(self, history: History) -> None:
        while True:
            waiting = [await self._queue.get()]
            while len(waiting) < TOGETHER and not self._queue.empty():
                waiting.append(self._queue.get_nowait())
            try:
                new = await asyncio.to_thread(history.add, [record for record, _ in waiting], self._wall())
            except Exception as error:
                logger.exception("history not written", exc_info=not isinstance(error, HistoryError))
                for _, kept in waiting:
                    if not kept.done():
                        kept.set_exception(HistoryError(str(error)))
                continue
            for (_, kept), is_new in zip(waiting, new, strict=True):
                if not kept.done():
                    kept.set_result(is_new)

    async def _forget(self, history: History) -> None:
        while True:
            try:
                await asyncio.to_thread(history.forget, self._wall() - self._days * DAY)
            except Exception:  # a database that is away now is back in an hour
                logger.exception("history not cleaned")
            await asyncio.sleep(FORGETS_EVERY)


def key(record: Mapping[str, Any]) -> str:
    """Return what names a record: its id, or a digest of all of it."""
    named = record.get("id")
    if isinstance(named, str) and named:
        return named[:64]
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
