"""What other packages offer, installed next to a bouncer that does not know it."""

import tomllib
from pathlib import Path

from devserver import Server, worker
from tests.e2e.conftest import AGENT
from tests.e2e.elsewhere import replayed
from tests.e2e.world import World
from tests.packages import contributed, metadata, pip_installed, shown

OBSERVING = "docs/how-to/custom-observers.md"


async def test_a_policy_evicts_once_the_room_names_it(lobby: World, server: Server, tmp_path: Path) -> None:
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


async def test_an_observer_is_told_once_the_environment_names_it(lobby: World, server: Server, tmp_path: Path) -> None:
    """The documents' example, installed by pip, prints who is evicted."""
    (project,) = (tomllib.loads(block)["project"] for block in shown("toml", OBSERVING))
    offers = metadata(project["name"], project["entry-points"]["bouncer.observers"], "bouncer.observers")
    site, name = pip_installed(tmp_path, offers, {"acme_pager": shown("python", OBSERVING)[0]}), f"bouncer-{lobby.room}"
    installed = {"BOUNCER_OBSERVERS": "pager", "PYTHONPATH": str(site), "PYTHONUNBUFFERED": "1"}
    environment = {"BOUNCER_AGENT_NAME": name, **installed}
    async with worker(AGENT, server, env=environment, log_file=tmp_path / "log") as running:
        await lobby.open(agent_name=name)
        await lobby.agent("A", lively=True)
        await lobby.agent("B")

        await running.line(lambda line: line["message"] == f"evicted from {lobby.room}: B")
