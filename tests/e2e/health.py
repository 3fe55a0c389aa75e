"""A worker's health, over HTTP."""

import asyncio

import aiohttp

from devserver import Worker
from tests.e2e.world import World

TOLD_AFTER = 5.0
"""Seconds after which the server knows a worker's load: workers report it every 2.5 s."""


async def health(running: Worker) -> dict[str, object]:
    """Return the worker's status once it is healthy."""
    async with aiohttp.ClientSession(f"http://127.0.0.1:{running.http_port}") as session:
        async with session.get("/") as answer:
            assert answer.status == 200, await answer.text()
        async with session.get("/worker") as answer:
            told: dict[str, object] = await answer.json()
            return told


async def full(world: World, running: Worker) -> None:
    """Wait until a worker is full and the server knows it."""

    async def loaded() -> bool:
        return (await health(running)).get("worker_load") == 1

    await world.until(loaded, "the worker is full")
    await asyncio.sleep(TOLD_AFTER)
