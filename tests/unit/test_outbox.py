"""Records on their way to a webhook: tables of seconds."""

import pytest

from bouncer.observers.outbox import AT_ONCE, KEPT_FOR, MAX_OF_A_ROOM, MAX_WAITING, PAUSES, Fate, Outbox, Parcel

MIDDLE = 0.5
"""The chance at which a pause is what its table says."""


def filled(*rooms: str) -> Outbox:
    """Return an outbox with a record for each of these rooms, numbered."""
    outbox = Outbox()
    for number, room in enumerate(rooms):
        outbox.add(room, {"number": number}, 0)
    return outbox


def taken(outbox: Outbox, now: float = 0) -> list[Parcel]:
    """Return what goes out now."""
    return list(outbox.take(now))


def numbers(parcels: list[Parcel]) -> list[int]:
    """Return their numbers."""
    return [parcel.record["number"] for parcel in parcels]


def test_a_room_in_order_and_rooms_side_by_side() -> None:
    """The next record of a room goes once the one before it has arrived."""
    outbox = filled("a", "a", "b", "a")
    first = taken(outbox)
    assert numbers(first) == [0, 2]
    assert taken(outbox) == []
    outbox.answered(first[0], Fate.ARRIVED, 1, MIDDLE)
    second = taken(outbox, 1)

    assert numbers(second) == [1]
    assert outbox.waiting == 3


@pytest.mark.parametrize(("chance", "at"), [(0.0, 0.4), (0.5, 0.5), (0.999, 0.5998)])
def test_what_fails_is_sent_again_before_all_that_follow(chance: float, at: float) -> None:
    """After a pause, give or take a fifth."""
    outbox = filled("a", "a")
    outbox.answered(taken(outbox)[0], Fate.FAILED, 0, chance)

    assert outbox.wake_at() == pytest.approx(at)
    assert taken(outbox, at - 0.01) == []
    assert numbers(taken(outbox, at)) == [0]


def test_pauses_grow_until_the_record_is_given_up() -> None:
    """Doubled each time, up to a limit; the one after it is tried all the same."""
    outbox, now, pauses = filled("a", "a"), 0.0, []
    while True:
        (parcel,) = taken(outbox, now)
        if not outbox.answered(parcel, Fate.FAILED, now, MIDDLE):
            break
        pauses.append(outbox.wake_at() - now)
        now = outbox.wake_at()

    assert pauses[:8] == [0.5, 1, 2, 4, 8, 16, PAUSES.longest, PAUSES.longest]
    assert KEPT_FOR <= now <= KEPT_FOR + PAUSES.longest
    assert outbox.lost == 1
    (following,) = taken(outbox, now + 1)
    assert (following.record["number"], following.dropped) == (1, 1), "the receiver is told that one is missing"


def test_what_is_refused_is_lost_at_once() -> None:
    """And the next one goes."""
    outbox = filled("a", "a")

    assert not outbox.answered(taken(outbox)[0], Fate.REFUSED, 0, MIDDLE)
    assert (outbox.lost, numbers(taken(outbox))) == (1, [1])


def test_too_many_are_dropped_and_counted() -> None:
    """The newest, so that what arrives is in order."""
    outbox = filled(*["a"] * MAX_OF_A_ROOM)
    assert not outbox.add("a", {"number": -1}, 0)
    rooms = MAX_WAITING // MAX_OF_A_ROOM + 1
    kept = sum(outbox.add(f"room {n % rooms}", {"number": n}, 0) for n in range(2 * MAX_WAITING))

    assert outbox.waiting == MAX_WAITING == kept + MAX_OF_A_ROOM
    assert outbox.lost == 1 + 2 * MAX_WAITING - kept


def test_a_crowd_takes_turns() -> None:
    """A limited number of rooms at the same time, and none is forgotten."""
    outbox = filled(*(f"room {n % 40}" for n in range(80)))
    order: list[int] = []
    while outbox.waiting:
        parcels = taken(outbox)
        assert len(parcels) <= AT_ONCE
        order += numbers(parcels)
        for parcel in parcels:
            outbox.answered(parcel, Fate.ARRIVED, 0, MIDDLE)

    assert sorted(order) == list(range(80))
    assert max(order[:40]) < 48, "a room's second record doesn't go before most others' first"


def test_nothing_is_remembered_of_rooms_that_have_nothing_to_send() -> None:
    """A worker sees thousands of them."""
    outbox = filled("a", "b")
    for parcel in taken(outbox):
        outbox.answered(parcel, Fate.ARRIVED, 0, MIDDLE)

    assert outbox._lines == {}  # noqa: SLF001 - that is the fact


def test_in_a_hurry_no_pause_is_waited_for() -> None:
    """The worker ends."""
    outbox = filled("a")
    outbox.answered(taken(outbox)[0], Fate.FAILED, 0, MIDDLE)
    outbox.hurry()

    assert numbers(taken(outbox)) == [0]
