"""Two LiveKit nodes on one Redis behind a load balancer, and two workers."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from livekit import api, rtc

from devserver import Cluster, Server, Worker, cluster, worker
from tests.e2e.conftest import AGENT
from tests.e2e.line import line_to
from tests.e2e.world import POLL, Member, World

AT_ONCE = {"bouncer": {"policies": {"duplicates": {"grace": 0, "wait_for_life": 0}}}}
LIMIT = 120.0
"""Seconds to wait for what should take a few; the tests print how long it took."""


class Landscape:
    """Nodes, workers and rooms; everything is reached through the load balancer."""

    def __init__(
        self, nodes: Cluster, server: Server, client: api.LiveKitAPI, stack: AsyncExitStack, folder: Path
    ) -> None:
        self.cluster, self.server, self.client = nodes, server, client
        self.workers: list[Worker] = []
        self._stack, self._folder = stack, folder

    async def hire(self) -> Worker:
        """Start a worker."""
        log_file = self._folder / f"worker {len(self.workers) + 1}"
        hired = await self._stack.enter_async_context(worker(AGENT, self.server, log_file=log_file))
        self.workers.append(hired)
        return hired

    async def room(self) -> "Guarded":
        """Open a room with a person and an agent, and wait until a bouncer guards it."""
        world = await self._stack.enter_async_context(World(self.server, self.client))
        await world.open(AT_ONCE)
        return Guarded(world, await world.human("h"), await world.agent("A"))


class Guarded:
    """A room with a person and an agent who have to stay."""

    def __init__(self, world: World, person: Member, first: Member) -> None:
        self.world, self.person, self.first = world, person, first
        self._twins = 0

    async def is_back(self) -> None:
        """Wait until all who have to stay are on a node that lives.

        They have new connections there, so an agent that joins before them would count as the older one.
        """
        async with asyncio.timeout(LIMIT):
            while True:
                with suppress(api.TwirpError, aiohttp.ClientError):  # as long as no node has the room
                    if {"h", "A"} <= await self.world.present():
                        return
                await asyncio.sleep(POLL)

    async def evicts(self, *, told: bool = True) -> None:
        """See that a duplicate is evicted and no one else is; while clients reconnect, a message can pass unheard."""
        self._twins += 1
        twin = await self.world.agent(f"twin {self._twins}")
        await self.world.gone(twin, within=LIMIT)
        if told:
            await self.world.message(event="evicted", identity=twin.identity)
        heard = [message["identity"] for message in self.world.messages if message["event"] == "evicted"]
        assert len(heard) == len(set(heard))
        assert set(heard) <= {f"twin {number + 1}" for number in range(self._twins)}
        assert self.removed == set()

    @property
    def removed(self) -> set[str]:
        """Who of those who have to stay was removed."""
        reason = rtc.DisconnectReason.PARTICIPANT_REMOVED
        return {member.identity for member in (self.person, self.first) if member.reason == reason}


@pytest_asyncio.fixture(loop_scope="session")
async def landscape(tmp_path: Path) -> AsyncIterator[Landscape]:
    """Run two nodes and two workers."""
    async with AsyncExitStack() as stack:
        nodes = await stack.enter_async_context(cluster(say=print))
        line = await stack.enter_async_context(line_to(*(node.server for node in nodes.nodes)))
        server = line.server
        client = await stack.enter_async_context(api.LiveKitAPI(server.url, server.api_key, server.api_secret))
        landscape = Landscape(nodes, server, client, stack, tmp_path)
        await asyncio.gather(landscape.hire(), landscape.hire())
        yield landscape


@pytest.mark.timeout(420)  # three of its limits
async def test_rooms_of_a_killed_node_are_guarded_again(
    landscape: Landscape, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rooms on either node are guarded; when one node is killed, the other one takes its rooms and their bouncers."""
    rooms: list[Guarded] = []
    while len({landscape.cluster.node_of(room.world.room) for room in rooms}) < len(landscape.cluster.nodes):
        rooms.append(await landscape.room())
        await rooms[-1].evicts()

    await landscape.cluster.nodes[0].kill()
    killed_at = time.monotonic()
    await asyncio.gather(*(room.is_back() for room in rooms))
    await asyncio.gather(*(room.evicts(told=False) for room in rooms))
    took = time.monotonic() - killed_at
    assert len({landscape.cluster.node_of(room.world.room) for room in rooms}) == 1
    with capsys.disabled():
        print(f"\na node was killed: all {len(rooms)} rooms evict again after {took:.1f} s", end="")
