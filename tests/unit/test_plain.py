"""Text from others, made safe to print."""

import pytest

from bouncer.plain import plain, why


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("", ""),
        ("agent-AJ_1", "agent-AJ_1"),
        ("Zoë 🎧 東京", "Zoë 🎧 東京"),
        ("two\nlines", "two\\u000alines"),
        ("\x1b[31mred", "\\u001b[31mred"),
        ("\x9b31mred", "\\u009b31mred"),
        ("del\x7f", "del\\u007f"),
        ("abc\u202edcba", "abc\\u202edcba"),
        ("\u2066isolated\u2069", "\\u2066isolated\\u2069"),
        ("line\u2028separator", "line\\u2028separator"),
        ("half a pair \ud83d", "half a pair \\ud83d"),
    ],
)
def test_control_characters_are_escaped_and_every_script_stays(text: str, printed: str) -> None:
    """C0, C1, DEL, bidirectional marks, separators and surrogates; nothing else changes."""
    assert plain(text) == printed
    assert plain(plain(text)) == printed


def test_why_a_file_cannot_be_read_has_no_number() -> None:
    """The system's words alone; what isn't the system's keeps its own."""
    assert why(FileNotFoundError(2, "No such file or directory", "room.json")) == "No such file or directory"
    assert why(ValueError("embedded null byte")) == "embedded null byte"
