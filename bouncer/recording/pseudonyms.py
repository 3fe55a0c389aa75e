"""Personal texts in a recording, and what stands in for them. Pure.

Equal texts have equal pseudonyms under one key, so that everything that only compares texts goes on as before. A
pseudonym can't match a glob, so a recording says which globs of the configurations in force matched the text.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from pydantic import BaseModel

from bouncer.configuration.model import DEFAULT_IGNORED, Config
from bouncer.people import ON_BEHALF_OF_ATTRIBUTE, shortened
from bouncer.room import CALL_STATUS_ATTRIBUTE, JOB_IDENTITY, LONGEST_METADATA
from bouncer.selectors import Pattern, matches

MARK = "~"
"""What a pseudonym begins with; the one of a job's identity has it after `agent-AJ_`."""
LENGTH = 16
"""Hexadecimal digits of a pseudonym: 64 bits."""
REMEMBERED = 4096
"""Texts of a room for which it is known which globs matched."""
CLEAR_PREFIXES = ("lk.", "bouncer.")
"""The attributes that LiveKit and bouncers set. Their values stay, but for the identity in `lk.publish_on_behalf`."""
CALL_STATUSES = frozenset({"active", "automation", "dialing", "hangup", "ringing"})
"""LiveKit's values of `sip.callStatus`: they stay, because a ringing phone is no person in the room yet."""
CLEAR_TRACKS = frozenset({"", *DEFAULT_IGNORED, "camera", "microphone", "roomio_audio", "screen", "screen_audio"})
"""Names of tracks that LiveKit's own SDKs give."""
_PSEUDONYM = re.compile(rf"(?:{JOB_IDENTITY})?{MARK}[0-9a-f]{{{LENGTH}}}")


def is_pseudonym(text: str) -> bool:
    """Return True if the text has the form of a pseudonym."""
    return _PSEUDONYM.fullmatch(text) is not None


@dataclass(slots=True)
class Pseudonyms:
    """Hides the personal texts of one room. Each has a pseudonym, and those that are new are told to `met`."""

    key: bytes
    met: Callable[[str, str], None] = lambda _pseudonym, _text: None
    _known: dict[str, str] = field(default_factory=dict)

    def text(self, text: str) -> str:
        """Return the pseudonym of a text; an empty one stays empty."""
        return self._of(text, "") if text else ""

    def identity(self, identity: str) -> str:
        """Return the pseudonym of an identity; one that looks like a job's goes on looking like one."""
        if not identity:
            return ""
        return self._of(identity, JOB_IDENTITY if identity.startswith(JOB_IDENTITY) else "")

    def name(self, name: str) -> str:
        """Return the pseudonym of a display name."""
        return self.text(shortened(name))

    def metadata(self, metadata: str) -> str:
        """Return the pseudonym of a participant's metadata."""
        return self.text(metadata[:LONGEST_METADATA])

    def attribute(self, name: str, value: str) -> str:
        """Return the value of an attribute, if it is LiveKit's own or ours, else its pseudonym."""
        if name == ON_BEHALF_OF_ATTRIBUTE:
            return self.identity(shortened(value))
        if name.startswith(CLEAR_PREFIXES) or (name == CALL_STATUS_ATTRIBUTE and value in CALL_STATUSES):
            return value
        return self.text(value)

    def track(self, name: str) -> str:
        """Return the name of a track, if an SDK gives it, else its pseudonym."""
        return name if name in CLEAR_TRACKS else self.text(name)

    def _of(self, text: str, prefix: str) -> str:
        known = self._known.get(text)
        if known is None:
            data = text.encode(errors="surrogatepass")
            digest = hmac.new(self.key, data, hashlib.sha256).hexdigest()[:LENGTH]
            known = self._known[text] = f"{prefix}{MARK}{digest}"
            if len(self._known) > REMEMBERED:
                del self._known[next(iter(self._known))]
            self.met(known, text)
        return known


class Clear(Pseudonyms):
    """Hides nothing: for recordings that keep personal texts."""

    def __init__(self) -> None:
        super().__init__(b"")

    def _of(self, text: str, prefix: str) -> str:  # noqa: ARG002 - the signature of Pseudonyms
        return text


def patterns(value: Any) -> Iterator[Pattern]:
    """Yield every glob of a configuration, wherever it stands in it."""
    if isinstance(value, Pattern):
        yield value
    elif isinstance(value, Config):
        for part in (value.rules, value.guards, value.people_also, value.people_except, value.avatars):
            yield from patterns(part)
        yield from patterns(value.ignore_tracks)
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from patterns(getattr(value, name))
    elif isinstance(value, Mapping):
        yield from patterns(tuple(value.values()))
    elif isinstance(value, tuple):
        for inner in value:
            yield from patterns(inner)
    elif is_dataclass(value):
        for each in fields(value):
            yield from patterns(getattr(value, each.name))


def globs(config: Config) -> tuple[str, ...]:
    """Return the globs of a configuration, each once."""
    return tuple(sorted({str(pattern) for pattern in patterns(config)}))


def matching(text: str, globs: Iterable[str]) -> list[int]:
    """Return the places of the globs that match the text."""
    return [place for place, glob in enumerate(globs) if matches(text, (glob,))]


@dataclass(slots=True)
class Matches:
    """What a recording says of pseudonyms and globs. It answers for the globs of a replay's configuration."""

    asked: set[tuple[str, str]] = field(default_factory=set)
    """Globs and pseudonyms of which the recording doesn't say whether they match."""
    _known: dict[tuple[str, str], bool] = field(default_factory=dict)

    def learn(self, globs: Iterable[str], texts: Mapping[str, Iterable[int]]) -> None:
        """Take in which of the globs match the text behind each pseudonym; the others don't."""
        for pseudonym, places in texts.items():
            found = {*places}
            for place, glob in enumerate(globs):
                self._known[glob, pseudonym] = place in found

    def answer_for(self, config: Config) -> None:
        """Let the globs of a configuration ask here when they meet a pseudonym."""
        for pattern in patterns(config):
            pattern.ask(self._ask)

    def _ask(self, glob: str, text: str) -> bool | None:
        """Return whether a glob matches; None if that can be seen from the text itself."""
        if not is_pseudonym(text) or not glob.strip("*"):
            return None
        known = self._known.get((glob, text))
        if known is None:
            self.asked.add((glob, text))
        return bool(known)
