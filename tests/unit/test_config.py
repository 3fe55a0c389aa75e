"""Configuration: what is in force, and what is refused where."""

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import pytest

from bouncer import Policy, Room, Seconds, Verdict
from bouncer.configuration.load import load
from bouncer.configuration.model import DISPATCH, MAX_GLOBS, MAX_SIZE, ROOM, ConfigError, Layer
from bouncer.configuration.options import option_docs
from bouncer.decide import Guards
from bouncer.policy import MAX_SECONDS, Rule
from bouncer.selectors import Selector
from bouncer.testing import participant
from policies import BUILTIN
from policies.deny_list import DenyList
from policies.duplicates import Duplicates
from policies.idle_timeout import IdleTimeout

WRAPPED = '{"bouncer":{"mode":1}},'
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

    def evaluate(self, room: Room) -> Iterable[Verdict]:  # noqa: ARG002  # it judges no one
        """Judge no one."""
        return ()


DISPATCHED = "its agent name, which its dispatch gives"
COMMON = {"action": "evict", "notice": 0, "only": None}
"""The defaults of the options that every policy takes."""
REGISTRY: tuple[type[Policy], ...] = (*BUILTIN, Window)


def zeros(names: Iterable[object]) -> str:
    """Return a JSON object with 0 under each of these names, as often as they are given."""
    return "{" + ",".join(f'"k{name}":0' for name in names) + "}"


def many(entry: str) -> str:
    """Return a JSON object with this entry 20,000 times, each with another number in its key."""
    return "{" + ",".join(entry.replace("{}", str(number), 1) for number in range(20_000)) + "}"


def inside(name: str, depth: int, value: str) -> str:
    """Return a JSON value inside that many objects."""
    return f'{{"{name}":' * depth + value + "}" * depth


def shared(text: str) -> Layer:
    """Return room metadata with this text."""
    return Layer("room metadata", text, shared=True)


def room(**bouncer: Any) -> Layer:
    """Return room metadata with this under our key."""
    return shared(json.dumps({"bouncer": bouncer}))


def ours(**bouncer: Any) -> Layer:
    """Return a layer of ours alone, with this under our key."""
    return Layer("BOUNCER_CONFIG", json.dumps({"bouncer": bouncer}))


def rules(*layers: Layer) -> list[tuple[str, Policy]]:
    """Return what the room is guarded by: rule ids and policies."""
    return [(rule.id, rule.policy) for rule in load(layers, REGISTRY).rules]


def problems(*layers: Layer) -> dict[str, str]:
    """Return the JSON paths and messages of layers that must be refused."""
    with pytest.raises(ConfigError) as refused:
        load(layers, REGISTRY)
    assert refused.value.problems
    return {problem.path: problem.message for problem in refused.value.problems}


class TestDefaults:
    """With no configuration at all."""

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
        """It is logged in full, and is JSON."""
        effective = load((room(policies={"idle_timeout": [{"timeout": 60}]}),), BUILTIN).effective

        assert json.loads(json.dumps(effective, allow_nan=False)) == {
            "mode": "enforce",
            "exempt": {
                "identity": [],
                "agent_name": [],
                "name": [],
                "attributes": {},
                "metadata": [],
                "dispatched_only": False,
            },
            "people": {"also": None, "except": None},
            "avatars": None,
            "policies": {
                "duplicates": COMMON
                | {"key": "agent_name", "max": 1, "keep": "oldest", "grace": 2, "wait_for_life": 25, "unnamed": False},
                "idle_timeout": [COMMON | {"timeout": 60, "unseen": "hold"}],
            },
            "eviction": {"leave_within": 3.5, "max_per_minute": 10, "keep_last_agent": False},
            "hearing": "auto",
            "leave_after": None,
            "reconcile": 15,
            "announce": True,
        }


class TestTaken:
    """What can be configured, and what it does."""

    @pytest.mark.parametrize("mode", ["enforce", "dry_run", "off"])
    def test_mode(self, mode: str) -> None:
        """There are three modes."""
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
        """The rules are in registry order, then in list order, whatever the order in the JSON."""
        layer = room(policies={"idle_timeout": [{"timeout": 60}, {"timeout": 5}], "duplicates": {"max": 2}})

        assert rules(layer) == [
            ("duplicates", Duplicates(max=2)),
            ("idle_timeout", IdleTimeout(timeout=60)),
            ("idle_timeout[1]", IdleTimeout(timeout=5)),
        ]

    @pytest.mark.parametrize("off", [[], None])
    def test_off(self, off: Any) -> None:
        """An empty list turns a policy off, and so does null, even if none is left."""
        assert rules(room(policies={"duplicates": off})) == []

    @pytest.mark.parametrize("seconds", [0, -0.0, 2, 2.5, 5e-324, MAX_SECONDS])
    def test_times_are_numbers_of_seconds(self, seconds: float) -> None:
        """From 0 to ten years, whole or not."""
        assert rules(room(policies={"duplicates": {"grace": seconds}})) == [("duplicates", Duplicates(grace=seconds))]


class TestSelectors:
    """Selectors: an object, or a list of objects of which one match is enough."""

    def test_each_arrives_where_it_is_used(self) -> None:
        """It is compiled, with its own keys and no others."""
        who, many = {"name": ["Zoe*"], "attributes": {"role": "op"}}, [{"identity": ["a"]}, {"metadata": ["*"]}]
        options = {"agent_names": ["x"], "who": many, "only": who}
        config = load(
            (room(people={"also": who, "except": many}, avatars=many, policies={"deny_list": options}),), BUILTIN
        )
        one, several = (
            Selector(name=("Zoe*",), attributes={"role": "op"}),
            (Selector(identity=("a",)), Selector(metadata=("*",))),
        )
        (rule,) = (rule for rule in config.rules if rule.policy.name == "deny_list")

        assert (config.people_also, config.people_except, config.avatars) == (one, several, several)
        assert (rule.only, rule.policy) == (one, DenyList(agent_names=("x",), who=several))
        assert config.effective["people"] == {"also": who, "except": many}
        assert config.effective["policies"]["deny_list"]["only"] == who

    @pytest.mark.parametrize(
        ("exempt", "who", "why"),
        [
            ({"identity": ["x"], "name": ["Zoe"]}, {"name": "Zoe"}, "its name"),
            (
                {"agent_name": ["a*"]},
                {"agent_name": "ann", "dispatch": "AD_1"},
                "its agent name, which its dispatch gives",
            ),
            ({"agent_name": ["a*"]}, {"agent_name": "ann"}, "its agent name, which it gives itself"),
            ({"agent_name": ["a*"], "dispatched_only": True}, {"agent_name": "ann"}, ""),
            (
                {"agent_name": ["a*"], "dispatched_only": True},
                {"agent_name": "ann", "dispatch": "AD_1"},
                "its agent name, which its dispatch gives",
            ),
            ({"identity": ["A"], "dispatched_only": True}, {}, "its identity"),
            ([{"identity": ["A"], "name": ["Zoe"]}], {"name": "Eva"}, ""),
            ([{"identity": ["A"], "name": ["Zoe"]}], {"name": "Zoe"}, "its identity, name"),
            ([{"name": ["Eva"]}, {"agent_name": ["*"]}], {"agent_name": "x"}, "its agent_name, which it gives itself"),
            ({"attributes": {"desk": "1", "role": "x"}}, {"attributes": {"desk": "1"}}, ""),
            ({"metadata": ["*vip*"]}, {"metadata": "a vip!"}, "its metadata"),
        ],
    )
    def test_exempt(self, exempt: Any, who: Any, why: str) -> None:
        """In an object one key is enough, in a list all keys of one entry. The reason says whose word it rests on."""
        guards = load((room(exempt=exempt),), BUILTIN).guards

        assert guards.exempted_by(participant("A", **who)) == why

    @pytest.mark.parametrize(
        ("value", "path", "words"),
        [
            ({"people": {"also": 3}}, "people.also", "an object, or a list of such objects, not 3"),
            ({"people": {"also": [3]}}, "people.also[0]", "must be an object, not 3"),
            ({"people": {"also": []}}, "people.also", "1 or more entries"),
            ({"people": {"except": {"identity": "x"}}}, "people.except.identity", 'a list, not "x"'),
            ({"people": {"except": {"identity": []}}}, "people.except.identity", "1 or more entries"),
            ({"people": {"exept": {}}}, "people.exept", "did you mean “except”? (known: also, except)"),
            ({"avatars": [{"nam": ["x"]}]}, "avatars[0].nam", "did you mean “name”?"),
            ({"avatars": {"attributes": {"a": ["x"]}}}, "avatars.attributes.a", "a string"),
            ({"exempt": [{"dispatched_only": True}]}, "exempt[0].dispatched_only", "is unknown here"),
            ({"exempt": ["recorder-*", "x"]}, "exempt", '{"identity": ["recorder-*"]}'),
            ({"hearing": {"mode": "loud"}}, "hearing.mode", "'level' or 'speech', not \"loud\""),
            ({"hearing": {"ignore": []}}, "hearing.ignore", "did you mean “ignore_tracks”?"),
            ({"leave_after": -1}, "leave_after", "at least 0, not -1"),
            ({"policies": {"duplicates": {"only": {"nam": ["x"]}}}}, "policies.duplicates.only.nam", "“name”"),
            ({"policies": {"duplicates": {"only": [{"x": 1}]}}}, "policies.duplicates.only[0].x", "is unknown here"),
            (
                {"policies": {"deny_list": {"who": "x"}}},
                "policies.deny_list.who",
                "an object, or a list of such objects",
            ),
        ],
    )
    def test_what_is_wrong(self, value: Any, path: str, words: str) -> None:
        """The error has the exact place, and what would be right."""
        ((found, message),) = problems(room(**value)).items()

        assert (found, words in message) == (f"$.bouncer.{path}", True), message

    def test_a_room_has_so_many_globs_and_no_more(self) -> None:
        """The limit is for all places and all layers together."""
        by = {f"a{number}": ["b"] * 100 for number in range(9)}

        assert load((room(policies={"superseded": {"by": by}}),), BUILTIN).rules
        too_many = [{"by": by}, {"by": {"a": ["b"] * 92}}]
        message, most = f"may have at most {MAX_GLOBS} globs in all, but has ", "$.bouncer.policies.superseded"
        one = f"{message}{9 * 101 + 93}, most of them in {most}[0]"
        assert problems(room(policies={"superseded": too_many})) == {"$.bouncer": one}
        both = ours(policies={"superseded": {"by": by}}), room(exempt={"identity": ["x"] * 92})
        assert problems(*both) == {"$.bouncer": f"{message}{9 * 101 + 92}, most of them in {most}"}

    @pytest.mark.parametrize("mode", ["auto", "level", "off"])
    def test_hearing_as_an_object(self, mode: str) -> None:
        """It means the same as the word, with the tracks that are no one's voice."""
        value = {"mode": mode, "ignore_tracks": ["music-*"]}
        config = load((room(hearing=value, policies={"idle_timeout": {}}),), BUILTIN)

        assert config.hearing == load((room(hearing=mode, policies={"idle_timeout": {}}),), BUILTIN).hearing
        assert (config.ignore_tracks, config.effective["hearing"]) == (("music-*",), value)
        assert load((), BUILTIN).ignore_tracks == ("background_audio",)


class TestHearing:
    """The rules decide what is listened to, unless the configuration says it."""

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
        """Nothing is listened to unless a rule of this room needs it."""
        assert load((room(**value),), BUILTIN).hearing == hearing

    @pytest.mark.parametrize("policy", ["lone_chatter", "unresponsive"])
    def test_what_is_needed_cannot_be_off(self, policy: str) -> None:
        """Neither in one layer nor in two. The error is at the policy that needs it."""
        needs, off = {"policies": {policy: {"timeout": 5}}}, {"hearing": "off"}

        for layers in [(room(**needs, **off),), (ours(**needs), room(**off)), (ours(**off), room(**needs))]:
            ((path, message),) = problems(*layers).items()
            assert path == f"$.bouncer.policies.{policy}"
            assert '"hearing": "off"' in message
        assert load((ours(**needs), room(policies={policy: None}, **off)), BUILTIN).hearing == "off"


class TestLayers:
    """Layers, lowest first, combined as JSON Merge Patch (RFC 7396)."""

    def test_objects_merge(self) -> None:
        """A layer contains only differences."""
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
        """It removes what is beneath. An option's default is not a layer, and can't be removed."""
        assert [policy for _, policy in rules(ours(policies=below), room(policies=above))] == left

    @pytest.mark.parametrize(
        ("below", "above", "path"),
        [
            ({"exempt": {"identity": ["a"]}}, {"exempt": [{"identity": ["b"]}]}, "exempt"),
            ({"exempt": [{"identity": ["a"]}]}, {"exempt": {"identity": ["b"]}}, "exempt"),
            ({"mode": "dry_run"}, {"mode": None}, "mode"),
            ({"mode": "off"}, {"mode": None}, "mode"),
            ({"exempt": [{"identity": ["a"]}]}, {"exempt": [{"identity": ["b"]}]}, ""),
            ({"exempt": {"identity": ["a"]}}, {"exempt": {"identity": ["b"]}}, ""),
            ({"exempt": {"identity": ["a"]}}, {"exempt": None}, ""),
            ({}, {"exempt": [{"identity": ["b"]}], "mode": None}, ""),
            ({"mode": "dry_run"}, {"mode": "enforce"}, ""),
        ],
    )
    def test_what_a_layer_hardly_means_to_drop_is_a_warning(self, below: Any, above: Any, path: str) -> None:
        """Exemptions of another shape don't merge, and a null is no mode. What is said in so many words is meant."""
        warnings = load((ours(**below), room(**above)), BUILTIN).warnings

        assert [(each.layer, each.path) for each in warnings] == ([(ROOM, f"$.bouncer.{path}")] if path else [])

    def test_each_layer_has_to_be_valid_alone(self) -> None:
        """A higher layer can't repair a lower one. The error names the layer."""
        with pytest.raises(ConfigError) as refused:
            load((ours(reconcile=0), Layer("dispatch metadata", "x"), room(reconcile=5, mode="on")), BUILTIN)

        assert [(p.layer, p.path) for p in refused.value.problems] == [
            ("BOUNCER_CONFIG", "$.bouncer.reconcile"),
            ("dispatch metadata", "$"),
            ("room metadata", "$.bouncer.mode"),
        ]

    def test_a_required_option_is_required_in_each_layer(self) -> None:
        """A layer that names a policy gives everything the policy requires."""
        assert problems(ours(policies={"window": {"opens": 1}}), room(policies={"window": {"closes": 9}})) == {
            "$.bouncer.policies.window.opens": "is required"
        }

    def test_the_whole_has_to_be_valid(self) -> None:
        """Two layers, each valid, may contradict each other."""
        below, above = ours(policies={"window": {"opens": 5}}), room(policies={"window": {"opens": 1, "closes": 2}})
        assert rules(below, above)[1] == ("window", Window(opens=1, closes=2))

        with pytest.raises(ConfigError, match="the layers combined") as refused:
            load((above, ours(policies={"window": {"opens": 5}})), REGISTRY)
        (problem,) = refused.value.problems
        assert problem.path.startswith("$.bouncer.policies.window")

    def test_null_takes_no_unknown_name(self) -> None:
        """A typo must not leave the default in force."""
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
            pytest.param("topic: {}", id="YAML"),
            pytest.param("our bouncer is nice", id="our word, in prose"),
            pytest.param("bouncer: yes", id="our word with a colon"),
            pytest.param("our bouncer (nice), [see] {name}", id="our word before braces"),
            pytest.param("the mode dry_run of the bouncer", id="our words, in prose"),
            pytest.param('{"topic": "x",}', id="someone else's trailing comma"),
            pytest.param("[" * 100_000, id="someone else's nesting"),
            pytest.param('{"topic": "the bouncer", "n": 1}', id="our word, as part of a value"),
            pytest.param('{"x": 1, "x": 2}', id="someone else's repeated key"),
            pytest.param('{"x": NaN}', id="someone else's NaN"),
            pytest.param('{"x": {"bouncer": {"door": 1}}}', id="a bouncer, inside something else"),
            pytest.param('{"x": {"y": {"bouncer": {"mode": "off"}}}}', id="our key, far inside"),
            pytest.param('[{"bouncer": 1}, 2]', id="a list with our word as a key"),
            pytest.param('{"x": "{\\"bouncer\\": 1}"}', id="JSON inside of JSON with our word as a key"),
            pytest.param('{"bouncers": {"door": "Joe"}, "bounces": 3}', id="a similar key with other contents"),
            pytest.param('{"announcer": {"mode": "tts"}}', id="a less similar key"),
            pytest.param('{"mode": "off", "policies": {"theirs": {}}}', id="someone else's mode and policies"),
            pytest.param("they call it 'bouncer': a joke", id="our word in quotes"),
            pytest.param('She said "Bouncer".', id="our word in other letters"),
            pytest.param('["bouncer"]', id="a list"),
            pytest.param('"bouncer"', id="a string"),
            pytest.param('"{bouncer} says \\"bouncer\\""', id="a string with our word in it"),
            pytest.param('{"exempt": true, "eviction": {"theirs": 1}}', id="someone else's exemptions and evictions"),
            pytest.param('{"exempt": [], "Eviction": "soft"}', id="someone else's exemptions and evictions, too"),
            pytest.param('{"exempt": ["x", 1]}', id="someone else's list of exemptions"),
            pytest.param('{"exempt": [{"tax": 1}]}', id="someone else's exempt objects"),
            pytest.param('{"mode": "voice", "Mode": ["dry_run"]}', id="someone else's modes"),
            pytest.param('{"dry_run": false, "dryRun": "no"}', id="no dry run"),
            pytest.param('{"hearing": "off", "announce": false, "reconcile": 9}', id="words that many have"),
            pytest.param('{"people": 3, "avatars": 2}', id="numbers of people and avatars"),
            pytest.param('{"people": [{"name": "Ann"}], "hearing": {"at": "noon"}}', id="someone else's people"),
            pytest.param('{"avatars": [{"name": "Ann"}], "Avatars": []}', id="someone else's avatars"),
            pytest.param('{"policies": {"retention": 30}}', id="someone else's policies"),
            pytest.param('{"policies": ["retention"], "policy": "strict"}', id="someone else's list of policies"),
            pytest.param('{"duplicates": 3, "max_agents": {"region": 4}}', id="policies' names with other contents"),
            pytest.param("null", id="null"),
            pytest.param("1" * 5000, id="a number"),
        ],
    )
    def test_metadata_without_our_key_configures_nothing(self, text: str) -> None:
        """That is no error, and the layers beneath stay in force."""
        assert load((ours(mode="dry_run"), shared(text)), BUILTIN) == load((ours(mode="dry_run"),), BUILTIN)

    def test_others_may_write_alongside_us(self) -> None:
        """They may write anything that is JSON."""
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
    def test_text_that_is_not_json_but_names_us_is_refused(self, text: str) -> None:
        """A trailing comma must not silently enforce the defaults."""
        refused = problems(shared(text))

        assert refused.keys() == {"$"}
        assert "must be JSON" in refused["$"]

    @pytest.mark.parametrize(
        ("text", "path", "right"),
        [
            ('{"Bouncer": {"mode": "dry_run"}}', "$.Bouncer", "“bouncer”, in small letters"),
            ('{"BOUNCER": {}, "bouncer": {"mode": "off"}}', "$.BOUNCER", "“bouncer”, in small letters"),
            ('{"Bouncer": {"mode": "off"},}', "$", "must be JSON"),
            ("{'bouncer': {'mode': 'dry_run'}}", "$", "is the text of a Python dict"),
            ("{'topic': 'x', 'bouncer' : {}}", "$", "is the text of a Python dict"),
            ("{'Bouncer': {'mode': 'dry_run'}}", "$", "is the text of a Python dict"),
            (json.dumps('{"bouncer": {"mode": "dry_run"}}'), "$", "is JSON encoded twice"),
            (json.dumps('{"Bouncer": {}}'), "$", "is JSON encoded twice"),
            ('{"exempt": {"identity": ["a"]}}', "$.exempt", "belongs at $.bouncer.exempt"),
            ('{"bouncer": {}, "eviction": {"keep_last_agent": true}}', "$.eviction", "belongs at $.bouncer.eviction"),
            ('{"mode": "dry_run"}', "$.mode", "belongs at $.bouncer.mode"),
            ('{"mode": "enforce", "bouncer": {}}', "$.mode", "belongs at $.bouncer.mode"),
            ('{"dry_run": true}', "$.dry_run", '"mode": "dry_run"'),
            ('{"policies": {"idle_timeout": {}}}', "$.policies", "belongs at $.bouncer.policies"),
            ('{"policies": {"theirs": {}, "window": null}}', "$.policies", "belongs at $.bouncer.policies"),
            *(
                (json.dumps({key: value}), f"$.{key}", f"belongs at $.bouncer.{place}, inside of")
                for key, value, place in (
                    ("mode", "dry-run", "mode"),
                    ("mode", "DryRun", "mode"),
                    ("Mode", "ENFORCE", "mode"),
                    ("bouncer_mode", "dry_run", "mode"),
                    ("exempt", ["recorder-*"], "exempt"),
                    ("exempt", [{"identity": ["a"]}], "exempt"),
                    ("exempt", {"identities": ["a"]}, "exempt"),
                    ("Exempt", {"agentName": ["a"]}, "exempt"),
                    ("eviction", {"keep_last": True}, "eviction"),
                    ("policies", ["duplicates"], "policies"),
                    ("policies", [{"idle_timeout": {}}], "policies"),
                    ("policies", {"idleTimeout": None}, "policies"),
                    ("policies", {"duplicate": None}, "policies"),
                    ("Policies", {"duplicates": None}, "policies"),
                    ("policy", {"duplicates": None}, "policies"),
                    ("duplicates", None, "policies.duplicates"),
                    ("duplicates", False, "policies.duplicates"),
                    ("idleTimeout", {"timeout": 60}, "policies.idle_timeout"),
                    ("idle_timeout", [{"only": ["a"]}], "policies.idle_timeout"),
                    ("keep_last_agent", True, "eviction.keep_last_agent"),
                    ("maxPerMinute", 3, "eviction.max_per_minute"),
                    ("leave_within", 3, "eviction.leave_within"),
                    ("leave_after", 60, "leave_after"),
                    ("people", {"also": {"identity": ["a"]}}, "people"),
                    ("people", {"except": None}, "people"),
                    ("avatars", {"identity": ["a"]}, "avatars"),
                    ("avatars", [{"attributes": {"role": "avatar"}}], "avatars"),
                    ("hearing", {"ignore_tracks": ["music"]}, "hearing"),
                )
            ),
            ('{"dry_run": "True"}', "$.dry_run", '"mode": "dry_run"'),
            ('{"dryRun": 1}', "$.dryRun", '"mode": "dry_run"'),
            ('{"bouncer ": {}}', '$["bouncer "]', "did you mean “bouncer”?"),
            ('{"bouncer\u200b": {}}', '$["bouncer\\u200b"]', "did you mean “bouncer”?"),
            ('{"\uff42ouncer": {}}', "$.\uff42ouncer", "did you mean “bouncer”?"),
            ('{"bouncers": {"mode": 1}}', "$.bouncers", "did you mean “bouncer”?"),
            ('{"boucner": {"mode": "dry_run"}}', "$.boucner", "did you mean “bouncer”?"),
            ('{"bouncerConfig": {"policies": null}}', "$.bouncerConfig", "did you mean “bouncer”?"),
            ('[{"bouncer": {"mode": "dry_run"}}]', "$[0].bouncer", "belongs at $.bouncer, at the top"),
            ('{"metadata": {"bouncer": {"mode": 1}}}', "$.metadata.bouncer", "belongs at $.bouncer, at the top"),
            (json.dumps({"metadata": '{"bouncer": {"mode": "off"}}'}), "$.metadata", "is JSON inside of JSON"),
            (json.dumps(['{"x": 1, "bouncer": {"exempt": []}}']), "$[0]", "is JSON inside of JSON"),
            ("[{'bouncer': {'mode': 'dry_run'}}]", "$", "is the text of a Python dict"),
            *(
                (text, "$", "must be JSON")
                for text in (
                    '{bouncer: {mode: "dry_run"}}',
                    "{ Bouncer : { } }",
                    "bouncer:\n  mode: dry_run",
                    "topic: x\nbouncer:\n  policies:\n    duplicates: null",
                    'bouncer = {mode = "dry_run"}',
                    '[bouncer]\nmode = "dry_run"',
                    "{\u201cbouncer\u201d: {\u201cmode\u201d: \u201cdry_run\u201d}}",
                    r"{\"bouncer\": {\"mode\": \"dry_run\"}}",
                    "{&quot;bouncer&quot;: {}}",
                    "OrderedDict([('bouncer', OrderedDict([('mode', 'dry_run')]))])",
                    "dict(bouncer={'mode': 'dry_run'})",
                    "dict(bouncer=dict(mode='dry_run'))",
                    "mode: dry_run",
                    '{"mode": "dry_run",}',
                )
            ),
        ],
    )
    def test_a_mistake_never_enforces_silently(self, text: str, path: str, right: str) -> None:
        """Text that looks like ours is refused, in the room and in a dispatch. The error says what is right."""
        for name in (ROOM, DISPATCH):
            ((found, message),) = problems(Layer(name, text, shared=True)).items()
            assert (found, right in message) == (path, True), message

    def test_a_key_of_ours_leaves_the_copies_alone(self) -> None:
        """What an application keeps elsewhere, such as the previous configuration, is its own."""
        before = {"mode": "dry_run"}
        text = json.dumps({"bouncer": {"mode": "off"}, "before": {"bouncer": before}, "bouncer_before": before})

        assert load((shared(text),), BUILTIN).mode == "off"

    @pytest.mark.parametrize("text", ["vip", '{"patient": 7}', '{"agent": {"bouncer": 1}}', "[1", '{"mode": "fast"}'])
    def test_another_applications_dispatch_metadata_configures_nothing(self, text: str) -> None:
        """The room's own configuration stays in force, and a warning says so."""
        dispatch = Layer(DISPATCH, text, shared=True, expected=True)
        config = load((dispatch, room(mode="dry_run")), BUILTIN)

        assert config == load((room(mode="dry_run"),), BUILTIN)
        assert [(w.layer, "configures nothing" in w.message) for w in config.warnings] == [(DISPATCH, True)]
        assert config.silent == (DISPATCH,)

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
        """BOUNCER_CONFIG has our key and no other."""
        assert problems(Layer("BOUNCER_CONFIG", text)).keys() == {path}


class TestRefused:
    """Nothing is coerced, and nothing unknown is accepted."""

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
        """Null is refused too: one reader would take it for `off`, another for the defaults."""
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
        """The error lists the known names, and the one that was probably meant."""
        separator = "" if path.startswith("[") else "."
        (found, message), *others = problems(room(**value)).items()

        assert (found, others) == (f"$.bouncer{separator}{path}", [])
        assert "unknown" in message
        assert known in message.partition("known: ")[2]
        assert ("did you mean" in message, meant in message) == (bool(meant), True)

    @pytest.mark.parametrize(
        ("value", "path", "right"),
        [
            ({"max_per_minute": 3}, "max_per_minute", "it belongs at $.bouncer.eviction.max_per_minute"),
            ({"identity": ["x"]}, "identity", "it belongs at $.bouncer.exempt.identity"),
            ({"idle_timeout": {"timeout": 5}}, "idle_timeout", "it belongs at $.bouncer.policies.idle_timeout"),
            ({"duplicates": None}, "duplicates", "it belongs at $.bouncer.policies.duplicates"),
            ({"keep_last_agent": None}, "keep_last_agent", "it belongs at $.bouncer.eviction.keep_last_agent"),
            ({"policies": {"exempt": None}}, "policies.exempt", "it belongs at $.bouncer.exempt"),
            ({"policies": {"duplicates": {"mode": None}}}, "policies.duplicates.mode", "it belongs at $.bouncer.mode"),
            ({"overlap": 5}, "overlap", "it belongs to a policy, such as $.bouncer.policies.crosstalk.overlap"),
            ({"dry_run": True}, "dry_run", 'write "mode": "dry_run"'),
            ({"bouncer": {"mode": "dry_run"}}, "bouncer", "what is in it belongs at $.bouncer, since one"),
            ({"policies": {"mode": "dry_run"}}, "policies.mode", "it belongs at $.bouncer.mode"),
            (
                {"policies": {"limit": 5}},
                "policies.limit",
                "it belongs to a policy, such as ",
            ),
            ({"policies": {"notice": 5}}, "policies.notice", "it belongs to a policy, such as $.bouncer.policies."),
            (
                {"policies": {"duplicates": {"announce": False}}},
                "policies.duplicates.announce",
                "at $.bouncer.announce",
            ),
            ({"eviction": {"announce": False}}, "eviction.announce", "is unknown here"),
        ],
    )
    def test_a_key_on_the_wrong_level(self, value: Any, path: str, right: str) -> None:
        """The error shows the right level."""
        ((found, message),) = problems(room(**value)).items()

        assert (found, right in message) == (f"$.bouncer.{path}", True), message

    @pytest.mark.parametrize(
        ("policy", "options", "words"),
        [
            ("idle_timeout", {"timeout": 60, "notice": 60}, "timeout 60, not 60"),
            ("idle_timeout", {"timeout": 60, "notice": 59.9}, ""),
            ("duplicates", {"notice": 2}, "grace 2, not 2"),
            ("empty_room", {"notice": 30}, "grace 20, not 30"),
            ("stuck_state", {"notice": 70}, "limits.initializing 60, not 70"),
            ("stuck_state", {"limits": {"thinking": 80}, "notice": 70}, ""),
            ("no_return", {"notice": 1}, "must be 0, since the rule gives no time"),
            ("allow_list", {"agent_names": ["x"], "notice": 1}, "grace 0, not 1"),
        ],
    )
    def test_a_notice_is_shorter_than_the_time_that_the_rule_gives(self, policy: str, options: Any, words: str) -> None:
        """Otherwise it would be given at once, again and again."""
        if words:
            ((path, message),) = problems(room(policies={policy: options})).items()
            assert (path, words in message) == (f"$.bouncer.policies.{policy}.notice", True), message
        else:
            assert load((room(policies={policy: options}),), BUILTIN).rules

    @pytest.mark.parametrize(
        ("value", "path", "words"),
        [
            ({"policies": {"idle_timeout": {"timeout": 60_000 * 5}}}, "policies.idle_timeout.timeout", "milliseconds"),
            (
                {"policies": {"stuck_state": {"limits": {"idle": 1e6}}}},
                "policies.stuck_state.limits.idle",
                "milliseconds",
            ),
            ({"leave_after": 90_000}, "leave_after", "milliseconds"),
            ({"policies": {"duplicates": {"only": []}}}, "policies.duplicates.only", "is empty"),
            ({"policies": {"allow_list": {"agent_names": []}}}, "policies.allow_list.agent_names", "is empty"),
            ({"exempt": {"identity": ["rec-.*"]}}, "exempt.identity[0]", "a regular expression"),
            ({"exempt": {"agent_name": ["ok", "^a"]}}, "exempt.agent_name[1]", "a regular expression"),
            ({"policies": {"deny_list": {"agent_names": ["(a|b)"]}}}, "policies.deny_list.agent_names[0]", "regular"),
            ({"policies": {"superseded": {"by": {"a.+": ["b"]}}}}, 'policies.superseded.by["a.+"]', "regular"),
            ({"people": {"also": {}}}, "people.also", "matches no one"),
            ({"avatars": [{"name": ["a\\d"]}]}, "avatars[0].name[0]", "regular"),
            *(
                ({"exempt": {"identity": [glob]}}, "exempt.identity[0]", words)
                for words, globs in {
                    "a regular expression": (
                        "assistant|notetaker",
                        "assistant[0-9]+",
                        "assistant-[a-z]{3}",
                        "a{3}",
                        "assistant.?",
                        "ass(istant)?",
                        "/assistant/",
                        "assistant\\*",
                    ),
                    "ends with a space": (" assistant", "assistant\n"),
                    "is one glob": ("a, b", "{a,b}*"),
                    "has no “]”": ("[assistant", "a[b]c["),
                }.items()
                for glob in globs
            ),
        ],
    )
    def test_a_probable_mistake_is_a_warning(self, value: Any, path: str, words: str) -> None:
        """It is in force all the same."""
        (warning,) = load((room(**value),), BUILTIN).warnings

        assert (warning.layer, warning.path, words in warning.message) == (ROOM, f"$.bouncer.{path}", True), warning

    @pytest.mark.parametrize(
        "glob", ["recorder-*", "v1.2", "a?b", "[ab]*", "agent.name", "a$b", "a(b)", "x+", "{a}", "[[]a"]
    )
    def test_a_usual_glob_is_no_mistake(self, glob: str) -> None:
        """False alarms teach people to ignore warnings."""
        assert not load((room(exempt={"identity": [glob]}),), BUILTIN).warnings

    def test_names_and_metadata_have_commas_and_brackets(self) -> None:
        """They are prose, or JSON."""
        exempt = {
            "name": ["Smith, Ann", "[AI"],
            "metadata": ['*{"a":1,"b":2}*', '*["x", *'],
            "attributes": {"a": "b, c"},
        }

        assert not load((room(exempt=exempt),), BUILTIN).warnings

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
        """JSON doesn't say which one counts, so neither is accepted, even if they are equal."""
        refused = problems(shared(text))

        assert refused.keys() == {path}
        assert "more than once" in refused[path]

    def test_everything_at_once(self) -> None:
        """One attempt shows all of them."""
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

    def test_a_policy_may_refuse_a_combination_of_options(self) -> None:
        """Its own message is shown."""
        (message,) = problems(room(policies={"duplicates": {"key": "name"}})).values()

        assert '"attribute:NAME"' in message

    def test_the_text_of_the_error_has_it_all(self) -> None:
        """It has a line per problem: layer, path, message."""
        with pytest.raises(ConfigError) as refused:
            load((room(mode="on", announce=3),), BUILTIN)

        assert str(refused.value).splitlines() == [
            "room metadata: $.bouncer.mode: must be 'enforce', 'dry_run' or 'off', not \"on\"",
            "room metadata: $.bouncer.announce: must be true or false, not 3",
        ]


class TestBadInput:
    """Anyone may write metadata, and none of it does harm."""

    @pytest.mark.parametrize("digits", [309, 310, 400, 401, 4300, 4301, 5000, 400_000])
    @pytest.mark.parametrize("sign", ["", "-"])
    @pytest.mark.parametrize("tail", ["", ".5", "e5", "e-5"])
    def test_long_numbers(self, digits: int, sign: str, tail: str) -> None:
        """Python stops at 4,300 digits, and floats at 309."""
        number = f"{sign}{'9' * digits}{tail}"
        refused = problems(
            shared(f'{{"bouncer": {{"reconcile": {number}, "eviction": {{"max_per_minute": {number}}}}}}}')
        )

        assert refused.keys() == {"$.bouncer.reconcile", "$.bouncer.eviction.max_per_minute"}
        assert all(len(message) < 200 for message in refused.values())

    @pytest.mark.parametrize(
        ("where", "opening", "closing"),
        [
            ('{"bouncer": %s}', '{"bouncer":', "}"),
            ('{"bouncer": %s}', "[", "]"),
            ('{"bouncer": {"mode": %s}}', '{"a":', "}"),
            ('{"bouncer": {"exempt": {"identity": %s}}}', "[", "]"),
            ('{"bouncer": {"policies": {"duplicates": %s}}}', '[{"a":', "}]"),
            ('{"bouncer": {"policies": {"duplicates": {"only": %s}}}}', '{"a":', "}"),
            ('{"bouncer": {"polices": %s}}', '[{"a":', "}]"),
        ],
    )
    def test_nesting(self, where: str, opening: str, closing: str) -> None:
        """It is refused at any depth, also where one step runs out of stack and the one before did not."""
        limit = sys.getrecursionlimit()
        depths = {2, 10, *range(limit // 8, limit + 20, 13), 10 * limit, METADATA_LIMIT // len(opening + closing)}
        for depth in depths:
            assert problems(shared(where % (opening * depth + "1" + closing * depth)))

    def test_nesting_outside_our_key_is_no_error(self) -> None:
        """It only has to be readable for Python."""
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
        """They are not valid text. They are refused, and the error can be sent and logged."""
        for path, message in problems(shared(f'{{"bouncer": {value}}}')).items():
            assert path.startswith("$.bouncer")
            assert (path + message).encode()

    def test_too_much_of_it(self) -> None:
        """64 KiB are ours, whatever the size of the rest."""
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
        """Each text and list has its limit, and the error doesn't repeat the value."""
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
                f'{{"bouncer": {{}}, "x": {zeros([*range(40_000), 0])}}}', id="someone else's keys, one repeated"
            ),
            pytest.param(f'{{"bouncer": {inside("k" * 60, 400, zeros([0, 0]))}}}', id="a repeated key far inside"),
            pytest.param(f'{{"bouncer": {{"mode": "off"}}{", []" * 100_000}}}', id="no JSON in the end"),
            pytest.param(f'{{"bouncer": {{"{"x" * 500_000}": 1}}}}', id="a long name"),
            pytest.param(f'{{"{"x" * 500_000}": {{"mode": 1}}}}', id="another's long name"),
            pytest.param(many('"bouncer{}":{"mode":1}'), id="keys like ours"),
            pytest.param(f"[{WRAPPED * 20_000}1]", id="our key, wrapped"),
            pytest.param(f'{{"policies": {zeros(range(40_000))}}}', id="another's policies"),
            pytest.param(many('"k{}":{"mode":1}'), id="another's modes"),
            pytest.param("bouncer: " * 50_000, id="our word, repeated"),
            pytest.param(f"bouncer{' ' * 500_000}", id="our word and space"),
            pytest.param(" " * 500_000 + "x", id="space"),
            pytest.param(f"bouncer = {'w' * 500_000}", id="our word and another"),
            pytest.param(f'{{"bouncer": "{"_u0000" * 80_000}"}}'.replace("_", "\\"), id="escapes"),
        ],
    )
    def test_much_of_it_takes_little(self, text: str) -> None:
        """The work grows with the length of the text, not with its square, and the errors are bounded."""
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
        """Where no other key is allowed, the error about them is bounded."""
        others = ",".join(f'"{i}": 0' for i in range(20_000))
        ((_, message),) = problems(Layer("dispatch metadata", f'{{"bouncer": {{}}, {others}}}')).items()

        assert len(message) < 4096


def calls(run: Callable[[], object], limit: int) -> int:
    """Return the number of calls of Python and C functions, with generators' steps. More than the limit fail."""
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
        """It is dedented. An option without a string has no documentation."""
        assert option_docs(Window) == {"opens": "When it opens.", "closes": "When it\ncloses."}

    def test_a_class_whose_source_is_not_at_hand(self) -> None:
        """Its options are not documented; that is no error."""
        made: dict[str, Any] = {"__name__": "made"}
        exec("class Made:\n    first: int = 1\n    'The first.'", made)  # noqa: S102 - so that it has no source

        assert option_docs(made["Made"]) == {}

    def test_a_class_inside_a_function(self) -> None:
        """A third party's tests may have one."""

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
    """Configurations that say the same are equal, so nothing is armed again."""

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ('{"bouncer": {"mode": "off", "reconcile": 20}}', '{"bouncer":{"reconcile":20.0,"mode":"off"},"x":1}'),
            ('{"bouncer": {}}', '{"bouncer": {"mode": "enforce", "policies": {"duplicates": {"grace": 2}}}}'),
            ("", '{"bouncer": {"announce": null, "people": {"also": null}, "leave_after": null}}'),
            ('{"bouncer": {"announce": true}}', '{"topic": "x"}'),
            *(
                (json.dumps(shape).replace("?", "\u00f4"), json.dumps(shape).replace("?", "o\u0302"))
                for shape in (
                    {"bouncer": {"exempt": {"attributes": {"r?le": "x"}}}},
                    {"bouncer": {"avatars": {"attributes": {"r?le": "x"}}}},
                    {"bouncer": {"policies": {"human_takeover": {"attributes": {"r?le": "x"}}}}},
                    {"bouncer": {"policies": {"duplicates": {"key": "attribute:r?le"}}}},
                    {"bouncer": {"policies": {"duplicates": {"key": ["agent_name", "attribute:r?le"]}}}},
                )
            ),
        ],
    )
    def test_the_same(self, one: str, other: str) -> None:
        """Spelled out or left to the defaults, in any order and Unicode form, whatever else the metadata has."""
        assert load((shared(one),), BUILTIN) == load((shared(other),), BUILTIN)

    @pytest.mark.parametrize(
        "value",
        [
            {"mode": "dry_run"},
            {"announce": False},
            {"people": {"also": {"identity": ["x"]}}},
            {"people": {"except": {"identity": ["x"]}}},
            {"avatars": {"identity": ["x"]}},
            {"leave_after": 60},
            {"hearing": {"ignore_tracks": []}},
            {"exempt": [{"identity": ["x"]}]},
            {"exempt": {"dispatched_only": True}},
            {"policies": {"duplicates": {"only": {"name": ["x"]}}}},
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
        """Every difference counts."""
        assert load((room(**value),), BUILTIN) != load((), BUILTIN)
