"""This tree against an earlier commit, in one run: event to gone, and what a quiet room takes. `make bench-against`."""

import asyncio
import io
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from livekit import api
from rich.table import Table

from benchmarks.arena import Guard, Stand, each, guarding, quiet
from benchmarks.figures import among, milliseconds, ratio, screen
from devserver import own_server

ROOT = Path(__file__).parents[1]
PUBLISHING, SILENT = 100, 30
"""How many intruders of each kind each of the two removes."""
ROOMS = 10
TIMES = 3
"""How often the quiet rooms are opened and measured."""

console = screen()


def unpacked(revision: str, folder: Path) -> Path:
    """Return the front door of the tree at that commit, unpacked into the folder."""
    command = ["git", "archive", revision]
    archive = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout  # noqa: S603 - our own
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    return folder / "agent.py"


async def compare(then: Guard, now: Guard, client: api.LiveKitAPI) -> Table:
    """Measure both in turns."""
    table = Table("", then.name, now.name, "ratio (and its spread)", box=None)
    for kind, measure, times in (
        ("publishing", Stand.publishing, PUBLISHING),
        ("silent", Stand.silent, SILENT),
    ):
        took = await each([then, now], client, times, measure)
        before, after = took[then.name], took[now.name]
        table.add_row(
            f"event to gone, {kind}, {times} each", milliseconds(before), milliseconds(after), ratio(after, before)
        )
        table.add_row("  at the 99th percentile", "", "", ratio(after, before, 99))
    found = [await quiet([then, now], client, ROOMS) for _ in range(TIMES)]
    for what, unit, figures in (
        ("a quiet room's memory", "MB", [(a.memory, b.memory) for a, b in found]),
        ("a quiet room's CPU", "% of a core", [(100 * a.cpu, 100 * b.cpu) for a, b in found]),
    ):
        before, after = (list(column) for column in zip(*figures, strict=True))
        shown = [f"{min(column):.2g} to {max(column):.2g} {unit}" for column in (before, after)]
        table.add_row(f"{what}, {TIMES} times {ROOMS} rooms", *shown, among(after, before))
    return table


async def main(revision: str) -> None:
    """Run both side by side on one server, and print the comparison."""
    with TemporaryDirectory(prefix="livekit-bouncer-against-") as folder:
        earlier = unpacked(revision, Path(folder))
        async with (
            own_server(say=console.print) as server,
            api.LiveKitAPI(server.url, server.api_key, server.api_secret) as client,
            guarding(revision, earlier, server) as then,
            guarding("now", ROOT / "agent.py", server) as now,
        ):
            console.print(await compare(then, now, client))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
