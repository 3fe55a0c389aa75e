"""Builders for what a tracker is told, and what it says then: integers for time."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from bouncer import Kind, Participant, Room
from bouncer.events import (
    Attributes,
    Connected,
    Disconnected,
    Dispatched,
    Event,
    Heard,
    Info,
    Job,
    Joined,
    Left,
    Listed,
)
from bouncer.tracker import Tracker


def info(identity: str, joined: float = 1, *, sid: str = "", **facts: Any) -> Info:
    """Return a person that joined then, as LiveKit shows it."""
    return Info(
        sid=sid or f"PA_{identity}", identity=identity, joined_at=joined, joined_ms=round(joined * 1000), **facts
    )


def agent(identity: str, name: str = "", joined: float = 1, *, state: str = "", **facts: Any) -> Info:
    """Return an agent with that name and state."""
    attributes = facts.pop("attributes", {})
    if name:
        attributes = {"lk.agent_name": name, **attributes}
    if state:
        attributes = {"lk.agent.state": state, **attributes}
    return info(identity, joined, attributes=attributes, **{"kind": Kind.AGENT, **facts})


def avatar(identity: str, principal: str, joined: float = 1, **facts: Any) -> Info:
    """Return an agent that says it is the avatar of another."""
    return agent(identity, "", joined, attributes={"lk.publish_on_behalf": principal}, **facts)


def job(identity: str, name: str, dispatch: str = "AD_1", serves: str = "") -> Job:
    """Return a job of a dispatch, as `list_dispatch` shows it."""
    return Job(
        dispatch=dispatch, job=identity.removeprefix("agent-"), agent_name=name, identity=identity, serves=serves
    )


ME = agent("agent-AJ_me", joined=0)
A = agent("A", "assistant")


def tracked(*events: Event) -> Tracker:
    """Return the tracker of a room after these events, with us connected at 0."""
    tracker = Tracker()
    for event in (Connected(0, ME), *events):
        tracker.apply(event)
    return tracker


def house(*events: Event) -> Room:
    """Return the room after these events."""
    return tracked(*events).room()


def here(*events: Event) -> set[str]:
    """Return everyone's identity but ours after these events."""
    return {p.identity for p in house(*events).participants} - {ME.identity}


def who(identity: str, *events: Event) -> Participant:
    """Return one participant after these events."""
    (found,) = (p for p in house(*events).participants if p.identity == identity)
    return found


def state(at: float, value: str, sid: str = "PA_A") -> Attributes:
    """Return the event of a new `lk.agent.state`."""
    return Attributes(at, sid, {"lk.agent_name": "assistant", "lk.agent.state": value})


def listed(asked_at: float, *infos: Info, took: float = 0.5) -> Listed:
    """Return a list with us and these in it, asked for then and answered half a second later."""
    return Listed(asked_at + took, asked_at, (ME, *infos))


def dispatched(asked_at: float, *jobs: Job, took: float = 0.5) -> Dispatched:
    """Return a list of dispatches with ours and these jobs, asked for then and answered half a second later."""
    return Dispatched(asked_at + took, asked_at, (job(ME.identity, "bouncer", "AD_me"), *jobs))


def reconnected(at: float, *infos: Info, lost: Sequence[Info] = ()) -> list[Event]:
    """Return what our own full reconnect looks like: everyone leaves, we are blind for a second, those present join."""
    return [
        *(Left(at, each.sid) for each in (*infos, *lost)),
        Disconnected(at),
        *(Joined(at + 1, each) for each in infos),
        Connected(at + 1, ME, infos),
    ]


def heard(at: float, identity: str, *, speaking: bool | None = True) -> Heard:
    """Return a change of what is heard from a participant."""
    return Heard(at, f"PA_{identity}", speaking)


def said(identity: str, start: float, end: float) -> list[Event]:
    """Return the start of a participant's speech."""
    return [heard(start, identity), heard(end, identity, speaking=False)]


def calls(run: Callable[[], object]) -> int:
    """Return the number of calls of Python and C functions, including generators' steps."""
    count = 0

    def note(*_: object) -> None:
        nonlocal count
        count += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(before)
    return count
