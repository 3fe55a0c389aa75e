"""What a worker says of itself, over HTTP."""

import asyncio

import aiohttp

from demo.server import Worker
from tests.e2e.world import World

TOLD_AFTER = 5.0
"""Seconds after which the server has surely been told of a load: a worker tells it every 2.5 s."""


async def health(running: Worker) -> dict[str, object]:
    """What the worker says of itself, once it says that it is well."""
    async with aiohttp.ClientSession(f"http://127.0.0.1:{running.http_port}") as session:
        async with session.get("/") as answer:
            assert answer.status == 200, await answer.text()
        async with session.get("/worker") as answer:
            told: dict[str, object] = await answer.json()
            return told


async def full(world: World, running: Worker) -> None:
    """Wait until a worker has as many rooms as it may have, and the server has been told so."""

    async def loaded() -> bool:
        return (await health(running)).get("worker_load") == 1

    await world.until(loaded, "the worker is full")
    await asyncio.sleep(TOLD_AFTER)
