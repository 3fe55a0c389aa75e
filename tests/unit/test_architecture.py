"""The dependency rule of the project is checked by machine; these tests check the machine."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT = Path(sys.executable).with_name("lint-imports")


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("policies/idle_timeout.py", "", ""),
        ("policies/idle_timeout.py", "import time", "A policy is timeless and pure"),
        ("policies/idle_timeout.py", "from bouncer.tracker import Tracker", "A policy sees of the engine"),
        ("policies/idle_timeout.py", "from policies.duplicates import Duplicates", "A policy knows no other policy"),
        ("bouncer/patrol.py", "from policies import BUILTIN", "The engine knows no policy"),
        ("bouncer/schema.py", "from bouncer.__main__ import app", "Nothing imports the command line"),
        ("bouncer/patrol.py", "from livekit import rtc", "Only the adapter speaks LiveKit"),
        ("bouncer/decide.py", "import random", "The core is pure"),
        ("bouncer/room.py", "import asyncio", "The core is pure"),
        ("bouncer/recheck.py", "from bouncer.eviction import Evictor", "The core is pure"),
        ("bouncer/history.py", "import time", "The core is pure"),
    ],
)
def test_a_forbidden_import_is_found(module: str, line: str, contract: str, tmp_path: Path) -> None:
    """One line added to one module breaks the contract that it should break, and without it all are kept."""
    for name in ("bouncer", "policies"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / module).open("a") as source:
        source.write(f"\n{line}\n")

    run = subprocess.run([LINT, "--no-cache"], cwd=tmp_path, capture_output=True, text=True, check=False)

    broken = [row for row in run.stdout.splitlines() if " BROKEN" in row]
    assert [row for row in broken if not row.startswith(contract)] == []
    assert (run.returncode != 0) == bool(line) == bool(broken), run.stdout
