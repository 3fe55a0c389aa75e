"""Policies of installed packages: found in the entry-point group `bouncer.policies`, loaded when they are named."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any, get_args

from bouncer.configuration.model import CommonOptions, PluginLoaders
from bouncer.configuration.options import options_model
from bouncer.policy import Action, Hearing, Policy

GROUP = "bouncer.policies"


@cache
def installed() -> PluginLoaders:
    """Return what the installed packages offer: by name, functions that load a policy or raise a ValueError.

    Looked up once, since what is installed doesn't change while we run. None of it is imported for that.
    """
    return MappingProxyType({name: cache(partial(_load, found)) for name, found in offers(GROUP).items()})


def packages() -> Mapping[str, str]:
    """Which packages offer which policy: names of policies to names of distributions, without importing any."""
    return {name: ", ".join(sorted(set(map(_package, found)))) for name, found in offers(GROUP).items()}


def offers(group: str) -> Mapping[str, Sequence[EntryPoint]]:
    """Return what the installed packages offer in an entry-point group, by name, without importing any of it."""
    found: defaultdict[str, list[EntryPoint]] = defaultdict(list)
    for entry_point in entry_points(group=group):
        found[entry_point.name].append(entry_point)
    return {name: found[name] for name in sorted(found)}


def load_only(found: Sequence[EntryPoint]) -> Any:
    """Import what is offered under one name.

    Raises: ValueError, which names the packages, if there are several or it can't be imported.
    """
    if len(found) > 1:
        raise ValueError(f"is offered by several packages: {', '.join(sorted(map(_package, found)))}")
    try:
        return found[0].load()
    except Exception as error:
        whose = f"the package “{_package(found[0])}”"
        raise ValueError(f"can't be loaded from {whose}: {type(error).__name__}: {error}") from error


def _load(found: Sequence[EntryPoint]) -> type[Policy]:
    """Import a policy. Raises: ValueError that names the package and says what is wrong with it."""
    policy: type[Policy] = load_only(found)
    if wrong := "; ".join(unfit(policy, found[0].name)):
        raise ValueError(f"is no valid policy in the package “{_package(found[0])}”: {wrong}")
    return policy


def unfit(found: Any, name: str) -> Iterator[str]:
    """Return what keeps this from being a policy of that name."""
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
    if unknown := sorted({*getattr(found, "times", ())} - {option.name for option in fields(found)}):
        yield f"its `times` names {', '.join(unknown)}, which is no option of it"
    if hidden := [option.name for option in fields(found) if option.name.startswith("_")]:
        yield f"an option can't be called {', '.join(hidden)}"
    try:
        options_model(found).model_json_schema()
    except Exception as error:  # noqa: BLE001 - the types of another package's options may be anything
        yield f"its options can't be described as JSON: {type(error).__name__}: {error}"


def _package(entry_point: EntryPoint) -> str:
    return entry_point.dist.name if entry_point.dist else "?"
