"""A room judged from outside, for the verbs, with this installation's policies."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bouncer.guard.outside import Lists, Outside, arriving
from bouncer.guard.plan import planned

if TYPE_CHECKING:
    from bouncer.adapter.project import OpenRoom, Project
    from bouncer.configuration.model import Layer

AGAIN = 0.5
"""Seconds between two looks for the dispatch of a bouncer that has just joined."""


async def read_settled(project: "Project", room: "OpenRoom") -> tuple[Lists, dict[str, str]]:
    """Return what the server lists, once it is known whether a bouncer that has just joined is one of ours."""
    while True:
        lists, dispatches = await project.lists(room)
        if not arriving(lists):
            return lists, dispatches
        await asyncio.sleep(AGAIN)


def judged(
    lists: Lists,
    dispatches: dict[str, str],
    *,
    agent_name: str,
    layers: "Sequence[Layer]",
    instead: "Layer | None" = None,
) -> tuple[Outside, dict[str, Any]]:
    """Return what a bouncer would do in this room, and the view of it."""
    from bouncer.configuration.plugins import installed
    from policies import BUILTIN

    return planned(
        lists,
        dispatches,
        agent_name=agent_name,
        layers=layers,
        registry=BUILTIN,
        plugins=installed(),
        instead=instead,
    )
