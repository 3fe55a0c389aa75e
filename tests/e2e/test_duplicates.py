"""duplicates, on a real server."""

import asyncio
from pathlib import Path

import pytest
from livekit import rtc

from devserver import Server, worker
from tests.e2e.world import World

ASSISTANT = Path(__file__).with_name("framework_agent.py")


@pytest.mark.usefixtures("assistants")
async def test_a_duplicate_that_publishes_leaves_and_the_oldest_stays(world: World) -> None:
    """Of two dispatches of one framework agent, the second is removed, and the room is told why."""
    await world.open()
    await world.human("ana")
    first = await world.dispatch("assistant", behaviour="busy")
    second = await world.dispatch("assistant", behaviour="busy")

    await world.gone(second)

    told = await world.message(event="evicted", identity=second.identity)
    assert (told["policy"], told["agent_name"], told["sid"]) == ("duplicates", "assistant", second.sid)
    await world.stays({"ana", first.identity}, seconds=2)


@pytest.mark.usefixtures("assistants")
async def test_a_duplicate_that_publishes_nothing_leaves(world: World) -> None:
    """Lists find it, and prove that it is gone. The older one shows no life, so that takes 25 s."""
    await world.open()
    first = await world.dispatch("assistant", behaviour="silent")
    await asyncio.sleep(2)  # one that joins within a second of the other is no replacement
    second = await world.dispatch("assistant", behaviour="silent")

    await world.stays({first.identity, second.identity}, seconds=15)
    await world.gone(second, within=60)

    await world.message(event="evicted", identity=second.identity)
    await world.stays({first.identity}, seconds=2)


async def test_the_replacement_of_a_killed_agent_stays(world: World, server: Server, tmp_path: Path) -> None:
    """Self-hosted, LiveKit restarts no job: the app dispatches another agent, next to the corpse of the first."""
    name = f"assistant-{world.room}"
    await world.open()
    await world.human("ana")
    async with worker(ASSISTANT, server, env={"AGENT_NAME": name}, log_file=tmp_path / "doomed") as doomed:
        corpse = await world.dispatch(name, behaviour="busy")
        doomed.kill()
        await doomed.exited()
    await asyncio.sleep(2)  # one that joins within a second of the other's last sign of life is no replacement
    async with worker(ASSISTANT, server, env={"AGENT_NAME": name}, log_file=tmp_path / "log"):
        replacement = await world.dispatch(name, behaviour="busy")
        assert corpse.identity in await world.present()

        await world.gone(corpse, within=40)

        await world.stays({"ana", replacement.identity}, seconds=10)
    assert not [message for message in world.messages if message["event"] == "evicted"]


async def test_an_evicted_agent_that_rejoins_with_its_old_token_is_evicted_again(world: World) -> None:
    """Its token stays valid. Each time, it is a new participant and again a duplicate."""
    # Time enough to publish a track.
    await world.open({"bouncer": {"policies": {"duplicates": {"grace": 6, "wait_for_life": 0}}}})
    await world.agent("A", audio=True)
    second = await world.agent("B", audio=True)

    for _ in range(2):
        sid = second.sid
        assert await second.out() == rtc.DisconnectReason.PARTICIPANT_REMOVED
        await world.message(event="evicted", sid=sid)
        await second.rejoin()
    await world.gone("B")

    assert "A" in await world.present()


async def test_an_agent_of_kind_standard_with_the_grant_is_one_too(world: World) -> None:
    """Some frameworks create such bots; only the server's list shows the grant."""
    await world.open()
    await world.agent("A", lively=True)
    await world.join("bot", grant=True, attributes={"lk.agent_name": "assistant"})
    await world.join("ana", attributes={"lk.agent_name": "assistant"})

    await world.gone("bot")

    await world.stays({"A", "ana"}, seconds=2)


async def test_many_duplicates_leave_side_by_side(world: World) -> None:
    """All but the oldest leave, as many as the budget of a minute allows."""
    await world.open(
        {"bouncer": {"eviction": {"max_per_minute": 6}, "policies": {"duplicates": {"grace": 0, "wait_for_life": 0}}}}
    )
    await world.agent("A", audio=True)
    for i in range(8):
        await world.agent(f"B{i}")

    async def left() -> bool:
        return len(await world.present() - {"A", world.bouncer.identity if world.bouncer else ""}) == 2

    await world.until(left, "six of eight are gone")
    await world.message(event="held", held_by="max_per_minute")
    await world.stays({"A"}, seconds=2)
