"""Somebody who listens: a hidden participant with ears, and what they tell."""

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Literal

import pytest
from livekit import api, rtc

from bouncer.adapter.ears import Ears
from bouncer.config import Config
from bouncer.events import Event, Heard
from bouncer.observers import Configured
from tests.e2e.world import Member, World
from tests.microphone import Microphone
from tests.sounds import RATE, Sound, at, tone

QUIET, FAINT, LOUD = (at(tone(1, 500), db) for db in (-60, -38, -20))

Word = Literal["speaking", "silent", "unknown"]
WORDS: dict[bool | None, Word] = {True: "speaking", False: "silent", None: "unknown"}


class Listener:
    """A hidden participant with ears, and what they tell."""

    def __init__(self, world: World, room: rtc.Room, stack: AsyncExitStack) -> None:
        self.world = world
        self.room = room
        self.ears = Ears(room, threading.Semaphore(1000))
        self.told: list[Heard] = []
        self._noted: Counter[str] = Counter()
        self._in_future = False
        self._stack = stack

    def hear(self, hearing: Literal["off", "level", "speech"]) -> None:
        """Change the configuration."""
        self.ears.notify(Configured(Config(hearing=hearing)))

    def tell(self, event: Event) -> None:
        """Be told."""
        assert isinstance(event, Heard)
        self.told.append(event)
        self._in_future |= event.at > asyncio.get_running_loop().time()

    def words(self, who: str | Member) -> list[Word]:
        """What was told of somebody so far."""
        sid = who if isinstance(who, str) else who.sid
        return [WORDS[heard.speaking] for heard in self.told if heard.sid == sid]

    def check(self) -> None:
        """What was told has dates that make sense."""
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
        """Give somebody a microphone. With no queue, its track sends nothing while it captures nothing."""
        room = who.room if isinstance(who, Member) else who
        microphone = Microphone(room, rate=rate, channels=channels, queue=queue)
        self._stack.push_async_callback(microphone.close)
        microphone.sends(sound)
        if muted:
            microphone.mute()
        await microphone.publish(source)
        return microphone

    async def hears(self, who: str | Member, *expected: Word) -> None:
        """Wait until somebody was told of again: exactly this, in this order."""
        sid = who if isinstance(who, str) else who.sid
        noted = self._noted[sid]
        self._noted[sid] += len(expected)
        await self.sees(lambda: len(self.words(sid)) >= self._noted[sid], f"{expected} after {self.words(sid)}")
        assert self.words(sid)[noted:] == list(expected), f"told in all: {self.words(sid)}"

    async def hears_nothing(self, who: str | Member, seconds: float = 0.0) -> None:
        """Make sure that nothing more is told of somebody for so long."""
        await asyncio.sleep(seconds)
        sid = who if isinstance(who, str) else who.sid
        assert self.words(sid)[self._noted[sid] :] == []

    async def comes_to(self, who: Member, word: Word) -> None:
        """Wait until this is what was told of somebody last."""
        await self.sees(lambda: self.words(who)[-1:] == [word], f"{who.identity} is {word}")
        self._noted[who.sid] = len(self.words(who))

    async def sees(self, condition: Callable[[], object], what: str) -> None:
        """Wait for something that it can see."""

        async def seen() -> bool:
            return bool(condition())

        await self.world.until(seen, what)

    def publications(self, who: Member | str) -> list[rtc.RemoteTrackPublication]:
        """What somebody has published, as it sees it."""
        participant = self.room.remote_participants.get(who if isinstance(who, str) else who.identity)
        return list(participant.track_publications.values()) if participant else []


@asynccontextmanager
async def listening(
    world: World, hearing: Literal["level", "speech"], log: pytest.LogCaptureFixture
) -> AsyncIterator[Listener]:
    """Have somebody listen in a room of its own until the context ends, without any trouble."""
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
async def encrypting(world: World, identity: str) -> AsyncIterator[rtc.Room]:
    """Have somebody join who encrypts end to end, with a key that nobody else has."""
    token = api.AccessToken(world.server.api_key, world.server.api_secret).with_identity(identity)
    token = token.with_grants(api.VideoGrants(room_join=True, room=world.room))
    keys = rtc.KeyProviderOptions(shared_key=b"between the two of us")
    encryption = rtc.E2EEOptions(key_provider_options=keys)
    room = rtc.Room()
    options = rtc.RoomOptions(auto_subscribe=False, encryption=encryption)
    await room.connect(world.server.url, token.to_jwt(), options)
    try:
        yield room
    finally:
        await room.disconnect()
