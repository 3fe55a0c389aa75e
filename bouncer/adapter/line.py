"""What becomes of our connection to a room, and what its end means."""

import math

from livekit import rtc

from bouncer.room import Instant

ENDED_WITHIN = 10.0
"""Seconds after a reconnect in which the server may end our job because of it; it takes a moment."""
DELIBERATE_DISCONNECTS = frozenset(
    {
        rtc.DisconnectReason.DUPLICATE_IDENTITY,
        rtc.DisconnectReason.PARTICIPANT_REMOVED,
        rtc.DisconnectReason.ROOM_DELETED,
        rtc.DisconnectReason.ROOM_CLOSED,
    }
)
"""Disconnect reasons that mean someone ended us on purpose."""


class LineHistory:
    """The history of one connection, as far as it matters for its end."""

    def __init__(self) -> None:
        self._restored_at = -math.inf
        """When it was last restored; infinity while it is down."""
        self._reason: int = rtc.DisconnectReason.CLIENT_INITIATED
        """Why it ended, if we didn't end it ourselves."""

    @property
    def down(self) -> bool:
        """Return True while it is being restored."""
        return self._restored_at == math.inf

    def lost(self) -> None:
        """Take in that it is being restored."""
        self._restored_at = math.inf

    def restored(self, now: Instant) -> None:
        """Take in that it is up again."""
        self._restored_at = now

    def ended(self, reason: int) -> None:
        """Take in that it ended; `reason` is the `rtc.DisconnectReason`."""
        self._reason = reason

    def is_untimely_end(self, now: Instant) -> bool:
        """Return True if our job, which ends now, ends though no one wanted that.

        On a full reconnect the server takes the end of our old connection for the agent's, and ends our job;
        self-hosted, it restarts none (livekit-server 1.13.5, jobs older than 5 s).
        """
        if self._reason in DELIBERATE_DISCONNECTS:
            return False
        return self._reason != rtc.DisconnectReason.CLIENT_INITIATED or now - self._restored_at < ENDED_WITHIN
