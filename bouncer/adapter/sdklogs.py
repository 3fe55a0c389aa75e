"""Which of the SDK's and the framework's log records say nothing: those alone are dropped."""

import logging
import threading
import time
from collections import deque

NOISE = {
    # rtc.Room: a stream on a topic without a handler, which is every stream. It goes to the root logger.
    "": ("ignoring text stream", "ignoring byte stream"),
    # Two lines for each room, in addition to those that say that it is guarded.
    "livekit.agents": ("initializing job runner", "job runner initialized"),
    # Three lines with an identity for each packet of a participant that encrypts; a bouncer never has the key.
    "livekit": ("Failed to decrypt data packet",),
}
"""By logger, what such messages contain."""


def quiet() -> None:
    """Have these records dropped."""
    for logger, texts in NOISE.items():

        def worth_reading(record: logging.LogRecord, texts: tuple[str, ...] = texts) -> bool:
            return not any(text in record.getMessage() for text in texts)

        logging.getLogger(logger).addFilter(worth_reading)


CLOSED = "closed unexpectedly"
"""The native library says this of each data channel when a room ends, at ERROR."""
CHANNELS = 3
"""Data channels of a room."""
HELD_FOR = 3.0
"""Seconds for such a record to be explained: it comes before we learn that the room has ended."""


class ClosingErrors(logging.Filter):
    """Holds the records of closed data channels back, and lets go of those that no room's end explains.

    They don't name their room, so each room that ends explains as many as it has channels.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._ends: deque[float] = deque()
        """An instant for each record that the end of a room explains."""
        self._unexplained: set[int] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return False for a record that is held back."""
        if CLOSED not in record.getMessage():
            return True
        with self._lock:
            if id(record) in self._unexplained:
                self._unexplained.discard(id(record))
                return True
            if self._explained():
                return False
        timer = threading.Timer(HELD_FOR, self._decide, (record,))
        timer.daemon = True
        timer.start()
        return False

    def room_ended(self) -> None:
        """Take in that a room has ended."""
        with self._lock:
            self._ends.extend([time.monotonic()] * CHANNELS)

    def _decide(self, record: logging.LogRecord) -> None:
        with self._lock:
            if self._explained():
                return
            self._unexplained.add(id(record))
        logging.getLogger(record.name).handle(record)

    def _explained(self) -> bool:
        """Use up one explanation. Return False if there is none."""
        while self._ends and time.monotonic() - self._ends[0] > 2 * HELD_FOR:
            self._ends.popleft()
        return bool(self._ends) and self._ends.popleft() > 0
