"""The state of each room as the gatekeeper sees it: the standings, the signs, and the table that joins them."""

from collections.abc import Mapping
from enum import StrEnum


class Standing(StrEnum):
    """How it stands with one room's sid. A room that has closed has none."""

    UNWANTED = "unwanted"
    """Not to be guarded: its name isn't chosen, its mode is off, or it is a ghost that our own dispatch made."""
    UNNEEDED = "unneeded"
    """A bouncer would have nothing to do there, and none is there."""
    UNKNOWN = "unknown"
    """Nothing says whether a bouncer is there."""
    WANTED = "wanted"
    """No bouncer is there, and it is to be dispatched."""
    DISPATCHED = "dispatched"
    """A bouncer was dispatched, by us or by someone else, and hasn't arrived."""
    GUARDED = "guarded"
    """A bouncer is there."""
    LOST = "lost"
    """Its bouncer left. After a pause, in which its worker may replace it, we look again."""
    REFUSED = "refused"
    """A dispatch failed or brought no bouncer. After a pause, there is another one."""


class Sign(StrEnum):
    """What changes a standing."""

    CHOSEN = "chosen"
    PASSED_OVER = "passed over"
    """Its name, its mode or its origin speaks against a bouncer."""
    UNNEEDED = "unneeded"
    """The engine says that a bouncer would have nothing to do there, and none is there."""
    STARTED = "started"
    """A webhook says that it has just begun."""
    ARRIVED = "arrived"
    """A bouncer is there."""
    ABSENT = "absent"
    """The last bouncer left, or a list shows none."""
    PENDING = "pending"
    """A dispatch is listed that may still bring a bouncer."""
    SENT = "sent"
    """We dispatched a bouncer."""
    FAILED = "failed"
    """LiveKit made no dispatch, or its bouncer is overdue and a list shows none."""
    DUE = "due"
    """The pause is over."""


_IDLE = {Sign.UNNEEDED: Standing.UNNEEDED}
_ALWAYS = {Sign.PASSED_OVER: Standing.UNWANTED, Sign.ARRIVED: Standing.GUARDED}

TRANSITIONS: Mapping[Standing, Mapping[Sign, Standing]] = {
    Standing.UNWANTED: {Sign.CHOSEN: Standing.UNKNOWN},
    Standing.UNNEEDED: {**_ALWAYS, Sign.CHOSEN: Standing.UNKNOWN},
    Standing.UNKNOWN: {**_ALWAYS, **_IDLE, Sign.STARTED: Standing.WANTED, Sign.ABSENT: Standing.WANTED},
    Standing.WANTED: {
        **_ALWAYS,
        **_IDLE,
        Sign.PENDING: Standing.DISPATCHED,
        Sign.SENT: Standing.DISPATCHED,
        Sign.FAILED: Standing.REFUSED,
    },
    Standing.DISPATCHED: {**_ALWAYS, Sign.FAILED: Standing.REFUSED},
    Standing.GUARDED: {Sign.PASSED_OVER: Standing.UNWANTED, Sign.ABSENT: Standing.LOST, **_IDLE},
    Standing.LOST: {**_ALWAYS, **_IDLE, Sign.DUE: Standing.UNKNOWN},
    Standing.REFUSED: {**_ALWAYS, **_IDLE, Sign.DUE: Standing.WANTED},
}
"""A sign that a standing doesn't list changes nothing."""


def after(standing: Standing, sign: Sign) -> Standing:
    """Return the standing after a sign."""
    return TRANSITIONS[standing].get(sign, standing)
