"""What a bouncer would do in a room, judged from the server's lists alone, and the view of it."""

import json
from dataclasses import replace
from typing import Any

import pytest

from bouncer import Kind
from bouncer.configuration.model import Layer
from bouncer.events import Info, Job
from bouncer.guard.outside import Answer, Lists, acting, judge
from bouncer.guard.plan import AT_WORK, CONFIGURED, planned
from bouncer.guard.view import snapshot, view
from policies import BUILTIN
from tests.bench import Bench

REPORT: dict[str, Any] = {"max_lifetime": {"limit": 1, "action": "report"}}


def info(identity: str, joined: float, name: str = "", kind: Kind = Kind.AGENT, **facts: Any) -> Info:
    """A participant as a list shows it."""
    attributes = {"lk.agent_name": name} if name else {}
    facts = {"agent_grant": kind is Kind.AGENT, "hidden": False, "attributes": attributes, **facts}
    return Info(
        sid=f"PA_{identity}", identity=identity, kind=kind, joined_at=joined, joined_ms=round(joined * 1000), **facts
    )


ANA = info("ana", 5, kind=Kind.STANDARD)
A, B = info("A", 10, "assistant"), info("B", 20, "assistant")
GUARD = info("agent-AJ_1", 4, hidden=True, attributes={"bouncer.guarding": "true"})
GUARD_JOB = Job(dispatch="AD_1", job="AJ_1", agent_name="bouncer", identity="agent-AJ_1")
FOREIGN_JOB = Job(dispatch="AD_2", job="AJ_1", agent_name="doorman", identity="agent-AJ_1")
IMPOSTOR = info("fake", 1, hidden=True, attributes={"bouncer.guarding": "true"})


def lists(*infos: Info, jobs: tuple[Job, ...] = (), at: float = 100, metadata: str = "", **bouncer: Any) -> Lists:
    """A room whose metadata has this configuration."""
    metadata = metadata or json.dumps({"bouncer": bouncer})
    return Lists(name="room", sid="RM_1", metadata=metadata, infos=infos, jobs=jobs, at=at)


def seen(room: Lists) -> tuple[list[str], dict[str, tuple[str, str]], tuple[str, ...]]:
    """Return who would be evicted now, the verdicts' status and guard by identity and rule, and the unknown."""
    found = judge(room, agent_name="bouncer", layers=(), registry=BUILTIN)
    shown = view(found.snapshot, str)
    verdicts = {f"{each['identity']} {each['policy']}": (each["status"], each["held_by"]) for each in shown["verdicts"]}
    return [finding.participant.identity for finding in found.evicted], verdicts, found.unknown


@pytest.mark.parametrize(
    ("room", "evicted", "verdicts", "unknown"),
    [
        (lists(ANA, A), [], {}, ()),
        (lists(ANA, A, B), ["B"], {"B duplicates": ("due", "")}, ()),
        (lists(ANA, A, B, at=21), [], {"B duplicates": ("pending", "")}, ()),
        (lists(ANA, A, B, mode="dry_run"), [], {"B duplicates": ("due", "")}, ()),
        (lists(ANA, A, B, mode="off"), [], {}, ()),
        (lists(ANA, A, B, exempt={"identity": ["B"]}), [], {"B duplicates": ("held", "exempt")}, ()),
        (lists(ANA, A, B, at=21, exempt={"identity": ["B"]}), [], {"B duplicates": ("pending", "exempt")}, ()),
        (lists(ANA, A, policies=REPORT), [], {"A max_lifetime": ("reported", "")}, ()),
        (
            lists(ANA, A, B, policies={"idle_timeout": [{"timeout": 0}, {"timeout": 1}], "stuck_state": {}}),
            ["B"],
            {"B duplicates": ("due", "")},
            ("idle_timeout", "stuck_state"),
        ),
        (
            lists(A, B, policies={"empty_room": {"grace": 20, "never_joined": 120}}),
            ["B"],
            {"B duplicates": ("due", ""), "A empty_room": ("pending", ""), "B empty_room": ("pending", "")},
            (),
        ),
        (
            lists(A, B, info("C", 21, "assistant"), eviction={"max_per_minute": 1}),
            ["B"],
            {"B duplicates": ("due", ""), "C duplicates": ("held", "max_per_minute")},
            (),
        ),
        (lists(ANA, A, B, GUARD, jobs=(GUARD_JOB,)), ["B"], {"B duplicates": ("due", "")}, ()),
        (lists(), [], {}, ()),
    ],
)  # fmt: skip
def test_what_would_be_done(
    room: Lists, evicted: list[str], verdicts: dict[str, tuple[str, str]], unknown: tuple[str, ...]
) -> None:
    """The engine's own watch decides; what rests on watching is named as unknown, and never decides anything."""
    assert seen(room) == (evicted, verdicts, unknown)


def test_a_refused_configuration() -> None:
    """Nothing is judged, but everyone is shown."""
    found = judge(lists(ANA, A, B, mode="on"), agent_name="bouncer", layers=(), registry=BUILTIN)
    shown = view(found.snapshot, str)

    assert [problem.path for problem in found.snapshot.problems] == ["$.bouncer.mode"]
    assert ([*found.evicted], shown["verdicts"], shown["configuration"]) == ([], [], None)
    assert [each["role"] for each in shown["participants"]] == ["person", "agent", "agent"]


@pytest.mark.parametrize(
    ("infos", "jobs", "guarded_by", "asked"),
    [
        ((GUARD,), (GUARD_JOB,), ["agent-AJ_1"], "agent-AJ_1"),
        ((GUARD,), (), [], ""),  # not listed yet, or an impostor
        ((info("agent-AJ_1", 4, hidden=True),), (GUARD_JOB,), [], "agent-AJ_1"),
        ((GUARD, IMPOSTOR), (GUARD_JOB,), ["agent-AJ_1"], "agent-AJ_1"),
        ((GUARD,), (FOREIGN_JOB,), ["agent-AJ_1"], ""),
    ],
    ids=["ours", "not dispatched", "says nothing", "an impostor alongside", "another fleet's"],
)  # fmt: skip
def test_which_bouncer_guards(
    infos: tuple[Info, ...], jobs: tuple[Job, ...], guarded_by: list[str], asked: str
) -> None:
    """Its dispatch says who is a bouncer, not what it says of itself; only one of our own is asked, guarding or not."""
    room = lists(ANA, A, *infos, jobs=jobs)
    found = acting(room, "bouncer")
    shown = view(judge(room, agent_name="bouncer", layers=(), registry=BUILTIN).snapshot, str)

    assert (shown["guarded_by"], found.identity if found else "") == (guarded_by, asked)


def test_what_is_known_only_from_watching_is_not_shown() -> None:
    """The view from outside has no fact that we would have made up."""
    shown = view(judge(lists(ANA, A, B), agent_name="bouncer", layers=(), registry=BUILTIN).snapshot, str)

    assert set(shown["participants"][1]) == {"identity", "sid", "role", "kind", "agent_name", "joined_at", "attributes"}
    assert (shown["standing"], shown["departed"], "watching_since" in shown) == ("", [], False)


def test_of_a_crowd_the_agents_are_shown() -> None:
    """From outside everyone is; what a bouncer answers with is bounded, and says what it leaves out."""
    crowd = [info(f"p{n}", n, kind=Kind.STANDARD) for n in range(1, 1500)]
    scene = judge(lists(*crowd, A, B, at=2000), agent_name="bouncer", layers=(), registry=BUILTIN).snapshot
    whole, shown = view(scene, str), view(replace(scene, outside=False), str)

    assert (len(whole["participants"]), whole["not_shown"]) == (1501, 0)
    assert (len(shown["participants"]), shown["not_shown"]) == (1000, 501)
    assert {"A", "B"} <= {each["identity"] for each in shown["participants"]}


@pytest.mark.parametrize(
    "policies",
    [
        {"idle_timeout": {"timeout": 60}},
        {"idle_timeout": {"timeout": 80, "action": "report"}, "duplicates": None},
        {"idle_timeout": [{"timeout": 200}, {"timeout": 70, "only": ["assistant"]}]},
        {"stuck_state": {"limits": {"thinking": 20}}},
        {"no_return": {"window": 600}},
        {"empty_room": {"grace": 10, "never_joined": 10}},
        {"max_lifetime": {"limit": 95}},
    ],
)
def test_with_its_answer_it_is_judged_as_the_bouncer_itself_would(policies: dict[str, Any]) -> None:
    """Also what rests on watching, and on what was done before: the same verdicts as once it is in force."""
    bench = Bench(policies={"duplicates": {"grace": 0}})
    bench.joins("ana")
    bench.joins("A", "assistant")
    bench.joins("T", "thinker")
    bench.joins("twin", "assistant")
    bench.joins("V", kind=Kind.AGENT, attributes={"lk.publish_on_behalf": "A"})
    bench.until(30)
    bench.signals("A")
    bench.says("T", "thinking")
    bench.leaves("ana")
    bench.joins("twin", "other")
    bench.until(100)
    here = snapshot(bench.watch, bench.now, name="room", sid="RM_1")
    room = Lists(
        name="room",
        sid="RM_1",
        metadata=json.dumps({"bouncer": {"policies": policies}}),
        infos=(*bench.here.values(),),
        jobs=bench.jobs,
        at=bench.now,
    )

    answer = Answer(view(here, str), float)
    tried = judge(room, agent_name="bouncer", layers=(), registry=BUILTIN, answer=answer)

    bench.watch.configure(room.metadata, bench.now)
    after = snapshot(bench.watch, bench.now, name="room", sid="RM_1")
    keys = ("identity", "policy", "due_at", "reason", "status", "held_by")
    found, real = ([[each[key] for key in keys] for each in view(s, str)["verdicts"]] for s in (tried.snapshot, after))
    assert found == real
    assert found
    assert {f.participant.sid for f in tried.evicted} == {f.participant.sid for f in after.decision.evictions}
    facts = {who.identity: who for who in tried.snapshot.room.participants}
    assert (facts["V"].principal, facts["A"].active_at) == (facts["A"], 30)


def test_of_whom_the_bouncer_does_not_tell_nothing_is_made_up() -> None:
    """A participant that its answer leaves out is not judged, and no one that it is evicting already is evicted."""
    told: dict[str, Any] = {
        "watching_since": "0",
        "participants": [{"sid": "PA_A", "active_at": "10"}, {"sid": "PA_C", "active_at": "30"}],
        "departed": [],
        "verdicts": [{"sid": "PA_C", "status": "leaving"}],
    }
    room = lists(ANA, A, B, info("C", 21, "other"), policies={"idle_timeout": {"timeout": 1}})

    tried = judge(room, agent_name="bouncer", layers=(), registry=BUILTIN, answer=Answer(told, float))

    assert [f.participant.identity for f in tried.evicted] == ["A"]
    assert tried.unknown == ()


def test_what_even_the_bouncer_does_not_know_is_said() -> None:
    """It listens only once a rule needs that, and leaves some of a crowd out. Without its answer, more is unknown."""
    told: dict[str, Any] = {"participants": [], "departed": [], "verdicts": [], "hearing": "off", "not_shown": 3}
    room = lists(ANA, A)
    tried = Layer("room metadata", json.dumps({"bouncer": {"policies": {"idle_timeout": {}}}}), shared=True)
    facts = []
    for answered in (told, told | {"hearing": "level", "not_shown": 0}, None):
        _, shown = planned(
            room, {}, agent_name="bouncer", layers=(), registry=BUILTIN, instead=tried, answered=answered
        )
        facts.append([(each["fact"].partition(":")[0], each["policies"]) for each in shown["unknown_facts"]])

    assert facts == [
        [
            ("what it would hear", ["idle_timeout"]),
            ("what 3 participants do, of which it did not tell", ["idle_timeout"]),
            (CONFIGURED, []),
        ],
        [(CONFIGURED, [])],
        [(AT_WORK, ["idle_timeout"])],
    ]
