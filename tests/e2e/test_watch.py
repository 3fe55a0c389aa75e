"""`bouncer watch` on a real server: in a terminal, and for scripts."""

import asyncio
import json
import os
import re
import signal
import sys
from typing import Any

import jsonschema

from bouncer.observers.records import schema
from tests.e2e.command import environment
from tests.e2e.terminal import terminal
from tests.e2e.world import World

SCREEN = """\
 test-*  1 person, 2 agents
 acting: agent-AJ_*, mode enforce
 WHO  ROLE  DOES  AHEAD
 assistant A  agent  listening, idle #  max_lifetime in #
 assistant B\\u001b[…  agent  thinking  duplicates in #
 ana  person
 agent-AJ_*  bouncer  guards the room
 observer  nobody
────────────────────────────────────────────────────────────────────────────────
 TIME the room has a bouncer
 TIME a configuration is in force, in the mode enforce
 TIME the bouncer is connected, and reads who is there
 TIME the bouncer acts
 q Quit  w Why is it here?"""

LIFETIME = {"max_lifetime": {"limit": 7200, "only": ["assistant"]}}


def normal(lines: list[str]) -> str:
    """Return a screen without what differs each time, without empty lines, and with two blanks for more of them."""
    text = "\n".join(line for line in lines if line)
    text = re.sub(r"test-\w+", "test-*", text)
    text = re.sub(r"agent-AJ_[\w…]+", "agent-AJ_*", text)
    text = re.sub(r"\d\d:\d\d:\d\d(?= )", "TIME", text)
    text = re.sub(r"(idle|in) (\d+ s|[\d:]+)", r"\1 #", text)
    return re.sub(r" {2,}", "  ", re.sub(r"[▁▂▃▄▅▆▇█▉▊▋▌▍▎▏]", "", text))


async def test_the_screen(world: World) -> None:
    """At 80 by 24: who is there, what is ahead, what is told. An eviction is seen, explained, and q ends it."""
    await world.open({"bouncer": {"policies": {"duplicates": {"grace": 6000, "wait_for_life": 0}, **LIFETIME}}})
    await world.human("ana")
    await world.agent("A")
    await world.agent("B\x1b[31m", state="thinking")
    async with terminal(world.server, "watch", world.room) as screen:
        lines = await screen.until("acting: ", "duplicates in ", "idle ", "observer")
        for _ in range(100):  # on a busy machine it may say for a moment how old it is
            if normal(lines) == SCREEN:
                break
            await asyncio.sleep(0.1)
            lines = await screen.screen()
        assert normal(lines) == SCREEN

        await screen.press("w")
        await screen.until("“A” in room", "It is not due yet", "esc Back", "Nothing against it under duplicates.")
        await screen.press("Escape")
        await screen.resize(40, 20)
        narrow = await screen.until("WHO", "WHAT", "duplicates in ")
        assert max(map(len, narrow)) <= 40

        await world.metadata({"bouncer": {"policies": {"duplicates": {"grace": 0, "wait_for_life": 0}}}})
        await screen.resize(80, 24)
        await screen.until("1 person, 1 agent", "B\\u001b[31m was evicted under duplicates")
        await world.metadata({"bouncer": {"mode": "on"}})
        await screen.until("refused: $.bouncer.mode: must be")
        await screen.press("q")
        await screen.until("status 0")


async def test_a_room_that_ends_while_it_is_watched(lobby: World) -> None:
    """Without a bouncer it is seen from outside, and the end is said once the screen is gone."""
    await lobby.create()
    await lobby.agent("A")
    async with terminal(lobby.server, "watch", lobby.room) as screen:
        await screen.until("no bouncer guards the room; seen from outside", "assistant A")
        await lobby.close()
        await screen.until(f"the room “{lobby.room}” has closed", "status 0")


async def test_records_for_scripts(world: World) -> None:
    """A line for each thing that the bouncer tells, valid by its schema; then Ctrl-C."""
    await world.open({"bouncer": {"policies": {"max_agents": {"max": 1, "grace": 0, "wait_for_life": 0}}}})
    await world.agent("A")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bouncer", "watch", world.room, "--json", "--quiet"),
        env=environment(world.server),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout
    try:
        records: list[dict[str, Any]] = []
        async with asyncio.timeout(60):
            while not records or records[-1]["event"] != "evicted":
                records.append(json.loads(await process.stdout.readline()))
                if records[-1].get("standing") == "acting":
                    await world.agent("B")
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(20):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    for record in records:
        jsonschema.validate(record, schema())
    assert [record["event"] for record in records][:3] == ["guarding", "configured", "standing"]
    assert (records[-1]["identity"], records[-1]["room"]) == ("B", world.room)
    assert (process.returncode, out, err) == (0, b"", b"")


async def test_no_one_reads_the_records_any_more(world: World) -> None:
    """As under `| head`: the command ends at the next line without a word, and leaves the room."""
    await world.open({"bouncer": {"policies": {"max_agents": {"max": 1, "grace": 0, "wait_for_life": 0}}}})
    reader, writer = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bouncer", "watch", world.room, "--json", "--quiet"),
        env=environment(world.server),
        stdout=writer,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(writer)
    try:
        with os.fdopen(reader, "rb") as lines:
            assert json.loads(await asyncio.to_thread(lines.readline))["event"] == "guarding"
        await world.agent("A")
        await world.agent("B")
        async with asyncio.timeout(30):
            _, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert (process.returncode, err) == (1, b"")
