"""What the verbs that talk to a server share, before they do."""

from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from bouncer.cli.server import Identity, Invocation, RoomName, on_server

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
