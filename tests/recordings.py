"""Recordings in memory: what a watch is told in a test, as the lines that a file would have."""

import asyncio
from collections.abc import Callable, Iterator, Sequence

from bouncer.configuration.model import NO_PLUGINS, Layer, PluginLoaders
from bouncer.guard.schedule import Jitter
from bouncer.policy import Policy
from bouncer.recording.format import Header, render
from bouncer.recording.scribe import Scribe
from bouncer.recording.tape import Note, Taped
from bouncer.tracker import Tracker

KEY = b"a key of the tests"
UNIX = 1_700_000_000.0


class Tapes:
    """Records every watch that it makes. Without a key nothing is hidden."""

    def __init__(self, key: bytes | None = KEY) -> None:
        self._key = key
        self.clock: Callable[[], float] | None = None
        """The clock of the watches; by default the running loop's."""
        self._tapes: list[tuple[Header, list[Note]]] = []

    def watch(
        self,
        tracker: Tracker,
        registry: Sequence[type[Policy]],
        jitter: Jitter,
        began_at: float,
        plugins: PluginLoaders = NO_PLUGINS,
        layers: Sequence[Layer] = (),
    ) -> Taped:
        """Make a watch that is recorded."""
        header = Header(
            room="Alice's room",
            room_sid="RM_1",
            agent_name=tracker.my_agent_name,
            began_at=began_at,
            unix=UNIX,
            personal=self._key is None,
            layers=tuple(layers),
        )
        notes: list[Note] = []
        self._tapes.append((header, notes))
        watch = Taped(tracker, registry, jitter, began_at, plugins, tuple(layers))
        return watch.record(notes.append, self.clock or asyncio.get_running_loop().time)

    def recordings(self) -> Iterator[list[str]]:
        """Yield the lines of each recording."""
        for header, notes in self._tapes:
            scribe = Scribe(self._key)
            lines = [scribe.header(header), *(line for note in notes for line in scribe.lines(note))]
            yield [*map(render, lines)]
