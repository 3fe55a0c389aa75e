"""Asking the bouncer of a room how it sees it, as a hidden participant that holds nothing open (bouncer/asking.py)."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

from livekit import api, rtc

from bouncer.adapter.project import OpenRoom, Project, UnknownRoom
from bouncer.adapter.sdklogs import keep_native_log
from bouncer.asking import ASK, ASKER, ID_DIGITS, LONGEST, STATE, Inbox, Question, View, changed
from bouncer.ports import ApiError, Trouble

JOIN_WITHIN = 5.0
ANSWER_WITHIN = 2.0
"""Seconds for the first answer; then it is asked again, since a packet in the first moment of a connection is lost."""
TRIES = 3
SILENT_FOR = 6.0
"""Seconds without a message after which a bouncer is taken for gone: it says every two that all is as before."""
RENEW = 10.0
"""Seconds before the end of an answer at which the next one is asked for."""


class NoAnswer(Exception):  # noqa: N818 - the bouncer's, not ours
    """The bouncer doesn't answer; the text says what may be wrong."""


class Exchange:
    """A bouncer that is being asked."""

    def __init__(self, project: Project, room: OpenRoom, bouncer: str, me: str) -> None:
        self._project = project
        self._room = room
        self._bouncer = bouncer
        self._me = me
        self._until = 0.0
        """Until when the bouncer answers us."""
        self._packets: asyncio.Queue[bytes | None] = asyncio.Queue()
        """What came on our topic; None once we are disconnected."""

    def received(self, packet: rtc.DataPacket) -> None:
        """Take in a packet of the room."""
        if packet.topic == STATE:
            self._packets.put_nowait(packet.data)

    def ended(self, *_: object) -> None:
        """Take in that we are disconnected."""
        self._packets.put_nowait(None)

    async def first(self) -> tuple[str, View]:
        """Return the room as the bouncer sees it now, and the date.

        Raises: NoAnswer, ApiError, UnknownRoom.
        """
        async for at, view in self.views(seconds=int(ANSWER_WITHIN * TRIES) + 1):
            return at, view
        raise NoAnswer("the connection to the room ended")

    async def views(self, seconds: int = LONGEST) -> AsyncGenerator[tuple[str, View], None]:
        """Yield the room each time that the bouncer tells of a change, until we are disconnected.

        Raises: NoAnswer, ApiError, UnknownRoom.
        """
        while True:
            inbox, at, view = await self._ask(seconds)
            yield at, view
            loop = asyncio.get_running_loop()
            ends_at = loop.time() + seconds - RENEW
            while loop.time() < ends_at and not inbox.broken:
                try:
                    async with asyncio.timeout(SILENT_FOR):
                        packet = await self._packets.get()
                except TimeoutError:
                    raise NoAnswer(f"the bouncer {self._bouncer} no longer answers") from None
                if packet is None:
                    return
                if message := inbox.take(packet):
                    at, view = _applied(message, view)
                    yield at, view

    async def leave(self) -> None:
        """Let the bouncer stop answering, if it would go on for long: it answers only so many."""
        if self._until - asyncio.get_running_loop().time() > RENEW:
            with suppress(ApiError, UnknownRoom):
                await self._send(secrets.token_hex(ID_DIGITS // 2), 1)

    async def _ask(self, seconds: int) -> tuple[Inbox, str, View]:
        """Ask until the first message of an answer is here."""
        for _ in range(TRIES):
            inbox = Inbox(secrets.token_hex(ID_DIGITS // 2))
            await self._send(inbox.question_id, seconds)
            with suppress(TimeoutError):
                async with asyncio.timeout(ANSWER_WITHIN):
                    while (packet := await self._packets.get()) is not None:
                        if (message := inbox.take(packet)) and isinstance(message.get("view"), dict):
                            return inbox, *_applied(message, {})
                    raise NoAnswer("the connection to the room ended")
        raise NoAnswer(
            f"the bouncer {self._bouncer} doesn't answer; it may be of an older version, have another API key, or be "
            "reconnecting"
        )

    async def _send(self, question_id: str, seconds: int) -> None:
        self._until = asyncio.get_running_loop().time() + seconds
        question = Question(
            room_sid=self._room.sid, to=self._bouncer, reply_to=self._me, seconds=seconds, id=question_id
        )
        key = self._project.credentials
        token = api.AccessToken(key.api_key, key.api_secret).with_identity(self._me).with_sha256(question.sha256)
        packet = question.packet(token.with_ttl(timedelta(seconds=LONGEST)).to_jwt())
        await self._project.send_data(self._room.name, packet, ASK, to=[self._bouncer])


def _applied(message: dict[str, Any], view: View) -> tuple[str, View]:
    return message["at"], message["view"] if "view" in message else changed(view, message["changed"])


@asynccontextmanager
async def asking(project: Project, room: OpenRoom, bouncer: str) -> AsyncIterator[Exchange]:
    """Join a room that `list_rooms` has just shown, to ask its bouncer; leave it at the end.

    Raises: UnknownRoom if the room has closed meanwhile; ApiError if it can't be joined.
    """
    me = f"{ASKER}{secrets.token_hex(8)}"
    key = project.credentials
    grants = api.VideoGrants(
        room_join=True, room=room.name, hidden=True, agent=True, can_publish=False, can_publish_data=False
    )
    token = api.AccessToken(key.api_key, key.api_secret).with_identity(me).with_kind("standard").with_grants(grants)
    keep_native_log()
    connection = rtc.Room()
    conversation = Exchange(project, room, bouncer, me)
    connection.on("data_received", conversation.received)
    connection.on("disconnected", conversation.ended)
    try:
        try:
            async with asyncio.timeout(JOIN_WITHIN):
                await connection.connect(key.url, token.to_jwt(), rtc.RoomOptions(auto_subscribe=False))
                sid = await connection.sid
        except (TimeoutError, rtc.ConnectError) as error:
            raise ApiError(Trouble.UNAVAILABLE, f"can't join the room to ask its bouncer: {error}") from None
        if sid != room.sid:
            raise UnknownRoom(room.name)
        try:
            yield conversation
        finally:
            await conversation.leave()
    finally:
        with suppress(Exception):
            async with asyncio.timeout(JOIN_WITHIN):
                await connection.disconnect()
