"""`bouncer replay`: what is different under another configuration, and what happened next."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bouncer.cli.app import app
from bouncer.configuration.model import Layer
from bouncer.configuration.settings import RecordingSettings
from bouncer.events import Heard
from bouncer.recording.comparison import Comparison, Next, compare
from bouncer.recording.format import FormatError
from bouncer.recording.otherwise import otherwise
from bouncer.recording.recorder import Recorder
from bouncer.recording.replay import Registry, follow, opened
from bouncer.room import LATE, Kind
from policies import BUILTIN
from tests.bench import Bench
from tests.recordings import KEY, Tapes

LISTENING = {"lk.agent.state": "listening"}
OFF: dict[str, Any] = {"duplicates": None}


def idle(timeout: float, **more: Any) -> str:
    """Return a configuration with idle_timeout."""
    return json.dumps({"bouncer": {"policies": {"idle_timeout": {"timeout": timeout, **more}}}})


def compared(script: Callable[[Bench], None], config: str, *, key: bytes | None = KEY, **settings: Any) -> Comparison:
    """Record what a room does, and compare it with what it would have done."""
    tapes = Tapes(key)
    bench = Bench(tapes=tapes, **({"policies": OFF} | settings))
    script(bench)
    bench.watch.close()
    (lines,) = tapes.recordings()
    return compare(otherwise(opened(lines), Registry(BUILTIN), (Layer("--config", config),)))


def agent(bench: Bench, identity: str = "A", **facts: Any) -> None:
    """Let an agent with a session join."""
    bench.joins(identity, "helper", **{"attributes": LISTENING, **facts})


def speaks_later(bench: Bench) -> None:
    """An agent is silent for a while, and then answers."""
    bench.joins("alice")
    agent(bench)
    bench.until(100)
    bench.says("A", "speaking")
    bench.until(110)
    bench.says("A", "listening")
    bench.until(130)


def waits_for_nobody(bench: Bench) -> None:
    """An agent is alone to the end."""
    agent(bench)
    bench.until(660)
    bench.leaves("A")
    bench.until(670)


def two_agents(bench: Bench) -> None:
    """A person has one agent that works, and one that doesn't."""
    bench.joins("alice")
    agent(bench, "A")
    agent(bench, "B")
    for second in range(20, 200, 20):
        bench.until(second)
        bench.says("A", "speaking" if second % 40 else "listening")


def idles_with_a_person(bench: Bench) -> None:
    """A person's only agent does nothing any more."""
    bench.joins("alice")
    agent(bench)
    bench.until(300)


def leaves_soon(bench: Bench) -> None:
    """An agent leaves by itself, a moment after it would have been evicted."""
    bench.joins("alice")
    agent(bench)
    bench.until(64)
    bench.leaves("A")
    bench.until(100)


def is_not_heard(bench: Bench) -> None:
    """An agent without a session: whether it speaks, no one listened to."""
    agent(bench, attributes={})
    bench.until(300)


def is_heard(bench: Bench) -> None:
    """The same, in a room that was listened to."""
    agent(bench, attributes={}, audio=True)
    bench.watch.tell(Heard(1, "PA_1", speaking=True))
    bench.watch.tell(Heard(2, "PA_1", speaking=False))
    bench.until(300)


@pytest.mark.parametrize(
    ("script", "happened", "minutes"),
    [
        (speaks_later, (Next.REGRET, Next.HARM), 70 / 60),
        (idles_with_a_person, (Next.HARM,), 4),
        (waits_for_nobody, (Next.RIGHT,), 10),
        (two_agents, (Next.RIGHT,), 2),
        (leaves_soon, (Next.POINTLESS,), 4 / 60),
        (is_heard, (Next.RIGHT,), (300 - 2 - 60 - LATE) / 60),
    ],
)
def test_what_happened_next(script: Callable[[Bench], None], happened: Sequence[Next], minutes: float) -> None:
    """To an agent that stayed, and would have been evicted after a minute."""
    policies = {**OFF, "idle_timeout": {"timeout": 3600}} if script is is_heard else OFF
    result = compared(script, idle(60), policies=policies)

    (new,) = result.new
    assert (new.next, *new.also) == happened
    assert new.minutes == pytest.approx(minutes, abs=0.04)
    assert result.gone == result.shifted == []
    assert result.total.regrets == (Next.REGRET in happened)
    assert result.total.harms == (Next.HARM in happened)
    assert result.total.unknown == 0


def test_what_was_not_listened_to_is_unknown() -> None:
    """Such an agent is held in doubt now as it would be then: that is not the same as none."""
    result = compared(is_not_heard, idle(60))

    assert result.new == []
    assert result.total.unknown == 1


def test_what_comes_after_the_first_difference_is_unknown() -> None:
    """The room would have gone on otherwise."""

    def script(bench: Bench) -> None:
        agent(bench, "A")
        bench.until(30)
        agent(bench, "B")
        bench.until(300)

    result = compared(script, idle(60))

    assert [(each.identity[-1:], each.next, each.minutes is None) for each in result.new] == [
        (result.new[0].identity[-1:], Next.RIGHT, False),
        (result.new[1].identity[-1:], Next.UNKNOWN, True),
    ]


def test_a_dry_run_has_no_first_difference() -> None:
    """It leaves the room as it was, so it can tell of every agent."""

    def script(bench: Bench) -> None:
        agent(bench, "A")
        bench.until(30)
        agent(bench, "B")
        bench.until(300)

    result = compared(script, idle(60), mode="dry_run")

    assert [each.next for each in result.new] == [Next.RIGHT, Next.RIGHT]


@pytest.mark.parametrize(
    ("then", "now", "new", "gone", "unchanged"),
    [(60, 60, [], [], 1), (60, 120, [], [True], 0), (120, 60, [True], [], 0), (60, 3600, [], [False], 0)],
)
def test_agents_that_were_evicted(then: float, now: float, new: list[bool], gone: list[bool], unchanged: int) -> None:
    """At the same time, later, earlier, or not at all; `True` where the other date is known too."""

    def script(bench: Bench) -> None:
        bench.joins("alice")
        agent(bench)
        bench.until(300)

    result = compared(script, idle(now), policies={**OFF, "idle_timeout": {"timeout": then}})

    assert [each.other_at is not None for each in result.new] == new
    assert [each.other_at is not None for each in result.gone] in (gone, [False] * len(gone))
    assert result.total.unchanged == unchanged
    assert result.total.unknown == len(gone), "what the agent would have done, no one knows"


def test_what_a_dry_run_would_have_evicted_is_new_once_it_is_enforced() -> None:
    """The agents did stay."""
    policies = {**OFF, "idle_timeout": {"timeout": 60}}
    enforced = compared(waits_for_nobody, '{"bouncer": {"mode": "enforce"}}', mode="dry_run", policies=policies)
    same = compared(waits_for_nobody, '{"bouncer": {"mode": "dry_run"}}', mode="dry_run", policies=policies)

    assert [each.next for each in enforced.new] == [Next.RIGHT]
    assert (same.new, same.total.unchanged) == ([], 1)


def test_what_the_budget_shifts_is_listed_apart() -> None:
    """It says nothing about the rule."""

    def script(bench: Bench) -> None:
        for number in range(4):
            agent(bench, f"A{number}")
        bench.until(200)

    config = json.dumps({"bouncer": {"eviction": {"max_per_minute": 2}}})
    result = compared(script, config, policies={**OFF, "idle_timeout": {"timeout": 60}})

    assert len(result.shifted) == 2
    assert (result.new, result.gone, result.total.unchanged) == ([], [], 2)


@pytest.mark.parametrize(("key", "unknown"), [(KEY, 1), (None, 0)])
def test_a_new_selector_can_not_see_behind_a_pseudonym(key: bytes | None, unknown: int) -> None:
    """Then the difference is unknown; with texts in clear it is not."""
    config = json.dumps({"bouncer": {"exempt": {"identity": ["B"]}, "policies": {"idle_timeout": {"timeout": 60}}}})
    result = compared(waits_for_nobody, config, key=key)

    assert result.total.unknown == unknown
    assert [each.next for each in result.new] == [Next.UNKNOWN if unknown else Next.RIGHT]


def test_a_rule_without_an_effect_is_no_difference() -> None:
    """Its own configuration, given again, changes nothing."""
    policies = {"idle_timeout": {"timeout": 60}, "duplicates": {}, "max_agents": {"max": 2}}

    def script(bench: Bench) -> None:
        bench.joins("alice")
        for second in range(4):
            agent(bench, f"A{second}", dispatch=f"AD_{second}")
            bench.until(second * 20 + 10)
        bench.joins("op", kind=Kind.SIP)
        bench.disconnects()
        bench.until(120)
        bench.reconnects()
        bench.until(300)

    result = compared(script, json.dumps({"bouncer": {"policies": policies}}), policies=policies)

    assert result.differences() == []
    assert result.total.unchanged > 2


@pytest.mark.parametrize("busy", [0, 6])
def test_what_was_computed_slowly_is_done_again_as_it_was(busy: float) -> None:
    """The room rested, and a timer rang late: because the bouncer was frozen, or because it computed."""
    tapes = Tapes()
    bench = Bench({"idle_timeout": {"timeout": 50}}, tapes=tapes)
    agent(bench)
    bench.until(10)
    bench.signals("A")
    bench.watch.took(0.3)
    bench.signals("A")
    bench.until(20)
    bench.now = 26
    bench.news += bench.watch.step(26, busy).news
    bench.until(200)
    (lines,) = tapes.recordings()

    done = [line for line, _ in follow(opened(lines), Registry(BUILTIN))]

    assert sum("took" in line for line in done) == 1
    assert any(line.get("step", {}).get("late") for line in done) == (busy == 0)


def test_only_judging_makes_a_room_rest_when_it_is_done_again() -> None:
    """An answer that took long, after a step that took no time to speak of, delays nothing."""
    tapes = Tapes()
    bench = Bench({"idle_timeout": {"timeout": 50}}, tapes=tapes)
    agent(bench)
    bench.until(10)
    bench.signals("A")
    bench.until(10)
    bench.watch.took(0.000_1)
    bench.watch.took(3)
    bench.signals("A")
    bench.until(200)
    (lines,) = tapes.recordings()

    done = [line for line, _ in follow(opened(lines), Registry(BUILTIN))]

    assert not any("took" in line for line in done)


def test_whose_configuration_is_refused_is_said() -> None:
    """The recording's own, or only both together."""
    with pytest.raises(FormatError, match="the configuration is no longer valid: BOUNCER_CONFIG"):
        spoilt('{"bouncer": {"modus": "off"}}', idle(60))
    with pytest.raises(FormatError, match="the room's configuration and this one don't fit together"):
        spoilt('{"bouncer": {"hearing": "off"}}', '{"bouncer": {"policies": {"lone_chatter": {}}}}')


def spoilt(theirs: str, config: str) -> None:
    """Replay a room under BOUNCER_CONFIG and a configuration above it."""
    tapes = Tapes()
    waits_for_nobody(Bench(tapes=tapes, policies=OFF))
    (lines,) = tapes.recordings()
    header = json.loads(lines[0]) | {"layers": [{"name": "BOUNCER_CONFIG", "text": theirs}]}
    otherwise(opened([json.dumps(header), *lines[1:]]), Registry(BUILTIN), (Layer("--config", config),))


# The command


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of three rooms, and two files that are none."""
    folder = tmp_path_factory.mktemp("recordings")
    recorder = Recorder(RecordingSettings(folder=str(folder)), "secret", "bouncer")
    for script in (speaks_later, waits_for_nobody, two_agents):
        taped = recorder.room(script.__name__, "RM_1", time.monotonic)
        bench = Bench(tapes=taped, policies=OFF)
        script(bench)
        bench.watch.close()
    recorder.close()
    (folder / "broken.jsonl.gz").write_bytes(b"nothing")
    (first, *_) = sorted(folder.glob("2*.gz"))
    (folder / "joined.jsonl.gz").write_bytes(first.read_bytes() * 2)
    return folder


def run(*arguments: object) -> tuple[int, str, str]:
    """Run `bouncer replay`. Return its status, and what it says on stdout and stderr."""
    result = CliRunner().invoke(app, ["replay", *map(str, arguments)], env={"COLUMNS": "200"})
    return result.exit_code, result.stdout, result.stderr


def good(folder: Path) -> list[Path]:
    """Return the recordings that are good."""
    return sorted(folder.glob("2*.gz"))


def test_the_same_decisions_again(folder: Path) -> None:
    """Without another configuration, there is no difference."""
    status, output, _ = run(good(folder)[0], "--json", "--fail-on", "difference")

    answer = json.loads(output)
    assert status == 0
    assert (answer["rooms"], answer["new"], answer["gone"], answer["unchanged"]) == (1, [], [], 0)


def test_the_answer_in_json(folder: Path) -> None:
    """Bad files are told of, and the others go on, in processes of their own."""
    status, output, complaints = run(folder, "--config", idle(60), "--json")

    answer = json.loads(output)
    assert status == 2
    assert sorted(line.split("jsonl.gz: ")[1] for line in complaints.splitlines()) == [
        "is damaged: Error -3 while decompressing data: incorrect header check",
        next(line.split("jsonl.gz: ")[1] for line in complaints.splitlines() if "second recording" in line),
    ]
    assert {key: answer[key] for key in ("v", "rooms", "unchanged", "regrets", "harms", "unknown")} == {
        "v": 1,
        "rooms": 3,
        "unchanged": 0,
        "regrets": 1,
        "harms": 1,
        "unknown": 0,
    }
    assert answer["room_hours"] == pytest.approx((130 + 670 + 180) / 3600, abs=0.01)
    assert answer["agent_minutes_saved"] == pytest.approx(13.2, abs=0.1)
    assert [each["next"] for each in answer["new"]] == ["regret", "right", "right"]
    assert answer["new"][0]["agent_name"] == "helper"
    assert "alice" not in output
    assert answer["by_policy"]["idle_timeout"]["new"] == 3


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("--fail-on", "regret"), 1),
        (("--fail-on", "harm"), 1),
        (("--fail-on", "difference"), 1),
        (("--fail-on", "difference", "--policy", "duplicates"), 0),
        (("--fail-on", "difference", "--since", "7d"), 1),
        ((), 0),
    ],
)
def test_the_status(arguments: tuple[str, ...], status: int, folder: Path) -> None:
    """For CI."""
    regret = next(path for path in good(folder) if "regret" in run(path, "--config", idle(60))[1])

    assert run(regret, "--config", idle(60), *arguments)[0] == status


def test_old_rooms_are_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By when they were opened."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 86_400)

    assert json.loads(run(good(folder)[0], "--json", "--since", "2d")[1])["rooms"] == 1
    assert json.loads(run(good(folder)[0], "--json", "--since", "12h")[1])["rooms"] == 0


def test_values_are_tuned(folder: Path) -> None:
    """A row for each: what is saved, against what is regretted."""
    status, output, _ = run(*good(folder), "--tune", "idle_timeout.timeout=30,60,120,300")

    rows = [line.split() for line in output.splitlines()]
    assert status == 0
    assert [(row[0], row[2], row[3]) for row in rows[1:]] == [
        ("30", "1", "1"),
        ("60", "1", "1"),
        ("120", "0", "0"),
        ("300", "0", "0"),
    ]
    assert [float(row[1]) for row in rows[1:]] == sorted((float(row[1]) for row in rows[1:]), reverse=True)


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (("--config", '{"bouncer": {"policies": {"idle_timeout": {"timeout": -1}}}}'), 1, "timeout: must be"),
        (("--config", "/missing"), 2, "No such file or directory; give JSON that begins with “{”, or a file"),
        (("--since", "yesterday"), 2, "--since: must be a number and a unit"),
        (("--tune", "idle_timeout"), 2, "--tune: must be like idle_timeout.timeout=30,60"),
        (("--tune", "idle_timeout.tiemout=3"), 1, "tiemout"),
        (("--policy", "idle_timout"), 2, "there is no policy 'idle_timout'; there are allow_list, crosstalk"),
        (("--html", "x.html"), 2, "--html: needs --config"),
        (("--fail-on", "anything"), 2, "regret"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], status: int, complaint: str, folder: Path) -> None:
    """What is wrong, and what would be right."""
    found, _, said = run(good(folder)[0], *arguments)

    assert (found, complaint in said) == (status, True), said
