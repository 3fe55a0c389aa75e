"""What is wrong, in words: where it stands, what was found, and what would be right."""

import json
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from types import MappingProxyType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError
from pydantic_core import ErrorDetails

from bouncer.configuration.lookalikes import keys
from bouncer.configuration.model import WORD, Problem
from bouncer.configuration.provenance import MAX_SHOWN, at, cut
from bouncer.selectors import ONE
from bouncer.selectors import TAGS as SHAPES

MAX_PROBLEMS = 50
"""How many complaints about one layer are worded; a configuration with more needs no more to be refused."""

NOWHERE: Mapping[str, str] = MappingProxyType({})
TAGS = SHAPES | {WORD}

_WORDS: Mapping[str, str] = {
    "missing": "is required",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "string_type": "must be a string",
    "string_unicode": "must be valid Unicode text",
    "tuple_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have {min_length} or more entries",
    "too_long": "must have at most {max_length} entries",
    "literal_error": "must be {expected}",
}


def worded(
    layer: str, path: str, error: ValidationError, model: type[BaseModel], elsewhere: Mapping[str, str] = NOWHERE
) -> list[Problem]:
    """Return pydantic's complaints in our words; `elsewhere` says of unknown keys at the path where they belong."""
    wrong = error.errors()
    within = {each["loc"][:length] for each in wrong for length in range(len(each["loc"]))}
    # A list whose entries are all wrong counts as too short as well.
    wrong = [each for each in wrong if each["type"] != "too_short" or each["loc"] not in within]
    problems = [_problem(layer, path, details, model, elsewhere) for details in wrong[:MAX_PROBLEMS]]
    if len(wrong) > MAX_PROBLEMS:
        problems.append(Problem(layer, path, f"has {len(wrong) - MAX_PROBLEMS} more problems"))
    return problems


def unknown_names(
    layer: str, path: str, names: Sequence[str], known: Sequence[str], elsewhere: Mapping[str, str] = NOWHERE
) -> list[Problem]:
    """Return a problem for each of these names, which don't exist at this place."""
    problems = [
        Problem(layer, at(path, name, brief=True), _unknown(name, known, elsewhere)) for name in names[:MAX_PROBLEMS]
    ]
    if len(names) > MAX_PROBLEMS:
        problems.append(Problem(layer, path, f"has {len(names) - MAX_PROBLEMS} more problems"))
    return problems


def shown(value: Any) -> str:
    """Return a wrong value as an error shows it."""
    return cut(json.dumps(value, default=str))


def _problem(
    layer: str, path: str, details: ErrorDetails, model: type[BaseModel], elsewhere: Mapping[str, str]
) -> Problem:
    location = details["loc"]
    for step in location:
        if step != "[key]" and step not in TAGS:  # pydantic's way of saying that the name itself is wrong; and ours
            path = at(path, step, brief=True)
    if details["type"] == "extra_forbidden":
        below = elsewhere if len(location) == 1 else NOWHERE
        return Problem(layer, path, _unknown(str(location[-1]), known_keys(model, location[:-1]), below))
    words = _WORDS.get(details["type"])
    message = words.format(**_plain(details.get("ctx", {}))) if words else details["msg"]
    if details["type"] == "model_type" and location[-1:] == (ONE,):
        message += ", or a list of such objects"
    found = "" if details["type"] == "missing" else f", not {shown(details['input'])}"
    return Problem(layer, path, f"{message}{found}")


def known_keys(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """Return the keys that may stand at a location of the schema."""
    annotation: Any = model
    for step in location:
        annotation = _below(annotation, step)
    return keys(next(inner for _, inner in _shapes(annotation) if hasattr(inner, "model_fields")))


def _below(annotation: Any, step: int | str) -> Any:
    """Return the type of what stands below: at a key, at an index, or of one shape. There is one."""
    shapes = list(_shapes(annotation))
    if isinstance(step, int):
        return next(get_args(shape)[0] for _, shape in shapes if get_origin(shape) is tuple)
    if step in TAGS:
        return next(shape for tag, shape in shapes if tag == step)
    known = next(shape for _, shape in shapes if hasattr(shape, "model_fields")).model_fields
    return next(info.annotation for name, info in known.items() if step in (info.alias, name))


def _shapes(annotation: Any, tag: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the types that a type may be, each with its tag if it has one."""
    if get_origin(annotation) is Annotated:
        inner, *marks = get_args(annotation)
        yield from _shapes(inner, next((mark.tag for mark in marks if isinstance(mark, Tag)), tag))
    elif get_origin(annotation) in (Union, UnionType):
        for inner in get_args(annotation):
            yield from _shapes(inner, tag)
    else:
        yield tag, annotation


def _unknown(name: str, known: Sequence[str], elsewhere: Mapping[str, str]) -> str:
    close = get_close_matches(name[:MAX_SHOWN], known, n=1)
    meant = f"; did you mean “{close[0]}”?" if close else ""
    if name in elsewhere:
        meant = f"; {elsewhere[name]}"
    return f"is unknown here{meant} (known: {', '.join(known)})"


def _plain(context: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the same with whole numbers written as such."""
    return {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in context.items()}
