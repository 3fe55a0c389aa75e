"""The pages of the policies, in Markdown, made from their docstrings and options; and the section that has them all."""

import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter

from bouncer.config import KEY, CommonOptions
from bouncer.policy import Glob, Policy, Seconds
from bouncer.schema import Schema, example, model_schema, options_schema, own_options, summary

BEGIN = "<!-- policies:begin -->"
END = "<!-- policies:end -->"
WIDTH = 118
"""Characters of JSON that stand on one line."""

_WORDS = {
    "boolean": "`true` or `false`",
    "integer": "whole number",
    "number": "number",
    "object": "object",
    "string": "text",
}
_GLOB = TypeAdapter(Glob).json_schema()
_SECONDS = TypeAdapter(Seconds).json_schema()


def renewed(text: str, registry: Sequence[type[Policy]]) -> str:
    """A text, such as the README, with the section between the marks as it has to be.

    Raises: ValueError if there are no such marks.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"there has to be a line {BEGIN} and, after it, a line {END}")
    note = "<!-- Written by `make docs`, from the policies themselves. -->"
    return f"{before}{BEGIN}\n{note}\n\n{section(registry)}\n{END}{after}"


def section(registry: Sequence[type[Policy]]) -> str:
    """All policies at a glance, the options that every one of them takes, and then page after page."""
    names = [f"| [`{policy.name}`](#{policy.name}) | {_cell(summary(policy))} |" for policy in registry]
    return "\n".join(
        [
            "| policy | who has to leave |",
            "|---|---|",
            *names,
            "",
            common(),
            *(page(policy) for policy in registry),
        ]
    )


def common() -> str:
    """The options that every policy takes."""
    table = _table(model_schema(CommonOptions)["properties"], required=())
    return "\n".join(["Every policy takes these options beside its own:", "", *table, ""])


def page(policy: type[Policy], heading: str = "###") -> str:
    """What there is to know about one policy: what it does, its own options, and how it is configured."""
    return "\n".join([f"{heading} `{policy.name}`", "", *_body(policy), ""])


def _body(policy: type[Policy]) -> Iterator[str]:
    yield inspect.cleandoc(policy.__doc__ or "")
    yield ""
    if getattr(policy, "may_clear_room", False):
        yield "It evicts the last agent of a room too, also under `keep_last_agent`."
        yield ""
    options = options_schema(policy)
    shown = dict(own_options(policy))
    action = options["properties"]["action"]
    if action["default"] != CommonOptions.model_fields["action"].default:
        shown["action"] = action
    yield from _table(shown, required=options.get("required", ()))
    yield ""
    yield "```json"
    yield _json({KEY: {"policies": {policy.name: example(policy)}}})
    yield "```"


def _table(options: Mapping[str, Schema], required: Sequence[str]) -> Iterator[str]:
    yield "| option | takes | default | meaning |"
    yield "|---|---|---|---|"
    for name, option in options.items():
        default = "required" if name in required else f"`{_cell(json.dumps(option['default'], ensure_ascii=False))}`"
        yield f"| `{name}` | {_cell(takes(option))} | {default} | {_cell(option.get('description', ''))} |"


def takes(option: Schema) -> str:
    """In a few words what values an option takes."""
    match option:
        case {"anyOf": [*options]}:
            words = " or ".join(takes(each) for each in options if each != {"type": "null"})
        case {"enum": [*allowed]}:
            words = " or ".join(f"`{json.dumps(value)}`" for value in allowed)
        case _ if option.items() >= _GLOB.items():
            words = "glob"
        case _ if option.items() >= _SECONDS.items():
            words = "seconds, more than 0" if "exclusiveMinimum" in option else "seconds"
        case {"type": "array", "items": items}:
            words = f"list of {_several(items)}"
        case {"type": "object", "additionalProperties": dict(each), "propertyNames": {"enum": [*names]}}:
            words = f"object of {_several(each)} for {', '.join(f'`{name}`' for name in names)}"
        case {"type": "object", "additionalProperties": dict(each)}:
            words = f"object of {_several(each)}"
        case _:
            words = _WORDS.get(option.get("type", ""), "any JSON") + _range(option)
    return words


def _range(option: Schema) -> str:
    match option:
        case {"minimum": least, "maximum": most}:
            return f" from {least} to {most}"
        case {"minimum": least}:
            return f" from {least}"
        case {"maximum": most}:
            return f" up to {most}"
        case _:
            return ""


def _several(items: Schema) -> str:
    return re.sub(r"^(glob|text|list|object|number|whole number)\b", r"\1s", takes(items))


def _json(value: Any) -> str:
    line = json.dumps(value, ensure_ascii=False)
    return line if len(line) <= WIDTH else json.dumps(value, ensure_ascii=False, indent=2)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
