"""The bouncer, except that the connection of its first job has the fault that FAULT names."""

import asyncio
import os
import runpy
import sys
from pathlib import Path
from typing import Any

from livekit import rtc
from livekit.agents import JobContext

AGENT = Path(__file__).parents[2] / "agent.py"
sys.path.insert(0, str(AGENT.parent))

import bouncer.adapter.room  # noqa: E402 - as agent.py finds it

WITHIN = 7.0
"""Seconds for connecting, and for being mute, instead of 30; the server needs less to list a job."""
connect = JobContext.connect
jobs: list[str] = []


async def hang(job: JobContext, **options: Any) -> None:
    """Connect, but never return."""
    await connect(job, **options)
    await asyncio.sleep(3600)


async def connect_twice(job: JobContext, **options: Any) -> None:
    """Connect once more, as the SDK does after 5 s: only then does the server know whose job it is."""
    await rtc.Room().connect(job._info.url, job._info.token)  # noqa: SLF001 - it has no other name
    while not await known(job):  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.1)
    await connect(job, **options)


async def known(job: JobContext) -> bool:
    """Return True if the server lists this job."""
    dispatches = await job.api.agent_dispatch.list_dispatch(job.job.room.name)
    return job.job.id in {each.id for dispatch in dispatches for each in dispatch.state.jobs}


async def be_mute(job: JobContext, **options: Any) -> None:
    """Connect, but nothing that is said reaches the server."""
    await connect(job, **options)
    job.room.local_participant.set_attributes = lambda _: asyncio.sleep(3600)  # type: ignore[method-assign,assignment]


FAULT = os.environ.get("FAULT", "")
FAULTS = {"hangs": hang, "connects twice": connect_twice, "is mute": be_mute}


async def fail_once(self: JobContext, **options: Any) -> None:
    """Connect, with the fault if this is the first job."""
    jobs.append(self.job.id)
    call = FAULTS[FAULT] if jobs[0] == self.job.id else connect
    await call(self, **options)


if __name__ == "__main__":
    bouncer.adapter.room.MUTE_FOR = WITHIN
    if FAULT == "hangs":
        bouncer.adapter.room.CONNECT_WITHIN = WITHIN
    JobContext.connect = fail_once  # type: ignore[method-assign]
    runpy.run_path(str(AGENT), run_name="__main__")
