"""The story that the demo plays, and the check that exactly the right agents left."""

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from livekit import api

from demo.roster import Roster, Row
from demo.show import Ended, Show
from demo.stage import JOINING, Stage, Stuck, within
from devserver import LOOPBACK, Server, Worker, gatekeeper, worker

HERE = Path(__file__).parent
AGENT = HERE.parent / "agent.py"
CAST = HERE / "cast.py"

AGENT_NAMES = ("bouncer", "assistant", "notetaker", "recorder")
GRACE = 2.0
TIMEOUT, NOTICE = 15.0, 5.0
"""Seconds: long enough to watch, short enough not to be boring."""
LIMIT = 240.0
"""Seconds for all of it; it takes about 35."""


@dataclass(frozen=True, slots=True)
class Names:
    """The names of the room and the agents."""

    room: str
    bouncer: str
    assistant: str
    notetaker: str
    recorder: str

    @classmethod
    def fresh(cls, server: Server) -> "Names":
        """Make names that are unique, so that nothing on the user's own server is touched."""
        suffix = secrets.token_hex(3)
        if server.url == os.environ.get("LIVEKIT_URL"):
            return cls(f"demo-{suffix}", *(f"{name}-{suffix}" for name in AGENT_NAMES))
        return cls(f"demo-{suffix}", *AGENT_NAMES)

    @property
    def metadata(self) -> str:
        """The room's metadata, which configures the bouncer."""
        policies = {"duplicates": {"grace": GRACE}, "idle_timeout": {"timeout": TIMEOUT, "notice": NOTICE}}
        return json.dumps({"bouncer": {"policies": policies, "exempt": {"agent_name": [self.recorder]}}})


@dataclass(slots=True)
class Expected:
    """The identities that must stay, and those that must leave."""

    stay: set[str] = field(default_factory=set)
    leave: set[str] = field(default_factory=set)


async def perform(server: Server, show: Show, logs: Path, port: int = 0) -> bool:
    """Play the story on a server. Return True if exactly the right agents left.

    The workers log into the folder. With a port, a gatekeeper shows the story there, and the room stays open until this
    is cancelled. Raises TimeoutError, StartFailed, or Stuck if nothing could begin.
    """
    names = Names.fresh(server)
    roster = Roster(names.bouncer, show.say)
    expected = Expected()
    problems = []
    async with asyncio.timeout(LIMIT) as limit, _stage(server, show, names, roster, logs, port) as stage:
        try:
            await _story(stage, show, names, expected)
            await stage.look()
        except Stuck as stuck:
            problems.append(str(stuck))
        problems += judge(roster, expected)
        outcomes = [outcome(row, roster, expected) for row in roster.rows.values()]
        if port:
            limit.reschedule(None)
            show.summary(outcomes, problems)
            show.stays_open(console_of(port))
            await asyncio.Event().wait()
    show.summary(outcomes, problems)
    show.other_ways()
    return not problems


def console_of(port: int) -> str:
    """Return the address of a gatekeeper's console."""
    return f"http://{LOOPBACK}:{port}/"


@asynccontextmanager
async def _stage(
    server: Server, show: Show, names: Names, roster: Roster, logs: Path, port: int
) -> AsyncIterator[Stage]:
    """Start the workers and open the room. With a port, a gatekeeper there sends the bouncer."""
    agents = (names.assistant, names.notetaker, names.recorder)
    env = {"BOUNCER_AGENT_NAME": names.bouncer}
    if port:
        env["BOUNCER_WEBHOOK_URL"] = f"{console_of(port)}bouncer"
    args = ("start", "--log-level", "DEBUG")
    async with api.LiveKitAPI(server.url, server.api_key, server.api_secret) as client:
        # Wrong credentials show here at once; workers would retry for a minute first.
        probe = client.room.list_rooms(api.ListRoomsRequest(names=[names.room]))
        await within(JOINING, probe, f"{server.url} does not answer, or rejects this API key and secret")
        show.say("demo", "starting the bouncer, a worker: python agent.py start")
        async with worker(AGENT, server, env=env, args=args, log_file=logs / "bouncer.log") as bouncer:
            show.say("demo", f"starting workers for the agents {', '.join(agents)}")
            async with worker(CAST, server, args=agents, log_file=logs / "agents.log") as cast:
                await _all_registered(cast, len(agents))
                stage = Stage(names.room, roster, server, client, bouncer=bouncer, cast=cast)
                async with AsyncExitStack() as stack:
                    if port:
                        show.say("demo", "starting a gatekeeper, which sends the bouncer into the room")
                        settings = {"BOUNCER_AGENT_NAME": names.bouncer, "BOUNCER_ALLOW_ACTIONS": "1"}
                        log = logs / "gatekeeper.log"
                        gate = gatekeeper(server, port=port, args=[names.room], env=settings, log_file=log)
                        await stack.enter_async_context(gate)
                        show.say("demo", f"see the room in your browser, at {console_of(port)}")
                    await stack.enter_async_context(stage.opened(names.metadata, "" if port else names.bouncer))
                    await stack.enter_async_context(show.live(names.room, roster))
                    await stack.enter_async_context(stage.watched())
                    yield stage


async def _all_registered(cast: Worker, count: int) -> None:
    def registered() -> bool:
        return sum("registered worker" in line["message"] for line in cast.log) == count

    try:
        await cast.line(lambda _: registered(), within=JOINING)
    except TimeoutError as error:
        raise Stuck(f"some of the agents' workers did not register: {error}") from None


async def _story(stage: Stage, show: Show, names: Names, expected: Expected) -> None:
    """Play the story, and fill in which participants must stay or leave."""
    roster = stage.roster
    await stage.until(lambda: roster.guarding, "the bouncer guards the room")
    await stage.until(lambda: bool(roster.rows), "the bouncer is listed")
    expected.stay |= {row.identity for row in roster.rows.values() if row.role == "bouncer"}

    show.scene("1. Ada joins. An assistant talks to her. A recorder is there too; it is exempt.")
    expected.stay.add(await stage.ada_joins())
    expected.stay.add(await stage.dispatch(names.assistant, "busy"))
    expected.stay.add(await stage.dispatch(names.recorder, "idle"))
    await asyncio.sleep(4)

    show.scene("2. The assistant is dispatched again. Now two of them talk to Ada.")
    expected.leave.add(duplicate := await stage.dispatch(names.assistant, "busy"))
    await stage.until(lambda: roster.is_out(duplicate), "the second assistant is out", GRACE)
    await asyncio.sleep(3)

    show.scene("3. A notetaker joins, and then does nothing.")
    expected.leave.add(idler := await stage.dispatch(names.notetaker, "idle"))
    await stage.until(lambda: roster.is_out(idler), "the notetaker is out", TIMEOUT)

    show.scene("4. Everyone else may stay.")
    await asyncio.sleep(3)


def judge(roster: Roster, expected: Expected) -> list[str]:
    """Return everything that is wrong, according to the server's list, the bouncer's log and the agents themselves."""
    problems = []
    if not any(row.role == "bouncer" for row in roster.rows.values()):
        problems.append("no bouncer was ever listed")
    for row in roster.rows.values():
        listed, removed, out = roster.is_here(row.identity), roster.removed(row.identity), row.identity in roster.out
        if row.identity in expected.leave:
            if listed:
                problems.append(f"{row} should have left but is still listed")
            if not removed:
                problems.append(f"{row} should have been removed, but the bouncer does not say so")
            if not out:
                problems.append(f"{row} should have been disconnected, but does not say so")
        elif row.identity in expected.stay:
            if not listed:
                problems.append(f"{row} should have stayed but is no longer listed")
            if removed:
                problems.append(f"{row} should have stayed, but the bouncer says that it removed it")
            if out:
                problems.append(f"{row} should have stayed, and was disconnected: {roster.out[row.identity]}")
        else:
            problems.append(f"{row} was in the room without being expected")
    unseen = roster.evictions.keys() - roster.rows.keys()
    problems += [f"the bouncer says that it evicted {sid}, which was never seen in the room" for sid in sorted(unseen)]
    return problems


def outcome(row: Row, roster: Roster, expected: Expected) -> Ended:
    """Return how it ended for a participant, and why."""
    stayed = roster.is_here(row.identity)
    why = ""
    if eviction := roster.evictions.get(row.sid):
        why = f"{eviction.policy}: it {eviction.reason}"
    elif row.sid in roster.held:
        why = f"held back: {roster.held[row.sid]}"
    elif not stayed:
        why = roster.out.get(row.identity, "")
    as_expected = row.identity in (expected.stay if stayed else expected.leave)
    return Ended(row, "stayed" if stayed else "left", why, as_expected)
