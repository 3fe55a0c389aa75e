"""How accurate hearing is: what a listener hears in a room, compared with what was played there.

`make accuracy` runs it, in a minute and a half. Several people play recorded speech, noise, tones and music at several
levels, each in an order of its own with silence in between, through a real server to one listener for each hearing
mode. One clock dates both, so delays include the way through the server.
"""

import asyncio
import random
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from math import inf

from livekit import rtc
from rich.console import Console
from rich.table import Table

from benchmarks.listener import Detection, Told, listener, token
from devserver import Server, own_server
from tests.microphone import Microphone, Played
from tests.sounds import NOISES, SPEECH, Sound, at, speech, white

ROOM = "accuracy"
PEOPLE = 6
DETECTIONS: tuple[Detection, ...] = ("level", "speech", "speech, native")
SPEECH_DB = (-10, -15, -20, -25, -30, -35, -40, -45)
NOISE_DB = (-15, -25, -35, -45)
"""Mean power in dB of full scale."""
NOISE_SECONDS = 3.0
APART = 2.5
"""Seconds between the sounds of one person: longer than any mode takes to end an utterance."""
NEAR = 1.0
"""Seconds that an event may be early or late and still belong to a sound."""

console = Console()


@dataclass(frozen=True, slots=True)
class Item:
    """A sound that a person plays at some time."""

    name: str
    db: int
    is_speech: bool

    @property
    def sound(self) -> Sound:
        """Its samples."""
        return at(speech(self.name) if self.is_speech else NOISES[self.name](NOISE_SECONDS), self.db)


@dataclass(frozen=True, slots=True)
class Heard:
    """A period in which a person was heard speaking."""

    began: Told
    ended: Told


@dataclass(frozen=True, slots=True)
class Answer:
    """What was heard of a sound."""

    item: Item
    played: Played
    heard: Sequence[Heard]


@dataclass(slots=True)
class Score:
    """The results of one hearing mode."""

    speech: list[Answer] = field(default_factory=list)
    noise: list[Answer] = field(default_factory=list)
    nothing: list[Heard] = field(default_factory=list)
    """Periods heard although nothing was played."""

    @property
    def found(self) -> list[Answer]:
        """The utterances that were found."""
        return [answer for answer in self.speech if answer.heard]

    @property
    def recall(self) -> float:
        """The share of the utterances that were found."""
        return len(self.found) / len(self.speech)

    @property
    def precision(self) -> float:
        """The share of the heard periods that were utterances."""
        true = sum(len(answer.heard) for answer in self.found)
        return true / (true + sum(len(answer.heard) for answer in self.noise) + len(self.nothing))

    def add(self, played: Iterable[tuple[Item, Played]], heard: Iterable[Heard]) -> None:
        """Add what one person played, and what was heard of it."""
        left = list(heard)
        for item, when in played:
            about = [h for h in left if h.began.at <= when.ended + NEAR and h.ended.at >= when.began - NEAR]
            left = [h for h in left if h not in about]
            (self.speech if item.is_speech else self.noise).append(Answer(item, when, about))
        self.nothing += left


def timetables() -> list[list[Item]]:
    """Return what each person plays, in order; the same in every run."""
    items = [Item(name, db, is_speech=True) for name in SPEECH for db in SPEECH_DB]
    items += [Item(name, db, is_speech=False) for name in NOISES for db in NOISE_DB]
    random.Random(1).shuffle(items)  # noqa: S311 - it is no secret
    return [items[first::PEOPLE] for first in range(PEOPLE)]


async def play(server: Server, identity: str, items: Iterable[Item], begin: asyncio.Event) -> list[tuple[Item, Played]]:
    """Join and play all of this, with silence or a faint hiss in between."""
    room = rtc.Room()
    await room.connect(server.url, token(server, ROOM, identity), rtc.RoomOptions(auto_subscribe=False))
    microphone = Microphone(room)
    if int(identity) % 2:
        microphone.sends(at(white(1), -65))
    await microphone.publish()
    try:
        await begin.wait()
        played = []
        for item in items:
            await asyncio.sleep(APART)
            played.append((item, await microphone.plays(item.sound)))
        await asyncio.sleep(APART)
    finally:
        await microphone.close()
        await room.disconnect()
    return played


def stretches(told: Iterable[Told]) -> list[Heard]:
    """Return the periods in which a person was heard speaking, from all events about that person in order."""
    found, began = [], None
    for each in told:
        if each.speaking:
            began = each
        elif began:
            found.append(Heard(began, each))
            began = None
    if began:
        found.append(Heard(began, replace(began, at=inf, told_at=inf)))
    return found


def report(scores: Mapping[Detection, Score]) -> None:
    """Print the results."""
    table = Table("speech", *scores, caption="seconds: the median, and what 95 % and what all are within")
    table.add_row("utterances found", *(f"{len(s.found)} of {len(s.speech)}" for s in scores.values()))
    table.add_row("recall", *(f"{s.recall:.1%}" for s in scores.values()))
    table.add_row("precision", *(f"{s.precision:.1%}" for s in scores.values()))
    table.add_row("told in pieces", *(str(sum(len(a.heard) > 1 for a in s.found)) for s in scores.values()))
    table.add_section()
    delays: Mapping[str, Callable[[Answer], float]] = {
        "start, wrong by": lambda a: a.heard[0].began.at - a.played.began,
        "end, wrong by": lambda a: a.heard[-1].ended.at - a.played.ended,
        "start, told after": lambda a: a.heard[0].began.told_at - a.played.began,
        "end, told after": lambda a: a.heard[-1].ended.told_at - a.played.ended,
    }
    for name, delay in delays.items():
        table.add_row(name, *(spread(map(delay, s.found)) for s in scores.values()))
    console.print(table)

    table = Table("told as speech", *scores)
    for name in NOISES:
        noises = [[a for a in s.noise if a.item.name == name] for s in scores.values()]
        table.add_row(f"{NOISE_SECONDS:g} s of {name}", *map(mistaken, noises))
    table.add_row("nothing", *(str(len(s.nothing)) for s in scores.values()))
    console.print(table)
    for hearing, score in scores.items():
        for missed in (answer.item for answer in score.speech if not answer.heard):
            console.print(f"{hearing}: did not find {missed.name} at {missed.db} dB")


def mistaken(noises: Sequence[Answer]) -> str:
    """Return how many of these were taken for speech, and for how long in total."""
    seconds = sum(heard.ended.at - heard.began.at for answer in noises for heard in answer.heard)
    return f"{sum(bool(answer.heard) for answer in noises)} of {len(noises)}, {seconds:.1f} s"


def spread(delays: Iterable[float]) -> str:
    """Return in seconds: the median, then the 95th percentile and the worst of the absolute values."""
    seconds = list(delays)
    amounts = sorted(map(abs, seconds))
    return f"{statistics.median(seconds):+.2f} {amounts[int(0.95 * (len(amounts) - 1))]:.2f} {amounts[-1]:.2f}"


async def main() -> None:
    """Play everything to all listeners, compare, and print the results."""
    plan = timetables()
    people = [str(i) for i in range(len(plan))]
    begin = asyncio.Event()
    async with own_server(say=console.print) as server, AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        playing = [tasks.create_task(play(server, *each, begin)) for each in zip(people, plan, strict=True)]
        listeners = {h: await stack.enter_async_context(listener(server, ROOM, h)) for h in DETECTIONS}
        for each in listeners.values():
            await each.knows(*people)
        console.print(f"playing {sum(map(len, plan))} sounds by {len(people)} people")
        begin.set()
        played = await asyncio.gather(*playing)
    scores = {hearing: Score() for hearing in DETECTIONS}
    for hearing, each in listeners.items():
        for person, items in zip(people, played, strict=True):
            scores[hearing].add(items, stretches(told for told in each.told if told.identity == person))
    report(scores)


if __name__ == "__main__":
    asyncio.run(main())
