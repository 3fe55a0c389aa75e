"""The second part of `make pictures`: what the gatekeeper's console looks like, as PNG for the documents.

It needs Debian's Chromium and no LiveKit. The rooms are made up and the clock stands still; the pages are real.
"""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from playwright.async_api import Browser, Page, async_playwright

from bouncer.adapter.project import UnknownRoom
from bouncer.dates import rfc3339
from bouncer.guard.outside import Lists
from demo.pictures import FOLDER, NOW, ROOM, SID, seen_from_inside
from devserver.debian import find_or_install
from gatekeeper.history import DAY, History
from tests.console.libraries import install
from tests.console.stage import Stage, served

WIDTH, HEIGHT = 1120, 660
AT = rfc3339(NOW)
LIFETIME = {"policies": {"max_lifetime": {"limit": 3600}}}


class Clock:
    """Stands still unless it is put forward."""

    def __init__(self) -> None:
        self.at = NOW

    def __call__(self) -> float:
        """Return Unix time."""
        return self.at


class Bouncers:
    """Answers for the bouncer of the room of the other pictures."""

    async def views(self, _name: str, _sid: str, _bouncer: str) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        """Yield the room once."""
        yield AT, seen_from_inside()
        await asyncio.Event().wait()

    async def lists(self, name: str, _sid: str) -> tuple[Lists, dict[str, str]]:
        """Nothing is tried on a picture."""
        raise UnknownRoom(name)


def rooms(stage: Stage, clock: Clock) -> None:
    """Open rooms in which all kinds of things are going on."""
    names = ("support", "sales", "demo", "interview", "standup", "tutor")
    for number in range(11):
        clock.at = NOW - 2900 + 230 * number
        agents = ("assistant", "notetaker", "translator")[: 1 + number % 3]
        config = LIFETIME if number % 2 else {}
        sid = f"RM_{number}"
        stage.open(sid, f"{names[number % 6]}-{4210 + 7 * number}", *agents, people=1 + number % 4, config=config)
        stage.reports_that(sid, "standing", standing="acting")
        for gone in range(number % 3):
            stage.reports_that(sid, "evicted", sid=f"PA_{gone}")
    clock.at = NOW - 30
    stage.open("RM_u", "call-1187", "assistant", people=2, guarded=False)
    stage.open(SID, ROOM, "assistant", "notetaker", "translator", people=2, config=LIFETIME)
    stage.reports_that(SID, "standing", standing="acting")
    stage.reports_that(SID, "held", sid="PA_1", held_by="max_per_minute")
    wrong = {"path": "bouncer.policies.idle_timeout.timeout", "message": "must be a number of seconds, not “5m”"}
    stage.open("RM_c", "onboarding-77", "tutor", people=1)
    stage.reports_that("RM_c", "config_error", errors=[wrong])
    clock.at = NOW


def records() -> list[dict[str, Any]]:
    """Return a month of records."""
    chance = Random(7)  # noqa: S311 - no secret is made of it
    kinds = ["evicted"] * 12 + ["reported"] * 3 + ["held"] * 2 + ["failed"]
    policies = ["duplicates"] * 6 + ["idle_timeout"] * 4 + ["empty_room"] * 3 + ["max_lifetime", "orphaned_avatar"]
    agents = ["assistant"] * 6 + ["notetaker"] * 3 + ["translator"] * 2 + ["avatar"]
    made: list[dict[str, Any]] = []
    for day in range(30):
        for _ in range(chance.randint(3, 9) + 4 * (day % 7 < 5)):  # noqa: PLR2004 - weekdays
            at = NOW - day * DAY - chance.random() * 9000
            facts = {"policy": chance.choice(policies), "agent_name": chance.choice(agents), "room": "support-4210"}
            made.append({"id": f"EV_{len(made)}", "at": rfc3339(at), "event": chance.choice(kinds), **facts})
        saved = chance.uniform(2000, 9000)
        made.append({"id": f"UG_{day}", "at": rfc3339(NOW - day * DAY), "event": "unguarded"})
        made[-1]["agent_seconds_ended_early"] = saved
    return made


async def opened(browser: Browser, url: str, text: str) -> Page:
    """Open a page whose clock stands still too, and wait for a text on it."""
    context = await browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
    page = await context.new_page()
    await page.clock.set_fixed_time(NOW)
    await page.goto(url)
    await page.get_by_text(text).first.wait_for()
    return page


async def main() -> None:
    """Write the pictures."""
    await asyncio.to_thread(install)
    chromium = await asyncio.to_thread(find_or_install, "chromium", "chromium", print)
    with TemporaryDirectory(prefix="livekit-bouncer-") as folder:
        clock = Clock()
        history = History(f"sqlite:///{folder}/history.db")
        history.add(records(), NOW)
        stage = Stage(history=history, asker=Bouncers(), now=clock, wall=clock)
        rooms(stage, clock)
        async with served(stage), async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            overview = await opened(browser, stage.url, "14 open")
            await save(overview, "console-rooms")
            room = await opened(browser, f"{stage.url}/#room={SID}", "as its bouncer sees it")
            await room.locator(".who", has_text="AJ_c8Ry4mNb").click()
            await room.get_by_text("Facts").wait_for()
            await save(room, "console-room")
            await save(await opened(browser, f"{stage.url}/#history", "records:"), "console-history")
            await browser.close()
        history.close()


async def save(page: Page, name: str) -> None:
    """Write a picture of what is on screen."""
    await page.screenshot(path=Path(FOLDER) / f"{name}.png", animations="disabled")


if __name__ == "__main__":
    asyncio.run(main())
