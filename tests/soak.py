"""A soak: real rooms that open and close for minutes, with duplicates in them, while the server and bouncers fail.

Run it with `make soak` (MINUTES=30 for longer). It takes nothing on the bouncer's word: who may stay and who has to
leave is known from who was sent in, and each client says itself whether it was removed. The exit status is 1 if
anybody was evicted wrongly, or missed.
"""

import asyncio
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

from demo.server import Worker, livekit_server, without_given, worker
from tests.e2e.world import Member, World

AGENT = Path(__file__).parents[1] / "agent.py"
MINUTES = 4.0
AT_ONCE = 6
"""Rooms that are open at the same time."""
METADATA = {
    "bouncer": {
        "policies": {"duplicates": {"grace": 0.5}, "empty_room": {"grace": 3}},
        "exempt": {"identity": ["recorder"]},
    }
}
SETTLED = 30.0
"""Seconds within which a room is as it should be, on a machine that is busy with faults; it takes about three."""
TAKEN_OVER = 60.0
"""The same once a bouncer was killed: it is listed for 20 to 23 s more, before another one can know."""
PASSING = 2
"""Rooms beside them that are closed as soon as they are guarded, so that there are many."""
AFTERMATH = 10.0
"""Seconds for which those in a room are watched after the server was restarted."""
FAULTS_EVERY = (15.0, 30.0)
"""Seconds between two faults, at least and at most."""
CALM = 0.2
"""The part of the time, at its end, in which nothing fails any more."""
EVICTED = "evicted"
REMOVED = rtc.DisconnectReason.PARTICIPANT_REMOVED

console = Console(highlight=False)


class Soak:
    """One run. The seed decides what is done, and chance when it happens."""

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
        """(rooms that were opened, bytes that the worker took which is never killed)"""
        self._folder = folder
        self._workers: list[Worker] = []
        self._all: list[Worker] = []

    async def run(self) -> None:
        """Soak until the time is up, and leave nothing behind."""
        async with AsyncExitStack() as self._stack, AsyncExitStack() as self._serving:
            self.server = await self._serving.enter_async_context(
                livekit_server(say=console.print, environ=without_given())
            )
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
        """Open rooms with nobody in them but a bouncer, one after the other."""
        while time.monotonic() < self.ends_at:
            # While the server is restarted, or a bouncer is killed, there may be nobody to guard it.
            with suppress(aiohttp.ClientError, api.TwirpError, AssertionError, TimeoutError):
                world = World(self.server, self.client)
                request = api.CreateRoomRequest(name=world.room, agents=[api.RoomAgentDispatch(agent_name="bouncer")])
                await self.client.room.create_room(request)
                await world.until(world.guarding, "a bouncer guards the room")
                await world.close()
                self.counted["rooms that nobody came to"] += 1

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
                await self._serving.enter_async_context(
                    livekit_server(say=lambda _: None, environ=without_given(), again=self.server)
                )
                self.restarting, self.server_started_at = False, time.monotonic()
            else:
                self.counted["bouncers killed"] += 1
                self._workers.pop().kill()
                self.killed_at = time.monotonic()
                await self._hire()

    async def _weigh(self) -> None:
        """Note how much memory the worker takes that is never killed."""
        process = psutil.Process(self._workers[0].pid)
        while True:
            rooms = self.counted["rooms"] + self.counted["rooms that nobody came to"]
            self.memory.append((rooms, process.memory_info().rss))
            await asyncio.sleep(1)

    def why(self, room: str, who: str) -> str:
        """A participant, and what the bouncers' logs say of its eviction, and of what they went by in that room."""
        lines = [line for worker in self._all for line in worker.log if line.get("lk.pii.room_name") == room]
        evicted = [
            line for line in lines if (line["message"], line.get("lk.pii.participant_identity")) == (EVICTED, who)
        ]
        told = evicted + [line for line in lines if line["message"] in ("configured", "the room was made anew")]
        return f"{room}: {who}: " + (
            "; ".join(
                f"{line['timestamp']} {line['message']} {line.get('policy') or line.get('origins', '')}"
                for line in told
            )
            or "no bouncer says so"
        )

    def story(self, room: str) -> list[str]:
        """All that the bouncers' logs say of a room."""
        return [
            f"bouncer {number}: {line}"
            for number, worker in enumerate(self._all)
            for line in worker.log
            if room in str(line)
        ]

    @property
    def growth(self) -> float:
        """Bytes per room by which that worker grew, from the second third of the rooms to the last.

        By the lowest that it took in each: the garbage of some 200 rooms comes and goes. It is no measure of a leak:
        nearly all of it is freed memory that the C library keeps, and what is yet to be taken down (CONTRIBUTING.md).
        """
        rooms = self.memory[-1][0]
        middle = min(rss for at, rss in self.memory if rooms / 3 <= at < 2 * rooms / 3)
        end = min(rss for at, rss in self.memory if at >= 2 * rooms / 3)
        return (end - middle) / (rooms / 3)


class Scene:
    """One room: a human, an agent, its duplicates and an exempt one; at times the human leaves before the end."""

    def __init__(self, soak: Soak, world: World) -> None:
        self._soak = soak
        self._world = world
        self._began = time.monotonic()
        self._stay: list[Member] = []
        """Who must not be removed, whatever happens."""

    async def play(self) -> None:
        """Have it all happen, and see to it that whoever has to leave does."""
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
        """Have one more bouncer, so that one stands by."""
        request = api.CreateAgentDispatchRequest(agent_name="bouncer", room=self._world.room)
        await self._soak.client.agent_dispatch.create_dispatch(request)

    async def _guarded(self) -> None:
        """Wait until a bouncer guards the room. Those that were asked for may have been killed on the way."""
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
        """Wait until these, and no others, are here; who is too many then was missed."""
        soak, began = self._soak, time.monotonic()
        while True:
            if soak.server_started_at > self._began:
                raise ConnectionResetError("all have joined anew, and nobody was asked to guard the room")
            listed = await self._world.listed()
            bouncers = {i for i, p in listed.items() if p.attributes.get("lk.agent_name") == "bouncer"}
            if listed.keys() - bouncers == expected:
                return
            if not listed:
                # No human for 20 s, LiveKit's departure timeout: the bouncer was killed that should have been quicker.
                soak.counted["rooms that LiveKit closed"] += 1
                return
            if not bouncers:
                # All that it had were killed. Who dispatches them would do so again.
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
        """Take in that all have joined a room that was made anew.

        Of the agents with one name any may be the oldest now; and the room has no metadata, so that a bouncer that was
        dispatched to it since then knows of no exemption.
        """
        self._stay = [member for member in self._stay if member.identity == "ana"]

    def judge(self) -> None:
        """Take note of whoever was removed and should not have been."""
        removed = [member.identity for member in self._stay if member.reason == REMOVED]
        self._soak.wrongful += [self._soak.why(self._world.room, who) for who in removed]


def main() -> int:
    """Soak, and say what came of it."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else MINUTES
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(2**32)  # noqa: S311
    console.print(f"soaking for {minutes:g} min, seed {seed}")
    with TemporaryDirectory(prefix="livekit-bouncer-") as folder:
        soak = Soak(seed, minutes, Path(folder))
        asyncio.run(soak.run())
    for what, number in soak.counted.items():
        console.print(f"{number:6} {what}")
    first, last = soak.memory[0], soak.memory[-1]
    console.print(f"{len(soak.wrongful):6} wrongful evictions", *soak.wrongful)
    console.print(f"{len(soak.missed):6} missed evictions", *soak.missed)
    console.print(
        f"{soak.growth * 1000 / 2**20:6.0f} MiB of growth per thousand rooms, freed memory included "
        f"({first[1] / 2**20:.0f} MiB at first, {last[1] / 2**20:.0f} MiB after {last[0]} rooms)"
    )
    return 1 if soak.wrongful or soak.missed or not soak.counted["rooms"] else 0


if __name__ == "__main__":
    sys.exit(main())
