"""A room that does all it can to keep its worker busy, in a process of its own: `python -m benchmarks.attackers NAME`.

It writes the room's name when the attack begins, and at the end of its input how many changes it has made a second. As
a process of its own it slows neither the other attackers nor the one that measures.

Each attack is many times what the limits let through, and no more: attackers, server and worker share the machine, and
where they fill it, everything is late because of that, and nothing is learned of the worker. For the same reason no one
but the attackers is in these rooms, and they give way to what is measured, as if they had machines of their own.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from livekit import api, rtc

from benchmarks.figures import screen
from devserver import Server, given_server
from tests.e2e.world import Member, World

ROOT = Path(__file__).parents[1]
FLIPPING = 40
"""Changes a second of a guest, each of which makes an agent due: the worker looks at a room once a second at most."""
GLOBS = 16
"""Changes a second by agents in a room that takes long to judge, two by each; a quarter of those is judged at most."""
METADATA = 140
"""Changes a second of a room's metadata, as a review once made them; they pass the server's API only."""
IN_FLIGHT = 8
"""Changes in a room that wait for their answers at the same time."""
AGENTS, AVATARS = 8, 2
STAYS = 2.0
"""Seconds from when an avatar comes until it comes again: sixty come a minute, and ten of them are removed."""
EMPTY = 3600
"""Seconds that a room stays open while only agents are there."""
LIMIT = 60.0
"""Seconds for an attack to begin, or to end."""
GIVE_WAY = 19
"""The niceness that lets all others go first."""

Change = Callable[[int], Awaitable[Any]]
"""Makes the change of that number."""


class Attacks:
    """What can be done to a room, and how often something was."""

    def __init__(self, world: World) -> None:
        self.changes = 0
        self._world = world

    async def flipping(self) -> None:
        """Let a guest be an operator and no operator, so that an agent is due again and again."""
        takeover = {"human_takeover": {"attributes": {"role": "operator"}, "grace": 0}}
        await self._world.metadata(_metadata(policies=takeover))
        token = self._world.token("helper", kind="agent", grant=True)
        guest = await self._world.human("guest")
        flips = self._change(FLIPPING, lambda n: guest.set_attributes({"role": ("operator", "guest")[n % 2]}))
        await asyncio.gather(self._again(Member(self._world.server.url, "helper", token), LIMIT), flips)

    async def globs(self) -> None:
        """Let agents change their states in a room with as many globs as may be."""
        await self._world.metadata(_globs())
        agents = [await self._world.agent(f"agent-{number}", name=f"name {number}") for number in range(AGENTS)]
        states = ("listening", "thinking")
        await self._change(GLOBS, lambda n: agents[n % AGENTS].set_state(states[n // AGENTS % 2]))

    async def avatars(self) -> None:
        """Let the avatars of an agent that was evicted come again and again."""
        await self._world.metadata(_metadata(policies={"deny_list": {"agent_names": ["denied"]}}))
        await self._world.agent("principal", name="denied")
        attributes = {"lk.publish_on_behalf": "principal"}
        members = [
            Member(
                self._world.server.url, name, self._world.token(name, kind="agent", grant=True, attributes=attributes)
            )
            for name in (f"avatar-{number}" for number in range(AVATARS))
        ]
        await asyncio.gather(*(self._again(member, STAYS) for member in members))

    async def metadata(self) -> None:
        """Let the room's metadata be right and wrong in turns."""
        await self._change(METADATA, lambda n: self._world.metadata(_metadata(reconcile=15 if n % 2 else f"wrong {n}")))

    async def _again(self, member: Member, stays: float) -> None:
        """Come back whenever it was sent away, or has stayed for so many seconds."""
        while True:
            began = time.monotonic()
            with suppress(TimeoutError, rtc.ConnectError):
                await member.join()
                with suppress(TimeoutError):
                    await member.out(within=stays)
                await member.leave()
            self.changes += 1
            await asyncio.sleep(began + stays - time.monotonic())

    async def _change(self, a_second: float, change: Change) -> None:
        """Make so many changes a second for ever, a few at a time; the answers don't matter."""
        numbers = count()

        async def changes() -> None:
            for number in numbers:
                began = time.monotonic()
                with suppress(Exception):
                    await change(number)
                    self.changes += 1
                await asyncio.sleep(began + IN_FLIGHT / a_second - time.monotonic())

        await asyncio.gather(*(changes() for _ in range(IN_FLIGHT)))


ATTACKS: Mapping[str, Callable[[Attacks], Coroutine[Any, Any, None]]] = {
    "flipping": Attacks.flipping,
    "globs": Attacks.globs,
    "avatars": Attacks.avatars,
    "metadata": Attacks.metadata,
}


def _metadata(**ours: object) -> str:
    return json.dumps({"bouncer": ours})


def _globs() -> str:
    """Return 35 KB of valid metadata with nearly as many globs as may be."""
    filler = "x" * 24
    by = [
        {f"*{filler}-{rule}-{name}*": [f"*{filler}-{rule}-{name}-{which}*" for which in range(8)] for name in range(16)}
        for rule in range(6)
    ]
    denied = {"agent_names": [f"*{filler}?{which}*" for which in range(100)]}
    return _metadata(policies={"superseded": [{"by": each} for each in by], "deny_list": denied})


@dataclass(slots=True)
class Attacked:
    """A room under attack, seen from outside."""

    world: World
    rate: float = 0.0
    """The changes a second, once the attack has ended."""


@asynccontextmanager
async def attacked(name: str, server: Server, client: api.LiveKitAPI) -> AsyncIterator[Attacked]:
    """Attack a room of its own, until the context ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.attackers", name, cwd=ROOT, env={**os.environ, **server.env},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    if process.stdin is None or process.stdout is None:
        raise OSError("the attacker has no pipes")
    found = Attacked(World(server, client))
    try:
        async with asyncio.timeout(LIMIT):
            found.world.room = (await process.stdout.readline()).decode().strip()
        if not found.world.room:
            raise OSError(f"the attack {name!r} failed")
        yield found
        process.stdin.close()
        async with asyncio.timeout(LIMIT):
            found.rate = float(await process.stdout.readline())
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await found.world.close()


def _say(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


async def main(name: str) -> None:
    """Attack a room until the end of the input."""
    os.nice(GIVE_WAY)
    server = given_server(lambda _: None)
    if server is None:
        raise LookupError("the environment names no server")
    async with api.LiveKitAPI(server.url, server.api_key, server.api_secret) as client:
        world = World(server, client)
        room = api.CreateRoomRequest(name=world.room, empty_timeout=EMPTY, departure_timeout=EMPTY)
        await client.room.create_room(room)
        attacks = Attacks(world)
        attacking = asyncio.create_task(ATTACKS[name](attacks))
        began = time.monotonic()
        _say(world.room)
        ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
        await asyncio.wait((attacking, ended), return_when=asyncio.FIRST_COMPLETED)
        if attacking.done():
            attacking.result()
        _say(attacks.changes / (time.monotonic() - began))
    # Killed, since a call from the native library while Python exits aborts the process now and then.
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    screen()  # no library prints over what is written here
    asyncio.run(main(sys.argv[1]))
