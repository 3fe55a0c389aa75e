"""Removing somebody, and proving it. One attempt at a time: what failed is decided on anew.

LiveKit removes by identity, never by sid, so right before the removal the server's list is read once more: if the
identity has another sid by now, somebody else has it, and we stand back. So we do if the list shows somebody, a human
say, on whose account it is due no longer. A removal counts when the participant is seen gone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from bouncer.api import ApiError, RoomApi, Trouble
from bouncer.decide import Finding
from bouncer.events import Info
from bouncer.history import Outcome

PROOF_WITHIN = (0.05, 0.2, 0.75, 2.0)
"""Seconds to wait for the leaving to be announced before the server is asked, again and again. LiveKit announces a
participant that published nothing up to 3 s late."""
IN_FLIGHT = 8
"""Evictions in one room that run side by side; 40 at once take 0.2 s of API that way (measured)."""


class Evictor(Protocol):
    """Carries out what was decided."""

    sends: bool
    """Whether it sends removals, which count against the budget of a minute."""

    async def evict(self, finding: Finding) -> Outcome:
        """Make one attempt. Never raises for what the server or the participant does."""


class DryRun:
    """Evicts nobody and says so."""

    sends = False

    async def evict(self, finding: Finding) -> Outcome:  # noqa: ARG002 - the Evictor's signature
        """Do nothing."""
        return Outcome.WOULD


class Remover:
    """Evicts through LiveKit's server API."""

    sends = True

    def __init__(
        self,
        api: RoomApi,
        *,
        look: Callable[[], Awaitable[Iterable[Info]]],
        still_due: Callable[[Finding], bool],
        sent: Callable[[Finding], None],
        absent: Callable[[str, float], Awaitable[bool]],
        leave_within: Callable[[Finding], float],
        troubled: Callable[[ApiError], None],
    ) -> None:
        """Make an evictor for one room.

        `look` reads who is in the room; `still_due` says whether by that a finding holds at this moment; `sent` is told
        of each removal that goes out; `absent(sid, seconds)` waits that long for a participant to be seen gone, and
        says whether it is; `leave_within` is how many seconds an agent gets to leave once its dispatch is deleted, 0
        where that may not be; `troubled` is told why an attempt failed.
        """
        self._api = api
        self._look = look
        self._still_due = still_due
        self._sent = sent
        self._absent = absent
        self._leave_within = leave_within
        self._troubled = troubled
        self._slots = asyncio.Semaphore(IN_FLIGHT)

    async def evict(self, finding: Finding) -> Outcome:
        """Look again; if it is still the same and still due, end its job or remove it, and see it gone."""
        who = finding.participant
        async with self._slots:
            try:
                refused = await self._recheck(finding)
                if refused:
                    return refused
                self._sent(finding)
                if within := self._leave_within(finding):
                    await self._api.delete_dispatch(who.dispatch)
                    if await self._absent(who.sid, within):
                        return Outcome.LEFT
                    refused = await self._recheck(finding)
                    if refused:
                        return Outcome.LEFT if refused is Outcome.GONE else refused
                if not await self._api.remove_participant(who.identity):
                    return Outcome.GONE
                return Outcome.REMOVED if await self._is_gone(finding) else Outcome.FAILED
            except ApiError as error:
                self._troubled(error)
                return Outcome.DENIED if error.trouble is Trouble.DENIED else Outcome.FAILED

    async def _recheck(self, finding: Finding) -> Outcome | None:
        """Look at the room once more; how the eviction ends if it must not go on.

        Not at the participant alone: who publishes nothing is announced up to 3 s late, and others count too.
        """
        who = finding.participant
        there = {info.identity: info.sid for info in await self._look()}
        if who.identity not in there:
            return Outcome.GONE
        if there[who.identity] != who.sid or not self._still_due(finding):
            return Outcome.VOID
        return None

    async def _is_gone(self, finding: Finding) -> bool:
        who = finding.participant
        for within in PROOF_WITHIN:
            if await self._absent(who.sid, within):
                return True
            there = await self._api.get_participant(who.identity)
            if there is None or there.sid != who.sid:
                return True
        return False
