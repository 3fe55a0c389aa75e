"""The screen of `bouncer watch`: who is there, what they do, what is ahead of them, and what the bouncer tells."""

import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.events import Resize
from textual.geometry import Size
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, RichLog, Static

from bouncer.asking import ASKER
from bouncer.cli.follow import Picture, Remark
from bouncer.dates import clock, rfc3339, unix
from bouncer.explanation import doing, explain, outlook, record_words
from bouncer.plain import plain

NARROW, ROOMY = 66, 80
"""Columns below which what someone does and what is ahead share a column; and from which on roles have one."""
DOES, AHEAD, ROLE = 22, 24, 7
"""Columns that these take: `listening, idle 12:34`, `idle_timeout in 1:58:03`, `bouncer`."""
PADDING = 2
"""Columns between two columns of the table."""
FLAT = 16
"""Rows below which what the bouncer told is not shown."""
STALE = 8.0
"""Seconds without news after which the screen says how old it is; a bouncer says something every two."""
ROLE_ORDER = ("agent", "avatar", "person", "bouncer", "nobody")
ROLE_STYLE: Mapping[str, str] = {"agent": "cyan", "avatar": "cyan", "person": "green"}
URGENCY_STYLE: Mapping[str, str] = {"now": "bold red", "soon": "yellow", "held": "magenta"}
EVENT_STYLE: Mapping[str, str] = {
    "evicted": "bold red",
    "notice": "yellow",
    "held": "magenta",
    "config_error": "red",
    "failed": "red",
    "fault": "red",
    "trouble": "red",
}


class Why(ModalScreen[None]):
    """The explanation of one participant, over the room."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q", "dismiss", "Back"),
        Binding("ctrl+c", "app.quit", show=False, priority=True),
    ]
    CSS = """
    Why { align: center middle; }
    Why > VerticalScroll { width: 100%; height: 100%; background: $surface; padding: 0 1; }
    """

    def __init__(self, identity: str) -> None:
        super().__init__()
        self.identity = identity

    def compose(self) -> ComposeResult:
        """Make its parts."""
        with VerticalScroll():
            yield Static(id="why")
        yield Footer()

    def show(self, view: Mapping[str, Any], at: str) -> None:
        """Show why the participant is here as of this date."""
        told = explain(view, self.identity, at=at)
        text = Text(f"{told.title}\n\n", "bold")
        text.append(f"{told.summary}\n", "green")
        for heading, lines in told.parts():
            text.append(f"\n{heading}\n", "bold")
            text.append("".join(f"- {line}\n" for line in lines), "default")
        self.query_one("#why", Static).update(text)


class RoomScreen(App[None]):
    """A room, live."""

    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", show=False, priority=True),
        Binding("w", "why", "Why is it here?"),
    ]
    CSS = """
    #head { height: auto; max-height: 4; padding: 0 1; }
    #people { height: 1fr; }
    #told { height: 7; border-top: solid $primary; padding: 0 1; scrollbar-size-vertical: 1; }
    #told.flat { display: none; }
    """

    def __init__(self, updates: AsyncIterator[Picture | Remark]) -> None:
        super().__init__()
        self.theme = "ansi-dark"
        self.closed = ""
        """Why watching ended by itself; empty if it didn't."""
        self._updates = updates
        self._seen: Picture | None = None
        self._received_at = 0.0
        self._note = ""
        self._told: tuple[str, int, int] = ("", 0, 0)
        """Which bouncer's records are shown, up to which, and within which width."""
        self._columns: dict[str, int] = {}
        """The columns shown, and how wide they are."""
        self._cells: dict[str, tuple[str, ...]] = {}

    def compose(self) -> ComposeResult:
        """Make its parts."""
        yield Static(id="head")
        yield DataTable(id="people", cursor_type="row", zebra_stripes=False)
        yield RichLog(id="told", wrap=True, min_width=20, max_lines=500)
        yield Footer()

    def on_mount(self) -> None:
        """Begin to follow the room."""
        self._lay_out(self.size)
        self.set_interval(1.0, self._draw)
        self.run_worker(self._follow(), exit_on_error=True)

    def on_resize(self, event: Resize) -> None:
        """Use the space there is."""
        self._lay_out(event.size)
        self._draw()
        self.call_after_refresh(self._draw)  # its parts have their new sizes then

    def action_why(self) -> None:
        """Explain the participant under the cursor."""
        table = self.query_one("#people", DataTable)
        if self._seen and table.row_count:
            sid = table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value
            who = next((each for each in self._seen.view["participants"] if each["sid"] == sid), None)
            if who:
                self.push_screen(Why(who["identity"]), callback=None)
                self.call_after_refresh(self._draw)

    def on_data_table_row_selected(self, _: DataTable.RowSelected) -> None:
        """Explain the participant that Enter or a click chose."""
        self.action_why()

    async def _follow(self) -> None:
        async for update in self._updates:
            if isinstance(update, Remark):
                self._note = update.text
            else:
                self._seen, self._received_at = update, time.time()
                if update.view["standing"]:
                    self._note = ""
            self._draw()
        self.closed = self._note or "the room has closed"
        self.exit()

    def _now(self) -> str:
        """Return the date by the clock of what is shown."""
        assert self._seen  # noqa: S101 - nothing is drawn before
        return rfc3339(unix(self._seen.at) + time.time() - self._received_at)

    def _lay_out(self, size: Size) -> None:
        """Make the columns that fit."""
        self.query_one("#told", RichLog).set_class(size.height < FLAT, "flat")
        self._columns = columns_for(size.width)
        table = self.query_one("#people", DataTable)
        table.clear(columns=True)
        self._cells = {}
        for name, width in self._columns.items():
            table.add_column(name.upper(), key=name, width=width)

    def _draw(self) -> None:
        """Bring the screen up to date: dates tick whether or not there is news."""
        if self._seen is None:
            self.query_one("#head", Static).update(Text(self._note or "looking at the room …", "dim"))
            return
        view, now = self._seen.view, self._now()
        self.query_one("#head", Static).update(self._head(view))
        self._draw_people(view, now)
        self._tell(view)
        if isinstance(self.screen, Why):
            self.screen.show(view, now)

    def _head(self, view: Mapping[str, Any]) -> Text:
        roles = [each["role"] for each in view["participants"]]
        agents, people = roles.count("agent") + roles.count("avatar"), roles.count("person")
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append(plain(view["room"]), "bold")
        text.append(f"  {_some(people, 'person', 'people')}, {_some(agents, 'agent', 'agents')}\n")
        if view["standing"]:
            text.append(view["standing"].replace("_", " "), "green" if view["standing"] == "acting" else "yellow")
            text.append(f": {plain(view['bouncer'])}, mode {view['mode'] or 'none'}")
            if others := [each for each in view["guarded_by"] if each != view["bouncer"]]:
                text.append(f"; also {', '.join(map(plain, others))}", "dim")
        elif view["guarded_by"]:
            text.append(f"seen from outside; guarded by {', '.join(map(plain, view['guarded_by']))}", "yellow")
        else:
            text.append("no bouncer guards the room; seen from outside", "bold yellow")
        if view["problems"]:
            first = view["problems"][0]
            text.append(f"\nrefused: {plain(first['path'])}: {plain(first['message'])}", "red")
        age = time.time() - self._received_at
        if self._note or age > STALE:
            text.append(f"\n{plain(self._note)}" + (f" ({age:.0f} s old)" if age > STALE else ""), "yellow")
        return text

    def _draw_people(self, view: Mapping[str, Any], now: str) -> None:
        table = self.query_one("#people", DataTable)
        people = (each for each in view["participants"] if not each["identity"].startswith(ASKER))
        order = sorted(people, key=lambda each: ROLE_ORDER.index(each["role"]))
        rows = {each["sid"]: self._row(each, view, now) for each in order}
        if [*rows] != [*self._cells]:
            at = table.cursor_row
            table.clear()
            self._cells = {}
            for sid, cells in rows.items():
                table.add_row(*cells, key=sid)
            table.move_cursor(row=min(at, max(0, len(rows) - 1)))
        else:
            for sid, cells in rows.items():
                for column, cell, shown in zip(self._columns, cells, self._cells[sid], strict=True):
                    if cell.markup != shown:
                        table.update_cell(sid, column, cell)
        self._cells = {sid: tuple(cell.markup for cell in cells) for sid, cells in rows.items()}

    def _row(self, who: Mapping[str, Any], view: Mapping[str, Any], now: str) -> tuple[Text, ...]:
        role = who["role"]
        words, urgency = outlook(who, view["verdicts"], now)
        does = "guards the room" if "guarding" in who else doing(who, now)
        name = plain(who["identity"])
        if who["agent_name"] and role == "agent":
            name = f"{plain(who['agent_name'])} {name}"
        cells = {
            "who": _cell(name, ROLE_STYLE.get(role, "dim")),
            "role": _cell(role, ROLE_STYLE.get(role, "dim")),
            "does": _cell(does, ""),
            "ahead": _cell(words, URGENCY_STYLE.get(urgency, "")),
            "what": _cell(words or does or role, URGENCY_STYLE.get(urgency, "dim")),
        }
        return tuple(cells[column] for column in self._columns)

    def _tell(self, view: Mapping[str, Any]) -> None:
        """Add what the bouncer has told since. In a new width all of it is said again: lines are broken once."""
        log = self.query_one("#told", RichLog)
        who, last, within = self._told
        if within != log.size.width:
            log.clear()
            last = 0
        last = last if who == view["bouncer"] else 0
        for record in sorted(view.get("recent", ()), key=lambda each: each["n"]):
            if record["n"] > last:
                when = clock(record["at"], record["at"]).removesuffix(" UTC")
                log.write(
                    Text(f"{when} ", "dim") + Text(record_words(record), EVENT_STYLE.get(record["event"], "")),
                    expand=True,
                )
                last = record["n"]
        self._told = view["bouncer"], last, log.size.width


def columns_for(width: int) -> dict[str, int]:
    """Return the columns of the table that a screen of this width has room for, and how wide each is."""
    if width < NARROW:
        what = min(AHEAD, width // 2 + PADDING)
        return {"who": max(8, width - 2 * PADDING - what), "what": what}
    rest = width - 3 * PADDING - DOES - AHEAD
    if width < ROOMY:
        return {"who": max(8, rest), "does": DOES, "ahead": AHEAD}
    return {"who": rest - PADDING - ROLE, "role": ROLE, "does": DOES, "ahead": AHEAD}


def _cell(text: str, style: str) -> Text:
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def _some(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
