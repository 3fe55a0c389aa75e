"""A server and a bouncer that keep running, to play with, and the bouncer's log."""

import asyncio
import json
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from livekit import api
from rich.console import Console
from rich.table import Table
from rich.text import Text

from demo.scene import AGENT
from demo.server import Server, Worker, livekit_server, worker

ROOM = "playground"
END_WITHIN = 2.0
"""Seconds for the bouncer to end before it is killed."""
TOKEN_TTL = timedelta(hours=6)

_LEVELS = {"DEBUG": "dim", "INFO": "green", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}
_LEAST = {"bouncer": logging.DEBUG, "livekit.agents": logging.WARNING}
"""The loggers that are shown, and from which level on."""
_LEFT_OUT = {"message", "level", "name", "timestamp", "pid", "exc_info", "stack"}
"""What is shown otherwise, or not: a worker on a busy machine logs where its loop stood still, 20 lines each time."""


async def run(console: Console) -> int:
    """Run a server, unless the environment has one, and a bouncer with the environment's settings, until Ctrl-C."""
    env = {name: value for name, value in os.environ.items() if name.startswith("BOUNCER_")}
    async with livekit_server(say=lambda line: console.print(line, style="dim", soft_wrap=True)) as server:
        console.print("bouncer: starting", style="dim")
        async with worker(AGENT, server, env=env, args=("start", "--log-level", "DEBUG")) as bouncer:
            console.print(_how_to_join(server, env.get("BOUNCER_AGENT_NAME", "bouncer")), soft_wrap=True)
            try:
                await _follow(bouncer, console)
            finally:
                # It would stay until its rooms are empty.
                with suppress(ProcessLookupError):
                    bouncer.terminate()
                    try:
                        await bouncer.exited(within=END_WITHIN)
                    except TimeoutError:
                        bouncer.kill()
    console.print(f"The bouncer ended, with status {bouncer.returncode}.", style="bold red")
    return 1


async def _follow(bouncer: Worker, console: Console) -> None:
    """Show what it logs until it ends."""
    shown = 0
    while True:
        ended = bouncer.returncode is not None
        for line in bouncer.log[shown:]:
            _show(line, console)
            shown += 1
        if ended:
            return
        await asyncio.sleep(0.05)


def _show(line: Mapping[str, Any], console: Console) -> None:
    """Print a line of the log, if it is of interest: the time, what happened, and the facts."""
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
        console.print(Text(shown), text, soft_wrap=True)
    if trace := line.get("exc_info"):
        console.print(trace, soft_wrap=True, markup=False)


def _how_to_join(server: Server, bouncer: str) -> Text:
    """Say how a person, and how agents, get into a room with a bouncer."""
    token = (
        api.AccessToken(server.api_key, server.api_secret)
        .with_identity("you")
        .with_ttl(TOKEN_TTL)
        .with_grants(api.VideoGrants(room_join=True, room=ROOM))
        .with_room_config(api.RoomConfiguration(agents=[api.RoomAgentDispatch(agent_name=bouncer)]))
    )
    link = "https://meet.livekit.io/custom?" + urlencode({"liveKitUrl": server.url, "token": token.to_jwt()})
    text = Text()

    def paragraph(title: str, *lines: str) -> None:
        text.append(f"\n{title}\n", "bold")
        for line in lines:
            text.append(f"  {line}\n")

    ours = server.url != os.environ.get("LIVEKIT_URL")
    paragraph(f"Join the room “{ROOM}” in the browser; its token brings a bouncer along:", link)
    if ours:
        paragraph(
            "In another terminal, to use this server:",
            *(f"export {name}={value}" for name, value in server.env.items()),
        )
    paragraph(
        "Agents to play with, real ones; dispatched once more, one is a duplicate:",
        ".venv/bin/python demo/cast.py assistant",
        f"lk dispatch create --room {ROOM} --agent-name assistant --metadata busy",
    )
    paragraph(
        "Another policy, from now on; and a bouncer for another room:",
        f"""lk room update --metadata '{{"bouncer": {{"policies": {{"idle_timeout": {{"timeout": 30}}}}}}}}' {ROOM}""",
        f"lk dispatch create --room another-room --agent-name {bouncer}",
    )
    text.append("\nThe bouncer's log follows; Ctrl-C ends it all.\n", "bold")
    return text
