"""Evicting by hand from the console: what it refuses, and what is known of it afterwards."""

import json
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bouncer import Kind
from bouncer.adapter.byhand import NotEvicted
from bouncer.adapter.project import OpenRoom, Project, UnknownRoom
from bouncer.configuration.model import BUILT_IN, NO_PLUGINS, Layer
from bouncer.events import Info
from bouncer.ports import ApiError, Trouble
from gatekeeper.acting import Acting, Wanted, wanted
from gatekeeper.choice import Choice
from gatekeeper.doors import Doors
from gatekeeper.records import Event, News
from policies import BUILTIN

EXEMPT = json.dumps({"bouncer": {"exempt": {"identity": ["kept"]}}})


def info(identity: str, name: str = "", kind: Kind = Kind.AGENT, **facts: Any) -> Info:
    """Return a participant that has been there for a while."""
    attributes = {"lk.agent_name": name} if name else {}
    at = time.time() - 60
    sid, grant = f"PA_{identity}", kind is Kind.AGENT
    return Info(sid=sid, identity=identity, kind=kind, joined_at=at, agent_grant=grant, attributes=attributes, **facts)


class Server:
    """A server with one room, as a `Project` shows it."""

    def __init__(self, metadata: str = "", sid: str = "RM_1") -> None:
        people = [info("ana", kind=Kind.STANDARD), info("bot", "assistant"), info("kept", "assistant")]
        self.infos = [*people, info("agent-AJ_b", "bouncer", hidden=True)]
        self._room = OpenRoom("lobby", sid, metadata)
        self.down = False

    async def room(self, name: str, sid: str = "") -> OpenRoom:
        """Return the room, unless it has closed or is another one."""
        if not self._room.sid or sid not in ("", self._room.sid):
            raise UnknownRoom(name)
        return self._room

    async def participants(self, _: str) -> tuple[Info, ...]:
        """List them."""
        if self.down:
            raise ApiError(Trouble.UNAVAILABLE, "no answer")
        return tuple(self.infos)

    async def participant(self, _: str, identity: str) -> Info | None:
        """Return one of them."""
        return next((each for each in self.infos if each.identity == identity), None)

    async def dispatches(self, _: str) -> tuple[Any, ...]:
        """There are none: all came with tokens of their own."""
        return ()

    async def remove_participant(self, _: str, identity: str) -> bool:
        """Remove one."""
        self.infos = [each for each in self.infos if each.identity != identity]
        return True


def acting(server: Server, said: list[News]) -> Acting:
    """Return what acts on this server."""
    choice = Choice(["*"], [], [BUILT_IN], BUILTIN, NO_PLUGINS)
    return Acting(
        cast("Project", server),
        cast("Doors", SimpleNamespace(doors={"RM_1": SimpleNamespace(name="lobby")})),
        agent_name="bouncer",
        load=choice.load,
        layers=[BUILT_IN],
        unguarded=[Layer("--config", '{"bouncer": {"mode": "off"}}')],
        notify=said.append,
    )


@pytest.mark.parametrize(
    ("identity", "sid", "server", "why"),
    [
        ("ana", "PA_ana", Server(), "it is a person, and people are never evicted"),
        ("agent-AJ_b", "PA_agent-AJ_b", Server(), "it is a bouncer"),
        ("kept", "PA_kept", Server(EXEMPT), "the configuration exempts it by its identity"),
        ("bot", "PA_earlier", Server(), "it has left, and this is a newer connection"),
        ("bat", "PA_bot", Server(), "did you mean “bot”?"),
        ("bot", "PA_bot", Server(sid="RM_2"), "the room has closed"),
        ("bot", "PA_bot", Server(sid=""), "the room has closed"),
        ("bot", "PA_bot", Server('{"bouncer": {"exempt": 1}}'), "the room's configuration is refused"),
    ],
)
async def test_what_it_refuses(identity: str, sid: str, server: Server, why: str) -> None:
    """No one leaves, and the log says who had asked for it."""
    said: list[News] = []
    before = server.infos

    with pytest.raises(NotEvicted, match=why.replace("?", r"\?")):
        await acting(server, said).evict(Wanted("RM_1", identity, sid, "too loud"), "ben")

    assert server.infos == before
    ((event, facts),) = [(each.event, each.facts) for each in said]
    assert (event, facts["lk.pii.user"], facts["lk.pii.reason"]) == (Event.NOT_BY_HAND, "ben", "too loud")
    assert why in facts["why"]


async def test_an_unknown_room_and_a_server_that_is_away_are_refused() -> None:
    """What can't be known is no reason to act."""
    server, said = Server(), list[News]()
    server.down = True
    with pytest.raises(NotEvicted, match="no answer"):
        await acting(server, said).evict(Wanted("RM_1", "bot", "PA_bot", "too loud"), "ben")
    with pytest.raises(NotEvicted, match="the room has closed"):
        await acting(server, said).evict(Wanted("RM_9", "bot", "PA_bot", "too loud"), "ben")


async def test_an_eviction_is_known_by_who_asked_for_it() -> None:
    """In the record, which is a bouncer's but for that, and in the log."""
    server, said = Server(EXEMPT), list[News]()

    records, told = await acting(server, said).evict(Wanted("RM_1", "bot", "PA_bot", "it is too loud"), "ben")

    assert [each.identity for each in server.infos] == ["ana", "kept", "agent-AJ_b"]
    (record,) = records
    expected = {
        "event": "evicted",
        "room": "lobby",
        "room_sid": "RM_1",
        "mode": "enforce",
        "identity": "bot",
        "policy": "by_hand",
        "reason": "was named by hand: it is too loud",
        "outcome": "removed",
        "by": "ben",
    }
    assert {key: record[key] for key in expected} == expected
    assert [step["step"] for step in record["steps"]] == ["looked_again", "removed", "proven"]
    assert told[0].startswith("Agent bot (assistant) was removed, and seen gone after ")
    ((event, facts),) = [(each.event, each.facts) for each in said]
    assert (event, facts["lk.pii.user"], facts["outcome"]) == (Event.BY_HAND, "ben", "removed")


@pytest.mark.parametrize(
    "document", [None, [], "x", {}, {"room_sid": "RM_1", "identity": "a", "sid": "PA_1", "reason": 1}]
)
def test_what_is_no_request(document: object) -> None:
    """Whatever it looks like."""
    with pytest.raises(ValueError, match="needed"):
        wanted(document)
