"""Rooms that a crash has left with a dispatch of ours and no bouncer."""

import asyncio
import json
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest
from livekit import api
from livekit.protocol import agent, models

from bouncer.adapter.orphans import LOSS_LASTS, ON_ITS_WAY, Orphans, marked, surplus
from bouncer.events import Info
from bouncer.room import Kind
from tests.virtual import virtual

MARKED = '{"bouncer": {}, "bouncer_mark": "RM_1"}'


@pytest.mark.parametrize(
    ("metadata", "after"),
    [
        ("", MARKED),
        ('{"bouncer": {"mode": "off"}}', '{"bouncer": {"mode": "off"}, "bouncer_mark": "RM_1"}'),
        ('{"bouncer": {}, "bouncer_mark": "RM_0"}', MARKED),
        ("theirs", "theirs"),
    ],
)
def test_the_mark(metadata: str, after: str) -> None:
    """It names the room for which a dispatch is made; the rest of its metadata stays."""
    assert marked(metadata, "RM_1") == after


def bouncer(identity: str, joined_ms: int, *, ready: bool = True) -> Info:
    """A bouncer in the room."""
    says = {"bouncer.guarding": "true"} if ready else {}
    return Info(
        sid=f"PA_{identity}", identity=identity, kind=Kind.AGENT, hidden=True, joined_ms=joined_ms, attributes=says
    )


@pytest.mark.parametrize(
    ("metadata", "infos", "taken_back"),
    [
        ((MARKED, MARKED), [bouncer("a", 2), bouncer("b", 1)], ("AD_a",)),
        ((MARKED, MARKED), [bouncer("a", 2), bouncer("b", 1, ready=False)], ("AD_b",)),
        ((MARKED, MARKED), [bouncer("a", 2, ready=False), bouncer("b", 1, ready=False)], ()),
        ((MARKED, MARKED), [bouncer("b", 1)], ()),
        ((MARKED, ""), [bouncer("a", 2), bouncer("b", 1)], ()),
        ((MARKED, MARKED.replace("RM_1", "RM_0")), [bouncer("a", 2), bouncer("b", 1)], ()),
        ((MARKED, MARKED), [bouncer("c", 0), bouncer("a", 2)], ()),
    ],
)
def test_the_surplus(metadata: tuple[str, str], infos: list[Info], taken_back: tuple[str, ...]) -> None:
    """Of the bouncers of marked dispatches, the oldest that is ready stays; all others' dispatches stay too."""
    dispatches = {f"AD_{name}": (text, [name]) for name, text in zip("ab", metadata, strict=True)}

    assert surplus(dispatches, infos, "RM_1") == taken_back


class Rooms:
    """The server API of some rooms, each with its participants and dispatches."""

    def __init__(self, **rooms: tuple[list[models.ParticipantInfo], list[api.AgentDispatch]]) -> None:
        self.rooms = rooms
        self.room = self.agent_dispatch = self
        self.asked: list[str] = []

    async def list_rooms(self, _: object) -> Any:
        """All of them."""
        return SimpleNamespace(rooms=[models.Room(name=name, sid=f"RM_{name}") for name in self.rooms])

    async def list_participants(self, request: api.ListParticipantsRequest) -> Any:
        """Those of a room."""
        self.asked.append(request.room)
        return SimpleNamespace(participants=self.rooms[request.room][0])

    async def list_dispatch(self, room: str) -> Any:
        """Those of a room."""
        return self.rooms[room][1]


def participant(name: str, *, hidden: bool = True) -> models.ParticipantInfo:
    """An agent of that name."""
    return models.ParticipantInfo(
        sid="PA_1",
        kind=models.ParticipantInfo.AGENT,
        attributes={"lk.agent_name": name},
        permission=models.ParticipantPermission(hidden=hidden),
    )


def dispatch(name: str = "bouncer", age: float = 60, metadata: str = "", id_: str = "AD_1") -> api.AgentDispatch:
    """A dispatch of that age, in seconds."""
    made = api.AgentDispatch(id=id_, agent_name=name, metadata=metadata)
    made.state.created_at = time.time_ns() - round(age * 1e9)
    return made


async def found(rooms: Rooms, budget: int = 100) -> dict[str, agent.Job]:
    """Register, and return the jobs of the rooms that are found orphaned, by the room's name."""
    jobs: list[agent.Job] = []
    left = [budget]

    def spend() -> bool:
        left[0] -= 1
        return left[0] >= 0

    orphans = Orphans("bouncer", spend, jobs.append)
    orphans.look(cast("api.LiveKitAPI", rooms))
    await asyncio.sleep(LOSS_LASTS - 1)
    assert not rooms.asked, "what was lost may still be listed"
    await asyncio.sleep(60)
    await orphans.end()
    return {job.room.name: job for job in jobs}


@virtual
async def test_what_is_orphaned() -> None:
    """A dispatch of ours that is old enough to have brought a bouncer, and none there."""
    jobs = await found(
        Rooms(
            guarded=([participant("bouncer")], [dispatch()]),
            lost=([participant("assistant", hidden=False)], [dispatch(metadata='{"bouncer": {"mode": "off"}}')]),
            impostor=([participant("bouncer", hidden=False)], [dispatch(id_="AD_0", age=90), dispatch(id_="AD_9")]),
            coming=([], [dispatch(age=ON_ITS_WAY / 2)]),
            unwanted=([], []),
            others=([], [dispatch("assistant")]),
        )
    )

    assert jobs.keys() == {"lost", "impostor"}
    assert json.loads(jobs["lost"].metadata) == {"bouncer": {"mode": "off"}, "bouncer_mark": "RM_lost"}
    assert (jobs["impostor"].dispatch_id, jobs["impostor"].agent_name) == ("AD_9", "bouncer")


@virtual
async def test_within_the_budget() -> None:
    """Without calls left it waits, and asks nothing."""
    rooms = Rooms(lost=([], [dispatch()]))

    assert await found(rooms, budget=1) == {}
    assert rooms.asked == []
