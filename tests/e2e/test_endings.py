"""The end of a job: what is said until then, and what hangs in the SDK or in a thread."""

import asyncio

from bouncer.observers import Unguarded
from devserver import Server, worker
from tests.e2e.conftest import HERE
from tests.e2e.inside import guarded_from_inside
from tests.e2e.test_health import facts
from tests.e2e.world import World


async def test_a_job_that_never_ends(lobby: World, server: Server) -> None:
    """It is given up, with an error that says what to do; its place is free, and the worker can still end."""
    name = f"bouncer-{lobby.room}"
    env = {"BOUNCER_AGENT_NAME": name, "BOUNCER_HOST": "127.0.0.1"}
    async with worker(HERE / "endless_bouncer.py", server, env=env) as running:

        async def jobs(number: int) -> bool:
            told = await facts(running)
            return (told["active_jobs"], told["rooms_guarded"]) == (number, number)

        await lobby.open(agent_name=name)
        assert await jobs(1)
        await lobby.close()

        for part in ("connection", "job"):
            said = await running.line(lambda line, part=part: line.get("part") == part)  # type: ignore[misc]
            assert (said["level"], said["message"], said["lk.pii.room_name"]) == ("ERROR", "closing hangs", lobby.room)
            assert "restart the worker" in said["do"]
        await lobby.until(lambda: jobs(0), "its place is free")

        running.terminate()
        assert await running.exited() == 0


async def test_the_end_is_told_though_calls_are_under_way(lobby: World) -> None:
    """Ending them takes a moment, and the job doesn't end before."""
    called, closed = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        called.set()
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(2)

    async with guarded_from_inside(lobby, {}, "guard") as (guard,):
        guard.before("list_participants", slow)
        guard.patrol.list_soon()
        async with asyncio.timeout(60):
            await called.wait()
        guard.room.on("disconnected", lambda _: closed.set())
        await lobby.close()
        async with asyncio.timeout(60):
            await closed.wait()

    assert isinstance(guard.recorder.news[-1], Unguarded)
