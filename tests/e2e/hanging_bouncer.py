"""The bouncer, except that its first job hangs while connecting, although its participant has joined."""

import asyncio
import runpy
import sys
from pathlib import Path
from typing import Any

from livekit.agents import JobContext

AGENT = Path(__file__).parents[2] / "agent.py"
sys.path.insert(0, str(AGENT.parent))

import bouncer.adapter.room  # noqa: E402 - as agent.py finds it

WITHIN = 7.0
"""Seconds for connecting, instead of 30; the server needs less to list a job."""
connect = JobContext.connect
jobs: list[str] = []


async def hang_once(self: JobContext, **options: Any) -> None:
    """Connect, but never return in the first job."""
    jobs.append(self.job.id)
    await connect(self, **options)
    if jobs[0] == self.job.id:
        await asyncio.sleep(3600)


if __name__ == "__main__":
    bouncer.adapter.room.CONNECT_WITHIN = WITHIN
    JobContext.connect = hang_once  # type: ignore[method-assign]
    runpy.run_path(str(AGENT), run_name="__main__")
