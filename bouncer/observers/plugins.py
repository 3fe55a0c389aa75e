"""Observers of other packages: from the entry-point group `bouncer.observers`, if BOUNCER_OBSERVERS names them.

A package offers one with a callable that takes the name of a room and returns an `Observer`, such as a class:

    # pyproject.toml
    [project.entry-points."bouncer.observers"]
    pager = "acme_pager:Pager"

    # acme_pager.py
    class Pager:
        def __init__(self, room: str) -> None:
            self.room = room

        def notify(self, news: News) -> None:
            if isinstance(news, Evicted):
                page(f"evicted from {self.room}: {news.finding.participant.identity}")

Each room has one of its own. `notify` is called on the room's event loop, so it must not block. An observer that has
work of its own to do may have a coroutine method `run`, without arguments; it runs as long as the room is guarded.
Nothing that an observer raises ends anything. BOUNCER_OBSERVERS names those that are wanted: `pager` or `pager,audit`.
"""

import logging
from collections.abc import Callable, Sequence

from bouncer.configuration.plugins import load_only, offers
from bouncer.configuration.settings import SettingsError
from bouncer.observers import Observer
from bouncer.observers.log_events import LogEvent

GROUP = "bouncer.observers"
Factory = Callable[[str], Observer]

logger = logging.getLogger("bouncer")


def custom(names: Sequence[str]) -> tuple[Factory, ...]:
    """Load the observers of these names.

    Raises: SettingsError for those that are not installed, or are unusable.
    """
    known = offers(GROUP)
    factories: list[Factory] = []
    problems: list[str] = []
    for name in names:
        if name not in known:
            problems.append(f"“{name}” is not installed (known: {', '.join(known) or 'none'})")
            continue
        try:
            factory = load_only(known[name])
        except ValueError as error:
            problems.append(f"“{name}” {error}")
            continue
        if callable(factory):
            factories.append(factory)
        else:
            problems.append(f"“{name}” must be callable: it gets a room's name and returns an observer")
    if problems:
        raise SettingsError("\n".join(f"BOUNCER_OBSERVERS: {problem}" for problem in problems))
    return tuple(factories)


def observing(factories: Sequence[Factory], room: str) -> list[Observer]:
    """Make the observers of a room; one that can't be made is logged, and the room is guarded without it."""
    observers = []
    for factory in factories:
        try:
            observer = factory(room)
            if not callable(getattr(observer, "notify", None)):
                raise TypeError("it has no method `notify`")  # noqa: TRY301 - as if it could not be made
        except Exception:
            logger.exception(LogEvent.OBSERVER_FAILED, extra={"lk.pii.room_name": room})
        else:
            observers.append(observer)
    return observers
