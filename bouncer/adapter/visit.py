"""Visits to a scratch room: participants of ours that `bouncer doctor` tries a server and a worker on."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

import aiohttp
from livekit import api, rtc
from livekit.protocol.rtc import SignalResponse

from bouncer.adapter.sdklogs import keep_native_log
from bouncer.configuration.settings import Credentials
from bouncer.ports import ApiError, Trouble

JOIN_WITHIN = 10.0
"""Seconds to join a room or to leave it."""
PROTOCOL = 16
"""The version of the signalling protocol that we speak as far as its first message."""


class Visitor:
    """A participant of ours, connected until it leaves or is removed."""

    def __init__(self, identity: str) -> None:
        self.identity = identity
        self.sid = ""
        self._gone = asyncio.Event()

    def disconnected(self, *_: object) -> None:
        """Take in that it is no longer connected."""
        self._gone.set()

    async def gone(self, within: float) -> bool:
        """Wait until it is disconnected. Return False if it still is after so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._gone.wait()
        return self._gone.is_set()


@asynccontextmanager
async def agent(
    credentials: Credentials, room: str, identity: str, attributes: Mapping[str, str]
) -> AsyncIterator[Visitor]:
    """Let a participant of kind AGENT join an open room, and leave at the end.

    Raises: ApiError if it can't join.
    """
    grants = api.VideoGrants(room_join=True, room=room, can_publish=False, can_publish_data=False)
    token = api.AccessToken(credentials.api_key, credentials.api_secret).with_identity(identity).with_kind("agent")
    visitor = Visitor(identity)
    keep_native_log()
    connection = rtc.Room()
    connection.on("disconnected", visitor.disconnected)
    jwt = token.with_grants(grants).with_attributes(dict(attributes)).to_jwt()
    # It is never abandoned half-way: a join that goes on by itself opens the room again once that is deleted.
    joining = asyncio.ensure_future(connection.connect(credentials.url, jwt, rtc.RoomOptions(auto_subscribe=False)))
    try:
        try:
            async with asyncio.timeout(JOIN_WITHIN):
                await asyncio.shield(joining)
        except TimeoutError:
            raise ApiError(Trouble.UNAVAILABLE, f"a participant can't join within {JOIN_WITHIN:g} s") from None
        except rtc.ConnectError as error:
            raise ApiError(Trouble.UNAVAILABLE, f"a participant can't join: {error}") from None
        visitor.sid = connection.local_participant.sid
        yield visitor
    finally:
        with suppress(Exception):
            async with asyncio.timeout(JOIN_WITHIN):
                await asyncio.wait([joining])
                await connection.disconnect()


@asynccontextmanager
async def signalling(credentials: Credentials, room: str, identity: str) -> AsyncIterator[str]:
    """Join an open room hidden, as far as the first message; it says which version the server is.

    Raises: ApiError if that fails. The SDK doesn't tell the version.
    """
    grants = api.VideoGrants(room_join=True, room=room, hidden=True, can_publish=False, can_publish_data=False)
    token = api.AccessToken(credentials.api_key, credentials.api_secret).with_identity(identity).with_grants(grants)
    url = "ws" + credentials.url.rstrip("/").removeprefix("http").removeprefix("ws") + "/rtc"
    query = {"access_token": token.to_jwt(), "protocol": str(PROTOCOL), "auto_subscribe": "0"}
    async with aiohttp.ClientSession(trust_env=True) as session:
        try:
            async with asyncio.timeout(JOIN_WITHIN):
                socket = await session.ws_connect(url, params=query)
                message = SignalResponse.FromString((await socket.receive()).data)
        except Exception as error:  # noqa: BLE001 - whatever answers; not its text, which has the token
            raise ApiError(Trouble.UNAVAILABLE, f"a participant can't join ({type(error).__name__})") from None
        yield message.join.server_info.version or message.join.server_version
