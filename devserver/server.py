"""A LiveKit server that runs for as long as its context lasts."""

import asyncio
import json
import os
import re
import secrets
import socket
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from devserver.process import LOOPBACK, StartFailed, end, free_port, spawn, tail
from devserver.redis import redis
from devserver.source import IMAGE, Binary, Docker, Say, Server, find_or_build, given_server

START_LIMIT = 30.0
"""Seconds for a server to answer; it takes less than one."""


@asynccontextmanager
async def livekit_server(
    *, say: Say, environ: Mapping[str, str] = os.environ, webhook: str = ""
) -> AsyncIterator[Server]:
    """Use the environment's server, or run one on this machine until the context ends.

    Raises ServerUnavailable or StartFailed.
    """
    if given := given_server(say, environ):
        yield given
    else:
        async with own_server(say=say, environ=environ, webhook=webhook) as server:
            yield server


@asynccontextmanager
async def own_server(
    *, say: Say, environ: Mapping[str, str] = os.environ, again: Server | None = None, webhook: str = ""
) -> AsyncIterator[Server]:
    """Run a LiveKit server on free ports of this machine until the context ends, whatever the environment names.

    `again` is a server that ran here earlier: the new one takes its address and its key, as after a restart.
    `webhook` is the address that gets the server's webhooks.

    Raises ServerUnavailable or StartFailed.
    """
    async with _node(say=say, environ=environ, at=again, webhook=webhook) as node:
        yield node.server


@dataclass(frozen=True, slots=True)
class Node:
    """A LiveKit server that is one of several."""

    server: Server
    process: asyncio.subprocess.Process

    async def kill(self) -> None:
        """End it at once, as a crash does."""
        await end(self.process, within=0)


@dataclass(frozen=True, slots=True)
class Cluster:
    """LiveKit servers on one Redis."""

    nodes: list[Node]
    redis: str
    """Its address, host:port."""

    def node_of(self, room: str) -> str:
        """Return the id of the node that runs a room; empty if none does."""
        host, _, port = self.redis.partition(":")
        command = ["redis-cli", "-h", host, "-p", port, "hget", "room_node_map", room]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@asynccontextmanager
async def cluster(*, say: Say, nodes: int = 2, webhook: str = "") -> AsyncIterator[Cluster]:
    """Run several LiveKit servers on one Redis until the context ends; `webhook` gets the webhooks of them all.

    Raises ServerUnavailable or StartFailed.
    """
    async with redis(say=say) as address, AsyncExitStack() as stack:
        secret = secrets.token_urlsafe(32)
        running = []
        for _ in range(nodes):
            server = Server(f"ws://{LOOPBACK}:{free_port()}", "devkey", secret)
            node = _node(say=say, at=server, webhook=webhook, redis_at=address)
            running.append(await stack.enter_async_context(node))
        yield Cluster(running, address)


@asynccontextmanager
async def _node(
    *,
    say: Say,
    environ: Mapping[str, str] = os.environ,
    at: Server | None = None,
    webhook: str = "",
    redis_at: str = "",
) -> AsyncIterator[Node]:
    """Run a server, once more if another process took one of its ports."""
    source = await asyncio.to_thread(find_or_build, say, environ)
    with TemporaryDirectory(prefix="livekit-bouncer-") as folder:
        log_file = Path(folder) / "server.log"
        async with AsyncExitStack() as stack:
            try:
                node = await stack.enter_async_context(_launched(source, log_file, at, webhook, redis_at))
            except StartFailed as error:
                if not re.search(r"address already in use|port is already allocated", str(error)):
                    raise
                # Another process took a port that was free a moment ago.
                node = await stack.enter_async_context(_launched(source, log_file, at, webhook, redis_at))
            yield node


@asynccontextmanager
async def _launched(
    source: Binary | Docker, log_file: Path, at: Server | None, webhook: str, redis_at: str
) -> AsyncIterator[Node]:
    """Run a server, from its first answer until the context ends. Raises StartFailed."""
    http, tcp, udp = free_port(), free_port(), free_port(socket.SOCK_DGRAM)
    if at:
        http = urlsplit(at.url).port or http
    server = at or Server(f"ws://{LOOPBACK}:{http}", "devkey", secrets.token_urlsafe(32))
    rtc = {
        "tcp_port": tcp,
        "udp_port": udp,
        "node_ip": LOOPBACK,
        "use_external_ip": False,
        # Without an entry, clients ask public STUN servers. Nothing has to leave this machine.
        "stun_servers": [f"{LOOPBACK}:{udp}"],
    }
    config: dict[str, Any] = {"port": http, "rtc": rtc, "keys": {server.api_key: server.api_secret}}
    if webhook:
        config["webhook"] = {"urls": [webhook], "api_key": server.api_key}
    if redis_at:
        config["redis"] = {"address": redis_at}
    container = f"livekit-bouncer-{secrets.token_hex(4)}"
    if isinstance(source, Binary):
        config["bind_addresses"] = [LOOPBACK]
        command, env = [source.path], {}
    else:
        published = [f"--publish={LOOPBACK}:{port}" for port in (f"{http}:{http}", f"{tcp}:{tcp}", f"{udp}:{udp}/udp")]
        command = [source.path, "run", "--rm", f"--name={container}", "--env=LIVEKIT_CONFIG", *published, IMAGE]
        env = dict(os.environ)
    # The environment carries the configuration, since every user can read a command line. JSON is YAML.
    process = await spawn(command, {**env, "LIVEKIT_CONFIG": json.dumps(config)}, log_file)
    try:
        try:
            async with asyncio.timeout(START_LIMIT):
                await _answers(f"http://{LOOPBACK}:{http}/", process)
        except TimeoutError:
            raise StartFailed(f"the LiveKit server does not answer:\n{tail(log_file)}") from None
        if process.returncode is not None:
            raise StartFailed(f"the LiveKit server ended with status {process.returncode}:\n{tail(log_file)}")
        yield Node(server, process)
    finally:
        # SIGTERM alone makes a server wait until its participants have left.
        await end(process, within=1.0)
        if isinstance(source, Docker):
            removal = await spawn([source.path, "rm", "--force", container], env, log_file)
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
