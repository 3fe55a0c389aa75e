"""What a gatekeeper saw of a room before its bouncer came, on its way in the dispatch's metadata. Pure.

All dates are the server's milliseconds. Both ends are here: `written` makes the value, `read` takes it.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bouncer.events import Earlier
from bouncer.room import Instant

SEEN = "bouncer_seen"
"""The key in the metadata of a dispatch."""
FRESH = 60.0
"""Seconds for which it is believed that no one has come since people left: a restarted job gets the same metadata."""
MOST = 100
"""Participants of each kind that are passed on, the latest; a dispatch's metadata has to stay small."""
APART = 5.0
"""Seconds by which the clocks of the gatekeeper and of LiveKit's servers may differ."""
LATEST = 2**53
"""Milliseconds beyond any date."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was seen, in the server's milliseconds."""

    at: int
    """When this was written."""
    opened: int | None = None
    people_left: int | None = None
    """When the last person left; None if one is there, or none has come."""
    evicted: Mapping[str, int] = field(default_factory=dict)
    """By identity."""
    alive: Mapping[str, int] = field(default_factory=dict)
    """When each participant last gave a sign of life, by sid."""


def written(seen: Seen) -> dict[str, Any]:
    """Return it as the value of the metadata's key."""
    value: dict[str, Any] = {"at": seen.at}
    if seen.opened is not None:
        value["opened"] = seen.opened
    if seen.people_left is not None:
        value["people_left"] = seen.people_left
    for key, dates in (("evicted", seen.evicted), ("alive", seen.alive)):
        if dates:
            value[key] = dict(sorted(dates.items(), key=lambda item: -item[1])[:MOST])
    return value


def read(metadata: str, now: Instant, instant: Callable[[int], Instant]) -> Earlier | None:
    """Return what a dispatch's metadata passes on; None if that is nothing. What is no date in the past is left out.

    `instant` turns the server's milliseconds into an Instant.
    """
    if SEEN not in metadata:
        return None
    try:
        document = json.loads(metadata)
    except (ValueError, RecursionError):
        return None
    value = document.get(SEEN) if isinstance(document, dict) else None
    if not isinstance(value, dict):
        return None

    def date(given: object) -> Instant | None:
        if not isinstance(given, int) or isinstance(given, bool) or not 0 < given < LATEST:
            return None
        at = instant(given)
        return min(at, now) if at <= now + APART else None

    def dates(given: object) -> dict[str, Instant]:
        pairs = given.items() if isinstance(given, dict) else ()
        return {who: at for who, ms in pairs if (at := date(ms)) is not None}

    at = date(value.get("at"))
    fresh = at is not None and at >= now - FRESH
    return Earlier(
        now,
        opened_at=date(value.get("opened")),
        people_left_at=date(value.get("people_left")) if fresh else None,
        evicted_at=dates(value.get("evicted")),
        alive_at=dates(value.get("alive")),
    )
