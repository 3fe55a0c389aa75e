"""`bouncer plan`: what a bouncer would do in a room now, without joining it and without changing anything."""

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bouncer.cli import terminal
from bouncer.cli.configured import layer
from bouncer.cli.server import Invocation, RoomName, on_server
from bouncer.cli.terminal import REFUSED, err, out, print_json
from bouncer.plain import plain

EPILOG = f"{terminal.EPILOG[:-1]}; 3, with --exit-code, if an agent would be evicted now."
ROWS = 200
"""Participants, and verdicts, that are shown to a person; of a crowd those first that aren't people."""
WOULD_EVICT = 3
"""The exit status of `plan --exit-code` if an agent would be evicted now."""


@on_server
async def plan(
    command: Invocation,
    room: RoomName,
    config: Annotated[
        str,
        typer.Option(
            metavar="FILE|JSON|-",
            help="Another configuration in place of the room's metadata; - is the standard input.",
            show_default=False,
        ),
    ] = "",
    *,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="End with status 3 if an agent would be evicted now.")
    ] = False,
) -> None:
    """Show what a bouncer would do in a room now, without joining it and without changing anything.

    It shows who is there and as what, each verdict with its countdown, which agents would be evicted now, what holds
    back, and what can't be known from outside. A bouncer that is there knows more: `bouncer explain`, `bouncer watch`.
    """
    from bouncer.cli.outside import judged
    from bouncer.guard.plan import as_json

    instead = layer(config) if config else None
    settings = command.settings
    async with command.project() as project:
        lists, dispatches = await project.lists(await project.room(room))
    seen, shown = judged(lists, dispatches, agent_name=command.agent_name, layers=settings.layers, instead=instead)
    answer = as_json(seen, shown)
    if command.as_json:
        print_json(**answer)
    else:
        show(answer)
    if seen.snapshot.problems:
        if not command.as_json:
            for problem in seen.snapshot.problems:
                err.print(Text(plain(str(problem)), "red"))
        raise typer.Exit(REFUSED)
    if exit_code and seen.evicted:
        raise typer.Exit(WOULD_EVICT)


def show(answer: dict[str, Any], to: Console = out) -> None:
    """Print a plan for a person."""
    to.print(Text.assemble((plain(answer["room"]), "bold"), f"  {answer['room_sid']}", *_guarded(answer)))
    _show_participants(answer, to)
    _show_verdicts(answer, to)
    to.print()
    evicted = answer["evicted_now"]
    if answer["configuration"] is None:
        to.print(Text("The configuration is refused, so nothing is judged.", "red"))
    elif evicted:
        names = ", ".join(map(plain, evicted))
        some = "1 agent" if len(evicted) == 1 else f"{len(evicted)} agents"
        would = "A bouncer would evict" if not answer["guarded_by"] else "The bouncer evicts"
        to.print(Text.assemble((f"{would} {some} now: {names}", "bold red")))
    else:
        to.print(Text(_no_one(answer), "green"))
    for each in answer["unknown_facts"]:
        rests = f" ({', '.join(each['policies'])})" if each["policies"] else ""
        to.print(Text(f"Not known from outside: {each['fact']}{rests}", "yellow"))


def _guarded(answer: dict[str, Any]) -> list[Any]:
    if not answer["guarded_by"]:
        return ["  ", ("no bouncer", "yellow")]
    mode = f", mode {answer['mode']}" if answer["mode"] else ""
    return [f"  guarded by {', '.join(map(plain, answer['guarded_by']))}{mode}"]


def _no_one(answer: dict[str, Any]) -> str:
    due = sum(each["status"] == "due" for each in answer["verdicts"])
    if answer["mode"] == "off":
        return "The mode is off: no one would be evicted."
    if answer["mode"] == "dry_run" and due:
        return f"The mode is dry_run: no one would be evicted, {due} would be told."
    return "No one would be evicted now."


def _show_participants(answer: dict[str, Any], to: Console) -> None:
    from bouncer.dates import span, unix

    now = unix(answer["at"])
    table = _table("IDENTITY", "ROLE", "AGENT NAME", "HERE FOR")
    people = sorted(answer["participants"], key=lambda each: bool(each["role"] == "person"))
    everyone = people if len(people) > ROWS else answer["participants"]
    for each in everyone[:ROWS]:
        style = {"agent": "cyan", "avatar": "cyan", "person": "green"}.get(each["role"], "dim")
        table.add_row(
            plain(each["identity"]),
            Text(each["role"], style),
            plain(each["agent_name"]),
            span(now - unix(each["joined_at"])),
        )
    if len(everyone) > ROWS:
        table.add_row(f"… and {len(everyone) - ROWS} more", "", "", "")
    to.print()
    _print(to, table if answer["participants"] else Text("No one is in the room.", "dim"))


def _show_verdicts(answer: dict[str, Any], to: Console) -> None:
    from bouncer.explanation import verdict_words

    to.print()
    if not answer["verdicts"]:
        to.print(Text("No verdicts.", "dim"))
        return
    table = _table("IDENTITY", "POLICY", "VERDICT")
    for each in answer["verdicts"][:ROWS]:
        words = verdict_words(each, answer["at"])
        style = {"due": "bold red", "pending": "yellow"}.get(each["status"], "dim")
        reason = Text.assemble((plain(words), style), plain(f": {each['reason']}"))
        table.add_row(plain(each["identity"]), each["policy"], reason)
    if len(answer["verdicts"]) > ROWS:
        table.add_row(f"… and {len(answer['verdicts']) - ROWS} more", "", "")
    _print(to, table)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _print(to: Console, what: Table | Text) -> None:
    """Print within the terminal's width; the console's own way never wraps."""
    to.print(what, soft_wrap=False)
