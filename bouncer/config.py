"""Configuration: the layers of JSON in, a `Config` out, or one error that lists everything that is wrong.

The outer shape is `{"bouncer": {…}}` in every layer; layers combine as JSON Merge Patch (RFC 7396). Each layer has to
be valid alone, then the whole. Nothing is coerced and nothing unknown is let through: a configuration that can be
misread would evict the wrong one.
"""

import ast
import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from difflib import get_close_matches
from functools import lru_cache
from itertools import pairwise
from textwrap import dedent
from typing import Annotated, Any, Literal, cast, get_type_hints

from annotated_types import Ge, Le
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic_core import ErrorDetails

from bouncer.decide import Guards
from bouncer.policy import Action, Count, Globs, Policy, Rule, Seconds

KEY = "bouncer"
MAX_SIZE = 64 * 1024
"""Characters of JSON that the value of our key may take. LiveKit's own limit on the whole metadata is 512 KiB."""
MAX_RULES = 16
"""How often one policy may be applied in one room; each costs an evaluation."""
MAX_PROBLEMS = 50
"""How many complaints about one layer are worded; a configuration with more needs no more to be refused."""
MAX_SHOWN = 64
"""Characters of a wrong value that an error shows."""
MAX_DIGITS = 400
"""Digits of a number beyond which it is read as infinite; no float has more than 309 before the point."""

Mode = Literal["enforce", "dry_run", "off"]
Hearing = Literal["auto", "off", "level"]

_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True, use_attribute_docstrings=True)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where, and what would be right."""

    layer: str
    """Which layer it stands in: `room metadata`, `BOUNCER_CONFIG`, …"""
    path: str
    """JSON path, such as `$.bouncer.policies.idle_timeout.timeout`."""
    message: str

    def __str__(self) -> str:
        return f"{self.layer}: {self.path}: {self.message}"


class ConfigError(ValueError):
    """A configuration that was refused. `problems` has everything that is wrong with it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Layer:
    """One source of configuration: its name for error messages, and its text as it was found."""

    name: str
    text: str
    shared: bool = False
    """Whether other applications may write there too, so that text without our key is no error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What a room is guarded by."""

    mode: Mode = "enforce"
    rules: tuple[Rule, ...] = ()
    guards: Guards = field(default_factory=Guards)
    reconcile: float = 15.0
    announce: bool = True
    leave_within: float = 3.5
    hearing: Literal["off", "level"] = "off"
    """What is listened to: "auto" is resolved by what the rules need."""
    effective: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """The merged JSON it was made from, with every default filled in: what is logged and compared."""


BUILT_IN = Layer("built-in defaults", json.dumps({KEY: {"mode": "enforce", "policies": {"duplicates": {}}}}))


class _Exempt(BaseModel):
    model_config = _STRICT

    identity: Globs = ()
    """Globs on identities that are never evicted."""
    agent_name: Globs = ()
    """Globs on agent names that are never evicted."""


class _Eviction(BaseModel):
    model_config = _STRICT

    leave_within: Seconds = 3.5
    """Seconds that an agent has to leave by itself, where it is asked to by deleting its dispatch."""
    max_per_minute: Count = 10
    """How many removals a room may see in any minute."""
    keep_last_agent: bool = False
    """Whether the last agent stays while a human is in the room."""


class _Common(BaseModel):
    """The options that every policy takes."""

    model_config = _STRICT

    action: Action = "evict"
    """`evict`, or `report` to only tell the log and the room."""
    notice: Seconds = 0
    """Seconds before due at which the room is told; 0 tells nobody."""
    only: Globs | None = None
    """Globs on the agent name: whom the policy judges, not whom it sees."""


def load(layers: Sequence[Layer], registry: Sequence[type[Policy]]) -> Config:
    """Combine the layers, lowest first, into what is in force.

    Raises: ConfigError with every problem of every layer, or of the whole if each is valid alone.
    """
    problems: list[Problem] = []
    merged: dict[str, Any] = {}
    for layer in (BUILT_IN, *layers):
        try:
            patch = _read(layer)
            problems += _validate(layer.name, _without_nulls(patch), registry)[1]
            merged = _merge_patch(merged, patch)
        except ConfigError as error:
            problems += error.problems
        except RecursionError:
            problems.append(Problem(layer.name, f"$.{KEY}", "is nested too deeply"))
    if not problems:
        config, problems = _validate("the layers combined", merged, registry)
        if config:
            return config
    raise ConfigError(problems)


def _read(layer: Layer) -> dict[str, Any]:
    """The value of our key in a layer's text, as JSON; empty where it has none.

    Raises: ConfigError if it has one that can't be read as an unambiguous object.
    """
    if not layer.text.strip():
        return {}

    def refuse(path: str, message: str) -> ConfigError:
        return ConfigError([Problem(layer.name, path, message)])

    try:
        document = json.loads(layer.text, object_pairs_hook=_Object, parse_int=_int, parse_float=_float)
    except (ValueError, RecursionError) as error:
        if layer.shared and f'"{KEY}"' not in layer.text:
            return {}
        what = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise refuse("$", f"must be JSON, but it can't be read: {what}") from None
    if not isinstance(document, _Object) or KEY not in document:
        if layer.shared:
            return {}
        raise refuse("$", f'must be an object of the shape {{"{KEY}": {{…}}}}')
    if not layer.shared and len(document) > 1:
        others = ", ".join(f"“{_shown(key)}”" for key in sorted(document) if key != KEY)
        raise refuse("$", f"only “{KEY}” may stand here, not {others}")
    value = document[KEY]
    if KEY in document.repeated:
        raise refuse(f"$.{KEY}", "stands here more than once; which one is meant?")
    if not isinstance(value, _Object):
        raise refuse(f"$.{KEY}", 'must be an object; to do nothing in a room, use {"mode": "off"}')
    if (size := len(json.dumps(value))) > MAX_SIZE:
        raise refuse(f"$.{KEY}", f"may take at most {MAX_SIZE} characters of JSON, but takes {size}")
    if repeated := list(_repeated(value, f"$.{KEY}")):
        raise ConfigError(
            [Problem(layer.name, path, "stands here more than once; which one is meant?") for path in repeated]
        )
    return value


class _Object(dict[str, Any]):
    """A JSON object that remembers which of its keys the text repeats."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.repeated = (
            () if len(self) == len(pairs) else tuple(key for key in self if sum(key == other for other, _ in pairs) > 1)
        )


def _int(text: str) -> int | float:
    return int(text) if len(text) <= MAX_DIGITS else float("inf")


def _float(text: str) -> float:
    return float(text) if len(text) <= 2 * MAX_DIGITS else float("inf")


def _repeated(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, _Object):
        yield from (_join(path, key) for key in value.repeated)
        for key, inner in value.items():
            yield from _repeated(inner, _join(path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _repeated(inner, f"{path}[{index}]")


def _merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396: objects merge, null removes, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge_patch(merged.get(key), value)
    return merged


def _without_nulls(value: Any) -> Any:
    """What a layer says when it stands alone: a null removes nothing there."""
    return _merge_patch({}, value)


@lru_cache(maxsize=8)
def _models(registry: tuple[type[Policy], ...]) -> tuple[type[BaseModel], Mapping[str, type[BaseModel]]]:
    """The schema of everything under our key, and of each policy's options, for these policies."""
    options = {policy.name: options_model(policy) for policy in registry}
    per_policy = {
        name: (Annotated[Any, Field(description=inspect.cleandoc(policy.__doc__ or ""))], None)
        for name, policy in zip(options, registry, strict=True)
    }
    policies = create_model("Policies", __config__=_STRICT, **per_policy)  # type: ignore[call-overload]
    whole = create_model(
        "Bouncer",
        __config__=_STRICT,
        mode=(Mode, "enforce"),
        exempt=(_Exempt, _Exempt()),
        policies=(policies, policies()),
        eviction=(_Eviction, _Eviction()),
        hearing=(Hearing, "auto"),
        reconcile=(Annotated[float, Ge(1), Le(3600)], 15.0),
        announce=(bool, True),
    )
    return whole, options


def options_model(policy: type[Policy]) -> type[BaseModel]:
    """The schema of one policy's options: its own fields, then those that every policy takes."""
    hints = get_type_hints(policy, include_extras=True)
    docs = option_docs(policy)
    own: dict[str, Any] = {}
    for option in fields(policy):  # type: ignore[arg-type]
        default = option.default if option.default_factory is MISSING else option.default_factory()
        required = default is MISSING
        own[option.name] = (
            Annotated[hints[option.name], Field(description=docs.get(option.name, ""))],
            ... if required else default,
        )
    default_action = getattr(policy, "default_action", "evict")
    own["action"] = (Annotated[Action, Field(description=_Common.model_fields["action"].description)], default_action)
    return create_model(policy.__name__, __base__=_Common, __doc__=policy.__doc__, **own)


def option_docs(policy: type) -> Mapping[str, str]:
    """The string under each field of a policy."""
    body = next(
        node.body for node in ast.parse(dedent(inspect.getsource(policy))).body if isinstance(node, ast.ClassDef)
    )
    docs: dict[str, str] = {}
    for statement, following in pairwise(body):
        match statement, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                docs[name] = inspect.cleandoc(text)
            case _:
                pass
    return docs


def _validate(
    layer: str, value: Mapping[str, Any], registry: Sequence[type[Policy]]
) -> tuple[Config | None, list[Problem]]:
    """A Config from the value of our key, or all that is wrong with it."""
    whole_model, option_models = _models(tuple(registry))
    problems: list[Problem] = []
    whole: Any = None
    try:
        whole = whole_model.model_validate(_frozen(value))
    except ValidationError as error:
        problems += _problems(layer, f"$.{KEY}", error, whole_model)

    given = value.get("policies")
    rules: list[Rule] = []
    effective: dict[str, Any] = {}
    for policy in registry:
        if not isinstance(given, Mapping) or policy.name not in given:
            continue
        options = given[policy.name]
        path = f"$.{KEY}.policies.{policy.name}"
        is_list = isinstance(options, list)
        if is_list and len(options) > MAX_RULES:
            problems.append(Problem(layer, path, f"must have at most {MAX_RULES} entries, not {len(options)}"))
            continue
        shown = []
        for index, each in enumerate(options if is_list else [options]):
            rule, dumped, wrong = _rule(
                layer, f"{path}[{index}]" if is_list else path, policy, option_models[policy.name], index, each
            )
            problems += wrong
            shown.append(dumped)
            if rule:
                rules.append(rule)
            if getattr(policy, "hearing", "unused") == "needed" and value.get("hearing") == "off":
                problems.append(
                    Problem(layer, path, 'can\'t work with "hearing": "off", since it goes by what is heard')
                )
        effective[policy.name] = shown if is_list else shown[0]
    if problems:
        return None, problems
    return (
        Config(
            mode=whole.mode,
            rules=tuple(rules),
            guards=Guards(
                exempt_identities=whole.exempt.identity,
                exempt_agent_names=whole.exempt.agent_name,
                max_per_minute=whole.eviction.max_per_minute,
                keep_last_agent=whole.eviction.keep_last_agent,
            ),
            leave_within=whole.eviction.leave_within,
            reconcile=whole.reconcile,
            announce=whole.announce,
            hearing=_hearing(whole.hearing, rules),
            effective={**whole.model_dump(mode="json"), "policies": effective},
        ),
        [],
    )


def _hearing(asked: Hearing, rules: Sequence[Rule]) -> Literal["off", "level"]:
    if asked == "auto":
        return "level" if any(getattr(rule.policy, "hearing", "unused") != "unused" for rule in rules) else "off"
    return asked


def _rule(
    layer: str, path: str, policy: type[Policy], model: type[BaseModel], index: int, options: Any
) -> tuple[Rule | None, dict[str, Any], list[Problem]]:
    if not isinstance(options, Mapping):
        return None, {}, [Problem(layer, path, "must be an object with options, or a list of such objects")]
    try:
        validated = model.model_validate(_frozen(options))
    except ValidationError as error:
        return None, {}, _problems(layer, path, error, model)
    values = {name: getattr(validated, name) for name in model.model_fields}
    common = {name: values.pop(name) for name in _Common.model_fields}
    try:
        instance = policy(**values)
    except ValueError as error:
        return None, {}, [Problem(layer, path, str(error))]
    return Rule(policy=instance, index=index, **common), validated.model_dump(mode="json"), []


def _frozen(value: Any) -> Any:
    """The same JSON with tuples for lists, which is how the strict schema wants them."""
    if isinstance(value, Mapping):
        return {key: _frozen(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return tuple(_frozen(inner) for inner in value)
    return value


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
    "greater_than_equal": "must be at least {ge:g}",
    "less_than_equal": "must be at most {le:g}",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "literal_error": "must be {expected}",
}


def _problems(layer: str, path: str, error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Pydantic's complaints in our words."""
    problems = [_problem(layer, path, details, model) for details in error.errors()[:MAX_PROBLEMS]]
    if error.error_count() > MAX_PROBLEMS:
        problems.append(Problem(layer, path, f"has {error.error_count() - MAX_PROBLEMS} more problems"))
    return problems


def _problem(layer: str, path: str, details: ErrorDetails, model: type[BaseModel]) -> Problem:
    location = details["loc"]
    for step in location:
        if step == "[key]":  # pydantic's way of saying that the name itself is wrong
            continue
        path = f"{path}[{step}]" if isinstance(step, int) else _join(path, step)
    if details["type"] == "extra_forbidden":
        return Problem(layer, path, _unknown(str(location[-1]), _known(model, location[:-1])))
    words = _WORDS.get(details["type"])
    message = words.format(**details.get("ctx", {})) if words else details["msg"]
    return Problem(
        layer, path, f"{message}, not {_shown(details['input'])}" if details["type"] != "missing" else message
    )


def _known(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """The names that may stand at a location of the schema."""
    for step in location:
        model = cast("type[BaseModel]", model.model_fields[str(step)].annotation)
    return list(model.model_fields)


def _unknown(name: str, known: Sequence[str]) -> str:
    close = get_close_matches(name[:MAX_SHOWN], known, n=1)
    meant = f"; did you mean “{close[0]}”?" if close else ""
    return f"is unknown here{meant} (known: {', '.join(known)})"


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if key.isidentifier() and len(key) <= MAX_SHOWN else f"{path}[{_shown(key)}]"


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]} …"
