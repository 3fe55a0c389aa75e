"""What the gatekeeper is told, what it asks for, and what it says. Pure data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bouncer.room import Instant


@dataclass(frozen=True, slots=True)
class Room:
    """An open room, as LiveKit describes it."""

    sid: str
    name: str
    chosen: bool = True
    """True if it is to be guarded: by its name, and by the mode in its metadata."""
    people: int = 0
    """Visible participants, agents included; webhooks and lists may be a few seconds behind."""


@dataclass(frozen=True, slots=True)
class Bouncer:
    """A bouncer that is in a room: a hidden agent under our name."""

    sid: str
    identity: str = ""
    joined_ms: int = 0
    ready: bool = False
    """True if it says that it guards the room, or that it has no valid configuration: it has got to work."""


@dataclass(frozen=True, slots=True)
class Dispatch:
    """A dispatch of our agent name, as a room's list shows it."""

    id: str
    mark: str = ""
    """The sid of the room that a gatekeeper or a worker made it for; empty if someone else made it."""
    identities: frozenset[str] = frozenset()
    """The identities of its jobs."""


class Sight(StrEnum):
    """What a webhook shows."""

    STARTED = "started"
    FINISHED = "finished"
    JOINED = "joined"
    LEFT = "left"
    SEEN = "seen"
    """Nothing but that the room was open."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """A verified webhook, as far as it matters."""

    at: Instant
    sight: Sight
    room: Room
    bouncer: Bouncer | None = None
    """The participant that joined or left, if it is a bouncer."""


@dataclass(frozen=True, slots=True)
class ListRooms:
    """List all rooms, or those with these names."""

    at: Instant
    sids: tuple[str, ...] = ()
    """The rooms that are asked about; empty for all of them."""
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ListBouncers:
    """List the bouncers in a room."""

    at: Instant
    sid: str
    name: str


@dataclass(frozen=True, slots=True)
class ListDispatches:
    """List the dispatches of our agent name in a room."""

    at: Instant
    sid: str
    name: str


@dataclass(frozen=True, slots=True)
class Create:
    """Dispatch a bouncer, marked with the room's sid."""

    at: Instant
    sid: str
    name: str


@dataclass(frozen=True, slots=True)
class TakeBack:
    """Delete a dispatch."""

    at: Instant
    sid: str
    name: str
    dispatch: str
    why: str


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove a bouncer from a ghost room: joining for a room that had closed, it opened this one."""

    at: Instant
    sid: str
    name: str
    identity: str


Command = ListRooms | ListBouncers | ListDispatches | Create | TakeBack | Remove


class Event(StrEnum):
    """What the gatekeeper says. The texts are log events and the values of a metric's label."""

    GUARDED = "room guarded"
    LOST = "bouncer lost"
    DISPATCHED = "bouncer dispatched"
    REFUSED = "no worker took the room"
    FAILED = "dispatch failed"
    SURPLUS = "surplus bouncer taken back"
    GHOST = "ghost room left"
    BLIND = "livekit not answering"
    DENIED = "livekit denies access"
    THROTTLED = "too many calls for livekit"
    SEEING = "livekit answers"
    BY_HAND = "eviction by hand"
    NOT_BY_HAND = "eviction by hand refused"


@dataclass(frozen=True, slots=True)
class News:
    """One thing that happened."""

    event: Event
    room: str = ""
    sid: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """What to do and say now, and when to ask again at the latest."""

    commands: tuple[Command, ...]
    news: tuple[News, ...]
    wake_at: Instant
