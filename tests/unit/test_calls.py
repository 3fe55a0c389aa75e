"""The server's API as the engine sees it, against a server that answers like LiveKit's, well or badly.

The end-to-end tests show that the real one answers like this.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer as Server
from google.protobuf.message import Message
from livekit import api
from livekit.agents import JobContext
from livekit.protocol import agent, models

from bouncer import Kind
from bouncer.adapter.calls import ROOM_PART, CallBudget, RoomCalls
from bouncer.adapter.errors import CALL_WITHIN
from bouncer.events import Info, Job, Medium, Publication
from bouncer.guard.schedule import POSTPONED_FOR
from bouncer.ports import ApiError, Trouble

Call = Callable[[RoomCalls], Awaitable[object]]

CALLS: dict[str, Call] = {
    "ListParticipants": lambda calls: calls.list_participants(),
    "ListDispatch": lambda calls: calls.list_jobs(),
    "ListRooms": lambda calls: calls.list_dispatches(),
    "GetParticipant": lambda calls: calls.get_participant("A"),
    "RemoveParticipant": lambda calls: calls.remove_participant("A"),
    "DeleteDispatch": lambda calls: calls.delete_dispatch("AD_1"),
    "CreateDispatch": lambda calls: calls.dispatch_successor(),
    "SendData": lambda calls: calls.send_data(b"{}"),
}


def ok(message: Message) -> web.Response:
    """Return an answer of the server."""
    return web.Response(body=message.SerializeToString(), content_type="application/protobuf")


def error(status: int, code: str = "", message: str = "no") -> web.Response:
    """Return an error as LiveKit's server words it; without a code, as a proxy in front of it does."""
    if not code:
        return web.Response(status=status, text="<html>no</html>", content_type="text/html")
    return web.json_response({"code": code, "msg": message}, status=status)


class Far:
    """The other side: it answers as the test says, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, web.Response] = {}
        """By method; "" answers every other one."""
        self.asked: list[tuple[str, bytes]] = []
        self.hangs = False
        self.url = ""
        self.shut_down: list[str] = []

    async def handle(self, request: web.Request) -> web.Response:
        """Answer."""
        method, body = request.path.rpartition("/")[2], await request.read()
        self.asked.append((method, body))
        if self.hangs:
            await asyncio.sleep(60)
        answer = self.answers.get(method) or self.answers.get("") or error(404, "not_found", method)
        return web.Response(body=answer.body, status=answer.status, headers=answer.headers)


@pytest.fixture
async def far() -> AsyncIterator[Far]:
    """A server."""
    far = Far()
    app = web.Application()
    app.router.add_post("/{path:.*}", far.handle)
    async with Server(app, shutdown_timeout=0) as server:
        far.url = str(server.make_url("/"))
        yield far


@pytest.fixture
async def calls(far: Far) -> AsyncIterator[RoomCalls]:
    """The calls of a bouncer named `doorman` in the room `call`."""
    job = agent.Job(
        room=models.Room(name="call"), agent_name="doorman", metadata='{"bouncer": {}}', dispatch_id="AD_ours"
    )
    ctx = cast("JobContext", SimpleNamespace(job=job, shutdown=far.shut_down.append))
    async with api.LiveKitAPI(far.url, "devkey", "a secret of more than 32 characters") as client:
        yield RoomCalls(client, ctx, CallBudget(1000))


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
async def test_failures(far: Far, calls: RoomCalls, answer: web.Response, trouble: Trouble) -> None:
    """Every failure of every call is an ApiError; only LiveKit's own "not found" is an answer."""
    far.answers[""] = answer
    for call in CALLS.values():
        with pytest.raises(ApiError) as raised:
            await call(calls)
        assert raised.value.trouble is trouble


async def test_a_denied_call_says_what_would_be_right(far: Far, calls: RoomCalls) -> None:
    """The error names the credentials."""
    far.answers[""] = error(401, "unauthenticated", "invalid token")

    with pytest.raises(ApiError, match=r"invalid token.*LIVEKIT_API_KEY and LIVEKIT_API_SECRET.*roomAdmin"):
        await calls.remove_participant("A")


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_no_answer_in_time(far: Far, calls: RoomCalls, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's own limit is minutes; no eviction waits that long."""
    assert CALL_WITHIN <= 5
    monkeypatch.setattr("bouncer.adapter.calls.CALL_WITHIN", 0.05)
    far.hangs = True

    with pytest.raises(ApiError) as raised:
        await call(calls)
    assert raised.value.trouble is Trouble.UNAVAILABLE


async def test_being_cancelled_is_no_failure(far: Far, calls: RoomCalls) -> None:
    """A job that ends cancels its calls."""
    far.hangs = True
    calling = asyncio.create_task(calls.list_participants())
    await asyncio.sleep(0.05)
    calling.cancel()

    with pytest.raises(asyncio.CancelledError):
        await calling


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("GetParticipant", None),
        ("RemoveParticipant", False),
        ("DeleteDispatch", False),
        ("ListDispatch", ()),
        ("SendData", None),
        ("ListRooms", frozenset()),
        ("ListParticipants", Trouble.UNAVAILABLE),
        ("CreateDispatch", Trouble.UNAVAILABLE),
    ],
)
async def test_not_found(far: Far, calls: RoomCalls, method: str, answer: object) -> None:
    """It is an answer; but a room that we are in and the server doesn't know has not been seen empty."""
    got: object = None
    try:
        got = await CALLS[method](calls)
    except ApiError as raised:
        got = raised.trouble
    assert got == answer
    assert [asked for asked, _ in far.asked] == [method]


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
        (
            {"tracks": [models.TrackInfo(type=models.TrackType.AUDIO, name="mic", encryption=models.Encryption.GCM)]},
            {"audio": True, "publications": (Publication(Medium.AUDIO, "mic", encrypted=True),)},
        ),
        (
            {"tracks": [models.TrackInfo(type=models.TrackType.VIDEO, name="cam", muted=True)]},
            {"publications": (Publication(Medium.VIDEO, "cam", muted=True),)},
        ),
        (
            {"data_tracks": [models.DataTrackInfo(name="joints")] * 100},
            {"publications": (Publication(Medium.DATA, "joints"),) * 64},
        ),
        ({"permission": models.ParticipantPermission(recorder=True)}, {"recorder": True}),
        ({"permission": models.ParticipantPermission(can_publish=True)}, {"can_publish": True}),
        ({"permission": models.ParticipantPermission(can_publish_data=True)}, {"can_send_data": True}),
        ({"joined_at_ms": 0}, {"joined_at": 1700000000.0, "joined_ms": 1700000000000}),
    ],
)
async def test_a_participant(far: Far, calls: RoomCalls, shown: dict[str, Any], facts: dict[str, Any]) -> None:
    """Listed and read alone alike; an unknown kind counts as a person, who is never removed."""
    usual = {"state": models.ParticipantInfo.ACTIVE, "joined_at": 1700000000, "joined_at_ms": 1700000000250}
    participant = models.ParticipantInfo(sid="PA_A", identity="A", **cast("Any", usual | shown))
    permissions = dict.fromkeys(("agent_grant", "hidden", "recorder", "can_publish", "can_send_data"), False)
    expected = permissions | {"joined_at": 1700000000.25, "joined_ms": 1700000000250}
    info = Info(sid="PA_A", identity="A", **cast("Any", expected | facts))
    far.answers["GetParticipant"] = ok(participant)
    far.answers["ListParticipants"] = ok(api.ListParticipantsResponse(participants=[participant]))

    assert await calls.get_participant("A") == info
    assert await calls.list_participants() == (info,)


@pytest.mark.parametrize(
    ("shown", "facts"),
    [
        ({}, {"identity": "agent-AJ_1"}),
        ({"state": agent.JobState(participant_identity="receptionist")}, {"identity": "receptionist"}),
        ({"type": agent.JobType.JT_PUBLISHER}, {"identity": "agent-AJ_1", "serves": "ana"}),
        ({"type": agent.JobType.JT_ROOM}, {"identity": "agent-AJ_1"}),
        ({"type": agent.JobType.JT_PARTICIPANT}, {"identity": "agent-AJ_1", "serves": "ana"}),
    ],
)
async def test_a_job(far: Far, calls: RoomCalls, shown: dict[str, Any], facts: dict[str, Any]) -> None:
    """Its identity follows from its id until the server knows it; only some types of job serve one participant."""
    job = agent.Job(id="AJ_1", participant=models.ParticipantInfo(identity="ana"), **shown)
    dispatch = api.AgentDispatch(id="AD_1", agent_name="assistant", state=api.AgentDispatchState(jobs=[job]))
    far.answers["ListDispatch"] = ok(api.ListAgentDispatchResponse(agent_dispatches=[dispatch]))

    assert await calls.list_jobs() == (Job(dispatch="AD_1", job="AJ_1", agent_name="assistant", **facts),)


@pytest.mark.parametrize(
    ("method", "request_type", "asked", "answer", "result"),
    [
        (
            "RemoveParticipant",
            api.RoomParticipantIdentity,
            {"room": "call", "identity": "A"},
            api.RemoveParticipantResponse(),
            True,
        ),
        (
            "DeleteDispatch",
            api.DeleteAgentDispatchRequest,
            {"room": "call", "dispatch_id": "AD_1"},
            api.AgentDispatch(),
            True,
        ),
        (
            "SendData",
            api.SendDataRequest,
            {"room": "call", "data": b"{}", "topic": "bouncer", "kind": api.DataPacket.Kind.RELIABLE},
            api.SendDataResponse(),
            None,
        ),
        (
            "CreateDispatch",
            api.CreateAgentDispatchRequest,
            {"room": "call", "agent_name": "doorman", "metadata": '{"bouncer": {}}'},
            api.AgentDispatch(id="AD_next"),
            "AD_next",
        ),
    ],
)
async def test_what_is_asked(
    far: Far,
    calls: RoomCalls,
    method: str,
    *,
    request_type: type[Message],
    asked: dict[str, Any],
    answer: Message,
    result: object,
) -> None:
    """Each request names the room. A packet goes to everyone, and a successor is dispatched as we were."""
    far.answers[method] = ok(answer)

    assert await CALLS[method](calls) == result
    request = request_type.FromString(far.asked[0][1])
    assert asked == {name: getattr(request, name) for name in asked}
    assert not getattr(request, "destination_identities", ())


@pytest.mark.parametrize(
    ("rooms", "result", "asked"),
    [(["call"], {"AD_doorman"}, ["ListRooms", "ListDispatch"]), ([], set(), ["ListRooms"])],
)
async def test_our_dispatches(far: Far, calls: RoomCalls, rooms: list[str], result: set[str], asked: list[str]) -> None:
    """Those with our name. A closed room is not even asked about, because the server would keep us waiting."""
    dispatches = [api.AgentDispatch(id=f"AD_{name}", agent_name=name) for name in ("doorman", "assistant")]
    far.answers["ListRooms"] = ok(api.ListRoomsResponse(rooms=[api.Room(name=name) for name in rooms]))
    far.answers["ListDispatch"] = ok(api.ListAgentDispatchResponse(agent_dispatches=dispatches))

    assert await calls.list_dispatches() == result
    assert [method for method, _ in far.asked] == asked
    assert api.ListRoomsRequest.FromString(far.asked[0][1]).names == ["call"]


@pytest.mark.parametrize("answer", [ok(api.AgentDispatch(id="AD_ours")), error(503, "unavailable")])
async def test_our_own_dispatch_goes_with_us(far: Far, calls: RoomCalls, answer: web.Response) -> None:
    """If the server can't delete it, our job ends all the same."""
    far.answers["DeleteDispatch"] = answer

    await calls.resign("another bouncer guards the room")

    assert api.DeleteAgentDispatchRequest.FromString(far.asked[0][1]).dispatch_id == "AD_ours"
    assert (calls.resigned, far.shut_down) == (True, ["another bouncer guards the room"])


@pytest.mark.parametrize(
    ("calls", "granted"),
    [
        pytest.param(
            [(at, "a", "") for at in (0, 10, 20, 59.9, 60, 61, 70)], "yynnyny", id="a call counts for a minute"
        ),
        pytest.param([(at, "a", "urgent") for at in (0, 1, 2, 3)], "yyyy", id="what is urgent goes beyond"),
        pytest.param([(at, "a", "urgent") for at in (0, 1, 2)] + [(60, "a", "")], "yyyn", id="and counts"),
        pytest.param([(i / 99, "a", "urgent") for i in range(62)], "y" * 60 + "nn", id="up to the room's share"),
        pytest.param(
            [(i / 99, "a", "urgent") for i in range(62)] + [(1, "b", "urgent"), (1, "b", "")],
            "y" * 60 + "nnyn",
            id="which leaves the others theirs",
        ),
        pytest.param(
            [(0, "a", ""), (0, "a", ""), (0, "a", "")] + [(1, "a", "urgent") for _ in range(61)],
            "yyn" + "y" * 60 + "n",
            id="whatever the room has done otherwise",
        ),
        pytest.param([(i / 99, "a", "ends") for i in range(80)], "y" * 80, id="what ends an eviction always goes"),
    ],
)
def test_a_budget_of_two_calls_a_minute(calls: list[tuple[float, str, str]], granted: str) -> None:
    """A room may make sixty urgent ones, whatever the others do."""
    budget = CallBudget(2)

    assert (
        "".join(
            "ny"[budget.spend(now, room=room, urgent=kind == "urgent", ends=kind == "ends")]
            for now, room, kind in calls
        )
        == granted
    )


def test_no_room_makes_more_than_its_part() -> None:
    """Even while there are calls left, and however urgent it is."""
    budget = CallBudget(1000)

    assert sum(budget.spend(1, room="a", urgent=True) for _ in range(500)) == 1000 // ROOM_PART
    assert budget.left(1) == 1000 - 1000 // ROOM_PART


def test_what_a_room_does_otherwise_takes_nothing_from_what_is_urgent() -> None:
    """As many as come to a room that nearly empties its part of lists, of whom the last is due."""
    budget = CallBudget(1000)

    assert sum(budget.spend(1, room="a", urgent=False) for _ in range(500)) == 1000 // ROOM_PART
    assert [sum(budget.spend(1, room=room, urgent=True) for _ in range(100)) for room in "ab"] == [60, 100]


async def test_what_has_waited_for_long_is_urgent(far: Far, calls: RoomCalls, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is: a list, a message, a successor."""
    far.answers["ListParticipants"] = ok(api.ListParticipantsResponse())
    loop = asyncio.get_running_loop()
    now = loop.time()
    for _ in range(1000):
        calls._budget.spend(now, urgent=True)  # noqa: SLF001 - as other rooms do
    for later, answered in ((0.0, False), (POSTPONED_FOR - 1, False), (POSTPONED_FOR, True), (POSTPONED_FOR, False)):
        monkeypatch.setattr(loop, "time", lambda later=later: now + later)
        with nullcontext() if answered else pytest.raises(ApiError):
            await calls.list_participants()
    monkeypatch.undo()


async def test_a_call_that_has_to_wait_is_not_made(far: Far, calls: RoomCalls) -> None:
    """It fails as if the server had refused it. An urgent call is made."""
    far.answers["ListParticipants"] = ok(api.ListParticipantsResponse())
    for _ in range(1000):
        calls._budget.spend(asyncio.get_running_loop().time(), urgent=True)  # noqa: SLF001 - as other rooms do

    with pytest.raises(ApiError) as raised:
        await calls.list_participants()
    assert (raised.value.trouble, far.asked) == (Trouble.THROTTLED, [])

    await calls.list_participants(urgent=True)
    assert len(far.asked) == 1
