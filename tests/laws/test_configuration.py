"""The law of the configuration: whatever is written, it is valid throughout, or refused with reasons."""

import json
from collections.abc import Iterator
from dataclasses import astuple
from math import inf, isfinite, nan
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from bouncer.configuration.load import load
from bouncer.configuration.model import Config, ConfigError, Layer
from bouncer.policy import MAX_SECONDS
from tests.unit.test_config import REGISTRY, ours, room, shared


def wrong_numbers(value: Any) -> Iterator[Any]:
    """Yield the numbers among a policy's options, however deep, that are not finite or out of range."""
    match value:
        case bool() | str() | None:
            return
        case int() | float():
            if not (isfinite(value) and 0 <= value <= MAX_SECONDS):
                yield value
        case dict():
            for inner in value.values():
                yield from wrong_numbers(inner)
        case _:
            for inner in value:
                yield from wrong_numbers(inner)


def loads_or_refuses(*layers: Layer) -> Config | None:
    """Return the configuration, which has only valid values; None if it was refused, with reasons."""
    try:
        config = load(layers, REGISTRY)
    except ConfigError as error:
        refused = error
    else:
        return valid(config)
    assert refused.problems
    assert all(p.layer and p.path.startswith("$") and p.message for p in refused.problems)
    assert str(refused).encode()
    return None


def valid(config: Config) -> Config:
    """Return the configuration after checking that it has only valid values."""
    assert config.mode in ("enforce", "dry_run", "off")
    assert type(config.announce) is type(config.guards.keep_last_agent) is bool
    assert config.hearing in ("off", "level", "speech")
    assert 0 <= config.leave_within <= MAX_SECONDS
    assert 1 <= config.reconcile <= 3600
    assert 1 <= config.guards.max_per_minute <= 1_000_000 or config.mode == "dry_run"
    for rule in config.rules:
        assert isinstance(rule.policy, REGISTRY)
        assert rule.action in ("evict", "report")
        assert not list(wrong_numbers([rule.notice, *astuple(rule.policy)]))  # type: ignore[call-overload]
    for glob in (*config.guards.exempt_identities, *config.guards.exempt_agent_names):
        assert 1 <= len(glob) <= 256
    assert json.dumps(config.effective, allow_nan=False, ensure_ascii=False).encode()
    return config


texts = st.text(st.characters() | st.characters(categories=["Cs"]), max_size=12)
"""Any text, lone surrogates included."""
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts | st.sampled_from([10**400, inf, nan, -0.0])
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)
"""Any JSON, and what Python's encoder makes of NaN and infinity."""
names = st.sampled_from(["mode", "policies", "duplicates", "exempt", "identity", "grace", "max", "only", "bouncer"])


def mostly(good: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Draw that, sometimes null, rarely anything."""
    return st.integers(0, 9).flatmap(lambda n: st.none() if n == 8 else values if n == 9 else good)


def objects(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Draw objects with some of these keys, and rarely others."""
    known = st.fixed_dictionaries({}, optional={key: mostly(value) for key, value in keys.items()})
    others: st.SearchStrategy[dict[str, Any]] = (
        st.just({}) | st.just({}) | st.dictionaries(names | texts, values, max_size=2)
    )
    return st.tuples(others, known).map(lambda pair: pair[0] | pair[1])


def one_or_many(options: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[Any]:
    """Draw a policy's value: options, or a list of them."""
    return options | st.lists(options, max_size=3)


seconds = st.sampled_from([0, 1, 2.5, 60, 1e6]) | st.floats(0, 100)
globs = st.lists(st.sampled_from(["*", "a*", "recorder-[ab]"]), max_size=2)
selector = objects(identity=globs, name=globs, attributes=objects(role=st.just("operator")), metadata=globs)
selections = one_or_many(selector)
hearings = st.sampled_from(["auto", "off", "level", "speech"])
common = {"action": st.sampled_from(["evict", "report"]), "notice": seconds, "only": globs | selections}
configurations = objects(
    mode=st.sampled_from(["enforce", "dry_run", "off"]),
    exempt=objects(identity=globs, agent_name=globs, dispatched_only=st.booleans()) | selections,
    people=objects(also=selections, **{"except": selections}),
    avatars=selections,
    leave_after=seconds,
    policies=objects(
        duplicates=one_or_many(
            objects(
                key=st.sampled_from(["agent_name", "attribute:x"]),
                max=st.integers(1, 5),
                keep=st.sampled_from(["oldest", "newest"]),
                grace=seconds,
                unnamed=st.booleans(),
                **common,
            )
        ),
        idle_timeout=one_or_many(objects(timeout=seconds, **common)),
        window=one_or_many(objects(opens=seconds, closes=seconds, **common)),
        allow_list=one_or_many(objects(agent_names=globs, **common)),
        deny_list=one_or_many(objects(identities=globs, agent_names=globs, **common)),
        human_takeover=one_or_many(objects(identity=globs, attributes=objects(role=st.just("operator")), **common)),
        lone_chatter=one_or_many(objects(timeout=seconds, keep=st.sampled_from(["none", "oldest"]), **common)),
        max_lifetime=one_or_many(objects(limit=seconds, **common)),
        stuck_state=one_or_many(objects(limits=objects(thinking=seconds, idle=seconds), **common)),
        superseded=one_or_many(objects(by=objects(triage=globs, billing=globs), **common)),
    ),
    eviction=objects(max_per_minute=st.integers(1, 100), leave_within=seconds, keep_last_agent=st.booleans()),
    hearing=hearings | objects(mode=hearings, ignore_tracks=globs),
    reconcile=st.floats(1, 3600),
    announce=st.booleans(),
)
"""Configurations that are valid, or nearly so."""


@given(values)
def test_any_value_of_our_key(value: Any) -> None:
    """It is never another error."""
    loads_or_refuses(shared(json.dumps({"bouncer": value})))


@given(values, st.booleans())
def test_any_document(document: Any, is_shared: bool) -> None:  # noqa: FBT001  # Hypothesis gives it
    """In the room and in a dispatch."""
    loads_or_refuses(Layer("metadata", json.dumps(document), shared=is_shared))


@given(st.text() | st.text(st.sampled_from('{}[]",:\\/bouncerNaI-+.eE01 \n\ud800')), st.booleans())
@example(text='{"bouncer":', is_shared=True)
def test_any_text(text: str, is_shared: bool) -> None:  # noqa: FBT001  # Hypothesis gives it
    """It may be JSON or not."""
    loads_or_refuses(Layer("metadata", text, shared=is_shared))


@given(configurations, st.data())
def test_damaged_text(value: Any, data: st.DataObject) -> None:
    """A piece is cut out of a configuration, or inserted."""
    text = json.dumps({"bouncer": value})
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(start + 3, len(text))))
    loads_or_refuses(shared(text[:start] + data.draw(st.text(max_size=2)) + text[end:]))


@given(configurations)
def test_nearly_valid(value: Any) -> None:
    """Each wrong value is among right ones."""
    loads_or_refuses(shared(json.dumps({"bouncer": value})))


@given(configurations, configurations)
def test_layers(below: Any, above: Any) -> None:
    """One bad layer makes the whole bad. Good ones combine as RFC 7396 says."""
    whole = loads_or_refuses(ours(**below), room(**above))
    alone = [loads_or_refuses(ours(**value)) for value in (below, above)]

    if whole:
        assert all(alone)
        built_in = {"mode": "enforce", "policies": {"duplicates": {}}}
        merged = merge_patch(merge_patch(built_in, below), above)
        assert whole == load((ours(policies=None), ours(**merged)), REGISTRY)


def merge_patch(target: Any, patch: Any) -> Any:
    """Apply a patch as RFC 7396, section 2, says, word for word."""
    if not isinstance(patch, dict):
        return patch
    if not isinstance(target, dict):
        target = {}
    target = dict(target)
    for name, value in patch.items():
        if value is None:
            if name in target:
                del target[name]
        else:
            target[name] = merge_patch(target.get(name), value)
    return target
