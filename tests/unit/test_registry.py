"""The registry as a contract: names, options, defaults and default actions, on which room metadata depends."""

import gc
import inspect
import json
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from typing import Any

import pytest
from pydantic import TypeAdapter
from pydantic_core import PydanticUndefined

from bouncer import Policy, Room
from bouncer.configuration.load import load
from bouncer.configuration.model import Layer
from bouncer.configuration.options import option_docs, options_model, own_keys
from bouncer.policy import Rule
from policies import BUILTIN

REQUIRED = PydanticUndefined

CONTRACT: Mapping[str, Mapping[str, Any]] = {
    "allow_list": {"agent_names": REQUIRED, "grace": 0},
    "crosstalk": {"overlap": 3},
    "deny_list": {"agent_names": [], "identities": [], "who": None, "grace": 0},
    "duplicates": {
        "key": "agent_name",
        "max": 1,
        "keep": "oldest",
        "grace": 2,
        "wait_for_life": 25,
        "unnamed": False,
    },
    "empty_room": {"grace": 20, "never_joined": 120},
    "human_takeover": {
        "identity": [],
        "agent_name": [],
        "name": [],
        "attributes": {},
        "metadata": [],
        "grace": 3,
    },
    "idle_timeout": {"timeout": 300, "unseen": "hold"},
    "lone_chatter": {"timeout": 60, "keep": "none"},
    "max_agents": {"max": REQUIRED, "grace": 2, "wait_for_life": 25},
    "max_lifetime": {"limit": REQUIRED},
    "no_return": {"window": 60},
    "orphaned_avatar": {"grace": 5},
    "stuck_state": {"limits": {"initializing": 60, "thinking": 180}},
    "superseded": {"by": REQUIRED, "grace": 2},
    "unresponsive": {"timeout": 20},
}
"""Each policy's own options, in the order of their documentation."""
COMMON: Mapping[str, Any] = {"action": "evict", "notice": 0, "only": None}
REPORTING = {"unresponsive"}
"""Policies whose `action` is `report` unless the configuration says otherwise."""
HEARING = {"crosstalk": "useful", "idle_timeout": "useful", "lone_chatter": "needed", "unresponsive": "needed"}
CLEARING = {"allow_list", "deny_list", "human_takeover", "superseded", "max_lifetime", "no_return"}
"""Policies that may evict the last agent despite `keep_last_agent`."""

LEAST: Mapping[str, Mapping[str, Any]] = {
    "allow_list": {"agent_names": ["a*"]},
    "deny_list": {"identities": ["a*"]},
    "human_takeover": {"identity": ["op-*"]},
    "max_agents": {"max": 2},
    "max_lifetime": {"limit": 3600},
    "superseded": {"by": {"triage": ["billing"]}},
}
"""The smallest configuration of policies for which `{}` is not enough."""

each_policy = pytest.mark.parametrize("policy", BUILTIN, ids=lambda policy: policy.name)


def configured(policy: type[Policy], **options: Any) -> Rule:
    """Return the rule that room metadata with this policy makes."""
    patch = {"duplicates": None, policy.name: options} if policy.name != "duplicates" else {policy.name: options}
    (rule,) = load([Layer("room metadata", json.dumps({"bouncer": {"policies": patch}}), shared=True)], BUILTIN).rules
    return rule


def test_the_policies_are_those_of_the_contract() -> None:
    """Neither more nor fewer, in alphabetical order."""
    assert [policy.name for policy in BUILTIN] == list(CONTRACT)


@each_policy
def test_its_options_and_their_defaults_are_those_of_the_contract(policy: type[Policy]) -> None:
    """Its own options come first, then the common ones."""
    model = options_model(policy)
    defaults = {
        option.alias or name: (
            REQUIRED if option.is_required() else TypeAdapter(Any).dump_python(option.default, mode="json")
        )
        for name, option in model.model_fields.items()
    }

    assert {*own_keys(policy)} == {*CONTRACT[policy.name]}
    assert defaults == {**CONTRACT[policy.name], **COMMON, **({"action": "report"} if policy.name in REPORTING else {})}


@each_policy
def test_the_least_configuration_gives_the_defaults(policy: type[Policy]) -> None:
    """Everything that the metadata omits has the contract's default."""
    least = LEAST.get(policy.name, {})
    rule = configured(policy, **least)

    assert type(rule.policy) is policy
    assert (rule.id, rule.index, rule.notice, rule.only) == (policy.name, 0, 0, None)
    assert rule.action == ("report" if policy.name in REPORTING else "evict")
    assert {
        key: TypeAdapter(Any).dump_python(getattr(rule.policy, option.name), mode="json")
        for key, option in zip(own_keys(policy), fields(policy), strict=True)  # type: ignore[arg-type]
    } == {**CONTRACT[policy.name], **least}


@each_policy
def test_it_takes_what_every_policy_takes(policy: type[Policy]) -> None:
    """`action`, `notice` and `only`; a notice has to be shorter than the time that the rule gives, if it gives any."""
    longer = {"grace": 9} if "grace" in CONTRACT[policy.name] else {"overlap": 9} if policy.name == "crosstalk" else {}
    notice = 0 if policy.name == "no_return" else 7
    options = {**LEAST.get(policy.name, {}), **longer, "action": "report", "notice": notice, "only": ["a*"]}
    rule = configured(policy, **options)

    assert (rule.action, rule.notice, rule.only) == ("report", notice, ("a*",))


@each_policy
def test_what_the_engine_has_to_know_of_it(policy: type[Policy]) -> None:
    """How it depends on hearing, and if it may evict the last agent."""
    assert getattr(policy, "hearing", "unused") == HEARING.get(policy.name, "unused")
    assert configured(policy, **LEAST.get(policy.name, {})).may_clear_room == (policy.name in CLEARING)


@each_policy
def test_it_is_a_frozen_slotted_record_in_a_file_of_its_name(policy: type[Policy]) -> None:
    """It can't remember anything, and is easy to find."""
    made = configured(policy, **LEAST.get(policy.name, {})).policy

    assert policy.__module__ == f"policies.{policy.name}"
    assert isinstance(made, Policy)
    assert not hasattr(made, "__dict__")
    with pytest.raises((AttributeError, TypeError)):
        made.anything = 1  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        setattr(made, fields(policy)[0].name, 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="positional"):
        policy(1)  # type: ignore[call-arg]


@each_policy
def test_an_empty_room_has_no_verdicts(policy: type[Policy]) -> None:
    """An empty room is no special case."""
    assert list(configured(policy, **LEAST.get(policy.name, {})).policy.evaluate(Room())) == []


@each_policy
def test_it_is_documented(policy: type[Policy]) -> None:
    """Its docstring is its page: what counts, what does not, what it misses. So is each option."""
    page = inspect.cleandoc(policy.__doc__ or "")
    first, _, rest = page.partition("\n\n")
    options = option_docs(policy)

    assert (sys.modules[policy.__module__].__doc__ or "").endswith(".")
    assert "\n" not in first
    assert any(words in first for words in ("must leave", "is reported"))
    for part in ("What counts", "What doesn't", "What it won't notice"):
        assert part in rest
    assert [*options] == [option.name for option in fields(policy)]  # type: ignore[arg-type]
    assert all(text.endswith(".") for text in options.values())


def test_rooms_that_begin_at_once_read_the_documentation_too() -> None:
    """Each room has a thread of its own. Here threads change places at each garbage collection, which are many."""

    def yields(*_: object) -> None:
        time.sleep(0)

    gc.callbacks.append(yields)
    before = gc.get_threshold()
    gc.set_threshold(5, 1, 1)
    try:
        with ThreadPoolExecutor(8) as rooms:
            read = [*rooms.map(option_docs, BUILTIN * 20)]
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(yields)

    assert len(read) == 20 * len(BUILTIN)
