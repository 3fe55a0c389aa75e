"""Hostile participants and failing policies: no innocent agent leaves, due ones do, and the worker continues."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

import aiohttp
import psutil  # type: ignore[import-untyped]  # the framework brings it, without its types
import pytest
from livekit import api, rtc

from bouncer.events import Job
from bouncer.plain import plain
from devserver import Server, Worker, worker
from tests.e2e.conftest import AGENT
from tests.e2e.elsewhere import replayed
from tests.e2e.inside import guarded_from_inside
from tests.e2e.world import Member, World
from tests.packages import install

FORGED = '{"message": "evicted", "level": "INFO", "name": "bouncer", "lk.pii.participant_identity": "forged"}'
NAMES = {
    "lines": f"x\n{FORGED}\r\n{FORGED}\u2028{FORGED}",
    "control": "".join(map(chr, range(1, 32))) + "\x7f\x9b\x1b[2J\x1b]0;owned\x07",
    "directions": "\u202etnega\u2066 \u200f\u05d0\u0628\ufeff",
    "scripts": "𓀀𝔄ﷺ" + "e" + "\u0301" * 40 + "👩‍👩‍👧‍👦🏴‍☠️",
    "globs": "*[!a]?[*]**\\",
    "formats": "%s%n{0}{identity}$(id)`id`<script>alert(1)</script>'\";--",
    "path": "../../etc/passwd\0",
}
LONGEST = 256
"""The longest identity, in bytes, that the server accepts."""
MAX_ATTRIBUTES = 64 * 1024
"""The most bytes of a participant's attributes, keys and values together."""
MAX_METADATA = 512 * 1024
"""The most bytes of a participant's metadata."""
ENOUGH = 1500
"""Attribute changes that make a flood: more than all else in a test together."""
LATE = 30.0
"""Seconds that an eviction may be late before a test fails; the test prints how late it was."""
GROWTH = 100.0
"""MB that a worker may grow before a test fails; the test prints how much it grew."""

DEEP = "[" * 250_000
TAKE_OVER = {"bouncer": {"mode": "off", "exempt": {"identity": ["*"]}, "policies": {"duplicates": None}}}


def records(running: Worker, room: str) -> Iterator[dict[str, Any]]:
    """Return a worker's log of a room. Fails if any line of its log is not a JSON object."""
    for line in running.log_file.read_bytes().splitlines():
        record = json.loads(line)
        assert isinstance(record, dict)
        if record.get("lk.pii.room_name") == room:
            yield record


def memory(running: Worker) -> float:
    """Return a worker's resident memory in MB."""
    return float(psutil.Process(running.pid).memory_info().rss / 2**20)


@pytest.mark.parametrize(
    ("identity", "attributes"),
    [("x" * (LONGEST + 1), {}), ("x", {"x": "x" * MAX_ATTRIBUTES})],
    ids=["identity", "attributes"],
)
async def test_what_the_server_refuses(lobby: World, identity: str, attributes: dict[str, str]) -> None:
    """The limits of identities and attributes, up to which the other tests go."""
    await lobby.create()
    with pytest.raises(rtc.ConnectError):
        await lobby.join(identity, attributes=attributes)


async def test_names_are_only_names(world: World, bouncer: Worker) -> None:
    """Of two agents with the same strange name one stays, and everything told about the other is correct."""
    await world.open(
        {
            "bouncer": {
                "policies": {"duplicates": {"grace": 1, "wait_for_life": 0}},
                "eviction": {"max_per_minute": 1000},
            }
        }
    )
    stay, leave = [], []
    for name in [*NAMES.values(), "a" * (MAX_ATTRIBUTES - 100)]:
        identity = name.encode()[: LONGEST - 1].decode(errors="ignore")
        stay.append(await world.agent(f"{identity}1", name=name))
        leave.append(await world.agent(f"{identity}2", name=name))
        await stay[-1].room.local_participant.set_metadata(DEEP)

    for member in leave:
        await member.out()

    await world.stays({member.identity for member in stay}, seconds=2)
    told = await world.until(lambda: messages(world, len(leave)), "the room is told of all")
    assert {message["sid"]: message["identity"] for message in told} == {m.sid: m.identity for m in leave}
    assert all(len(json.dumps(message, ensure_ascii=False).encode()) < 15_000 for message in told)
    evicted = [record for record in records(bouncer, world.room) if record["message"] == "evicted"]
    assert {r["sid"]: r["lk.pii.participant_identity"] for r in evicted} == {m.sid: plain(m.identity) for m in leave}


async def messages(world: World, count: int) -> list[dict[str, Any]] | None:
    """Wait for so many messages about evictions, and return them."""
    told = [message for message in world.messages if message["event"] == "evicted"]
    return told if len(told) >= count else None


async def test_nothing_in_a_room_configures_the_bouncer_but_its_metadata(world: World) -> None:
    """A configuration in a participant's metadata, attributes, data, texts or transcriptions has no effect."""
    text = json.dumps(TAKE_OVER)
    await world.open(
        {"bouncer": {"policies": {"duplicates": {"grace": 12, "wait_for_life": 0}}}}
    )  # enough time to send all of it
    attributes = {"bouncer": text, "bouncer.guarding": "true", "lk.agent.state": text, "mode": "off"}
    first = await world.agent("A", attributes=attributes)
    second = await world.agent("B", attributes=attributes)
    human = await world.human("h", attributes={**attributes, "lk.agent_name": "bouncer", "lk.publish_on_behalf": "B"})
    for member in (first, second, human):
        await member.room.local_participant.set_metadata(text)
        await member.room.local_participant.set_name(text[:LONGEST])
        for topic in ("bouncer", "lk.transcription", "lk.chat"):
            await member.send_data(text, topic=topic)
            await member.room.local_participant.send_text(text, topic=topic)

    await second.out()

    await world.stays({"A", "h"}, seconds=1)
    await world.metadata({"bouncer": {"policies": {"duplicates": {"grace": 0}}}})
    third = await world.agent("C")
    await third.out()


async def test_a_flood_delays_no_eviction(world: World, bouncer: Worker) -> None:
    """Attributes set as fast as possible, megabytes of data, thousands of endless texts and pieces of bytes."""
    await world.open(
        {"bouncer": {"policies": {"duplicates": {"grace": 3, "wait_for_life": 0}, "idle_timeout": {"timeout": 300}}}}
    )
    before = memory(bouncer)
    await world.agent("A")
    noise = await world.agent("N", name="noise")
    sent = dict.fromkeys(("attributes", "data", "texts", "pieces"), 0)
    flood = asyncio.gather(*(act(noise, sent) for act in (change_attributes, send_data, begin_texts, send_bytes)))
    began = time.monotonic()
    try:
        await asyncio.sleep(2)
        second = await world.agent("B")
        assert second.room.local_participant.joined_at
        joined_at = second.room.local_participant.joined_at.timestamp()
        await second.out()
        await asyncio.sleep(max(0.0, began + 10 - time.monotonic()))
        seconds = time.monotonic() - began
        assert not flood.done()
    finally:
        flood.cancel()
        with suppress(asyncio.CancelledError):
            await flood

    await world.stays({"A", "N"}, seconds=2)
    grown = memory(bouncer) - before
    (evicted,) = [record for record in records(bouncer, world.room) if record["message"] == "evicted"]
    late = datetime.fromisoformat(evicted["timestamp"]).timestamp() - evicted["took"] - (joined_at + 3)
    each = ", ".join(f"{count / seconds:.0f} {what}" for what, count in sent.items())
    print(f"\na second: {each}; evicted {late:.2f} s late; the worker grew by {grown:.1f} MB from {before:.1f}")
    assert late < LATE
    assert grown < GROWTH


async def test_thousands_of_changes_a_second_delay_no_eviction(lobby: World, server: Server, tmp_path: Path) -> None:
    """Agents and humans in other processes change their attributes as fast as the server accepts it.

    The server neither limits nor merges changes: each is a message to everyone in the room. The limit is the machine: a
    change takes 0.2 to 0.3 ms of the server's CPU and 0.3 to 0.5 of the bouncer's, nearly all of it in LiveKit's SDK,
    and as much again for any other participant with an SDK, so there are only two. On two busy cores 1,300 to
    1,900 a second reached the bouncer, at most 2,600.
    """
    name, script = f"bouncer-{lobby.room}", Path(__file__).parent / "counting_bouncer.py"
    environment = {"BOUNCER_AGENT_NAME": name}
    async with worker(script, server, env=environment, log_file=tmp_path / "log") as running, AsyncExitStack() as stack:
        rules = json.dumps(
            {
                "bouncer": {
                    "policies": {"duplicates": {"grace": 3, "wait_for_life": 0}, "idle_timeout": {"timeout": 300}}
                }
            }
        )
        agents = [api.RoomAgentDispatch(agent_name=name)]
        room = api.CreateRoomRequest(name=lobby.room, metadata=rules, agents=agents, departure_timeout=300)
        await lobby.api.room.create_room(room)
        await lobby.until(lobby.guarding, "a bouncer guards the room")
        await lobby.agent("A")
        before = memory(running)
        floods = [await stack.enter_async_context(flood(lobby, str(i))) for i in range(2)]

        async def is_told(changes: int) -> bool:
            return told(running)[-1][1] >= changes

        await lobby.until(lambda: is_told(500), "the flood has reached the bouncer")
        second = await lobby.agent("B")
        joined_at = (await lobby.listed())["B"].joined_at_ms / 1000
        await second.out()
        taken = sum([int((await process.communicate())[0]) for process in floods])
        # The server drops many on the way to a bouncer that gets too little CPU, and even its connection.
        enough = min(taken // 2, ENOUGH)
        await lobby.until(lambda: is_told(enough), f"{enough} of {taken} changes have reached it")

        third = await lobby.agent("C")
        await third.out()
        await lobby.stays({"A"}, seconds=2)
        grown = memory(running) - before
        await running.line(lambda line: line.get("sid") == third.sid and line["message"] == "evicted")
        evicted = {r["sid"]: r["timestamp"] for r in records(running, lobby.room) if r["message"] == "evicted"}
        assert list(evicted) == [second.sid, third.sid]
        late = datetime.fromisoformat(evicted[second.sid]).timestamp() - (joined_at + 3)
        steps = [(after[0] - then, after[1] - changes) for (then, changes), after in pairwise(told(running))]
        busy = [(seconds, changes) for seconds, changes in steps if changes > 1]
        rates = [changes / seconds for seconds, changes in busy]
        mean = sum(changes for _, changes in busy) / sum(seconds for seconds, _ in busy)
        print(
            f"\ntold of {told(running)[-1][1]} of {taken} changes, {mean:.0f} a second, at most {max(rates):.0f};",
            end=" ",
        )
        print(f"evicted {late:.2f} s late; the worker grew by {grown:.1f} MB from {before:.1f}")
        assert late < LATE
        assert grown < GROWTH


def told(running: Worker) -> list[tuple[float, int]]:
    """Return how many attribute changes a counting bouncer has received, and when."""
    return [(line["at"], line["changes"]) for line in running.log if line["message"] == "told"]


@asynccontextmanager
async def flood(world: World, which: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Let a human and an agent change their attributes for ten seconds; the process prints how often they did."""
    human = world.token(f"human {which}")
    agent = world.token(f"agent {which}", kind="agent", grant=True, attributes={"lk.agent_name": f"noise {which}"})
    command = (sys.executable, "-m", "tests.e2e.flood", world.server.url, "10", human, agent)
    process = await asyncio.create_subprocess_exec(*command, cwd=AGENT.parent, stdout=asyncio.subprocess.PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def change_attributes(member: Member, sent: dict[str, int]) -> None:
    """Keep changing a state and some attributes; twenty at a time is as fast as a client gets."""

    async def change(key: str) -> None:
        for state in cycle(("speaking", "thinking", "listening", "x" * 1000)):
            with suppress(Exception):
                attributes = {"lk.agent.state": state, key: f"{sent['attributes']:0500}"}
                await member.room.local_participant.set_attributes(attributes)
                sent["attributes"] += 1

    await asyncio.gather(*(change(f"key {i}") for i in range(20)))


async def send_data(member: Member, sent: dict[str, int]) -> None:
    """Keep sending large packets."""
    while True:
        with suppress(Exception):
            await member.room.local_participant.publish_data(b"x" * 15_000, topic="bouncer", reliable=False)
            sent["data"] += 1
        await asyncio.sleep(0.01)


async def begin_texts(member: Member, sent: dict[str, int]) -> None:
    """Keep opening text streams, and never close one."""
    while True:
        with suppress(Exception):
            writer = await member.room.local_participant.stream_text(topic="lk.transcription")
            await writer.write("and" * 100)
            sent["texts"] += 1
        await asyncio.sleep(0.002)


async def send_bytes(member: Member, sent: dict[str, int]) -> None:
    """Keep sending pieces of one stream of bytes that never ends."""
    writer = await member.room.local_participant.stream_bytes("endless", topic="any")
    while True:
        with suppress(Exception):
            await writer.write(bytes(200))
            sent["pieces"] += 1
        await asyncio.sleep(0.002)


async def test_what_is_no_avatar(world: World) -> None:
    """`lk.publish_on_behalf` is a claim. It protects no agent that has a name, or whose principal isn't there."""
    await world.open(
        {
            "bouncer": {
                "policies": {"duplicates": {"grace": 1, "wait_for_life": 0}, "allow_list": {"agent_names": ["good"]}}
            }
        }
    )
    behalf = "lk.publish_on_behalf"
    await world.human("h")
    await world.agent("A", name="good")
    await world.agent("A's avatar", name="", state="", attributes={behalf: "A"})
    out = [
        await world.agent("named avatar", name="bad", attributes={behalf: "A"}),
        await world.agent("twin as avatar", name="good", attributes={behalf: "A"}),
        await world.agent("avatar of no one", name="", attributes={behalf: "no one"}),
        await world.agent("avatar of itself", name="", attributes={behalf: "avatar of itself"}),
    ]

    for member in out:
        await member.out()

    await world.stays({"h", "A", "A's avatar"}, seconds=2)


async def test_no_agent_becomes_an_avatar(lobby: World) -> None:
    """An agent first seen with a name, or without the claim, stays an agent whatever its attributes say later."""
    async with guarded_from_inside(lobby, {}, "guard") as (guard,):
        behalf = "lk.publish_on_behalf"
        await lobby.agent("A", name="good")
        named = await lobby.agent("was named", name="bad")
        nameless = await lobby.agent("was nameless", name="")
        await guard.sees("was named", "was nameless")
        await named.set_attributes({"lk.agent_name": "", behalf: "A"})
        await nameless.set_attributes({behalf: "A"})
        await lobby.agent("A's avatar", name="", state="", attributes={behalf: "A"})
        await guard.sees("A's avatar")

        await lobby.metadata({"bouncer": {"policies": {"allow_list": {"agent_names": ["good"]}}}})

        await named.out()
        await nameless.out()
        await lobby.stays({"A", "A's avatar"}, seconds=2)


async def test_an_agent_with_a_dispatch_is_no_avatar(lobby: World) -> None:
    """Its dispatch knows its name, whatever it claims."""
    rule = {"bouncer": {"policies": {"deny_list": {"agent_names": ["bad"]}}}}
    async with guarded_from_inside(lobby, rule, "guard") as (guard,):
        await lobby.agent("A", name="good")
        guard.calls.jobs = (Job(dispatch="AD_1", job="AJ_1", agent_name="bad", identity="agent-AJ_1"),)
        member = await lobby.agent("agent-AJ_1", name="", state="", attributes={"lk.publish_on_behalf": "A"})

        await member.out()

        await lobby.stays({"A"}, seconds=1)


async def test_an_orphan_is_evicted_only_where_that_is_the_rule(world: World) -> None:
    """An avatar is an orphan if its principal is not in the room. A person's avatar belongs to that person."""
    await world.open({"bouncer": {"policies": {"orphaned_avatar": {"grace": 1}}}})
    behalf = "lk.publish_on_behalf"
    await world.human("h")
    await world.agent("A")
    await world.agent("avatar of h", name="", state="", attributes={behalf: "h"})
    orphan = await world.agent("avatar of no one", name="", state="", attributes={behalf: "no one"})
    await world.agent("A's avatar", name="", state="", attributes={behalf: "A"})

    await orphan.out()

    await world.stays({"h", "avatar of h", "A", "A's avatar"}, seconds=2)
    told = {m["identity"]: m["policy"] for m in world.messages if m["event"] == "evicted"}
    assert told == {"avatar of no one": "orphaned_avatar"}


async def test_a_forged_bouncer_is_not_obeyed(world: World) -> None:
    """It was there before, is hidden, has the name and claims the room, but only a dispatch makes a bouncer."""
    rules = {"duplicates": {"grace": 1, "wait_for_life": 0}, "deny_list": {"agent_names": ["bouncer"]}}
    await world.create({"bouncer": {"policies": rules}})
    forged = {"bouncer.guarding": "true"}
    one = await world.agent("agent-AJ_forged", name="bouncer", attributes=forged, hidden=True)
    other = await world.agent("agent-AJ_twin", name="bouncer", attributes=forged)
    await world.api.agent_dispatch.create_dispatch(
        api.CreateAgentDispatchRequest(agent_name="bouncer", room=world.room)
    )
    await world.agent("A")
    second = await world.agent("B")

    await second.out()
    await one.out()
    await other.out()

    await world.stays({"A"}, seconds=1)


POLICIES = """
import asyncio
from dataclasses import dataclass
from itertools import count
from typing import ClassVar

from bouncer import Verdict

evaluations = count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Raises:
    "Raises."

    name: ClassVar[str] = "raises"

    what: str = "RuntimeError"
    "What."

    def evaluate(self, room):
        for agent in room.agents:
            yield Verdict(agent, agent.joined_at, "is here")
        if room.agents:
            raise {"asyncio": asyncio.CancelledError, "exit": SystemExit, "odd": Odd, "runtime": RuntimeError}[
                self.what
            ](f"evaluation {next(evaluations)} of {room}")


class Odd(Exception):
    def __str__(self):
        raise self
"""


async def test_policies_that_fail(lobby: World, server: Server, tmp_path: Path) -> None:
    """Whatever they raise is one fault in the log. Other rules and other rooms are unaffected."""
    install(tmp_path / "site", "acme-raises", {"raises": "acme_raises:Raises"}, {"acme_raises": POLICIES})
    name, whats = f"bouncer-{lobby.room}", ("asyncio", "exit", "odd", "runtime")
    installed, recordings = {"PYTHONPATH": str(tmp_path / "site")}, tmp_path / "recordings"
    environment = {"BOUNCER_AGENT_NAME": name, "BOUNCER_RECORD": str(recordings), **installed}
    async with worker(AGENT, server, env=environment, log_file=tmp_path / "log") as running, AsyncExitStack() as stack:
        rooms = [lobby, *[await stack.enter_async_context(World(server, lobby.api)) for _ in whats]]
        rules = [{}, *({"raises": {"what": what}} for what in whats)]
        for room, rule in zip(rooms, rules, strict=True):
            await room.open(
                {"bouncer": {"policies": {"duplicates": {"grace": 1, "wait_for_life": 0}, **rule}}}, agent_name=name
            )
            await room.agent("A")
        for identity in ("B", "C"):
            for twin in [await room.agent(identity) for room in rooms]:
                await twin.out()
        for room in rooms:
            await room.stays({"A"}, seconds=0.5)

        assert [count_faults(running, room) for room in rooms] == [0, 1, 1, 1, 1]
        for room in rooms:
            await room.close()
        await lobby.until(lambda: is_idle(running), "all jobs have ended")

    answer = await replayed(recordings, installed)
    assert answer["by_policy"]["duplicates"]["unchanged"] == 2 * len(rooms)


async def is_idle(running: Worker) -> bool:
    """Return True if a worker has no job left."""
    url = f"http://127.0.0.1:{running.http_port}/worker"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        told: dict[str, Any] = await answer.json()
        return not told.get("active_jobs")


def count_faults(running: Worker, room: World) -> int:
    """Return the number of faults logged for a room. Each must have a readable text."""
    faults = [record for record in records(running, room.room) if record["message"] == "policy fault"]
    assert all(record["policy"] == "raises" and 0 < len(record["error"]) < 2000 for record in faults)
    return len(faults)


async def test_only_an_agent_can_speak_for_another(world: World) -> None:
    """LiveKit lets agents send texts, such as transcriptions, in others' names; it corrects people's."""
    await world.open({"bouncer": {"policies": {"idle_timeout": {"timeout": 4}}}})
    idle = await world.agent("A")
    human = await world.human("h")
    began = time.monotonic()

    async def forge() -> bool:
        writer = await human.room.local_participant.stream_text(topic="lk.transcription", sender_identity="A")
        await writer.write("I am busy")
        await writer.aclose()
        return idle.reason is not None

    await world.until(forge, "it is evicted all the same")
    print(f"\nevicted {time.monotonic() - began:.1f} s after a human began to speak for it")
