"""Schedules: tables of seconds."""

from math import inf

import pytest

from bouncer.guard.schedule import POSTPONED_FOR, SURPLUS_FOR, Backoff, Listing, Surplus


@pytest.mark.parametrize(
    ("failures", "chance", "pause"),
    [(1, 0.5, 2), (2, 0.5, 4), (3, 0.5, 8), (5, 0.5, 30), (6, 0.5, 30), (5000, 0.5, 30), (1, 0.0, 1.6), (1, 1.0, 2.4)],
)
def test_a_pause_doubles_up_to_the_longest_and_is_spread_by_a_fifth(failures: int, chance: float, pause: float) -> None:
    """However often it has failed, the number doesn't overflow."""
    assert Backoff(2, 30).pause(failures, chance) == pytest.approx(pause)


@pytest.mark.parametrize(
    ("now", "after", "next_at"),
    [(100, 0, 100.5), (100.4, 0, 100.5), (101, 0, 101), (101, 3, 104), (101, 30, 110), (120, 0, 110)],
)
def test_a_list_is_brought_forward_and_kept_apart_from_the_last(now: float, after: float, next_at: float) -> None:
    """Asked for at 100, with the next one at 110: half a second lies between two lists, and none is put off."""
    listing = Listing(answered_at=0)
    listing.begin(100, every=10, chance=0.5)

    listing.soon(now, after)

    assert listing.next_at == next_at


@pytest.mark.parametrize(("chance", "next_at"), [(0.0, 109), (0.5, 110), (1.0, 111)])
def test_regular_lists_are_spread_by_a_tenth(chance: float, next_at: float) -> None:
    """Quiet rooms are not all listed at the same time."""
    listing = Listing(answered_at=0)
    listing.begin(100, every=10, chance=chance)

    assert (listing.last_at, listing.next_at) == (100, next_at)


def test_after_a_failure_nothing_is_listed_for_a_pause() -> None:
    """Neither for an eviction nor otherwise; then it is tried again."""
    listing = Listing(answered_at=0)
    listing.begin(100, every=10, chance=0.5)

    listing.retry(100, 4)

    assert (listing.not_before, listing.next_at) == (104, 104)


def test_a_worker_out_of_calls_postpones_a_list_for_so_long_at_most() -> None:
    """The first refusal counts, and an answer ends it."""
    listing = Listing(answered_at=100)
    listing.postpone(100, 10, asked_at=100)
    assert (listing.next_at, listing.overdue(100 + POSTPONED_FOR - 1)) == (110, False)
    listing.postpone(110, 20, asked_at=110)
    assert (listing.next_at, listing.overdue(100 + POSTPONED_FOR)) == (100 + POSTPONED_FOR, True)
    assert listing.not_before == 0, "an urgent list may still go"

    listing.succeed(116)

    assert (listing.postponed_at, listing.overdue(1000)) == (inf, False)


def test_lists_in_vain_come_ever_less_often() -> None:
    """They are read for an eviction, and call it off. One that leads to an eviction ends that."""
    listing, waits = Listing(answered_at=0), []
    for _ in range(10):
        listing.led_to(100, 0.5, something=False)
        waits.append(round(listing.not_before - 100, 3))
    assert waits == [0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5, 5]

    listing.led_to(200, 0.5, something=True)
    listing.led_to(300, 0.5, something=False)

    assert listing.not_before == pytest.approx(300.02)


@pytest.mark.parametrize(("now", "silent"), [(130, False), (131, True)])
def test_silence_is_reported_after_half_a_minute(now: float, *, silent: bool) -> None:
    """Counted from the last answered list."""
    assert Listing(answered_at=100).silent(now) is silent


def test_surplus_bouncers_must_have_been_too_many_for_a_while() -> None:
    """Once there are none, the wait begins again."""
    surplus = Surplus()
    assert [surplus.wait(at) for at in (100, 110, 100 + SURPLUS_FOR)] == [SURPLUS_FOR, SURPLUS_FOR - 10, 0]
    surplus.clear()
    assert surplus.wait(200) == SURPLUS_FOR
