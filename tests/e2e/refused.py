"""Is refused by a LiveKit server, and shows what the SDK logs of that: `python -m tests.e2e.refused URL`."""

import asyncio
import logging
import sys

from livekit import rtc

from bouncer.adapter.sdklogs import keep_native_log


async def refused(url: str) -> None:
    """Try to join with a token that is none."""
    try:
        await rtc.Room().connect(url, "no token")
    except rtc.ConnectError as error:
        print(error)


if __name__ == "__main__":
    logging.basicConfig(format="python: %(message)s", level=logging.INFO)
    print("kept" if keep_native_log() else "passed on")
    asyncio.run(refused(sys.argv[1]))
