"""Configuration: what is in force, and what is refused where. The contract is the README's section of that name."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass, fields
from math import inf, isfinite, nan
from typing import Any, ClassVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bouncer import Policy, Room, Seconds, Verdict
from bouncer.config import MAX_SIZE, Config, ConfigError, Layer, load, option_docs
from bouncer.decide import Guards
from bouncer.policy import MAX_SECONDS, Rule
from policies import BUILTIN
from policies.duplicates import Duplicates
from policies.idle_timeout import IdleTimeout

METADATA_LIMIT = 512 * 1024
"""Characters that LiveKit lets room metadata have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A policy whose options depend on each other, one of which is required."""

    name: ClassVar[str] = "window"

    opens: Seconds
    """When it opens."""
    closes: Seconds = 10
    """When it
    closes.
    """
    undocumented: bool = False

    def __post_init__(self) -> None:
        if self.opens > self.closes:
            raise ValueError("opens: must not be later than closes")

    def evaluate(self, room: Room) -> Iterable[Verdict]:  # noqa: ARG002  # it needs to look at nobody
        """Nobody."""
        return ()


COMMON = {"action": "evict", "notice": 0, "only": None}
"""The defaults of the options that every policy takes."""
REGISTRY: tuple[type[Policy], ...] = (*BUILTIN, Window)


def zeros(names: Iterable[object]) -> str:
    """A JSON object that has 0 under each of these names, as often as they are given."""
    return "{" + ",".join(f'"k{name}":0' for name in names) + "}"


def inside(name: str, depth: int, value: str) -> str:
    """A JSON value inside of that many objects."""
    return f'{{"{name}":' * depth + value + "}" * depth


def shared(text: str) -> Layer:
    """The room's metadata, as text."""
    return Layer("room metadata", text, shared=True)


def room(**bouncer: Any) -> Layer:
    """The room's metadata, with this under our key."""
    return shared(json.dumps({"bouncer": bouncer}))


def ours(**bouncer: Any) -> Layer:
    """A layer that nobody else writes to, with this under our key."""
    return Layer("BOUNCER_CONFIG", json.dumps({"bouncer": bouncer}))


def rules(*layers: Layer) -> list[tuple[str, Policy]]:
    """What the room is guarded by: rule ids and policies."""
    return [(rule.id, rule.policy) for rule in load(layers, REGISTRY).rules]


def problems(*layers: Layer) -> dict[str, str]:
    """What is wrong where: JSON paths and messages. The layers have to be refused."""
    with pytest.raises(ConfigError) as refused:
        load(layers, REGISTRY)
    assert refused.value.problems
    return {problem.path: problem.message for problem in refused.value.problems}


class TestDefaults:
    """Without a word from anybody."""

    def test_duplicates_are_evicted_and_nothing_else_is(self) -> None:
        """The built-in defaults: mode `enforce`, one policy with its own defaults."""
        config = load((), BUILTIN)

        assert config == load((shared(""), Layer("dispatch metadata", "")), BUILTIN)
        assert (config.mode, config.reconcile, config.announce, config.leave_within) == ("enforce", 15, True, 3.5)
        assert config.guards == Guards(
            exempt_identities=(), exempt_agent_names=(), max_per_minute=10, keep_last_agent=False
        )
        assert config.rules == (Rule(policy=Duplicates(), index=0, action="evict", notice=0, only=None),)

    def test_the_options_of_a_policy_have_their_own_defaults(self) -> None:
        """An empty object opts in."""
        assert rules(room(policies={"idle_timeout": {}}))[1] == ("idle_timeout", IdleTimeout(timeout=300))

    def test_the_effective_configuration_shows_every_default(self) -> None:
        """What is logged leaves nothing to be looked up, and is JSON."""
        effective = load((room(policies={"idle_timeout": [{"timeout": 60}]}),), BUILTIN).effective

        assert json.loads(json.dumps(effective, allow_nan=False)) == {
            "mode": "enforce",
            "exempt": {"identity": [], "agent_name": []},
            "policies": {
                "duplicates": COMMON | {"key": "agent_name", "max": 1, "keep": "oldest", "grace": 2, "unnamed": False},
                "idle_timeout": [COMMON | {"timeout": 60}],
            },
            "eviction": {"leave_within": 3.5, "max_per_minute": 10, "keep_last_agent": False},
            "hearing": "auto",
            "reconcile": 15,
            "announce": True,
        }


class TestTaken:
    """What may be said, and what it does."""

    @pytest.mark.parametrize("mode", ["enforce", "dry_run", "off"])
    def test_mode(self, mode: str) -> None:
        """There are three of them."""
        assert load((room(mode=mode),), BUILTIN).mode == mode

    def test_all_the_rest(self) -> None:
        """Each key of the contract arrives where the engine looks for it."""
        config = load(
            (
                room(
                    exempt={"identity": ["recorder-*"], "agent_name": ["notetaker"]},
                    eviction={"leave_within": 5, "max_per_minute": 3, "keep_last_agent": True},
                    hearing="off",
                    reconcile=1,
                    announce=False,
                ),
            ),
            BUILTIN,
        )

        assert config.guards == Guards(
            exempt_identities=("recorder-*",),
            exempt_agent_names=("notetaker",),
            max_per_minute=3,
            keep_last_agent=True,
        )
        assert (config.reconcile, config.announce, config.leave_within, config.hearing) == (1, False, 5, "off")

    def test_every_policy_takes_the_common_options(self) -> None:
        """`action`, `notice` and `only` belong to the rule, the others to the policy."""
        options = {"timeout": 60, "notice": 10.5, "action": "report", "only": ["assistant*"]}
        rule = load((room(policies={"idle_timeout": options}),), BUILTIN).rules[1]

        assert rule == Rule(policy=IdleTimeout(timeout=60), action="report", notice=10.5, only=("assistant*",))

    def test_a_list_applies_a_policy_several_times(self) -> None:
        """The rules come in registry order, then in that of the list, whatever the order in the JSON."""
        layer = room(policies={"idle_timeout": [{"timeout": 60}, {"timeout": 5}], "duplicates": {"max": 2}})

        assert rules(layer) == [
            ("duplicates", Duplicates(max=2)),
            ("idle_timeout", IdleTimeout(timeout=60)),
            ("idle_timeout[1]", IdleTimeout(timeout=5)),
        ]

    @pytest.mark.parametrize("off", [[], None])
    def test_off(self, off: Any) -> None:
        """An empty list turns a policy off, and so does null; then there may be none left."""
        assert rules(room(policies={"duplicates": off})) == []

    @pytest.mark.parametrize("seconds", [0, -0.0, 2, 2.5, 5e-324, MAX_SECONDS])
    def test_times_are_numbers_of_seconds(self, seconds: float) -> None:
        """From none to ten years, whole or not."""
        assert rules(room(policies={"duplicates": {"grace": seconds}})) == [("duplicates", Duplicates(grace=seconds))]


class TestHearing:
    """What is listened to is what the rules need, unless it is said."""

    @pytest.mark.parametrize(
        ("value", "hearing"),
        [
            ({}, "off"),
            ({"policies": {"max_agents": {"max": 3}}}, "off"),
            ({"policies": {"idle_timeout": {}}}, "level"),
            ({"policies": {"crosstalk": {}}}, "level"),
            ({"policies": {"lone_chatter": {}}}, "level"),
            ({"policies": {"unresponsive": {}}}, "level"),
            ({"policies": {"idle_timeout": []}}, "off"),
            ({"policies": {"idle_timeout": {}}, "hearing": "auto"}, "level"),
            ({"policies": {"idle_timeout": {}}, "hearing": "off"}, "off"),
            ({"policies": {"idle_timeout": {}}, "hearing": "level"}, "level"),
            ({"hearing": "level"}, "level"),
            ({"policies": {"unresponsive": {}}, "hearing": "speech"}, "speech"),
            ({"hearing": "speech"}, "speech"),
        ],
    )
    def test_how(self, value: Any, hearing: str) -> None:
        """By itself only where a rule of this room needs it."""
        assert load((room(**value),), BUILTIN).hearing == hearing

    @pytest.mark.parametrize("policy", ["lone_chatter", "unresponsive"])
    def test_what_is_needed_cannot_be_off(self, policy: str) -> None:
        """Neither in one layer nor in two of them; the error says why, at the policy that needs it."""
        needs, off = {"policies": {policy: {"timeout": 5}}}, {"hearing": "off"}

        for layers in [(room(**needs, **off),), (ours(**needs), room(**off)), (ours(**off), room(**needs))]:
            ((path, message),) = problems(*layers).items()
            assert path == f"$.bouncer.policies.{policy}"
            assert '"hearing": "off"' in message
        assert load((ours(**needs), room(policies={policy: None}, **off)), BUILTIN).hearing == "off"


class TestLayers:
    """Lowest first, combined as JSON Merge Patch (RFC 7396)."""

    def test_objects_merge(self) -> None:
        """A layer says only what it wants to be different."""
        below = ours(mode="dry_run", policies={"idle_timeout": {"timeout": 60, "notice": 5}})
        config = load((below, room(policies={"idle_timeout": {"timeout": 20}})), BUILTIN)

        assert config.mode == "dry_run"
        assert config.rules[1] == Rule(policy=IdleTimeout(timeout=20), notice=5)

    def test_lists_replace(self) -> None:
        """Nothing is appended."""
        below = ours(exempt={"identity": ["a", "b"]}, policies={"idle_timeout": [{"timeout": 1}, {"timeout": 2}]})
        config = load((below, room(exempt={"identity": ["c"]}, policies={"idle_timeout": [{}]})), BUILTIN)

        assert config.guards.exempt_identities == ("c",)
        assert [rule.policy for rule in config.rules] == [Duplicates(), IdleTimeout()]

    @pytest.mark.parametrize(
        ("below", "above", "left"),
        [
            pytest.param({}, {"duplicates": None}, [], id="a default policy"),
            pytest.param({}, None, [], id="all policies"),
            pytest.param({"duplicates": {"max": 3}}, {"duplicates": {"max": None}}, [Duplicates()], id="an option"),
            pytest.param({"duplicates": None}, {"duplicates": {}}, [Duplicates()], id="what was removed comes back"),
            pytest.param({}, {"idle_timeout": None}, [Duplicates()], id="what isn't there"),
            pytest.param({"idle_timeout": [{}]}, {"idle_timeout": None}, [Duplicates()], id="a list"),
        ],
    )
    def test_null_removes(self, below: Any, above: Any, left: list[Policy]) -> None:
        """Of what is beneath; the default of an option is no layer, and can't be removed."""
        assert [policy for _, policy in rules(ours(policies=below), room(policies=above))] == left

    def test_each_layer_has_to_be_valid_alone(self) -> None:
        """What a higher layer would have put right is refused all the same, with the layer's name."""
        with pytest.raises(ConfigError) as refused:
            load((ours(reconcile=0), Layer("dispatch metadata", "x"), room(reconcile=5, mode="on")), BUILTIN)

        assert [(p.layer, p.path) for p in refused.value.problems] == [
            ("BOUNCER_CONFIG", "$.bouncer.reconcile"),
            ("dispatch metadata", "$"),
            ("room metadata", "$.bouncer.mode"),
        ]

    def test_a_required_option_is_required_in_each_layer(self) -> None:
        """A layer that names a policy says all that the policy needs."""
        assert problems(ours(policies={"window": {"opens": 1}}), room(policies={"window": {"closes": 9}})) == {
            "$.bouncer.policies.window.opens": "is required"
        }

    def test_then_the_whole_has_to_be_valid(self) -> None:
        """Two layers, each valid, may contradict each other."""
        below, above = ours(policies={"window": {"opens": 5}}), room(policies={"window": {"opens": 1, "closes": 2}})
        assert rules(below, above)[1] == ("window", Window(opens=1, closes=2))

        with pytest.raises(ConfigError, match="the layers combined") as refused:
            load((above, ours(policies={"window": {"opens": 5}})), REGISTRY)
        (problem,) = refused.value.problems
        assert problem.path.startswith("$.bouncer.policies.window")

    def test_null_takes_no_unknown_name(self) -> None:
        """Whoever mistypes what is to be turned off must not be left with the default."""
        assert problems(room(policies={"duplicate": None})).keys() == {"$.bouncer.policies.duplicate"}
        assert problems(room(polices=None)).keys() == {"$.bouncer.polices"}
        assert problems(room(policies={"duplicates": {"maks": None}})).keys() == {"$.bouncer.policies.duplicates.maks"}


class TestSharedMetadata:
    """The room's metadata belongs to other applications too."""

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param("", id="empty"),
            pytest.param(" \n", id="blank"),
            pytest.param("a room for the weekly call", id="prose"),
            pytest.param("<room/>", id="XML"),
            pytest.param("bouncer: {}", id="YAML"),
            pytest.param('{"topic": "x",}', id="somebody else's trailing comma"),
            pytest.param("[" * 100_000, id="somebody else's nesting"),
            pytest.param('{"topic": "the bouncer", "n": 1}', id="our word, as part of a value"),
            pytest.param('{"x": 1, "x": 2}', id="somebody else's repeated key"),
            pytest.param('{"x": NaN}', id="somebody else's NaN"),
            pytest.param('{"x": {"bouncer": {"mode": 1}}}', id="our key, but inside of something else"),
            pytest.param('{"Bouncer": {"mode": 1}}', id="another key, however similar"),
            pytest.param('["bouncer"]', id="a list"),
            pytest.param('"bouncer"', id="a string"),
            pytest.param("null", id="null"),
            pytest.param("1" * 5000, id="a number"),
        ],
    )
    def test_what_has_not_our_key_configures_nothing(self, text: str) -> None:
        """It is no error, and the layers beneath stay in force."""
        assert load((ours(mode="dry_run"), shared(text)), BUILTIN) == load((ours(mode="dry_run"),), BUILTIN)

    def test_others_may_write_beside_us(self) -> None:
        """Whatever they write, as long as it is JSON."""
        text = '{"topic": {"mode": 7, "mode": 8}, "x": [NaN, "\\ud800"], "bouncer": {"mode": "off"}, "policies": 1}'

        assert load((shared(text),), BUILTIN).mode == "off"

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param('{"bouncer": {"mode": "dry_run"},}', id="trailing comma"),
            pytest.param('{"bouncer": {"policies": {"duplicates": null,}}}', id="trailing comma inside"),
            pytest.param('{"bouncer": {"mode": "off"}', id="cut off"),
            pytest.param('{"bouncer": {"mode": "off"}} x', id="something after it"),
            pytest.param('{"bouncer": {"mode": "\\x41"}}', id="an escape that isn't one"),
            pytest.param('{"bouncer": {"mode": "\\u12"}}', id="half an escape"),
            pytest.param('{"bouncer": {"mode": "a\nb"}}', id="a raw line break"),
            pytest.param('{"bouncer": {}, // comment\n}', id="a comment"),
            pytest.param('{"x": .5, "bouncer": {}}', id="not our part of it"),
            pytest.param('\ufeff{"bouncer": {}}', id="a byte order mark"),
        ],
    )
    def test_what_is_not_json_but_names_us_is_refused(self, text: str) -> None:
        """A trailing comma must not silently enforce the defaults."""
        refused = problems(shared(text))

        assert refused.keys() == {"$"}
        assert "must be JSON" in refused["$"]

    @pytest.mark.parametrize(
        ("text", "path"),
        [
            ("off", "$"),
            ('{"mode": "off"}', "$"),
            ("[]", "$"),
            ("null", "$"),
            ('"bouncer"', "$"),
            ("{}", "$"),
            ('{"bouncer": {}, "mode": "off"}', "$"),
        ],
    )
    def test_other_layers_are_ours_alone(self, text: str, path: str) -> None:
        """Dispatch metadata that is not empty, and BOUNCER_CONFIG, have our key and no other."""
        assert problems(Layer("dispatch metadata", text)).keys() == {path}


class TestRefused:
    """Nothing is coerced, and nothing unknown is let through."""

    @pytest.mark.parametrize(
        ("value", "path", "words"),
        [
            ('{"mode": "on"}', "mode", "'enforce', 'dry_run' or 'off', not \"on\""),
            ('{"mode": "Enforce"}', "mode", "'enforce', 'dry_run' or 'off'"),
            ('{"mode": true}', "mode", "'enforce', 'dry_run' or 'off', not true"),
            ('{"announce": 1}', "announce", "true or false, not 1"),
            ('{"announce": "no"}', "announce", 'true or false, not "no"'),
            ('{"reconcile": "15"}', "reconcile", 'a number, not "15"'),
            ('{"reconcile": true}', "reconcile", "a number, not true"),
            ('{"reconcile": [15]}', "reconcile", "a number, not [15]"),
            ('{"reconcile": 0.5}', "reconcile", "at least 1, not 0.5"),
            ('{"reconcile": 3601}', "reconcile", "at most 3600, not 3601"),
            ('{"reconcile": NaN}', "reconcile", "a finite number, not NaN"),
            ('{"hearing": "loud"}', "hearing", "'auto', 'off', 'level' or 'speech', not \"loud\""),
            ('{"hearing": false}', "hearing", "'auto', 'off', 'level' or 'speech', not false"),
            ('{"eviction": {"leave_within": -1}}', "eviction.leave_within", "at least 0, not -1"),
            ('{"eviction": {"keep_last_agent": 1}}', "eviction.keep_last_agent", "true or false, not 1"),
            ('{"exempt": ["recorder-*"]}', "exempt", "an object"),
            ('{"exempt": {"identity": "recorder-*"}}', "exempt.identity", 'a list, not "recorder-*"'),
            ('{"exempt": {"identity": [7]}}', "exempt.identity[0]", "a string, not 7"),
            ('{"exempt": {"identity": ["a", ""]}}', "exempt.identity[1]", "must not be empty"),
            ('{"exempt": {"agent_name": [null]}}', "exempt.agent_name[0]", "a string, not null"),
            ('{"eviction": []}', "eviction", "an object"),
            ('{"eviction": {"max_per_minute": 0}}', "eviction.max_per_minute", "at least 1, not 0"),
            ('{"eviction": {"max_per_minute": -1}}', "eviction.max_per_minute", "at least 1, not -1"),
            ('{"eviction": {"max_per_minute": 1.5}}', "eviction.max_per_minute", "a whole number, not 1.5"),
            ('{"eviction": {"max_per_minute": true}}', "eviction.max_per_minute", "a whole number, not true"),
            ('{"policies": ["duplicates"]}', "policies", "an object"),
            ('{"policies": "duplicates"}', "policies", "an object"),
            ('{"policies": {"duplicates": true}}', "policies.duplicates", "an object with options, or a list"),
            ('{"policies": {"duplicates": "off"}}', "policies.duplicates", "an object with options, or a list"),
            ('{"policies": {"duplicates": [{}, 0]}}', "policies.duplicates[1]", "an object with options"),
            ('{"policies": {"duplicates": [null]}}', "policies.duplicates[0]", "an object with options"),
            ('{"policies": {"duplicates": [[]]}}', "policies.duplicates[0]", "an object with options"),
            ('{"policies": {"duplicates": {"max": 0}}}', "policies.duplicates.max", "at least 1, not 0"),
            ('{"policies": {"duplicates": {"max": 1.0}}}', "policies.duplicates.max", "a whole number"),
            ('{"policies": {"duplicates": {"max": true}}}', "policies.duplicates.max", "a whole number, not true"),
            ('{"policies": {"duplicates": {"grace": -1}}}', "policies.duplicates.grace", "at least 0, not -1"),
            ('{"policies": {"duplicates": {"grace": -1e-9}}}', "policies.duplicates.grace", "at least 0"),
            ('{"policies": {"duplicates": {"grace": "5m"}}}', "policies.duplicates.grace", 'a number, not "5m"'),
            ('{"policies": {"duplicates": {"grace": false}}}', "policies.duplicates.grace", "a number, not false"),
            ('{"policies": {"duplicates": [{"grace": null}]}}', "policies.duplicates[0].grace", "a number, not null"),
            ('{"policies": {"duplicates": {"grace": Infinity}}}', "policies.duplicates.grace", "finite"),
            ('{"policies": {"duplicates": {"grace": -Infinity}}}', "policies.duplicates.grace", "finite"),
            ('{"policies": {"duplicates": {"grace": 1e400}}}', "policies.duplicates.grace", "finite"),
            ('{"policies": {"duplicates": {"grace": 315360001}}}', "policies.duplicates.grace", "must be at most"),
            ('{"policies": {"duplicates": {"keep": "old"}}}', "policies.duplicates.keep", "'oldest' or 'newest'"),
            ('{"policies": {"duplicates": {"unnamed": 0}}}', "policies.duplicates.unnamed", "true or false, not 0"),
            ('{"policies": {"duplicates": {"action": "kick"}}}', "policies.duplicates.action", "'evict' or 'report'"),
            ('{"policies": {"duplicates": {"notice": -1}}}', "policies.duplicates.notice", "at least 0"),
            ('{"policies": {"duplicates": {"only": "a*"}}}', "policies.duplicates.only", 'a list, not "a*"'),
            ('{"policies": {"idle_timeout": [{}, {"only": [1]}]}}', "policies.idle_timeout[1].only[0]", "a string"),
            ('{"policies": {"window": {}}}', "policies.window.opens", "is required"),
            ('{"policies": {"max_agents": {}}}', "policies.max_agents.max", "is required"),
            ('{"policies": {"max_lifetime": {"limit": 0}}}', "policies.max_lifetime.limit", "must be more than 0"),
            ('{"policies": {"superseded": {"by": {}}}}', "policies.superseded.by", "1 or more entries"),
            ('{"policies": {"superseded": {"by": {"a": []}}}}', "policies.superseded.by.a", "1 or more entries"),
            ('{"policies": {"superseded": {"by": {"a b": "c"}}}}', 'policies.superseded.by["a b"]', 'a list, not "c"'),
            ('{"policies": {"superseded": {"by": {"": ["c"]}}}}', 'policies.superseded.by[""]', "must not be empty"),
            (
                '{"policies": {"stuck_state": {"limits": {"thinking": -1}}}}',
                "policies.stuck_state.limits.thinking",
                "at least 0",
            ),
            (
                '{"policies": {"stuck_state": {"limits": {"dreaming": 1}}}}',
                "policies.stuck_state.limits.dreaming",
                "'thinking'",
            ),
            (
                '{"policies": {"human_takeover": {"attributes": {"role": 1}}}}',
                "policies.human_takeover.attributes.role",
                "a string",
            ),
        ],
    )
    def test_what_is_wrong_and_what_would_be_right(self, value: str, path: str, words: str) -> None:
        """Each error has the exact JSON path, says what is allowed, and shows what was found."""
        refused = problems(shared(f'{{"topic": "x", "bouncer": {value}}}'))

        assert refused.keys() == {f"$.bouncer.{path}"}
        assert words in refused[f"$.bouncer.{path}"]

    @pytest.mark.parametrize("value", ["null", "[]", "true", '"off"', "3"])
    def test_our_key_has_an_object(self, value: str) -> None:
        """Also null is refused: it would be read as `off` by one and as the defaults by another."""
        refused = problems(shared(f'{{"bouncer": {value}}}'))

        assert refused.keys() == {"$.bouncer"}
        assert "must be an object" in refused["$.bouncer"]

    @pytest.mark.parametrize(
        ("value", "path", "meant", "known"),
        [
            ({"polices": {}}, "polices", "policies", "reconcile"),
            ({"policies": {"duplicate": {}}}, "policies.duplicate", "duplicates", "idle_timeout"),
            ({"policies": {"Idle_Timeout": {}}}, "policies.Idle_Timeout", "idle_timeout", "duplicates"),
            ({"policies": {"duplicates": {"graze": 1}}}, "policies.duplicates.graze", "grace", "unnamed"),
            ({"policies": {"duplicates": [{"note": 1}]}}, "policies.duplicates[0].note", "notice", "only"),
            ({"exempt": {"identities": []}}, "exempt.identities", "identity", "agent_name"),
            ({"eviction": {"max_per_second": 1}}, "eviction.max_per_second", "max_per_minute", "keep_last_agent"),
            ({"policies": {"idle-timeout": {}}}, 'policies["idle-timeout"]', "idle_timeout", "duplicates"),
            ({"zzz": 1}, "zzz", "", "announce"),
            ({"": 1}, '[""]', "", "mode"),
            ({"policies": {"idle_timeout.timeout": 5}}, 'policies["idle_timeout.timeout"]', "idle_timeout", "window"),
        ],
    )
    def test_unknown_names(self, value: Any, path: str, meant: str, known: str) -> None:
        """The error lists what is known there, and what was probably meant."""
        separator = "" if path.startswith("[") else "."
        (found, message), *others = problems(room(**value)).items()

        assert (found, others) == (f"$.bouncer{separator}{path}", [])
        assert "unknown" in message
        assert known in message.partition("known: ")[2]
        assert ("did you mean" in message, meant in message) == (bool(meant), True)

    @pytest.mark.parametrize(
        ("text", "path"),
        [
            ('{"bouncer": {}, "bouncer": {}}', "$.bouncer"),
            ('{"bouncer": {"mode": "off", "mode": "enforce"}}', "$.bouncer.mode"),
            ('{"bouncer": {"mode": "off", "mode": "off"}}', "$.bouncer.mode"),
            ('{"bouncer": {"mode": "off", "m\\u006fde": "enforce"}}', "$.bouncer.mode"),
            ('{"bouncer": {"policies": {"duplicates": {}, "duplicates": null}}}', "$.bouncer.policies.duplicates"),
            ('{"bouncer": {"policies": {"idle_timeout": [{}, {"timeout": 1, "timeout": 9}]}}}',
             "$.bouncer.policies.idle_timeout[1].timeout"),
        ],
    )  # fmt: skip
    def test_repeated_keys(self, text: str, path: str) -> None:
        """JSON doesn't say which one counts, so neither do we, also where both say the same."""
        refused = problems(shared(text))

        assert refused.keys() == {path}
        assert "more than once" in refused[path]

    def test_everything_at_once(self) -> None:
        """Nobody has to send a configuration six times to learn six things."""
        refused = problems(
            room(
                mode="on",
                recon=1,
                exempt={"identity": [1, "a", ""]},
                policies={
                    "duplicates": {"max": 0, "grace": -1, "keep": 1, "foo": 1},
                    "idle_timeout": [{"timeout": "x"}, {}, 5],
                    "nonsense": {},
                },
            )
        )

        assert refused.keys() == {
            "$.bouncer.mode",
            "$.bouncer.recon",
            "$.bouncer.exempt.identity[0]",
            "$.bouncer.exempt.identity[2]",
            "$.bouncer.policies.duplicates.max",
            "$.bouncer.policies.duplicates.grace",
            "$.bouncer.policies.duplicates.keep",
            "$.bouncer.policies.duplicates.foo",
            "$.bouncer.policies.idle_timeout[0].timeout",
            "$.bouncer.policies.idle_timeout[2]",
            "$.bouncer.policies.nonsense",
        }

    def test_a_policy_may_refuse_what_its_options_say_together(self) -> None:
        """Its own words are shown."""
        (message,) = problems(room(policies={"duplicates": {"key": "name"}})).values()

        assert '"attribute:NAME"' in message

    def test_the_text_of_the_error_has_it_all(self) -> None:
        """One problem a line: layer, path, message."""
        with pytest.raises(ConfigError) as refused:
            load((room(mode="on", announce=3),), BUILTIN)

        assert str(refused.value).splitlines() == [
            "room metadata: $.bouncer.mode: must be 'enforce', 'dry_run' or 'off', not \"on\"",
            "room metadata: $.bouncer.announce: must be true or false, not 3",
        ]


class TestBadInput:
    """Metadata comes from anybody who may write it, and takes down nothing."""

    @pytest.mark.parametrize("digits", [309, 310, 400, 401, 4300, 4301, 5000, 400_000])
    @pytest.mark.parametrize("sign", ["", "-"])
    @pytest.mark.parametrize("tail", ["", ".5", "e5", "e-5"])
    def test_long_numbers(self, digits: int, sign: str, tail: str) -> None:
        """Python itself stops at 4,300 digits, and floats at 309."""
        number = f"{sign}{'9' * digits}{tail}"
        refused = problems(
            shared(f'{{"bouncer": {{"reconcile": {number}, "eviction": {{"max_per_minute": {number}}}}}}}')
        )

        assert refused.keys() == {"$.bouncer.reconcile", "$.bouncer.eviction.max_per_minute"}
        assert all(len(message) < 200 for message in refused.values())

    @pytest.mark.parametrize(
        ("opening", "closing"),
        [
            pytest.param('{"bouncer":', "}", id="around our key"),
            pytest.param("[", "]", id="lists"),
            pytest.param('{"a":', "}", id="objects"),
            pytest.param('[{"a":', "}]", id="both"),
        ],
    )
    @pytest.mark.parametrize(
        "where",
        [
            '{"bouncer": %s}',
            '{"bouncer": {"mode": %s}}',
            '{"bouncer": {"exempt": {"identity": %s}}}',
            '{"bouncer": {"policies": {"duplicates": %s}}}',
            '{"bouncer": {"policies": {"duplicates": {"only": %s}}}}',
            '{"bouncer": {"polices": %s}}',
        ],
    )
    def test_nesting(self, where: str, opening: str, closing: str) -> None:
        """Refused at any depth, also at those where one of the steps runs out of stack and the one before did not."""
        limit = sys.getrecursionlimit()
        depths = {2, 10, *range(limit // 8, limit + 20, 13), 10 * limit, METADATA_LIMIT // len(opening + closing)}
        for depth in depths:
            assert problems(shared(where % (opening * depth + "1" + closing * depth)))

    def test_nesting_beside_us_is_no_error(self) -> None:
        """As long as Python can read it."""
        text = '{{"x": {}1{}, "bouncer": {{"mode": "off"}}}}'.format("[" * 500, "]" * 500)

        assert load((shared(text),), BUILTIN).mode == "off"

    @pytest.mark.parametrize(
        "value",
        [
            r'{"mode": "\ud800"}',
            r'{"exempt": {"identity": ["\udfff*"]}}',
            r'{"policies": {"duplicates": {"key": "attribute:\ud800"}}}',
            r'{"\ud800": 1}',
            r'{"policies": {"\ud800": {}}}',
            r'{"policies": {"duplicates": {"\ud800": 1}}}',
            r'{"\ud800": 1, "\ud800": 2}',
            '{"mode": "\ud800"}',
        ],
    )
    def test_lone_surrogates(self, value: str) -> None:
        """They are no text: refused, and the error itself can be sent and logged."""
        for path, message in problems(shared(f'{{"bouncer": {value}}}')).items():
            assert path.startswith("$.bouncer")
            assert (path + message).encode()

    def test_too_much_of_it(self) -> None:
        """64 KiB are ours, whatever the rest of the metadata takes."""
        globs = ["x" * 256] * 255
        fits = {"bouncer": {"exempt": {"identity": [*globs, "y"]}}}
        assert len(json.dumps(fits["bouncer"])) > MAX_SIZE
        refused = problems(shared(json.dumps(fits)))
        assert refused.keys() == {"$.bouncer"}
        assert "65536" in refused["$.bouncer"]

        fits["bouncer"]["exempt"]["identity"] = globs[:-8]
        assert load((shared(json.dumps({**fits, "x": "x" * 400_000})),), BUILTIN).guards.exempt_identities

    @pytest.mark.parametrize(
        ("value", "path"),
        [
            ({"exempt": {"identity": ["*" * 257]}}, "exempt.identity[0]"),
            ({"exempt": {"agent_name": ["x"] * 257}}, "exempt.agent_name"),
            ({"policies": {"duplicates": {"key": "attribute:" + "x" * 250}}}, "policies.duplicates.key"),
            ({"policies": {"duplicates": {"only": ["x" * 10_000]}}}, "policies.duplicates.only[0]"),
            ({"policies": {"duplicates": [{}] * 17}}, "policies.duplicates"),
            ({"policies": {"duplicates": [{}] * 10_000}}, "policies.duplicates"),
            ({"mode": "x" * 60_000}, "mode"),
        ],
    )
    def test_silly_lengths(self, value: Any, path: str) -> None:
        """Each text and list has its limit, and the error doesn't repeat what was too long."""
        ((found, message),) = problems(room(**value)).items()

        assert found == f"$.bouncer.{path}"
        assert len(message) < 200

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param(f'{{"bouncer": {zeros(range(6000))}}}', id="keys"),
            pytest.param(f'{{"bouncer": {{"policies": {zeros(range(5000))}}}}}', id="policies"),
            pytest.param(f'{{"bouncer": {{"policies": {{"duplicates": {zeros(range(5000))}}}}}}}', id="options"),
            pytest.param(
                f'{{"bouncer": {{"policies": {{"duplicates": [{",".join([zeros(range(300))] * 16)}]}}}}}}',
                id="options of many rules",
            ),
            pytest.param(f'{{"bouncer": {{"exempt": {{"identity": [{"0," * 20_000}0]}}}}}}', id="wrong entries"),
            pytest.param(f'{{"bouncer": {zeros([0] * 9000)}}}', id="one key, repeated"),
            pytest.param(f'{{"bouncer": {zeros(i // 2 for i in range(5000))}}}', id="keys, each repeated"),
            pytest.param(f'{{"bouncer": {zeros([*range(5000), 0])}}}', id="keys, one repeated"),
            pytest.param(
                f'{{"bouncer": {{}}, "x": {zeros([*range(40_000), 0])}}}', id="somebody else's keys, one repeated"
            ),
            pytest.param(f'{{"bouncer": {inside("k" * 60, 400, zeros([0, 0]))}}}', id="a repeated key far inside"),
            pytest.param(f'{{"bouncer": {{"mode": "off"}}{", []" * 100_000}}}', id="no JSON in the end"),
            pytest.param(f'{{"bouncer": {{"{"x" * 500_000}": 1}}}}', id="a long name"),
            pytest.param(f'{{"bouncer": "{"_u0000" * 80_000}"}}'.replace("_", "\\"), id="escapes"),
        ],
    )
    def test_much_of_it_takes_little(self, text: str) -> None:
        """The work grows with the length of the text, not with its square; and what is said about it is bounded."""
        assert len(text) <= METADATA_LIMIT
        load((), BUILTIN)  # what is made once for a registry is no part of it
        said: list[str] = []

        def read() -> None:
            try:
                load((shared(text),), BUILTIN)
            except ConfigError as error:
                said.extend(map(str, error.problems))

        assert calls(read, limit=20 * len(text)) > 0
        assert len(said) <= 1000
        assert sum(map(len, said)) < 256 * 1024
        assert max(map(len, said), default=0) < 4096

    def test_thousands_of_keys_in_a_layer_of_ours(self) -> None:
        """Also where no key beside ours is allowed, what is said about them is bounded."""
        others = ",".join(f'"{i}": 0' for i in range(20_000))
        ((_, message),) = problems(Layer("dispatch metadata", f'{{"bouncer": {{}}, {others}}}')).items()

        assert len(message) < 4096


def calls(run: Callable[[], object], limit: int) -> int:
    """How many calls of Python and C functions it takes, generators' steps included; more than the limit fail."""
    count = 0

    def note(*_: object) -> None:
        nonlocal count
        count += 1
        if count > limit:
            sys.setprofile(None)
            raise AssertionError(f"more than {limit} calls")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(before)
    return count


class TestDocumentation:
    """The string under a field is its documentation; help, schema and README come from it."""

    def test_the_string_under_each_option(self) -> None:
        """Cleaned of its indentation; an option without one has none."""
        assert option_docs(Window) == {"opens": "When it opens.", "closes": "When it\ncloses."}

    def test_a_class_inside_of_a_function(self) -> None:
        """As a third party's tests may have it."""

        @dataclass(frozen=True, slots=True, kw_only=True)
        class Inner:
            """Indented."""

            first: int = 1
            """The first."""

        assert option_docs(Inner) == {"first": "The first."}

    @pytest.mark.parametrize("policy", BUILTIN, ids=lambda policy: policy.name)
    def test_no_option_goes_without(self, policy: type[Policy]) -> None:
        """Every option of every policy says what it does, and nothing else is documented in this way."""
        docs = option_docs(policy)

        assert docs.keys() == {option.name for option in fields(policy)}  # type: ignore[arg-type]  # a dataclass
        assert all(docs.values())


class TestEquality:
    """A configuration that says the same is the same: then nothing is armed again."""

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ('{"bouncer": {"mode": "off", "reconcile": 20}}', '{"bouncer":{"reconcile":20.0,"mode":"off"},"x":1}'),
            ('{"bouncer": {}}', '{"bouncer": {"mode": "enforce", "policies": {"duplicates": {"grace": 2}}}}'),
            ("", '{"bouncer": {"announce": null}}'),
            ('{"bouncer": {"announce": true}}', '{"topic": "x"}'),
        ],
    )
    def test_the_same(self, one: str, other: str) -> None:
        """Spelled out or left to the defaults, in whatever order, whatever stands beside it."""
        assert load((shared(one),), BUILTIN) == load((shared(other),), BUILTIN)

    @pytest.mark.parametrize(
        "value",
        [
            {"mode": "dry_run"},
            {"announce": False},
            {"reconcile": 16},
            {"hearing": "off"},
            {"exempt": {"identity": ["x"]}},
            {"eviction": {"max_per_minute": 11}},
            {"eviction": {"keep_last_agent": True}},
            {"eviction": {"leave_within": 3}},
            {"policies": {"duplicates": {"grace": 3}}},
            {"policies": {"duplicates": {"only": ["*"]}}},
            {"policies": {"duplicates": [{}, {}]}},
            {"policies": {"duplicates": None}},
            {"policies": {"idle_timeout": {}}},
        ],
    )
    def test_another(self, value: Any) -> None:
        """Whatever is different makes a difference."""
        assert load((room(**value),), BUILTIN) != load((), BUILTIN)


def wrong_numbers(value: Any) -> Iterator[Any]:
    """The numbers among a policy's options, however deep, that are none or out of range."""
    match value:
        case bool() | str() | None:
            return
        case int() | float():
            if not (isfinite(value) and 0 <= value <= MAX_SECONDS):
                yield value
        case dict():
            for inner in value.values():
                yield from wrong_numbers(inner)
        case _:
            for inner in value:
                yield from wrong_numbers(inner)


def loads_or_refuses(*layers: Layer) -> Config | None:
    """The configuration, which has valid values only; None if it was refused, with reasons."""
    try:
        config = load(layers, REGISTRY)
    except ConfigError as error:
        refused = error
    else:
        return valid(config)
    assert refused.problems
    assert all(p.layer and p.path.startswith("$") and p.message for p in refused.problems)
    assert str(refused).encode()
    return None


def valid(config: Config) -> Config:
    """The configuration, once it is seen to have valid values only."""
    assert config.mode in ("enforce", "dry_run", "off")
    assert type(config.announce) is type(config.guards.keep_last_agent) is bool
    assert config.hearing in ("off", "level", "speech")
    assert 0 <= config.leave_within <= MAX_SECONDS
    assert 1 <= config.reconcile <= 3600
    assert 1 <= config.guards.max_per_minute <= 1_000_000
    for rule in config.rules:
        assert isinstance(rule.policy, REGISTRY)
        assert rule.action in ("evict", "report")
        assert not list(wrong_numbers([rule.notice, *astuple(rule.policy)]))  # type: ignore[call-overload]
    for glob in (*config.guards.exempt_identities, *config.guards.exempt_agent_names):
        assert 1 <= len(glob) <= 256
    assert json.dumps(config.effective, allow_nan=False, ensure_ascii=False).encode()
    return config


texts = st.text(st.characters() | st.characters(categories=["Cs"]), max_size=12)
"""Any text, lone surrogates included."""
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts | st.sampled_from([10**400, inf, nan, -0.0])
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)
"""Any JSON, and what Python's encoder makes of NaN and infinity."""
names = st.sampled_from(["mode", "policies", "duplicates", "exempt", "identity", "grace", "max", "only", "bouncer"])


def mostly(good: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly that, sometimes null, seldom anything."""
    return st.integers(0, 9).flatmap(lambda n: st.none() if n == 8 else values if n == 9 else good)


def objects(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with some of these keys, and seldom others."""
    known = st.fixed_dictionaries({}, optional={key: mostly(value) for key, value in keys.items()})
    others: st.SearchStrategy[dict[str, Any]] = (
        st.just({}) | st.just({}) | st.dictionaries(names | texts, values, max_size=2)
    )
    return st.tuples(others, known).map(lambda pair: pair[0] | pair[1])


def one_or_many(options: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[Any]:
    """A policy's value: options, or a list of them."""
    return options | st.lists(options, max_size=3)


seconds = st.sampled_from([0, 1, 2.5, 60, 1e6]) | st.floats(0, 100)
globs = st.lists(st.sampled_from(["*", "a*", "recorder-[ab]"]), max_size=2)
common = {"action": st.sampled_from(["evict", "report"]), "notice": seconds, "only": globs}
configurations = objects(
    mode=st.sampled_from(["enforce", "dry_run", "off"]),
    exempt=objects(identity=globs, agent_name=globs),
    policies=objects(
        duplicates=one_or_many(
            objects(
                key=st.sampled_from(["agent_name", "attribute:x"]),
                max=st.integers(1, 5),
                keep=st.sampled_from(["oldest", "newest"]),
                grace=seconds,
                unnamed=st.booleans(),
                **common,
            )
        ),
        idle_timeout=one_or_many(objects(timeout=seconds, **common)),
        window=one_or_many(objects(opens=seconds, closes=seconds, **common)),
        allow_list=one_or_many(objects(agent_names=globs, **common)),
        deny_list=one_or_many(objects(identities=globs, agent_names=globs, **common)),
        human_takeover=one_or_many(objects(identity=globs, attributes=objects(role=st.just("operator")), **common)),
        lone_chatter=one_or_many(objects(timeout=seconds, keep=st.sampled_from(["none", "oldest"]), **common)),
        max_lifetime=one_or_many(objects(limit=seconds, **common)),
        stuck_state=one_or_many(objects(limits=objects(thinking=seconds, idle=seconds), **common)),
        superseded=one_or_many(objects(by=objects(triage=globs, billing=globs), **common)),
    ),
    eviction=objects(max_per_minute=st.integers(1, 100), leave_within=seconds, keep_last_agent=st.booleans()),
    hearing=st.sampled_from(["auto", "off", "level", "speech"]),
    reconcile=st.floats(1, 3600),
    announce=st.booleans(),
)
"""Configurations that are valid, or nearly so."""


class TestAnything:
    """Whatever the metadata says: a configuration that is valid throughout, or a refusal with reasons."""

    @given(values)
    def test_any_value_of_our_key(self, value: Any) -> None:
        """Never another error."""
        loads_or_refuses(shared(json.dumps({"bouncer": value})))

    @given(values, st.booleans())
    def test_any_document(self, document: Any, is_shared: bool) -> None:  # noqa: FBT001  # Hypothesis gives it
        """In the room, in a dispatch."""
        loads_or_refuses(Layer("metadata", json.dumps(document), shared=is_shared))

    @given(st.text() | st.text(st.sampled_from('{}[]",:\\/bouncerNaI-+.eE01 \n\ud800')), st.booleans())
    @example(text='{"bouncer":', is_shared=True)
    def test_any_text(self, text: str, is_shared: bool) -> None:  # noqa: FBT001  # Hypothesis gives it
        """JSON or not."""
        loads_or_refuses(Layer("metadata", text, shared=is_shared))

    @given(configurations, st.data())
    def test_damaged_text(self, value: Any, data: st.DataObject) -> None:
        """A configuration with a piece cut out of it, or put in."""
        text = json.dumps({"bouncer": value})
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(start + 3, len(text))))
        loads_or_refuses(shared(text[:start] + data.draw(st.text(max_size=2)) + text[end:]))

    @given(configurations)
    def test_nearly_valid(self, value: Any) -> None:
        """Where each wrong value stands among right ones."""
        loads_or_refuses(shared(json.dumps({"bouncer": value})))

    @given(configurations, configurations)
    def test_layers(self, below: Any, above: Any) -> None:
        """One bad layer makes the whole bad; good ones say together what RFC 7396 makes of them."""
        whole = loads_or_refuses(ours(**below), room(**above))
        alone = [loads_or_refuses(ours(**value)) for value in (below, above)]

        if whole:
            assert all(alone)
            built_in = {"mode": "enforce", "policies": {"duplicates": {}}}
            merged = merge_patch(merge_patch(built_in, below), above)
            assert whole == load((ours(policies=None), ours(**merged)), REGISTRY)


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2, word for word."""
    if not isinstance(patch, dict):
        return patch
    if not isinstance(target, dict):
        target = {}
    target = dict(target)
    for name, value in patch.items():
        if value is None:
            if name in target:
                del target[name]
        else:
            target[name] = merge_patch(target.get(name), value)
    return target
