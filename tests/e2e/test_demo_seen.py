"""The demo as it is followed in a browser: `make demo-console`, from the room to an eviction and why it came to it."""

import asyncio
import re
import sys
from pathlib import Path

from playwright.async_api import Page, async_playwright, expect

from bouncer.asking import ASKER
from demo.__main__ import INTERRUPTED
from devserver.debian import find_or_install
from devserver.process import end, spawn, tail
from tests.console.libraries import install
from tests.e2e.command import environment
from tests.e2e.conftest import HERE
from tests.e2e.test_console import WITHIN

BEGINS_WITHIN = 120.0
"""Seconds until the demo says where to look; it takes some five, most of them to start workers."""


async def address(process: asyncio.subprocess.Process, said: Path) -> str:
    """Return where the demo says that its room can be seen."""
    async with asyncio.timeout(BEGINS_WITHIN):
        while not (found := re.search(r"see the room in your browser, at (http:\S+)", said.read_text())):
            assert process.returncode is None, "the demo has ended"
            await asyncio.sleep(0.1)
    return found[1]


async def follow(page: Page, url: str) -> None:
    """Open the room from the list, wait for the first eviction, and have it explained."""
    await page.goto(url)
    await page.locator(".row").get_by_role("link").click(timeout=WITHIN)
    await expect(page.locator("body")).to_contain_text("as its bouncer sees it", timeout=WITHIN)
    await page.locator("g.mark.evicted").first.click(timeout=2 * WITHIN)
    told = page.locator("#explanation")
    await expect(told.locator(".said")).to_contain_text("was evicted under duplicates", timeout=WITHIN)
    await expect(told.locator(".summary")).to_contain_text("It was evicted under duplicates because it", timeout=WITHIN)
    await expect(told).to_contain_text("Facts", timeout=WITHIN)


async def test_the_demo_is_followed_to_an_eviction_and_why(tmp_path: Path) -> None:
    """Its second assistant is evicted on screen, and a click tells why. Whoever looks is not part of the story."""
    await asyncio.to_thread(install)
    chromium = await asyncio.to_thread(find_or_install, "chromium", "chromium", print)
    said = tmp_path / "said"
    command = (sys.executable, "-m", "demo", "console")
    process = await spawn(command, environment(), said, cwd=HERE.parents[1])
    try:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = await browser.new_page()
            await follow(page, await address(process, said))
            await page.screenshot(path=tmp_path / "room.png")
            await browser.close()
        process.terminate()
        async with asyncio.timeout(BEGINS_WITHIN):
            assert await process.wait() == INTERRUPTED
        assert ASKER not in said.read_text(), "who looks is no one of the story"
    finally:
        await end(process, within=10.0)
        print(tail(said))
