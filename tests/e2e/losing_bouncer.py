"""The bouncer, except that the framework loses its first job, as can happen when many arrive at once."""

import runpy
import sys
from pathlib import Path

from livekit.agents.ipc.job_executor import JobExecutor
from livekit.agents.ipc.proc_pool import ProcPool

AGENT = Path(__file__).parents[2] / "agent.py"
sys.path.insert(0, str(AGENT.parent))

acquire = ProcPool._acquire_proc  # noqa: SLF001 - where it happens
jobs: list[str] = []


async def lose_once(self: ProcPool, job_id: str) -> JobExecutor:
    """Fail for the first job."""
    jobs.append(job_id)
    if job_id == jobs[0]:
        raise RuntimeError("no process became available after 3 attempts")
    return await acquire(self, job_id)


if __name__ == "__main__":
    ProcPool._acquire_proc = lose_once  # type: ignore[method-assign] # noqa: SLF001
    runpy.run_path(str(AGENT), run_name="__main__")
