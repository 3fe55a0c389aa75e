"""Rooms as people run them: what must not be evicted in each, and what leaves all the same.

`docs/explanation/from-the-field.md` lists the kinds of room, each with the tests that prove it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from itertools import product
from pathlib import Path
from typing import Any

from livekit import api, rtc

from devserver import Server, Worker, worker
from tests.e2e.listener import encrypting
from tests.e2e.scenes import at_once
from tests.e2e.test_traffic import picture, track
from tests.e2e.world import Job, Member, World

HERE = Path(__file__).parent
SECOND = 1.0
IDLE = 6
"""Seconds without work after which the agents of these rooms are idle."""
Work = Callable[[Member], Awaitable[object]]


def house(**policies: Any) -> dict[str, Any]:
    """Return room metadata with only these policies."""
    return {"bouncer": {"policies": {"duplicates": None, **policies}}}


@asynccontextmanager
async def at_work(*works: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """Have each of these done once a second."""

    async def go_on(work: Callable[[], Awaitable[object]]) -> None:
        while True:
            await work()
            await asyncio.sleep(SECOND)

    tasks = [asyncio.create_task(go_on(work)) for work in works]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def outlives(world: World, busy: set[str]) -> None:
    """See that an agent which only listens leaves as idle, and that these stay for longer than that."""
    await world.agent("ghost", name="ghost")
    await world.gone("ghost")
    await world.stays(busy, seconds=IDLE + 3)


async def caption(writer: Member, speaker: str) -> None:
    """Write a piece of what a person says, in that person's name, as transcribers do."""
    stream = await writer.room.local_participant.stream_text(topic="lk.transcription", sender_identity=speaker)
    await stream.write("well")
    await stream.aclose()


async def old_caption(writer: Member, speaker: str) -> None:
    """The same as older SDKs do it: no one sees who wrote it."""
    piece = rtc.TranscriptionSegment(id="1", text="well", start_time=0, end_time=0, language="en", final=True)
    told = rtc.Transcription(participant_identity=speaker, track_sid="TR_1", segments=[piece])
    await writer.room.local_participant.publish_transcription(told)


@at_once("state", ["listening", ""])
async def test_a_transcriber_is_at_work_while_it_writes(world: World, state: str) -> None:
    """It writes in the speaker's name, has no audio track, and is `listening` for ever. Once it stops, it is idle."""
    await world.open(house(idle_timeout={"timeout": IDLE}))
    await world.human("ana")
    writer = await world.agent("writer", name="scribe", state=state)

    async with at_work(lambda: caption(writer, "ana")):
        await outlives(world, {"writer"})
    await world.gone(writer)


async def test_a_transcriber_that_no_one_sees_write_is_held(world: World) -> None:
    """An older SDK's captions have no writer: the silent agent may have written them, so it is not evicted."""
    await world.open(house(idle_timeout={"timeout": IDLE}))
    await world.human("ana")
    writer = await world.agent("writer", name="scribe")

    async with at_work(lambda: old_caption(writer, "ana")):
        told = await world.message(event="held", identity="writer")
        await world.stays({"writer"}, seconds=IDLE)

    assert (told["held_by"], "captions" in told["doubt"]) == ("doubt", True)


async def write(agent: Member) -> None:
    """Write a text on a topic of the app's own."""
    await agent.room.local_participant.send_text("42", topic="acme.answers")


async def send(agent: Member) -> None:
    """Send a data packet to everyone."""
    await agent.room.local_participant.publish_data("42", topic="acme.answers")


AT_WORK: Mapping[str, Work] = {"pictures": picture, "texts": write, "data": send}
PUBLISH: Mapping[str, Work] = {
    "video": lambda agent: track(agent, "video"),
    "robot": lambda agent: agent.room.local_participant.publish_data_track(name="joints"),
}


@at_once("state", ["listening", ""])
async def test_pictures_texts_data_video_and_robots_are_no_silence(world: World, state: str) -> None:
    """What they send counts as work. What flows on a video or data track is not looked at, so they are held."""
    await world.open(house(idle_timeout={"timeout": IDLE}))
    await world.human("ana")
    agents = {name: await world.agent(name, name=name, state=state) for name in PUBLISH}
    # A data track that no one holds on to is taken back.
    tracks = [await publish(agents[name]) for name, publish in PUBLISH.items()]
    workers = await asyncio.gather(*(world.agent(name, name=name, state=state) for name in AT_WORK))
    agents |= zip(AT_WORK, workers, strict=True)

    async with at_work(*(lambda name=name: AT_WORK[name](agents[name]) for name in AT_WORK)):
        await outlives(world, {*agents})

    assert len(tracks) == len(PUBLISH)
    for name in PUBLISH:
        assert "track" in (await world.message(event="held", identity=name))["doubt"]
    # Another agent may have written in the name of one that publishes no state: that stays in doubt.
    for name in AT_WORK if state else ("data",):
        await world.gone(agents[name])


async def test_work_that_no_bystander_sees_is_no_silence(world: World) -> None:
    """RPC, and data or tones for one person. The agents publish no state, so nothing shows that they are idle."""
    await world.open(house(idle_timeout={"timeout": IDLE}))
    ana = await world.human("ana")
    rpc, data, tones = [await world.agent(name, name=name, state="") for name in ("rpc", "data", "tones")]
    rpc.room.local_participant.register_rpc_method("answer", lambda _: "42")

    async def ask() -> None:
        await ana.room.local_participant.perform_rpc(destination_identity="rpc", method="answer", payload="?")

    async def tell() -> None:
        await data.room.local_participant.publish_data("42", destination_identities=["ana"])

    async def dial() -> None:
        await tones.room.local_participant.publish_dtmf(code=1, digit="1")

    async with at_work(ask, tell, dial):
        await outlives(world, {"rpc", "data", "tones"})

    for name in ("rpc", "data"):
        assert (await world.message(event="held", identity=name))["held_by"] == "doubt"


async def test_an_encrypted_agent_is_not_idle(world: World) -> None:
    """Of what it sends not even the packets are seen. One that publishes its state is judged on that."""
    await world.open(house(idle_timeout={"timeout": IDLE}))
    shown = {"lk.agent_name": "secret"}
    async with encrypting(world, "secret", kind="agent", grant=True, attributes=shown) as room:
        await room.local_participant.publish_data("before")

        async with at_work(lambda: room.local_participant.publish_data("42", topic="acme.answers")):
            await outlives(world, {"secret"})
            assert (await world.message(event="held", identity="secret"))["held_by"] == "doubt"
        await room.local_participant.set_attributes({"lk.agent.state": "listening"})
        await world.gone("secret")


@at_once("kind", ["PARTICIPANT", "PUBLISHER"])
async def test_one_agent_for_each_person_is_right(world: World, server: Server, tmp_path: Path, kind: str) -> None:
    """By default, none of them is a duplicate. One that must leave takes no other with it: they share a dispatch."""
    name = f"helper-{world.room}"
    script, settings = HERE / "per_person_agent.py", {"AGENT_NAME": name, "JOB_TYPE": kind}
    async with worker(script, server, env=settings, log_file=tmp_path / kind):
        await world.open()
        request = api.CreateAgentDispatchRequest(agent_name=name, room=world.room)
        await world.api.agent_dispatch.create_dispatch(request)
        for person in ("ana", "bob", "eva"):
            await world.human(person, audio=True)

        async def helpers() -> list[Job] | None:
            found = [p for p in (await world.listed()).values() if p.attributes.get("lk.agent_name") == name]
            jobs = [Job("", p.identity, p.sid) for p in found if p.state == api.ParticipantInfo.State.ACTIVE]
            return jobs if len(jobs) == 3 else None

        first, *others = await world.until(helpers, "each person has an agent", within=120)
        await world.stays({job.identity for job in (first, *others)}, seconds=12)

        await world.metadata(house(deny_list={"identities": [first.identity]}))
        await world.gone(first)
        await world.stays({job.identity for job in others}, seconds=5)


def permit(agent: Member, listener: str) -> None:
    """Let one participant hear an agent's tracks, and no one else."""
    permission = rtc.ParticipantTrackPermission(participant_identity=listener, allow_all=True)
    me = agent.room.local_participant
    me.set_track_subscription_permissions(allow_all_participants=False, participant_permissions=[permission])


async def test_interpreters_that_only_their_listeners_hear_are_no_crosstalk(world: World) -> None:
    """Both say that they speak. The bouncer can't hear them, and the state doesn't stand in for that."""
    rules = {"overlap": 3}, {"timeout": 4, "action": "evict"}, {"timeout": 4}
    names = ("crosstalk", "unresponsive", "lone_chatter")
    await world.open(house(**dict(zip(names, rules, strict=True))))
    for person in ("ana", "bob"):
        await world.human(person, audio=True)
    for name, listener in (("A", "ana"), ("B", "bob")):
        interpreter = await world.agent(name, name=name, state="speaking")
        permit(interpreter, listener)
        await interpreter.publish_audio()
        interpreter.sounding = True

    await world.stays({"A", "B"}, seconds=12)


@at_once("ringing", ["dialing", "ringing"])
async def test_a_phone_that_rings_is_no_operator_yet(world: World, ringing: str) -> None:
    """The agent stays while it rings, and has the whole grace after the answer. The room is not empty meanwhile."""
    rules = {"human_takeover": {"identity": ["operator-*"], "grace": 5}, "empty_room": {"grace": 2, "never_joined": 2}}
    await world.open(house(**rules))
    operator = await world.join("operator-1", kind="sip", attributes={"sip.callStatus": ringing})
    agent = await world.agent("A")
    await world.stays({"A"}, seconds=9)

    await operator.set_attributes({"sip.callStatus": "active"})

    await world.stays({"A"}, seconds=3)
    await world.gone(agent)
    assert (await world.message(event="evicted", identity="A"))["policy"] == "human_takeover"


LISTENERS = {"key": "attribute:listener", "grace": 4, "wait_for_life": 0}


async def test_interpreters_that_swap_their_listeners_are_no_duplicates(world: World) -> None:
    """Each swap makes two of a kind for a moment. One that keeps the other's listener has the grace from then on."""
    await world.open({"bouncer": {"policies": {"duplicates": LISTENERS}}})
    agents = [await world.agent(n, name=n, attributes={"listener": of}) for n, of in (("A", "ana"), ("B", "bob"))]
    await asyncio.sleep(LISTENERS["grace"] + 1)  # type: ignore[operator]

    for listeners in (("bob", "ana"), ("ana", "bob"), ("bob", "ana")):
        for agent, listener in zip(agents, listeners, strict=True):
            await agent.set_attributes({"listener": listener})
            await asyncio.sleep(0.5)
    await world.stays({"A", "B"}, seconds=6)

    await agents[0].set_attributes({"listener": "ana"})
    await world.stays({"A", "B"}, seconds=2)
    await world.gone(agents[1])
    await world.stays({"A"}, seconds=1)


async def test_a_simulated_caller_is_company(world: World) -> None:
    """It is of kind AGENT and has a name, yet it is a person to all policies, and never evicted."""
    rules = {"empty_room": {"grace": 3, "never_joined": 3}, "deny_list": {"agent_names": ["caller"]}}
    await world.open(house(**rules))
    caller = await world.join(
        "caller", kind="agent", grant=True, details=["simulation"], attributes={"lk.agent_name": "caller"}
    )
    agent = await world.agent("A")
    await world.stays({"caller", "A"}, seconds=8)

    await caller.leave()

    await world.gone(agent)


async def test_avatars_are_part_of_their_principals(world: World) -> None:
    """One with a plain token, one with the agent grant, one of a bot of standard kind: they are no one on their own.

    They take no agent's place, are no orphans, and keep no one company. Only what the server calls an agent leaves
    with its principal.
    """
    await world.open(house(max_agents={"max": 3}, orphaned_avatar={"grace": 1}))
    person = await world.human("ana")
    for agent in ("A", "B"):
        await world.agent(agent, name=agent, lively=True)
    bot = await world.join("bot", grant=True)
    bot.live()
    faces: Mapping[str, dict[str, Any]] = {
        "A": {}, "B": {"grant": True}, "bot": {"kind": "agent", "grant": True}
    }  # fmt: skip
    for principal, token in faces.items():
        await world.join(f"face-{principal}", attributes={"lk.publish_on_behalf": principal}, **token)
    everyone = {*faces, *(f"face-{principal}" for principal in faces)}
    await world.stays({"ana", *everyone}, seconds=8)

    await world.metadata(house(empty_room={"grace": 3, "never_joined": 3}))
    await world.stays({"ana", *everyone}, seconds=5)
    await person.leave()

    for who in everyone - {"face-A"}:
        await world.gone(who)
    await world.stays({"face-A"}, seconds=2)


@at_once("kind, hidden", product(("standard", "egress"), (False, True)))
async def test_a_recorder_is_no_company(world: World, kind: Any, hidden: bool) -> None:  # noqa: FBT001 - a table
    """With the `recorder` grant, or of its own kind, seen by everyone or hidden: agents don't stay for it."""
    await world.open(house(empty_room={"grace": 3, "never_joined": 3}))
    person = await world.human("ana")
    await world.join("recorder", kind=kind, recorder=True, hidden=hidden)
    agent = await world.agent("A")
    await world.stays({"recorder", "A"}, seconds=6)

    await person.leave()

    await world.gone(agent)
    await world.stays({"recorder"}, seconds=1)


@at_once("text", ["vip", '{"patient": 7}', '["bouncer"]', "{'patient': 7}", "7"])
async def test_the_apps_own_dispatch_metadata_leaves_the_room_guarded(world: World, bouncer: Worker, text: str) -> None:
    """The room's own configuration is in force, and the log says once that this configures nothing."""
    await world.open(house(deny_list={"agent_names": ["denied"]}), dispatch_metadata=text)
    agent = await world.agent("A", name="denied")
    await world.agent("B")

    await world.gone(agent)

    await world.stays({"B"}, seconds=1)
    told = [line for line in bouncer.log if line.get("lk.pii.room_name") == world.room and "warnings" in line]
    assert ["configures nothing" in str(line["warnings"]) for line in told] == [True]


async def test_our_key_among_the_apps_own_in_the_dispatch(world: World) -> None:
    """It counts beneath the room's configuration, and the rest is the app's."""
    ours = house(deny_list={"agent_names": ["denied"]}, idle_timeout={"timeout": 300})
    await world.open(house(deny_list={"grace": 1, "agent_names": ["x"]}), dispatch_metadata=ours | {"patient": 7})
    await world.metadata({"theirs": 1})
    agent = await world.agent("A", name="denied")

    await world.gone(agent)


NAMES = {"composed": "ren\u00e9e", "decomposed": "rene\u0301e"}


@at_once("typed", NAMES)
async def test_an_exemption_typed_in_another_unicode_form(world: World, typed: str) -> None:
    """It is the same name, of an agent, of a person, or on a list, however it is written."""
    (other,) = {*NAMES} - {typed}
    rules = {"deny_list": {"who": {"name": [f"{NAMES[typed]}*"]}, "identities": ["A", "B"]}}
    await world.open({"bouncer": {"exempt": {"agent_name": [NAMES[typed]]}, "policies": {"duplicates": None, **rules}}})
    await world.agent("A", name=NAMES[other])
    spared = await world.agent("B", name="billing")
    named = await world.join("C", kind="agent", grant=True, name=f"{NAMES[other]} (AI)")

    await world.gone(spared)
    await world.gone(named)
    await world.stays({"A"}, seconds=3)


async def test_agents_whose_names_differ_in_their_unicode_form_are_duplicates(world: World) -> None:
    """They look the same, and are."""
    await world.open({"bouncer": {"policies": {"duplicates": {"grace": 0, "wait_for_life": 0}}}})
    await world.agent("A", name=NAMES["composed"])
    second = await world.agent("B", name=NAMES["decomposed"])

    await world.gone(second)
    await world.stays({"A"}, seconds=1)


@at_once("track", ["background_audio", "music-1"])
async def test_ambience_is_no_speech(world: World, track: str) -> None:
    """Agents that play it don't speak at the same time, and one that does nothing else is idle. A voice counts."""
    rules = house(crosstalk={"overlap": 2}, idle_timeout={"timeout": IDLE})
    if track != "background_audio":
        rules["bouncer"]["hearing"] = {"ignore_tracks": ["music-*"]}
    await world.open(rules)
    await world.human("ana")
    players = [await world.agent(name, name=name, lively=name != "idle") for name in ("A", "B", "idle")]
    for player in players:
        await player.publish_audio(track)
        player.sounding = True
    voice = await world.agent("voice", name="voice", state="")
    await voice.publish_audio()
    voice.sounding = True

    await world.gone("idle")
    await world.stays({"A", "B", "voice"}, seconds=IDLE + 2)
