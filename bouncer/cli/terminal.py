"""What all verbs share: where they write, and how they end."""

import json
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from bouncer.plain import plain

REFUSED, USAGE = 1, 2
EPILOG = "Exit status: 0, all is well; 1, something is refused; 2, wrong usage, or a file that can't be read."

out = Console(highlight=False, soft_wrap=True)
err = Console(highlight=False, soft_wrap=True, stderr=True)


def print_json(**facts: Any) -> None:
    """Print one JSON object to stdout."""
    typer.echo(json.dumps(facts, indent=2).replace("\x7f", "\\u007f"))


def print_table(table: Table) -> None:
    """Print a table within the terminal's width; as wide as it is where there is none, for other tools."""
    width = out.width if out.is_terminal else Measurement.get(out, out.options.update(width=100_000), table).maximum
    for line in out.render_lines(table, out.options.update(width=width), pad=False):
        text = Text.assemble(*((segment.text, segment.style or "") for segment in line))
        text.rstrip()
        out.print(text)


def refused(*complaints: str) -> NoReturn:
    """End because something is refused: a complaint a line, on stderr."""
    for complaint in complaints:
        err.print(Text(plain(complaint), "red"))
    raise typer.Exit(REFUSED)


def installing(extra: str) -> str:
    """Return the command that installs what a command needs beyond a worker's packages."""
    return f"pip install 'livekit-bouncer[{extra}]', or in a checkout pip install '.[{extra}]'"


def misused(complaint: str) -> NoReturn:
    """End because of wrong usage, or of a file that can't be read."""
    err.print(Text(plain(complaint), "red"))
    raise typer.Exit(USAGE)
