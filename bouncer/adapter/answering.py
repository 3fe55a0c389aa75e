"""A bouncer's answers to those that ask how it sees its room: each proves that it has our API key (bouncer/asking.py).

It costs nothing while no one asks, makes no API call, and takes two hundredths of a core at most: in a room that takes
long to describe, the next answer comes later.
"""

import asyncio
import json
import logging
import time
from base64 import urlsafe_b64decode
from contextlib import suppress
from datetime import timedelta

from livekit import api, rtc

from bouncer.asking import ASK, LONGEST, STATE, Desk, Question, View, changes, parts, read_question
from bouncer.dates import rfc3339
from bouncer.guard.view import snapshot, view
from bouncer.guard.watch import Watch
from bouncer.observers.log_events import LogEvent
from bouncer.observers.recent import Recent
from bouncer.room import Instant

logger = logging.getLogger("bouncer")

EVERY = 1.0
"""Seconds between two updates."""
SHARE = 0.02
"""Of a core, what answers may take."""
ALIVE_EVERY = 2.0
"""Seconds without a change after which the asker is told that there was none."""
LEEWAY = timedelta(seconds=10)
"""How much the asker's clock may be behind ours. A token is valid for a minute."""
SENT_WITHIN = 3.0
"""Seconds for a packet to go out; a connection that is being restored takes none."""
DRIFT = 0.5
"""Seconds by which the system's clock has to move before dates follow: otherwise a view would change with each look."""


class Answers:
    """Answers questions about one room. `run` it while the job runs."""

    def __init__(
        self,
        room: rtc.Room,
        key: tuple[str, str],
        watch: Watch,
        *,
        name: str,
        recent: Recent,
    ) -> None:
        """Make it before the room is connected. `key` is the API key and its secret."""
        self._room = room
        self._verifier = api.TokenVerifier(*key, leeway=LEEWAY)
        self._watch = watch
        self._name = name
        self._recent = recent
        self._loop = asyncio.get_running_loop()
        self._desk = Desk()
        self._asked = asyncio.Event()
        self._told: dict[str, tuple[int, View, Instant]] = {}
        """By question: how many messages it has had, the last view, and when."""
        self._epoch = time.time() - self._loop.time()
        room.on("data_received", self._received)

    async def run(self) -> None:
        """Answer for ever."""
        while True:
            await self._asked.wait()
            began = self._loop.time()
            questions = self._desk.open(began)
            if not questions:
                self._asked.clear()
                self._told.clear()
                continue
            cost = time.thread_time()
            try:
                await self._answer(questions)
            except Exception:
                logger.exception(LogEvent.ANSWER_FAILED)
            cost = time.thread_time() - cost
            await asyncio.sleep(max(EVERY, cost / SHARE))

    def _received(self, packet: rtc.DataPacket) -> None:
        """Take in a question. One with a sender didn't come through the server's API."""
        if packet.topic != ASK or packet.participant is not None:
            return
        if (read := read_question(packet.data)) is None:
            return
        question, token = read
        for_us = question.to == self._room.local_participant.identity
        now = self._loop.time()
        if not for_us or not self._desk.may_verify(now) or not self._proves(question, token):
            return
        if self._desk.accept(question, now):
            logger.debug(LogEvent.ASKED, extra={"lk.pii.participant_identity": question.reply_to})
            self._asked.set()

    def _proves(self, question: Question, token: str) -> bool:
        """Return True if the token was made for this question with our API key, and allows nothing else."""
        try:
            claims = self._verifier.verify(token)
            expires = json.loads(urlsafe_b64decode(token.split(".")[1] + "=="))["exp"]
        except Exception:  # noqa: BLE001 - whatever the libraries make of a token that isn't one
            return False
        lasts = expires - time.time() <= LONGEST + LEEWAY.total_seconds()
        bare = claims.video == api.VideoGrants()
        return bool(bare and lasts and claims.identity == question.reply_to and claims.sha256 == question.sha256)

    async def _answer(self, questions: tuple[Question, ...]) -> None:
        now = self._loop.time()
        sid = await self._room.sid
        seen = {
            **view(snapshot(self._watch, now, name=self._name, sid=sid), self._date),
            "recent": self._recent.latest(),
        }
        self._told = {each.id: self._told[each.id] for each in questions if each.id in self._told}
        for question in questions:
            if question.room_sid != sid:
                continue
            number, before, told_at = self._told.get(question.id, (0, {}, now))
            change = changes(before, seen)
            if number and not change and now - told_at < ALIVE_EVERY:
                continue
            message = {"at": self._date(now), **({"changed": change} if number else {"view": seen})}
            self._told[question.id] = number + 1, seen, now
            with suppress(Exception):  # the line is down, or the asker has gone; it asks again
                async with asyncio.timeout(SENT_WITHIN):
                    await self._send(question, number, message)

    async def _send(self, question: Question, number: int, message: View) -> None:
        for packet in parts(question.id, number, message):
            await self._room.local_participant.publish_data(
                packet, reliable=True, destination_identities=[question.reply_to], topic=STATE
            )

    def _date(self, instant: Instant) -> str:
        """Return the date of an instant, by the system's clock."""
        epoch = time.time() - self._loop.time()
        if abs(epoch - self._epoch) > DRIFT:
            self._epoch = epoch
        return rfc3339(self._epoch + instant)
