"""When participants joined by our clock, whatever the servers' clocks do, and if the machine has slept."""

import time

import pytest

from bouncer.adapter.clock import ServerClock, SleepWatch

Announced = tuple[str, float, float]
"""A sid, when it was announced by our clock, and when it joined by the server's."""


@pytest.mark.parametrize(
    ("announced", "dates"),
    [
        pytest.param([("A", 100, 5000)], {5000: 100}, id="the first sets the clock"),
        pytest.param([("A", 100, 5000), ("B", 110.5, 5010)], {5000: 100, 5010: 110}, id="a later one only confirms"),
        pytest.param([("A", 101.4, 5000), ("B", 110, 5010)], {5010: 110, 5020: 120}, id="we were late at first"),
        pytest.param([("A", 100, 5000), ("B", 112.9, 5010)], {5010: 110}, id="a silent one is announced late"),
        pytest.param([("A", 100, 5000), ("B", 110, 4700)], {4700: 110, 4710: 120}, id="put back by 310 s"),
        pytest.param([("A", 100, 5000), ("B", 110, 8610)], {8610: 110, 8620: 120}, id="put forward by an hour"),
        pytest.param(
            [("A", 100, 5000), ("B", 110, 8610), ("C", 120, 5020)], {5020: 120}, id="two nodes with two clocks"
        ),
        pytest.param([("A", 100, 5000), ("B", 110, 5010), ("A", 500, 5000)], {5500: 600}, id="all are announced again"),
        pytest.param([("A", 100, 5000), ("B", 140, 5010), ("C", 150, 5050)], {5050: 150}, id="frozen for a while"),
        pytest.param([("A", 100, 5000), ("B", 110, 0)], {5010: 110}, id="one without a date"),
    ],
)
def test_dates(announced: list[Announced], dates: dict[float, float]) -> None:
    """No one is dated before they joined: the smallest recent measurement counts."""
    clock = ServerClock()
    for sid, now, server in announced:
        clock.joined(sid, now, round(server * 1000))

    assert {server: clock.instant(round(server * 1000)) for server in dates} == dates


@pytest.mark.parametrize(
    ("running", "passing", "slept"),
    [
        pytest.param([0, 2, 4], [50, 52, 54], [False, False], id="awake"),
        pytest.param([0, 2, 4], [50, 652, 654], [True, False], id="asleep for ten minutes"),
        pytest.param([0, 2, 4], [50, 53.9, 57.8], [False, False], id="drifting"),
        pytest.param([0, 602, 604], [50, 652, 654], [False, False], id="frozen, not asleep"),
    ],
)
def test_sleep(running: list[float], passing: list[float], slept: list[bool]) -> None:
    """It is noticed once. In a freeze both clocks go on, in sleep only one does."""
    watch = SleepWatch(iter(running).__next__, iter(passing).__next__)

    assert [watch.slept() for _ in slept] == slept


def test_the_systems_own_clock_passes() -> None:
    """This machine has one that counts its sleep."""
    assert not SleepWatch(time.monotonic).slept()
