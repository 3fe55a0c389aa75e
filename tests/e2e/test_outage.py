"""The way to the server is gone for longer than LiveKit's client tries to reconnect; the rooms are still there."""

import time
from pathlib import Path

import pytest
from livekit import api

from demo.server import Server, Worker, worker
from tests.e2e.conftest import AGENT
from tests.e2e.line import line_to
from tests.e2e.world import World

GRACE_0 = {"bouncer": {"policies": {"duplicates": {"grace": 0}}}}
ENDED_WITHIN = 120.0
"""Seconds for a job to end once the line is cut; it takes 21 to 31."""


async def test_the_rooms_are_guarded_again(
    lobby: World, server: Server, client: api.LiveKitAPI, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that was closed meanwhile stays closed, and where nobody wants a bouncer any more there is none."""
    name = f"bouncer-{lobby.room}"
    async with (
        line_to(server) as line,
        worker(AGENT, line.server, env={"BOUNCER_AGENT_NAME": name}, log_file=tmp_path / "log") as running,
        World(server, client) as closed,
        World(server, client) as unwanted,
    ):
        for room in (lobby, closed, unwanted):
            await room.open(GRACE_0, agent_name=name)
        await lobby.human("h")
        await lobby.agent("A")
        await unwanted.human("h")

        line.cut()
        cut_at = time.monotonic()
        for room in (lobby, closed, unwanted):
            await said(running, "no longer guarding", room, within=ENDED_WITHIN)
        ended_at = time.monotonic()
        await closed.close()
        assert unwanted.bouncer
        await client.agent_dispatch.delete_dispatch(unwanted.bouncer.dispatch, unwanted.room)
        await lobby.until(lambda: nobody_guards(lobby), "nobody guards the room", within=60)
        twin = await lobby.agent("B")
        line.mend()
        mended_at = time.monotonic()

        await lobby.gone(twin, within=120)
        unguarded = time.monotonic() - mended_at
        with capsys.disabled():
            print(f"\nan outage of {mended_at - cut_at:.0f} s: the job ended after {ended_at - cut_at:.0f} s", end="")
            print(f"; from when it was over until the next eviction: {unguarded:.1f} s")
        await said(running, "replaced", lobby)
        assert len(await dispatches(lobby, name)) == len(await lobby.guarding()) == 1
        await lobby.stays({"A", "h"}, seconds=1)

        for room in (closed, unwanted):
            await said(running, "not replaced", room, within=90)
        assert await dispatches(unwanted, name) == []
        open_rooms = await client.room.list_rooms(api.ListRoomsRequest(names=[closed.room, unwanted.room]))
        assert [room.name for room in open_rooms.rooms] == [unwanted.room]


async def test_a_worker_that_is_told_to_end_does(lobby: World, server: Server, tmp_path: Path) -> None:
    """Its room has no bouncer, and it looks for one, in vain."""
    name = f"bouncer-{lobby.room}"
    async with (
        line_to(server) as line,
        worker(AGENT, line.server, env={"BOUNCER_AGENT_NAME": name}, log_file=tmp_path / "log") as running,
    ):
        await lobby.open(GRACE_0, agent_name=name)
        line.cut()
        await said(running, "to be replaced", lobby, within=ENDED_WITHIN)

        running.terminate()

        assert await running.exited() == 0
        await said(running, "not replaced", lobby)
        assert "Traceback" not in running.log_file.read_text()


async def said(running: Worker, message: str, world: World, *, within: float = 30.0) -> None:
    """Wait until the worker says this of a room."""
    await running.line(
        lambda line: (line["message"], line.get("lk.pii.room_name")) == (message, world.room), within=within
    )


async def nobody_guards(world: World) -> bool:
    """Whether the server lists no bouncer any more."""
    return not await world.guarding()


async def dispatches(world: World, agent_name: str) -> list[str]:
    """The ids of the room's dispatches of this name."""
    found = await world.api.agent_dispatch.list_dispatch(world.room)
    return [dispatch.id for dispatch in found if dispatch.agent_name == agent_name]
