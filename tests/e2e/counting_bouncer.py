"""The bouncer, except that it logs every second how many attribute changes each room has received."""

import asyncio
import logging
import runpy
import sys
from pathlib import Path

AGENT = Path(__file__).parents[2] / "agent.py"
sys.path.insert(0, str(AGENT.parent))

from bouncer.events import Attributes, Event  # noqa: E402 - as agent.py finds it
from bouncer.guard.patrol import Patrol  # noqa: E402

logger = logging.getLogger("bouncer")


class Counting(Patrol):
    """A patrol that counts."""

    changes = 0

    def tell(self, event: Event) -> None:
        """Count the event."""
        self.changes += isinstance(event, Attributes)
        super().tell(event)

    async def run(self) -> None:
        """Guard the room."""
        counting = asyncio.create_task(self._count())
        try:
            await super().run()
        finally:
            counting.cancel()

    async def _count(self) -> None:
        while True:
            logger.info("told", extra={"changes": self.changes, "at": asyncio.get_running_loop().time()})
            await asyncio.sleep(1)


if __name__ == "__main__":
    sys.modules["bouncer.guard.patrol"].Patrol = Counting  # type: ignore[attr-defined]
    runpy.run_path(str(AGENT), run_name="__main__")
