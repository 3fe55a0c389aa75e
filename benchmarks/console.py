"""What the console takes: its first view, an update, scrolling, and what an open page costs. `make bench-console`.

The gatekeeper's own service runs in a process of its own, with rooms that a stand-in for LiveKit lists; webhooks come
signed, over HTTP. The page runs in Debian's Chromium. All is measured in one run, with 2,000 rooms.
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import psutil  # type: ignore[import-untyped] # it has no types
import uvicorn
from google.protobuf.json_format import MessageToJson
from livekit.protocol import models
from livekit.protocol.webhook import WebhookEvent
from playwright.async_api import Browser, CDPSession, Page, async_playwright
from rich.table import Table

from benchmarks.figures import percentile, screen
from bouncer.configuration.model import BUILT_IN, NO_PLUGINS
from bouncer.configuration.settings import Credentials
from devserver import LOOPBACK, free_port
from devserver.debian import find_or_install
from gatekeeper.access import Access
from gatekeeper.board import Board
from gatekeeper.choice import Choice
from gatekeeper.console import Console
from gatekeeper.doors import Doors
from gatekeeper.driver import Driver
from gatekeeper.keeper import Keeper
from gatekeeper.outlook import Outlooks
from gatekeeper.records import Bouncer, Command, ListBouncers, ListRooms, Room
from gatekeeper.reports import Reports
from gatekeeper.service import Service, listen
from gatekeeper.watching import Metrics
from gatekeeper.webhooks import Records, Webhooks
from gatekeeper.witness import Witness
from policies import BUILTIN
from tests.console.libraries import install
from tests.signing import signed

ROOMS = 2000
VIEWS, UPDATES = 5, 20
SECONDS = 15
"""How long CPU is measured, each time."""
A_SECOND = 5
"""Webhooks that come a second meanwhile."""
KEY = Credentials(url="ws://127.0.0.1", api_key="bench", api_secret="a secret of thirty-two characters")  # noqa: S106
FRAMES = """async () => {
  const list = document.querySelector(".list"), taken = [];
  let last = await new Promise(requestAnimationFrame);
  for (let n = 1; n <= 300; n++) {
    list.scrollTo(0, list.scrollHeight * n / 300);
    const now = await new Promise(requestAnimationFrame);
    taken.push(now - last);
    last = now;
  }
  return taken;
}"""
PAINTED = """new MutationObserver((_, observer) => {
  if (!document.querySelector(".row")) return;
  observer.disconnect();
  requestAnimationFrame(() => setTimeout(() => { window.painted = performance.now(); }));
}).observe(document, { childList: true, subtree: true });"""
"""Notes when the first rooms have been painted, in milliseconds since the navigation began: by the browser's own clock,
because Playwright looks only twice a second."""
SHOWN = "text => [...document.querySelectorAll('.row')].some((row) => row.textContent.includes(text))"

console = screen()


def room(number: int) -> models.Room:
    """Return a room, as LiveKit describes it."""
    return models.Room(sid=f"RM_{number}", name=f"call-{number:04}", num_participants=2)


def participant(identity: str, agent_name: str = "") -> models.ParticipantInfo:
    """Return a participant that has just joined."""
    return models.ParticipantInfo(
        sid=f"PA_{identity}",
        identity=identity,
        kind=models.ParticipantInfo.AGENT if agent_name else models.ParticipantInfo.STANDARD,
        state=models.ParticipantInfo.ACTIVE,
        joined_at_ms=round(time.time() * 1000),
        attributes={"lk.agent_name": agent_name} if agent_name else {},
        permission=models.ParticipantPermission(agent=bool(agent_name)),
    )


async def serve(port: int) -> None:
    """Run the service, on rooms that a stand-in lists."""
    now = asyncio.get_running_loop().time
    choice = Choice(["*"], [], [BUILT_IN], BUILTIN, NO_PLUGINS)
    outlooks = Outlooks("bouncer", choice.config)
    witness = Witness(outlooks, "bouncer", now)
    doors = Doors(1_000_000, now(), lambda: 0.5)
    rooms = tuple(Room(each.sid, each.name, people=2) for each in map(room, range(ROOMS)))

    async def call(command: Command) -> object:
        match command:
            case ListRooms(sids=sids):
                return tuple(each for each in rooms if not sids or each.sid in sids)
            case ListBouncers(sid=sid):
                return (Bouncer(f"PA_b{sid}", f"agent-AJ_{sid}", 1, ready=True),)
            case _:
                return ()

    for number in range(ROOMS):
        who = (participant(f"person-{number}"), participant(f"agent-{number}", ("assistant", "triage")[number % 2]))
        witness.listed(f"RM_{number}", who, now())
    reports = Reports()
    keeper = Keeper(None, 1, time.time)
    board = Board(doors, outlooks, reports, choice.config, now, time.time)
    metrics = Metrics(doors, now)
    driver = Driver(doors, call, (metrics, board))
    service = Service(
        driver=driver,
        webhooks=Webhooks(KEY, "bouncer", choice, witness),
        records=Records(KEY),
        reports=reports,
        keeper=keeper,
        board=board,
        metrics=metrics,
        now=now,
    )
    app = service.app(Console(board, keeper, Access(LOOPBACK)))
    with listen(LOOPBACK, port) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
        running = asyncio.create_task(driver.run())
        await server.serve([listening])
        running.cancel()


class LiveKit:
    """Sends webhooks, as a LiveKit server does."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self._url = session, f"{url}/livekit"
        self._sent = 0

    async def joins(self, number: int, identity: str) -> None:
        """Tell that a person has joined a room."""
        self._sent += 1
        event = WebhookEvent(
            id=f"EV_{self._sent}", event="participant_joined", room=room(number), participant=participant(identity)
        )
        body = MessageToJson(event).encode()
        token = signed(body, KEY.api_key, KEY.api_secret)
        async with self._session.post(self._url, data=body, headers={"authorization": token}) as answer:
            answer.raise_for_status()

    async def keeps_sending(self) -> None:
        """Send some webhooks a second, until cancelled."""
        while True:
            await self.joins(self._sent * 37 % ROOMS, f"guest-{self._sent}")
            await asyncio.sleep(1 / A_SECOND)


class Wire:
    """What a page has received, as it was on the wire."""

    def __init__(self, cdp: CDPSession) -> None:
        self.received = 0
        cdp.on("Network.dataReceived", self._data)
        cdp.on("Network.responseReceived", self._head)

    def _data(self, event: Any) -> None:
        self.received += event["encodedDataLength"]

    def _head(self, event: Any) -> None:
        self.received += event["response"]["encodedDataLength"]


async def opened(browser: Browser, url: str) -> tuple[Page, Wire, float]:
    """Open the overview as a new visitor, in a browser that runs: nothing is in its cache.

    Return it, what it received, and the seconds from the start of the navigation until rooms were painted.
    """
    context = await browser.new_context(viewport={"width": 1200, "height": 800})
    page = await context.new_page()
    cdp = await context.new_cdp_session(page)
    await cdp.send("Network.enable")
    wire = Wire(cdp)
    await page.add_init_script(PAINTED)
    await page.goto(url, wait_until="commit")
    painted = await page.wait_for_function("() => window.painted")
    return page, wire, await painted.json_value() / 1000


async def cost(process: psutil.Process) -> float:
    """Return the share of a core that a process takes."""
    before = sum(process.cpu_times()[:2])
    await asyncio.sleep(SECONDS)
    return float(sum(process.cpu_times()[:2]) - before) / SECONDS


async def updates(page: Page, livekit: LiveKit) -> list[float]:
    """Return the seconds from each webhook until the page shows what it says."""
    await page.get_by_role("searchbox").fill("call-0042")
    taken = []
    for number in range(UPDATES):
        began = time.perf_counter()
        await livekit.joins(42, f"late-{number}")
        await page.wait_for_function(SHOWN, arg=f"{number + 2} people", polling="raf")
        taken.append(time.perf_counter() - began)
    await page.get_by_role("searchbox").fill("")
    return taken


@asynccontextmanager
async def gatekeeper(url: str, port: int) -> Any:
    """Run the service in a process of its own."""
    child = await asyncio.create_subprocess_exec(sys.executable, "-m", "benchmarks.console", "--serve", str(port))
    try:
        async with aiohttp.ClientSession() as session:
            while True:
                with suppress(aiohttp.ClientError):
                    async with session.get(f"{url}/readyz") as answer:
                        if answer.ok and (await answer.json())["rooms"] == ROOMS:
                            break
                await asyncio.sleep(0.1)
            yield psutil.Process(child.pid), LiveKit(session, url)
    finally:
        child.terminate()
        await child.wait()


async def main() -> None:
    """Measure, and print."""
    await asyncio.to_thread(install)
    chromium = await asyncio.to_thread(find_or_install, "chromium", "chromium", console.print)
    port = free_port()
    url = f"http://{LOOPBACK}:{port}"
    async with gatekeeper(url, port) as (process, livekit), async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        views, sizes = [], []
        for _ in range(VIEWS):
            page, wire, took = await opened(browser, url)
            views.append(took)
            sizes.append(wire.received)
            await page.context.close()
        idle = await cost(process)
        traffic = asyncio.create_task(livekit.keeps_sending())
        closed = await cost(process)
        page, wire, _ = await opened(browser, url)
        await asyncio.sleep(2)
        before = wire.received
        watched = await cost(process)
        received = (wire.received - before) / SECONDS
        frames = await page.evaluate(FRAMES)
        shown = await updates(page, livekit)
        traffic.cancel()
        await asyncio.gather(traffic, return_exceptions=True)
        rows = await page.locator(".row").count()
        await browser.close()
    table = Table("what, with 2,000 rooms", "measured", "wanted", box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for row in report(views, sizes, shown, frames):
        table.add_row(*row)
    share = f"{watched - closed:.1%} of a core; in all {watched:.1%}, without a page {closed:.1%}, and idle {idle:.1%}"
    table.add_row(f"one open page, {A_SECOND} webhooks a second", share, "below 2 %")
    table.add_row("  it is sent", f"{received / 1000:.1f} kB a second", "")
    table.add_row("  rows in it", f"{rows}", "only those on screen")
    console.print(table)


def report(
    views: Sequence[float], sizes: Sequence[int], shown: Sequence[float], frames: Sequence[float]
) -> list[tuple[str, str, str]]:
    """Return the rows of what was measured on the page."""
    late = sum(each > 50 for each in frames) / len(frames)  # noqa: PLR2004 - three frames of a screen
    median, most = statistics.median(frames), percentile(frames, 95)
    smooth = f"{median:.0f} ms a frame, 95 % below {most:.0f} ms; {late:.0%} above 50 ms"
    return [
        ("first view", f"{statistics.median(views):.2f} s, {max(views):.2f} s at most", "below 1 s"),
        ("  on the wire, all rooms included", f"{max(sizes) / 1000:.0f} kB", "below 300 kB"),
        ("from webhook to screen", f"{statistics.median(shown):.2f} s, {max(shown):.2f} s at most", "within 1 s"),
        ("scrolling through all of it", smooth, ""),
    ]


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[2])) if sys.argv[1:2] == ["--serve"] else main())
