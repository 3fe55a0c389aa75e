"""Processes on this machine: starting one, ending it with everything it left behind, and free ports."""

import asyncio
import os
import secrets
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

LOOPBACK = "127.0.0.1"

PORTS = range(20_000, 32_000)
"""Ports are taken from here: below the range that kernels give to outgoing connections."""

LOG_TAIL = 2000
"""Characters of a log that an error quotes."""


class StartFailed(RuntimeError):  # noqa: N818 - often no one's fault, hence no Error
    """A process ended or stayed silent instead of getting ready; the text quotes the end of its log."""


async def spawn(
    command: Sequence[str], env: Mapping[str, str], log_file: Path, *, cwd: Path | None = None
) -> asyncio.subprocess.Process:
    """Start a process that writes to the file, in a session of its own: the terminal's Ctrl-C doesn't reach it."""
    with log_file.open("wb") as log:
        return await asyncio.create_subprocess_exec(
            *command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


async def end(process: asyncio.subprocess.Process, *, within: float) -> None:
    """Terminate a process, kill it after `within` seconds, and kill what it left behind."""
    if process.returncode is None:
        process.terminate()
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await process.wait()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Return a port that is free on all addresses of this machine.

    Not port 0, the kernel's choice: the kernel may give that one to an outgoing connection a moment later.
    """
    while True:
        port = secrets.choice(PORTS)
        with socket.socket(socket.AF_INET, kind) as probe, suppress(OSError):
            probe.bind(("", port))
            return port


def tail(log_file: Path) -> str:
    """Return the end of a log."""
    return log_file.read_text(errors="replace")[-LOG_TAIL:]


@contextmanager
def locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold a lock against other processes that would do the same; call `waiting` if one of them holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            waiting()
            flock(file, LOCK_EX)
        yield
