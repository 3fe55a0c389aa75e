"""The command line: what it says, where it says it, and its exit status."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bouncer import schema
from bouncer.__main__ import app
from bouncer.config import Layer, load
from bouncer.docs import page
from policies import BUILTIN
from policies.max_agents import MaxAgents
from tests.packages import ROOT

DEFAULT = "built-in defaults"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("BOUNCER_")]:
        monkeypatch.delenv(name)


def run(*args: str, text: str | bytes = "", **environment: str) -> Result:
    """Run it with this on stdin."""
    return CliRunner().invoke(app, args, input=text, env=environment)


def metadata(**bouncer: Any) -> str:
    """A room's metadata."""
    return json.dumps({"topic": "x", "bouncer": bouncer})


def lines(output: str) -> dict[str, list[str]]:
    """The table of what is in force: JSON paths to value and origin."""
    rows = (line.split(maxsplit=2) for line in output.splitlines() if line.startswith("$"))
    return {path: [value, origin] for path, value, origin in rows}


class TestCheck:
    """What would be in force in a room, or all that is wrong."""

    def test_what_is_in_force(self, tmp_path: Path) -> None:
        """Each value with where it came from; nothing on stderr, status 0."""
        file = tmp_path / "room.json"
        file.write_text(metadata(mode="dry_run", policies={"idle_timeout": {"timeout": 60.0}}), encoding="utf-8")
        result = run("check", str(file))

        assert (result.exit_code, result.stderr) == (0, "")
        table = lines(result.stdout)
        assert table["$.bouncer.mode"] == ['"dry_run"', f"room metadata ({file})"]
        assert table["$.bouncer.policies.idle_timeout.timeout"] == ["60", f"room metadata ({file})"]
        assert table["$.bouncer.policies.duplicates.keep"] == ['"oldest"', DEFAULT]
        assert table["$.bouncer.reconcile"] == ["15", DEFAULT]
        assert table.keys() == load([Layer("", file.read_text(), shared=True)], BUILTIN).origins.keys()
        assert "It listens, by level." in result.stdout

    def test_stdin(self) -> None:
        """`-` is stdin; where nothing is listened to, nothing is said of it."""
        result = run("check", "-", text=metadata(mode="off"))

        assert result.exit_code == 0
        assert lines(result.stdout)["$.bouncer.mode"] == ['"off"', "room metadata"]
        assert "listens" not in result.stdout

    def test_the_layers_beneath(self, tmp_path: Path) -> None:
        """BOUNCER_CONFIG and the dispatch's metadata count, as they do for the worker."""
        dispatch, config = tmp_path / "dispatch.json", tmp_path / "config.json"
        dispatch.write_text('{"bouncer": {"reconcile": 20, "announce": false}}')
        config.write_text('{"$schema": "x", "bouncer": {"reconcile": 10, "hearing": "level"}}')
        room = metadata(announce=True)

        table = lines(run("check", "-", "--dispatch", str(dispatch), text=room, BOUNCER_CONFIG=str(config)).stdout)
        assert table["$.bouncer.hearing"] == ['"level"', f"BOUNCER_CONFIG ({config})"]
        assert table["$.bouncer.reconcile"] == ["20", f"dispatch metadata ({dispatch})"]
        assert table["$.bouncer.announce"] == ["true", "room metadata"]
        assert table["$.bouncer.mode"] == ['"enforce"', DEFAULT]
        table = lines(run("check", "-", text=room, BOUNCER_CONFIG='{"bouncer": {"mode": "off"}}').stdout)
        assert table["$.bouncer.mode"] == ['"off"', "BOUNCER_CONFIG"]

    def test_everything_that_is_wrong(self, tmp_path: Path) -> None:
        """One problem a line, on stderr, with layer and JSON path; status 1."""
        file = tmp_path / "room.json"
        file.write_text(metadata(mode="on", policies={"duplicates": {"max": 0}, "idle_timout": {}}))
        result = run("check", str(file), BOUNCER_CONFIG='{"bouncer": {"announce": 1}}')

        assert (result.exit_code, result.stdout) == (1, "")
        problems = result.stderr.splitlines()
        assert problems[0] == "BOUNCER_CONFIG: $.bouncer.announce: must be true or false, not 1"
        assert {line.split(": ")[1] for line in problems[1:]} == {
            *("$.bouncer.mode", "$.bouncer.policies.duplicates.max", "$.bouncer.policies.idle_timout"),
        }
        assert all(line.startswith(f"room metadata ({file}): ") for line in problems[1:])
        assert "did you mean “idle_timeout”?" in result.stderr

    def test_a_problem_keeps_its_line(self) -> None:
        """However long it is, and whatever looks like markup in it."""
        result = run("check", "-", text=metadata(**{"[bold]x[/]": 1, "y" * 60: 2}), COLUMNS="40")

        assert len(result.stderr.splitlines()) == 2
        assert '$.bouncer["[bold]x[/]"]: is unknown here' in result.stderr

    @pytest.mark.parametrize(
        ("text", "status"),
        [
            ("", 0),
            ("a room for the weekly call", 0),
            ('{"topic": "x"}', 0),
            ('{"bouncer": {}, }', 1),
            ('{"bouncer": null}', 1),
            ("[" * 100_000 + '"bouncer"', 1),
        ],
    )
    def test_text_that_may_be_none_of_ours(self, text: str, status: int) -> None:
        """As the worker takes it: what has not our key configures nothing, which is said."""
        result = run("check", "-", text=text)

        assert result.exit_code == status
        said = "room metadata: has no key “bouncer”, so it configures nothing\n"
        assert (result.stderr == said) == (status == 0)
        assert bool(result.stdout) == (status == 0)

    def test_json(self) -> None:
        """For other programs: what is in force as it could be given, and the origins by JSON path."""
        room = metadata(policies={"lone_chatter": {}})
        result = run("check", "--json", "-", text=room)
        config = load([Layer("room metadata", room, shared=True)], BUILTIN)

        assert (result.exit_code, result.stderr) == (0, "")
        assert json.loads(result.stdout) == {
            "valid": True,
            "configures": True,
            "configuration": {"bouncer": config.effective},
            "origins": config.origins,
            "hearing": "level",
        }
        again = load([Layer("", json.dumps(json.loads(result.stdout)["configuration"]))], BUILTIN)
        assert again == config

    def test_json_of_none_of_ours(self) -> None:
        """A program sees it too."""
        assert json.loads(run("check", "--json", "-", text="{}").stdout)["configures"] is False

    def test_json_of_what_is_wrong(self) -> None:
        """The same status, and the problems on stdout."""
        result = run("check", "--json", "-", text=metadata(reconcile=0))

        assert (result.exit_code, result.stderr) == (1, "")
        assert json.loads(result.stdout) == {
            "valid": False,
            "problems": [
                {"layer": "room metadata", "path": "$.bouncer.reconcile", "message": "must be at least 1, not 0"}
            ],
        }

    def test_what_cannot_be_read(self, tmp_path: Path) -> None:
        """No such file, a folder, no text: status 2, and one line that names it."""
        latin = tmp_path / "latin.json"
        latin.write_bytes(b'{"x": "\xe9"}')
        for args, named in [
            (("check", str(tmp_path / "nothing.json")), "nothing.json: can't be read: "),
            (("check", str(tmp_path)), f"{tmp_path}: can't be read: "),
            (("check", str(latin)), "latin.json: can't be read: "),
            (("check", "x\0y"), "can't be read: "),
            (("check", "-", "--dispatch", str(latin)), "latin.json: can't be read: "),
        ]:
            result = run(*args)
            assert (result.exit_code, result.stdout) == (2, "")
            assert named in result.stderr
            assert len(result.stderr.splitlines()) == 1
        result = run("check", "-", text=b"\xff", BOUNCER_CONFIG="")
        assert (result.exit_code, "can't be read" in result.stderr) == (2, True)

    def test_an_environment_that_cannot_be_read(self) -> None:
        """BOUNCER_CONFIG is looked at first."""
        result = run("check", "-", BOUNCER_CONFIG="/nowhere/bouncer.json")

        assert result.exit_code == 2
        assert result.stderr.startswith("BOUNCER_CONFIG: must be JSON that begins with “{”")


class TestUsage:
    """How it is called."""

    @pytest.mark.parametrize("args", ["", "check", "check - -", "chek", "check --yaml -", "schema x", "policies -x"])
    def test_wrongly(self, args: str) -> None:
        """Status 2, and how it is called rightly, in plain text."""
        result = run(*args.split())

        assert result.exit_code == 2
        assert "Usage: " in result.output
        assert not re.search(r"[╭│─\x1b]", result.output)

    @pytest.mark.parametrize("command", [[], ["check"], ["schema"], ["policies"]])
    def test_help(self, command: list[str]) -> None:
        """It documents the exit statuses; what only `make docs` needs is not shown."""
        result = run(*command, "--help")

        assert result.exit_code == 0
        assert "Exit status: 0, all is well; 1, something is refused; 2, wrong usage" in result.stdout
        assert not re.search(r"[╭│─\x1b]", result.stdout)
        assert "write" not in result.stdout


class TestSchema:
    """The JSON Schema."""

    def test_it_is_the_committed_one(self) -> None:
        """To the byte."""
        result = run("schema")

        assert result.exit_code == 0
        assert result.stdout == (ROOT / "bouncer.schema.json").read_text(encoding="utf-8")


class TestPolicies:
    """The policies, and their pages."""

    def test_all_of_them(self) -> None:
        """A line each."""
        result = run("policies")

        assert result.exit_code == 0
        assert [line.split(maxsplit=1) for line in result.stdout.splitlines()][: len(BUILTIN)] == [
            [policy.name, schema.summary(policy)] for policy in BUILTIN
        ]

    def test_one_of_them(self) -> None:
        """Its page, as in the README, and the options that every policy takes."""
        result = run("policies", "max_agents")

        assert result.exit_code == 0
        assert result.stdout.startswith(page(MaxAgents, "#"))
        assert "| `notice` | seconds | `0` |" in result.stdout

    def test_none_of_them(self) -> None:
        """Wrong usage, and what was probably meant."""
        result = run("policies", "max_agent")

        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == "there is no policy “max_agent”; did you mean “max_agents”?\n"
        assert run("policies", "zzz").stderr == "there is no policy “zzz”\n"


class TestWrite:
    """What `make docs` does."""

    def test_both_files(self, tmp_path: Path) -> None:
        """The section in the README, and the schema."""
        text = (ROOT / "README.md").read_text(encoding="utf-8")
        (tmp_path / "README.md").write_text(text.replace("has to leave", "may stay"), encoding="utf-8")
        result = run("write", str(tmp_path))

        assert result.exit_code == 0
        assert page(MaxAgents) in (tmp_path / "README.md").read_text(encoding="utf-8")
        assert (tmp_path / "bouncer.schema.json").read_text(encoding="utf-8") == schema.text(BUILTIN)


def on_a_terminal(*args: str, **environment: str) -> str:
    """What it shows on a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    settings = {"TERM": "xterm-256color", "COLUMNS": "100", "PATH": os.environ["PATH"], **environment}
    with subprocess.Popen(
        [sys.executable, "-m", "bouncer", *args], cwd=ROOT, env=settings, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # how Linux says that nobody holds the other end any more
                break
            if not part:
                break
            shown += part
        os.close(ours)
    assert process.returncode == 0, shown.decode()
    return shown.decode()


class TestTerminal:
    """A terminal shows colours and pages; nothing else does."""

    def test_colours(self) -> None:
        """Unless NO_COLOR is set."""
        assert "\x1b[2m" in on_a_terminal("check", os.devnull)
        assert "\x1b[33m" in on_a_terminal("check", os.devnull)
        assert "\x1b[33m" not in on_a_terminal("check", os.devnull, NO_COLOR="1")

    def test_a_page(self) -> None:
        """It is laid out, where a file would get Markdown."""
        shown = on_a_terminal("policies", "max_agents")

        assert "\x1b[1" in shown
        assert "How many agents may be here." in shown
        assert "|---|" not in shown

    def test_a_terminal_that_lacks_a_character(self) -> None:
        """It gets the rest."""
        process = subprocess.run(
            [sys.executable, "-m", "bouncer", "check", "-"],
            input='{"bouncer": {"policies": {"duplicate": {}}}}',
            env={"PYTHONIOENCODING": "ascii", "PATH": os.environ["PATH"]},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

        assert process.returncode == 1
        assert r"did you mean \u201cduplicates\u201d?" in process.stderr
