"""Participants that change their attributes as fast as the server allows, much faster than an SDK would.

Each speaks only the signalling protocol and opens no media, so it stays JOINING, but its changes reach everyone. The
arguments are the server's URL, a number of seconds, and a token for each participant. It prints the number of changes
that the server accepted.
"""

import asyncio
import sys
import time
from contextlib import suppress
from itertools import count

import aiohttp
from livekit.protocol.rtc import SignalRequest, UpdateParticipantMetadata

AHEAD = 10
"""Changes of one participant in flight. The server answers each with three messages, and disconnects a client that lets
200 wait."""
STATES = ("speaking", "thinking", "listening", "idle")
TAKEN = b"\xb2\x01"
"""The first bytes of a `SignalResponse` that answers a request; there are too many to parse them all."""


async def flood(url: str, token: str, until: float) -> int:
    """Join, repeatedly if needed, and change attributes until that instant. Return the number of accepted changes."""
    address = f"{url.replace('http', 'ws', 1)}/rtc?access_token={token}&protocol=15&auto_subscribe=0"
    numbers, taken = count(), 0
    async with aiohttp.ClientSession() as session:
        while time.monotonic() < until:
            # A TypeError: the server has ended the connection.
            with suppress(aiohttp.ClientError, TypeError):
                async with session.ws_connect(address, max_msg_size=0) as line:
                    under_way = 0
                    while time.monotonic() < until:
                        for number, _ in zip(numbers, range(AHEAD - under_way), strict=False):
                            attributes = {"lk.agent.state": STATES[number % len(STATES)], "number": str(number)}
                            request = SignalRequest(update_metadata=UpdateParticipantMetadata(attributes=attributes))
                            await line.send_bytes(request.SerializeToString())
                        answer = await line.receive_bytes()
                        under_way = AHEAD - answer.startswith(TAKEN)
                        taken += AHEAD - under_way
    return taken


async def main(url: str, seconds: str, *tokens: str) -> None:
    """Flood from all participants at once."""
    until = time.monotonic() + float(seconds)
    print(sum(await asyncio.gather(*(flood(url, token, until) for token in tokens))))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
