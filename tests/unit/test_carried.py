"""What a bouncer gives its successor to take along."""

import json

import pytest

from bouncer.configuration.carried import Carried, carried, carry, given

GOOD = json.dumps({"app": 1, "bouncer": {"mode": "dry_run"}})
OURS = json.dumps({"bouncer": {"mode": "dry_run"}})


@pytest.mark.parametrize(
    ("dispatched_with", "good", "now", "metadata", "rest"),
    [
        pytest.param("", GOOD, "", OURS, "", id="the server has forgotten it"),
        pytest.param('{"bouncer": {"reconcile": 5}}', GOOD, GOOD, OURS, '{"bouncer": {"reconcile": 5}}', id="a layer"),
        pytest.param("a word of the app's", GOOD, '{"bouncer": 5}', OURS, "", id="another application's text"),
        pytest.param("", '{"app": 1}', "", "", "", id="the room never configured us"),
        pytest.param(carry("{}", GOOD, ""), '{"bouncer": {}}', "", "", "", id="from one to the next"),
    ],
)
def test_a_successor_takes_the_last_good_part_along(
    dispatched_with: str, good: str, now: str, metadata: str, rest: str
) -> None:
    """It is in force until the room's metadata say something else; the dispatch's own part stays as it was."""
    passed_on = carry(dispatched_with, good, now)

    taken = carried(passed_on)

    assert taken is not None
    assert taken.metadata == metadata
    assert given(passed_on) == rest
    assert taken.outlives(now)
    assert not taken.outlives(now + " ")


@pytest.mark.parametrize(
    "text",
    ["", "word", "[]", "{}", '{"bouncer_carried": 1}', '{"bouncer_carried": {"metadata": 1, "seen": ""}}', "[" * 10**5],
)
def test_anything_else_is_no_such_thing(text: str) -> None:
    """It is the metadata that the dispatch was made with."""
    assert carried(text) is None
    assert given(text) == text


def test_a_bouncer_of_another_version_may_have_written_more() -> None:
    """What we know of it counts."""
    assert carried('{"bouncer_carried": {"metadata": "{}", "seen": "x", "v": 2}}') == Carried("{}", "x")
