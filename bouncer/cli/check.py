"""`bouncer check`: what a configuration puts in force, or all that is wrong with it."""

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from bouncer.cli.terminal import REFUSED, err, misused, out, print_json
from bouncer.plain import plain, why

if TYPE_CHECKING:
    from bouncer.configuration.model import Layer

HEARS = {"level": "and takes any sound for speech", "speech": "with a voice detector"}
"""How a bouncer listens to the room, if it does."""
SHOWN = 40
"""Characters of a value that the column of values makes room for; longer ones push the rest of their line aside."""


def check(
    files: Annotated[list[str], typer.Argument(metavar="FILE|-", help="Room metadata; - is the standard input.")],
    dispatch: Annotated[str, typer.Option(metavar="FILE", help="Dispatch metadata, the layer beneath it.")] = "",
    *,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse warnings, and text that configures nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON, an object for each file.")] = False,
) -> None:
    """Show what is in force in a room with this metadata and where each value comes from, or all that is wrong.

    What is not the default comes first. As for the worker, BOUNCER_CONFIG in the environment or in `.env.local` is the
    lowest layer.
    """
    from dotenv import load_dotenv

    from bouncer.configuration.model import DISPATCH, ROOM, Layer
    from bouncer.configuration.settings import config_layers

    if files.count("-") > 1:
        raise typer.BadParameter("the standard input can be read only once")
    load_dotenv(".env.local")  # as for the worker; the environment itself wins
    unreadable: list[str] = []
    layers = [*config_layers(os.environ, unreadable)]
    if unreadable:
        misused(unreadable[0])
    if dispatch:
        layers.append(Layer(f"{DISPATCH} ({dispatch})", _read(dispatch), shared=True, expected=True))
    rooms = [Layer(ROOM if file == "-" else f"{ROOM} ({file})", _read(file), shared=True) for file in files]
    several = len(rooms) > 1
    good = True
    for number, room in enumerate(rooms):
        if several and not as_json:
            out.print(Text(("\n" if number else "") + plain(f"{room.name}:"), "bold"))
        answer = _answer([*layers, room], room, strict=strict)
        good &= bool(answer["valid"])
        if as_json:
            print_json(**({"file": files[number]} if several else {}), **answer)
        else:
            _show(answer)
    if not good:
        raise typer.Exit(REFUSED)


def _answer(layers: "Sequence[Layer]", room: "Layer", *, strict: bool) -> dict[str, Any]:
    """Return what there is to say about a room's metadata, as JSON has it."""
    from bouncer.configuration.load import SILENT, load
    from bouncer.configuration.model import KEY, ConfigError, Problem
    from bouncer.configuration.plugins import installed
    from policies import BUILTIN

    def told(problems: Iterable[Problem]) -> list[dict[str, str]]:
        return [{"layer": each.layer, "path": each.path, "message": each.message} for each in problems]

    try:
        config = load(layers, BUILTIN, installed())
    except ConfigError as error:
        return {"valid": False, "problems": told(error.problems)}
    idle = [Problem(room.name, "$", SILENT)] if room.name in config.silent else []
    if strict and (config.warnings or idle):
        return {"valid": False, "problems": told([*config.warnings, *idle])}
    ours = room.text.strip() != "" and not idle
    return {
        "valid": True,
        "configures": ours,
        "configuration": {KEY: config.effective},
        "origins": config.origins,
        "hearing": config.hearing,
        **({"warnings": told(config.warnings)} if config.warnings else {}),
        **({} if ours else {"note": f"{room.name}: {SILENT}"}),
    }


def _show(answer: Mapping[str, Any]) -> None:
    """Print an answer for a person: what is in force on stdout, what is wrong or questionable on stderr."""
    for style, problems in (("red", answer.get("problems", ())), ("yellow", answer.get("warnings", ()))):
        for each in problems:
            err.print(Text(plain(f"{each['layer']}: {each['path']}: {each['message']}"), style))
    if not answer["valid"]:
        return
    _show_values(answer["configuration"], answer["origins"])
    if answer["hearing"] != "off":
        out.print(Text(f"\nIt listens, {HEARS[answer['hearing']]}."))
    if "note" in answer:
        err.print(Text(plain(answer["note"]), "yellow"))


def _read(file: str) -> str:
    """Return the text of a file, or of the standard input."""
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return content.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        misused(f"{file}: can't be read: {why(error)}")


def _show_values(configuration: Mapping[str, Any], origins: Mapping[str, str]) -> None:
    """Print a configuration, a line for each value with where it came from: first those that are not the default."""
    from bouncer.configuration.model import BUILT_IN, KEY
    from bouncer.configuration.provenance import values

    rows = [(plain(path), plain(_in_short(value)), origins[path]) for path, value in values(configuration[KEY])]
    first = max(len(path) for path, _, _ in rows)
    second = min(SHOWN, max(len(value) for _, value, _ in rows))
    given = [row for row in rows if row[2] != BUILT_IN.name]
    defaults = [row for row in rows if row[2] == BUILT_IN.name]
    for heading, style, some in (
        ("In force, and where it comes from:", "bold", given),
        ("As by default:" if given else "In force, all of it by default:", "dim", defaults),
    ):
        if some:
            out.print(Text(f"{heading}\n"))
            for path, value, origin in some:
                out.print(Text(f"{path:<{first}}  {value:<{second}}  {plain(origin)}", style))
            if some is given and defaults:
                out.print()


def _in_short(value: Any) -> str:
    """Return a value as JSON, without a decimal point that has no use."""
    short = int(value) if isinstance(value, float) and value.is_integer() else value
    return json.dumps(short, ensure_ascii=False)
