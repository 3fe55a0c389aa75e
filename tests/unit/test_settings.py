"""The environment: what it may say, and how mistakes are reported."""

import json
import re
from pathlib import Path

import pytest

from bouncer.configuration.load import load
from bouncer.configuration.model import Layer
from bouncer.configuration.settings import VARIABLES, Settings, SettingsError, from_environment
from policies import BUILTIN


def read(**environment: str) -> Settings:
    """Return the settings that these variables make."""
    return from_environment(environment, BUILTIN)


def complaints(**environment: str) -> list[str]:
    """Return what is wrong with these variables, a line each."""
    with pytest.raises(SettingsError) as refused:
        read(**environment)
    return str(refused.value).splitlines()


def test_without_any_variable() -> None:
    """Everything has a default. The port's is the framework's."""
    assert read() == Settings(
        agent_name="bouncer",
        max_rooms=100,
        port=None,
        api_per_minute=600,
        max_microphones=100,
        max_speech=24,
        layers=(),
    )


@pytest.mark.parametrize(
    ("variable", "value", "settings"),
    [
        ("BOUNCER_AGENT_NAME", "doorman", Settings(agent_name="doorman")),
        ("BOUNCER_AGENT_NAME", " doorman ", Settings(agent_name="doorman")),
        ("BOUNCER_MAX_ROOMS", "1", Settings(max_rooms=1)),
        ("BOUNCER_MAX_ROOMS", " 20\n", Settings(max_rooms=20)),
        ("BOUNCER_PORT", "0", Settings(port=0)),
        ("BOUNCER_PORT", "65535", Settings(port=65535)),
        ("BOUNCER_API_PER_MINUTE", "60", Settings(api_per_minute=60)),
        ("BOUNCER_MAX_MICROPHONES", "1", Settings(max_microphones=1)),
        ("BOUNCER_MAX_SPEECH", "1", Settings(max_speech=1)),
        ("BOUNCER_HOST", "127.0.0.1", Settings(host="127.0.0.1")),
        ("BOUNCER_PORT", "tcp://10.0.0.7:8081", Settings()),
        ("BOUNCER_METRICS_PORT", "tcp://10.0.0.7:9464", Settings()),
    ],
)
def test_each_variable(variable: str, value: str, settings: Settings) -> None:
    """Blanks around a value don't matter; .env files have them."""
    assert read(**{variable: value}) == settings


@pytest.mark.parametrize(
    "variable",
    [
        "BOUNCER_AGENT_NAME",
        "BOUNCER_MAX_ROOMS",
        "BOUNCER_PORT",
        "BOUNCER_API_PER_MINUTE",
        "BOUNCER_MAX_MICROPHONES",
        "BOUNCER_MAX_SPEECH",
        "BOUNCER_CONFIG",
    ],
)
@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_variable_says_nothing(variable: str, value: str) -> None:
    """Like `BOUNCER_PORT=` in an .env file."""
    assert read(**{variable: value}) == Settings()


def test_variables_of_others_are_not_ours() -> None:
    """LIVEKIT_AGENT_NAME is the name of the user's own agent, and a shared .env sets it."""
    assert read(LIVEKIT_AGENT_NAME="assistant", PORT="x", BOUNCER="x") == Settings()


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("BOUNCER_MAX_ROOMS", "0", "1 to 100000"),
        ("BOUNCER_MAX_ROOMS", "-1", "1 to 100000"),
        ("BOUNCER_MAX_ROOMS", "100001", "1 to 100000"),
        ("BOUNCER_MAX_ROOMS", "ten", "1 to 100000"),
        ("BOUNCER_MAX_ROOMS", "1.5", "1 to 100000"),
        ("BOUNCER_MAX_ROOMS", "1_0", "1 to 100000"),
        ("BOUNCER_MAX_ROOMS", "²", "1 to 100000"),
        ("BOUNCER_PORT", "65536", "0 to 65535"),
        ("BOUNCER_PORT", ":8081", "0 to 65535"),
        ("BOUNCER_PORT", "9" * 5000, "0 to 65535"),
        ("BOUNCER_API_PER_MINUTE", "0", "1 to 1000000"),
        ("BOUNCER_API_PER_MINUTE", "inf", "1 to 1000000"),
        ("BOUNCER_MAX_SPEECH", "0", "1 to 10000"),
    ],
)
def test_values_that_are_not_numbers(variable: str, value: str, allowed: str) -> None:
    """The error names the variable, and says what is allowed."""
    (complaint,) = complaints(**{variable: value})

    assert complaint.startswith(f"{variable}: must be a whole number from {allowed}, not “{value[:40]}”")
    assert len(complaint) < 120


def test_everything_wrong_at_once() -> None:
    """One start reports every mistake."""
    lines = complaints(
        BOUNCER_MAX_ROOMS="0",
        BOUNCER_PORT="x",
        BOUNCER_API_PER_MINUTE="-5",
        BOUNCER_CONFIG='{"bouncer": {"mode": "on", "reconcile": 0}}',
    )

    assert [line.split(":")[0] for line in lines] == [
        "BOUNCER_MAX_ROOMS",
        "BOUNCER_PORT",
        "BOUNCER_API_PER_MINUTE",
        "BOUNCER_CONFIG",
        "BOUNCER_CONFIG",
    ]
    assert "$.bouncer.mode" in lines[3]
    assert "$.bouncer.reconcile" in lines[4]


class TestConfig:
    """BOUNCER_CONFIG: JSON if it begins with a brace, otherwise a path."""

    TEXT = json.dumps({"bouncer": {"mode": "dry_run", "policies": {"idle_timeout": {"timeout": 60}}}})

    def test_json(self) -> None:
        """It is the lowest layer of every room of this worker."""
        settings = read(BOUNCER_CONFIG=f"\n {self.TEXT} ")

        assert settings.layers == (Layer("BOUNCER_CONFIG", self.TEXT),)
        assert load(settings.layers, BUILTIN).mode == "dry_run"

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
    def test_a_file(self, tmp_path: Path, encoding: str) -> None:
        """Later problems with it are reported with its path. As for `check`, it may begin with a byte order mark."""
        path = tmp_path / "bouncer.json"
        path.write_text(self.TEXT, encoding=encoding)
        (layer,) = read(BOUNCER_CONFIG=f" {path}\n").layers

        assert (layer.text, layer.shared) == (self.TEXT, False)
        assert str(path) in layer.name

    def test_no_such_file(self, tmp_path: Path) -> None:
        """One line with the variable, what it may be, and the path."""
        (complaint,) = complaints(BOUNCER_CONFIG=str(tmp_path / "nothing.json"))

        assert complaint.startswith("BOUNCER_CONFIG: must be JSON that begins with “{”, or the path of a file")
        assert "nothing.json" in complaint

    @pytest.mark.parametrize("value", ["[1]", '"off"', "off", "bouncer: {}", "x\0y", "x" * 5000])
    def test_neither_json_nor_a_path(self, value: str) -> None:
        """A value that doesn't begin with a brace is taken for a path, and the error says so."""
        assert complaints(BOUNCER_CONFIG=value)[0].startswith("BOUNCER_CONFIG: must be JSON that begins with “{”")

    def test_a_folder(self, tmp_path: Path) -> None:
        """A folder is not a file."""
        (complaint,) = complaints(BOUNCER_CONFIG=str(tmp_path))

        assert complaint.startswith("BOUNCER_CONFIG: must be JSON")

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b'{"bouncer": {"policies": {"duplicate": {}}}}', "$.bouncer.policies.duplicate: is unknown here"),
            (b'{"bouncer": {},}', "$: must be JSON, but it can't be read"),
            (b"bouncer:\n  mode: off\n", "$: must be JSON, but it can't be read"),
            (b'{"mode": "off"}', "$: must be an object of the shape"),
            (b"[]", "$: must be an object of the shape"),
            (b'{"bouncer": {"mode": "\xff"}}', "codec can't decode"),
        ],
    )
    def test_a_file_that_is_no_configuration(self, content: bytes, words: str, tmp_path: Path) -> None:
        """The worker doesn't start with it, and says which variable, which file, where in it, and what is wrong."""
        path = tmp_path / "bouncer.json"
        path.write_bytes(content)
        (complaint,) = complaints(BOUNCER_CONFIG=str(path))

        assert complaint.startswith("BOUNCER_CONFIG")
        assert words in complaint

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            ("{", "$: must be JSON, but it can't be read"),
            ("{}", "$: must be an object of the shape"),
            ('{"bouncer": {"nonsense": 1}}', "$.bouncer.nonsense: is unknown here"),
            ('{"bouncer": {}, "x": 1}', "$: only “bouncer” may stand here"),
        ],
    )
    def test_json_that_is_no_configuration(self, value: str, words: str) -> None:
        """A bad BOUNCER_CONFIG stops the worker from starting."""
        (complaint,) = complaints(BOUNCER_CONFIG=value)

        assert complaint.startswith("BOUNCER_CONFIG: ")
        assert words in complaint

    def test_an_empty_file_is_no_configuration(self, tmp_path: Path) -> None:
        """Someone meant to configure something, and that was not the defaults."""
        path = tmp_path / "bouncer.json"
        path.write_text("\n", encoding="utf-8")

        assert complaints(BOUNCER_CONFIG=str(path))


@pytest.mark.parametrize(
    ("variable", "warning"),
    [
        ("BOUNCER_MAXROOMS", "BOUNCER_MAXROOMS: no such variable; did you mean BOUNCER_MAX_ROOMS?"),
        ("BOUNCER_XYZZY", f"BOUNCER_XYZZY: no such variable; there are {', '.join(VARIABLES)}"),
        ("BOUNCER_PORT_8081_TCP_ADDR", None),
        ("BOUNCER_PORT_8081_TCP", None),
        ("BOUNCER_SERVICE_HOST", None),
        ("BOUNCER_SERVICE_PORT_HEALTH", None),
        ("BOUNCER_GATEKEEPER_SERVICE_HOST", None),
        ("BOUNCER_GATEKEEPER_PORT_8088_TCP_PORT", None),
        ("BOUNCER_HEALTH_PORT", "BOUNCER_HEALTH_PORT: no such variable; did you mean BOUNCER_METRICS_PORT?"),
        ("BOUNCERS", None),
    ],
)
def test_unknown_variables(variable: str, warning: str | None) -> None:
    """Each gets a warning, except those that Kubernetes sets for a Service named `bouncer`, or `bouncer-` something."""
    assert read(**{variable: "x"}).warnings == ((warning,) if warning else ())


def test_a_port_that_kubernetes_sets_is_no_mistake() -> None:
    """It is an address, for a Service of any such name."""
    assert not read(BOUNCER_HEALTH_PORT="tcp://10.0.0.7:8081").warnings


def test_all_variables_are_known() -> None:
    """No variable that we read is taken for a mistake."""
    sources = [path.read_text(encoding="utf-8") for path in (Path(__file__).parents[2] / "bouncer").rglob("*.py")]
    assert {name for text in sources for name in re.findall(r'"(BOUNCER_[A-Z_]+)"', text)} <= {*VARIABLES}
