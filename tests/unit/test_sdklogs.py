"""Which of the SDK's log records are dropped, and which are kept."""

import logging
import time

import pytest

from bouncer.adapter import sdklogs
from bouncer.adapter.sdklogs import CHANNELS, ClosingErrors, quiet

SAYS = "publisher data channel '_reliable' closed unexpectedly"


class Keeping(logging.Handler):
    """Keeps what is logged."""

    def __init__(self, told: list[logging.LogRecord]) -> None:
        super().__init__()
        self._told = told

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self._told.append(record)


@pytest.mark.parametrize(
    ("happens", "shown"),
    [
        pytest.param(["closed"] * CHANNELS + ["a room ends"], 0, id="told before the room's end is"),
        pytest.param(["a room ends"] + ["closed"] * CHANNELS, 0, id="told after it"),
        pytest.param(["closed"] * CHANNELS, CHANNELS, id="no room has ended"),
        pytest.param(["a room ends"] + ["closed"] * (CHANNELS + 1), 1, id="another room's channel closed too"),
        pytest.param(["another"], 1, id="another record"),
    ],
)
def test_closed_channels(happens: list[str], shown: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A room that ends explains the records of its own channels; any other is an error, told a moment later."""
    monkeypatch.setattr(sdklogs, "HELD_FOR", 0.1)
    told: list[logging.LogRecord] = []
    logger = logging.getLogger(f"test {happens}")
    closing = ClosingErrors()
    logger.addHandler(Keeping(told))
    logger.addFilter(closing)
    logger.propagate = False

    for event in happens:
        if event == "a room ends":
            closing.room_ended()
        else:
            logger.error("%s:%s - %s", "livekit::rtc_engine", 704, SAYS if event == "closed" else "another error")
    time.sleep(0.5)

    assert len(told) == shown


def test_noise_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    """From each logger only the records that say nothing."""
    caplog.set_level(logging.INFO)
    quiet()
    logging.getLogger().info("ignoring text stream with topic '%s', no callback attached", "any")
    logging.getLogger("livekit.agents").info("job runner initialized")
    logging.getLogger("livekit").warning("%s - %s", "livekit::rtc_engine", "Failed to decrypt data packet from ana")
    logging.getLogger("livekit").warning("something else")

    assert caplog.messages == ["something else"]
