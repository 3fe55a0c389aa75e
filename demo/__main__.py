"""`python -m demo` shows a bouncer at work on a real LiveKit server; `python -m demo dev` leaves both running.

`python -m demo console` shows the same in the gatekeeper's console too, and keeps the room open afterwards.

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
from demo.show import Show
from demo.stage import Stuck
from devserver import LOOPBACK, ServerUnavailable, StartFailed, free_port, livekit_server

INTERRUPTED = 130
PLAIN_WIDTH = 160
"""Columns without a terminal: wide enough that no line of the summary breaks."""


async def demo(console: Console, port: int = 0) -> int:
    """Play the demo, and return its exit status; with a port, the gatekeeper's console shows it there."""
    show = Show(console)
    show.intro()
    logs = Path(tempfile.mkdtemp(prefix="livekit-bouncer-demo-"))
    succeeded = interrupted = False
    try:
        webhook = f"http://{LOOPBACK}:{port}/livekit" if port else ""
        say = lambda line: show.say("server", line.removeprefix("server: "))  # noqa: E731 - it has no other name
        async with livekit_server(say=say, webhook=webhook) as server:
            succeeded = await perform(server, show, logs, port)
    except TimeoutError:
        console.print(f"The demo did not finish within {LIMIT:g} s and was stopped.", style="bold red")
    except asyncio.CancelledError:
        interrupted = True
        raise
    finally:
        put_away(logs, console, wanted=not succeeded and not interrupted)
    return 0 if succeeded else 1


def put_away(logs: Path, console: Console, *, wanted: bool) -> None:
    """Remove the folder of logs, or say where it is if they are wanted and there are any."""
    if wanted and any(logs.iterdir()):
        console.print(f"The logs of the bouncer and the agents are in {logs}", soft_wrap=True)
    else:
        shutil.rmtree(logs)


async def interruptible(work: Coroutine[None, None, int], console: Console) -> int:
    """Run the work so that Ctrl-C or SIGTERM ends it and everything it started. A second signal changes nothing."""
    task = asyncio.ensure_future(work)
    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        if not interrupted:
            console.print("\nstopping …", style="dim")
            interrupted = True
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, interrupt)
    try:
        return await task
    except asyncio.CancelledError:
        return INTERRUPTED


def main() -> int:
    """Do what the command line says, and return the exit status."""
    # Libraries would write over the screen. What matters from them arrives as an exception.
    logging.basicConfig(handlers=[logging.NullHandler()])
    warnings.filterwarnings("ignore", module="jwt", message="The HMAC key is")
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    match sys.argv[1:]:
        case []:
            work = demo(console)
        case ["console"]:
            work = demo(console, free_port())
        case ["dev"]:
            work = run(console)
        case _:
            print("usage: python -m demo [console | dev]", file=sys.stderr)
            return 2
    try:
        return asyncio.run(interruptible(work, console))
    except (ServerUnavailable, StartFailed, Stuck) as error:
        print(error, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
