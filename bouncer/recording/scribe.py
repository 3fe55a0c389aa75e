"""Notes of a tape in, lines of a recording out. Pure.

What is personal is hidden here. Before a line that shows a new pseudonym, and before a configuration with other globs,
a line says which globs match the text that the pseudonym stands for.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from bouncer.recording.format import (
    Encoder,
    Header,
    Line,
    command_line,
    header_line,
    news_line,
    ours,
    ours_only,
)
from bouncer.recording.pseudonyms import REMEMBERED, Clear, Pseudonyms, globs, matching
from bouncer.recording.tape import Note


class Scribe:
    """Writes the lines of one room's recording."""

    def __init__(self, key: bytes | None) -> None:
        """Make one that hides personal texts with this key; None hides nothing."""
        self._mask = Clear() if key is None else Pseudonyms(key, self._met)
        self._encoder = Encoder(self._mask)
        self._globs: tuple[str, ...] = ()
        self._texts: OrderedDict[str, str] = OrderedDict()
        """The texts behind the pseudonyms that were met."""
        self._new: dict[str, str] = {}
        """Those that no line has told of yet."""

    def header(self, header: Header) -> Line:
        """Return the first line, given the header with the room's own name and layers."""
        name = self._mask.text(header.room)
        self._new.clear()
        return header_line(replace(header, room=name, layers=ours_only(header.layers)))

    def lines(self, note: Note) -> Iterator[Line]:
        """Yield the lines of a note."""
        at, what, *arguments = note
        line = self._line(at, what, arguments)
        yield from self._told(arguments[1] if what == "configure" else None)
        yield {"at": at, **line}

    def _line(self, at: float, what: str, arguments: list[Any]) -> Line:  # noqa: PLR0911 - one for each kind of note
        match what, arguments:
            case "event", [event]:
                line = self._encoder.event(event)
                return line if event.at == at else {**line, "of": event.at}
            case "configure", [metadata, _]:
                return {"configure": None if metadata is None else ours(metadata)}
            case "step", [commands, news, pulse, late, chance]:
                step = {
                    "commands": [*map(command_line, commands)],
                    "news": [*map(news_line, news)],
                    "pulse": pulse,
                    "late": late,
                    "chance": chance,
                }
                return {"step": {key: value for key, value in step.items() if value}}
            case "answer", [number, answer, chance]:
                return {"answer": number, **self._encoder.answer(answer), **({"chance": chance} if chance else {})}
            case "end", [news]:
                return {"end": True, "news": [*map(news_line, news)]}
            case "listed", [asked_at, infos]:
                return {"listed": asked_at, "infos": self._encoder.infos(infos)}
            case "failing", [doing, trouble]:
                return {"failing": str(doing), "trouble": str(trouble)}
            case _:
                return {what: arguments[0] if arguments else True}

    def _met(self, pseudonym: str, text: str) -> None:
        self._new[pseudonym] = text

    def _told(self, config: Any) -> Iterator[Line]:
        """Yield what there is to say about pseudonyms: of those that are new, or of all under other globs."""
        new, self._new = self._new, {}
        self._texts.update(new)
        while len(self._texts) > REMEMBERED:
            self._texts.popitem(last=False)
        if config is not None and (found := globs(config)) != self._globs:
            self._globs, new = found, dict(self._texts)
        if new and self._globs:
            yield {"globs": self._globs, "texts": {name: matching(text, self._globs) for name, text in new.items()}}
