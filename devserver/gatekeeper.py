"""A gatekeeper in a process of its own, and what it logs."""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from devserver.process import StartFailed, end, spawn, tail
from devserver.source import Server
from devserver.worker import Worker, without_settings

LISTEN_LIMIT = 60.0
"""Seconds for a gatekeeper to listen; it takes two, most of them to import modules."""
END_WITHIN = 5.0
CHECKOUT = str(Path(__file__).parents[1])


@asynccontextmanager
async def gatekeeper(
    server: Server,
    *,
    port: int,
    args: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    log_file: Path | None = None,
) -> AsyncIterator[Worker]:
    """Run `bouncer gatekeeper` against the server, from when it listens until the context ends.

    Like a worker, it gets none of this process's own settings, and reads no `.env.local`. Raises StartFailed.
    """
    with TemporaryDirectory(prefix="livekit-bouncer-") as folder:
        log_file = log_file or Path(folder) / "gatekeeper.log"
        (cwd := Path(folder) / "cwd").mkdir()
        process = await spawn(
            [sys.executable, "-m", "bouncer", "gatekeeper", *args, "--log-level", "debug"],
            {
                **without_settings(server),
                **server.env,
                "BOUNCER_GATEKEEPER_PORT": str(port),
                "PYTHONPATH": CHECKOUT,
                **(env or {}),
            },
            log_file,
            cwd=cwd,
        )
        running = Worker(process, log_file)
        following = asyncio.create_task(running.follow())
        try:
            try:
                await running.line(lambda line: line["message"] == "gatekeeper listening", within=LISTEN_LIMIT)
            except TimeoutError:
                raise StartFailed(f"the gatekeeper does not listen:\n{tail(log_file)}") from None
            yield running
        finally:
            await end(process, within=END_WITHIN)
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
