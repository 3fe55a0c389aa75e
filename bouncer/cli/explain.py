"""`bouncer explain`: why a participant is still in its room, or why it no longer is."""

import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.text import Text

from bouncer.cli.server import Identity, Invocation, RoomName, on_server
from bouncer.cli.terminal import REFUSED, out, print_json

if TYPE_CHECKING:
    from bouncer.adapter.asker import Exchange
    from bouncer.adapter.project import OpenRoom, Project
    from bouncer.explanation import Explanation

ANNOUNCED_WITHIN = 5.0
"""Seconds in which a bouncer learns of a participant; of one that publishes nothing it is told up to 3 s late."""
EXPLAINED_FOR = 20
"""Seconds for which the bouncer is asked to answer: more than that is never waited for."""


@on_server
async def explain(command: Invocation, room: RoomName, identity: Identity) -> None:
    """Say why a participant is still here: every fact about it, what each rule says, and what holds it back.

    It asks the bouncer in the room if there is one. Otherwise it says what only a bouncer would know. For a
    participant that has left, it says what the bouncer remembers.
    """
    from bouncer import explanation

    async with command.project() as project:
        at, view = await seen(command, project, await project.room(room), identity)
    told = explanation.explain(view, identity, at=at)
    if command.as_json:
        print_json(**as_json(told, view, identity, at))
    else:
        show(told)
    if told.found == "unknown":
        raise typer.Exit(REFUSED)


async def seen(command: Invocation, project: "Project", room: "OpenRoom", identity: str) -> tuple[str, dict[str, Any]]:
    """Return the room as its bouncer sees it, else as it is seen from outside, and the date.

    A bouncer may learn late of a participant that the server lists already: then it is waited for.
    """
    from bouncer.cli.outside import judged, read_settled
    from bouncer.guard.outside import acting

    lists, dispatches = await read_settled(project, room)
    if bouncer := acting(lists, command.agent_name):
        from bouncer.adapter.asker import NoAnswer, asking

        command.say(f"asking the bouncer {bouncer.identity}")
        try:
            async with asking(project, room, bouncer.identity) as conversation:
                there = any(info.identity == identity for info in lists.infos)
                return await _with(identity if there else "", conversation)
        except NoAnswer as error:
            command.say(f"{error}; this is how the room is seen from outside", "yellow")
    else:
        command.say("no bouncer of ours guards the room; this is how it is seen from outside")
    _, shown = judged(lists, dispatches, agent_name=command.agent_name, layers=command.settings.layers)
    return shown["at"], shown


async def _with(identity: str, conversation: "Exchange") -> tuple[str, dict[str, Any]]:
    """Return what the bouncer sees, if possible once it sees this participant too."""
    from bouncer.adapter.asker import NoAnswer

    ends_at = time.monotonic() + ANNOUNCED_WITHIN
    async with aclosing(conversation.views(seconds=EXPLAINED_FOR)) as views:
        async for at, view in views:
            seen = not identity or any(each["identity"] == identity for each in view["participants"])
            if seen or time.monotonic() > ends_at:
                return at, view
    raise NoAnswer("the connection to the room ended")


def as_json(told: "Explanation", view: dict[str, Any], identity: str, at: str) -> dict[str, Any]:
    """Return the explanation as JSON has it."""
    here = [each for each in view["participants"] if each["identity"] == identity]
    sids = {each["sid"] for each in here}
    return {
        "v": view["v"],
        "room": view["room"],
        "room_sid": view["room_sid"],
        "at": at,
        "identity": identity,
        "asked": view["bouncer"] if view["standing"] else "",
        "found": told.found,
        "summary": told.summary,
        "sentences": [*told.sentences()],
        "participant": here[0] if here else None,
        "verdicts": [each for each in view["verdicts"] if each["sid"] in sids],
        "departed": [each for each in view["departed"] if each["identity"] == identity],
        "unknown_facts": view.get("unknown_facts", []),
    }


def show(told: "Explanation", to: Console = out) -> None:
    """Print an explanation for a person, a sentence or two a line; in a terminal wrapped at its width."""
    _line(to, Text(told.title, "bold"))
    to.print()
    _line(to, Text(told.summary, "green" if told.found == "present" else "yellow"))
    for heading, lines in told.parts():
        to.print(Text(f"\n{heading}", "bold"))
        for line in lines:
            _line(to, Text(line), "- ")


def _line(to: Console, text: Text, bullet: str = "") -> None:
    if not to.is_terminal:
        to.print(Text(bullet) + text)
        return
    for number, part in enumerate(text.wrap(out, max(20, to.width - len(bullet)))):
        part.rstrip()
        to.print(Text(" " * len(bullet) if number else bullet) + part)
