"""What becomes of our connection to a room, and what its end means."""

import math

from livekit import rtc

from bouncer.room import Instant

ENDED_WITHIN = 10.0
"""Seconds after we connect, for the first time or again, in which the server may end our job because of it. It takes a
moment."""
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
        self._up_since = -math.inf
        """When it was made or restored; infinity while it is being restored."""
        self._ending_at = math.inf
        """When our job was told to end."""
        self._reason: int = rtc.DisconnectReason.CLIENT_INITIATED
        """Why it ended, if we didn't end it ourselves."""

    @property
    def down(self) -> bool:
        """Return True while it is being restored."""
        return self._up_since == math.inf

    def lost(self) -> None:
        """Take in that it is being restored."""
        self._up_since = math.inf

    def up(self, now: Instant) -> None:
        """Take in that it is made or restored."""
        self._up_since = now

    def ended(self, reason: int) -> None:
        """Take in that it ended; `reason` is the `rtc.DisconnectReason`."""
        self._reason = reason

    def ending(self, now: Instant) -> None:
        """Take in that our job is to end, for the first time or again."""
        self._ending_at = min(self._ending_at, now)

    @property
    def is_untimely_end(self) -> bool:
        """Return True if our job, which is ending, ends though no one wanted that.

        On a full reconnect the server takes the end of our old connection for the agent's, and ends our job. So it does
        if the SDK connects once more because the first attempt took 5 s. Self-hosted, it restarts none (livekit-server
        1.13.5).
        """
        if self._reason in DELIBERATE_DISCONNECTS:
            return False
        young = self._ending_at - self._up_since < ENDED_WITHIN
        return young or self._reason != rtc.DisconnectReason.CLIENT_INITIATED
