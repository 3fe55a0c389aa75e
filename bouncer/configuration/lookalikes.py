"""What looks like ours and isn't, and where it would be right. Pure.

Metadata is shared with other applications, so text without our key configures nothing. A slip of the pen must not look
like that: the defaults would be in force, and enforce what was meant as a dry run.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from bouncer.configuration.model import KEY, Bouncer, EvictionSection, Exempt, Layer, PeopleSection, Problem
from bouncer.configuration.provenance import ROOT, at

UNREADABLE = "must be JSON, but it can't be read"
_PYTHON_DICT = re.compile(rf"\s*\{{.*'{KEY}'\s*:", re.DOTALL | re.IGNORECASE)
_JSON_OBJECT = re.compile(rf'\s*\{{.*"{KEY}"\s*:', re.DOTALL | re.IGNORECASE)
_WRAPPED = f'inside of {{"{KEY}": {{…}}}}'


def unreadable(text: str) -> str:
    """Say what a text that is no JSON is taken for, if it may be meant for us; empty if it is another's."""
    if f'"{KEY}"' in text or (text.lstrip().startswith("{") and f'"{KEY}"' in text.lower()):
        return UNREADABLE
    if _PYTHON_DICT.match(text):
        return "is the text of a Python dict, and has to be JSON, such as json.dumps makes"
    return ""


def misplaced(layer: Layer, document: Any, policies: Collection[str]) -> Iterator[Problem]:
    """Yield what is at the top of a shared document but belongs under our key."""
    if isinstance(document, str) and _JSON_OBJECT.match(document):
        yield Problem(layer.name, "$", "is JSON encoded twice: must be an object, not a string that contains one")
    for key, value in document.items() if isinstance(document, Mapping) else ():
        ours = {"policies": policies, "exempt": keys(Exempt), "eviction": keys(EvictionSection)}.get(key, ())
        named = isinstance(value, Mapping) and any(name in ours for name in value)
        right = ""
        if key != KEY and key.lower() == KEY:
            right = f"is written “{KEY}”, in small letters"
        elif named or (key == "mode" and value in ("dry_run", "enforce")):
            right = f"belongs at {at(ROOT, key)}, {_WRAPPED}"
        elif key == "dry_run" and value is True:
            right = f'is written "mode": "dry_run", {_WRAPPED}'
        if right:
            yield Problem(layer.name, at("$", key, brief=True), right)


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
        return {**of_policies, **inner, **each, "dry_run": 'write "mode": "dry_run"'}
    return {**of_policies, **inner, **ours} if path == given else ours


def keys(model: type[Any]) -> list[str]:
    """Return the keys of a model as JSON has them."""
    return [info.alias or name for name, info in model.model_fields.items()]
