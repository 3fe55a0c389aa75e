"""Asking a bouncer how it sees its room: the question, who may ask, the answer in parts, and what changes. Pure.

The question goes through the server's API to the bouncer alone. A packet without a sender proves nothing, since those
of hidden participants come without one too, so the question carries a token of the same API key. The answer is
addressed to the asker and carries the question's id, which no one else knows.
"""

import hashlib
import json
import zlib
from base64 import b64encode
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import MaxLen
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bouncer.room import Instant

VERSION = 1
ASK, STATE = "bouncer.ask", "bouncer.state"
"""The topics of a question and of its answer."""
LONGEST = 60
"""Seconds for which a question is answered at most."""
MAX_QUESTION = 4096
"""Bytes of a question; a longer one isn't read."""
MAX_PART = 14 * 1024
"""Bytes of a part of an answer: a data packet may have 15 KiB."""
MAX_PARTS = 1024
MAX_ANSWER = 64 * 1024 * 1024
"""Bytes of an answer once it is unpacked; an asker reads no longer one."""
PER_SECOND = 5
"""Questions whose token is verified in a second."""
ASKER = "bouncer-asks-"
"""How the identity of those begins that join a room only to ask: where people look, they are left out."""
ASKERS = 8
"""Questions that are answered at the same time."""
REMEMBERED = 1024
"""Ids of questions that are remembered: more than are accepted before their tokens are no longer valid."""
ID_DIGITS = 32
"""Hexadecimal digits of an id: 128 random bits."""
KEYED: Mapping[str, tuple[str, ...]] = {
    "participants": ("sid",),
    "verdicts": ("sid", "policy"),
    "departed": ("sid",),
    "recent": ("n",),
}
"""The lists of a view of which only changed entries are sent, and what identifies an entry."""

View = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request to be told about a room for some seconds."""

    room_sid: str
    to: str
    """The bouncer's identity."""
    reply_to: str
    """The asker's identity."""
    seconds: int
    id: str

    @property
    def facts(self) -> dict[str, Any]:
        """The question as JSON, without its token."""
        return {
            "v": VERSION,
            "room_sid": self.room_sid,
            "to": self.to,
            "reply_to": self.reply_to,
            "for": self.seconds,
            "id": self.id,
        }

    @property
    def sha256(self) -> str:
        """What the token must say of the question: the digest of its facts, as JSON with sorted keys and no spaces."""
        text = json.dumps(self.facts, sort_keys=True, separators=(",", ":"))
        return b64encode(hashlib.sha256(text.encode()).digest()).decode()

    def packet(self, token: str) -> bytes:
        """Return the question with its token, as it is sent."""
        return json.dumps(self.facts | {"token": token}).encode()


class _Packet(BaseModel):
    """A question as it is sent."""

    model_config = ConfigDict(strict=True, extra="forbid")

    v: Annotated[int, Field(ge=VERSION, le=VERSION)]
    room_sid: Annotated[str, MaxLen(128)]
    to: Annotated[str, MaxLen(1024)]
    reply_to: Annotated[str, MaxLen(1024)]
    seconds: Annotated[int, Field(alias="for", ge=1, le=LONGEST)]
    id: Annotated[str, Field(min_length=ID_DIGITS, max_length=ID_DIGITS)]
    token: str


def read_question(packet: bytes) -> tuple[Question, str] | None:
    """Return the question in a packet, and its token; None if it isn't one that we can answer. Never raises."""
    if len(packet) > MAX_QUESTION:
        return None
    try:
        read = _Packet.model_validate_json(packet)
    except ValidationError:
        return None
    question = Question(room_sid=read.room_sid, to=read.to, reply_to=read.reply_to, seconds=read.seconds, id=read.id)
    return question, read.token


@dataclass(slots=True)
class Desk:
    """Admits questions at a bouncer: so many verifications a second, each id once, so many askers."""

    _verified: deque[Instant] = field(default_factory=deque)
    _ids: OrderedDict[str, None] = field(default_factory=OrderedDict)
    _until: dict[str, tuple[Question, Instant]] = field(default_factory=dict)
    """By the asker's identity: its latest question, and until when it is answered."""

    def may_verify(self, now: Instant) -> bool:
        """Return True if a token may be verified now; that counts."""
        while self._verified and self._verified[0] + 1.0 <= now:
            self._verified.popleft()
        if len(self._verified) >= PER_SECOND:
            return False
        self._verified.append(now)
        return True

    def accept(self, question: Question, now: Instant) -> bool:
        """Take in a question whose token is valid. Return True if it is to be answered."""
        if question.id in self._ids:
            return False
        self._ids[question.id] = None
        if len(self._ids) > REMEMBERED:
            self._ids.popitem(last=False)
        if question.reply_to not in self._until and len(self.open(now)) >= ASKERS:
            return False
        self._until[question.reply_to] = question, now + question.seconds
        return True

    def open(self, now: Instant) -> tuple[Question, ...]:
        """Return the questions that are being answered."""
        self._until = {who: (question, until) for who, (question, until) in self._until.items() if until > now}
        return tuple(question for question, _ in self._until.values())


def parts(question_id: str, number: int, message: Mapping[str, Any]) -> list[bytes]:
    """Return a message as packets. Each has a line of JSON, and then a part of the message's compressed JSON."""
    packed = zlib.compress(json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode(errors="replace"), 3)
    room = MAX_PART - 256  # for the line
    pieces = [packed[at : at + room] for at in range(0, len(packed), room)]
    head = {"v": VERSION, "id": question_id, "message": number, "parts": len(pieces)}
    return [json.dumps(head | {"part": part}).encode() + b"\n" + piece for part, piece in enumerate(pieces)]


@dataclass(slots=True)
class Inbox:
    """Puts the answer to one question together. What doesn't carry its id, or isn't next, is dropped."""

    question_id: str
    broken: bool = False
    """True if something of the answer is missing, so that another question is needed."""
    _number: int = 0
    _pieces: list[bytes] = field(default_factory=list)

    def take(self, packet: bytes) -> dict[str, Any] | None:
        """Take in a packet. Return the message that it completes, if it does. Never raises."""
        line, newline, piece = packet.partition(b"\n")
        try:
            head = json.loads(line) if newline and len(line) < MAX_QUESTION else None
        except (ValueError, RecursionError):
            return None
        if not isinstance(head, dict) or head.get("id") != self.question_id or head.get("v") != VERSION:
            return None
        count = head.get("parts")
        in_order = head.get("message") == self._number and head.get("part") == len(self._pieces)
        if not in_order or not isinstance(count, int) or count > MAX_PARTS:
            self.broken = True
            return None
        self._pieces.append(piece)
        if len(self._pieces) < count:
            return None
        packed, self._pieces = b"".join(self._pieces), []
        self._number += 1
        try:
            message = json.loads(zlib.decompressobj().decompress(packed, MAX_ANSWER))
        except (ValueError, RecursionError, zlib.error):
            message = None
        self.broken |= not isinstance(message, dict)
        return None if self.broken else message


def changes(before: View, after: View) -> View:
    """Return what has changed from one view to the next: of the keyed lists by entry, of all else the new value."""
    changed: View = {}
    for key, value in after.items():
        if key not in KEYED:
            if before.get(key) != value:
                changed[key] = value
            continue
        old, new = _by_key(key, before.get(key, ())), _by_key(key, value)
        entries = [entry for name, entry in new.items() if old.get(name) != entry]
        gone = [[*name] for name in old if name not in new]
        if entries or gone:
            changed[key] = {"set": entries, "gone": gone}
    if gone_keys := [key for key in before if key not in after]:
        changed["-"] = gone_keys
    return changed


def changed(view: View, change: View) -> View:
    """Return a view with what has changed. Entries that are new come last.

    Raises: KeyError, TypeError or ValueError for what is no change.
    """
    after = {key: value for key, value in view.items() if key not in change.get("-", ())}
    for key, value in change.items():
        if key == "-":
            continue
        if key not in KEYED:
            after[key] = value
            continue
        entries = _by_key(key, view.get(key, ()))
        for name in value["gone"]:
            entries.pop(tuple(name), None)
        entries |= _by_key(key, value["set"])
        after[key] = [*entries.values()]
    return after


def _by_key(key: str, entries: Iterable[Mapping[str, Any]]) -> dict[tuple[Any, ...], Any]:
    return {tuple(entry[name] for name in KEYED[key]): entry for entry in entries}
