"""Rooms that have a dispatch of ours and no bouncer, as a crash leaves them: found once a worker registers.

A self-hosted server restarts no job whose worker died, and gives a dispatch to no one if no worker was free when it
was made. Such a room is handed to the replacements, which dispatch another bouncer. Two workers that start together may
both do that. So the new dispatches carry a mark, the room's sid, and each worker takes back the surplus that it sees.
"""

import asyncio
import json
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeVar

from livekit import api
from livekit.protocol import agent, models

from bouncer.adapter.clock import ServerClock
from bouncer.adapter.errors import answer_of
from bouncer.adapter.records import listed
from bouncer.configuration.metadata import ForeignMetadata, member, with_member
from bouncer.configuration.model import KEY, MARK
from bouncer.events import Info
from bouncer.observers.log_events import LogEvent
from bouncer.people import AGENT_NAME_ATTRIBUTES
from bouncer.ports import ApiError
from bouncer.room import Kind, says_arrived

logger = logging.getLogger("bouncer")
T = TypeVar("T")

LOSS_LASTS = 25.0
"""Seconds after which a bouncer that died is no longer listed: 20 to 23 were measured (docs/livekit.md)."""
JITTER = 5.0
"""Seconds by which workers that start together look at different times."""
ON_ITS_WAY = 20.0
"""Seconds for which a dispatch may yet bring its bouncer."""
AGAIN = 1.0
"""Seconds after which a call that the budget refused is tried again."""
LISTED_BY = 8.0
"""Seconds after which each bouncer that arrived at about the same time is listed as a job of its dispatch."""
ALL_WITHIN = 10.0
"""Seconds for a list of all rooms, which may be large."""


class Orphans:
    """Looks for such rooms. Use it on the worker's loop only."""

    def __init__(self, agent_name: str, spend: Callable[[], bool], found: Callable[[agent.Job], None]) -> None:
        """Make it; `spend` takes a call from the budget or returns False, `found` gets a job of each orphaned room."""
        self._agent_name = agent_name
        self._spend = spend
        self._found = found
        self._task: asyncio.Task[None] | None = None

    def look(self, client: api.LiveKitAPI) -> None:
        """Look once, in the background, when whatever was just lost is no longer listed."""
        if self._task:
            self._task.cancel()
        self._task = asyncio.get_running_loop().create_task(self._look(client))

    async def end(self) -> None:
        """Give up."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _look(self, client: api.LiveKitAPI) -> None:
        await asyncio.sleep(LOSS_LASTS + JITTER * random.random())  # noqa: S311 - no secret
        try:
            found = await self._call(lambda: client.room.list_rooms(api.ListRoomsRequest()), ALL_WITHIN)
            rooms = [*found.rooms] if found else []
            random.shuffle(rooms)
            for room in rooms:
                if job := await self._orphan(client, room):
                    logger.warning(LogEvent.ORPHAN_FOUND, extra={"lk.pii.room_name": room.name})
                    self._found(job)
        except ApiError as error:
            logger.warning(LogEvent.ORPHANS_NOT_SOUGHT, extra={"error": str(error)})

    async def _orphan(self, client: api.LiveKitAPI, room: models.Room) -> agent.Job | None:
        """Return a job that stands for the lost one, if the room has a dispatch of ours and no bouncer."""
        request = api.ListParticipantsRequest(room=room.name)
        answer = await self._call(lambda: client.room.list_participants(request))
        if answer is None or any(map(self._is_bouncer, infos_of(answer.participants))):
            return None
        dispatches = await self._call(lambda: client.agent_dispatch.list_dispatch(room.name))
        now = time.time_ns()
        ours = [
            each
            for each in dispatches or ()
            if each.agent_name == self._agent_name and each.state.created_at < now - ON_ITS_WAY * 1e9
        ]
        if not ours:
            return None
        last = max(ours, key=lambda each: each.state.created_at)
        return agent.Job(
            dispatch_id=last.id, agent_name=self._agent_name, room=room, metadata=marked(last.metadata, room.sid)
        )

    def _is_bouncer(self, info: Info) -> bool:
        """Return True for a hidden agent with our name, whatever else is known of it."""
        named = any(info.attributes.get(name) == self._agent_name for name in AGENT_NAME_ATTRIBUTES)
        return bool(info.hidden) and info.kind is Kind.AGENT and named

    async def _call(self, call: Callable[[], Awaitable[T]], within: float = 3.0) -> T | None:
        while not self._spend():  # noqa: ASYNC110 - nothing tells that the budget has slid on
            await asyncio.sleep(AGAIN)
        return await answer_of(call, within)


def infos_of(participants: Iterable[models.ParticipantInfo]) -> tuple[Info, ...]:
    """Return participants in our records; their dates don't matter here."""
    clock = ServerClock()
    return tuple(listed(each, clock) for each in participants)


def marked(metadata: str, sid: str) -> str:
    """Return a dispatch's metadata with the mark of this room; as they are if there is no place in them for it."""
    if not metadata.strip():
        return json.dumps({KEY: {}, MARK: sid})  # with our key, without which it would be taken for someone else's
    try:
        return with_member(metadata, MARK, sid)
    except ForeignMetadata:
        return metadata


def surplus(dispatches: Mapping[str, tuple[str, Iterable[str]]], infos: Iterable[Info], sid: str) -> tuple[str, ...]:
    """Return the dispatches to take back: of those marked for this room that have a bouncer here, all but the oldest's.

    `dispatches` has the metadata and the identities of each one's jobs, by id. A bouncer that isn't ready is never the
    one to keep; if none is ready, all stay.
    """
    marks = {id_: identities for id_, (metadata, identities) in dispatches.items() if member(metadata, MARK) == sid}
    made_by = {identity: id_ for id_, identities in marks.items() for identity in identities}
    here = sorted((info for info in infos if info.identity in made_by), key=lambda info: (info.joined_ms, info.sid))
    ready = (info for info in here if says_arrived(info.attributes))
    kept = next((made_by[info.identity] for info in ready), None)
    if kept is None:
        return ()
    return tuple(dict.fromkeys(made_by[info.identity] for info in here if made_by[info.identity] != kept))
