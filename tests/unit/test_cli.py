"""The command line: what it says, where it says it, and its exit status."""

import json
import os
import pty
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bouncer.cli.app import app
from bouncer.cli.pages import FOLDER, page
from bouncer.configuration import schema
from bouncer.configuration.load import load
from bouncer.configuration.model import Layer
from policies import BUILTIN
from policies.max_agents import MaxAgents
from tests.packages import ROOT

DEFAULT = "built-in defaults"
WHO_IS_WHAT = "docs/explanation/who-is-what.md"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("BOUNCER_")]:
        monkeypatch.delenv(name)


def run(*args: str, text: str | bytes = "", **environment: str) -> Result:
    """Run it with this text on stdin."""
    return CliRunner().invoke(app, args, input=text, env=environment)


def metadata(**bouncer: Any) -> str:
    """Return a room's metadata."""
    return json.dumps({"topic": "x", "bouncer": bouncer})


def lines(output: str) -> dict[str, list[str]]:
    """Return the table of what is in force: JSON paths to value and origin."""
    rows = (line.split(maxsplit=2) for line in output.splitlines() if line.startswith("$"))
    return {path: [value, origin] for path, value, origin in rows}


class TestCheck:
    """What would be in force in a room, or everything that is wrong."""

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
        assert "It listens, and takes any sound for speech." in result.stdout

    def test_what_is_not_the_default_comes_first(self) -> None:
        """The defaults follow, apart."""
        rows = [*lines(run("check", "-", text=metadata(announce=False, mode="off")).stdout).values()]
        origins = [origin for _, origin in rows]

        assert origins == sorted(origins, key=lambda origin: origin == DEFAULT)
        assert origins[:3] == ["room metadata", "room metadata", DEFAULT]
        assert "all of it by default" in run("check", "-", text="{}").stdout

    def test_warnings(self) -> None:
        """A probable mistake is reported on stderr; `--strict` refuses it."""
        text = metadata(policies={"idle_timeout": {"timeout": 300_000}})
        said, refused = run("check", "-", text=text), run("check", "--strict", "-", text=text)
        answers = [json.loads(run("check", "--json", *args, "-", text=text).stdout) for args in ([], ["--strict"])]

        assert (said.exit_code, refused.exit_code, refused.stdout) == (0, 1, "")
        assert "were milliseconds meant?" in said.stderr
        assert said.stderr == refused.stderr
        assert answers[0]["warnings"] == answers[1]["problems"]
        assert run("check", "--strict", "-", text=metadata(mode="off")).exit_code == 0

    @pytest.mark.parametrize("text", ['{"topic": {"mode": "dry_run"}}', "{}", "a weekly call"])
    def test_text_that_configures_nothing(self, text: str) -> None:
        """It is another application's, and a note says so. `--strict` expects a configuration, or an empty file."""
        said, refused = run("check", "-", text=text), run("check", "--strict", "-", text=text)

        assert (said.exit_code, refused.exit_code, refused.stdout) == (0, 1, "")
        assert all("has no key “bouncer”, so it configures nothing" in each.stderr for each in (said, refused))
        assert run("check", "--strict", "-", text=" \n").exit_code == 0

    def test_several_files(self, tmp_path: Path) -> None:
        """Each is reported with its name. If one is refused, the status is 1."""
        good, bad = tmp_path / "good.json", tmp_path / "bad.json"
        good.write_text(metadata(mode="off"))
        bad.write_text(metadata(mode="on"))
        result = run("check", str(bad), str(good))
        answers = run("check", "--json", str(bad), str(good)).stdout.replace("}\n{", "}\0{").split("\0")

        assert result.exit_code == 1
        assert "$.bouncer.mode: must be" in result.stderr
        assert f"room metadata ({good}):" in result.stdout
        assert [(each["file"], each["valid"]) for each in map(json.loads, answers)] == [
            (str(bad), False),
            (str(good), True),
        ]
        assert run("check", str(good), str(good)).exit_code == 0

    def test_a_byte_order_mark(self, tmp_path: Path) -> None:
        """Some editors write one; it is ignored."""
        file = tmp_path / "room.json"
        file.write_bytes(b"\xef\xbb\xbf" + metadata(mode="off").encode())

        assert lines(run("check", str(file)).stdout)["$.bouncer.mode"][0] == '"off"'

    @pytest.mark.parametrize("name", ["\x1b[2J", "\x9b2J", "\u202e", "\u2028", "\x7f", "\n"])
    def test_control_characters_are_shown_and_not_obeyed(self, name: str) -> None:
        """In a value, in a path, in an error, and in JSON."""
        for value in ({"exempt": {"identity": [f"a{name}"]}}, {f"b{name}": 1}, {"mode": name}):
            for options in ([], ["--json"]):
                result = run("check", *options, "-", text=metadata(**value))
                shown = re.sub(r"\n", "", result.stdout + result.stderr)
                assert name not in shown

    def test_stdin(self) -> None:
        """`-` is stdin. Hearing is not mentioned where no rule needs it."""
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
        """However long it is, even if it looks like markup."""
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
        """As in the worker, text without our key configures nothing, and the command says so."""
        result = run("check", "-", text=text)

        assert result.exit_code == status
        said = "room metadata: has no key “bouncer”, so it configures nothing\n"
        assert (result.stderr == said) == (status == 0)
        assert bool(result.stdout) == (status == 0)

    def test_json(self) -> None:
        """For other programs: the effective configuration as it could be written, and the origins by JSON path."""
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
        """A program can tell that too."""
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
            (("check", str(tmp_path / "nothing.json")), "nothing.json: can't be read: No such file or directory\n"),
            (("check", str(tmp_path)), f"{tmp_path}: can't be read: Is a directory\n"),
            (("check", str(latin)), "latin.json: can't be read: "),
            (("check", "x\0y"), "can't be read: "),
            (("check", "-", "--dispatch", str(latin)), "latin.json: can't be read: "),
            (
                ("dispatch", "my-room", "--dev", "--config", "no.json"),
                "no.json: can't be read: No such file",
            ),
            (
                ("replay", ".", "--config", "no.json"),
                "--config no.json: can't be read: No such file",
            ),
            (
                ("gatekeeper", "--dev", "--config", "no.json"),
                "--config no.json: can't be read: No such file",
            ),
        ]:
            result = run(*args)
            assert (result.exit_code, result.stdout) == (2, "")
            assert named in result.stderr
            assert len(result.stderr.splitlines()) == 1
        result = run("check", "-", text=b"\xff", BOUNCER_CONFIG="")
        assert (result.exit_code, "can't be read" in result.stderr) == (2, True)

    def test_an_environment_that_cannot_be_read(self) -> None:
        """BOUNCER_CONFIG is checked first."""
        result = run("check", "-", BOUNCER_CONFIG="/nowhere/bouncer.json")

        assert result.exit_code == 2
        assert result.stderr.startswith("BOUNCER_CONFIG: must be JSON that begins with “{”")


class TestUsage:
    """Usage."""

    @pytest.mark.parametrize("args", ["", "check", "check - -", "chek", "check --yaml -", "schema x", "policies -x"])
    def test_wrong_usage(self, args: str) -> None:
        """Status 2, and the right usage in plain text."""
        result = run(*args.split())

        assert result.exit_code == 2
        assert "Usage: " in result.output
        assert not re.search(r"[╭│─\x1b]", result.output)

    @pytest.mark.parametrize("command", [[], ["check"], ["schema"], ["policies"]])
    def test_help(self, command: list[str]) -> None:
        """It documents the exit statuses, and hides what only `make docs` needs."""
        result = run(*command, "--help")

        assert result.exit_code == 0
        assert "Exit status: 0, all is well; 1, something is refused; 2, wrong usage" in result.stdout
        assert not re.search(r"[╭│─\x1b]", result.stdout)
        assert "write" not in result.stdout


class TestWorker:
    """`bouncer start` and `bouncer dev` are the worker that agent.py starts."""

    @pytest.mark.parametrize(
        ("arguments", "status", "says"),
        [(["start", "--help"], 0, "--api-secret"), (["dev", "--log-level", "debug"], 1, "BOUNCER_MAX_ROOMS")],
    )
    def test_they_start_it(self, arguments: list[str], status: int, says: str) -> None:
        """They take its options, and its settings from the environment."""
        ended = subprocess.run(
            [sys.executable, "-m", "bouncer", *arguments],
            cwd=ROOT,
            env={**os.environ, "BOUNCER_MAX_ROOMS": "many" if status else "3"},
            capture_output=True,
            text=True,
            check=False,
        )

        assert (ended.returncode, says in ended.stdout + ended.stderr) == (status, True)

    def test_nothing_else_loads_the_sdk(self) -> None:
        """So help, checks and pages are quick."""
        program = "import sys, bouncer.cli.app; print([name for name in sys.modules if name.startswith('livekit')])"
        run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

        assert run.stdout == "[]\n"

    def test_the_console_script(self) -> None:
        """`bouncer` is what `python -m bouncer` is."""
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

        assert project["scripts"] == {"bouncer": "bouncer.cli.app:main"}

    @pytest.mark.parametrize("connecting", ["asker", "visit"])
    @pytest.mark.parametrize(("arguments", "status"), [(["--version"], 0), (["check", "/no/such/file"], 2)])
    def test_a_process_that_was_in_a_room_ends_at_once(
        self, arguments: list[str], status: int, connecting: str
    ) -> None:
        """Its native library would abort it otherwise, now and then. What it printed and its status are as always."""
        runs = [
            subprocess.run(
                [
                    sys.executable,
                    "-c",
                    f"{connects}import sys, bouncer.cli.app; bouncer.cli.app.main(args={arguments})",
                ],
                capture_output=True,
                text=True,
                check=False,
            )
            for connects in ("", f"import atexit, bouncer.adapter.{connecting}; atexit.register(print, 'late'); ")
        ]

        assert [run.returncode for run in runs] == [status, status]
        assert (runs[0].stdout, runs[0].stderr) == (runs[1].stdout, runs[1].stderr)


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
        """Each has a line."""
        result = run("policies")

        assert result.exit_code == 0
        assert [line.split(maxsplit=1) for line in result.stdout.splitlines()][: len(BUILTIN)] == [
            [policy.name, schema.summary(policy)] for policy in BUILTIN
        ]

    def test_one_of_them(self) -> None:
        """Its page, as in the documents, and the options that every policy takes."""
        result = run("policies", "max_agents")

        assert result.exit_code == 0
        assert result.stdout.startswith(page(MaxAgents))
        assert "| `notice` | seconds | `0` |" in result.stdout

    def test_who_is_what(self) -> None:
        """The table of the documents, row by row."""
        rows = re.findall(r"^\| (.+) \| (.+) \| (.+) \|$", (ROOT / WHO_IS_WHAT).read_text("utf-8"), re.MULTILINE)
        answer = json.loads(run("policies", "--who", "--json").stdout)

        assert [[*row.values()] for row in answer["who"]] == [
            [cell.replace("`", "") for cell in row] for row in rows if row[0] != "participant"
        ]
        shown = run("policies", "--who").stdout
        assert all(row["participant"] in shown for row in answer["who"])

    def test_json(self) -> None:
        """One object each."""
        names = [each["name"] for each in json.loads(run("policies", "--json").stdout)["policies"]]
        answer = json.loads(run("policies", "max_agents", "--json").stdout)

        assert names[: len(BUILTIN)] == [policy.name for policy in BUILTIN]
        assert (answer["name"], answer["page"]) == ("max_agents", page(MaxAgents))
        assert answer["options"]["properties"]["max"]["type"] == "integer"

    def test_none_of_them(self) -> None:
        """The error says what was probably meant."""
        result = run("policies", "max_agent")

        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == "there is no policy “max_agent”; did you mean “max_agents”?\n"
        assert run("policies", "zzz").stderr == "there is no policy “zzz”; `bouncer policies` lists them\n"


class TestWrite:
    """What `make docs` writes."""

    def test_all_files(self, tmp_path: Path) -> None:
        """The README's table, the schema and the pages. The page of a policy that is gone is deleted."""
        text = (ROOT / "README.md").read_text(encoding="utf-8")
        (tmp_path / "README.md").write_text(text.replace("must leave", "may stay"), encoding="utf-8")
        stale = tmp_path / FOLDER / "gone.md"
        stale.parent.mkdir(parents=True)
        stale.touch()
        result = run("write", str(tmp_path))

        assert result.exit_code == 0
        assert (tmp_path / "README.md").read_text(encoding="utf-8") == text
        assert page(MaxAgents) in (stale.parent / "max_agents.md").read_text(encoding="utf-8")
        assert not stale.exists()
        assert (tmp_path / "bouncer.schema.json").read_text(encoding="utf-8") == schema.text(BUILTIN)


def on_a_terminal(*args: str, **environment: str) -> str:
    """Return what it shows on a terminal of 100 columns."""
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
            except OSError:  # how Linux says that the other end is closed
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
        """It is laid out; a file gets Markdown."""
        shown = on_a_terminal("policies", "max_agents")

        assert "\x1b[1" in shown
        assert "How many agents may be here." in shown
        assert "|---|" not in shown

    def test_a_terminal_without_a_character(self) -> None:
        """It shows the rest."""
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


class TestGatekeeper:
    """`bouncer gatekeeper`: what it refuses before it runs."""

    @pytest.mark.parametrize("place", ["file", "environment"])
    def test_a_bouncer_that_leaves_is_not_for_rooms_that_always_have_one(self, place: str, tmp_path: Path) -> None:
        """It would be sent back at once, wherever `leave_after` stands."""
        (file := tmp_path / "config.json").write_text('{"bouncer": {"leave_after": 30}}')
        flags = ["--dev", "--join", "always", *(["--config", str(file)] if place == "file" else [])]

        result = run("gatekeeper", *flags, BOUNCER_CONFIG=str(file) if place == "environment" else "")

        assert result.exit_code == 1
        assert "leave_after" in result.stderr
        assert "--join when-needed" in result.stderr

    def test_a_configuration_is_checked_first(self, tmp_path: Path) -> None:
        """No bouncer is dispatched with what it would refuse."""
        (file := tmp_path / "config.json").write_text('{"bouncer": {"mode": "of", "policies": {"duplicate": {}}}}')

        result = run("gatekeeper", "--dev", "--config", str(file))

        assert result.exit_code == 1
        assert f"--config {file}: $.bouncer.mode: must be" in result.stderr
        assert "did you mean" in result.stderr
