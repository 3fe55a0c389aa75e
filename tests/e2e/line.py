"""The line between a worker and the server, which can be cut: everything but media goes over it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from urllib.parse import urlsplit

from demo.server import LOOPBACK, Server

CHUNK = 65536


class Line:
    """A TCP proxy before a server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._cut = False
        self._calls: set[asyncio.Task[None]] = set()
        self.server = server
        """The server, as it is reached over this line."""

    def cut(self) -> None:
        """End all connections, and refuse new ones."""
        self._cut = True
        for call in self._calls:
            call.cancel()

    def mend(self) -> None:
        """Let everybody through again."""
        self._cut = False

    async def listen(self) -> asyncio.Server:
        """Begin."""
        listening = await asyncio.start_server(self._connected, LOOPBACK, 0)
        self.server = replace(self._server, url=f"ws://{LOOPBACK}:{listening.sockets[0].getsockname()[1]}")
        return listening

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            writer.transport.abort()
            return
        call = asyncio.create_task(self._relay(reader, writer))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        await asyncio.wait([call])

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far = urlsplit(self._server.url)
        far_reader, far_writer = await asyncio.open_connection(far.hostname, far.port)
        both = [asyncio.create_task(_copy(*ends)) for ends in ((reader, far_writer), (far_reader, writer))]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for copying in both:
                copying.cancel()
            for end in (writer, far_writer):
                end.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def line_to(server: Server) -> AsyncIterator[Line]:
    """A line to this server, until the context ends."""
    line = Line(server)
    listening = await line.listen()
    try:
        yield line
    finally:
        line.cut()
        listening.close()
