"""CONTRIBUTING.md, carried out to the letter in a copy of the project."""

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.packages import ROOT, shown

BIN = Path(sys.executable).parent
NEIGHBOUR = {"nameless": "no_return", "Nameless": "NoReturn"}
"""What the example precedes in an alphabetical list."""
CHECKS: Mapping[str, Sequence[str | Path]] = {
    "make docs": [BIN / "python", "-m", "bouncer", "write"],
    "ruff": [BIN / "ruff", "check", "--no-cache"],
    "formatting": [BIN / "ruff", "format", "--check", "--no-cache"],
    "mypy": [BIN / "mypy", "policies", "tests/policies/test_nameless.py", "tests/simulation/oracle.py"],
    "imports": [BIN / "lint-imports", "--no-cache"],
    "tests": [
        *(BIN / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--hypothesis-profile=brief"),
        *("tests/policies/test_nameless.py", "tests/policies/test_every_policy.py", "tests/laws/test_laws.py"),
        *(
            "tests/unit/test_registry.py",
            "tests/simulation/test_tables.py",
            "tests/unit/test_docs.py",
            "tests/unit/test_schema.py",
        ),
    ],
}
"""What `make check` and `make test` run on it, as far as a new policy can make a difference."""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of the project with the example policy in it."""
    folder = tmp_path / "copy"
    shutil.copytree(
        ROOT,
        folder,
        ignore=shutil.ignore_patterns(".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "build", "*.wav"),
    )
    policy, oracle, test = shown("python")
    (folder / "policies/nameless.py").write_text(policy, encoding="utf-8")
    (folder / "tests/policies/test_nameless.py").write_text(test, encoding="utf-8")
    (lines,) = shown("text")
    for line in lines.splitlines():
        path, text = line.split(maxsplit=1)
        _insert(folder / path, text)
    judge = folder / "tests/simulation/oracle.py"
    judge.write_text(judge.read_text().replace("\nDUE = {", f"\n{oracle}\n\nDUE = {{"), encoding="utf-8")
    return folder


def _insert(file: Path, line: str) -> None:
    """Insert a line of a list where the alphabet has it: before its neighbour's line, indented alike."""
    name = next(word for word in NEIGHBOUR if word in line)
    shape = re.escape(line.partition(name)[0]) + re.escape(NEIGHBOUR[name]) + r'(?=[",: ])'
    text, inserted = re.subn(rf"^( *)(?={shape})", rf"\g<1>{line}\n\g<1>", file.read_text(), flags=re.MULTILINE)
    assert inserted == 1, (file, line)
    file.write_text(text, encoding="utf-8")


@pytest.mark.timeout(600)  # a dozen programs, on a machine that may be busy
def test_the_example_policy_passes(copy: Path) -> None:
    """Its text, its lines and its test are verbatim those of CONTRIBUTING.md."""
    for check, command in CHECKS.items():
        result = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)

        assert result.returncode == 0, f"{check}: {result.stdout}{result.stderr}"
