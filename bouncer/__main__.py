"""The command line: `python -m bouncer`. It reads files and the environment, and talks to no server.

Exit statuses: 0, all is well; 1, something is refused, and all that is wrong with it is told; 2, wrong usage, or a
file that can't be read.
"""

import json
import os
import sys
from difflib import get_close_matches
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.text import Text

from bouncer import docs, schema
from bouncer.config import BUILT_IN, KEY, Config, ConfigError, Layer, configures, load
from bouncer.effective import values
from bouncer.installed import installed, packages
from bouncer.policy import Policy
from bouncer.settings import config_layers
from policies import BUILTIN

REFUSED, USAGE = 1, 2
SHOWN = 40
"""Characters of a value that the column of values makes room for; longer ones push the rest of their line aside."""

README, SCHEMA = "README.md", "bouncer.schema.json"
EPILOG = "Exit status: 0, all is well; 1, something is refused; 2, wrong usage, or a file that can't be read."

# No markup mode: help and complaints are plain text, whatever they are written to.
app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
out = Console(highlight=False, soft_wrap=True)
err = Console(highlight=False, soft_wrap=True, stderr=True)


@app.callback(epilog=EPILOG)
def main() -> None:
    """Check configurations of the bouncer, and look up what they may say. Talks to no server."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a character still gets the rest


@app.command(short_help="Check a configuration, and show what it puts in force.", epilog=EPILOG)
def check(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="Room metadata; - is the standard input.")],
    dispatch: Annotated[str, typer.Option(metavar="FILE", help="Dispatch metadata, the layer beneath it.")] = "",
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,
) -> None:
    """Say what is in force in a room with this metadata and where each value comes from, or all that is wrong.

    As for the worker, BOUNCER_CONFIG in the environment is the lowest layer.
    """
    unreadable: list[str] = []
    layers = [*config_layers(os.environ, unreadable)]
    if unreadable:
        _misused(unreadable[0])
    if dispatch:
        layers.append(Layer(f"dispatch metadata ({dispatch})", _read(dispatch)))
    room = Layer("room metadata" if file == "-" else f"room metadata ({file})", _read(file), shared=True)
    try:
        config = load([*layers, room], BUILTIN, installed())
        ours = configures(room)
    except ConfigError as error:
        _refused(error, as_json=as_json)
    if as_json:
        _print_json(
            valid=True,
            configures=ours,
            configuration={KEY: config.effective},
            origins=config.origins,
            hearing=config.hearing,
        )
    else:
        _show(config)
    if not ours:
        err.print(Text(f"{room.name}: has no key “{KEY}”, so it configures nothing", "yellow"))


@app.command("schema", epilog=EPILOG)
def print_schema(
    *,
    with_installed: Annotated[
        bool, typer.Option("--installed", help="With the policies of installed packages too.")
    ] = False,
) -> None:
    """Print the JSON Schema of a configuration, for editors."""
    others = [_policy(name) for name in installed() if _builtin(name) is None] if with_installed else []
    typer.echo(schema.text([*BUILTIN, *others]), nl=False)


@app.command(short_help="List the policies, or show the page of one.", epilog=EPILOG)
def policies(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="The policy whose page is wanted.")] = "",
) -> None:
    """List the policies, or show the page of one: what it does, its options, an example."""
    if name:
        page = docs.page(_policy(name), "#") + "\n" + docs.common()
        out.print(Markdown(page), soft_wrap=False) if out.is_terminal else typer.echo(page, nl=False)
        return
    lines = {policy.name: schema.summary(policy) for policy in BUILTIN}
    for other, package in packages().items():
        lines.setdefault(other, f"(in the package {package})")
    width = max(map(len, lines))
    for each, summary in lines.items():
        out.print(Text.assemble((each.ljust(width), "bold"), "  ", summary))


@app.command(hidden=True)
def write(folder: Annotated[Path, typer.Argument(file_okay=False, exists=True)] = Path()) -> None:
    """Write what is made from the code: the README's section on the policies, and the schema."""
    readme = folder / README
    readme.write_text(docs.renewed(readme.read_text(encoding="utf-8"), BUILTIN), encoding="utf-8")
    (folder / SCHEMA).write_text(schema.text(BUILTIN), encoding="utf-8")


def _builtin(name: str) -> type[Policy] | None:
    return next((policy for policy in BUILTIN if policy.name == name), None)


def _policy(name: str) -> type[Policy]:
    """The policy of that name, loaded from its package if need be."""
    if policy := _builtin(name):
        return policy
    if name not in installed():
        known = [*(policy.name for policy in BUILTIN), *installed()]
        close = get_close_matches(name, known, n=1)
        _misused(f"there is no policy “{name}”" + (f"; did you mean “{close[0]}”?" if close else ""))
    try:
        return installed()[name]()
    except ValueError as error:
        err.print(Text(f"{name}: {error}", "red"))
        raise typer.Exit(REFUSED) from None


def _read(file: str) -> str:
    """The text of a file, or of the standard input."""
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return content.decode()
    except (OSError, ValueError) as error:
        _misused(f"{file}: can't be read: {error}")


def _show(config: Config) -> None:
    """Print a configuration, a line for each value with where it came from."""
    rows = [(path, _in_short(value)) for path, value in values(config.effective)]
    first = max(len(path) for path, _ in rows)
    second = min(SHOWN, max(len(value) for _, value in rows))
    out.print(Text("In force, and where it comes from:\n"))
    for path, value in rows:
        origin = config.origins[path]
        style = "dim" if origin == BUILT_IN.name else "bold"
        out.print(Text(f"{path:<{first}}  {value:<{second}}  {origin}", style))
    if config.hearing != "off":
        out.print(Text(f"\nIt listens, by {config.hearing}."))


def _in_short(value: Any) -> str:
    """A value as JSON, without the decimal point where it has no use."""
    short = int(value) if isinstance(value, float) and value.is_integer() else value
    return json.dumps(short, ensure_ascii=False)


def _print_json(**facts: Any) -> None:
    typer.echo(json.dumps(facts, indent=2))


def _refused(error: ConfigError, *, as_json: bool) -> NoReturn:
    if as_json:
        _print_json(
            valid=False, problems=[{"layer": p.layer, "path": p.path, "message": p.message} for p in error.problems]
        )
    else:
        for problem in error.problems:
            err.print(Text(str(problem), "red"))
    raise typer.Exit(REFUSED)


def _misused(complaint: str) -> NoReturn:
    err.print(Text(complaint, "red"))
    raise typer.Exit(USAGE)


if __name__ == "__main__":
    app(prog_name="python -m bouncer")
