"""`bouncer rooms`: the rooms of a server, and which bouncer guards each."""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from bouncer.cli.server import Invocation, on_server
from bouncer.cli.terminal import out, print_json, refused
from bouncer.plain import plain

if TYPE_CHECKING:
    from bouncer.adapter.fleet import Posted
    from bouncer.adapter.project import OpenRoom, Project
    from bouncer.configuration.model import Config, Layer
    from bouncer.events import Info
    from bouncer.room import Room as RoomFacts

ASKED = 8
"""Bouncers that are asked at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomRow:
    """What is said of a room."""

    room: "OpenRoom"
    looked: bool = False
    """False if the budget was spent before it was looked into: all below is unknown then."""
    people: int = 0
    agents: int = 0
    avatars: int = 0
    bouncers: "tuple[Posted, ...]" = ()
    mode: str = ""
    next: dict[str, Any] | None = None
    """The verdict that is due first, as far as is known."""
    unknown: tuple[str, ...] = ()
    """The policies in force under which another may be due before it."""
    refused: bool = False
    """True if its configuration is refused."""
    evictions: int | None = None
    """How many its bouncer has carried out; None if it wasn't asked, or doesn't answer."""

    @property
    def guarded(self) -> bool:
        """True if a bouncer acts in it."""
        return any(bouncer.post == "acting" for bouncer in self.bouncers)


@on_server
async def rooms(
    command: Invocation,
    names: Annotated[list[str] | None, typer.Argument(metavar="GLOB", help="Names of rooms; all by default.")] = None,
    *,
    unguarded: Annotated[bool, typer.Option("--unguarded", help="Only those that no bouncer guards.")] = False,
    ask: Annotated[
        bool, typer.Option("--ask", help="Ask each bouncer how it sees its room, and how many it has evicted.")
    ] = False,
    calls: Annotated[
        int, typer.Option(metavar="NUMBER", min=2, help="API calls at most; a room takes one, and two if asked.")
    ] = 2000,
) -> None:
    """List the open rooms: people, agents, which bouncer guards each, and what is due next.

    What is due is judged from outside, as `bouncer plan` does, with the room's metadata and this machine's
    BOUNCER_CONFIG.
    """
    began = time.monotonic()
    async with command.project() as project:
        found = await project.rooms()
        if names:
            from bouncer.selectors import matches

            found = tuple(room for room in found if matches(room.name, names))
        rows, trouble = await look_into(project, found, command, calls)
        if missed := sum(not row.looked for row in rows):
            why = trouble or "--calls allows more calls"
            command.say(f"not looked into: {missed} of {len(found)} rooms; {why}", "yellow")
        if ask:
            rows = await _asked(project, rows, command, calls)
        made = project.made
    if unguarded:
        rows = [row for row in rows if row.looked and not row.guarded]
    took = round(time.monotonic() - began, 3)
    if command.as_json:
        print_json(v=1, rooms=[_record(row) for row in rows], calls={"made": made, "at_most": calls}, took=took)
    else:
        _show(rows, ask=ask, nothing="Every open room is guarded." if found else "No room is open.")
    command.say(f"{made} of at most {calls} API calls, {took:.1f} s")


async def look_into(
    project: "Project", found: "Iterable[OpenRoom]", command: Invocation, calls: int
) -> tuple[list[RoomRow], str]:
    """Look into the rooms, those with the most participants first, for as long as the calls suffice.

    Returns: the rooms by name, and what failed first. Ends if all of it fails.
    """
    from bouncer.ports import ApiError, Trouble

    by_size = sorted(found, key=lambda room: -room.visible)
    within = max(0, calls - project.made)
    troubles: list[ApiError] = []

    async def look(room: "OpenRoom") -> RoomRow:
        if any(trouble.trouble is Trouble.THROTTLED for trouble in troubles):
            return RoomRow(room=room)
        try:
            infos = await project.participants(room.name)
        except ApiError as error:
            troubles.append(error)
            return RoomRow(room=room)
        return row_of(room, infos, command)

    rows = [*await asyncio.gather(*map(look, by_size[:within])), *(RoomRow(room=room) for room in by_size[within:])]
    if troubles and not any(row.looked for row in rows):
        refused(str(troubles[0]))
    return sorted(rows, key=lambda row: row.room.name), str(troubles[0]) if troubles else ""


def row_of(room: "OpenRoom", infos: "tuple[Info, ...]", command: Invocation) -> RoomRow:
    """Return what the server's list says of a room."""
    from bouncer.adapter.fleet import apparent_jobs, bouncers, seen
    from bouncer.people import named_by
    from bouncer.room import Role

    config = _config(command.settings.layers, room.metadata)
    named = named_by(config.people_also, config.people_except, config.avatars) if config else None
    facts = seen(infos, apparent_jobs(infos, command.agent_name), command.agent_name, named)
    roles = [each.role for each in facts.participants]
    row = RoomRow(
        room=room,
        looked=True,
        people=roles.count(Role.HUMAN),
        agents=roles.count(Role.AGENT),
        avatars=roles.count(Role.AVATAR),
        bouncers=bouncers(each for each in facts.participants if each.role is Role.BOUNCER),
        mode=config.mode if config else "",
        refused=config is None,
    )
    return _judged(row, facts, config) if config and row.agents and config.mode != "off" else row


@lru_cache(maxsize=1000)
def _config(layers: "tuple[Layer, ...]", metadata: str) -> "Config | None":
    """Return what is in force in a room with this metadata; None if it is refused. Many rooms have the same."""
    from bouncer.configuration.load import load
    from bouncer.configuration.model import ROOM, ConfigError, Layer
    from bouncer.configuration.plugins import installed
    from policies import BUILTIN

    try:
        return load((*layers, Layer(ROOM, metadata, shared=True)), BUILTIN, installed())
    except ConfigError:
        return None


def _judged(row: RoomRow, facts: "RoomFacts", config: "Config") -> RoomRow:
    """Return the row with the verdict that evicts first, if nothing holds it back."""
    from bouncer.dates import rfc3339
    from bouncer.decide import decide

    now = time.time()
    decision = decide(facts, [rule for rule in config.rules if not rule.watches], config.guards, now)
    unknown = tuple(dict.fromkeys(rule.policy.name for rule in config.rules if rule.watches))
    coming = [
        finding
        for finding in (*decision.evictions, *decision.pending)
        if finding.rule.action == "evict"
        and not finding.verdict.doubt
        and not config.guards.exempts(finding.participant, now)
    ]
    first = min(coming, key=lambda finding: finding.verdict.due, default=None)
    if first is None:
        return replace(row, unknown=unknown)
    verdict = {
        "identity": first.participant.identity,
        "sid": first.participant.sid,
        "policy": first.rule.id,
        "due_at": rfc3339(first.verdict.due),
        "reason": first.verdict.reason,
        "due_in": round(first.verdict.due - now, 3),
    }
    return replace(row, next=verdict, unknown=unknown)


def _first(verdicts: Iterable[dict[str, Any]], now: float) -> dict[str, Any] | None:
    """Return the verdict of a view that evicts first, if nothing holds it back."""
    from bouncer.dates import unix

    coming = [each for each in verdicts if each["status"] in ("pending", "due") and not each["held_by"]]
    first = min((each for each in coming if each["action"] == "evict"), key=lambda each: each["due_at"], default=None)
    if first is None:
        return None
    shown = {key: first[key] for key in ("identity", "sid", "policy", "due_at", "reason")}
    return shown | {"due_in": round(unix(first["due_at"]) - now, 3)}


async def _asked(project: "Project", rows: list[RoomRow], command: Invocation, calls: int) -> list[RoomRow]:
    """Ask the bouncers of the rooms, and return the rows with what they answer."""
    from bouncer.adapter.asker import NoAnswer, asking
    from bouncer.adapter.project import UnknownRoom
    from bouncer.dates import unix
    from bouncer.ports import ApiError

    slots = asyncio.Semaphore(ASKED)

    async def asked(row: RoomRow) -> RoomRow:
        acting = next((each for each in row.bouncers if each.post == "acting"), None)
        if acting is None:
            return row
        async with slots:
            if project.made >= calls:
                return row
            try:
                async with asking(project, row.room, acting.identity) as conversation:
                    at, view = await conversation.first()
            except (NoAnswer, ApiError, UnknownRoom) as error:
                command.say(f"{row.room.name}: {error}", "yellow")
                return row
        return replace(
            row,
            mode=view["mode"],
            next=_first(view["verdicts"], unix(at)),
            unknown=(),
            refused=bool(view["problems"]),
            evictions=view["evictions"]["all"],
        )

    return [*await asyncio.gather(*map(asked, rows))]


def _record(row: RoomRow) -> dict[str, Any]:
    """Return a row as JSON has it."""
    name = {"room": row.room.name, "room_sid": row.room.sid}
    if not row.looked:
        return {**name, "looked_into": False}
    return {
        **name,
        "looked_into": True,
        "people": row.people,
        "agents": row.agents,
        "avatars": row.avatars,
        "guarded": row.guarded,
        "bouncers": [{"identity": each.identity, "sid": each.sid, "standing": each.post} for each in row.bouncers],
        "mode": row.mode,
        "next": row.next,
        "unknown": list(row.unknown),
        "refused": row.refused,
        **({} if row.evictions is None else {"evictions": row.evictions}),
    }


def _show(rows: list[RoomRow], *, ask: bool, nothing: str) -> None:
    """Print the rooms for a person."""
    from bouncer.cli.terminal import print_table

    if not rows:
        out.print(Text(nothing, "dim"))
        return
    table = Table("ROOM", box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("PEOPLE", "AGENTS"):
        table.add_column(heading, justify="right")
    for heading in ("GUARDED BY", "NEXT", *(["EVICTED"] if ask else [])):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(plain(row.room.name), *_cells(row), *([_number(row.evictions)] if ask else []))
    print_table(table)


def _cells(row: RoomRow) -> tuple[str, str, Text, Text]:
    if not row.looked:
        return "?", "?", Text("not looked into", "dim"), Text("")
    guards = Text("; ").join(
        Text(f"{plain(each.identity)} {each.words}", "" if each.post == "acting" else "yellow") for each in row.bouncers
    )
    return str(row.people), str(row.agents), guards if row.bouncers else Text("none", "red"), _next(row)


def _next(row: RoomRow) -> Text:
    from bouncer.dates import span

    if row.refused:
        return Text("configuration refused", "red")
    if row.mode == "off":
        return Text("mode off", "dim")
    words = []
    if row.next:
        due_in = row.next["due_in"]
        when = "due now" if due_in <= 0 else f"due in {span(due_in)}"
        words.append(f"{plain(row.next['identity'])} {when}, {row.next['policy']}")
    if row.unknown:
        words.append(f"unknown: {', '.join(row.unknown)}")
    if row.mode == "dry_run":
        words.append("dry run")
    return Text("; ".join(words), "yellow" if row.next else "dim")


def _number(number: int | None) -> str:
    return "?" if number is None else str(number)
