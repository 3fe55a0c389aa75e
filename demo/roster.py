"""What is known about the demo's room, and from which source: the server's list, the bouncer's log, the agents.

Nothing here is an expectation. Everything shown on the screen or judged at the end comes from one of these sources.
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

from bouncer.asking import ASKER

Role = Literal["human", "agent", "bouncer"]
Source = Literal["server", "demo", "room", "bouncer", "agent", "Ada"]
Say = Callable[[Source, str], None]
"""Takes a source and what it says."""

SOONER = 0.5
"""Seconds by which a due date must come closer before it is told again."""
EVICTED = frozenset({"removed", "left"})
"""The outcomes that mean an agent is out: it was removed, or it left after its dispatch was deleted."""


@dataclass(frozen=True, slots=True)
class Row:
    """A participant in the server's list."""

    sid: str
    identity: str
    role: Role
    name: str
    """The agent name, or a person's name."""
    state: str

    @property
    def tail(self) -> str:
        """The end of its identity, which distinguishes agents with the same name."""
        return f"…{self.identity[-4:]}" if self.role == "agent" else ""

    def __str__(self) -> str:
        return f"{self.name} {self.tail}".rstrip()


@dataclass(frozen=True, slots=True)
class Countdown:
    """A verdict that will come due."""

    policy: str
    due_at: float
    """Seconds since the epoch."""
    seconds: float
    """Its full length."""

    @property
    def left(self) -> float:
        """The seconds left."""
        return max(0.0, self.due_at - time.time())


@dataclass(frozen=True, slots=True)
class Eviction:
    """An eviction, according to the bouncer."""

    policy: str
    reason: str
    outcome: str
    took: float


@dataclass(slots=True)
class Roster:
    """All participants, present and past, and what was said about them. Methods take news; fields hold the state."""

    bouncer_name: str
    say: Say
    rows: dict[str, Row] = field(default_factory=dict)
    """By sid, in order of joining, including participants that have left."""
    here: set[str] = field(default_factory=set)
    """The sids in the latest list."""
    countdowns: defaultdict[str, dict[str, Countdown]] = field(default_factory=lambda: defaultdict(dict))
    """By sid and policy, from the bouncer's log."""
    held: dict[str, str] = field(default_factory=dict)
    """By sid: what holds its eviction back, from the bouncer's log."""
    evictions: dict[str, Eviction] = field(default_factory=dict)
    """By sid: the latest attempt, from the bouncer's log."""
    out: dict[str, str] = field(default_factory=dict)
    """By identity: why it is out, in its own words."""
    announced: dict[tuple[str, str], float] = field(default_factory=dict)
    """By sid and policy: the due dates already told. An agent at work keeps pushing its own back."""
    guarding: bool = False
    """True once the bouncer has said that it guards the room."""

    def listed(self, participants: Iterable[api.ParticipantInfo]) -> None:
        """Take the server's list, without those that only ask the bouncer, for the console."""
        active = (self._row(info) for info in participants if info.state == api.ParticipantInfo.ACTIVE)
        present = {row.sid: row for row in active if not row.identity.startswith(ASKER)}
        for sid, row in present.items():
            if sid not in self.rows:
                self.say("room", f"+ {row}" + (f" ({row.role})" if row.role != "bouncer" else " (hidden)"))
        for sid in self.here - present.keys():
            self.say("room", f"- {self.rows[sid]}")
        self.rows |= present
        self.here = set(present)

    def logged(self, line: Mapping[str, Any]) -> None:
        """Take a line of the bouncer's log."""
        match line:
            case {"message": "guarding"}:
                self.guarding = True
            case {"message": "configured", "configuration": configuration}:
                self.say("bouncer", f"guards with {_in_words(configuration)}")
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
        """Take a line of the cast's output."""
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
        """Take a message that the bouncer sent to the room."""
        message = json.loads(data)
        due_in = f", due in {message['due_in']:.1f} s" if message.get("event") == "notice" else ""
        self.say("Ada", f"is told “{message.get('event')}”: {self._who(message)}, {message.get('policy')}{due_in}")

    def member(self, identity: str) -> Row | None:
        """Return the latest participant with this identity."""
        return next((row for row in reversed(self.rows.values()) if row.identity == identity), None)

    def removed(self, identity: str) -> bool:
        """Return True if the bouncer says that it evicted this identity."""
        row = self.member(identity)
        return row is not None and row.sid in self.evictions and self.evictions[row.sid].outcome in EVICTED

    def is_here(self, identity: str) -> bool:
        """Return True if the server lists this identity."""
        row = self.member(identity)
        return row is not None and row.sid in self.here

    def is_out(self, identity: str) -> bool:
        """Return True if the server, the bouncer and the agent itself agree that it is out."""
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
        """Return the name of the participant that a log line or message is about."""
        row = self.rows.get(facts.get("sid", ""))
        return str(row) if row else str(facts.get("agent_name") or facts.get("identity") or "a participant")


def _in_words(configuration: Mapping[str, Any]) -> str:
    """Describe the part of a configuration that the demo set."""
    words = []
    for policy, options in configuration["policies"].items():
        times = [f"{name} {options[name]:g} s" for name in ("timeout", "grace", "notice") if options.get(name)]
        words.append(f"{policy} ({', '.join(times)})")
    exempt = ", ".join(configuration["exempt"]["agent_name"])
    return f"{' and '.join(words)}; exempt: {exempt or 'none'}"
