"""What a bouncer gives its successor to take along: the configuration of the room that is in force. Pure.

A restarted server forgets a room's metadata, and bad metadata changes nothing; in both cases the last good
configuration stays in force. A successor knows only what it finds. So the bouncer that it replaces writes its part of
the last good metadata into the successor's dispatch, with a digest of the room's metadata at that moment. The successor
uses it until the room's metadata says something else.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

KEY = "bouncer_carried"
"""The key in the dispatch's metadata, next to `bouncer`."""


@dataclass(frozen=True, slots=True)
class Carried:
    """A configuration of the room, as taken over from the bouncer before."""

    metadata: str
    """The room's last good metadata, as far as it is ours."""
    seen: str
    """The digest of the room's metadata when that bouncer wrote this."""

    def outlives(self, metadata: str) -> bool:
        """Return True while the room's metadata has not changed since, so that this is in force instead."""
        return digest(metadata) == self.seen


def carry(dispatch_metadata: str, good: str, now: str) -> str:
    """Return the metadata to dispatch a successor with.

    `dispatch_metadata` are our own; `good` are the room's last good metadata, and `now` those that it has.
    """
    part = {"bouncer": ours} if (ours := _object(good).get("bouncer")) else None
    return json.dumps(
        _object(dispatch_metadata) | {KEY: {"metadata": json.dumps(part) if part else "", "seen": digest(now)}}
    )


def given(dispatch_metadata: str) -> str:
    """Return a dispatch's metadata without what its bouncer was given to take along."""
    if carried(dispatch_metadata) is None:
        return dispatch_metadata
    rest = {key: value for key, value in _object(dispatch_metadata).items() if key != KEY}
    return json.dumps(rest) if rest else ""


def carried(dispatch_metadata: str) -> Carried | None:
    """Return what our predecessor gave us to take along, if it did."""
    match _object(dispatch_metadata).get(KEY):
        case {"metadata": str(metadata), "seen": str(seen)}:
            return Carried(metadata, seen)
        case _:
            return None


def digest(metadata: str) -> str:
    """Return a short text that stands for metadata of any length."""
    return hashlib.sha256(metadata.encode(errors="surrogatepass")).hexdigest()[:32]


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
