"""A terminal of a given size with a command in it, as a person sees it: tmux."""

import asyncio
import secrets
import shlex
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from devserver import Server
from devserver.debian import find_or_install
from tests.e2e.command import environment

LIMIT = 40.0
"""Seconds to wait for something on the screen; a busy machine takes a few to start a command."""


class Terminal:
    """A running command and its screen."""

    def __init__(self, tmux: str, socket: str) -> None:
        self._tmux = (tmux, "-L", socket, "-f", "/dev/null")

    async def do(self, *command: str) -> str:
        """Run a command of tmux, and return what it says."""
        process = await asyncio.create_subprocess_exec(
            *self._tmux, *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        out, _ = await process.communicate()
        return out.decode()

    async def screen(self) -> list[str]:
        """Return the lines on the screen, without blanks at their ends."""
        return [line.rstrip() for line in (await self.do("capture-pane", "-p")).splitlines()]

    async def press(self, *keys: str) -> None:
        """Press keys, by tmux's names."""
        await self.do("send-keys", *keys)

    async def resize(self, columns: int, rows: int) -> None:
        """Change the size of the terminal."""
        await self.do("resize-window", "-x", str(columns), "-y", str(rows))

    async def until(self, *texts: str) -> list[str]:
        """Wait until all of these are on the screen, and return its lines."""
        lines: list[str] = []
        try:
            async with asyncio.timeout(LIMIT):
                while not all(any(text in line for line in lines) for text in texts):
                    await asyncio.sleep(0.1)
                    lines = await self.screen()
        except TimeoutError:
            shown = "\n".join(lines)
            raise AssertionError(f"not on the screen after {LIMIT:g} s: {texts}\n{shown}") from None
        return lines


@asynccontextmanager
async def terminal(server: Server, *arguments: str, columns: int = 80, rows: int = 24) -> AsyncIterator[Terminal]:
    """Run `bouncer` in a terminal; once it has ended, the screen shows its status."""
    tmux = await asyncio.to_thread(find_or_install, "tmux", "tmux", print)
    with TemporaryDirectory() as folder:
        script = Path(folder) / "run.sh"
        settings = environment(server, TERM="tmux-256color", LC_ALL="C.UTF-8")
        names = ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET", "PATH", "HOME", "TERM", "LC_ALL")
        exports = "\n".join(f"export {name}={shlex.quote(settings[name])}" for name in names if name in settings)
        command = shlex.join([sys.executable, "-m", "bouncer", *arguments])
        unset = "unset COLUMNS LINES"  # pytest sets them, and a program then believes them rather than the terminal
        script.write_text(
            f"{unset}\ncd {shlex.quote(str(Path.cwd()))}\n{exports}\n{command}\necho status $?\nsleep 600\n"
        )
        screen = Terminal(tmux, f"test-{secrets.token_hex(4)}")
        size = ("-x", str(columns), "-y", str(rows))
        await screen.do("new-session", "-d", *size, f"sh {shlex.quote(str(script))}")
        try:
            yield screen
        finally:
            await screen.do("kill-server")
