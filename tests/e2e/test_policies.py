"""The policies on a real server with real participants: what each removes and what it leaves."""

from typing import Any

import pytest
from livekit import rtc

from tests.e2e.world import World


def house(eviction: dict[str, Any] | None = None, **policies: Any) -> dict[str, Any]:
    """Return room metadata with only these policies and hearing off."""
    ours = {"hearing": "off", "eviction": eviction or {}, "policies": {"duplicates": None, **policies}}
    return {"bouncer": ours, "another application": {"its": "own"}}


async def test_allow_list(world: World) -> None:
    """Agents that are not on the list leave, nameless ones too. People need no entry."""
    await world.open(house(allow_list={"agent_names": ["doctor-*"]}))
    await world.human("ana")
    await world.agent("A", name="doctor-1", audio=True)
    spy = await world.agent("B", name="spy")
    nameless = await world.agent("C", name="", state="")

    await world.gone(spy)
    await world.gone(nameless)

    assert await spy.out() == rtc.DisconnectReason.PARTICIPANT_REMOVED
    for who in (spy, nameless):
        told = await world.message(event="evicted", sid=who.sid)
        assert (told["policy"], told["reason"]) == ("allow_list", "is not on the list of allowed agents")
    await world.stays({"ana", "A"}, seconds=3)


async def test_deny_list(world: World) -> None:
    """Agents on the list leave, matched by name or identity. A person with that identity is unaffected."""
    await world.open(house(deny_list={"agent_names": ["retired-*"], "identities": ["bad-*"], "grace": 1}))
    await world.human("bad-ana")
    await world.agent("A", name="assistant")
    by_name = await world.agent("B", name="retired-assistant")
    by_identity = await world.agent("bad-C", name="assistant")

    await world.gone(by_name)
    await world.gone(by_identity)

    assert (await world.message(event="evicted", identity="B"))["reason"] == "has a denied agent name"
    assert (await world.message(event="evicted", identity="bad-C"))["reason"] == "has a denied identity"
    await world.stays({"bad-ana", "A"}, seconds=3)


async def test_empty_room_when_the_last_human_has_left(world: World) -> None:
    """No agent leaves while a human is there, or if one comes back in time."""
    await world.open(house(empty_room={"grace": 9}))
    ana = await world.human("ana", audio=True)
    bob = await world.join("bob", kind="sip", audio=True)
    await world.agent("A", name="x", audio=True)
    await world.agent("B", name="y")
    await ana.leave()
    await world.stays({"A", "B", "bob"}, seconds=11)
    await bob.leave()
    await world.gone("bob")
    await ana.join()
    await world.stays({"A", "B", "ana"}, seconds=11)

    await ana.leave()

    await world.gone("A")
    await world.gone("B")
    told = await world.message(event="evicted", identity="A")
    assert (told["policy"], told["reason"]) == ("empty_room", "is in the room 9 s after the last human left")


async def test_empty_room_if_no_human_ever_came(world: World) -> None:
    """A recorder is no company."""
    await world.open(house(empty_room={"grace": 0, "never_joined": 4}))
    await world.join("recording", kind="egress")
    agent = await world.agent("A")

    await world.gone(agent)

    told = await world.message(event="evicted", identity="A")
    assert (told["policy"], told["reason"]) == ("empty_room", "was in the room for 4 s and no human came")
    await world.stays({"recording"}, seconds=1)


async def test_human_takeover(world: World) -> None:
    """Only an operator sends the agents away, not another human, and not an agent that claims to be one."""
    await world.open(house(human_takeover={"identity": ["op-*"], "attributes": {"role": "operator"}, "grace": 1}))
    await world.human("ana")
    await world.human("op-0")
    agent = await world.agent("A", name="x", audio=True)
    impostor = await world.agent("op-2", name="y", attributes={"role": "operator"})
    await world.stays({"A", "op-2"}, seconds=4)

    await world.human("op-1", attributes={"role": "operator"})

    await world.gone(agent)
    await world.gone(impostor)
    assert (await world.message(event="evicted", identity="A"))["policy"] == "human_takeover"
    await world.stays({"ana", "op-0", "op-1"}, seconds=2)


async def test_max_agents(world: World) -> None:
    """An agent that joins a full room leaves, whatever its name. People and avatars take no place."""
    await world.open(house(max_agents={"max": 2, "grace": 1, "wait_for_life": 0}))
    await world.human("ana")
    await world.human("bob")
    await world.agent("A", name="x")
    await world.agent("A's avatar", name="", state="", audio=True, attributes={"lk.publish_on_behalf": "A"})
    second = await world.agent("B", name="y", audio=True)
    await world.stays({"A", "A's avatar", "B"}, seconds=3)
    third = await world.agent("C", name="z")

    await world.gone(third)

    assert (await world.message(event="evicted", identity="C"))["policy"] == "max_agents"
    await second.leave()
    await world.gone(second)
    await world.agent("D", name="z", audio=True)
    await world.stays({"ana", "bob", "A", "A's avatar", "D"}, seconds=4)


@pytest.mark.usefixtures("assistants")
async def test_max_lifetime(world: World) -> None:
    """A framework agent leaves on time although it is busy, and the room is told in advance."""
    await world.open(house(max_lifetime={"limit": 6, "notice": 4}))
    await world.human("ana")
    job = await world.dispatch("assistant", behaviour="busy")

    notice = await world.message(event="notice", identity=job.identity)
    assert 0 < notice["due_in"] <= 4
    await world.gone(job)

    told = await world.message(event="evicted", identity=job.identity)
    assert (told["policy"], told["reason"]) == ("max_lifetime", "has been in the room for 6 s")
    await world.stays({"ana"}, seconds=1)
    assert len([m for m in world.messages if m["event"] == "notice"]) == 1


async def test_no_return(world: World) -> None:
    """An evicted agent that returns leaves at once, not only when its time is up again. Others stay."""
    await world.open(house(max_agents={"max": 1, "grace": 3, "wait_for_life": 0}, no_return={}))
    await world.agent("A", name="x", audio=True)
    agent = await world.agent("B", name="y")
    await world.gone(agent)
    assert (await world.message(event="evicted", sid=agent.sid))["policy"] == "max_agents"

    for _ in range(2):
        await agent.rejoin()
        await world.gone(agent)
        assert (await world.message(event="evicted", sid=agent.sid))["policy"] == "no_return"

    await world.stays({"A"}, seconds=1)


async def test_orphaned_avatar(world: World) -> None:
    """An agent leaves by itself, so the avatar it leaves behind must go. Another agent's avatar stays."""
    await world.open(house(orphaned_avatar={"grace": 2}))
    await world.human("ana")
    principal = await world.agent("A", name="x", audio=True)
    orphan = await world.agent("A's avatar", name="", state="", audio=True, attributes={"lk.publish_on_behalf": "A"})
    await world.agent("B", name="y", audio=True)
    await world.agent("B's avatar", name="", state="", audio=True, attributes={"lk.publish_on_behalf": "B"})
    await world.stays({"A", "A's avatar", "B", "B's avatar"}, seconds=3)

    await principal.leave()

    await world.gone(orphan)
    told = await world.message(event="evicted", sid=orphan.sid)
    assert (told["policy"], told["reason"]) == ("orphaned_avatar", "is the avatar of an agent that is gone")
    await world.stays({"ana", "B", "B's avatar"}, seconds=3)


@pytest.mark.usefixtures("assistants")
async def test_stuck_state(world: World) -> None:
    """An agent stuck in `thinking` leaves. One that alternates with speaking stays, and so does a listener."""
    await world.open(house(stuck_state={"limits": {"thinking": 12, "initializing": 2}}))
    await world.agent("A", name="x", state="listening")
    stuck = await world.agent("B", name="y", state="thinking")
    never_ready = await world.agent("C", name="z", state="initializing")
    turns = await world.dispatch("assistant", behaviour="busy")

    await world.gone(stuck)
    await world.gone(never_ready)

    assert (await world.message(event="evicted", identity="B"))["reason"] == "has been thinking for 12 s"
    assert (await world.message(event="evicted", identity="C"))["reason"] == "has been initializing for 2 s"
    await world.stays({"A", turns.identity}, seconds=6)


@pytest.mark.usefixtures("assistants")
async def test_superseded(world: World) -> None:
    """A framework agent hands over to its successor and leaves. One that came after the successor stays."""
    await world.open(house({"keep_last_agent": True}, superseded={"by": {"assistant": ["billing"]}}))
    await world.human("ana")
    first = await world.dispatch("assistant", behaviour="busy")
    await world.stays({first.identity}, seconds=3)

    await world.agent("B", name="billing", audio=True)

    await world.gone(first)
    told = await world.message(event="evicted", identity=first.identity)
    assert (told["policy"], told["agent_name"]) == ("superseded", "assistant")
    second = await world.dispatch("assistant", behaviour="busy")
    await world.stays({"ana", "B", second.identity}, seconds=4)


async def test_keep_last_agent(world: World) -> None:
    """With a human present, the last agent is held back, and that is told once. It leaves after the human."""
    metadata = house({"keep_last_agent": True}, idle_timeout={"timeout": 6})
    metadata["bouncer"]["exempt"] = {"identity": ["recorder"]}
    await world.open(metadata)
    ana = await world.human("ana", audio=True)
    await world.agent("recorder", name="z", state="thinking")
    first = await world.agent("A", name="x")
    await world.agent("B", name="y")

    await world.gone(first)
    await world.message(event="held", identity="B", held_by="keep_last_agent")
    await world.stays({"ana", "B", "recorder"}, seconds=5)
    assert len([m for m in world.messages if m["event"] == "held"]) == 1

    await ana.leave()

    await world.gone("B")
    await world.stays({"recorder"}, seconds=1)


async def test_a_list_of_rules_each_with_its_own_action_and_agents(world: World) -> None:
    """One rule evicts some agents, the next reports others once each. The remaining ones are left alone."""
    rules = [{"limit": 3, "only": ["a*"]}, {"limit": 3, "only": ["b*"], "action": "report"}]
    await world.open(house(max_lifetime=rules))
    evicted = await world.agent("A", name="assistant")
    await world.agent("B", name="billing", audio=True)
    await world.agent("C", name="concierge", audio=True)

    await world.gone(evicted)

    assert (await world.message(event="evicted", identity="A"))["policy"] == "max_lifetime"
    assert (await world.message(event="reported", identity="B"))["policy"] == "max_lifetime[1]"
    await world.stays({"B", "C"}, seconds=5)
    assert sorted(m["identity"] for m in world.messages) == ["A", "B"]
