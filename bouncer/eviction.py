"""Removing somebody, and proving it. One attempt at a time: what failed is decided on anew.

LiveKit removes by identity, never by sid, so right before the removal the server's list is read once more: if the
identity has another sid by now, somebody else has it, and we stand back. So we do if the list shows somebody, a human
say, on whose account it is due no longer. A removal counts when the participant is seen gone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple, Protocol

from bouncer.api import ApiError, RoomApi, Trouble
from bouncer.decide import Finding
from bouncer.events import Info
from bouncer.history import Outcome

PROOF_WITHIN = (0.05, 0.2, 0.75, 2.0)
"""Seconds to wait for the leaving to be announced before the server is asked, again and again. LiveKit announces a
participant that published nothing up to 3 s late."""
IN_FLIGHT = 8
"""Evictions in one room whose calls are made side by side; 40 at once take 0.2 s of API that way (measured)."""


class Ending(NamedTuple):
    """How an attempt ended, and why, where that isn't plain."""

    outcome: Outcome
    why: str = ""


_STILL_THERE = Ending(Outcome.FAILED, f"it is still there after {sum(PROOF_WITHIN):g} s")


class Evictor(Protocol):
    """Carries out what was decided."""

    sends: bool
    """Whether it sends removals, which count against the budget of a minute."""

    async def evict(self, finding: Finding) -> Ending:
        """Make one attempt. Never raises for what the server or the participant does."""


class DryRun:
    """Evicts nobody and says so."""

    sends = False

    async def evict(self, finding: Finding) -> Ending:  # noqa: ARG002 - the Evictor's signature
        """Do nothing."""
        return Ending(Outcome.WOULD)


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
        as its dispatch is deleted, and as it is removed; `absent(sid, seconds)` waits that long for a participant to be
        seen gone, and says whether it is; `leave_within` is how many seconds an agent gets to leave once its dispatch
        is deleted, 0 where that may not be; `troubled` is told why an attempt failed.
        """
        self._api = api
        self._look = look
        self._still_due = still_due
        self._sent = sent
        self._absent = absent
        self._leave_within = leave_within
        self._troubled = troubled
        self._slots = asyncio.Semaphore(IN_FLIGHT)

    async def evict(self, finding: Finding) -> Ending:
        """Look again; if it is still the same and still due, end its job or remove it, and see it gone."""
        try:
            async with self._slots:
                if ended := await self._recheck(finding):
                    return ended
                leave_within = self._leave_within(finding)
                if not leave_within:
                    return await self._remove(finding)
                self._sent(finding)
                await self._api.delete_dispatch(finding.participant.dispatch)
            # Those who take their time to leave delay nobody else.
            if await self._absent(finding.participant.sid, leave_within):
                return Ending(Outcome.LEFT)
            async with self._slots:
                ended = await self._recheck(finding) or await self._remove(finding)
                # It left after all.
                return Ending(Outcome.LEFT) if ended.outcome is Outcome.GONE else ended
        except ApiError as error:
            self._troubled(error)
            denied = error.trouble is Trouble.DENIED
            return Ending(Outcome.DENIED if denied else Outcome.FAILED, str(error))

    async def _recheck(self, finding: Finding) -> Ending | None:
        """Look at the room once more; how the eviction ends if it must not go on.

        Not at the participant alone: who publishes nothing is announced up to 3 s late, and others count too.
        """
        who = finding.participant
        there = {info.identity: info.sid for info in await self._look()}
        if who.identity not in there:
            # One list can lack somebody for a moment; then it proves nothing.
            read = await self._api.get_participant(who.identity)
            here = read is not None and read.sid == who.sid
            return Ending(Outcome.VOID, "one list lacked it, and it is here") if here else Ending(Outcome.GONE)
        if there[who.identity] != who.sid:
            return Ending(Outcome.VOID, "another participant has its identity by now")
        if not self._still_due(finding):
            return Ending(Outcome.VOID, "it is no longer due")
        return None

    async def _remove(self, finding: Finding) -> Ending:
        self._sent(finding)
        if not await self._api.remove_participant(finding.participant.identity):
            return Ending(Outcome.GONE)
        return Ending(Outcome.REMOVED) if await self._is_gone(finding) else _STILL_THERE

    async def _is_gone(self, finding: Finding) -> bool:
        who = finding.participant
        for within in PROOF_WITHIN:
            if await self._absent(who.sid, within):
                return True
            there = await self._api.get_participant(who.identity)
            if there is None or there.sid != who.sid:
                return True
        return False
