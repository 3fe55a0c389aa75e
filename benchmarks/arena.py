"""Real rooms with intruders, and the workers that remove them: what is measured of a worker, from outside."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import psutil  # type: ignore[import-untyped]  # the framework brings it, without its types
from livekit import api, rtc

from benchmarks.bare import INTRUDER
from devserver import Server, Worker, worker
from tests.e2e.world import Member, World

METADATA = {
    "bouncer": {
        "policies": {"deny_list": {"agent_names": [INTRUDER]}},
        "eviction": {"max_per_minute": 100_000},
    }
}
LIMIT = 30.0
"""Seconds for what should take a moment."""
WINDOW = 20.0
"""Seconds over which the CPU of quiet rooms is measured."""
SETTLE = 5.0
TRIES = 5
JOINED_WITHIN = 10.0
ANNOUNCED = 5.0
"""Seconds within which everyone has been told of someone who came and went; it takes three at most."""
MEGABYTE = 1e6


@dataclass(frozen=True, slots=True)
class Quiet:
    """What a quiet room takes of a worker."""

    cpu: float
    """Of one core."""
    memory: float
    """Megabytes, beyond the first room."""


@asynccontextmanager
async def guarding(
    name: str, script: Path, server: Server, more: Mapping[str, str] | None = None
) -> AsyncIterator["Guard"]:
    """Run a worker whose agents are called `name`."""
    env = {"BOUNCER_AGENT_NAME": name, "BOUNCER_API_PER_MINUTE": "100000"}
    env |= {"LIVEKIT_AGENTS_PRELOAD_LOCAL_INFERENCE": "0", **(more or {})}
    async with worker(script, server, env=env) as running:
        yield Guard(name, server, running)


@dataclass(frozen=True, slots=True)
class Guard:
    """A worker that guards rooms."""

    name: str
    server: Server
    worker: Worker

    async def enter(self, world: World) -> None:
        """Open the room, and wait until the worker's agent is there."""
        await world.create(METADATA)
        await self.come(world)
        await asyncio.sleep(1)

    async def come(self, world: World) -> str:
        """Have the worker's agent dispatched into an open room, and wait until it is there. Return the dispatch."""
        request = api.CreateAgentDispatchRequest(agent_name=self.name, room=world.room)
        dispatch = await world.api.agent_dispatch.create_dispatch(request)
        await world.until(partial(self.is_in, world), f"{self.name} is there", within=LIMIT)
        return dispatch.id

    async def is_in(self, world: World) -> bool:
        """Return True if an agent is in the room that no one sees."""
        listed = (await world.listed()).values()
        return any(p.permission.hidden and p.state == api.ParticipantInfo.State.ACTIVE for p in listed)

    def took(self) -> tuple[float, float]:
        """Return the seconds of CPU that it has taken so far, and the megabytes that it holds alone."""
        process = psutil.Process(self.worker.pid)
        times, memory = process.cpu_times(), process.memory_full_info()
        return times.user + times.system, memory.uss / MEGABYTE


class Stand:
    """One room in which intruders come one after the other, and someone who sees them come and go."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._came: dict[str, float] = {}
        self._gone: dict[str, asyncio.Future[float]] = {}
        self._count = 0

    async def watch(self) -> None:
        """Have someone join who sees everything that the handlers of others see."""
        watcher = await self.world.human("watcher")
        watcher.room.on("participant_connected", lambda p: self._came.setdefault(p.identity, time.monotonic()))
        watcher.room.on("participant_disconnected", self._left)

    async def publishing(self) -> float:
        """Send in an intruder that publishes: seconds from the event that announces it to the one that it is gone.

        One that is removed before it was announced gives no event; then the next one counts.
        """
        for _ in range(TRIES):
            member, gone = await self._intruder()
            # Someone who is removed meanwhile may never hear that the track was published.
            publishing = asyncio.create_task(member.publish_audio())
            try:
                await member.out(within=LIMIT)
                with suppress(TimeoutError):
                    async with asyncio.timeout(ANNOUNCED):
                        gone_at = await gone
                    return gone_at - self._came[member.identity]
            finally:
                publishing.cancel()
                await asyncio.gather(publishing, return_exceptions=True)
                await member.leave()

        raise TimeoutError(f"{TRIES} intruders in a row could not be measured")

    async def silent(self) -> float:
        """Send in an intruder that publishes nothing: seconds from its connection to its end."""
        member, _ = await self._intruder()
        joined_at = time.monotonic()
        await member.out(within=LIMIT)
        took = time.monotonic() - joined_at
        await member.leave()
        return took

    async def _intruder(self) -> tuple[Member, asyncio.Future[float]]:
        """Let an intruder join. Return it, and when the watcher sees it gone.

        The connecting of one that is removed at once can hang, and gives way to the next.
        """
        for _ in range(TRIES):
            self._count += 1
            identity = f"{INTRUDER}-{self._count}"
            token = self.world.token(identity, kind="agent", grant=True, attributes={"lk.agent_name": INTRUDER})
            member = Member(self.world.server.url, identity, token)
            gone: asyncio.Future[float] = asyncio.get_running_loop().create_future()
            self._gone[identity] = gone
            with suppress(TimeoutError, rtc.ConnectError):
                async with asyncio.timeout(JOINED_WITHIN):
                    await member.join()
                return member, gone
        raise TimeoutError(f"{TRIES} intruders in a row could not connect")

    def _left(self, participant: rtc.RemoteParticipant) -> None:
        gone = self._gone.pop(participant.identity, None)
        if gone and not gone.done():
            gone.set_result(time.monotonic())


async def quiet(guards: list[Guard], client: api.LiveKitAPI, rooms: int) -> list[Quiet]:
    """Open quiet rooms for each of the guards, and measure what one takes of each at the same time."""
    async with AsyncExitStack() as stack:
        before = [guard.took() for guard in guards]
        for _ in range(rooms):
            for guard in guards:
                world = await stack.enter_async_context(World(guard.server, client))
                await guard.enter(world)
                await world.human("someone")
                await world.agent("helper", name="helper")
        await asyncio.sleep(SETTLE)
        began_at, began = time.monotonic(), [guard.took() for guard in guards]
        await asyncio.sleep(WINDOW)
        ended_at, ended = time.monotonic(), [guard.took() for guard in guards]
    seconds = (ended_at - began_at) * rooms
    return [
        Quiet((after[0] - during[0]) / seconds, (after[1] - first[1]) / rooms)
        for first, during, after in zip(before, began, ended, strict=True)
    ]


async def each(
    guards: Sequence["Enters"], client: api.LiveKitAPI, rounds: int, measure: "Measure"
) -> dict[str, list[float]]:
    """Measure several times in a room of each guard, in turns; return all that was measured, by name."""
    found: dict[str, list[float]] = {guard.name: [] for guard in guards}
    async with AsyncExitStack() as stack:
        stands = []
        for guard in guards:
            world = await stack.enter_async_context(World(guard.server, client))
            await guard.enter(world)
            stand = Stand(world)
            await stand.watch()
            await measure(stand)  # the first one warms up
            stands.append((guard.name, stand))
        for _ in range(rounds):
            for name, stand in stands:
                found[name].append(await measure(stand))
            stands.reverse()
    return found


class Enters(Protocol):
    """Anything that keeps intruders out of a room."""

    @property
    def name(self) -> str:
        """What the tables call it."""

    @property
    def server(self) -> Server:
        """Where its rooms are."""

    async def enter(self, world: World) -> None:
        """Open the room, and guard it from now on."""


Measure = Callable[[Stand], Awaitable[float]]
