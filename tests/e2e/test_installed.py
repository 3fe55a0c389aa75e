"""The package as pip installs it, away from the checkout."""

import asyncio
import sys
from pathlib import Path

from devserver import Server, worker
from tests.e2e.world import World
from tests.packages import ROOT


async def test_its_command_starts_a_worker(lobby: World, server: Server, tmp_path: Path) -> None:
    """`bouncer start` is the worker that agent.py starts, and needs no file of the checkout."""
    site, name = tmp_path / "site", f"bouncer-{lobby.room}"
    quietly = ("--disable-pip-version-check", "--quiet", "--no-deps")
    pip = (sys.executable, "-m", "pip", "install", *quietly, "--target", str(site), str(ROOT))
    installing = await asyncio.create_subprocess_exec(*pip)
    assert await installing.wait() == 0

    installed = {"BOUNCER_AGENT_NAME": name, "PYTHONPATH": str(site)}
    async with worker(site / "bin" / "bouncer", server, env=installed, log_file=tmp_path / "log"):
        await lobby.open(agent_name=name)
        await lobby.agent("A", lively=True)
        second = await lobby.agent("B")
        await lobby.gone(second)
