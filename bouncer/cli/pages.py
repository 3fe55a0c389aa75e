"""The policies' pages in Markdown, generated from their docstrings and options, and the tables that link to them."""

import inspect
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter

from bouncer.configuration.model import KEY, CommonOptions
from bouncer.configuration.schema import Schema, example, model_schema, options_schema, own_options, summary
from bouncer.observers.records import ENVELOPE, EVENTS, FACTS, FIELDS, VERDICT, VERSION
from bouncer.policy import Policy, Seconds
from bouncer.selectors import Glob, Selector

FOLDER = "docs/reference/policies"
"""Where the pages are in a checkout."""
RECORDS = "docs/reference/records.md"
"""The page of what a bouncer says."""
RECORD_SCHEMA = "docs/reference/record.schema.json"
BEGIN = "<!-- policies:begin -->"
END = "<!-- policies:end -->"
NOTE = "<!-- Written by `make docs` from the policies' docstrings and options. -->"
WIDTH = 118
"""The longest JSON, in characters, that goes on one line."""

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
    """Return the text, such as the README, with the current table of policies between its two marks.

    Raises: ValueError if the marks are missing.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"there must be a line {BEGIN} and, after it, a line {END}")
    return f"{before}{BEGIN}\n{NOTE}\n\n{overview(registry, f'{FOLDER}/')}\n{END}{after}"


def documents(registry: Sequence[type[Policy]]) -> dict[str, str]:
    """Return the generated files of `FOLDER` by name: a page for each policy, and the index."""
    pages = {f"{policy.name}.md": f"{NOTE}\n\n{page(policy)}" for policy in registry}
    index = [
        *(NOTE, "", "# Policies", "", overview(registry), common()),
        *("```{toctree}", ":hidden:", "", *(policy.name for policy in registry), "```", ""),
    ]
    return {"index.md": "\n".join(index), **pages}


def overview(registry: Sequence[type[Policy]], folder: str = "") -> str:
    """Return a table of the policies with links to their pages in the folder."""
    rows = [f"| [`{policy.name}`]({folder}{policy.name}.md) | {_cell(summary(policy))} |" for policy in registry]
    return "\n".join(["| policy | what it does |", "|---|---|", *rows, ""])


def common() -> str:
    """Return a table of the options that every policy takes."""
    table = _table(model_schema(CommonOptions)["properties"], required=())
    return "\n".join(["Every policy also takes these options:", "", *table, ""])


def page(policy: type[Policy]) -> str:
    """Return the page of one policy: what it does, its own options, and an example."""
    return "\n".join([f"# `{policy.name}`", "", *_body(policy), ""])


def _body(policy: type[Policy]) -> Iterator[str]:
    yield inspect.cleandoc(policy.__doc__ or "")
    yield ""
    if getattr(policy, "may_clear_room", False):
        yield "It evicts even the last agent of a room, and `keep_last_agent` does not prevent that."
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


def records() -> str:
    """Return the page of the records: the events, their fields, and the facts of a verdict."""
    example = {"v": VERSION, "event": "unguarded", "at": "2026-03-01T09:30:00.125Z", "room": "support-42"}
    example |= {"room_sid": "RM_x7", "mode": "enforce", "seconds": 912.4, "evictions": 1}
    example |= {"agent_seconds_ended_early": 631.2}
    rows = [
        f"| `{event}` | {meaning} | {_cell(_said(always, more))} |" for event, (meaning, always, more) in EVENTS.items()
    ]
    return "\n".join(
        [
            "<!-- Written by `make docs` from bouncer/observers/records.py. -->",
            *("", "# Records", ""),
            "Everything a bouncer says is a record: one JSON object. The log, the messages to the room, the webhook,",
            "metrics and traces all render it. The [JSON Schema](record.schema.json) describes it.",
            *("", "```json", _json(example), "```", ""),
            f"Every record has {_names(ENVELOPE)}. What it says of an agent and a verdict is",
            f"{_names(VERDICT)}. A new field makes no new version, so ignore fields that you don't know.",
            "",
            "Identities and names of rooms are personal data. `reason` and `doubt` have none, unless another package's",
            "policy puts some there.",
            *("", "| event | when | and |", "|---|---|---|", *rows, ""),
            *("## Fields", "", *_meanings(FIELDS), ""),
            *("## `facts`", "", "As they were when the room was judged. Each `*_at` is when something happened, each"),
            *("`*_since` when something began that was still true.", "", *_meanings(FACTS), ""),
            *("## `steps`", "", "An eviction is a ladder, and each attempt takes the steps it needs:", ""),
            "| step | what it is |",
            "|---|---|",
            "| `looked_again` | the server's list is read once more, right before acting |",
            "| `dispatch_ended` | the agent's dispatch is deleted, so that it leaves by itself |",
            "| `removed` | LiveKit is asked to remove it |",
            "| `proven` | it is seen gone. Not `ok` after `dispatch_ended` means that it did not leave in time |",
            "",
        ]
    )


def _said(always: Iterable[str], more: Iterable[str]) -> str:
    """Return the fields of an event, with what is said of every verdict in two words."""
    fields = list(dict.fromkeys((*always, *more)))
    if set(VERDICT) <= set(fields):
        return ", ".join(("a verdict", *(f"`{field}`" for field in fields if field not in VERDICT)))
    return _names(fields)


def _meanings(fields: Mapping[str, Schema]) -> Iterator[str]:
    yield "| field | type | meaning |"
    yield "|---|---|---|"
    for name, field in fields.items():
        kind = "date" if field.get("format") == "date-time" else field.get("type", "number")
        allowed = ", ".join(f"`{value}`" for value in field.get("enum", ()) if value)
        words = f"{field['description']} One of {allowed}." if allowed else field["description"]
        yield f"| `{name}` | {kind} | {_cell(words)} |"


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(options: Mapping[str, Schema], required: Sequence[str]) -> Iterator[str]:
    yield "| option | takes | default | meaning |"
    yield "|---|---|---|---|"
    for name, option in options.items():
        default = "required" if name in required else f"`{_cell(json.dumps(option['default'], ensure_ascii=False))}`"
        yield f"| `{name}` | {_cell(takes(option))} | {default} | {_cell(option.get('description', ''))} |"


def takes(option: Schema) -> str:
    """Return in a few words what values an option takes."""
    match option:
        case {"anyOf": [*options]} | {"oneOf": [*options]}:
            words = " or ".join(takes(each) for each in options if each != {"type": "null"})
        case {"type": "object", "properties": dict(keys)} if keys.keys() == Selector.model_fields.keys():
            words = "selector"
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
    return re.sub(r"^(glob|text|list|object|number|selector|whole number)\b", r"\1s", takes(items))


def _json(value: Any) -> str:
    line = json.dumps(value, ensure_ascii=False)
    return line if len(line) <= WIDTH else json.dumps(value, ensure_ascii=False, indent=2)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
