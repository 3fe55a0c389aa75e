"""`bouncer evict`: evict an agent by hand, as a bouncer would, and see it gone."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from bouncer.cli.configured import loaded
from bouncer.cli.server import Identity, Invocation, RoomName, on_server
from bouncer.cli.terminal import REFUSED, err, misused, out, print_json, refused
from bouncer.plain import plain

if TYPE_CHECKING:
    from bouncer.adapter.project import OpenRoom
    from bouncer.decide import Decision, Finding


@on_server
async def evict(
    command: Invocation,
    room: RoomName,
    identity: Identity,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask first.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
) -> None:
    """Evict an agent by hand, as a bouncer would: look again, end its job or remove it, and see it gone.

    A person or a bouncer is never evicted, nor is a participant that the room's configuration exempts. An agent's
    avatar leaves with it.
    """
    from bouncer.adapter.byhand import UNDONE, ByHand, NotEvicted, layers_in_force, told

    async with command.project() as project:
        found = await project.room(room)
        layers = await layers_in_force(project, found, command.agent_name, command.settings.layers)
        hand = ByHand(project, found, command.agent_name, loaded(command, layers))
        await hand.look()
        try:
            decision = hand.decide(identity)
        except NotEvicted as error:
            refused(str(error))
        if not (yes or dry_run or command.asks):
            misused("without a terminal there is no one to ask: pass --yes, or --dry-run to see what would be done")
        if not (yes or dry_run) and not command.confirm(_question(decision, found)):
            refused("no one was evicted")
        if dry_run and not command.as_json:
            for finding in decision.evictions:
                out.print(Text(_plan(finding, hand.leave_within(finding))))
            return
        endings = await hand.evict(decision, dry_run=dry_run)
    if command.as_json:
        print_json(v=1, room=found.name, room_sid=found.sid, evictions=hand.records(endings))
    else:
        for ending in endings:
            good = ending.outcome not in UNDONE
            (out if good else err).print(Text(plain(told(ending)), "" if good else "red"))
    if any(ending.outcome in UNDONE for ending in endings):
        raise typer.Exit(REFUSED)


def _question(decision: "Decision", room: "OpenRoom") -> str:
    from bouncer.adapter.byhand import named

    return plain(f"Evict {' and '.join(map(named, decision.evictions))} from “{room.name}”?")


def _plan(finding: "Finding", leave_within: float) -> str:
    """Return what would be done to evict a participant."""
    from bouncer.adapter.byhand import named

    removed = "it would be removed"
    if leave_within:
        dispatch = finding.participant.dispatch
        removed = f"its dispatch {dispatch} would be deleted, and {removed} if it had not left after {leave_within:g} s"
    return plain(f"Would evict {named(finding)}: {removed}")
