"""`bouncer dispatch` and `bouncer release`: send a bouncer into a room with a configuration, and take both out."""

import asyncio
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from bouncer.cli.configured import Given, layer, loaded, value_of
from bouncer.cli.server import Invocation, RoomName, on_server
from bouncer.cli.terminal import out, print_json, refused
from bouncer.plain import plain

if TYPE_CHECKING:
    from bouncer.adapter.fleet import Post, Posted, Sight
    from bouncer.adapter.project import Dispatch, OpenRoom, Project

WRITES = 3
"""How often our key is written if others write the metadata at the same time."""
SETTLES = 0.3
"""Seconds after which we look whether what we wrote has stood."""
PENDING = 10.0
"""Seconds after which a dispatch that shows no job brings no bouncer (docs/livekit.md)."""
LEAVES_WITHIN = 15.0
"""Seconds for a bouncer to be gone once its dispatch is deleted; it takes up to 3 s."""


@on_server
async def dispatch(
    command: Invocation,
    room: RoomName,
    config: Given = "",
    *,
    dry_run_mode: Annotated[
        bool, typer.Option("--dry-run-mode", help="With mode `dry_run`: the bouncer decides all and evicts no one.")
    ] = False,
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long to wait until a bouncer guards the room.")
    ] = 30,
) -> None:
    """Send a bouncer into a room, with a configuration if one is given, and wait until it guards the room.

    The configuration goes into the room's metadata, under the key `bouncer`; all else there is kept. A bouncer that is
    there already takes it up at once.
    """
    began = time.monotonic()
    value = _value(command, config, dry_run_mode=dry_run_mode)
    agent_name = command.agent_name
    async with command.project() as project:
        found = await project.room(room)
        written = _Written() if value is None else await _write(command, project, found, value)
        acting, sent = await _guarded(command, project, found, agent_name, wait)
    took = round(time.monotonic() - began, 3)
    if command.as_json:
        print_json(
            v=1,
            room=found.name,
            room_sid=found.sid,
            guarded_by=[acting.identity],
            dispatched=sent is not None,
            dispatch_id=sent.id if sent else "",
            configured=written.changed,
            written_concurrently=written.concurrently,
            took=took,
        )
        return
    name = plain(found.name)
    if value is not None:
        same = "" if written.changed else ", as it was already"
        out.print(Text(f"The configuration is in the metadata of {name}{same}."))
    how = f"dispatched, {took:.1f} s" if sent else "it was there already"
    out.print(Text(f"{plain(acting.identity)} guards {name} ({how})."))


@on_server
async def release(command: Invocation, room: RoomName) -> None:
    """Take the bouncer out of a room, and its configuration out of the room's metadata. All else there is kept."""
    agent_name = command.agent_name
    async with command.project() as project:
        found = await project.room(room)
        # The bouncer first: without its configuration it would enforce the defaults until it is gone.
        left = await _take_out(command, project, found, agent_name)
        written = await _write(command, project, await project.room(room), None)
    if command.as_json:
        print_json(
            v=1,
            room=found.name,
            room_sid=found.sid,
            released=[bouncer.identity for bouncer in left],
            unconfigured=written.changed,
            written_concurrently=written.concurrently,
        )
        return
    name = plain(found.name)
    gone = ", ".join(plain(bouncer.identity) for bouncer in left)
    out.print(Text(f"{gone} no longer guards {name}." if left else f"No bouncer was in {name}."))
    had = "no longer has a" if written.changed else "had no"
    out.print(Text(f"The metadata of {name} {had} configuration for a bouncer."))


def _value(command: Invocation, given: str, *, dry_run_mode: bool) -> dict[str, Any] | None:
    """Return the value to write under our key, found valid; None if there is nothing to write."""
    from bouncer.configuration.model import KEY, Layer

    value: dict[str, Any] | None = None
    if given:
        asked = layer(given)
        loaded(command, [*command.settings.layers, asked])
        value = value_of(asked)
    if dry_run_mode:
        value = {**(value or {}), "mode": "dry_run"}
        loaded(command, [*command.settings.layers, Layer("--config with --dry-run-mode", json.dumps({KEY: value}))])
    return value


@dataclass(frozen=True, slots=True)
class _Written:
    """What became of the metadata."""

    changed: bool = False
    concurrently: bool = False
    """True if another application has written them meanwhile."""


async def _write(command: Invocation, project: "Project", room: "OpenRoom", value: Any) -> _Written:
    """Put a value under our key in the room's metadata, or take the key out for None; end if that can't be done.

    LiveKit can't compare and swap. So the metadata is read right before it is written and again afterwards. What
    another application writes between our read and our write is lost, and no one can see that.
    """
    from bouncer.configuration.metadata import ours_in

    writes = 0
    while (text := _changed(room, value)) != room.metadata:
        if writes == WRITES:
            refused(f"the metadata of “{room.name}” doesn't stay as written: another application writes it again")
        await project.update_metadata(room.name, text)
        writes += 1
        await asyncio.sleep(SETTLES)
        room = await project.room(room.name)
        if room.metadata == text:
            return _Written(changed=True, concurrently=writes > 1)
        if ours_in(room.metadata) == value:
            command.say("another application has written the metadata too; they have both", "yellow")
            return _Written(changed=True, concurrently=True)
        command.say("another application has written the metadata at the same time, without this; again", "yellow")
    return _Written(changed=writes > 0, concurrently=writes > 1)


def _changed(room: "OpenRoom", value: Any) -> str:
    """Return the metadata to write; end if there is no place in them for our key."""
    from bouncer.configuration.metadata import ForeignMetadata, with_ours, without_ours

    try:
        return without_ours(room.metadata) if value is None else with_ours(room.metadata, value)
    except ForeignMetadata as error:
        refused(
            f"the metadata of “{room.name}” is another application's, and is left as it is: {error}. Give the "
            "configuration to the workers (BOUNCER_CONFIG) or to the dispatch (its metadata) instead"
        )


async def _guarded(
    command: Invocation, project: "Project", room: "OpenRoom", agent_name: str, within: float
) -> "tuple[Posted, Dispatch | None]":
    """Have a bouncer guard the room. Return it, and its dispatch if it took one; end if none comes."""
    from bouncer.adapter.fleet import LOOK_EVERY, look

    sight = await look(project, room.name, agent_name)
    sent = None
    if not sight.bouncers and not _pending(sight):
        sent = await _send(project, room, agent_name)
        command.say(f"dispatched “{agent_name}”")
    deadline = time.monotonic() + within
    while sight.acting is None:
        if time.monotonic() > deadline:
            if sent and not sight.bouncers:
                await project.delete_dispatch(room.name, sent.id)
            refused(_not_guarded(room.name, agent_name, {each.post for each in sight.bouncers}, within))
        await asyncio.sleep(LOOK_EVERY)
        await project.room(room.name)
        sight = await look(project, room.name, agent_name)
        if sent is None and not sight.bouncers and not _pending(sight):
            sent = await _send(project, room, agent_name)
            command.say(f"dispatched “{agent_name}”")
    return sight.acting, sent


def _pending(sight: "Sight") -> bool:
    """Return True if a dispatch of ours is so young that it may still bring a bouncer."""
    return any(time.time() - dispatch.created_ms / 1000 < PENDING for dispatch in sight.dispatches)


async def _send(project: "Project", room: "OpenRoom", agent_name: str) -> "Dispatch":
    """Dispatch a bouncer into the room, with the mark that tells it which one: LiveKit opens a room that has closed."""
    from bouncer.configuration.model import KEY, MARK

    return await project.create_dispatch(room.name, agent_name, json.dumps({KEY: {}, MARK: room.sid}))


def _not_guarded(room: str, agent_name: str, posts: "set[Post]", within: float) -> str:
    if not posts:
        return (
            f"no worker has sent a bouncer into “{room}” within {within:g} s, and the dispatch is taken back: is a "
            f"worker with the agent name “{agent_name}” running, and does it have room? `bouncer doctor` looks"
        )
    if "unconfigured" in posts:
        return f"a bouncer is in “{room}” and has no valid configuration; its log says what is wrong"
    return f"a bouncer is in “{room}” and has not said within {within:g} s that it guards the room"


async def _take_out(command: Invocation, project: "Project", room: "OpenRoom", agent_name: str) -> "tuple[Posted, ...]":
    """Delete our dispatches in the room, and see their bouncers gone. Return the bouncers that were there."""
    from bouncer.adapter.fleet import LOOK_EVERY, look
    from bouncer.configuration.model import MARK

    first = sight = await look(project, room.name, agent_name)
    if any(MARK in dispatch.metadata for dispatch in sight.dispatches):
        command.say("a gatekeeper, where one runs, sends another bouncer unless the room's mode is off")
    for dispatch_ in sight.dispatches:
        await project.delete_dispatch(room.name, dispatch_.id)
    deadline = time.monotonic() + LEAVES_WITHIN
    there = {bouncer.sid for bouncer in first.bouncers}
    while there & {bouncer.sid for bouncer in sight.bouncers}:
        if time.monotonic() > deadline:
            for bouncer in sight.bouncers:
                await project.remove_participant(room.name, bouncer.identity)
            break
        await asyncio.sleep(LOOK_EVERY)
        sight = await look(project, room.name, agent_name)
    return first.bouncers
