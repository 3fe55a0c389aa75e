"""What the log and the room are told."""

import asyncio
import json
import logging
from typing import Any

import pytest

from bouncer.api import ApiError, Trouble
from bouncer.config import Config, ConfigError, Layer, Problem, load
from bouncer.decide import Decision, Fault, Finding, Held, Hold
from bouncer.history import Outcome
from bouncer.observers import (
    Configured,
    Decided,
    Evicted,
    Faulted,
    HeldBack,
    News,
    Noticed,
    Refused,
    Reported,
    Troubled,
)
from bouncer.observers.logs import Logs
from bouncer.observers.messages import MAX_WAITING, RoomMessages
from bouncer.policy import Rule, Verdict
from bouncer.room import Room
from bouncer.testing import agent
from policies import BUILTIN
from policies.idle_timeout import IdleTimeout

PACKET = 15 * 1024
"""Bytes that a reliable data packet may have."""
ROOM, IDENTITY, REASON = "call-with-ana", "agent-of-ana", "did nothing for 60 s"


def finding(due: float = 100, *, reason: str = REASON, doubt: str = "", index: int = 0, **facts: Any) -> Finding:
    """An idle agent that has to be out by then."""
    who = agent(facts.pop("identity", IDENTITY), facts.pop("name", "assistant"), **{"sid": "PA_1", **facts})
    return Finding(Verdict(who, due, reason, doubt), Rule(policy=IdleTimeout(timeout=60), index=index))


def refused(*problems: Problem, kept: Config | None = None) -> Refused:
    """A configuration with these problems."""
    return Refused(ConfigError(problems or [Problem("room metadata", "$.bouncer.mode", "must be right")]), kept)


def configured(**bouncer: Any) -> Configured:
    """Room metadata with this under our key is in force."""
    return Configured(load([Layer("room metadata", json.dumps({"bouncer": bouncer}), shared=True)], BUILTIN))


def decided(at: float, *pending: Finding) -> Decided:
    """The room was looked at, and that is what comes later."""
    return Decided(at, Room(), Decision(pending=pending))


ABOUT = {"sid": "PA_1", "agent_name": "assistant", "policy": "idle_timeout", "reason": REASON}
LOGGED = ABOUT | {"lk.pii.participant_identity": IDENTITY}
SENT = ABOUT | {"identity": IDENTITY, "mode": "enforce"}
FAULT = Faulted(Fault(finding().rule, "ZeroDivisionError: division by zero"))
TROUBLE = Troubled("listing the participants", ApiError(Trouble.UNAVAILABLE, "no answer"))


class TestLogs:
    """One record per thing that happened: a static event name, the facts beside it."""

    @pytest.fixture(autouse=True)
    def _everything(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, "bouncer")
        self.log = caplog

    def records(self, *news: News) -> list[tuple[str, str, dict[str, Any]]]:
        """What one room's observer logs: level, text, and what is in `extra` besides the room."""
        logs = Logs(ROOM)
        self.log.clear()
        for each in news:
            logs.notify(each)
        usual = logging.makeLogRecord({}).__dict__.keys() | {"message", "taskName"}
        records = []
        for record in self.log.records:
            extra = {key: value for key, value in record.__dict__.items() if key not in usual}
            assert (record.name, extra.pop("lk.pii.room_name")) == ("bouncer", ROOM)
            records.append((record.levelname, record.getMessage(), extra))
        return records

    @pytest.mark.parametrize(
        ("news", "level", "event", "facts"),
        [
            (Noticed(finding(), 9.87654), "INFO", "notice given", LOGGED | {"due_in": 9.877}),
            (Reported(finding()), "WARNING", "reported", LOGGED),
            (Reported(finding(index=1)), "WARNING", "reported", LOGGED | {"policy": "idle_timeout[1]"}),
            (HeldBack(Hold(finding(), Held.BUDGET)), "WARNING", "held back", LOGGED | {"held_by": "max_per_minute"}),
            (HeldBack(Hold(finding(), Held.EXEMPT)), "INFO", "held back", LOGGED | {"held_by": "exempt"}),
            (
                HeldBack(Hold(finding(doubt="may be at work"), Held.DOUBT)),
                *("WARNING", "held back", LOGGED | {"held_by": "doubt", "doubt": "may be at work"}),
            ),
            *(
                (Evicted(finding(), outcome, 0.12345), level, event, LOGGED | {"outcome": outcome, "took": 0.123})
                for outcome, level, event in [
                    (Outcome.REMOVED, "INFO", "evicted"),
                    (Outcome.LEFT, "INFO", "evicted"),
                    (Outcome.WOULD, "INFO", "would evict"),
                    (Outcome.GONE, "INFO", "eviction not needed"),
                    (Outcome.VOID, "WARNING", "eviction called off"),
                    (Outcome.FAILED, "WARNING", "eviction failed"),
                    (Outcome.DENIED, "ERROR", "eviction denied"),
                ]
            ),
            (
                FAULT,
                "ERROR",
                "policy fault",
                {"policy": "idle_timeout", "error": "ZeroDivisionError: division by zero"},
            ),
            (TROUBLE, "ERROR", "trouble", {"doing": "listing the participants", "error": "ApiError: no answer"}),
        ],
    )
    def test_what_is_logged(self, news: News, level: str, event: str, facts: dict[str, Any]) -> None:
        """The facts are in `extra`; a fact that is empty is left out."""
        assert self.records(news) == [(level, event, facts)]

    def test_a_configuration(self) -> None:
        """With every default filled in, as JSON; and where those values came from that are no defaults."""
        ((level, event, facts),) = self.records(configured(mode="off"))

        assert (level, event) == ("INFO", "configured")
        assert facts == {
            "configuration": {**load((), BUILTIN).effective, "mode": "off"},
            "origins": {"$.bouncer.mode": "room metadata"},
        }
        assert json.dumps(facts)

    def test_a_change_of_the_configuration(self) -> None:
        """What is different, where null stands for what is not there; and what comes from where now."""
        _, changed, off = self.records(
            configured(policies={"max_agents": {"max": 3}}),
            configured(policies={"max_agents": {"max": 3, "grace": 5}, "no_return": []}),
            configured(policies={"max_agents": {"max": 3, "grace": 5}}),
        )

        assert changed == (
            "INFO",
            "configured",
            {
                "changed": {
                    "$.bouncer.policies.max_agents.grace": {"from": 2, "to": 5},
                    "$.bouncer.policies.no_return": {"from": None, "to": []},
                },
                "origins": dict.fromkeys(
                    (
                        "$.bouncer.policies.max_agents.max",
                        "$.bouncer.policies.max_agents.grace",
                        "$.bouncer.policies.no_return",
                    ),
                    "room metadata",
                ),
            },
        )
        assert off[2]["changed"] == {"$.bouncer.policies.no_return": {"from": [], "to": None}}

    def test_a_layer_that_is_gone(self) -> None:
        """Who wrote over the room's metadata and left ours out, finds that no value comes from there any more."""
        assert self.records(configured(mode="dry_run"), configured())[1] == (
            "INFO",
            "configured",
            {"changed": {"$.bouncer.mode": {"from": "dry_run", "to": "enforce"}}, "origins": {}},
        )

    def test_a_configuration_that_says_the_same(self) -> None:
        """Other applications write to the room's metadata too: no news, unless it ends a refusal."""
        assert len(self.records(configured(), configured(mode="enforce"), configured())) == 1
        assert [event for _, event, _ in self.records(configured(), refused(), configured(), configured())] == [
            "configured",
            "configuration refused",
            "configured",
        ]
        assert self.records(refused(), configured())[1][2].keys() == {"configuration", "origins"}

    @pytest.mark.parametrize(
        ("kept", "in_force"), [(Config(), "the last good configuration"), (None, "none: nobody is evicted")]
    )
    def test_a_refused_configuration(self, kept: Config | None, in_force: str) -> None:
        """All that is wrong with it, and what holds instead."""
        ((level, event, facts),) = self.records(refused(kept=kept))

        assert (level, event) == ("ERROR", "configuration refused")
        assert facts == {"problems": ["room metadata: $.bouncer.mode: must be right"], "in_force": in_force}

    def test_personal_data_is_never_in_the_text(self) -> None:
        """The text is the same for everybody; identity and room name have the names that LiveKit redacts by."""
        texts: set[str] = set()
        for identity, name in [("ana@example.org", "x"), ("%s %(message)s {}", "y")]:
            found = finding(identity=identity, name=name)
            news: list[News] = [
                Noticed(found, 1),
                Reported(found),
                HeldBack(Hold(found, Held.EXEMPT)),
                decided(0, found),
            ]
            news += [Evicted(found, outcome, 1) for outcome in Outcome]
            texts |= {text for _, text, _ in self.records(*news, decided(1))}

        assert texts == {
            *("notice given", "reported", "held back", "countdown", "countdown called off"),
            *("evicted", "would evict", "eviction not needed"),
            *("eviction called off", "eviction failed", "eviction denied"),
        }

    def test_huge_texts(self) -> None:
        """Are logged like others: cutting is the log's own affair."""
        ((_, text, facts),) = self.records(Reported(finding(identity="x" * 100_000, reason="\ud800" * 100_000)))

        assert text == "reported"
        assert len(facts["lk.pii.participant_identity"]) == len(facts["reason"]) == 100_000

    def countdowns(self, *news: News) -> list[tuple[str, float]]:
        """The countdowns that are logged: who, and in how many seconds."""
        return [(facts["sid"], facts["due_in"]) for _, event, facts in self.records(*news) if event == "countdown"]

    def test_a_countdown_that_is_new(self) -> None:
        """It says who, why, and in how many seconds."""
        assert self.records(decided(40, finding(100))) == [("DEBUG", "countdown", LOGGED | {"due_in": 60})]

    def test_a_countdown_that_goes_on_is_not_told_again(self) -> None:
        """An evaluation that finds nothing new says nothing."""
        assert self.countdowns(decided(40, finding(100)), decided(41, finding(100)), decided(99, finding(100))) == [
            ("PA_1", 60)
        ]

    def test_a_countdown_that_moved(self) -> None:
        """It is another one."""
        assert self.countdowns(decided(40, finding(100)), decided(90, finding(140))) == [("PA_1", 60), ("PA_1", 50)]

    def test_a_countdown_that_is_called_off(self) -> None:
        """Told once, when somebody is due no longer: by what they did, or since they left."""
        assert self.records(decided(40, finding(100)), decided(50), decided(60))[1:] == [
            ("DEBUG", "countdown called off", LOGGED)
        ]

    @pytest.mark.parametrize(
        "decision",
        [
            Decision(evictions=(finding(100),)),
            Decision(reports=(finding(100),)),
            Decision(held=(Hold(finding(100), Held.LAST),)),
        ],
    )
    def test_a_countdown_that_is_over(self, decision: Decision) -> None:
        """Told once, when somebody is due, whatever becomes of it; also if that came sooner than was known."""
        for at in (60, 100):
            over = Decided(at, Room(), decision)
            assert self.records(decided(40, finding(100)), over, over)[1:] == [("DEBUG", "countdown over", LOGGED)]

    def test_a_countdown_that_is_back(self) -> None:
        """What was over and begins anew is new."""
        assert self.countdowns(decided(40, finding(100)), decided(50), decided(60, finding(100))) == [
            ("PA_1", 60),
            ("PA_1", 40),
        ]

    def test_countdowns_of_several(self) -> None:
        """Each rule and each participant has its own."""
        second, other = finding(100, index=1), finding(100, sid="PA_2")

        assert self.countdowns(decided(40, finding(100)), decided(50, finding(100), second, other)) == [
            ("PA_1", 60),
            ("PA_1", 50),
            ("PA_2", 50),
        ]

    def test_no_countdown_without_debug(self) -> None:
        """Nor anything else that an evaluation brings."""
        self.log.set_level(logging.INFO, "bouncer")

        assert self.records(decided(40, finding(100)), decided(41)) == []


class Api:
    """The server API, which takes what is sent to the room, or doesn't."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.troubles: list[Trouble | None] = []
        """What the next calls end with."""

    async def send_data(self, payload: bytes) -> None:
        """Keep it, or fail."""
        if self.troubles and (trouble := self.troubles.pop(0)):
            raise ApiError(trouble, "the test says so")
        self.sent.append(payload)


async def packets(*news: News, api: Api | None = None) -> list[bytes]:
    """What the room is sent."""
    api = api or Api()
    messages = RoomMessages(api.send_data)
    for each in news:
        messages.notify(each)
    assert api.sent == []
    running = asyncio.create_task(messages.run())
    await asyncio.sleep(0.01)
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return api.sent


async def told(*news: News, api: Api | None = None) -> list[dict[str, Any]]:
    """What the room is told, under the default configuration unless the news brings another."""
    return [json.loads(packet) for packet in await packets(configured(), *news, api=api)]


class TestMessages:
    """Data packets with a JSON object each: who, why, and what was done."""

    @pytest.mark.parametrize(
        ("news", "message"),
        [
            (Noticed(finding(), 9.87654), SENT | {"event": "notice", "due_in": 9.877}),
            (Reported(finding()), SENT | {"event": "reported"}),
            (Reported(finding(index=1)), SENT | {"event": "reported", "policy": "idle_timeout[1]"}),
            (
                HeldBack(Hold(finding(), Held.BUDGET)),
                SENT | {"event": "held", "held_by": "max_per_minute", "doubt": ""},
            ),
            (
                HeldBack(Hold(finding(doubt="may be at work"), Held.DOUBT)),
                SENT | {"event": "held", "held_by": "doubt", "doubt": "may be at work"},
            ),
            (Evicted(finding(), Outcome.REMOVED, 1), SENT | {"event": "evicted", "outcome": "removed"}),
            (Evicted(finding(), Outcome.LEFT, 1), SENT | {"event": "evicted", "outcome": "left"}),
            (Evicted(finding(), Outcome.WOULD, 0), SENT | {"event": "reported", "outcome": "would"}),
            (Evicted(finding(), Outcome.DENIED, 1), SENT | {"event": "failed", "outcome": "denied"}),
            (Evicted(finding(), Outcome.FAILED, 1), SENT | {"event": "failed", "outcome": "failed"}),
            (
                refused(kept=Config()),
                {
                    "event": "config_error",
                    "mode": "enforce",
                    "errors": [{"path": "$.bouncer.mode", "message": "must be right"}],
                    "total": 1,
                    "kept": True,
                },
            ),
        ],
    )
    async def test_what_the_room_is_told(self, news: News, message: dict[str, Any]) -> None:
        """One message each."""
        assert await told(news) == [message]

    @pytest.mark.parametrize(
        "news",
        [
            configured(),
            decided(0, finding()),
            Evicted(finding(), Outcome.GONE, 1),
            Evicted(finding(), Outcome.VOID, 1),
            FAULT,
            TROUBLE,
        ],
    )
    async def test_nothing_happens(self, news: News) -> None:
        """What we did not do, and our own troubles, are no news for the room."""
        assert await told(news) == []

    async def test_in_the_order_in_which_it_happened(self) -> None:
        """A notice comes before the eviction."""
        news: list[News] = [
            Noticed(finding(), 9),
            Evicted(finding(), Outcome.FAILED, 1),
            Evicted(finding(), Outcome.REMOVED, 1),
        ]

        assert [message["event"] for message in await told(*news)] == ["notice", "failed", "evicted"]

    @pytest.mark.parametrize("mode", ["enforce", "dry_run"])
    async def test_each_message_has_the_mode(self, mode: str) -> None:
        """A dry run says that it is one."""
        (message,) = await told(configured(mode=mode), Evicted(finding(), Outcome.WOULD, 0))

        assert (message["event"], message["mode"]) == ("reported", mode)

    async def test_announce_false_turns_all_of_it_off(self) -> None:
        """Errors in a later configuration too; until it is true again."""
        silent: list[News] = [
            Noticed(finding(), 9),
            Reported(finding()),
            Evicted(finding(), Outcome.REMOVED, 1),
            refused(),
        ]

        assert await told(configured(announce=False), *silent) == []
        assert len(await told(configured(announce=False), *silent, configured(announce=True), Reported(finding()))) == 1

    async def test_a_first_configuration_that_is_refused_is_told(self) -> None:
        """Nothing has been said against announcing; and nothing is in force."""
        (packet,) = await packets(refused())

        assert json.loads(packet)["event"] == "config_error"
        assert json.loads(packet)["kept"] is False

    async def test_of_many_problems_the_first_are_told(self) -> None:
        """And how many there are."""
        many = [Problem("room metadata", f"$.bouncer.x{i}", "is unknown here") for i in range(5000)]
        (message,) = await told(refused(*many))

        assert message["total"] == 5000
        assert message["errors"][0] == {"path": "$.bouncer.x0", "message": "is unknown here"}
        assert 1 <= len(message["errors"]) <= 100

    @pytest.mark.parametrize("letter", ["x", "é", "語", "😀", '"', "\\", "\0", "\ud800"])
    @pytest.mark.parametrize("size", [300, 2_000, 100_000])
    async def test_a_packet_is_never_too_large(self, letter: str, size: int) -> None:
        """Whatever identities, names and reasons are made of; names can have 64 KiB, and policies may say anything."""
        text = letter * size
        found = finding(identity=text, name=text, reason=text, doubt=text)
        news: list[News] = [Noticed(found, 9), Reported(found), HeldBack(Hold(found, Held.DOUBT))]
        news += [Evicted(found, outcome, 1) for outcome in Outcome]

        assert max(len(packet) for packet in await packets(*news)) < PACKET

    @pytest.mark.parametrize("letter", ["x", "é", "語", "😀", '"', "\\", "\0", "\ud800"])
    @pytest.mark.parametrize("size", [300, 2_000, 100_000])
    async def test_nor_by_what_is_wrong_with_a_configuration(self, letter: str, size: int) -> None:
        """A path is as deep as somebody nested it."""
        long = Problem("room metadata", f"$.bouncer.{letter * size}", letter * size)
        (packet,) = await packets(refused(*[long] * 20))

        assert len(packet) < PACKET

    async def test_a_short_text_is_told_whole(self) -> None:
        """Also if it isn't English."""
        found = finding(identity="агент Ана 😀", reason="x" * 250)
        (message,) = await told(Reported(found))

        assert (message["identity"], message["reason"]) == ("агент Ана 😀", "x" * 250)

    async def test_a_lone_surrogate_spoils_nothing(self) -> None:
        """It is no text, so it can't be sent as it is."""
        (message,) = await told(Reported(finding(identity="a\ud800b")))

        assert message["identity"].startswith("a")

    async def test_what_waits_is_bounded(self) -> None:
        """While nothing can be sent, the newest are dropped, and nobody waits."""
        news = [Reported(finding(sid=f"PA_{i}")) for i in range(10 * MAX_WAITING)]

        assert [message["sid"] for message in await told(*news)] == [f"PA_{i}" for i in range(MAX_WAITING)]

    @pytest.mark.parametrize("trouble", list(Trouble))
    async def test_a_message_that_cannot_be_sent_is_lost(self, trouble: Trouble) -> None:
        """And no other."""
        api = Api()
        api.troubles = [None, trouble]
        news = [Reported(finding(sid=f"PA_{i}")) for i in range(4)]

        assert [message["sid"] for message in await told(*news, api=api)] == ["PA_0", "PA_2", "PA_3"]

    async def test_what_comes_while_it_runs_is_sent(self) -> None:
        """Without waiting for more."""
        api = Api()
        messages = RoomMessages(api.send_data)
        running = asyncio.create_task(messages.run())
        for i in range(3):
            messages.notify(Reported(finding(sid=f"PA_{i}")))
            await asyncio.sleep(0.01)
            assert len(api.sent) == i + 1
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
