"""Evicting by hand from the console, as `bouncer evict` does it: for a reason, and known by who asked for it."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bouncer.adapter.byhand import REASON, ByHand, NotEvicted, layers_in_force, told
from bouncer.adapter.project import Project, UnknownRoom
from bouncer.configuration.model import Config, ConfigError, Layer
from bouncer.observers import Evicted
from bouncer.observers.records import Record
from bouncer.ports import ApiError
from gatekeeper.doors import Doors
from gatekeeper.inside import CLOSED
from gatekeeper.records import Event, News

LONGEST = 200
"""Characters of a reason."""
NO_REASON = f"a reason is needed, of at most {LONGEST} characters"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The agent that is to leave, as the page showed it, and why."""

    room_sid: str
    identity: str
    sid: str
    reason: str


def wanted(document: object) -> Wanted:
    """Return what a page asks for. Raises: ValueError that says what is missing."""
    given: Mapping[str, Any] = document if isinstance(document, dict) else {}
    texts = [given.get(name) for name in ("room_sid", "identity", "sid", "reason")]
    room_sid, identity, sid, reason = (each.strip() if isinstance(each, str) else "" for each in texts)
    if not (room_sid and identity and sid):
        raise ValueError("room_sid, identity and sid are needed, as texts")
    if not 0 < len(reason) <= LONGEST:
        raise ValueError(NO_REASON)
    return Wanted(room_sid, identity, sid, reason)


class Acting:
    """Evicts agents for those who look at the console, if they may act."""

    def __init__(
        self,
        project: Project,
        doors: Doors,
        *,
        agent_name: str,
        load: Callable[[Sequence[Layer]], Config],
        layers: Sequence[Layer],
        unguarded: Sequence[Layer],
        notify: Callable[[News], None],
    ) -> None:
        """Make it; `layers` are a worker's, `unguarded` what a bouncer that came now would be dispatched with."""
        self._project, self._doors, self._agent_name = project, doors, agent_name
        self._load, self._layers, self._unguarded = load, layers, unguarded
        self._notify = notify

    async def evict(self, agent: Wanted, by: str) -> tuple[list[Record], list[str]]:
        """Evict an agent. Return the records of what came of it, and the same for people.

        Raises: NotEvicted if it may not be evicted, or it can't be known whether it may.
        """
        door = self._doors.doors.get(agent.room_sid)
        name = door.name if door else ""
        asked = {"lk.pii.participant_identity": agent.identity, "lk.pii.user": by, "lk.pii.reason": agent.reason}
        try:
            hand, endings = await self._evict(agent, name)
        except (NotEvicted, ApiError) as error:
            self._notify(News(Event.NOT_BY_HAND, name, agent.room_sid, {**asked, "why": str(error)}))
            raise NotEvicted(str(error)) from None
        records = [record | {"id": f"EH_{secrets.token_hex(16)}", "by": by} for record in hand.records(endings)]
        for record in records:
            facts = {key: record[key] for key in ("sid", "agent_name", "outcome", "took", "why")}
            about = asked | {"lk.pii.participant_identity": record["identity"]}
            self._notify(News(Event.BY_HAND, name, agent.room_sid, {**about, **facts}))
        return records, [*map(told, endings)]

    async def _evict(self, agent: Wanted, name: str) -> tuple[ByHand, list[Evicted]]:
        if not name:
            raise NotEvicted(CLOSED)
        try:
            room = await self._project.room(name, agent.room_sid)
        except UnknownRoom:
            raise NotEvicted(CLOSED) from None
        layers = await layers_in_force(self._project, room, self._agent_name, self._layers, self._unguarded)
        try:
            config = self._load(layers)
        except ConfigError as error:
            raise NotEvicted(f"the room's configuration is refused, so its exemptions aren't known: {error}") from None
        hand = ByHand(self._project, room, self._agent_name, config)
        await hand.look()
        decision = hand.decide(agent.identity, agent.sid, f"{REASON}: {agent.reason}")
        return hand, await hand.evict(decision)
