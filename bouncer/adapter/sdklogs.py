"""What the SDK and the framework log that no one needs: it isn't made, or is dropped."""

import ctypes
import logging
import os
from functools import cache

from livekit.rtc import __version__, _ffi_client

NOISE = {
    # rtc.Room: a stream on a topic without a handler, which is every stream. It goes to the root logger.
    "": ("ignoring text stream", "ignoring byte stream"),
    # Two lines for each room, in addition to those that say that it is guarded.
    "livekit.agents": ("initializing job runner", "job runner initialized"),
}
"""By logger, what such messages contain."""

DEBUG = "LIVEKIT_RTC_DEBUG"
"""The SDK's own variable: "true" or "1" asks for all that its native library logs."""


def quiet() -> None:
    """Have these records dropped."""
    for logger, texts in NOISE.items():

        def worth_reading(record: logging.LogRecord, texts: tuple[str, ...] = texts) -> bool:
            return not any(text in record.getMessage() for text in texts)

        logging.getLogger(logger).addFilter(worth_reading)


@cache
def keep_native_log() -> bool:
    """Have the SDK's native library keep its log to itself. Return False if it goes on passing it to Python.

    The SDK asks for each of its log records, of every level, and drops nearly all in Python: thousands while a room is
    joined, which every thread of ours waits for (livekit 1.1.21; docs/livekit.md). What goes wrong is raised or told as
    an event all the same. With RUST_LOG the library writes to stderr itself, and with DEBUG everything stays as it is,
    as it does with another SDK, whose library is initialized in another way.
    """
    if os.environ.get(DEBUG, "").strip().lower() in ("true", "1"):
        return False
    # Else it would write its errors, such as three for each room that ends.
    os.environ.setdefault("RUST_LOG", "off")
    try:
        initialize = _ffi_client.FfiClient.instance._ffi_lib.livekit_ffi_initialize  # noqa: SLF001 - it has no setting
        callback, takes_log = _ffi_client.ffi_event_callback, False
        expected = [_ffi_client.ffi_cb_fnc, ctypes.c_bool, ctypes.c_char_p, ctypes.c_char_p]
    except AttributeError:
        return False
    if initialize.argtypes != expected:
        return False
    # Nothing but these four is replaced by doing it again: our callback, its part, the SDK and its version.
    initialize(callback, takes_log, b"python", __version__.encode("ascii"))
    return True
