"""Asking a bouncer: which questions it takes, how the answer is put together, and what is sent of a change."""

import json
import random
from typing import Any

import pytest

from bouncer.asking import (
    ASKERS,
    MAX_PART,
    MAX_QUESTION,
    PER_SECOND,
    REMEMBERED,
    Desk,
    Inbox,
    Question,
    changed,
    changes,
    parts,
    read_question,
)

ID = "0123456789abcdef0123456789abcdef"
QUESTION = Question(room_sid="RM_1", to="agent-AJ_1", reply_to="asker", seconds=30, id=ID)


def packet(**facts: Any) -> bytes:
    """A question as it is sent, with other facts."""
    sent: dict[str, Any] = json.loads(QUESTION.packet("token"))
    return json.dumps(sent | facts).encode()


def test_a_question_is_read_as_it_was_sent() -> None:
    """And its digest depends on each of its facts."""
    assert read_question(QUESTION.packet("token")) == (QUESTION, "token")
    others: list[dict[str, Any]] = [{"room_sid": "x"}, {"to": "x"}, {"reply_to": "x"}, {"for": 1}, {"id": ID[::-1]}]
    digests = {read[0].sha256 for facts in others if (read := read_question(packet(**facts)))}
    assert len(digests | {QUESTION.sha256}) == len(others) + 1


@pytest.mark.parametrize(
    "hostile",
    [
        b"",
        b"{}",
        b"[" * 4000,
        b"\xff\x00",
        b"null",
        packet(v=2),
        packet(v=True),
        packet(v="1"),
        packet(extra=1),
        packet(id="short"),
        packet(id=1),
        packet(to=None),
        packet(token=["x"]),
        packet(**{"for": 0}),
        packet(**{"for": 61}),
        packet(**{"for": 1e400}),
        packet(**{"for": True}),
        packet(room_sid="x" * 500),
        packet(token="x" * MAX_QUESTION),
    ],
)
def test_what_is_no_question_is_dropped(hostile: bytes) -> None:
    """Nothing raises, and what is too long isn't even parsed."""
    assert read_question(hostile) is None


def test_the_desk_verifies_a_few_questions_a_second() -> None:
    """However many come."""
    desk = Desk()

    admitted = [now / 100 for now in range(300) if desk.may_verify(now / 100)]

    assert len(admitted) == 3 * PER_SECOND
    assert admitted[:PER_SECOND] == [0, 0.01, 0.02, 0.03, 0.04]


def test_the_desk_accepts_each_id_once_and_so_many_askers() -> None:
    """An asker that asks again keeps its place; one whose time is over leaves it."""
    desk = Desk()

    def question(asker: int, number: int) -> Question:
        return Question(room_sid="RM_1", to="b", reply_to=f"asker {asker}", seconds=30, id=f"{number:032x}")

    assert [desk.accept(question(n, n), n) for n in range(ASKERS + 1)] == [True] * ASKERS + [False]
    assert not desk.accept(question(0, 0), 10)
    assert desk.accept(question(0, 100), 10)
    assert len(desk.open(10)) == ASKERS
    assert len(desk.open(37)) == 1
    assert not desk.accept(question(0, 100), 50)
    assert all(desk.accept(question(0, n), 50) for n in range(1000, 1001 + REMEMBERED))
    assert desk.accept(question(0, 100), 50), "it is forgotten by now"


def test_an_answer_of_many_parts() -> None:
    """Each is below what a packet may have; together they are the message, as compressed JSON."""
    chance = random.Random(0)  # noqa: S311 - noise
    noise = ["".join(chance.choices("0123456789abcdef😀", k=50)) for _ in range(3000)]
    message = {"view": {"noise": noise, "lone": "\udc00"}}
    packets = [*parts(ID, 0, message), *parts(ID, 1, {"changed": {}})]
    inbox = Inbox(ID)

    got = [read for each in packets if (read := inbox.take(each))]

    assert max(map(len, packets)) < MAX_PART
    assert len(packets) > 3
    assert [got[0]["view"]["noise"], got[1]] == [noise, {"changed": {}}]
    assert not inbox.broken


@pytest.mark.parametrize(
    "forged",
    [
        *parts("f" * 32, 0, {"view": {"forged": True}}),
        b"",
        b"\n",
        b"[]\nx",
        b'{"id": "' + ID.encode() + b'"}\nx',
        b"[" * 3000 + b"\nx",
    ],
)
def test_what_does_not_carry_the_id_is_dropped(forged: bytes) -> None:
    """The true answer comes through all the same."""
    inbox = Inbox(ID)

    assert inbox.take(forged) is None
    assert inbox.take(parts(ID, 0, {"view": {}})[0]) == {"view": {}}
    assert not inbox.broken


@pytest.mark.parametrize(
    "packets",
    [
        parts(ID, 1, {"view": {}}),
        [parts(ID, 0, {"view": {}})[0].partition(b"\n")[0] + b"\nnothing packed"],
        parts(ID, 0, {"view": "x" * 200_000})[1:] or parts(ID, 5, {}),
    ],
)
def test_an_answer_with_something_missing_is_broken(packets: list[bytes]) -> None:
    """Then the asker asks again."""
    inbox = Inbox(ID)

    assert [inbox.take(each) for each in packets] == [None] * len(packets)
    assert inbox.broken


BEFORE: dict[str, Any] = {
    "mode": "enforce",
    "people_left_at": "t1",
    "participants": [{"sid": "A", "state": "idle"}, {"sid": "B"}],
    "verdicts": [{"sid": "A", "policy": "x", "due_at": "t5"}],
}


@pytest.mark.parametrize(
    ("after", "sent"),
    [
        (BEFORE, {}),
        ({**BEFORE, "mode": "off"}, {"mode": "off"}),
        (
            {**BEFORE, "participants": [{"sid": "A", "state": "thinking"}, {"sid": "B"}]},
            {"participants": {"set": [{"sid": "A", "state": "thinking"}], "gone": []}},
        ),
        (
            {**BEFORE, "participants": [{"sid": "B"}, {"sid": "C"}], "verdicts": []},
            {
                "participants": {"set": [{"sid": "C"}], "gone": [["A"]]},
                "verdicts": {"set": [], "gone": [["A", "x"]]},
            },
        ),
        ({key: value for key, value in BEFORE.items() if key != "people_left_at"}, {"-": ["people_left_at"]}),
    ],
)
def test_what_is_sent_of_a_change(after: dict[str, Any], sent: dict[str, Any]) -> None:
    """Of participants and verdicts the changed ones, by sid; the asker then has the same view."""
    assert changes(BEFORE, after) == sent
    assert changed(BEFORE, json.loads(json.dumps(sent))) == after
