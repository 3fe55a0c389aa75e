"""Races: what can change between a decision and its removal."""

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import aiohttp
import pytest
from livekit import api, rtc

from bouncer.events import Job
from bouncer.observers import Evicted, News
from devserver import Server, own_server, worker
from tests.e2e.conftest import AGENT, HERE
from tests.e2e.inside import Inside, guarded_from_inside
from tests.e2e.scenes import at_once
from tests.e2e.world import World

FULL_RECONNECT = rtc.SimulateScenarioKind.Value("SIMULATE_FULL_RECONNECT")
DUPLICATES = {"bouncer": {"reconcile": 1, "policies": {"duplicates": {"grace": 0.5, "wait_for_life": 0}}}}
EMPTY_ROOM = {"bouncer": {"policies": {"empty_room": {"never_joined": 1, "grace": 1}}}}
OFF = {"bouncer": {"mode": "off"}}
"""The configuration of a room while a test prepares its moment."""


async def test_an_identity_that_changed_hands_is_left_alone(lobby: World) -> None:
    """Right before the removal the agent has left, and a person has its identity. LiveKit would remove that person."""
    async with guarded_from_inside(lobby, OFF, "guard") as (guard,):
        await lobby.agent("A")
        second = await lobby.agent("B")

        async def become_a_person() -> None:
            await second.leave()
            await lobby.human("B")

        guard.before("recheck", become_a_person)
        await lobby.metadata(DUPLICATES)
        await guard.outcome("B", "void")
        await lobby.stays({"A", "B"}, seconds=1)
        assert guard.recorder.outcomes() == [("B", "void")]


async def test_a_target_that_comes_back_has_its_own_grace(lobby: World) -> None:
    """Back with a new sid between decision and removal, it is a new participant with a grace of its own."""
    async with guarded_from_inside(lobby, OFF, "guard") as (guard,):
        await lobby.agent("A")
        second = await lobby.agent("B")
        guard.before("recheck", second.rejoin)
        await lobby.metadata(
            {"bouncer": {"policies": {"duplicates": {"grace": 6, "wait_for_life": 0}}}}
        )  # more than rejoining takes
        await guard.outcome("B", "removed")

        await second.out()
        (finding,) = [news.finding for news in guard.recorder.news if isinstance(news, Evicted)][1:]
        assert finding.participant.sid == second.sid
        assert finding.verdict.due >= finding.participant.joined_at + 6
        first, *others = guard.recorder.outcomes()
        # The server may forget the new one for a moment as the old one's end reaches its list.
        assert first in {("B", "void"), ("B", "gone")}
        assert others == [("B", "removed")]
        assert "A" in await lobby.present()


@pytest.mark.parametrize("call", ["recheck", "remove_participant"])
async def test_a_target_that_leaves_by_itself(lobby: World, call: str) -> None:
    """It leaves before the second look, or before the removal. That is a success, and evicts no one else instead."""
    async with guarded_from_inside(lobby, OFF, "guard") as (guard,):
        await lobby.agent("A")
        second = await lobby.agent("B")

        async def leave() -> None:
            await second.leave()
            await lobby.gone("B")

        guard.before(call, leave)
        await lobby.metadata(DUPLICATES)
        await guard.outcome("B", "gone")

        await lobby.stays({"A"}, seconds=1)
        assert guard.recorder.outcomes() == [("B", "gone")]


@pytest.mark.parametrize("scenario", ["FULL_RECONNECT", "SIGNAL_RECONNECT"])
async def test_a_target_that_reconnects(lobby: World, scenario: str) -> None:
    """Whether it resumes or rejoins at the moment of its removal, it is out in the end and its twin stays."""
    async with guarded_from_inside(lobby, OFF, "guard") as (guard,):
        first = await lobby.agent("A")
        second = await lobby.agent("B")
        kind = rtc.SimulateScenarioKind.Value(f"SIMULATE_{scenario}")
        guard.before("recheck", lambda: second.room.simulate_scenario(kind))
        await lobby.metadata(DUPLICATES)

        await second.out()

        await lobby.gone("B")
        await lobby.stays({"A"}, seconds=1)
        assert first.reason is None


async def test_one_that_is_still_joining(lobby: World) -> None:
    """It isn't judged before it is ACTIVE. Removed earlier, its SDK would retry and return with a new sid."""
    async with guarded_from_inside(lobby, DUPLICATES, "guard") as (guard,), aiohttp.ClientSession() as session:
        await lobby.agent("A")
        attributes = {"lk.agent_name": "assistant"}
        token = lobby.token("B", kind="agent", grant=True, attributes=attributes)
        query = {"access_token": token, "protocol": "15", "auto_subscribe": "0"}
        async with session.ws_connect(f"{lobby.server.url}/rtc", params=query):

            async def joining() -> bool:
                return "B" in await lobby.present()

            await lobby.until(joining, "B is joining")
            await lobby.stays({"A", "B"}, seconds=1)
            assert guard.recorder.outcomes() == []

            second = await lobby.agent("B")
            await second.out()
        await lobby.gone("B")
        await lobby.stays({"A"}, seconds=1)


async def test_four_evictors_at_once(lobby: World) -> None:
    """They choose the same agents, each removes them or finds them gone, and the rightful one stays."""
    guards = [f"guard {i}" for i in range(4)]
    async with guarded_from_inside(lobby, DUPLICATES, *guards) as inside:
        await lobby.agent("A")
        twins = [await lobby.agent(f"B{i}") for i in range(5)]

        for twin in twins:
            await twin.out()
        await lobby.stays({"A", *guards}, seconds=1)

        outcomes = [outcome for guard in inside for outcome in guard.recorder.outcomes()]
        assert {outcome for _, outcome in outcomes} <= {"removed", "gone"}
        assert {identity for identity, _ in outcomes} == {twin.identity for twin in twins}


FLIPS = {
    "dry_run": {"mode": "dry_run"},
    "exempt": {"exempt": {"identity": ["B"]}},
    "rule gone": {"policies": {"duplicates": None}},
}


@at_once("flip", FLIPS)
async def test_metadata_that_changes_between_decision_and_removal(lobby: World, flip: str) -> None:
    """The removal is called off at the last moment: a change takes effect at once."""
    async with guarded_from_inside(lobby, OFF, "guard") as (guard,):
        await lobby.agent("A")
        await lobby.agent("B")

        async def change() -> None:
            before = guard.patrol.config
            await lobby.metadata({"bouncer": FLIPS[flip]})
            await lobby.until(lambda: asyncio.sleep(0, guard.patrol.config != before), "the change is known")

        guard.before("recheck", change)
        await lobby.metadata(DUPLICATES)
        await guard.outcome("B", "void")

        await lobby.stays({"A", "B"}, seconds=1)
        assert {outcome for _, outcome in guard.recorder.outcomes()} <= {"void", "would"}


async def test_metadata_that_changes_between_notice_and_removal(lobby: World) -> None:
    """Two agents were given notice. One becomes exempt and stays; in a dry run both stay."""
    rule = {"policies": {"max_lifetime": {"limit": 15, "notice": 14.8}}}
    async with guarded_from_inside(lobby, {"bouncer": rule}, "guard") as (guard,):
        for identity in ("A", "B"):
            await lobby.agent(identity, name=f"agent {identity}")
        for identity in ("A", "B"):
            await lobby.message(event="notice", identity=identity)
        await lobby.metadata({"bouncer": {**rule, "mode": "dry_run", "exempt": {"identity": ["B"]}}})

        await guard.outcome("A", "would")

        await lobby.stays({"A", "B"}, seconds=1)
        assert guard.recorder.outcomes() == [("A", "would")]


async def test_a_human_who_comes_right_before_an_empty_room_is_cleared(lobby: World) -> None:
    """No event has announced them yet: a participant that publishes nothing is announced up to 3 s late."""
    async with guarded_from_inside(lobby, OFF, "guard") as (guard,):
        await lobby.agent("A", name="x")
        due = asyncio.Event()

        async def come() -> None:
            await lobby.human("h")
            due.set()

        guard.before("decision", come)
        await lobby.metadata(EMPTY_ROOM)
        async with asyncio.timeout(20):
            await due.wait()

        await lobby.stays({"A", "h"}, seconds=2)
        assert guard.recorder.outcomes() == []


async def test_a_human_who_comes_at_the_very_last_moment(lobby: World) -> None:
    """They come after the decision, before the removal, and unannounced."""
    async with guarded_from_inside(lobby, OFF, "guard") as (guard,):
        await lobby.agent("A", name="x")
        guard.before("recheck", lambda: lobby.human("h"))
        await lobby.metadata(EMPTY_ROOM)
        await guard.outcome("A", "void")

        await lobby.stays({"A", "h"}, seconds=1)


async def test_a_list_with_a_participant_missing_for_a_moment(lobby: World) -> None:
    """The only human is missing from all lists of one moment, however many. The agents don't count as alone."""
    rule = {"bouncer": {"policies": {"empty_room": {"grace": 0}, "duplicates": {"grace": 0.5, "wait_for_life": 0}}}}
    async with guarded_from_inside(lobby, rule, "guard") as (guard,):
        await lobby.human("h")
        await lobby.agent("A", name="x")
        await lobby.agent("B", name="y")
        await guard.sees("h", "A", "B")
        lists: list[int] = []

        async def overlook() -> None:
            guard.calls.overlooked = {"h", "A"}
            lists.append(guard.calls.lists)

        async def show_again() -> None:
            # Two such lists a second apart would rightly mean that the human is gone.
            guard.calls.overlooked = set()
            lists.append(guard.calls.lists)

        guard.before("decision", overlook)
        guard.before("remove_participant", show_again)
        twin = await lobby.agent("C", name="y")
        await twin.out()
        assert lists[1] > lists[0]

        await lobby.stays({"h", "A", "B"}, seconds=1)
        assert guard.recorder.outcomes() == [("C", "removed")]


async def test_one_that_takes_the_place_of_one_that_has_just_left(lobby: World) -> None:
    """The old one is missing from the list, but no event says that it left. That must not evict the new one."""
    rule = {"bouncer": {"policies": {"duplicates": {"grace": 0, "wait_for_life": 0}}}}
    async with guarded_from_inside(lobby, rule, "guard") as (guard,):
        first = await lobby.agent("A")
        await guard.sees("A")
        guard.patrol.deaf = True
        await first.leave()
        await lobby.agent("B")
        guard.patrol.list_soon()
        await guard.sees("B")

        await lobby.stays({"B"}, seconds=3)
        assert guard.recorder.outcomes() == []


async def test_a_restarted_job_beside_its_corpse(lobby: World, server: Server, tmp_path: Path) -> None:
    """A crashed agent stays listed for 20 s. Of one dispatch, the newest job is rightful, so it stays."""
    script, name = HERE / "framework_agent.py", f"assistant-{lobby.room}"
    async with (
        worker(script, server, env={"AGENT_NAME": name}, log_file=tmp_path / "log") as doomed,
        guarded_from_inside(lobby, OFF, "guard") as (guard,),
    ):
        corpse = await lobby.dispatch(name)
        await guard.sees(corpse.identity)
        doomed.kill()
        await doomed.exited()
        # Self-hosted LiveKit restarts no job. The test lists this one under the same dispatch.
        await lobby.agent("agent-AJ_2", name=name)
        await guard.sees("agent-AJ_2")
        guard.calls.jobs = tuple(
            Job(dispatch=corpse.dispatch, job=job, agent_name=name, identity=identity)
            for job, identity in (("AJ_1", corpse.identity), ("AJ_2", "agent-AJ_2"))
        )

        await lobby.metadata(DUPLICATES)
        await guard.outcome(corpse.identity, "removed")

        await lobby.stays({"agent-AJ_2"}, seconds=1)
        assert guard.recorder.outcomes() == [(corpse.identity, "removed")]


async def test_our_own_full_reconnect_is_no_agents_fault(lobby: World) -> None:
    """To us, everyone leaves and joins. Histories survive: a name as first seen still counts."""
    rules = {
        "duplicates": {"grace": 0.5, "wait_for_life": 0},
        "empty_room": {"grace": 0},
        "max_lifetime": {"limit": 3600},
    }
    async with guarded_from_inside(lobby, {"bouncer": {"policies": rules}}, "guard") as (guard,):
        await lobby.human("h")
        await lobby.agent("A")
        renamed = await lobby.agent("B", name="scribe")
        await guard.sees("h", "A", "B")
        await renamed.set_attributes({"lk.agent_name": "assistant"})
        before, first = guard.history(), (await lobby.listed())["guard"]
        again = asyncio.Event()
        guard.room.on("reconnected", again.set)

        await guard.room.simulate_scenario(FULL_RECONNECT)
        async with asyncio.timeout(30):
            await again.wait()

        await lobby.stays({"h", "A", "B"}, seconds=1)
        await guard.sees("h", "A", "B")
        assert guard.recorder.outcomes() == []
        assert guard.history() == before

        async def says_that_it_guards() -> bool:
            return (await lobby.guarding()).get("guard", first.sid) != first.sid

        await lobby.until(says_that_it_guards, "it says again that it guards the room, with another sid")

        twin = await lobby.agent("C")
        await twin.out()


async def test_metadata_that_changes_while_we_reconnect(lobby: World) -> None:
    """It is in force once we are back, even if it no longer has our key: the room is the same one."""
    async with guarded_from_inside(lobby, OFF, "guard") as (guard,):
        for change in ({"bouncer": {"mode": "dry_run"}}, "", {"bouncer": {"mode": "off"}}):
            again, before = asyncio.Event(), guard.patrol.config
            guard.room.once("reconnected", again.set)
            await asyncio.gather(guard.room.simulate_scenario(FULL_RECONNECT), lobby.metadata(change))
            async with asyncio.timeout(30):
                await again.wait()

            changed = partial(in_force, guard, change["bouncer"]["mode"] if isinstance(change, dict) else "enforce")
            await lobby.until(changed, f"{change} is in force")
            assert guard.patrol.config != before


async def test_a_room_that_was_recreated_before_we_came(lobby: World) -> None:
    """The metadata from when we were dispatched counts, unless the room has some by now."""
    before = '{"bouncer": {"mode": "dry_run"}}'
    async with guarded_from_inside(lobby, None, "guard", dispatched_under=before) as (guard,):
        await lobby.until(partial(in_force, guard, "dry_run"), "the room is configured")
        await lobby.metadata({"bouncer": {"mode": "off"}})
        await lobby.until(partial(in_force, guard, "off"), "what is written now counts")


async def in_force(guard: Inside, mode: str) -> bool:
    """Return True if a bouncer applies this mode."""
    return guard.patrol.config is not None and guard.patrol.config.mode == mode


class Failing:
    """An observer that raises."""

    told = 0

    def notify(self, news: News) -> None:
        """Fail."""
        self.told += 1
        raise RuntimeError(f"no {type(news).__name__}, please")


async def test_an_observer_that_fails_ends_nothing(lobby: World) -> None:
    """It may raise anything, whatever it is told."""
    failing = Failing()
    async with guarded_from_inside(lobby, DUPLICATES, "guard", observers=[failing]) as (guard,):
        await lobby.agent("A")
        await lobby.agent("B")

        await guard.outcome("B", "removed")

        await lobby.stays({"A"}, seconds=1)
        assert failing.told > 2


async def test_a_room_stays_guarded_when_the_bouncer_must_reconnect(
    lobby: World, server: Server, tmp_path: Path
) -> None:
    """The server takes our reconnect for a leave and ends our job; self-hosted, it restarts none."""
    name, script = f"bouncer-{lobby.room}", HERE / "reconnecting_bouncer.py"
    async with worker(script, server, env={"BOUNCER_AGENT_NAME": name}, log_file=tmp_path / "log") as running:
        await lobby.open(DUPLICATES, agent_name=name)
        await lobby.human("h")
        await lobby.agent("A")

        async def job_is_listed() -> bool:
            dispatches = await lobby.api.agent_dispatch.list_dispatch(lobby.room)
            return any(dispatch.state.jobs for dispatch in dispatches)

        # Earlier, the server would not know which job to end.
        await lobby.until(job_is_listed, "the job is listed")
        os.kill(running.pid, signal.SIGUSR1)
        await running.line(lambda line: line["message"] == "replaced")
        first = lobby.bouncer

        async def guarded_by_another() -> bool:
            return list((await lobby.guarding()).values()) not in ([], [first.sid if first else ""])

        await lobby.until(guarded_by_another, "another bouncer guards the room")
        twin = await lobby.agent("B")
        await twin.out()
        await lobby.stays({"A", "h"}, seconds=1)
        dispatches = await lobby.api.agent_dispatch.list_dispatch(lobby.room)
        assert len([dispatch for dispatch in dispatches if dispatch.agent_name == name]) == 1
        await lobby.close()


async def test_a_server_that_is_restarted(tmp_path: Path) -> None:
    """It has forgotten everything. Returning agents are judged under the old rules, and new rooms are guarded.

    A deploy that follows doesn't end the dry run: the successor takes the rules along.
    """
    async with AsyncExitStack() as stack, AsyncExitStack() as first:
        server = await first.enter_async_context(own_server(say=print))
        client = await stack.enter_async_context(api.LiveKitAPI(server.url, server.api_key, server.api_secret))
        running = await stack.enter_async_context(worker(AGENT, server, log_file=tmp_path / "log"))
        world = World(server, client)
        await world.open({"bouncer": {"mode": "dry_run", "policies": {"duplicates": {"grace": 0, "wait_for_life": 0}}}})
        assert world.bouncer
        for identity in ("A", "B"):
            await world.agent(identity)
        await world.human("h")
        await running.line(lambda line: line["message"] == "would evict")
        logged = len(running.log)

        await first.aclose()
        await stack.enter_async_context(own_server(say=print, again=server))
        # Only now, so that everyone leaves before this server ends.
        await stack.enter_async_context(world)
        later = await stack.enter_async_context(World(server, client))

        await running.line(lambda line: line["message"] == "room recreated", after=logged)
        everyone = {"A", "B", "h", world.bouncer.identity}
        await world.until(lambda: all_present(world, everyone), "everyone is back")
        await running.line(lambda line: line["message"] == "would evict", after=logged)
        await world.stays(everyone, seconds=1)
        assert (await world.listed())[world.bouncer.identity].attributes["bouncer.guarding"] == "true"

        await running.line(lambda line: line["message"] == "registered worker", after=logged)
        await later.open(DUPLICATES)
        await later.agent("A")
        twin = await later.agent("B")
        await twin.out()
        await later.close()

        following = await stack.enter_async_context(worker(AGENT, server, log_file=tmp_path / "following"))
        running.terminate()
        await following.line(
            lambda line: (line["message"], line.get("lk.pii.room_name")) == ("would evict", world.room)
        )
        assert await running.exited() == 0
        await world.stays({"A", "B", "h", *await world.guarding()}, seconds=1)


async def all_present(world: World, identities: set[str]) -> bool:
    """Return True if all of these are present."""
    return await world.present() >= identities
