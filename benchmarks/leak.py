"""What is left in memory of each room that a process joined and left: LiveKit's SDK alone, the framework, and ours.

The SDK connects an `rtc.Room` and disconnects it, in one event loop or in a thread and loop of its own, in an empty
room or in one where someone in another process publishes audio. A worker of the framework with no code of ours does so
in jobs, and then our worker guards rooms, each of which is closed once it is guarded. What a process takes beyond what
is allocated are pages of which only a part is in use: that is no leak.
"""

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import aiohttp
from livekit import api, rtc
from rich.table import Table

from benchmarks.arena import LIMIT, Guard, guarding
from benchmarks.weighed import NAME as FRAMEWORK
from benchmarks.weighed import OURS
from benchmarks.weight import Weight, weigh
from devserver import LOOPBACK, Server, own_server
from tests.e2e.world import Member, World

ROOT = Path(__file__).parents[1]
WARM_UP = 50
"""Rooms after which memory is first taken: pools and caches are full by then."""
ROUNDS, ROOMS = 3, 100
"""How often, and after how many rooms each, it is taken again."""
AT_ONCE = 4
"""Rooms of a worker at the same time."""
SETTLED = 5.0
"""Seconds for what is left of jobs that have ended to go."""

Work = Callable[[int], Awaitable[None]]
"""Joins so many rooms, and leaves them."""


async def visit(server: Server, room: str = "") -> None:
    """Join this room, or one of its own, and leave it."""
    grants = api.VideoGrants(room_join=True, room=room or f"leak-{secrets.token_hex(4)}")
    token = api.AccessToken(server.api_key, server.api_secret).with_identity("visitor").with_grants(grants)
    connection = rtc.Room()
    await connection.connect(server.url, token.to_jwt(), rtc.RoomOptions(auto_subscribe=False))
    await connection.disconnect()


@asynccontextmanager
async def publisher(world: World) -> AsyncIterator[None]:
    """Have someone publish audio in a room, from a process of its own."""
    command = (sys.executable, "-m", "benchmarks.leak", world.server.url, world.token("someone"))
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT)

    async def publishes() -> bool:
        return any(info.tracks for info in (await world.listed()).values())

    try:
        await world.until(publishes, "someone publishes", within=LIMIT)
        yield
    finally:
        process.kill()
        await process.wait()


async def publish(url: str, token: str) -> None:
    """Publish audio until killed."""
    member = Member(url, "someone", token)
    await member.join()
    await member.publish_audio()
    await asyncio.Event().wait()


async def nothing(rooms: int) -> None:
    """Join no room: what the measuring itself seems to leave."""
    await asyncio.sleep(0.01 * rooms)


async def in_one_loop(server: Server, rooms: int, room: str = "") -> None:
    """Join them, or this one as often, in this event loop."""
    for _ in range(rooms):
        await visit(server, room)


async def each_in_a_thread(server: Server, rooms: int) -> None:
    """Join each in a thread with an event loop of its own."""
    for _ in range(rooms):
        await asyncio.to_thread(lambda: asyncio.run(visit(server)))


async def guarded(guard: Guard, client: api.LiveKitAPI, rooms: int) -> None:
    """Have a worker join them, a few at a time, and close each once it is there."""

    async def one() -> None:
        world = World(guard.server, client)
        agents = [api.RoomAgentDispatch(agent_name=guard.name)]
        await client.room.create_room(api.CreateRoomRequest(name=world.room, agents=agents))
        with suppress(AssertionError):  # the framework loses a job now and then (docs/livekit.md)
            await world.until(world.guarding, f"{world.room} is guarded", within=LIMIT)
        await world.close()

    for _ in range(0, rooms, AT_ONCE):
        await asyncio.gather(*(one() for _ in range(AT_ONCE)))
    while await active_jobs(guard):  # noqa: ASYNC110 - it is a process of its own
        await asyncio.sleep(1)
    await asyncio.sleep(SETTLED)


async def active_jobs(guard: Guard) -> int:
    """Return how many jobs a worker has, by its own account."""
    url = f"http://{LOOPBACK}:{guard.worker.http_port}/worker"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return int((await answer.json()).get("active_jobs", 0))  # the framework leaves a zero out


async def weigh_worker(guard: Guard) -> Weight:
    """Return what a worker takes, by its own account."""
    said = len(guard.worker.log)
    os.kill(guard.worker.pid, signal.SIGUSR2)
    return Weight.from_line(await guard.worker.line(lambda line: line["message"] == "weighed", after=said))


async def own_weight() -> Weight:
    """Return what this process takes."""
    return weigh()


async def left(work: Work, weighed: Callable[[], Awaitable[Weight]]) -> tuple[str, ...]:
    """Return what is left of each room, round by round."""
    await work(WARM_UP)
    found = []
    before = await weighed()
    for _ in range(ROUNDS):
        await work(ROOMS)
        after = await weighed()
        found.append(after.each(before, ROOMS))
        before = after
    return tuple(", ".join(column) for column in zip(*found, strict=True))


async def leaks(say: Callable[[str], None]) -> Table:
    """Measure what is left of a room, in each of the ways to be in it."""
    head = ("joining and leaving a room", "memory of each, kB", "allocated, kB", "Python's small objects")
    table = Table(*head, box=None)
    async with own_server(say=say) as server, api.LiveKitAPI(server.url, server.api_key, server.api_secret) as client:
        for name, work in (
            ("no room", nothing),
            ("in one loop", partial(in_one_loop, server)),
            ("each in a thread", partial(each_in_a_thread, server)),
        ):
            table.add_row(name, *await left(work, own_weight))
        async with World(server, client) as world, publisher(world):
            work = partial(in_one_loop, server, room=world.room)
            table.add_row("where someone publishes", *await left(work, own_weight))
        for name, agent in ((FRAMEWORK, ""), ("bouncer", str(ROOT / "agent.py"))):
            env = {OURS: agent, "PYTHONPATH": str(ROOT)}
            async with guarding(name, ROOT / "benchmarks" / "weighed.py", server, env) as guard:
                table.add_row(
                    f"{name} worker", *await left(partial(guarded, guard, client), partial(weigh_worker, guard))
                )
    return table


if __name__ == "__main__":
    asyncio.run(publish(*sys.argv[1:]))
