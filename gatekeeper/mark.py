"""The mark on a dispatch, and which of several marked bouncers are too many.

Two gatekeepers, or a gatekeeper and a worker that replaces its lost bouncers, may dispatch into one room at the same
time. There is no lock: each sees the surplus, chooses the same bouncer to keep, and takes the others back.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from bouncer.configuration.model import KEY, MARK
from bouncer.earlier import SEEN, Seen, written
from gatekeeper.records import Bouncer, Dispatch


def marked(configuration: Mapping[str, Any], sid: str, seen: Seen | None = None) -> str:
    """Return the metadata of a dispatch made for this room: the configuration, the mark, and what was seen there."""
    document: dict[str, Any] = {KEY: configuration, MARK: sid}
    if seen:
        document[SEEN] = written(seen)
    return json.dumps(document, ensure_ascii=False)


def mark_of(metadata: str) -> str:
    """Return the sid in the mark of a dispatch's metadata; empty if it has none."""
    if MARK not in metadata:
        return ""
    try:
        document = json.loads(metadata)
    except (ValueError, RecursionError):
        return ""
    mark = document.get(MARK) if isinstance(document, dict) else None
    return mark if isinstance(mark, str) else ""


def surplus(
    dispatches: Iterable[Dispatch], bouncers: Iterable[Bouncer], returned: Collection[str] = ()
) -> tuple[str, ...]:
    """Return the marked dispatches to take back: all that have a bouncer here, except the oldest ready bouncer's.

    A bouncer that isn't ready yet, or hands the room over, is never the one to keep. If none is ready, all stay.
    `returned` are identities that came back to a server that has forgotten their dispatch. They know the room's rules,
    and can't be taken back, so they come first.
    """
    made_by = {identity: dispatch.id for dispatch in dispatches if dispatch.mark for identity in dispatch.identities}
    here = [b for b in bouncers if b.identity in made_by or b.identity in returned]
    here.sort(key=lambda b: (b.identity not in returned, b.joined_ms, b.sid))
    kept = next((made_by.get(b.identity) or "" for b in here if b.ready), None)
    if kept is None:
        return ()
    made = (made_by[b.identity] for b in here if b.identity in made_by and made_by[b.identity] != kept)
    return tuple(dict.fromkeys(made))
