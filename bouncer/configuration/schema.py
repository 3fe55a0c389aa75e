"""The JSON Schema of a configuration, made from the code that reads one, for editors and other tools.

It describes one layer: where a merge patch may take something away, null is allowed. Whatever `load` takes, it takes
too. What it can't say, and only `load` refuses: that a key is repeated, that options contradict each other or the
layers beneath, that all of it is too long, and that a whole number may not be written as 1.0.
"""

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from bouncer.configuration.model import BUILT_IN, KEY, MAX_RULES, Bouncer
from bouncer.configuration.options import options_model, own_keys
from bouncer.policy import Options, Policy

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ID = "urn:livekit-bouncer:configuration"


def schema(registry: Sequence[type[Policy]]) -> Schema:
    """Return the schema of a layer, such as a room's metadata, for these policies."""
    bouncer = layer(model_schema(Bouncer))
    bouncer["properties"]["policies"] = {
        "description": bouncer["properties"]["policies"]["description"],
        "default": json.loads(BUILT_IN.text)[KEY]["policies"],
        "type": ["object", "null"],
        "properties": {policy.name: _value(policy) for policy in registry},
        "additionalProperties": False,
    }
    return {
        "$schema": DIALECT,
        "$id": ID,
        "title": "Bouncer",
        "description": "What configures a bouncer: the metadata of a room or a dispatch, or BOUNCER_CONFIG.",
        "type": "object",
        "properties": {
            "$schema": {"description": "Where an editor finds this schema.", "type": "string"},
            KEY: bouncer,
        },
        "$defs": {
            **{policy.name: _definition(policy) for policy in registry},
            "no_null": {
                "description": "Not null: a list replaces what is beneath, so in it there is nothing to be removed.",
                "not": {"type": "null"},
                "additionalProperties": {"$ref": "#/$defs/no_null"},
            },
        },
    }


def text(registry: Sequence[type[Policy]]) -> str:
    """Return the schema as the text of a file."""
    return json.dumps(schema(registry), indent=2, ensure_ascii=False) + "\n"


def options_schema(policy: type[Policy]) -> Schema:
    """Return the schema of a policy's options as they are validated: null only where it is a value of the option."""
    return model_schema(options_model(policy))


def model_schema(model: type[BaseModel]) -> Schema:
    """Return what a model validates, with the references resolved, and without the titles that pydantic makes up."""
    value = model.model_json_schema()
    definitions = value.get("$defs", {})

    def resolved(node: Any) -> Any:
        if isinstance(node, list):
            return [resolved(inner) for inner in node]
        if isinstance(node, float) and node.is_integer():
            return int(node)
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            node = definitions[node["$ref"].rpartition("/")[2]] | node
        return {key: part(key, inner) for key, inner in node.items() if key not in ("title", "$defs", "$ref")}

    def part(key: str, inner: Any) -> Any:
        if key == "properties":
            return {name: resolved(each) for name, each in inner.items()}
        if key == "description":
            return unwrapped(inner)
        return inner if key == "default" and isinstance(inner, dict) else resolved(inner)

    found: Schema = resolved(value)
    return found


def example(policy: type[Policy]) -> Options:
    """Valid options of a policy, to show: those that it gives itself, or its own ones with their defaults."""
    given: Options | None = getattr(policy, "example", None)
    if given is not None:
        return given
    return {name: option["default"] for name, option in own_options(policy).items() if "default" in option}


def own_options(policy: type[Policy]) -> Mapping[str, Schema]:
    """Return the schemas of those options that not every policy has."""
    own = own_keys(policy)
    return {name: option for name, option in options_schema(policy)["properties"].items() if name in own}


def summary(policy: type[Policy]) -> str:
    """Return the first paragraph of a policy's documentation."""
    return documentation(policy).partition("\n\n")[0]


def documentation(policy: type[Policy]) -> str:
    """Return a policy's documentation, each paragraph on one line."""
    return unwrapped(inspect.cleandoc(policy.__doc__ or ""))


def unwrapped(text: str) -> str:
    """Return the same text with each paragraph on one line; lists and what is indented stay as they are."""
    return re.sub(r"(?<!\n)\n(?!\s|[-*] )", " ", text)


def _definition(policy: type[Policy]) -> Schema:
    """Return a policy's options, without their type: so an object and a list of objects can both refer to it."""
    options = layer(options_schema(policy))
    return {key: options[key] for key in ("properties", "required", "additionalProperties") if key in options}


def _value(policy: type[Policy]) -> Schema:
    """Return what may stand under a policy's name: an object with its options, a list of such objects, or null."""
    this = {"$ref": f"#/$defs/{policy.name}"}
    nullable = {name: True for name, option in options_schema(policy)["properties"].items() if _admits_null(option)}
    entry = {"properties": nullable, "additionalProperties": {"$ref": "#/$defs/no_null"}}
    return {
        "description": documentation(policy),
        "examples": [example(policy)],
        "type": ["object", "array", "null"],
        **this,
        "items": {"type": "object", "allOf": [this, entry]},
        "maxItems": MAX_RULES,
    }


def layer(value: Schema) -> Schema:
    """Return the schema of what a layer may say: null too, at each key of an object that is not required."""
    changed = dict(value)
    required = value.get("required", [])
    for several in ("anyOf", "oneOf"):
        if several in value:
            changed[several] = [layer(each) for each in value[several]]
    if "properties" in value:
        changed["properties"] = {
            name: layer(inner) if name in required else _or_null(layer(inner))
            for name, inner in value["properties"].items()
        }
    if isinstance(value.get("additionalProperties"), dict):
        changed["additionalProperties"] = _or_null(layer(value["additionalProperties"]))
        if value.get("minProperties"):
            # What is taken away doesn't count.
            changed["not"] = {"type": "object", "additionalProperties": {"type": "null"}}
    return changed


def _or_null(value: Schema) -> Schema:
    if _admits_null(value):
        return value
    match value:
        case {"oneOf": [*shapes]}:
            return value | {"oneOf": [*shapes, {"type": "null"}]}
        case {"enum": [*allowed], "type": str(kind)}:
            return value | {"enum": [*allowed, None], "type": [kind, "null"]}
        case {"type": str(kind)} if "const" not in value:
            return value | {"type": [kind, "null"]}
        case _:
            return {"anyOf": [value, {"type": "null"}]}


def _admits_null(value: Schema) -> bool:
    match value:
        case {"type": "null"} | {"const": None}:
            return True
        case {"anyOf": [*options]} | {"oneOf": [*options]}:
            return any(map(_admits_null, options))
        case {"enum": [*allowed]}:
            return None in allowed
        case {"type": _} | {"$ref": _} | {"const": _}:
            return False
        case _:
            return True
