"""The participants that stay whatever happens, on a real server under the strictest configuration."""

import pytest
from livekit import api

from bouncer.observers.logs import Logs
from tests.dates import records
from tests.e2e.inside import guarded_from_inside
from tests.e2e.world import World

STRICT = {"duplicates": {"grace": 0, "wait_for_life": 0, "unnamed": True}, "idle_timeout": {"timeout": 5}}


async def test_people_and_their_like_stay(world: World) -> None:
    """No human, phone caller, ingress or egress is ever evicted, even if they do nothing."""
    await world.open({"bouncer": {"policies": STRICT}})
    for kind in ("standard", "sip", "ingress", "egress"):
        await world.join(f"one {kind}", kind=kind, attributes={"lk.agent_name": "assistant", "lk.agent.state": "idle"})
        await world.join(f"other {kind}", kind=kind, attributes={"lk.agent_name": "assistant"})
    idle = await world.agent("A", name="assistant")

    await world.gone(idle)

    kinds = {f"{which} {kind}" for which in ("one", "other") for kind in ("standard", "sip", "ingress", "egress")}
    await world.stays(kinds, seconds=5)


async def test_the_bouncer_and_other_bouncers_stay(world: World) -> None:
    """A bouncer judges neither itself nor a second one dispatched under the same name."""
    await world.open({"bouncer": {"policies": STRICT}})
    assert world.bouncer
    await world.api.agent_dispatch.create_dispatch(
        api.CreateAgentDispatchRequest(agent_name="bouncer", room=world.room)
    )

    async def second() -> str | None:
        others = [i for i, p in (await world.listed()).items() if p.attributes.get("lk.agent_name") == "bouncer"]
        return next((i for i in others if world.bouncer and i != world.bouncer.identity), None)

    other = await world.until(second, "a second bouncer is there")
    await world.stays({world.bouncer.identity, other}, seconds=10)


async def test_an_avatar_stays_with_its_agent_and_leaves_with_it(world: World) -> None:
    """It is not an agent in its own right, however idle and nameless it is."""
    await world.open({"bouncer": {"policies": {"duplicates": None}}})
    await world.agent("A")
    await world.agent("A's avatar", name="", state="", audio=True, attributes={"lk.publish_on_behalf": "A"})
    duplicate = await world.agent("B")
    avatar = await world.agent("B's avatar", name="", state="", audio=True, attributes={"lk.publish_on_behalf": "B"})
    # Not before all are there: a client evicted early may never get to publish its track.
    await world.metadata({"bouncer": {"policies": {"duplicates": {"grace": 1, "wait_for_life": 0, "unnamed": True}}}})

    await world.gone(duplicate)
    await world.gone(avatar)

    await world.stays({"A", "A's avatar"}, seconds=3)


async def test_exempt_agents_stay_and_count(world: World) -> None:
    """Exempt by identity or agent name, an agent still counts, so another with its name is a duplicate."""
    exempt = {"identity": ["recorder-*"], "agent_name": ["notes"]}
    await world.open({"bouncer": {"exempt": exempt, "policies": STRICT}})
    await world.agent("recorder-1", name="recorder")
    await world.agent("N1", name="notes")
    await world.agent("N2", name="notes")
    await world.agent("recorder-2", name="scribe")
    second = await world.agent("S", name="scribe", state="thinking")

    await world.gone(second)

    assert (await world.message(event="evicted", identity="S"))["policy"] == "duplicates"
    await world.message(event="held", identity="recorder-1", held_by="exempt")
    await world.stays({"recorder-1", "recorder-2", "N1", "N2"}, seconds=5)


async def test_a_dry_run_removes_no_one_and_reports(world: World) -> None:
    """Everything is decided, nothing is removed, and the room is told which agents would have had to leave."""
    await world.open({"bouncer": {"mode": "dry_run", "policies": STRICT}})
    await world.agent("A")
    await world.agent("B")

    told = await world.message(event="reported", identity="B", policy="duplicates")
    assert told["mode"] == "dry_run"
    await world.message(event="reported", identity="A", policy="idle_timeout")

    await world.stays({"A", "B"}, seconds=5)
    keys = [(m["identity"], m["policy"]) for m in world.messages]
    assert len(keys) == len(set(keys))


async def test_off_does_nothing(world: World) -> None:
    """It stays in the room and only watches the metadata."""
    await world.create({"bouncer": {"mode": "off", "policies": STRICT}})
    await world.open({"bouncer": {"mode": "off", "policies": STRICT}})
    await world.agent("A")
    await world.agent("B")

    await world.stays({"A", "B"}, seconds=7)

    assert world.messages == []


async def test_with_a_rejected_key_no_one_is_removed_until_it_is_valid(
    lobby: World, caplog: pytest.LogCaptureFixture
) -> None:
    """One error says what is missing, and calls become ever rarer, whatever happens in the room."""
    metadata = {"bouncer": {"reconcile": 1, "policies": {"duplicates": {"grace": 0, "wait_for_life": 0}}}}
    async with guarded_from_inside(lobby, metadata, "guard", observers=(Logs(records(lobby.room)),)) as (guard,):
        await lobby.agent("A")
        await guard.sees("A")
        guard.calls.use_key("another secret, and not the one that the server knows")
        await lobby.agent("B")
        await guard.sees("A", "B")
        before = guard.calls.made
        for number in range(10):
            await lobby.human(f"human {number}")
        await lobby.stays({"A", "B"}, seconds=20)

        assert guard.calls.made - before <= 16
        (error,) = (record for record in caplog.records if record.name == "bouncer" and record.levelname == "ERROR")
        assert (error.message, vars(error)["doing"]) == ("failing", "listing")
        assert "LIVEKIT_API_KEY and LIVEKIT_API_SECRET must be a valid key" in vars(error)["error"]
        assert guard.recorder.outcomes() == []

        guard.calls.use_key(lobby.server.api_secret)
        await guard.outcome("B", "removed")
        await lobby.stays({"A", "human 0", "human 9"}, seconds=1)
