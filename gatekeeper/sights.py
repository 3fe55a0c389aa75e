"""LiveKit's rooms and participants, from lists and webhooks, in our own records."""

from collections.abc import Callable

from livekit.protocol import models

from bouncer.room import says_arrived
from gatekeeper.records import Bouncer, Room

AGENT_NAME = "lk.agent_name"

Chosen = Callable[[str, str, str], bool]
"""Says of a room's sid, name and metadata whether it is to be guarded."""


def room_of(room: models.Room, chosen: Chosen) -> Room:
    """Return a room in our own record."""
    return Room(room.sid, room.name, chosen(room.sid, room.name, room.metadata), room.num_participants)


def bouncer_of(participant: models.ParticipantInfo, agent_name: str) -> Bouncer | None:
    """Return a participant as a bouncer; None if it isn't one that is there.

    Only the server hides a participant, and only for a key's holder: a visible one that claims our name is none.
    """
    if not participant.permission.hidden or participant.kind != models.ParticipantInfo.AGENT:
        return None
    if participant.attributes.get(AGENT_NAME) != agent_name:
        return None
    ready = says_arrived(participant.attributes)
    joined_ms = participant.joined_at_ms or participant.joined_at * 1000
    return Bouncer(participant.sid, participant.identity, joined_ms, ready)
