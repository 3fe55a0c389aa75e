"""A room with one agent as a view shows it, for tests of what is said of it."""

from typing import Any

AT = "2026-11-29T02:30:00.000Z"
JOINED = "2026-11-29T02:20:00.000Z"


def agent(**facts: Any) -> dict[str, Any]:
    """An agent as a view shows it."""
    return {
        "identity": "A",
        "sid": "PA_A",
        "role": "agent",
        "kind": "agent",
        "agent_name": "assistant",
        "joined_at": JOINED,
        **facts,
    }


def verdict(status: str, due_at: str = "2026-11-29T02:31:00.000Z", **facts: Any) -> dict[str, Any]:
    """A verdict on it as a view shows it."""
    return {
        "identity": "A",
        "sid": "PA_A",
        "policy": "idle_timeout",
        "action": "evict",
        "due_at": due_at,
        "reason": "did nothing for 60 s",
        "held_by": "",
        "doubt": "",
        "status": status,
        **facts,
    }


def view(*verdicts: dict[str, Any], who: dict[str, Any] | None = None, **facts: Any) -> dict[str, Any]:
    """A room as a bouncer sees it."""
    return {
        "room": "call",
        "room_sid": "RM_1",
        "bouncer": "agent-AJ_1",
        "standing": "acting",
        "mode": "enforce",
        "guarded_by": ["agent-AJ_1"],
        "participants": [who or agent()],
        "verdicts": [*verdicts],
        "departed": [],
        "configuration": {},
        "problems": [],
        "rules": [{"policy": "duplicates", "watches": False}, {"policy": "idle_timeout", "watches": True}],
        **facts,
    }


DUE = "2026-11-29T02:29:00.000Z"
