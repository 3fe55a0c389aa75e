"""Workers and gatekeepers that start at once: a process that has imported what they need forks for each of them.

The tests start about a hundred, and importing takes three seconds of CPU each time, more than all else that they do.
What a fork can't be is started as usual: another Python, packages of its own, `dev`, a bouncer with a patch, as that
comes before the imports. So are all in test_worker.py.
"""

import asyncio
import gc
import importlib
import json
import os
import runpy
import select
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from devserver.gatekeeper import CHECKOUT
from devserver.process import spawn

NEEDED = ("bouncer.adapter.worker", "bouncer.cli.gatekeeper", "bouncer.cli.wiring", "gatekeeper.service")
PLAIN = ("agent.py", "framework_agent.py", "per_person_agent.py")
Reply = dict[str, int]


class Forked:
    """What the tests use of `asyncio.subprocess.Process`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def returncode(self) -> int | None:
        """The exit status; None while it runs, negative for a signal."""
        return self.ended.result() if self.ended.done() else None

    async def wait(self) -> int:
        """Wait for it to end, and return its exit status."""
        return await asyncio.shield(self.ended)

    def terminate(self) -> None:
        """Ask it to end."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if not self.ended.done():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Forks:
    """The process that forks, from the first one that is needed until `end`."""

    def __init__(self) -> None:
        self._server: asyncio.subprocess.Process | None = None
        self._starting = asyncio.Lock()
        self._numbers = count()
        self._asked: dict[int, asyncio.Future[Forked]] = {}
        self._running: dict[int, Forked] = {}
        self._hearing: asyncio.Task[None] | None = None

    async def spawn(self, command: Sequence[str], env: Mapping[str, str], log_file: Path, *, cwd: Path) -> Any:
        """Start a process as `devserver.process.spawn` does."""
        python, *arguments = command
        forkable = arguments[:3] == ["-m", "bouncer", "gatekeeper"] or (
            Path(arguments[0]).name in PLAIN and arguments[1] == "start"
        )
        if python != sys.executable or env.get("PYTHONPATH", CHECKOUT) != CHECKOUT or not forkable:
            return await spawn(command, env, log_file, cwd=cwd)
        async with self._starting:
            self._server = self._server or await self._begin()
        assert self._server.stdin
        log_file.write_bytes(b"")
        number = next(self._numbers)
        self._asked[number] = asyncio.get_running_loop().create_future()
        request = {"number": number, "arguments": arguments, "env": dict(env), "log": str(log_file), "cwd": str(cwd)}
        self._server.stdin.write(json.dumps(request).encode() + b"\n")
        return await self._asked[number]

    async def end(self) -> None:
        """End it."""
        if self._server and self._hearing:
            assert self._server.stdin
            self._server.stdin.close()
            await self._hearing
            await self._server.wait()

    async def _begin(self) -> asyncio.subprocess.Process:
        server = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.e2e.forks"),
            cwd=CHECKOUT,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # a process with threads had better not fork
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert server.stdout
        self._hearing = asyncio.create_task(self._hear(server.stdout))
        return server

    async def _hear(self, replies: asyncio.StreamReader) -> None:
        while line := await replies.readline():
            reply: Reply = json.loads(line)
            if "number" in reply:
                forked = self._running[reply["pid"]] = Forked(reply["pid"])
                self._asked.pop(reply["number"]).set_result(forked)
            else:
                self._running.pop(reply["pid"]).ended.set_result(reply["status"])
        for waiting in self._asked.values():
            waiting.set_exception(RuntimeError("the process that forks has ended"))


def serve() -> dict[str, Any] | None:
    """Fork for each request, and tell of each end. Return the request in the new process, and None once it is over."""
    for name in NEEDED:
        importlib.import_module(name)
    gc.freeze()
    ends, alarm = os.pipe()
    os.set_blocking(alarm, False)
    signal.set_wakeup_fd(alarm)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    asked = b""
    while True:
        ready, _, _ = select.select([0, ends], [], [])
        if ends in ready:
            os.read(ends, 1024)
            tell_of_ends()
        if 0 in ready:
            if not (more := os.read(0, 65536)):
                return None
            *requests, asked = (asked + more).split(b"\n")
            for line in requests:
                request: dict[str, Any] = json.loads(line)
                if not (pid := os.fork()):
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    os.close(ends)
                    os.close(alarm)
                    return request
                tell(number=request["number"], pid=pid)


def tell_of_ends() -> None:
    """Tell of all processes that have ended."""
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            tell(pid=ended[0], status=os.waitstatus_to_exitcode(ended[1]))


def tell(**reply: int) -> None:
    """Tell those who asked."""
    os.write(1, json.dumps(reply).encode() + b"\n")


def be(request: Mapping[str, Any]) -> None:
    """Be a process as if Python had just been started with these arguments."""
    os.setsid()
    log = os.open(request["log"], os.O_WRONLY)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for new, old in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(new, old)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    what, *arguments = request["arguments"]
    if what == "-m":
        sys.argv = arguments
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [what, *arguments]
        sys.path.insert(0, str(Path(what).parent))
        runpy.run_path(what, run_name="__main__")


if __name__ == "__main__" and (wanted := serve()):
    be(wanted)
