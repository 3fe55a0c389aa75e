"""The command line: `bouncer`, or `python -m bouncer`. Each verb is a file.

A verb imports what it needs when it runs, so that `bouncer --help` doesn't wait for the LiveKit SDK.

Exit statuses: 0, all is well; 1, something is refused, and all that is wrong with it is told; 2, wrong usage, or a
file that can't be read.
"""

import os
import sys
from io import TextIOWrapper
from typing import Annotated, Any

import typer

from bouncer.cli.check import check
from bouncer.cli.dispatch import dispatch, release
from bouncer.cli.doctor import doctor
from bouncer.cli.evict import evict
from bouncer.cli.explain import explain
from bouncer.cli.gatekeeper import gatekeeper
from bouncer.cli.plan import EPILOG as PLAN_EPILOG
from bouncer.cli.plan import plan
from bouncer.cli.policies import policies
from bouncer.cli.replay import EPILOG as REPLAY_EPILOG
from bouncer.cli.replay import replay
from bouncer.cli.rooms import rooms
from bouncer.cli.schema import schema
from bouncer.cli.start import dev, start
from bouncer.cli.terminal import EPILOG
from bouncer.cli.watch import watch
from bouncer.cli.write import write

# No markup mode: help and complaints are plain text, whatever they are written to.
app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


def show_version(asked: bool) -> None:  # noqa: FBT001 - typer's signature
    """Show the version and end, if that was asked for."""
    if asked:
        from bouncer.cli.version import installed_version

        typer.echo(f"bouncer {installed_version()}")
        raise typer.Exit


@app.callback(epilog=EPILOG)
def at_first(
    *,
    version: Annotated[  # noqa: ARG001 - its callback does it
        bool, typer.Option("--version", help="Show the version and exit.", callback=show_version, is_eager=True)
    ] = False,
) -> None:
    """Guard LiveKit rooms, see what their bouncers do, and check what they are told to do."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without a character still gets the rest


app.command(short_help="Guard rooms.", context_settings=PASS_ON, add_help_option=False)(start)
app.command(short_help="Guard rooms, with settings for development.", context_settings=PASS_ON, add_help_option=False)(
    dev
)
app.command(short_help="Dispatch a bouncer into every room.", epilog=EPILOG)(gatekeeper)
app.command(short_help="Check all that a bouncer needs.", epilog=EPILOG)(doctor)
app.command(short_help="List the open rooms, and which bouncer guards each.", epilog=EPILOG)(rooms)
app.command(short_help="Show what a bouncer would do in a room now.", epilog=PLAN_EPILOG)(plan)
app.command(short_help="Say why a participant is still in its room.", epilog=EPILOG)(explain)
app.command(short_help="Show a room live.", epilog=EPILOG)(watch)
app.command(short_help="Send a bouncer into a room, with a configuration.", epilog=EPILOG)(dispatch)
app.command(short_help="Take the bouncer out of a room, and its configuration.", epilog=EPILOG)(release)
app.command(short_help="Evict an agent by hand.", epilog=EPILOG)(evict)
app.command(short_help="Say what another configuration would have done in recorded rooms.", epilog=REPLAY_EPILOG)(
    replay
)
app.command(short_help="Check a configuration, and show what it puts in force.", epilog=EPILOG)(check)
app.command(short_help="List the policies, or show the page of one.", epilog=EPILOG)(policies)
app.command(epilog=EPILOG)(schema)
app.command(hidden=True)(write)

CONNECTING = {"bouncer.adapter.asker", "bouncer.adapter.visit"}
"""Modules that connect to rooms, imported by the commands that need them."""


def main(**options: Any) -> None:
    """Run the command line as a process of its own, which ends with this."""
    try:
        app(**options)
    except SystemExit as end:
        if not CONNECTING & sys.modules.keys():
            raise
        # The native library may call into an interpreter that is ending, which aborts it.
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else bool(end.code))
