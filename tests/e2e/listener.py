"""A hidden participant with ears, and what they hear."""

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Literal

import pytest
from livekit import rtc

from bouncer.adapter.ears import Ears
from bouncer.configuration.model import Config
from bouncer.events import Event, Heard
from bouncer.observers import Configured
from tests.e2e.world import Member, World
from tests.microphone import Microphone
from tests.sounds import RATE, Sound, at, tone

QUIET, FAINT, LOUD = (at(tone(1, 500), db) for db in (-60, -38, -20))

Word = Literal["speaking", "silent", "unknown"]
WORDS: dict[bool | None, Word] = {True: "speaking", False: "silent", None: "unknown"}


class Listener:
    """A hidden participant with ears, and what they hear."""

    def __init__(self, world: World, room: rtc.Room, stack: AsyncExitStack) -> None:
        self.world = world
        self.room = room
        self.ears = Ears(room, threading.Semaphore(1000), threading.Semaphore(1000))
        self.told: list[Heard] = []
        self._noted: Counter[str] = Counter()
        self._in_future = False
        self._stack = stack

    def hear(self, hearing: Literal["off", "level", "speech"]) -> None:
        """Change the hearing mode."""
        self.ears.notify(Configured(Config(hearing=hearing)))

    def tell(self, event: Event) -> None:
        """Receive an event."""
        assert isinstance(event, Heard)
        self.told.append(event)
        self._in_future |= event.at > asyncio.get_running_loop().time()

    def words(self, who: str | Member) -> list[Word]:
        """Return what was heard from a participant so far."""
        sid = who if isinstance(who, str) else who.sid
        return [WORDS[heard.speaking] for heard in self.told if heard.sid == sid]

    def check(self) -> None:
        """Check that the dates make sense."""
        assert not self._in_future
        for sid in {heard.sid for heard in self.told}:
            dates = [heard.at for heard in self.told if heard.sid == sid]
            assert dates == sorted(dates)

    async def microphone(
        self,
        who: Member | rtc.Room,
        sound: Sound = QUIET,
        *,
        muted: bool = False,
        queue: int = 50,
        rate: int = RATE,
        channels: int = 1,
        source: rtc.TrackSource.ValueType = rtc.TrackSource.SOURCE_MICROPHONE,
    ) -> Microphone:
        """Give a participant a microphone. Without a queue, its track sends nothing while it captures nothing."""
        room = who.room if isinstance(who, Member) else who
        microphone = Microphone(room, rate=rate, channels=channels, queue=queue)
        self._stack.push_async_callback(microphone.close)
        microphone.sends(sound)
        if muted:
            microphone.mute()
        await microphone.publish(source)
        return microphone

    async def hears(self, who: str | Member, *expected: Word) -> None:
        """Wait for further words about a participant: exactly these, in this order."""
        sid = who if isinstance(who, str) else who.sid
        noted = self._noted[sid]
        self._noted[sid] += len(expected)
        await self.sees(lambda: len(self.words(sid)) >= self._noted[sid], f"{expected} after {self.words(sid)}")
        assert self.words(sid)[noted:] == list(expected), f"told in all: {self.words(sid)}"

    async def hears_nothing(self, who: str | Member, seconds: float = 0.0) -> None:
        """Make sure that nothing more is heard from a participant for so long."""
        await asyncio.sleep(seconds)
        sid = who if isinstance(who, str) else who.sid
        assert self.words(sid)[self._noted[sid] :] == []

    async def comes_to(self, who: Member, word: Word) -> None:
        """Wait until this is the last word about a participant."""
        await self.sees(lambda: self.words(who)[-1:] == [word], f"{who.identity} is {word}")
        self._noted[who.sid] = len(self.words(who))

    async def sees(self, condition: Callable[[], object], what: str) -> None:
        """Wait for something that it can see."""

        async def seen() -> bool:
            return bool(condition())

        await self.world.until(seen, what)

    def publications(self, who: Member | str) -> list[rtc.RemoteTrackPublication]:
        """Return a participant's publications, as seen from here."""
        participant = self.room.remote_participants.get(who if isinstance(who, str) else who.identity)
        return list(participant.track_publications.values()) if participant else []


@asynccontextmanager
async def listening(
    world: World, hearing: Literal["level", "speech"], log: pytest.LogCaptureFixture
) -> AsyncIterator[Listener]:
    """Run a listener in a fresh room until the context ends, without errors."""
    await world.create()
    async with AsyncExitStack() as stack:
        member = await world.join("listener", kind="agent", hidden=True)
        listener = Listener(world, member.room, stack)
        listener.hear(hearing)
        task = asyncio.create_task(listener.ears.run(listener.tell))
        yield listener
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        listener.check()
        records: list[logging.LogRecord] = log.records
        assert [record for record in records if record.name == "bouncer" and record.exc_info] == []


@asynccontextmanager
async def encrypting(world: World, identity: str, **token: Any) -> AsyncIterator[rtc.Room]:
    """Let a participant join that encrypts end to end, with a key that no one else has."""
    keys = rtc.KeyProviderOptions(shared_key=b"between the two of us")
    encryption = rtc.E2EEOptions(key_provider_options=keys)
    room = rtc.Room()
    options = rtc.RoomOptions(auto_subscribe=False, encryption=encryption)
    await room.connect(world.server.url, world.token(identity, **token), options)
    try:
        yield room
    finally:
        await room.disconnect()
