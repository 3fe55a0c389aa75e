"""The supply chain: what is imported is declared, what is declared is used, and what the audit says of it."""

import ast
import re
import runpy
import sys
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
OURS = {"agent", "benchmarks", "bouncer", "demo", "devserver", "gatekeeper", "policies", "tests"}
PARTS = {"gatekeeper": "gatekeeper", "replay": "bouncer/recording/page.py", "watch": "bouncer/cli/screen.py"}
"""What each extra is for: the only place that may import its packages."""
SHIPPED = ("agent.py", "bouncer", "policies")
TOOLS = ("benchmarks", "demo", "devserver", "docs", "tests")

NOT_IMPORTED = {
    "furo": "the documents' theme, named in docs/conf.py",
    "import-linter": "a program, in the Makefile",
    "mypy": "a program, in the Makefile",
    "myst-parser": "reads the documents, named in docs/conf.py",
    "pytest-cov": "a plugin of pytest",
    "pytest-timeout": "a plugin of pytest",
    "pytest-xdist": "a plugin of pytest",
    "ruff": "a program, in the Makefile",
    "sphinx": "a program, in the Makefile",
    "types-jsonschema": "types, for mypy",
    "types-pyyaml": "types, for mypy",
    "uv": "a program, in the Makefile",
}


def canonical(name: str) -> str:
    """Return a package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def named(requirements: list[str]) -> set[str]:
    """Return the packages that requirements name."""
    return {canonical(re.split(r"[^\w.-]", requirement, maxsplit=1)[0]) for requirement in requirements}


@cache
def owners() -> Mapping[str, str]:
    """Return the package that has each module, of all that is installed."""
    found = {}
    for distribution in distributions():
        name = canonical(distribution.name)
        for line in (distribution.read_text("RECORD") or "").splitlines():
            # Fifty times faster than `distribution.files`, which makes a path of each.
            folder, _, file = line.partition(",")[0].rpartition("/")
            if file.endswith((".py", ".pyi", ".so")):
                module = f"{folder.replace('/', '.')}.{file.partition('.')[0]}"
                found[module.removesuffix(".__init__").removeprefix(".")] = name
    return found


def modules(source: str) -> Iterator[str]:
    """Yield every module that code imports, and everything imported from one, which may be a module too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def packages(source: str) -> set[str]:
    """Return the packages that code imports from; a module of none is one that is missing here."""
    found = set()
    for module in modules(source):
        top = module.partition(".")[0]
        if top in OURS or top in sys.stdlib_module_names:
            continue
        if module in owners():
            found.add(owners()[module])
        elif not any(known.startswith(f"{top}.") or known == top for known in owners()):
            found.add(top)
    return found


def imported(*places: str) -> set[str]:
    """Return the packages that the code in these places imports from."""
    files = [
        file for place in places for file in ([ROOT / place] if place.endswith(".py") else (ROOT / place).rglob("*.py"))
    ]
    apart = {ROOT / part for part in PARTS.values()} - {ROOT / place for place in places}
    files = [file for file in files if file not in apart]
    return {package for file in files for package in packages(file.read_text(encoding="utf-8"))}


def test_the_worker_declares_what_it_imports_and_nothing_else() -> None:
    """A package that another one happens to bring may be gone with its next version."""
    assert imported(*SHIPPED) == named(PROJECT["project"]["dependencies"])


def test_each_extra_has_a_part() -> None:
    """And each part its extra."""
    assert PARTS.keys() == PROJECT["project"]["optional-dependencies"].keys()


@pytest.mark.parametrize("extra", PARTS)
def test_an_optional_part_declares_what_it_imports_beyond_that(extra: str) -> None:
    """An extra is named after the part that needs it."""
    optional = named(PROJECT["project"]["optional-dependencies"][extra])

    assert imported(PARTS[extra]) - named(PROJECT["project"]["dependencies"]) == optional


def test_the_tools_declare_what_they_import_and_nothing_else() -> None:
    """So do the tests, the demo and the benchmarks; the rest of the group has its reason."""
    group = named(PROJECT["dependency-groups"]["dev"])
    runtime = named(PROJECT["project"]["dependencies"])
    runtime = runtime.union(*map(named, PROJECT["project"]["optional-dependencies"].values()))

    assert imported(*TOOLS) - runtime == group - NOT_IMPORTED.keys()
    assert NOT_IMPORTED.keys() <= group


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import os, bouncer.room", set()),
        ("from pydantic import BaseModel", {"pydantic"}),
        ("from livekit import rtc, api", {"livekit", "livekit-api"}),
        ("from livekit.agents import cli", {"livekit-agents"}),
        ("import missing_here.part", {"missing_here"}),
    ],
)
def test_an_import_counts_for_the_package_that_has_the_module(source: str, found: set[str]) -> None:
    """Several packages share the name `livekit`."""
    assert packages(source) == found


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-gatekeeper.txt"])
def test_what_is_deployed_is_what_the_tests_run_with(file: str) -> None:
    """The same versions, to the hash."""
    deployed, tested = (pins((ROOT / name).read_text(encoding="utf-8")) for name in (file, "requirements-dev.txt"))

    assert deployed
    assert deployed.items() <= tested.items()


def pins(requirements: str) -> dict[str, str]:
    """Return the hashes of each package and version."""
    return dict(re.findall(r"^([\w.-]+==[\w.!+-]+).*\\\n((?:    --hash=\S+(?: \\\n)?)+)", requirements, re.MULTILINE))


FOUND = {"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}
CLEAN = {"name": "b", "version": "1", "vulns": []}
SKIPPED = {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("dependencies", "status", "said"),
    [
        ([CLEAN], 0, "1 of 1 packages audited, 0 vulnerable"),
        ([CLEAN, FOUND], 1, "a 1: CVE-1, fixed in 2"),
        ([CLEAN, SKIPPED], 0, "c: not audited, not found"),
        ([SKIPPED], 0, "NOT AUDITED"),
    ],
)
def test_an_audit_without_data_says_so(
    dependencies: list[dict[str, Any]], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An index that knows nothing of vulnerabilities must not look like a clean bill of health."""
    report = runpy.run_path(str(ROOT / ".ci" / "audit.py"))["report"]

    assert report(dependencies) == status
    assert said in capsys.readouterr().out
