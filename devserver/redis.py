"""A Redis for a cluster of LiveKit servers: Debian's redis-server, or any on the PATH."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from devserver.debian import find_or_install
from devserver.process import LOOPBACK, StartFailed, end, free_port, spawn, tail
from devserver.source import Say

START_LIMIT = 20.0
"""Seconds for Redis to answer; it takes a few hundredths of one."""

PONG = b"+PONG"


@asynccontextmanager
async def redis(*, say: Say) -> AsyncIterator[str]:
    """Run a Redis that keeps nothing, on a free port of this machine; yield its address.

    Raises ServerUnavailable or StartFailed.
    """
    program = await asyncio.to_thread(find_or_install, "redis-server", "redis-server", say)
    port = free_port()
    command = [program, "--bind", LOOPBACK, "--port", str(port), "--save", "", "--appendonly", "no"]
    with TemporaryDirectory(prefix="livekit-bouncer-") as folder:
        log_file = Path(folder) / "redis.log"
        process = await spawn(command, {}, log_file, cwd=Path(folder))
        try:
            try:
                async with asyncio.timeout(START_LIMIT):
                    await _ready(port, process)
            except TimeoutError:
                raise StartFailed(f"Redis does not answer:\n{tail(log_file)}") from None
            if process.returncode is not None:
                raise StartFailed(f"Redis ended with status {process.returncode}:\n{tail(log_file)}")
            yield f"{LOOPBACK}:{port}"
        finally:
            await end(process, within=1.0)


async def _ready(port: int, process: asyncio.subprocess.Process) -> None:
    """Wait until it answers, or has ended."""
    while process.returncode is None:
        if await _answers(port):
            return
        await asyncio.sleep(0.05)


async def _answers(port: int) -> bool:
    with suppress(OSError):
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        try:
            writer.write(b"PING\r\n")
            return (await reader.readline()).startswith(PONG)
        finally:
            writer.close()
            await writer.wait_closed()
    return False
