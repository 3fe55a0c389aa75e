"""`bouncer start` and `bouncer dev`: a worker, the same one as `python agent.py` starts."""

import sys

import typer


def start(context: typer.Context) -> None:
    """Guard rooms: take jobs from the LiveKit server. `--help` after it shows the worker's own options."""
    _run(context, "start")


def dev(context: typer.Context) -> None:
    """Guard rooms as `start` does, with settings for development."""
    _run(context, "dev")


def _run(context: typer.Context, verb: str) -> None:
    from bouncer.adapter.worker import run
    from bouncer.cli.wiring import wired

    sys.argv = [sys.argv[0], verb, *context.args]  # where the framework's own command line looks
    run(wired())
