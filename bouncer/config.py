"""Configuration: the layers of JSON in, a `Config` out, or one error that lists everything that is wrong.

The outer shape is `{"bouncer": {…}}` in every layer; layers combine as JSON Merge Patch (RFC 7396). Each layer has to
be valid alone, then the whole. Nothing is coerced and nothing unknown is let through: a configuration that can be
misread would evict the wrong one.
"""

import ast
import inspect
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from difflib import get_close_matches
from functools import cache
from itertools import islice, pairwise
from textwrap import dedent
from types import MappingProxyType
from typing import Annotated, Any, Literal, cast, get_type_hints

from annotated_types import Ge, Le
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic_core import ErrorDetails

from bouncer.decide import Guards
from bouncer.effective import origins, signed
from bouncer.policy import Action, Count, Globs, Policy, Rule, Seconds

KEY = "bouncer"
MAX_SIZE = 64 * 1024
"""Characters of JSON that the value of our key may take. LiveKit's own limit on the whole metadata is 512 KiB."""
MAX_RULES = 16
"""How often one policy may be applied in one room; each costs an evaluation."""
MAX_PROBLEMS = 50
"""How many complaints about one layer are worded; a configuration with more needs no more to be refused."""
MAX_LISTED = 10
"""How many names of one kind an error lists."""
MAX_PATH = 256
"""Characters of a JSON path from which on it is not followed any deeper."""
MAX_SHOWN = 64
"""Characters of a wrong value that an error shows."""
MAX_DIGITS = 400
"""Digits of a number beyond which it is read as infinite; no float has more than 309 before the point."""

Others = Mapping[str, Callable[[], type[Policy]]]
"""Policies by name that are not looked at before a configuration names them; a ValueError says why one is unusable."""
NO_OTHERS: Others = MappingProxyType({})
Mode = Literal["enforce", "dry_run", "off"]
Hearing = Literal["auto", "off", "level", "speech"]

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
    hearing: Literal["off", "level", "speech"] = "off"
    """What is listened to: "auto" is resolved by what the rules need."""
    effective: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """The merged JSON it was made from, with every default filled in: what is logged and compared."""
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """Where each value of `effective` came from: JSON path to the name of a layer."""


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


class Bouncer(BaseModel):
    """What stands under our key. All of it is optional."""

    model_config = _STRICT

    mode: Mode = "enforce"
    """`enforce`; `dry_run` to do everything but the removal; or `off` to stay, and do nothing."""
    exempt: _Exempt = _Exempt()
    """Who is never evicted. They count as agents that are present."""
    policies: Any = None
    """Which agents have to leave; each policy by its name, with its options."""
    eviction: _Eviction = _Eviction()
    """How agents are evicted, and the limits of it."""
    hearing: Hearing = "auto"
    """`level` goes by the loudness of the tracks, `speech` by whether it is somebody speaking, `off` by what agents say
    about themselves; `auto` is `level` if a policy of this room needs it."""
    reconcile: Annotated[float, Ge(1), Le(3600)] = 15.0
    """Seconds between two looks at the server's list of participants."""
    announce: bool = True
    """Whether the room is told what is done, on the data topic `bouncer`."""


class CommonOptions(BaseModel):
    """The options that every policy takes."""

    model_config = _STRICT

    action: Action = "evict"
    """`evict`, or `report` to only tell the log and the room."""
    notice: Seconds = 0
    """Seconds before due at which the room is told; 0 tells nobody. Who is due at once, say by a new configuration,
    leaves without."""
    only: Globs | None = None
    """Globs on the agent name: whom the policy judges, not whom it sees."""


def load(layers: Sequence[Layer], registry: Sequence[type[Policy]], others: Others = NO_OTHERS) -> Config:
    """Combine the layers, lowest first, into what is in force.

    The policies of the registry come first, in its order; then those of the others that are named, alphabetically.

    Raises: ConfigError with every problem of every layer, or of the whole if each is valid alone.
    """
    problems: list[Problem] = []
    policies: dict[str, type[Policy] | None] = {policy.name: policy for policy in registry}
    policies |= dict.fromkeys(sorted(others.keys() - policies.keys()))
    merged: dict[str, Any] = {}
    signatures: dict[Any, Any] = {}
    for layer in (BUILT_IN, *layers):
        try:
            patch = _read(layer)
            if patch is None:
                continue
            problems += _find(layer.name, patch, policies, others)
            problems += _null_names(layer.name, patch, policies)
            problems += _validate(layer.name, _without_nulls(patch), policies)[1]
            merged = _merge_patch(merged, patch)
            signatures = _merge_patch(signatures, signed(patch, layer.name))
        except ConfigError as error:
            problems += error.problems
        except RecursionError:
            problems.append(Problem(layer.name, f"$.{KEY}", "is nested too deeply"))
    if not problems:
        config, problems = _validate("the layers combined", merged, policies)
        if config:
            return replace(config, origins=dict(origins(config.effective, signatures, BUILT_IN.name)))
    raise ConfigError(problems)


def configures(layer: Layer) -> bool:
    """Whether a layer has our key.

    Raises: ConfigError if it can't be read.
    """
    return _read(layer) is not None


def _find(
    layer: str, patch: Mapping[str, Any], policies: dict[str, type[Policy] | None], others: Others
) -> list[Problem]:
    """Fill in those of the other policies that a layer names; the problems with those that can't be used."""
    given = patch.get("policies")
    problems: list[Problem] = []
    for name in given if isinstance(given, Mapping) else ():
        if name in policies and policies[name] is None:
            try:
                policies[name] = others[name]()
            except ValueError as error:
                problems.append(Problem(layer, _join(f"$.{KEY}.policies", name), str(error)))
    return problems


def _null_names(layer: str, patch: Mapping[str, Any], policies: Mapping[str, type[Policy] | None]) -> Iterator[Problem]:
    """What a layer means to remove under a name that doesn't exist: it would stay in force."""
    path = f"$.{KEY}"
    places: list[tuple[str, Any, Sequence[str]]] = [
        (path, patch, list(Bouncer.model_fields)),
        (f"{path}.exempt", patch.get("exempt"), list(_Exempt.model_fields)),
        (f"{path}.eviction", patch.get("eviction"), list(_Eviction.model_fields)),
        (f"{path}.policies", given := patch.get("policies"), list(policies)),
    ]
    for name, options in given.items() if isinstance(given, Mapping) else ():
        if policy := policies.get(name):
            places.append((_join(f"{path}.policies", name), options, list(options_model(policy).model_fields)))
    for place, value, known in places:
        if isinstance(value, Mapping):
            names = [name for name, inner in value.items() if inner is None and name not in known]
            yield from _unknown_names(layer, place, names, known)


def _read(layer: Layer) -> dict[str, Any] | None:
    """The value of our key in a layer's text, as JSON; None where the layer has no such key, and needs none.

    Raises: ConfigError if it has one that can't be read as an unambiguous object.
    """
    if not layer.text.strip():
        return None

    def refuse(path: str, message: str) -> ConfigError:
        return ConfigError([Problem(layer.name, path, message)])

    try:
        document = json.loads(layer.text, object_pairs_hook=_Object, parse_int=_int, parse_float=_float)
    except (ValueError, RecursionError) as error:
        if layer.shared and f'"{KEY}"' not in layer.text:
            return None
        what = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise refuse("$", f"must be JSON, but it can't be read: {what}") from None
    if not isinstance(document, _Object) or KEY not in document:
        if layer.shared:
            return None
        raise refuse("$", f'must be an object of the shape {{"{KEY}": {{…}}}}')
    if not layer.shared and document.keys() - {KEY, "$schema"}:
        others = [_shown(key) for key in sorted(document.keys() - {KEY, "$schema"})]
        more = f" and {len(others) - MAX_LISTED} more" if len(others) > MAX_LISTED else ""
        raise refuse("$", f"only “{KEY}” may stand here, not {', '.join(others[:MAX_LISTED])}{more}")
    value = document[KEY]
    if KEY in document.repeated:
        raise refuse(f"$.{KEY}", "stands here more than once; which one is meant?")
    if not isinstance(value, _Object):
        raise refuse(f"$.{KEY}", 'must be an object; to do nothing in a room, use {"mode": "off"}')
    if (size := len(json.dumps(value))) > MAX_SIZE:
        raise refuse(f"$.{KEY}", f"may take at most {MAX_SIZE} characters of JSON, but takes {size}")
    if repeated := list(islice(_repeated(value, f"$.{KEY}"), MAX_PROBLEMS)):
        raise ConfigError(
            [Problem(layer.name, path, "stands here more than once; which one is meant?") for path in repeated]
        )
    return value


class _Object(dict[str, Any]):
    """A JSON object that remembers which of its keys the text repeats."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        seen = Counter(key for key, _ in pairs) if len(self) < len(pairs) else Counter[str]()
        self.repeated = tuple(key for key, times in seen.items() if times > 1)


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


@cache
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
    common: dict[str, Any] = {name: (info.annotation, info) for name, info in CommonOptions.model_fields.items()}
    action = Field(description=CommonOptions.model_fields["action"].description)
    common["action"] = (Annotated[Action, action], getattr(policy, "default_action", "evict"))
    return create_model(policy.__name__, __config__=_STRICT, __doc__=policy.__doc__, **own, **common)


def option_docs(policy: type) -> Mapping[str, str]:
    """The string under each field of a policy; none of them where its source is not at hand."""
    try:
        source = inspect.getsource(policy)
    except OSError:
        return {}
    body = next(node.body for node in ast.parse(dedent(source)).body if isinstance(node, ast.ClassDef))
    docs: dict[str, str] = {}
    for statement, following in pairwise(body):
        match statement, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                docs[name] = inspect.cleandoc(text)
            case _:
                pass
    return docs


def _validate(
    layer: str, value: Mapping[str, Any], policies: Mapping[str, type[Policy] | None]
) -> tuple[Config | None, list[Problem]]:
    """A Config from the value of our key, or all that is wrong with it.

    Nothing is said about a policy that is None: what is wrong with it has been said.
    """
    problems: list[Problem] = []
    whole: Any = None
    try:
        whole = Bouncer.model_validate(_frozen(value))
    except ValidationError as error:
        problems += _problems(layer, f"$.{KEY}", error, Bouncer)

    given = value.get("policies", {})
    if not isinstance(given, Mapping):
        problems.append(Problem(layer, f"$.{KEY}.policies", f"must be an object, not {_shown(given)}"))
        given = {}
    problems += _unknown_names(
        layer, f"$.{KEY}.policies", [name for name in given if name not in policies], [*policies]
    )
    rules: list[Rule] = []
    shown_policies: dict[str, Any] = {}
    for name, policy in policies.items():
        if policy is None or name not in given:
            continue
        options = given[name]
        path = _join(f"$.{KEY}.policies", name)
        is_list = isinstance(options, list)
        if is_list and len(options) > MAX_RULES:
            problems.append(Problem(layer, path, f"must have at most {MAX_RULES} entries, not {len(options)}"))
            continue
        shown = []
        for index, each in enumerate(options if is_list else [options]):
            rule, dumped, wrong = _rule(layer, f"{path}[{index}]" if is_list else path, policy, index, each)
            problems += wrong
            shown.append(dumped)
            if rule:
                rules.append(rule)
            if getattr(policy, "hearing", "unused") == "needed" and value.get("hearing") == "off":
                problems.append(
                    Problem(layer, path, 'can\'t work with "hearing": "off", since it goes by what is heard')
                )
        shown_policies[name] = shown if is_list else shown[0]
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
            effective={**whole.model_dump(mode="json"), "policies": shown_policies},
        ),
        [],
    )


def _hearing(asked: Hearing, rules: Sequence[Rule]) -> Literal["off", "level", "speech"]:
    if asked == "auto":
        return "level" if any(getattr(rule.policy, "hearing", "unused") != "unused" for rule in rules) else "off"
    return asked


def _rule(
    layer: str, path: str, policy: type[Policy], index: int, options: Any
) -> tuple[Rule | None, dict[str, Any], list[Problem]]:
    if not isinstance(options, Mapping):
        return None, {}, [Problem(layer, path, "must be an object with options, or a list of such objects")]
    model = options_model(policy)
    try:
        validated = model.model_validate(_frozen(options))
    except ValidationError as error:
        return None, {}, _problems(layer, path, error, model)
    values = {name: getattr(validated, name) for name in model.model_fields}
    common = {name: values.pop(name) for name in CommonOptions.model_fields}
    try:
        instance = policy(**values)
    except Exception as error:  # noqa: BLE001 - a policy of another package may raise anything, and must end nothing
        wrong = str(error) if isinstance(error, ValueError) else f"its policy raised {type(error).__name__}: {error}"
        return None, {}, [Problem(layer, path, wrong)]
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
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have {min_length} or more entries",
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
    message = words.format(**_plain(details.get("ctx", {}))) if words else details["msg"]
    return Problem(
        layer, path, f"{message}, not {_shown(details['input'])}" if details["type"] != "missing" else message
    )


def _known(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """The names that may stand at a location of the schema."""
    for step in location:
        model = cast("type[BaseModel]", model.model_fields[str(step)].annotation)
    return list(model.model_fields)


def _unknown_names(layer: str, path: str, names: Sequence[str], known: Sequence[str]) -> list[Problem]:
    problems = [Problem(layer, _join(path, name), _unknown(name, known)) for name in names[:MAX_PROBLEMS]]
    if len(names) > MAX_PROBLEMS:
        problems.append(Problem(layer, path, f"has {len(names) - MAX_PROBLEMS} more problems"))
    return problems


def _unknown(name: str, known: Sequence[str]) -> str:
    close = get_close_matches(name[:MAX_SHOWN], known, n=1)
    meant = f"; did you mean “{close[0]}”?" if close else ""
    return f"is unknown here{meant} (known: {', '.join(known)})"


def _join(path: str, key: str) -> str:
    if len(path) > MAX_PATH:
        return path if path.endswith("…") else f"{path}…"
    return f"{path}.{key}" if key.isidentifier() and len(key) <= MAX_SHOWN else f"{path}[{_shown(key)}]"


def _plain(context: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same with whole numbers written as such."""
    return {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in context.items()}


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]} …"
