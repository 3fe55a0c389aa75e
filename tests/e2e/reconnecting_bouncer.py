"""The bouncer, but each of its rooms is connected anew on SIGUSR1, as when a server of a cluster has failed."""

import asyncio
import runpy
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from livekit import rtc

AGENT = Path(__file__).parents[2] / "agent.py"
sys.path.insert(0, str(AGENT.parent))

from bouncer.adapter import LiveKitRoom  # noqa: E402 - as agent.py finds it
from bouncer.patrol import Patrol  # noqa: E402

SCENARIO = rtc.SimulateScenarioKind.Value("SIMULATE_FULL_RECONNECT")
Rooms = list[tuple[asyncio.AbstractEventLoop, rtc.Room]]


class Reconnecting(LiveKitRoom):
    """A room that is known here."""

    rooms: Rooms = []  # noqa: RUF012 - one process, one list

    async def guard(self, patrol: Patrol, *background: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Guard it."""
        self.rooms.append((asyncio.get_running_loop(), self._room))
        await super().guard(patrol, *background)


def reconnect(*_: object) -> None:
    """Have all rooms connected anew."""
    for loop, room in Reconnecting.rooms:
        asyncio.run_coroutine_threadsafe(room.simulate_scenario(SCENARIO), loop)


if __name__ == "__main__":
    sys.modules["bouncer.adapter"].LiveKitRoom = Reconnecting  # type: ignore[attr-defined]
    signal.signal(signal.SIGUSR1, reconnect)
    runpy.run_path(str(AGENT), run_name="__main__")
