"""What looks like ours and isn't, and where it would be right. Pure.

Metadata is shared with other applications, so text without our key configures nothing. A slip of the pen must not look
like that: the defaults would be in force, and enforce what was meant as a dry run.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any
from unicodedata import normalize

from bouncer.configuration.model import KEY, Bouncer, EvictionSection, Exempt, Layer, PeopleSection, Problem
from bouncer.configuration.provenance import ROOT, at
from bouncer.selectors import Selector

UNREADABLE = "must be JSON, but it can't be read"
DID_YOU_MEAN = f"is unknown here; did you mean “{KEY}”?"
_NAMES = "|".join(Bouncer.model_fields)
_PYTHON_DICT = re.compile(rf"[\s\[]*\{{.*'{KEY}'\s*:", re.DOTALL | re.IGNORECASE)
_JSON_OBJECT = re.compile(rf'\s*\{{.*"{KEY}"\s*:', re.DOTALL | re.IGNORECASE)
_JSON_OF_OURS = re.compile(rf'\s*\{{.*"{KEY}"\s*:\s*\{{\s*"(?:{_NAMES})"', re.DOTALL)
_OTHER_NOTATION = re.compile(
    rf"""\b{KEY}\b(?:[^\w\s]|&quot;){{0,3}}\s*[:=,\]]\s*  # the key, as YAML, TOML, JavaScript and Python write it
    (?:\{{|\w{{0,16}}dict\(|["']?(?:{_NAMES})["']?\s*[:=])  # and what is no prose
    |\bmode["']?\s*[:=]\s*["']?dry_run\b""",
    re.IGNORECASE | re.VERBOSE,
)
_WRAPPED = f'inside of {{"{KEY}": {{…}}}}'
_NO_LETTER = re.compile(r"[\W_]+")
LONGEST_NAME = 64
"""Characters of a name that are compared; none of ours has more."""
MAX_GUESSES = 20
"""How many names of an object are compared with ours by likeness."""
LIKE_OUR_KEY, LIKE_A_POLICY, LIKE_AN_INNER_KEY = 0.8, 0.9, 0.75
"""How alike two names have to be, as difflib measures it. The more specific the place, the less is enough."""


def unreadable(text: str) -> str:
    """Say what a text that is no JSON is taken for, if it may be meant for us; empty if it is another's."""
    if f'"{KEY}"' in text or (text.lstrip().startswith("{") and f'"{KEY}"' in text.lower()):
        return UNREADABLE
    if _PYTHON_DICT.match(text):
        return "is the text of a Python dict, and has to be JSON, such as json.dumps makes"
    return UNREADABLE if _OTHER_NOTATION.search(text) else ""


def misplaced(layer: Layer, document: Any, options: Mapping[str, Collection[str]]) -> Iterator[Problem]:
    """Yield what belongs under our key, at the top of a shared document or one level down.

    `options` has the names of each policy's options, and none for a plugin that isn't loaded.
    """
    if isinstance(document, str) and _JSON_OBJECT.match(document):
        yield Problem(layer.name, "$", "is JSON encoded twice: must be an object, not a string that contains one")
    policies = {_folded(policy): policy for policy in options}
    if isinstance(document, Mapping):
        for key, value in document.items():
            if right := _right(key, value, policies, options):
                yield Problem(layer.name, at("$", key, brief=True), right)
        if KEY not in document:
            yield from _astray(layer, document.items())
    elif isinstance(document, list):
        yield from _astray(layer, enumerate(document))


def _astray(layer: Layer, entries: Iterable[tuple[Any, Any]]) -> Iterator[Problem]:
    """Yield where our key is misspelled, or one level too deep, in a document that doesn't have it."""
    for step, value in entries:
        if isinstance(step, str) and _configures(value) and _is_like_our_key(_folded(step)):
            yield Problem(layer.name, at("$", step, brief=True), DID_YOU_MEAN)
        elif isinstance(value, Mapping) and _configures(value.get(KEY)):
            path = at(at("$", step, brief=True), KEY)
            yield Problem(layer.name, path, f"belongs at {ROOT}, at the top of the metadata")
        elif isinstance(value, str) and _JSON_OF_OURS.match(value):
            right = f"is JSON inside of JSON: its “{KEY}” belongs at {ROOT}, as an object"
            yield Problem(layer.name, at("$", step, brief=True), right)


def _right(key: str, value: Any, policies: Mapping[str, str], options: Mapping[str, Collection[str]]) -> str:
    """Say what would be right for an entry at the top; empty if it may be another's. `policies` are by folded name."""
    name = _folded(key)
    if key == KEY:
        return ""
    if key.lower() == KEY:
        return f"is written “{KEY}”, in small letters"
    if name == KEY:
        return DID_YOU_MEAN
    name = name.removeprefix(KEY)
    if name == "dryrun" and (value == 1 or (isinstance(value, str) and _folded(value) == "true")):
        return f'is written "mode": "dry_run", {_WRAPPED}'
    place = _ONLY_OURS.get(name, "")
    if name in policies and _is_policy(value, options[policies[name]]):
        place = at(at(ROOT, "policies"), policies[name])
    elif _is_section(name, value, policies):
        place = at(ROOT, "policies" if name == "policy" else name)
    return place and f"belongs at {place}, {_WRAPPED}"


def _is_policy(value: Any, options: Collection[str]) -> bool:
    """Return True if a value turns a policy off, or has some of its options. What a plugin takes isn't known."""
    return bool(options) and (value is None or value is False or any(name in options for name in _names(value)))


def _is_section(name: str, value: Any, policies: Collection[str]) -> bool:
    """Return True if a value has the shape of the section of this name, and hardly that of something else."""
    if name == "mode":
        return isinstance(value, str) and _folded(value) in ("dryrun", "enforce")
    if name == "avatars":
        # Other applications have avatars too, each with a name; but not with a list of names.
        each = value if isinstance(value, list) else [value]
        return bool(each) and all(map(_is_selector, each))
    texts = [each for each in value if isinstance(each, str)] if isinstance(value, list) else []
    if name in ("policies", "policy"):
        return _alike([*_names(value), *texts], policies, LIKE_A_POLICY)
    if name == "exempt" and texts:
        return len(texts) == len(value)
    return name in _INNER and _alike(_names(value), _INNER[name], LIKE_AN_INNER_KEY)


def _is_selector(value: Any) -> bool:
    known = keys(Selector)
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(key in known and isinstance(inner, list | Mapping) for key, inner in value.items())
    )


def _is_like_our_key(name: str) -> bool:
    return name != KEY and (name.startswith(KEY) or bool(get_close_matches(KEY, [name], cutoff=LIKE_OUR_KEY)))


def _configures(value: Any) -> bool:
    """Return True if it is an object with any of the keys that stand under ours."""
    return isinstance(value, Mapping) and not value.keys().isdisjoint(Bouncer.model_fields)


def _names(value: Any) -> Iterator[str]:
    """Yield the keys of an object, or of those in a list."""
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, Mapping):
            yield from each


def _alike(names: Iterable[str], known: Collection[str], cutoff: float) -> bool:
    """Return True if one of the names is among the known ones, which are folded, or is hardly different."""
    folded = [*map(_folded, names)]
    return not set(folded).isdisjoint(known) or any(
        get_close_matches(name, known, cutoff=cutoff) for name in folded[:MAX_GUESSES]
    )


def _folded(name: str) -> str:
    """Return a name without that in which slips of the pen differ: case, width, and all but letters and digits."""
    return _NO_LETTER.sub("", normalize("NFKC", name[:LONGEST_NAME]).casefold())


def elsewhere(path: str, policies: Collection[str], options: Mapping[str, str]) -> Mapping[str, str]:
    """Return, for keys that may have slipped to another level, where they belong.

    `options` has a policy for each option.
    """
    ours = {key: f"it belongs at {at(ROOT, key)}" for key in keys(Bouncer)}
    inner = {
        key: f"it belongs at {at(at(ROOT, outer), key)}"
        for outer, model in (("exempt", Exempt), ("people", PeopleSection), ("eviction", EvictionSection))
        for key in keys(model)
    }
    given = at(ROOT, "policies")
    of_policies = {
        option: f"it belongs to a policy, such as {at(at(given, policy), option)}" for option, policy in options.items()
    }
    if path == ROOT:
        each = {policy: f"it belongs at {at(given, policy)}" for policy in policies}
        slips = {
            "dry_run": 'write "mode": "dry_run"',
            KEY: f"what is in it belongs at {ROOT}, since one “{KEY}” is enough",
        }
        return {**of_policies, **inner, **each, **slips}
    return {**of_policies, **inner, **ours} if path == given else ours


def keys(model: type[Any]) -> list[str]:
    """Return the keys of a model as JSON has them."""
    return [info.alias or name for name, info in model.model_fields.items()]


_INNER = {
    "exempt": [*map(_folded, keys(Exempt))],
    "eviction": [*map(_folded, keys(EvictionSection))],
    "people": [*map(_folded, keys(PeopleSection))],
    "hearing": ["ignoretracks"],
}
"""The folded keys of the sections that tell them from those of other applications."""
_ONLY_OURS = {_folded(key): at(at(ROOT, "eviction"), key) for key in keys(EvictionSection)} | {
    "leaveafter": at(ROOT, "leave_after")
}
"""The folded keys that no other application has, and where they belong."""
