"""A LiveKit server in memory, for tests in virtual time: one room, its participants, its API with its real answers.

It does what a real server can't be made to do on time: fail, answer late, miss a participant in a list. The end-to-end
tests show that the engine works with a real one.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Self

from bouncer.events import Attributes, Connected, Disconnected, Info, Job, Joined, Left, Signal
from bouncer.guard.patrol import Patrol
from bouncer.observers import Decided, Evicted, News
from bouncer.ports import ApiError, Says, Trouble
from bouncer.room import Kind
from bouncer.tracker import Tracker
from policies import BUILTIN

LATENCY = 0.005
ME = Info(sid="PA_me", identity="agent-AJ_me", kind=Kind.AGENT, hidden=True, agent_grant=True)


class Recorder:
    """An observer that keeps everything but the evaluations."""

    def __init__(self) -> None:
        self.news: list[News] = []
        self.evaluations = 0

    def notify(self, news: News) -> None:
        """Keep it."""
        if isinstance(news, Decided):
            self.evaluations += 1
        else:
            self.news.append(news)

    def outcomes(self) -> list[tuple[str, str]]:
        """Every eviction that ended: (identity, outcome)."""
        return [(n.finding.participant.identity, str(n.outcome)) for n in self.news if isinstance(n, Evicted)]


@dataclass
class FakeRoom:
    """One room with a patrol in it; it is the patrol's RoomApi."""

    metadata: Any = field(default_factory=dict)
    trouble: Trouble | None = None
    """What every call ends with, if anything."""
    removal_trouble: Trouble | None = None
    announces: bool = True
    """False if leavings are not announced; joinings always are."""
    computed: Callable[[], float] = lambda: 0.0
    """For how many seconds the patrol's thread has computed so far."""
    jitter: float = 0.5
    """The number in [0, 1) that the patrol draws each time."""

    def __post_init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        now = self.loop.time()
        self.here: dict[str, Info] = {ME.identity: replace(ME, joined_at=now, joined_ms=round(now * 1000))}
        self.jobs: tuple[Job, ...] = ()
        self.calls: Counter[str] = Counter()
        self.removed: list[tuple[float, str]] = []
        self.hanging: set[str] = set()
        self.sent: list[dict[str, Any]] = []
        self.dispatched = 0
        self.recorder = Recorder()
        self.patrol = Patrol(
            tracker=Tracker(),
            api=self,
            registry=BUILTIN,
            observers=(self.recorder,),
            jitter=lambda _: self.jitter,
            computed=self.computed,
        )
        self._sids = 0
        self._running: asyncio.Task[None] | None = None

    def list_soon(self) -> None:
        """Have the patrol read the list as soon as it may."""
        self.patrol.watch.listing.soon(self.loop.time())
        self.patrol._wake()  # noqa: SLF001 - as an event would

    async def __aenter__(self) -> Self:
        self.patrol.tell(Connected(self.loop.time(), self.here[ME.identity], self._others()))
        self.configure(self.metadata)
        self._running = asyncio.create_task(self.patrol.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.patrol.close()
        assert self._running
        await self._running

    @property
    def now(self) -> float:
        """Seconds since the test began, which is when the patrol connected."""
        return round(self.loop.time() - self.here[ME.identity].joined_at, 3)

    def _others(self) -> tuple[Info, ...]:
        return tuple(info for identity, info in self.here.items() if identity != ME.identity)

    def configure(self, metadata: Any) -> None:
        """Write the room's metadata: JSON for a value, text as it is."""
        self.patrol.configure(metadata if isinstance(metadata, str) else json.dumps(metadata))

    def join(self, identity: str, name: str = "", *, announced: bool = True, **facts: Any) -> Info:
        """Let a participant join: an agent if it has a name or a kind, a person otherwise."""
        self._sids += 1
        now = self.loop.time()
        facts.setdefault("kind", Kind.AGENT if name else Kind.STANDARD)
        attributes = {"lk.agent_name": name} if name else {}
        info = Info(
            sid=f"PA_{self._sids}",
            identity=identity,
            joined_at=now,
            joined_ms=round(now * 1000),
            attributes=attributes | facts.pop("attributes", {}),
            **facts,
        )
        if old := self.here.get(identity):
            self.patrol.tell(Left(now, old.sid))
        self.here[identity] = info
        if announced:
            self.patrol.tell(Joined(now, replace(info, hidden=None, agent_grant=None)))
        return info

    def leave(self, identity: str) -> None:
        """Let a participant leave."""
        info = self.here.pop(identity)
        if self.announces:
            self.patrol.tell(Left(self.loop.time(), info.sid))

    def state(self, identity: str, state: str) -> None:
        """An agent publishes its state."""
        info = self.here[identity]
        self.here[identity] = replace(info, attributes={**info.attributes, "lk.agent.state": state})
        self.patrol.tell(Attributes(self.loop.time(), info.sid, self.here[identity].attributes))

    def signal(self, identity: str) -> None:
        """Let a participant send data."""
        self.patrol.tell(Signal(self.loop.time(), self.here[identity].sid))

    def reconnect(self) -> None:
        """Make the patrol reconnect fully and at once: to it, everyone leaves and joins."""
        now = self.loop.time()
        for info in self._others():
            self.patrol.tell(Left(now, info.sid))
        self.patrol.tell(Disconnected(now))
        for info in self._others():
            self.patrol.tell(Joined(now, info))
        self.patrol.tell(Connected(now, self.here[ME.identity], self._others()))

    @property
    def identities(self) -> set[str]:
        """The identities of everyone except us."""
        return self.here.keys() - {ME.identity}

    async def _call(self, name: str, trouble: Trouble | None = None) -> None:
        self.calls[name] += 1
        await asyncio.sleep(LATENCY)
        if trouble := trouble or self.trouble:
            raise ApiError(trouble, f"the test says: {trouble}")

    async def list_participants(self, *, urgent: bool = False) -> tuple[Info, ...]:  # noqa: ARG002
        """List everyone."""
        await self._call("list_participants")
        return tuple(self.here.values())

    async def list_jobs(self, *, urgent: bool = False) -> tuple[Job, ...]:  # noqa: ARG002
        """List all jobs."""
        await self._call("list_jobs")
        return self.jobs

    async def get_participant(self, identity: str) -> Info | None:
        """Return the participant with the identity."""
        await self._call("get_participant")
        return self.here.get(identity)

    async def remove_participant(self, identity: str) -> bool:
        """Remove the participant with the identity."""
        await self._call("remove_participant", self.removal_trouble)
        if identity not in self.here:
            return False
        self.removed.append((self.now, identity))
        self.leave(identity)
        return True

    async def delete_dispatch(self, dispatch: str) -> bool:
        """End all jobs of a dispatch; each leaves a moment later, unless it hangs."""
        await self._call("delete_dispatch")
        known = dispatch in {job.dispatch for job in self.jobs}
        for job in self.jobs:
            if job.dispatch == dispatch and job.identity in self.here and job.identity not in self.hanging:
                self.loop.call_later(0.1, self.leave, job.identity)
        self.jobs = tuple(job for job in self.jobs if job.dispatch != dispatch)
        return known

    async def say(self, says: Says) -> None:
        """Set our own attributes, which needs no key."""
        self.calls["say"] += 1
        await asyncio.sleep(LATENCY)
        if self.trouble is Trouble.UNAVAILABLE:
            raise ApiError(self.trouble, "the line is dead")
        self.here[ME.identity] = replace(
            self.here[ME.identity], attributes={"bouncer.guarding": "true"} if says is Says.GUARDING else {}
        )

    async def dispatch_successor(self) -> str:
        """Note the dispatch. The test decides which bouncer joins."""
        await self._call("dispatch_successor")
        self.dispatched += 1
        return f"AD_successor_{self.dispatched}"

    async def resign(self, why: str) -> None:  # noqa: ARG002 - as in the port
        """Note it."""
        await self._call("resign")

    async def send_data(self, payload: bytes) -> None:
        """Take a message to the room."""
        await self._call("send_data")
        self.sent.append(json.loads(payload))
