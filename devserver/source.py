"""Where a LiveKit server comes from: the environment, the PATH, a build with Go, or Docker."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from devserver.process import LOG_TAIL, locked, tail

VERSION = "v1.13.5"
"""The version that is built or pulled: later ones don't build with `go install`."""

GO_PACKAGE = f"github.com/livekit/livekit-server/cmd/server@{VERSION}"
IMAGE = f"livekit/livekit-server:{VERSION}"

GIVEN = ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET")
"""The variables in which LiveKit's own programs find a server and a key to it."""

REPORT_EVERY = 10.0
"""Seconds between two lines about a build that goes on."""

HOW_TO_GET_ONE = f"""\
There is no LiveKit server here and no way to get one. Any of these helps:
  - put `livekit-server` on the PATH (brew install livekit, or get.livekit.io), or install Go or start Docker
  - for `make demo` and `make dev`, set {", ".join(GIVEN)}, for example to a LiveKit Cloud project"""

Say = Callable[[str], None]
"""Takes a line about progress, possibly from another thread."""


class ServerUnavailable(RuntimeError):  # noqa: N818 - no one's fault, hence no Error
    """There is no LiveKit server and no way to get one; the text says what would help."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running LiveKit server and a key to it."""

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


def given_server(say: Say, environ: Mapping[str, str] = os.environ) -> Server | None:
    """Return the server that the environment names, if it names one completely."""
    given = [name for name in GIVEN if environ.get(name)]
    if len(given) == len(GIVEN):
        say(f"server: {environ['LIVEKIT_URL']}, from the environment")
        return Server(*(environ[name] for name in GIVEN))
    if given:
        missing = " and ".join(name for name in GIVEN if name not in given)
        say(f"server: {' and '.join(given)} ignored, because {missing} is not set")
    return None


def find_or_build(say: Say, environ: Mapping[str, str] = os.environ) -> Binary | Docker:
    """Return the first that exists: a server on the PATH, an earlier build, a new build, Docker.

    Blocks while it builds (about two minutes, once per user) or pulls the image. Raises ServerUnavailable.
    """
    path = environ.get("PATH", "")
    if binary := shutil.which("livekit-server", path=path):
        say(f"server: {binary}, from the PATH")
        return Binary(binary)
    cached = cache(environ) / f"livekit-server-{VERSION}" / "livekit-server"
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


def _build(go: str, target: Path, environ: Mapping[str, str], say: Say) -> str | None:
    """Build the server to `target`. Return the reason if that fails."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target.with_name("lock"), partial(say, "server: another process is building it; waiting")):
        if target.exists():
            return None
        say(f"server: building livekit-server {VERSION} with Go, once; this takes about two minutes")
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
                return f"Go could not build it:\n{tail(log_file)}"
            built.replace(target)
    say("server: built")
    return None


def _report(process: subprocess.Popen[bytes], log_file: Path, say: Say) -> None:
    """Wait for a build to end, and report its progress regularly."""
    began = told = time.monotonic()
    while process.poll() is None:
        time.sleep(0.1)
        if (now := time.monotonic()) - told >= REPORT_EVERY:
            told = now
            doing = tail(log_file).strip().rpartition("\n")[2]
            doing = doing.removeprefix("go: ") if doing.startswith("go: ") else f"compiling {doing}"
            say(f"server: {now - began:3.0f} s, {doing}")


def _pull(docker: str, environ: Mapping[str, str], say: Say) -> str | None:
    """Pull the server's image unless Docker has it. Return the reason if that fails."""

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


def cache(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder for what is built once per user."""
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "livekit-bouncer"
