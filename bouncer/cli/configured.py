"""A configuration that the command line gives: read, checked, and told of if it is wrong."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bouncer.cli.server import Invocation
from bouncer.cli.terminal import misused, refused
from bouncer.plain import why

if TYPE_CHECKING:
    from bouncer.configuration.model import Config, Layer

Given = Annotated[
    str,
    typer.Option("--config", metavar="FILE|JSON|-", help="The room's configuration; - is stdin.", show_default=False),
]


def layer(given: str) -> "Layer":
    """Return what `--config` gives as a layer: JSON if it begins with `{`, else the file it names, or stdin."""
    from bouncer.configuration.model import Layer

    if given.lstrip().startswith("{"):
        return Layer("--config", given)
    try:
        content = sys.stdin.buffer.read() if given == "-" else Path(given).read_bytes()
        text = content.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        misused(f"--config {given}: can't be read: {why(error)}; give JSON that begins with “{{”, a file, or -")
    return Layer("--config -" if given == "-" else f"--config {given}", text)


def value_of(given: "Layer") -> dict[str, Any]:
    """Return the value of our key in a layer that has been found valid."""
    from bouncer.configuration.model import KEY

    value: dict[str, Any] = json.loads(given.text)[KEY]
    return value


def loaded(command: Invocation, layers: "Sequence[Layer]") -> "Config":
    """Return what is in force under these layers; end with all that is wrong with them."""
    from bouncer.configuration.load import load
    from bouncer.configuration.model import ConfigError
    from bouncer.configuration.plugins import installed
    from policies import BUILTIN

    try:
        config = load(layers, BUILTIN, installed())
    except ConfigError as error:
        refused(*map(str, error.problems))
    for warning in config.warnings:
        command.say(str(warning), "yellow")
    return config
