"""Our key in metadata that others share: their part stays as it stands, to the character."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bouncer.configuration.metadata import ForeignMetadata, ours_in, with_ours, without_ours

OURS = {"mode": "dry_run"}
WRITTEN = '"bouncer": {"mode": "dry_run"}'
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("before", "after", "released"),
    [
        ("", f"{{{WRITTEN}}}", ""),
        (" \n", f"{{{WRITTEN}}}", ""),
        ("{}", f"{{{WRITTEN}}}", ""),
        ('{ "a": 1 }', f'{{ "a": 1, {WRITTEN} }}', '{ "a": 1 }'),
        ('{"bouncer":{"mode":"off"},"a":1}', f'{{{WRITTEN},"a":1}}', '{"a":1}'),
        ('{"a":1 , "bouncer" : 5 , "b":2}', f'{{"a":1 , {WRITTEN} , "b":2}}', '{"a":1 , "b":2}'),
        ('{"a":1,"bouncer":null}', f'{{"a":1,{WRITTEN}}}', '{"a":1}'),
        ('{"a":1.10,"a":1e999}', f'{{"a":1.10,"a":1e999, {WRITTEN}}}', '{"a":1.10,"a":1e999}'),
        ('{"a\\"}":[{"bouncer":1}]}', f'{{"a\\"}}":[{{"bouncer":1}}], {WRITTEN}}}', '{"a\\"}":[{"bouncer":1}]}'),
        (f'{{"a":{"9" * 5000}}}', f'{{"a":{"9" * 5000}, {WRITTEN}}}', f'{{"a":{"9" * 5000}}}'),
    ],
)
def test_put_in_and_taken_out(before: str, after: str, released: str) -> None:
    """In the place of an older one, else at the end; and out again with its comma."""
    assert with_ours(before, OURS) == after
    assert ours_in(after) == OURS
    assert without_ours(after) == released


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("hello", "not JSON"),
        ("[1]", "not an object"),
        ('{"a": 1,}', "not JSON"),
        ('{"bouncer": {}, "bouncer": {}}', "more than once"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_no_place_for_it(text: str, why: str) -> None:
    """What is no object of JSON is someone else's, and is left alone."""
    with pytest.raises(ForeignMetadata, match=why):
        with_ours(text, OURS)
    assert ours_in(text) is None
    if "once" not in why:
        assert without_ours(text) == text
    assert without_ours('{"theirs": 1}') == '{"theirs": 1}'


@given(st.dictionaries(st.text(), JSON, max_size=4), st.sampled_from([None, 2]))
def test_all_else_keeps_its_value(metadata: dict[str, Any], indent: int | None) -> None:
    """Whatever others have there, ours goes in and out around it."""
    text = json.dumps(metadata, indent=indent)
    others = {key: value for key, value in metadata.items() if key != "bouncer"}

    written = with_ours(text, OURS)

    assert json.loads(written) == {**others, "bouncer": OURS}
    assert (json.loads(without_ours(written) or "{}")) == others
