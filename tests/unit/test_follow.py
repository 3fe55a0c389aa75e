"""Following a room: asked of its bouncer, else seen from outside, whatever happens meanwhile."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bouncer import Kind
from bouncer.adapter import asker
from bouncer.adapter.asker import NoAnswer
from bouncer.adapter.project import OpenRoom, UnknownRoom
from bouncer.cli.follow import Remark, follow
from bouncer.events import Info, Job
from bouncer.guard.outside import Lists
from bouncer.ports import ApiError, Trouble

BOUNCER = Info(
    sid="PA_b",
    identity="agent-AJ_1",
    kind=Kind.AGENT,
    joined_ms=1,
    hidden=True,
    agent_grant=True,
    attributes={"bouncer.guarding": "true"},
)
JOB = Job(dispatch="AD_1", job="AJ_1", agent_name="bouncer", identity="agent-AJ_1")
AGAIN = ["asking", "acting", "away", "acting", "closed"]
CLOSED = UnknownRoom("call")
AWAY = ApiError(Trouble.UNAVAILABLE, "the server is away")


class Project:
    """A server with one room; each look at it finds the next of these."""

    def __init__(self, looks: list[Any]) -> None:
        self.looks = looks

    async def room(self, name: str) -> OpenRoom:
        """Return the room, or raise what is next."""
        if isinstance(self.looks[0], Exception):
            raise self.looks.pop(0)
        return OpenRoom(name, "RM_1")

    async def lists(self, room: OpenRoom) -> tuple[Lists, dict[str, str]]:
        """Return the bouncer, if it is there at this look, and its dispatch."""
        infos = (BOUNCER,) if self.looks.pop(0) == "bouncer" else ()
        return Lists(name=room.name, sid=room.sid, metadata="", infos=infos, jobs=(JOB,), at=1e9), {}


class Conversation:
    """A bouncer that is asked."""

    def __init__(self, answers: list[Any]) -> None:
        self._answers = answers

    async def views(self) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        """Yield its answers until there are no more of this conversation."""
        while self._answers:
            answer = self._answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            if answer == "end":
                return
            yield "t", {"standing": answer}


@pytest.mark.parametrize(
    ("looks", "answers", "seen"),
    [
        (["", "", CLOSED], [], ["outside", "outside", "the room “call” has closed"]),
        (["", AWAY, AWAY, "", CLOSED], [], ["outside", "in 1 s", "in 2 s", "outside", "closed"]),
        (["bouncer", CLOSED], ["acting", "acting", "end"], ["asking", "acting", "acting", "closed"]),
        (["bouncer", "bouncer", CLOSED], ["acting", AWAY, "acting", "end"], AGAIN),
        (["bouncer", "bouncer", CLOSED], [NoAnswer("silent")], ["asking", "silent", "outside", "closed"]),
        (["bouncer", "", CLOSED], ["standing_by"], ["asking", "standing_by", "outside", "closed"]),
    ],
    ids=["outside", "the server away", "asked", "cut off", "no answer", "handed over"],
)  # fmt: skip
async def test_what_is_seen(
    looks: list[Any], answers: list[Any], seen: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes wrong is noted, and tried again, until the room closes."""

    @asynccontextmanager
    async def asking(*_: object) -> AsyncIterator[Conversation]:
        yield Conversation(answers)

    async def at_once(_: float) -> None:
        return None

    monkeypatch.setattr(asker, "asking", asking)
    monkeypatch.setattr(asyncio, "sleep", at_once)
    following = follow(Project(looks), "call", agent_name="bouncer", layers=())  # type: ignore[arg-type]
    async with asyncio.timeout(20):
        found = [
            each.text if isinstance(each, Remark) else each.view["standing"] or "outside" async for each in following
        ]

    assert len(found) == len(seen)
    assert [part for part, text in zip(seen, found, strict=True) if part not in text] == []


@pytest.mark.parametrize("wrong", [UnknownRoom("call"), AWAY])
async def test_what_is_wrong_at_the_first_look_ends_it(wrong: Exception) -> None:
    """A typing error is no reason to wait."""
    with pytest.raises(type(wrong)):
        await anext(follow(Project([wrong]), "call", agent_name="bouncer", layers=()))  # type: ignore[arg-type]
