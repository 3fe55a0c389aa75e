"""What a restarted LiveKit forgets: the metadata of rooms that have not closed. Pure.

A server without Redis opens a room again, under another sid and without metadata, when its people come back to it. The
bouncer that comes back knows what was in force. One that is dispatched meanwhile doesn't, so it takes this along.
"""

from dataclasses import dataclass, replace

from bouncer.configuration.model import KEY
from bouncer.room import Instant

LASTS = 120.0
"""Seconds after a room was last seen for which one of its name, without metadata, may be the same one."""


@dataclass(frozen=True, slots=True)
class _Last:
    """The metadata of one room, as last seen."""

    sid: str
    metadata: str
    seen_at: Instant
    heard: bool
    """True if a webhook told of it, so that one would have told that it closed."""
    heir: str = ""
    """The sid under which it was opened again."""


class Lasting:
    """The last metadata of all rooms, where they say anything to a bouncer."""

    def __init__(self) -> None:
        self._rooms: dict[str, _Last] = {}

    def in_force(self, sid: str, name: str, metadata: str, now: Instant, *, heard: bool = False) -> str:
        """Return the metadata that counts for a room that was seen with this; `heard` if a webhook showed it."""
        last = self._rooms.get(name)
        if KEY in metadata.lower():
            heard |= last is not None and last.heard and last.sid == sid
            self._rooms[name] = _Last(sid, metadata, now, heard)
        elif last is None:
            pass
        elif metadata or last.sid == sid:
            del self._rooms[name]  # someone has written this
        elif last.heir == sid or (last.heard and now <= last.seen_at + LASTS):
            self._rooms[name] = replace(last, seen_at=now, heir=sid)
            return last.metadata
        return metadata

    def carried(self, sid: str, name: str) -> str:
        """Return the metadata that the room had before it was opened again; empty if it wasn't."""
        last = self._rooms.get(name)
        return last.metadata if last and last.heir == sid else ""

    def closed(self, sid: str, name: str) -> None:
        """Forget a room that has closed: another one of its name is another room."""
        if (last := self._rooms.get(name)) and sid in (last.sid, last.heir):
            del self._rooms[name]

    def forget(self, now: Instant) -> None:
        """Forget the rooms that were not seen for too long."""
        self._rooms = {name: last for name, last in self._rooms.items() if last.seen_at >= now - LASTS}
