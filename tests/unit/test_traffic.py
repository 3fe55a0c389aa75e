"""How often activity is reported, and how streams are told apart in a flood.

What is reported of other traffic is shown on a real server: tests/e2e/test_traffic.py.
"""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from livekit import rtc
from livekit.rtc._proto.room_pb2 import RoomEvent

from bouncer.adapter.clock import ServerClock
from bouncer.adapter.traffic import APART, EARLY, SESSION, STREAMS, TRANSCRIPTION, Throttle, Traffic
from bouncer.events import Channel, Event, Left, Signal, Transcribed
from tests.virtual import START, virtual

A, B = "PA_A", "PA_B"


@pytest.mark.parametrize(
    ("happens", "told"),
    [
        pytest.param([(0, A)], [(0, A, 0)], id="the first at once"),
        pytest.param([(0, A), (0.1, A), (0.2, A)], [(0, A, 0), (0.25, A, 0.2)], id="the last of what follows"),
        pytest.param([(0, A), (0.1, A), (0.3, A)], [(0, A, 0), (0.25, A, 0.1), (0.5, A, 0.3)], id="again after that"),
        pytest.param([(0, A), (0.3, A)], [(0, A, 0), (0.3, A, 0.3)], id="at once if there was a pause"),
        pytest.param([(0, A), (0, B), (0.1, A)], [(0, A, 0), (0, B, 0), (0.25, A, 0.1)], id="each for itself"),
        pytest.param([(0, A), (0.1, A), (0.2, "A left")], [(0, A, 0)], id="nothing of one that has left"),
        pytest.param(
            [(n / 1000, A) for n in range(1000)],
            [(0, A, 0), *((n * APART, A, n * APART) for n in range(1, 5))],
            id="a flood",
        ),
    ],
)
@virtual
async def test_throttle(happens: list[tuple[float, str]], told: list[tuple[float, str, float]]) -> None:
    """Each row: what happens when, and what is reported when, with its date."""
    loop, got = asyncio.get_running_loop(), list[tuple[float, str, float]]()

    def tell(event: Event) -> None:
        assert isinstance(event, Signal)
        got.append((loop.time() - START, event.sid, event.at - START))

    throttle = Throttle(tell)
    for at, who in happens:
        await asyncio.sleep(START + at - loop.time())
        if who == "A left":
            throttle.forget(A)
        else:
            throttle.tell(who, Channel.DATA, Signal(loop.time(), who))
    await asyncio.sleep(1)

    assert [pytest.approx(row[::2], abs=0.002) for row in got] == [row[::2] for row in told]
    assert [row[1] for row in got] == [row[1] for row in told]


class Streaming:
    """A room whose participants open streams and write pieces of them, and what is told of it."""

    def __init__(self, *identities: str) -> None:
        self.remote_participants = {who: SimpleNamespace(identity=who, sid=f"PA_{who}") for who in identities}
        self.told: list[Event] = []
        self._handlers: dict[str, Callable[[Any], None]] = {}
        self.traffic = Traffic(cast("rtc.Room", self), ServerClock(), self.told.append)

    def on(self, event: str, handler: Callable[[Any], None]) -> None:
        """Take a handler of the traffic."""
        self._handlers[event] = handler

    def _on_room_event(self, event: RoomEvent) -> None:
        """Do nothing; the traffic puts its own method in front of this one."""

    def opens(self, name: str, topic: str, *stream_ids: str) -> None:
        """Streams are opened in a participant's name."""
        for stream_id in stream_ids:
            event = RoomEvent()
            event.stream_header_received.participant_identity = name
            header = event.stream_header_received.header
            header.stream_id, header.topic = stream_id, topic
            (header.byte_header if topic == SESSION else header.text_header).SetInParent()
            self._on_room_event(event)

    def leaves(self, identity: str) -> None:
        """A participant leaves."""
        self._handlers["participant_disconnected"](self.remote_participants.pop(identity))

    async def writes(self, writer: str, stream_id: str) -> list[Event]:
        """Return what is told of one piece of a stream."""
        await asyncio.sleep(1)
        self.told.clear()
        event = RoomEvent()
        event.stream_chunk_received.participant_identity = writer
        event.stream_chunk_received.chunk.stream_id = stream_id
        self._on_room_event(event)
        return list(self.told)

    def kept(self) -> int:
        """Return the number of streams that are remembered."""
        streams = self.traffic._streams  # noqa: SLF001 - that it has a bound shows nowhere else
        assert len(streams._names) <= sum(map(len, streams._shares.values()))  # noqa: SLF001 - as above
        return sum(map(len, streams._shares.values()))  # noqa: SLF001 - as above


def many(count: int, prefix: str = "flood") -> list[str]:
    """Return the ids of so many streams."""
    return [f"{prefix} {number}" for number in range(count)]


def now() -> float:
    """Return the time that an event has that is told now."""
    return asyncio.get_running_loop().time()


FLOODS = [
    pytest.param("ana", "any", many(2000), id="a person's texts"),
    pytest.param("ana", TRANSCRIPTION, many(2000), id="a person's transcriptions"),
    pytest.param("ana", SESSION, many(2000), id="a person's session"),
    pytest.param("ana", "any", ["words", "mirror"], id="a person's streams of the same ids"),
    pytest.param("ana", TRANSCRIPTION, ["words", "mirror"], id="a person's transcriptions of the same ids"),
    pytest.param("B", TRANSCRIPTION, many(2000), id="another agent's transcriptions"),
    pytest.param("A", "any", many(2000), id="its own texts"),
    pytest.param("A", TRANSCRIPTION, many(STREAMS - 2), id="as many of its own as are remembered"),
]


@pytest.mark.parametrize(("who", "topic", "stream_ids"), FLOODS)
@virtual
async def test_a_flood_takes_nothing_from_an_agent(who: str, topic: str, stream_ids: list[str]) -> None:
    """Pieces of the streams that an agent opened before it are still a transcription, and no activity."""
    room = Streaming("A", "B", "ana")
    room.opens("A", TRANSCRIPTION, "words")
    room.opens("A", SESSION, "mirror")

    room.opens(who, topic, *stream_ids)

    assert await room.writes("A", "words") == [Transcribed(now(), "A", "A")]
    assert await room.writes("A", "mirror") == [Signal(now(), "PA_A", active=False, channel=Channel.BYTES)]


@virtual
async def test_an_agents_own_flood_takes_the_stream_that_was_silent_for_longest() -> None:
    """Its pieces count as text from then on; those of the others are told as before."""
    room = Streaming("A", "B")
    room.opens("A", TRANSCRIPTION, "first", "second", "third")
    room.opens("B", TRANSCRIPTION, "b")
    assert await room.writes("A", "first") == [Transcribed(now(), "A", "A")]

    room.opens("A", TRANSCRIPTION, *many(STREAMS - 2))

    assert await room.writes("A", "second") == [Signal(now(), "PA_A", channel=Channel.TEXT)]
    assert await room.writes("A", "first") == [Transcribed(now(), "A", "A")]
    assert await room.writes("A", "third") == [Transcribed(now(), "A", "A")]
    assert await room.writes("B", "b") == [Transcribed(now(), "B", "B")]


@virtual
async def test_a_transcriber_writes_in_the_name_of_the_speaker() -> None:
    """The header has the speaker's name, and the chunks the transcriber's."""
    room = Streaming("A", "ana", "ben")
    room.opens("ana", TRANSCRIPTION, "words")

    room.opens("ben", TRANSCRIPTION, "words", *many(2000))

    text = Signal(now() + 1, "PA_A", channel=Channel.TEXT)
    assert await room.writes("A", "words") == [Transcribed(now(), "ana", "A"), text]


@virtual
async def test_little_is_remembered() -> None:
    """Of streams of text nothing, of other ones so many for each participant, and none of those that have left."""
    people = many(EARLY * 3, "person")
    room = Streaming("A", *people)
    room.opens("A", TRANSCRIPTION, "words")
    room.opens("ana", "any", *many(1000))
    assert room.kept() == 1

    for who in people:
        room.opens(who, TRANSCRIPTION, *many(STREAMS + 1, who))
    assert room.kept() == 1 + len(people) * STREAMS
    for who in people:
        room.leaves(who)
    assert room.kept() == 1
    assert {type(event) for event in room.told} == {Left}


@virtual
async def test_those_that_are_not_announced_have_a_few_places() -> None:
    """They take none from those that are in the room."""
    room = Streaming("A")
    room.opens("A", TRANSCRIPTION, "words")

    for who in many(1000, "stranger"):
        room.opens(who, TRANSCRIPTION, *many(STREAMS, who))
        assert room.kept() <= 1 + (EARLY + 1) * STREAMS

    assert await room.writes("A", "words") == [Transcribed(now(), "A", "A")]
