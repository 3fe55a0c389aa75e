"""A policy of another package, installed next to a bouncer that does not know it."""

from pathlib import Path

from devserver import Server, worker
from tests.e2e.conftest import AGENT
from tests.e2e.elsewhere import replayed
from tests.e2e.world import World
from tests.packages import contributed


async def test_it_evicts_once_the_room_names_it(lobby: World, server: Server, tmp_path: Path) -> None:
    """The documents' example package, installed by pip, applies once the room's metadata names it."""
    name = f"bouncer-{lobby.room}"
    installed, recordings = {"PYTHONPATH": str(contributed(tmp_path))}, tmp_path / "recordings"
    environment = {"BOUNCER_AGENT_NAME": name, "BOUNCER_RECORD": str(recordings), **installed}
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

    answer = await replayed(recordings, installed)
    assert answer["by_policy"]["nameless"]["unchanged"] == 1
