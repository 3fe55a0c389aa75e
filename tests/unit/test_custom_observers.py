"""Observers of other packages: used if BOUNCER_OBSERVERS names them, and no danger to a room if they are broken."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module, invalidate_caches
from pathlib import Path

import pytest

from bouncer.configuration.model import Config
from bouncer.configuration.settings import SettingsError, from_environment
from bouncer.observers import Configured
from bouncer.observers.plugins import GROUP, custom, observing
from policies import BUILTIN
from tests.packages import ROOT, metadata, pip_installed

MODULE = '''
"""Observers of another package."""

told = []

class Pager:
    def __init__(self, room):
        self.room = room

    def notify(self, news):
        told.append((self.room, type(news).__name__))

class Picky(Pager):
    def __init__(self, room):
        raise LookupError(f"no pager for {room}")

class Deaf:
    def __init__(self, room): pass

number = 7
'''


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where pip has installed a package with observers."""
    offers = {each.lower(): f"acme_pager:{each}" for each in ("Pager", "Picky", "Deaf", "number", "Missing")}
    folder = pip_installed(tmp_path, metadata("acme-pager", offers, GROUP), {"acme_pager": MODULE})
    monkeypatch.syspath_prepend(folder)
    invalidate_caches()
    yield folder
    sys.modules.pop("acme_pager", None)


@pytest.mark.usefixtures("site")
class TestFound:
    """By the names in the environment."""

    def test_each_room_has_one_of_its_own(self) -> None:
        """Blanks and empty names in the list don't matter."""
        names = from_environment({"BOUNCER_OBSERVERS": " pager, ,pager"}, BUILTIN).observers
        for observer in observing(custom(names[:1]), "lobby"):
            observer.notify(Configured(Config()))

        assert names == ("pager", "pager")
        assert import_module("acme_pager").told == [("lobby", "Configured")]

    def test_none_is_loaded_unless_it_is_named(self) -> None:
        """Another package's code doesn't run because it is there."""
        assert custom(()) == ()
        assert "acme_pager" not in sys.modules

    @pytest.mark.parametrize(
        ("name", "complaint"),
        [
            ("pagr", "“pagr” is not installed (known: deaf, missing, number, pager, picky)"),
            ("missing", "“missing” can't be loaded from the package “acme-pager”: AttributeError: "),
            ("number", "“number” must be callable"),
        ],
    )
    def test_a_worker_does_not_start_without_those_it_should_have(self, name: str, complaint: str) -> None:
        """The complaint names the variable."""
        with pytest.raises(SettingsError) as refused:
            custom(["pager", name])

        assert str(refused.value).startswith(f"BOUNCER_OBSERVERS: {complaint}")

    @pytest.mark.parametrize("name", ["picky", "deaf"])
    def test_a_room_is_guarded_without_one_that_cannot_be_made(
        self, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The log has why."""
        with caplog.at_level(logging.ERROR):
            observers = observing(custom([name, "pager"]), "lobby")

        assert [type(observer).__name__ for observer in observers] == ["Pager"]
        assert [record.msg for record in caplog.records] == ["observer failed"]


def test_the_worker_has_them(site: Path) -> None:
    """The variable is read where the worker is made."""
    program = "from bouncer.cli.wiring import wired; wired()"
    environment = {**os.environ, "PYTHONPATH": str(site), "BOUNCER_OBSERVERS": json.dumps("pager")}
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )

    assert ended.returncode == 1
    assert 'BOUNCER_OBSERVERS: “"pager"” is not installed' in ended.stderr
