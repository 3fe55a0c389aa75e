"""A room as it changes, for `bouncer watch`: asked of its bouncer while there is one, else seen from outside."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bouncer.cli.outside import judged

if TYPE_CHECKING:
    from bouncer.adapter.project import Project
    from bouncer.configuration.model import Layer

OUTSIDE_EVERY = 2.0
"""Seconds between two looks from outside; each takes three calls."""
LONGEST_PAUSE = 10.0
"""Seconds between two attempts to reach a server that is away; the first follows after one."""


@dataclass(frozen=True, slots=True)
class Picture:
    """The room as it is at that date."""

    at: str
    view: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Remark:
    """Something about the watching itself, in a sentence."""

    text: str


async def follow(
    project: "Project", name: str, *, agent_name: str, layers: "Sequence[Layer]"
) -> AsyncGenerator[Picture | Remark, None]:
    """Yield the room each time that something has changed, until it closes.

    What goes wrong after the first look is noted, and tried again.

    Raises: UnknownRoom, ApiError at the first look.
    """
    from bouncer.adapter.asker import NoAnswer, asking
    from bouncer.adapter.project import UnknownRoom
    from bouncer.guard.outside import acting
    from bouncer.ports import ApiError

    pause, looked, asked, silent = 1.0, False, "", False
    while True:
        try:
            room = await project.room(name)
            lists, dispatches = await project.lists(room)
            bouncer = acting(lists, agent_name)
            looked, pause = True, 1.0
            if bouncer is None or silent:
                _, shown = judged(lists, dispatches, agent_name=agent_name, layers=layers)
                yield Picture(shown["at"], shown)
                asked, silent = "", False
                await asyncio.sleep(OUTSIDE_EVERY)
                continue
            if bouncer.identity != asked:
                yield Remark(f"asking the bouncer {bouncer.identity}")
                asked = bouncer.identity
            async with asking(project, room, bouncer.identity) as conversation, aclosing(conversation.views()) as views:
                async for at, view in views:
                    yield Picture(at, view)
                    if view["standing"] in ("standing_by", "closed"):
                        break
            await asyncio.sleep(pause)
        except NoAnswer as error:
            yield Remark(f"{error}; seen from outside meanwhile")
            silent = True
        except UnknownRoom:
            if not looked:
                raise
            yield Remark(f"the room “{name}” has closed")
            return
        except ApiError as error:
            if not looked:
                raise
            yield Remark(f"{error}; trying again in {pause:g} s")
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
