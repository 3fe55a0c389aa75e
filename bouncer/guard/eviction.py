"""Evicting an agent, and proving it. One attempt at a time: what failed is decided on again.

LiveKit removes by identity, never by sid. So right before the removal we look at a list of the server's that was asked
for since the decision, and isn't old: if the identity has another sid there, another participant has it, and we stand
back. We also stand back if something has become known, such as a person who has just joined, on whose account the
eviction is no longer due. A removal counts once the participant is seen gone.
"""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from bouncer.decide import Finding, Outcome, Rung
from bouncer.events import Info
from bouncer.guard.watch import Ending
from bouncer.ports import ApiError, RemovalApi, Trouble
from bouncer.room import Participant

PROOF_WITHIN = (0.05, 0.2, 0.75, 2.0)
"""Seconds to wait for the leaving to be announced before the server is asked, again and again. LiveKit announces a
participant that published nothing up to 3 s late."""
IN_FLIGHT = 8
"""Evictions in one room whose calls are made at the same time; 40 at once take 0.2 s of API that way (measured)."""

_STILL_THERE = Ending(Outcome.FAILED, f"it is still there after {sum(PROOF_WITHIN):g} s")


class Scene(Protocol):
    """The room in which an eviction takes place, as the evictor sees it."""

    async def look(self, finding: Finding) -> Iterable[Info]:
        """Return who is in the room, by a list asked for since this was decided on, or sent. Raises: ApiError."""

    def still_due(self, finding: Finding) -> bool:
        """Return True if, from what is known now, this eviction would be decided on again."""

    def leave_within(self, finding: Finding) -> float:
        """Return the seconds the agent gets to leave once its dispatch is deleted; 0 if that must not be done."""

    def sent(self, finding: Finding) -> None:
        """Be told, before the end of its dispatch goes out, and before its removal does."""

    async def absent(self, sid: str, within: float) -> bool:
        """Wait that many seconds at most for a participant to be seen gone. Return True if it is."""

    def failing(self, error: ApiError) -> None:
        """Be told why an attempt failed."""


class Evictor(Protocol):
    """Carries out what was decided."""

    async def evict(self, finding: Finding) -> Ending:
        """Make one attempt. Never raises for what the server or the participant does."""


class DryRun:
    """Evicts no one, and says so."""

    async def evict(self, finding: Finding) -> Ending:  # noqa: ARG002 - the Evictor's signature
        """Do nothing."""
        return Ending(Outcome.WOULD)


@dataclass
class _Taken:
    """A step that is being taken; it has worked unless this says otherwise."""

    ok: bool = True


@dataclass
class _Ladder:
    """The steps of one attempt, and how long each took."""

    rungs: list[Rung] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[_Taken]:
        """Take note of a step; one that raises has not worked."""
        now = asyncio.get_running_loop().time
        began, step = now(), _Taken()
        try:
            yield step
        except BaseException:
            step.ok = False
            raise
        finally:
            self.rungs.append(Rung(name, began, now() - began, step.ok))


class Remover:
    """Evicts through LiveKit's server API."""

    def __init__(self, api: RemovalApi, scene: Scene) -> None:
        """Make an evictor for one room."""
        self._api = api
        self._scene = scene
        self._slots = asyncio.Semaphore(IN_FLIGHT)

    async def evict(self, finding: Finding) -> Ending:
        """Look again; if it is the same participant and still due, end its job or remove it, and see it gone."""
        ladder = _Ladder()
        try:
            ended = await self._climb(finding, ladder)
        except ApiError as error:
            self._scene.failing(error)
            denied = error.trouble is Trouble.DENIED
            ended = Ending(Outcome.DENIED if denied else Outcome.FAILED, str(error))
        return replace(ended, rungs=tuple(ladder.rungs))

    async def _climb(self, finding: Finding, ladder: _Ladder) -> Ending:
        who = finding.participant
        async with self._slots:
            if ended := await self._recheck(finding, ladder):
                return ended
            leave_within = self._scene.leave_within(finding)
            if not leave_within:
                return await self._remove(finding, ladder)
            self._scene.sent(finding)
            with ladder.step("dispatch_ended"):
                await self._api.delete_dispatch(who.dispatch)
        # An agent that takes its time to leave delays no other eviction.
        with ladder.step("proven") as proof:
            proof.ok = await self._scene.absent(who.sid, leave_within)
        if proof.ok:
            return Ending(Outcome.LEFT)
        async with self._slots:
            ended = await self._recheck(finding, ladder) or await self._remove(finding, ladder)
            # It left after all.
            return Ending(Outcome.LEFT) if ended.outcome is Outcome.GONE else ended

    async def _recheck(self, finding: Finding, ladder: _Ladder) -> Ending | None:
        """Look at the room right before the removal. Return how the eviction ends if it must not go on.

        The whole room, because a participant that publishes nothing is announced up to 3 s late, and others count too.
        """
        who = finding.participant
        with ladder.step("looked_again"):
            there = {info.identity: info.sid for info in await self._scene.look(finding)}
            # In a cluster one list can miss a participant for a moment; then it proves nothing.
            missed = who.identity not in there and await self._reads_here(who)
        if missed:
            return Ending(Outcome.VOID, "missing from one list but still present")
        if who.identity not in there:
            return Ending(Outcome.GONE)
        if there[who.identity] != who.sid:
            return Ending(Outcome.VOID, "another participant has its identity by now")
        if not self._scene.still_due(finding):
            return Ending(Outcome.VOID, "it is no longer due")
        return None

    async def _remove(self, finding: Finding, ladder: _Ladder) -> Ending:
        self._scene.sent(finding)
        with ladder.step("removed") as removal:
            removal.ok = await self._api.remove_participant(finding.participant.identity)
        if not removal.ok:
            return Ending(Outcome.GONE)
        with ladder.step("proven") as proof:
            proof.ok = await self._is_gone(finding)
        return Ending(Outcome.REMOVED) if proof.ok else _STILL_THERE

    async def _is_gone(self, finding: Finding) -> bool:
        who = finding.participant
        for within in PROOF_WITHIN:
            if await self._scene.absent(who.sid, within) or not await self._reads_here(who):
                return True
        return False

    async def _reads_here(self, who: Participant) -> bool:
        """Return True if the server, asked for this one alone, still shows it."""
        read = await self._api.get_participant(who.identity)
        return read is not None and read.sid == who.sid
