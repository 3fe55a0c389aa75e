"""A bouncer in the test's own process: the real patrol on a real server, with a step of the test at an exact call."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import pytest
from livekit import api, rtc
from livekit.agents import JobContext
from livekit.agents.utils import http_context

from bouncer.adapter import Drain, LiveKitRoom
from bouncer.adapter.calls import CallBudget
from bouncer.events import Event, Info, Job
from bouncer.observers import Observer
from bouncer.observers.messages import RoomMessages
from bouncer.patrol import Patrol
from bouncer.tracker import Tracker
from policies import BUILTIN
from tests.e2e.world import World
from tests.fake import Recorder

T = TypeVar("T")
Step = Callable[[], Awaitable[object]]


class Deafened(Patrol):
    """A patrol that, if the test wants, hears of nothing: LiveKit announces some things late, or never."""

    deaf = False

    def tell(self, event: Event) -> None:
        """Take it in."""
        if not self.deaf:
            super().tell(event)


class Inside(LiveKitRoom):
    """The server's API and events, as the engine has them, and what a test does to them."""

    def __init__(
        self, world: World, identity: str, observers: Sequence[Observer] = (), dispatched_under: str = ""
    ) -> None:
        self.room = rtc.Room()
        self.recorder = Recorder()
        self.overlooked: set[str] = set()
        """Identities that lists lack."""
        self.lists = 0
        self.calls = 0
        """Calls made to the server's API, answered or not."""
        self.jobs: tuple[Job, ...] = ()
        """Jobs that are listed beside the real ones."""
        self._world = world
        self._steps: dict[str, Step] = {}
        self._ends: list[Step] = []
        token = world.token(identity, kind="agent", grant=True, hidden=True)

        async def connect(**_: object) -> None:
            await self.room.connect(world.server.url, token, rtc.RoomOptions(auto_subscribe=False))

        before = SimpleNamespace(name=world.room, sid="", metadata=dispatched_under)
        job = SimpleNamespace(room=before, agent_name="", metadata="", dispatch_id="")
        ctx = SimpleNamespace(
            room=self.room, job=job, connect=connect, add_shutdown_callback=self._ends.append, shutdown=lambda _: None
        )
        super().__init__(cast("JobContext", ctx), CallBudget(100_000), Drain(), lambda _: None)
        self.messages = RoomMessages(self.send_data)
        self.patrol = Deafened(
            tracker=Tracker(), api=self, registry=BUILTIN, observers=(*observers, self.messages, self.recorder)
        )

    def before(self, call: str, step: Step) -> None:
        """Take this step right before the next call of that name.

        The list on which a decision rests is `decision`, the one right before a removal `recheck`.
        """
        self._steps[call] = step

    def use_key(self, secret: str) -> None:
        """Make its calls with the server's API key and this secret."""
        server = self._world.server
        self._api = api.LiveKitAPI(server.url, server.api_key, secret, session=http_context.http_session())

    async def outcome(self, identity: str, outcome: str, *, within: float = 20.0) -> None:
        """Wait until an eviction of this identity has ended like this."""

        async def ended() -> bool:
            return (identity, outcome) in self.recorder.outcomes()

        await self._world.until(ended, f"{identity}: {outcome} after {self.recorder.outcomes()}", within=within)

    async def sees(self, *identities: str) -> None:
        """Wait until it knows that these are in the room."""

        async def seen() -> bool:
            return {p.identity for p in self.patrol.tracker.room().participants} >= set(identities)

        await self._world.until(seen, f"{identities} are seen")

    def history(self) -> dict[str, tuple[object, ...]]:
        """What it remembers of each participant but itself, by sid."""
        room = self.patrol.tracker.room()
        known = (p for p in room.participants if p.identity != room.me)
        return {p.sid: (p.identity, p.agent_name, p.role, p.joined_at, p.joined_ms) for p in known}

    async def end(self) -> None:
        """Stop guarding, and leave."""
        for end in self._ends:
            await end()
        await self.room.disconnect()

    async def _take(self, call: str) -> None:
        if step := self._steps.pop(call, None):
            await step()

    async def list_participants(self, *, urgent: bool = False) -> tuple[Info, ...]:
        """Everybody but those who are overlooked."""
        evicting = _task() == "bouncer_evict"
        await self._take("recheck" if evicting else "decision" if urgent and self.lists else "list_participants")
        infos = await super().list_participants(urgent=urgent)
        self.lists += 1
        return tuple(info for info in infos if info.identity not in self.overlooked)

    async def list_jobs(self, *, urgent: bool = False) -> tuple[Job, ...]:
        """All jobs; of two with one identity, the test's."""
        known = {job.identity: job for job in (*await super().list_jobs(urgent=urgent), *self.jobs)}
        return tuple(known.values())

    async def _call(self, call: Callable[[], Awaitable[T]], *, urgent: bool = True) -> T | None:
        self.calls += 1
        return await super()._call(call, urgent=urgent)

    async def remove_participant(self, identity: str) -> bool:
        """Remove whoever has the identity."""
        await self._take("remove_participant")
        return await super().remove_participant(identity)


def _task() -> str:
    task = asyncio.current_task()
    return task.get_name() if task else ""


@asynccontextmanager
async def guarded_from_inside(
    world: World, metadata: Any, *identities: str, observers: Sequence[Observer] = (), dispatched_under: str = ""
) -> AsyncIterator[list[Inside]]:
    """Create the room, and have bouncers with these identities guard it.

    They were dispatched to an earlier one of the name, which had the metadata `dispatched_under`.
    """
    with pytest.MonkeyPatch.context() as environment:
        for name, value in world.server.env.items():
            environment.setenv(name, value)
        await world.create(metadata)
        async with http_context.open():
            inside = [Inside(world, identity, observers, dispatched_under) for identity in identities]
            try:
                await asyncio.gather(*(one.guard(one.patrol, one.messages.run) for one in inside))
                yield inside
            finally:
                await asyncio.gather(*(one.end() for one in inside))
