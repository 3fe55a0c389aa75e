"""`.env.local`: settings in a file, next to where the worker starts."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def start(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `agent.py --help` in a folder; it reads the settings first."""
    (folder / ".env.local").write_text("BOUNCER_MAX_ROOMS=many\n")
    command = [sys.executable, str(ROOT / "agent.py"), "--help"]
    environ = {**os.environ, **environment}
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)


def test_settings_in_env_local_count(tmp_path: Path) -> None:
    """A mistake there is reported like one in the environment."""
    ended = start(tmp_path)

    assert ended.returncode == 1
    assert "BOUNCER_MAX_ROOMS" in ended.stderr


def test_the_environment_wins_over_env_local(tmp_path: Path) -> None:
    """What a deployment sets is not undone by a forgotten file."""
    assert start(tmp_path, BOUNCER_MAX_ROOMS="3").returncode == 0


def test_env_example_names_every_setting() -> None:
    """Each variable that the code reads is in the file that people copy."""
    code = "".join(path.read_text() for path in (ROOT / "bouncer").rglob("*.py"))
    example = (ROOT / ".env.example").read_text()

    assert set(re.findall(r"\bBOUNCER_[A-Z_]+\b", code)) == set(re.findall(r"\bBOUNCER_[A-Z_]+\b", example))


def test_env_example_names_each_setting_once() -> None:
    """A value set in one line is not undone by another line for the same variable."""
    names = re.findall(r"^(?:# )?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)

    assert len(names) == len(set(names))
