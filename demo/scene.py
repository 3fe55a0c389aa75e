"""The story that the demo plays on a real server, and the check that exactly the right agents left."""

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from livekit import api

from demo.roster import Roster, Row
from demo.server import Server, Worker, worker
from demo.show import Outcome, Show
from demo.stage import JOINING, Stage, Stuck, within

HERE = Path(__file__).parent
AGENT = HERE.parent / "agent.py"
CAST = HERE / "cast.py"

AGENT_NAMES = ("bouncer", "assistant", "notetaker", "recorder")
GRACE = 2.0
TIMEOUT, NOTICE = 15.0, 5.0
"""Seconds: long enough to watch, short enough not to bore."""
LIMIT = 120.0
"""Seconds for all of it; it takes about 35."""


@dataclass(frozen=True, slots=True)
class Names:
    """How the room and the agents are called."""

    room: str
    bouncer: str
    assistant: str
    notetaker: str
    recorder: str

    @classmethod
    def fresh(cls, server: Server) -> "Names":
        """Make names that nobody else has: on the user's own server, nothing of theirs may be touched."""
        suffix = secrets.token_hex(3)
        if server.url == os.environ.get("LIVEKIT_URL"):
            return cls(f"demo-{suffix}", *(f"{name}-{suffix}" for name in AGENT_NAMES))
        return cls(f"demo-{suffix}", *AGENT_NAMES)

    @property
    def metadata(self) -> str:
        """The room's metadata, by which the bouncer is configured."""
        policies = {"duplicates": {"grace": GRACE}, "idle_timeout": {"timeout": TIMEOUT, "notice": NOTICE}}
        return json.dumps({"bouncer": {"policies": policies, "exempt": {"agent_name": [self.recorder]}}})


@dataclass(slots=True)
class Expected:
    """Who has to stay and who has to leave, by identity."""

    stay: set[str] = field(default_factory=set)
    leave: set[str] = field(default_factory=set)


async def perform(server: Server, show: Show, logs: Path) -> bool:
    """Play the story on a server; whether exactly the right agents left.

    What the workers log goes into a folder. Raises TimeoutError, StartFailed, or Stuck if nothing could begin.
    """
    names = Names.fresh(server)
    roster = Roster(names.bouncer, show.say)
    expected = Expected()
    problems = []
    async with asyncio.timeout(LIMIT), _stage(server, show, names, roster, logs) as stage:
        try:
            await _story(stage, show, names, expected)
            await stage.look()
        except Stuck as stuck:
            problems.append(str(stuck))
        problems += judge(roster, expected)
        outcomes = [outcome(row, roster, expected) for row in roster.rows.values()]
    show.summary(outcomes, problems)
    return not problems


@asynccontextmanager
async def _stage(server: Server, show: Show, names: Names, roster: Roster, logs: Path) -> AsyncIterator[Stage]:
    """Start the workers and open the room."""
    agents = (names.assistant, names.notetaker, names.recorder)
    env = {"BOUNCER_AGENT_NAME": names.bouncer}
    args = ("start", "--log-level", "DEBUG")
    async with api.LiveKitAPI(server.url, server.api_key, server.api_secret) as client:
        # Workers would keep trying for a minute before they say what they are told here at once.
        probe = client.room.list_rooms(api.ListRoomsRequest(names=[names.room]))
        await within(JOINING, probe, f"{server.url} doesn't answer, or not with this API key and secret")
        show.say("demo", "starting the bouncer, a worker: python agent.py start")
        async with worker(AGENT, server, env=env, args=args, log_file=logs / "bouncer.log") as bouncer:
            show.say("demo", f"starting workers for the agents {', '.join(agents)}")
            async with worker(CAST, server, args=agents, log_file=logs / "agents.log") as cast:
                await _all_registered(cast, len(agents))
                stage = Stage(names.room, roster, server, client, bouncer=bouncer, cast=cast)
                async with stage.opened(names.metadata, names.bouncer), show.live(names.room, roster), stage.watched():
                    yield stage


async def _all_registered(cast: Worker, count: int) -> None:
    def registered() -> bool:
        return sum("registered worker" in line["message"] for line in cast.log) == count

    try:
        await cast.line(lambda _: registered(), within=JOINING)
    except TimeoutError as error:
        raise Stuck(f"some of the agents' workers did not register: {error}") from None


async def _story(stage: Stage, show: Show, names: Names, expected: Expected) -> None:
    """Play it, and fill in who has to stay and to leave."""
    roster = stage.roster
    await stage.until(lambda: roster.guarding, "the bouncer guards the room")
    await stage.until(lambda: bool(roster.rows), "the bouncer is listed")
    expected.stay |= {row.identity for row in roster.rows.values() if row.role == "bouncer"}

    show.scene("1. Ada joins. An assistant talks to her; a recorder is there too, and exempt.")
    expected.stay.add(await stage.ada_joins())
    expected.stay.add(await stage.dispatch(names.assistant, "busy"))
    expected.stay.add(await stage.dispatch(names.recorder, "idle"))
    await asyncio.sleep(4)

    show.scene("2. The assistant is dispatched once more: now two of them talk to Ada.")
    expected.leave.add(duplicate := await stage.dispatch(names.assistant, "busy"))
    await stage.until(lambda: roster.is_out(duplicate), "the second assistant is out", GRACE)
    await asyncio.sleep(3)

    show.scene("3. A notetaker joins, and then does nothing.")
    expected.leave.add(idler := await stage.dispatch(names.notetaker, "idle"))
    await stage.until(lambda: roster.is_out(idler), "the notetaker is out", TIMEOUT)

    show.scene("4. Everybody else may stay.")
    await asyncio.sleep(3)


def judge(roster: Roster, expected: Expected) -> list[str]:
    """Say all that is not as it should be, by the server's list, the bouncer's log and the agents' own disconnects."""
    problems = []
    if not any(row.role == "bouncer" for row in roster.rows.values()):
        problems.append("no bouncer was ever listed")
    for row in roster.rows.values():
        listed, removed, out = roster.is_here(row.identity), roster.removed(row.identity), row.identity in roster.out
        if row.identity in expected.leave:
            if listed:
                problems.append(f"{row} should have left, and is still listed")
            if not removed:
                problems.append(f"{row} should have been removed, and the bouncer doesn't say so")
            if not out:
                problems.append(f"{row} should have been disconnected, and doesn't say so")
        elif row.identity in expected.stay:
            if not listed:
                problems.append(f"{row} should have stayed, and is no longer listed")
            if removed:
                problems.append(f"{row} should have stayed, and the bouncer says that it removed it")
            if out:
                problems.append(f"{row} should have stayed, and was disconnected: {roster.out[row.identity]}")
        else:
            problems.append(f"{row} was in the room, and nobody had asked for it")
    unseen = roster.evictions.keys() - roster.rows.keys()
    problems += [f"the bouncer says that it evicted {sid}, whom nobody saw in the room" for sid in sorted(unseen)]
    return problems


def outcome(row: Row, roster: Roster, expected: Expected) -> Outcome:
    """Say how it ended for a participant, and why."""
    stayed = roster.is_here(row.identity)
    why = ""
    if eviction := roster.evictions.get(row.sid):
        why = f"{eviction.policy}: it {eviction.reason}"
    elif row.sid in roster.held:
        why = f"held back: {roster.held[row.sid]}"
    elif not stayed:
        why = roster.out.get(row.identity, "")
    as_expected = row.identity in (expected.stay if stayed else expected.leave)
    return Outcome(row, "stayed" if stayed else "left", why, as_expected)
