"""Configuration: the layers of JSON in, a `Config` out, or one error that lists everything that is wrong.

The outer shape is `{"bouncer": {…}}` in every layer; layers combine as JSON Merge Patch (RFC 7396). Each layer has to
be valid alone, then the whole. Nothing is coerced and nothing unknown is let through: a configuration that can be
misread would evict the wrong one.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from bouncer.configuration.lookalikes import UNREADABLE, elsewhere, keys, misplaced, unreadable
from bouncer.configuration.model import (
    BUILT_IN,
    KEY,
    MARK,
    MAX_GLOBS,
    MAX_RULES,
    MAX_SIZE,
    NO_PLUGINS,
    Bouncer,
    CommonOptions,
    Config,
    ConfigError,
    EvictionSection,
    Exempt,
    HearingMode,
    Layer,
    Listening,
    PeopleSection,
    PluginLoaders,
    Problem,
)
from bouncer.configuration.options import options_model, own_keys
from bouncer.configuration.provenance import ROOT, at, origins, sources
from bouncer.configuration.questions import questions
from bouncer.configuration.wording import MAX_PROBLEMS, shown, unknown_names, worded
from bouncer.decide import NO_LIMIT, Guards
from bouncer.policy import Policy, Rule, times_given, times_of
from bouncer.selectors import Selector, compiled, globs_in

MAX_LISTED = 10
"""How many names of one kind an error lists."""
MAX_DIGITS = 400
"""Digits of a number beyond which it is read as infinite; no float has more than 309 before the point."""
REPEATED = "stands here more than once; which one is meant?"
SILENT = f"has no key “{KEY}”, so it configures nothing"
COMBINED = "the layers combined"
"""Where a problem is that no layer has alone."""

Policies = dict[str, type[Policy] | None]
"""The policies by name; None for a plugin that no layer has named yet, or that can't be used."""


def load(layers: Sequence[Layer], registry: Sequence[type[Policy]], plugins: PluginLoaders = NO_PLUGINS) -> Config:
    """Combine the layers, lowest first, into what is in force.

    The policies of the registry come first, in its order; then the plugins that are named, alphabetically.

    Raises: ConfigError with every problem of every layer, or of the whole if each is valid alone.
    """
    problems: list[Problem] = []
    warnings: list[Problem] = []
    silent: list[str] = []
    policies: Policies = {policy.name: policy for policy in registry}
    policies |= dict.fromkeys(sorted(plugins.keys() - policies.keys()))
    merged: dict[str, Any] = {}
    merged_sources: dict[Any, Any] = {}
    for layer in (BUILT_IN, *layers):
        try:
            patch = _read(layer, policies)
            if patch is None:
                silent += [layer.name] if layer.text.strip() else []
                warnings += [Problem(layer.name, "$", SILENT)] if layer.text.strip() and layer.expected else []
                continue
            problems += _find(layer.name, patch, policies, plugins)
            problems += _null_names(layer.name, patch, policies)
            alone, wrong = _validate(layer.name, _without_nulls(patch), policies)
            problems += wrong
            warnings += alone.warnings if alone else ()
            warnings += _dropped(layer.name, merged, patch)
            merged = _merge_patch(merged, patch)
            merged_sources = _merge_patch(merged_sources, sources(patch, layer.name))
        except ConfigError as error:
            problems += error.problems
        except RecursionError:
            problems.append(Problem(layer.name, ROOT, "is nested too deeply"))
    if not problems:
        config, problems = _validate(COMBINED, merged, policies)
        if config:
            return replace(
                config,
                origins=dict(origins(config.effective, merged_sources, BUILT_IN.name)),
                warnings=tuple(warnings),
                silent=tuple(silent),
            )
    raise ConfigError(problems)


def _find(layer: str, patch: Mapping[str, Any], policies: Policies, plugins: PluginLoaders) -> list[Problem]:
    """Fill in the plugins that a layer names; return the problems with those that can't be used."""
    given = patch.get("policies")
    problems: list[Problem] = []
    for name in given if isinstance(given, Mapping) else ():
        if name in policies and policies[name] is None:
            try:
                policies[name] = plugins[name]()
            except ValueError as error:
                problems.append(Problem(layer, _policy_path(name), str(error)))
    return problems


def _null_names(layer: str, patch: Mapping[str, Any], policies: Policies) -> Iterator[Problem]:
    """Return what a layer means to remove under a name that doesn't exist: it would stay in force."""
    places: list[tuple[str, Any, Sequence[str]]] = [
        (ROOT, patch, keys(Bouncer)),
        (at(ROOT, "exempt"), patch.get("exempt"), keys(Exempt)),
        (at(ROOT, "eviction"), patch.get("eviction"), keys(EvictionSection)),
        (at(ROOT, "hearing"), patch.get("hearing"), keys(Listening)),
        (at(ROOT, "people"), people := patch.get("people"), keys(PeopleSection)),
        (at(ROOT, "policies"), given := patch.get("policies"), list(policies)),
        (at(ROOT, "avatars"), patch.get("avatars"), keys(Selector)),
    ]
    if isinstance(people, Mapping):
        places += [(at(at(ROOT, "people"), key), people.get(key), keys(Selector)) for key in keys(PeopleSection)]
    for name, options in given.items() if isinstance(given, Mapping) else ():
        if policy := policies.get(name):
            places.append((_policy_path(name), options, keys(options_model(policy))))
    for place, value, known in places:
        if isinstance(value, Mapping):
            names = [name for name, inner in value.items() if inner is None and name not in known]
            slips = elsewhere(place, policies, _options(policies)) if names else {}
            yield from unknown_names(layer, place, names, known, slips)


def _read(layer: Layer, policies: Policies) -> dict[str, Any] | None:
    """Return the value of our key in a layer's text, as JSON; None where the layer has none, and needs none.

    Raises: ConfigError if it has one that can't be read as an unambiguous object.
    """
    if not layer.text.strip():
        return None

    def refuse(path: str, message: str) -> ConfigError:
        return ConfigError([Problem(layer.name, path, message)])

    try:
        document = json.loads(layer.text, object_pairs_hook=_Object, parse_int=_int, parse_float=_float)
    except (ValueError, RecursionError) as error:
        meant = unreadable(layer.text)
        if layer.shared and not meant:
            return None
        what = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise refuse("$", f"{meant or UNREADABLE}: {what}") from None
    if layer.shared and (found := [*islice(misplaced(layer, document, _known(policies)), MAX_PROBLEMS)]):
        raise ConfigError(found)
    if not isinstance(document, _Object) or KEY not in document:
        if layer.shared:
            return None
        raise refuse("$", f'must be an object of the shape {{"{KEY}": {{…}}}}')
    if not layer.shared and document.keys() - {KEY, MARK, "$schema"}:
        others = [shown(key) for key in sorted(document.keys() - {KEY, MARK, "$schema"})]
        more = f" and {len(others) - MAX_LISTED} more" if len(others) > MAX_LISTED else ""
        raise refuse("$", f"only “{KEY}” may stand here, not {', '.join(others[:MAX_LISTED])}{more}")
    value = document[KEY]
    if KEY in document.repeated:
        raise refuse(ROOT, REPEATED)
    if not isinstance(value, _Object):
        raise refuse(ROOT, 'must be an object; to do nothing in a room, use {"mode": "off"}')
    if (size := len(json.dumps(value))) > MAX_SIZE:
        raise refuse(ROOT, f"may take at most {MAX_SIZE} characters of JSON, but takes {size}")
    if repeated := list(islice(_repeated(value, ROOT), MAX_PROBLEMS)):
        raise ConfigError([Problem(layer.name, path, REPEATED) for path in repeated])
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
        yield from (at(path, key, brief=True) for key in value.repeated)
        for key, inner in value.items():
            yield from _repeated(inner, at(path, key, brief=True))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _repeated(inner, at(path, index, brief=True))


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


def _dropped(layer: str, below: Mapping[str, Any], patch: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what a layer takes out of force in the layers beneath, and is hardly meant to."""
    old, new = below.get("exempt"), patch.get("exempt")
    if old and new is not None and isinstance(old, list) != isinstance(new, list):
        yield Problem(
            layer,
            at(ROOT, "exempt"),
            "replaces the exemptions of a lower layer, since an object and a list don't merge",
        )
    if "mode" in patch and patch["mode"] is None and below.get("mode") in ("dry_run", "off"):
        yield Problem(
            layer, at(ROOT, "mode"), f'is null, which removes "{below["mode"]}" of a lower layer and enforces'
        )


def _without_nulls(value: Any) -> Any:
    """Return what a layer says when it stands alone: a null removes nothing there."""
    return _merge_patch({}, value)


def _policy_path(name: str) -> str:
    return at(at(ROOT, "policies"), name, brief=True)


def _validate(layer: str, value: Mapping[str, Any], policies: Policies) -> tuple[Config | None, list[Problem]]:
    """Return a Config from the value of our key, or all that is wrong with it."""
    problems: list[Problem] = []
    whole: Any = None
    slips = elsewhere(ROOT, policies, _options(policies))
    try:
        whole = Bouncer.model_validate(_frozen(value))
    except ValidationError as error:
        problems += _exempt_texts(layer, value, worded(layer, ROOT, error, Bouncer, slips))
    rules = _rules(layer, value.get("policies", {}), policies)
    problems += rules.problems
    if _hearing_mode(value.get("hearing")) == "off":
        problems += _deaf(layer, value.get("policies", {}), policies)
    if problems:
        return None, problems
    globs = {path: sum(1 for _ in globs_in(options)) for path, options in {ROOT: whole, **rules.options}.items()}
    if (count := sum(globs.values())) > MAX_GLOBS:
        most = max(globs, key=globs.__getitem__)
        where = f", most of them in {most}" if most != ROOT else ""
        return None, [Problem(layer, ROOT, f"may have at most {MAX_GLOBS} globs in all, but has {count}{where}")]
    warnings = [*questions(whole, ROOT), *rules.warnings]
    listening = whole.hearing if isinstance(whole.hearing, Listening) else Listening(mode=whole.hearing)
    return (
        Config(
            mode=whole.mode,
            rules=tuple(rules.rules),
            guards=_guards(whole),
            people_also=whole.people.also,
            people_except=whole.people.but,
            avatars=whole.avatars,
            leave_after=whole.leave_after,
            leave_within=whole.eviction.leave_within,
            reconcile=whole.reconcile,
            announce=whole.announce,
            hearing=_hearing(listening.mode, rules.rules),
            ignore_tracks=compiled(listening.ignore_tracks),
            effective={**whole.model_dump(mode="json", by_alias=True), "policies": rules.effective},
            warnings=tuple(Problem(layer, path, message) for path, message in warnings),
        ),
        [],
    )


def _guards(whole: Bouncer) -> Guards:
    """Return the guards, which have today's two forms of an exemption by name apart from the selectors."""
    exempt = whole.exempt
    common = {
        # A dry run removes no one, so it has no removals to save.
        "max_per_minute": NO_LIMIT if whole.mode == "dry_run" else whole.eviction.max_per_minute,
        "keep_last_agent": whole.eviction.keep_last_agent,
    }
    if not isinstance(exempt, Exempt):
        return Guards(exempt=exempt, **common)  # type: ignore[arg-type]
    return Guards(
        exempt_identities=compiled(exempt.identity),
        exempt_agent_names=compiled(exempt.agent_name),
        exempt=exempt.selectors(),
        dispatched_only=exempt.dispatched_only,
        **common,  # type: ignore[arg-type]
    )


def _exempt_texts(layer: str, value: Mapping[str, Any], problems: list[Problem]) -> list[Problem]:
    """Return the problems, with one for all texts in `exempt` where it lists them instead of saying what they are."""
    exempt, path = value.get("exempt"), at(ROOT, "exempt")
    if not isinstance(exempt, list) or not any(isinstance(each, str) for each in exempt):
        return problems
    example = shown(next(each for each in exempt if isinstance(each, str)))
    right = (
        f'must be an object such as {{"identity": [{example}]}} or {{"agent_name": [{example}]}}, not a list of texts'
    )
    return [*(each for each in problems if not each.path.startswith(f"{path}[")), Problem(layer, path, right)]


def _options(policies: Policies) -> Mapping[str, str]:
    """Return the options by name, each with a policy that has it."""
    loaded = {name: policy for name, policy in reversed(policies.items()) if policy}
    common = dict.fromkeys(CommonOptions.model_fields, next(reversed(loaded), ""))
    return common | {key: name for name, policy in loaded.items() for key in own_keys(policy)}


def _known(policies: Policies) -> Mapping[str, Sequence[str]]:
    """Return the options of each policy by its name; none of a plugin that isn't loaded."""
    return {
        name: [*own_keys(policy), *CommonOptions.model_fields] if policy else () for name, policy in policies.items()
    }


def _hearing_mode(given: Any) -> Any:
    return given.get("mode") if isinstance(given, Mapping) else given


def _hearing(asked: HearingMode, rules: Sequence[Rule]) -> Literal["off", "level", "speech"]:
    if asked == "auto":
        return "level" if any(getattr(rule.policy, "hearing", "unused") != "unused" for rule in rules) else "off"
    return asked


def _deaf(layer: str, given: Any, policies: Policies) -> Iterator[Problem]:
    """Yield the policies that can't work without hearing."""
    for name in given if isinstance(given, Mapping) else ():
        if given[name] != [] and getattr(policies.get(name), "hearing", "unused") == "needed":
            yield Problem(
                layer, _policy_path(name), 'can\'t work with "hearing": "off", since it goes by what is heard'
            )


@dataclass(slots=True)
class _Rules:
    """What stands under `policies`, read."""

    rules: list[Rule] = field(default_factory=list)
    options: dict[str, BaseModel] = field(default_factory=dict)
    """The validated options of each rule, by its path."""
    effective: dict[str, Any] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[tuple[str, str]] = field(default_factory=list)


def _rules(layer: str, given: Any, policies: Policies) -> _Rules:
    """Return the rules that are given, in the order of the policies, and all that is wrong with them.

    Nothing is said about a policy that is None: what is wrong with it has been said.
    """
    found, path = _Rules(), at(ROOT, "policies")
    if not isinstance(given, Mapping):
        found.problems.append(Problem(layer, path, f"must be an object, not {shown(given)}"))
        return found
    unknown = [name for name in given if name not in policies]
    slips = elsewhere(path, policies, _options(policies)) if unknown else {}
    found.problems += unknown_names(layer, path, unknown, [*policies], slips)
    for name, policy in policies.items():
        if policy is None or name not in given:
            continue
        options, path = given[name], _policy_path(name)
        is_list = isinstance(options, list)
        if is_list and len(options) > MAX_RULES:
            found.problems.append(Problem(layer, path, f"must have at most {MAX_RULES} entries, not {len(options)}"))
            continue
        dumps = [
            _rule(layer, at(path, index) if is_list else path, policy, index, each, found)
            for index, each in enumerate(options if is_list else [options])
        ]
        found.effective[name] = dumps if is_list else dumps[0]
    return found


def _rule(layer: str, path: str, policy: type[Policy], index: int, options: Any, found: _Rules) -> dict[str, Any]:
    """Add what one set of options says to what was found; return them with every default filled in."""
    if not isinstance(options, Mapping):
        found.problems.append(Problem(layer, path, "must be an object with options, or a list of such objects"))
        return {}
    model = options_model(policy)
    try:
        validated = model.model_validate(_frozen(options))
    except ValidationError as error:
        found.problems += worded(layer, path, error, model, elsewhere(path, (), {}))
        return {}
    values = {name: compiled(getattr(validated, name)) for name in model.model_fields}
    common = {name: values.pop(name) for name in CommonOptions.model_fields}
    try:
        instance = policy(**values)
    except Exception as error:  # noqa: BLE001 - a policy of another package may raise anything, and must end nothing
        wrong = str(error) if isinstance(error, ValueError) else f"its policy raised {type(error).__name__}: {error}"
        found.problems.append(Problem(layer, path, wrong))
        return {}
    if late := _late_notice(instance, common["notice"]):
        found.problems.append(Problem(layer, at(path, "notice"), late))
    found.rules.append(Rule(policy=instance, index=index, **common))
    found.options[path] = validated
    found.warnings += questions(validated, path)
    return validated.model_dump(mode="json", by_alias=True)


def _late_notice(policy: Policy, notice: float) -> str:
    """Say why a notice isn't one: it is no shorter than the time that the rule gives. Empty if it is."""
    if not notice or times_of(type(policy)) is None:
        return ""
    times = times_given(policy)
    if not times:
        return f"must be 0, since the rule gives no time, not {notice:g}"
    name, time = min(times.items(), key=lambda item: item[1])
    if notice < time:
        return ""
    return f"must be shorter than the time that the rule gives, {name} {time:g}, not {notice:g}: it would come at once"


def _frozen(value: Any) -> Any:
    """Return the same JSON with tuples for lists, which is how the strict schema wants them."""
    if isinstance(value, Mapping):
        return {key: _frozen(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return tuple(_frozen(inner) for inner in value)
    return value
