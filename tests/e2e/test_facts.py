"""The facts behind policies, on a real server: their dates match the speech that was played."""

import asyncio
from collections.abc import AsyncIterator
from typing import Literal

import pytest
import pytest_asyncio

from bouncer import Participant, Room
from bouncer.events import Connected, Info
from bouncer.room import Kind
from bouncer.tracker import Tracker
from tests.e2e.listener import Listener, listening
from tests.e2e.world import Member, World
from tests.microphone import Microphone, Played
from tests.sounds import NOISES, Sound, at, pink, speech

pytestmark = pytest.mark.realtime

PRECISION = 0.5 + 0.55
"""Seconds that a date may be wrong: half a second, plus the silence that ends an utterance for Silero."""


class Company:
    """A human and two agents that are listened to, and what is known about them."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self._infos: list[Info] = []
        self._microphones: dict[str, Microphone] = {}

    async def add(self, member: Member, kind: Kind, *, hiss: float) -> None:
        """Add a participant whose microphone hisses."""
        self._infos.append(Info(sid=member.sid, identity=member.identity, kind=kind, audio=True))
        self._microphones[member.identity] = await self.listener.microphone(member, at(pink(1), hiss))
        await self.listener.comes_to(member, "silent")

    async def says(self, identity: str, utterance: str, db: float) -> Played:
        """Let a participant speak."""
        return await self.plays(identity, at(speech(utterance), db))

    async def plays(self, identity: str, sound: Sound) -> Played:
        """Play this through a participant's microphone."""
        return await self._microphones[identity].plays(sound)

    def room(self) -> Room:
        """Return the room as known from what was heard so far."""
        tracker = Tracker()
        tracker.apply(Connected(0.0, Info(sid="PA_me", identity="me", kind=Kind.AGENT), tuple(self._infos)))
        for heard in self.listener.told:
            tracker.apply(heard)
        return tracker.room()

    def __getitem__(self, identity: str) -> Participant:
        return next(p for p in self.room().participants if p.identity == identity)

    async def speaks(self, identity: str) -> float:
        """Wait until a participant is known to speak, and return since when."""
        await self.listener.sees(lambda: self[identity].speaking_since is not None, f"{identity} speaks")
        since = self[identity].speaking_since
        assert since is not None
        return since

    async def spoke(self, identity: str) -> float:
        """Wait until a participant is known to have stopped speaking, and return when."""

        def ended() -> float | None:
            known = self[identity]
            return known.spoke_at if known.speaking_since is None else None

        await self.listener.sees(lambda: ended() is not None, f"{identity} has ended")
        at = ended()
        assert at is not None
        return at


@pytest_asyncio.fixture(loop_scope="session", params=["level", "speech"])
async def company(
    request: pytest.FixtureRequest, lobby: World, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Company]:
    """Ana, and the agents A and B."""
    hearing: Literal["level", "speech"] = request.param
    async with listening(lobby, hearing, caplog) as listener:
        company = Company(listener)
        await company.add(await lobby.human("ana"), Kind.STANDARD, hiss=-65)
        await company.add(await lobby.agent("A", name="support"), Kind.AGENT, hiss=-80)
        await company.add(await lobby.agent("B", name="billing"), Kind.AGENT, hiss=-70)
        yield company


def is_at(fact: float | None, date: float) -> bool:
    """Return True if a fact has this date, within the tolerance."""
    return fact is not None and abs(fact - date) < PRECISION


async def test_a_question_and_its_answer(company: Company) -> None:
    """Facts show who is speaking since when, who has spoken, and who has not answered since when."""
    async with asyncio.TaskGroup() as talk:
        asking = talk.create_task(company.says("ana", "table", -20))
        asks_since = await company.speaks("ana")
    asked = asking.result()
    assert is_at(asks_since, asked.began)
    assert is_at(await company.spoke("ana"), asked.ended)
    assert is_at(company["A"].unanswered_since, asked.ended)
    assert is_at(company["B"].unanswered_since, asked.ended)

    async with asyncio.TaskGroup() as talk:
        answering = talk.create_task(company.says("A", "flight", -35))
        answers_since = await company.speaks("A")
    answered = answering.result()
    assert is_at(answers_since, answered.began)
    assert is_at(await company.spoke("A"), answered.ended)
    assert is_at(company["A"].active_at, answered.ended)
    assert company["A"].unanswered_since is None
    assert is_at(company["B"].unanswered_since, asked.ended)

    await company.says("ana", "yes", -30)
    await company.listener.sees(lambda: company["A"].unanswered_since is not None, "ana said another thing")
    assert is_at(company["B"].unanswered_since, asked.ended)


async def test_agents_among_themselves(company: Company) -> None:
    """Facts show since when two agents talk without a human, since when simultaneously, and that a human ends it."""
    first = await company.says("A", "weather", -15)
    await company.spoke("A")
    assert is_at(company["A"].chatting_since, first.began)
    assert company.room().chatter_since is None

    second = await company.says("B", "hurry", -40)
    await company.spoke("B")
    assert is_at(company.room().chatter_since, second.began)

    async with asyncio.TaskGroup() as talk:
        over = [talk.create_task(company.says("A", "train", -25))]
        await asyncio.sleep(1)
        over.append(talk.create_task(company.says("B", "table", -25)))
        since = [await company.speaks("A"), await company.speaks("B")]
        at_once = all(company[identity].speaking_since for identity in "AB")
    assert at_once
    assert all(is_at(fact, played.result().began) for fact, played in zip(since, over, strict=True))
    assert is_at(max(since), over[1].result().began)
    assert is_at(company.room().chatter_since, second.began)

    await company.says("ana", "yes", -20)
    await company.listener.sees(lambda: company.room().chatter_since is None, "ana said something")


@pytest.mark.parametrize("company", ["speech"], indirect=True)
async def test_noise_changes_nothing(company: Company) -> None:
    """Noise and tones, faint or loud, are no question, no answer and no activity."""
    asked = await company.says("ana", "table", -20)
    await company.spoke("ana")
    asked_until, active_at = company["A"].unanswered_since, company["A"].active_at
    assert is_at(asked_until, asked.ended)

    for name, db in (("white", -35), ("pink", -15), ("tone", -25), ("white", -20)):
        await asyncio.sleep(2)
        await asyncio.gather(*(company.plays(who, at(NOISES[name](2), db)) for who in ("ana", "A", "B")))
    await asyncio.sleep(2)
    assert is_at(company["ana"].spoke_at, asked.ended)
    for agent in (company["A"], company["B"]):
        assert (agent.speaking_since, agent.spoke_at, agent.chatting_since) == (None, None, None)
        assert agent.unanswered_since == asked_until
    assert company["A"].active_at == active_at

    answered = await company.says("A", "flight", -30)
    assert is_at(await company.spoke("A"), answered.ended)
    assert company["A"].unanswered_since is None
