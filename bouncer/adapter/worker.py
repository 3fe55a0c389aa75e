"""The process: a LiveKit worker whose jobs are rooms to guard."""

import asyncio
import errno
import hashlib
import logging
import math
import os
import socket
import sys
import time
from base64 import b64encode
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, NoReturn

from livekit import api
from livekit.agents import AgentServer, JobContext, JobExecutorType, JobRequest, WorkerPermissions, cli
from livekit.agents.utils import http_context, http_server
from livekit.agents.vad import VAD
from livekit.agents.version import __version__
from livekit.agents.worker import WORKER_PROTOCOL_VERSION
from livekit.protocol import agent
from livekit.rtc._ffi_client import FfiClient

from bouncer.adapter.answering import Answers
from bouncer.adapter.calls import CallBudget, Calls, RoomCalls
from bouncer.adapter.drain import Drain
from bouncer.adapter.endings import Endings
from bouncer.adapter.health import Health
from bouncer.adapter.orphans import Orphans
from bouncer.adapter.replacements import Replacements
from bouncer.adapter.room import LiveKitRoom
from bouncer.adapter.sdklogs import keep_native_log, quiet
from bouncer.adapter.speech import detector, import_plugin
from bouncer.adapter.start import obstacle
from bouncer.adapter.turns import RoomTurns
from bouncer.configuration.settings import Credentials, Settings
from bouncer.guard.watch import Watch
from bouncer.observers.log_events import LogEvent
from bouncer.observers.metrics import Metrics
from bouncer.observers.recent import Recent
from bouncer.observers.traces import Traces
from bouncer.observers.webhook import Webhook

if sys.platform != "win32":
    import resource

logger = logging.getLogger("bouncer")

RoomJob = JobContext
"""What the framework gives to a job's entrypoint, for the wiring."""
TARGET_LOAD = 0.7
"""The load at which a server takes its workers for full (its own constant)."""
FULL_LOAD = 1.0
"""The load with which a worker gets no job. At 0.7 it gets one all the same, as long as another has room: the server
draws one of its workers, each with a weight of 1 less its load (1 of 6 went to the full one of two)."""
DEFAULT_PORT = 8081
"""Where the framework answers for `start`."""
SIGNED_FOR = timedelta(minutes=5)
"""How long a signature is valid, as LiveKit's are."""
REGISTER_TRIES = 66
"""How often a worker tries to reach its server again before it ends: for ten minutes, with 10 s between them. The
framework's own 16 are two minutes; the rooms that wait for a successor (`GIVE_UP_AFTER`) would end with it."""
CONNECTING, CONNECTING_WITHIN = 8, 3.0
"""How many rooms connect at a time, and for how many seconds one of them holds up others. If forty connect at once on
two busy cores, some take 5 s. Then the SDK connects once more, and the server ends the job."""
FILES, FILES_PER_ROOM = 300, 100
"""Open files that a worker and each room of it may take. Nearly all of a room's are sockets: 10 to 20 if rooms open one
by one, 77 each if forty open at once, and 171 each for a moment then (counted). With the usual limit of 1,024, not all
of the forty were guarded."""


class BouncerServer(AgentServer):
    """A worker that tells its rooms when it drains, replaces jobs, and remembers whether it failed."""

    def __init__(self, settings: Settings, **options: Any) -> None:
        self._served: http_server.HttpServer | None = None
        super().__init__(load_fnc=self._load, **options)
        self._max_rooms = settings.max_rooms
        self._budget = CallBudget(settings.api_per_minute)
        self._drain = Drain()
        self._turns = RoomTurns(CONNECTING, CONNECTING_WITHIN)
        self._replacements = Replacements(lambda: not self._connecting)
        self._orphans = Orphans(
            settings.agent_name,
            lambda: self._budget.spend(self._loop.time(), urgent=False),
            self._guard_again,
        )
        self._endings = Endings(lambda: self._proc_pool.processes)
        self._watching: asyncio.Task[None] | None = None
        self._health = Health()
        self._known_to_server = False
        self.on("worker_registered", self._registered)
        self._settings = settings
        self.metrics: Metrics | None = None
        """Counts what all rooms come to, if anything reads it."""
        self.webhook: Webhook | None = None
        """Sends the records of all rooms, if there is an address."""
        self._posting: asyncio.Task[None] | None = None
        self.traces: Traces | None = None
        """Sends a span for each eviction, if there is a collector."""

    def post(self, events: frozenset[str]) -> None:
        """Send the records of these events if the settings have an address."""
        if self._settings.webhook_url:
            counts = {"sent": self.metrics.webhook_sent, "lost": self.metrics.webhook_lost} if self.metrics else {}
            self.webhook = Webhook(self._settings.webhook_url, events, self.sign, **counts)

    def sign(self, body: bytes) -> str:
        """Return a token for this body alone, as LiveKit's webhooks have."""
        token = api.AccessToken(self._api_key, self._api_secret).with_ttl(SIGNED_FOR)
        return token.with_sha256(b64encode(hashlib.sha256(body).digest()).decode()).to_jwt()

    def measure(self, policies: Sequence[str], version: str) -> None:
        """Have metrics and traces as the settings say. Once in a process: the metrics are in Prometheus's registry."""
        if self._settings.traces:
            self.traces = Traces(version)
        if self._settings.metrics_port is not None:
            self.metrics = Metrics(
                policies,
                version,
                max_rooms=self._max_rooms,
                budget_left=lambda: self._budget.left(time.monotonic()),
            )

    def room(self, ctx: JobContext) -> LiveKitRoom:
        """Return the room of a job, from within the job's entrypoint."""
        # Not ctx.api: an ambient LIVEKIT_TOKEN would replace the key there. The session is the job's own, on the TLS
        # context that the worker built once; building one for each room would stall its loop for 100 to 280 ms.
        session = http_context.http_session()
        client = api.LiveKitAPI(self._ws_url, self._api_key, self._api_secret, session=session)
        called = {"called": self.metrics.called} if self.metrics else {}
        calls = RoomCalls(client, ctx, self._budget, answered=self._health.answered, **called)
        return LiveKitRoom(
            ctx,
            calls,
            drain=self._drain,
            turns=self._turns,
            health=self._health,
            request_successor=self.request_successor,
        )

    def answers(self, ctx: JobContext, watch: Watch, recent: Recent) -> Answers:
        """Return what answers those that ask about the room of a job, from within the job's entrypoint."""
        return Answers(ctx.room, (self._api_key, self._api_secret), watch, name=ctx.job.room.name, recent=recent)

    async def run(self, *args: Any, **options: Any) -> None:
        """Be a worker until it is ended. If it can't start, or fails, a line says why, and the process ends."""
        credentials = Credentials(url=self._ws_url, api_key=self._api_key, api_secret=self._api_secret)
        if problem := await obstacle(credentials):
            _end_process(problem)
        for warning in self._settings.warnings:
            logger.warning(LogEvent.ENVIRONMENT, extra={"warning": warning})
        if self.webhook:
            self._posting = asyncio.create_task(self.webhook.run())
        allow_files(FILES + FILES_PER_ROOM * self._max_rooms)
        try:
            await super().run(*args, **options)
        except OSError as error:
            if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                _end_process(f"BOUNCER_HOST: can't listen at {self._host} ({error}); it must be this machine's address")
            if error.errno != errno.EADDRINUSE:
                _end_process(f"the worker failed: {error}")
            _end_process(self._port_in_use(str(error)))
        except Exception as error:  # noqa: BLE001 - whatever it is, the framework would end with status 0
            await self.aclose()
            _end_process(f"the worker failed: {error}")

    def _port_in_use(self, error: str) -> str:
        """Return which of our ports is in use, and which variable says so."""
        host, metrics = self._host or "*", self._settings.metrics_port
        if metrics and f", {metrics})" in error:
            return f"BOUNCER_METRICS_PORT: {host}:{metrics} is in use; metrics need a free port, or 0 for any"
        where = f"{host}:{self._settings.port or DEFAULT_PORT}"
        return f"BOUNCER_PORT: {where} is in use; health needs a free port, or 0 for any"

    async def detector(self) -> VAD | None:
        """Return the speech detector of this process, from the thread of any room; None if it can't be loaded."""

        async def on_main_thread() -> None:
            import_plugin()

        with suppress(Exception):  # it is tried again below, and told of there
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(on_main_thread(), self._loop))
        return await detector()

    async def accept(self, request: JobRequest) -> None:
        """Accept a room; if the framework then loses the job, have another bouncer dispatched in its place.

        When jobs come faster than threads start, livekit-agents 1.8.9 gives some up (2 of 10,800 were lost, six rooms
        being opened at once). To the server such a job is running, so no one else would ever get it.

        Raises: RuntimeError for such a job; the framework logs it.
        """
        try:
            await request.accept()
        except RuntimeError:
            self.request_successor(request.job, never_began=True)
            raise

    async def drain(self, *args: Any, **options: Any) -> None:
        """Take no more rooms, have those that are here handed over, and wait for them to end."""
        self._health.draining = True
        self._drain.begin()
        await super().drain(*args, **options)

    async def aclose(self) -> None:
        """End, even if rooms still wait for a successor."""
        await self._orphans.end()
        await self._replacements.end()
        await super().aclose()
        if self._watching:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        if self.webhook and self._posting:
            await self.webhook.drain()
            self._posting.cancel()
            await asyncio.gather(self._posting, return_exceptions=True)
            self._posting = None
        if self.traces:
            await asyncio.to_thread(self.traces.close)
        if self._endings.hang:
            # Python would wait for their threads for ever.
            logging.shutdown()
            os._exit(0)

    def request_successor(self, job: agent.Job, *, never_began: bool = False, metadata: str | None = None) -> None:
        """Have a successor take the place of a job that ends though no one wants that. From the job's own thread."""

        def begin() -> None:
            assert self._api  # noqa: S101 - made before the first job
            calls = Calls(self._api, job, self._budget)
            calls.metadata = job.metadata if metadata is None else metadata
            self._replacements.begin(calls, job, never_began=never_began)

        with suppress(RuntimeError):  # the worker has just ended
            self._loop.call_soon_threadsafe(begin)

    def _guard_again(self, job: agent.Job) -> None:
        """Have a room that was found orphaned guarded again, unless that is under way."""
        if not self._replacements.looks_for(job.room.name):
            self.request_successor(job)

    def _registered(self, *_: object) -> None:
        self._known_to_server = True
        self._watching = self._watching or self._loop.create_task(self._endings.run())
        self._health.registered()
        self._replacements.registered()
        if self._api:
            self._orphans.look(self._api)

    @property
    def _http_server(self) -> http_server.HttpServer | None:
        return self._served

    @_http_server.setter
    def _http_server(self, served: http_server.HttpServer | None) -> None:
        """Take the framework's HTTP server as it is made, before it has the framework's own routes: ours come first.

        It offers no other way to answer differently. tests/e2e/test_health.py notices if that changes.
        """
        self._served = served
        if served:
            served.app.add_routes(self._health.routes(self._facts))

    def _facts(self) -> dict[str, Any]:
        return {
            "agent_name": self._agent_name,
            "worker_type": "JT_ROOM",
            "worker_load": self._worker_load,
            "active_jobs": len(self.active_jobs),
            "sdk_version": __version__,
            "protocol_version": WORKER_PROTOCOL_VERSION,
        }

    def _load(self) -> float:
        if self._known_to_server and not self._connecting:
            self._health.registered()
        share = len(self.active_jobs) / self._max_rooms
        return TARGET_LOAD * share if share < 1 else FULL_LOAD


def _end_process(why: str) -> NoReturn:
    """End the process with status 1 and this line: the framework would log a traceback, and end with status 0.

    At once, since the native library may call into an interpreter that is ending, which aborts it (1 of 30).
    """
    sys.stdout.flush()
    sys.stderr.write(f"{why}\n")
    sys.stderr.flush()
    os._exit(1)


def allow_files(wanted: int) -> None:
    """Raise the limit of files that our process may open, as far as we may; the log says if that isn't far enough."""
    if sys.platform == "win32":
        return
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = (math.inf if limit == resource.RLIM_INFINITY else limit for limit in limits)
    allowed = min(wanted, hard)
    if soft < allowed:
        # A system may have a lower limit of its own.
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (int(allowed), limits[1]))
            soft = allowed
    if soft < wanted:
        facts = {"limit": soft, "wanted": wanted, "setting": "BOUNCER_MAX_ROOMS"}
        logger.warning(LogEvent.FILE_LIMIT, extra=facts)


def agent_server(settings: Settings) -> BouncerServer:
    """Return a worker that joins hidden, and whose load is the rooms it guards rather than the machine's CPU."""
    # A bouncer has no use for the framework's speech models, and they take 220 MB for 20 rooms.
    os.environ.setdefault("LIVEKIT_AGENTS_PRELOAD_LOCAL_INFERENCE", "0")
    # The framework watches each loop from a thread of its own, using sys._current_frames(). Two of these threads, one
    # of which collects garbage meanwhile, wait for each other for ever, and all rooms with them (CPython 3.11.7).
    os.environ.setdefault("LIVEKIT_AGENTS_LOOP_BLOCK_WARN_MS", "0")
    keep_native_log()
    # FfiClient makes its singleton without a lock: two jobs that start together would make two, and hang.
    _ = FfiClient.instance
    quiet()

    address = {"port": settings.port, "host": settings.host, "prometheus_port": settings.metrics_port}
    given: dict[str, Any] = {option: value for option, value in address.items() if value is not None}
    return BouncerServer(
        settings,
        ws_url=settings.credentials.url,
        api_key=settings.credentials.api_key,
        api_secret=settings.credentials.api_secret,
        max_retry=REGISTER_TRIES,
        job_executor_type=JobExecutorType.THREAD,
        # The worker itself never declines: a declined room would stay unguarded for ever. The server looks at the
        # load, and gives a full worker nothing.
        load_threshold=float("inf"),
        # A bouncer sends data only to those that ask (adapter/answering.py).
        permissions=WorkerPermissions(can_publish=False, can_publish_data=True, hidden=True),
        **given,
    )


def run(server: BouncerServer) -> None:
    """Run the worker as the command line says, until it ends."""
    cli.run_app(server)
