"""LiveKit's server API as the engine sees it: against a server that answers as LiveKit's does, well or badly.

That the real one answers like this is for the end-to-end tests to show.
"""

import asyncio
import resource
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from threading import Thread
from types import SimpleNamespace
from typing import Any, Self, cast
from unittest.mock import AsyncMock, Mock, patch

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer as Server
from google.protobuf.message import Message
from livekit import api, rtc
from livekit.agents import JobContext, JobRequest
from livekit.agents.utils import http_context
from livekit.protocol import agent, models

from bouncer import Kind
from bouncer.adapter import HUNG_PER_MINUTE, MAX_READERS, Drain, LiveKitRoom, agent_server, allow_files
from bouncer.adapter.calls import CALL_WITHIN, CallBudget
from bouncer.api import ApiError, Trouble
from bouncer.events import Info, Job, Transcribed
from bouncer.patrol import Patrol
from bouncer.settings import Settings

Answer = Callable[[str, bytes], web.Response]
Call = Callable[[LiveKitRoom], Awaitable[object]]
Fail = Callable[[Mock], Awaitable[None]]

CALLS: dict[str, Call] = {
    "list_participants": lambda room: room.list_participants(),
    "list_jobs": lambda room: room.list_jobs(),
    "get_participant": lambda room: room.get_participant("A"),
    "remove_participant": lambda room: room.remove_participant("A"),
    "delete_dispatch": lambda room: room.delete_dispatch("AD_1"),
    "send_data": lambda room: room.send_data(b"{}"),
    "list_dispatches": lambda room: room.list_dispatches(),
    "dispatch_successor": lambda room: room.dispatch_successor(),
}


def ok(message: Message) -> web.Response:
    """An answer of the server."""
    return web.Response(body=message.SerializeToString(), content_type="application/protobuf")


def error(status: int, code: str = "", message: str = "no") -> web.Response:
    """An error as LiveKit's server words it, or as a proxy before it does."""
    if not code:
        return web.Response(status=status, text="<html>no</html>", content_type="text/html")
    return web.json_response({"code": code, "msg": message}, status=status)


class Far:
    """The far side: it answers as the test says, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answer: Answer = lambda method, _: error(404, "not_found", method)
        self.asked: list[tuple[str, bytes]] = []
        self.hangs = False

    async def handle(self, request: web.Request) -> web.Response:
        """Answer."""
        method, body = request.path.rpartition("/")[2], await request.read()
        self.asked.append((method, body))
        if self.hangs:
            await asyncio.sleep(60)
        return self.answer(method, body)


@pytest.fixture
async def far(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Far]:
    """A server, to which the environment points."""
    far = Far()
    app = web.Application()
    app.router.add_post("/{path:.*}", far.handle)
    async with Server(app, shutdown_timeout=0) as server, http_context.open():
        monkeypatch.setenv("LIVEKIT_URL", str(server.make_url("/")))
        monkeypatch.setenv("LIVEKIT_API_KEY", "devkey")
        monkeypatch.setenv("LIVEKIT_API_SECRET", "a secret of more than 32 characters")
        monkeypatch.setenv("LIVEKIT_TOKEN", "an ambient token, which must not be used")
        yield far


def livekit_room(budget: int = 1000) -> LiveKitRoom:
    """The room `call`, before it is connected."""
    return LiveKitRoom(job_context(), CallBudget(budget), Drain(), Mock())


def job_context() -> JobContext:
    """What a bouncer's job in the room `call` has."""
    job = SimpleNamespace(
        room=SimpleNamespace(name="call", metadata=""),
        agent_name="doorman",
        metadata='{"bouncer": {}}',
        dispatch_id="AD_ours",
    )
    return cast("JobContext", SimpleNamespace(room=None, job=job, shutdown=Mock()))


class TestErrors:
    """Every failure of every call is an ApiError, by what can be done about it."""

    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    @pytest.mark.parametrize(
        ("answer", "trouble"),
        [
            pytest.param(error(401, "unauthenticated"), Trouble.DENIED, id="401"),
            pytest.param(error(403, "permission_denied"), Trouble.DENIED, id="403"),
            pytest.param(error(401), Trouble.DENIED, id="401 of a proxy"),
            pytest.param(error(429, "resource_exhausted"), Trouble.THROTTLED, id="429"),
            pytest.param(error(429), Trouble.THROTTLED, id="429 of a proxy"),
            pytest.param(error(400, "resource_exhausted"), Trouble.THROTTLED, id="exhausted"),
            pytest.param(error(503, "unavailable"), Trouble.UNAVAILABLE, id="503"),
            pytest.param(error(500, "internal"), Trouble.UNAVAILABLE, id="500"),
            pytest.param(error(502), Trouble.UNAVAILABLE, id="502 of a proxy"),
            pytest.param(error(400, "invalid_argument"), Trouble.UNAVAILABLE, id="400"),
            pytest.param(error(404, "bad_route"), Trouble.UNAVAILABLE, id="not LiveKit's API"),
            pytest.param(error(404), Trouble.UNAVAILABLE, id="404 of a proxy"),
            pytest.param(web.Response(text="<html>log in, please</html>"), Trouble.UNAVAILABLE, id="a captive portal"),
            pytest.param(web.json_response([], status=500), Trouble.UNAVAILABLE, id="an error that is no object"),
        ],
    )
    async def test_what_the_server_says(self, far: Far, call: Call, answer: web.Response, trouble: Trouble) -> None:
        """Only «not found» in LiveKit's own words is an answer, and no trouble."""
        far.answer = lambda *_: web.Response(body=answer.body, status=answer.status, headers=answer.headers)

        with pytest.raises(ApiError) as raised:
            await call(livekit_room())
        assert raised.value.trouble is trouble

    async def test_a_denied_call_says_what_would_be_right(self, far: Far) -> None:
        """Whose fault it is: the credentials'."""
        far.answer = lambda *_: error(401, "unauthenticated", "invalid token")

        with pytest.raises(ApiError, match=r"invalid token.*LIVEKIT_API_KEY and LIVEKIT_API_SECRET.*roomAdmin"):
            await livekit_room().remove_participant("A")

    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    async def test_no_answer_in_time(self, far: Far, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        """The client's own limit is minutes; nobody waits that long for an eviction."""
        assert CALL_WITHIN <= 5
        monkeypatch.setattr("bouncer.adapter.calls.CALL_WITHIN", 0.05)
        far.hangs = True

        with pytest.raises(ApiError) as raised:
            await call(livekit_room())
        assert raised.value.trouble is Trouble.UNAVAILABLE

    async def test_no_server(self, far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nobody listens there."""
        monkeypatch.setenv("LIVEKIT_URL", "http://127.0.0.1:1")

        with pytest.raises(ApiError) as raised:
            await livekit_room().remove_participant("A")
        assert raised.value.trouble is Trouble.UNAVAILABLE
        assert far.asked == []

    async def test_being_cancelled_is_no_failure(self, far: Far) -> None:
        """A job that ends cancels its calls."""
        far.hangs = True
        calling = asyncio.create_task(livekit_room().list_participants())
        await asyncio.sleep(0.05)
        calling.cancel()

        with pytest.raises(asyncio.CancelledError):
            await calling


class TestNotFound:
    """«Not found» is an answer."""

    async def test_nobody_has_that_identity(self, far: Far) -> None:
        """Nothing to read, nothing to remove, nobody to tell."""
        room = livekit_room()

        assert await room.get_participant("A") is None
        assert await room.remove_participant("A") is False
        assert await room.delete_dispatch("AD_1") is False
        assert await room.list_jobs() == ()
        await room.send_data(b"{}")
        assert [method for method, _ in far.asked] == [
            "GetParticipant",
            "RemoveParticipant",
            "DeleteDispatch",
            "ListDispatch",
            "SendData",
        ]

    async def test_but_a_room_that_is_not_found_has_not_been_seen_empty(self, far: Far) -> None:
        """We are in it, so a server that doesn't know it knows nothing of who left it."""
        with pytest.raises(ApiError) as raised:
            await livekit_room().list_participants()
        assert raised.value.trouble is Trouble.UNAVAILABLE
        assert len(far.asked) == 1


class TestAnswers:
    """What the server shows, in our records."""

    @pytest.mark.parametrize(
        ("shown", "facts"),
        [
            ({}, {}),
            ({"state": models.ParticipantInfo.JOINING}, {"active": False}),
            ({"state": models.ParticipantInfo.JOINED}, {"active": False}),
            ({"state": models.ParticipantInfo.DISCONNECTED}, {"active": False}),
            ({"kind": models.ParticipantInfo.INGRESS}, {"kind": Kind.INGRESS}),
            ({"kind": models.ParticipantInfo.EGRESS}, {"kind": Kind.EGRESS}),
            ({"kind": models.ParticipantInfo.SIP}, {"kind": Kind.SIP}),
            ({"kind": models.ParticipantInfo.AGENT}, {"kind": Kind.AGENT}),
            ({"kind": models.ParticipantInfo.CONNECTOR}, {"kind": Kind.CONNECTOR}),
            ({"kind": models.ParticipantInfo.BRIDGE}, {"kind": Kind.BRIDGE}),
            ({"kind": 99}, {"kind": Kind.STANDARD}),
            ({"kind_details": [models.ParticipantInfo.SIMULATION]}, {"simulated": True}),
            ({"kind_details": [models.ParticipantInfo.CLOUD_AGENT]}, {"simulated": False}),
            ({"permission": models.ParticipantPermission(hidden=True)}, {"hidden": True}),
            ({"permission": models.ParticipantPermission(agent=True)}, {"agent_grant": True}),
            ({"attributes": {"lk.agent.state": "idle"}}, {"attributes": {"lk.agent.state": "idle"}}),
            ({"tracks": [models.TrackInfo(type=models.TrackType.AUDIO)]}, {"audio": True}),
            ({"tracks": [models.TrackInfo(type=models.TrackType.VIDEO)]}, {"audio": False}),
            ({"joined_at_ms": 0}, {"joined_at": 1700000000.0, "joined_ms": 1700000000000}),
        ],
    )
    async def test_a_participant(self, far: Far, shown: dict[str, Any], facts: dict[str, Any]) -> None:
        """In a list and by its identity; an unknown kind counts as a person, who is never removed."""
        usual: dict[str, Any] = {
            "state": models.ParticipantInfo.ACTIVE,
            "joined_at": 1700000000,
            "joined_at_ms": 1700000000250,
        }
        participant = models.ParticipantInfo(sid="PA_A", identity="A", **(usual | shown))
        expected: dict[str, Any] = {"agent_grant": False, "hidden": False, "active": True}
        expected |= {"joined_at": 1700000000.25, "joined_ms": 1700000000250}
        far.answer = lambda method, _: ok(
            participant if method == "GetParticipant" else api.ListParticipantsResponse(participants=[participant])
        )
        room = livekit_room()

        assert await room.get_participant("A") == Info(sid="PA_A", identity="A", **(expected | facts))
        assert await room.list_participants() == (Info(sid="PA_A", identity="A", **(expected | facts)),)

    @pytest.mark.parametrize(
        ("shown", "facts"),
        [
            ({}, {"identity": "agent-AJ_1"}),
            ({"state": agent.JobState(participant_identity="receptionist")}, {"identity": "receptionist"}),
            ({"type": agent.JobType.JT_PUBLISHER}, {"identity": "agent-AJ_1", "publisher": "ana"}),
            ({"type": agent.JobType.JT_ROOM}, {"identity": "agent-AJ_1"}),
            ({"type": agent.JobType.JT_PARTICIPANT}, {"identity": "agent-AJ_1"}),
        ],
    )
    async def test_a_job(self, far: Far, shown: dict[str, Any], facts: dict[str, Any]) -> None:
        """Its identity is that of its id until the server knows it; a publisher counts for one type of job only."""
        job = agent.Job(id="AJ_1", participant=models.ParticipantInfo(identity="ana"), **shown)
        dispatch = api.AgentDispatch(id="AD_1", agent_name="assistant", state=api.AgentDispatchState(jobs=[job]))
        far.answer = lambda *_: ok(api.ListAgentDispatchResponse(agent_dispatches=[dispatch]))

        assert await livekit_room().list_jobs() == (Job(dispatch="AD_1", job="AJ_1", agent_name="assistant", **facts),)

    async def test_removing(self, far: Far) -> None:
        """By identity, which is all that the server takes."""
        far.answer = lambda *_: ok(api.RemoveParticipantResponse())

        assert await livekit_room().remove_participant("A") is True
        ((method, body),) = far.asked
        request = api.RoomParticipantIdentity.FromString(body)
        assert (method, request.room, request.identity) == ("RemoveParticipant", "call", "A")

    async def test_deleting_a_dispatch(self, far: Far) -> None:
        """Of this room."""
        far.answer = lambda *_: ok(api.AgentDispatch(id="AD_1"))

        assert await livekit_room().delete_dispatch("AD_1") is True
        ((method, body),) = far.asked
        request = api.DeleteAgentDispatchRequest.FromString(body)
        assert (method, request.room, request.dispatch_id) == ("DeleteDispatch", "call", "AD_1")

    async def test_sending_data(self, far: Far) -> None:
        """Reliable, on our topic, to everybody."""
        far.answer = lambda *_: ok(api.SendDataResponse())
        await livekit_room().send_data(b'{"event": "notice"}')

        request = api.SendDataRequest.FromString(far.asked[0][1])
        assert (request.room, request.data, request.topic) == ("call", b'{"event": "notice"}', "bouncer")
        assert request.kind == models.DataPacket.Kind.RELIABLE
        assert list(request.destination_identities) == []


class TestLeaving:
    """How a bouncer makes way for another."""

    async def test_a_successor_is_dispatched_as_we_were(self, far: Far) -> None:
        """With our name, which may be another than `bouncer`, and our dispatch's configuration."""
        far.answer = lambda *_: ok(api.AgentDispatch(id="AD_next"))

        assert await livekit_room().dispatch_successor() == "AD_next"
        ((method, body),) = far.asked
        request = api.CreateAgentDispatchRequest.FromString(body)
        assert (method, request.room, request.agent_name) == ("CreateDispatch", "call", "doorman")
        assert request.metadata == '{"bouncer": {}}'

    async def test_a_room_that_is_gone_gets_none(self, far: Far) -> None:
        """There is nothing to guard."""
        far.answer = lambda *_: error(404, "not_found")

        with pytest.raises(ApiError):
            await livekit_room().dispatch_successor()

    async def test_our_dispatches(self, far: Far) -> None:
        """Those that are for our name, whether anybody has taken them or not."""
        dispatches = [api.AgentDispatch(id=f"AD_{name}", agent_name=name) for name in ("doorman", "assistant")]

        def answer(method: str, _: bytes) -> web.Response:
            if method == "ListRooms":
                return ok(api.ListRoomsResponse(rooms=[api.Room(name="call")]))
            return ok(api.ListAgentDispatchResponse(agent_dispatches=dispatches))

        far.answer = answer

        assert await livekit_room().list_dispatches() == {"AD_doorman"}
        assert api.ListRoomsRequest.FromString(far.asked[0][1]).names == ["call"]

    async def test_a_room_that_is_closed_has_none(self, far: Far) -> None:
        """Asked for them, the server would keep us waiting, and then say that it is unavailable."""
        far.answer = lambda *_: ok(api.ListRoomsResponse())

        assert await livekit_room().list_dispatches() == frozenset()
        assert [method for method, _ in far.asked] == ["ListRooms"]

    @pytest.mark.parametrize("answer", [ok(api.AgentDispatch(id="AD_ours")), error(503, "unavailable")])
    async def test_our_own_dispatch_goes_with_us(self, far: Far, answer: web.Response) -> None:
        """If the server can't delete it, our job ends all the same."""
        far.answer = lambda *_: web.Response(body=answer.body, status=answer.status, headers=answer.headers)
        ctx = job_context()

        await LiveKitRoom(ctx, CallBudget(10), Drain(), Mock()).resign()

        assert [method for method, _ in far.asked] == ["DeleteDispatch"]
        assert api.DeleteAgentDispatchRequest.FromString(far.asked[0][1]).dispatch_id == "AD_ours"
        cast("Mock", ctx.shutdown).assert_called_once()

    async def test_every_room_learns_that_the_worker_is_drained(self) -> None:
        """Each in the thread that it has; also one that begins to wait when that is already so."""
        drain, told = Drain(), list[str]()

        def room(name: str) -> None:
            asyncio.run(drain.begun())
            told.append(name)

        threads = [Thread(target=room, args=(name,)) for name in "AB"]
        for thread in threads:
            thread.start()
        given_up = asyncio.create_task(drain.begun())
        await asyncio.sleep(0.05)
        assert told == []
        given_up.cancel()

        await asyncio.to_thread(drain.begin)
        await drain.begun()
        for thread in threads:
            thread.join(10)

        assert sorted(told) == ["A", "B"]


class RtcRoom(rtc.EventEmitter[str]):
    """As much of LiveKit's room as guarding it looks at."""

    def __init__(self) -> None:
        super().__init__()
        self.handlers: dict[str, Callable[..., None]] = {}
        self.register_text_stream_handler = self.handlers.__setitem__
        self.remote_participants: dict[str, rtc.RemoteParticipant] = {}
        self.metadata = ""
        self.local_participant = Mock(
            sid="PA_me", identity="me", joined_at=None, kind_details=[], attributes={}, track_publications={}
        )


class Reader:
    """A text stream that goes on until its sender is `done`."""

    def __init__(self, done: asyncio.Event) -> None:
        self.being_read = self.closed = False
        self._done = done

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        self.being_read = True
        await self._done.wait()
        raise StopAsyncIteration

    def close(self) -> None:
        """Read it no further."""
        self.closed = True


@asynccontextmanager
async def guarded(room: RtcRoom, replace: Mock | None = None) -> AsyncIterator[Mock]:
    """The patrol that guards a room, of which all is noted that it is told. At the end the job ends."""
    job, patrol = job_context().job, Mock(spec=Patrol)
    job.room.sid = "RM_1"
    ends: list[Callable[[], Awaitable[None]]] = []
    ctx = SimpleNamespace(room=room, job=job, connect=AsyncMock(), add_shutdown_callback=ends.append)
    await LiveKitRoom(cast("JobContext", ctx), CallBudget(1000), Drain(), replace or Mock()).guard(patrol)
    yield patrol
    for end in ends:
        await end()


@pytest.mark.usefixtures("far")
class TestGuarding:
    """What the patrol is told of the room's events."""

    async def test_only_so_many_text_streams_are_read_at_once(self) -> None:
        """Of further ones the opening counts; each that ends makes room for another."""
        room, done = RtcRoom(), asyncio.Event()
        async with guarded(room) as patrol:

            async def opened(number: int) -> list[Reader]:
                readers = [Reader(done) for _ in range(number)]
                for reader in readers:
                    room.handlers["lk.transcription"](reader, "A")
                await asyncio.sleep(0.05)
                return readers

            readers = await opened(MAX_READERS + 8)
            assert [reader.being_read for reader in readers] == [True] * MAX_READERS + [False] * 8
            assert [reader.closed for reader in readers] == [False] * MAX_READERS + [True] * 8
            told = [call.args[0] for call in patrol.tell.call_args_list]
            assert [event.identity for event in told if isinstance(event, Transcribed)] == ["A"] * len(readers)

            done.set()
            await asyncio.sleep(0.05)
            assert all(reader.closed for reader in readers)
            assert [reader.being_read for reader in await opened(1)] == [True]

    async def test_once_our_connection_has_ended_nothing_is_decided(self) -> None:
        """We were removed, or the room was closed: there is nothing to see any more."""
        room = RtcRoom()
        async with guarded(room) as patrol:
            assert not patrol.close.called

            room.emit("disconnected", rtc.DisconnectReason.ROOM_DELETED)

            patrol.close.assert_called_once()

    @pytest.mark.parametrize(
        ("happens", "untimely"),
        [
            pytest.param([], False, id="the worker ends"),
            pytest.param(["reconnecting", "unknown"], True, id="the server is away"),
            pytest.param(["reconnecting"], True, id="told to end while it is"),
            pytest.param(["reconnecting", "reconnected"], True, id="the server took it for our leaving"),
            pytest.param(["reconnecting", "reconnected", "removed"], False, id="removed right after that"),
            pytest.param(["shutdown"], True, id="the server ends"),
            pytest.param(["removed"], False, id="removed"),
            pytest.param(["deleted"], False, id="the room is deleted"),
            pytest.param(["closed"], False, id="the room is closed"),
            pytest.param(["taken"], False, id="somebody has our identity"),
        ],
    )
    async def test_who_is_to_be_replaced(self, happens: list[str], *, untimely: bool) -> None:
        """A job that ends though nobody wanted it to."""
        reasons = {
            "unknown": rtc.DisconnectReason.UNKNOWN_REASON,
            "shutdown": rtc.DisconnectReason.SERVER_SHUTDOWN,
            "removed": rtc.DisconnectReason.PARTICIPANT_REMOVED,
            "deleted": rtc.DisconnectReason.ROOM_DELETED,
            "closed": rtc.DisconnectReason.ROOM_CLOSED,
            "taken": rtc.DisconnectReason.DUPLICATE_IDENTITY,
        }
        room, replace = RtcRoom(), Mock()
        async with guarded(room, replace):
            for event in happens:
                if event in reasons:
                    room.emit("disconnected", reasons[event])
                else:
                    room.emit(event)

        assert [call.args[0].dispatch_id for call in replace.call_args_list] == ["AD_ours"] * untimely

    async def test_nobody_replaces_who_has_handed_the_room_over(self, far: Far) -> None:
        """Even if its dispatch could not be deleted, and its connection was made anew right before."""
        far.answer = lambda *_: error(503, "unavailable")
        room, replace, job = RtcRoom(), Mock(), job_context().job
        job.room.sid = "RM_1"
        ends: list[Callable[[], Awaitable[None]]] = []
        connect, shutdown = AsyncMock(), Mock()
        ctx = SimpleNamespace(room=room, job=job, connect=connect, add_shutdown_callback=ends.append, shutdown=shutdown)
        ours = LiveKitRoom(cast("JobContext", ctx), CallBudget(1000), Drain(), replace)
        await ours.guard(Mock(spec=Patrol))
        room.emit("reconnecting")
        room.emit("reconnected")

        await ours.resign()
        await ends[0]()

        replace.assert_not_called()

    async def test_a_connection_that_has_held_for_long_ended_for_another_reason(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not for having been made anew."""
        monkeypatch.setattr("bouncer.adapter.ENDED_WITHIN", 0.0)
        room, replace = RtcRoom(), Mock()
        async with guarded(room, replace):
            room.emit("reconnecting")
            room.emit("reconnected")

        replace.assert_not_called()


async def hang(replace: Mock) -> None:
    """Have a job hang while it connects, until that is over."""
    job = job_context().job
    job.room.sid = "RM_1"
    ctx = SimpleNamespace(room=Mock(), job=job, connect=lambda **_: asyncio.sleep(60))
    with pytest.raises(TimeoutError):
        await LiveKitRoom(cast("JobContext", ctx), CallBudget(1000), Drain(), replace).guard(Mock())


async def lose(replace: Mock) -> None:
    """Have the framework lose a job that it was given."""
    taken = AsyncMock(side_effect=RuntimeError("no process became available after 3 attempts"))
    server = agent_server(Settings(), CallBudget(1000))
    with patch.object(server, "replace", replace), pytest.raises(RuntimeError):
        await server.take(cast("JobRequest", SimpleNamespace(accept=taken, job=job_context().job)))


@pytest.mark.usefixtures("far")
class TestHanging:
    """A job that guards nothing, and in whose place nobody else would do anything."""

    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is soon held to hang, and none has before."""
        monkeypatch.setattr("bouncer.adapter.CONNECT_WITHIN", 0.01)
        monkeypatch.setattr(LiveKitRoom, "hung", CallBudget(HUNG_PER_MINUTE))

    @pytest.mark.parametrize("fail", [hang, lose])
    async def test_it_is_replaced(self, fail: Fail) -> None:
        """By another job."""
        replace = Mock()

        await fail(replace)

        assert [call.args[0].dispatch_id for call in replace.call_args_list] == ["AD_ours"]

    @pytest.mark.parametrize("fail", [hang, lose])
    async def test_however_many(self, fail: Fail) -> None:
        """Only a few are replaced; the others end, as those do whose connection is refused."""
        replace = Mock()

        await asyncio.gather(*(fail(replace) for _ in range(40)))

        assert replace.call_count == HUNG_PER_MINUTE

    async def test_a_job_that_is_taken_is_left_alone(self) -> None:
        """The framework runs it."""
        taken, replace = AsyncMock(), Mock()
        server = agent_server(Settings(), CallBudget(1000))

        with patch.object(server, "replace", replace):
            await server.take(cast("JobRequest", SimpleNamespace(accept=taken)))

        taken.assert_awaited_once_with()
        replace.assert_not_called()


class TestBudget:
    """How many calls a worker makes a minute, in all its rooms."""

    def test_lists_wait_once_it_is_spent(self) -> None:
        """A call counts for a minute."""
        budget = CallBudget(2)

        assert [budget.take(now, urgent=False) for now in (0, 10, 20, 59.9, 60, 61, 70)] == [
            *(True, True, False, False),
            *(True, False, True),
        ]

    def test_what_is_urgent_never_waits(self) -> None:
        """And is counted: after many removals, lists have to wait longer."""
        budget = CallBudget(2)

        assert all(budget.take(now, urgent=True) for now in range(10))
        assert not budget.take(60, urgent=False)
        assert budget.take(68, urgent=False)

    async def test_a_call_that_has_to_wait_is_not_made(self, far: Far) -> None:
        """It is told that it comes too often, as the server would tell it."""
        far.answer = lambda *_: ok(api.ListParticipantsResponse())
        room = livekit_room(budget=1)
        await room.list_participants()

        for call in (room.list_participants, room.list_jobs):
            with pytest.raises(ApiError) as raised:
                await call()
            assert raised.value.trouble is Trouble.THROTTLED
        assert len(far.asked) == 1

        await room.list_participants(urgent=True)
        assert len(far.asked) == 2


class TestOpenFiles:
    """A worker of many rooms takes more of them than a shell allows."""

    @pytest.mark.parametrize(
        ("limits", "allowed"),
        [
            pytest.param((1024, 4096), (3000, 4096), id="as many as are wanted"),
            pytest.param((1024, 2048), (2048, 2048), id="as many as we may"),
            pytest.param((1024, resource.RLIM_INFINITY), (3000, resource.RLIM_INFINITY), id="no hard limit"),
            pytest.param((3000, 4096), None, id="enough already"),
            pytest.param((resource.RLIM_INFINITY, resource.RLIM_INFINITY), None, id="no limit"),
        ],
    )
    def test_the_limit_is_raised(
        self, limits: tuple[int, int], allowed: tuple[int, int] | None, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Never lowered, and the log says if it isn't enough."""
        setrlimit = Mock()
        with patch.multiple(resource, getrlimit=Mock(return_value=limits), setrlimit=setrlimit):
            allow_files(3000)

        assert [each.args for each in setrlimit.call_args_list] == (
            [(resource.RLIMIT_NOFILE, allowed)] if allowed else []
        )
        assert bool(caplog.records) == (allowed is not None and allowed[0] < 3000)

    def test_a_system_with_a_limit_of_its_own_is_told_of(self, caplog: pytest.LogCaptureFixture) -> None:
        """It refuses what the hard limit would allow."""
        limits = {"getrlimit": Mock(return_value=(1024, 4096)), "setrlimit": Mock(side_effect=ValueError)}
        with patch.multiple(resource, **limits):
            allow_files(3000)

        (record,) = caplog.records
        assert (record.message, record.__dict__["limit"]) == ("few open files are allowed", 1024)
