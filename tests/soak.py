"""A soak: real rooms that open and close for minutes, with duplicates in them, while the server and bouncers fail.

`make soak` runs it (MINUTES=30 for longer). It does not rely on the bouncer's word: the plan says which participants
may stay and which must leave, and each client reports its own removal. The exit status is 1 after any wrongful or
missed eviction, and if a room's recording can't be replayed. BOUNCER_RECORD names a folder that keeps the recordings.
"""

import asyncio
import os
import random
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import psutil  # type: ignore[import-untyped]  # the framework brings it, without its types
from livekit import api, rtc
from rich.console import Console

from bouncer.cli.replaying import Task, replay_one
from bouncer.recording.files import recordings
from bouncer.recording.replay import EMPTY
from devserver import Worker, own_server, worker
from devserver.worker import ALWAYS
from tests.e2e.world import Member, World

AGENT = Path(__file__).parents[1] / "agent.py"
MINUTES = 4.0
AT_ONCE = 6
"""Rooms open at the same time."""
METADATA = {
    "bouncer": {
        "policies": {"duplicates": {"grace": 0.5, "wait_for_life": 0}, "empty_room": {"grace": 3}},
        "exempt": {"identity": ["recorder"]},
    }
}
SETTLED = 30.0
"""Seconds for a room to become as it should be while faults happen; it takes about three."""
TAKEN_OVER = 60.0
"""The same after a bouncer was killed: it stays listed for 20 to 23 s, before its standby can know."""
PASSING = 2
"""Additional rooms that are closed as soon as they are guarded, so that there are many."""
AFTERMATH = 10.0
"""Seconds that a room is watched after a server restart."""
FAULTS_EVERY = (15.0, 30.0)
"""The least and the most seconds between faults."""
CALM = 0.2
"""The share of the time, at its end, without faults."""
EVICTED = "evicted"
REMOVED = rtc.DisconnectReason.PARTICIPANT_REMOVED

console = Console(highlight=False)


class Soak:
    """One run. The seed decides what happens; when it happens is left to chance."""

    def __init__(self, seed: int, minutes: float, folder: Path) -> None:
        self.random = random.Random(seed)  # noqa: S311 - no secret is made of it
        self.ends_at = time.monotonic() + 60 * minutes
        self.calm_at = self.ends_at - 60 * minutes * CALM
        self.server_started_at = self.killed_at = 0.0
        self.restarting = False
        self.counted = Counter[str]()
        self.wrongful: list[str] = []
        self.missed: list[str] = []
        self.memory: list[tuple[int, int]] = []
        """(rooms opened so far, bytes taken by the worker that is never killed)"""
        self._folder = folder
        self._workers: list[Worker] = []
        self._all: list[Worker] = []

    async def run(self) -> None:
        """Soak until the time is up, and clean up."""
        async with AsyncExitStack() as self._stack, AsyncExitStack() as self._serving:
            self.server = await self._serving.enter_async_context(own_server(say=console.print))
            self.client = await self._stack.enter_async_context(
                api.LiveKitAPI(self.server.url, self.server.api_key, self.server.api_secret)
            )
            await self._hire()
            await self._hire()
            background = [asyncio.create_task(self._fail()), asyncio.create_task(self._weigh())]
            rooms = [self._open_rooms() for _ in range(AT_ONCE)] + [self._pass() for _ in range(PASSING)]
            await asyncio.gather(*rooms)
            for task in background:
                task.cancel()
            for ended in await asyncio.gather(*background, return_exceptions=True):
                if isinstance(ended, Exception):
                    raise ended

    async def _hire(self) -> None:
        log_file = self._folder / f"bouncer-{self.counted['bouncers started']}.log"
        self.counted["bouncers started"] += 1
        self._workers.append(await self._stack.enter_async_context(worker(AGENT, self.server, log_file=log_file)))
        self._all.append(self._workers[-1])

    async def _open_rooms(self) -> None:
        while time.monotonic() < self.ends_at:
            began = time.monotonic()
            async with World(self.server, self.client) as world:
                scene = Scene(self, world)
                try:
                    await scene.play()
                    self.counted["rooms"] += 1
                except Exception as error:  # noqa: BLE001 - whatever the client's SDK makes of it
                    if self.restarting or self.server_started_at >= began:
                        self.counted["rooms interrupted by a restart"] += 1
                        await asyncio.sleep(AFTERMATH)
                        scene.restarted()
                    else:
                        self.counted["rooms that could not be played"] += 1
                        console.print(f"{world.room} could not be played: {type(error).__name__}: {error}")
                scene.judge()

    async def _pass(self) -> None:
        """Open rooms with only a bouncer in them, one after the other."""
        while time.monotonic() < self.ends_at:
            # While the server restarts, or after a bouncer was killed, it may be unguarded.
            with suppress(aiohttp.ClientError, api.TwirpError, AssertionError, TimeoutError):
                world = World(self.server, self.client)
                request = api.CreateRoomRequest(name=world.room, agents=[api.RoomAgentDispatch(agent_name="bouncer")])
                await self.client.room.create_room(request)
                await world.until(world.guarding, "a bouncer guards the room")
                await world.close()
                self.counted["rooms without people"] += 1

    async def _fail(self) -> None:
        """Restart the server or kill a bouncer, now and then."""
        while True:
            await asyncio.sleep(self.random.uniform(*FAULTS_EVERY))
            if time.monotonic() > self.calm_at:
                return
            if self.random.random() < 0.3:
                self.counted["server restarts"] += 1
                self.restarting, self.server_started_at = True, time.monotonic()
                await self._serving.aclose()
                await self._serving.enter_async_context(own_server(say=lambda _: None, again=self.server))
                self.restarting, self.server_started_at = False, time.monotonic()
            else:
                self.counted["bouncers killed"] += 1
                self._workers.pop().kill()
                self.killed_at = time.monotonic()
                await self._hire()

    async def _weigh(self) -> None:
        """Record the memory of the worker that is never killed."""
        process = psutil.Process(self._workers[0].pid)
        while True:
            rooms = self.counted["rooms"] + self.counted["rooms without people"]
            self.memory.append((rooms, process.memory_info().rss))
            await asyncio.sleep(1)

    def why(self, room: str, who: str) -> str:
        """Return a participant with what the bouncers' logs say about its eviction and the room's configuration."""
        lines = [line for worker in self._all for line in worker.log if line.get("lk.pii.room_name") == room]
        evicted = [
            line for line in lines if (line["message"], line.get("lk.pii.participant_identity")) == (EVICTED, who)
        ]
        told = evicted + [line for line in lines if line["message"] in ("configured", "room recreated")]
        return f"{room}: {who}: " + (
            "; ".join(
                f"{line['timestamp']} {line['message']} {line.get('policy') or line.get('origins', '')}"
                for line in told
            )
            or "no bouncer says so"
        )

    def story(self, room: str) -> list[str]:
        """Return everything that the bouncers' logs say about a room."""
        return [
            f"bouncer {number}: {line}"
            for number, worker in enumerate(self._all)
            for line in worker.log
            if room in str(line)
        ]

    @property
    def growth(self) -> float:
        """The growth of that worker in bytes per room, from the second third of the rooms to the last.

        Compares the lowest value in each third, since the garbage of some 200 rooms comes and goes. Nearly all of it is
        freed memory that the C library keeps; the rest is what the SDK keeps of rooms that end while someone publishes
        (docs/livekit.md, "The process").
        """
        rooms = self.memory[-1][0]
        middle = min(rss for at, rss in self.memory if rooms / 3 <= at < 2 * rooms / 3)
        end = min(rss for at, rss in self.memory if at >= 2 * rooms / 3)
        return (end - middle) / (rooms / 3)


class Scene:
    """One room: a human, an agent, its duplicates and an exempt one. Sometimes the human leaves early."""

    def __init__(self, soak: Soak, world: World) -> None:
        self._soak = soak
        self._world = world
        self._began = time.monotonic()
        self._stay: list[Member] = []
        """The participants that must never be removed."""

    async def play(self) -> None:
        """Play the room's story, and check that every agent that must leave does."""
        soak, world = self._soak, self._world
        await world.create(METADATA)
        await self._dispatch()
        await self._dispatch()
        await self._guarded()
        human = await world.human("ana", audio=True)
        agent = await world.agent("assistant 0", audio=True)
        recorder = await world.agent("recorder", name=soak.random.choice(["assistant", "recorder"]))
        self._stay = [human, agent, recorder]
        for i in range(soak.random.randint(1, 3)):
            await asyncio.sleep(soak.random.uniform(0, 1))
            await world.agent(f"assistant {i + 1}")
            soak.counted["duplicates sent in"] += 1
        await self._settle({"ana", "assistant 0", "recorder"})
        if soak.random.random() < 0.5:
            self._stay = [human, recorder]
            await human.leave()
            await self._settle({"recorder"})
            soak.counted["rooms emptied"] += 1

    async def _dispatch(self) -> None:
        """Dispatch another bouncer, so that one stands by."""
        request = api.CreateAgentDispatchRequest(agent_name="bouncer", room=self._world.room)
        await self._soak.client.agent_dispatch.create_dispatch(request)

    async def _guarded(self) -> None:
        """Wait until a bouncer guards the room. Dispatched ones may have been killed on the way."""
        while True:
            try:
                await self._world.until(self._world.guarding, "a bouncer guards the room", within=15)
            except AssertionError:
                if self._soak.killed_at < time.monotonic() - TAKEN_OVER:
                    raise
                self._soak.counted["rooms that lost all bouncers"] += 1
                await self._dispatch()
            else:
                return

    async def _settle(self, expected: set[str]) -> None:
        """Wait until exactly these are here. Any other participant left at the end was missed."""
        soak, began = self._soak, time.monotonic()
        while True:
            if soak.server_started_at > self._began:
                raise ConnectionResetError("all have rejoined, and no bouncer was dispatched")
            listed = await self._world.listed()
            bouncers = {i for i, p in listed.items() if p.attributes.get("lk.agent_name") == "bouncer"}
            if listed.keys() - bouncers == expected:
                return
            if not listed:
                # No human for 20 s, LiveKit's departure timeout: the bouncer that should have acted was killed.
                soak.counted["rooms that LiveKit closed"] += 1
                return
            if not bouncers:
                # All of its bouncers were killed. An application would dispatch another one.
                soak.counted["rooms that lost all bouncers"] += 1
                await self._dispatch()
                await self._guarded()
                began = time.monotonic()
            within = TAKEN_OVER if soak.killed_at > began - TAKEN_OVER else SETTLED
            if time.monotonic() > began + within:
                if missed := sorted(listed.keys() - bouncers - expected):
                    there = {i: (p.joined_at, p.attributes.get("bouncer.guarding", "")) for i, p in listed.items()}
                    soak.missed += [f"{self._world.room}: {who}" for who in missed]
                    console.print(
                        f"{self._world.room}: missed {missed} of {there}", *soak.story(self._world.room), sep="\n  "
                    )
                soak.wrongful += [f"not there: {soak.why(self._world.room, who)}" for who in expected - listed.keys()]
                return
            await asyncio.sleep(0.25)

    def restarted(self) -> None:
        """Note that all have joined a recreated room.

        Any of the agents with one name may be the oldest now. The room has no metadata, so a bouncer dispatched since
        then knows no exemption.
        """
        self._stay = [member for member in self._stay if member.identity == "ana"]

    def judge(self) -> None:
        """Record every participant that was removed wrongly."""
        removed = [member.identity for member in self._stay if member.reason == REMOVED]
        self._soak.wrongful += [self._soak.why(self._world.room, who) for who in removed]


def main() -> int:
    """Soak, and print the results."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else MINUTES
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(2**32)  # noqa: S311
    console.print(f"soaking for {minutes:g} min, seed {seed}")
    with TemporaryDirectory(prefix="livekit-bouncer-") as folder:
        ALWAYS["BOUNCER_RECORD"] = os.environ.get("BOUNCER_RECORD") or str(Path(folder) / "recordings")
        soak = Soak(seed, minutes, Path(folder))
        asyncio.run(soak.run())
        replayed = [replay_one(file, Task()) for file in recordings([ALWAYS["BOUNCER_RECORD"]])]
    for what, number in soak.counted.items():
        console.print(f"{number:6} {what}")
    first, last = soak.memory[0], soak.memory[-1]
    console.print(f"{len(soak.wrongful):6} wrongful evictions", *soak.wrongful)
    console.print(f"{len(soak.missed):6} missed evictions", *soak.missed)
    otherwise = [result.problem for result in replayed if result.problem not in ("", EMPTY)]
    console.print(f"{len(otherwise):6} of {len(replayed)} recordings that can't be replayed", *otherwise)
    console.print(
        f"{soak.growth * 1000 / 2**20:6.0f} MiB of growth per thousand rooms, freed memory included "
        f"({first[1] / 2**20:.0f} MiB at first, {last[1] / 2**20:.0f} MiB after {last[0]} rooms)"
    )
    return 1 if soak.wrongful or soak.missed or otherwise or not soak.counted["rooms"] else 0


if __name__ == "__main__":
    sys.exit(main())
