"""Participants that change their attributes as fast as the server lets them, which is much faster than its SDK is.

Each speaks no more than the signalling protocol and opens no media, so it stays JOINING; what it changes is told to
everybody all the same. Run it with the server's URL, for how many seconds, and a token for each participant; it prints
how many changes the server took.
"""

import asyncio
import sys
import time
from contextlib import suppress
from itertools import count

import aiohttp
from livekit.protocol.rtc import SignalRequest, UpdateParticipantMetadata

AHEAD = 10
"""Changes of one participant that are on their way at the same time. To each the server answers with three messages,
and it ends the connection of whoever lets 200 wait."""
STATES = ("speaking", "thinking", "listening", "idle")
TAKEN = b"\xb2\x01"
"""How a `SignalResponse` begins that is the answer to a request; there are too many to parse them all."""


async def flood(url: str, token: str, until: float) -> int:
    """Join, again if need be, and change attributes until that instant; how many changes were taken."""
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
    """Flood with all of them at once."""
    until = time.monotonic() + float(seconds)
    print(sum(await asyncio.gather(*(flood(url, token, until) for token in tokens))))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
