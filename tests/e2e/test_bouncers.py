"""Several bouncers in one room, from real workers, some of which are killed or drained."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from livekit import api

from bouncer.events import Job
from devserver import Server, Worker, worker
from tests.e2e.conftest import AGENT, HERE
from tests.e2e.health import full
from tests.e2e.inside import guarded_from_inside
from tests.e2e.world import World

GRACE_0 = {
    "bouncer": {"policies": {"duplicates": {"grace": 0, "wait_for_life": 0}}, "eviction": {"max_per_minute": 1000}}
}


class Company:
    """Workers that all serve one agent name, each full with one room."""

    def __init__(self, server: Server, lobby: World, folder: Path, stack: AsyncExitStack) -> None:
        self.name = f"bouncer-{lobby.room}"
        self.workers: list[Worker] = []
        self._server, self._lobby, self._folder, self._stack = server, lobby, folder, stack

    async def hire(self) -> Worker:
        """Start another worker."""
        environment = {"BOUNCER_AGENT_NAME": self.name, "BOUNCER_MAX_ROOMS": "1"}
        log_file = self._folder / f"worker{len(self.workers)}.log"
        running = await self._stack.enter_async_context(worker(AGENT, self._server, env=environment, log_file=log_file))
        self.workers.append(running)
        return running

    async def dispatch(self) -> None:
        """Dispatch another bouncer, and wait until it claims the room."""
        before = await self.guarding()
        request = api.CreateAgentDispatchRequest(agent_name=self.name, room=self._lobby.room)
        await self._lobby.api.agent_dispatch.create_dispatch(request)

        async def joined() -> bool:
            return len(await self.guarding()) > len(before)

        await self._lobby.until(joined, "one more bouncer guards the room")

    async def guarding(self) -> set[str]:
        """Return the identities of the bouncers that claim the room."""
        return set(await self._lobby.guarding())


@pytest_asyncio.fixture(loop_scope="session")
async def company(server: Server, lobby: World, tmp_path: Path) -> AsyncIterator[Company]:
    """A fleet for this test alone."""
    async with AsyncExitStack() as stack:
        yield Company(server, lobby, tmp_path, stack)
        await lobby.close()


def evictions(running: Worker) -> list[str]:
    """Return the identities that this worker has evicted."""
    return [line["lk.pii.participant_identity"] for line in running.log if line["message"] == "evicted"]


async def dispatches(world: World, agent_name: str) -> int:
    """Return the number of dispatches of this name: one for each bouncer, and none is left behind."""
    return [found.agent_name for found in await world.api.agent_dispatch.list_dispatch(world.room)].count(agent_name)


async def test_the_oldest_acts_and_when_it_is_killed_the_next_takes_over(
    company: Company, lobby: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """A killed participant stays listed for 20 to 23 s. The room is unguarded for a few seconds longer."""
    first = await company.hire()
    await lobby.open(GRACE_0, agent_name=company.name)
    _, second = await asyncio.gather(full(lobby, first), company.hire())
    await company.dispatch()
    await lobby.agent("A")
    await lobby.gone(await lobby.agent("B"))
    await first.line(lambda line: line["message"] == "evicted")
    await lobby.message(event="evicted", identity="B")
    await second.line(lambda line: line["message"] == "standing by")
    assert evictions(second) == []

    first.kill()
    killed_at = time.monotonic()
    await lobby.gone(await lobby.agent("C"), within=90)

    unguarded = time.monotonic() - killed_at
    with capsys.disabled():
        print(f"\nunguarded after SIGKILL, with another bouncer standing by: {unguarded:.1f} s")
    await second.line(lambda line: line["message"] == "evicted")
    assert evictions(second) == ["C"]
    await lobby.message(event="evicted", identity="C")
    assert [m["identity"] for m in lobby.messages if m["event"] == "evicted"] == ["B", "C"]


async def test_a_third_takes_over_when_two_are_killed(
    company: Company, lobby: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are killed while the third is surplus, and stay listed longer than it takes to notice a surplus."""
    first = await company.hire()
    await lobby.open(GRACE_0, agent_name=company.name)
    _, second = await asyncio.gather(full(lobby, first), company.hire())
    await company.dispatch()
    _, third = await asyncio.gather(full(lobby, second), company.hire())
    await company.dispatch()
    await third.line(lambda line: line["message"] == "not needed")
    await asyncio.sleep(5)

    first.kill()
    second.kill()
    killed_at = time.monotonic()
    await lobby.agent("A")
    await lobby.gone(await lobby.agent("B"), within=90)

    unguarded = time.monotonic() - killed_at
    with capsys.disabled():
        print(f"\nunguarded after SIGKILL of two of three: {unguarded:.1f} s")
    await third.line(lambda line: line["message"] == "evicted")
    assert evictions(third) == ["B"]


async def test_a_drained_worker_hands_its_room_over(
    company: Company, lobby: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rolling deploy: the new worker is up, the old one gets SIGTERM. The room is guarded at every moment."""
    old = await company.hire()
    await lobby.open(GRACE_0, agent_name=company.name)
    assert lobby.bouncer
    await lobby.agent("A")
    new = await company.hire()

    old.terminate()
    asked_at, longest = time.monotonic(), 0.0
    for i in range(60):
        began = time.monotonic()
        await lobby.gone(await lobby.agent(f"duplicate {i}"))
        longest = max(longest, time.monotonic() - began)
        if old.returncode is not None:
            break

    assert await old.exited() == 0
    ended_at = time.monotonic()
    with capsys.disabled():
        print(f"\nfrom SIGTERM until the worker had ended: {ended_at - asked_at:.1f} s", end="")
        print(f"; the longest that a duplicate stayed meanwhile: {longest:.1f} s")
    (successor,) = await company.guarding()
    assert successor != lobby.bouncer.identity
    await lobby.gone(await lobby.agent("Z"))
    await new.line(lambda line: line.get("lk.pii.participant_identity") == "Z" and line["message"] == "evicted")
    assert await dispatches(lobby, company.name) == 1


async def test_a_room_is_handed_over_once_there_is_a_successor(company: Company, lobby: World) -> None:
    """The only worker is drained: it guards the room until another worker has started."""
    old = await company.hire()
    await lobby.open(GRACE_0, agent_name=company.name)
    await lobby.agent("A")
    old.terminate()
    await old.line(lambda line: line["message"] == "draining worker")
    await asyncio.sleep(5)
    await lobby.gone(await lobby.agent("B"))
    await old.line(lambda line: line.get("lk.pii.participant_identity") == "B" and line["message"] == "evicted")

    new = await company.hire()

    assert await old.exited(within=100) == 0
    await lobby.gone(await lobby.agent("C"))
    await new.line(lambda line: line.get("lk.pii.participant_identity") == "C" and line["message"] == "evicted")


async def test_a_standby_is_replaced_too(company: Company, lobby: World) -> None:
    """A room with two bouncers still has two after a deploy."""
    first = await company.hire()
    await lobby.open(GRACE_0, agent_name=company.name)
    _, second = await asyncio.gather(full(lobby, first), company.hire())
    await company.dispatch()
    await second.line(lambda line: line["message"] == "standing by")
    before = await company.guarding()
    await asyncio.gather(full(lobby, second), company.hire())

    second.terminate()

    assert await second.exited() == 0
    after = await company.guarding()
    assert len(after) == 2
    assert len(before & after) == 1


async def test_further_bouncers_are_sent_away(world: World) -> None:
    """Four are dispatched. Two stay: the oldest, which sends the others away, and the next."""
    await world.open(GRACE_0)
    assert world.bouncer
    request = api.CreateAgentDispatchRequest(agent_name="bouncer", room=world.room)
    for _ in range(3):
        await world.api.agent_dispatch.create_dispatch(request)

    async def count(expected: int) -> bool:
        return len(await world.guarding()) == expected

    await world.until(lambda: count(4), "four bouncers are there")
    await world.until(lambda: count(2), "two of them are left", within=90)

    assert world.bouncer.identity in await world.present()
    assert await dispatches(world, "bouncer") == 2
    await world.agent("A")
    await world.gone(await world.agent("B"))


async def test_a_bouncer_with_a_rejected_key_lets_the_next_one_act(lobby: World) -> None:
    """The oldest one's key is revoked; it acts again once it has a valid key."""
    names = ("agent-AJ_1", "agent-AJ_2")
    async with guarded_from_inside(lobby, {"bouncer": {"mode": "off"}}, *names) as guards:
        for guard in guards:
            guard.calls.jobs = tuple(Job(dispatch=f"AD_{n}", job=n, agent_name="bouncer", identity=n) for n in names)
        listed = await lobby.listed()
        elder, younger = sorted(guards, key=lambda guard: listed[guard.room.local_participant.identity].joined_at_ms)
        mine = elder.room.local_participant.identity

        async def claims(*, expected: bool) -> bool:
            return (mine in await lobby.guarding()) == expected

        async def stands_by() -> bool:
            return bool(younger.patrol.tracker.room().seniors)

        await lobby.metadata(
            {"bouncer": {"reconcile": 1, "policies": {"duplicates": {"grace": 0, "wait_for_life": 0}}}}
        )
        await lobby.until(stands_by, "the younger one stands by")
        elder.calls.use_key("another secret, and not the one that the server knows")
        await lobby.agent("A")
        await lobby.agent("B")
        await younger.outcome("B", "removed")
        await lobby.until(lambda: claims(expected=False), "the elder no longer says that it guards the room")

        elder.calls.use_key(lobby.server.api_secret)
        await lobby.until(lambda: claims(expected=True), "it says so again")
        await lobby.until(stands_by, "the younger one stands by again")
        await lobby.agent("C")
        await elder.outcome("C", "removed")
        assert younger.recorder.outcomes() == [("B", "removed")]


@pytest.mark.parametrize("fault", ["hangs", "connects twice", "is mute"])
async def test_a_job_whose_connection_fails_is_replaced(
    fault: str, lobby: World, server: Server, tmp_path: Path
) -> None:
    """Its participant is there all the same, and leaves with its job. The next one guards the room."""
    name, script = f"bouncer-{lobby.room}", HERE / "faulty_bouncer.py"
    env = {"BOUNCER_AGENT_NAME": name, "FAULT": fault}
    async with worker(script, server, env=env, log_file=tmp_path / "log") as running:
        await lobby.create(GRACE_0)
        request = api.CreateAgentDispatchRequest(agent_name=name, room=lobby.room)
        await lobby.api.agent_dispatch.create_dispatch(request)
        await running.line(lambda line: line["message"] == "replaced")

        await lobby.until(lobby.guarding, "the next one guards the room")

        await lobby.agent("A")
        await lobby.gone(await lobby.agent("B"))
        await lobby.until(lambda: one_is_left(lobby), "the one that failed is gone")
        assert await dispatches(lobby, name) == 1
        assert "orphaned room found" not in {line["message"] for line in running.log}
        await lobby.close()


async def test_a_job_that_the_framework_loses_is_replaced(lobby: World, server: Server, tmp_path: Path) -> None:
    """The server believes that it is running, and gives it to no other worker."""
    name, script = f"bouncer-{lobby.room}", HERE / "losing_bouncer.py"
    async with worker(script, server, env={"BOUNCER_AGENT_NAME": name}, log_file=tmp_path / "log") as running:
        request = api.CreateAgentDispatchRequest(agent_name=name, room=lobby.room)
        await lobby.create(GRACE_0)
        await lobby.api.agent_dispatch.create_dispatch(request)
        await running.line(lambda line: line["message"] == "job_request_fnc failed")

        await lobby.until(lobby.guarding, "the next one guards the room")

        await running.line(lambda line: line["message"] == "replaced")
        assert await dispatches(lobby, name) == 1
        await lobby.close()


async def one_is_left(world: World) -> bool:
    """Return True if there is one bouncer and otherwise only an agent."""
    return await world.present() == {"A", *await world.guarding()}


async def test_two_fleets_leave_each_other_alone(world: World, company: Company) -> None:
    """To each, the other's bouncer is no agent: it is neither idle, nor too old, nor one too many. Both guard."""
    policies = {
        "idle_timeout": {"timeout": 3, "unseen": "evict"},
        "max_lifetime": {"limit": 3},
        "max_agents": {"max": 1, "grace": 0, "wait_for_life": 0},
    }
    await world.open({"bouncer": {"policies": policies, "eviction": {"max_per_minute": 1000}}})
    assert world.bouncer
    await company.hire()
    await company.dispatch()
    both = await world.guarding()
    await world.gone(await world.agent("A"))
    await world.gone(await world.agent("B"))

    assert len(both) == 2
    assert await world.guarding() == both
    await world.stays(both, seconds=5)


async def test_a_forged_bouncer_neither_silences_nor_hides(world: World) -> None:
    """It was there first, is hidden, has our name and a job's identity, and claims the room."""
    await world.create({"bouncer": {"policies": {"deny_list": {"agent_names": ["bouncer"]}}}})
    forged = await world.agent("agent-AJ_forged", name="bouncer", hidden=True, attributes={"bouncer.guarding": "true"})
    request = api.CreateAgentDispatchRequest(agent_name="bouncer", room=world.room)
    await world.api.agent_dispatch.create_dispatch(request)

    await world.gone(forged)

    await world.message(event="evicted", identity="agent-AJ_forged", policy="deny_list")
