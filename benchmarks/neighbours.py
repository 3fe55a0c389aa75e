"""Rooms that do all they can to keep their worker busy, and how late it removes intruders in another room meanwhile.

The attacks go on all the time. Only whether the worker guards these rooms changes, in turns: so what they cost the
server and this machine is in both figures, and the ratio is what sharing a worker with them costs.
"""

import asyncio
import json
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from itertools import count
from typing import Any

from livekit import api
from rich.table import Table

from benchmarks.arena import Guard, Stand
from benchmarks.figures import milliseconds, ratio
from tests.e2e.world import Member, World

TURNS, REMOVALS = 3, 12
"""How often the worker guards the other rooms, and lets them be; how many intruders it removes each time."""
APART = 0.007
"""Seconds between two changes of an attacker: 140 a second."""
SETTLED = 3.0


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


async def _again(member: Member) -> None:
    """Come back whenever it was sent away."""
    while True:
        await member.join()
        await member.out(within=3600)


async def _flips(member: Member, name: str, *values: str) -> None:
    """Change one of its attributes for ever; the client's own answers don't matter."""
    for number in count():
        with suppress(Exception):
            await member.set_attributes({name: values[number % len(values)]})
        await asyncio.sleep(APART)


async def flipping(world: World) -> None:
    """Let a guest be an operator and no operator, so that an agent is due again and again."""
    takeover = {"human_takeover": {"attributes": {"role": "operator"}, "grace": 0}}
    await world.metadata(_metadata(policies=takeover))
    agent = Member(world.server.url, "helper", world.token("helper", kind="agent", grant=True))
    await asyncio.gather(_again(agent), _flips(await world.human("guest"), "role", "operator", "guest"))


async def globs(world: World) -> None:
    """Let agents change their states in a room with as many globs as may be."""
    await world.metadata(_globs())
    agents = [await world.agent(f"agent-{number}", name=f"name {number}") for number in range(8)]
    await asyncio.gather(*(_flips(agent, "lk.agent.state", "listening", "thinking") for agent in agents))


async def avatars(world: World) -> None:
    """Let the avatars of an agent that was evicted come again and again."""
    await world.metadata(_metadata(policies={"deny_list": {"agent_names": ["denied"]}}))
    await world.agent("principal", name="denied")
    attributes = {"lk.publish_on_behalf": "principal"}
    tokens = [world.token(f"avatar-{n}", kind="agent", grant=True, attributes=attributes) for n in range(4)]
    await asyncio.gather(*(_again(Member(world.server.url, f"avatar-{n}", token)) for n, token in enumerate(tokens)))


async def metadata(world: World) -> None:
    """Let the room's metadata be right and wrong in turns."""
    for number in count():
        with suppress(api.TwirpError):
            await world.metadata(_metadata(reconcile=15 if number % 2 else f"wrong {number}"))
        await asyncio.sleep(APART)


ATTACKS: tuple[Callable[[World], Coroutine[Any, Any, None]], ...] = (flipping, globs, avatars, metadata)


async def neighbours(guard: Guard, client: api.LiveKitAPI) -> Table:
    """Measure from an intruder's arrival until it is gone, with and without the attacked rooms on the same worker."""
    alone: dict[str, list[float]] = {"publishing": [], "silent": []}
    beside: dict[str, list[float]] = {"publishing": [], "silent": []}
    async with AsyncExitStack() as stack:
        calm = await stack.enter_async_context(World(guard.server, client))
        await guard.enter(calm)
        stand = Stand(calm)
        await stand.watch()
        await stand.publishing()
        attacked = [await stack.enter_async_context(World(guard.server, client)) for _ in ATTACKS]
        tasks: list[asyncio.Task[None]] = []
        for world, attack in zip(attacked, ATTACKS, strict=True):
            await world.create("")
            tasks.append(asyncio.create_task(attack(world), name=attack.__name__))
        stack.callback(lambda: [task.cancel() for task in tasks])
        for _ in range(TURNS):
            await _measure(stand, alone)
            dispatches = [await guard.come(world) for world in attacked]
            await _measure(stand, beside)
            for world, dispatch in zip(attacked, dispatches, strict=True):
                await client.agent_dispatch.delete_dispatch(dispatch, world.room)
            await asyncio.sleep(SETTLED)
        for task in tasks:
            if task.done():
                task.result()
    table = Table("a room alongside others", "takes (5th to 99th percentile)", "to itself", "at the 99th", box=None)
    for kind, base in alone.items():
        for what, seconds in (("that are let be", base), ("that are guarded too", beside[kind])):
            table.add_row(f"{kind}, {what}", milliseconds(seconds), ratio(seconds, base), ratio(seconds, base, 99))
    return table


async def _measure(stand: Stand, found: dict[str, list[float]]) -> None:
    for _ in range(REMOVALS):
        found["publishing"].append(await stand.publishing())
        found["silent"].append(await stand.silent())
