"""The line between a worker and the server. It carries everything except media, and can be cut.

Several servers may share one, as behind a load balancer.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import replace
from urllib.parse import urlsplit

from devserver import LOOPBACK, Server

CHUNK = 65536


class Line:
    """A TCP proxy in front of servers that share their keys; each connection goes to the next one that answers."""

    def __init__(self, *servers: Server) -> None:
        self._servers = list(servers)
        self._cut = False
        self._calls: set[asyncio.Task[None]] = set()
        self.server = servers[0]
        """A server as reached over this line."""

    def cut(self) -> None:
        """End all connections, and refuse new ones."""
        self._cut = True
        for call in self._calls:
            call.cancel()

    async def close(self) -> None:
        """Cut it, and wait until all connections have ended."""
        self.cut()
        await asyncio.gather(*self._calls, return_exceptions=True)

    def mend(self) -> None:
        """Accept connections again."""
        self._cut = False

    async def listen(self) -> asyncio.Server:
        """Start."""
        listening = await asyncio.start_server(self._connected, LOOPBACK, 0)
        self.server = replace(self.server, url=f"ws://{LOOPBACK}:{listening.sockets[0].getsockname()[1]}")
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
        """Carry one connection until either end closes it. Without a server that answers, it is refused."""
        with ExitStack() as stack:
            stack.callback(writer.transport.abort)
            with suppress(OSError):
                far_reader, far_writer = await self._dial()
                stack.callback(far_writer.transport.abort)
                both = [asyncio.create_task(_copy(*ends)) for ends in ((reader, far_writer), (far_reader, writer))]
                for copying in both:
                    stack.callback(copying.cancel)
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the next server that answers. Raises OSError if none does."""
        for _ in self._servers[1:]:
            self._servers.append(server := self._servers.pop(0))
            with suppress(OSError):
                return await _connect(server)
        self._servers.append(server := self._servers.pop(0))
        return await _connect(server)


async def _connect(server: Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = urlsplit(server.url)
    return await asyncio.open_connection(address.hostname, address.port)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def line_to(*servers: Server) -> AsyncIterator[Line]:
    """Open a line to these servers, until the context ends."""
    line = Line(*servers)
    listening = await line.listen()
    try:
        yield line
    finally:
        listening.close()
        await line.close()
