"""Which of the SDK's log records are dropped, and which are kept."""

import ctypes
import logging
from types import SimpleNamespace

import pytest
from livekit.rtc import _ffi_client

from bouncer.adapter.sdklogs import keep_native_log, quiet


def test_noise_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    """From each logger only the records that say nothing."""
    caplog.set_level(logging.INFO)
    quiet()
    logging.getLogger().info("ignoring text stream with topic '%s', no callback attached", "any")
    logging.getLogger("livekit.agents").info("job runner initialized")
    logging.getLogger("livekit").warning("something else")

    assert caplog.messages == ["something else"]


@pytest.mark.parametrize("client", ["one that is initialized in another way", "one without such a library"])
def test_another_sdk_is_left_alone(client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its log goes on to Python, as it wants; what works with this SDK (tests/e2e/test_traffic.py) isn't tried."""
    calls: list[object] = []

    def initialize(*given: object) -> None:
        calls.append(given)

    initialize.argtypes = [ctypes.c_bool]  # type: ignore[attr-defined]
    library = SimpleNamespace(livekit_ffi_initialize=initialize)
    instance = SimpleNamespace(_ffi_lib=library) if client.endswith("way") else SimpleNamespace()
    monkeypatch.setenv("RUST_LOG", "off")
    monkeypatch.delenv("LIVEKIT_RTC_DEBUG", raising=False)
    monkeypatch.setattr(_ffi_client.FfiClient, "_instance", instance)

    assert keep_native_log.__wrapped__() is False
    assert calls == []
