"""LiveKit as the rest of the engine sees it: events and lists in our records, calls with our errors.

The only module that imports livekit, and the place where the clocks meet: LiveKit dates by the server's wall clock,
we by the event loop's. What is here was measured on livekit-server 1.13.5 with livekit-agents 1.8.9; the reasons
stand beside the lines that need one.
"""

import asyncio
import logging
import math
import os
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any

from livekit import api, rtc
from livekit.agents import AgentServer, AutoSubscribe, JobContext, JobExecutorType, JobRequest, WorkerPermissions
from livekit.agents.utils import http_context
from livekit.protocol import agent
from livekit.rtc._ffi_client import FfiClient

from bouncer.adapter.calls import CALL_WITHIN, CallBudget, Calls
from bouncer.adapter.replacements import Replacements
from bouncer.api import ApiError, Trouble
from bouncer.events import (
    Attributes,
    Connected,
    Disconnected,
    Info,
    Joined,
    Left,
    Signal,
    Transcribed,
)
from bouncer.patrol import Patrol
from bouncer.room import GUARDING_ATTRIBUTE, Kind
from bouncer.settings import Settings

if sys.platform != "win32":
    import resource

logger = logging.getLogger("bouncer")

TARGET_LOAD = 0.7
"""The load at which a server takes its workers for full (its own constant)."""
FULL_LOAD = 1.0
"""The load with which a worker gets no job. At 0.7 it gets one all the same, as long as another has room: the server
draws one of its workers, each with a weight of 1 less its load (1 of 6 went to the full one of two)."""
CONNECT_WITHIN = 30.0
"""Seconds for connecting to the room. One that hangs is listed ACTIVE all the same, so it must not go on unnoticed."""
HUNG_PER_MINUTE = 6
"""Jobs of one worker, in all its rooms, that are replaced in a minute because connecting hung, or because they never
began. Those that hang take 30 s for that; each leaves nothing behind, so however many there are it is never more."""
REGISTER_TRIES = 66
"""How often a worker tries to reach its server again before it ends: for ten minutes, with 10 s between them. The
framework's own 16 are two minutes; the rooms that wait for a successor (`GIVE_UP_AFTER`) would end with it."""
FILES, FILES_PER_ROOM = 300, 50
"""Open files that a worker and each room of it may take. 43 were counted for a room, nearly all of them sockets, on a
machine with one network interface; with the usual limit of 1,024, forty rooms opened at once lost half of them."""
SAY_AGAIN = 1.0
"""Seconds after which we say again that we guard the room, if that could not be said."""
ENDED_WITHIN = 10.0
"""Seconds after our connection was made anew in which the server may end our job for it; it takes a moment."""
MAX_READERS = 32
"""Text streams read at the same time in one room; of further ones only the opening counts."""
TEXT_TOPICS = ("lk.transcription", "lk.chat")
ON_PURPOSE = frozenset(
    {
        rtc.DisconnectReason.DUPLICATE_IDENTITY,
        rtc.DisconnectReason.PARTICIPANT_REMOVED,
        rtc.DisconnectReason.ROOM_DELETED,
        rtc.DisconnectReason.ROOM_CLOSED,
    }
)
"""Ends of our connection that somebody wanted."""

_KINDS: Mapping[int, Kind] = {
    rtc.ParticipantKind.PARTICIPANT_KIND_STANDARD: Kind.STANDARD,
    rtc.ParticipantKind.PARTICIPANT_KIND_INGRESS: Kind.INGRESS,
    rtc.ParticipantKind.PARTICIPANT_KIND_EGRESS: Kind.EGRESS,
    rtc.ParticipantKind.PARTICIPANT_KIND_SIP: Kind.SIP,
    rtc.ParticipantKind.PARTICIPANT_KIND_AGENT: Kind.AGENT,
    rtc.ParticipantKind.PARTICIPANT_KIND_CONNECTOR: Kind.CONNECTOR,
    rtc.ParticipantKind.PARTICIPANT_KIND_BRIDGE: Kind.BRIDGE,
}


class Drain:
    """The end of this worker, as its rooms learn of it; each runs in a thread of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun = False
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    def begin(self) -> None:
        """Tell them."""
        with self._lock:
            self._begun = True
            for loop, event in self._waiting:
                with suppress(RuntimeError):  # its room has ended in this moment
                    loop.call_soon_threadsafe(event.set)

    async def begun(self) -> None:
        """Wait until it begins."""
        waiting = asyncio.get_running_loop(), asyncio.Event()
        with self._lock:
            if self._begun:
                return
            self._waiting.add(waiting)
        try:
            await waiting[1].wait()
        finally:
            with self._lock:
                self._waiting.discard(waiting)


class BouncerServer(AgentServer):
    """A worker that tells its rooms when it is being drained, replaces jobs, and remembers whether it failed."""

    def __init__(self, budget: CallBudget, max_rooms: int, **options: Any) -> None:
        super().__init__(**options)
        self._max_rooms = max_rooms
        self.draining_rooms = Drain()
        self._budget = budget
        self._replacements = Replacements(lambda: not self._connecting)
        self.on("worker_registered", lambda *_: self._replacements.registered())
        self.failed = False
        """Whether it ended by an error; the framework logs that, and ends with status 0 all the same."""

    async def run(self, *args: Any, **options: Any) -> None:
        """Be a worker until it is ended."""
        allow_files(FILES + FILES_PER_ROOM * self._max_rooms)
        try:
            await super().run(*args, **options)
        except Exception:
            self.failed = True
            raise

    async def take(self, request: JobRequest) -> None:
        """Take a room; if the framework then loses the job, have another bouncer dispatched in its place.

        livekit-agents 1.8.9 gives up a job that others outrun for the threads that were just started (2 of 10,800 were
        lost, six rooms being opened at once). To the server it is running, so nobody else would ever get it.

        Raises: RuntimeError for such a job; the framework logs it.
        """
        try:
            await request.accept()
        except RuntimeError:
            if LiveKitRoom.hung.take(asyncio.get_running_loop().time(), urgent=False):
                self.replace(request.job)
            raise

    async def drain(self, *args: Any, **options: Any) -> None:
        """Take no more rooms, have those that are here handed over, and wait for them to end."""
        self.draining_rooms.begin()
        await super().drain(*args, **options)

    async def aclose(self) -> None:
        """End, whoever waits for a successor."""
        await self._replacements.end()
        await super().aclose()

    def replace(self, job: agent.Job) -> None:
        """Have a successor take the place of a job that ends though nobody wants it to. From the job's own thread."""

        def begin() -> None:
            assert self._api  # noqa: S101 - made before the first job
            self._replacements.begin(Calls(self._api, job, self._budget), job)

        with suppress(RuntimeError):  # the worker has ended in this moment
            self._loop.call_soon_threadsafe(begin)


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
        logger.warning("few open files are allowed", extra=facts)


def agent_server(settings: Settings, budget: CallBudget) -> BouncerServer:
    """A worker that joins hidden, and takes rooms by how many it guards rather than by the machine's CPU."""
    # A bouncer has no use for the framework's speech models, and they take 220 MB for 20 rooms.
    os.environ.setdefault("LIVEKIT_AGENTS_PRELOAD_LOCAL_INFERENCE", "0")
    # The framework watches each loop from a thread of its own, by sys._current_frames(). Two of them at once, one of
    # which collects garbage meanwhile, wait for each other for ever, and all rooms with them (CPython 3.11.7).
    os.environ.setdefault("LIVEKIT_AGENTS_LOOP_BLOCK_WARN_MS", "0")
    # FfiClient makes its singleton without a lock: two jobs that start together would make two, and hang.
    _ = FfiClient.instance

    # The SDK logs each stream that nobody asked for, at INFO: a line for every message of an AgentSession.
    logging.getLogger().addFilter(lambda record: not str(record.msg).startswith(("ignoring byte", "ignoring text")))

    def load(server: AgentServer) -> float:
        share = len(server.active_jobs) / settings.max_rooms
        return TARGET_LOAD * share if share < 1 else FULL_LOAD

    port: dict[str, Any] = {} if settings.port is None else {"port": settings.port}
    server = BouncerServer(
        budget,
        settings.max_rooms,
        max_retry=REGISTER_TRIES,
        job_executor_type=JobExecutorType.THREAD,
        # The worker itself never declines: what it declined would stay unguarded for ever. The server looks at the
        # load, and gives a full worker nothing.
        load_threshold=float("inf"),
        permissions=WorkerPermissions(can_publish=False, can_publish_data=False, hidden=True),
        **port,
    )
    server.load_fnc = load
    return server


class LiveKitRoom(Calls):
    """One room on LiveKit: connects a patrol to its events, and is the patrol's `RoomApi`."""

    hung = CallBudget(HUNG_PER_MINUTE)

    def __init__(self, ctx: JobContext, budget: CallBudget, drain: Drain, replace: Callable[[agent.Job], None]) -> None:
        """Make it for a job, from within the job's entrypoint. `replace` is given the job if it ends untimely."""
        # Not ctx.api: an ambient LIVEKIT_TOKEN would replace the key there. The session is the job's own, on the TLS
        # context that the worker built once; building one for each room would stall its loop for 100 to 280 ms.
        client = api.LiveKitAPI(
            os.environ["LIVEKIT_URL"],
            os.environ["LIVEKIT_API_KEY"],
            os.environ["LIVEKIT_API_SECRET"],
            session=http_context.http_session(),
        )
        super().__init__(client, ctx.job, budget)
        self._ctx = ctx
        self._drain = drain
        self._replace = replace
        self._room = ctx.room
        self._readers: set[asyncio.Task[None]] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._guards = True
        self._unsaid = asyncio.Event()
        self._room_sid = ""
        self._changed = False
        """Whether the room's metadata changed while we reconnected."""
        self._restored_at = -math.inf
        """When our connection was last made anew; infinity while that is being tried."""
        self._ended: int = rtc.DisconnectReason.CLIENT_INITIATED
        """Why our connection ended, if not by our own doing."""
        self._resigned = False

    async def guard(self, patrol: Patrol, *background: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Connect, and have the patrol guard the room until the job ends. Returns once it does.

        If connecting hangs, another job is asked for in place of this one.

        Raises: TimeoutError if the connection can't be made; the framework's errors if it is refused.
        """
        self._room_sid = self._ctx.job.room.sid
        self._listen(patrol)
        self._follow(patrol)
        try:
            async with asyncio.timeout(CONNECT_WITHIN):
                await self._ctx.connect(auto_subscribe=AutoSubscribe.SUBSCRIBE_NONE)
        except TimeoutError:
            if self.hung.take(self._loop.time(), urgent=False):
                self._replace(self._job)
            raise
        self._connected(patrol)
        metadata = self._room.metadata or ""
        if not metadata and self._ctx.job.room.metadata and await self._room.sid != self._room_sid:
            # A server that was restarted since then has made the room anew, without what we were dispatched under.
            metadata = self._ctx.job.room.metadata
        patrol.configure(metadata)

        async def hand_over() -> None:
            await self._drain.begun()
            await patrol.hand_over()

        self._tasks = [self._loop.create_task(run()) for run in (patrol.run, self._announce, hand_over, *background)]

        async def close() -> None:
            patrol.close()
            for task in (*self._tasks, *self._readers):
                task.cancel()
            await asyncio.gather(*self._tasks, *self._readers, return_exceptions=True)
            logger.info("no longer guarding", extra={"lk.pii.room_name": self._name})
            if not self._resigned and untimely(self._ended, self._loop.time() - self._restored_at):
                self._replace(self._job)

        self._ctx.add_shutdown_callback(close)
        logger.info("guarding", extra={"lk.pii.room_name": self._name})

    async def _configure_anew(self, patrol: Patrol) -> None:
        """Take in metadata that changed while we reconnected, unless it is only that the server knows none any more.

        A server that was restarted makes the room anew, without its metadata. That lifts no exemption, and ends no dry
        run; what anybody has written since does.
        """
        before, self._room_sid = self._room_sid, await self._room.sid
        changed, self._changed = self._changed, False
        if not changed:
            return
        if self._room_sid == before or self._room.metadata:
            patrol.configure(self._room.metadata or "")
        else:
            logger.warning("the room was made anew", extra={"lk.pii.room_name": self._name, "in_force": "as before"})

    async def _announce(self) -> None:
        """Say that we guard the room, each time that we are connected: a full reconnect forgets what we said."""
        while True:
            await self._unsaid.wait()
            self._unsaid.clear()
            try:
                await self.say_guarding(guarding=self._guards)
            except ApiError:
                await asyncio.sleep(SAY_AGAIN)
                self._unsaid.set()

    def _connected(self, patrol: Patrol) -> None:
        """Start watching, for the first time or anew.

        A signal-only reconnect leaves seconds unwatched too (3 s were seen), and can't be told from a full one by our
        sid: after a full reconnect the SDK goes on showing the old one (seen with livekit 1.1.21).
        """
        now = self._loop.time()
        me = self._room.local_participant
        if self._server_epoch is None:
            # Read after the handshake, so that what the server dates comes out late rather than early by its length:
            # no grace is ever cut short by it. Only once: the SDK goes on showing our first joined_at as well.
            self._server_epoch = now - _joined_ms(me) / 1000
        others = tuple(self._info(p) for p in self._room.remote_participants.values())
        patrol.tell(Connected(now, self._info(me), others))
        self._unsaid.set()

    def _listen(self, patrol: Patrol) -> None:
        """Turn the room's events into ours. Handlers only tell the patrol, which only sets a flag."""
        room, now, tell = self._room, self._loop.time, patrol.tell

        def joined(participant: rtc.RemoteParticipant) -> None:
            tell(Joined(now(), self._info(participant)))

        def left(participant: rtc.RemoteParticipant) -> None:
            tell(Left(now(), participant.sid))

        def attributes_changed(_: dict[str, str], participant: rtc.Participant) -> None:
            tell(Attributes(now(), participant.sid, participant.attributes))

        def published(publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant) -> None:
            tell(Signal(now(), participant.sid, audio=_is_audio(publication)))

        def unpublished(_: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant) -> None:
            tell(Signal(now(), participant.sid, active=False))

        def unmuted(participant: rtc.Participant, publication: rtc.TrackPublication) -> None:
            tell(Signal(now(), participant.sid, audio=_is_audio(publication)))

        def muted(participant: rtc.Participant, _: rtc.TrackPublication) -> None:
            tell(Signal(now(), participant.sid, active=False))

        def data(packet: rtc.DataPacket) -> None:
            if packet.participant:
                tell(Signal(now(), packet.participant.sid))

        def transcribed(_: object, participant: rtc.Participant | None, __: object) -> None:
            if participant:
                tell(Transcribed(now(), participant.identity))

        room.on("participant_connected", joined)
        room.on("participant_active", joined)
        room.on("participant_disconnected", left)
        room.on("participant_attributes_changed", attributes_changed)
        room.on("track_published", published)
        room.on("track_unpublished", unpublished)
        room.on("track_muted", muted)
        room.on("track_unmuted", unmuted)
        room.on("data_received", data)
        room.on("transcription_received", transcribed)
        for topic in TEXT_TOPICS:
            room.register_text_stream_handler(topic, lambda reader, identity: self._read(reader, identity, patrol))

    def _follow(self, patrol: Patrol) -> None:
        """Tell the patrol what becomes of our connection, and what the room's metadata is."""
        room, now = self._room, self._loop.time

        def reconfigured(_: str, metadata: str) -> None:
            if patrol.tracker.blind:
                self._changed = True
            else:
                patrol.configure(metadata)

        def reconnecting() -> None:
            logger.warning("connection lost: nothing is decided", extra={"lk.pii.room_name": self._name})
            self._restored_at = math.inf
            patrol.tell(Disconnected(now()))

        def reconnected() -> None:
            logger.info("connection restored: watching anew", extra={"lk.pii.room_name": self._name})
            self._restored_at = now()
            self._connected(patrol)
            self._keep(self._configure_anew(patrol))

        def disconnected(reason: rtc.DisconnectReason.ValueType) -> None:
            self._ended = reason
            patrol.close()

        room.on("room_metadata_changed", reconfigured)
        room.on("reconnecting", reconnecting)
        room.on("reconnected", reconnected)
        room.on("disconnected", disconnected)

    def _read(self, reader: rtc.TextStreamReader, identity: str, patrol: Patrol) -> None:
        """Note each piece of a text stream. What it says is not looked at."""

        def note() -> None:
            patrol.tell(Transcribed(self._loop.time(), identity))

        async def read() -> None:
            try:
                async for _ in reader:
                    note()
            except rtc.StreamError:
                pass
            finally:
                reader.close()

        note()
        if len(self._readers) >= MAX_READERS:
            reader.close()
            return
        self._keep(read())

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it beside the rest, until it is done or the job ends."""
        task = self._loop.create_task(work)
        self._readers.add(task)
        task.add_done_callback(self._readers.discard)

    def _info(self, participant: rtc.Participant) -> Info:
        joined_ms = _joined_ms(participant)
        return Info(
            sid=participant.sid,
            identity=participant.identity,
            kind=_KINDS.get(participant.kind, Kind.STANDARD),
            simulated=rtc.ParticipantKindDetail.PARTICIPANT_KIND_DETAIL_SIMULATION in participant.kind_details,
            active=participant.state == rtc.ParticipantState.PARTICIPANT_STATE_ACTIVE,
            joined_at=self._instant(joined_ms),
            joined_ms=joined_ms,
            attributes=participant.attributes,
            audio=any(_is_audio(publication) for publication in participant.track_publications.values()),
        )

    async def say_guarding(self, *, guarding: bool) -> None:
        """Say by our own attribute whether we guard the room, so that a younger bouncer stands by or doesn't."""
        self._guards = guarding
        try:
            async with asyncio.timeout(CALL_WITHIN):
                await self._room.local_participant.set_attributes({GUARDING_ATTRIBUTE: "true" if guarding else ""})
        except Exception as error:  # noqa: BLE001 - as for any call, whatever the SDK makes of a dead line
            raise ApiError(Trouble.UNAVAILABLE, f"{type(error).__name__}: {error}") from None

    async def resign(self) -> None:
        """End our own job, and let nothing restart it."""
        self._resigned = True
        with suppress(ApiError):
            await self.delete_dispatch(self._ctx.job.dispatch_id)
        self._ctx.shutdown("another bouncer guards the room")


def untimely(reason: int, restored_for: float) -> bool:
    """Whether a job ends though nobody wanted it to.

    `reason` is the `rtc.DisconnectReason`, `restored_for` says for how many seconds our connection has been up again
    after it was lost: negative while it is not. On a full reconnect the server takes the end of our old connection for
    that of the agent, and ends our job; self-hosted, it restarts none (livekit-server 1.13.5, for jobs that are older
    than 5 s).
    """
    if reason in ON_PURPOSE:
        return False
    return reason != rtc.DisconnectReason.CLIENT_INITIATED or restored_for < ENDED_WITHIN


def _joined_ms(participant: rtc.Participant) -> int:
    return round(participant.joined_at.timestamp() * 1000) if participant.joined_at else 0


def _is_audio(publication: rtc.TrackPublication) -> bool:
    return publication.kind == rtc.TrackKind.KIND_AUDIO
