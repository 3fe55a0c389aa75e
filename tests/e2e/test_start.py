"""A worker that can't start says why in one line and ends with status 1, however it is started."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from time import time

import pytest

from devserver import Server
from tests.e2e.conftest import AGENT

PLAIN, FRAMEWORK = [str(AGENT), "start"], ["-m", "livekit.agents", "start", str(AGENT)]
OFF_BY = 3600


class Late(BaseHTTPRequestHandler):
    """A server whose clock is an hour behind."""

    def do_POST(self) -> None:
        """Refuse any token."""
        self.send_response_only(401)
        self.send_header("Date", formatdate(time() - OFF_BY, usegmt=True))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def late() -> Iterator[str]:
    """The URL of such a server."""
    with HTTPServer(("127.0.0.1", 0), Late) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"ws://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def taken() -> Iterator[str]:
    """A port that is in use."""
    with socket.create_server(("", 0)) as listening:
        yield str(listening.getsockname()[1])


@pytest.mark.parametrize(
    ("command", "environment", "says"),
    [
        pytest.param(
            PLAIN,
            {"LIVEKIT_URL": "", "LIVEKIT_API_SECRET": ""},
            "LIVEKIT_URL and LIVEKIT_API_SECRET: not set; the worker needs the LiveKit server's address and an API key",
            id="no environment",
        ),
        pytest.param(
            FRAMEWORK,
            {"LIVEKIT_URL": "", "LIVEKIT_API_SECRET": ""},
            "LIVEKIT_URL and LIVEKIT_API_SECRET: not set; the worker needs the LiveKit server's address and an API key",
            id="no environment, in the framework",
        ),
        pytest.param(
            PLAIN,
            {"LIVEKIT_URL": "my-project.livekit.cloud"},
            "LIVEKIT_URL: must be like wss://my-project.livekit.cloud or ws://localhost:7880, not 'my-project",
            id="no scheme",
        ),
        pytest.param(
            FRAMEWORK,
            {"LIVEKIT_URL": "wss://<your-project>.livekit.cloud"},
            "LIVEKIT_URL: still a placeholder, 'wss://<your-project>.livekit.cloud'",
            id="a placeholder",
        ),
        pytest.param(
            FRAMEWORK,
            {"LIVEKIT_URL": "wss://…"},
            "LIVEKIT_URL: still a placeholder, 'wss://…'; set it to your own server's",
            id="as the README writes it",
        ),
        pytest.param(
            FRAMEWORK,
            {"LIVEKIT_URL": "ws://.."},
            "LIVEKIT_URL: no LiveKit server answers at ws://.. (",
            id="no name of a host",
        ),
        pytest.param(
            PLAIN,
            {"LIVEKIT_URL": "ws://ann:secret@127.0.0.1:7880"},
            "LIVEKIT_URL: must have no user and no password in it; the key goes into LIVEKIT_API_KEY",
            id="a password in the address",
        ),
        pytest.param(
            PLAIN,
            {"LIVEKIT_URL": "ws://127.0.0.1:1"},
            "LIVEKIT_URL: no LiveKit server answers at ws://127.0.0.1:1",
            id="nothing answers",
        ),
        pytest.param(
            FRAMEWORK,
            {"LIVEKIT_API_KEY": "nokey"},
            "LIVEKIT_API_KEY: the server at URL doesn't know the key 'nokey'",
            id="a key",
        ),
        pytest.param(
            PLAIN,
            {"LIVEKIT_API_SECRET": "a secret of more than 32 characters"},
            "LIVEKIT_API_SECRET: isn't the secret of the key 'KEY' on the server at URL (it answers",
            id="a secret",
        ),
        pytest.param(
            FRAMEWORK,
            {"LIVEKIT_API_SECRET": "a secret of more than 32 characters"},
            "LIVEKIT_API_SECRET: isn't the secret of the key 'KEY' on the server at URL (it answers",
            id="a secret, in the framework",
        ),
        pytest.param(
            PLAIN,
            {"BOUNCER_PORT": "TAKEN"},
            "BOUNCER_PORT: *:TAKEN is in use; health needs a free port",
            id="a port in use",
        ),
        pytest.param(
            FRAMEWORK,
            {"BOUNCER_PORT": "TAKEN"},
            "BOUNCER_PORT: *:TAKEN is in use; health needs a free port",
            id="a port in use, in the framework",
        ),
        pytest.param(
            FRAMEWORK,
            {"BOUNCER_HOST": "300.1.1.1"},
            "BOUNCER_HOST: can't listen at 300.1.1.1 (",
            id="no host of this machine",
        ),
        pytest.param(PLAIN, {"LIVEKIT_URL": "LATE"}, "clock: this machine's is 360", id="a clock"),
        pytest.param(
            FRAMEWORK, {"LIVEKIT_URL": "LATE"}, "clock: this machine's is 360", id="a clock, in the framework"
        ),
    ],
)
def test_bad_starts(
    server: Server, late: str, taken: str, command: list[str], environment: dict[str, str], says: str
) -> None:
    """The line names the variable and what would be right; there is no traceback, and no secret in it."""
    known = {"LATE": late, "TAKEN": taken, "KEY": server.api_key, "URL": server.url}
    environment = {variable: known.get(value, value) for variable, value in environment.items()}
    for name, value in known.items():
        says = says.replace(name, value) if name not in ("URL", "KEY") else says.replace(f"at {name}", f"at {value}")
    says = says.replace("'KEY'", f"'{server.api_key}'")
    ended = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, **server.env, **environment},
        cwd=AGENT.parent,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )

    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith(says)
    assert "Traceback" not in ended.stdout
    assert server.api_secret not in ended.stdout + ended.stderr
