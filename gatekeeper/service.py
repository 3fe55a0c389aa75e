"""The service: one port for webhooks, health and metrics, and the driver behind it."""

import asyncio
import contextlib
import json
import logging
import random
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from bouncer.adapter.clock import ServerClock
from bouncer.adapter.project import Project
from bouncer.configuration.carried import carry
from bouncer.configuration.model import KEY, Layer
from bouncer.configuration.settings import Credentials
from gatekeeper.access import Access
from gatekeeper.acting import Acting, Wanted
from gatekeeper.board import Board
from gatekeeper.calls import Calls, connected
from gatekeeper.choice import Choice
from gatekeeper.console import Console
from gatekeeper.doors import AUDIT, RECONCILE, Doors
from gatekeeper.driver import Driver
from gatekeeper.history import DEFAULT_URL, History, HistoryError
from gatekeeper.inside import Asker, Inside
from gatekeeper.keeper import Keeper
from gatekeeper.mark import marked
from gatekeeper.outlook import Outlooks
from gatekeeper.reports import Reports
from gatekeeper.watching import Logs, Metrics
from gatekeeper.webhooks import MAX_BODY, Fate, Records, Webhooks
from gatekeeper.witness import Witness

logger = logging.getLogger("bouncer.gatekeeper")

READY_FOR = 3 * RECONCILE
"""Seconds after the last list of all rooms for which the service is ready."""
CLOSE_WITHIN = 2
"""Seconds that requests have to end when the service does: a console's feed never ends by itself."""
SILENT_AFTER = 2 * AUDIT
"""Seconds without a webhook, with rooms open, after which the log says that there are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the service needs."""

    access: Access

    credentials: Credentials
    choice: Choice
    configuration: Mapping[str, Any]
    """The configuration to dispatch with: the value of our key."""
    layers: Sequence[Layer] = ()
    """The configuration of a worker in this environment."""
    allow_actions: bool = False
    """True if those who may look at the console may evict agents by hand."""
    agent_name: str = "bouncer"
    when_needed: bool = False
    """True to send a bouncer only where the engine says that one is needed."""
    database: str = DEFAULT_URL
    history_days: float = 90
    host: str = "127.0.0.1"
    port: int = 8088
    api_per_minute: int = 600


class Service:
    """What the routes share."""

    def __init__(
        self,
        *,
        driver: Driver,
        webhooks: Webhooks,
        records: Records,
        reports: Reports,
        keeper: Keeper,
        board: Board,
        metrics: Metrics,
        now: Callable[[], float],
    ) -> None:
        self._driver, self._webhooks, self._metrics, self._now = driver, webhooks, metrics, now
        self._records, self._reports, self._keeper, self._board = records, reports, keeper, board
        self._complained: set[str] = set()
        self.last_webhook: float | None = None

    def app(self, console: Console | None = None) -> Starlette:
        """Return the ASGI application, with the console if there is one."""
        return Starlette(
            routes=[
                *(console.routes() if console else ()),
                Route("/livekit", self.livekit, methods=["POST"]),
                Route("/bouncer", self.bouncer, methods=["POST"]),
                Route("/healthz", self.healthz),
                Route("/readyz", self.readyz),
                Route("/metrics", self.metrics),
            ]
        )

    async def livekit(self, request: Request) -> Response:
        """Take a webhook: verified, told, answered at once."""
        body = await self._read(request)
        if isinstance(body, Response):
            return body
        try:
            fate, webhook = self._webhooks.receive(body, request.headers.get("authorization", ""), self._now())
        except ValueError as error:
            return self._refuse(Fate.REFUSED, HTTPStatus.UNAUTHORIZED, str(error))
        self._metrics.webhooks.labels(fate).inc()
        self._complained.clear()
        self.last_webhook = self._now()
        if webhook:
            self._driver.tell(webhook)
            self._board.touch(webhook.room.sid)
        return Response()

    async def bouncer(self, request: Request) -> Response:
        """Take a record that a bouncer sends to BOUNCER_WEBHOOK_URL."""
        body = await self._read(request)
        if isinstance(body, Response):
            return body
        try:
            record = self._records.receive(body, request.headers.get("authorization", ""))
        except ValueError as error:
            return self._refuse(Fate.REFUSED, HTTPStatus.UNAUTHORIZED, str(error))
        try:
            new = await self.take(record)
        except HistoryError:
            return Response(status_code=HTTPStatus.SERVICE_UNAVAILABLE)  # the bouncer sends it again
        self._metrics.webhooks.labels(Fate.TAKEN if new else Fate.REPEATED).inc()
        return Response()

    async def take(self, record: Mapping[str, Any]) -> bool:
        """Take in a record. Return True if it is new. Raises: HistoryError."""
        new = await self._keeper.keep(record)
        if new and (sid := self._reports.take(record)):
            self._board.touch(sid)
        return new

    async def healthz(self, _: Request) -> Response:
        """Say that the process answers."""
        return PlainTextResponse("ok")

    async def readyz(self, _: Request) -> Response:
        """Say whether LiveKit answers us; with `webhooks: false`, rooms are guarded by lists alone, and later."""
        doors, now = self._driver.doors, self._now()
        ready = not doors.blind and now - doors.listed_at <= READY_FOR
        facts = {"ready": ready, "rooms": len(doors.doors), "webhooks": self.last_webhook is not None}
        return JSONResponse(facts, HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE)

    async def metrics(self, _: Request) -> Response:
        """Return the metrics, for Prometheus."""
        return Response(generate_latest(self._metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def watch_webhooks(self) -> None:
        """Say once if no webhook comes although rooms are open."""
        while self.last_webhook is None:
            await asyncio.sleep(SILENT_AFTER)
            if not self._driver.doors.webhooks and self._driver.doors.doors:
                how = "set webhook.urls and webhook.api_key in LiveKit's configuration to reach /livekit at --host"
                logger.warning("no webhooks", extra={"effect": "rooms are guarded up to 40 s late", "fix": how})
                return

    async def _read(self, request: Request) -> bytes | Response:
        """Return a request's body, or the answer to one that can't be had."""
        try:
            body = await _body(request)
        except ClientDisconnect:
            return Response(status_code=HTTPStatus.BAD_REQUEST)
        if body is None:
            return self._refuse(Fate.TOO_LARGE, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {MAX_BODY} bytes")
        return body

    def _refuse(self, fate: Fate, status: HTTPStatus, why: str) -> Response:
        """Refuse a request. The log says so once for each reason, until a good one comes."""
        self._metrics.webhooks.labels(fate).inc()
        kind = f"{fate} {why.partition(':')[0]}"
        if kind not in self._complained:
            self._complained.add(kind)
            logger.warning("webhook refused", extra={"why": why, "fix": "webhook.api_key must name the key we have"})
        return Response(status_code=status)


async def _body(request: Request) -> bytes | None:
    """Return a request's body; None as soon as it is known to be too large."""
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length[:12]) > MAX_BODY:
        return None
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            return None
    return bytes(body)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises: OSError.

    What follows a response's head is sent at once. asyncio sees to that only where a socket names its protocol, which
    this one does not; without it, each answer on a connection that has been used comes some 40 ms late.
    """
    listening = socket.create_server((host, port))
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections inherit it
    return listening


async def serve(settings: Settings) -> None:
    """Run the service until SIGTERM or SIGINT. Raises OSError if the port can't be had."""
    loop = asyncio.get_running_loop()
    with listen(settings.host, settings.port) as listening:
        choice, name = settings.choice, settings.agent_name
        outlooks = Outlooks(name, choice.config)
        witness = Witness(outlooks, name, loop.time)
        doors = Doors(
            settings.api_per_minute,
            loop.time(),
            random.random,
            outlooks.needed if settings.when_needed else lambda _sid, _now: True,
        )
        metrics = Metrics(doors, loop.time)
        async with connected(settings.credentials) as livekit:

            def metadata(sid: str, name: str) -> str:
                ours = marked(settings.configuration, sid, witness.seen(sid))
                forgotten = witness.carried(sid, name)
                return carry(ours, forgotten, "") if forgotten else ours

            calls = Calls(livekit, name, choice, metadata, witness)
            reports = Reports()
            board = Board(doors, outlooks, reports, choice.config, loop.time, time.time)
            driver = Driver(doors, calls, (Logs(), metrics, board))
            webhooks = Webhooks(settings.credentials, name, choice, witness)
            records = Records(settings.credentials)
            project = Project(livekit, settings.credentials, ServerClock())
            keeper = Keeper(_history(settings.database), settings.history_days, time.time)
            service = Service(
                driver=driver,
                webhooks=webhooks,
                records=records,
                reports=reports,
                keeper=keeper,
                board=board,
                metrics=metrics,
                now=loop.time,
            )
            unguarded = [Layer("the gatekeeper's configuration", json.dumps({KEY: settings.configuration}))]
            inside = Inside(Asker(project), doors, choice, agent_name=name, layers=settings.layers, unguarded=unguarded)
            acting = Acting(
                project,
                doors,
                agent_name=name,
                load=choice.load,
                layers=settings.layers,
                unguarded=unguarded,
                notify=driver.notify,
            )

            async def evict(agent: Wanted, by: str) -> list[str]:
                records, told = await acting.evict(agent, by)
                for record in records:
                    with contextlib.suppress(HistoryError):  # the log has it, and says that the history has not
                        await service.take(record)
                return told

            allowed = evict if settings.allow_actions else None
            console = Console(board, keeper, settings.access, inside=inside, evict=allowed)
            app = service.app(console if settings.access.on else None)
            server = _Server(
                uvicorn.Config(
                    app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=CLOSE_WITHIN
                )
            )
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, server.end)
            port = listening.getsockname()[1]
            logger.info(
                "gatekeeper listening",
                extra={"host": settings.host, "port": port, "server": settings.credentials.url},
            )
            if not settings.access.on:
                how = "set BOUNCER_CONSOLE_TOKEN or BOUNCER_CONSOLE_USER_HEADER, or listen on 127.0.0.1"
                logger.info("console off", extra={"why": f"{settings.host} can be reached from elsewhere", "fix": how})
            background = [asyncio.create_task(run) for run in (driver.run(), service.watch_webhooks(), keeper.run())]
            try:
                await server.serve([listening])
            finally:
                for task in background:
                    task.cancel()
                await asyncio.gather(*background, return_exceptions=True)


def _history(url: str) -> History | None:
    """Return the history; None if its database can't be used, which is no reason to leave rooms unguarded."""
    try:
        return History(url)
    except HistoryError as error:
        how = "BOUNCER_DATABASE_URL must name a database that can be written, such as sqlite:////data/bouncer.db"
        logger.error("history off", extra={"why": str(error), "fix": how})  # noqa: TRY400 - the text says all
        return None


class _Server(uvicorn.Server):
    """Uvicorn that leaves signals to us: its own handling would end the process before the rest is closed."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    def end(self) -> None:
        """Answer what is being asked, and end."""
        self.should_exit = True
