"""The line to the server is cut for longer than LiveKit's client tries to reconnect; the rooms live on."""

import time
from pathlib import Path

import pytest
from livekit import api

from devserver import Server, Worker, worker
from tests.e2e.conftest import AGENT
from tests.e2e.line import line_to
from tests.e2e.world import World

GRACE_0 = {"bouncer": {"policies": {"duplicates": {"grace": 0, "wait_for_life": 0}}}}
ENDED_WITHIN = 120.0
"""Seconds to wait for a job to end once the line is cut; it takes 21 to 31."""


async def test_the_rooms_are_guarded_again(
    lobby: World, server: Server, client: api.LiveKitAPI, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A room closed meanwhile stays closed, and a room whose dispatch was deleted gets no bouncer.

    Another worker is told to end during the outage. It does, though its room has no bouncer.
    """
    name, ending_name = f"bouncer-{lobby.room}", f"ending-{lobby.room}"
    async with (
        line_to(server) as line,
        worker(AGENT, line.server, env={"BOUNCER_AGENT_NAME": name}, log_file=tmp_path / "log") as running,
        worker(AGENT, line.server, env={"BOUNCER_AGENT_NAME": ending_name}, log_file=tmp_path / "ending") as ending,
        World(server, client) as closed,
        World(server, client) as unwanted,
        World(server, client) as lost,
    ):
        for room in (lobby, closed, unwanted):
            await room.open(GRACE_0, agent_name=name)
        await lost.open(GRACE_0, agent_name=ending_name)
        await lobby.human("h")
        await lobby.agent("A")
        await unwanted.human("h")

        line.cut()
        cut_at = time.monotonic()
        for room in (lobby, closed, unwanted):
            await said(running, "no longer guarding", room, within=ENDED_WITHIN)
        ended_at = time.monotonic()
        await said(ending, "successor requested", lost, within=ENDED_WITHIN)
        ending.terminate()
        assert await ending.exited() == 0
        await said(ending, "not replaced", lost)
        assert "Traceback" not in ending.log_file.read_text()
        await closed.close()
        assert unwanted.bouncer
        await client.agent_dispatch.delete_dispatch(unwanted.bouncer.dispatch, unwanted.room)
        await lobby.until(lambda: without_bouncer(lobby), "the room is unguarded")
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


async def said(running: Worker, message: str, world: World, *, within: float = 30.0) -> None:
    """Wait until the worker logs this about a room."""
    await running.line(
        lambda line: (line["message"], line.get("lk.pii.room_name")) == (message, world.room), within=within
    )


async def without_bouncer(world: World) -> bool:
    """Return True if the server no longer lists a bouncer."""
    return not await world.guarding()


async def dispatches(world: World, agent_name: str) -> list[str]:
    """Return the ids of the room's dispatches of this name."""
    found = await world.api.agent_dispatch.list_dispatch(world.room)
    return [dispatch.id for dispatch in found if dispatch.agent_name == agent_name]
