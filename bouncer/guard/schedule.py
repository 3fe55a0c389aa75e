"""When what is next: the named schedules of a guarded room. Pure; every method takes `now`.

A schedule only dates things. What is done at these dates, and whether it may be done, is the watch's business.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from bouncer.room import Instant

LIST_APART = 0.5
"""Seconds between two lists when much happens: a crowd that joins must not spend the calls that evictions need."""
STANDBY_LIST = 5.0
"""Longest wait, in seconds, between a standby's lists: nothing else shows it that the older bouncer has gone."""
POSTPONED_FOR = 15.0
"""Seconds that a list may be postponed because this worker is out of calls.

Lists are the only way in which a standby learns that it must act, so they may exceed the budget: by at most four per
minute and room.
"""
SILENT_FOR = 30.0
"""Seconds without an answered list after which being out of calls is reported: the room is as good as unguarded."""
CLAIM_FOR = 20.0
"""Seconds without an answered list after which the room isn't claimed any longer, where lists are that frequent. Lists
that this worker has no calls for get POSTPONED_FOR on top."""
SURPLUS_FOR = 25.0
"""Seconds that surplus bouncers must have been there before they are sent away: a killed one is listed for 20 to 23."""

Jitter = Callable[[str], float]
"""Gives numbers in [0, 1), from a stream of its own for each purpose, so that rooms don't act in step."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Ever longer pauses between attempts at something that fails: doubled each time, and spread by a fifth."""

    first: float
    """Seconds."""
    longest: float
    """Seconds."""

    def pause(self, failures: int, chance: float) -> float:
        """Return the seconds to wait after that many failures in a row; `chance` is in [0, 1)."""
        return min(self.first * 2.0 ** min(failures - 1, 16), self.longest) * spread(chance)


def spread(chance: float) -> float:
    """Return a factor between 0.8 and 1.2."""
    return 0.8 + 0.4 * chance


IN_VAIN = Backoff(0.02, 5.0)
"""Pauses after a list that was read for an eviction and called it off. The first is short: a list may lack someone who
has just been announced. An agent or a guest that makes one due again and again caused 1,851 lists a minute."""


@dataclass(slots=True)
class Listing:
    """When the server's list is read."""

    answered_at: Instant
    """When a list was last answered; at first, when the watch began."""
    answered: bool = False
    """True if a list was ever answered."""
    next_at: Instant = 0.0
    """When the next list is due, unless an eviction needs one first."""
    last_at: Instant = -math.inf
    """When the last list was asked for."""
    not_before: Instant = 0.0
    """Before this instant no urgent list is asked for either: the last one failed, or led to nothing."""
    in_vain: int = 0
    """How many urgent lists in a row led to nothing."""
    postponed_at: Instant = math.inf
    """Since when lists have been refused because this worker is out of calls; infinity while they aren't."""

    def soon(self, now: Instant, after: float = 0.0) -> None:
        """Bring the next list forward to that many seconds from now, but keep lists apart."""
        self.next_at = min(self.next_at, max(now + after, self.last_at + LIST_APART))

    def begin(self, now: Instant, every: float, chance: float) -> None:
        """Note that a list is asked for. The next one follows in about `every` seconds."""
        self.last_at = now
        self.next_at = now + every * (0.9 + 0.2 * chance)

    def overdue(self, now: Instant) -> bool:
        """Return True if lists have been postponed for so long that one must go, budget or not."""
        return now >= self.postponed_at + POSTPONED_FOR

    def succeed(self, now: Instant) -> None:
        """Note that a list was answered."""
        self.answered, self.answered_at, self.postponed_at = True, now, math.inf

    def retry(self, now: Instant, pause: float) -> None:
        """After a failed list, ask for none until the pause is over, and then for one."""
        self.not_before = self.next_at = now + pause

    def led_to(self, now: Instant, chance: float, *, something: bool) -> None:
        """Note if an urgent list led to an eviction. Each that leads to nothing makes the next one wait longer."""
        self.in_vain = 0 if something else self.in_vain + 1
        if self.in_vain:
            self.not_before = now + IN_VAIN.pause(self.in_vain, chance)

    def postpone(self, now: Instant, pause: float, asked_at: Instant) -> None:
        """This worker had no call left for a list. Where an agent is due, an urgent one may still go."""
        self.postponed_at = min(self.postponed_at, asked_at)
        self.next_at = min(now + pause, self.postponed_at + POSTPONED_FOR)

    def stale(self, now: Instant, every: float) -> bool:
        """Return True if lists, which should be answered about `every` seconds, have gone unanswered for too long."""
        postponed = POSTPONED_FOR if self.postponed_at < math.inf else 0.0
        return now - self.answered_at > max(CLAIM_FOR, 1.2 * every) + postponed

    def silent(self, now: Instant) -> bool:
        """Return True if no list has been answered for too long."""
        return now - self.answered_at > SILENT_FOR


@dataclass(slots=True)
class Surplus:
    """When surplus bouncers are sent away: they must have been too many for a while."""

    at: Instant | None = None

    def clear(self) -> None:
        """There are none, or they have just been sent away."""
        self.at = None

    def wait(self, now: Instant) -> float:
        """There are some. Return the seconds until they are to be sent away; 0 or less if that is now."""
        self.at = self.at or now + SURPLUS_FOR
        return self.at - now
