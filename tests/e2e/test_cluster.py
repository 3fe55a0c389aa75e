"""Two LiveKit nodes on one Redis behind a load balancer, and two workers."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
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
ROOMS, OPENED = 40, 5
"""Rooms of a deploy, and how many of them are opened at the same time."""
MOMENT = 30.0
"""Seconds that such a room is unguarded only if something is wrong; the test prints for how long it was."""


class Landscape:
    """Nodes, workers and rooms; everything is reached through the load balancer."""

    def __init__(
        self, nodes: Cluster, server: Server, client: api.LiveKitAPI, stack: AsyncExitStack, folder: Path
    ) -> None:
        self.cluster, self.server, self.client = nodes, server, client
        self.workers: list[Worker] = []
        self._stack, self._folder, self._hired = stack, folder, 0

    async def hire(self) -> Worker:
        """Start a worker."""
        self._hired += 1
        log_file = self._folder / f"worker {self._hired}"
        hired = await self._stack.enter_async_context(worker(AGENT, self.server, log_file=log_file))
        self.workers.append(hired)
        return hired

    async def room(self) -> "Guarded":
        """Open a room with a person and an agent, and wait until a bouncer guards it."""
        world = await self._stack.enter_async_context(World(self.server, self.client))
        await world.open(AT_ONCE)
        return Guarded(world, await world.human("h"), await world.agent("A"))

    async def two_rooms(self) -> tuple["Guarded", "Guarded"]:
        """Open two such rooms."""
        return await asyncio.gather(self.room(), self.room())

    async def quiet(self) -> World:
        """Open a room without anyone, and wait until a bouncer guards it."""
        world = await self._stack.enter_async_context(World(self.server, self.client))
        agents = [api.RoomAgentDispatch(agent_name="bouncer")]
        await self.client.room.create_room(api.CreateRoomRequest(name=world.room, agents=agents))
        await world.until(world.guarding, "a bouncer guards the room", within=LIMIT)
        return world

    def nodes_of(self, worlds: Iterable[World]) -> set[str]:
        """Return the nodes that these rooms are on."""
        return {self.cluster.node_of(world.room) for world in worlds}

    def guards(self, guard: Worker, room: World) -> bool:
        """Return True if a worker has guarded a room."""
        return any((line["message"], line.get("lk.pii.room_name")) == ("guarding", room.room) for line in guard.log)

    async def has_one_bouncer(self, room: World, old: Sequence[Worker]) -> bool:
        """Return True if exactly one bouncer is in the room, which guards it, and none of the old workers runs it."""
        listed = (await room.listed()).values()
        bouncers = [info for info in listed if info.attributes.get("lk.agent_name") == "bouncer"]
        guarding = len(bouncers) == 1 and bool(bouncers[0].attributes.get("bouncer.guarding"))
        return guarding and any(self.guards(guard, room) for guard in self.workers if guard not in old)

    def said(self, room: World) -> str:
        """Return what each worker has logged of a room, to explain a failure."""
        return "\n".join(
            f"worker {number}: {line}"
            for number, guard in enumerate(self.workers, 1)
            for line in guard.log
            if room.room in str(line)
        )


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


class Gaps:
    """For how long rooms have had no bouncer that guards them, as the server lists who is there.

    A bouncer that hands its room over takes its claim back and guards on, until its successor claims the room.
    """

    def __init__(self, worlds: Sequence[World]) -> None:
        self.longest = 0.0
        self.looks = 0
        self._worlds = worlds
        self._claimed: set[str] = set()
        self._seen_at = dict.fromkeys((world.room for world in worlds), time.monotonic())
        self._missing: set[str] = set()

    async def watch(self) -> None:
        """Look at all rooms again and again, until cancelled."""
        while True:
            for world in self._worlds:
                await self._look(world)
            self.looks += 1
            await asyncio.sleep(POLL)

    async def _look(self, world: World) -> None:
        listed = await world.listed()
        self._claimed |= {info.sid for info in listed.values() if info.attributes.get("bouncer.guarding")}
        now = time.monotonic()
        if not self._claimed & {info.sid for info in listed.values()}:
            self._missing.add(world.room)
            return
        if world.room in self._missing:
            self._missing.discard(world.room)
            self.longest = max(self.longest, now - self._seen_at[world.room])
        self._seen_at[world.room] = now


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
    while len(landscape.nodes_of(room.world for room in rooms)) < len(landscape.cluster.nodes):
        rooms += await landscape.two_rooms()
    await asyncio.gather(*(room.evicts() for room in rooms))

    await landscape.cluster.nodes[0].kill()
    killed_at = time.monotonic()
    await asyncio.gather(*(room.is_back() for room in rooms))
    await asyncio.gather(*(room.evicts(told=False) for room in rooms))
    took = time.monotonic() - killed_at
    assert len({landscape.cluster.node_of(room.world.room) for room in rooms}) == 1
    with capsys.disabled():
        print(f"\na node was killed: all {len(rooms)} rooms evict again after {took:.1f} s", end="")


@pytest.mark.timeout(420)
async def test_rooms_of_a_killed_worker_are_guarded_again(
    landscape: Landscape, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once another worker starts in its place; the rooms of the one that lives keep their bouncers."""
    killed, alive = landscape.workers
    lost: list[Guarded] = []
    kept: list[Guarded] = []
    while not (lost and kept and len(landscape.nodes_of(room.world for room in lost + kept)) > 1):
        for room in await landscape.two_rooms():
            (lost if landscape.guards(killed, room.world) else kept).append(room)
    await asyncio.gather(*(room.evicts() for room in lost + kept))
    before = {room.world.room: set((await room.world.guarding()).values()) for room in lost + kept}

    killed.kill()
    killed_at = time.monotonic()
    await landscape.hire()

    async def guarded_again(room: Guarded) -> float:
        async def successor() -> set[str]:
            return set((await room.world.guarding()).values()) - before[room.world.room]

        await room.world.until(successor, "a new bouncer guards the room", within=LIMIT)
        return time.monotonic() - killed_at

    took = await asyncio.gather(*map(guarded_again, lost))
    await asyncio.gather(*(room.evicts() for room in lost + kept))
    for room in kept:
        assert set((await room.world.guarding()).values()) == before[room.world.room]
        assert landscape.guards(alive, room.world)
    with capsys.disabled():
        print(f"\na worker was killed: {len(lost)} rooms were guarded again after {max(took):.1f} s", end="")


@pytest.mark.timeout(420)
async def test_a_rolling_deploy(landscape: Landscape, capsys: pytest.CaptureFixture[str]) -> None:
    """Both workers are replaced, one after the other, while they guard 40 rooms, some of which evict all the time.

    Each has one bouncer in the end.
    """
    acting = await landscape.two_rooms()
    worlds = [room.world for room in acting]
    while len(worlds) < ROOMS:
        worlds += await asyncio.gather(*(landscape.quiet() for _ in range(min(OPENED, ROOMS - len(worlds)))))
    assert len(landscape.nodes_of(worlds)) == len(landscape.cluster.nodes)

    gaps, deployed = Gaps(worlds), asyncio.Event()

    async def evicting(room: Guarded) -> None:
        while not deployed.is_set():
            await room.evicts(told=False)

    watching = asyncio.create_task(gaps.watch())
    busy = [asyncio.create_task(evicting(room)) for room in acting]
    began = time.monotonic()
    old = tuple(landscape.workers)
    for leaving in old:
        await landscape.hire()
        leaving.terminate()
        assert await leaving.exited(within=LIMIT) == 0
    took = time.monotonic() - began
    deployed.set()
    await asyncio.gather(*busy)

    for world in worlds:
        await world.until(
            partial(landscape.has_one_bouncer, world, old),
            "it has one bouncer, of a new worker",
            within=LIMIT,
            instead=partial(landscape.said, world),
        )
    await asyncio.gather(*(room.evicts() for room in acting))
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    assert gaps.longest < MOMENT
    await asyncio.gather(*(world.close() for world in worlds))  # so that the workers have nothing to hand over
    assert not [line for guard in landscape.workers for line in guard.log if line["message"] == "handed to no one"]
    with capsys.disabled():
        unguarded = f"for {gaps.longest:.1f} s at most" if gaps.longest else "in none"
        print(
            f"\na deploy of two workers with {ROOMS} rooms took {took:.1f} s; "
            f"no bouncer guarded a room {unguarded} of {gaps.looks} looks at each",
            end="",
        )
