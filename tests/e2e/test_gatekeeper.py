"""The gatekeeper on a real server of its own: every room is guarded, and nothing is left behind."""

import asyncio
import io
import json
import re
import secrets
import statistics
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from livekit import api

from devserver import Line, Server, cluster, free_port, gatekeeper, own_server, worker
from tests.clients import Join, in_a_browser, in_node
from tests.e2e.conftest import AGENT, HERE
from tests.e2e.line import line_to
from tests.e2e.world import Member, World
from tests.signing import signed

ASSISTANT = HERE / "framework_agent.py"
ROOMS = 30
KINDS = ("joined", "created", "configured", "with a bouncer of its own")
"""How rooms are opened; all of them are to be guarded."""
LASTING, SOON = 150, 5
"""Seconds that two bouncers may last, of about 60, and seconds after which a second one would have come."""
WRONG = "a secret of thirty-two characters"


@dataclass(frozen=True, slots=True)
class Gated:
    """A server, and where it sends its webhooks."""

    server: Server
    client: api.LiveKitAPI
    port: int


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gated() -> AsyncIterator[Gated]:
    """A server with webhooks; nothing listens to them yet."""
    port = free_port()
    async with (
        own_server(say=print, webhook=f"http://127.0.0.1:{port}/livekit") as server,
        api.LiveKitAPI(server.url, server.api_key, server.api_secret) as client,
    ):
        yield Gated(server, client, port)


async def listed(gated: Gated, room: str) -> list[api.ParticipantInfo]:
    """Return who is in a room; no one if it isn't open, or no node answers for it."""
    try:
        found = await gated.client.room.list_participants(api.ListParticipantsRequest(room=room))
    except (api.TwirpError, aiohttp.ClientError):
        return []
    return list(found.participants)


async def guards(gated: Gated, room: str) -> list[api.ParticipantInfo]:
    """Return the bouncers that say that they guard a room."""
    return [p for p in await listed(gated, room) if p.attributes.get("bouncer.guarding")]


async def all_guarded(gated: Gated, rooms: list[str]) -> bool:
    """Return True if each room has exactly one bouncer."""
    return all([len(await guards(gated, room)) == 1 for room in rooms])


async def settled(gated: Gated, rooms: list[str]) -> bool:
    """Return True if each room has its person, one bouncer, which guards it, and at most one dispatch of a bouncer."""
    for room in rooms:
        here = await listed(gated, room)
        bouncers = [p for p in here if p.attributes.get("lk.agent_name") == "bouncer"]
        guarded = [bool(p.attributes.get("bouncer.guarding")) for p in bouncers] == [True]
        if not guarded or "h" not in {p.identity for p in here} or await dispatches(gated, room) > 1:
            return False
    return True


async def dispatches(gated: Gated, room: str) -> int:
    """Return how many dispatches of a bouncer a room has; the server makes one of its own, without a name.

    One whose bouncer is gone, say as it could not connect on a busy machine, stays listed and doesn't count.
    """
    try:
        found = await gated.client.agent_dispatch.list_dispatch(room)
    except (api.TwirpError, aiohttp.ClientError):
        return 0
    here = {participant.identity for participant in await listed(gated, room)}
    jobs = [
        [job.state.participant_identity for job in each.state.jobs] for each in found if each.agent_name == "bouncer"
    ]
    return sum(not identities or not here.isdisjoint(identities) for identities in jobs)


@asynccontextmanager
async def in_python(server: Server) -> AsyncIterator[Join]:
    """Give a client with the SDK that the other tests use."""
    members: list[Member] = []

    async def join(token: str) -> None:
        members.append(Member(server.url, "h", token))
        await members[-1].join()

    yield join
    await asyncio.gather(*(member.leave() for member in members))


async def opened(gated: Gated, kind: str, room: str) -> str:
    """Have a room of this kind ready to be opened; return the token of the person who joins it."""
    token = api.AccessToken(gated.server.api_key, gated.server.api_secret).with_identity("h")
    token = token.with_grants(api.VideoGrants(room_join=True, room=room))
    if kind == "created":
        await gated.client.room.create_room(api.CreateRoomRequest(name=room))
    elif kind == "configured":
        metadata = json.dumps({"bouncer": {"announce": False}})
        await gated.client.room.create_room(api.CreateRoomRequest(name=room, metadata=metadata))
    elif kind == "with a bouncer of its own":
        dispatch = api.RoomAgentDispatch(agent_name="bouncer")
        token = token.with_room_config(api.RoomConfiguration(agents=[dispatch]))
    return token.to_jwt()


async def close(gated: Gated, room: str) -> None:
    """Close a room, unless it is closed already."""
    with suppress(api.TwirpError):
        await gated.client.room.delete_room(api.DeleteRoomRequest(room=room))


async def waits(gated: Gated, rooms: list[str]) -> list[float]:
    """Return for each room how many seconds after it opened its bouncer joined, by the server's clock."""
    found = await gated.client.room.list_rooms(api.ListRoomsRequest(names=rooms))
    opened_ms = {room.name: room.creation_time_ms for room in found.rooms}
    return [((await guards(gated, room))[0].joined_at_ms - opened_ms[room]) / 1000 for room in rooms]


@pytest.mark.timeout(600)  # its limits, one after the other
async def test_every_room_is_guarded(gated: Gated, tmp_path: Path) -> None:
    """Thirty of four kinds, opened by three SDKs. One that is off or excepted gets no bouncer, and none gets two."""
    prefix = f"every-{secrets.token_hex(4)}"
    async with (
        worker(AGENT, gated.server, log_file=tmp_path / "worker"),
        gatekeeper(gated.server, args=("--except", "*-private"), port=gated.port, log_file=tmp_path / "gate") as gate,
        in_node(gated.server, tmp_path / "node") as node,
        in_a_browser(gated.server) as browser,
        in_python(gated.server) as python,
        World(gated.server, gated.client) as off,
        World(gated.server, gated.client) as private,
    ):
        await off.create({"bouncer": {"mode": "off"}})
        private.room = f"{prefix}-private"
        await private.human("h")
        names: list[str] = []

        async def open_all(sdk: str, join: Join) -> None:
            """Open rooms one after the other: Python's SDK ends the process if a busy loop lets a connection wait."""
            for number in range(ROOMS // 3):
                name = f"{prefix}-{sdk}-{number}"
                await join(await opened(gated, KINDS[number % len(KINDS)], name))
                names.append(name)

        await asyncio.gather(open_all("node", node), open_all("browser", browser), open_all("python", python))

        await off.until(lambda: settled(gated, names), "all rooms are guarded, each by one bouncer", within=LASTING)

        assert len(names) == ROOMS
        assert [await guards(gated, world.room) for world in (off, private)] == [[], []]
        assert [await dispatches(gated, name) for name in names] == [1] * ROOMS

        async def counted() -> bool:
            guarded = f'bouncer_gatekeeper_rooms{{standing="guarded"}} {ROOMS}.0'
            return guarded in await answer(gated, "/metrics")

        await off.until(counted, "the gatekeeper counts all of them", within=LASTING)
        after = await waits(gated, names)
        print(f"\na bouncer joined {statistics.median(after):.2f} s after its room opened", end="")
        print(f" at the median of {ROOMS}, {max(after):.2f} s at the most")

        gate.terminate()
        assert await gate.exited() == 0
        await asyncio.gather(*(close(gated, name) for name in names))  # so that the worker has nothing to hand over


async def test_rooms_that_end_at_once_leave_nothing_behind(gated: Gated, tmp_path: Path) -> None:
    """Whatever the gatekeeper was doing about them: no room opens again under their names."""
    async with (
        worker(AGENT, gated.server, log_file=tmp_path / "worker") as _,
        gatekeeper(gated.server, port=gated.port, log_file=tmp_path / "gate") as _,
        World(gated.server, gated.client) as last,
    ):
        names = [f"{last.room}-{number}" for number in range(20)]
        for number, name in enumerate(names):
            await gated.client.room.create_room(api.CreateRoomRequest(name=name))
            await asyncio.sleep(0.002 * number)
            await gated.client.room.delete_room(api.DeleteRoomRequest(room=name))
        await last.human("h")
        await last.until(lambda: all_guarded(gated, [last.room]), "a later room is guarded")

        async def nothing() -> bool:
            """Return True if no bouncer is left in what may have opened again."""
            found = await gated.client.room.list_rooms(api.ListRoomsRequest(names=names))
            return not any([await guards(gated, room.name) for room in found.rooms])

        await last.until(nothing, "nothing is left")
        known = json.loads(await answer(gated, "/readyz"))
        assert known["ready"]


async def test_a_bouncer_comes_when_it_is_needed_and_leaves_when_it_is_not(gated: Gated, tmp_path: Path) -> None:
    """A person and an agent need none. It comes for a second agent, evicts it, knows what went before, and leaves."""
    file = tmp_path / "config.json"
    file.write_text('{"bouncer": {"leave_after": 3}}')
    flags = ("--join", "when-needed", "--config", str(file))
    async with (
        worker(AGENT, gated.server, log_file=tmp_path / "worker") as _,
        gatekeeper(gated.server, args=flags, port=gated.port, log_file=tmp_path / "gate") as gate,
        World(gated.server, gated.client) as world,
    ):

        async def dispatched() -> bool:
            """Return True if there is a dispatch for a bouncer; the server makes one of its own, without a name."""
            dispatches = await gated.client.agent_dispatch.list_dispatch(world.room)
            return any(dispatch.agent_name == "bouncer" for dispatch in dispatches)

        await world.human("ana")
        await world.agent("A", audio=True)
        await asyncio.sleep(3)
        assert not await dispatched()
        began = asyncio.get_running_loop().time()
        second = await world.agent("B")
        await world.gone(second)
        print(f"\nevicted {asyncio.get_running_loop().time() - began:.2f} s after it joined, grace 2 s")

        async def left() -> bool:
            return not await dispatched() and await world.present() == {"ana", "A"}

        await world.until(left, "the bouncer has left")
        assert len([line for line in gate.log if says("room guarded", world.room, line)]) == 1
        assert not any(line["message"] == "bouncer lost" for line in gate.log)


async def test_a_bouncer_that_comes_for_a_replacement_keeps_it(gated: Gated, tmp_path: Path) -> None:
    """The agent that it replaces was killed before the bouncer came, and is still listed: nothing of it arrives."""
    async with (
        worker(AGENT, gated.server, log_file=tmp_path / "worker") as _,
        gatekeeper(gated.server, args=("--join", "when-needed"), port=gated.port, log_file=tmp_path / "gate") as gate,
        World(gated.server, gated.client) as world,
    ):
        env = {"AGENT_NAME": f"assistant-{world.room}"}
        await world.human("ana")
        async with worker(ASSISTANT, gated.server, env=env, log_file=tmp_path / "doomed") as doomed:
            corpse = await world.dispatch(env["AGENT_NAME"], behaviour="busy")
            doomed.kill()
            await doomed.exited()
        await asyncio.sleep(2)  # one that joins within a second of the other's last sign of life is no replacement
        async with worker(ASSISTANT, gated.server, env=env, log_file=tmp_path / "assistant"):
            replacement = await world.dispatch(env["AGENT_NAME"], behaviour="busy")
            assert corpse.identity in await world.present()
            await gate.line(lambda line: says("room guarded", world.room, line))

            await world.gone(corpse, within=40)

            await world.stays({"ana", replacement.identity}, seconds=5)


async def test_workers_and_gatekeepers_that_are_killed_and_come_back(gated: Gated, tmp_path: Path) -> None:
    """A room's bouncer dies with the only worker; a room opens while there is no gatekeeper. Both are guarded again."""
    async with AsyncExitStack() as stack, World(gated.server, gated.client) as first:
        dying = await stack.enter_async_context(worker(AGENT, gated.server, log_file=tmp_path / "worker"))
        gate = await stack.enter_async_context(gatekeeper(gated.server, port=gated.port, log_file=tmp_path / "gate"))
        await first.human("h")
        await first.until(lambda: all_guarded(gated, [first.room]), "the room is guarded")
        (corpse,) = await guards(gated, first.room)

        dying.kill()
        gate.kill()
        await asyncio.gather(dying.exited(), gate.exited())
        second = await stack.enter_async_context(World(gated.server, gated.client))
        await second.human("h")
        await stack.enter_async_context(worker(AGENT, gated.server, log_file=tmp_path / "worker-2"))
        again = await stack.enter_async_context(gatekeeper(gated.server, port=gated.port, log_file=tmp_path / "gate-2"))

        await again.line(lambda line: line.get("lk.pii.room_name") == second.room and line["message"] == "room guarded")
        await first.until(lambda: replaced(gated, first.room, corpse.sid), "another bouncer guards it", within=90)


async def replaced(gated: Gated, room: str, sid: str) -> bool:
    """Return True if one bouncer guards the room, and it isn't this one."""
    return [bouncer.sid != sid for bouncer in await guards(gated, room)] == [True]


@pytest.mark.timeout(600)  # its limits, one after the other
async def test_without_webhooks_two_gatekeepers_guard_every_room_once(tmp_path: Path) -> None:
    """From lists alone: rooms of all kinds, later, and with one bouncer for each in the end, although both dispatch.

    One that is off or excepted gets no bouncer here either.
    """
    flags = ("--except", "*-private")
    async with (
        own_server(say=print) as server,
        api.LiveKitAPI(server.url, server.api_key, server.api_secret) as client,
        worker(AGENT, server, log_file=tmp_path / "worker") as _,
        gatekeeper(server, args=flags, port=free_port(), log_file=tmp_path / "gate-1") as one,
        gatekeeper(server, args=flags, port=free_port(), log_file=tmp_path / "gate-2") as two,
        in_python(server) as join,
        AsyncExitStack() as worlds,
    ):
        off, private, *here = [await worlds.enter_async_context(World(server, client)) for _ in range(2 + len(KINDS))]
        lists, names = Gated(server, client, 0), [world.room for world in here]
        private.room += "-private"
        await off.create({"bouncer": {"mode": "off"}})
        await private.human("h")
        for kind, name in zip(KINDS, names, strict=True):
            await join(await opened(lists, kind, name))

        async def some_guarded() -> bool:
            return all([await guards(lists, name) for name in names])

        await off.until(some_guarded, "all rooms are guarded", within=90)
        after = await waits(lists, names)
        print(f"\nwithout webhooks, a bouncer joined {max(after):.2f} s after its room opened at the latest")
        await off.until(lambda: all_guarded(lists, names), "each by one bouncer", within=150)
        assert [await guards(lists, world.room) for world in (off, private)] == [[], []]
        assert not any(line["message"] == "fault in the gatekeeper" for gate in (one, two) for line in gate.log)


def says(message: str, room: str, line: Line) -> bool:
    """Return True if a line of a log says this about a room."""
    return line["message"] == message and line.get("lk.pii.room_name") == room


@pytest.mark.timeout(600)  # its limits, one after the other
async def test_a_server_that_is_restarted(tmp_path: Path) -> None:
    """It has forgotten everything. Rooms that people reopen have one bouncer again, and so has a room opened since.

    Bouncers come back by themselves, before the people or after them: none is taken for one that opened a ghost, and
    where one was dispatched meanwhile, it is the one to stay.
    """
    port = free_port()
    webhook = f"http://127.0.0.1:{port}/livekit"
    async with AsyncExitStack() as stack, AsyncExitStack() as first:
        server = await first.enter_async_context(own_server(say=print, webhook=webhook))
        client = await stack.enter_async_context(api.LiveKitAPI(server.url, server.api_key, server.api_secret))
        gated = Gated(server, client, port)
        running = await stack.enter_async_context(worker(AGENT, server, log_file=tmp_path / "worker"))
        gate = await stack.enter_async_context(gatekeeper(server, port=port, log_file=tmp_path / "gate"))
        *reopened, later = here = [World(server, client) for _ in range(4)]
        for world in reopened:
            await world.human("h")
        names = [world.room for world in here]
        await later.until(lambda: settled(gated, names[:-1]), "all rooms are guarded")
        for name in names[:-1]:  # and the gatekeeper knows it
            await gate.line(partial(says, "room guarded", name))
        served = len(running.log)

        await first.aclose()
        await stack.enter_async_context(own_server(say=print, again=server, webhook=webhook))
        for world in here:  # only now, so that everyone leaves before this server ends
            await stack.enter_async_context(world)
        await running.line(lambda line: line["message"] == "registered worker", after=served)
        await later.human("h")

        await later.until(lambda: settled(gated, names), "all rooms are guarded again", within=LASTING)
        await asyncio.sleep(SOON)
        await later.until(lambda: settled(gated, names), "and stay so", within=LASTING)
        assert not any(line["message"] == "ghost room left" for line in gate.log)


@pytest.mark.timeout(600)  # its limits, one after the other
async def test_what_a_restarted_server_forgets_is_passed_on(tmp_path: Path) -> None:
    """No bouncer comes back, and the room has no metadata any more. The one that is sent knows them all the same."""
    port = free_port()
    webhook = f"http://127.0.0.1:{port}/livekit"
    async with AsyncExitStack() as stack, AsyncExitStack() as first:
        server = await first.enter_async_context(own_server(say=print, webhook=webhook))
        client = await stack.enter_async_context(api.LiveKitAPI(server.url, server.api_key, server.api_secret))
        gated, world = Gated(server, client, port), World(server, client)
        old = await stack.enter_async_context(worker(AGENT, server, log_file=tmp_path / "worker"))
        gate = await stack.enter_async_context(gatekeeper(server, port=port, log_file=tmp_path / "gate"))
        metadata = json.dumps({"bouncer": {"mode": "dry_run"}})
        await client.room.create_room(api.CreateRoomRequest(name=world.room, metadata=metadata))
        await world.human("h")
        await world.until(lambda: settled(gated, [world.room]), "the room is guarded")
        await gate.line(partial(says, "room guarded", world.room))
        old.kill()
        await old.exited()

        await first.aclose()
        await stack.enter_async_context(own_server(say=print, again=server, webhook=webhook))
        await stack.enter_async_context(world)  # only now, so that everyone leaves before this server ends
        new = await stack.enter_async_context(worker(AGENT, server, log_file=tmp_path / "worker-2"))
        await world.until(lambda: settled(gated, [world.room]), "the room is guarded again", within=LASTING)
        (room,) = (await client.room.list_rooms(api.ListRoomsRequest(names=[world.room]))).rooms
        assert not room.metadata
        for identity in ("A", "B"):
            await world.agent(identity)

        await new.line(partial(says, "would evict", world.room))
        await world.stays({"A", "B"}, seconds=SOON)


@pytest.mark.timeout(600)  # its limits, one after the other
async def test_two_nodes_on_one_redis(tmp_path: Path) -> None:
    """Rooms on either node are guarded. When one node is killed, each of its rooms has one bouncer on the other one."""
    port = free_port()
    async with AsyncExitStack() as stack:
        nodes = await stack.enter_async_context(cluster(say=print, webhook=f"http://127.0.0.1:{port}/livekit"))
        line = await stack.enter_async_context(line_to(*(node.server for node in nodes.nodes)))
        server = line.server
        client = await stack.enter_async_context(api.LiveKitAPI(server.url, server.api_key, server.api_secret))
        gated = Gated(server, client, port)
        await stack.enter_async_context(worker(AGENT, server, log_file=tmp_path / "worker"))
        await stack.enter_async_context(gatekeeper(server, port=port, log_file=tmp_path / "gate"))
        here: list[World] = []
        while len({nodes.node_of(world.room) for world in here}) < len(nodes.nodes):
            here.append(await stack.enter_async_context(World(server, client)))
            await here[-1].human("h")
        names = [world.room for world in here]
        await here[0].until(lambda: settled(gated, names), "rooms on both nodes are guarded")

        await nodes.nodes[0].kill()

        async def moved() -> bool:
            """Return True if the other node runs all rooms."""
            return len({nodes.node_of(name) for name in names}) == 1 and await settled(gated, names)

        await here[0].until(moved, "all rooms are guarded on the other node", within=LASTING)
        await asyncio.sleep(SOON)
        await here[0].until(moved, "and stay so", within=LASTING)


async def test_only_webhooks_of_this_server_count(gated: Gated, tmp_path: Path) -> None:
    """A wrong signature, another project's, a repeated one, 10 MB: none does anything, and the log says so once.

    Nothing is lost by it: a room that opens then is dispatched into.
    """
    server = gated.server
    body = json.dumps({"event": "room_started", "id": "EV_1", "room": {"sid": "RM_1", "name": "lobby"}})
    good = {"Authorization": signature(server, body)}
    other = {"Authorization": signature(replace(server, api_key="other"), body)}
    forged = {"Authorization": signature(replace(server, api_secret=WRONG), body)}
    async with (
        gatekeeper(server, port=gated.port, log_file=tmp_path / "gate") as gate,
        aiohttp.ClientSession() as session,
        World(server, gated.client) as world,
    ):
        url = f"http://127.0.0.1:{gated.port}/livekit"

        async def post(text: str, headers: dict[str, str]) -> int:
            async with session.post(url, data=io.BytesIO(text.encode()), headers=headers) as response:
                return response.status

        assert [await post(body, headers) for headers in ({}, forged, other, forged)] == [401] * 4
        assert await post(body.replace("lobby", "attic"), good) == 401
        assert await post("x" * 10_000_000, good) == 413
        assert [await post(body, good) for _ in range(2)] == [200, 200]

        metrics = await answer(gated, "/metrics")
        fates = {"refused": 5, "too_large": 1, "repeated": 1}
        assert all(f'webhooks_total{{fate="{fate}"}} {count}.0' in metrics for fate, count in fates.items())
        await gate.line(lambda line: "more than" in line.get("why", ""))
        refusals = Counter(line["why"] for line in gate.log if line["message"] == "webhook refused")
        # The server's webhooks of other rooms are good ones too, and after a good one it is said again.
        taken = re.findall(r'webhooks_total{fate="(?:taken|irrelevant|repeated)"} ([0-9]+)', metrics)
        others = sum(map(int, taken)) - 2
        assert 3 <= len(refusals) <= len(fates) + 2
        assert max(refusals.values()) <= 1 + others
        await gated.client.room.create_room(api.CreateRoomRequest(name=world.room))
        await gate.line(partial(says, "bouncer dispatched", world.room))
        assert not any(line.get("lk.pii.room_name") == "lobby" for line in gate.log)


def signature(server: Server, body: str) -> str:
    """Return the token with which LiveKit signs a webhook."""
    return signed(body.encode(), server.api_key, server.api_secret)


async def test_a_wrong_key_is_named_and_nothing_is_done(gated: Gated, tmp_path: Path) -> None:
    """It isn't ready, says which variable is wrong, and goes on trying."""
    wrong = replace(gated.server, api_secret=WRONG)
    async with gatekeeper(wrong, port=gated.port, log_file=tmp_path / "gate") as gate:
        line = await gate.line(lambda line: line["message"] == "livekit denies access")

        assert "LIVEKIT_API_SECRET" in line["error"]
        assert not json.loads(await answer(gated, "/readyz"))["ready"]
        assert await answer(gated, "/healthz") == "ok"


async def answer(gated: Gated, path: str) -> str:
    """Return what the gatekeeper answers."""
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{gated.port}{path}") as response:
        return await response.text()
