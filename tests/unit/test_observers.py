"""What the log says, and what the room is told."""

import asyncio
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from bouncer.configuration.load import COMBINED, load
from bouncer.configuration.model import DISPATCH, Config, ConfigError, Layer, Problem
from bouncer.decide import Decision, Fault, Finding, HeldBy, Hold, Ledger, Outcome
from bouncer.observers import (
    Configured,
    Decided,
    Evicted,
    Failing,
    Faulted,
    HeldBack,
    News,
    Noticed,
    Refused,
    Reported,
)
from bouncer.observers.log_events import TO_DO, LogEvent
from bouncer.observers.logs import Logs, Plainly, WithAdvice
from bouncer.observers.messages import ELSEWHERE, FORGOTTEN, MAX_WAITING, PER_MINUTE, RoomMessages
from bouncer.policy import Rule, Verdict
from bouncer.ports import ApiError, Doing, Trouble
from bouncer.room import Room
from bouncer.testing import agent
from policies import BUILTIN
from policies.idle_timeout import IdleTimeout
from tests.dates import records as rendering
from tests.virtual import virtual

PACKET = 15 * 1024
"""Bytes that a reliable data packet may have."""
ROOM, IDENTITY, REASON = "call-with-ana", "agent-of-ana", "did nothing for 60 s"


def finding(due: float = 100, *, reason: str = REASON, doubt: str = "", index: int = 0, **facts: Any) -> Finding:
    """Return the finding that an idle agent must be out by then."""
    who = agent(facts.pop("identity", IDENTITY), facts.pop("name", "assistant"), **{"sid": "PA_1", **facts})
    return Finding(Verdict(who, due, reason, doubt), Rule(policy=IdleTimeout(timeout=60), index=index))


def refused(*problems: Problem, kept: Config | None = None) -> Refused:
    """Return the news of a configuration with these problems."""
    return Refused(ConfigError(problems or [Problem("room metadata", "$.bouncer.mode", "must be right")]), kept)


def configured(**bouncer: Any) -> Configured:
    """Return the news that room metadata with this under our key is in force."""
    return Configured(load([Layer("room metadata", json.dumps({"bouncer": bouncer}), shared=True)], BUILTIN))


def decided(at: float, *pending: Finding) -> Decided:
    """Return the news of an evaluation after which these are still to come."""
    return Decided(at, Room(), Decision(pending=pending), Ledger())


ABOUT = {"sid": "PA_1", "agent_name": "assistant", "policy": "idle_timeout", "reason": REASON}
COUNTED = ABOUT | {"lk.pii.participant_identity": IDENTITY}
LOGGED = COUNTED | {"due_in": 100.0}
ENVELOPE = {"v": 1, "at": "2025-01-01T00:00:00.000Z", "room": ROOM, "room_sid": ""}
SENT = ABOUT | ENVELOPE | {"identity": IDENTITY, "mode": "enforce", "due_in": 100.0, "doubt": ""}
MORE = ("dispatch_id", "joined_at", "present_for", "due_at", "facts", "steps")
"""What test_records.py looks at."""
FAULT = Faulted(Fault(finding().rule, "ZeroDivisionError: division by zero"))
TROUBLE = Failing(Doing.LISTING, ApiError(Trouble.UNAVAILABLE, "no answer"))


class TestLogs:
    """One record per event: a static name, with the facts alongside it."""

    @pytest.fixture(autouse=True)
    def _everything(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, "bouncer")
        self.log = caplog

    def records(self, *news: News) -> list[tuple[str, str, dict[str, Any]]]:
        """Return what one room's observer logs: level, text, and what is in `extra` except the room."""
        logs = Logs(rendering(ROOM))
        self.log.clear()
        for each in news:
            logs.notify(each)
        usual = logging.makeLogRecord({}).__dict__.keys() | {"message", "taskName"}
        records = []
        for record in self.log.records:
            extra = {key: value for key, value in record.__dict__.items() if key not in usual}
            assert (record.name, extra.pop("lk.pii.room_name")) == ("bouncer", ROOM)
            for more in MORE:
                extra.pop(more, None)
            records.append((record.levelname, record.getMessage(), extra))
        return records

    @pytest.mark.parametrize(
        ("news", "level", "event", "facts"),
        [
            (Noticed(finding(), 9.87654), "INFO", "notice given", LOGGED | {"due_in": 9.877}),
            (Reported(finding()), "WARNING", "reported", LOGGED),
            (Reported(finding(index=1)), "WARNING", "reported", LOGGED | {"policy": "idle_timeout[1]"}),
            (HeldBack(Hold(finding(), HeldBy.BUDGET)), "WARNING", "held back", LOGGED | {"held_by": "max_per_minute"}),
            (HeldBack(Hold(finding(), HeldBy.EXEMPT)), "INFO", "held back", LOGGED | {"held_by": "exempt"}),
            (
                HeldBack(Hold(finding(doubt="may be at work"), HeldBy.DOUBT)),
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
            (TROUBLE, "ERROR", "failing", {"doing": "listing", "error": "ApiError: no answer"}),
        ],
    )
    def test_what_is_logged(self, news: News, level: str, event: str, facts: dict[str, Any]) -> None:
        """The facts are in `extra`; empty ones are left out."""
        assert self.records(news) == [(level, event, facts)]

    def test_a_configuration(self) -> None:
        """It is logged as JSON with every default filled in, and with the origin of each other value."""
        ((level, event, facts),) = self.records(configured(mode="off"))

        assert (level, event) == ("INFO", "configured")
        assert facts == {
            "configuration": {**load((), BUILTIN).effective, "mode": "off"},
            "origins": {"$.bouncer.mode": "room metadata"},
        }
        assert json.dumps(facts)

    def test_a_change_of_the_configuration(self) -> None:
        """The log shows what is different, with null for a missing value, and the new origins."""
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
        """Someone overwrote the room's metadata without our key. No value comes from there any more."""
        assert self.records(configured(mode="dry_run"), configured())[1] == (
            "INFO",
            "configured",
            {"changed": {"$.bouncer.mode": {"from": "dry_run", "to": "enforce"}}, "origins": {}},
        )

    def test_a_configuration_that_says_the_same(self) -> None:
        """Other applications write to the room's metadata too. That is no news, unless it ends a refusal."""
        assert len(self.records(configured(), configured(mode="enforce"), configured())) == 1
        assert [event for _, event, _ in self.records(configured(), refused(), configured(), configured())] == [
            "configured",
            "configuration refused",
            "configured",
        ]
        assert self.records(refused(), configured())[1][2].keys() == {"configuration", "origins"}

    @pytest.mark.parametrize(
        ("kept", "in_force"), [(Config(), "the last good configuration"), (None, "none: no agent is evicted")]
    )
    def test_a_refused_configuration(self, kept: Config | None, in_force: str) -> None:
        """Everything that is wrong with it, and what stays in force."""
        ((level, event, facts),) = self.records(refused(kept=kept))

        assert (level, event) == ("ERROR", "configuration refused")
        assert facts == {"problems": ["room metadata: $.bouncer.mode: must be right"], "in_force": in_force}

    def test_personal_data_is_never_in_the_text(self) -> None:
        """The text is the same for everyone. Identity and room name are under the keys that LiveKit redacts."""
        texts: set[str] = set()
        for identity, name in [("ana@example.org", "x"), ("%s %(message)s {}", "y")]:
            found = finding(identity=identity, name=name)
            news: list[News] = [
                Noticed(found, 1),
                Reported(found),
                HeldBack(Hold(found, HeldBy.EXEMPT)),
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
        """They are logged like others. Shortening is the log's own concern."""
        ((_, text, facts),) = self.records(Reported(finding(identity="x" * 100_000, reason="\ud800" * 100_000)))

        assert text == "reported"
        assert len(facts["lk.pii.participant_identity"]) == len(facts["reason"]) == 100_000

    def countdowns(self, *news: News) -> list[tuple[str, float]]:
        """Return the logged countdowns: identity and seconds."""
        return [(facts["sid"], facts["due_in"]) for _, event, facts in self.records(*news) if event == "countdown"]

    def test_a_countdown_that_is_new(self) -> None:
        """It names the agent, the reason and the seconds left."""
        assert self.records(decided(40, finding(100))) == [("DEBUG", "countdown", LOGGED | {"due_in": 60})]

    def test_a_countdown_that_goes_on_is_not_told_again(self) -> None:
        """An evaluation that finds nothing new says nothing."""
        assert self.countdowns(decided(40, finding(100)), decided(41, finding(100)), decided(99, finding(100))) == [
            ("PA_1", 60)
        ]

    def test_a_countdown_that_moved(self) -> None:
        """A moved date is a new countdown."""
        assert self.countdowns(decided(40, finding(100)), decided(90, finding(140))) == [("PA_1", 60), ("PA_1", 50)]

    def test_a_countdown_that_is_called_off(self) -> None:
        """It is told once, when an agent is no longer due because of what it did, or has left."""
        assert self.records(decided(40, finding(100)), decided(50), decided(60))[1:] == [
            ("DEBUG", "countdown called off", COUNTED)
        ]

    @pytest.mark.parametrize(
        "decision",
        [
            Decision(evictions=(finding(100),)),
            Decision(reports=(finding(100),)),
            Decision(held=(Hold(finding(100), HeldBy.LAST),)),
        ],
    )
    def test_a_countdown_that_is_over(self, decision: Decision) -> None:
        """It is told once, when the agent is due, whatever follows, even if that came sooner than expected."""
        for at in (60, 100):
            over = Decided(at, Room(), decision, Ledger())
            assert self.records(decided(40, finding(100)), over, over)[1:] == [("DEBUG", "countdown over", COUNTED)]

    def test_a_countdown_that_is_back(self) -> None:
        """A countdown that was over and begins again is a new one."""
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
        """Nothing else of an evaluation is logged either."""
        self.log.set_level(logging.INFO, "bouncer")

        assert self.records(decided(40, finding(100)), decided(41)) == []


class Api:
    """A server API that keeps what is sent to the room, or fails."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.troubles: list[Trouble | None] = []
        """What the next calls end with."""

    async def send_data(self, payload: bytes) -> None:
        """Keep it, or fail."""
        if self.troubles and (trouble := self.troubles.pop(0)):
            raise ApiError(trouble, "the test says so")
        self.sent.append(payload)


async def packets(*news: News, api: Api | None = None, seconds: float = 0.01) -> list[bytes]:
    """Return the packets that the room is sent within so many seconds."""
    api = api or Api()
    messages = RoomMessages(api.send_data, rendering(ROOM))
    for each in news:
        messages.notify(each)
    assert api.sent == []
    running = asyncio.create_task(messages.run())
    await asyncio.sleep(seconds)
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return api.sent


async def told(*news: News, api: Api | None = None, seconds: float = 0.01) -> list[dict[str, Any]]:
    """Return what the room is told, under the default configuration unless the news brings another."""
    return [json.loads(packet) for packet in await packets(configured(), *news, api=api, seconds=seconds)]


class TestOnce:
    """Warnings are logged once."""

    def test_what_is_hardly_meant(self, caplog: pytest.LogCaptureFixture) -> None:
        """Once at WARNING, and again only when it has changed."""
        logs, text = Logs(rendering(ROOM)), '{"bouncer": {"exempt": {"identity": ["a.*"]}}}'
        dispatch = Layer(DISPATCH, "theirs", shared=True, expected=True)
        for layers in ([dispatch], [dispatch], [dispatch, Layer("room metadata", text, shared=True)]):
            logs.notify(Configured(load(layers, BUILTIN)))
        said = [record for record in caplog.records if record.msg == "configuration questionable"]

        assert [record.levelname for record in said] == ["WARNING", "WARNING"]
        assert [len(record.__dict__["warnings"]) for record in said] == [1, 2]

    @pytest.mark.parametrize(
        ("duplicates", "names", "told"),
        [
            ({}, ["", "x", ""], [2]),
            ({}, ["x"], []),
            (None, [""], []),
            ({"unnamed": True}, [""], []),
            ({"key": "attribute:desk"}, [""], []),
        ],
    )
    def test_agents_that_duplicates_does_not_judge(
        self, duplicates: Any, names: list[str], told: list[int], caplog: pytest.LogCaptureFixture
    ) -> None:
        """The warning names the option that would."""
        caplog.set_level(logging.INFO)
        logs = Logs(rendering(ROOM))
        logs.notify(configured(policies={"duplicates": duplicates}))
        house = Room(participants=tuple(agent(f"A{number}", name) for number, name in enumerate(names)))
        for at in (1, 2):
            logs.notify(Decided(at, house, Decision(), Ledger()))
        said = [record.__dict__ for record in caplog.records if record.msg == "unnamed agents not judged"]

        assert [record["agents"] for record in said] == told
        assert all("unnamed" in record["option"] for record in said)

    def test_control_characters_are_escaped(self) -> None:
        """In every field of a record, whatever the format."""
        record = logging.LogRecord("bouncer", logging.INFO, __file__, 1, "x\x1b", None, None)
        record.__dict__.update(name_of="a\u202eb", all_of_them=["c\x9b", {"d\x7f": 1}], count=3)

        assert Plainly().filter(record)
        facts = (record.msg, *(record.__dict__[key] for key in ("name_of", "all_of_them", "count")))
        assert facts == ("x\\u001b", "a\\u202eb", ["c\\u009b", {"d\\u007f": 1}], 3)

    def test_each_error_says_what_to_do(self) -> None:
        """Every event that any module logs at ERROR, and no other one."""
        sources = [file.read_text(encoding="utf-8") for file in (Path(__file__).parents[2] / "bouncer").rglob("*.py")]
        calls = r"logger\.(?:error|exception)\(\s*LogEvent\.(\w+)|logging\.ERROR, LogEvent\.(\w+)"
        found = {LogEvent["".join(names)] for text in sources for names in re.findall(calls, text)}
        assert found == TO_DO.keys()

        said = [logging.LogRecord("bouncer", level, __file__, 1, event, None, None)
                for level in (logging.ERROR, logging.WARNING) for event in found]  # fmt: skip
        assert all(WithAdvice().filter(record) for record in said)
        assert [record.__dict__.get("do") for record in said] == [TO_DO[event] for event in found] + [None] * len(found)


class TestMessages:
    """Data packets with one JSON object each: which agent, why, and what was done."""

    @pytest.mark.parametrize(
        ("news", "message"),
        [
            (Noticed(finding(), 9.87654), SENT | {"event": "notice", "due_in": 9.877}),
            (Reported(finding()), SENT | {"event": "reported"}),
            (Reported(finding(index=1)), SENT | {"event": "reported", "policy": "idle_timeout[1]"}),
            (
                HeldBack(Hold(finding(), HeldBy.BUDGET)),
                SENT | {"event": "held", "held_by": "max_per_minute"},
            ),
            (
                HeldBack(Hold(finding(doubt="may be at work"), HeldBy.DOUBT)),
                SENT | {"event": "held", "held_by": "doubt", "doubt": "may be at work"},
            ),
            (Evicted(finding(), Outcome.REMOVED, 1), SENT | {"event": "evicted", "outcome": "removed"}),
            (Evicted(finding(), Outcome.LEFT, 1), SENT | {"event": "evicted", "outcome": "left"}),
            (Evicted(finding(), Outcome.WOULD, 0), SENT | {"event": "reported", "outcome": "would"}),
            (Evicted(finding(), Outcome.DENIED, 1), SENT | {"event": "failed", "outcome": "denied"}),
            (Evicted(finding(), Outcome.FAILED, 1), SENT | {"event": "failed", "outcome": "failed"}),
            (
                refused(kept=Config()),
                ENVELOPE
                | {
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
        """Each event is one message."""
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
        """The room is not told what we did not do, nor about our own problems."""
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
        (message,) = await told(configured(mode=mode), Reported(finding()))

        assert (message["event"], message["mode"]) == ("reported", mode)

    async def test_announce_false_turns_all_of_it_off(self) -> None:
        """It also hides errors in a later configuration, until it is true again."""
        silent: list[News] = [
            Noticed(finding(), 9),
            Reported(finding()),
            Evicted(finding(), Outcome.REMOVED, 1),
            refused(),
        ]

        assert await told(configured(announce=False), *silent) == []
        assert len(await told(configured(announce=False), *silent, configured(announce=True), Reported(finding()))) == 1

    async def test_the_room_is_told_only_what_is_wrong_with_its_own_metadata(self) -> None:
        """A job's metadata and BOUNCER_CONFIG may hold private values."""
        problems = [
            Problem(DISPATCH, "$.patient", "7"),
            Problem("room metadata", "$.bouncer", "x"),
            Problem(COMBINED, "$", "secret"),
        ]
        (packet,) = await packets(Refused(ConfigError(problems), None))
        message = json.loads(packet)

        assert message["errors"] == [{"path": "$.bouncer", "message": "x"}, {"path": "$", "message": ELSEWHERE}]
        assert message["total"] == 3

    async def test_it_may_begin_silently(self) -> None:
        """The worker's own configuration applies until the room's is known."""
        sent: list[bytes] = []

        async def send(packet: bytes) -> None:
            sent.append(packet)

        messages = RoomMessages(send, rendering(ROOM), announce=False)
        messages.notify(refused())
        task = asyncio.create_task(messages.run())
        await asyncio.sleep(0)
        task.cancel()
        assert sent == []

    async def test_a_first_configuration_that_is_refused_is_told(self) -> None:
        """Nothing forbids announcing, and nothing is in force."""
        (packet,) = await packets(refused())

        assert json.loads(packet)["event"] == "config_error"
        assert json.loads(packet)["kept"] is False

    async def test_of_many_problems_the_first_are_told(self) -> None:
        """The message also says how many there are."""
        many = [Problem("room metadata", f"$.bouncer.x{i}", "is unknown here") for i in range(5000)]
        (message,) = await told(refused(*many))

        assert message["total"] == 5000
        assert message["errors"][0] == {"path": "$.bouncer.x0", "message": "is unknown here"}
        assert 1 <= len(message["errors"]) <= 100

    async def test_the_room_is_told_only_about_its_own_metadata(self) -> None:
        """Another layer's paths and values stay in the worker's log."""
        elsewhere = Problem("dispatch metadata", "$.bouncer.patient_ana", "is unknown here")
        packet = (await packets(refused(elsewhere)))[0]

        assert b"patient" not in packet
        assert json.loads(packet)["errors"] == [{"path": "$", "message": ELSEWHERE}]

    @pytest.mark.parametrize("letter", ["x", "é", "語", "😀", '"', "\\", "\0", "\ud800"])
    @pytest.mark.parametrize("size", [300, 2_000, 100_000])
    async def test_a_packet_is_never_too_large(self, letter: str, size: int) -> None:
        """Whatever identities, names and reasons contain. Names can have 64 KiB, and policies may say anything."""
        text = letter * size
        found = finding(identity=text, name=text, reason=text, doubt=text)
        news: list[News] = [Noticed(found, 9), Reported(found), HeldBack(Hold(found, HeldBy.DOUBT))]
        news += [Evicted(found, outcome, 1) for outcome in Outcome]

        assert max(len(packet) for packet in await packets(*news)) < PACKET

    @pytest.mark.parametrize("letter", ["x", "é", "語", "😀", '"', "\\", "\0", "\ud800"])
    @pytest.mark.parametrize("size", [300, 2_000, 100_000])
    async def test_nor_by_what_is_wrong_with_a_configuration(self, letter: str, size: int) -> None:
        """A path can be as long as the JSON is deep."""
        long = Problem("room metadata", f"$.bouncer.{letter * size}", letter * size)
        (packet,) = await packets(refused(*[long] * 20))

        assert len(packet) < PACKET

    async def test_a_short_text_is_told_whole(self) -> None:
        """Even if it isn't English."""
        found = finding(identity="агент Ана 😀", reason="x" * 250)
        (message,) = await told(Reported(found))

        assert (message["identity"], message["reason"]) == ("агент Ана 😀", "x" * 250)

    async def test_a_lone_surrogate_spoils_nothing(self) -> None:
        """It is not valid text, so it can't be sent as it is."""
        (message,) = await told(Reported(finding(identity="a\ud800b")))

        assert message["identity"].startswith("a")

    @virtual
    async def test_what_waits_is_bounded(self) -> None:
        """While nothing can be sent, the newest messages are dropped, and nothing waits for them."""
        news = [Reported(finding(identity=f"A{i}")) for i in range(10 * MAX_WAITING)]

        messages = await told(*news, seconds=600)

        assert [message["identity"] for message in messages] == [f"A{i}" for i in range(MAX_WAITING)]

    @virtual
    async def test_a_room_is_told_so_much_a_minute(self) -> None:
        """The rest waits."""
        news = [Reported(finding(identity=f"A{i}")) for i in range(2 * PER_MINUTE)]

        assert len(await told(*news, seconds=50)) == PER_MINUTE
        assert len(await told(*news, seconds=70)) == 2 * PER_MINUTE

    @virtual
    async def test_the_last_word_is_sent_and_repetitions_ever_less_often(self) -> None:
        """A configuration that flips, or an agent whose notice is given again and again."""
        api = Api()
        messages = RoomMessages(api.send_data, rendering(ROOM))
        running = asyncio.create_task(messages.run())
        for i in range(1000):
            messages.notify(Reported(finding(reason=f"reason {i}")))
            await asyncio.sleep(0.1)
        assert 5 <= len(api.sent) <= 8
        await asyncio.sleep(61)
        assert json.loads(api.sent[-1])["reason"] == "reason 999"
        count = len(api.sent)
        await asyncio.sleep(FORGOTTEN)
        for _ in range(2):
            messages.notify(Reported(finding()))
            await asyncio.sleep(1.5)
        running.cancel()

        assert len(api.sent) == count + 2

    @virtual
    async def test_a_notice_that_had_to_wait_says_how_much_time_is_left(self) -> None:
        """One whose time is over is not given."""
        news = [Noticed(finding(identity=f"A{i}"), 70.0 if i < 90 else 30.0) for i in range(120)]

        messages = await told(*news, seconds=100)

        assert [m["due_in"] for m in messages] == [70.0] * 60 + [10.0] * 30

    async def test_a_message_is_signed(self) -> None:
        """The signature is the last field, over the bytes that the message has without it."""
        api = Api()
        messages = RoomMessages(api.send_data, rendering(ROOM), sign=lambda body: f"signed-{len(body)}")
        messages.notify(Reported(finding(reason="naïve, \U0001f642")))
        running = asyncio.create_task(messages.run())
        await asyncio.sleep(0.01)
        running.cancel()
        (packet,) = api.sent

        signed = packet[: packet.rindex(b', "sig": "')] + b"}"
        assert json.loads(packet) == json.loads(signed) | {"sig": f"signed-{len(signed)}"}

    @pytest.mark.parametrize("trouble", list(Trouble))
    @virtual
    async def test_a_message_that_cannot_be_sent_is_lost(self, trouble: Trouble) -> None:
        """Only that one is lost. If the worker has no calls left, it is sent later."""
        api = Api()
        api.troubles = [None, trouble]
        news = [Reported(finding(identity=f"A{i}")) for i in range(4)]
        kept = ["A1"] if trouble is Trouble.THROTTLED else []

        assert [m["identity"] for m in await told(*news, api=api, seconds=3)] == ["A0", *kept, "A2", "A3"]

    async def test_what_comes_while_it_runs_is_sent(self) -> None:
        """It is sent without waiting for more."""
        api = Api()
        messages = RoomMessages(api.send_data, rendering(ROOM))
        running = asyncio.create_task(messages.run())
        for i in range(3):
            messages.notify(Reported(finding(identity=f"A{i}")))
            await asyncio.sleep(0.01)
            assert len(api.sent) == i + 1
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
