"""The driver of a watch, on an event loop: sleep until it wakes, carry out its commands, feed back the answers.

What is decided about the room is decided in `guard/watch.py`. Here is what needs a loop: the clock, the calls, the
tasks of evictions that are under way, and waiting for a participant to be seen gone.
"""

import asyncio
import contextlib
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bouncer.configuration.model import NO_PLUGINS, Config, Layer, Mode, PluginLoaders
from bouncer.decide import Finding
from bouncer.events import Event, Info
from bouncer.guard.eviction import DryRun, Evictor, Remover
from bouncer.guard.handover import hand_over
from bouncer.guard.schedule import Jitter
from bouncer.guard.watch import PACE, Claim, Command, DeleteDispatch, Evict, Leave, ListJobs, ListParticipants, Watch
from bouncer.observers import Decided, HandedOver, News, Observer
from bouncer.policy import Policy
from bouncer.ports import ApiError, Doing, RoomApi
from bouncer.room import Instant
from bouncer.tracker import Tracker

REST = 0.1
"""Seconds after reading a room's metadata in which it isn't read again, unless an agent is about to be removed."""


@dataclass(frozen=True, slots=True)
class _Look:
    """A list of the room that is read for evictions under way."""

    asked_at: Instant
    answer: asyncio.Task[tuple[Info, ...]]


class Patrol:
    """Guards one room. Tell it what happens with `tell` and `configure`, run it with `run`, end it with `close`."""

    def __init__(
        self,
        *,
        tracker: Tracker,
        api: RoomApi,
        registry: Sequence[type[Policy]],
        plugins: PluginLoaders = NO_PLUGINS,
        layers: Sequence[Layer] = (),
        observers: Sequence[Observer] = (),
        judged: Callable[[float], None] | None = None,
        jitter: Jitter = lambda _purpose: random.random(),  # noqa: S311 - it spreads load
        make_watch: Callable[..., Watch] = Watch,
        computed: Callable[[], float] = time.thread_time,
    ) -> None:
        """Make a patrol for one room, on the running event loop.

        `plugins` are policies that are loaded when a configuration names them. `layers` are those beneath the room's
        metadata, lowest first. `judged` is told how many seconds it took to judge the room, each time. `jitter` gives
        numbers in [0, 1), a stream for each purpose. `make_watch` makes the watch; a recording has one that writes down
        what it is told. `computed` tells for how many seconds this thread has computed so far.
        """
        self._loop = asyncio.get_running_loop()
        self.watch = make_watch(tracker, registry, jitter, self._loop.time(), plugins, tuple(layers))
        self._api = api
        self._observers = observers
        self._judged = judged
        self._jitter = jitter
        self._evictors: Mapping[Mode, Evictor] = {"enforce": Remover(api, self), "dry_run": DryRun()}
        self._changed, self._happened = asyncio.Event(), asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._clock = computed
        self._metadata: str | None = None
        """The room's metadata, until it is read."""
        self._reads_at = 0.0
        """Until when metadata waits to be read."""
        self._computed = computed()
        """For how long our thread had computed at the last step."""
        self._last_look: _Look | None = None

    @property
    def tracker(self) -> Tracker:
        """Who is in the room."""
        return self.watch.tracker

    @property
    def config(self) -> Config | None:
        """The last good configuration."""
        return self.watch.config

    def tell(self, event: Event) -> None:
        """Take in what happened. Cheap, and never raises: it may be called from LiveKit's event handlers."""
        self.watch.tell(event)
        self._wake()

    def configure(self, metadata: str) -> None:
        """Take in the room's metadata. Refused metadata changes nothing, and is reported.

        It counts at once. Where it changes often, only the latest is read, after a rest that is longer if reading is.
        """
        self._metadata = metadata
        self._configure()
        self._wake()

    def _configure(self, *, at_once: bool = False) -> None:
        """Read metadata that waits, once it has rested."""
        now = self._loop.time()
        if self._metadata is None or (now < self._reads_at and not at_once):
            return
        began, metadata, self._metadata = self._clock(), self._metadata, None
        self.watch.configure(metadata, now)
        self._reads_at = now + max(REST, (1 + PACE) * (self._clock() - began))

    async def run(self) -> None:
        """Guard the room until `close` is called. An error in here is reported and never ends it."""
        try:
            while not self.watch.closed:
                self._changed.clear()
                await self._until(self._step())
        finally:
            self.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for news in self.watch.end(self._loop.time()):  # what was cut off, and the end
                self._notify(news)

    async def hand_over(self) -> None:
        """Have another bouncer take the room over, guard it until that one does, and leave."""
        self.watch.hand_over()

        def failing(error: ApiError) -> None:
            self.watch.failing(Doing.HANDING_OVER, error)
            self._wake()

        successor = await hand_over(
            self._api,
            configured=self.config is not None,
            failing=failing,
            jitter=lambda: self._jitter(Doing.HANDING_OVER),
        )
        self._notify(HandedOver(successor))
        self.close()
        await self._api.resign("another bouncer guards the room")

    def close(self) -> None:
        """Stop deciding, at once and for good."""
        self.watch.close()
        self._wake()

    # The scene of an eviction

    async def look(self, finding: Finding) -> Iterable[Info]:
        """Return who is in the room. The list that the decision rests on will do, or one serves all that need it."""
        now = self._loop.time()
        since, last = self.watch.list_since(finding, now), self.watch.last_list
        if last.asked_at >= since:
            return last.infos
        if self._last_look is None or self._last_look.asked_at < since:
            self._last_look = _Look(now, self._loop.create_task(self._relist(now), name="bouncer_evict"))
            self._tasks.add(self._last_look.answer)
            self._last_look.answer.add_done_callback(self._tasks.discard)
        return await asyncio.shield(self._last_look.answer)

    async def _relist(self, asked_at: Instant) -> tuple[Info, ...]:
        infos = await self._api.list_participants(urgent=True)
        self.watch.listed(infos, asked_at, self._loop.time())
        return infos

    def still_due(self, finding: Finding) -> bool:
        """Return True if this eviction would be decided on again."""
        # Metadata that waits may exempt it.
        self._configure(at_once=True)
        return self.watch.still_due(finding, self._loop.time())

    def leave_within(self, finding: Finding) -> float:
        """Return the seconds the agent gets to leave once its dispatch is deleted."""
        return self.watch.leave_within(finding, self._loop.time())

    def sent(self, finding: Finding) -> None:
        """Note that the end of its dispatch, or its removal, goes out."""
        self.watch.sent(finding, self._loop.time())

    def failing(self, error: ApiError) -> None:
        """Report why an eviction failed."""
        self.watch.failing(Doing.EVICTING, error)

    async def absent(self, sid: str, within: float) -> bool:
        """Wait that many seconds at most for a participant to be seen gone. Return True if it is."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                while self.tracker.has(sid):
                    await self._happened.wait()
        return not self.tracker.has(sid)

    # Carrying out

    def _step(self) -> Instant:
        """Carry out what the watch wants done now. Return when it wants to be woken."""
        self._configure()
        before, self._computed = self._computed, self._clock()
        with self._timed() as seconds:
            step = self.watch.step(self._loop.time(), self._computed - before)
        if self._judged and any(isinstance(news, Decided) for news in step.news):
            self._judged(seconds())
        for news in step.news:
            self._notify(news)
        for command in step.commands:
            name = "bouncer_evict" if isinstance(command, Evict) else "bouncer_call"
            task = self._loop.create_task(self._carry_out(command), name=name)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return step.wake_at if self._metadata is None else min(step.wake_at, self._reads_at)

    async def _carry_out(self, command: Command) -> None:
        answer: Any
        try:
            answer = await self._call(command)
        except asyncio.CancelledError:
            if isinstance(command, Evict):
                self.watch.cut_off(command, self._loop.time())
            raise
        except Exception as error:  # noqa: BLE001 - the watch says what an error means
            answer = error
        with self._timed():
            self.watch.answered(command, answer, self._loop.time())
        self._wake()

    @contextlib.contextmanager
    def _timed(self) -> Iterator[Callable[[], float]]:
        """Tell the watch how long it computes, by a clock that stands still while we are frozen."""
        began = self._clock()
        yield lambda: self._clock() - began
        self.watch.took(self._clock() - began)

    async def _call(self, command: Command) -> Any:
        match command:
            case ListParticipants(urgent):
                return await self._api.list_participants(urgent=urgent)
            case ListJobs(urgent):
                return await self._api.list_jobs(urgent=urgent)
            case DeleteDispatch(dispatch):
                return await self._api.delete_dispatch(dispatch)
            case Claim(says):
                return await self._api.say(says)
            case Leave():
                await self._api.resign("not needed")
                return self.close()
            case Evict(finding, mode):
                return await self._evictors[mode].evict(finding)

    def _notify(self, news: News) -> None:
        for observer in self._observers:
            try:
                observer.notify(news)
            except Exception as error:  # noqa: BLE001 - an observer only listens: what it raises ends nothing
                self._loop.call_exception_handler({"message": "a bouncer observer failed", "exception": error})

    def _wake(self) -> None:
        self._changed.set()
        self._happened.set()
        self._happened = asyncio.Event()

    async def _until(self, wake_at: Instant) -> None:
        """Sleep until something happens, or that instant has come."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(None if wake_at == math.inf else wake_at):
                await self._changed.wait()
