"""`bouncer replay`: what a bouncer would have done in recorded rooms, and what happened next."""

import json
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from bouncer.cli.terminal import REFUSED, USAGE, err, installing, misused, out, print_json, refused
from bouncer.plain import plain, why

if TYPE_CHECKING:
    from bouncer.cli.replaying import Result, Task
    from bouncer.configuration.model import Layer
    from bouncer.recording.comparison import Comparison, Difference

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
MOST_TIMELINES = 200
"""Timelines on a page, of the worst differences; with more it would be too large to open."""
SHOWN = 50
"""Differences that are listed for a person; --json and --html have all."""
EPILOG = (
    "Exit status: 0, all is well; 1, what --fail-on names was found, or the configuration is refused; "
    "2, wrong usage, or a recording that can't be replayed: the others are."
)


class FailOn(StrEnum):
    """What makes the exit status 1."""

    REGRET = "regret"
    HARM = "harm"
    DIFFERENCE = "difference"


def replay(
    paths: Annotated[list[str], typer.Argument(metavar="FILE|DIR", help="Recordings, or folders with recordings.")],
    *,
    config: Annotated[
        str, typer.Option(metavar="FILE|JSON", help="A configuration above that of the rooms: JSON, or its file.")
    ] = "",
    since: Annotated[str, typer.Option(metavar="7d", help="Only rooms that were opened since: 7d, 12h, 30m.")] = "",
    policy: Annotated[str, typer.Option(metavar="NAME", help="Compare only what this policy does.")] = "",
    tune: Annotated[
        str, typer.Option(metavar="OPTION=VALUES", help="Compare values: idle_timeout.timeout=30,60,120.")
    ] = "",
    html: Annotated[str, typer.Option(metavar="FILE", help="Write a page with a timeline of each difference.")] = "",
    fail_on: Annotated[FailOn | None, typer.Option(help="End with status 1 if there is one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,
) -> None:
    """Replay recorded rooms, and say what another configuration would have done, and whether that is right.

    Without a configuration each recording is replayed under its own, and has to give exactly the same decisions.
    """
    from bouncer.cli.replaying import Task
    from bouncer.recording.files import recordings

    _known(policy)
    base = _layer("--config", config)
    overlays = _overlays(base, tune)
    if html and (tune or not overlays):
        misused("--html: needs --config, and shows one configuration")
    if html and not find_spec("plotly"):
        misused(f"--html: needs plotly: {installing('replay')}")
    files = [*recordings(paths)]
    if not files:
        misused(f"no recordings in {', '.join(paths)}")
    job = Task(tuple(layers for _, layers in overlays), _since(since), policy, timelines=html != "")
    found, problems = _run(files, job)
    for each in sorted(problems, key=lambda result: result.file):
        err.print(Text(plain(f"{each.file}: {each.problem}"), "red"))

    comparison = found[0]
    if html:
        from bouncer.recording.page import page

        try:
            Path(html).write_text(page(comparison, config), encoding="utf-8")
        except OSError as error:
            misused(f"--html: {html} can't be written: {error}")
    if tune:
        _show_tuning([value for value, _ in overlays], found, tune, as_json=as_json)
    elif as_json:
        print_json(**comparison.json())
    else:
        _show(comparison)
    if fail_on and any(_fails(each, fail_on) for each in found):
        raise typer.Exit(REFUSED)
    if problems:
        raise typer.Exit(USAGE)


def _fails(comparison: "Comparison", fail_on: FailOn) -> bool:
    total = comparison.total
    return {
        FailOn.REGRET: total.regrets > 0,
        FailOn.HARM: total.harms > 0,
        FailOn.DIFFERENCE: bool(comparison.differences()),
    }[fail_on]


# What is asked for


def _known(policy: str) -> None:
    """End if there is no such policy: nothing would be found, which looks like good news."""
    from bouncer.configuration.plugins import installed
    from bouncer.recording.comparison import policy_of
    from policies import BUILTIN

    names = {*(each.name for each in BUILTIN), *installed()}
    if policy and policy_of(policy) not in names:
        misused(f"--policy: there is no policy {policy!r}; there are {', '.join(sorted(names))}")


def _since(text: str) -> float:
    if not text:
        return 0.0
    if not (found := re.fullmatch(r"(\d{1,6})([smhdw])", text)):
        misused(f"--since: must be a number and a unit, such as 7d, 12h or 30m, not {text!r}")
    return time.time() - int(found[1]) * UNITS[found[2]]


def _layer(option: str, text: str) -> "tuple[Layer, ...]":
    """Return a configuration as a layer. End if it is refused."""
    from bouncer.configuration.load import load
    from bouncer.configuration.model import ConfigError, Layer
    from bouncer.configuration.plugins import installed
    from policies import BUILTIN

    if not text:
        return ()
    name = option
    if not text.lstrip().startswith("{"):
        name = f"{option} ({text})"
        try:
            text = Path(text).read_text(encoding="utf-8-sig")
        except (OSError, ValueError) as error:
            misused(f"{option} {text}: can't be read: {why(error)}; give JSON that begins with “{{”, or a file")
    layer = Layer(name, text)
    try:
        load((layer,), BUILTIN, installed())
    except ConfigError as error:
        refused(*map(str, error.problems))
    return (layer,)


def _overlays(base: "tuple[Layer, ...]", tune: str) -> "list[tuple[Any, tuple[Layer, ...]]]":
    """Return what is to be compared, each with the value that is tuned."""
    if not tune:
        return [(None, base)] if base else []
    path, _, given = tune.partition("=")
    option = path.removeprefix("policies.").split(".")
    values = [_value(text.strip()) for text in given.split(",")]
    if len(option) < 2 or not all(option) or not given:  # noqa: PLR2004 - a policy and its option
        misused(f"--tune: must be like idle_timeout.timeout=30,60,120, not {tune!r}")
    return [(value, (*base, *_layer(f"--tune {path}={value}", _tuned(option, value)))) for value in values]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _tuned(option: list[str], value: Any) -> str:
    from policies import BUILTIN

    patch = value
    for key in reversed(option):
        patch = {key: patch}
    ours = ("eviction", "exempt", "hearing", "people")
    policies = option[0] not in ours or option[0] in {policy.name for policy in BUILTIN}
    return json.dumps({"bouncer": {"policies": patch} if policies else patch})


# Doing it


def _run(files: Sequence[Path], job: "Task") -> "tuple[list[Comparison], list[Result]]":
    """Replay all files. Return a comparison for each overlay, and what went wrong."""
    from bouncer.recording.comparison import Comparison

    found = [Comparison() for _ in job.overlays or ((),)]
    problems: list[Result] = []
    with _progress(len(files)) as advance:
        for result in _results(files, job):
            advance()
            if result.problem:
                problems.append(result)
            for total, one in zip(found, result.comparisons, strict=False):
                total.add(one)
                if one.differences() and job.timelines:
                    total.keep_timelines(MOST_TIMELINES)
    return found, problems


def _results(files: Sequence[Path], job: "Task") -> "Iterator[Result]":
    import multiprocessing
    import os
    from concurrent.futures import ProcessPoolExecutor

    from bouncer.cli.replaying import replay_all, replay_one

    workers = min(os.cpu_count() or 1, len(files))
    if workers == 1:
        yield from (replay_one(file, job) for file in files)
        return
    # Not forked: the progress bar has a thread.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as executor:
        yield from replay_all(files, job, executor)


@contextmanager
def _progress(total: int) -> Iterator[Any]:
    """Show a bar on stderr, if that is a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("replaying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("", total=total)
        yield lambda: progress.advance(task)


# What is shown


def _show(comparison: "Comparison") -> None:
    total = comparison.total
    hours = f"{comparison.room_hours:.1f} h in {_several(comparison.rooms, 'recorded room')}"
    out.print(Text(f"{hours}: {_several(total.new, 'new eviction')}, {total.gone} fewer, {total.unchanged} unchanged"))
    out.print(
        Text(
            f"{_several(total.regrets, 'regret')}, {_several(total.harms, 'harm')}, {total.unknown} unknown; "
            f"{total.agent_minutes_saved:.1f} agent-minutes saved"
        )
    )
    if comparison.by_policy:
        out.print(_policies(comparison))
    shown = comparison.differences()
    for each in shown[:SHOWN]:
        out.print(Text(plain(_sentence(each, comparison)), "red" if each.next in ("regret", "harm") else ""))
    if len(shown) > SHOWN:
        out.print(Text(f"and {len(shown) - SHOWN} more: --json and --html have all"))


def _policies(comparison: "Comparison") -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("policy", no_wrap=True)
    for column in ("new", "gone", "shifted", "unchanged", "regrets", "harms", "unknown", "minutes"):
        table.add_column(column, justify="right")
    for policy, tally in sorted(comparison.by_policy.items()):
        counts = (tally.new, tally.gone, tally.shifted, tally.unchanged, tally.regrets, tally.harms, tally.unknown)
        table.add_row(policy, *map(str, counts), f"{tally.agent_minutes_saved:.1f}")
    return table


def _sentence(each: "Difference", comparison: "Comparison") -> str:
    from bouncer.dates import rfc3339

    what = "shifted by max_per_minute" if each in comparison.shifted else "new" if each in comparison.new else "gone"
    then = {
        "regret": "spoke to a person afterwards",
        "harm": "a person would have been left without an agent",
        "unknown": "the recording can't tell what happened next",
        "pointless": "left by itself within seconds",
        "right": "did nothing for a person any more",
    }
    happened = ", and ".join(then[what] for what in (each.next, *each.also))
    agent = each.agent_name or each.identity
    return f"{rfc3339(each.at)} {each.next}: {agent} ({each.sid}) in {each.room}: {what}, {each.policy}; {happened}"


def _several(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _show_tuning(values: Iterable[Any], found: "Sequence[Comparison]", tune: str, *, as_json: bool) -> None:
    option = tune.partition("=")[0]
    rows = [{"value": value, **one.json()} for value, one in zip(values, found, strict=True)]
    if as_json:
        print_json(v=1, option=option, values=rows)
        return
    table = Table(box=None, pad_edge=False)
    table.add_column(option, no_wrap=True)
    for column in ("minutes", "regrets", "harms", "unknown", "new", "gone", "unchanged"):
        table.add_column(column, justify="right")
    for row in rows:
        counts = (row["regrets"], row["harms"], row["unknown"], len(row["new"]), len(row["gone"]), row["unchanged"])
        table.add_row(json.dumps(row["value"]), f"{row['agent_minutes_saved']:.1f}", *map(str, counts))
    out.print(table)
