"""idle_timeout, on a real server."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import pytest

from tests.e2e.world import Member, World

IDLE_8 = {"bouncer": {"policies": {"idle_timeout": {"timeout": 8, "notice": 4}}}}


@pytest.mark.usefixtures("assistants")
async def test_an_agent_idle_past_its_timeout_leaves_and_a_busy_one_stays(world: World) -> None:
    """Framework agents: one only listens, the other thinks and speaks."""
    # Its dispatch is deleted only if all dispatches are known, and they are listed up to 5 s late.
    idle_15 = {"idle_timeout": {"timeout": 15, "notice": 4}}
    await world.open({"bouncer": {"policies": idle_15}, "other app": {"its": "own"}})
    await world.human("ana")
    idle = await world.dispatch("assistant", behaviour="idle")
    await world.metadata({"bouncer": {"policies": {"duplicates": None, **idle_15}}})
    busy = await world.dispatch("assistant", behaviour="busy")

    notice = await world.message(event="notice", identity=idle.identity)
    assert 0 < notice["due_in"] <= 4
    await world.gone(idle)

    told = await world.message(event="evicted", identity=idle.identity)
    assert (told["policy"], told["outcome"]) == ("idle_timeout", "left")
    await world.stays({"ana", busy.identity}, seconds=8)


async def flip(agent: Member) -> None:
    """Work for a moment."""
    await agent.set_state("thinking")
    await agent.set_state("listening")


SIGNS: Mapping[str, Callable[[Member], Awaitable[object]]] = {
    "state": flip,
    "data": Member.send_data,
    "text": lambda agent: agent.transcribe("good evening"),
    "track": Member.publish_audio,
}


async def test_each_sign_of_activity_counts(world: World) -> None:
    """An agent that keeps giving one stays, and leaves once it stops. A long tool call is not idleness."""
    await world.open(IDLE_8)
    tool = await world.agent("tool", name="tool", state="thinking")

    async def active(sign: str) -> Member:
        agent = await world.agent(sign, name=sign)
        for _ in range(6):
            await SIGNS[sign](agent)
            await asyncio.sleep(2)
        return agent

    agents = await asyncio.gather(*map(active, SIGNS))
    assert await world.present() >= {"tool", *SIGNS}

    await tool.set_state("listening")

    for agent in (*agents, tool):
        await world.gone(agent)


async def test_an_agent_that_cannot_be_judged_is_reported_and_stays(world: World) -> None:
    """It has an audio track, publishes no state, and isn't heard, so it may be speaking."""
    await world.open({"bouncer": {"hearing": "off", "policies": {"idle_timeout": {"timeout": 8}}}})
    await world.agent("A", state="", audio=True)  # soon, since it can be judged before it has a track

    told = await world.message(event="held", identity="A")

    assert told["held_by"] == "doubt"
    await world.stays({"A"}, seconds=5)
    assert len([m for m in world.messages if m["identity"] == "A"]) == 1
