"""Our key in a room's metadata, which other applications share: put in, and taken out. Pure.

LiveKit takes metadata as one string. What others wrote in it stays as it stands, to the character: parsed and written
again, a long number or a repeated key would come out different.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bouncer.configuration.model import KEY

_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)
"""Finds where a value ends; as text, no number is too long."""


class ForeignMetadata(ValueError):  # noqa: N818 - it is no error of theirs
    """The metadata is another application's, with no place for a key of ours."""


@dataclass(frozen=True, slots=True)
class _Entry:
    key: str
    begin: int
    """Where its key begins."""
    end: int
    """Where its value ends."""


def with_ours(text: str, value: Any) -> str:
    """Return the metadata with this value under our key, and all else as it was.

    Raises: ForeignMetadata if they are no JSON object, or have our key more than once.
    """
    return with_member(text, KEY, value)


def with_member(text: str, key: str, value: Any) -> str:
    """Return the metadata with this value under a key, and all else as it was.

    Raises: ForeignMetadata if they are no JSON object, or have the key more than once.
    """
    entry = f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}"
    if not text.strip():
        return f"{{{entry}}}"
    entries = _entries(text)
    ours = _entry(entries, key)
    if ours:
        return text[: ours.begin] + entry + text[ours.end :]
    if entries:
        return text[: entries[-1].end] + ", " + entry + text[entries[-1].end :]
    begin = text.index("{") + 1
    return text[:begin] + entry + text[begin:]


def without_ours(text: str) -> str:
    """Return the metadata without our key, and all else as it was; empty if there was nothing else.

    Raises: ForeignMetadata if our key stands there more than once.
    """
    try:
        entries = _entries(text)
    except ForeignMetadata:
        return text
    ours = _entry(entries, KEY)
    if ours is None:
        return text
    place = entries.index(ours)
    if len(entries) == 1:
        return ""
    if place == 0:
        return text[: ours.begin] + text[entries[1].begin :]
    return text[: entries[place - 1].end] + text[ours.end :]


def ours_in(text: str) -> Any:
    """Return the value of our key in metadata; None if they have none."""
    return member(text, KEY)


def member(text: str, key: str) -> Any:
    """Return the value of a key in metadata; None if they have none."""
    if key not in text:
        return None
    try:
        found = _entry(_entries(text), key)
        return None if found is None else json.loads(f"{{{text[found.begin : found.end]}}}")[key]
    except (ForeignMetadata, ValueError, RecursionError):
        return None


def _entry(entries: list[_Entry], key: str) -> _Entry | None:
    found = [entry for entry in entries if entry.key == key]
    if len(found) > 1:
        raise ForeignMetadata(f"it has the key “{key}” more than once; which one is meant?")
    return found[0] if found else None


def _entries(text: str) -> list[_Entry]:
    """Return the entries of the object that the text is. Raises: ForeignMetadata if it is none."""
    try:
        if not isinstance(json.loads(text, parse_int=str, parse_float=str), dict):
            raise ForeignMetadata("it is JSON, but not an object")
        return list(_scan(text))
    except RecursionError:
        raise ForeignMetadata("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ForeignMetadata(f"it is not JSON: {error}") from None


def _scan(text: str) -> Iterator[_Entry]:
    """Yield the entries of a text that is known to be an object."""
    place = _after_space(text, text.index("{") + 1)
    while text[place] != "}":
        begin = place
        key, place = _DECODER.raw_decode(text, place)
        place = _after_space(text, _after_space(text, place) + 1)
        _, end = _DECODER.raw_decode(text, place)
        yield _Entry(key, begin, end)
        place = _after_space(text, end)
        if text[place] == ",":
            place = _after_space(text, place + 1)


def _after_space(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    assert found  # noqa: S101 - it matches the empty text too
    return found.end()
