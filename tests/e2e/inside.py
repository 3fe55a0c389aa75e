"""A bouncer in the test's own process: the real patrol on a real server, with the test's steps at exact calls."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, TypeVar, cast

from livekit import api, rtc
from livekit.agents import JobContext
from livekit.agents.utils import http_context
from livekit.protocol import agent

from bouncer.adapter.calls import CallBudget, RoomCalls
from bouncer.adapter.drain import Drain
from bouncer.adapter.health import Health
from bouncer.adapter.room import LiveKitRoom
from bouncer.adapter.turns import RoomTurns
from bouncer.events import Event, Info, Job
from bouncer.guard.patrol import Patrol
from bouncer.guard.watch import FRESH
from bouncer.observers import Observer
from bouncer.observers.messages import RoomMessages
from bouncer.tracker import Tracker
from policies import BUILTIN
from tests.e2e.world import LIMIT, World
from tests.fake import Recorder

T = TypeVar("T")
Step = Callable[[], Awaitable[object]]


class Deafened(Patrol):
    """A patrol that receives no events if the test wants: LiveKit announces some things late, or never."""

    deaf = False

    def tell(self, event: Event) -> None:
        """Pass the event on."""
        if not self.deaf:
            super().tell(event)

    def list_soon(self) -> None:
        """Have the list read as soon as it may be."""
        self.watch.listing.soon(self._loop.time())
        self._wake()


class InsideCalls(RoomCalls):
    """The engine's view of the server's API, and what a test does to it."""

    def __init__(self, world: World, ctx: JobContext) -> None:
        self.overlooked: set[str] = set()
        """Identities missing from lists."""
        self.lists = 0
        self.made = 0
        """Calls made to the server's API, whether or not answered."""
        self.jobs: tuple[Job, ...] = ()
        """Jobs listed in addition to the real ones."""
        self.steps: dict[str, Step] = {}
        self._server = world.server
        super().__init__(self._client_with(world.server.api_secret), ctx, CallBudget(100_000))

    def _client_with(self, secret: str) -> api.LiveKitAPI:
        return api.LiveKitAPI(self._server.url, self._server.api_key, secret, session=http_context.http_session())

    def use_key(self, secret: str) -> None:
        """Use the server's API key with this secret from now on."""
        self._client = self._client_with(secret)

    async def _take(self, call: str) -> None:
        if step := self.steps.pop(call, None):
            await step()

    async def list_participants(self, *, urgent: bool = False) -> tuple[Info, ...]:
        """List everyone except the overlooked identities."""
        evicting = _task() == "bouncer_evict"
        await self._take("recheck" if evicting else "decision" if urgent and self.lists else "list_participants")
        infos = await super().list_participants(urgent=urgent)
        if not evicting and "recheck" in self.steps:
            await asyncio.sleep(FRESH)  # this list is too old by the time of the removal: another is read then
        self.lists += 1
        return tuple(info for info in infos if info.identity not in self.overlooked)

    async def list_jobs(self, *, urgent: bool = False) -> tuple[Job, ...]:
        """List all jobs. Of two with one identity, use the test's."""
        known = {job.identity: job for job in (*await super().list_jobs(urgent=urgent), *self.jobs)}
        return tuple(known.values())

    async def _call(
        self, method: str, call: Callable[[], Awaitable[T]], *, urgent: bool = False, ends: bool = False
    ) -> T | None:
        self.made += 1
        return await super()._call(method, call, urgent=urgent, ends=ends)

    async def remove_participant(self, identity: str) -> bool:
        """Remove the participant with this identity."""
        await self._take("remove_participant")
        return await super().remove_participant(identity)


class Inside:
    """A real bouncer in the test's process: its connection, calls and patrol."""

    def __init__(
        self, world: World, identity: str, observers: Sequence[Observer] = (), dispatched_under: str = ""
    ) -> None:
        self.room = rtc.Room()
        self.recorder = Recorder()
        self._world = world
        self._ends: list[Step] = []
        token = world.token(identity, kind="agent", grant=True, hidden=True)

        async def connect(**_: object) -> None:
            await self.room.connect(world.server.url, token, rtc.RoomOptions(auto_subscribe=False))

        before = SimpleNamespace(name=world.room, sid="", metadata=dispatched_under)
        job = SimpleNamespace(room=before, agent_name="", metadata="", dispatch_id="")
        facts = SimpleNamespace(
            room=self.room, job=job, connect=connect, add_shutdown_callback=self._ends.append, shutdown=lambda _: None
        )
        ctx = cast("JobContext", facts)
        self.calls = InsideCalls(world, ctx)
        self.connection = LiveKitRoom(
            ctx,
            self.calls,
            drain=Drain(),
            turns=RoomTurns(1, 60.0),
            health=Health(),
            request_successor=_no_successor,
        )
        self.messages = RoomMessages(self.calls.send_data, self.connection.records)
        self.patrol = Deafened(
            tracker=Tracker(), api=self.calls, registry=BUILTIN, observers=(*observers, self.messages, self.recorder)
        )

    async def guard(self) -> None:
        """Connect and guard the room."""
        await self.connection.guard(self.patrol, self.messages.run)

    def before(self, call: str, step: Step) -> None:
        """Take this step right before the next call of that name.

        The list behind a decision is called `decision`, the one right before a removal `recheck`. There is one because
        all other lists are answered late then.
        """
        self.calls.steps[call] = step

    async def outcome(self, identity: str, outcome: str, *, within: float = LIMIT) -> None:
        """Wait until an eviction of this identity has ended with this outcome."""

        async def ended() -> bool:
            return (identity, outcome) in self.recorder.outcomes()

        def instead() -> str:
            news = [str(each)[:200] for each in self.recorder.news[-5:]]
            return f"Outcomes: {self.recorder.outcomes()}; {self.patrol.watch.standing}; {news}."

        await self._world.until(ended, f"{identity}: {outcome}", within=within, instead=instead)

    async def sees(self, *identities: str) -> None:
        """Wait until it knows that these participants are in the room."""

        async def seen() -> bool:
            return {p.identity for p in self.patrol.tracker.room().participants} >= set(identities)

        await self._world.until(seen, f"{identities} are seen")

    def history(self) -> dict[str, tuple[object, ...]]:
        """What it remembers about each other participant, by sid."""
        room = self.patrol.tracker.room()
        known = (p for p in room.participants if p.identity != room.me)
        return {p.sid: (p.identity, p.agent_name, p.role, p.joined_at, p.joined_ms) for p in known}

    async def end(self) -> None:
        """Stop guarding and leave."""
        for end in self._ends:
            await end()
        await self.room.disconnect()


def _no_successor(job: agent.Job, *, never_began: bool = False, metadata: str | None = None) -> None:
    """Let a job end without one."""
    del job, never_began, metadata


def _task() -> str:
    task = asyncio.current_task()
    return task.get_name() if task else ""


@asynccontextmanager
async def guarded_from_inside(
    world: World, metadata: Any, *identities: str, observers: Sequence[Observer] = (), dispatched_under: str = ""
) -> AsyncIterator[list[Inside]]:
    """Create the room, and let bouncers with these identities guard it.

    They were dispatched to an earlier room of this name, which had the metadata `dispatched_under`.
    """
    await world.create(metadata)
    async with http_context.open():
        inside = [Inside(world, identity, observers, dispatched_under) for identity in identities]
        try:
            await asyncio.gather(*(one.guard() for one in inside))
            yield inside
        finally:
            await asyncio.gather(*(one.end() for one in inside))
