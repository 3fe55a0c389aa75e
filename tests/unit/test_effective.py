"""The origin of each value, and what a change has changed."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bouncer.configuration.load import load
from bouncer.configuration.model import Layer
from bouncer.configuration.provenance import difference, values
from policies import BUILTIN

DEFAULT = "built-in defaults"


def origins(*layers: Any) -> dict[str, str]:
    """Return the origins of values that are not defaults; the layers are called 1, 2, 3."""
    texts = [Layer(str(n), json.dumps({"bouncer": value})) for n, value in enumerate(layers, 1)]
    config = load(texts, BUILTIN)
    assert config.origins.keys() == dict(values(config.effective)).keys()
    prefix = "$.bouncer."
    return {path.removeprefix(prefix): layer for path, layer in config.origins.items() if layer != DEFAULT}


class TestOrigins:
    """Every value has one."""

    @pytest.mark.parametrize(
        ("layers", "expected"),
        [
            ([], {}),
            ([{}, {}], {}),
            ([{"mode": "off"}], {"mode": "1"}),
            ([{"mode": "off"}, {"mode": "off"}], {"mode": "2"}),
            ([{"mode": "off"}, {"mode": None}], {}),
            ([{"mode": "off"}, {"mode": None}, {"mode": "off"}], {"mode": "3"}),
            ([{"exempt": {"identity": ["a", "b"]}}, {"exempt": {}}], {"exempt.identity": "1"}),
            ([{"exempt": {"identity": ["a", "b"]}}, {"exempt": {"agent_name": []}}],
             {"exempt.identity": "1", "exempt.agent_name": "2"}),
            ([{"exempt": {"identity": ["a", "b"]}}, {"exempt": None}], {}),
            ([{"policies": {"duplicates": {"max": 2}}}, {"policies": {"duplicates": {"grace": 3}}}],
             {"policies.duplicates.max": "1", "policies.duplicates.grace": "2"}),
            ([{"policies": {"duplicates": {"max": 2}}}, {"policies": {"duplicates": {"max": None}}}], {}),
            ([{"policies": {"duplicates": {"max": 2}}}, {"policies": {"duplicates": None}}], {"policies": "2"}),
            ([{"policies": {"no_return": {}}}], {}),
            ([{"policies": {"no_return": [{"window": 5}, {}]}}], {"policies.no_return[0].window": "1"}),
            ([{"policies": {"no_return": [{"window": 5}, {}]}},
              {"policies": {"no_return": [{}, {"action": "report"}]}}],
             {"policies.no_return[1].action": "2"}),
            ([{"policies": {"no_return": [{"window": 5}]}}, {"policies": {"no_return": {"action": "report"}}}],
             {"policies.no_return.action": "2"}),
            ([{"policies": {"no_return": {"window": 5}}}, {"policies": {"no_return": []}}],
             {"policies.no_return": "2"}),
            ([{"policies": {"stuck_state": {"limits": {"thinking": 5}}}},
              {"policies": {"stuck_state": {"limits": {"idle": 5}}}}],
             {"policies.stuck_state.limits.thinking": "1", "policies.stuck_state.limits.idle": "2"}),
            ([{"policies": {"stuck_state": {"limits": {}}}}], {"policies.stuck_state.limits": "1"}),
            ([{"policies": {"stuck_state": {"limits": {"idle": 5}}}},
              {"policies": {"stuck_state": {"limits": {"idle": None}}}}], {"policies.stuck_state.limits": "2"}),
            ([{"policies": {"superseded": {"by": {"a b": ["c", "d"]}}}}], {'policies.superseded.by["a b"]': "1"}),
            ([{"policies": {"superseded": {"by": {'a"]\n': ["c"]}}}}], {r'policies.superseded.by["a\"]\n"]': "1"}),
        ],
    )  # fmt: skip
    def test_where_it_came_from(self, layers: list[Any], expected: dict[str, str]) -> None:
        """The origin is the highest layer that sets a value, or the defaults if none does or one took it back."""
        assert origins(*layers) == expected

    def test_the_default_policy(self) -> None:
        """All of its values are defaults."""
        assert {*load((), BUILTIN).origins.values()} == {DEFAULT}

    def test_it_is_no_part_of_what_is_compared(self) -> None:
        """The origin makes no difference to the room."""
        said, unsaid = load([Layer("1", '{"bouncer": {"mode": "enforce"}}')], BUILTIN), load((), BUILTIN)

        assert said == unsaid
        assert said.origins != unsaid.origins


class TestDifference:
    """What a change has changed, and nothing else."""

    @pytest.mark.parametrize(
        ("old", "new", "expected"),
        [
            ({}, {}, {}),
            ({"mode": "off"}, {"mode": "off"}, {}),
            ({"mode": "off"}, {"mode": "enforce"}, {"$.bouncer.mode": ("off", "enforce")}),
            ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, {"$.bouncer.a.c": (2, 3)}),
            ({"a": {}}, {"a": {"b": {"c": 1}}}, {"$.bouncer.a": ({}, {"b": {"c": 1}})}),
            ({"a": {"x": 1}}, {"a": {"x": 1, "b": {"c": 1}}}, {"$.bouncer.a.b": (None, {"c": 1})}),
            ({"a": {"x": 1, "b": {"c": 1}}}, {"a": {"x": 1}}, {"$.bouncer.a.b": ({"c": 1}, None)}),
            ({"a": ["x"]}, {"a": ["x", "y"]}, {"$.bouncer.a": (["x"], ["x", "y"])}),
            ({"a": [{"x": 1}]}, {"a": [{"x": 2}, {"y": 1}]},
             {"$.bouncer.a[0].x": (1, 2), "$.bouncer.a[1]": (None, {"y": 1})}),
            ({"a": [{"x": 1}]}, {"a": {"x": 1}}, {"$.bouncer.a": ([{"x": 1}], {"x": 1})}),
            ({"a": None, "b": 1}, {"b": 1}, {}),
            ({"a b": 1}, {"a b": 2}, {'$.bouncer["a b"]': (1, 2)}),
        ],
    )  # fmt: skip
    def test_what_is_different(self, old: Any, new: Any, expected: dict[str, tuple[Any, Any]]) -> None:
        """Differences go by JSON path. A value on one side only is one difference."""
        assert difference(old, new) == expected
        assert difference(new, old) == {path: (b, a) for path, (a, b) in expected.items()}

    @given(
        *[
            st.recursive(
                st.integers(0, 2) | st.lists(st.sampled_from("ab"), max_size=2),
                lambda inner: (
                    st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
                    | st.lists(st.dictionaries(st.sampled_from("abc"), inner, max_size=3), max_size=2)
                ),
            )
        ]
        * 2
    )
    def test_there_is_one_exactly_if_they_differ(self, old: Any, new: Any) -> None:
        """And each one is told."""
        found = difference(old, new)

        assert bool(found) == (old != new)
        assert all(before != after for before, after in found.values())
