"""The console's pages and its live feed, for a browser. Everything that it shows of rooms is text, never markup."""

import asyncio
import base64
import csv
import gzip
import hashlib
import io
import json
import re
import time
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from bouncer.adapter.byhand import NotEvicted
from gatekeeper.access import COOKIE, LASTS, Access, may_act, same_origin
from gatekeeper.acting import Wanted, wanted
from gatekeeper.board import Board
from gatekeeper.history import cells
from gatekeeper.inside import Inside
from gatekeeper.keeper import Keeper

Evict = Callable[[Wanted, str], Awaitable[list[str]]]
"""Evicts an agent for a user, and says how that ended. Raises: NotEvicted."""
ACTS = '<meta name="bouncer-acts" content="yes">'
"""What the page has if one may act."""
PAGE = Path(__file__).parent / "page"
LIBRARIES = ("vendor/preact.js", "vendor/hooks.js", "vendor/htm.js")
"""Put into `page` by `make assets`."""
KINDS = {".css": "text/css", ".js": "text/javascript"}
FILES = {each.name: KINDS[each.suffix] for each in PAGE.iterdir() if each.suffix in KINDS}
FILES |= dict.fromkeys(LIBRARIES, KINDS[".js"])
"""What a page may fetch."""
MODULES = "\n".join(f'<link rel="modulepreload" href="/console/{name}">' for name in FILES if name.endswith(".js"))
"""With this in the page, its modules are fetched at once, and not each when another is found to import it."""
EVERY = 0.5
"""Seconds between two looks at what has changed, for each page that is open."""
BEAT = 15.0
"""Seconds after which an unchanged feed says that it is still there."""
GZIP = 31
"""What zlib calls gzip."""
MOST_DAYS = 3650
LONGEST = 4096
"""Bytes of a login, and of an action."""
MOST_CONFIGURATION = 1024 * 1024
"""Bytes of a configuration to try: what LiveKit takes as a room's metadata, and more as its JSON."""
AFTER_WRONG = 1.0
"""Seconds that the answer to a wrong token takes."""


class Console:
    """Serves the console to those who may look."""

    def __init__(
        self,
        board: Board,
        keeper: Keeper,
        access: Access,
        wall: Callable[[], float] = time.time,
        inside: Inside | None = None,
        evict: Evict | None = None,
    ) -> None:
        """Make it; without `vendor`, its page says what to do. Without `evict` no one can act."""
        self._board, self._keeper, self._access, self._wall = board, keeper, access, wall
        self._inside, self._evict = inside, evict
        there = [name for name in FILES if (PAGE / name).is_file()]
        packed = {name: gzip.compress((PAGE / name).read_bytes(), mtime=0) for name in there}
        self._files = {name: (each, f'W/"{hashlib.sha256(each).hexdigest()}"') for name, each in packed.items()}
        """By name: what it contains, packed, and its tag."""
        page = PAGE / ("index.html" if len(there) == len(FILES) else "missing.html")
        self._index = page.read_text(encoding="utf-8").replace("<!--modules-->", MODULES)
        if evict:
            self._index = self._index.replace("</head>", f"{ACTS}\n</head>")
        self._login = (PAGE / "login.html").read_text(encoding="utf-8")
        self._policy = policy(self._index)
        self._wrong = asyncio.Lock()

    def routes(self) -> list[BaseRoute]:
        """Return the console's routes."""
        return [
            *([self._private("/act/evict", self.evict, "POST")] if self._evict else []),
            Route("/", self.index),
            Route("/login", self.login, methods=["GET", "POST"]),
            Route("/logout", self.logout, methods=["POST"]),
            self._private("/console/rooms", self.rooms),
            self._private("/console/room", self.room),
            self._private("/console/explanation", self.explanation),
            self._private("/console/attempt", self.attempt, "POST"),
            self._private("/console/schema.json", self.schema),
            self._private("/console/history", self.history),
            self._private("/console/history.csv", self.export),
            self._private("/console/history.jsonl", self.export),
            Route("/console/{name:path}", self.file),
        ]

    async def index(self, request: Request) -> Response:
        """Return the page, or ask for a login."""
        if not self._user(request):
            if self._access.asks:
                return self._guarded(RedirectResponse("/login", HTTPStatus.SEE_OTHER))
            return self._guarded(Response("not for you: see docs/how-to/console.md", HTTPStatus.FORBIDDEN))
        return self._guarded(HTMLResponse(self._index))

    async def login(self, request: Request) -> Response:
        """Show the login, or take one."""
        if not self._access.asks:
            return self._guarded(RedirectResponse("/", HTTPStatus.SEE_OTHER))
        if request.method == "GET":
            return self._guarded(HTMLResponse(self._login))
        if not same_origin(request.headers):
            return self._guarded(Response("from another site", HTTPStatus.FORBIDDEN))
        token = parse_qs((await _sent(request)).decode(errors="replace")).get("token", [""])[0]
        cookie = self._access.login(token, self._wall())
        if cookie is None:
            async with self._wrong:  # one guess at a time
                await asyncio.sleep(AFTER_WRONG)
            page = self._login.replace("<!--wrong-->", '<p role="alert">That token is wrong.</p>')
            return self._guarded(HTMLResponse(page, HTTPStatus.UNAUTHORIZED))
        answer = RedirectResponse("/", HTTPStatus.SEE_OTHER)
        secure = request.url.scheme == "https" or request.headers.get("x-forwarded-proto") == "https"
        answer.set_cookie(COOKIE, cookie, max_age=LASTS, httponly=True, samesite="strict", secure=secure)
        return self._guarded(answer)

    async def logout(self, request: Request) -> Response:
        """Forget the login."""
        if not same_origin(request.headers):
            return self._guarded(Response("from another site", HTTPStatus.FORBIDDEN))
        answer = RedirectResponse("/", HTTPStatus.SEE_OTHER)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return self._guarded(answer)

    async def file(self, request: Request) -> Response:
        """Return a file of the page. They are public: the login's page needs them too."""
        name = request.path_params["name"]
        if name not in self._files:
            return self._guarded(Response(status_code=HTTPStatus.NOT_FOUND))
        content, tag = self._files[name]
        headers = {"cache-control": "no-cache", "etag": tag, "vary": "accept-encoding"}
        if request.headers.get("if-none-match") == tag:
            return self._guarded(Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers))
        if _unpacks(request):
            headers["content-encoding"] = "gzip"
        else:
            content = gzip.decompress(content)
        return self._guarded(Response(content, media_type=FILES[name], headers=headers))

    async def rooms(self, request: Request) -> Response:
        """Stream the rooms: all of them at first, then what changes."""
        return _stream(request, self._feed())

    async def room(self, request: Request) -> Response:
        """Stream one room as its bouncer sees it, for as long as the page looks."""
        if self._inside is None:
            return Response(status_code=HTTPStatus.NOT_FOUND)
        seen = self._inside.look(request.query_params.get("sid", ""))
        return _stream(request, _told(seen))

    async def explanation(self, request: Request) -> Response:
        """Return why a participant of a room that a page looks at is still there, or isn't."""
        asked = request.query_params
        told = self._inside.explanation(asked.get("sid", ""), asked.get("identity", "")) if self._inside else None
        return JSONResponse(told) if told else Response(status_code=HTTPStatus.NOT_FOUND)

    async def attempt(self, request: Request) -> Response:
        """Return what another configuration would do in a room. It changes nothing."""
        try:
            asked = json.loads(await _sent(request, MOST_CONFIGURATION))
            sid, text = str(asked["sid"]), str(asked["configuration"])
        except (ValueError, RecursionError, LookupError, TypeError):
            return Response(status_code=HTTPStatus.BAD_REQUEST)
        if self._inside is None:
            return Response(status_code=HTTPStatus.NOT_FOUND)
        return JSONResponse(await self._inside.attempt(sid, text))

    async def schema(self, _: Request) -> Response:
        """Return the schema of a configuration, from which the page completes what is typed."""
        return Response(self._inside.schema() if self._inside else "{}", media_type="application/schema+json")

    async def history(self, request: Request) -> Response:
        """Return the figures of the last days, or why there are none."""
        if not self._keeper.on:
            return JSONResponse({"off": True})
        try:
            return JSONResponse(await self._keeper.summary(_days(request)))
        except Exception as error:  # noqa: BLE001 - the database is away, or busy
            return JSONResponse({"error": type(error).__name__}, HTTPStatus.SERVICE_UNAVAILABLE)

    async def export(self, request: Request) -> Response:
        """Stream the records of the last days, for spreadsheets or whole."""
        history = self._keeper.history
        if history is None:
            return Response(status_code=HTTPStatus.NOT_FOUND)
        records = history.records(self._keeper.span(_days(request)))
        name = request.url.path.rpartition("/")[2]
        lines = map(_csv, cells(records)) if name.endswith(".csv") else (json.dumps(each) + "\n" for each in records)
        kind = "text/csv" if name.endswith(".csv") else "application/x-ndjson"
        headers = {"content-disposition": f'attachment; filename="bouncer-{name}"'}
        return StreamingResponse(lines, media_type=kind, headers=headers)

    async def evict(self, request: Request) -> Response:
        """Evict an agent by hand."""
        assert self._evict  # noqa: S101 - without it there is no such route
        try:
            agent = wanted(json.loads(await _sent(request)))
        except (ValueError, RecursionError) as error:
            return JSONResponse({"problem": str(error)}, HTTPStatus.BAD_REQUEST)
        try:
            return JSONResponse({"told": await self._evict(agent, self._user(request))})
        except NotEvicted as error:
            return JSONResponse({"problem": str(error)}, HTTPStatus.CONFLICT)

    async def _feed(self) -> AsyncGenerator[str, None]:
        version, blind, quiet = 0, None, 0.0
        while True:
            changes = self._board.since(version)
            if changes["version"] != version or changes["blind"] != blind:
                version, blind, quiet = changes["version"], changes["blind"], 0.0
                changes["now"] = round(self._wall() * 1000)
                yield f"data: {json.dumps(changes, ensure_ascii=True, separators=(',', ':'))}\n\n"
            elif quiet >= BEAT:
                quiet = 0.0
                yield ": still here\n\n"
            pause = 0 if changes["more"] else EVERY
            await asyncio.sleep(pause)
            quiet += pause

    def _private(self, path: str, answer: Callable[[Request], Awaitable[Response]], method: str = "GET") -> Route:
        """Return a route for those who may look; a POST is answered only if it comes from our own page."""

        async def answered(request: Request) -> Response:
            if not self._user(request):
                return self._guarded(Response(status_code=HTTPStatus.UNAUTHORIZED))
            if method == "POST" and not may_act(request.headers):
                return self._guarded(Response("from another site", HTTPStatus.FORBIDDEN))
            response = self._guarded(await answer(request))
            response.headers["cache-control"] = "no-store"
            response.headers["x-accel-buffering"] = "no"
            return response

        return Route(path, answered, methods=[method])

    def _user(self, request: Request) -> str:
        return self._access.user(request.headers, request.cookies.get(COOKIE, ""), self._wall())

    def _guarded(self, response: Response) -> Response:
        response.headers["content-security-policy"] = self._policy
        response.headers["x-content-type-options"] = "nosniff"
        response.headers["referrer-policy"] = "no-referrer"
        response.headers["cross-origin-opener-policy"] = "same-origin"
        response.headers["cross-origin-resource-policy"] = "same-origin"
        return response


def _stream(request: Request, events: AsyncGenerator[str, None]) -> Response:
    """Return a feed of server-sent events, compressed if the browser takes that."""
    headers = {}
    feed: AsyncIterator[str | bytes] = events
    if _unpacks(request):
        headers["content-encoding"] = "gzip"
        feed = _packed(events)
    return StreamingResponse(feed, media_type="text/event-stream", headers=headers)


def _unpacks(request: Request) -> bool:
    """Return True if a browser takes what is compressed."""
    return "gzip" in request.headers.get("accept-encoding", "")


async def _packed(events: AsyncGenerator[str, None]) -> AsyncIterator[bytes]:
    """Compress events, each so that it can be read at once."""
    packing = zlib.compressobj(wbits=GZIP)
    async with aclosing(events) as each:
        async for event in each:
            yield packing.compress(event.encode()) + packing.flush(zlib.Z_SYNC_FLUSH)


def _days(request: Request) -> float:
    """Return how many days are asked for: 30 unless the query says otherwise."""
    given = request.query_params.get("days", "")
    return min(int(given), MOST_DAYS) if given.isascii() and given.isdecimal() and len(given) < 6 else 30  # noqa: PLR2004


def _csv(cells: list[str]) -> str:
    """Return a row as CSV."""
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()


async def _told(seen: AsyncGenerator[dict[str, Any], None]) -> AsyncGenerator[str, None]:
    """Yield what is seen as server-sent events, and stop looking when the page does."""
    async with aclosing(seen) as views:
        async for view in views:
            yield f"data: {json.dumps(view, ensure_ascii=True, separators=(',', ':'))}\n\n"


async def _sent(request: Request, most: int = LONGEST) -> bytes:
    """Return the body of a request; empty if it is too long to be one of ours."""
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > most:
                return b""
    except ClientDisconnect:
        return b""
    return body


def policy(page: str) -> str:
    """Return the Content-Security-Policy: only files of ours, and the one script in the page, by its hash."""
    scripts = re.findall(r"<script type=\"importmap\">(.*?)</script>", page, re.DOTALL)
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(["'self'", *(f"'sha256-{each}'" for each in hashes)])
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
