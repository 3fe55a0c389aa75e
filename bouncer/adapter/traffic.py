"""What participants do in a room, as events: LiveKit's in, ours out. Handlers only tell; nothing is decided here.

No stream is ever read: its header and chunks show that it is there and goes on, which is all that
counts. So a flood of streams costs no readers, queues or tasks. What a participant does many times a second is told a
few times a second (`Throttle`).
"""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from livekit import rtc

from bouncer.adapter.clock import ServerClock
from bouncer.adapter.records import MAX_TRACKS, is_audio, joined, shown
from bouncer.events import (
    Attributes,
    Channel,
    Described,
    Encrypted,
    Event,
    Info,
    Joined,
    Left,
    Medium,
    Publication,
    Published,
    Signal,
    Transcribed,
)
from bouncer.room import Instant

Tell = Callable[[Event], None]

TRANSCRIPTION = "lk.transcription"
SESSION = "lk.agent.session"
"""The topic on which an AgentSession mirrors its events, of which some come by themselves: docs/livekit.md."""
APART = 0.25
"""Seconds between two events of one kind about one participant; the last of those between is told after them."""
EARLY = 64
"""Identities that are remembered as active before they are announced."""
STREAMS = 64
"""Streams under each name that are remembered. Once one is forgotten, its chunks count as text of their sender."""


class Throttle:
    """Tells the first event of each kind at once, and of those that follow within `APART` only the last."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._told_at: dict[tuple[str, str], Instant] = {}
        self._waiting: dict[tuple[str, str], Event] = {}

    def tell(self, sid: str, kind: str, event: Event) -> None:
        """Tell this event of a participant now, or later unless another of its kind comes."""
        key, now = (sid, kind), self._loop.time()
        wait = self._told_at.get(key, -math.inf) + APART - now
        if wait <= 0:
            self._told_at[key] = now
            self._tell(event)
            return
        if key not in self._waiting:
            self._loop.call_later(wait, self._tell_waiting, key)
        self._waiting[key] = event

    def forget(self, sid: str) -> None:
        """Tell no more of a participant that has left."""
        for known in (self._told_at, self._waiting):
            for key in [key for key in known if key[0] == sid]:
                del known[key]

    def _tell_waiting(self, key: tuple[str, str]) -> None:
        if event := self._waiting.pop(key, None):
            self._told_at[key] = self._loop.time()
            self._tell(event)


@dataclass(frozen=True, slots=True)
class _Stream:
    """A stream that is open."""

    identity: str
    """In whose name it is sent."""
    channel: Channel
    transcription: bool
    active: bool = True
    """False if it is not the agent's own doing, but only a sign of life."""

    @property
    def is_plain(self) -> bool:
        """True if its chunks are no more than text of their sender, as those of an unknown stream are."""
        return self.channel is Channel.TEXT and self.active and not self.transcription


class _Streams:
    """The streams that are remembered. Each name has a share of its own, so no participant takes another's place."""

    def __init__(self, room: rtc.Room) -> None:
        self._room = room
        self._shares: dict[str, OrderedDict[str, _Stream]] = {}
        """By the name that a stream is sent in and its id; the one that was silent for longest is the first."""
        self._names: dict[str, str] = {}
        """By a stream's id, the first name that it was opened in: a transcriber's chunks come under another one."""

    def remember(self, stream_id: str, stream: _Stream) -> None:
        """Keep a stream in the share of its name."""
        name = stream.identity
        if name not in self._shares:
            self._forget_the_absent()
        share = self._shares.setdefault(name, OrderedDict())
        share[stream_id] = stream
        self._names.setdefault(stream_id, name)
        if len(share) > STREAMS:
            oldest, _ = share.popitem(last=False)
            self._forget_name(oldest, name)

    def find(self, writer: str, stream_id: str) -> _Stream | None:
        """Return the stream that a chunk belongs to: the writer's own, or else the one in another's name."""
        name = writer if stream_id in self._shares.get(writer, ()) else self._names.get(stream_id)
        if name is None:
            return None
        share = self._shares[name]
        share.move_to_end(stream_id)
        return share[stream_id]

    def forget(self, name: str) -> None:
        """Drop the share of a participant that has left."""
        for stream_id in self._shares.pop(name, ()):
            self._forget_name(stream_id, name)

    def _forget_the_absent(self) -> None:
        """Drop the shares of names that aren't in the room, if there are more than participants can bring early."""
        here = self._room.remote_participants
        if len(self._shares) >= len(here) + EARLY:
            for name in [name for name in self._shares if name not in here]:
                self.forget(name)

    def _forget_name(self, stream_id: str, name: str) -> None:
        if self._names.get(stream_id) == name:
            del self._names[stream_id]


class Traffic:
    """Watches one room, from before it is connected until its job ends."""

    def __init__(self, room: rtc.Room, clock: ServerClock, tell: Tell) -> None:
        self._room = room
        self._clock = clock
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._throttle = Throttle(tell)
        self._streams = _Streams(room)
        self._data_tracks: dict[str, dict[str, Publication]] = {}
        """By the publisher's identity and the track's sid."""
        self._early: dict[str, Channel] = {}
        """Identities that wrote before they were announced, which takes up to 3 s if they publish nothing."""
        room.on("participant_connected", self._announced)
        room.on("participant_active", self._joined)
        room.on("participant_disconnected", self._left)
        room.on("participant_attributes_changed", self._attributes_changed)
        room.on("participant_name_changed", self._described)
        room.on("participant_metadata_changed", self._described)
        room.on("participant_encryption_status_changed", self._encryption_changed)
        room.on("track_published", lambda track, participant: self._opened(participant, audio=is_audio(track)))
        room.on("track_unmuted", lambda participant, track: self._opened(participant, audio=is_audio(track)))
        room.on("track_unpublished", lambda _, participant: self._closed(participant))
        room.on("track_muted", lambda participant, _: self._closed(participant))
        room.on("data_track_published", self._data_track_published)
        room.on("data_track_unpublished", self._data_track_unpublished)
        room.on("data_received", lambda packet: self._sent(packet.participant, Channel.DATA))
        room.on("sip_dtmf_received", lambda tone: self._sent(tone.participant, Channel.DTMF))
        room.on("transcription_received", self._transcribed)
        watch_streams(room, opened=self._stream_opened, continued=self._stream_continued)

    def info(self, participant: rtc.Participant) -> Info:
        """Return a participant as the room shows it now."""
        return shown(participant, self._clock, self._data_tracks_of(participant))

    def _data_tracks_of(self, participant: rtc.Participant) -> tuple[Publication, ...]:
        return tuple(self._data_tracks.get(participant.identity, {}).values())

    def _announced(self, participant: rtc.RemoteParticipant) -> None:
        self._clock.joined(participant.sid, self._loop.time(), joined(participant))
        self._joined(participant)

    def _joined(self, participant: rtc.RemoteParticipant) -> None:
        self._tell(Joined(self._loop.time(), self.info(participant)))
        if channel := self._early.pop(participant.identity, None):
            self._sent(participant, channel)

    def _left(self, participant: rtc.RemoteParticipant) -> None:
        self._throttle.forget(participant.sid)
        self._streams.forget(participant.identity)
        self._tell(Left(self._loop.time(), participant.sid))

    def _attributes_changed(self, _: dict[str, str], participant: rtc.Participant) -> None:
        self._tell(Attributes(self._loop.time(), participant.sid, participant.attributes))

    def _described(self, participant: rtc.Participant, *_: str) -> None:
        self._tell(Described(self._loop.time(), participant.sid, participant.name, participant.metadata))

    def _encryption_changed(self, participant: rtc.Participant | None, encrypted: bool) -> None:  # noqa: FBT001 - theirs
        if participant:
            self._tell(Encrypted(self._loop.time(), participant.sid, encrypted))

    def _opened(self, participant: rtc.Participant, *, audio: bool = False) -> None:
        """Take in that a participant published or unmuted a track."""
        self._tell(Signal(self._loop.time(), participant.sid, audio=audio, channel=Channel.TRACK))
        self._tell(Published(self._loop.time(), participant.sid, self.info(participant).publications))

    def _closed(self, participant: rtc.Participant) -> None:
        """Take in that a participant muted a track or took it back."""
        self._tell(Signal(self._loop.time(), participant.sid, active=False))
        self._tell(Published(self._loop.time(), participant.sid, self.info(participant).publications))

    def _data_track_published(self, track: rtc.RemoteDataTrack) -> None:
        published = Publication(Medium.DATA, track.info.name, encrypted=track.info.uses_e2ee)
        mine = self._data_tracks.setdefault(track.publisher_identity, {})
        if len(mine) < MAX_TRACKS:
            mine[track.info.sid] = published
        if participant := self._room.remote_participants.get(track.publisher_identity):
            self._opened(participant)

    def _data_track_unpublished(self, sid: str) -> None:
        for identity, mine in self._data_tracks.items():
            if mine.pop(sid, None):
                if participant := self._room.remote_participants.get(identity):
                    self._closed(participant)
                if not mine:
                    del self._data_tracks[identity]
                return

    def _sent(self, participant: rtc.Participant | None, channel: Channel, *, active: bool = True) -> None:
        """Take in that a participant sent something; the server's own packets have no sender."""
        if participant:
            event = Signal(self._loop.time(), participant.sid, active=active, channel=channel)
            self._throttle.tell(participant.sid, channel if active else SESSION, event)

    def _transcribed(self, _: object, participant: rtc.Participant | None, __: object = None) -> None:
        if participant:
            event = Transcribed(self._loop.time(), participant.identity)
            self._throttle.tell(participant.sid, TRANSCRIPTION, event)

    def _stream_opened(self, identity: str, header: Any) -> None:
        """Take in a stream's header. Only one that has its text with it, or on its way, counts by itself."""
        channel = Channel.BYTES if header.HasField("byte_header") else Channel.TEXT
        transcription, active = header.topic == TRANSCRIPTION, header.topic != SESSION
        stream = _Stream(identity, channel, transcription=transcription, active=active)
        if not stream.is_plain:
            self._streams.remember(header.stream_id, stream)
        if header.HasField("total_length"):
            self._written(stream)

    def _stream_continued(self, identity: str, stream_id: str) -> None:
        """Take in a piece of a stream, which names its sender even if the stream is sent in another's name."""
        stream = self._streams.find(identity, stream_id) or _Stream(identity, Channel.TEXT, transcription=False)
        self._written(stream, writer=identity)

    def _written(self, stream: _Stream, *, writer: str = "") -> None:
        """Take in text or bytes; who has written them is known of a piece, but not of a header that has it all."""
        participants, now = self._room.remote_participants, self._loop.time()
        sender_identity = writer or stream.identity
        named, sender = participants.get(stream.identity), participants.get(sender_identity)
        if named and stream.transcription:
            self._throttle.tell(named.sid, TRANSCRIPTION + writer, Transcribed(now, stream.identity, writer))
        if sender and not (stream.transcription and sender is named):
            self._sent(sender, stream.channel, active=stream.active)
        elif not sender and stream.active and len(self._early) < EARLY:
            self._early[sender_identity] = stream.channel


def watch_streams(room: rtc.Room, *, opened: Callable[[str, Any], None], continued: Callable[[str, str], None]) -> None:
    """Have the headers and chunks of all data streams told, on any topic, each with the identity of its sender.

    `rtc.Room` has a handler for each topic and silently drops all other streams, though it is told of each piece of
    them. Nothing public gives these away (livekit 1.1.21), so only this function relies on the private method that
    takes them in; tests/e2e/test_traffic.py notices if an SDK changes it.
    """
    pass_on = room._on_room_event  # noqa: SLF001 - see above

    def on_room_event(event: Any) -> None:
        pass_on(event)
        which = event.WhichOneof("message")
        if which == "stream_header_received":
            opened(event.stream_header_received.participant_identity, event.stream_header_received.header)
        elif which == "stream_chunk_received":
            chunk = event.stream_chunk_received
            continued(chunk.participant_identity, chunk.chunk.stream_id)

    room._on_room_event = on_room_event  # type: ignore[method-assign]  # noqa: SLF001 - see above
