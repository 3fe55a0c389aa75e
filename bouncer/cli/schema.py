"""`bouncer schema`: the JSON Schema of a configuration."""

from typing import Annotated

import typer


def schema(
    *,
    with_installed: Annotated[
        bool, typer.Option("--installed", help="With the policies of installed packages too.")
    ] = False,
) -> None:
    """Print the JSON Schema of a configuration, for editors."""
    from bouncer.cli.policies import builtin, named
    from bouncer.configuration.plugins import installed
    from bouncer.configuration.schema import text
    from policies import BUILTIN

    plugins = [named(name) for name in installed() if builtin(name) is None] if with_installed else []
    typer.echo(text([*BUILTIN, *plugins]), nl=False)
