"""The screen of `bouncer watch`: what fits, and what the keys do."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from textual.widgets import DataTable

from bouncer.cli.follow import Picture, Remark
from bouncer.cli.screen import RoomScreen, Why, columns_for
from bouncer.explanation import doing, outlook, record_words
from tests.views import AT, DUE, agent, verdict, view


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        (20, ["who", "what"]),
        (40, ["who", "what"]),
        (66, ["who", "does", "ahead"]),
        (80, ["who", "role", "does", "ahead"]),
        (200, ["who", "role", "does", "ahead"]),
    ],
)
def test_the_columns_that_fit(width: int, columns: list[str]) -> None:
    """A phone has two. They never take more than there is."""
    found = columns_for(width)

    assert [*found] == columns
    assert sum(found.values()) + 2 * len(found) <= max(width, 24)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, ""),
        ({"state": "listening", "active_at": DUE}, "listening, idle 1:00"),
        ({"state": "thinking", "busy": True, "active_at": DUE}, "thinking"),
        ({"speaking_since": "2026-11-29T02:29:57.000Z"}, "speaking 3 s"),
        ({"role": "person", "spoke_at": "2026-11-29T01:28:57.000Z"}, "silent 1:01:03"),
        ({"joining": True}, "joining"),
        ({"ringing": True}, "ringing"),
    ],
)
def test_what_someone_does(facts: dict[str, Any], words: str) -> None:
    """In the width of a column."""
    assert doing(agent(**facts), AT) == words


@pytest.mark.parametrize(
    ("verdicts", "facts", "found"),
    [
        ([], {}, ("", "")),
        ([], {"exempt": "its identity"}, ("exempt", "held")),
        ([verdict("pending")], {}, ("idle_timeout in 1:00", "soon")),
        ([verdict("pending", held_by="exempt")], {"exempt": "x"}, ("exempt", "held")),
        ([verdict("pending"), verdict("held", DUE, held_by="doubt")], {}, ("idle_timeout: doubt", "held")),
        ([verdict("pending"), verdict("due", DUE)], {}, ("idle_timeout: now", "now")),
        ([verdict("leaving", DUE)], {}, ("idle_timeout: leaving", "now")),
        ([verdict("reported", DUE)], {}, ("idle_timeout: reported", "held")),
        ([{**verdict("due", DUE), "sid": "PA_other"}], {}, ("", "")),
    ],
)
def test_what_is_ahead(verdicts: list[dict[str, Any]], facts: dict[str, Any], found: tuple[str, str]) -> None:
    """The most urgent thing, and how it is coloured."""
    assert outlook(agent(**facts), [*verdicts], AT) == found


ABOUT = {"identity": "A\x1b", "policy": "idle_timeout", "reason": "did nothing"}


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"event": "notice", "due_in": 9.9, **ABOUT}, "A\\u001b has 10 s left under idle_timeout: it did nothing"),
        ({"event": "evicted", **ABOUT}, "A\\u001b was evicted under idle_timeout: it did nothing"),
        (
            {"event": "reported", "outcome": "would", **ABOUT},
            "A\\u001b would be evicted under idle_timeout: it did nothing",
        ),
        ({"event": "reported", **ABOUT}, "A\\u001b is reported under idle_timeout: it did nothing"),
        (
            {"event": "held", "held_by": "exempt", "why": "its identity", **ABOUT},
            "A\\u001b is held back, since it is exempt (its identity); due under idle_timeout: it did nothing",
        ),
        (
            {"event": "failed", "outcome": "denied", **ABOUT},
            "A\\u001b could not be removed (denied), under idle_timeout: it did nothing",
        ),
        ({"event": "called_off", "why": "", **ABOUT}, "A\\u001b is not evicted after all: it had left"),
        (
            {"event": "config_error", "errors": [{"path": "$.x", "message": "must be y"}]},
            "a configuration was refused: $.x: must be y",
        ),
        ({"event": "standing", "standing": "acting"}, "the bouncer acts"),
        ({"event": "fault", "policy": "x", "error": "e"}, "fault: x: e"),
        ({"event": "trouble", "doing": "listing", "error": "e"}, "trouble: listing: e"),
        ({"event": "a_new_one"}, "a new one"),
    ],
)
def test_a_record_in_a_line(record: dict[str, Any], words: str) -> None:
    """Whatever a later version may tell."""
    assert record_words(record) == words


async def test_the_keys() -> None:
    """W explains the participant under the cursor, Escape goes back, and q ends; a new size has other columns."""
    updates: asyncio.Queue[Picture | Remark] = asyncio.Queue()

    async def follow() -> AsyncIterator[Picture | Remark]:
        while True:
            yield await updates.get()

    recent = [{"n": 1, "event": "evicted", "at": AT, **ABOUT}]
    app = RoomScreen(follow())
    async with app.run_test(size=(80, 24)) as pilot:
        updates.put_nowait(Remark("asking"))
        updates.put_nowait(Picture(AT, view(verdict("pending"), who=agent(identity="A\x1b[31m"), recent=recent)))
        await pilot.pause()
        table = app.query_one("#people", DataTable)
        assert [key.value for key in table.columns] == ["who", "role", "does", "ahead"]
        assert [str(cell) for cell in table.get_row_at(0)][:2] == ["assistant A\\u001b[31m", "agent"]
        assert str(table.get_row_at(0)[3]).startswith("idle_timeout in ")

        await pilot.press("w")
        await pilot.pause()
        assert isinstance(app.screen, Why)
        await pilot.press("escape")
        await pilot.resize_terminal(40, 15)
        await pilot.pause()
        assert [key.value for key in table.columns] == ["who", "what"]
        updates.put_nowait(Picture(AT, view(who=agent(sid="PA_new"))))
        await pilot.pause()
        assert table.row_count == 1
        await pilot.press("q")
    assert (app.return_code, app.closed) == (0, "")


async def test_a_room_that_closes_ends_it() -> None:
    """With the reason, to be said once the screen is gone."""

    async def follow() -> AsyncIterator[Picture | Remark]:
        yield Picture(AT, view())
        yield Remark("the room “call” has closed")

    app = RoomScreen(follow())
    async with app.run_test() as pilot:
        await pilot.pause()
    assert app.closed == "the room “call” has closed"
