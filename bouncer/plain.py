"""Text from others, made fit to print: in a terminal, a log, or a ticket. Pure."""

import re

_UNSAFE = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # C0, DEL, C1: terminals obey them
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidirectional marks and overrides: text reads otherwise than it is
    "\u2028\u2029"  # line and paragraph separators: one line becomes two
    "\ud800-\udfff"  # surrogates: no encoding takes them
    "]"
)


def plain(text: str) -> str:
    """Return the text with every control character escaped, as JSON would write it, and in one line."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def why(error: OSError | ValueError) -> str:
    """Return why a file can't be read, without Python's error number and without the name, which is said before."""
    return getattr(error, "strerror", None) or str(error)
