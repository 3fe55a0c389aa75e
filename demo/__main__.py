"""`python -m demo` shows a bouncer at work on a real LiveKit server; `python -m demo dev` runs both to play with.

The demo's exit status is 0 only if exactly the right agents left.
"""

import asyncio
import logging
import shutil
import signal
import sys
import tempfile
import warnings
from collections.abc import Coroutine
from pathlib import Path

from rich.console import Console

from demo.dev import run
from demo.scene import LIMIT, perform
from demo.server import ServerUnavailable, StartFailed, livekit_server
from demo.show import Show
from demo.stage import Stuck

INTERRUPTED = 130
PLAIN_WIDTH = 160
"""Columns where there is no terminal, so that no line of the summary has to be broken."""


async def demo(console: Console) -> int:
    """Play the demo; its exit status."""
    show = Show(console)
    show.intro()
    logs = Path(tempfile.mkdtemp(prefix="livekit-bouncer-demo-"))
    succeeded = interrupted = False
    try:
        async with livekit_server(say=lambda line: show.say("server", line.removeprefix("server: "))) as server:
            succeeded = await perform(server, show, logs)
    except TimeoutError:
        console.print(f"The demo was not done after {LIMIT:g} s, and was ended.", style="bold red")
    except asyncio.CancelledError:
        interrupted = True
        raise
    finally:
        put_away(logs, console, wanted=not succeeded and not interrupted)
    return 0 if succeeded else 1


def put_away(logs: Path, console: Console, *, wanted: bool) -> None:
    """Remove the folder with the logs, or say where it is if they are wanted and there are any."""
    if wanted and any(logs.iterdir()):
        console.print(f"What the bouncer and the agents logged is in {logs}", soft_wrap=True)
    else:
        shutil.rmtree(logs)


async def interruptible(work: Coroutine[None, None, int], console: Console) -> int:
    """Run it so that Ctrl-C, or SIGTERM, ends it with everything that it started. A second one changes nothing."""
    task = asyncio.ensure_future(work)
    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        if not interrupted:
            console.print("\nending …", style="dim")
            interrupted = True
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, interrupt)
    try:
        return await task
    except asyncio.CancelledError:
        return INTERRUPTED


def main() -> int:
    """Do what the command line says; the exit status."""
    # Libraries would write over the screen; what matters of theirs comes as an exception.
    logging.basicConfig(handlers=[logging.NullHandler()])
    warnings.filterwarnings("ignore", module="jwt", message="The HMAC key is")
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    match sys.argv[1:]:
        case []:
            work = demo(console)
        case ["dev"]:
            work = run(console)
        case _:
            print("usage: python -m demo [dev]", file=sys.stderr)
            return 2
    try:
        return asyncio.run(interruptible(work, console))
    except (ServerUnavailable, StartFailed, Stuck) as error:
        print(error, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
