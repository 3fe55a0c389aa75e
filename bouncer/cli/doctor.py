"""`bouncer doctor`: whether all that a bouncer needs is there, tried on a scratch room that is removed again."""

import asyncio
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import typer
from rich.text import Text

from bouncer.cli.server import Invocation, on_server
from bouncer.cli.terminal import REFUSED, out, print_json
from bouncer.plain import plain

if TYPE_CHECKING:
    from bouncer.adapter.fleet import Sight
    from bouncer.adapter.project import OpenRoom, Project
    from bouncer.configuration.settings import Settings

Status = Literal["ok", "warning", "failed", "skipped"]
STYLES: dict[Status, str] = {"ok": "green", "warning": "yellow", "failed": "bold red", "skipped": "dim"}

NAME = "bouncer-doctor"
CLOCK_OFF_BY = 5.0
"""Seconds by which the clocks may differ; a token is valid for some minutes around its date."""
GUARDS_WITHIN = 20.0
EVICTS_WITHIN = 15.0
LEAVES_WITHIN = 15.0
"""Seconds to wait for each; on a machine that isn't busy they take 1, 0.2 and 0.1."""
REOPENS_WITHIN = 3.0
"""Seconds in which a bouncer that was on its way may open a room again that is deleted: joining one creates it."""
DELETED_EVERY = 0.3
"""Seconds between two looks whether it has."""
CLOSES_AFTER = 60
"""Seconds after which the server itself closes the scratch room, should we be killed."""
CALLS = 500
"""API calls for looking into the rooms."""
NAMED = 5
"""Rooms that a line names."""

SCRATCH = {
    "bouncer": {
        "mode": "enforce",
        "exempt": None,
        "people": None,
        "avatars": None,
        "eviction": None,
        "announce": False,
        "policies": {
            "duplicates": None,
            "max_agents": {"max": 1, "grace": 0, "wait_for_life": 0, "action": "evict", "notice": 0, "only": None},
        },
    }
}
"""The configuration of the scratch room, over that of the worker."""


class Stopped(Exception):  # noqa: N818 - of the examination, not of the program
    """What comes next can't be checked."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    status: Status
    text: str
    fix: str = ""


@dataclass(slots=True)
class Findings:
    """All checks so far; each is shown as it comes, unless that is not wanted."""

    shown: bool
    say: Callable[[str], None]
    checks: list[Check] = field(default_factory=list)

    def add(self, name: str, status: Status, text: str, fix: str = "") -> None:
        """Note a check."""
        check = Check(name, status, text, fix)
        self.checks.append(check)
        if self.shown:
            _show(check)


@on_server
async def doctor(command: Invocation) -> None:
    """Check all that a bouncer needs, one line each, with what to do about it.

    It creates a room of its own, has a worker guard it, lets two agents of one name join, and sees the younger one
    evicted. The room is deleted again, even if the command is interrupted.
    """
    # The SDK takes the removal of a stand-in for an error.
    logging.getLogger("livekit").setLevel(logging.CRITICAL)
    findings = Findings(shown=not command.as_json, say=command.say)
    with suppress(Stopped):
        await _examine(command, findings)
    good = all(check.status != "failed" for check in findings.checks)
    if command.as_json:
        checks = [{"check": c.name, "status": c.status, "text": c.text, "fix": c.fix} for c in findings.checks]
        print_json(v=1, ok=good, checks=checks)
    if not good:
        raise typer.Exit(REFUSED)


async def _examine(command: Invocation, findings: Findings) -> None:
    from bouncer.adapter.project import opened
    from bouncer.cli.credentials import CredentialsError
    from bouncer.ports import ApiError

    try:
        found = command.credentials()
    except CredentialsError as error:
        findings.add("credentials", "failed", "no complete credentials were found", str(error))
        return
    findings.add("credentials", "ok", found.source)
    settings = _settings(findings)
    agent_name = command.options.agent_name or settings.agent_name
    async with AsyncExitStack() as stack:
        try:
            project = await stack.enter_async_context(opened(found.credentials))
        except ApiError as error:
            findings.add("server", "failed", found.credentials.url, str(error))
            return
        with suppress(Stopped):
            await _try_out(project, agent_name, findings)
        await _look_around(command, project, findings)


def _settings(findings: Findings) -> "Settings":
    """Return the worker's settings, as they are here."""
    import os

    from dotenv import load_dotenv

    from bouncer.configuration.plugins import installed
    from bouncer.configuration.settings import SettingsError, from_environment
    from policies import BUILTIN

    load_dotenv(".env.local")
    try:
        settings = from_environment(os.environ, BUILTIN, installed())
    except SettingsError as error:
        findings.add("configuration", "failed", "the environment is refused", str(error))
        raise Stopped from None
    for warning in settings.warnings:
        findings.add("configuration", "warning", "the environment", warning)
    given = settings.layers[0].name if settings.layers else "no BOUNCER_CONFIG here: the built-in defaults"
    findings.add("configuration", "ok", f"{given} {'is valid' if settings.layers else 'are in force'}")
    return settings


async def _try_out(project: "Project", agent_name: str, findings: Findings) -> None:
    """Try the server, the key and a worker on a scratch room."""
    name = f"{NAME}-{secrets.token_hex(4)}"
    async with _scratch(project, name, findings) as room:
        await _try_key(project, room, findings)
        await _try_worker(project, room, agent_name, findings)


@asynccontextmanager
async def _scratch(project: "Project", name: str, findings: Findings) -> "AsyncIterator[OpenRoom]":
    """Create a room, and delete it again whatever happens."""
    from bouncer.ports import ApiError

    began, asked_at = time.monotonic(), time.time()
    settles = REOPENS_WITHIN
    try:
        try:
            room = await project.create_room(
                name,
                metadata=json.dumps(SCRATCH),
                agents=[f"{NAME}-nobody"],  # so that no agent of the user's is launched
                empty_timeout=CLOSES_AFTER,
                departure_timeout=CLOSES_AFTER,
            )
        except ApiError as error:
            findings.add("key", "failed", "a room can't be created", str(error))
            raise Stopped from None
        took = time.monotonic() - began
        _compare_clocks(room.created_ms / 1000 - asked_at, took, findings)
        yield room
        settles = 0.0
    finally:
        if settles:
            findings.say("removing the scratch room")
        # In a task of its own, which no further interruption cancels.
        deleted = asyncio.ensure_future(_deleted(project, name, settles))
        while not deleted.done():
            with suppress(asyncio.CancelledError):
                await asyncio.shield(deleted)
        if problem := deleted.result():
            findings.add(
                "scratch room", "failed", f"{name} is still there: {problem}", f"it closes in {CLOSES_AFTER} s"
            )
        else:
            findings.add("scratch room", "ok", "deleted again")


async def _deleted(project: "Project", name: str, settles: float) -> str:
    """Delete a room, and see that it stays so for some seconds. Return what went wrong; empty if it is gone."""
    from bouncer.ports import ApiError

    deadline = time.monotonic() + settles
    try:
        await project.delete_room(name)
        while (open_again := await project.rooms(name)) or time.monotonic() < deadline:
            if open_again:
                await project.delete_room(name)
                if time.monotonic() > deadline + REOPENS_WITHIN:
                    return "it is listed"
            await asyncio.sleep(DELETED_EVERY)
    except ApiError as error:
        return str(error)
    return ""


def _compare_clocks(off: float, took: float, findings: Findings) -> None:
    """Compare our clock with the date that the server gave to a room, while the call took so long."""
    off = 0.0 if 0 <= off <= took else off if off < 0 else off - took
    if abs(off) > CLOCK_OFF_BY:
        fix = "set this machine's clock: LiveKit accepts keys by their date"
        findings.add("clocks", "warning", f"this machine's is {-off:+.1f} s off the server's", fix)
    else:
        findings.add("clocks", "ok", f"agree within {max(abs(off), took, 0.01):.2f} s")


async def _try_key(project: "Project", room: "OpenRoom", findings: Findings) -> None:
    """See what the key allows, and which version the server is."""
    from bouncer.adapter.visit import signalling
    from bouncer.ports import ApiError

    began = time.monotonic()
    await project.rooms(room.name)
    round_trip = (time.monotonic() - began) * 1000
    doing = "join"
    try:
        async with signalling(project.credentials, room.name, f"{NAME}-probe") as version:
            findings.add(
                "server", "ok", f"{project.credentials.url}, LiveKit {version or '(unknown)'}, {round_trip:.0f} ms"
            )
            doing = "list participants"
            await project.participants(room.name)
            doing = "list dispatches"
            await project.dispatches(room.name)
            doing = "remove a participant"
            await project.remove_participant(room.name, f"{NAME}-probe")
    except ApiError as error:
        fix = "an API key of the server may do all of this; a key that can't is no key that a bouncer can use"
        findings.add("key", "failed", f"may not {doing}: {error}", fix)
        raise Stopped from None
    findings.add("key", "ok", "may list, create, join and remove")


async def _try_worker(project: "Project", room: "OpenRoom", agent_name: str, findings: Findings) -> None:
    """Have a worker guard the room, evict a duplicate, and leave."""
    from bouncer.adapter.fleet import Post
    from bouncer.ports import ApiError

    began = time.monotonic()
    try:
        dispatch = await project.create_dispatch(room.name, agent_name)
    except ApiError as error:
        findings.add("worker", "failed", f"the key may not dispatch: {error}")
        raise Stopped from None
    sight, guards = await _until(project, room, agent_name, lambda sight: sight.acting is not None, GUARDS_WITHIN)
    if not guards:
        if any(bouncer.post is Post.UNCONFIGURED for bouncer in sight.bouncers):
            text, fix = "a bouncer came, and has no valid configuration", "its log says what is wrong"
        elif sight.bouncers:
            text, fix = f"a bouncer came, and does not guard after {GUARDS_WITHIN:g} s", "look into its log"
        else:
            text = f"no worker with the agent name “{agent_name}” took the job within {GUARDS_WITHIN:g} s"
            fix = "`bouncer start` runs one; does BOUNCER_AGENT_NAME agree, and does it have room (BOUNCER_MAX_ROOMS)?"
        findings.add("worker", "failed", text, fix)
        raise Stopped
    took = time.monotonic() - began
    findings.add("worker", "ok", f"“{agent_name}” took the job, and guarded the room after {took:.1f} s")
    await _try_eviction(project, room, findings)
    began = time.monotonic()
    for each in {dispatch.id, *(each.id for each in sight.dispatches)}:
        await project.delete_dispatch(room.name, each)
    _, left = await _until(project, room, agent_name, lambda sight: not sight.bouncers, LEAVES_WITHIN)
    if left:
        findings.add("leaving", "ok", f"the bouncer left after {time.monotonic() - began:.1f} s")
    else:
        findings.add("leaving", "failed", f"the bouncer is still there after {LEAVES_WITHIN:g} s", "look into its log")


async def _try_eviction(project: "Project", room: "OpenRoom", findings: Findings) -> None:
    from bouncer.adapter.visit import agent
    from bouncer.ports import ApiError

    attributes = {"lk.agent_name": NAME}
    try:
        async with (
            agent(project.credentials, room.name, f"{NAME}-older", attributes) as older,
            agent(project.credentials, room.name, f"{NAME}-younger", attributes) as younger,
        ):
            began = time.monotonic()
            evicted = await younger.gone(EVICTS_WITHIN)
            took = time.monotonic() - began
            stayed = not await older.gone(0)
    except ApiError as error:
        findings.add("eviction", "failed", str(error), "the media ports of the server must be reachable")
        return
    if evicted and stayed:
        findings.add(
            "eviction", "ok", f"the younger of two agents was evicted after {took:.2f} s, and the older one stayed"
        )
    elif evicted:
        fix = "a policy of the worker's BOUNCER_CONFIG evicts it; its log says which"
        findings.add("eviction", "warning", "the younger of two agents was evicted, and the older one too", fix)
    else:
        fix = "look into its log: it may lack the permission, or its BOUNCER_CONFIG may hold it back"
        findings.add("eviction", "failed", f"the younger of two agents is still there after {EVICTS_WITHIN:g} s", fix)


async def _until(
    project: "Project", room: "OpenRoom", agent_name: str, so: "Callable[[Sight], bool]", within: float
) -> "tuple[Sight, bool]":
    """Look at a room until it is so. Return the last look, and False if it still isn't so after so many seconds."""
    from bouncer.adapter.fleet import LOOK_EVERY, look

    deadline = time.monotonic() + within
    while not so(sight := await look(project, room.name, agent_name)):
        if time.monotonic() > deadline:
            return sight, False
        await asyncio.sleep(LOOK_EVERY)
    return sight, True


async def _look_around(command: Invocation, project: "Project", findings: Findings) -> None:
    """See which rooms are unguarded, and what it would cost to guard them all."""
    from bouncer.cli.rooms import look_into
    from bouncer.ports import ApiError

    try:
        found = [room for room in await project.rooms() if not room.name.startswith(f"{NAME}-")]
        looked, _ = await look_into(project, found, command, project.made + CALLS)
    except ApiError as error:
        findings.add("rooms", "failed", "can't be listed", str(error))
        return
    rows = [row for row in looked if row.looked]
    if refused_ := [row.room.name for row in rows if row.refused]:
        fix = "`bouncer plan ROOM` says what is wrong with it"
        findings.add("rooms", "warning", f"the configuration of {_some(refused_)} is refused", fix)
    unguarded = [row.room.name for row in rows if not row.guarded and row.mode != "off"]
    of = f"{len(rows)} open room{'' if len(rows) == 1 else 's'}"
    if len(rows) < len(found):
        of += f" looked into, of {len(found)},"
    if unguarded:
        fix = "`bouncer dispatch ROOM` guards one, `bouncer gatekeeper` all; `bouncer rooms --unguarded` lists them"
        findings.add("rooms", "warning", f"{len(unguarded)} of {of} unguarded: {_some(unguarded)}", fix)
    else:
        findings.add("rooms", "ok", f"{of}, none unguarded" if rows else "none is open")
    _reckon(project.credentials.url, len(found), findings)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _reckon(url: str, rooms: int, findings: Findings) -> None:
    """Say what guarding costs on LiveKit Cloud, where an agent deployed there is metered while it is connected."""
    if not (urlsplit(url).hostname or "").endswith(".livekit.cloud"):
        findings.add("cost", "skipped", "not LiveKit Cloud: no agent minutes")
        return
    findings.add(
        "cost",
        "ok",
        "deployed on Cloud, a bouncer takes one agent minute for each minute of a room: "
        f"60 an hour for one room, {60 * 100:,} for 100; all that are open now ({rooms}): {60 * rooms:,}",
    )


def _show(check: Check) -> None:
    """Print a check for a person."""
    mark = check.status.upper() if check.status == "failed" else check.status
    out.print(Text.assemble((f"{mark:<8}", STYLES[check.status]), (f"{check.name:<14}", "bold"), plain(check.text)))
    for line in check.fix.splitlines():
        out.print(Text(f"{'':<22}→ {plain(line)}", "yellow"))
