"""What a gatekeeper saw before a bouncer came: how it travels, and what it changes."""

import json
from typing import Any

import pytest

from bouncer.earlier import MOST, SEEN, Seen, read, written
from bouncer.events import Connected, Earlier, Event, Joined, Left, Stalled
from bouncer.testing import due
from policies.empty_room import EmptyRoom
from policies.no_return import NoReturn
from tests.told import ME, A, agent, house, info, who

NOW = 1000.0


def instant(milliseconds: int) -> float:
    """Turn the server's milliseconds into instants, as if its clock had started when ours did."""
    return milliseconds / 1000


def taken(value: Any, now: float = NOW) -> Earlier | None:
    """Return what is read of this value."""
    return read(json.dumps({"bouncer": {}, SEEN: value}), now, instant)


def test_what_is_written_is_read() -> None:
    """Dates become instants of our own clock."""
    seen = Seen(at=990_000, opened=100_000, people_left=980_000, evicted={"A": 950_000}, alive={"PA_A": 940_000})

    assert taken(written(seen)) == Earlier(
        NOW, opened_at=100, people_left_at=980, evicted_at={"A": 950}, alive_at={"PA_A": 940}
    )


def test_only_the_latest_of_many_are_written() -> None:
    """The metadata of a dispatch stays small."""
    value = written(Seen(at=1, evicted={f"A{number}": number for number in range(1, 1000)}))

    assert len(value["evicted"]) == MOST
    assert min(value["evicted"].values()) == 1000 - MOST


@pytest.mark.parametrize(
    "value", [None, [], "x", 3, {}, {"opened": True}, {"opened": "1"}, {"alive": [1]}, {"evicted": {"A": None}}]
)
def test_what_is_no_date_is_left_out(value: Any) -> None:
    """It may come from anyone who can dispatch."""
    assert taken(value) in (None, Earlier(NOW))


@pytest.mark.parametrize("date", [-1, 0, 10**30, 2_000_000, 0.5])
def test_a_date_that_cannot_be_is_left_out(date: float) -> None:
    """Before the clock began, or still to come."""
    assert taken({"at": 990_000, "opened": date, "people_left": date, "evicted": {"A": date}}) == Earlier(NOW)


@pytest.mark.parametrize("metadata", ["", SEEN, "[" * 100_000 + SEEN, json.dumps([SEEN])])
def test_other_text_is_ignored(metadata: str) -> None:
    """As it is in any metadata."""
    assert read(metadata, NOW, instant) is None


def test_that_people_left_is_believed_for_a_minute_only() -> None:
    """A job that is restarted gets the same metadata, and people may have come and gone since."""
    seen = written(Seen(at=900_000, opened=1000, people_left=880_000))

    assert taken(seen) == Earlier(NOW, opened_at=1)


class TestBelieved:
    """A bouncer that has just come judges as if it had been there."""

    @pytest.mark.parametrize(
        ("told", "due_at"),
        [
            ([], 50 + 120),
            ([Earlier(50, opened_at=3)], 3 + 120),
            ([Earlier(50, people_left_at=45)], 45 + 20),
            ([Earlier(50, people_left_at=45), Stalled(60)], 60 + 20),
            ([Earlier(50, opened_at=3), Stalled(60)], 60 + 120),
            ([Earlier(50, people_left_at=45), Joined(52, info("ana", 52)), Left(60, "PA_ana")], 60 + 20),
            ([Earlier(50, people_left_at=45), Joined(52, info("ana", 52))], None),
        ],
        ids=["nothing", "opened", "people left", "then a gap", "a gap", "someone came and left", "someone came"],
    )
    def test_an_empty_room(self, told: list[Event], due_at: float | None) -> None:
        """`empty_room` counts from then, unless something has happened since."""
        room = house(Connected(50, ME, (A,)), *told)

        assert due(EmptyRoom().evaluate(room)) == ({} if due_at is None else {"A": due_at})

    def test_an_eviction(self) -> None:
        """`no_return` knows an identity that this bouncer has not evicted itself."""
        room = house(Connected(50, ME), Earlier(50, evicted_at={"A": 30}), Joined(60, agent("A", joined=60)))

        assert due(NoReturn(window=60).evaluate(room)) == {"A": 60}

    def test_a_sign_of_life(self) -> None:
        """Of a participant that is there; an older one takes nothing back."""
        there = (Connected(50, ME, (A,)), Earlier(50, alive_at={"PA_A": 40, "PA_x": 45}))

        assert who("A", *there).alive_at == who("A", *there, Earlier(51, alive_at={"PA_A": 30})).alive_at == 40
