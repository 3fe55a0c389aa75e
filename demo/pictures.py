"""`make pictures`: what `plan`, `explain` and `watch` look like, as SVG for the documents. It needs no server.

The room is made up, and what is shown of it is what the engine makes of it.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

from bouncer import Kind, explanation
from bouncer.cli import explain, plan
from bouncer.cli.follow import Picture, Remark
from bouncer.cli.outside import judged
from bouncer.cli.screen import RoomScreen
from bouncer.dates import rfc3339
from bouncer.decide import Outcome
from bouncer.events import Attributes, Channel, Connected, Info, Job, Joined, Signal
from bouncer.guard.outside import Lists
from bouncer.guard.plan import as_json
from bouncer.guard.view import snapshot, view
from bouncer.guard.watch import Ending, Evict, ListParticipants, Watch
from bouncer.observers.recent import Recent
from bouncer.observers.records import Records
from bouncer.tracker import Tracker
from policies import BUILTIN

FOLDER = Path("docs", "pictures")
ROOM, SID = "call-42", "RM_7hQm2vLxKd4P"
OPENED = 1_767_261_600.0
"""1 January 2026, 10:00 UTC: when the room opened."""
NOW = OPENED + 754
CONFIGURATION = {
    "bouncer": {
        "exempt": {"agent_name": ["notetaker"]},
        "policies": {
            "duplicates": {"grace": 20, "notice": 10},
            "idle_timeout": {"timeout": 300},
            "max_lifetime": {"limit": 3600},
        },
    }
}


def info(identity: str, joined: float, name: str = "", kind: Kind = Kind.AGENT, **facts: Any) -> Info:
    """A participant that joined so many seconds after the room opened."""
    attributes = {"lk.agent_name": name, "lk.agent.state": "listening"} if name else {}
    at = OPENED + joined
    facts = {"hidden": False, "agent_grant": kind is Kind.AGENT, "attributes": attributes, **facts}
    sid = f"PA_{identity[-4:]}{joined:g}"
    return Info(sid=sid, identity=identity, kind=kind, joined_at=at, joined_ms=round(at * 1000), **facts)


BOUNCER = info("agent-AJ_k3Wq8ZtR", 0.3, hidden=True, attributes={"bouncer.guarding": "true"})
ADA = info("ada", 1, kind=Kind.STANDARD)
CALLER = info("sip-+4930555", 3, kind=Kind.SIP)
FIRST = info("agent-AJ_pSVW27hd", 2, "assistant")
SECOND = info("agent-AJ_c8Ry4mNb", 742, "assistant")
NOTES = info("agent-AJ_bDDg90sL", 5, "notetaker")
TRANSLATOR = info("agent-AJ_Zq1x6GfT", 420, "translator")
GONE = info("agent-AJ_u7Hn3vEw", 300, "assistant")
JOBS = tuple(
    Job(
        dispatch=f"AD_{each.identity[-8:]}",
        job=each.identity.removeprefix("agent-"),
        agent_name=each.attributes.get("lk.agent_name", "bouncer"),
        identity=each.identity,
    )
    for each in (BOUNCER, FIRST, SECOND, NOTES, TRANSLATOR, GONE)
)
SPEAKING = {"lk.agent_name": "assistant", "lk.agent.state": "speaking"}
PRESENT = (BOUNCER, ADA, CALLER, FIRST, SECOND, NOTES, TRANSLATOR)

TICK = 0.25
"""Seconds between two looks at the room that is played; after a longer pause a watch believes that it was frozen."""


class Clock:
    """Dates the records of a room that is played."""

    def __init__(self) -> None:
        self.at = OPENED

    def now(self) -> float:
        """Return the instant."""
        return self.at

    def dated(self, instant: float) -> str:
        """Return an instant as text."""
        return rfc3339(instant)


def seen_from_inside() -> dict[str, Any]:
    """Play the room, and return it as its bouncer sees it at the end."""
    clock = Clock()
    watch = Watch(Tracker(), BUILTIN, lambda _: 0.5, OPENED)
    recent = Recent(Records(ROOM, clock, SID))
    waiting = sorted((ADA, FIRST, CALLER, NOTES, GONE, TRANSLATOR, SECOND), key=lambda each: each.joined_at)
    here: list[Info] = [BOUNCER]
    watch.tell(Connected(OPENED, BOUNCER))
    watch.configure(json.dumps(CONFIGURATION), OPENED)
    while clock.at < NOW:
        clock.at += TICK
        while waiting and waiting[0].joined_at <= clock.at:
            here.append(waiting.pop(0))
            watch.tell(Joined(clock.at, here[-1]))
        if OPENED + 613 <= clock.at < OPENED + 613 + TICK:
            watch.tell(Signal(clock.at, TRANSLATOR.sid, channel=Channel.DATA))
        if (clock.at - OPENED) % 20 == 0:
            watch.tell(Signal(clock.at, FIRST.sid, channel=Channel.TEXT))
        if NOW - 4 <= clock.at < NOW - 4 + TICK:
            watch.tell(Attributes(clock.at, FIRST.sid, SPEAKING))
            here = [replace(each, attributes=SPEAKING) if each is FIRST else each for each in here]
        _carry_out(watch, clock, here, recent)
    return view(snapshot(watch, clock.at, name=ROOM, sid=SID), rfc3339) | {"recent": recent.latest()}


def _carry_out(watch: Watch, clock: Clock, here: list[Info], recent: Recent) -> None:
    """Let the watch do what is due, as if the server did what it wants at once."""
    while True:
        step = watch.step(clock.at)
        for news in step.news:
            recent.notify(news)
        for command in step.commands:
            answer: Any = JOBS
            if isinstance(command, ListParticipants):
                answer = tuple(here)
            elif isinstance(command, Evict):
                here[:] = [each for each in here if each.sid != command.finding.participant.sid]
                watch.sent(command.finding, clock.at)
                answer = Ending(Outcome.LEFT)
            watch.answered(command, answer, clock.at)
        if not step.commands:
            return


def picture(name: str, title: str, draw: Callable[[Console], None]) -> None:
    """Write what is drawn on a terminal of 96 columns."""
    console = Console(file=StringIO(), record=True, width=96, force_terminal=True, highlight=False)
    draw(console)
    (FOLDER / f"{name}.svg").write_text(console.export_svg(title=title, unique_id=name), encoding="utf-8")


def draw_plan(console: Console) -> None:
    """What `bouncer plan` prints."""
    lists = Lists(name=ROOM, sid=SID, metadata=json.dumps(CONFIGURATION), infos=PRESENT, jobs=JOBS, at=NOW + 10)
    seen, shown = judged(lists, {}, agent_name="bouncer", layers=())
    plan.show(as_json(seen, shown), console)


def draw_explanation(console: Console) -> None:
    """What `bouncer explain` prints."""
    explain.show(explanation.explain(seen_from_inside(), NOTES.identity, at=rfc3339(NOW)), console)


async def screen() -> str:
    """Return what `bouncer watch` shows, as SVG."""

    async def updates() -> AsyncIterator[Picture | Remark]:
        yield Picture(rfc3339(NOW), seen_from_inside())
        await asyncio.Event().wait()

    app = RoomScreen(updates())
    async with app.run_test(size=(96, 22)) as pilot:
        await pilot.pause()
        return app.export_screenshot(title=f"bouncer watch {ROOM}")


def main() -> None:
    """Write all pictures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    picture("plan", f"bouncer plan {ROOM}", draw_plan)
    picture("explain", f"bouncer explain {ROOM} {NOTES.identity}", draw_explanation)
    (FOLDER / "watch.svg").write_text(asyncio.run(screen()), encoding="utf-8")


if __name__ == "__main__":
    main()
