"""The policies that depend on speech, on a real server, with tones for voices."""

import asyncio

import pytest

from tests.e2e.world import Member, World

pytestmark = pytest.mark.realtime

TALK = {"duplicates": None}


async def keep_talking(member: Member) -> None:
    """Sound without pause until cancelled."""
    while True:
        await member.say(5)


async def take_turns(*members: Member) -> None:
    """Speak in turns, with pauses, until cancelled."""
    while True:
        for member in members:
            await member.say(1.5)
            await asyncio.sleep(1)


async def test_crosstalk_ends_and_the_oldest_stays(world: World) -> None:
    """Two agents talk over each other, whatever state they publish."""
    await world.open({"bouncer": {"policies": {**TALK, "crosstalk": {"overlap": 2}}}})
    await world.human("ana")
    first = await world.agent("A", name="support", audio=True)
    second = await world.agent("B", name="billing", audio=True)
    async with asyncio.TaskGroup() as talks:
        tasks = [talks.create_task(keep_talking(member)) for member in (first, second)]

        await world.gone(second)

        assert (await world.message(event="evicted", identity="B"))["policy"] == "crosstalk"
        await world.stays({"ana", "A"}, seconds=3)
        for task in tasks:
            task.cancel()


async def test_agents_that_take_turns_are_no_crosstalk(world: World) -> None:
    """They never speak at the same time."""
    await world.open({"bouncer": {"policies": {**TALK, "crosstalk": {"overlap": 2}}}})
    first = await world.agent("A", name="support", audio=True)
    second = await world.agent("B", name="billing", audio=True)
    async with asyncio.TaskGroup() as talks:
        task = talks.create_task(take_turns(first, second))

        await world.stays({"A", "B"}, seconds=12)

        task.cancel()


async def test_agents_among_themselves_are_ended(world: World) -> None:
    """They keep talking while no human says a word."""
    await world.open({"bouncer": {"policies": {**TALK, "lone_chatter": {"timeout": 6}}}})
    await world.human("ana", audio=True)
    first = await world.agent("A", name="support", audio=True)
    second = await world.agent("B", name="billing", audio=True)
    async with asyncio.TaskGroup() as talks:
        task = talks.create_task(take_turns(first, second))

        await world.gone(first)
        await world.gone(second)

        task.cancel()
    for identity in ("A", "B"):
        assert (await world.message(event="evicted", identity=identity))["policy"] == "lone_chatter"
    await world.stays({"ana"}, seconds=1)


async def test_agents_that_talk_with_a_human_stay(world: World) -> None:
    """It is enough if the human takes part now and then."""
    await world.open({"bouncer": {"policies": {**TALK, "lone_chatter": {"timeout": 8}}}})
    ana = await world.human("ana", audio=True)
    first = await world.agent("A", name="support", audio=True)
    second = await world.agent("B", name="billing", audio=True)
    async with asyncio.TaskGroup() as talks:
        task = talks.create_task(take_turns(first, second, ana))

        await world.stays({"ana", "A", "B"}, seconds=20)

        task.cancel()


async def test_an_agent_that_does_not_react_is_reported(world: World) -> None:
    """A human keeps asking. One agent answers; the other looks healthy and does nothing."""
    await world.open({"bouncer": {"policies": {**TALK, "unresponsive": {"timeout": 5}}}})
    ana = await world.human("ana", audio=True)
    answering = await world.agent("A", name="support", audio=True)
    await world.agent("ghost", name="billing", audio=True)
    async with asyncio.TaskGroup() as talks:
        task = talks.create_task(take_turns(ana, answering))

        told = await world.message(event="reported", identity="ghost")

        assert told["policy"] == "unresponsive"
        await world.stays({"ana", "A", "ghost"}, seconds=5)
        assert not [m for m in world.messages if m["identity"] == "A"]
        task.cancel()


async def test_an_agent_that_speaks_is_not_idle(world: World) -> None:
    """It publishes no state but is heard. Once it falls silent, it is idle."""
    await world.open({"bouncer": {"policies": {**TALK, "idle_timeout": {"timeout": 6}}}})
    agent = await world.agent("A", state="", audio=True)
    async with asyncio.TaskGroup() as talks:
        task = talks.create_task(keep_talking(agent))
        await world.stays({"A"}, seconds=12)
        task.cancel()
    agent.sounding = False

    await world.gone(agent)

    assert (await world.message(event="evicted", identity="A"))["policy"] == "idle_timeout"
