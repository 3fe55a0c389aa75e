"""Builders for policy tests: integers for time, no fixture, no mock, no async.

house = room(agent("A", active=100), agent("B", active=130), human("H"))
assert due(IdleTimeout(timeout=60).evaluate(house)) == {"A": 160, "B": 190}
"""

from collections.abc import Iterable
from typing import Any

from bouncer.policy import Verdict
from bouncer.room import Instant, Kind, Participant, Role, Room


def participant(identity: str, *, joined: Instant = 0, alive: Instant | None = None, **facts: Any) -> Participant:
    """A participant that joined at `joined`; every fact of `Participant` can be given."""
    facts.setdefault("sid", f"PA_{identity}")
    facts.setdefault("joined_ms", round(joined * 1000))
    facts.setdefault("age", (facts["joined_ms"], facts["joined_ms"], facts["sid"]))
    facts.setdefault("active_at", joined)
    return Participant(identity=identity, joined_at=joined, alive_at=joined if alive is None else alive, **facts)


def agent(
    identity: str, name: str = "", *, joined: Instant = 0, active: Instant | None = None, **facts: Any
) -> Participant:
    """An agent with that agent name, which last did something at `active`."""
    facts.setdefault("role", Role.AGENT)
    facts.setdefault("kind", Kind.AGENT)
    return participant(
        identity, joined=joined, agent_name=name, active_at=joined if active is None else active, **facts
    )


def human(identity: str, *, joined: Instant = 0, **facts: Any) -> Participant:
    """A person."""
    return participant(identity, joined=joined, **facts)


def avatar(identity: str, principal: str, *, joined: Instant = 0, **facts: Any) -> Participant:
    """The avatar of the agent with the identity `principal`."""
    return participant(identity, joined=joined, role=Role.AVATAR, kind=Kind.AGENT, on_behalf_of=principal, **facts)


def room(*participants: Participant, **facts: Any) -> Room:
    """A room with these participants in it."""
    return Room(participants=participants, **facts)


def due(verdicts: Iterable[Verdict]) -> dict[str, Instant]:
    """Return the agents that have to leave: identities, each with the earliest of its due dates."""
    earliest: dict[str, Instant] = {}
    for verdict in verdicts:
        identity = verdict.participant.identity
        earliest[identity] = min(verdict.due, earliest.get(identity, verdict.due))
    return earliest
