"""What we need of LiveKit's server API for one room, and the ways in which it fails."""

from enum import StrEnum
from typing import Protocol

from bouncer.events import Info, Job


class Trouble(StrEnum):
    """Why a call failed. "Not found" is no trouble: it is an answer."""

    DENIED = "denied"
    """The credentials don't carry what the call needs (401, 403)."""
    THROTTLED = "throttled"
    """Too many calls (429, or our own budget of calls)."""
    UNAVAILABLE = "unavailable"
    """No answer in time, no connection, or the server's own error."""


class Doing(StrEnum):
    """What a bouncer was doing when something failed."""

    JUDGING = "looking at the room"
    LISTING = "listing"
    EVICTING = "evicting"
    HANDING_OVER = "handing over"


class Says(StrEnum):
    """What a bouncer says of itself in the room, by its own attributes."""

    GUARDING = "guarding"
    """It guards the room, so that a younger bouncer stands by."""
    UNCONFIGURED = "unconfigured"
    """It is here, but has no valid configuration."""
    NOTHING = ""
    """It doesn't claim the room."""


class ApiError(Exception):
    """A call to LiveKit's server API that failed."""

    def __init__(self, trouble: Trouble, message: str) -> None:
        super().__init__(message)
        self.trouble = trouble


class SuccessorApi(Protocol):
    """What it takes to find a successor. Every call answers within a few seconds or raises ApiError."""

    async def list_participants(self, *, urgent: bool = False) -> tuple[Info, ...]:
        """List all participants, including hidden ones and ourselves. Only urgent calls may exceed our budget."""

    async def list_jobs(self, *, urgent: bool = False) -> tuple[Job, ...]:
        """List the jobs of all the room's dispatches. Only urgent calls may exceed our budget."""

    async def delete_dispatch(self, dispatch: str) -> bool:
        """End all jobs of a dispatch, gracefully, and let nothing restart them. Return False if there was none."""

    async def dispatch_successor(self) -> str:
        """Dispatch another bouncer to the room, as we were dispatched. Return the id of its dispatch."""


class LostRoomApi(SuccessorApi, Protocol):
    """The server API for a room that we are no longer in."""

    async def list_dispatches(self) -> frozenset[str]:
        """Return the ids of the room's dispatches that are for us by their name; none if the room is closed."""

    async def take_back_surplus(self) -> tuple[str, ...]:
        """Delete the marked dispatches of this room whose bouncers are too many. Return their ids."""


class RemovalApi(Protocol):
    """What it takes to evict a participant. Every call answers within a few seconds or raises ApiError."""

    async def get_participant(self, identity: str) -> Info | None:
        """Return the participant that has this identity now; None if there is none."""

    async def remove_participant(self, identity: str) -> bool:
        """Remove the participant with this identity. Return False if there was none."""

    async def delete_dispatch(self, dispatch: str) -> bool:
        """End all jobs of a dispatch, gracefully, and let nothing restart them. Return False if there was none."""


class RoomApi(SuccessorApi, RemovalApi, Protocol):
    """The server API, as far as one room goes that we are in."""

    async def send_data(self, payload: bytes) -> None:
        """Send a reliable data packet on our topic to everyone in the room."""

    async def say(self, says: Says) -> None:
        """Say by our own attributes what we are in the room."""

    async def resign(self, why: str) -> None:
        """End our own job, and let nothing restart it."""
