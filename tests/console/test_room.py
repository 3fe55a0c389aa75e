"""The view of one room in a real browser, asked of a bouncer on a bench. It waits for conditions, not for times."""

import json
import math
import re
from typing import Any

import pytest
from playwright.async_api import Browser, Locator, expect

from bouncer.configuration.load import load
from bouncer.configuration.model import ConfigError, Layer
from bouncer.events import Heard
from bouncer.room import Kind
from gatekeeper.access import Access
from gatekeeper.records import ListBouncers, ListRooms, Room
from policies import BUILTIN
from tests.bench import Bench
from tests.console.guarded import Guarded
from tests.console.stage import Stage, served
from tests.console.test_page import HOSTILE, TOKEN, WITHIN, Visit, browser, visit

__all__ = ["browser"]
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("console"),
    pytest.mark.timeout(300),
]
TAB = """async (box) => {
  box.dispatchEvent(new KeyboardEvent("keydown", { key: "Tab", bubbles: true, cancelable: true }));
  await null;
  return box.value.slice(0, box.selectionEnd);
}"""
"""Presses Tab, and returns the text before the caret as the next key finds it."""
IDLE: dict[str, Any] = {"idle_timeout": {"timeout": 60, "notice": 20}}


def staged(bench: Bench, access: Access | None = None) -> tuple[Stage, Guarded]:
    """Return a stage whose one room is on the bench."""
    guarded = Guarded(bench)
    stage = Stage(access or Access("127.0.0.1"), asker=guarded)
    stage.open("RM_1", "lobby", "assistant")
    return stage, guarded


def idle_room() -> Bench:
    """Return a room with a person and an agent that listens."""
    bench = Bench(policies=IDLE)
    bench.joins("ana")
    bench.joins("A", "assistant", attributes={"lk.agent.state": "listening"})
    return bench


async def look(browser: Browser, stage: Stage, **how: Any) -> Visit:
    """Open the room."""
    page = await visit(browser, f"{stage.url}/#room=RM_1", **how)
    await expect(page.page.locator(".facts")).to_contain_text("acting", timeout=WITHIN)
    return page


def lane(page: Visit, name: str) -> Locator:
    """Return the lane of a participant by its identity or agent name."""
    return page.page.locator(".lane", has=page.page.locator(".who", has_text=name))


async def width(shape: Locator) -> float:
    """Return the width of a shape."""
    return float(await shape.get_attribute("width") or 0)


async def test_a_verdict_grows_ticks_and_ends_in_the_eviction(browser: Browser) -> None:
    """Its countdown runs by itself. A click on the eviction tells why, in the words of `bouncer explain`."""
    stage, guarded = staged(bench := idle_room())
    bench.until(25)
    async with served(stage):
        page = await look(browser, stage)
        grown = lane(page, "assistant").locator(".verdict.pending .grown")
        await expect(grown).to_have_count(1, timeout=WITHIN)
        before = await width(grown)
        assert before > 30  # it began when the agent joined, before anyone looked
        ahead = lane(page, "assistant").locator(".ahead")
        await expect(ahead).to_have_text(re.compile(r"idle_timeout in \d+ s"), timeout=WITHIN)
        first = await ahead.inner_text()
        await expect(ahead).not_to_have_text(first, timeout=WITHIN)
        assert await width(grown) > before

        bench.until(35)
        bench.watch.tell(Heard(bench.now, "PA_2", speaking=True))
        bench.says("A", "speaking")
        await guarded.tell()
        await expect(lane(page, "assistant").locator(".state.speaking")).to_have_count(1, timeout=WITHIN)
        bench.until(40)
        bench.watch.tell(Heard(bench.now, "PA_2", speaking=False))
        bench.says("A", "listening")
        bench.until(85)
        await guarded.tell()
        await expect(lane(page, "assistant").locator(".mark.notice")).to_have_count(1, timeout=WITHIN)
        assert await lane(page, "assistant").locator(".state.listening").count() == 2
        assert await lane(page, "assistant").locator(".speech").count() == 1
        assert await lane(page, "assistant").locator(".traffic").count() >= 1
        assert await lane(page, "assistant").locator(".verdict.over").count() >= 1
        bench.until(120)
        await guarded.tell()
        mark = lane(page, "assistant").locator(".mark.evicted")
        await mark.click()
        told = page.page.locator("#explanation")
        await expect(told).to_contain_text("It was evicted under idle_timeout because it did nothing", timeout=WITHIN)
        await expect(told.locator(".said")).to_contain_text("A was evicted under idle_timeout", timeout=WITHIN)
        assert page.complaints == []


async def test_a_room_is_shown_once_a_bouncer_comes(browser: Browser) -> None:
    """Until then the page says that there is none, and asks again by itself."""
    stage = Stage(asker=Guarded(idle_room()))
    stage.open("RM_1", "lobby", guarded=False)
    async with served(stage):
        page = await visit(browser, f"{stage.url}/#room=RM_1")
        await page.shows("no bouncer guards the room")
        await page.shows("The room shows here as soon as one comes.")
        stage.open("RM_1", "lobby")
        await page.shows("as its bouncer sees it")
        assert "no bouncer" not in await page.page.inner_text("body")


async def test_nothing_is_said_of_a_room_before_it_is_known() -> None:
    """Just started, a gatekeeper knows no room, and then not who is in it: a page that was open asks again."""
    stage, _ = staged(idle_room())
    assert stage.inside
    doors = stage.doors
    stage.close("RM_1")
    assert [seen async for seen in stage.inside.look("RM_1")] == [{"problem": "the room has closed"}]
    doors.listed_at = -math.inf
    assert [seen async for seen in stage.inside.look("RM_1")] == []
    doors.answered(ListRooms(stage.now()), (Room("RM_2", "lobby", people=1),), stage.now())
    assert [seen async for seen in stage.inside.look("RM_2")] == []
    doors.answered(ListBouncers(stage.now(), "RM_2", "lobby"), (), stage.now())
    (seen,) = [seen async for seen in stage.inside.look("RM_2")]
    assert "no bouncer guards the room" in seen["problem"]


async def test_lanes_are_walked_and_explained_by_keyboard(browser: Browser) -> None:
    """Arrow keys walk to a hold, Enter explains it, Escape goes back. What is exempt is said to be."""
    bench = Bench(policies={"idle_timeout": {"timeout": 20}}, exempt={"agent_name": ["assistant"]})
    bench.joins("ana")
    bench.joins("A", "assistant", attributes={"lk.agent.state": "listening"})
    bench.until(40)
    stage, _ = staged(bench)
    async with served(stage):
        page = await look(browser, stage, width=380, dark=True)
        keys = page.page.keyboard
        await lane(page, "The room").locator(".who").focus()
        await keys.press("ArrowDown")
        await keys.press("ArrowRight")
        await keys.press("ArrowRight")
        await expect(page.page.locator(":focus")).to_have_attribute("aria-label", re.compile("held"), timeout=WITHIN)
        await keys.press("Enter")
        told = page.page.locator("#explanation")
        await expect(told).to_contain_text("That is held back: it is exempt", timeout=WITHIN)
        await expect(told.locator("h2")).to_be_focused(timeout=WITHIN)
        await keys.press("Escape")
        await expect(told).to_have_count(0, timeout=WITHIN)
        await expect(page.page.locator(":focus")).to_have_attribute("aria-label", re.compile("held"), timeout=WITHIN)
        await page.page.get_by_role("button", name="Pause").click()
        await page.shows("stopped at")
        assert page.complaints == []


async def test_another_configuration_is_tried_and_changes_nothing(browser: Browser) -> None:
    """It says which agents would leave now and later, by what the bouncer knows; `check`'s errors refuse a bad one."""
    long = {"idle_timeout": {"timeout": 3600}}
    bench = idle_room()
    bench.configure(policies=long)
    bench.until(990)
    bench.joins("B", "notes", attributes={"lk.agent.state": "listening"})
    bench.until(1000)
    stage, guarded = staged(bench)
    before = guarded.view
    async with served(stage):
        page = await look(browser, stage)
        box, outcome = page.page.get_by_label("Configuration to try"), page.page.locator(".outcome")
        assert json.loads(await box.input_value())["bouncer"]["policies"] == long
        await box.fill('{"bouncer": {"policies": {"idle_timeout": {"timeout": 900}}}}')
        await box.press("Control+Enter")
        await expect(outcome).to_contain_text(
            re.compile(r"Would evict now.*A under idle_timeout.*later.*B under idle"), timeout=WITHIN
        )
        await expect(outcome).to_contain_text(re.compile(r"in \d+:\d\d"), timeout=WITHIN)
        await expect(outcome).to_contain_text("what BOUNCER_CONFIG its worker has", timeout=WITHIN)

        bad = '{"bouncer": {"mode": "on", "policies": {"idle_timeout": {"timeout": -1}}}}'
        await box.fill(bad)
        await page.page.get_by_role("button", name="Try it").click()
        await expect(outcome.locator(".problems li")).to_have_count(2, timeout=WITHIN)
        with pytest.raises(ConfigError) as refused:
            load([Layer("room metadata", bad, shared=True)], BUILTIN)
        told = await outcome.locator(".problems li").all_inner_texts()
        assert told == [str(problem) for problem in refused.value.problems]
        await expect(box).to_have_attribute("aria-invalid", "true", timeout=WITHIN)

        assert guarded.view == before
        assert bench.identities == {"ana", "A", "B"}
        assert page.complaints == []


async def test_what_is_typed_is_completed_from_the_schema(browser: Browser) -> None:
    """Names where a name may stand, values where a value may; by keyboard alone."""
    stage, _ = staged(idle_room())
    async with served(stage):
        page = await look(browser, stage, width=380)
        box, offers = page.page.get_by_label("Configuration to try"), page.page.locator("#offers [role=option]")
        await box.fill("")
        await box.press_sequentially('{"bouncer": {"policies": {"idle_t')
        await expect(offers).to_have_count(1, timeout=WITHIN)
        await box.press("Enter")
        await box.press_sequentially('"not')
        await expect(offers.first).to_contain_text("notice", timeout=WITHIN)
        assert await box.evaluate(TAB) == '{"bouncer": {"policies": {"idle_timeout": {"notice": 0'
        await box.press_sequentially(', "only": []}}, "mo')
        await expect(offers.first).to_contain_text("mode", timeout=WITHIN)
        await box.press("Escape")
        await expect(offers).to_have_count(0, timeout=WITHIN)
        await box.press_sequentially('de": "')
        await expect(offers.filter(has_text="dry_run")).to_have_count(1, timeout=WITHIN)
        await box.press_sequentially("dr")
        await box.press("Enter")
        await box.press_sequentially("}}")
        assert json.loads(await box.input_value()) == {
            "bouncer": {"policies": {"idle_timeout": {"notice": 0, "only": []}}, "mode": "dry_run"}
        }
        assert await page.page.evaluate("document.documentElement.scrollWidth") <= 380


async def test_only_our_own_page_tries_and_only_who_may_look(browser: Browser) -> None:
    """Without a login there is no explanation, no schema and no try; another site's request is refused."""
    stage, _ = staged(idle_room(), Access("0.0.0.0", TOKEN))  # noqa: S104 - the test itself listens on loopback
    async with served(stage):
        ask = (await visit(browser, stage.url)).page.request
        for path in ("room?sid=RM_1", "explanation?sid=RM_1&identity=A", "schema.json"):
            assert (await ask.get(f"{stage.url}/console/{path}")).status == 401
        assert (await ask.post(f"{stage.url}/console/attempt", data={"sid": "RM_1"})).status == 401
    stage, guarded = staged(idle_room())
    ours = {"sec-fetch-site": "same-origin", "content-type": "application/json"}
    good = json.dumps({"sid": "RM_1", "configuration": "{}"})
    async with served(stage):
        ask = (await visit(browser, stage.url)).page.request

        async def status(body: str, **headers: str) -> int:
            given = ours | {name.replace("_", "-"): value for name, value in headers.items()}
            return (await ask.post(f"{stage.url}/console/attempt", data=body, headers=given)).status

        assert await status(good) == 200
        assert await status(good, sec_fetch_site="cross-site") == 403
        assert await status(good, content_type="text/plain") == 403
        assert [await status(bad) for bad in ("", "[]", '{"sid": "RM_1"}', "x" * 2_000_000)] == [400] * 4
        assert (await ask.get(f"{stage.url}/console/explanation?sid=RM_1&identity=A")).status == 404
        assert guarded.looking == 0  # no page looks, so nothing is asked


@pytest.mark.parametrize(("wide", "dark"), [(1200, False), (380, True)])
async def test_hostile_text_is_text_in_every_place(browser: Browser, wide: int, *, dark: bool) -> None:
    """In lanes, explanations, configurations and what is tried; nothing sticks out at the side."""
    bench = Bench(policies={"duplicates": {"grace": 0, "only": [*HOSTILE]}, **IDLE})
    for number, text in enumerate(HOSTILE):
        bench.joins(f"p{number} {text}", name="", kind=Kind.SIP)
        bench.joins(text, text, attributes={"lk.agent.state": text})
        bench.joins(f"two of {text}", text)
    bench.until(50)
    stage, guarded = staged(bench)
    guarded.name = HOSTILE[0]
    async with served(stage):
        page = await look(browser, stage, width=wide, dark=dark)
        for text in HOSTILE:
            await expect(page.page.locator(".lane:not(.gone) .who .name", has_text=text).first).to_be_visible(
                timeout=WITHIN
            )
        await page.page.locator(".mark.evicted").first.click()
        await expect(page.page.locator("#explanation")).to_contain_text("evicted under duplicates", timeout=WITHIN)
        await page.page.get_by_label("Configuration to try").fill(json.dumps({"bouncer": {HOSTILE[0]: HOSTILE[1]}}))
        await page.page.get_by_role("button", name="Try it").click()
        await expect(page.page.locator(".problems")).to_contain_text(HOSTILE[0], timeout=WITHIN)
        assert await page.page.locator("main img, main script, main b:not(.count)").count() == 0
        assert await page.page.evaluate("document.documentElement.scrollWidth") <= wide
        assert page.complaints == []


async def test_what_the_answer_knows_from_before_is_shown(browser: Browser) -> None:
    """An eviction before the page was opened has its lane and its mark."""
    bench = Bench(policies={"duplicates": {"grace": 0}})
    bench.joins("ana")
    bench.joins("A", "assistant")
    bench.until(5)
    bench.joins("B", "assistant")
    bench.until(40)
    stage, _ = staged(bench)
    async with served(stage):
        page = await look(browser, stage)
        await expect(lane(page, "B · agent · evicted").locator(".mark.evicted")).to_have_count(1, timeout=WITHIN)
        await page.page.get_by_label("Show").select_option("3600")
        await expect(lane(page, "B · agent · evicted")).to_have_count(1, timeout=WITHIN)
