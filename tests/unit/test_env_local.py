"""`.env.local`: settings in a file, next to where the worker starts."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def start(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `agent.py --help` in a folder; it reads the settings first."""
    return run(folder, str(ROOT / "agent.py"), "--help", local="BOUNCER_MAX_ROOMS=many", **environment)


def run(folder: Path, *arguments: str, local: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder with this `.env.local`."""
    (folder / ".env.local").write_text(f"{local}\n")
    command, environ = [sys.executable, *arguments], {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=60)


def test_settings_in_env_local_count(tmp_path: Path) -> None:
    """A mistake there is reported like one in the environment."""
    ended = start(tmp_path)

    assert ended.returncode == 1
    assert "BOUNCER_MAX_ROOMS" in ended.stderr


def test_the_environment_wins_over_env_local(tmp_path: Path) -> None:
    """What a deployment sets is not undone by a forgotten file."""
    assert start(tmp_path, BOUNCER_MAX_ROOMS="3").returncode == 0


def test_the_gatekeepers_port_counts_there_too(tmp_path: Path) -> None:
    """Like its other settings."""
    ended = run(tmp_path, "-m", "bouncer", "gatekeeper", "--dev", local="BOUNCER_GATEKEEPER_PORT=many")

    assert (ended.returncode, "BOUNCER_GATEKEEPER_PORT: must be" in ended.stderr) == (2, True)


def test_check_reads_the_configuration_of_all_rooms_there(tmp_path: Path) -> None:
    """As the worker does, so that what it shows is what will be in force."""
    (tmp_path / "room.json").write_text("{}")
    local = """BOUNCER_CONFIG='{"bouncer": {"mode": "dry_run"}}'"""

    ended = run(tmp_path, "-m", "bouncer", "check", "room.json", local=local)

    assert ended.returncode == 0
    assert ended.stdout.splitlines()[2].split() == ["$.bouncer.mode", '"dry_run"', "BOUNCER_CONFIG"]


def test_env_example_names_every_setting() -> None:
    """Each variable that the code reads is in the file that people copy."""
    code = "".join(path.read_text() for path in (ROOT / "bouncer").rglob("*.py"))
    example = (ROOT / ".env.example").read_text()

    assert set(re.findall(r"\bBOUNCER_[A-Z_]+\b", code)) == set(re.findall(r"\bBOUNCER_[A-Z_]+\b", example))


def test_env_example_names_each_setting_once() -> None:
    """A value set in one line is not undone by another line for the same variable."""
    names = re.findall(r"^(?:# )?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)

    assert len(names) == len(set(names))
