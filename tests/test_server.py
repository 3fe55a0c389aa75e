"""Where the demo and the end-to-end tests get their server, and how their processes end. No network needed."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from devserver import (
    GIVEN,
    IMAGE,
    VERSION,
    Binary,
    Docker,
    Line,
    Server,
    ServerUnavailable,
    StartFailed,
    find_or_build,
    given_server,
    livekit_server,
    own_server,
    worker,
)

ROOT = Path(__file__).parents[1]

SERVER = Server("ws://127.0.0.1:7880", "key", "secret")

GO = """
import os, pathlib, time
time.sleep(0.2)
built = pathlib.Path(os.environ["GOBIN"], "server")
built.touch()
built.chmod(0o755)
"""

BROKEN_GO = "sys.exit('go: this version is too old')"

BROKEN_DOCKER = "sys.exit('Cannot connect to the Docker daemon')"

LIVEKIT = """
import http.server, json, os
config = json.loads(os.environ["LIVEKIT_CONFIG"])
print("started with", list(os.environ), flush=True)
class Ok(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer((config.get("bind_addresses", ["127.0.0.1"])[0], config["port"]), Ok).serve_forever()
"""


class Machine:
    """A machine of its own: a PATH, a cache, and an environment with nothing else in it."""

    def __init__(self, folder: Path) -> None:
        self.said: list[str] = []
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.cached = folder / f"cache/livekit-bouncer/livekit-server-{VERSION}/livekit-server"
        self.environ = {"PATH": str(self.bin), "XDG_CACHE_HOME": str(folder / "cache"), "HOME": str(folder)}

    def has(self, name: str, code: str = "") -> str:
        """Put a Python program on the PATH that records its arguments."""
        script = self.bin / f"{name}.py"
        script.write_text(
            f"import sys; open(sys.argv[0] + '.calls', 'a').write(' '.join(sys.argv[1:]) + '\\n')\n{code}"
        )
        program = self.bin / name
        program.write_text(f"#!/bin/sh\nexec '{sys.executable}' '{script}' \"$@\"\n")
        program.chmod(0o755)
        return str(program)

    def calls(self, name: str) -> list[str]:
        """Return a program's arguments, a line for each call."""
        file = self.bin / f"{name}.py.calls"
        return file.read_text().splitlines() if file.exists() else []

    def has_cached(self) -> str:
        """Put a server where an earlier build leaves it."""
        self.cached.parent.mkdir(parents=True)
        self.cached.touch()
        return str(self.cached)

    def find(self) -> Binary | Docker:
        """Look for a server program on this machine."""
        return find_or_build(self.said.append, self.environ)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a machine with nothing on it."""
    return Machine(tmp_path)


GIVEN_SERVER = Server("wss://x.livekit.cloud", "key", "secret")


async def test_the_environment_s_server_comes_first(machine: Machine) -> None:
    """Someone who names a server means that one, whatever else is installed."""
    machine.has("livekit-server", LIVEKIT)
    machine.environ |= GIVEN_SERVER.env

    async with livekit_server(say=machine.said.append, environ=machine.environ) as server:
        assert server == GIVEN_SERVER


async def test_an_own_server_is_never_the_environment_s(machine: Machine) -> None:
    """Floods and restarts belong on a server that was started for them."""
    machine.has("livekit-server", LIVEKIT)
    machine.environ |= GIVEN_SERVER.env

    async with own_server(say=machine.said.append, environ=machine.environ) as server:
        assert server.url.startswith("ws://127.0.0.1:")
        assert not set(server.env.values()) & set(GIVEN_SERVER.env.values())


def test_a_test_run_has_no_server_and_no_settings_of_the_environment() -> None:
    """Neither LIVEKIT_URL nor BOUNCER_CONFIG of the developer's shell can reach a test."""
    environ = {**os.environ, **GIVEN_SERVER.env, "BOUNCER_CONFIG": "{}"}
    code = "import os, tests.conftest; print([n for n in os.environ if n.startswith(('LIVEKIT_', 'BOUNCER_'))])"
    run = subprocess.run(
        [sys.executable, "-c", code], env=environ, cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert run.stdout.strip() == "[]"


async def test_without_a_server_in_the_environment_one_is_run(machine: Machine) -> None:
    """The demo needs nothing but the repository."""
    machine.has("livekit-server", LIVEKIT)

    async with livekit_server(say=machine.said.append, environ=machine.environ) as server:
        assert server.url.startswith("ws://127.0.0.1:")


def test_an_incomplete_server_in_the_environment_is_ignored_with_a_reason() -> None:
    """A URL without a key is no server; silence about it would puzzle."""
    said: list[str] = []

    assert given_server(said.append, {**GIVEN_SERVER.env, "LIVEKIT_API_SECRET": ""}) is None
    assert said == ["server: LIVEKIT_URL and LIVEKIT_API_KEY ignored, because LIVEKIT_API_SECRET is not set"]


def test_the_path_comes_before_our_own_build(machine: Machine) -> None:
    """Its owner means that one."""
    binary = machine.has("livekit-server")
    machine.has_cached()

    assert machine.find() == Binary(binary)


def test_an_earlier_build_is_used_again(machine: Machine) -> None:
    """A build takes two minutes, once."""
    machine.has("go", GO)
    cached = machine.has_cached()

    assert machine.find() == Binary(cached)
    assert not machine.calls("go")


def test_go_builds_the_pinned_version_into_the_cache(machine: Machine) -> None:
    """Nothing else stays behind: no half-built file, and nothing in the user's own GOBIN."""
    machine.has("go", GO)
    machine.has("docker")

    assert machine.find() == Binary(str(machine.cached))
    assert machine.calls("go") == [f"install -v github.com/livekit/livekit-server/cmd/server@{VERSION}"]
    assert {path.name for path in machine.cached.parent.iterdir()} == {"livekit-server", "lock"}
    assert any("two minutes" in line for line in machine.said)


def test_two_builders_build_once(machine: Machine) -> None:
    """The others wait for the first, and use its build."""
    machine.has("go", GO)
    found: list[object] = []
    builders = [threading.Thread(target=lambda: found.append(machine.find())) for _ in range(3)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()

    assert found == [Binary(str(machine.cached))] * 3
    assert len(machine.calls("go")) == 1


def test_docker_serves_where_go_fails(machine: Machine) -> None:
    """The failure is reported all the same, and no broken build is left for the next run."""
    machine.has("go", BROKEN_GO)
    docker = machine.has("docker")

    assert machine.find() == Docker(docker)
    assert any("this version is too old" in line for line in machine.said)
    assert not machine.cached.exists()


def test_without_any_way_three_lines_say_how_to_get_one(machine: Machine) -> None:
    """On an empty machine, the error is the instructions."""
    with pytest.raises(ServerUnavailable) as error:
        machine.find()

    lines = str(error.value).splitlines()
    assert len(lines) == 3
    assert all(name in lines[2] for name in GIVEN)


def test_the_error_includes_every_failed_attempt(machine: Machine) -> None:
    """Someone with Go and Docker wants to know why neither helped."""
    machine.has("go", BROKEN_GO)
    machine.has("docker", BROKEN_DOCKER)

    with pytest.raises(ServerUnavailable, match=r"(?s)this version is too old.*engine does not answer"):
        machine.find()


async def test_a_server_runs_on_this_machine_only_and_ends_with_its_context(machine: Machine) -> None:
    """Its secret is long enough, and comes in an environment that holds nothing else."""
    machine.has("livekit-server", LIVEKIT)

    async with own_server(say=machine.said.append, environ=machine.environ) as server:
        host, port = server.url.removeprefix("ws://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.close()
        await writer.wait_closed()

    assert host == "127.0.0.1"
    assert len(server.api_secret) >= 32
    assert server.api_secret not in repr(server)
    await closed(int(port))


async def test_a_server_whose_port_was_taken_meanwhile_is_started_again(machine: Machine) -> None:
    """Between finding a free port and binding it, another process may take it."""
    once = machine.bin / "once"
    machine.has(
        "livekit-server",
        f"import pathlib\nonce = pathlib.Path({str(once)!r})\n"
        f"if not once.exists(): once.touch(); sys.exit('listen tcp: bind: address already in use')\n{LIVEKIT}",
    )

    async with own_server(say=machine.said.append, environ=machine.environ):
        assert once.exists()


async def test_the_error_quotes_a_server_that_does_not_start(machine: Machine) -> None:
    """The log file is gone by then, so the error has its end."""
    machine.has("livekit-server", "sys.exit('no such option: frobnicate')")

    with pytest.raises(StartFailed, match=r"(?s)status 1.*frobnicate"):
        async with own_server(say=machine.said.append, environ=machine.environ):
            pass


async def test_a_container_publishes_its_ports_to_this_machine_and_is_removed(machine: Machine) -> None:
    """The ports are the same inside and outside, because the server tells clients the inner ones."""
    machine.has("docker", f"if sys.argv[1] != 'run': sys.exit()\n{LIVEKIT}")

    async with own_server(say=machine.said.append, environ=machine.environ) as server:
        port = server.url.rpartition(":")[2]

    info, inspect, run, remove = machine.calls("docker")
    assert (info, inspect) == ("info", f"image inspect {IMAGE}")
    name = run.split("--name=")[1].split()[0]
    assert f"--publish=127.0.0.1:{port}:{port} " in run
    assert server.api_secret not in run
    assert remove == f"rm --force {name}"


REGISTERED = """
import json, os, sys, time
print(json.dumps({"message": "HTTP server listening on :4711"}))
print("no JSON")
found = {"env": dict(os.environ), "args": sys.argv[1:], "files": os.listdir()}
print(json.dumps({"message": "registered worker"} | found), flush=True)
time.sleep(60)
"""


def says(text: str) -> Callable[[Line], bool]:
    """Match a log line by its message."""
    return lambda line: line["message"] == text


async def test_a_worker_gets_its_server_and_no_settings_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings for other agents and proxies, from the developer's shell or `.env.local`, don't reach it."""
    script = tmp_path / "script.py"
    script.write_text(REGISTERED)
    for name in ("LIVEKIT_URL", "LIVEKIT_AGENT_NAME", "LIVEKIT_TOKEN", "BOUNCER_CONFIG", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "ambient")

    async with worker(script, SERVER, env={"BOUNCER_MAX_ROOMS": "3"}) as running:
        line = await running.line(says("registered worker"))

        assert line["args"] == ["start"]
        ours = {name: value for name, value in line["env"].items() if name.startswith(("LIVEKIT_", "BOUNCER_"))}
        assert int(ours.pop("BOUNCER_PORT")) > 0
        assert ours == {**SERVER.env, "BOUNCER_MAX_ROOMS": "3"}
        assert "HTTPS_PROXY" not in line["env"]
        assert line["files"] == []
        assert running.http_port == 4711
        assert await running.line(says("no JSON")) == {"message": "no JSON"}


LEAVES_A_CHILD = """
import json, os, signal, socket, time
port = socket.create_server(("127.0.0.1", 0))
if os.fork():
    print(json.dumps({"message": "registered worker", "port": port.getsockname()[1]}), flush=True)
    port.close()
else:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(60)
"""


async def closed(port: int) -> None:
    """Wait until the port is closed: a kill takes effect a moment after it was sent."""
    async with asyncio.timeout(10):
        with suppress(ConnectionError):
            while True:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                await asyncio.sleep(0.01)


async def test_a_worker_ends_with_its_context(tmp_path: Path) -> None:
    """So do the processes that it left behind. Its log stays if the caller named the file."""
    script = tmp_path / "script.py"
    script.write_text(LEAVES_A_CHILD)

    async with worker(script, SERVER, log_file=tmp_path / "log") as running:
        port = (await running.line(says("registered worker")))["port"]

    assert running.returncode == -signal.SIGTERM
    assert json.loads(running.log_file.read_text()) == running.log[0]
    await closed(port)


async def test_the_error_quotes_a_worker_that_ends_before_it_registers(tmp_path: Path) -> None:
    """The error comes at once, not when the time for registering is up."""
    script = tmp_path / "script.py"
    script.write_text("raise SystemExit('BOUNCER_CONFIG is no JSON')")

    with pytest.raises(StartFailed, match=r"(?s)script\.py.*BOUNCER_CONFIG is no JSON"):
        async with worker(script, SERVER):
            pass
