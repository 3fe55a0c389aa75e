"""Dates and spans of time as text: RFC 3339 for tools, plain words for people."""

from datetime import UTC, datetime

LAST = 253_402_300_799.0
"""The last second of the year 9999, in Unix time."""


def rfc3339(seconds: float) -> str:
    """Return a Unix time as an RFC 3339 time with milliseconds: from 1970 to 9999, whatever is asked for."""
    return (
        datetime.fromtimestamp(min(max(seconds, 0.0), LAST), UTC)
        .isoformat(timespec="milliseconds")
        .removesuffix("+00:00")
        + "Z"
    )


def unix(text: str) -> float:
    """Return an RFC 3339 time as a Unix time. Raises: ValueError if it is none."""
    return datetime.fromisoformat(text).timestamp()


def clock(text: str, now: str) -> str:
    """Return an RFC 3339 time as people write it, without the date if it is of the same day as now."""
    day, time = text[:10], f"{text[11:19]} UTC"
    return time if day == now[:10] else f"{day} {time}"


def ticking(seconds: float) -> str:
    """Return a length of time as a clock that runs shows it: `44 s`, `8:20`, `1:58:03`."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{rest:02}"
    return f"{minutes}:{rest:02}" if minutes else f"{rest} s"


def span(seconds: float) -> str:
    """Return a length of time in words, with the two largest of its units: `4 min 12 s`."""
    whole = max(0, round(seconds))
    parts = []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        number, whole = divmod(whole, length)
        parts.append(f"{number} {unit}" if number else "")
    first = next((place for place, part in enumerate(parts) if part), None)
    if first is None:
        return "0 s" if seconds <= 0 else "less than 1 s"
    return " ".join(filter(None, parts[first : first + 2]))
