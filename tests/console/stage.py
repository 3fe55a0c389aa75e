"""A console with rooms of our own making, served on a port: the real pages, without LiveKit."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from livekit.protocol import models
from livekit.protocol.webhook import WebhookEvent
from starlette.applications import Starlette

from bouncer.configuration.model import BUILT_IN, NO_PLUGINS
from gatekeeper.access import Access
from gatekeeper.board import Board
from gatekeeper.choice import Choice
from gatekeeper.console import Console, Evict
from gatekeeper.doors import Doors
from gatekeeper.history import History
from gatekeeper.inside import Asking, Inside
from gatekeeper.keeper import Keeper
from gatekeeper.outlook import Outlooks
from gatekeeper.records import Bouncer, ListBouncers, ListRooms, Room, Sight, Webhook
from gatekeeper.reports import Reports
from gatekeeper.service import listen
from gatekeeper.witness import Witness
from policies import BUILTIN


@dataclass
class Stage:
    """Rooms that a console shows."""

    access: Access = field(default_factory=lambda: Access("127.0.0.1"))
    port: int = 0
    history: History | None = None
    asker: Asking | None = None
    """Asks the bouncers of the rooms."""
    now: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    evict: Evict | None = None

    def __post_init__(self) -> None:
        self.choice = Choice(["*"], [], [BUILT_IN], BUILTIN, NO_PLUGINS)
        self.outlooks = Outlooks("bouncer", self.choice.config)
        self.witness = Witness(self.outlooks, "bouncer", self.now)
        self.doors = Doors(1_000_000, self.now(), lambda: 0.5)
        self.reports = Reports()
        self.keeper = Keeper(self.history, 90, self.wall)
        self.board = Board(self.doors, self.outlooks, self.reports, self.choice.config, self.now, self.wall)
        self.inside: Inside | None = None
        if self.asker:
            self.inside = Inside(self.asker, self.doors, self.choice, agent_name="bouncer", layers=(), unguarded=())
        self._answer_lists([])

    @property
    def url(self) -> str:
        """Where the console is."""
        return f"http://127.0.0.1:{self.port}"

    def open(
        self, sid: str, name: str, *agents: str, people: int = 1, guarded: bool = True, config: Any = None
    ) -> None:
        """Open a room with people, and agents of these names."""
        metadata = json.dumps({"bouncer": config}) if config else ""
        chosen = self.choice(sid, name, metadata)
        self._tell(Sight.STARTED, Room(sid, name, chosen))
        self.witness.told(WebhookEvent(event="room_started", room=models.Room(sid=sid, name=name)))
        for number in range(people):
            self.joins(sid, f"{sid}-person-{number}")
        for number, agent in enumerate(agents):
            self.joins(sid, f"{sid}-agent-{number}", agent)
        if guarded:
            bouncer = Bouncer(f"PA_{sid}_b", f"agent-AJ_{sid}", 1, ready=True)
            self._tell(Sight.JOINED, Room(sid, name, chosen), bouncer)

    def joins(self, sid: str, identity: str, agent_name: str = "") -> None:
        """Let a participant join."""
        now = round(self.wall() * 1000)
        kind = models.ParticipantInfo.AGENT if agent_name else models.ParticipantInfo.STANDARD
        who = models.ParticipantInfo(
            sid=f"PA_{identity}",
            identity=identity,
            kind=kind,
            state=models.ParticipantInfo.ACTIVE,
            joined_at_ms=now,
            attributes={"lk.agent_name": agent_name} if agent_name else {},
            permission=models.ParticipantPermission(agent=bool(agent_name)),
        )
        self.witness.told(WebhookEvent(event="participant_joined", room=models.Room(sid=sid), participant=who))
        self.board.touch(sid)

    def reports_that(self, room: str, event: str, **facts: Any) -> None:
        """Have a room's bouncer say something."""
        self.reports.take({"event": event, "room_sid": room, "mode": "enforce", **facts})
        self.board.touch(room)

    def close(self, sid: str) -> None:
        """Close a room."""
        self._tell(Sight.FINISHED, Room(sid, ""))

    def _tell(self, sight: Sight, room: Room, bouncer: Bouncer | None = None) -> None:
        self.doors.tell(Webhook(self.now(), sight, room, bouncer))
        self.board.touch(room.sid)

    def _answer_lists(self, rooms: Iterable[Room]) -> None:
        step = self.doors.step(self.now())
        for command in step.commands:
            assert isinstance(command, ListRooms | ListBouncers)
            self.doors.answered(command, tuple(rooms), self.now())


@asynccontextmanager
async def served(stage: Stage) -> AsyncIterator[Stage]:
    """Serve a stage's console until the context ends; on the same port if it had one."""
    with listen("127.0.0.1", stage.port) as listening:
        stage.port = listening.getsockname()[1]
        console = Console(stage.board, stage.keeper, stage.access, stage.wall, inside=stage.inside, evict=stage.evict)
        app = Starlette(routes=console.routes())
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1))
        server.capture_signals = nullcontext  # type: ignore[assignment,method-assign] # they are pytest's
        serving = asyncio.create_task(server.serve([listening]))
        try:
            yield stage
        finally:
            server.should_exit = True
            await serving
