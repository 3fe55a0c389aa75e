"""duplicates, on a real server."""

import pytest
from livekit import rtc

from tests.e2e.world import World


@pytest.mark.usefixtures("assistants")
async def test_a_duplicate_that_publishes_leaves_and_the_oldest_stays(world: World) -> None:
    """Two dispatches of one framework agent: the second is removed, and the room is told why."""
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
    """Its joining is announced up to three seconds late, its leaving too; it is found and proven gone by listing."""
    await world.open()
    first = await world.dispatch("assistant", behaviour="silent")
    second = await world.dispatch("assistant", behaviour="silent")

    await world.gone(second)

    await world.message(event="evicted", identity=second.identity)
    await world.stays({first.identity}, seconds=2)


async def test_an_evicted_agent_that_rejoins_with_its_old_token_is_evicted_again(world: World) -> None:
    """The token stays valid; each time it is a new participant that is one too many."""
    await world.open({"bouncer": {"policies": {"duplicates": {"grace": 6}}}})  # time enough to publish a track
    await world.agent("A", audio=True)
    second = await world.agent("B", audio=True)

    for _ in range(3):
        sid = second.sid
        assert await second.out() == rtc.DisconnectReason.PARTICIPANT_REMOVED
        await world.message(event="evicted", sid=sid)
        await second.rejoin()
    await world.gone("B")

    assert "A" in await world.present()


async def test_an_agent_of_kind_standard_with_the_grant_is_one_too(world: World) -> None:
    """Some frameworks mint their bots so; only the server's list shows it."""
    await world.open()
    await world.agent("A")
    await world.join("bot", grant=True, attributes={"lk.agent_name": "assistant"})
    await world.join("ana", attributes={"lk.agent_name": "assistant"})

    await world.gone("bot")

    await world.stays({"A", "ana"}, seconds=2)


async def test_many_duplicates_leave_side_by_side(world: World) -> None:
    """All but the oldest, as many as the budget of a minute allows."""
    await world.open({"bouncer": {"eviction": {"max_per_minute": 6}, "policies": {"duplicates": {"grace": 0}}}})
    await world.agent("A", audio=True)
    for i in range(8):
        await world.agent(f"B{i}")

    async def left() -> bool:
        return len(await world.present() - {"A", world.bouncer.identity if world.bouncer else ""}) == 2

    await world.until(left, "six of eight are gone")
    await world.message(event="held", held_by="max_per_minute")
    await world.stays({"A"}, seconds=2)
