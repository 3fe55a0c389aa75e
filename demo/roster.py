"""What is known of the demo's room, and from whom: the server's list, the bouncer's log, the agents themselves.

Nothing in here is an expectation. Whatever is shown on the screen or judged at the end stands here first, and came from
one of these sources.
"""

import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from livekit import api

Role = Literal["human", "agent", "bouncer"]
Source = Literal["server", "demo", "room", "bouncer", "agent", "Ada"]
Say = Callable[[Source, str], None]
"""Is told what happened and who says so."""

SOONER = 0.5
"""Seconds by which a due date has to come nearer to be told of again."""
EVICTED = frozenset({"removed", "left"})
"""The outcomes with which an agent is out: we removed it, or its dispatch was deleted and it left."""


@dataclass(frozen=True, slots=True)
class Row:
    """A participant, as the server's list shows it."""

    sid: str
    identity: str
    role: Role
    name: str
    """The agent name, or the name of a person."""
    state: str

    @property
    def tail(self) -> str:
        """The end of its identity, which tells apart those that have the same name."""
        return f"…{self.identity[-4:]}" if self.role == "agent" else ""

    def __str__(self) -> str:
        return f"{self.name} {self.tail}".rstrip()


@dataclass(frozen=True, slots=True)
class Countdown:
    """A verdict that comes due."""

    policy: str
    due_at: float
    """Seconds since the epoch."""
    seconds: float
    """How long it was when it began."""

    @property
    def left(self) -> float:
        """Seconds that are left of it."""
        return max(0.0, self.due_at - time.time())


@dataclass(frozen=True, slots=True)
class Eviction:
    """What the bouncer says of an eviction."""

    policy: str
    reason: str
    outcome: str
    took: float


@dataclass(slots=True)
class Roster:
    """Everybody who is or was in the room, and what was said of them. Feed it with the methods; read the fields."""

    bouncer_name: str
    say: Say
    rows: dict[str, Row] = field(default_factory=dict)
    """By sid, those who left included, in the order of their coming."""
    here: set[str] = field(default_factory=set)
    """The sids that the latest list has."""
    countdowns: defaultdict[str, dict[str, Countdown]] = field(default_factory=lambda: defaultdict(dict))
    """By sid and policy, as the bouncer logs them."""
    held: dict[str, str] = field(default_factory=dict)
    """By sid: what keeps it from being evicted, as the bouncer logs it."""
    evictions: dict[str, Eviction] = field(default_factory=dict)
    """By sid, the latest attempt, as the bouncer logs it."""
    out: dict[str, str] = field(default_factory=dict)
    """By identity: why it is out, as it says itself."""
    announced: dict[tuple[str, str], float] = field(default_factory=dict)
    """By sid and policy, the due dates that were told of. An agent at work pushes its own back all the time."""
    guarding: bool = False
    """Whether the bouncer has said that it guards the room."""

    def listed(self, participants: Iterable[api.ParticipantInfo]) -> None:
        """Take in the server's list."""
        present = {info.sid: self._row(info) for info in participants if info.state == api.ParticipantInfo.ACTIVE}
        for sid, row in present.items():
            if sid not in self.rows:
                self.say("room", f"+ {row}" + (f" ({row.role})" if row.role != "bouncer" else " (hidden)"))
        for sid in self.here - present.keys():
            self.say("room", f"- {self.rows[sid]}")
        self.rows |= present
        self.here = set(present)

    def logged(self, line: Mapping[str, Any]) -> None:
        """Take in a line of the bouncer's log."""
        match line:
            case {"message": "guarding"}:
                self.guarding = True
            case {"message": "configured", "configuration": configuration}:
                self.say("bouncer", f"guards by {_in_words(configuration)}")
            case {"message": "countdown", "sid": sid, "policy": policy, "due_in": due_in, "timestamp": timestamp}:
                due_at = datetime.fromisoformat(timestamp).timestamp() + due_in
                self.countdowns[sid][policy] = Countdown(policy, due_at, due_in)
                if due_at < self.announced.get((sid, policy), math.inf) - SOONER:
                    self.announced[sid, policy] = due_at
                    self.say("bouncer", f"{policy}: {self._who(line)} is due in {due_in:.1f} s")
            case {"message": "countdown over" | "countdown called off", "sid": sid, "policy": policy}:
                self.countdowns[sid].pop(policy, None)
            case {"message": "held back", "sid": sid, "policy": policy, "held_by": held_by}:
                self.held[sid] = held_by
                self.say("bouncer", f"{policy}: {self._who(line)} is due, and held back: {held_by}")
            case {"message": "evicted", "sid": sid, "policy": policy, "outcome": outcome, "took": took}:
                reason = line.get("reason", "")
                self.evictions[sid] = Eviction(policy, reason, outcome, took)
                was = f"evicted ({outcome}, took {took:.3f} s)" if outcome in EVICTED else f"not evicted ({outcome})"
                self.say("bouncer", f"{policy}: {self._who(line)} was {was}, because it {reason}")
            case {"level": "WARNING" | "ERROR" | "CRITICAL", "name": "bouncer", "message": message}:
                known = {"level", "name", "message", "timestamp", "pid"}
                facts = {key: fact for key, fact in line.items() if key not in known and not key.startswith("code.")}
                self.say("bouncer", f"{message} {json.dumps(facts)}")
            case _:
                pass

    def told(self, line: Mapping[str, Any]) -> None:
        """Take in a line of the cast's: an agent that tells of itself."""
        match line:
            case {"message": "disconnected", "identity": identity, "reason": reason} if identity not in self.out:
                self.out[identity] = reason
                self.say("agent", f"{self.member(identity) or identity}: I was disconnected ({reason})")
            case {"message": "ended", "identity": identity} if identity not in self.out:
                self.out[identity] = "its job was ended"
                self.say("agent", f"{self.member(identity) or identity}: my job was ended")
            case _:
                pass

    def received(self, data: bytes) -> None:
        """Take in a message that the bouncer sent to everybody in the room."""
        message = json.loads(data)
        due_in = f", due in {message['due_in']:.1f} s" if "due_in" in message else ""
        self.say("Ada", f"is told “{message.get('event')}”: {self._who(message)}, {message.get('policy')}{due_in}")

    def member(self, identity: str) -> Row | None:
        """The latest participant that had this identity."""
        return next((row for row in reversed(self.rows.values()) if row.identity == identity), None)

    def removed(self, identity: str) -> bool:
        """Whether the bouncer says that it removed it."""
        row = self.member(identity)
        return row is not None and row.sid in self.evictions and self.evictions[row.sid].outcome in EVICTED

    def is_here(self, identity: str) -> bool:
        """Whether the server lists it."""
        row = self.member(identity)
        return row is not None and row.sid in self.here

    def is_out(self, identity: str) -> bool:
        """Whether all agree that it was removed: the server, the bouncer, and it itself."""
        return self.removed(identity) and not self.is_here(identity) and identity in self.out

    def _row(self, info: api.ParticipantInfo) -> Row:
        name = info.attributes.get("lk.agent_name", "") if info.kind == info.AGENT else info.name
        role: Role = "human" if info.kind != info.AGENT else "agent"
        if info.permission.hidden and name == self.bouncer_name:
            role = "bouncer"
        state = info.attributes.get("lk.agent.state", "")
        if role == "bouncer" and info.attributes.get("bouncer.guarding") == "true":
            state = "guarding"
        return Row(info.sid, info.identity, role, name or info.identity, state)

    def _who(self, facts: Mapping[str, Any]) -> str:
        """How to call the participant that a log line or a message is about."""
        row = self.rows.get(facts.get("sid", ""))
        return str(row) if row else str(facts.get("agent_name") or facts.get("identity") or "somebody")


def _in_words(configuration: Mapping[str, Any]) -> str:
    """The part of a configuration that the demo set."""
    words = []
    for policy, options in configuration["policies"].items():
        times = [f"{name} {options[name]:g} s" for name in ("timeout", "grace", "notice") if options.get(name)]
        words.append(f"{policy} ({', '.join(times)})")
    exempt = ", ".join(configuration["exempt"]["agent_name"])
    return f"{' and '.join(words)}; exempt: {exempt or 'nobody'}"
