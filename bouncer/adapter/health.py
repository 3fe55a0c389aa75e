"""What a worker tells about itself over HTTP: whether the server knows it, and how its rooms are."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from bouncer.guard.watch import Standing

UNREGISTERED_FOR = 30.0
"""Seconds for which a worker that has lost its server still counts as well."""


@dataclass(eq=False)
class RoomStatus:
    """How one guarded room is, as its own thread last noted it."""

    standing: Standing = Standing.BLIND


@dataclass
class Health:
    """The health of a worker and its rooms, each of which has a thread of its own."""

    now: Callable[[], float] = time.monotonic
    registered_at: float | None = None
    """When the server was last known to know this worker; None if it never did."""
    called_at: float | None = None
    """When the server's API last answered, in Unix time; None if it never did."""
    draining: bool = False
    _rooms: set[RoomStatus] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def guard(self, room: RoomStatus) -> None:
        """Count a room."""
        with self._lock:
            self._rooms.add(room)

    def leave(self, room: RoomStatus) -> None:
        """Count it no more."""
        with self._lock:
            self._rooms.discard(room)

    def registered(self) -> None:
        """Take in that the server knows this worker now."""
        self.registered_at = self.now()

    def answered(self) -> None:
        """Take in that the server's API has just answered."""
        self.called_at = time.time()

    @property
    def trouble(self) -> str:
        """Return why this worker isn't well, or an empty text if it is."""
        if self.registered_at is None:
            return "not registered with the LiveKit server yet"
        gone = self.now() - self.registered_at
        return f"not registered with the LiveKit server for {gone:.0f} s" if gone > UNREGISTERED_FOR else ""

    def facts(self) -> dict[str, Any]:
        """Return what `/worker` adds to the framework's facts."""
        with self._lock:
            counted = Counter(room.standing for room in self._rooms)
        called_at = self.called_at and datetime.fromtimestamp(self.called_at, UTC).isoformat(timespec="seconds")
        return {
            "rooms_guarded": counted.total(),
            **{f"rooms_{standing}": counted[standing] for standing in Standing if standing is not Standing.CLOSED},
            "registered": not self.trouble,
            "draining": self.draining,
            "last_successful_call": called_at,
        }

    def routes(self, worker: Callable[[], dict[str, Any]]) -> list[web.RouteDef]:
        """Return the routes to serve; `worker` gives the framework's facts.

        `/` is 200 while the server knows this worker, `/ready` while it also takes rooms, `/live` while it runs.
        """

        async def health(_: web.Request) -> web.Response:
            return _answer(self.trouble)

        async def ready(_: web.Request) -> web.Response:
            return _answer(self.trouble or ("draining" if self.draining else ""))

        async def live(_: web.Request) -> web.Response:
            return _answer("")

        async def facts(_: web.Request) -> web.Response:
            return web.json_response(worker() | self.facts())

        return [web.get("/", health), web.get("/worker", facts), web.get("/ready", ready), web.get("/live", live)]


def _answer(trouble: str) -> web.Response:
    return web.Response(status=503, text=trouble) if trouble else web.Response(text="OK")
