"""The console alongside a real server: an eviction followed on screen, from the webhooks to the history."""

import asyncio
import json
import os
import signal
from pathlib import Path

import aiohttp
import psutil  # type: ignore[import-untyped] # it has no types
from livekit import api
from playwright.async_api import Page, async_playwright, expect

from devserver import free_port, gatekeeper, own_server, worker
from devserver.debian import find_or_install
from tests.console.libraries import install
from tests.e2e.conftest import AGENT
from tests.e2e.world import World

WITHIN = 60_000
"""Milliseconds to wait for what takes a second or two."""
SHORT_STAY = {"bouncer": {"policies": {"max_lifetime": {"limit": 3600}}}}
NO_GRACE = {"bouncer": {"policies": {"duplicates": {"grace": 0}}}}


async def explain_and_try(page: Page) -> None:
    """Have the eviction explained, try another configuration, and have the agent explained that is still there."""
    await expect(page.locator(".facts")).to_contain_text("acting", timeout=WITHIN)
    await page.locator("g.mark.evicted").click()
    await expect(page.locator("#explanation")).to_contain_text("It was evicted under duplicates", timeout=WITHIN)
    await page.get_by_role("button", name="Close the explanation").click()
    await page.get_by_label("Configuration to try").fill(json.dumps(SHORT_STAY))
    await page.get_by_role("button", name="Try it").click()
    await expect(page.locator(".outcome")).to_contain_text("Would evict later", timeout=WITHIN)
    await expect(page.locator(".outcome")).to_contain_text("A under max_lifetime", timeout=WITHIN)
    await page.locator(".lane:not(.gone) .who", has_text="A · agent").click()
    await expect(page.locator("#explanation")).to_contain_text("Facts", timeout=WITHIN)


async def test_there_is_no_console_where_anyone_could_look(tmp_path: Path) -> None:
    """Bound to all addresses without a login: webhooks, health and metrics answer, nothing else. That is said once."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    pages = ("", "login", "console/rooms", "console/console.js", "console/history", "act/evict")
    settings = {"BOUNCER_DATABASE_URL": f"sqlite:///{tmp_path}/history.db", "BOUNCER_ALLOW_ACTIONS": "1"}
    async with (
        own_server(say=print) as server,
        aiohttp.ClientSession() as session,
    ):

        async def status(path: str, method: str = "GET") -> int:
            async with session.request(method, f"{url}/{path}") as answer:
                return answer.status

        everywhere = ("--host", "0.0.0.0")  # noqa: S104 - what this is about
        async with gatekeeper(server, port=port, args=everywhere, env=settings) as gate:
            assert [await status(path) for path in pages] == [404] * len(pages)
            assert [await status("act/evict", "POST"), await status("login", "POST")] == [404, 404]
            assert [await status(path, "POST") for path in ("livekit", "bouncer")] == [401, 401]
            assert [await status(path) for path in ("healthz", "metrics")] == [200, 200]
            assert sum(line["message"] == "console off" for line in gate.log) == 1
        token = settings | {"BOUNCER_CONSOLE_TOKEN": "a token of enough characters"}
        async with gatekeeper(server, port=port, args=everywhere, env=token):
            assert [await status("login"), await status("console/rooms")] == [200, 401]
        async with gatekeeper(server, port=port, env=settings) as gate:
            assert await status("") == 200
            assert not [line for line in gate.log if line["message"] == "console off"]


async def test_an_eviction_is_seen_on_the_page(tmp_path: Path) -> None:
    """A room appears, an agent is evicted, the history has it. A page that is open costs the gatekeeper little."""
    await asyncio.to_thread(install)
    chromium = await asyncio.to_thread(find_or_install, "chromium", "chromium", print)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = {"BOUNCER_DATABASE_URL": f"sqlite:///{tmp_path}/history.db", "BOUNCER_ALLOW_ACTIONS": "1"}
    async with (
        own_server(say=print, webhook=f"{url}/livekit") as server,
        api.LiveKitAPI(server.url, server.api_key, server.api_secret) as client,
        worker(AGENT, server, env={"BOUNCER_WEBHOOK_URL": f"{url}/bouncer"}, log_file=tmp_path / "worker"),
        gatekeeper(server, port=port, env=settings, log_file=tmp_path / "gate") as gate,
        async_playwright() as playwright,
        World(server, client) as world,
    ):
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = await browser.new_page()
        await page.goto(url)
        await expect(page.locator("body")).to_contain_text("No room is open", timeout=WITHIN)

        await world.create(NO_GRACE)
        await world.human("ana")
        first = await world.agent("A")
        row = page.locator(".row")
        await expect(row).to_contain_text("1 person, 1 agent", timeout=WITHIN)
        await expect(row).to_contain_text("guarded", timeout=WITHIN)
        await world.gone(await world.agent("B"))
        await expect(row.locator(".evicted")).to_have_text("1", timeout=WITHIN)
        await row.get_by_role("link").click()
        await expect(page.locator("body")).to_contain_text("as its bouncer sees it", timeout=WITHIN)
        await explain_and_try(page)
        await page.get_by_role("button", name="Evict by hand").click()
        await page.get_by_label("Reason").fill("it was only visiting")
        await page.get_by_role("button", name="Evict", exact=True).click()
        await expect(page.locator(".told")).to_contain_text("was removed, and seen gone", timeout=WITHIN)
        await world.gone(first)
        late = await world.join("ben")
        await expect(page.locator(".lanes")).to_contain_text("ben", timeout=WITHIN)
        await late.leave()
        await page.screenshot(path=tmp_path / "room.png")
        await page.get_by_role("link", name="History").click()
        await expect(page.locator("body")).to_contain_text("Evictions by policy", timeout=WITHIN)
        await expect(page.locator(".ranking").first).to_contain_text("duplicates", timeout=WITHIN)
        await expect(page.locator(".ranking").first).to_contain_text("by_hand", timeout=WITHIN)
        whole = await (await page.request.get(f"{url}/console/history.jsonl")).text()
        (record,) = [each for each in map(json.loads, whole.splitlines()) if each.get("policy") == "by_hand"]
        assert (record["by"], record["reason"]) == ("this machine", "was named by hand: it was only visiting")

        await page.get_by_role("link", name="Rooms").click()
        await expect(row).to_contain_text("1 person, 0 agents", timeout=WITHIN)
        process = psutil.Process(gate.pid)
        before = sum(process.cpu_times()[:2])
        await asyncio.sleep(5)
        print(f"\none open page: {(sum(process.cpu_times()[:2]) - before) / 5:.1%} of a core")
        await browser.close()


async def test_open_pages_outlive_the_gatekeeper(tmp_path: Path) -> None:
    """It is killed and started again. Without a reload, the rooms and the room show what happens from then on."""
    await asyncio.to_thread(install)
    chromium = await asyncio.to_thread(find_or_install, "chromium", "chromium", print)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = {"BOUNCER_DATABASE_URL": f"sqlite:///{tmp_path}/history.db"}
    async with (
        own_server(say=print, webhook=f"{url}/livekit") as server,
        api.LiveKitAPI(server.url, server.api_key, server.api_secret) as client,
        worker(AGENT, server, log_file=tmp_path / "worker"),
        async_playwright() as playwright,
        World(server, client) as world,
    ):
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        rooms, room = await browser.new_page(), await browser.new_page()
        async with gatekeeper(server, port=port, env=settings) as gate:
            await world.create()
            await world.human("ana")
            await rooms.goto(url)
            await expect(rooms.locator(".row")).to_contain_text("1 person, 0 agents", timeout=WITHIN)
            await expect(rooms.locator(".row")).to_contain_text("guarded", timeout=WITHIN)
            await room.goto(url + str(await rooms.locator(".row a").get_attribute("href")))
            await expect(room.locator(".lanes")).to_contain_text("ana", timeout=WITHIN)
            for page in (rooms, room):
                await page.evaluate("window.kept = true")
            os.kill(gate.pid, signal.SIGKILL)
            await expect(rooms.locator("header")).to_contain_text("no connection to the gatekeeper", timeout=WITHIN)
            await expect(room.locator("header")).to_contain_text("asking the bouncer", timeout=WITHIN)
        async with gatekeeper(server, port=port, env=settings):
            await world.human("ben")
            await expect(room.locator(".lanes")).to_contain_text("ben", timeout=WITHIN)
            await expect(room.locator("header")).to_contain_text("as its bouncer sees it", timeout=WITHIN)
            await expect(rooms.locator(".row")).to_contain_text("2 people, 0 agents", timeout=WITHIN)
            await expect(rooms.locator("header")).to_contain_text("live", timeout=WITHIN)
            assert [await page.evaluate("window.kept") for page in (rooms, room)] == [True, True]
        await browser.close()
