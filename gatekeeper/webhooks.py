"""Webhooks of LiveKit and of bouncers: who may send them, and what they say. Whatever arrives may come from anyone."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from livekit import api
from livekit.protocol import models
from livekit.protocol.webhook import WebhookEvent

from bouncer.configuration.settings import Credentials
from bouncer.room import Instant
from gatekeeper.records import Sight, Webhook
from gatekeeper.reports import parsed
from gatekeeper.sights import Chosen, bouncer_of, room_of
from gatekeeper.witness import Witness

MAX_BODY = 2 * 1024 * 1024
"""Bytes of a webhook; the largest real one carries 512 KiB of room metadata as JSON."""
REMEMBERED_FOR = 400.0
"""Seconds for which an id is remembered. LiveKit signs for 300 s, and verifying allows 60 s more."""

_SIGHTS = {
    "room_started": Sight.STARTED,
    "room_finished": Sight.FINISHED,
    "participant_joined": Sight.JOINED,
    "participant_left": Sight.LEFT,
    "participant_connection_aborted": Sight.LEFT,
}


class Fate(StrEnum):
    """What became of a request."""

    TAKEN = "taken"
    IRRELEVANT = "irrelevant"
    REPEATED = "repeated"
    REFUSED = "refused"
    TOO_LARGE = "too_large"


class Webhooks:
    """Verifies and translates webhooks."""

    def __init__(
        self, credentials: Credentials, agent_name: str, chosen: Chosen, witness: Witness | None = None
    ) -> None:
        """Make it; the witness, if there is one, sees every webhook that is taken."""
        verifier = api.TokenVerifier(credentials.api_key, credentials.api_secret)
        self._receiver = api.WebhookReceiver(verifier)
        self._agent_name = agent_name
        self._chosen = chosen
        self._seen = Seen()
        self._witness = witness

    def receive(self, body: bytes, authorization: str, now: Instant) -> tuple[Fate, Webhook | None]:
        """Return what became of a request, with what it says if that matters.

        Raises: ValueError that says why it is refused.
        """
        try:
            event = self._receiver.receive(body.decode(), authorization.removeprefix("Bearer "))
        except Exception as error:  # noqa: BLE001 - JWT, JSON, UTF-8 and the receiver's own bare Exception
            raise ValueError(f"{type(error).__name__}: {str(error)[:200]}") from None
        if not self._seen.first(event.id or hashlib.sha256(body).hexdigest(), now):
            return Fate.REPEATED, None
        if self._witness and event.room.sid and event.event in _SIGHTS:  # the others don't show the room's metadata
            self._witness.restore(event.room, heard=True)
        told = _told(event, now, self._agent_name, self._chosen)
        if self._witness and event.room.sid:
            self._witness.told(event)
        return (Fate.TAKEN, told) if told else (Fate.IRRELEVANT, None)


class Records:
    """Verifies the records that bouncers send, signed as LiveKit signs its webhooks."""

    def __init__(self, credentials: Credentials) -> None:
        self._verifier = api.TokenVerifier(credentials.api_key, credentials.api_secret)

    def receive(self, body: bytes, authorization: str) -> Mapping[str, Any]:
        """Return the record that a request carries.

        Raises: ValueError that says why it is refused.
        """
        try:
            claims = self._verifier.verify(authorization.removeprefix("Bearer "))
            given = base64.b64decode(claims.sha256 or "", validate=True)
        except (Exception, binascii.Error) as error:  # noqa: BLE001 - JWT's many, and base64's
            raise ValueError(f"{type(error).__name__}: {str(error)[:200]}") from None
        if not hmac.compare_digest(given, hashlib.sha256(body).digest()):
            raise ValueError("ValueError: the body is not what was signed")
        return parsed(body)


def _told(event: WebhookEvent, now: Instant, agent_name: str, chosen: Chosen) -> Webhook | None:
    sight = _SIGHTS.get(event.event)
    if sight is None or not event.room.sid or not event.room.name:
        return None
    bouncer = bouncer_of(event.participant, agent_name) if event.HasField("participant") else None
    if sight is Sight.JOINED and not bouncer and _nobody(event.participant):
        sight = Sight.SEEN
    return Webhook(now, sight, room_of(event.room, chosen), bouncer)


def _nobody(participant: models.ParticipantInfo) -> bool:
    """Return True for an agent, or a hidden participant: neither shows that people use the room."""
    return participant.permission.hidden or participant.kind == models.ParticipantInfo.AGENT


class Seen:
    """The ids of the last minutes: two sets, the older one dropped from time to time."""

    def __init__(self) -> None:
        self._new: set[str] = set()
        self._old: set[str] = set()
        self._turned_at: Instant | None = None

    def first(self, key: str, now: Instant) -> bool:
        """Return True if the key is new."""
        if self._turned_at is None or now >= self._turned_at + REMEMBERED_FOR:
            self._new, self._old, self._turned_at = set(), self._new, now
        if key in self._new or key in self._old:
            return False
        self._new.add(key)
        return True
