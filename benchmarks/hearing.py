"""What hearing costs: CPU of a listener by what it listens to and how, against one that doesn't listen.

Run it with `python -m benchmarks.hearing [PUBLISHERS]`. Each listener is a process of its own, which joins a real
server, lets `SETTLE` seconds pass and reports what CPU time it took in the next `WINDOW` seconds.
"""

import asyncio
import math
import os
import signal
import sys
import time
from array import array
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from livekit import api, rtc
from rich.console import Console
from rich.table import Table

from bouncer.adapter.ears import Ears
from bouncer.config import Config
from bouncer.events import Event, Heard
from bouncer.observers import Configured
from demo.server import Server, livekit_server

HEARING = ("off", "level")
PUBLISHERS = 8
SETTLE = 5.0
WINDOW = 20.0
ROOM = "benchmark"
RATE = 48_000
FRAME = RATE // 10
SOUNDS = {
    "silent": bytes(2 * FRAME),
    "talking": array("h", (round(8000 * math.sin(2 * math.pi * 440 * i / RATE)) for i in range(FRAME))).tobytes(),
}

console = Console()


def token(server: Server, identity: str) -> str:
    """A token for the benchmark's room; who listens is hidden, as a bouncer is."""
    grants = api.VideoGrants(room_join=True, room=ROOM, hidden=identity.startswith("listener") or None)
    return api.AccessToken(server.api_key, server.api_secret).with_identity(identity).with_grants(grants).to_jwt()


@asynccontextmanager
async def publisher(server: Server, identity: str, sound: bytes) -> AsyncIterator[None]:
    """Somebody whose microphone carries this sound, over and over."""
    room = rtc.Room()
    await room.connect(server.url, token(server, identity), rtc.RoomOptions(auto_subscribe=False))
    source = rtc.AudioSource(RATE, 1, queue_size_ms=200)
    track = rtc.LocalAudioTrack.create_audio_track("voice", source)
    await room.local_participant.publish_track(track)

    async def feed() -> None:
        while True:
            await source.capture_frame(rtc.AudioFrame(sound, RATE, 1, FRAME))

    feeding = asyncio.create_task(feed())
    try:
        yield
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
        await room.disconnect()


async def listen(url: str, token: str, hearing: str) -> None:
    """Join and listen, and print the CPU time and how many were heard speaking at the end."""
    speaking: dict[str, bool | None] = {}

    def tell(event: Event) -> None:
        if isinstance(event, Heard):
            speaking[event.sid] = event.speaking

    room = rtc.Room()
    await room.connect(url, token, rtc.RoomOptions(auto_subscribe=False))
    ears = Ears(room)
    ears.notify(Configured(Config(hearing="level" if hearing == "level" else "off")))
    listening = asyncio.create_task(ears.run(tell))
    await asyncio.sleep(SETTLE)
    before = time.process_time()
    await asyncio.sleep(WINDOW)
    console.print(time.process_time() - before, list(speaking.values()).count(True))
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await room.disconnect()
    # Ended the hard way: the native library sometimes panics while Python ends, if it had subscriptions.
    os.kill(os.getpid(), signal.SIGKILL)


async def cost(server: Server, hearing: str) -> tuple[float, int]:
    """What a listener took, as a share of one core, and how many it heard speaking."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.hearing", "listen", server.url, token(server, f"listener {hearing}"), hearing,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    seconds, heard = out.split()
    return float(seconds) / WINDOW, int(heard)


async def main(publishers: int) -> None:
    """Measure everything, one after the other, and print it."""
    table = Table("publishers", "hearing", "CPU of a core", "times «off»", "heard speaking")
    async with livekit_server(say=console.print) as server:
        for kind, sound in SOUNDS.items():
            async with AsyncExitStack() as stack:
                for i in range(publishers):
                    await stack.enter_async_context(publisher(server, f"{kind} {i}", sound))
                off = 0.0
                for hearing in HEARING:
                    share, heard = await cost(server, hearing)
                    off = off or share
                    table.add_row(f"{publishers} {kind}", hearing, f"{share:.1%}", f"{share / off:.1f}", str(heard))
    console.print(table)


if __name__ == "__main__":
    if sys.argv[1:2] == ["listen"]:
        asyncio.run(listen(*sys.argv[2:5]))
    else:
        asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else PUBLISHERS))
