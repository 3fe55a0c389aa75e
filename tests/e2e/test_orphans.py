"""A worker that died leaves rooms with a dispatch and no bouncer; those that start next guard them again."""

import asyncio
import json
import time
from contextlib import suppress

import pytest
from livekit import api

from devserver import Server, worker
from tests.e2e.conftest import AGENT, HERE
from tests.e2e.world import World

NAME = {"BOUNCER_AGENT_NAME": "finders"}
CONFIGURATION = {"bouncer": {"policies": {"idle_timeout": {"timeout": 6000}}}}
MOMENT = 30.0
"""Seconds that such a room is unguarded at most, from when the corpse is no longer listed."""


async def test_an_orphaned_room_is_guarded_again(
    lobby: World, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed while it guards a room, and two workers start: one bouncer is there in the end, configured as before.

    They wait until the corpse is no longer listed, which takes about 25 s; the room is guarded within 30 s of that.
    """
    async with worker(AGENT, server, env=NAME) as first:
        await lobby.open(agent_name="finders", dispatch_metadata=CONFIGURATION)
        await lobby.human("ana")
        first.kill()
        await first.exited()
    corpse = lobby.bouncer
    assert corpse
    assert corpse.sid in (await lobby.guarding()).values()

    async def departed() -> float:
        await lobby.gone(corpse, within=90)
        return time.monotonic()

    async def guarded_again() -> set[str]:
        return set((await lobby.guarding()).values()) - {corpse.sid}

    async def alone() -> api.AgentDispatch | None:
        dispatches = await lobby.api.agent_dispatch.list_dispatch(lobby.room)
        ours = [each for each in dispatches if each.agent_name == "finders"]
        one = len(ours) == 1 and len(await lobby.guarding()) == 1
        return ours[0] if one and "bouncer_mark" in ours[0].metadata else None

    departure = asyncio.create_task(departed())  # it may leave while the workers start
    try:
        async with worker(AGENT, server, env=NAME), worker(AGENT, server, env=NAME):
            await lobby.until(guarded_again, "a new bouncer guards the room", within=90)
            guarded_at = time.monotonic()
            left = await lobby.until(alone, "it is the only one, of a marked dispatch", within=60)
            rooms = await lobby.api.room.list_rooms(api.ListRoomsRequest(names=[lobby.room]))
            assert json.loads(left.metadata) == {**CONFIGURATION, "bouncer_mark": rooms.rooms[0].sid}
            unguarded = max(0.0, guarded_at - await departure)
    finally:
        departure.cancel()
        with suppress(asyncio.CancelledError):
            await departure

    assert unguarded <= MOMENT
    with capsys.disabled():
        print(f"\nan orphaned room was guarded again {unguarded:.1f} s after the corpse had left", end="")


async def test_a_room_that_is_handed_to_no_one(lobby: World, server: Server) -> None:
    """The only worker is told to end: it does, and says so; the next one finds the room."""
    name = {"BOUNCER_AGENT_NAME": "leavers"}
    async with worker(HERE / "impatient_bouncer.py", server, env=name) as first:
        await lobby.open(agent_name="leavers")
        await lobby.human("ana")
        first.terminate()
        assert await first.exited() == 0
        said = await first.line(lambda line: line["message"] == "handed to no one")
        assert (said["level"], said["lk.pii.room_name"]) == ("WARNING", lobby.room)
        assert not await lobby.guarding()

    async with worker(AGENT, server, env=name):
        await lobby.until(lobby.guarding, "the room is guarded again", within=90)
