"""Which of the SDK's log records are dropped, and which are kept."""

import logging

import pytest

from bouncer.adapter.sdklogs import quiet


def test_noise_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    """From each logger only the records that say nothing."""
    caplog.set_level(logging.INFO)
    quiet()
    logging.getLogger().info("ignoring text stream with topic '%s', no callback attached", "any")
    logging.getLogger("livekit.agents").info("job runner initialized")
    logging.getLogger("livekit").warning("something else")

    assert caplog.messages == ["something else"]
