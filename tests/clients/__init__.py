"""People who join rooms with LiveKit's other client SDKs: in Node, and in a browser, Debian's Chromium.

The SDKs come from npm as package-lock.json says, once for all tests.
"""

import asyncio
import hashlib
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import async_playwright

from devserver import Server
from devserver.debian import find_or_install
from devserver.process import end, locked
from devserver.source import cache

HERE = Path(__file__).parent
LOCK = HERE / "package-lock.json"
JOIN_WITHIN, LEAVE_WITHIN = 60.0, 10.0
SDK_OF_BROWSERS = "node_modules/livekit-client/dist/livekit-client.umd.js"
SWITCHES = ("--no-sandbox", "--disable-features=WebRtcHideLocalIpsWithMdns")
"""Root has no sandbox, and a machine without a network has no mDNS."""
IN_A_PAGE = """async ([url, token]) => {
    const room = new LivekitClient.Room();
    await room.connect(url, token, { autoSubscribe: false });
    (window.rooms ??= []).push(room);
}"""

Join = Callable[[str], Awaitable[None]]
"""Joins the room that a token names."""


def installed() -> Path:
    """Return a folder with the SDKs in its `node_modules`, and with Node's client; they are installed if need be."""
    find_or_install("npm", "npm", print)
    folder = cache() / f"clients-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:16]}"
    with locked(cache() / "clients.lock", lambda: None):
        if not (folder / "node_modules/.package-lock.json").is_file():  # npm writes it last
            folder.mkdir(parents=True, exist_ok=True)
            for file in ("package.json", LOCK.name):
                shutil.copy(HERE / file, folder)
            command = ["npm", "ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund"]
            subprocess.run(command, cwd=folder, check=True)
        shutil.copy(HERE / "join.mjs", folder)
    return folder


@asynccontextmanager
async def in_node(server: Server, log_file: Path) -> AsyncIterator[Join]:
    """Give a client in a Node process of its own, which logs to the file."""
    folder = await asyncio.to_thread(installed)
    node = await asyncio.to_thread(find_or_install, "node", "nodejs", print)
    with log_file.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(node, "join.mjs", server.url),
            cwd=folder,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    assert process.stdin
    assert process.stdout

    async def join(token: str) -> None:
        assert process.stdin
        assert process.stdout
        process.stdin.write(f"{token}\n".encode())
        async with asyncio.timeout(JOIN_WITHIN):
            while (line := await process.stdout.readline()) != b"joined\n":  # the SDK logs there too
                assert line, f"Node's client has ended:\n{log_file.read_text(errors='replace')}"

    try:
        yield join
        process.stdin.close()
        async with asyncio.timeout(LEAVE_WITHIN):
            await process.stdout.read()
    finally:
        await end(process, within=0)


@asynccontextmanager
async def in_a_browser(server: Server) -> AsyncIterator[Join]:
    """Give a client in a page of a headless Chromium."""
    folder = await asyncio.to_thread(installed)
    chromium = await asyncio.to_thread(find_or_install, "chromium", "chromium", print)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=SWITCHES)
        page = await browser.new_page()
        await page.add_script_tag(path=folder / SDK_OF_BROWSERS)

        async def join(token: str) -> None:
            async with asyncio.timeout(JOIN_WITHIN):
                await page.evaluate(IN_A_PAGE, [server.url, token])

        yield join
        await page.evaluate("Promise.all(window.rooms.map((room) => room.disconnect()))")
        await browser.close()
