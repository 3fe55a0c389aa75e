"""An agents worker in a process of its own, and what it logs."""

import asyncio
import json
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from devserver.process import LOOPBACK, StartFailed, end, free_port, spawn, tail
from devserver.source import Server

REGISTER_LIMIT = 60.0
"""Seconds for a worker to register; it takes three, most of them to import modules."""

DRAIN_LIMIT = 15.0
"""Seconds for a worker to drain when its context ends, before it is killed."""

ALWAYS: dict[str, str] = {}
"""Settings of every worker, unless its own `env` says otherwise."""
Line = dict[str, Any]
"""A worker's log record; a line that is not a JSON object becomes one with only a `message`."""


@asynccontextmanager
async def worker(
    script: str | Path,
    server: Server,
    *,
    env: Mapping[str, str] | None = None,
    args: Sequence[str] = ("start",),
    log_file: Path | None = None,
    python: str | Path = sys.executable,
) -> AsyncIterator["Worker"]:
    """Run `python <script> start` against the server, from its registration until the context ends.

    The worker gets the LIVEKIT_* and BOUNCER_* settings in `env`, and none of this process's own. It runs in an empty
    folder, so it reads no `.env.local` either; all paths have to be absolute. Raises StartFailed.
    """
    with TemporaryDirectory(prefix="livekit-bouncer-") as folder:
        log_file = log_file or Path(folder) / "worker.log"
        (cwd := Path(folder) / "cwd").mkdir()
        process = await spawn(
            [str(python), str(script), *args],
            {**without_settings(server), **server.env, "BOUNCER_PORT": str(free_port()), **ALWAYS, **(env or {})},
            log_file,
            cwd=cwd,
        )
        running = Worker(process, log_file)
        following = asyncio.create_task(running.follow())
        try:
            try:
                await running.line(lambda line: "registered worker" in line["message"], within=REGISTER_LIMIT)
            except TimeoutError:
                raise StartFailed(f"{Path(script).name} did not register:\n{tail(log_file)}") from None
            yield running
        finally:
            await end(process, within=DRAIN_LIMIT)
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following


class Worker:
    """An agents worker in a process of its own, and what it logs."""

    def __init__(self, process: asyncio.subprocess.Process, log_file: Path) -> None:
        self._process = process
        self._read = 0
        self._rest = b""
        self.log: list[Line] = []
        self.log_file = log_file

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status; None while it runs, negative for a signal."""
        return self._process.returncode

    @property
    def http_port(self) -> int:
        """The port of its health check, as it logged it. Raises LookupError."""
        for line in self.log:
            if found := re.search(r"HTTP server listening on \S*:(\d+)", line["message"]):
                return int(found[1])
        raise LookupError("the worker has not logged its port")

    def terminate(self) -> None:
        """Ask it to drain and end, as a deployment does (SIGTERM)."""
        self._process.terminate()

    def kill(self) -> None:
        """End it at once, as a crash does (SIGKILL)."""
        self._process.kill()

    async def exited(self, *, within: float = 60.0) -> int:
        """Wait for it to end and return its exit status. Raises TimeoutError."""
        async with asyncio.timeout(within):
            return await self._process.wait()

    async def line(self, matches: Callable[[Line], bool], *, within: float = 60.0, after: int = 0) -> Line:
        """Wait for a log line that matches, `log[after]` or a later one, and return it.

        Raises TimeoutError, at once if the process has ended without such a line.
        """
        deadline = time.monotonic() + within
        while True:
            ended = self.returncode is not None or time.monotonic() > deadline
            self._read_log()
            while after < len(self.log):
                if matches(self.log[after]):
                    return self.log[after]
                after += 1
            if ended:
                raise TimeoutError(f"no such line in {len(self.log)} lines of log:\n{tail(self.log_file)}")
            await asyncio.sleep(0.02)

    async def follow(self) -> None:
        """Keep `log` up to date with the file, until cancelled."""
        try:
            while True:
                self._read_log()
                await asyncio.sleep(0.05)
        finally:
            self._read_log()

    def _read_log(self) -> None:
        """Take over the lines written to the file since the last call."""
        with self.log_file.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        self._read += len(new)
        *lines, self._rest = (self._rest + new).split(b"\n")
        self.log.extend(_parsed(line.decode(errors="replace")) for line in lines)


def without_settings(server: Server) -> dict[str, str]:
    """Return this process's environment without settings for other servers and workers."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("LIVEKIT_", "BOUNCER_"))}
    if urlsplit(server.url).hostname in {LOOPBACK, "localhost", "::1"}:
        # The framework would send its connection through these, even to this machine.
        env = {name: value for name, value in env.items() if name.upper() not in ("HTTP_PROXY", "HTTPS_PROXY")}
    return env


def _parsed(line: str) -> Line:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    return record if isinstance(record, dict) and isinstance(record.get("message"), str) else {"message": line}
