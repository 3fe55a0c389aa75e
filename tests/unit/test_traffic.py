"""How often activity is reported. What is reported is shown on a real server: tests/e2e/test_traffic.py."""

import asyncio

import pytest

from bouncer.adapter.traffic import APART, Throttle
from bouncer.events import Channel, Event, Signal
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
