"""The console in a real browser: Debian's Chromium, driven by Playwright. It waits for conditions, not for times."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright, expect

from bouncer.adapter.byhand import NotEvicted
from bouncer.dates import rfc3339
from devserver.debian import find_or_install
from gatekeeper.access import Access
from gatekeeper.acting import Wanted
from gatekeeper.console import FILES, PAGE, Evict
from gatekeeper.history import History
from gatekeeper.service import listen
from tests.bench import Bench
from tests.console.guarded import Guarded
from tests.console.libraries import axe, install
from tests.console.stage import Stage, served

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("console"),
    pytest.mark.timeout(300),
]
TOKEN = "a token of enough characters"  # noqa: S105 - it opens nothing
NOTES = "agent-AJ_notes"
WITHIN = 30_000
"""Milliseconds to wait for what takes a fraction of a second."""
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "\u202egnp.exe \u2067right to left",
    "\N{GRINNING FACE}" * 64,
    "${alert(1)} {{alert(1)}} javascript:alert(1)",
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """Chromium, and the page's libraries; both are installed where they are missing."""
    await asyncio.to_thread(install)
    chromium = await asyncio.to_thread(find_or_install, "chromium", "chromium", print)
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield running
        await running.close()


class Visit:
    """One page, with everything that the browser complained of."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.asked: list[str] = []
        page.set_default_timeout(WITHIN)
        page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda _: self.complaints.append("a dialog: something was taken for markup"))
        page.on("request", lambda request: self.asked.append(request.url))

    async def rows(self) -> list[str]:
        """Return the names of the rooms that are on screen."""
        return await self.page.locator(".row .name").all_inner_texts()

    async def shows(self, text: str) -> None:
        """Wait until the page shows a text."""
        await expect(self.page.locator("body")).to_contain_text(text, timeout=WITHIN)


async def visit(browser: Browser, url: str, *, width: int = 1200, dark: bool = False) -> Visit:
    """Open a page as a new visitor."""
    context = await browser.new_context(
        viewport={"width": width, "height": 700}, color_scheme="dark" if dark else "light"
    )
    page = Visit(await context.new_page())
    await page.page.goto(url)
    return page


async def test_rooms_come_change_and_go_while_one_looks(browser: Browser) -> None:
    """What needs attention comes first, and a page without rooms says what to do. Nothing is asked of another host."""
    async with served(Stage()) as stage:
        page = await visit(browser, stage.url)
        await page.shows("No room is open")

        stage.open("RM_1", "lobby", "assistant")
        stage.open("RM_2", "attic")
        await page.shows("2 open, 0 need attention")
        assert await page.rows() == ["attic", "lobby"]
        stage.reports_that("RM_1", "config_error", errors=[{"path": "bouncer.mode", "message": "is wrong"}])
        await page.shows("configuration refused: bouncer.mode: is wrong")
        assert await page.rows() == ["lobby", "attic"]
        stage.close("RM_1")
        await page.shows("1 open, 0 need attention")
        assert await page.rows() == ["attic"]

        assert {url.split("/")[2] for url in page.asked if not url.startswith("data:")} == {f"127.0.0.1:{stage.port}"}
        assert page.complaints == []


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (380, True)], ids=["wide and light", "narrow and dark"])
async def test_two_thousand_rooms_are_listed_and_searched(browser: Browser, width: int, *, dark: bool) -> None:
    """Only what is on screen is in the page. It scrolls to the last room, and nothing sticks out at the side."""
    stage = Stage()
    for number in range(2000):
        stage.open(f"RM_{number}", f"call-{number:04}", "assistant" if number % 2 else "triage")
    async with served(stage):
        page = await visit(browser, stage.url, width=width, dark=dark)
        await page.shows("2000 open")
        assert len(await page.rows()) < 40
        await page.page.locator(".list").evaluate("list => list.scrollTo(0, list.scrollHeight)")
        await page.shows("call-1999")
        await page.page.get_by_role("searchbox").fill("TRIAGE 0042")
        await expect(page.page.locator(".row")).to_have_count(1, timeout=WITHIN)
        assert await page.rows() == ["call-0042"]
        await page.page.get_by_role("searchbox").fill("nothing like it")
        await page.shows("No room matches")

        wide = await page.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width
        assert page.complaints == []


async def test_hostile_names_are_text(browser: Browser) -> None:
    """They show as they are, and run nothing."""
    stage = Stage()
    for number, name in enumerate(HOSTILE):
        stage.open(f"RM_{number}", name, name)
        stage.reports_that(f"RM_{number}", "trouble", error=name)
    async with served(stage):
        page = await visit(browser, stage.url)
        await page.shows(f"{len(HOSTILE)} open")

        assert set(await page.rows()) == set(HOSTILE)
        assert await page.page.locator(".list img, .list script").count() == 0
        assert page.complaints == []


async def test_the_page_recovers_when_the_gatekeeper_is_back(browser: Browser) -> None:
    """It says that it has no connection, and shows the new state once it has one."""
    stage = Stage()
    stage.open("RM_1", "before")
    async with served(stage):
        page = await visit(browser, stage.url)
        await page.shows("before")
    await page.shows("no connection to the gatekeeper")
    later = Stage(port=stage.port)
    later.open("RM_2", "after")
    async with served(later):
        await page.shows("after")
        assert await page.rows() == ["after"]


@pytest.mark.parametrize(("address", "live"), [("/", "live"), ("/#room=RM_1", "as its bouncer sees it")])
async def test_the_page_recovers_behind_a_proxy(browser: Browser, address: str, live: str) -> None:
    """The browser gives up a feed that a proxy refuses while the gatekeeper is away; the page does not."""
    stage = notes_room()
    async with served(stage):
        page = await visit(browser, stage.url + address)
        await page.shows(live)
        await page.page.route("**", lambda route: route.fulfill(status=502))
    await page.page.wait_for_event("response", lambda answer: (answer.url, answer.status) == (f"{stage.url}/", 502))
    async with served(stage):
        await page.page.unroute("**")
        await page.shows(live)


async def test_the_page_comes_packed_and_at_once(browser: Browser) -> None:
    """All modules are asked for before the first of them runs. What a browser has already is not sent again."""
    async with served(Stage()) as stage:
        page = await visit(browser, stage.url)
        await page.shows("No room is open")
        await page.page.route("**/console/console.js", lambda route: route.abort())
        page.asked.clear()
        await page.page.reload()
        assert {f"{stage.url}/console/{name}" for name in FILES} <= {*page.asked}
        ask, script = page.page.request, f"{stage.url}/console/overview.js"
        first = await ask.get(script, headers={"accept-encoding": "gzip"})
        plain = await ask.get(script, headers={"accept-encoding": "identity"})
        assert (first.headers["content-encoding"], plain.headers.get("content-encoding")) == ("gzip", None)
        assert await first.text() == await plain.text() == (PAGE / "overview.js").read_text(encoding="utf-8")
        again = await ask.get(script, headers={"if-none-match": first.headers["etag"]})
        assert (again.status, await again.body()) == (304, b"")


async def test_answers_are_sent_without_a_pause() -> None:
    """A connection waits for no confirmation of an answer's head before it sends the rest."""
    with listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        taken, _ = listening.accept()
        with taken:
            assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_login_is_asked_for_and_kept(browser: Browser) -> None:
    """Also for the feed. A wrong token is refused, and after the right one no script can read the cookie."""
    stage = Stage(Access("0.0.0.0", TOKEN))  # noqa: S104 - the test itself listens on loopback
    stage.open("RM_1", "lobby")
    async with served(stage):
        page = await visit(browser, stage.url)
        assert page.page.url.endswith("/login")
        for path in ("rooms", "history", "history.csv", "history.jsonl"):
            assert (await page.page.request.get(f"{stage.url}/console/{path}")).status == 401
        await page.page.get_by_label("BOUNCER_CONSOLE_TOKEN").fill("wrong")
        await page.page.get_by_role("button").click()
        await page.shows("That token is wrong.")
        await page.page.get_by_label("BOUNCER_CONSOLE_TOKEN").fill(TOKEN)
        await page.page.get_by_role("button").click()
        await page.shows("lobby")

        (cookie,) = await page.page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        assert await page.page.evaluate("document.cookie") == ""


async def test_the_history_is_drawn_and_exported(browser: Browser, tmp_path: Path) -> None:
    """Figures, bars and files of what bouncers sent; without any record, it says how to send them."""
    history = History(f"sqlite:///{tmp_path}/history.db")
    stage = Stage(history=history)
    async with served(stage):
        page = await visit(browser, f"{stage.url}/#history", width=380, dark=True)
        await page.shows(f"BOUNCER_WEBHOOK_URL={stage.url}/bouncer")
        now = rfc3339(time.time())
        names = ("<img src=x onerror=alert(1)>", "=1+1", "assistant")
        records = [
            {
                "id": f"EV_{n}",
                "event": "evicted",
                "at": now,
                "room": "lobby",
                "policy": "duplicates",
                "agent_name": name,
            }
            for n, name in enumerate(names)
        ]
        history.add(records, time.time() + 1)
        await page.page.reload()
        await page.shows("All 3 records")

        await page.shows("duplicates")
        await page.shows(names[0])
        assert await page.page.locator("rect.bar.evicted").count() == 1
        table = await (await page.page.request.get(f"{stage.url}/console/history.csv?days=7")).text()
        assert [line.split(",")[5] for line in table.splitlines()] == ["agent_name", names[0], "'=1+1", "assistant"]
        whole = await (await page.page.request.get(f"{stage.url}/console/history.jsonl")).text()
        assert [json.loads(line) for line in whole.splitlines()] == records
        assert await page.page.evaluate("document.documentElement.scrollWidth") <= 380
        assert page.complaints == []
    history.close()


def notes_room(*, evict: Evict | None = None) -> Stage:
    """Return a stage with one room, in which an agent takes notes."""
    bench = Bench()
    bench.joins("ada")
    bench.joins(NOTES, "notes")
    stage = Stage(asker=Guarded(bench), evict=evict)
    stage.open("RM_1", "lobby", "notes")
    return stage


@dataclass
class Hand:
    """Stands in for the gatekeeper's evictions by hand."""

    refuses: str = ""
    asked: list[tuple[Wanted, str]] = field(default_factory=list)

    async def evict(self, agent: Wanted, by: str) -> list[str]:
        """Note what is asked for."""
        self.asked.append((agent, by))
        if self.refuses:
            raise NotEvicted(self.refuses)
        return [f"Agent {agent.identity} was removed"]


async def test_an_agent_is_evicted_by_hand_for_a_reason(browser: Browser) -> None:
    """From its explanation, by keyboard. It needs a reason, and the answer stays on the page, good or bad."""
    hand = Hand()
    async with served(notes_room(evict=hand.evict)) as stage:
        page = await visit(browser, f"{stage.url}/#room=RM_1", width=380, dark=True)
        await page.page.locator(".who", has_text=NOTES).press("Enter")
        await page.page.get_by_role("button", name="Evict by hand").press("Enter")
        reason = page.page.get_by_label("Reason")
        await expect(reason).to_be_focused(timeout=WITHIN)
        await reason.press("Enter")
        await reason.fill("   ")
        await reason.press("Enter")
        await reason.fill("it takes <b>no</b> notes")
        await reason.press("Enter")
        await page.shows(f"Agent {NOTES} was removed")
        wanted = Wanted("RM_1", NOTES, "PA_2", "it takes <b>no</b> notes")
        assert hand.asked == [(wanted, "this machine")]

        hand.refuses = "<i>it</i> is exempt"
        await page.page.get_by_role("button", name="Evict by hand").click()
        await reason.fill("once more")
        await page.page.get_by_role("button", name="Evict", exact=True).click()
        await page.shows("<i>it</i> is exempt")
        assert [said for said in page.complaints if "409" not in said] == []


async def test_no_one_acts_unless_it_is_allowed(browser: Browser) -> None:
    """Then there is no button and no such address. Where it is allowed, only a page of ours may, for those let in."""
    good = {"room_sid": "RM_1", "identity": "a", "sid": "PA_1", "reason": "it is too loud"}
    ours = {"sec-fetch-site": "same-origin", "content-type": "application/json"}
    async with served(notes_room()) as stage:
        page = await visit(browser, f"{stage.url}/#room=RM_1")
        await page.page.locator(".who", has_text=NOTES).click()
        await page.shows("Facts")
        assert await page.page.get_by_role("button", name="Evict by hand").count() == 0
        answer = await page.page.request.post(f"{stage.url}/act/evict", data=good, headers=ours)
        assert answer.status == 404
    hand = Hand()
    async with served(Stage(evict=hand.evict)) as stage:
        ask = (await visit(browser, stage.url)).page.request

        async def status(headers: dict[str, str], body: object = good) -> int:
            return (await ask.post(f"{stage.url}/act/evict", data=json.dumps(body), headers=headers)).status

        assert await status(ours | {"sec-fetch-site": "cross-site"}) == 403
        assert await status(ours | {"content-type": "text/plain"}) == 403
        assert await status({"content-type": "application/json", "origin": "http://evil.example"}) == 403
        assert await status({"content-type": "application/json"}) == 403
        assert await status(ours, good | {"reason": " "}) == 400
        assert await status(ours, good | {"reason": "x" * 201}) == 400
        assert await status(ours, good | {"sid": None}) == 400
        assert await status(ours, ["x" * 5000]) == 400
        assert (await ask.get(f"{stage.url}/act/evict")).status == 405
        assert hand.asked == []
        assert await status({"content-type": "application/json", "origin": stage.url}) == 200
    async with served(Stage(Access("0.0.0.0", TOKEN), evict=hand.evict)) as stage:  # noqa: S104 - it listens on loopback
        assert (await ask.post(f"{stage.url}/act/evict", data=good, headers=ours)).status == 401
    assert len(hand.asked) == 1


AXE = """async () => (await axe.run(document)).violations.map((each) =>
    `${each.impact} ${each.id}: ${each.help}: ${each.nodes.map((node) => node.html).join(" ").slice(0, 300)}`)"""
LIFETIME = {"policies": {"max_lifetime": {"limit": 9}}}


@pytest.mark.parametrize("width", [1200, 380])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_axe_finds_nothing(browser: Browser, tmp_path: Path, width: int, *, dark: bool) -> None:
    """Every page can be read and used by everyone, as far as a program can tell: contrast, names, roles, order."""
    source = await asyncio.to_thread(axe)
    history = History(f"sqlite:///{tmp_path}/history.db")
    stage = Stage(history=history)
    found: dict[str, list[str]] = {}

    async def judge(page: Visit, name: str) -> None:
        await page.page.evaluate(source)
        if wrong := await page.page.evaluate(AXE):
            found[name] = wrong

    async with served(stage):
        page = await visit(browser, stage.url, width=width, dark=dark)
        await page.shows("No room is open")
        await judge(page, "no rooms")
        for number, event in enumerate(("config_error", "held", "trouble", "guarding")):
            stage.open(f"RM_{number}", f"room {number}", "assistant", config=LIFETIME)
            stage.reports_that(f"RM_{number}", event, sid="PA_1", held_by="max_per_minute")
        await page.shows("4 open, 3 need attention")
        await judge(page, "rooms")
        await page.page.goto(f"{stage.url}/#history")
        await page.shows("Nothing yet")
        await judge(page, "no history")
        at = rfc3339(time.time())
        facts = {"room": "lobby", "policy": "duplicates", "agent_name": "assistant", "at": at}
        events = ("evicted", "reported", "held", "failed")
        history.add([facts | {"id": f"EV_{each}", "event": each} for each in events], time.time() + 1)
        await page.page.reload()
        await page.shows("All 4 records")
        await judge(page, "history")
    async with served(notes_room(evict=Hand().evict)) as guarded:
        page = await visit(browser, f"{guarded.url}/#room=RM_1", width=width, dark=dark)
        await judge(page, "room")
        await page.page.locator(".who", has_text=NOTES).click()
        await page.shows("Facts")
        await judge(page, "room explained")
        await page.page.get_by_role("button", name="Evict by hand").click()
        await judge(page, "evicting")
    history.close()
    async with served(Stage(Access("0.0.0.0", TOKEN))) as locked:  # noqa: S104 - the test itself listens on loopback
        page = await visit(browser, locked.url, width=width, dark=dark)
        await judge(page, "login")
        await page.page.get_by_label("BOUNCER_CONSOLE_TOKEN").fill("wrong")
        await page.page.get_by_role("button").click()
        await page.shows("That token is wrong.")
        await judge(page, "login refused")
    assert found == {}


async def test_it_is_used_by_keyboard(browser: Browser) -> None:
    """From the search to a room, its agents and back, without a mouse; the focus is always seen."""
    stage = notes_room()
    stage.open("RM_2", "attic")
    async with served(stage):
        page = await visit(browser, stage.url)
        await page.shows("2 open")
        at = "document.activeElement"
        for _ in range(20):
            await page.page.keyboard.press("Tab")
            assert await page.page.evaluate(f"getComputedStyle({at}).outlineStyle") != "none"
            if await page.page.evaluate(f"{at}.type") == "search":
                break
        await page.page.keyboard.type("lobby")
        await expect(page.page.locator(".row")).to_have_count(1, timeout=WITHIN)
        for _ in range(20):
            await page.page.keyboard.press("Tab")
            if await page.page.evaluate(f"{at}.textContent") == "lobby":
                break
        await page.page.keyboard.press("Enter")
        await page.shows("as its bouncer sees it")
        await page.page.go_back()
        await page.shows("2 open")


async def test_every_answer_has_the_strict_policy(browser: Browser) -> None:
    """No inline script but the one import map, nothing from elsewhere, and no frame around it."""
    async with served(Stage()) as stage:
        page = await visit(browser, stage.url)
        for path in ("/", "/console/console.js", "/console/console.css", "/console/nothing"):
            answer = await page.page.request.get(stage.url + path)
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'self' 'sha256-"), path
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
        assert (await page.page.request.get(f"{stage.url}/console/../console.py")).status == 404
