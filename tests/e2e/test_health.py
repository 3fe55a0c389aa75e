"""What a worker tells of itself over HTTP, while its server is there and while it is away."""

from pathlib import Path

import aiohttp

from devserver import Server, Worker, worker
from tests.e2e.conftest import AGENT
from tests.e2e.line import line_to
from tests.e2e.world import World


async def ask(running: Worker, path: str) -> tuple[int, str]:
    """Ask it something: the status, and the text."""
    async with (
        aiohttp.ClientSession(f"http://127.0.0.1:{running.http_port}") as session,
        session.get(path) as answer,
    ):
        return answer.status, await answer.text()


async def facts(running: Worker) -> dict[str, object]:
    """Ask it for its facts."""
    async with (
        aiohttp.ClientSession(f"http://127.0.0.1:{running.http_port}") as session,
        session.get("/worker") as answer,
    ):
        told: dict[str, object] = await answer.json()
        return told


async def test_health_tells_the_truth(lobby: World, server: Server, tmp_path: Path) -> None:
    """It counts the rooms by how they are; without its server it is no longer well, though it lives."""
    name = f"bouncer-{lobby.room}"
    environment = {"BOUNCER_AGENT_NAME": name, "BOUNCER_HOST": "127.0.0.1", "BOUNCER_MAXROOMS": "3"}
    async with (
        line_to(server) as line,
        worker(AGENT, line.server, env=environment, log_file=tmp_path / "log") as running,
    ):
        await running.line(lambda line: "did you mean BOUNCER_MAX_ROOMS?" in str(line.get("warning")))

        async def well() -> bool:
            return (await ask(running, "/"))[0] == 200

        async def counted(**expected: object) -> bool:
            return expected.items() <= (await facts(running)).items()

        await lobby.until(well, "it is well")
        assert [await ask(running, path) for path in ("/ready", "/live")] == [(200, "OK")] * 2
        assert await counted(agent_name=name, registered=True, rooms_guarded=0, draining=False)

        await lobby.open(agent_name=name)
        await lobby.until(lambda: counted(rooms_guarded=1, rooms_acting=1), "one room is guarded")
        assert (await facts(running))["last_successful_call"]
        await lobby.metadata({"bouncer": {"mode": "off"}})
        await lobby.until(lambda: counted(rooms_guarded=1, rooms_off=1, rooms_acting=0), "it is off there")

        line.cut()
        await lobby.until(lambda: counted(rooms_blind=1), "it is blind there", within=60)

        async def unwell() -> bool:
            return (await ask(running, "/"))[0] == 503

        await lobby.until(unwell, "it is not well", within=90)
        assert "not registered" in (await ask(running, "/ready"))[1]
        assert await ask(running, "/live") == (200, "OK")
        line.mend()
        await lobby.until(well, "it is well again", within=90)
