"""A room that does all it can to keep its worker busy, in a process of its own: `python -m benchmarks.attackers NAME`.

It writes the room's name when the attack begins, and at the end of its input how many changes it has made a second. As
a process of its own it slows neither the other attackers nor the one that measures.
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
APART = 0.007
"""Seconds between two changes in a room: 140 a second."""
IN_FLIGHT = 8
"""Changes in a room that wait for their answers at the same time."""
AGENTS, AVATARS = 8, 4
AWAY = 3600.0
"""Seconds for which an avatar stays at most before it comes again."""
LIMIT = 60.0
"""Seconds for an attack to begin, or to end."""

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
        flips = self._change(lambda n: guest.set_attributes({"role": ("operator", "guest")[n % 2]}))
        await asyncio.gather(self._again(Member(self._world.server.url, "helper", token)), flips)

    async def globs(self) -> None:
        """Let agents change their states in a room with as many globs as may be."""
        await self._world.metadata(_globs())
        agents = [await self._world.agent(f"agent-{number}", name=f"name {number}") for number in range(AGENTS)]
        states = ("listening", "thinking")
        await self._change(lambda n: agents[n % AGENTS].set_state(states[n // AGENTS % 2]))

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
        await asyncio.gather(*map(self._again, members))

    async def metadata(self) -> None:
        """Let the room's metadata be right and wrong in turns."""
        await self._change(lambda n: self._world.metadata(_metadata(reconcile=15 if n % 2 else f"wrong {n}")))

    async def _again(self, member: Member) -> None:
        """Come back whenever it was sent away."""
        while True:
            with suppress(TimeoutError, rtc.ConnectError):
                await member.join()
                await member.out(within=AWAY)
            self.changes += 1

    async def _change(self, change: Change) -> None:
        """Make changes for ever, a few at a time; the answers don't matter."""
        numbers = count()

        async def changes() -> None:
            for number in numbers:
                began = time.monotonic()
                with suppress(Exception):
                    await change(number)
                    self.changes += 1
                await asyncio.sleep(began + IN_FLIGHT * APART - time.monotonic())

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
    server = given_server(lambda _: None)
    if server is None:
        raise LookupError("the environment names no server")
    async with api.LiveKitAPI(server.url, server.api_key, server.api_secret) as client:
        world = World(server, client)
        await world.create("")
        await world.human("someone")  # without a person the room would be closed
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
