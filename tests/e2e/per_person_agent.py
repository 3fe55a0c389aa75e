"""A framework worker that gives one agent to each participant: of the job type in JOB_TYPE, as AGENT_NAME."""

import asyncio
import os
from enum import Enum
from typing import Any

from livekit.agents import AgentServer, AutoSubscribe, JobContext, JobExecutorType, cli
from livekit.protocol import agent
from livekit.rtc._ffi_client import FfiClient

# Jobs that start together could each create this singleton, and one of them would hang.
_ = FfiClient.instance


class JobType(Enum):
    """The types that the server knows, of which the SDK's `ServerType` lacks one."""

    PUBLISHER = agent.JobType.JT_PUBLISHER
    PARTICIPANT = agent.JobType.JT_PARTICIPANT


server = AgentServer(
    port=0,
    job_executor_type=JobExecutorType.THREAD,
    num_idle_processes=1,
    load_fnc=lambda: 0.0,
    load_threshold=float("inf"),
)


TYPE: Any = JobType[os.environ["JOB_TYPE"]]


@server.rtc_session(agent_name=os.environ["AGENT_NAME"], type=TYPE)
async def entrypoint(ctx: JobContext) -> None:
    """Join, and work for the participant until the job ends."""
    await ctx.connect(auto_subscribe=AutoSubscribe.SUBSCRIBE_NONE)
    await ctx.room.local_participant.set_attributes({"lk.agent.state": "listening"})
    await asyncio.Event().wait()


if __name__ == "__main__":
    cli.run_app(server)
