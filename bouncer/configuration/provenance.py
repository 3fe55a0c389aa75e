"""What is in force, value by value: which layer it came from, and what a change has changed. Pure.

A place in the configuration is named by its JSON path, such as `$.bouncer.policies.idle_timeout.timeout`.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from bouncer.configuration.model import KEY

ROOT = f"$.{KEY}"
MAX_PATH = 256
"""Characters of a JSON path beyond which an error follows it no deeper."""
MAX_SHOWN = 64
"""Characters of a key, or of a wrong value, that an error shows."""
OBJECT = 0
"""In a record of sources, the key of an object's own source. JSON's keys are strings, so nothing else is there."""


def at(path: str, step: str | int, *, brief: bool = False) -> str:
    """Return the JSON path of what stands under that key, or at that index; `brief` bounds its length, for errors."""
    if brief and len(path) > MAX_PATH:
        return path if path.endswith("…") else f"{path}…"
    if isinstance(step, int):
        return f"{path}[{step}]"
    if step.isidentifier() and not (brief and len(step) > MAX_SHOWN):
        return f"{path}.{step}"
    text = json.dumps(step)
    return f"{path}[{cut(text) if brief else text}]"


def cut(text: str) -> str:
    """Return a text as an error shows it."""
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]} …"


def values(effective: Any, path: str = ROOT) -> Iterator[tuple[str, Any]]:
    """Yield every value with its JSON path. A list of texts is one value, of a list of rules each option is one."""
    for step, inner in _steps(effective):
        yield from values(inner, at(path, step))
    if not _steps(effective):
        yield path, effective


def sources(value: Any, layer: str) -> Any:
    """The same JSON with the layer's name in place of each value, to be merged just like what it stands for."""
    if isinstance(value, Mapping):
        return {OBJECT: layer} | {key: None if inner is None else sources(inner, layer) for key, inner in value.items()}
    if _steps(value):
        return [sources(inner, layer) for inner in value]
    return layer


def origins(effective: Any, merged: Any, default: str, path: str = ROOT) -> Iterator[tuple[str, str]]:
    """For every single value its JSON path and its layer, by the merged sources; `default` where no layer gave it."""
    steps = _steps(effective)
    for step, inner in steps:
        yield from origins(inner, _source(merged, step), default, at(path, step))
    if not steps:
        source = _source(merged, OBJECT) if isinstance(merged, Mapping) else merged
        yield path, source if isinstance(source, str) else default


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


def _steps(value: Any) -> list[tuple[Any, Any]]:
    """What a value consists of: keys or indices with what is there; nothing for what is a value of its own."""
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, list) and all(isinstance(inner, Mapping) for inner in value):
        return list(enumerate(value))
    return []


def _source(merged: Any, step: Any) -> Any:
    """Return what a record of sources has at that step; None where it has nothing."""
    if isinstance(merged, Mapping):
        return merged.get(step)
    return merged[step] if isinstance(merged, list) and isinstance(step, int) else None
