"""The cast: real framework agents, each acting as its dispatch's metadata says.

`python demo/cast.py assistant recorder` runs one worker for each of these agent names, in one process. The dispatch
metadata is one of:

- `busy`: an AgentSession that says something every few seconds;
- `idle`: an AgentSession that only listens;
- `silent`: joins, publishes nothing and gives no sign of life.

It prints JSON lines: an agent has `joined`, was `disconnected` for a reason, or its job has `ended`. One of the last
two may be missing: when a participant is removed, LiveKit ends its job too, and sometimes the job is faster.
"""

import asyncio
import json
import logging
import math
import os
import signal
import sys
from array import array
from collections.abc import AsyncIterator, Sequence

from livekit import rtc
from livekit.agents import Agent, AgentServer, AgentSession, AutoSubscribe, JobContext, JobExecutorType
from livekit.agents.voice.room_io import RoomOptions
from livekit.rtc._ffi_client import FfiClient

SAMPLE_RATE = 24_000
FRAME = SAMPLE_RATE // 50
PITCH = 150
"""The pitch, in Hz, of the hum that stands for a voice."""
TALK, PAUSE = 3.0, 2.0
"""Seconds that a busy agent speaks, and then listens."""
SENTENCE = "I can help you with that, just give me a moment."


async def play(ctx: JobContext) -> None:
    """Join, and act until the job ends."""

    def disconnected(reason: rtc.DisconnectReason.ValueType) -> None:
        _say("disconnected", identity=_identity(ctx), reason=rtc.DisconnectReason.Name(reason))

    ctx.room.on("disconnected", disconnected)
    await ctx.connect(auto_subscribe=AutoSubscribe.SUBSCRIBE_NONE)
    _say("joined", identity=_identity(ctx), sid=ctx.room.local_participant.sid, dispatch=ctx.job.dispatch_id)
    if ctx.job.metadata == "silent":
        return
    session: AgentSession[None] = AgentSession(vad=None, turn_handling={"turn_detection": None})
    await session.start(Agent(instructions=""), room=ctx.room, room_options=RoomOptions(audio_input=False))
    if ctx.job.metadata == "busy":
        # As a task, since the framework waits 15 s for the entrypoint to return before it ends a job.
        talking = asyncio.create_task(_talk(session))
        session.on("close", lambda _: talking.cancel())


async def ended(ctx: JobContext) -> None:
    """Say that the job is over."""
    _say("ended", identity=_identity(ctx))


async def _talk(session: AgentSession[None]) -> None:
    while True:
        session.say(SENTENCE, audio=_voice(TALK))
        await asyncio.sleep(TALK + PAUSE)


async def _voice(seconds: float) -> AsyncIterator[rtc.AudioFrame]:
    """Yield a hum that swells four times a second, roughly as speech does."""
    for start in range(0, round(seconds * SAMPLE_RATE), FRAME):
        at = [i / SAMPLE_RATE for i in range(start, start + FRAME)]
        samples = (10_000 * math.sin(math.tau * PITCH * t) * math.sin(math.pi * 4 * t) ** 2 for t in at)
        yield rtc.AudioFrame(array("h", map(round, samples)).tobytes(), SAMPLE_RATE, 1, FRAME)


def _say(message: str, **facts: str) -> None:
    # In one piece: what another thread logs must not get between it and the end of the line.
    print(json.dumps({"message": message, **facts}) + "\n", end="", flush=True)


def _identity(ctx: JobContext) -> str:
    return ctx.room.local_participant.identity


def _never_busy() -> float:
    """Report no load, so that a busy machine gets its agents too."""
    return 0.0


def _worker(agent_name: str) -> AgentServer:
    server = AgentServer(
        port=0,
        job_executor_type=JobExecutorType.THREAD,
        num_idle_processes=1,
        load_fnc=_never_busy,
        load_threshold=math.inf,  # while one job starts, the framework counts it as 0.7, and refuses the next
    )
    server.rtc_session(play, agent_name=agent_name, on_session_end=ended)
    return server


async def main(agent_names: Sequence[str]) -> None:
    """Run the workers for these names until SIGTERM."""
    # Jobs that start together could each create this singleton, and one of them would hang.
    _ = FfiClient.instance
    end = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, end.set)
    servers = [_worker(name) for name in agent_names]
    async with asyncio.TaskGroup() as group:
        for server in servers:
            group.create_task(server.run())
        await end.wait()
        for server in servers:
            await server.aclose()


if __name__ == "__main__":
    # The agents hear nothing, so they need no speech models.
    os.environ.setdefault("LIVEKIT_AGENTS_PRELOAD_LOCAL_INFERENCE", "0")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stdout)
    asyncio.run(main(sys.argv[1:]))
