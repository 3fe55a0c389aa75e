"""Policies of installed packages: found in the entry-point group `bouncer.policies`, loaded when they are named."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any, get_args

from bouncer.config import CommonOptions, Others, options_model
from bouncer.policy import Action, Hearing, Policy

GROUP = "bouncer.policies"


@cache
def installed() -> Others:
    """What the installed packages offer: names to functions that load a policy, or say in a ValueError why they can't.

    Looked up once, since what is installed doesn't change while we run. None of it is imported for that.
    """
    offers: defaultdict[str, list[EntryPoint]] = defaultdict(list)
    for entry_point in entry_points(group=GROUP):
        offers[entry_point.name].append(entry_point)
    return MappingProxyType({name: cache(partial(_load, offers[name])) for name in sorted(offers)})


def packages() -> Mapping[str, str]:
    """Which packages offer which policy: names of policies to names of distributions, without importing any."""
    offers: defaultdict[str, set[str]] = defaultdict(set)
    for entry_point in entry_points(group=GROUP):
        offers[entry_point.name].add(_package(entry_point))
    return {name: ", ".join(sorted(offers[name])) for name in sorted(offers)}


def _load(offers: Sequence[EntryPoint]) -> type[Policy]:
    """Import a policy. Raises: ValueError that names the package and says what is wrong with it."""
    if len(offers) > 1:
        raise ValueError(f"is offered by several packages: {', '.join(sorted(map(_package, offers)))}")
    (entry_point,) = offers
    whose = f"the package “{_package(entry_point)}”"
    try:
        found = entry_point.load()
    except Exception as error:
        raise ValueError(f"can't be loaded from {whose}: {type(error).__name__}: {error}") from error
    if wrong := "; ".join(unfit(found, entry_point.name)):
        raise ValueError(f"is no valid policy in {whose}: {wrong}")
    policy: type[Policy] = found
    return policy


def unfit(found: Any, name: str) -> Iterator[str]:
    """What keeps this from being a policy of that name."""
    params = getattr(found, "__dataclass_params__", None)
    if not isinstance(found, type) or params is None or not params.frozen:
        yield "it is no frozen dataclass"
        return
    if getattr(found, "name", None) != name:
        yield f"its `name` is {getattr(found, 'name', None)!r}, and has to be {name!r}"
    if not callable(getattr(found, "evaluate", None)):
        yield "it has no `evaluate`"
    for variable, allowed in (("default_action", get_args(Action)), ("hearing", get_args(Hearing))):
        if getattr(found, variable, allowed[0]) not in allowed:
            yield f"its `{variable}` has to be one of {', '.join(map(repr, allowed))}"
    if taken := sorted({option.name for option in fields(found)} & CommonOptions.model_fields.keys()):
        yield f"every policy has the option {', '.join(taken)} already"
        return
    if hidden := [option.name for option in fields(found) if option.name.startswith("_")]:
        yield f"an option can't be called {', '.join(hidden)}"
    try:
        options_model(found).model_json_schema()
    except Exception as error:  # noqa: BLE001 - types of somebody else's options may be anything
        yield f"its options can't be described as JSON: {type(error).__name__}: {error}"


def _package(entry_point: EntryPoint) -> str:
    return entry_point.dist.name if entry_point.dist else "?"
