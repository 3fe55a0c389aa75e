"""The bouncer, except that its jobs never end: the connection doesn't close, and neither does a thread."""

import asyncio
import runpy
import sys
import time
from pathlib import Path
from typing import Any

from livekit import rtc

AGENT = Path(__file__).parents[2] / "agent.py"
sys.path.insert(0, str(AGENT.parent))

from bouncer.adapter import endings  # noqa: E402 - it is found only now


async def hang(self: rtc.Room, *, reason: Any = None) -> None:  # noqa: ARG001 - theirs
    """Wait in a thread, which nothing cancels."""
    await asyncio.to_thread(time.sleep, 3600)


if __name__ == "__main__":
    endings.CLOSED_WITHIN = 1.0
    endings.ENDED_WITHIN = 5.0
    rtc.Room.disconnect = hang  # type: ignore[method-assign]
    runpy.run_path(str(AGENT), run_name="__main__")
