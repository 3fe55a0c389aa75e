"""Replaying the recordings of a worker that has packages which the tests' own environment lacks."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


async def replayed(recordings: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """Replay a folder in that environment, and return the answer. Each recording has to give the same decisions."""
    command = [sys.executable, "-m", "bouncer", "replay", str(recordings), "--json"]
    env = os.environ | environment
    run = partial(subprocess.run, capture_output=True, text=True, env=env, cwd=ROOT, check=False)
    ended = await asyncio.to_thread(run, command)
    assert (ended.returncode, ended.stderr) == (0, "")
    answer: dict[str, Any] = json.loads(ended.stdout)
    return answer
