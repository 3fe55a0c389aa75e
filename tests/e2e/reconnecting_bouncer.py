"""The bouncer, except that SIGUSR1 makes all of its rooms reconnect fully, as after a cluster node's failure."""

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

import bouncer.adapter.worker  # noqa: E402 - as agent.py finds it
from bouncer.adapter.room import LiveKitRoom  # noqa: E402 - as above
from bouncer.guard.patrol import Patrol  # noqa: E402

SCENARIO = rtc.SimulateScenarioKind.Value("SIMULATE_FULL_RECONNECT")
Rooms = list[tuple[asyncio.AbstractEventLoop, rtc.Room]]


class Reconnecting(LiveKitRoom):
    """A room that registers itself."""

    rooms: Rooms = []  # noqa: RUF012 - one process, one list

    async def guard(self, patrol: Patrol, *background: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Guard the room."""
        self.rooms.append((asyncio.get_running_loop(), self._room))
        await super().guard(patrol, *background)


def reconnect(*_: object) -> None:
    """Make all rooms reconnect fully."""
    for loop, room in Reconnecting.rooms:
        asyncio.run_coroutine_threadsafe(room.simulate_scenario(SCENARIO), loop)


if __name__ == "__main__":
    bouncer.adapter.worker.LiveKitRoom = Reconnecting  # type: ignore[attr-defined]
    signal.signal(signal.SIGUSR1, reconnect)
    runpy.run_path(str(AGENT), run_name="__main__")
