"""The documents: what is generated is current and complete, links lead somewhere, and examples work."""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest
from annotated_types import Ge, Gt, Le, MinLen
from typer.main import get_command

from bouncer import Count, Glob, Globs, Policy, Room, Seconds, Verdict
from bouncer.cli.app import app
from bouncer.cli.pages import BEGIN, END, FOLDER, common, documents, overview, page, renewed, takes
from bouncer.configuration.load import load
from bouncer.configuration.model import Bouncer, EvictionSection, Layer
from bouncer.configuration.options import option_docs, own_keys
from bouncer.configuration.schema import own_options
from bouncer.observers.log_events import LogEvent
from bouncer.observers.messages import TOLD
from policies import BUILTIN
from policies.unresponsive import Unresponsive
from tests.packages import ROOT, documented, shown
from tests.simulation.mutants import MUTANTS

KINDS_OF_ROOM = 13
"""Those that public reports have shown to go wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Odd:
    """An agent that is | odd must leave."""

    name: ClassVar[str] = "odd"

    text: str = "a|b"
    """This | or
    that."""
    glob: Glob = "*"
    globs: Globs | None = None
    seconds: Seconds = 1
    some: Annotated[Seconds, Gt(0)] = 1
    count: Count = 1
    number: float = 1
    least: Annotated[int, Ge(1)] = 1
    most: Annotated[float, Le(5)] = 1
    yes: bool = True
    which: Literal["a", "b"] = "a"
    by: Mapping[Glob, Annotated[Globs, MinLen(1)]]
    states: Mapping[Literal["x", "y"], Seconds]
    numbers: tuple[int, ...] = ()
    texts: Mapping[str, str]
    anything: Any = None

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        """Judge only the first."""
        yield from (Verdict(agent, 0, "was first") for agent in room.agents[:1])


each_policy = pytest.mark.parametrize("policy", BUILTIN, ids=lambda policy: policy.name)


class TestGenerated:
    """What `make docs` writes."""

    def test_the_readme_is_current(self) -> None:
        """Its table of policies is what the code says now."""
        text = (ROOT / "README.md").read_text(encoding="utf-8")

        assert text == renewed(text, BUILTIN), "run `make docs`"

    def test_the_pages_are_current(self) -> None:
        """There is one for each policy, and none is left from a policy that is gone."""
        pages = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / FOLDER).glob("*.md")}

        assert pages == documents(BUILTIN), "run `make docs`"

    def test_nothing_else_is_touched(self) -> None:
        """The text around the table stays, and renewing it again changes nothing."""
        text = f"# Title\n\n{BEGIN}\nstale\n{END}\n\nThe rest, {BEGIN} included.\n"
        new = renewed(text, BUILTIN[:1])

        assert new.startswith(f"# Title\n\n{BEGIN}\n")
        assert new.endswith(f"\n{END}\n\nThe rest, {BEGIN} included.\n")
        assert overview(BUILTIN[:1], f"{FOLDER}/") in new
        assert "stale" not in new
        assert renewed(new, BUILTIN[:1]) == new

    @pytest.mark.parametrize("text", ["", BEGIN, END, f"{END} {BEGIN}"])
    def test_missing_marks(self, text: str) -> None:
        """Without both marks in order, nothing is written."""
        with pytest.raises(ValueError, match="policies:begin"):
            renewed(text, BUILTIN)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (name, text)
        for name in documented()
        for text in shown("json", name)
        if '"bouncer":' in text and "nameless" not in text
    ],
)
def test_configurations_in_the_documents_are_valid(name: str, text: str) -> None:
    """Each of them can be pasted into a room's metadata."""
    assert load([Layer(name, text)], BUILTIN).effective


@pytest.mark.parametrize("path", [path for path in documented() if "from bouncer" in "".join(shown("python", path))])
def test_what_the_documents_import_exists(path: str) -> None:
    """Their Python can be pasted; `nameless` is the policy that the reader writes."""
    for code in shown("python", path):
        for each in ast.walk(ast.parse(code)):
            if isinstance(each, ast.ImportFrom) and str(each.module).startswith("bouncer"):
                module = import_module(str(each.module))
                assert [name.name for name in each.names if not hasattr(module, name.name)] == []


class TestPage:
    """The page of one policy."""

    @each_policy
    def test_it_has_everything(self, policy: type[Policy]) -> None:
        """The docstring, each option with its default and meaning, and an example."""
        text = page(policy)
        rows = {line.split("`")[1]: line for line in text.splitlines() if line.startswith("| `")}

        assert text.startswith(f"# `{policy.name}`\n\n{(policy.__doc__ or '').splitlines()[0]}\n")
        assert [name for name in rows if name != "action"] == own_keys(policy)
        for meaning, key in zip(option_docs(policy).values(), own_keys(policy), strict=True):
            assert meaning in rows[key]
        for name, option in own_options(policy).items():
            assert f"| `{json.dumps(option['default'])}` |" in rows[name] if "default" in option else "| required |"
        (example,) = (json.loads(line) for line in text.splitlines() if line.startswith("{"))
        assert [*example["bouncer"]["policies"]] == [policy.name]

    def test_another_default_action_is_told(self) -> None:
        """The usual default is not repeated."""
        assert [policy for policy in BUILTIN if "| `action` |" in page(policy)] == [Unresponsive]
        assert '| `action` | `"evict"` or `"report"` | `"report"` |' in page(Unresponsive)

    @each_policy
    def test_clearing_a_room_is_told(self, policy: type[Policy]) -> None:
        """The page says if `keep_last_agent` does not apply."""
        assert ("keep_last_agent" in page(policy)) == getattr(policy, "may_clear_room", False)

    def test_what_every_policy_takes(self) -> None:
        """The common options have a table of their own."""
        assert [line.split("`")[1] for line in common().splitlines() if line.startswith("| `")] == [
            *("action", "notice", "only")
        ]

    def test_the_marks_of_a_table_are_escaped(self) -> None:
        """Every row has the same number of columns, and takes one line."""
        assert '| `text` | text | `"a\\|b"` | This \\| or that. |' in page(Odd).splitlines()
        assert "| [`odd`](odd.md) | An agent that is \\| odd must leave. |" in overview([Odd]).splitlines()

    def test_a_long_example(self) -> None:
        """An example too long for a line is broken up."""
        lines = page(Odd).splitlines()
        example = json.loads("\n".join(lines[lines.index("```json") + 1 : -1]))

        assert example["bouncer"]["policies"]["odd"].keys() == {*own_options(Odd)} - {"by", "states", "texts"}
        assert max(map(len, lines)) < 120

    def test_what_an_option_takes(self) -> None:
        """Each type has its words."""
        assert {name: takes(option) for name, option in own_options(Odd).items()} == {
            "text": "text",
            "glob": "glob",
            "globs": "list of globs",
            "seconds": "seconds",
            "some": "seconds, more than 0",
            "count": "whole number from 1 to 1000000",
            "number": "number",
            "least": "whole number from 1",
            "most": "number up to 5",
            "yes": "`true` or `false`",
            "which": '`"a"` or `"b"`',
            "by": "object of lists of globs",
            "states": "object of seconds for `x`, `y`",
            "numbers": "list of whole numbers",
            "texts": "object of texts",
            "anything": "any JSON",
        }


PROOF = re.compile(r"`(tests/[\w/.]+)(?:::(?:\w+::)?(\w+))?`|mutant \"(.+)\"")


@pytest.mark.parametrize("path", documented())
def test_the_tests_that_a_document_names_exist(path: str) -> None:
    """A proof that was renamed or removed is no proof."""
    mutants = (ROOT / "tests/simulation/mutants.py").read_text(encoding="utf-8")
    for file, name, mutant in PROOF.findall((ROOT / path).read_text(encoding="utf-8")):
        if mutant:
            assert f'"{mutant}"' in mutants
        elif not name.endswith("nameless") and "nameless" not in file:
            assert (ROOT / file).exists(), file
            assert not name or f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file}::{name}"


@pytest.mark.parametrize("path", [path for path in documented() if "/" not in path])
def test_links_of_the_documents_at_the_root(path: str) -> None:
    """They lead to a file in the repository; Sphinx checks those of the other documents."""
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / path).read_text(encoding="utf-8")):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize(
    ("pattern", "lines"),
    [("README.md", 150), ("CONTRIBUTING.md", 100), ("docs/decisions/0*.md", 25)],
)
def test_documents_stay_short(pattern: str, lines: int) -> None:
    """Long ones go unread."""
    for path in ROOT.glob(pattern):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= lines, path


@pytest.mark.parametrize("path", sorted((ROOT / "docs/decisions").glob("0*.md")), ids=lambda path: path.stem)
def test_a_decision_is_complete(path: Path) -> None:
    """Each says why, what, and what follows, and names at least one test."""
    text = path.read_text(encoding="utf-8")

    assert re.findall(r"^\*\*(\w+)\.\*\*", text, re.MULTILINE) == ["Context", "Decision", "Consequences", "Proof"]
    assert PROOF.search(text)


def listed(page: str) -> set[str]:
    """Return what the first column of a reference page's tables names."""
    text = (ROOT / "docs/reference" / page).read_text(encoding="utf-8")
    return {
        name for cell in re.findall(r"^\| (`[^|]+`) \|", text, re.MULTILINE) for name in re.findall(r"`([^`]+)`", cell)
    }


def test_each_kind_of_room_from_the_field_has_its_tests_and_a_bug() -> None:
    """No kind is missing, nor a test of its file; and a bug is planted for each."""
    page = (ROOT / "docs/explanation/from-the-field.md").read_text(encoding="utf-8")
    _, _, *rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("|")]
    tests = re.findall(r"^async def (test_\w+)", (ROOT / "tests/e2e/test_field.py").read_text(), re.MULTILINE)
    named = [re.findall(r"`(test_\w+)`", test) for _, _, test, _ in rows]

    assert (len(rows), all(named)) == (KINDS_OF_ROOM, True)
    assert sorted(test for each in named for test in each) == sorted(tests)
    assert {bug for *_, bug in rows} <= {mutant.name for mutant in MUTANTS}


class TestReference:
    """The pages that are written by hand name everything there is."""

    def test_configuration(self) -> None:
        """Every key, with those of `eviction` one by one."""
        keys = {*Bouncer.model_fields} - {"eviction"} | {f"eviction.{name}" for name in EvictionSection.model_fields}

        assert listed("configuration.md") == keys

    def test_environment(self) -> None:
        """Every variable that the worker's settings read, and every one in the example file."""
        sources = ("bouncer/configuration/settings.py", ".env.example")
        read = {
            name for path in sources for name in re.findall(r"\b(?:BOUNCER|LIVEKIT)_[A-Z_]+", (ROOT / path).read_text())
        }

        assert read <= listed("environment.md")

    def test_log_events(self) -> None:
        """Every event of the enum, and no other; no record has a text that is not in the enum."""
        sources = [path.read_text(encoding="utf-8") for path in (ROOT / "bouncer").rglob("*.py")]

        assert listed("log-events.md") == {*LogEvent}
        assert not [
            text for text in sources if re.search(r"(logger\.\w+|_log|_warn)\((\w+\.?\w*, )?\"[a-z -]+\"", text)
        ]

    def test_what_the_console_is_made_of(self) -> None:
        """With the versions that are locked, in Python's files or npm's."""
        python = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8")
        npm = [ROOT / "gatekeeper/page/package-lock.json", ROOT / "tests/console/axe/package-lock.json"]
        locked = dict(re.findall(r"^([a-z0-9.-]+)==([^ ]+)", python, re.MULTILINE))
        for path in npm:
            packages = json.loads(path.read_text(encoding="utf-8"))["packages"]
            locked |= {name.removeprefix("node_modules/"): each["version"] for name, each in packages.items() if name}

        text = (ROOT / "docs/how-to/console.md").read_text(encoding="utf-8")
        told = re.findall(r"^\| ([A-Za-z.-]+) \| ([0-9.]+) \|", text, re.MULTILINE)
        assert len(told) == 9
        assert {name: version for name, version in told if locked[name.lower()] != version} == {}

    def test_messages(self) -> None:
        """Every event that is sent to the room."""
        assert listed("messages.md") == set(TOLD)

    def test_command_line(self) -> None:
        """Every command."""
        app_commands = get_command(app).commands  # type: ignore[attr-defined]  # a group
        commands = {name for name, command in app_commands.items() if not command.hidden}

        assert {name.split()[0] for name in listed("command-line.md")} == commands


def drawn() -> list[tuple[str, str]]:
    """Return the files and functions of the drawing in ARCHITECTURE.md."""
    drawing = shown("text", "ARCHITECTURE.md")[0]
    return re.findall(r"^ ?\d+  (\S+) +(\S+)", drawing, re.MULTILINE)


@pytest.mark.parametrize(("file", "function"), drawn())
def test_the_drawing_follows_the_code(file: str, function: str) -> None:
    """A reader finds each function in the file that is named next to it."""
    path = ROOT / "bouncer" / file
    text = "".join(each.read_text(encoding="utf-8") for each in ([path] if path.is_file() else path.glob("*.py")))

    for name in function.split("."):
        assert re.search(rf"\b(class|def) {name}\b", text), f"{file}: {name}"
