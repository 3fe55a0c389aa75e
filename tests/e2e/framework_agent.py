"""A real framework agent for the tests: a worker whose agents act as their dispatch's metadata says.

`{"behaviour": "busy"}` publishes a track and keeps thinking and speaking, `"idle"` (the default) publishes a silent
track and only listens, `"silent"` joins and gives no sign of life.
"""

import asyncio
import json
import math
import os
from itertools import cycle

from livekit import rtc
from livekit.agents import AgentServer, AutoSubscribe, JobContext, JobExecutorType, JobRequest, cli
from livekit.rtc._ffi_client import FfiClient

SAMPLE_RATE = 16_000
FRAME = SAMPLE_RATE // 10

# Jobs that start together could each create this singleton, and one of them would hang.
_ = FfiClient.instance


def never_busy() -> float:
    """Report no load, so that a busy machine still gets its agents."""
    return 0.0


server = AgentServer(
    port=0,
    job_executor_type=JobExecutorType.THREAD,
    num_idle_processes=1,
    load_fnc=never_busy,
    load_threshold=math.inf,  # while one job starts, the framework counts it as 0.7, and refuses the next
    log_level="INFO",
)


async def accept(request: JobRequest) -> None:
    """Accept the job, and show its dispatch: the server's list of jobs is up to 5 s late."""
    await request.accept(attributes={"harness.dispatch": request.job.dispatch_id})


@server.rtc_session(agent_name=os.environ.get("AGENT_NAME", "assistant"), on_request=accept)
async def entrypoint(ctx: JobContext) -> None:
    """Join, and act until the job ends."""
    behaviour = json.loads(ctx.job.metadata or "{}").get("behaviour", "idle")
    await ctx.connect(auto_subscribe=AutoSubscribe.SUBSCRIBE_NONE)
    if behaviour == "silent":
        return
    states = ["thinking", "speaking"] if behaviour == "busy" else ["listening"]
    tasks = [asyncio.create_task(publish(ctx.room)), asyncio.create_task(be(ctx.room, states))]

    async def stop() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    ctx.add_shutdown_callback(stop)


async def publish(room: rtc.Room) -> None:
    """Publish a track of silence."""
    source = rtc.AudioSource(SAMPLE_RATE, 1)
    track = rtc.LocalAudioTrack.create_audio_track("voice", source)
    await room.local_participant.publish_track(track, rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE))
    while True:
        await source.capture_frame(rtc.AudioFrame.create(SAMPLE_RATE, 1, FRAME))


async def be(room: rtc.Room, states: list[str]) -> None:
    """Cycle through these states, one second each; a single state is published once."""
    for state in cycle(states):
        await room.local_participant.set_attributes({"lk.agent.state": state})
        await asyncio.sleep(1)
        if len(states) == 1:
            return


if __name__ == "__main__":
    cli.run_app(server)
