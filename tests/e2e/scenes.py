"""Scenes of one test that are played at the same time: on a real server, a test mostly waits."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import wraps
from typing import Any

from tests.e2e.world import World

Test = Callable[..., Awaitable[None]]
ROOMS = ("world", "lobby")


def at_once(names: str, scenes: Iterable[Any]) -> Callable[[Test], Test]:
    """Play an async test once for each of these values, all at the same time, each in a fresh room of its own.

    Takes what `pytest.mark.parametrize` takes; the scenes share all fixtures but `world` or `lobby`. A failure names
    its scene.
    """
    fields = [name.strip() for name in names.split(",")]
    values = [dict(zip(fields, scene if len(fields) > 1 else (scene,), strict=True)) for scene in scenes]

    def decorate(test: Test) -> Test:
        parameters = inspect.signature(test).parameters
        (room,) = parameters.keys() & ROOMS

        @wraps(test)
        async def played(**fixtures: Any) -> None:
            first: World = fixtures[room]

            async def play(scene: Mapping[str, Any]) -> None:
                try:
                    async with World(first.server, first.api) as fresh:
                        await test(**{**fixtures, room: fresh}, **scene)
                except Exception as error:
                    error.add_note(f"in the scene {scene}")
                    raise

            async with asyncio.TaskGroup() as together:
                for scene in values:
                    together.create_task(play(scene))

        # What pytest looks at to know the fixtures.
        shared = [parameter for name, parameter in parameters.items() if name not in fields]
        played.__signature__ = inspect.Signature(shared)  # type: ignore[attr-defined]
        return played

    return decorate
