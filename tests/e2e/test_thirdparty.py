"""A policy of another package, installed beside a bouncer that knows nothing of it."""

from pathlib import Path

from demo.server import Server, worker
from tests.e2e.conftest import AGENT
from tests.e2e.world import World
from tests.packages import contributed


async def test_it_evicts_once_the_room_names_it(lobby: World, server: Server, tmp_path: Path) -> None:
    """The package that CONTRIBUTING.md shows, installed by pip; the room's metadata decides whether it counts."""
    name = f"bouncer-{lobby.room}"
    environment = {"BOUNCER_AGENT_NAME": name, "PYTHONPATH": str(contributed(tmp_path))}
    async with worker(AGENT, server, env=environment, log_file=tmp_path / "log"):
        await lobby.open(agent_name=name)
        nameless = await lobby.agent("A", name="")
        await lobby.agent("B")
        await lobby.stays({"A", "B"}, seconds=2)

        await lobby.metadata({"bouncer": {"policies": {"nameless": {"grace": 1}}}})

        await lobby.gone(nameless)
        told = await lobby.message(event="evicted", identity="A")
        assert (told["policy"], told["reason"]) == ("nameless", "has no agent name")
        await lobby.stays({"B"}, seconds=2)
        await lobby.close()
