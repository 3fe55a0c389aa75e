"""What can happen in a room, as plain frozen records: all that the tracker is ever told.

Each has `at`, the `Instant` at which we learned of it. The adapter makes them from LiveKit's events and lists; tests,
simulations and replays make them by hand.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from bouncer.room import Instant, Kind


class Medium(StrEnum):
    """What a track carries."""

    AUDIO = "audio"
    VIDEO = "video"
    DATA = "data"


@dataclass(frozen=True, slots=True)
class Publication:
    """A track that a participant has published."""

    medium: Medium
    name: str = ""
    muted: bool = False
    encrypted: bool = False
    """End to end: a bystander can tell that it is there, and nothing more."""


class Channel(StrEnum):
    """How something that a participant does reaches a bystander.

    The server vouches for the sender, except for TEXT and BYTES: an agent may write in another participant's name.
    """

    TRACK = "track"
    """A track published or unmuted."""
    DATA = "data"
    """A data packet."""
    DTMF = "dtmf"
    TEXT = "text"
    """A text stream, or a piece of one, on any topic."""
    BYTES = "bytes"
    """A byte stream, or a piece of one, on any topic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """A participant as LiveKit shows it: in an event, at connecting, or in a list."""

    sid: str
    identity: str
    kind: Kind = Kind.STANDARD
    simulated: bool = False
    """True if its `kind_details` name SIMULATION."""
    active: bool = True
    joined_at: Instant = 0.0
    joined_ms: int = 0
    attributes: Mapping[str, str] = field(default_factory=dict, hash=False)
    name: str = ""
    """The display name."""
    metadata: str = ""
    """The participant's own metadata: any text, of up to 512 KiB."""
    audio: bool = False
    """True if it has published an audio track."""
    publications: tuple[Publication, ...] = ()
    """The tracks that it has published now."""
    agent_grant: bool | None = None
    """`permission.agent`; None where the source doesn't show it. Only lists do."""
    hidden: bool | None = None
    """`permission.hidden`; None where the source doesn't show it. Only lists do."""
    recorder: bool | None = None
    """`permission.recorder`; None where the source doesn't show it. Only lists do."""
    can_publish: bool | None = None
    """`permission.can_publish`; None where the source doesn't show it. Only lists do."""
    can_send_data: bool | None = None
    """`permission.can_publish_data`; None where the source doesn't show it. Only lists do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job of a dispatch, as `list_dispatch` shows it."""

    dispatch: str
    job: str
    agent_name: str
    identity: str
    metadata: str = ""
    """The metadata of its dispatch."""
    serves: str = ""
    """For a job of type JT_PUBLISHER or JT_PARTICIPANT, the identity of the participant it serves."""


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
    """A participant joined, became ACTIVE, or showed itself again."""

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
class Described:
    """A participant's display name or metadata changed; these are both of them."""

    at: Instant
    sid: str
    name: str
    metadata: str


@dataclass(frozen=True, slots=True)
class Signal:
    """A participant gave a sign of life: a track, data or text."""

    at: Instant
    sid: str
    active: bool = True
    """True if it counts as doing something (data, text, a track published or unmuted), not just as being there."""
    audio: bool = False
    """True if it has published an audio track with it."""
    channel: Channel | None = None
    """How it reached us; None if it only shows that the participant is there."""


@dataclass(frozen=True, slots=True)
class Published:
    """A participant's tracks changed; these are all of them."""

    at: Instant
    sid: str
    publications: tuple[Publication, ...]


@dataclass(frozen=True, slots=True)
class Encrypted:
    """A participant's data packets and streams are encrypted end to end from now on, or no longer."""

    at: Instant
    sid: str
    encrypted: bool


@dataclass(frozen=True, slots=True)
class Heard:
    """What we hear of a participant changed."""

    at: Instant
    """Since when it is so: dated back to when the sound began or ended."""
    sid: str
    speaking: bool | None
    """None: not known, for what is not subscribed to, encrypted or stalled. That is not the same as silent."""


@dataclass(frozen=True, slots=True)
class Transcribed:
    """A transcription, or a piece of one, was sent in a participant's name."""

    at: Instant
    identity: str
    """The name it is written in: a transcriber writes in the speaker's name."""
    writer: str = ""
    """The identity that wrote it, where that is known."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """What a gatekeeper saw of the room before we came. Told once, right after we are connected."""

    at: Instant = field(kw_only=False)
    opened_at: Instant | None = None
    """When the room opened."""
    people_left_at: Instant | None = None
    """When the last person left, if no one has come since."""
    evicted_at: Mapping[str, Instant] = field(default_factory=dict, hash=False)
    """When identities were evicted."""
    alive_at: Mapping[str, Instant] = field(default_factory=dict, hash=False)
    """When participants, by sid, last gave a sign of life."""


@dataclass(frozen=True, slots=True)
class RemovalSent:
    """A removal of ours has succeeded; it had gone out to the server at `at`."""

    at: Instant
    identity: str


Event = (
    Connected
    | Disconnected
    | Stalled
    | Joined
    | Left
    | Attributes
    | Described
    | Signal
    | Published
    | Encrypted
    | Heard
    | Transcribed
    | Listed
    | Dispatched
    | Earlier
    | RemovalSent
)
