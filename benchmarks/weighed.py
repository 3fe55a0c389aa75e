"""A worker that answers a signal (SIGUSR2) with a log line that says what it takes of memory.

It is ours if the environment names its script, or else the framework's with no code of ours: jobs that only connect.
"""

import os
import runpy
import signal
import sys
from pathlib import Path

from livekit.agents import AgentServer, AutoSubscribe, JobContext, JobExecutorType, WorkerPermissions, cli
from livekit.rtc._ffi_client import FfiClient

from benchmarks.weight import weigh

NAME = "framework"
OURS = "BENCHMARK_AGENT"
"""The variable that names our worker's script."""


def framework() -> AgentServer:
    """Return a worker that is as ours is, with no code of ours."""
    # Made once: two jobs that start together would make two, and hang.
    _ = FfiClient.instance
    server = AgentServer(
        job_executor_type=JobExecutorType.THREAD,
        load_fnc=lambda: 0.0,
        load_threshold=float("inf"),
        permissions=WorkerPermissions(can_publish=False, can_publish_data=True, hidden=True),
        port=int(os.environ["BOUNCER_PORT"]),
    )

    @server.rtc_session(agent_name=NAME)
    async def connect(ctx: JobContext) -> None:
        await ctx.connect(auto_subscribe=AutoSubscribe.SUBSCRIBE_NONE)
        await ctx.room.local_participant.set_attributes({"bouncer.guarding": "true"})

    return server


def answer(*_: object) -> None:
    """Say what this process takes."""
    sys.stdout.write(f"{weigh().line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGUSR2, answer)
    if script := os.environ.get(OURS):
        sys.path.insert(0, str(Path(script).parent))
        runpy.run_path(script, run_name="__main__")
    else:
        cli.run_app(framework())
