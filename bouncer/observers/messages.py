"""Messages to the room: server-sent data packets on the topic `bouncer`, each a JSON object with an `event`."""

import asyncio
import json
import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress

from bouncer.configuration.model import ROOM
from bouncer.guard.schedule import Backoff
from bouncer.observers import Configured, News
from bouncer.observers.log_events import LogEvent
from bouncer.observers.records import ENVELOPE, EVENTS, Record, Records
from bouncer.ports import ApiError, Trouble
from bouncer.room import Instant

logger = logging.getLogger("bouncer")

MAX_WAITING = 256
"""Messages that wait to be sent; when the API can't take them, further ones are dropped."""
PER_MINUTE = 60
"""Messages that a room is sent a minute at most."""
REPEATS = Backoff(1.0, 60.0)
"""Pauses between messages about one participant and one rule, or about the configuration. The last word is sent: a
message that waits is replaced by the next of its kind. Bad metadata that flipped 140 times a second caused 2,054."""
FORGOTTEN = 120.0
"""Seconds after which a message is no repetition any more."""
NOTEWORTHY = 0.1
"""Seconds of waiting from which on what a message says of the time that is left is corrected."""
TRY_AGAIN = 1.0
"""Seconds to wait when the worker has no API call left."""
MAX_TEXT = 500
"""Bytes of any one text in a message: with its ten problems a data packet has to stay below 15 KiB."""
MAX_PROBLEMS = 10
ELSEWHERE = "more is wrong outside of the room's metadata: the worker's log has it"

MINUTE = 60.0

About = tuple[str, str, str]
"""What a message is about: the event, the identity, the rule."""

TOLD = ("config_error", "notice", "evicted", "reported", "held", "failed")
"""The events that the room is told of."""
EXTRA = ("doubt", "due_in", "held_by", "outcome")
"""What it is told besides the fields that an event always has. The facts stay with the operator."""


class RoomMessages:
    """Tells the room what is done and why, unless its configuration says `"announce": false`."""

    def __init__(
        self,
        send: Callable[[bytes], Awaitable[None]],
        records: Records,
        *,
        announce: bool = True,
        sign: Callable[[bytes], str] | None = None,
    ) -> None:
        """Make an observer; what it is told goes out, by `RoomApi.send_data`, while `run` runs.

        `announce` counts until a configuration of the room is in force. `sign` makes a message's `sig`.
        """
        self._send_data = send
        self._records = records
        self._announce = announce
        self._stands_by = False
        self._sign = sign
        self._waiting: dict[About, tuple[Record, Instant]] = {}
        """What is to be sent, in that order, and when it was told."""
        self._arrived = asyncio.Event()
        self._sent: deque[Instant] = deque(maxlen=PER_MINUTE)
        self._repeated: OrderedDict[About, tuple[int, Instant]] = OrderedDict()
        """How often in a row something was sent, and when last."""

    def notify(self, news: News) -> None:
        """Queue a message, if the room is to know of it."""
        if isinstance(news, Configured):
            self._announce = news.config.announce
        record = self._records.of(news)
        if record is None:
            return
        if record["event"] == "standing" and record["standing"] in ("acting", "standing_by"):
            self._stands_by = record["standing"] == "standing_by"
        told = record["event"] in TOLD and self._announce and not self._stands_by
        if told:
            self._queue(message(record))

    async def run(self) -> None:
        """Send what is queued, for ever. A message that can't be sent is lost: the log has it too."""
        now = asyncio.get_running_loop().time
        while True:
            kind, wait = self._next(now())
            if kind is None or wait > 0:
                self._arrived.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(None if kind is None else wait):
                        await self._arrived.wait()
                continue
            message, told_at = self._waiting.pop(kind)
            waited = now() - told_at
            if waited > NOTEWORTHY and "due_in" in message:
                message |= {"due_in": round(message["due_in"] - waited, 3)}
                told_at = now()
            if message["event"] == "notice" and message["due_in"] <= 0:
                continue
            try:
                await self._send_data(self._packet(message))
            except ApiError as error:
                if error.trouble is Trouble.THROTTLED:
                    # It keeps its turn, unless there is a later word by now.
                    self._waiting = {kind: (message, told_at)} | self._waiting
                    await asyncio.sleep(TRY_AGAIN)
                logger.debug(LogEvent.MESSAGE_NOT_SENT, extra={"event": message["event"], "error": str(error)})
            except Exception:
                logger.exception(LogEvent.MESSAGE_NOT_SENT, extra={"event": message["event"]})
            else:
                self._note_sent(kind, now())

    def _queue(self, message: Record) -> None:
        kind = (message["event"], message.get("identity", ""), message.get("policy", ""))
        if kind in self._waiting or len(self._waiting) < MAX_WAITING:
            self._waiting[kind] = (message, asyncio.get_running_loop().time())
            self._arrived.set()

    def _next(self, now: Instant) -> tuple[About | None, float]:
        """Return what is to be sent next, and in how many seconds."""
        full = len(self._sent) == PER_MINUTE
        free_in = self._sent[0] + MINUTE - now if full else 0.0
        waits = ((max(free_in, self._repeat_at(kind) - now), kind) for kind in self._waiting)
        wait, kind = min(waits, key=lambda pair: max(0.0, pair[0]), default=(0.0, None))
        return kind, wait

    def _repeat_at(self, kind: About) -> Instant:
        times, at = self._repeated.get(kind, (0, 0.0))
        return at + REPEATS.pause(times, chance=0.5) if times else at

    def _note_sent(self, kind: About, now: Instant) -> None:
        self._sent.append(now)
        times, at = self._repeated.pop(kind, (0, now))
        self._repeated[kind] = (times + 1 if now - at < FORGOTTEN else 1, now)
        if len(self._repeated) > MAX_WAITING:
            self._repeated.popitem(last=False)

    def _packet(self, message: Record) -> bytes:
        """Return a message as it is sent; its `sig` comes last, and is over the bytes that it has without."""
        packet = json.dumps(message, ensure_ascii=False).encode(errors="replace")
        return packet if self._sign is None else b'%s, "sig": "%s"}' % (packet[:-1], self._sign(packet).encode())


def message(record: Record) -> Record:
    """Return what the room is told of a record: a part of it, with its texts cut."""
    if record["event"] == "config_error":
        # Errors elsewhere, such as in a job's metadata, are not the room's business.
        theirs = [error for error in record["errors"] if error["layer"] == ROOM]
        errors = [{"path": _clip(e["path"]), "message": _clip(e["message"])} for e in theirs[:MAX_PROBLEMS]]
        if len(theirs) < len(record["errors"]):
            errors.append({"path": "$", "message": ELSEWHERE})
        record = record | {"errors": errors}
    always = EVENTS[record["event"]][1]
    shown = {key: value for key, value in record.items() if key in (*ENVELOPE, *always, *EXTRA)}
    return {key: _clip(value) if isinstance(value, str) else value for key, value in shown.items()}


def _clip(text: str) -> str:
    """Return the text, cut so that in JSON it takes no more than MAX_TEXT bytes."""
    clipped = text[:MAX_TEXT]
    while (size := len(json.dumps(clipped, ensure_ascii=False).encode(errors="replace"))) > MAX_TEXT:
        clipped = clipped[: len(clipped) * MAX_TEXT // size - 1]
    return clipped if clipped == text else f"{clipped}…"
