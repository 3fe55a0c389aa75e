"""What the console lists of rooms, and what of it is sent to a page that is open."""

import json
from dataclasses import replace
from typing import Any

import pytest

from bouncer import Kind
from bouncer.configuration.settings import Credentials
from bouncer.decide import Decision, decide
from bouncer.events import Info
from gatekeeper import board, outlook
from gatekeeper.keeper import Keeper
from gatekeeper.reports import Reports
from gatekeeper.webhooks import Records
from tests.console.stage import Stage
from tests.signing import signed

KEY = Credentials(url="ws://x", api_key="key", api_secret="a secret of thirty-two characters")  # noqa: S106


def test_a_row_says_what_is_going_on() -> None:
    """People, agents and their names, whether it is guarded, what comes next."""
    stage = Stage()
    stage.open("RM_1", "lobby", "x", "a", people=2, config={"policies": {"max_lifetime": {"limit": 60}}})
    stage.reports_that("RM_1", "standing", standing="acting")
    stage.reports_that("RM_1", "evicted", sid="PA_gone")

    row = stage.board.since(0)["rows"]["RM_1"]

    assert (row["name"], row["people"], row["agents"], row["names"]) == ("lobby", 2, 2, ["a", "x"])
    assert (row["standing"], row["bouncer"], row["mode"], row["evicted"]) == ("guarded", "acting", "enforce", 1)
    assert row["next"]["policy"] == "max_lifetime"
    assert row["attention"] == {}


@pytest.mark.parametrize(
    ("event", "facts", "attention"),
    [
        ("config_error", {"errors": [{"path": "bouncer.x", "message": "is unknown"}]}, {"refused": "bouncer.x: is"}),
        ("config_error", {"errors": "?"}, {"refused": "it was refused"}),
        ("held", {"sid": "PA_1", "held_by": "max_per_minute"}, {"held": "max_per_minute"}),
        ("trouble", {"error": "no answer"}, {"failing": "no answer"}),
        ("failed", {"why": "still there"}, {"failing": "still there"}),
        ("guarding", {}, {}),
        ("what a later version says", {"x": 1}, {}),
    ],
)
def test_what_needs_attention_is_named(event: str, facts: dict[str, Any], attention: dict[str, str]) -> None:
    """In the words of the bouncer."""
    stage = Stage()
    stage.open("RM_1", "lobby")
    stage.reports_that("RM_1", event, **facts)

    found = stage.board.since(0)["rows"]["RM_1"]["attention"]
    assert found.keys() == attention.keys()
    assert all(what in found[word] for word, what in attention.items())


def test_what_is_over_needs_no_attention() -> None:
    """A configuration that is right again, an eviction that worked, an agent that left."""
    stage = Stage()
    stage.open("RM_1", "lobby")
    for event in ("config_error", "held", "failed"):
        stage.reports_that("RM_1", event, sid="PA_1")
    for event in ("configured", "evicted"):
        stage.reports_that("RM_1", event, sid="PA_1")

    assert stage.board.since(0)["rows"]["RM_1"]["attention"] == {}


def test_only_what_changed_is_sent() -> None:
    """And that a room has closed."""
    stage = Stage()
    for number in range(10):
        stage.open(f"RM_{number}", f"room {number}")
    first = stage.board.since(0)
    assert (len(first["rows"]), first["whole"]) == (10, True)
    assert stage.board.since(first["version"])["rows"] == {}

    stage.joins("RM_3", "ben")
    stage.board.touch("RM_4")  # and nothing changed there
    stage.close("RM_5")
    second = stage.board.since(first["version"])

    assert {sid: row and row["people"] for sid, row in second["rows"].items()} == {"RM_3": 2, "RM_5": None}
    assert not second["whole"]


def test_many_rows_come_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a webhook never waits until all of them are made."""
    monkeypatch.setattr(board, "AT_ONCE", 4)
    stage = Stage()
    for number in range(10):
        stage.open(f"RM_{number}", f"room {number}", guarded=number > 0)
    parts = [stage.board.since(0)]
    while parts[-1]["more"]:
        parts.append(stage.board.since(parts[-1]["version"]))

    assert [(len(part["rows"]), part["whole"]) for part in parts] == [(4, True), (4, False), (2, False)]
    assert {sid for part in parts for sid in part["rows"]} == set(stage.doors.doors)
    stage.close("RM_3")
    stage.joins("RM_9", "ben")
    assert set(stage.board.since(parts[-1]["version"])["rows"]) == {"RM_3", "RM_9"}


def test_a_room_is_judged_again_only_when_something_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that shows what is known changes nothing."""
    judged: list[Decision] = []

    def judge(*given: Any) -> Decision:
        judged.append(decide(*given))
        return judged[-1]

    monkeypatch.setattr(outlook, "decide", judge)
    stage = Stage()
    stage.open("RM_1", "lobby", "assistant")
    known = stage.outlooks.of("RM_1", 0.0)
    infos = [Info(sid=sid, identity=sid, kind=Kind.AGENT, joined_at=1.0) for sid in ("PA_1", "PA_2")]

    def judgements(*lists: list[Info]) -> int:
        judged.clear()
        for at, infos in enumerate(lists):
            known.listed(infos, 10.0 + at, 10.0 + at)
            stage.board.touch("RM_1")
            stage.board.since(0)
        return len(judged)

    assert judgements(infos) == 1
    assert judgements(infos, infos) == 0
    assert judgements([replace(infos[0], attributes={"lk.agent_name": "x"}), infos[1]]) == 1
    # One list may miss a participant, so it is gone with the second one.
    assert judgements(infos[:1], infos[:1], infos[:1]) == 2


def test_a_page_that_missed_too_much_gets_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed rooms are not remembered forever."""
    monkeypatch.setattr(board, "GONE", 2)
    stage = Stage()
    for number in range(5):
        stage.open(f"RM_{number}", "room")
    version = stage.board.since(0)["version"]
    for number in range(4):
        stage.close(f"RM_{number}")
        stage.board.since(version)

    missed = stage.board.since(version)
    assert (missed["whole"], list(missed["rows"])) == (True, ["RM_4"])


def signature(body: bytes, secret: str = KEY.api_secret) -> str:
    """Return the token with which a bouncer signs a record."""
    return signed(body, KEY.api_key, secret)


async def test_a_record_counts_once() -> None:
    """A bouncer sends it again if the answer is lost; it has the same id."""
    records, keeper = Records(KEY), Keeper(None, 90, lambda: 1.0)
    body = json.dumps({"v": 1, "id": "EV_1", "event": "evicted", "room_sid": "RM_1", "sid": "PA_1"}).encode()

    taken = [await keeper.keep(records.receive(body, signature(body))) for _ in range(3)]

    assert taken == [True, False, False]


@pytest.mark.parametrize(
    ("body", "authorization"),
    [
        (b"{}", ""),
        (b'{"event": "evicted"}', signature(b'{"event": "evicted"}', "another secret of thirty-two chars")),
        (b'{"event": "evicted"}', signature(b"{}")),
        (b"{}", signature(b"{}")),
        (b"[" * 100_000, signature(b"[" * 100_000)),
        (b"\xff", signature(b"\xff")),
    ],
    ids=["unsigned", "another key", "another body", "no event", "deep", "no text"],
)
def test_what_no_bouncer_of_ours_sent_is_refused(body: bytes, authorization: str) -> None:
    """With a reason, and without a trace."""
    with pytest.raises(ValueError, match=r"\w"):
        Records(KEY).receive(body, authorization)


@pytest.mark.parametrize("record", [{"event": "evicted"}, {"event": 1, "room_sid": "RM_1"}, {"room_sid": ["RM_1"]}])
def test_a_record_of_no_room_says_nothing(record: dict[str, Any]) -> None:
    """Also if it is signed."""
    assert Reports().take(record) == ""
