"""What the verbs that talk to a server share, before they do."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from bouncer.adapter import project
from bouncer.adapter.project import OpenRoom, UnknownRoom
from bouncer.cli.credentials import VARIABLES
from bouncer.cli.server import Identity, Invocation, RoomName, on_server
from bouncer.configuration.settings import Credentials
from bouncer.ports import ApiError, Trouble

app = typer.Typer()


@app.command()
@on_server
async def verb(command: Invocation, room: RoomName, identity: Identity) -> None:
    """Print what it was given."""
    print(room, identity, command.options.url, command.as_json, sep="|")


@app.callback()
def main() -> None:
    """Make it a group, as the command line is one."""


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["a", "b"], (0, "a|b||False")),
        (["a", "-i", "b", "--json"], (0, "a|b||True")),
        (["-r", "a", "b", "--url", "ws://x"], (0, "a|b|ws://x|False")),
        (["--room=a", "--identity=b", "-j"], (0, "a|b||True")),
        (["-i", "b", "a"], (0, "a|b||False")),
        (["--", "-a", "-b"], (0, "-a|-b||False")),
        ([], (2, "the argument ROOM is missing; --help shows what is taken")),
        (["a"], (2, "the argument IDENTITY is missing; --help shows what is taken")),
        (["-r", "a", "b", "c"], (2, "“c” is an argument too many; --help shows what is taken")),
        (["-r", "a", "-i", "b", "c\x1b"], (2, "“c\\u001b” is an argument too many; --help shows what is taken")),
    ],
)
def test_room_and_identity(arguments: list[str], answer: Any) -> None:
    """As arguments, or as the options of `lk`; an option leaves its place to the next argument."""
    result = CliRunner().invoke(app, ["verb", *arguments])

    assert (result.exit_code, (result.stdout or result.stderr).strip()) == answer


@dataclass
class Rooms:
    """A project in which these rooms are open; None if they can't be listed."""

    names: list[str] | None
    credentials: Credentials

    async def rooms(self) -> list[OpenRoom]:
        """List them."""
        if self.names is None:
            raise ApiError(Trouble.UNAVAILABLE, "no answer")
        return [OpenRoom(name, "RM_1") for name in self.names]


@app.command()
@on_server
async def look(command: Invocation, room: RoomName) -> None:
    """Look for a room that isn't open."""
    async with command.project():
        raise UnknownRoom(room)


@pytest.mark.parametrize(
    ("open_rooms", "hint"),
    [
        (["lobby", "my-rom"], "did you mean “my-rom”?"),
        (["lobby"], "`bouncer rooms` lists those that are"),
        ([], "none is: a room opens when its first participant joins"),
        (None, "`bouncer rooms` lists those that are"),
    ],
)
def test_a_room_that_is_not_open(open_rooms: list[str] | None, hint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer names what may have been meant, or what to do."""

    @asynccontextmanager
    async def opened(credentials: Credentials) -> AsyncIterator[Rooms]:
        yield Rooms(open_rooms, credentials)

    monkeypatch.setattr(project, "opened", opened)

    result = CliRunner().invoke(app, ["look", "my-room", "--dev", "-q"], env=dict.fromkeys(VARIABLES.values(), ""))

    assert (result.exit_code, result.stderr) == (1, f"no room “my-room” is open at ws://127.0.0.1:7880; {hint}\n")
