"""What is left in memory of each room that a process joined and left, without any code of ours: LiveKit's SDK alone.

A worker that opens and closes rooms grows by some 25 KB a job (`make soak`). Here a process only connects an `rtc.Room`
and disconnects it: in one event loop, or in a thread and loop of its own, as in the framework's thread executor. Memory
is taken after Python has collected and the C library has given back what is free.
"""

import asyncio
import ctypes
import ctypes.util
import gc
import secrets
from collections.abc import Awaitable, Callable

import psutil  # type: ignore[import-untyped]  # the framework brings it, without its types
from livekit import api, rtc
from rich.table import Table

from devserver import Server, own_server

WARM_UP = 100
"""Rooms after which memory is first taken: pools and caches are full by then."""
ROUNDS, ROOMS = 3, 200
"""How often, and after how many rooms each, it is taken again."""


def resident() -> int:
    """Return the bytes that this process takes, of which nothing is merely kept."""
    gc.collect()
    ctypes.CDLL(ctypes.util.find_library("c")).malloc_trim(0)
    return int(psutil.Process().memory_info().rss)


async def visit(server: Server) -> None:
    """Join a room of its own, and leave it."""
    grants = api.VideoGrants(room_join=True, room=f"leak-{secrets.token_hex(4)}")
    token = api.AccessToken(server.api_key, server.api_secret).with_identity("visitor").with_grants(grants)
    room = rtc.Room()
    await room.connect(server.url, token.to_jwt(), rtc.RoomOptions(auto_subscribe=False))
    await room.disconnect()


async def in_a_thread(server: Server) -> None:
    """Do so in a thread with an event loop of its own."""
    await asyncio.to_thread(lambda: asyncio.run(visit(server)))


async def nothing(_: Server) -> None:
    """Join no room: what the measuring itself seems to leave."""
    await asyncio.sleep(0.01)


async def left(server: Server, work: Callable[[Server], Awaitable[None]]) -> list[float]:
    """Return the bytes that are left of each room, in each round."""
    for _ in range(WARM_UP):
        await work(server)
    found = []
    before = resident()
    for _ in range(ROUNDS):
        for _ in range(ROOMS):
            await work(server)
        after = resident()
        found.append((after - before) / ROOMS)
        before = after
    return found


async def leaks(say: Callable[[str], None]) -> Table:
    """Measure what is left of a room, in each of the ways to be in it."""
    table = Table("joining and leaving a room", "leaves of each, round by round", box=None)
    async with own_server(say=say) as server:
        for name, work in (("no room", nothing), ("in one loop", visit), ("each in a thread", in_a_thread)):
            rounds = await left(server, work)
            table.add_row(name, ", ".join(f"{each / 1000:.1f} kB" for each in rounds))
    return table
