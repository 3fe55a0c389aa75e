"""The asyncio driver of `Doors`: it carries commands out, feeds back answers, and sleeps in between."""

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from bouncer.ports import ApiError, Trouble
from gatekeeper.doors import Doors
from gatekeeper.records import Command, News, Webhook

logger = logging.getLogger("bouncer.gatekeeper")


class Observer(Protocol):
    """Is told what happens."""

    def notify(self, news: News) -> None:
        """Take in one piece of news."""

    def called(self, command: Command, answer: object) -> None:
        """Take in what came of a call."""


class Driver:
    """Runs for as long as the service does."""

    def __init__(
        self, doors: Doors, call: Callable[[Command], Awaitable[object]], observers: Sequence[Observer]
    ) -> None:
        self.doors = doors
        self._call = call
        self._observers = observers
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def tell(self, webhook: Webhook) -> None:
        """Take in a webhook."""
        self.doors.tell(webhook)
        self._changed.set()

    def notify(self, news: News) -> None:
        """Tell all observers."""
        for observer in self._observers:
            observer.notify(news)

    async def run(self) -> None:
        """Look after all rooms, until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._changed.clear()
                step = self.doors.step(loop.time())
                for news in step.news:
                    self.notify(news)
                for command in step.commands:
                    task = loop.create_task(self._carry_out(command))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(None if math.isinf(step.wake_at) else step.wake_at):
                        await self._changed.wait()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _carry_out(self, command: Command) -> None:
        answer = await self._call(command)
        now = asyncio.get_running_loop().time()
        try:
            self.doors.answered(command, answer, now)
        except Exception as error:
            logger.exception("fault in the gatekeeper", extra={"command": repr(command)})
            self.doors.answered(command, ApiError(Trouble.UNAVAILABLE, f"{type(error).__name__}: {error}"), now)
        for observer in self._observers:
            observer.called(command, answer)
        self._changed.set()
