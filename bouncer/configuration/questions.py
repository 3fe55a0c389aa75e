"""What is valid and hardly meant: the warnings about a configuration. Pure."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel

from bouncer.configuration.provenance import at
from bouncer.policy import is_seconds
from bouncer.selectors import Pattern, Selector

LONG = 24 * 3600.0
"""Seconds beyond which milliseconds were probably meant."""
_REGEX = re.compile(r"\.[*+?]|^\^|\$$|\\[a-zA-Z.*?]|\||\(\?|\)[+?]|\][+{]|\{\d+(?:,\d*)?\}|^/.+/$")
"""What a glob hardly contains and a regular expression often does."""
_BRACES = re.compile(r"\{[^{},]*,[^{}]*\}")
_OPEN = re.compile(r"\[[^\[\]]*$")
_PROSE = re.compile(r"\.(?:name|attributes|metadata)\b")
"""Where a glob is on a text of any kind, in which commas and brackets are usual."""


def questions(model: BaseModel, path: str) -> Iterator[tuple[str, str]]:
    """Yield a JSON path and a warning for each value of a model that is hardly meant."""
    for name, info in type(model).model_fields.items():
        value, place = getattr(model, name), at(path, info.alias or name, brief=True)
        if is_seconds(Annotated[info.annotation, *info.metadata, info]):
            yield from _long(value, place)
        elif value == () and (info.is_required() or name == "only"):
            yield place, "is empty: it matches no agent at all"
        yield from _patterns(value, place)


def _long(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _long(inner, at(path, key, brief=True))
    elif isinstance(value, int | float) and value > LONG:
        yield path, f"is {value:.15g} seconds, which is more than a day; were milliseconds meant?"


def _patterns(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Pattern):
        if _REGEX.search(value):
            yield path, "looks like a regular expression, but is a glob: `*` any text, `?` one character, `[ab]` either"
        elif value != value.strip():
            yield path, "begins or ends with a space, which has to match too"
        elif not _PROSE.search(path) and (", " in value or _BRACES.search(value)):
            yield path, "is one glob, with its commas and braces as they stand; for several globs, write several texts"
        elif not _PROSE.search(path) and _OPEN.search(value):
            yield path, "has no “]” for its “[”, which therefore stands for itself"
    elif isinstance(value, Selector):
        if not value.model_fields_set:
            yield path, "has no key: it matches no one"
        yield from questions(value, path)
    elif isinstance(value, BaseModel):
        yield from questions(value, path)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _patterns(key, at(path, key, brief=True))
            yield from _patterns(inner, at(path, key, brief=True))
    elif isinstance(value, tuple):
        for index, inner in enumerate(value):
            yield from _patterns(inner, at(path, index, brief=True))
