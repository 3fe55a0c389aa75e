"""Rooms that lost their bouncer unintentionally: which get a successor, and when."""

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Any

import pytest
from livekit.protocol import agent, models

from bouncer.adapter.replacements import AT_ONCE, GIVE_UP_AFTER, LOST_PER_MINUTE, TAKEN_BACK_WITHIN, Replacements
from bouncer.configuration.carried import carry
from bouncer.events import Info, Job
from bouncer.ports import ApiError, Trouble
from bouncer.room import GUARDING_ATTRIBUTE, Kind
from tests.virtual import virtual

OURS, OTHER = "AD_ours", "AD_other"
LATENCY = 0.01


@dataclass
class LostRoom:
    """A room that our job was in, with the dispatches of two bouncers unless the test says otherwise."""

    dispatches: set[str] = field(default_factory=lambda: {OURS, OTHER})
    comes_after: float = 2.0
    """Seconds until a dispatched worker guards the room; infinity if none is free."""
    down: set[str] = field(default_factory=set)
    """The calls that fail."""
    lose_answers: bool = False
    """True if a dispatch is created but the answer is lost."""
    calls: list[tuple[float, str]] = field(default_factory=list)
    jobs: list[tuple[float, str]] = field(default_factory=list)
    """The dispatches that a worker has taken, each with when it guards the room."""
    made: int = 0

    def __post_init__(self) -> None:
        self.dispatches = {*self.dispatches}
        self.job = agent.Job(dispatch_id=OURS, room=models.Room(name="call"))

    def asked(self, *names: str) -> list[float]:
        """When these calls were made."""
        return [at for at, name in self.calls if name in names]

    async def _call(self, name: str) -> None:
        self.calls.append((asyncio.get_running_loop().time(), name))
        await asyncio.sleep(LATENCY)
        if name in self.down or "all" in self.down:
            raise ApiError(Trouble.UNAVAILABLE, "the line is dead")

    async def list_dispatches(self) -> frozenset[str]:
        """Return all dispatches."""
        await self._call("list_dispatches")
        return frozenset(self.dispatches)

    async def dispatch_successor(self) -> str:
        """Create a dispatch. A free worker takes it now, or none ever does."""
        await self._call("dispatch_successor")
        self.made += 1
        dispatch = f"AD_{self.made}"
        self.dispatches.add(dispatch)
        self.jobs.append((asyncio.get_running_loop().time() + self.comes_after, dispatch))
        if self.lose_answers:
            self.lose_answers = False
            raise ApiError(Trouble.UNAVAILABLE, "TimeoutError: ")
        return dispatch

    async def delete_dispatch(self, dispatch: str) -> bool:
        """Delete it."""
        await self._call("delete_dispatch")
        there = dispatch in self.dispatches
        self.dispatches.discard(dispatch)
        return there

    async def take_back_surplus(self) -> tuple[str, ...]:
        """There is none."""
        await self._call("take_back_surplus")
        return ()

    def _here(self) -> list[str]:
        now = asyncio.get_running_loop().time()
        return [dispatch for at, dispatch in self.jobs if at <= now and dispatch in self.dispatches]

    async def list_participants(self, *, urgent: bool = False) -> tuple[Info, ...]:  # noqa: ARG002
        """Return the bouncers that have joined."""
        await self._call("list_participants")
        says = {GUARDING_ATTRIBUTE: "true"}
        return tuple(
            Info(sid=f"PA_{d}", identity=f"agent-{d}", kind=Kind.AGENT, hidden=True, attributes=says)
            for d in self._here()
        )

    async def list_jobs(self, *, urgent: bool = False) -> tuple[Job, ...]:  # noqa: ARG002
        """Their jobs."""
        await self._call("list_jobs")
        return tuple(Job(dispatch=d, job=d, agent_name="bouncer", identity=f"agent-{d}") for d in self._here())


class Server:
    """A server that knows the worker, or doesn't."""

    def __init__(self, *, knows_us: bool = True) -> None:
        self.knows_us = knows_us
        self.replacements = Replacements(lambda: self.knows_us)

    def register(self) -> None:
        """Register the worker."""
        self.knows_us = True
        self.replacements.registered()


async def replaced(room: LostRoom, within: float = 120) -> None:
    """Look for a successor for that long."""
    server = Server()
    server.replacements.begin(room, room.job)
    await asyncio.sleep(within)
    await server.replacements.end()


@virtual
@pytest.mark.parametrize(
    ("room", "within", "dispatches", "made"),
    [
        pytest.param({}, 120, {"AD_1", OTHER}, 1, id="one takes the place of ours, and the other bouncer's stays"),
        pytest.param({"comes_after": 10}, 9, {OURS, "AD_1", OTHER}, 1, id="ours stays until another guards the room"),
        pytest.param({"dispatches": set()}, 120, set(), 0, id="the room was closed: a dispatch would reopen it"),
        pytest.param({"dispatches": {OTHER}}, 120, {OTHER}, 0, id="our dispatch was deleted, so none is wanted"),
        pytest.param({"lose_answers": True}, 120, {"AD_1", OTHER}, 1, id="the answer is lost, and its bouncer comes"),
        pytest.param(
            {"comes_after": 25, "down": {"delete_dispatch"}},
            120,
            {OURS, "AD_1", OTHER},
            1,
            id="it comes late, and could not be taken back",
        ),
    ],
)
async def test_what_is_dispatched(
    room: dict[str, Any], within: float, dispatches: set[str], made: int, caplog: pytest.LogCaptureFixture
) -> None:
    """There are as many bouncers as before. Where none is wanted, nothing but that is asked, once, and nothing said."""
    caplog.set_level(logging.INFO)
    lost = LostRoom(**room)

    await replaced(lost, within)

    assert (lost.dispatches, lost.made) == (dispatches, made)
    assert made or [name for _, name in lost.calls] == ["list_dispatches"]
    assert bool(caplog.messages) == bool(made)


@virtual
async def test_none_if_none_is_wanted_any_more() -> None:
    """That changed after the first attempt, which brought no bouncer."""
    room = LostRoom(comes_after=float("inf"))
    asyncio.get_running_loop().call_later(15, room.dispatches.clear)

    await replaced(room)

    assert room.made == 1
    assert len(room.asked("list_dispatches")) == 2


@virtual
async def test_a_dispatch_without_a_worker_is_renewed() -> None:
    """No worker was free, and the server never offers it again. There is never more than one."""
    room = LostRoom(comes_after=float("inf"))
    most = 0

    def look() -> None:
        nonlocal most
        most = max(most, len(room.dispatches))
        if room.made == 3:
            room.comes_after = 2.0

    server = Server()
    server.replacements.begin(room, room.job)
    for _ in range(200):
        await asyncio.sleep(1)
        look()

    assert most == 3
    assert room.made == 4
    assert room.dispatches == {OTHER, "AD_4"}


@virtual
async def test_as_long_as_the_server_is_away_it_is_asked_ever_more_seldom() -> None:
    """This is about the API: the worker itself is still registered."""
    room = LostRoom(down={"all"})
    server = Server()
    server.replacements.begin(room, room.job)
    await asyncio.sleep(300)
    pauses = [later - at for (at, _), (later, _) in zip(room.calls, room.calls[1:], strict=False)]
    assert 8 <= len(room.calls) <= 12
    assert max(pauses) <= 60 * 1.2 + 1

    room.down.clear()
    await asyncio.sleep(80)

    assert room.dispatches == {"AD_1", OTHER}


@virtual
async def test_nothing_is_asked_while_the_worker_is_not_registered() -> None:
    """There is no server to ask. Registration ends every pause at once."""
    room, server = LostRoom(), Server(knows_us=False)
    server.replacements.begin(room, room.job)
    await asyncio.sleep(300)
    assert room.calls == []

    server.register()
    await asyncio.sleep(5)

    assert room.dispatches == {"AD_1", OTHER}


@virtual
async def test_a_server_that_is_back_is_not_stormed() -> None:
    """Of a hundred lost rooms a few are handled at a time, and all within half a minute."""
    rooms, server = [LostRoom() for _ in range(100)], Server(knows_us=False)
    for room in rooms:
        server.replacements.begin(room, room.job)
    await asyncio.sleep(60)
    server.register()
    back_at, most = asyncio.get_running_loop().time(), 0
    for _ in range(300):
        await asyncio.sleep(0.1)
        most = max(most, sum({OURS, "AD_1"} <= room.dispatches for room in rooms))

    assert most == AT_ONCE
    assert all(room.dispatches == {"AD_1", OTHER} for room in rooms)
    assert all(at - back_at < 30 for room in rooms for at, _ in room.calls)


@virtual
@pytest.mark.parametrize("knows_us", [True, False])
async def test_it_gives_up_some_day(knows_us: bool, caplog: pytest.LogCaptureFixture) -> None:  # noqa: FBT001
    """Nothing is asked any more. Our dispatch stays, for anyone to see."""
    room, server = LostRoom(comes_after=float("inf")), Server(knows_us=knows_us)
    server.replacements.begin(room, room.job)
    await asyncio.sleep(GIVE_UP_AFTER + 1)
    asked = len(room.calls)
    server.register()
    await asyncio.sleep(300)

    assert len(room.calls) == asked
    assert OURS in room.dispatches
    assert "not replaced" in caplog.messages


@virtual
@pytest.mark.parametrize("knows_us", [True, False])
async def test_it_ends_with_the_worker(knows_us: bool, caplog: pytest.LogCaptureFixture) -> None:  # noqa: FBT001
    """It ends at once and for good, whatever it waits for."""
    caplog.set_level(logging.INFO)
    room, server = LostRoom(comes_after=15), Server(knows_us=knows_us)
    server.replacements.begin(room, room.job)
    await asyncio.sleep(10)
    ends_at = asyncio.get_running_loop().time()

    await server.replacements.end()
    server.replacements.begin(room, room.job)
    server.register()
    asked = len(room.calls)
    await asyncio.sleep(60)

    assert asyncio.get_running_loop().time() - ends_at == pytest.approx(60)
    assert len(room.calls) == asked
    assert caplog.messages == ["successor requested", "not replaced"]


@virtual
@pytest.mark.parametrize(("never_began", "get_one"), [(True, LOST_PER_MINUTE), (False, 40)])
async def test_jobs_that_never_began_get_few_successors(never_began: bool, get_one: int) -> None:  # noqa: FBT001
    """Successors that fail in the same way would never end. The others can wait their turn."""
    rooms, server = [LostRoom() for _ in range(40)], Server()
    for room in rooms:
        server.replacements.begin(room, room.job, never_began=never_began)
    await asyncio.sleep(60)

    assert [room.made for room in rooms].count(1) == get_one


@virtual
@pytest.mark.parametrize("taken_back", [True, False])
async def test_a_successor_that_never_began_is_its_makers_to_replace(taken_back: bool) -> None:  # noqa: FBT001
    """The bouncer that hands over makes another dispatch; ours would bring a bouncer too many. It may have died."""
    room, server = LostRoom(), Server()
    room.job.metadata = carry("", "", "")
    server.replacements.begin(room, room.job, never_began=True)
    await asyncio.sleep(TAKEN_BACK_WITHIN - 1)
    assert room.calls == []

    if taken_back:
        room.dispatches.remove(OURS)
    await asyncio.sleep(30)

    assert room.made == (0 if taken_back else 1)
