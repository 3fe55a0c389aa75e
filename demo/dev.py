"""A server, a bouncer and a gatekeeper that keep running, and what they log."""

import asyncio
import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from dotenv import load_dotenv
from livekit import api
from rich.console import Console
from rich.table import Table
from rich.text import Text

from demo.scene import AGENT
from devserver import LOOPBACK, Server, Worker, free_port, gatekeeper, livekit_server, worker

ROOM = "playground"
END_WITHIN = 2.0
"""Seconds that the bouncer has to end before it is killed."""
TOKEN_TTL = timedelta(hours=6)

_LEVELS = {"DEBUG": "dim", "INFO": "green", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}
_LEAST = {"bouncer": logging.DEBUG, "bouncer.gatekeeper": logging.DEBUG, "livekit.agents": logging.WARNING}
"""The loggers that are shown, and their lowest level."""
_LEFT_OUT = {"message", "level", "name", "timestamp", "pid", "exc_info", "stack"}
"""Fields that are shown in another way, or not at all."""


async def run(console: Console) -> int:
    """Run a server, unless the environment has one, with a bouncer for every room, until Ctrl-C.

    Bouncer and gatekeeper have the environment's settings, and those in `.env.local`, as `agent.py` has.
    """
    load_dotenv(".env.local")
    env = {name: value for name, value in os.environ.items() if name.startswith("BOUNCER_")}
    port = free_port()

    def say(line: str) -> None:
        console.print(line, style="dim", soft_wrap=True)

    env.setdefault("BOUNCER_WEBHOOK_URL", f"http://{LOOPBACK}:{port}/bouncer")
    async with livekit_server(say=say, webhook=f"http://{LOOPBACK}:{port}/livekit") as server:
        say("bouncer and gatekeeper: starting")
        async with (
            worker(AGENT, server, env=env, args=("start", "--log-level", "DEBUG")) as bouncer,
            gatekeeper(
                server, port=port, env={"BOUNCER_ALLOW_ACTIONS": "1", **env, "BOUNCER_GATEKEEPER_PORT": str(port)}
            ) as gate,
        ):
            console.print(_how_to_join(server, port), soft_wrap=True)
            try:
                await _follow((bouncer, gate), console)
            finally:
                # By itself it would wait until its rooms are empty.
                with suppress(ProcessLookupError):
                    bouncer.terminate()
                    try:
                        await bouncer.exited(within=END_WITHIN)
                    except TimeoutError:
                        bouncer.kill()
    for name, process in (("bouncer", bouncer), ("gatekeeper", gate)):
        console.print(f"The {name} ended with status {process.returncode}.", style="bold red")
    return 1


async def _follow(processes: Sequence[Worker], console: Console) -> None:
    """Show their logs until one of them ends."""
    shown = [0] * len(processes)
    while True:
        ended = any(process.returncode is not None for process in processes)
        for number, process in enumerate(processes):
            for line in process.log[shown[number] :]:
                _show(line, console)
                shown[number] += 1
        if ended:
            return
        await asyncio.sleep(0.05)


def _show(line: Mapping[str, Any], console: Console) -> None:
    """Print a log line, if it is of interest: the time, the event and its facts."""
    level = line.get("level", "INFO")
    least = _LEAST.get(line.get("name", "bouncer"), logging.CRITICAL)
    if logging.getLevelNamesMapping().get(level, logging.INFO) < least:
        return
    text = Text.assemble((line["message"], _LEVELS.get(level, "")))
    for name, fact in line.items():
        if name not in _LEFT_OUT and not name.startswith("code."):
            value = fact if isinstance(fact, str) else json.dumps(fact, ensure_ascii=False)
            text.append(f"  {name.removeprefix('lk.pii.')}=", "dim").append(value)
    timestamp = line.get("timestamp")
    shown = f"{datetime.fromisoformat(timestamp).astimezone():%H:%M:%S}" if timestamp else ""
    if console.is_terminal:
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_row(Text(shown, "dim"), text)
        console.print(grid)
    else:
        console.print(*([Text(shown)] if shown else []), text, soft_wrap=True)
    if trace := line.get("exc_info"):
        console.print(trace, soft_wrap=True, markup=False)


def _how_to_join(server: Server, port: int) -> Text:
    """Describe how a person and agents get into a room; the gatekeeper gives it a bouncer."""
    token = (
        api.AccessToken(server.api_key, server.api_secret)
        .with_identity("you")
        .with_ttl(TOKEN_TTL)
        .with_grants(api.VideoGrants(room_join=True, room=ROOM))
    )
    link = "https://meet.livekit.io/custom?" + urlencode({"liveKitUrl": server.url, "token": token.to_jwt()})
    text = Text()

    def paragraph(title: str, *lines: str) -> None:
        text.append(f"\n{title}\n", "bold")
        for line in lines:
            text.append(f"  {line}\n")

    paragraph("See every room in the browser, in the gatekeeper's console:", f"http://{LOOPBACK}:{port}/")
    python = sys.executable.removeprefix(f"{Path.cwd()}/")
    ours = server.url != os.environ.get("LIVEKIT_URL")
    paragraph(f"Join the room “{ROOM}” in the browser; like any room you open, it gets a bouncer:", link)
    if ours:
        paragraph(
            "In another terminal, to use this server:",
            *(f"export {name}={value}" for name, value in server.env.items()),
        )
    paragraph(
        "Real agents to play with: the first command runs them until Ctrl-C, each of the second dispatches one:",
        f"{python} demo/cast.py assistant",
        f"{python} demo/dispatch.py {ROOM} assistant",
    )
    bouncer = f"{python} -m bouncer"
    paragraph("What its bouncer sees, live:", f"{bouncer} watch {ROOM}")
    policies = '{"bouncer": {"policies": {"idle_timeout": {"timeout": 30}}}}'
    paragraph("Another policy:", f"{bouncer} dispatch {ROOM} --config '{policies}'")
    text.append("\nThe logs follow. Ctrl-C stops everything.\n", "bold")
    return text
