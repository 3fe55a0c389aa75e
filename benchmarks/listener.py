"""A listener in a process of its own, like a worker's: what it hears, and what that costs.

The process writes a line of JSON for each event, and its cost so far for each line that it reads. It ends at the end of
its input.
"""

import asyncio
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args
from unittest import mock

import psutil  # type: ignore[import-untyped]  # the framework brings it, without its types
from livekit import api, rtc
from livekit.agents import inference
from livekit.rtc._ffi_client import FfiClient

from bouncer.adapter import speech
from bouncer.adapter.ears import Ears
from bouncer.configuration.model import Config
from bouncer.events import Event, Heard
from bouncer.observers import Configured
from devserver import Server

Detection = Literal["off", "level", "speech", "speech, native"]
DETECTIONS: tuple[Detection, ...] = get_args(Detection)
"""All modes, plus speech detection with the detector that comes with livekit-agents."""

TICK = 0.05
LIMIT = 30.0
"""Seconds to wait for something that takes a moment, on a busy machine."""


@dataclass(frozen=True, slots=True)
class Told:
    """An event about a participant. Its instants are on the monotonic clock, which all processes share."""

    listener: int
    """Which listener of the process it comes from."""
    identity: str
    speaking: bool | None
    at: float
    """When it became true."""
    told_at: float


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of the process."""

    at: float
    cpu: float
    """CPU seconds of all threads so far."""
    memory: float
    """Megabytes held now."""
    late: float
    """The worst delay of an event loop, in seconds, since the last question."""


class Listener:
    """A listening process, seen from outside."""

    def __init__(self, reads: asyncio.StreamWriter, writes: asyncio.StreamReader) -> None:
        self.told: list[Told] = []
        self._reads, self._writes = reads, writes
        self._costs: asyncio.Queue[Cost] = asyncio.Queue()
        self._more = asyncio.Event()

    async def cost(self) -> Cost:
        """Return its cost so far."""
        self._reads.write(b"\n")
        async with asyncio.timeout(LIMIT):
            return await self._costs.get()

    async def knows(self, *identities: str) -> None:
        """Wait until it is known for each of these whether they speak."""
        async with asyncio.timeout(LIMIT):
            while not {*identities} <= {told.identity for told in self.told if told.speaking is not None}:
                self._more.clear()
                await self._more.wait()

    def speaking(self) -> int:
        """Return how many participants it hears speaking now."""
        return [*{(told.listener, told.identity): told.speaking for told in self.told}.values()].count(True)

    async def follow(self) -> None:
        """Read its output until it ends."""
        async for line in self._writes:
            facts = json.loads(line)
            if "cpu" in facts:
                self._costs.put_nowait(Cost(**facts))
            else:
                self.told.append(Told(**facts))
                self._more.set()


@asynccontextmanager
async def listener(server: Server, room: str, hearing: Detection, *, times: int = 1) -> AsyncIterator[Listener]:
    """Run a process that joins the room hidden, as a bouncer does, and listens until the context ends.

    If it joins several times, each time is like a room of a worker, with a thread of its own.
    """
    tokens = [token(server, room, f"listener {hearing} {i}") for i in range(times)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.listener", server.url, hearing, *tokens,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    if process.stdin is None or process.stdout is None:
        raise OSError("the listener has no pipes")
    listening = Listener(process.stdin, process.stdout)
    following = asyncio.create_task(listening.follow())
    try:
        await listening.cost()
        yield listening
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(LIMIT):
                await process.wait()
        finally:
            with suppress(ProcessLookupError):
                process.kill()
        await following


def token(server: Server, room: str, identity: str) -> str:
    """Return a token for this room; listeners are hidden, as a bouncer is."""
    grants = api.VideoGrants(room_join=True, room=room, hidden=identity.startswith("listener") or None)
    return api.AccessToken(server.api_key, server.api_secret).with_identity(identity).with_grants(grants).to_jwt()


async def listen(number: int, url: str, token: str, hearing: Any, late: list[float]) -> None:
    """Listen without end, and note the worst delay."""
    room = rtc.Room()
    identities: dict[str, str] = {}

    def tell(event: Event) -> None:
        if isinstance(event, Heard):
            identities.update({p.sid: p.identity for p in room.remote_participants.values()})
            who, told_at = identities[event.sid], time.monotonic()
            say(listener=number, identity=who, speaking=event.speaking, at=event.at, told_at=told_at)

    await room.connect(url, token, rtc.RoomOptions(auto_subscribe=False))
    ears = Ears(room, threading.Semaphore(sys.maxsize), threading.Semaphore(sys.maxsize))
    ears.notify(Configured(Config(hearing=hearing)))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ears.run(tell))
        while True:
            due = time.monotonic() + TICK
            await asyncio.sleep(TICK)
            late[0] = max(late[0], time.monotonic() - due)


def main(url: str, hearing: str, *tokens: str) -> None:
    """Run the listening process."""
    # The SDK drops a received track's handle twice when its publisher leaves, and warns about it.
    logging.getLogger("livekit").addFilter(lambda record: "unknown FFI handle" not in record.getMessage())
    hearing, _, native = hearing.partition(", ")
    if native:
        load = partial(inference.VAD, min_silence_duration=0.55, max_buffered_speech=0.0, prefix_padding_duration=0.0)
        mock.patch.object(speech, "load_vad", load).start()
    _ = FfiClient.instance
    late = [0.0]
    for number, token in enumerate(tokens):
        listening = listen(number, url, token, hearing, late)
        threading.Thread(target=asyncio.run, args=(listening,), daemon=True).start()
    while sys.stdin.readline():
        worst, late[0] = late[0], 0.0
        taken, memory = time.process_time(), psutil.Process().memory_info().rss / 1e6
        say(at=time.monotonic(), cpu=taken, memory=memory, late=worst)
    # Killed, since a call from the native library while Python exits aborts the process once in 50 times.
    os.kill(os.getpid(), signal.SIGKILL)


def say(**facts: object) -> None:
    """Write a line of JSON."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
