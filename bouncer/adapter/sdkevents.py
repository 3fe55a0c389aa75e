"""Which of the SDK's events wake the thread of a room."""
# ruff: noqa: SLF001 - nothing public narrows that; tests/e2e/test_traffic.py notices if an SDK changes it

from contextlib import suppress
from typing import Any

from livekit import rtc
from livekit.rtc._ffi_client import FfiClient
from livekit.rtc._proto.ffi_pb2 import FfiEvent

UNUSED = frozenset({"active_speakers_changed", "connection_quality_changed", "stream_trailer_received"})
"""Events of a room that nothing reads, neither here nor in the framework."""


def own_events_only(room: rtc.Room) -> None:
    """Have a connected room in which we publish nothing woken by its own events only.

    `rtc.Room` is given every event of the process, and drops those of others once its thread is awake (livekit 1.1.21):
    one room that floods wakes the threads of all. An SDK that is made in another way goes on as it does.
    """
    with suppress(AttributeError, TypeError, ValueError):
        ours: Any = room
        handle, me = ours._ffi_handle.handle, ours.local_participant._ffi_handle.handle
        events, mine = FfiClient.instance.queue, ours._ffi_queue

        def own(event: FfiEvent) -> bool:
            which, told, call = event.WhichOneof("message"), event.room_event, event.rpc_method_invocation
            if which == "room_event":
                return bool(told.room_handle == handle) and told.WhichOneof("message") not in UNUSED
            return which == "rpc_method_invocation" and bool(call.local_participant_handle == me)

        with events._lock:
            events._subscribers[:] = [
                (queue, loop, own if queue is mine else wanted) for queue, loop, wanted in events._subscribers
            ]
