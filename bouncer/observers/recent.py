"""The latest records of a room, for those that ask its bouncer."""

from collections import deque
from itertools import count

from bouncer.observers import News
from bouncer.observers.records import Record, Records

KEPT = 50
"""Records that are kept; of configurations only the last, since one may have 64 KiB."""


class Recent:
    """Keeps the latest records, numbered from 1."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._numbers = count(1)
        self._kept: deque[Record] = deque(maxlen=KEPT)

    def notify(self, news: News) -> None:
        """Keep what is said."""
        record = self._records.of(news)
        if record is None:
            return
        if record["event"] == "configured":
            others = [each for each in self._kept if each["event"] != "configured"]
            self._kept = deque(others, maxlen=KEPT)
        self._kept.append({"n": next(self._numbers), **record})

    def latest(self) -> list[Record]:
        """Return the records, oldest first."""
        return [*self._kept]
