"""The bouncer, except that it looks for a successor for a few seconds only when it is to end."""

import runpy
import sys
from pathlib import Path

AGENT = Path(__file__).parents[2] / "agent.py"
sys.path.insert(0, str(AGENT.parent))

from bouncer.adapter import room  # noqa: E402 - it is found only now

if __name__ == "__main__":
    room.HANDED_WITHIN = 3.0
    runpy.run_path(str(AGENT), run_name="__main__")
