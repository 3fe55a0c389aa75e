"""The JSON Schema: current, valid, and in agreement with `load`."""

import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import pytest
from annotated_types import MinLen
from hypothesis import example as also
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from bouncer import Globs, Policy, Room, Verdict
from bouncer.configuration.load import load
from bouncer.configuration.model import MAX_SIZE, ConfigError, Layer
from bouncer.configuration.schema import DIALECT, documentation, example, schema, text
from policies import BUILTIN
from tests.packages import ROOT


@dataclass(frozen=True, slots=True, kw_only=True)
class Odd:
    """A policy with options of unusual types.

    All of this is
    one paragraph.

    - One.
    - Two.
    """

    name: ClassVar[str] = "odd"

    title: str | None = "x"
    """A name that JSON Schema uses, too."""
    properties: Mapping[str, Annotated[Mapping[str, bool], MinLen(1)]]
    description: Literal["one"] = "one"
    number: Literal[1, "2"] | None = None
    default: int | bool | Globs = 3
    seconds: float = 1.5

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        """Judge only the first."""
        yield from (Verdict(agent, 0, "was first") for agent in room.agents[:1])


REGISTRY: tuple[type[Policy], ...] = (*BUILTIN, Odd)
SCHEMA = schema(REGISTRY)
VALIDATOR = Draft202012Validator(SCHEMA)


def takes(document: Any) -> bool:
    """Return True if the schema accepts it."""
    return not list(VALIDATOR.iter_errors(document))


def loads(document: Any) -> bool:
    """Return True if it is accepted as room metadata."""
    try:
        load([Layer("room metadata", json.dumps(document), shared=True)], REGISTRY)
    except ConfigError:
        return False
    return True


def test_it_is_current() -> None:
    """The committed schema is what the code says now; `make docs` writes it."""
    assert (ROOT / "bouncer.schema.json").read_text(encoding="utf-8") == text(BUILTIN), "run `make docs`"


def test_it_is_a_schema() -> None:
    """It conforms to its dialect, its id is not a URL, and nothing must be fetched."""
    made = json.loads(text(REGISTRY))
    Draft202012Validator.check_schema(made)

    assert made["$schema"] == DIALECT == Draft202012Validator.META_SCHEMA["$id"]
    assert made["$id"].startswith("urn:")
    assert "://" not in text(REGISTRY).replace(DIALECT, "")
    assert '"title"' not in text(BUILTIN).replace('"title": "Bouncer"', "")


def test_everything_is_described() -> None:
    """An editor shows what each key means, and its default."""
    made = schema(BUILTIN)
    bouncer = made["properties"]["bouncer"]["properties"]
    exempt = next(shape["properties"] for shape in bouncer["exempt"]["oneOf"] if "properties" in shape)
    parts: list[Mapping[str, Any]] = [bouncer, exempt, *(bouncer[key]["properties"] for key in ("eviction", "people"))]
    parts += [made["$defs"][policy.name]["properties"] for policy in BUILTIN]

    for part in parts:
        for name, option in part.items():
            assert option["description"].endswith("."), name
            assert "\n" not in option["description"]
    for policy in BUILTIN:
        value = bouncer["policies"]["properties"][policy.name]
        assert value["description"] == documentation(policy)
        required = made["$defs"][policy.name].get("required", [])
        for name, option in made["$defs"][policy.name]["properties"].items():
            assert ("default" in option) != (name in required)
    assert (
        documentation(Odd)
        == "A policy with options of unusual types.\n\nAll of this is one paragraph.\n\n- One.\n- Two."
    )


@pytest.mark.parametrize("policy", BUILTIN, ids=lambda policy: policy.name)
def test_the_example_of_a_policy_is_valid(policy: type[Policy]) -> None:
    """Both accept it, as an object and in a list, and it shows something."""
    assert example(policy)
    for value in (dict(example(policy)), [example(policy)]):
        document = {"bouncer": {"policies": {policy.name: value}}}
        assert takes(document)
        assert loads(document)


ALLOWED: list[Any] = [
    {"mode": "dry_run"},
    {"mode": None, "exempt": None, "policies": None, "eviction": None, "hearing": None, "reconcile": None},
    {"announce": None},
    {"reconcile": 1},
    {"reconcile": 3600},
    {"reconcile": 1.5},
    {"exempt": {"identity": ["a*"], "agent_name": []}},
    {"exempt": {"identity": None}},
    {"exempt": {"name": ["a"], "attributes": {"x": "*", "y": None}, "metadata": None, "dispatched_only": True}},
    {"exempt": [{"identity": ["a"]}, {"name": ["b"], "attributes": {"x": "y"}}]},
    {"people": {"also": {"identity": ["a"]}, "except": None}},
    {"people": {"also": [{"agent_name": ["a"]}], "except": {"name": None}}},
    {"people": None, "avatars": None, "leave_after": None},
    {"avatars": {"metadata": ["*x*"]}, "leave_after": 0},
    {"hearing": {"mode": "level", "ignore_tracks": []}},
    {"hearing": {"mode": None, "ignore_tracks": ["a*"]}},
    {"policies": {"duplicates": {"only": {"name": ["a"], "identity": None}}}},
    {"policies": {"duplicates": [{"only": [{"name": ["a"]}]}]}},
    {"policies": {"deny_list": {"who": [{"attributes": {"x": "y"}}, {}]}}},
    {"policies": {"human_takeover": {"name": ["x"], "metadata": ["y"]}}},
    {"eviction": {"leave_within": 0, "max_per_minute": 1_000_000, "keep_last_agent": None}},
    {"hearing": "level"},
    {"hearing": "speech"},
    {"policies": {}},
    {"policies": {"duplicates": None}},
    {"policies": {"duplicates": []}},
    {"policies": {"duplicates": {}}},
    {"policies": {"duplicates": [{}] * 16}},
    {"policies": {"duplicates": {"max": None, "keep": None, "only": None, "action": None, "grace": None}}},
    {"policies": {"duplicates": [{"only": None}]}},
    {"policies": {"duplicates": {"key": "attribute:x", "unnamed": True, "only": ["*"] * 256}}},
    {"policies": {"allow_list": {"agent_names": []}}},
    {"policies": {"superseded": {"by": {"a": ["b"], "c": None}}}},
    {"policies": {"stuck_state": {"limits": {}}}},
    {"policies": {"stuck_state": {"limits": {"thinking": None, "idle": 5}}}},
    {"policies": {"stuck_state": [{"limits": {"idle": 5}}]}},
    {"policies": {"human_takeover": {"identity": ["x"], "attributes": None}}},
    {"policies": {"odd": {"properties": {}}}},
    {"policies": {"odd": {"properties": {"x": None, "y": {"z": True}}, "title": None, "default": ["a"]}}},
    {"policies": {"odd": [{"properties": {}, "title": None, "number": None}, {"properties": {}, "number": 1}]}},
    {"policies": {"odd": {"properties": {}, "number": "2", "description": None}}},
]

GOOD: list[Any] = [
    {},
    {"x": 1, "bouncer": {}},
    {"$schema": "./bouncer.schema.json", "bouncer": {"mode": "off"}},
    *({"bouncer": value} for value in ALLOWED),
]

FORBIDDEN: list[Any] = [
    None,
    [],
    "off",
    {"mode": "on"},
    {"mode": ["off"]},
    {"announce": 1},
    {"announce": "true"},
    {"reconcile": 0.5},
    {"reconcile": 3601},
    {"reconcile": "15"},
    {"reconcile": True},
    {"reconcile": 10**400},
    {"hearing": "loud"},
    {"nonsense": 1},
    {"exempt": []},
    {"exempt": ["a"]},
    {"exempt": [{"identity": []}]},
    {"exempt": [{"identity": None}]},
    {"exempt": [{"dispatched_only": True}]},
    {"people": []},
    {"people": {"also": []}},
    {"people": {"also": {"identity": "a"}}},
    {"people": {"but": {"identity": ["a"]}}},
    {"avatars": 3},
    {"avatars": [{"nam": ["a"]}]},
    {"leave_after": -1},
    {"hearing": {"mode": "loud"}},
    {"hearing": {"mode": "off", "x": 1}},
    {"hearing": []},
    {"policies": {"duplicates": {"only": {"name": []}}}},
    {"policies": {"duplicates": {"only": [{"x": 1}]}}},
    {"policies": {"human_takeover": {"display_name": ["x"]}}},
    {"exempt": {"identity": "a"}},
    {"exempt": {"identity": [""]}},
    {"exempt": {"identity": [None]}},
    {"exempt": {"identity": ["x" * 257]}},
    {"exempt": {"identity": ["x"] * 257}},
    {"exempt": {"identities": []}},
    {"eviction": {"leave_within": -1}},
    {"eviction": {"max_per_minute": 0}},
    {"eviction": {"max_per_minute": 1.5}},
    {"eviction": {"max_per_minute": 1_000_001}},
    {"policies": []},
    {"policies": {"duplicate": {}}},
    {"policies": {"duplicates": True}},
    {"policies": {"duplicates": "off"}},
    {"policies": {"duplicates": [None]}},
    {"policies": {"duplicates": [[]]}},
    {"policies": {"duplicates": [{}] * 17}},
    {"policies": {"duplicates": {"max": 0}}},
    {"policies": {"duplicates": {"max": "1"}}},
    {"policies": {"duplicates": {"keep": "old"}}},
    {"policies": {"duplicates": {"grace": 315_360_001}}},
    {"policies": {"duplicates": {"graze": 1}}},
    {"policies": {"duplicates": {"only": "x"}}},
    {"policies": {"duplicates": {"action": "kick"}}},
    {"policies": {"duplicates": {"key": "x" * 257}}},
    {"policies": {"duplicates": [{"max": None}]}},
    {"policies": {"duplicates": [{}, {"graze": 1}]}},
    {"policies": {"max_agents": {}}},
    {"policies": {"max_agents": {"max": None}}},
    {"policies": {"max_agents": [{}]}},
    {"policies": {"max_lifetime": {"limit": 0}}},
    {"policies": {"superseded": {"by": {}}}},
    {"policies": {"superseded": {"by": {"a": None}}}},
    {"policies": {"superseded": {"by": {"a": []}}}},
    {"policies": {"superseded": {"by": {"": ["b"]}}}},
    {"policies": {"superseded": [{"by": {"a": ["b"], "c": None}}]}},
    {"policies": {"stuck_state": {"limits": {"dreaming": 1}}}},
    {"policies": {"stuck_state": {"limits": {"idle": -1}}}},
    {"policies": {"stuck_state": {"limits": []}}},
    {"policies": {"stuck_state": [{"limits": None}]}},
    {"policies": {"stuck_state": [{"limits": {"idle": None}}]}},
    {"policies": {"odd": {}}},
    {"policies": {"odd": {"properties": None}}},
    {"policies": {"odd": {"properties": {"x": {}}}}},
    {"policies": {"odd": {"properties": {"x": {"y": None}}}}},
    {"policies": {"odd": {"properties": {}, "number": 2}}},
    {"policies": {"odd": [{"properties": {}, "description": None}]}},
]

BAD: list[Any] = [{"bouncer": value} for value in FORBIDDEN]

CONTRADICTORY: list[Any] = [
    {"policies": {"deny_list": {}}},
    {"policies": {"human_takeover": {"grace": 1}}},
    {"policies": {"duplicates": {"key": "name"}}},
    {"policies": {"lone_chatter": {}}, "hearing": "off"},
    {"policies": {"duplicates": {"max": 1.0}}},
    {"exempt": {"identity": ["x" * 256] * (MAX_SIZE // 256)}},
]

BEYOND: list[Any] = [{"bouncer": value} for value in CONTRADICTORY]


@pytest.mark.parametrize("document", GOOD, ids=json.dumps)
def test_what_both_take(document: Any) -> None:
    """This includes nulls, with which a merge patch removes something."""
    assert [error.message for error in VALIDATOR.iter_errors(document)] == []
    assert loads(document)


@pytest.mark.parametrize("document", BAD, ids=lambda document: json.dumps(document)[:80])
def test_what_both_refuse(document: Any) -> None:
    """An editor shows such a mistake before the worker does."""
    assert not takes(document)
    assert not loads(document)


@pytest.mark.parametrize("document", BEYOND, ids=lambda document: json.dumps(document)[:80])
def test_what_only_the_worker_refuses(document: Any) -> None:
    """Contradictory options, a whole number with a decimal point, excessive size: a schema can't express these."""
    assert takes(document)
    assert not loads(document)


pool: st.SearchStrategy[Any] = st.sampled_from(
    [
        *(None, True, False, 0, 1, 3, 2.5, -1, 1e9, "", "a*", "oldest", "evict", "thinking", "attribute:x", "x" * 257),
        *([], ["a"], [""], [None], ["a"] * 257, [1], {}, {"a": 1}, {"thinking": 1}, {"idle": None}),
        *({"a": ["b"]}, {"a": []}, {"a": {}}, {"a": {"b": True}}, {"role": "x"}, {"title": 1}),
    ]
)
"""Draw values, some of which each option accepts."""


@st.composite
def documents(draw: st.DrawFn) -> Any:
    """Draw configurations that are valid, or have a few changes."""
    chosen = draw(st.lists(st.sampled_from(REGISTRY), max_size=3, unique=True))
    given: dict[str, Any] = {}
    for policy in chosen:
        options: dict[str, Any] = {"properties": {}} if policy is Odd else deepcopy(dict(example(policy)))
        names = [*SCHEMA["$defs"][policy.name]["properties"], "other"]
        changes = st.dictionaries(st.sampled_from(names), pool, max_size=2)
        one = st.builds(lambda options, changed: options | changed, st.just(options), changes)
        given[policy.name] = draw(one | one | st.lists(one, max_size=2) | pool)
    whole: dict[str, Any] = {"policies": given}
    keys = ["mode", "exempt", "eviction", "hearing", "reconcile", "announce", "other"]
    whole |= draw(st.dictionaries(st.sampled_from(keys), pool, max_size=1))
    for key, names in {"exempt": ["identity", "agent_name"], "eviction": ["leave_within", "max_per_minute"]}.items():
        if draw(st.booleans()):
            whole[key] = draw(st.dictionaries(st.sampled_from([*names, "other"]), pool, max_size=2))
    return {"bouncer": whole}


SEVERAL = ('"hearing": "off"', "needs", "attribute:NAME", "shorter than the time", "since the rule gives no time")
"""What `load` says about several options at once."""


@given(documents())
@also({"bouncer": {"policies": {"max_lifetime": {"limit": 1, "notice": 60}}}})
@also({"bouncer": {"policies": {"duplicate": None}}})
@also({"bouncer": {"policies": {"duplicates": {"maks": None}}}})
@also({"bouncer": {"polices": None}})
def test_they_agree(document: Any) -> None:
    """The schema accepts everything that loads. What it accepts but `load` refuses concerns several options at once."""
    try:
        load([Layer("room metadata", json.dumps(document), shared=True)], REGISTRY)
    except ConfigError as error:
        if takes(document):
            told = [problem.message for problem in error.problems]
            assert all(any(words in message for words in SEVERAL) for message in told), told
    else:
        assert [error.message for error in VALIDATOR.iter_errors(document)] == []
