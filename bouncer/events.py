"""What can happen in a room, as plain frozen records: all that the tracker is ever told.

Each has `at`, the `Instant` at which we learned of it. The adapter makes them from LiveKit's events and lists; tests,
simulations and replays make them by hand.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bouncer.room import Instant, Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """A participant as LiveKit shows it: in an event, at connecting, or in a list."""

    sid: str
    identity: str
    kind: Kind = Kind.STANDARD
    simulated: bool = False
    """Whether its `kind_details` name SIMULATION."""
    active: bool = True
    joined_at: Instant = 0.0
    joined_ms: int = 0
    attributes: Mapping[str, str] = field(default_factory=dict, hash=False)
    audio: bool = False
    """Whether it has published an audio track."""
    agent_grant: bool | None = None
    """`permission.agent`; None where the source doesn't show it. Only lists do."""
    hidden: bool | None = None
    """`permission.hidden`; None where the source doesn't show it. Only lists do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job of a dispatch, as `list_dispatch` shows it."""

    dispatch: str
    job: str
    agent_name: str
    identity: str
    publisher: str = ""
    """For a job of type JT_PUBLISHER, the identity of the participant it serves."""


@dataclass(frozen=True, slots=True)
class Connected:
    """We are connected, for the first time or again: time that went unwatched ends here."""

    at: Instant
    me: Info
    others: tuple[Info, ...] = ()


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection is being restored: until `Connected` we are blind."""

    at: Instant


@dataclass(frozen=True, slots=True)
class Stalled:
    """We were not running for a while: what happened meanwhile reaches us late, if at all."""

    at: Instant


@dataclass(frozen=True, slots=True)
class Joined:
    """A participant joined, became ACTIVE, or shows itself anew."""

    at: Instant
    info: Info


@dataclass(frozen=True, slots=True)
class Left:
    """A participant left."""

    at: Instant
    sid: str


@dataclass(frozen=True, slots=True)
class Attributes:
    """A participant's attributes changed; these are all of them."""

    at: Instant
    sid: str
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Signal:
    """A participant gave a sign of life by a track, data or text."""

    at: Instant
    sid: str
    active: bool = True
    """Whether it counts as doing something (data, text, a track published or unmuted), not just as being there."""
    audio: bool = False
    """Whether it has published an audio track with it."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What is heard of a participant changed."""

    at: Instant
    """Since when it is so: dated back to when the sound began or ended."""
    sid: str
    speaking: bool | None
    """None: not known, for what is not subscribed to, encrypted or stalled. That is not the same as silent."""


@dataclass(frozen=True, slots=True)
class Transcribed:
    """A participant sent (a piece of) a transcription."""

    at: Instant
    identity: str


@dataclass(frozen=True, slots=True)
class Listed:
    """The answer to `list_participants`; it tells the truth as of some instant between `asked_at` and `at`."""

    at: Instant
    asked_at: Instant
    infos: tuple[Info, ...]


@dataclass(frozen=True, slots=True)
class Dispatched:
    """The answer to `list_dispatch`."""

    at: Instant
    asked_at: Instant
    jobs: tuple[Job, ...]


@dataclass(frozen=True, slots=True)
class RemovalSent:
    """A removal of ours that had gone out to the server at `at` has succeeded."""

    at: Instant
    identity: str


Event = (
    Connected
    | Disconnected
    | Stalled
    | Joined
    | Left
    | Attributes
    | Signal
    | Heard
    | Transcribed
    | Listed
    | Dispatched
    | RemovalSent
)
