"""The dependency rule of the project is checked by machine; these tests check the machine."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from tests.pure import modules

ROOT = Path(__file__).parents[2]
LINT = Path(sys.executable).with_name("lint-imports")


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("policies/idle_timeout.py", "", ""),
        ("policies/idle_timeout.py", "import time", "What is called pure"),
        ("policies/idle_timeout.py", "from bouncer.tracker import Tracker", "A policy sees of the engine"),
        ("policies/idle_timeout.py", "from policies.duplicates import Duplicates", "A policy knows no other policy"),
        ("bouncer/guard/patrol.py", "from policies import BUILTIN", "The engine knows no policy"),
        ("bouncer/adapter/room.py", "from policies import BUILTIN", "The engine knows no policy"),
        ("bouncer/observers/logs.py", "from bouncer.cli.app import app", "Each layer"),
        ("bouncer/observers/logs.py", "from bouncer.guard.patrol import Patrol", "Each layer"),
        ("bouncer/guard/patrol.py", "from bouncer.adapter.calls import Calls", "Each layer"),
        ("bouncer/guard/patrol.py", "from livekit import rtc", "Only the adapter"),
        ("bouncer/guard/history.py", "from bouncer.guard.recheck import Moment", "Each layer"),
        ("bouncer/configuration/load.py", "from bouncer.observers import News", "Each layer"),
        ("bouncer/configuration/provenance.py", "import os", "What is called pure"),
        ("bouncer/decide.py", "import random", "What is called pure"),
        ("bouncer/decide.py", "from bouncer.configuration.model import KEY", "Each layer"),
        ("bouncer/hearing.py", "import time", "What is called pure"),
        ("bouncer/policy.py", "from bouncer.decide import decide", "Each layer"),
        ("bouncer/room.py", "import asyncio", "What is called pure"),
        ("bouncer/guard/history.py", "import time", "What is called pure"),
        ("bouncer/anywhere.py", "import ast", "Each layer"),
        ("bouncer/guard/patrol.py", "from gatekeeper.doors import Doors", "Only the command line opens"),
        ("gatekeeper/doors.py", "import time", "What is called pure"),
        ("gatekeeper/driver.py", "from livekit import api", "Only the adapter"),
    ],
)
def test_a_forbidden_import_is_found(module: str, line: str, contract: str, tmp_path: Path) -> None:
    """One line added to one module breaks the contract that it should break, and without it all are kept."""
    for name in ("bouncer", "gatekeeper", "policies"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / module).open("a") as source:
        source.write(f"\n{line}\n")

    run = subprocess.run([LINT, "--no-cache"], cwd=tmp_path, capture_output=True, text=True, check=False)

    broken = [row for row in run.stdout.splitlines() if " BROKEN" in row]
    assert [row for row in broken if not row.startswith(contract)] == []
    assert (run.returncode != 0) == bool(line) == bool(broken), run.stdout


@pytest.mark.parametrize("name", list(modules()))
def test_what_is_pure_can_be_imported(name: str) -> None:
    """So its coverage is measured, even if no other test imports it."""
    assert import_module(name).__name__ == name


def test_what_calls_itself_pure_is_under_the_contract() -> None:
    """A module says so in its docstring; then the linter holds it to that."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = {each["name"].partition(",")[0]: each for each in project["tool"]["importlinter"]["contracts"]}
    pure = contracts["What is called pure is pure"]["source_modules"]
    claims = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "bouncer").rglob("*.py")
        if re.search(r"\b[Pp]ure\.|no I/O", ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "")
    ]

    assert claims
    assert set(claims) <= set(pure)


def test_each_class_of_the_engine_has_a_name_of_its_own() -> None:
    """So a search for a name finds one thing."""
    places: dict[str, list[str]] = {}
    for path in sorted((ROOT / "bouncer").rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name.lstrip("_"), []).append(str(path.relative_to(ROOT)))

    assert {name: where for name, where in places.items() if len(where) > 1} == {}


@pytest.mark.parametrize("folder", ["bouncer", "gatekeeper", "policies"])
def test_each_name_of_a_module_is_given_once(folder: str) -> None:
    """Otherwise what reads it gets the value of the other: `LONGEST_TEXT` was two limits, and the lower one held."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        given = [
            target.id
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            for target in (node.targets if isinstance(node, ast.Assign) else [])
            if isinstance(target, ast.Name)
        ]
        assert {name for name in given if given.count(name) > 1} == set(), path
