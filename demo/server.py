"""A LiveKit server to try things on, and workers beside it: for the demo and for the end-to-end tests.

`find_or_build` says where a server can come from and `livekit_server` runs it; `worker` runs an agents worker. What is
started here serves this machine only, writes to a log file, and ends with its context.
"""

import asyncio
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from fcntl import LOCK_EX, LOCK_NB, flock
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import aiohttp

VERSION = "v1.13.5"
"""The server's version for builds and images: later ones don't build with `go install`."""

GO_PACKAGE = f"github.com/livekit/livekit-server/cmd/server@{VERSION}"
IMAGE = f"livekit/livekit-server:{VERSION}"
LOOPBACK = "127.0.0.1"

GIVEN = ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET")
"""Where LiveKit's own programs take the server and the right to use it from."""

PORTS = range(20_000, 32_000)
"""Where ports are taken from: below those that kernels give to outgoing connections."""

START_LIMIT = 30.0
"""Seconds for a server to answer; it takes less than one."""

REGISTER_LIMIT = 60.0
"""Seconds for a worker to register; it takes three, most of them to import things."""

DRAIN_LIMIT = 15.0
"""Seconds for a worker to drain when its context ends, before it is killed."""

LOG_TAIL = 2000
"""Characters of a log that an error quotes."""

HOW_TO_GET_ONE = f"""\
There is no LiveKit server here and no way to get one. Either of these helps:
  - put `livekit-server` on the PATH (brew install livekit, or get.livekit.io), or install Go or start Docker
  - set {", ".join(GIVEN)}, to a LiveKit Cloud project for instance"""

Say = Callable[[str], None]
"""Is told of progress, a line at a time, possibly from another thread."""

Line = dict[str, Any]
"""A log record of a worker; a line that is no JSON object is one with only a `message`."""


class ServerUnavailable(RuntimeError):  # noqa: N818 - not a fault of anybody's, hence no Error
    """There is no LiveKit server and no way to get one; the text says what would help."""


class StartFailed(RuntimeError):  # noqa: N818 - as above
    """What was started ended or stayed silent instead of getting ready; the text quotes the end of its log."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running LiveKit server, and what lets one in."""

    url: str
    api_key: str
    api_secret: str = field(repr=False)

    @property
    def env(self) -> dict[str, str]:
        """The same as environment variables."""
        return dict(zip(GIVEN, (self.url, self.api_key, self.api_secret), strict=True))


@dataclass(frozen=True, slots=True)
class Binary:
    """A `livekit-server` executable."""

    path: str


@dataclass(frozen=True, slots=True)
class Docker:
    """A Docker engine that has the server's image."""

    path: str


def find_or_build(say: Say, environ: Mapping[str, str] = os.environ) -> Server | Binary | Docker:
    """Return the first there is of: the environment's server, one on the PATH, our build, a new build, Docker.

    Blocks while it builds (about two minutes, once per user) or pulls the image. Raises ServerUnavailable.
    """
    given = [name for name in GIVEN if environ.get(name)]
    if len(given) == len(GIVEN):
        say(f"server: {environ['LIVEKIT_URL']}, from the environment")
        return Server(*(environ[name] for name in GIVEN))
    if given:
        missing = " and ".join(name for name in GIVEN if name not in given)
        say(f"server: {' and '.join(given)} ignored, {missing} not being set")

    path = environ.get("PATH", "")
    if binary := shutil.which("livekit-server", path=path):
        say(f"server: {binary}, from the PATH")
        return Binary(binary)
    cached = _cache(environ) / f"livekit-server-{VERSION}" / "livekit-server"
    if cached.exists():
        say(f"server: livekit-server {VERSION}, built earlier")
        return Binary(str(cached))

    failures = []
    if go := shutil.which("go", path=path):
        failure = _build(go, cached, environ, say)
        if failure is None:
            return Binary(str(cached))
        say(f"server: {failure}")
        failures.append(failure)
    if docker := shutil.which("docker", path=path):
        failure = _pull(docker, environ, say)
        if failure is None:
            return Docker(docker)
        failures.append(failure)
    raise ServerUnavailable("\n".join([HOW_TO_GET_ONE, *failures]))


def without_given(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment without the server that it may give: for those who want one of their own, to restart it."""
    return {name: value for name, value in environ.items() if name not in GIVEN}


@asynccontextmanager
async def livekit_server(
    *, say: Say, environ: Mapping[str, str] = os.environ, again: Server | None = None
) -> AsyncIterator[Server]:
    """Run a LiveKit server on free ports of this machine until the context ends; or use the environment's.

    `again` is one that ran here earlier: its address and its key are taken over, as after a restart.

    Raises ServerUnavailable, or StartFailed.
    """
    source = await asyncio.to_thread(find_or_build, say, environ)
    if isinstance(source, Server):
        yield source
        return
    with TemporaryDirectory(prefix="livekit-bouncer-") as folder:
        log_file = Path(folder) / "server.log"
        async with AsyncExitStack() as stack:
            try:
                server = await stack.enter_async_context(_launched(source, log_file, again))
            except StartFailed as error:
                if not re.search(r"address already in use|port is already allocated", str(error)):
                    raise
                # Somebody took a port that was free a moment ago.
                server = await stack.enter_async_context(_launched(source, log_file, again))
            yield server


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
    """Run `python <script> start` against the server, from when it has registered until the context ends.

    Of the environment's own LIVEKIT_* and BOUNCER_* settings it gets none, of those in `env` all. Raises StartFailed.
    """
    with TemporaryDirectory(prefix="livekit-bouncer-") as folder:
        log_file = log_file or Path(folder) / "worker.log"
        process = await _spawn(
            [str(python), str(script), *args],
            {**_without_settings(server), **server.env, "BOUNCER_PORT": str(_free_port()), **(env or {})},
            log_file,
        )
        running = Worker(process, log_file)
        tail = asyncio.create_task(running.follow())
        try:
            try:
                await running.line(lambda line: "registered worker" in line["message"], within=REGISTER_LIMIT)
            except TimeoutError:
                raise StartFailed(f"{Path(script).name} did not register:\n{_tail(log_file)}") from None
            yield running
        finally:
            await _end(process, within=DRAIN_LIMIT)
            tail.cancel()
            with suppress(asyncio.CancelledError):
                await tail


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
        raise LookupError("it has not logged its port")

    def terminate(self) -> None:
        """Ask it to drain and end, as a deployment does (SIGTERM)."""
        self._process.terminate()

    def kill(self) -> None:
        """End it on the spot, as a crash does (SIGKILL)."""
        self._process.kill()

    async def exited(self, *, within: float = 30.0) -> int:
        """Wait for it to end and return its exit status. Raises TimeoutError."""
        async with asyncio.timeout(within):
            return await self._process.wait()

    async def line(self, matches: Callable[[Line], bool], *, within: float = 30.0, after: int = 0) -> Line:
        """Wait for a log line, `log[after]` or a later one, that matches, and return it.

        Raises TimeoutError, at once if the process has ended without such a line.
        """
        deadline = time.monotonic() + within
        while True:
            ended = self.returncode is not None or time.monotonic() > deadline
            self._look()
            while after < len(self.log):
                if matches(self.log[after]):
                    return self.log[after]
                after += 1
            if ended:
                raise TimeoutError(f"no such line in {len(self.log)} lines of log:\n{_tail(self.log_file)}")
            await asyncio.sleep(0.02)

    async def follow(self) -> None:
        """Keep `log` up to date with the file, until cancelled."""
        try:
            while True:
                self._look()
                await asyncio.sleep(0.05)
        finally:
            self._look()

    def _look(self) -> None:
        """Take over what was written to the file since the last look."""
        with self.log_file.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        self._read += len(new)
        *lines, self._rest = (self._rest + new).split(b"\n")
        self.log.extend(_parsed(line.decode(errors="replace")) for line in lines)


@asynccontextmanager
async def _launched(source: Binary | Docker, log_file: Path, again: Server | None) -> AsyncIterator[Server]:
    """Run a server on free ports, from when it answers until the context ends. Raises StartFailed."""
    http, tcp, udp = _free_port(), _free_port(), _free_port(socket.SOCK_DGRAM)
    if again:
        http = urlsplit(again.url).port or http
    server = again or Server(f"ws://{LOOPBACK}:{http}", "devkey", secrets.token_urlsafe(32))
    rtc = {
        "tcp_port": tcp,
        "udp_port": udp,
        "node_ip": LOOPBACK,
        "use_external_ip": False,
        # Clients that are told of none ask public ones. Nothing has to leave this machine.
        "stun_servers": [f"{LOOPBACK}:{udp}"],
    }
    config: dict[str, Any] = {"port": http, "rtc": rtc, "keys": {server.api_key: server.api_secret}}
    container = f"livekit-bouncer-{secrets.token_hex(4)}"
    if isinstance(source, Binary):
        config["bind_addresses"] = [LOOPBACK]
        command, env = [source.path], {}
    else:
        published = [f"--publish={LOOPBACK}:{port}" for port in (f"{http}:{http}", f"{tcp}:{tcp}", f"{udp}:{udp}/udp")]
        command = [source.path, "run", "--rm", f"--name={container}", "--env=LIVEKIT_CONFIG", *published, IMAGE]
        env = dict(os.environ)
    # In its environment, since a command line is for everybody to see. JSON is YAML.
    process = await _spawn(command, {**env, "LIVEKIT_CONFIG": json.dumps(config)}, log_file)
    try:
        try:
            async with asyncio.timeout(START_LIMIT):
                await _answers(f"http://{LOOPBACK}:{http}/", process)
        except TimeoutError:
            raise StartFailed(f"the LiveKit server does not answer:\n{_tail(log_file)}") from None
        if process.returncode is not None:
            raise StartFailed(f"the LiveKit server ended with status {process.returncode}:\n{_tail(log_file)}")
        yield server
    finally:
        # Asked nicely, a server waits for its participants to leave: for nothing, here.
        await _end(process, within=1.0)
        if isinstance(source, Docker):
            removal = await _spawn([source.path, "rm", "--force", container], env, log_file)
            await removal.wait()


async def _answers(url: str, process: asyncio.subprocess.Process) -> None:
    """Wait until the address answers, or the process has ended."""
    async with aiohttp.ClientSession() as session:
        while process.returncode is None:
            with suppress(aiohttp.ClientError):
                async with session.get(url) as response:
                    if response.ok:
                        return
            await asyncio.sleep(0.05)


async def _spawn(command: Sequence[str], env: Mapping[str, str], log_file: Path) -> asyncio.subprocess.Process:
    """Start a process that writes to the file, out of reach of the terminal's Ctrl-C: we are the one to end it."""
    with log_file.open("wb") as log:
        return await asyncio.create_subprocess_exec(
            *command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


async def _end(process: asyncio.subprocess.Process, *, within: float) -> None:
    """End a process of ours, with force if it takes longer than `within` seconds, and whatever it left behind."""
    if process.returncode is None:
        process.terminate()
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await process.wait()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _build(go: str, target: Path, environ: Mapping[str, str], say: Say) -> str | None:
    """Build the server to `target`. Return why not, if that fails."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.with_name("lock"), say):
        if target.exists():
            return None
        say(f"server: building livekit-server {VERSION} with Go, once; it takes about two minutes")
        with TemporaryDirectory(prefix="build-", dir=target.parent) as scratch:
            log_file = Path(scratch) / "log"
            with log_file.open("wb") as log:
                process = subprocess.Popen(
                    [go, "install", "-v", GO_PACKAGE],
                    env={**environ, "GOBIN": scratch},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            try:
                _report(process, log_file, say)
            finally:
                process.kill()
                process.wait()
            built = Path(scratch) / "server"
            if process.returncode != 0 or not built.exists():
                return f"Go could not build it:\n{_tail(log_file)}"
            built.replace(target)
    say("server: built")
    return None


def _report(process: subprocess.Popen[bytes], log_file: Path, say: Say) -> None:
    """Wait for a build to end, and say every ten seconds what it is doing."""
    began = told = time.monotonic()
    while process.poll() is None:
        time.sleep(0.1)
        if (now := time.monotonic()) - told >= 10:  # noqa: PLR2004 - said in words above
            told = now
            doing = _tail(log_file).strip().rpartition("\n")[2]
            doing = doing.removeprefix("go: ") if doing.startswith("go: ") else f"compiling {doing}"
            say(f"server: {now - began:3.0f} s, {doing}")


def _pull(docker: str, environ: Mapping[str, str], say: Say) -> str | None:
    """Have Docker get the server's image, unless it has it. Return why not, if that fails."""

    def run(*args: str, limit: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [docker, *args],
            env=environ,
            capture_output=True,
            text=True,
            timeout=limit,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    try:
        if run("info", limit=20).returncode != 0:
            return "Docker is installed, but its engine does not answer."
        if run("image", "inspect", IMAGE, limit=20).returncode != 0:
            say(f"server: pulling the Docker image {IMAGE}")
            if (pull := run("pull", IMAGE, limit=600)).returncode != 0:
                return f"Docker could not pull {IMAGE}:\n{pull.stderr[-LOG_TAIL:]}"
    except subprocess.TimeoutExpired as error:
        return f"Docker took longer than {error.timeout:.0f} s to answer."
    say(f"server: {IMAGE}, in Docker")
    return None


@contextmanager
def _locked(path: Path, say: Say) -> Iterator[None]:
    """Keep other processes from doing the same at the same time."""
    with path.open("w") as file:
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            say("server: being built by another process; waiting for it")
            flock(file, LOCK_EX)
        yield


def _cache(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "livekit-bouncer"


def _without_settings(server: Server) -> dict[str, str]:
    """Our environment without what is about other servers and other workers."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("LIVEKIT_", "BOUNCER_"))}
    if urlsplit(server.url).hostname in {LOOPBACK, "localhost", "::1"}:
        # The framework would send its connection through these, even to this machine.
        env = {name: value for name, value in env.items() if name.upper() not in ("HTTP_PROXY", "HTTPS_PROXY")}
    return env


def _free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Return a port that nobody uses at the moment, on any of this machine's addresses.

    Not the kernel's choice, port 0: that is one that it may give to somebody else's connection a moment later.
    """
    while True:
        port = secrets.choice(PORTS)
        with socket.socket(socket.AF_INET, kind) as probe, suppress(OSError):
            probe.bind(("", port))
            return port


def _parsed(line: str) -> Line:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    return record if isinstance(record, dict) and isinstance(record.get("message"), str) else {"message": line}


def _tail(log_file: Path) -> str:
    return log_file.read_text(errors="replace")[-LOG_TAIL:]


def main() -> int:
    """Make sure that there is a server to run."""
    try:
        find_or_build(partial(print, flush=True))
    except ServerUnavailable as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
