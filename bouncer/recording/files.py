"""Files with recordings: which there are, and their lines, up to where a file is cut."""

import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from bouncer.plain import why
from bouncer.recording.format import LONGEST_LINE, FormatError

SUFFIX = ".jsonl.gz"
CHUNK = 64 * 1024
GZIP = 31


def recordings(paths: Iterable[str | Path]) -> Iterator[Path]:
    """Yield the files that are meant: a folder means all the recordings in it, and in the folders below."""
    for path in map(Path, paths):
        if path.is_dir():
            yield from sorted(path.rglob(f"*{SUFFIX}"))
        else:
            yield path


def texts(path: Path) -> Iterator[str]:
    """Yield the lines of a recording; a cut file ends with its last whole line.

    Raises: FormatError if it can't be read, or is no gzip file.
    """
    rest = b""
    try:
        with path.open("rb") as file:
            first = file.read(CHUNK)
            if first[:1] == b"{":
                raise FormatError("isn't compressed; gzip it first")
            for data in _inflated(file.read, first):
                *whole, rest = (rest + data).split(b"\n")
                for line in whole:
                    yield _text(line)
                if len(rest) > LONGEST_LINE:
                    raise FormatError("has a line that is too long")
    except OSError as error:
        raise FormatError(f"can't be read: {why(error)}") from None


def _inflated(read: Callable[[int], bytes], first: bytes) -> Iterator[bytes]:
    """Yield what is compressed, piece by piece. Files that were joined are read as one; a cut one up to its end."""
    inflate, data = zlib.decompressobj(wbits=GZIP), first
    while data:
        try:
            yield inflate.decompress(data, CHUNK)
            while inflate.unconsumed_tail:
                yield inflate.decompress(inflate.unconsumed_tail, CHUNK)
        except zlib.error as error:
            raise FormatError(f"is damaged: {error}") from None
        data = inflate.unused_data or read(CHUNK)
        if inflate.eof and data:
            inflate = zlib.decompressobj(wbits=GZIP)


def _text(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"isn't valid UTF-8: {error}") from None
