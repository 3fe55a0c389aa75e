"""The command line as a person uses it: a process, and what it says."""

import asyncio
import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from devserver import Server

ENDS_WITHIN = 150.0
"""Seconds for a command to end; a busy machine takes a few to start it."""


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that has ended."""

    status: int
    out: str
    err: str


def environment(server: Server | None = None, **more: str) -> dict[str, str]:
    """Return the environment of a command, with the credentials of the server, or with none."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith(("LIVEKIT_", "BOUNCER_"))}
    if server:
        ours |= {
            "LIVEKIT_URL": server.url,
            "LIVEKIT_API_KEY": server.api_key,
            "LIVEKIT_API_SECRET": server.api_secret,
        }
    return {**ours, "COLUMNS": "120", "TERM": "dumb", **more}


async def run(server: Server | None, *arguments: str, text: str = "", **more: str) -> Ran:
    """Run `bouncer` with this on its standard input, until it ends."""
    return await module("bouncer", *arguments, env=environment(server, **more), text=text)


async def module(name: str, *arguments: str, env: Mapping[str, str], text: str = "") -> Ran:
    """Run a module of Python with this on its standard input, until it ends."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", name, *arguments),
        env=env,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(ENDS_WITHIN):
            out, err = await process.communicate(text.encode())
    except BaseException:
        process.kill()
        raise
    assert process.returncode is not None
    return Ran(process.returncode, out.decode(), err.decode())


async def jobs_known(server: Server, room: str) -> bool:
    """Return True if the room's bouncer knows of all agents whether they are jobs, which takes up to 7 s."""
    planned = await run(server, "plan", room, "--json", "--quiet")
    return planned.status == 0 and not any(each.get("doubt") for each in json.loads(planned.out)["verdicts"])


def normal(text: str) -> str:
    """Return what a command said without what differs each time: times, lengths of time, ids, blanks at line ends."""
    text = re.sub(r"\b(PA|RM|AD|AJ)_\w+", r"\1_*", text)
    text = re.sub(r"\d{4}-\d\d-\d\d", "DATE", text)
    text = re.sub(r"(DATE )?\d\d:\d\d:\d\d(\.\d+Z)?", "TIME", text)  # what is of tomorrow has a date
    text = re.sub(r"(\d+ (d|h|min|s)\b|less than 1 s)( \d+ (h|min|s)\b)?", "SPAN", text)
    return "\n".join(re.sub(r" {2,}", "  ", line).rstrip() for line in text.splitlines())
