"""`bouncer watch`: a room, live."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

import typer
from rich.text import Text

from bouncer.cli.server import Invocation, RoomName, on_server
from bouncer.cli.terminal import installing, out, refused
from bouncer.plain import plain

if TYPE_CHECKING:
    from bouncer.cli.follow import Picture, Remark

INSTALL = f"the screen needs one more package: {installing('watch')}; `--json` works without it"


@on_server
async def watch(command: Invocation, room: RoomName) -> None:
    """Show a room live: who is there, what they do, what is ahead of them, and what its bouncer tells.

    Enter explains the participant under the cursor; q ends. With --json, or where the output is no terminal, each thing
    that the bouncer tells is a line.
    """
    from bouncer.cli.follow import follow

    settings = command.settings
    async with command.project() as project:
        updates = follow(project, room, agent_name=command.agent_name, layers=settings.layers)
        if command.as_json or not out.is_terminal:
            with suppress(asyncio.CancelledError):  # Ctrl-C is how a stream is ended
                async with aclosing(updates):  # where no one reads the lines any more, it still leaves the room
                    await _lines(command, updates)
        else:
            await _screen(command, updates)


async def _screen(command: Invocation, updates: "AsyncIterator[Picture | Remark]") -> None:
    try:
        from bouncer.cli.screen import RoomScreen
    except ModuleNotFoundError as error:
        refused(f"{INSTALL} ({error})")
    first = await anext(updates)  # an unknown room is refused before there is a screen
    app = RoomScreen(_after(first, updates))
    await app.run_async()
    if app.closed:
        command.say(app.closed)


async def _after(
    first: "Picture | Remark", rest: "AsyncIterator[Picture | Remark]"
) -> "AsyncIterator[Picture | Remark]":
    yield first
    async for each in rest:
        yield each


async def _lines(command: Invocation, updates: "AsyncIterator[Picture | Remark]") -> None:
    """Print each record once, as JSON or in words."""
    from bouncer.cli.follow import Remark
    from bouncer.dates import clock
    from bouncer.explanation import record_words

    told: tuple[str, int] = ("", 0)
    guarded: list[str] | None = None
    async for update in updates:
        if isinstance(update, Remark):
            command.say(update.text)
            continue
        view = update.view
        if view["guarded_by"] != guarded:
            guarded = view["guarded_by"]
            command.say(f"guarded by {', '.join(guarded)}" if guarded else "no bouncer guards the room")
        last = told[1] if told[0] == view["bouncer"] else 0
        for record in sorted(view.get("recent", ()), key=lambda each: each["n"]):
            if record["n"] <= last:
                continue
            last = record["n"]
            if command.as_json:
                typer.echo(json.dumps({key: value for key, value in record.items() if key != "n"}))
            else:
                out.print(Text(f"{clock(record['at'], '')} {plain(record_words(record))}"))
        told = view["bouncer"], last
