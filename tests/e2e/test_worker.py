"""The worker as a process: started from anywhere, full of rooms, misconfigured, drained."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import AsyncExitStack
from importlib import import_module
from pathlib import Path

import pytest
from livekit import api

from devserver import Server, Worker, worker
from devserver.process import spawn
from tests.e2e.conftest import AGENT
from tests.e2e.health import full, health
from tests.e2e.world import World

ROOMS = 40


@pytest.fixture(autouse=True)
def _as_deployed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start each worker as a deployment does."""
    monkeypatch.setattr(import_module("devserver.worker"), "spawn", spawn)


async def guarded(world: World, rooms: list[str]) -> bool:
    """Return True if each of these rooms has a bouncer that claims it."""
    for room in rooms:
        listed = await world.api.room.list_participants(api.ListParticipantsRequest(room=room))
        if not any(p.attributes.get("bouncer.guarding") for p in listed.participants):
            return False
    return True


@pytest.mark.timeout(300)
async def test_forty_rooms_opened_at_once_are_all_guarded(world: World) -> None:
    """None is lost because the machine is busy: a dispatch that a worker declines is never offered again."""
    rooms = [f"{world.room}-{i}" for i in range(ROOMS)]
    dispatch = api.RoomAgentDispatch(agent_name="bouncer")
    await asyncio.gather(
        *(world.api.room.create_room(api.CreateRoomRequest(name=room, agents=[dispatch])) for room in rooms)
    )
    try:
        await world.until(lambda: guarded(world, rooms), "all rooms are guarded", within=180)
    finally:
        await asyncio.gather(*(world.api.room.delete_room(api.DeleteRoomRequest(room=room)) for room in rooms))


@pytest.mark.parametrize("command", ["start", "dev"])
async def test_it_runs_from_any_folder_whatever_the_environment_says(
    command: str, lobby: World, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shared .env with LIVEKIT_TOKEN and LIVEKIT_AGENT_NAME for the user's own agent does no harm."""
    monkeypatch.chdir(tmp_path)
    name = f"bouncer-{lobby.room}"
    environment = {"BOUNCER_AGENT_NAME": name, "LIVEKIT_TOKEN": "not ours", "LIVEKIT_AGENT_NAME": "assistant"}
    async with worker(AGENT, server, env=environment, args=(command,), log_file=tmp_path / "log") as running:
        await lobby.open(agent_name=name)
        await lobby.agent("A", lively=True)
        second = await lobby.agent("B")

        await lobby.gone(second)

        assert (await health(running))["agent_name"] == name
        await lobby.close()


async def test_a_full_worker_gets_no_more_rooms(lobby: World, server: Server, tmp_path: Path) -> None:
    """Its load is its rooms. At BOUNCER_MAX_ROOMS, further rooms go to another worker."""
    name = f"bouncer-{lobby.room}"
    rooms = [f"{lobby.room}-{number}" for number in range(14)]

    async def open_rooms(some: list[str]) -> None:
        dispatch = api.RoomAgentDispatch(agent_name=name)
        for room in some:
            await lobby.api.room.create_room(api.CreateRoomRequest(name=room, agents=[dispatch]))
        await lobby.until(lambda: guarded(lobby, some), "the rooms are guarded")

    async with AsyncExitStack() as stack:

        async def hire(number: int, max_rooms: str) -> Worker:
            environment = {"BOUNCER_AGENT_NAME": name, "BOUNCER_MAX_ROOMS": max_rooms}
            log_file = tmp_path / f"log{number}"
            return await stack.enter_async_context(worker(AGENT, server, env=environment, log_file=log_file))

        first = await hire(1, "2")
        await open_rooms(rooms[:2])
        _, second = await asyncio.gather(full(lobby, first), hire(2, "100"))

        await open_rooms(rooms[2:])

        assert (await health(first))["active_jobs"] == 2
        assert (await health(second))["active_jobs"] == 12
        for room in rooms:
            await lobby.api.room.delete_room(api.DeleteRoomRequest(room=room))


async def test_sigterm_drains(lobby: World, server: Server, tmp_path: Path) -> None:
    """It takes no more rooms, keeps guarding the one it has, and ends with status 0 once that closes."""
    name = f"bouncer-{lobby.room}"
    async with worker(AGENT, server, env={"BOUNCER_AGENT_NAME": name}, log_file=tmp_path / "log") as running:
        await lobby.open(agent_name=name)
        running.terminate()
        await running.line(lambda line: line["message"] == "draining worker")
        await lobby.agent("A", lively=True)
        second = await lobby.agent("B")
        await lobby.gone(second)

        await lobby.close()

        assert await running.exited() == 0


async def test_healthy_rooms_say_little(lobby: World, server: Server, tmp_path: Path) -> None:
    """Rooms that open, are guarded and close log no error and no warning of ours, and at most five lines each."""
    name = f"bouncer-{lobby.room}"
    async with worker(AGENT, server, env={"BOUNCER_AGENT_NAME": name}, log_file=tmp_path / "log") as running:
        await running.line(lambda line: line["message"] == "registered worker")
        before = len(running.log)
        for number in range(3):
            async with World(server, lobby.api) as room:
                await room.open(agent_name=name)
                agent = await room.agent("A", audio=True)
                await agent.transcribe(f"hello {number}")
                await room.close()
                await running.line(
                    lambda line, room=room: (
                        (line["message"], line.get("lk.pii.room_name"))  # type: ignore[misc]
                        == ("no longer guarding", room.room)
                    )
                )
        said = [line for line in running.log[before:] if line.get("level") != "DEBUG"]

        assert [line for line in said if line.get("level") not in ("INFO", "WARNING")] == []
        assert [line for line in said if line.get("level") == "WARNING" and line.get("name") == "bouncer"] == []
        assert len([line for line in said if line.get("level") == "INFO"]) <= 3 * 5


async def test_ctrl_c_ends_a_dev_worker_at_once(lobby: World, server: Server, tmp_path: Path) -> None:
    """It leaves its rooms and ends without a traceback."""
    name = f"bouncer-{lobby.room}"
    environment = {"BOUNCER_AGENT_NAME": name}
    async with worker(AGENT, server, env=environment, args=("dev",), log_file=tmp_path / "log") as running:
        await lobby.open(agent_name=name)
        os.kill(running.pid, signal.SIGINT)

        await running.exited()

        assert "Traceback" not in running.log_file.read_text()


def test_a_bad_environment_stops_it_from_starting(server: Server) -> None:
    """Every mistake is named with its variable, and nothing is guessed."""
    environment = {
        **os.environ,
        **server.env,
        "BOUNCER_MAX_ROOMS": "many",
        "BOUNCER_CONFIG": '{"bouncer": {"mode": "of", "policies": {"idle_timeout": {"timeout": "soon"}}}}',
    }
    ended = subprocess.run(
        [sys.executable, AGENT, "start"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [
        "BOUNCER_MAX_ROOMS: must be a whole number from 1 to 100000, not “many”",
        "BOUNCER_CONFIG: $.bouncer.mode: must be 'enforce', 'dry_run' or 'off', not \"of\"",
        'BOUNCER_CONFIG: $.bouncer.policies.idle_timeout.timeout: must be a number, not "soon"',
    ]


async def test_a_frozen_worker_evicts_no_one_for_what_it_missed(lobby: World, server: Server, tmp_path: Path) -> None:
    """The agent worked all the time. A bouncer that was stopped and continued must not consider it idle."""
    name = f"bouncer-{lobby.room}"
    async with worker(AGENT, server, env={"BOUNCER_AGENT_NAME": name}, log_file=tmp_path / "log") as running:
        await lobby.open({"bouncer": {"policies": {"idle_timeout": {"timeout": 8}}}}, agent_name=name)
        agent = await lobby.agent("A")
        os.kill(running.pid, signal.SIGSTOP)
        for _ in range(6):
            await asyncio.sleep(2)
            await agent.send_data()
        os.kill(running.pid, signal.SIGCONT)
        await lobby.stays({"A"}, seconds=4)

        await lobby.gone(agent)

        await lobby.close()
