"""Which of the SDK's events wake the thread of a room."""
# ruff: noqa: SLF001 - nothing public narrows that; tests/e2e/test_traffic.py notices if an SDK changes it

from contextlib import suppress
from typing import Any

from livekit import rtc
from livekit.rtc._ffi_client import FfiClient
from livekit.rtc._proto.ffi_pb2 import FfiEvent

UNUSED = frozenset({"active_speakers_changed", "connection_quality_changed", "stream_trailer_received"})
"""Events of a room that nothing reads, neither here nor in the framework."""
NO_ONE = 0
"""No handle has this number."""


class _Latest:
    """The event that is being handed out, and whose it is: read once, however many rooms want to know."""

    event: FfiEvent | None = None
    owner = NO_ONE


def own_events_only(room: rtc.Room) -> None:
    """Have a connected room in which we publish nothing woken by its own events only.

    `rtc.Room` is given every event of the process, and drops those of others once its thread is awake (livekit 1.1.21):
    one room that floods wakes the threads of all. An SDK that is made in another way goes on as it does.
    """
    with suppress(AttributeError, TypeError, ValueError):
        ours: Any = room
        handles = ours._ffi_handle.handle, ours.local_participant._ffi_handle.handle
        events, mine = FfiClient.instance.queue, ours._ffi_queue

        def own(event: FfiEvent) -> bool:
            if event is not _Latest.event:  # events are handed out one by one
                _Latest.owner, _Latest.event = _owner(event), event
            return _Latest.owner in handles

        with events._lock:
            events._subscribers[:] = [
                (queue, loop, own if queue is mine else wanted) for queue, loop, wanted in events._subscribers
            ]


def _owner(event: FfiEvent) -> int:
    """Return the handle of the room or local participant that the event is for; NO_ONE if no room wants it."""
    which = event.WhichOneof("message")
    if which == "room_event" and event.room_event.WhichOneof("message") not in UNUSED:
        return int(event.room_event.room_handle)
    return int(event.rpc_method_invocation.local_participant_handle) if which == "rpc_method_invocation" else NO_ONE
