"""What bouncers say of their rooms by webhook: each verified, counted once, and kept for the console. Pure.

A report is a record of docs/reference/records.md. Whatever arrives here may come from anyone, until it is verified.
"""

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ROOMS = 20_000
"""Rooms whose reports are kept; the ones heard of longest ago go first."""
TROUBLES = ("failed", "fault", "trouble")
TEXT = 300


@dataclass(slots=True)
class Report:
    """What the bouncers of one room have said."""

    standing: str = ""
    mode: str = ""
    refused: str = ""
    """What is wrong with its configuration, if anything is."""
    trouble: str = ""
    """What went wrong last, until an eviction works."""
    held: dict[str, str] = field(default_factory=dict)
    """Why agents are held back, by sid."""
    evicted: int = 0


class Reports:
    """The reports of all rooms, by sid."""

    def __init__(self) -> None:
        self._rooms: OrderedDict[str, Report] = OrderedDict()

    def of(self, sid: str) -> Report:
        """Return what is known of a room."""
        return self._rooms.get(sid) or Report()

    def take(self, record: Mapping[str, Any]) -> str:
        """Take in a record that is verified and new. Return the room's sid; empty if it says nothing of use."""
        sid, event = record.get("room_sid"), record.get("event")
        if not isinstance(sid, str) or not sid or not isinstance(event, str):
            return ""
        report = self._rooms.setdefault(sid, Report())
        self._rooms.move_to_end(sid)
        if len(self._rooms) > ROOMS:
            self._rooms.popitem(last=False)
        report.mode = text(record.get("mode")) or report.mode
        self._note(report, event, record)
        return sid

    @staticmethod
    def _note(report: Report, event: str, record: Mapping[str, Any]) -> None:
        who = text(record.get("sid"))
        if event == "standing":
            report.standing = text(record.get("standing"))
        elif event == "unguarded":
            report.standing, report.held = "", {}
        elif event == "configured":
            report.refused = ""
        elif event == "config_error":
            report.refused = _first(record.get("errors"))
        elif event == "held":
            report.held[who] = text(record.get("held_by"))
        elif event == "evicted":
            report.evicted += 1
            report.trouble = ""
            report.held.pop(who, None)
        elif event == "called_off":
            report.held.pop(who, None)
        elif event in TROUBLES:
            report.trouble = text(record.get("error") or record.get("why") or event)


def parsed(body: bytes) -> Mapping[str, Any]:
    """Return a record. Raises: ValueError if the body is none."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}"[:TEXT]) from None
    if not isinstance(document, dict) or not isinstance(document.get("event"), str):
        raise ValueError("not a record: it has no event")  # noqa: TRY004 - the body is wrong, not our call
    return document


def text(value: object) -> str:
    """Return a value of a record as a short text."""
    return value[:TEXT] if isinstance(value, str) else ""


def _first(errors: object) -> str:
    first = errors[0] if isinstance(errors, list) and errors else None
    if isinstance(first, dict):
        return ": ".join(filter(None, (text(first.get("path")), text(first.get("message")))))
    return text(first) or "it was refused"
