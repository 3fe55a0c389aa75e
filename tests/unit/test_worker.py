"""The worker's parts that need no server: the end of a connection, draining, open files."""

import asyncio
import logging
import resource
from threading import Thread

import pytest
from livekit import rtc

from bouncer.adapter.drain import Drain
from bouncer.adapter.line import ENDED_WITHIN, LineHistory
from bouncer.adapter.worker import allow_files

Limits = tuple[int, int]


@pytest.mark.parametrize(
    ("happened", "untimely"),
    [
        pytest.param(["later"], False, id="the worker ends"),
        pytest.param([], True, id="the server took a second attempt to connect for our leaving"),
        pytest.param(["lost", "UNKNOWN_REASON"], True, id="the server is away"),
        pytest.param(["lost"], True, id="told to end while it is"),
        pytest.param(["lost", "restored"], True, id="the server took the reconnect for our leaving"),
        pytest.param(["lost", "restored", "later"], False, id="the worker ends long after a reconnect"),
        pytest.param(["lost", "restored", "PARTICIPANT_REMOVED"], False, id="removed right after that"),
        pytest.param(["SERVER_SHUTDOWN"], True, id="the server ends"),
        pytest.param(["PARTICIPANT_REMOVED"], False, id="removed"),
        pytest.param(["ROOM_DELETED"], False, id="the room is deleted"),
        pytest.param(["ROOM_CLOSED"], False, id="the room is closed"),
        pytest.param(["DUPLICATE_IDENTITY"], False, id="our identity is taken"),
    ],
)
def test_an_end_that_no_one_wanted(happened: list[str], *, untimely: bool) -> None:
    """Such a job gets a successor, every other one doesn't."""
    line, now = LineHistory(), 100.0
    line.up(now)
    for event in happened:
        match event:
            case "lost":
                line.lost()
            case "restored":
                line.up(now)
            case "later":
                now += ENDED_WITHIN
            case _:
                line.ended(rtc.DisconnectReason.Value(event))

    line.ending(now)
    line.ending(now + ENDED_WITHIN)

    assert line.is_untimely_end == untimely


async def test_every_room_learns_that_the_worker_drains() -> None:
    """Each in its own thread, even one that begins to wait afterwards."""
    drain, told = Drain(), list[str]()

    def room(name: str) -> None:
        asyncio.run(drain.begun())
        told.append(name)

    threads = [Thread(target=room, args=(name,)) for name in "AB"]
    for thread in threads:
        thread.start()
    given_up = asyncio.create_task(drain.begun())
    await asyncio.sleep(0.05)
    assert told == []
    given_up.cancel()

    await asyncio.to_thread(drain.begin)
    await drain.begun()
    for thread in threads:
        thread.join(10)

    assert sorted(told) == ["A", "B"]


@pytest.mark.parametrize(
    ("limits", "allowed", "refused", "complains_of"),
    [
        pytest.param((1024, 4096), (3000, 4096), False, None, id="as many as are wanted"),
        pytest.param((1024, 2048), (2048, 2048), False, 2048, id="as many as we may"),
        pytest.param((1024, resource.RLIM_INFINITY), (3000, resource.RLIM_INFINITY), False, None, id="no hard limit"),
        pytest.param((3000, 4096), None, False, None, id="enough already"),
        pytest.param((resource.RLIM_INFINITY, resource.RLIM_INFINITY), None, False, None, id="no limit"),
        pytest.param((1024, 4096), (3000, 4096), True, 1024, id="a system with a lower limit of its own"),
    ],
)
def test_the_limit_of_open_files_is_raised(
    limits: Limits,
    allowed: Limits | None,
    *,
    refused: bool,
    complains_of: int | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is never lowered, and the log says if it is still too low."""
    asked: list[Limits] = []

    def setrlimit(_: int, wanted: Limits) -> None:
        asked.append(wanted)
        if refused:
            raise ValueError

    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", setrlimit)
    allow_files(3000)

    assert asked == ([allowed] if allowed else [])
    told = [(record.levelno, record.message, vars(record)["limit"]) for record in caplog.records]
    assert told == ([(logging.WARNING, "open-file limit too low", complains_of)] if complains_of else [])
