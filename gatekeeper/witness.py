"""Tells the outlooks of rooms what LiveKit's webhooks and lists show, and dates it."""

import time
from collections.abc import Callable, Iterable

from livekit.protocol import models
from livekit.protocol.webhook import WebhookEvent

from bouncer.adapter.clock import ServerClock
from bouncer.adapter.records import listed
from bouncer.earlier import Seen
from bouncer.room import Instant
from gatekeeper.lasting import Lasting
from gatekeeper.outlook import Outlook, Outlooks
from gatekeeper.sights import bouncer_of

LATE = 1
"""Seconds by which the server may date a webhook later than what it tells of; it dates them in whole seconds."""


class Witness:
    """Sees who comes and goes in every room."""

    def __init__(
        self, outlooks: Outlooks, agent_name: str, now: Callable[[], Instant], wall: Callable[[], float] = time.time
    ) -> None:
        """Make it on these clocks: until a webhook shows the server's, our own `wall` clock stands in for it."""
        self._outlooks, self._agent_name, self._now = outlooks, agent_name, now
        self._lasting = Lasting()
        self._clock = ServerClock()
        self._clock.joined("", now(), round(wall() * 1000))
        self._dated = False

    def restore(self, room: models.Room, *, heard: bool = False) -> None:
        """Give a room back the metadata that a restarted server has forgotten. `heard` if a webhook shows it."""
        room.metadata = self._lasting.in_force(room.sid, room.name, room.metadata, self._now(), heard=heard)

    def told(self, event: WebhookEvent) -> None:
        """Take in a webhook."""
        now, sid, who = self._now(), event.room.sid, event.participant
        if event.event == "room_finished":
            self._outlooks.forget(sid)
            self._lasting.closed(sid, event.room.name)
            return
        outlook = self._outlooks.of(sid, now, complete=event.event == "room_started")
        self._note(outlook, event.room)
        if not event.HasField("participant"):
            return
        match event.event:
            case "participant_joined":
                self._date(who, now)
                if bouncer_of(who, self._agent_name):
                    outlook.bouncers.add(who.sid)
                outlook.joined(listed(who, self._clock), now)
            case "track_published":
                # Of the participant it shows only the sid and the identity.
                at_ms = (event.created_at - LATE) * 1000
                outlook.published(who.sid, now, audio=event.track.type == models.TrackType.AUDIO, at_ms=at_ms)
            case "participant_left" | "participant_connection_aborted":
                gone = models.DisconnectReason.PARTICIPANT_REMOVED
                if who.disconnect_reason == gone and who.kind == models.ParticipantInfo.AGENT:
                    outlook.removed(who.identity, now)
                outlook.left(who.sid, now)
            case _:
                pass

    def listed(self, sid: str, participants: Iterable[models.ParticipantInfo], asked_at: Instant) -> None:
        """Take in a list of a room's participants."""
        now = self._now()
        outlook, there = self._outlooks.of(sid, now), tuple(participants)
        outlook.bouncers = {who.sid for who in there if bouncer_of(who, self._agent_name)}
        outlook.listed((listed(who, self._clock) for who in there), asked_at, now)

    def rooms(self, rooms: Iterable[models.Room], *, all_of_them: bool) -> None:
        """Take in a list of rooms."""
        now, shown = self._now(), {room.sid: room for room in rooms}
        for sid, room in shown.items():
            self._note(self._outlooks.of(sid, now), room)
        if all_of_them:
            self._outlooks.keep(shown.keys(), now)
            self._lasting.forget(now)

    def seen(self, sid: str) -> Seen:
        """Return what the bouncer that is dispatched now should know."""
        now = self._now()
        return self._outlooks.of(sid, now).seen(now, self._clock.milliseconds)

    def carried(self, sid: str, name: str) -> str:
        """Return the metadata of the room that a restarted server has forgotten; empty if there are none."""
        return self._lasting.carried(sid, name)

    def _date(self, who: models.ParticipantInfo, now: Instant) -> None:
        if who.joined_at_ms and not self._dated:
            self._clock, self._dated = ServerClock(), True
        self._clock.joined(who.sid, now, who.joined_at_ms)

    @staticmethod
    def _note(outlook: Outlook, room: models.Room) -> None:
        outlook.opened_ms = room.creation_time_ms or room.creation_time * 1000 or outlook.opened_ms
