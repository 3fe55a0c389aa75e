"""The commands that change something, as a person uses them: `dispatch`, `release`, `evict`."""

import asyncio
import json
import re
import secrets
import sys
from functools import partial

from livekit import api

from devserver import Server, Worker, free_port
from tests.e2e.command import Ran, environment, jobs_known, normal, run
from tests.e2e.world import World

FOREIGN = '{"topic": 1.10, "big": 123456789012345678901234567890, "note": "✓ \\u001b"}'
"""Metadata of another application, which no parser would write back as they are."""
CONFIGURATION = '{"bouncer": {"exempt": {"identity": ["kept"]}, "policies": {"duplicates": null}}}'
WOULD = """\
Would evict agent agent-AJ_* (assistant): its dispatch AD_* would be deleted, \
and it would be removed if it had not left after SPAN"""
ROOMS = """\
ROOM  PEOPLE  AGENTS  GUARDED BY  NEXT
ROOM a\\u001b[31m😀  1  2  agent-AJ_* acting  B due in SPAN, duplicates; unknown: idle_timeout
ROOM b  0  0  none"""
ASKED = """\
ROOM  PEOPLE  AGENTS  GUARDED BY  NEXT  EVICTED
ROOM a\\u001b[31m😀  1  2  agent-AJ_* acting  B due in SPAN, duplicates  0
ROOM b  0  0  none  ?"""
LOOKING = """\
using LIVEKIT_URL, LIVEKIT_API_KEY, LIVEKIT_API_SECRET from the environment
3 of at most 2000 API calls, SPAN"""
DOCTOR = """\
ok  credentials  LIVEKIT_URL, LIVEKIT_API_KEY, LIVEKIT_API_SECRET from the environment
ok  configuration no BOUNCER_CONFIG here: the built-in defaults are in force
ok  clocks  agree within SPAN
ok  server  URL, LiveKit VERSION, MS
ok  key  may list, create, join and remove
ok  worker  “bouncer” took the job, and guarded the room after SPAN
ok  eviction  the younger of two agents was evicted after SPAN, and the older one stayed
ok  leaving  the bouncer left after SPAN
ok  scratch room  deleted again"""


def told(ran: Ran, room: str) -> tuple[int, str, str]:
    """Return how a command ended, with what it said."""
    shown = room.replace("\x1b", "\\u001b")
    out, err = (normal(re.sub(r"\d+\.\d+ s\b", "SPAN", text)).replace(shown, "ROOM") for text in (ran.out, ran.err))
    return ran.status, out, err


async def metadata_of(world: World) -> str:
    """Return the room's metadata."""
    return (await world.api.room.list_rooms(api.ListRoomsRequest(names=[world.room]))).rooms[0].metadata


async def test_dispatch_and_release(world: World) -> None:
    """A bouncer comes with its configuration, and both go again; what others have in the metadata stays as it is."""
    world.room = f"hall 😀\x1b[31m {secrets.token_hex(4)}"
    await world.create(FOREIGN)
    arguments = ["dispatch", world.room, "--quiet"]

    sent = await run(world.server, *arguments, "--config", CONFIGURATION, "--dry-run-mode")
    assert told(sent, world.room) == (
        0,
        "The configuration is in the metadata of ROOM.\nagent-AJ_* guards ROOM (dispatched, SPAN).",
        "",
    )
    written = await metadata_of(world)
    assert written.startswith(FOREIGN[:-1])
    assert json.loads(written)["bouncer"] == {**json.loads(CONFIGURATION)["bouncer"], "mode": "dry_run"}

    again = await run(world.server, *arguments, "--json", "--config", "-", text=CONFIGURATION)
    answer = json.loads(again.out)
    assert (again.status, again.err) == (0, "")
    assert answer.keys() == {
        *("v", "room", "room_sid", "guarded_by", "dispatched", "dispatch_id"),
        *("configured", "written_concurrently", "took"),
    }
    assert (answer["room"], answer["dispatched"], answer["configured"]) == (world.room, False, True)
    assert answer["guarded_by"] == [*await world.guarding()]
    assert json.loads(await metadata_of(world))["bouncer"] == json.loads(CONFIGURATION)["bouncer"]

    refused = await run(world.server, *arguments, "--config", '{"bouncer": {"mode": "on"}}')
    assert told(refused, "?")[:2] == (1, "")
    assert "--config: $.bouncer.mode: must be" in refused.err

    released = await run(world.server, "release", world.room, "--quiet")
    assert told(released, world.room) == (
        0,
        "agent-AJ_* no longer guards ROOM.\nThe metadata of ROOM no longer has a configuration for a bouncer.",
        "",
    )
    assert await metadata_of(world) == FOREIGN
    assert not await world.guarding()
    assert told(await run(world.server, "release", world.room, "--quiet"), world.room) == (
        0,
        "No bouncer was in ROOM.\nThe metadata of ROOM had no configuration for a bouncer.",
        "",
    )


async def test_metadata_of_others(world: World) -> None:
    """A write at the same time is seen, and ours is written again; metadata with no place for ours stay theirs."""
    await world.open('{"theirs": 1}')

    async def interfere() -> None:
        while "bouncer" not in await metadata_of(world):
            pass
        await world.metadata('{"theirs": 2}')

    other = asyncio.create_task(interfere())
    sent = await run(world.server, "dispatch", world.room, "--dry-run-mode", "--json", "--quiet")
    await other
    answer = json.loads(sent.out)
    assert (sent.status, answer["configured"], answer["written_concurrently"]) == (0, True, True)
    assert json.loads(await metadata_of(world)) == {"theirs": 2, "bouncer": {"mode": "dry_run"}}

    large = json.dumps({"theirs": "x" * (500 * 1024)})
    await world.metadata(large)
    assert (await run(world.server, "dispatch", world.room, "--dry-run-mode")).status == 0
    assert json.loads(await metadata_of(world)) == {**json.loads(large), "bouncer": {"mode": "dry_run"}}

    await world.metadata("a topic")
    refused = await run(world.server, "dispatch", world.room, "--dry-run-mode", "--quiet")
    assert (refused.status, refused.out) == (1, "")
    assert "another application's, and is left as it is: it is not JSON" in refused.err
    assert await metadata_of(world) == "a topic"


async def test_no_worker_comes(lobby: World) -> None:
    """It says so, and leaves no dispatch behind that a worker would take up much later."""
    await lobby.create()
    arguments = ["dispatch", lobby.room, "--agent-name", "no-such-worker", "--wait", "1", "--quiet"]

    refused = await run(lobby.server, *arguments)

    assert (refused.status, refused.out) == (1, "")
    assert "no worker has sent a bouncer" in refused.err
    dispatches = await lobby.api.agent_dispatch.list_dispatch(lobby.room)
    assert [each.id for each in dispatches if each.agent_name == "no-such-worker" and not each.state.deleted_at] == []


async def test_evict(world: World, assistants: Worker) -> None:
    """Agents leave, by the ladder of the engine; people, bouncers and those that are exempt stay."""
    assert assistants.returncode is None
    await world.open(CONFIGURATION)
    await world.human("ana")
    bot, kept = await world.agent("bot\x1b[31m"), await world.agent("kept")
    job = await world.dispatch("assistant")
    assert world.bouncer

    async def evict(identity: str, *arguments: str) -> tuple[int, str, str]:
        ran = await run(world.server, "evict", world.room, identity, "--quiet", *arguments)
        return told(ran, world.room)

    async def ends_dispatch() -> bool:
        return await evict(job.identity, "--dry-run") == (0, WOULD, "")

    await world.until(ends_dispatch, "the server lists the job, and is known to list none of the others")

    refused = {
        "ana": "“ana” is not evicted: it is a person, and people are never evicted",
        world.bouncer.identity: (
            "“agent-AJ_*” is not evicted: it is a bouncer; `bouncer release` takes it out of the room"
        ),
        "kept": "“kept” is not evicted: the configuration exempts it by its identity; `bouncer plan` shows it",
        "an": "no participant “an” is in “ROOM”; did you mean “ana”?",
    }
    answers = await asyncio.gather(*(evict(identity, "--yes") for identity in refused))
    assert answers == [(1, "", why) for why in refused.values()]
    assert (await evict(job.identity))[:2] == (2, ""), "no one is there to be asked"
    assert {job.identity, bot.identity} <= await world.present()

    assert await evict(job.identity, "--yes") == (
        0,
        "Agent agent-AJ_* (assistant) left once its dispatch was deleted, after SPAN",
        "",
    )
    status, out, _ = await evict(bot.identity, "--yes", "--json")
    answer = json.loads(out)
    (record,) = answer["evictions"]
    assert (status, answer["v"], record["identity"], record["outcome"]) == (0, 1, bot.identity, "removed")
    assert record["policy"] == "by_hand"
    assert await bot.out()
    assert {"ana", kept.identity, world.bouncer.identity} <= await world.present()
    assert not {job.identity, bot.identity} & await world.present()


async def test_what_is_wrong_is_told_in_a_line(server: Server) -> None:
    """A server that isn't there or doesn't answer, a wrong key, and a room that isn't open: a line, and status 1."""

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as mute:
        port = mute.sockets[0].getsockname()[1]
        runs = await asyncio.gather(
            run(server, "release", "no-such-room"),
            run(server, "release", "room", "--url", f"ws://127.0.0.1:{free_port()}"),
            run(server, "release", "room", "--url", f"ws://127.0.0.1:{port}"),
            run(server, "release", "room", "--api-key", "unknown"),
            run(server, "release", "room", "--api-secret", "wrong-" * 8),
            run(None, "release", "room", HOME="/nonexistent"),
        )

    assert [(ran.status, ran.out) for ran in runs] == [*[(1, "")] * 5, (2, "")]
    lines = [ran.err.splitlines()[-1] for ran in runs]
    assert all(len(ran.err.splitlines()) <= 2 for ran in runs)
    for line, words in zip(
        lines,
        (
            f"no room “no-such-room” is open at {server.url}; ",
            "LIVEKIT_URL: no LiveKit server answers at ws://127.0.0.1:",
            "(nothing within 3.5 s)",
            "LIVEKIT_API_KEY: the server at",
            "LIVEKIT_API_SECRET: isn't the secret of the key",
            "no LiveKit server is given: set LIVEKIT_URL",
        ),
        strict=True,
    ):
        assert words in line


async def test_rooms(world: World) -> None:
    """Each room with who is there, which bouncers guard it, and what is due next; some of them within a budget."""
    prefix = secrets.token_hex(4)
    guarded, empty = f"{prefix} a\x1b[31m😀", f"{prefix} b"
    world.room = guarded
    await world.open({"bouncer": {"policies": {"duplicates": {"grace": 6000}, "idle_timeout": {"timeout": 9000}}}})
    await world.human("ana")
    await world.agent("A")
    await world.agent("B")
    await world.api.room.create_room(api.CreateRoomRequest(name=empty))
    await world.until(partial(jobs_known, world.server, world.room), "it is known that they have no jobs")
    list_rooms = ["rooms", f"{prefix}*"]
    try:
        shown, asked, unguarded, some, bare = await asyncio.gather(
            run(world.server, *list_rooms),
            run(world.server, *list_rooms, "--ask", "--quiet"),
            run(world.server, *list_rooms, "--unguarded", "--json", "--quiet"),
            run(world.server, *list_rooms, "--calls", "2", "--json"),
            run(world.server, "rooms", f"{prefix}c", "--quiet"),
        )
    finally:
        await world.api.room.delete_room(api.DeleteRoomRequest(room=empty))

    assert told(shown, prefix) == (
        0,
        ROOMS,
        LOOKING,
    )
    assert told(asked, prefix) == (
        0,
        ASKED,
        "",
    )
    (alone,) = json.loads(unguarded.out)["rooms"]
    assert (alone["room"], alone["guarded"], alone["bouncers"], alone["next"]) == (empty, False, [], None)
    answer = json.loads(some.out)
    assert [each["looked_into"] for each in answer["rooms"]] == [True, False]
    assert answer["calls"] == {"made": 2, "at_most": 2}
    assert "not looked into: 1 of 2 rooms; --calls allows more calls" in some.err
    assert (bare.status, bare.out) == (0, "No room is open.\n")


async def scratch_rooms(world: World) -> list[str]:
    """Return the rooms that `doctor` has left."""
    found = await world.api.room.list_rooms(api.ListRoomsRequest())
    return [room.name for room in found.rooms if room.name.startswith("bouncer-doctor")]


async def test_doctor(world: World) -> None:
    """A line for each check, with what to do; the scratch room is gone again."""
    world.room = "doctor's neighbour\x1b[31m"
    await world.create('{"bouncer": {"mode": "on"}}')
    ran = await run(world.server, "doctor")
    shown = re.sub(r"LiveKit [\d.]+", "LiveKit VERSION", ran.out.replace(world.server.url, "URL"))
    status, out, _ = told(Ran(ran.status, re.sub(r"\d+ ms", "MS", shown), ran.err), world.room)

    assert (status, out[: len(DOCTOR)]) == (0, DOCTOR)
    assert "warning rooms  the configuration of ROOM is refused\n  → `bouncer plan ROOM` says what is wrong" in out
    assert re.search(r"^warning rooms  .* unguarded: .*ROOM", out, re.MULTILINE)
    assert out.endswith("skipped cost  not LiveKit Cloud: no agent minutes")
    assert not await scratch_rooms(world)


async def test_doctor_is_interrupted(world: World) -> None:
    """In the middle of it: nothing is left behind."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bouncer", "doctor"),
        env=environment(world.server, PYTHONUNBUFFERED="1"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout
    while b"key " not in (line := await process.stdout.readline()):
        assert line, "it has ended"
    process.terminate()
    out, err = await process.communicate()

    assert process.returncode == 143
    assert out.endswith(b"deleted again\n")
    assert b"Traceback" not in err
    assert not await scratch_rooms(world)


async def test_doctor_without_a_server(server: Server) -> None:
    """What is missing first is told, with what to do; as JSON, one object."""
    nowhere = f"ws://127.0.0.1:{free_port()}"
    runs = await asyncio.gather(
        run(None, "doctor", "--json", HOME="/nonexistent"),
        run(server, "doctor", "--json", "--url", nowhere),
        run(server, "doctor", "--json", BOUNCER_CONFIG="{}"),
    )
    answers = [json.loads(ran.out) for ran in runs]
    last = [answer["checks"][-1] for answer in answers]

    assert [(ran.status, answer["v"], answer["ok"]) for ran, answer in zip(runs, answers, strict=True)] == [
        (1, 1, False)
    ] * 3
    assert [each["check"] for each in last] == ["credentials", "server", "configuration"]
    assert all(each["status"] == "failed" and each["fix"] for each in last)
