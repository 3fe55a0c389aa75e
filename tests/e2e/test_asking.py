"""`bouncer plan` and `bouncer explain` on a real server, and the bouncer that is asked."""

import asyncio
import json
import secrets
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from livekit import api, rtc

from bouncer.adapter.asker import NoAnswer, asking
from bouncer.adapter.project import OpenRoom, Project, UnknownRoom, opened
from bouncer.asking import ASK, STATE, Question, parts
from bouncer.configuration.settings import Credentials
from devserver import Server
from tests.e2e.command import jobs_known, normal, run
from tests.e2e.world import Member, World

FORGED = "f" * 32
"""The id in forged answers; the true one is known to the asker and its bouncer alone."""

PLAN = """\
ROOM  RM_*  guarded by agent-AJ_*, mode enforce

IDENTITY  ROLE  AGENT NAME  HERE FOR
agent-AJ_*  bouncer  bouncer  SPAN
ana  person  SPAN
A\\u001b[31m😀  agent  assistant  SPAN
B  agent  assistant  SPAN
recorder  agent  notes  SPAN

IDENTITY  POLICY  VERDICT
recorder  max_lifetime[1]  due for SPAN, held back: it is exempt (its identity): has been in the room for SPAN
B  duplicates  due in SPAN: is one too many with its agent name; the oldest stays

No one would be evicted now.
Not known from outside: when its agents last spoke, sent something or changed their state (idle_timeout)
Not known from outside: how many evictions it has made in the last minute
Not known from outside: what BOUNCER_CONFIG its worker has; here it is this machine's"""

EXPLAIN = """\
“B” in room “ROOM” (RM_*), as the bouncer agent-AJ_* saw it on DATE at TIME UTC.

It is not due yet: it has until TIME UTC, SPAN more. Then it is evicted under duplicates, because it is one too many \
with its agent name; the oldest stays.

Facts
- It is an agent named “assistant”, of kind agent.
- It joined at TIME UTC, SPAN ago. Its connection is PA_*.
- Its state is “thinking”, since TIME UTC, for SPAN.
- It is at work now.
- Its last sign of life came at TIME UTC, SPAN ago.
- The room has been watched without a gap since TIME UTC, for SPAN.

Rules
- duplicates: it is one too many with its agent name; the oldest stays. Due at TIME UTC (due in SPAN).
- Nothing against it under idle_timeout, max_lifetime, max_lifetime[1]."""

CONFIGURATION = {
    "bouncer": {
        "exempt": {"identity": ["rec*"]},
        "hearing": "off",
        "policies": {
            "duplicates": {"grace": 6000, "wait_for_life": 0},
            "idle_timeout": {"timeout": 6000},
            "max_lifetime": [{"limit": 7200, "only": ["x"]}, {"limit": 1, "only": ["notes"]}],
        },
    }
}


def project_of(server: Server) -> Credentials:
    """The key of the server."""
    return Credentials(url=server.url, api_key=server.api_key, api_secret=server.api_secret)


async def test_plan_and_explain(world: World) -> None:
    """What a person reads; then the agent is evicted, and what is remembered of it."""
    await world.open(CONFIGURATION)
    await world.human("ana")
    await world.agent("A\x1b[31m😀")
    await world.agent("B", state="thinking")
    await world.agent("recorder", name="notes")
    await world.until(partial(jobs_known, world.server, world.room), "it is known that they have no jobs")
    explained = await run(world.server, "explain", world.room, "B")
    planned = await run(world.server, "plan", world.room)

    assert (explained.status, normal(explained.out).replace(world.room, "ROOM")) == (0, EXPLAIN)
    assert "asking the bouncer agent-AJ_" in explained.err
    shown = normal(planned.out).replace(world.room, "ROOM").replace("observer  nobody  SPAN\n", "")
    assert (planned.status, shown) == (0, PLAN)
    assert planned.err == "using LIVEKIT_URL, LIVEKIT_API_KEY, LIVEKIT_API_SECRET from the environment\n"
    assert "bouncer-asks" not in " ".join(await world.present()), "the asker has left"

    await world.metadata({"bouncer": {"policies": {"duplicates": {"grace": 0, "wait_for_life": 0}}}})
    await world.gone("B")
    left = await run(world.server, "explain", world.room, "B", "--json", "--quiet")
    assert (left.status, left.err) == (0, "")
    told = json.loads(left.out)
    assert (told["found"], told["participant"], told["departed"][0]["policy"]) == ("left", None, "duplicates")
    assert told["summary"].startswith("It was evicted under duplicates because it is one too many")
    assert (await run(world.server, "explain", world.room, "nobody")).status == 1


async def test_plan_for_scripts(lobby: World) -> None:
    """Without a bouncer: the contract of `--json`, statuses, another configuration, and what is refused."""
    one = {"max": 1, "grace": 0, "wait_for_life": 0}
    policies: dict[str, Any] = {"duplicates": None, "max_agents": one, "idle_timeout": {}}
    await lobby.create({"bouncer": {"policies": policies}, "theirs": 1})
    await lobby.human("ana")
    await lobby.agent("A")
    await lobby.agent("B")
    planned = await run(lobby.server, "plan", lobby.room, "--json", "--exit-code", "--quiet")

    assert (planned.status, planned.err) == (3, "")
    plan = json.loads(planned.out)
    assert (plan["v"], plan["room"], plan["guarded_by"]) == (1, lobby.room, [])
    assert (plan["evicted_now"], plan["unknown"]) == (["B"], ["idle_timeout"])
    assert {each["identity"]: (each["role"], each["agent_name"]) for each in plan["participants"]} == {
        "observer": ("nobody", ""),
        "ana": ("person", ""),
        "A": ("agent", "assistant"),
        "B": ("agent", "assistant"),
    }
    [verdict] = plan["verdicts"]
    assert {"identity", "sid", "policy", "due_at", "due_in", "reason", "held_by", "doubt"} <= verdict.keys()
    assert (verdict["identity"], verdict["policy"], verdict["due_in"] < 0) == ("B", "max_agents", True)
    assert plan["origins"]["$.bouncer.policies.max_agents.grace"] == "room metadata"

    other = '{"bouncer": {"policies": {"duplicates": null, "max_agents": {"max": 5}}}}'
    for given, text in ((other, ""), ("-", other)):
        ran = await run(lobby.server, "plan", lobby.room, "--json", "--exit-code", "--config", given, text=text)
        assert (ran.status, json.loads(ran.out)["evicted_now"]) == (0, [])
    wrong = await run(lobby.server, "plan", lobby.room, "--config", '{"bouncer": {"mode": "on"}}')
    assert (wrong.status, "--config: $.bouncer.mode: must be" in wrong.err) == (1, True)
    assert (await run(lobby.server, "plan", lobby.room, "--config", "missing.json")).status == 2
    unknown = await run(lobby.server, "plan", f"{lobby.room}x")
    assert (unknown.status, unknown.out) == (1, "")
    assert f"no room “{lobby.room}x” is open" in unknown.err.splitlines()[-1]
    assert {"A", "B"} <= await lobby.present(), "nothing was changed"

    alone = await run(lobby.server, "explain", lobby.room, "B")
    assert "No bouncer guards the room, so nothing is evicted. It is due now under max_agents" in alone.out
    assert "Only a bouncer would know when its agents last spoke" in alone.out


class Intruder:
    """A hidden participant that claims to be the bouncer, and hears all that it can hear."""

    def __init__(self, member: Member) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self._member = member
        member.room.on("data_received", lambda packet: self.heard.append((packet.topic, packet.data)))

    async def forge(self, view: dict[str, object]) -> None:
        """Send an answer to everyone, with an id of its own."""
        for packet in parts(FORGED, 0, {"at": "2026-01-01T00:00:00.000Z", "view": view}):
            await self._member.room.local_participant.publish_data(packet, topic=STATE)


async def test_the_asker_believes_the_bouncer_alone(world: World) -> None:
    """Forged answers change nothing, an impostor is told nothing, and the asker itself is no one to the room."""
    await world.open({"bouncer": {"reconcile": 1}})
    ana = await world.human("ana")
    claims = {"bouncer.guarding": "true", "lk.agent_name": "bouncer"}
    impostor = await world.join("agent-AJ_false", kind="agent", grant=True, hidden=True, attributes=claims)
    guest, hidden = Intruder(ana), Intruder(impostor)

    async with opened(project_of(world.server)) as project:
        room = await project.room(world.room)
        assert world.bouncer
        async with asking(project, room, world.bouncer.identity) as conversation:
            await guest.forge({"participants": []})
            await hidden.forge({"participants": []})
            await ana.set_attributes({"desk": "3"})
            seen: dict[str, dict[str, Any]] = {}
            asker = ""
            async with asyncio.timeout(20):
                async for _, view in conversation.views():
                    await guest.forge({"participants": []})
                    seen = {each["identity"]: each for each in view["participants"]}
                    asker = next((identity for identity in seen if identity.startswith("bouncer-asks")), "")
                    if asker and "desk" in seen["ana"].get("attributes", {}):
                        break
            assert (seen["ana"]["role"], seen[asker]["role"]) == ("person", "nobody")
            assert view["guarded_by"] == [world.bouncer.identity]
            listed = (await world.listed())[asker]
            assert listed.permission.hidden
            assert not listed.permission.can_publish
            assert not listed.permission.can_publish_data
            assert listed.kind == api.ParticipantInfo.Kind.STANDARD
        heard = [data for topic, data in (*guest.heard, *hidden.heard) if topic in (ASK, STATE)]
        assert [data for data in heard if FORGED.encode() not in data] == [], "the exchange is between two"

        with pytest.raises(NoAnswer):
            async with asking(project, room, "agent-AJ_false") as conversation:
                await conversation.first()
        with pytest.raises(UnknownRoom):
            async with asking(project, OpenRoom(world.room, "RM_other"), world.bouncer.identity):
                pass
    assert not [each for each in await world.present() if each.startswith("bouncer-asks")]


def asked(room: str, to: str, reply_to: str) -> Question:
    """Return a question with an id of its own."""
    return Question(room_sid=room, to=to, reply_to=reply_to, seconds=60, id=secrets.token_hex(16))


def token_of(server: Server, question: Question, *, secret: str = "", ttl: int = 60, who: str = "") -> str:
    """Return a token for a question, in the asker's name, with the server's key unless another one is given."""
    made = api.AccessToken(server.api_key, secret or server.api_secret).with_identity(who or question.reply_to)
    return made.with_sha256(question.sha256).with_ttl(timedelta(seconds=ttl)).to_jwt()


def hostile(server: Server, room_sid: str, to: str, reply_to: str) -> Iterator[bytes]:
    """Yield questions that no bouncer answers."""
    mine, other = asked(room_sid, to, reply_to), asked(room_sid, to, reply_to)
    grants = api.AccessToken(server.api_key, server.api_secret).with_identity(reply_to).with_sha256(mine.sha256)
    yield mine.packet("")
    yield mine.packet("a.b.c")
    yield mine.packet(token_of(server, mine, secret="x" * 40))
    yield mine.packet(token_of(server, mine, ttl=-60))
    yield mine.packet(token_of(server, mine, ttl=3600))
    yield mine.packet(token_of(server, other))
    yield mine.packet(token_of(server, mine, who="another"))
    yield mine.packet(grants.with_grants(api.VideoGrants(room_admin=True)).with_ttl(timedelta(seconds=60)).to_jwt())
    for wrong in (asked("RM_other", to, reply_to), asked(room_sid, "agent-AJ_other", reply_to)):
        yield wrong.packet(token_of(server, wrong))
    yield mine.packet(token_of(server, mine)).replace(b'"v": 1', b'"v": 2')
    yield b"x" * 15_000
    yield b"[" * 15_000


async def test_hostile_questions_are_dropped_at_no_cost(world: World) -> None:
    """A hundred a second, and an agent that comes due is evicted all the same; a true asker is answered."""
    await world.open({"bouncer": {"policies": {"duplicates": {"grace": 1, "wait_for_life": 0}}}})
    await world.human("ana")
    await world.agent("A", audio=True)
    attacker = await world.join("attacker", hidden=True)
    heard: list[str | None] = []
    attacker.room.on("data_received", lambda packet: heard.append(packet.topic))
    bouncer = world.bouncer
    assert bouncer

    async def flood(project: Project, room: OpenRoom) -> None:
        """Through the server's API, as if the key had been stolen, and as a hidden participant's own packets."""
        while True:
            for packet in hostile(world.server, room.sid, bouncer.identity, "attacker"):
                await project.send_data(world.room, packet, ASK, to=[bouncer.identity])
                await attacker.room.local_participant.publish_data(packet, topic=ASK)
                await asyncio.sleep(0.01)

    async with opened(project_of(world.server)) as project:
        room = await project.room(world.room)
        flooding = asyncio.create_task(flood(project, room))
        try:
            second = await world.agent("B", audio=True)
            assert await second.out() == rtc.DisconnectReason.PARTICIPANT_REMOVED
            await world.message(event="evicted", identity="B")
        finally:
            flooding.cancel()
            await asyncio.gather(flooding, return_exceptions=True)
        async with asking(project, room, bouncer.identity) as conversation:
            _, view = await conversation.first()
        assert [each["identity"] for each in view["departed"]][:1] == ["B"]
        assert STATE not in heard
        question = asked(room.sid, bouncer.identity, "attacker")
        packet = question.packet(token_of(world.server, question))
        await project.send_data(world.room, packet, ASK, to=[bouncer.identity])

        async def answered() -> bool:
            return STATE in heard

        await world.until(answered, "a true question from there is answered")
