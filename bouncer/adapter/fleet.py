"""The bouncers of a room, as the server's lists show them."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from bouncer.adapter.project import Dispatch, Project
from bouncer.events import Connected, Dispatched, Info, Job, Listed
from bouncer.people import AGENT_NAME_ATTRIBUTES, Named
from bouncer.room import Kind, Participant, Role, says_arrived, says_guarding
from bouncer.room import Room as RoomFacts
from bouncer.tracker import Tracker

LOOK_EVERY = 0.2
"""Seconds between two lists while something is waited for."""
OUTSIDE = Info(sid="", identity="")
"""We look at the room from outside it."""


class Post(StrEnum):
    """What a bouncer says that it does in its room."""

    ACTING = "acting"
    STANDING_BY = "standing_by"
    UNCONFIGURED = "unconfigured"
    ARRIVING = "arriving"
    """It says nothing yet, or is about to leave."""


@dataclass(frozen=True, slots=True)
class Posted:
    """A bouncer of ours in a room."""

    identity: str
    sid: str
    post: Post

    @property
    def words(self) -> str:
        """What it does, for people."""
        return self.post.replace("_", " ")


@dataclass(frozen=True, slots=True)
class Sight:
    """A room as the server's lists show it."""

    facts: RoomFacts
    bouncers: tuple[Posted, ...]
    """Ours, oldest first."""
    dispatches: tuple[Dispatch, ...] = ()
    """Those of our agent name."""

    @property
    def acting(self) -> Posted | None:
        """The bouncer that guards the room."""
        return next((each for each in self.bouncers if each.post is Post.ACTING), None)


async def look(project: Project, room: str, agent_name: str) -> Sight:
    """Read who is in an open room, and which of them are our bouncers."""
    infos, dispatches = await asyncio.gather(project.participants(room), project.dispatches(room))
    jobs = tuple(job for dispatch in dispatches for job in dispatch.jobs)
    # A job may be listed up to 5 s after its agent has joined.
    facts = seen(infos, (*jobs, *apparent_jobs(infos, agent_name)), agent_name)
    ours = tuple(dispatch for dispatch in dispatches if dispatch.agent_name == agent_name)
    return Sight(facts, bouncers(p for p in facts.participants if p.role is Role.BOUNCER and not p.foreign), ours)


def seen(infos: Sequence[Info], jobs: Sequence[Job], agent_name: str, named: Named | None = None) -> RoomFacts:
    """Return the room that these lists show, as the engine takes them; dates are Unix times.

    `named` are the participants that the room's configuration names for what they are.
    """
    now = time.time()
    tracker = Tracker(agent_name)
    tracker.configure(now, named=named)
    tracker.apply(Connected(now, OUTSIDE))
    tracker.apply(Listed(now, now, tuple(infos)))
    tracker.apply(Dispatched(now, now, tuple(jobs)))
    return tracker.room().without(frozenset({OUTSIDE.sid}))


def apparent_jobs(infos: Iterable[Info], agent_name: str) -> tuple[Job, ...]:
    """Return the jobs of the bouncers among these participants, going by what the server shows without its dispatches.

    Only a key's holder can make an agent that is hidden, so the agent name that it has is taken for its dispatch's.
    """
    return tuple(
        Job(dispatch=info.identity, job=info.identity, agent_name=agent_name, identity=info.identity)
        for info in infos
        if info.hidden
        and info.kind is Kind.AGENT
        and any(info.attributes.get(name) == agent_name for name in AGENT_NAME_ATTRIBUTES)
    )


def bouncers(participants: Iterable[Participant]) -> tuple[Posted, ...]:
    """Return what these bouncers do. Of those that say they guard the room, the oldest acts."""
    found: list[Posted] = []
    for each in sorted(participants, key=lambda participant: participant.age):
        if not each.active or not says_arrived(each.attributes):
            post = Post.ARRIVING
        elif says_guarding(each.attributes):
            senior = any(other.post is Post.ACTING for other in found)
            post = Post.STANDING_BY if senior else Post.ACTING
        else:
            post = Post.UNCONFIGURED
        found.append(Posted(each.identity, each.sid, post))
    return tuple(found)
