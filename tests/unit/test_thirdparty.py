"""Policies of other packages: found by name, loaded when named, and refused if they are not policies."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bouncer.configuration.load import load
from bouncer.configuration.model import NO_PLUGINS, Config, ConfigError, Layer
from bouncer.configuration.plugins import installed, packages
from bouncer.configuration.settings import SettingsError, from_environment
from bouncer.guard.patrol import Patrol
from bouncer.tracker import Tracker
from policies import BUILTIN
from tests.fake import FakeRoom
from tests.packages import ROOT, SHIPPING, contributed, install, shown

MODULE = '''
"""Policies of another package."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from annotated_types import MinLen

from bouncer import Action, Globs, Options, Room, Seconds, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Zeal:
    """Every agent must leave."""

    name: ClassVar[str] = "zeal"

    grace: Seconds = 1
    """Seconds for
    packing."""
    unless: Globs | None = None
    """Agents that may stay."""

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        for agent in room.agents:
            yield Verdict(agent, agent.joined_at + self.grace, "was here")


@dataclass(frozen=True, slots=True, kw_only=True)
class Acme(Zeal):
    """Some agent must leave."""

    name: ClassVar[str] = "acme.rules-1"
    default_action: ClassVar[Action] = "report"

    who: Annotated[Mapping[str, Seconds], MinLen(1)]
    """Who, and when."""

    def __post_init__(self):
        if "none" in self.who:
            raise ValueError("who: none is not a name")
        if "anybody" in self.who:
            raise LookupError("anybody?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicates(Zeal):
    """Another policy of a name that is taken."""

    name: ClassVar[str] = "duplicates"
'''

Installer = Callable[..., None]


def room(**bouncer: Any) -> Layer:
    """Return room metadata with this under our key."""
    return Layer("room metadata", json.dumps({"bouncer": bouncer}), shared=True)


def configured(*layers: Layer) -> Config:
    """Return the configuration in force, with the installed packages."""
    return load(layers, BUILTIN, installed())


def problems(*layers: Layer) -> dict[str, str]:
    """Return the JSON paths and messages of layers that must be refused."""
    with pytest.raises(ConfigError) as refused:
        configured(*layers)
    return {problem.path: problem.message for problem in refused.value.problems}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages, including that of `MODULE`, until the test ends."""
    before = {*sys.modules}
    monkeypatch.syspath_prepend(tmp_path)
    offers = {"zeal": "acme:Zeal", "acme.rules-1": "acme:Acme", "duplicates": "acme:Duplicates"}
    install(tmp_path, "acme-rules", offers, {"acme": MODULE})
    installed.cache_clear()
    yield tmp_path
    installed.cache_clear()
    for name in {*sys.modules} - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


@pytest.mark.usefixtures("folder")
class TestFound:
    """By the name that the configuration gives."""

    def test_it_is_a_policy_like_others(self) -> None:
        """It has its own and the common options, checked as strictly, and appears in the effective configuration."""
        config = configured(room(policies={"zeal": {"grace": 3, "notice": 1}}))
        rule = config.rules[1]

        assert (rule.id, rule.notice, rule.action) == ("zeal", 1, "evict")
        assert config.effective["policies"]["zeal"] == {
            "grace": 3, "unless": None, "action": "evict", "notice": 1, "only": None,
        }  # fmt: skip
        assert config.origins["$.bouncer.policies.zeal.grace"] == "room metadata"
        assert problems(room(policies={"zeal": {"grace": -1, "gracious": 1}})).keys() == {
            "$.bouncer.policies.zeal.grace",
            "$.bouncer.policies.zeal.gracious",
        }

    def test_several_times(self) -> None:
        """A list applies it several times, and a higher layer can turn it off."""
        below = Layer("BOUNCER_CONFIG", json.dumps({"bouncer": {"policies": {"zeal": [{}, {"grace": 2}]}}}))

        assert [rule.id for rule in configured(below).rules] == ["duplicates", "zeal", "zeal[1]"]
        assert [rule.id for rule in configured(below, room(policies={"zeal": None})).rules] == ["duplicates"]

    def test_its_default_action(self) -> None:
        """The policy sets it, even if its name is not a Python identifier."""
        rule = configured(room(policies={"acme.rules-1": {"who": {"x": 1}}})).rules[1]

        assert (rule.id, rule.action) == ("acme.rules-1", "report")
        assert problems(room(policies={"acme.rules-1": {}})) == {
            '$.bouncer.policies["acme.rules-1"].who': "is required"
        }

    def test_after_ours_and_in_alphabetical_order(self) -> None:
        """Of verdicts due at once the first counts, so the order must not depend on the JSON's."""
        theirs = {"zeal": {}, "acme.rules-1": {"who": {"x": 1}}}
        for order in (theirs, dict(reversed(theirs.items()))):
            config = configured(room(policies={**order, "unresponsive": {}}))
            assert [rule.policy.name for rule in config.rules] == ["duplicates", "unresponsive", "acme.rules-1", "zeal"]
        split = configured(room(policies={"zeal": {}}), room(policies={"acme.rules-1": {"who": {"x": 1}}}))
        assert [rule.policy.name for rule in split.rules] == ["duplicates", "acme.rules-1", "zeal"]

    def test_ours_come_first(self) -> None:
        """A built-in name can't be taken over."""
        (rule,) = configured().rules

        assert type(rule.policy) in BUILTIN

    def test_what_it_refuses(self) -> None:
        """It refuses in its own words. Anything else that it raises is a refusal too."""
        path = '$.bouncer.policies["acme.rules-1"]'

        assert problems(room(policies={"acme.rules-1": {"who": {"none": 1}}})) == {path: "who: none is not a name"}
        assert problems(room(policies={"acme.rules-1": [{"who": {"anybody": 1}}]})) == {
            f"{path}[0]": "its policy raised LookupError: anybody?"
        }

    def test_a_name_that_is_almost_right(self) -> None:
        """Installed policies are suggested without being loaded."""
        (message,) = problems(room(policies={"zeel": {}})).values()

        assert "did you mean “zeal”?" in message
        assert "acme" not in sys.modules

    def test_nothing_is_looked_up_unless_it_is_asked_for(self) -> None:
        """The caller of `load` passes the installed packages."""
        with pytest.raises(ConfigError):
            load([room(policies={"zeal": {}})], BUILTIN)
        with pytest.raises(ConfigError):
            load([room(policies={"zeal": {}})], BUILTIN, NO_PLUGINS)

    def test_the_worker_starts_with_it(self) -> None:
        """BOUNCER_CONFIG may name it."""
        environment = {"BOUNCER_CONFIG": '{"bouncer": {"policies": {"zeal": {}}}}'}

        assert from_environment(environment, BUILTIN, installed()).layers
        with pytest.raises(SettingsError, match="zeal: is unknown here"):
            from_environment(environment, BUILTIN)

    async def test_a_room_is_guarded_by_it(self) -> None:
        """The policy applies as soon as the room's metadata names it."""
        patrol = Patrol(tracker=Tracker(), api=FakeRoom(), registry=BUILTIN, plugins=installed())
        patrol.configure('{"bouncer": {"policies": {"zeal": {}}}}')

        assert patrol.config
        assert [rule.id for rule in patrol.config.rules] == ["duplicates", "zeal"]


class TestLoaded:
    """When a configuration names it, and not before."""

    def test_not_before(self, folder: Path) -> None:
        """An installed package's code doesn't run unless a configuration names it."""
        install(folder, "trap", {"trap": "trap:Trap"}, {"trap": "raise SystemExit('sprung')"})

        assert {*packages()} == {*installed()} == {"acme.rules-1", "duplicates", "trap", "zeal"}
        assert configured(room(policies={"idle_timeout": {}}, mode="off")).mode == "off"
        assert not {"acme", "trap"} & {*sys.modules}
        configured(room(policies={"zeal": {}}))
        assert "acme" in sys.modules
        assert "trap" not in sys.modules

    def test_a_layer_that_removes_it_names_it(self, folder: Path) -> None:
        """A removed policy must exist and be usable, since its package is loaded."""
        install(folder, "broken", {"broken": "nowhere:Nothing"})

        assert configured(room(policies={"zeal": None})).rules
        assert problems(room(policies={"broken": None})).keys() == {"$.bouncer.policies.broken"}

    @pytest.mark.usefixtures("folder")
    def test_once(self) -> None:
        """Each load gives the same class, so that equal configurations compare equal."""
        first, second = (configured(room(policies={"zeal": {}})) for _ in range(2))

        assert first == second
        assert type(first.rules[1].policy) is type(second.rules[1].policy)


GOOD = """
from dataclasses import dataclass, field
from typing import ClassVar

class _Base:
    name: ClassVar[str] = "theirs"

    def evaluate(self, room):
        return ()

"""


class TestRefused:
    """If it is not a policy, the error names the package and the reason."""

    @pytest.mark.parametrize(
        ("module", "words"),
        [
            (None, "can't be loaded from the package “their-rules”: ModuleNotFoundError: No module named 'theirs'"),
            ("", "can't be loaded from the package “their-rules”: AttributeError: "),
            ("1 / 0", "can't be loaded from the package “their-rules”: ZeroDivisionError: division by zero"),
            ("class Theirs(:", "can't be loaded from the package “their-rules”: SyntaxError: "),
            ("import theirs.more", "can't be loaded from the package “their-rules”: ModuleNotFoundError: "),
            ("Theirs = 1", "it is no frozen dataclass"),
            (f"{GOOD}class Theirs(_Base): pass", "it is no frozen dataclass"),
            (f"{GOOD}@dataclass\nclass Theirs(_Base): pass", "it is no frozen dataclass"),
            (f"{GOOD}Theirs = dataclass(frozen=True)(type('T', (_Base,), {{}}))()", "it is no frozen dataclass"),
            (
                f"{GOOD}@dataclass(frozen=True)\nclass Theirs(_Base): name: ClassVar[str] = 'other'",
                "its `name` is 'other', and has to be 'theirs'",
            ),
            (f"{GOOD}@dataclass(frozen=True)\nclass Theirs: pass", "has to be 'theirs'; it has no `evaluate`"),
            (
                f"{GOOD}@dataclass(frozen=True)\nclass Theirs(_Base): hearing: ClassVar[str] = 'good'",
                "its `hearing` has to be one of 'unused', 'useful', 'needed'",
            ),
            (
                f"{GOOD}@dataclass(frozen=True)\nclass Theirs(_Base): default_action: ClassVar[str] = 'kick'",
                "its `default_action` has to be one of 'evict', 'report'",
            ),
            (
                f"{GOOD}@dataclass(frozen=True)\nclass Theirs(_Base):\n    only: int = 1\n    notice: int = 1",
                "every policy has the option notice, only already",
            ),
            (
                f"{GOOD}@dataclass(frozen=True)\nclass Theirs(_Base): x: 'Nowhere' = None",
                "its options can't be described as JSON: ",
            ),
            (
                f"{GOOD}@dataclass(frozen=True)\nclass Theirs(_Base): x: type(open) = None",
                "its options can't be described as JSON: ",
            ),
            (
                f"{GOOD}@dataclass(frozen=True)\nclass Theirs(_Base): _x: int = 1",
                "an option can't be called _x",
            ),
        ],
    )
    def test_what_is_none(self, folder: Path, module: str | None, words: str) -> None:
        """Only a configuration that names it is refused."""
        install(folder, "their-rules", {"theirs": "theirs:Theirs"}, {} if module is None else {"theirs": module})
        ((path, message),) = problems(room(policies={"theirs": {}})).items()

        assert path == "$.bouncer.policies.theirs"
        assert "the package “their-rules”" in message
        assert words in message
        assert configured(room(policies={"zeal": {}})).rules

    def test_what_two_packages_offer(self, folder: Path) -> None:
        """A name that two packages offer is ambiguous."""
        install(folder, "their-rules", {"zeal": "theirs:Theirs"})

        assert problems(room(policies={"zeal": {}})) == {
            "$.bouncer.policies.zeal": "is offered by several packages: acme-rules, their-rules"
        }
        assert packages()["zeal"] == "acme-rules, their-rules"

    def test_all_else_that_is_wrong_is_told_too(self, folder: Path) -> None:
        """Every mistake of every layer is reported."""
        install(folder, "their-rules", {"theirs": "theirs:Theirs"})
        below = Layer("BOUNCER_CONFIG", '{"bouncer": {"policies": {"theirs": {}, "zeal": {"grace": -1}}}}')

        with pytest.raises(ConfigError) as refused:
            configured(below, room(mode="on", policies={"theirs": [], "thiers": {}}))
        assert [(p.layer, p.path) for p in refused.value.problems] == [
            ("BOUNCER_CONFIG", "$.bouncer.policies.theirs"),
            ("BOUNCER_CONFIG", "$.bouncer.policies.zeal.grace"),
            ("room metadata", "$.bouncer.policies.theirs"),
            ("room metadata", "$.bouncer.mode"),
            ("room metadata", "$.bouncer.policies.thiers"),
        ]


def run(*args: str, cwd: Path, path: Path, module: str = "bouncer", text: str = "") -> subprocess.CompletedProcess[str]:
    """Run a module with packages from this folder and without BOUNCER_* settings."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BOUNCER_")}
    return subprocess.run(
        [sys.executable, "-m", module, *args],
        cwd=cwd,
        env={**environment, "PYTHONPATH": str(path)},
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )


class TestShipping:
    """What the documents say about shipping a policy."""

    def test_a_policy_in_a_package(self, tmp_path: Path) -> None:
        """Installed by pip, it is found by a bouncer that does not know it."""
        (text,) = shown("json", SHIPPING)
        assert run("check", "-", cwd=ROOT, path=tmp_path, text=text).returncode == 1
        site = contributed(tmp_path)

        check = run("check", "--json", "-", cwd=ROOT, path=site, text=text)
        listed = run("policies", cwd=ROOT, path=site).stdout
        page = run("policies", "nameless", cwd=ROOT, path=site).stdout
        schema = json.loads(run("schema", "--installed", cwd=ROOT, path=site).stdout)

        assert check.returncode == 0, check.stderr
        assert json.loads(check.stdout)["configuration"]["bouncer"]["policies"]["nameless"]["grace"] == 10
        assert listed.splitlines()[-1].split(maxsplit=1) == ["nameless", "(in the package acme-house-rules)"]
        assert "Seconds that it may stay." in page
        assert schema["$defs"]["nameless"]["properties"]["grace"]["default"] == 5
