"""A room as its bouncer sees it, as JSON: what becomes of each verdict."""

from typing import Any

import pytest

from bouncer.events import Heard
from bouncer.guard.view import snapshot, view
from bouncer.ports import Trouble
from tests.bench import Bench

LIFE_30 = {"duplicates": None, "max_lifetime": {"limit": 30}}
REPORT = {"duplicates": None, "max_lifetime": {"limit": 30, "action": "report"}}
EXEMPT = {"identity": ["A"]}


def seen(bench: Bench) -> dict[str, Any]:
    """Return the room now, dated in seconds."""
    return view(snapshot(bench.watch, bench.now, name="lobby", sid="RM_1"), lambda at: f"{at:g}")


def guarded(until: float, **facts: Any) -> Bench:
    """Let an agent join at 0, and time pass."""
    bench = Bench(**facts)
    bench.joins("A", "x")
    bench.until(until)
    return bench


@pytest.mark.parametrize(
    ("bench", "facts"),
    [
        pytest.param(lambda: guarded(20, policies=LIFE_30), {"status": "pending", "due_at": "30"}, id="not due yet"),
        pytest.param(
            lambda: guarded(20, policies=LIFE_30, exempt=EXEMPT),
            {"status": "pending", "held_by": "exempt", "why": "its identity"},
            id="exempt when it will be due",
        ),
        pytest.param(
            lambda: guarded(40, policies=LIFE_30, exempt=EXEMPT),
            {"status": "held", "held_by": "exempt"},
            id="exempt and due",
        ),
        pytest.param(
            lambda: guarded(20, policies={"idle_timeout": {"timeout": 30}}),
            {"status": "pending", "held_by": "doubt"},
            id="in doubt when it will be due",
        ),
        pytest.param(lambda: guarded(40, policies=REPORT), {"status": "reported", "action": "report"}, id="reported"),
        pytest.param(
            lambda: guarded(32, policies=LIFE_30, removal_trouble=Trouble.DENIED),
            {"status": "retrying", "retry_at": "60"},
            id="denied, and to be tried again",
        ),
    ],
)
def test_what_becomes_of_a_verdict(bench: Any, facts: dict[str, str]) -> None:
    """Each verdict has one status, and what belongs to it."""
    (verdict,) = seen(bench())["verdicts"]

    assert facts.items() <= verdict.items()


def test_an_eviction_and_what_it_leaves() -> None:
    """While it is under way, and once the agent has left."""
    bench = Bench(policies=LIFE_30)
    during: list[dict[str, Any]] = []
    bench.meanwhile = lambda: during.append(seen(bench))
    bench.joins("A", "x")
    bench.until(40)
    before, after = during[0], seen(bench)

    assert [(each["status"], each["leaving_since"]) for each in before["verdicts"][:1]] == [("leaving", "30")]
    assert (after["verdicts"], after["evictions"]["all"]) == ([], 1)
    assert [(gone["identity"], gone["evicted_at"], gone["policy"]) for gone in after["departed"]] == [
        ("A", "30", "max_lifetime")
    ]


@pytest.mark.parametrize(("policies", "mode"), [("none", ""), (None, "off")])
def test_a_room_without_rules_has_no_verdicts(policies: Any, mode: str) -> None:
    """Its configuration is refused, or says `off`."""
    bench = guarded(5, policies=policies, mode=mode or "enforce")

    assert (seen(bench)["verdicts"], seen(bench)["mode"]) == ([], mode)
    assert bool(seen(bench)["problems"]) is (not mode)


def test_since_when_people_are_gone_and_what_is_heard() -> None:
    """The room is empty of people from then on."""
    bench = Bench(policies={"idle_timeout": {"timeout": 300}})
    bench.joins("A", "x", audio=True)
    bench.until(5)
    bench.watch.tell(Heard(5, bench.here["A"].sid, speaking=False))
    (heard,) = (each for each in seen(bench)["participants"] if each["identity"] == "A")
    assert heard["audible"] is True
    bench.joins("ana")
    bench.until(6)
    bench.leaves("ana")

    assert seen(bench)["people_left_at"] == "6"
