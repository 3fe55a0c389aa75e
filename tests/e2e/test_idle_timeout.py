"""idle_timeout, on a real server."""

import asyncio

import pytest

from tests.e2e.world import World

IDLE_6 = {"bouncer": {"policies": {"idle_timeout": {"timeout": 6, "notice": 4}}}}


@pytest.mark.usefixtures("assistants")
async def test_an_agent_idle_past_its_timeout_leaves_and_a_busy_one_stays(world: World) -> None:
    """Framework agents: one only listens, the other thinks and speaks."""
    # It is asked to leave only where all dispatches are known, and they are listed up to 5 s late.
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


@pytest.mark.parametrize("sign", ["state", "data", "transcription", "track"])
async def test_each_sign_of_activity_counts(world: World, sign: str) -> None:
    """An agent that goes on giving one stays, and leaves when it stops."""
    await world.open(IDLE_6)
    agent = await world.agent("A")
    for _ in range(5):
        await asyncio.sleep(2)
        match sign:
            case "state":
                await agent.set_state("thinking")
                await agent.set_state("listening")
            case "data":
                await agent.send_data()
            case "transcription":
                await agent.transcribe("good evening")
            case _:
                await agent.publish_audio()
    assert "A" in await world.present()

    await world.gone(agent)


async def test_a_long_tool_call_is_not_idleness(world: World) -> None:
    """As long as its state is `thinking`, it stays."""
    await world.open(IDLE_6)
    agent = await world.agent("A", state="thinking")

    await world.stays({"A"}, seconds=9)
    await agent.set_state("listening")

    await world.gone(agent)


async def test_an_agent_that_cannot_be_judged_is_reported_and_stays(world: World) -> None:
    """It has an audio track, says nothing about itself, and isn't listened to: it may be speaking for all we know."""
    await world.open({"bouncer": {"hearing": "off", "policies": {"idle_timeout": {"timeout": 8}}}})
    await world.agent("A", state="", audio=True)  # in time: before it has a track, it can be judged

    told = await world.message(event="held", identity="A")

    assert told["held_by"] == "doubt"
    await world.stays({"A"}, seconds=5)
    assert len([m for m in world.messages if m["identity"] == "A"]) == 1
