"""What is in force, value by value: which layer it came from, and what a change has changed. All of it is pure.

A place in the configuration is named by its JSON path, such as `$.bouncer.policies.idle_timeout.timeout`.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

ROOT = "$.bouncer"
OBJECT = 0
"""In a signed value, where an object has its own signature; JSON's keys are strings, so nothing else is ever there."""


def values(effective: Any, path: str = ROOT) -> Iterator[tuple[str, Any]]:
    """Every single value with its JSON path. A list of texts is one value, of a list of rules each option is one."""
    for step, inner in _steps(effective):
        yield from values(inner, at(path, step))
    if not _steps(effective):
        yield path, effective


def signed(value: Any, layer: str) -> Any:
    """The same as JSON with the layer's name in place of each value, to be merged just like what it stands for."""
    if isinstance(value, Mapping):
        return {OBJECT: layer} | {key: None if inner is None else signed(inner, layer) for key, inner in value.items()}
    if _steps(value):
        return [signed(inner, layer) for inner in value]
    return layer


def origins(effective: Any, signatures: Any, default: str, path: str = ROOT) -> Iterator[tuple[str, str]]:
    """For every single value its JSON path and where it came from: a layer, or `default` where none gave it."""
    steps = _steps(effective)
    for step, inner in steps:
        yield from origins(inner, _signature(signatures, step), default, at(path, step))
    if not steps:
        signature = _signature(signatures, OBJECT) if isinstance(signatures, Mapping) else signatures
        yield path, signature if isinstance(signature, str) else default


def difference(old: Any, new: Any, path: str = ROOT) -> dict[str, tuple[Any, Any]]:
    """What is different: JSON path to what was there and what is; None where nothing was or is.

    What is there on one side only is one difference, however much it contains.
    """
    before, after = dict(_steps(old)), dict(_steps(new))
    if before and after and type(old) is type(new):
        found: dict[str, tuple[Any, Any]] = {}
        for step in before | after:
            found |= difference(before.get(step), after.get(step), at(path, step))
        return found
    return {} if old == new else {path: (old, new)}


def at(path: str, step: str | int) -> str:
    """The JSON path of what stands there under that key, or at that index."""
    if isinstance(step, int):
        return f"{path}[{step}]"
    return f"{path}.{step}" if step.isidentifier() else f"{path}[{json.dumps(step)}]"


def _steps(value: Any) -> list[tuple[Any, Any]]:
    """What a value consists of: keys or indices with what is there; nothing for what is a value of its own."""
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, list) and all(isinstance(inner, Mapping) for inner in value):
        return list(enumerate(value))
    return []


def _signature(signatures: Any, step: Any) -> Any:
    """What a signed value has at that step; None where it has nothing."""
    if isinstance(signatures, Mapping):
        return signatures.get(step)
    return signatures[step] if isinstance(signatures, list) and isinstance(step, int) else None
