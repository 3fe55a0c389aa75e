"""What hearing costs: CPU and memory of a listener in each mode, compared with one that does not listen.

`make bench-hearing` runs it, or `python -m benchmarks.hearing [PUBLISHERS]`, in six minutes. Each listener is a process
that joins a real server, settles, and reports what it takes in the next `WINDOW` seconds. At the end one of them joins
several times, like a worker with several rooms: the default of BOUNCER_MAX_SPEECH comes from there.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import numpy as np
from livekit import rtc
from rich.console import Console
from rich.table import Table

from benchmarks.listener import DETECTIONS, Detection, listener, token
from bouncer.hearing import LISTEN_FOR
from devserver import Server, own_server
from tests.microphone import Microphone
from tests.sounds import SPEECH, Sound, at, pink, silence, speech

PUBLISHERS = 8
SETTLE = 5.0
"""Seconds before measuring; if all are silent, `LISTEN_FOR` more, after which the detector is off."""
WINDOW = 12.0
ROOM = "benchmark"
ROOMS = (1, 2, 3, 4)
"""Numbers of rooms that one process listens to with speech detection."""
SOUNDS = {
    "silent": silence(1),
    "talking": at(np.concatenate([part for name in SPEECH for part in (speech(name), silence(0.3))]), -20),
    "noisy": at(pink(5), -30),
}
"""What every publisher sends without end: the worst cases."""

console = Console()


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a listener."""

    cpu: float
    """As a share of one core."""
    memory: float
    """Megabytes."""
    speaking: int
    """The number of participants heard speaking at the end."""
    late: float
    """Its worst delay, in seconds."""


@asynccontextmanager
async def publisher(server: Server, identity: str, sound: Sound) -> AsyncIterator[None]:
    """A participant whose microphone carries this sound."""
    room = rtc.Room()
    await room.connect(server.url, token(server, ROOM, identity), rtc.RoomOptions(auto_subscribe=False))
    microphone = Microphone(room, queue=200)
    microphone.sends(sound)
    await microphone.publish()
    try:
        yield
    finally:
        await microphone.close()
        await room.disconnect()


async def cost(server: Server, hearing: Detection, settle: float, *, rooms: int = 1) -> Cost:
    """Measure a listener."""
    async with listener(server, ROOM, hearing, times=rooms) as listening:
        await asyncio.sleep(settle)
        before = await listening.cost()
        await asyncio.sleep(WINDOW)
        after = await listening.cost()
        cpu = (after.cpu - before.cpu) / (after.at - before.at)
        return Cost(cpu, after.memory, listening.speaking(), after.late)


async def main(publishers: int) -> None:
    """Measure everything in turn, and print it."""
    columns = ("CPU", "to off", "for each", "memory", "to off", "for each", "speak")
    tables = []
    async with own_server(say=console.print) as server:
        for kind, sound in SOUNDS.items():
            table = Table(f"{publishers} {kind}", *columns)
            tables.append(table)
            async with AsyncExitStack() as stack:
                for i in range(publishers):
                    await stack.enter_async_context(publisher(server, f"{kind} {i}", sound))
                off = None
                for hearing in DETECTIONS:
                    rests = kind == "silent" and hearing not in ("off", "level")
                    took = await cost(server, hearing, SETTLE + LISTEN_FOR * rests)
                    off = off or took
                    table.add_row(
                        hearing,
                        f"{took.cpu:.1%}",
                        f"{took.cpu / off.cpu:.1f}",
                        f"{(took.cpu - off.cpu) / publishers:.2%}",
                        f"{took.memory:.0f} MB",
                        f"{took.memory / off.memory:.2f}",
                        f"{(took.memory - off.memory) / publishers:.1f} MB",
                        str(took.speaking),
                    )
        table = Table("rooms by speech", "talking", "CPU", "for each", "memory", "speak", "late")
        async with AsyncExitStack() as stack:
            for i in range(publishers):
                await stack.enter_async_context(publisher(server, f"talker {i}", SOUNDS["talking"]))
            for rooms in ROOMS:
                took, tracks = await cost(server, "speech", SETTLE, rooms=rooms), rooms * publishers
                table.add_row(
                    str(rooms),
                    str(tracks),
                    f"{took.cpu:.1%}",
                    f"{took.cpu / tracks:.2%}",
                    f"{took.memory:.0f} MB",
                    str(took.speaking),
                    f"{1000 * took.late:.0f} ms",
                )
        tables.append(table)
    notes = "CPU: of one core. For each: of the publishers, beyond off. Speak: as heard in the end. Late: at worst."
    console.print(*tables, notes, sep="\n")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else PUBLISHERS))
