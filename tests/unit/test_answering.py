"""A bouncer's answers, without a server: what each asker is sent, and how often."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from livekit import api, rtc

from bouncer import Kind
from bouncer.adapter import answering
from bouncer.adapter.answering import Answers
from bouncer.asking import ASK, Inbox, Question
from bouncer.events import Connected, Info, Joined
from bouncer.guard.watch import Watch
from bouncer.observers.recent import Recent
from bouncer.tracker import Tracker
from policies import BUILTIN
from tests.dates import records

KEY = ("devkey", "s" * 32)
ME = Info(sid="PA_me", identity="agent-AJ_me", kind=Kind.AGENT, joined_ms=1, hidden=True)


class Room:
    """The connection of a bouncer, as far as it answers."""

    def __init__(self) -> None:
        self.packets: list[tuple[str, bytes]] = []
        """What was sent, and its receivers."""
        self.broken = False
        self.local_participant = SimpleNamespace(identity=ME.identity, publish_data=self._publish)
        self._handler: Callable[[Any], None] | None = None

    def on(self, _: str, handler: Callable[[Any], None]) -> None:
        """Take the handler of packets."""
        self._handler = handler

    @property
    async def sid(self) -> str:
        """Its sid."""
        if self.broken:
            raise RuntimeError("the room is gone")
        return "RM_1"

    def ask(self, reply_to: str, *, sender: object = None) -> Question:
        """Let a question arrive."""
        question = Question(room_sid="RM_1", to=ME.identity, reply_to=reply_to, seconds=60, id=secrets.token_hex(16))
        token = api.AccessToken(*KEY).with_identity(reply_to).with_sha256(question.sha256)
        packet = question.packet(token.with_ttl(timedelta(seconds=60)).to_jwt())
        assert self._handler
        self._handler(SimpleNamespace(topic=ASK, data=packet, participant=sender))
        return question

    async def _publish(self, packet: bytes, *, destination_identities: list[str], **_: object) -> None:
        [to] = destination_identities
        self.packets.append((to, packet))


@pytest.fixture
async def desk(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Room, Watch]]:
    """A bouncer that answers, fifty times as often as a real one."""
    monkeypatch.setattr(answering, "EVERY", 0.02)
    monkeypatch.setattr(answering, "SHARE", 100.0)
    monkeypatch.setattr(answering, "ALIVE_EVERY", 0.2)
    room, watch = Room(), Watch(Tracker(), BUILTIN, lambda _: 0.5, 0)
    watch.tell(Connected(0, ME))
    watch.configure("{}", 0)
    answers = Answers(room, KEY, watch, name="call", recent=Recent(records()))  # type: ignore[arg-type]
    running = asyncio.create_task(answers.run())
    yield room, watch
    running.cancel()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


async def sent(room: Room, packets: int) -> list[tuple[str, bytes]]:
    """Wait until so many packets were sent, and return them."""
    await until(lambda: len(room.packets) >= packets)
    return room.packets


async def test_the_whole_then_what_changes(desk: tuple[Room, Watch]) -> None:
    """To the asker alone; and now and then that nothing has changed."""
    room, watch = desk
    question = room.ask("asker")
    inbox = Inbox(question.id)
    [(to, first)] = await sent(room, 1)
    whole = inbox.take(first)
    assert whole
    assert (to, whole["view"]["room"], whole["view"]["bouncer"]) == ("asker", "call", ME.identity)

    still = inbox.take((await sent(room, 2))[1][1])
    assert still
    assert still["changed"] == {}
    watch.tell(Joined(1, Info(sid="PA_A", identity="A", joined_ms=2, joined_at=1)))
    later = [inbox.take(packet) for _, packet in (await sent(room, 4))[2:]]
    changed = [each["changed"] for each in later if each and each["changed"]]
    assert [each["identity"] for each in changed[0]["participants"]["set"]] == ["A"]


async def test_what_has_a_sender_is_no_question(desk: tuple[Room, Watch]) -> None:
    """It didn't come through the server's API. Nothing is done for it."""
    room, _ = desk
    room.ask("guest", sender=rtc.Room)
    room.ask("asker")

    assert {to for to, _ in await sent(room, 2)} == {"asker"}


async def test_an_error_ends_no_answering(desk: tuple[Room, Watch], caplog: pytest.LogCaptureFixture) -> None:
    """It is logged; the next answer goes out again."""
    room, _ = desk
    room.broken = True
    room.ask("asker")
    await until(lambda: "answer failed" in caplog.messages)
    room.broken = False

    assert await sent(room, 1)
