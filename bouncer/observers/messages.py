"""Messages to the room: server-sent data packets on the topic `bouncer`, each a JSON object with an `event`."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from bouncer.api import ApiError
from bouncer.decide import Finding
from bouncer.history import Outcome
from bouncer.observers import Configured, Evicted, HeldBack, News, Noticed, Ranked, Refused, Reported

logger = logging.getLogger("bouncer")

MAX_WAITING = 256
"""Messages that wait to be sent; when the API can't take them, further ones are dropped."""
MAX_TEXT = 500
"""Bytes of any one text in a message: with its ten problems a data packet has to stay below 15 KiB."""
MAX_PROBLEMS = 10

_EVENTS = {
    Outcome.REMOVED: "evicted",
    Outcome.LEFT: "evicted",
    Outcome.WOULD: "reported",
    Outcome.DENIED: "failed",
    Outcome.FAILED: "failed",
}


class RoomMessages:
    """Tells the room what is done and why, unless its configuration says `"announce": false`."""

    def __init__(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        """Make an observer; what it is told goes out, by `RoomApi.send_data`, while `run` runs."""
        self._send_data = send
        self._announce = True
        self._mode = ""
        self._stands_by = False
        self._waiting: asyncio.Queue[dict[str, Any]] = asyncio.Queue(MAX_WAITING)

    def notify(self, news: News) -> None:
        """Queue a message, if the room is to know of it."""
        match news:
            case Configured(config):
                self._announce, self._mode = config.announce, config.mode
            case Ranked(seniors):
                self._stands_by = bool(seniors)
            case Refused(error, kept):
                shown = [{"path": _clip(p.path), "message": _clip(p.message)} for p in error.problems[:MAX_PROBLEMS]]
                self._send("config_error", errors=shown, total=len(error.problems), kept=kept is not None)
            case Noticed(finding, due_in):
                self._send("notice", **_about(finding), due_in=round(due_in, 3))
            case Reported(finding):
                self._send("reported", **_about(finding))
            case HeldBack(hold):
                self._send(
                    "held", **_about(hold.finding), held_by=str(hold.by), doubt=_clip(hold.finding.verdict.doubt)
                )
            case Evicted(finding, outcome) if outcome in _EVENTS:
                self._send(_EVENTS[outcome], **_about(finding), outcome=str(outcome))

    async def run(self) -> None:
        """Send what is queued, for ever. A message that can't be sent is lost: the log has it too."""
        while True:
            message = await self._waiting.get()
            try:
                await self._send_data(json.dumps(message, ensure_ascii=False).encode(errors="replace"))
            except ApiError as error:
                logger.debug("message not sent", extra={"event": message["event"], "error": str(error)})
            except Exception:
                logger.exception("message not sent", extra={"event": message["event"]})

    def _send(self, event: str, **facts: Any) -> None:
        if self._announce and not self._stands_by and not self._waiting.full():
            self._waiting.put_nowait({"event": event, "mode": self._mode, **facts})


def _about(finding: Finding) -> dict[str, Any]:
    who = finding.participant
    return {
        "identity": _clip(who.identity),
        "sid": _clip(who.sid),
        "agent_name": _clip(who.agent_name),
        "policy": finding.rule.id,
        "reason": _clip(finding.verdict.reason),
    }


def _clip(text: str) -> str:
    """The text, cut so that in JSON it takes no more than MAX_TEXT bytes."""
    clipped = text[:MAX_TEXT]
    while (size := len(json.dumps(clipped, ensure_ascii=False).encode(errors="replace"))) > MAX_TEXT:
        clipped = clipped[: len(clipped) * MAX_TEXT // size - 1]
    return clipped if clipped == text else f"{clipped}…"
