"""The screen: what happens, line by line, and below it in a terminal the room as it is now.

Without a terminal there are only the lines, unwrapped and without colour.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from demo.roster import Roster, Row, Source

REFRESH = 0.1
"""Seconds between redraws of the room."""
SOON = 3.0
"""A verdict due in fewer seconds than this is shown as urgent."""

_SOURCES: dict[Source, str] = {"bouncer": "bold magenta", "room": "cyan", "agent": "yellow", "Ada": "green"}
_STATES = {"speaking": "green", "thinking": "green", "guarding": "magenta"}


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of one participant's story."""

    row: Row
    what: str
    """`stayed` or `left`."""
    why: str
    as_expected: bool


class Show:
    """Prints what happens, with the seconds since the start and the source."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._in_terminal = console.is_terminal and not console.is_dumb_terminal

    def intro(self) -> None:
        """Print what this is and how to read it."""
        self._console.print(Text("A bouncer at work, on a real LiveKit server", "bold"))
        sources = "room: the server's list · bouncer: its log · Ada: a person in the room · agent: the agent itself"
        self._console.print(Text(f"Seconds, and the source ({sources})", "dim"), soft_wrap=not self._in_terminal)
        self._console.print()

    def say(self, source: Source, text: str) -> None:
        """Print one line. Thread-safe."""
        seconds = f"{time.monotonic() - self._began:5.1f}"
        style = _SOURCES.get(source, "dim")
        if self._in_terminal:
            line = Table.grid(padding=(0, 2, 0, 0))
            line.add_row(Text(seconds, "dim"), Text(f"{source:7}", style), Text(text, "dim" if style == "dim" else ""))
            self._console.print(line)
        else:
            self._console.print(f"{seconds}  {source:7}  {text}", soft_wrap=True, markup=False, highlight=False)

    def scene(self, title: str) -> None:
        """Print what is about to happen."""
        self._console.print()
        self._console.print(Text(title, "bold"), soft_wrap=not self._in_terminal)

    @asynccontextmanager
    async def live(self, room: str, roster: Roster) -> AsyncIterator[None]:
        """Keep a picture of the room at the bottom of the terminal, if there is one."""
        if not self._in_terminal:
            yield
            return

        async def refresh() -> None:
            while True:
                live.update(_picture(room, roster, time.monotonic() - self._began), refresh=True)
                await asyncio.sleep(REFRESH)

        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            task = asyncio.create_task(refresh())
            try:
                yield
            finally:
                task.cancel()

    def summary(self, outcomes: Sequence[Ended], problems: Sequence[str]) -> None:
        """Print how it ended for each participant, and the overall result."""
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
        for heading in ("", "who", "", "role", "outcome"):
            table.add_column(heading, no_wrap=True)
        table.add_column("why", overflow="fold")
        for outcome in outcomes:
            mark = Text("✓", "green") if outcome.as_expected else Text("✗", "red")
            table.add_row(mark, *_who(outcome.row), outcome.what, outcome.why)
        self._console.print()
        self._console.print(table)
        self._console.print()
        seconds = f"{time.monotonic() - self._began:.0f} s"
        if problems:
            self._console.print(Text(f"Something is wrong, after {seconds}:", "bold red"))
            for problem in problems:
                self._console.print(f"  {problem}", soft_wrap=True, markup=False, highlight=False)
        else:
            left = sum(outcome.what == "left" for outcome in outcomes)
            text = f"Exactly the right {left} agents left, and {len(outcomes) - left} participants stayed ({seconds})."
            self._console.print(Text(text, "bold green"))

    def stays_open(self, address: str) -> None:
        """Print where to look, now that the story is over and the room still there."""
        text = f"The room is open until Ctrl-C. See it, its evictions and the history in your browser: {address}"
        self._console.print(Text(f"\n{text}", "bold"), soft_wrap=True)

    def other_ways(self) -> None:
        """Print how to see the story in a browser."""
        self._console.print(Text("See it in the console, in your browser: make demo-console", "dim"), soft_wrap=True)


def _picture(room: str, roster: Roster, seconds: float) -> RenderableType:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading, width in (("who", 12), ("", 5), ("role", 7), ("state", 9)):
        table.add_column(heading, min_width=width, no_wrap=True)
    table.add_column("verdict", min_width=34, no_wrap=True)
    table.add_column("", width=12)
    for row in roster.rows.values():
        here = row.sid in roster.here
        verdict, bar = _verdict(row, roster)
        state = Text(row.state, _STATES.get(row.state, "")) if here else Text("left", "dim")
        table.add_row(*_who(row), state, verdict, bar, style="" if here else "dim")
    title = Rule(Text(f"room {room}, {seconds:.0f} s", "dim"), align="left", style="dim")
    return Padding(Group(title, table), (1, 0, 0, 0))


def _who(row: Row) -> tuple[str, str, str]:
    return row.name, row.tail, row.role


def _verdict(row: Row, roster: Roster) -> tuple[Text, RenderableType]:
    """Return what the bouncer says about a participant now, and the rest of its countdown."""
    if eviction := roster.evictions.get(row.sid):
        return Text(f"{eviction.policy}: {eviction.outcome}, took {eviction.took:.3f} s", "red"), ""
    if held := roster.held.get(row.sid):
        return Text(f"held back: {held}", "blue"), ""
    countdown = min(roster.countdowns[row.sid].values(), key=lambda each: each.due_at, default=None)
    if countdown is None or row.sid not in roster.here:
        return Text(), ""
    style = "red" if countdown.left < SOON else "yellow"
    bar = ProgressBar(countdown.seconds, countdown.left, complete_style=style, finished_style=style)
    return Text(f"{countdown.policy}: due in {countdown.left:4.1f} s", style), bar
