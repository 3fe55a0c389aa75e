"""Which rooms are to be guarded, by their names and by the mode in force."""

import json

import pytest

from bouncer.configuration.model import BUILT_IN, NO_PLUGINS, ConfigError, Layer
from gatekeeper.choice import Choice
from policies import BUILTIN

OFF, DRY, BAD = ('{"bouncer": {"mode": "off"}}', '{"bouncer": {"mode": "dry_run"}}', '{"bouncer": {"mode": "of"}}')


def chooser(*only: str, excluded: tuple[str, ...] = (), mode: str = "enforce") -> Choice:
    """Make a choice of globs, with a configuration below the rooms' own."""
    below = Layer("--config", json.dumps({"bouncer": {"mode": mode}}))
    return Choice(only or ["*"], excluded, [BUILT_IN, below], BUILTIN, NO_PLUGINS)


@pytest.mark.parametrize(
    ("choice", "name", "metadata", "chosen"),
    [
        (chooser(), "lobby", "", True),
        (chooser("call-*", "tea"), "call-1", "", True),
        (chooser("call-*", "tea"), "lobby", "", False),
        (chooser("call-*", excluded=("*-test",)), "call-test", "", False),
        (chooser(), "lobby", OFF, False),
        (chooser(), "lobby", '{"topic": "bouncer"}', True),
        (chooser(), "lobby", BAD, True),
        (chooser(mode="off"), "lobby", "", False),
        (chooser(mode="off"), "lobby", DRY, True),
        (chooser(excluded=("lobby",), mode="off"), "lobby", DRY, False),
    ],
    ids=[
        "any",
        "a glob",
        "no glob",
        "excepted",
        "off",
        "not ours",
        "the bouncer says what is wrong",
        "off below",
        "on in the room",
        "the name comes first",
    ],
)
def test_a_room_is_chosen(choice: Choice, name: str, metadata: str, *, chosen: bool) -> None:
    """By globs, and then by what its metadata make of the configuration."""
    assert choice("RM_1", name, metadata) is chosen


def test_a_room_is_judged_again_when_its_metadata_change() -> None:
    """And its configuration is known, unless it can't be read."""
    choice = chooser()
    modes = []
    for metadata in (DRY, OFF, BAD, ""):
        choice("RM_1", "lobby", metadata)
        config = choice.config("RM_1")
        modes.append(config and config.mode)

    assert modes == ["dry_run", "off", None, "enforce"]


def test_a_wrong_configuration_is_refused_at_once() -> None:
    """Before any room is looked at."""
    with pytest.raises(ConfigError, match="mode"):
        chooser(mode="of")
