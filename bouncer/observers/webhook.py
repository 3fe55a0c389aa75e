"""The webhook: records as JSON to BOUNCER_WEBHOOK_URL, signed as LiveKit signs its webhooks.

One sender serves all rooms of a worker, on the worker's own loop. A room only hands its records over, which takes a few
microseconds and waits for nothing: so no eviction is ever delayed.
"""

import asyncio
import json
import logging
import math
import random
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from difflib import get_close_matches
from http import HTTPStatus
from typing import Protocol

import aiohttp

from bouncer.configuration.settings import SettingsError
from bouncer.observers import News
from bouncer.observers.log_events import LogEvent
from bouncer.observers.outbox import Fate, Outbox, Parcel
from bouncer.observers.records import EVENTS, Record, Records

logger = logging.getLogger("bouncer")

CONTENT_TYPE = "application/webhook+json"
"""LiveKit's own."""
ANSWER_WITHIN = 5.0
"""Seconds for the receiver to answer."""
AGAIN = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
"""Answers below 500 after which a record is sent again."""
DRAINED_WITHIN = 5.0
"""Seconds that a worker which ends waits for its last records to arrive."""

Sign = Callable[[bytes], str]
"""Gives the value of the Authorization header for a body."""


class Counting(Protocol):
    """Counts something, as Prometheus's counters do."""

    def inc(self) -> None:
        """Count one more."""


def chosen(names: Sequence[str]) -> frozenset[str]:
    """Return the events that BOUNCER_WEBHOOK_EVENTS names; all of them if it names none.

    Raises: SettingsError for one that there isn't.
    """
    problems = []
    for name in names:
        if name not in EVENTS:
            nearest = get_close_matches(name, EVENTS, n=1)
            hint = f"did you mean “{nearest[0]}”?" if nearest else f"there are {', '.join(EVENTS)}"
            problems.append(f"BOUNCER_WEBHOOK_EVENTS: there is no event “{name[:40]}”; {hint}")
    if problems:
        raise SettingsError("\n".join(problems))
    return frozenset(names or EVENTS)


class Webhook:
    """Sends the records of all rooms. `run` it on one loop; hand it records from any thread."""

    def __init__(
        self,
        url: str,
        events: frozenset[str],
        sign: Sign,
        *,
        sent: Counting | None = None,
        lost: Counting | None = None,
    ) -> None:
        """Make a sender for these events; `sent` and `lost` count records."""
        self._url, self._events, self._sign = url, events, sign
        self._sent, self._lost = sent, lost
        self._outbox = Outbox()
        self._lock = threading.Lock()
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sending: set[asyncio.Task[None]] = set()
        self._failing = self._losing = False

    def room(self, records: Records) -> "RoomWebhook":
        """Return an observer for a room."""
        return RoomWebhook(self, records)

    def tell(self, record: Record) -> None:
        """Take in a record. From any thread; never waits."""
        if record["event"] not in self._events:
            return
        with self._lock:
            kept = self._outbox.add(record["room"], record | {"id": f"EV_{uuid.uuid4().hex}"}, time.monotonic())
        if not kept:
            self._count_lost("too many records wait")
        if self._loop:
            with suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._changed.set)

    async def run(self) -> None:
        """Send records until cancelled."""
        self._loop = asyncio.get_running_loop()
        timeout = aiohttp.ClientTimeout(total=ANSWER_WITHIN)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as session:
            try:
                while True:
                    self._changed.clear()
                    with self._lock:
                        parcels = list(self._outbox.take(time.monotonic()))
                    for parcel in parcels:
                        task = self._loop.create_task(self._deliver(session, parcel))
                        self._sending.add(task)
                        task.add_done_callback(self._sending.discard)
                    with self._lock:
                        wake_in = self._outbox.wake_at() - time.monotonic()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(None if wake_in == math.inf else max(0.0, wake_in)):
                            await self._changed.wait()
            finally:
                for task in self._sending:
                    task.cancel()
                await asyncio.gather(*self._sending, return_exceptions=True)

    async def drain(self, within: float = DRAINED_WITHIN) -> None:
        """Wait that many seconds at most for all records to be delivered. What is left then is lost, and logged."""
        ends_at = time.monotonic() + within
        while self._outbox.waiting and time.monotonic() < ends_at:
            with self._lock:
                self._outbox.hurry()
            self._changed.set()
            await asyncio.sleep(0.1)
        if self._outbox.waiting:
            logger.warning(LogEvent.WEBHOOK_LOSING, extra={"why": "the worker ends", "records": self._outbox.waiting})

    async def _deliver(self, session: aiohttp.ClientSession, parcel: Parcel) -> None:
        """Make one attempt."""
        fate, why = Fate.FAILED, "cut off"
        try:
            body = json.dumps(parcel.record | {"num_dropped": parcel.dropped}, ensure_ascii=False)
            fate, why = await self._post(session, body.encode(errors="replace"))
        except Exception as error:  # noqa: BLE001 - whatever it is, the sender goes on
            fate, why = Fate.REFUSED, f"{type(error).__name__}: {error}"
        finally:
            with self._lock:
                kept = self._outbox.answered(parcel, fate, time.monotonic(), random.random())  # noqa: S311 - spreads load
            self._changed.set()
        if fate is Fate.ARRIVED:
            self._failing = self._losing = False
            if self._sent:
                self._sent.inc()
        elif not kept:
            self._count_lost(why)
        elif not self._failing:
            self._failing = True
            logger.warning(LogEvent.WEBHOOK_FAILING, extra={"error": why})

    async def _post(self, session: aiohttp.ClientSession, body: bytes) -> tuple[Fate, str]:
        # Signed at each attempt: a signature is valid for minutes.
        headers = {"Content-Type": CONTENT_TYPE, "Authorization": self._sign(body)}
        try:
            async with session.post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # Not its text, which may have the address, and with it a secret.
            return Fate.FAILED, type(error).__name__
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return Fate.ARRIVED, ""
        again = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in AGAIN
        return (Fate.FAILED if again else Fate.REFUSED), f"the receiver answers {status}"

    def _count_lost(self, why: str) -> None:
        if self._lost:
            self._lost.inc()
        if not self._losing:
            self._losing = True
            logger.warning(LogEvent.WEBHOOK_LOSING, extra={"why": why})


class RoomWebhook:
    """An observer that hands the records of a room to the webhook."""

    def __init__(self, webhook: Webhook, records: Records) -> None:
        self._webhook, self._records = webhook, records

    def notify(self, news: News) -> None:
        """Hand its record over."""
        if record := self._records.of(news):
            self._webhook.tell(record)
