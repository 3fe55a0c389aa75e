"""A room as its bouncer sees it, for a page that looks at it. Nothing is asked while no page does."""

import json
import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Protocol

from bouncer.adapter.asker import NoAnswer, asking
from bouncer.adapter.project import Project, UnknownRoom
from bouncer.asking import View
from bouncer.configuration.model import ROOM, Layer
from bouncer.configuration.schema import schema
from bouncer.explanation import explain, record_words, verdict_words
from bouncer.guard.outside import Lists
from bouncer.guard.plan import as_json, planned
from bouncer.ports import ApiError
from gatekeeper.choice import Choice
from gatekeeper.doors import Doors
from gatekeeper.standing import Standing

CLOSED = "the room has closed"


class Asking(Protocol):
    """How bouncers and the server are asked."""

    def views(self, name: str, sid: str, bouncer: str) -> AsyncGenerator[tuple[str, View], None]:
        """Yield a room as its bouncer sees it, with the date, until the connection ends.

        Raises: UnknownRoom, NoAnswer, ApiError.
        """

    async def lists(self, name: str, sid: str) -> tuple[Lists, dict[str, str]]:
        """Return what the server lists of a room, and the metadata of its dispatches.

        Raises: UnknownRoom, ApiError.
        """


class Asker:
    """Asks through LiveKit."""

    def __init__(self, project: Project) -> None:
        self._project = project

    async def views(self, name: str, sid: str, bouncer: str) -> AsyncGenerator[tuple[str, View], None]:
        """Yield a room as its bouncer sees it."""
        room = await self._project.room(name, sid)
        async with (
            asking(self._project, room, bouncer) as conversation,
            aclosing(conversation.views()) as views,
        ):
            async for seen in views:
                yield seen

    async def lists(self, name: str, sid: str) -> tuple[Lists, dict[str, str]]:
        """Return what the server lists of a room."""
        return await self._project.lists(await self._project.room(name, sid))


class Inside:
    """What pages see of the inside of rooms."""

    def __init__(
        self,
        asker: Asking,
        doors: Doors,
        choice: Choice,
        *,
        agent_name: str,
        layers: Sequence[Layer],
        unguarded: Sequence[Layer],
    ) -> None:
        """Make it; `layers` are a worker's, `unguarded` what a bouncer that came now would be dispatched with."""
        self._asker, self._doors, self._choice, self._agent_name = asker, doors, choice, agent_name
        self._layers, self._unguarded = layers, unguarded
        self._seen: dict[str, tuple[str, View]] = {}
        """By sid, how the bouncer sees a room that a page looks at now, and the date."""

    async def look(self, sid: str) -> AsyncGenerator[View, None]:
        """Yield what has changed in a room each time that its bouncer tells.

        It has the date, `at`; in `view` the keys that have changed; and the keys that are `gone`. Each of the view's
        `recent` records has its `words`. If the bouncer can't be asked, the last one yielded has only `problem`, and
        `again` if there is none yet, so that the page asks again. Yields nothing while it isn't known whether there is
        such a room, or a bouncer in it; then the page asks again too.
        """
        door = self._doors.doors.get(sid)
        bouncer = next((b for b in door.bouncers if b.ready), next(iter(door.bouncers), None)) if door else None
        if not door:
            if self._doors.listed_at > -math.inf:
                yield {"problem": CLOSED}
            return
        if not bouncer:
            if door.standing is not Standing.UNKNOWN:
                yield {"problem": "no bouncer guards the room, so there is none to ask", "again": True}
            return
        before: View = {}
        try:
            async with aclosing(self._asker.views(door.name, sid, bouncer.identity)) as views:
                async for at, view in views:
                    self._seen[sid] = at, view
                    yield {"at": at, "view": _changed(before, view), "gone": [*(before.keys() - view.keys())]}
                    before = view
            yield {"problem": "the connection to the room ended"}
        except UnknownRoom:
            yield {"problem": CLOSED}
        except (NoAnswer, ApiError) as error:
            yield {"problem": str(error)}
        finally:
            self._seen.pop(sid, None)

    def explanation(self, sid: str, identity: str) -> View | None:
        """Return why a participant is still in a room, or isn't, as `bouncer explain` says it.

        None if no page looks at the room.
        """
        if sid not in self._seen:
            return None
        at, view = self._seen[sid]
        told = explain(view, identity, at=at)
        return {"at": at, "found": told.found, "title": told.title, "summary": told.summary, "parts": told.parts()}

    async def attempt(self, sid: str, text: str) -> View:
        """Return what another configuration would do in a room, as `bouncer plan` has it. It changes nothing.

        Each verdict has its `words`; `by_bouncer` is true if the room's bouncer has said what only it knows. If it
        can't be tried, there is only `problem`.
        """
        door = self._doors.doors.get(sid)
        if not door:
            return {"problem": CLOSED}
        try:
            lists, dispatches = await self._asker.lists(door.name, sid)
        except UnknownRoom:
            return {"problem": CLOSED}
        except ApiError as error:
            return {"problem": str(error)}
        answered = self._seen[sid][1] if sid in self._seen else None
        choice = self._choice
        seen, shown = planned(
            lists,
            dispatches,
            agent_name=self._agent_name,
            layers=self._layers,
            unguarded=self._unguarded,
            registry=choice.registry,
            plugins=choice.plugins,
            instead=Layer(ROOM, text, shared=True, expected=True),
            answered=answered,
        )
        warnings = [str(each) for each in seen.snapshot.config.warnings] if seen.snapshot.config else []
        verdicts = [{**each, "words": verdict_words(each, shown["at"])} for each in shown["verdicts"]]
        return {
            **as_json(seen, shown | {"verdicts": verdicts}),
            "by_bouncer": answered is not None,
            "warnings": warnings,
        }

    def schema(self) -> str:
        """Return the JSON Schema of a configuration."""
        return json.dumps(schema(self._choice.registry), ensure_ascii=True, separators=(",", ":"))


def _changed(before: View, view: View) -> View:
    """Return what of a view has changed, each record with its words."""
    changed = {key: value for key, value in view.items() if key not in before or before[key] != value}
    if "recent" in changed:
        changed["recent"] = [{**each, "words": record_words(each)} for each in changed["recent"]]
    return changed
