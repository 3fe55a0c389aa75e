"""LiveKit as the rest of the engine sees it: events and lists in our records, calls with our errors.

The only module that imports livekit, and the place where the clocks meet: LiveKit dates by the server's wall clock,
we by the event loop's. What is here was measured on livekit-server 1.13.5 with livekit-agents 1.8.9; the reasons
stand beside the lines that need one.
"""

import asyncio
import logging
import math
import os
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any, TypeVar

from livekit import api, rtc
from livekit.agents import AgentServer, AutoSubscribe, JobContext, JobExecutorType, JobRequest, WorkerPermissions
from livekit.agents.utils import http_context
from livekit.protocol import agent, models
from livekit.rtc._ffi_client import FfiClient

from bouncer.api import ApiError, Trouble
from bouncer.events import (
    Attributes,
    Connected,
    Disconnected,
    Info,
    Job,
    Joined,
    Left,
    Signal,
    Transcribed,
)
from bouncer.patrol import Patrol
from bouncer.room import GUARDING_ATTRIBUTE, Instant, Kind
from bouncer.settings import Settings

logger = logging.getLogger("bouncer")

T = TypeVar("T")

TOPIC = "bouncer"
TARGET_LOAD = 0.7
"""The load at which a server takes its workers for full (its own constant)."""
FULL_LOAD = 1.0
"""The load with which a worker gets no job. At 0.7 it gets one all the same, as long as another has room: the server
draws one of its workers, each with a weight of 1 less its load (1 of 6 went to the full one of two)."""
CALL_WITHIN = 3.0
"""Seconds for one call to the server API; on loopback it takes 0.5 to 5 ms. The client's own limit is 300 s."""
CONNECT_WITHIN = 30.0
"""Seconds for connecting to the room. One that hangs is listed ACTIVE all the same, so it must not go on unnoticed."""
HUNG_PER_MINUTE = 6
"""Jobs of one worker, in all its rooms, that are replaced in a minute because connecting hung, or because they never
began. Those that hang take 30 s for that; each leaves nothing behind, so however many there are it is never more."""
SAY_AGAIN = 1.0
"""Seconds after which we say again that we guard the room, if that could not be said."""
ENDED_WITHIN = 10.0
"""Seconds after our connection was made anew in which the server may end our job for it; it takes a moment."""
MAX_READERS = 32
"""Text streams read at the same time in one room; of further ones only the opening counts."""
TEXT_TOPICS = ("lk.transcription", "lk.chat")

_KINDS: Mapping[int, Kind] = {
    rtc.ParticipantKind.PARTICIPANT_KIND_STANDARD: Kind.STANDARD,
    rtc.ParticipantKind.PARTICIPANT_KIND_INGRESS: Kind.INGRESS,
    rtc.ParticipantKind.PARTICIPANT_KIND_EGRESS: Kind.EGRESS,
    rtc.ParticipantKind.PARTICIPANT_KIND_SIP: Kind.SIP,
    rtc.ParticipantKind.PARTICIPANT_KIND_AGENT: Kind.AGENT,
    rtc.ParticipantKind.PARTICIPANT_KIND_CONNECTOR: Kind.CONNECTOR,
    rtc.ParticipantKind.PARTICIPANT_KIND_BRIDGE: Kind.BRIDGE,
}
_LISTED_KINDS: Mapping[int, Kind] = {
    models.ParticipantInfo.STANDARD: Kind.STANDARD,
    models.ParticipantInfo.INGRESS: Kind.INGRESS,
    models.ParticipantInfo.EGRESS: Kind.EGRESS,
    models.ParticipantInfo.SIP: Kind.SIP,
    models.ParticipantInfo.AGENT: Kind.AGENT,
    models.ParticipantInfo.CONNECTOR: Kind.CONNECTOR,
    models.ParticipantInfo.BRIDGE: Kind.BRIDGE,
}
"""The numbers of CONNECTOR and BRIDGE differ between the two APIs. An unknown kind counts as STANDARD: a person."""


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
    """A worker that tells its rooms when it is being drained, and remembers whether it failed."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.draining_rooms = Drain()
        self.failed = False
        """Whether it ended by an error; the framework logs that, and ends with status 0 all the same."""

    async def run(self, *args: Any, **options: Any) -> None:
        """Be a worker until it is ended."""
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
                await _dispatch_anew(request.job)
            raise

    async def drain(self, *args: Any, **options: Any) -> None:
        """Take no more rooms, have those that are here handed over, and wait for them to end."""
        self.draining_rooms.begin()
        await super().drain(*args, **options)


def agent_server(settings: Settings) -> BouncerServer:
    """A worker that joins hidden, and takes rooms by how many it guards rather than by the machine's CPU."""
    # A bouncer has no use for the framework's speech models, and they take 220 MB for 20 rooms.
    os.environ.setdefault("LIVEKIT_AGENTS_PRELOAD_LOCAL_INFERENCE", "0")
    # FfiClient makes its singleton without a lock: two jobs that start together would make two, and hang.
    _ = FfiClient.instance

    # The SDK logs each stream that nobody asked for, at INFO: a line for every message of an AgentSession.
    logging.getLogger().addFilter(lambda record: not str(record.msg).startswith(("ignoring byte", "ignoring text")))

    def load(server: AgentServer) -> float:
        share = len(server.active_jobs) / settings.max_rooms
        return TARGET_LOAD * share if share < 1 else FULL_LOAD

    port: dict[str, Any] = {} if settings.port is None else {"port": settings.port}
    server = BouncerServer(
        job_executor_type=JobExecutorType.THREAD,
        # The worker itself never declines: what it declined would stay unguarded for ever. The server looks at the
        # load, and gives a full worker nothing.
        load_threshold=float("inf"),
        permissions=WorkerPermissions(can_publish=False, can_publish_data=False, hidden=True),
        **port,
    )
    server.load_fnc = load
    return server


class CallBudget:
    """How many API calls this worker makes a minute: removals always go, lists only within what is left."""

    def __init__(self, per_minute: int) -> None:
        """Make one for all rooms of the worker; the rooms run in threads of their own."""
        self._per_minute = per_minute
        self._made: deque[Instant] = deque()
        self._lock = threading.Lock()

    def take(self, now: Instant, *, urgent: bool) -> bool:
        """Count a call that is about to be made; False if it has to wait."""
        with self._lock:
            while self._made and self._made[0] + 60.0 <= now:
                self._made.popleft()
            if not urgent and len(self._made) >= self._per_minute:
                return False
            self._made.append(now)
            return True


class LiveKitRoom:
    """One room on LiveKit: connects a patrol to its events, and is the patrol's `RoomApi`."""

    hung = CallBudget(HUNG_PER_MINUTE)

    def __init__(self, ctx: JobContext, budget: CallBudget, drain: Drain) -> None:
        """Make it for a job, from within the job's entrypoint."""
        self._ctx = ctx
        self._drain = drain
        self._room = ctx.room
        self._name = ctx.job.room.name
        self._budget = budget
        self._loop = asyncio.get_running_loop()
        self._api = _client()
        self._server_epoch: float | None = None
        """What to add to the server's seconds to get an Instant."""
        self._readers: set[asyncio.Task[None]] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._guards = True
        self._unsaid = asyncio.Event()
        self._room_sid = ""
        self._changed = False
        """Whether the room's metadata changed while we reconnected."""
        self._restored_at = -math.inf
        """When our connection was last made anew; infinity while that is being tried."""

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
                await self._replace()
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
            if self._loop.time() - self._restored_at < ENDED_WITHIN:
                await self._replace()

        self._ctx.add_shutdown_callback(close)
        logger.info("guarding", extra={"lk.pii.room_name": self._name})

    async def _replace(self) -> None:
        """Dispatch a successor, if this job ends although nobody wanted it to: its dispatch is still there.

        It isn't if the room was closed, which makes connecting hang too; a dispatch would open the room again.

        On a full reconnect the server takes the end of our old connection for that of the agent, and ends our job;
        self-hosted, it restarts none (livekit-server 1.13.5, for jobs that are older than 5 s).
        """
        try:
            if self._ctx.job.dispatch_id in {job.dispatch for job in await self.list_jobs(urgent=True)}:
                successor = await self.dispatch_successor()
                await self.delete_dispatch(self._ctx.job.dispatch_id)
                logger.info("replaced", extra={"lk.pii.room_name": self._name, "dispatch": successor})
        except ApiError as error:
            logger.warning("not replaced", extra={"lk.pii.room_name": self._name, "error": str(error)})

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

        room.on("room_metadata_changed", reconfigured)
        room.on("reconnecting", reconnecting)
        room.on("reconnected", reconnected)
        room.on("disconnected", lambda *_: patrol.close())

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

    def _instant(self, server_ms: int) -> Instant:
        """The server's milliseconds as an Instant; right only once we are connected."""
        return (self._server_epoch or 0.0) + server_ms / 1000

    def _listed(self, participant: models.ParticipantInfo) -> Info:
        joined_ms = participant.joined_at_ms or participant.joined_at * 1000
        return Info(
            sid=participant.sid,
            identity=participant.identity,
            kind=_LISTED_KINDS.get(participant.kind, Kind.STANDARD),
            simulated=models.ParticipantInfo.SIMULATION in participant.kind_details,
            active=participant.state == models.ParticipantInfo.ACTIVE,
            joined_at=self._instant(joined_ms),
            joined_ms=joined_ms,
            attributes=dict(participant.attributes),
            audio=any(track.type == models.TrackType.AUDIO for track in participant.tracks),
            agent_grant=participant.permission.agent,
            hidden=participant.permission.hidden,
        )

    async def list_participants(self, *, urgent: bool = False) -> tuple[Info, ...]:
        """Everybody in the room, hidden ones and ourselves included."""
        request = api.ListParticipantsRequest(room=self._name)
        answer = await self._call(lambda: self._api.room.list_participants(request), urgent=urgent)
        if answer is None:
            raise ApiError(Trouble.UNAVAILABLE, "the server does not know the room")
        return tuple(map(self._listed, answer.participants))

    async def list_jobs(self, *, urgent: bool = False) -> tuple[Job, ...]:
        """The jobs of all the room's dispatches."""
        dispatches = await self._call(lambda: self._api.agent_dispatch.list_dispatch(self._name), urgent=urgent)
        return tuple(_job(dispatch, job) for dispatch in dispatches or () for job in dispatch.state.jobs)

    async def get_participant(self, identity: str) -> Info | None:
        """The participant that has this identity now; None if there is none."""
        request = api.RoomParticipantIdentity(room=self._name, identity=identity)
        answer = await self._call(lambda: self._api.room.get_participant(request))
        return None if answer is None else self._listed(answer)

    async def remove_participant(self, identity: str) -> bool:
        """Remove whoever has this identity; False if there was nobody."""
        request = api.RoomParticipantIdentity(room=self._name, identity=identity)
        return await self._call(lambda: self._api.room.remove_participant(request)) is not None

    async def delete_dispatch(self, dispatch: str) -> bool:
        """End all jobs of a dispatch, gracefully, and let nothing restart them; False if there was no such dispatch."""
        return await self._call(lambda: self._api.agent_dispatch.delete_dispatch(dispatch, self._name)) is not None

    async def send_data(self, payload: bytes) -> None:
        """Send a reliable data packet on our topic to everybody in the room."""
        request = api.SendDataRequest(
            room=self._name, data=payload, kind=models.DataPacket.Kind.RELIABLE, topic=TOPIC, nonce=os.urandom(16)
        )
        await self._call(lambda: self._api.room.send_data(request))

    async def say_guarding(self, *, guarding: bool) -> None:
        """Say by our own attribute whether we guard the room, so that a younger bouncer stands by or doesn't."""
        self._guards = guarding
        try:
            async with asyncio.timeout(CALL_WITHIN):
                await self._room.local_participant.set_attributes({GUARDING_ATTRIBUTE: "true" if guarding else ""})
        except Exception as error:  # noqa: BLE001 - as for any call, whatever the SDK makes of a dead line
            raise ApiError(Trouble.UNAVAILABLE, f"{type(error).__name__}: {error}") from None

    async def dispatch_successor(self) -> str:
        """Dispatch another bouncer to the room, as we were dispatched; the id of its dispatch."""
        job = self._ctx.job
        request = api.CreateAgentDispatchRequest(agent_name=job.agent_name, room=self._name, metadata=job.metadata)
        dispatch = await self._call(lambda: self._api.agent_dispatch.create_dispatch(request))
        if dispatch is None:
            raise ApiError(Trouble.UNAVAILABLE, "the server does not know the room")
        return dispatch.id

    async def resign(self) -> None:
        """End our own job, and let nothing restart it."""
        with suppress(ApiError):
            await self.delete_dispatch(self._ctx.job.dispatch_id)
        self._ctx.shutdown("another bouncer guards the room")

    async def _call(self, call: Callable[[], Awaitable[T]], *, urgent: bool = True) -> T | None:
        """Make an API call; None if the server says «not found».

        Raises: ApiError for every other failure.
        """
        if not self._budget.take(self._loop.time(), urgent=urgent):
            raise ApiError(Trouble.THROTTLED, "this worker has made its API calls of this minute")
        try:
            async with asyncio.timeout(CALL_WITHIN):
                return await call()
        except api.TwirpError as error:
            if error.code == api.TwirpErrorCode.NOT_FOUND:
                return None
            raise _api_error(error) from None
        except Exception as error:  # noqa: BLE001 - whatever the SDK makes of a dead line or of a proxy's own answer
            raise ApiError(Trouble.UNAVAILABLE, f"{type(error).__name__}: {error}") from None


def _client() -> api.LiveKitAPI:
    """The server's API, in the session of the context that we run in: a job's own, for instance."""
    # Not ctx.api: an ambient LIVEKIT_TOKEN would replace the key there. The session is on the TLS context that the
    # worker built once; building one for each room would stall its loop for 100 to 280 ms.
    return api.LiveKitAPI(
        os.environ["LIVEKIT_URL"],
        os.environ["LIVEKIT_API_KEY"],
        os.environ["LIVEKIT_API_SECRET"],
        session=http_context.http_session(),
    )


async def _dispatch_anew(job: agent.Job) -> None:
    """Put another dispatch in the place of that of a job which never began, if it is still there.

    It isn't if the room was closed; a dispatch would open that again.
    """
    room, facts = job.room.name, {"lk.pii.room_name": job.room.name}
    request = api.CreateAgentDispatchRequest(agent_name=job.agent_name, room=room, metadata=job.metadata)
    try:
        async with http_context.open(), asyncio.timeout(CALL_WITHIN):
            dispatches = _client().agent_dispatch
            if job.dispatch_id in {dispatch.id for dispatch in await dispatches.list_dispatch(room)}:
                successor = await dispatches.create_dispatch(request)
                await dispatches.delete_dispatch(job.dispatch_id, room)
                logger.info("replaced", extra={**facts, "dispatch": successor.id})
    except Exception as error:  # noqa: BLE001 - as for any call, whatever the SDK makes of a dead line
        logger.warning("not replaced", extra={**facts, "error": f"{type(error).__name__}: {error}"})


def _api_error(error: api.TwirpError) -> ApiError:
    if error.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return ApiError(
            Trouble.DENIED,
            f"LiveKit denies it ({error.code}: {error.message}); LIVEKIT_API_KEY and LIVEKIT_API_SECRET must be a "
            "valid key of this server, since removing participants needs a token with roomAdmin for the room",
        )
    if error.status == HTTPStatus.TOO_MANY_REQUESTS or error.code == api.TwirpErrorCode.RESOURCE_EXHAUSTED:
        return ApiError(Trouble.THROTTLED, error.message)
    return ApiError(Trouble.UNAVAILABLE, f"{error.code}: {error.message}")


def _job(dispatch: api.AgentDispatch, job: agent.Job) -> Job:
    return Job(
        dispatch=dispatch.id,
        job=job.id,
        agent_name=dispatch.agent_name,
        identity=job.state.participant_identity or f"agent-{job.id}",
        publisher=job.participant.identity if job.type == agent.JobType.JT_PUBLISHER else "",
    )


def _joined_ms(participant: rtc.Participant) -> int:
    return round(participant.joined_at.timestamp() * 1000) if participant.joined_at else 0


def _is_audio(publication: rtc.TrackPublication) -> bool:
    return publication.kind == rtc.TrackKind.KIND_AUDIO
