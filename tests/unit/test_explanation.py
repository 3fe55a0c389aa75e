"""The sentences of `bouncer explain`: why a participant is still here, or no longer."""

from typing import Any

import pytest

from bouncer.explanation import explain, verdict_words
from tests.views import AT, DUE, JOINED, agent, verdict, view

GROUND = "under idle_timeout, because it did nothing for 60 s"
PROBLEMS = [{"layer": "room metadata", "path": "$.x", "message": "must be y"}]
AHEAD = "It is not due yet: it has until 02:31:00 UTC, 1 min more. Then"
BY_ITSELF = "The bouncer agent-AJ_1 didn't evict it: it left by itself, or another removed it."
LEFT = f"It left at 02:29:00 UTC, 1 min ago. {BY_ITSELF}"
SINCE = f"It has been due since 02:29:00 UTC, for 1 min, {GROUND}"
OUTSIDE: dict[str, Any] = {"standing": "", "bouncer": ""}


@pytest.mark.parametrize(
    ("seen", "summary"),
    [
        (view(), "No rule that was judged asks it to leave."),
        (
            view(verdict("pending")),
            f"It is not due yet: it has until 02:31:00 UTC, 1 min more. Then it is evicted {GROUND}.",
        ),
        (
            view(verdict("pending", held_by="exempt", why="its identity")),
            f"{AHEAD} it is due {GROUND}. That will be held back: it is exempt (its identity).",
        ),
        (
            view(verdict("held", DUE, held_by="doubt", doubt="its data is encrypted"), verdict("pending", policy="x")),
            f"{SINCE}. That is held back: the verdict is in doubt (its data is encrypted).",
        ),
        (
            view(verdict("held", DUE, held_by="max_per_minute")),
            f"{SINCE}. That is held back: this minute's evictions are used up (`max_per_minute`).",
        ),
        (
            view(verdict("leaving", DUE, sent_at="2026-11-29T02:29:58.000Z")),
            f"It is being evicted {GROUND}: the removal went out at 02:29:58 UTC, 2 s ago.",
        ),
        (
            view(verdict("retrying", DUE, retry_at="2026-11-29T02:30:05.000Z")),
            f"It is due {GROUND}; the last attempt failed, and the next follows in 5 s.",
        ),
        (
            view(verdict("reported", DUE, action="report")),
            f"{SINCE}. That is only reported.",
        ),
        (
            view(verdict("due", DUE), mode="dry_run"),
            f"The mode is `dry_run`, so evictions are only told. It is due now {GROUND}.",
        ),
        (view(mode="off"), "The mode is `off`, so nothing is judged."),
        (view(configuration=None), "There is no valid configuration, so nothing is evicted."),
        (
            view(configuration=None, problems=PROBLEMS),
            "There is no valid configuration, so nothing is evicted. It was refused: room metadata: $.x: must be y.",
        ),
        (
            view(standing="standing_by"),
            "This bouncer stands by: an older one guards the room. No rule that was judged asks it to leave.",
        ),
        (
            view(guarded_by=[], **OUTSIDE),
            "No bouncer guards the room, so nothing is evicted. No rule that was judged asks it to leave.",
        ),
        (view(who=agent(joining=True)), "It is still joining, and isn't judged before it is active."),
        (view(who=agent(role="person")), "It is a person, and a bouncer never removes a person."),
        (view(who=agent(role="bouncer")), "It is a bouncer, and no rule evicts a bouncer."),
        (view(who=agent(role="nobody")), "It is neither an agent nor a person to a bouncer, and is never evicted."),
        (
            view(who=agent(role="avatar")),
            "No rule that was judged asks it to leave. It leaves together with its principal.",
        ),
        (
            view(who=agent(identity="B")),
            "It isn't in the room, and the bouncer remembers no one of that identity that left.",
        ),
        (
            view(who=agent(identity="B"), **OUTSIDE),
            "It isn't in the room. Only a bouncer in the room would remember whether it was, and why it left.",
        ),
        (
            view(who=agent(identity="B"), departed=[agent(left_at=DUE)]),
            LEFT,
        ),
        (
            view(
                who=agent(identity="B"),
                departed=[agent(left_at=DUE, evicted_at=DUE, policy="duplicates", reason="is one too many")],
            ),
            "It was evicted under duplicates because it is one too many.",
        ),
    ],
)
def test_why_it_is_here(seen: dict[str, Any], summary: str) -> None:
    """One or two sentences, the reason first."""
    assert explain(seen, "A", at=AT).summary == summary


def test_the_whole_explanation_as_it_goes_into_a_ticket() -> None:
    """Every fact with its date, then every rule; nothing of another's text controls a terminal."""
    who = agent(
        identity="A\x1b[31m",
        state="listening",
        state_at="2026-11-29T02:21:00.000Z",
        audible=True,
        spoke_at="2026-11-29T02:25:30.000Z",
        active_at="2026-11-29T02:25:30.000Z",
        alive_at="2026-11-29T02:29:57.000Z",
        unanswered_since="2026-11-29T02:26:00.000Z",
        dispatch_id="AD_1",
        exempt="its agent name, which its dispatch gives",
        attributes={"lk.agent.state": {"value": "listening", "at": JOINED}, "desk": {"value": "3", "at": JOINED}},
    )
    seen = view(verdict("held", DUE, held_by="exempt", why=who["exempt"]), who=who, watching_since=JOINED)

    assert "\n".join(explain(seen, "A\x1b[31m", at=AT).sentences()) == (
        "“A\\u001b[31m” in room “call” (RM_1), as the bouncer agent-AJ_1 saw it on 2026-11-29 at 02:30:00 UTC.\n"
        f"{SINCE}. That is held back: it is exempt (its agent name, which its dispatch gives).\n"
        "It is an agent named “assistant”, of kind agent, a job of dispatch AD_1.\n"
        "It joined at 02:20:00 UTC, 10 min ago. Its connection is PA_A.\n"
        "Its state is “listening”, since 02:21:00 UTC, for 9 min.\n"
        "Its sound can be heard.\n"
        "It last spoke until 02:25:30 UTC, 4 min 30 s ago.\n"
        "It last did something at 02:25:30 UTC, 4 min 30 s ago.\n"
        "Its last sign of life came at 02:29:57 UTC, 3 s ago.\n"
        "A person spoke until 02:26:00 UTC, and it has not reacted since.\n"
        "It is exempt because of its agent name, which its dispatch gives.\n"
        "Its attribute “desk” has been “3” since 02:20:00 UTC.\n"
        "The room has been watched without a gap since 02:20:00 UTC, for 10 min.\n"
        "idle_timeout: it did nothing for 60 s. Due at 02:29:00 UTC (due for 1 min, held back: it is exempt (its agent "
        "name, which its dispatch gives)).\n"
        "Nothing against it under duplicates."
    )


def test_what_was_told_of_it_is_said_again() -> None:
    """Of this identity alone, oldest first; also once it has left."""
    about = {"at": DUE, "policy": "duplicates", "reason": "is one too many", "outcome": "removed"}
    recent = [{"event": "evicted", "identity": "A", **about}, {"event": "evicted", "identity": "B", **about}]
    told = ("At 02:29:00 UTC: A was evicted under duplicates: it is one too many.",)

    assert explain(view(recent=recent), "A", at=AT).told == told
    assert explain(view(who=agent(identity="C"), recent=recent), "A", at=AT).told == told
    assert ("What the bouncer told", told) in explain(view(recent=recent), "A", at=AT).parts()


def test_from_outside_it_says_what_only_a_bouncer_would_know() -> None:
    """No rule that rests on watching is said to have nothing against it."""
    facts = [{"fact": "when its agents last spoke", "policies": ["idle_timeout"]}]
    told = explain(view(guarded_by=[], unknown_facts=facts, **OUTSIDE), "A", at=AT)

    assert told.title == "“A” in room “call” (RM_1), as the server listed it on 2026-11-29 at 02:30:00 UTC."
    assert told.rules == (
        "Nothing against it under duplicates.",
        "Not judged, since only a bouncer in the room can: idle_timeout.",
    )
    assert told.unknown == ("Only a bouncer would know when its agents last spoke (idle_timeout).",)


@pytest.mark.parametrize(
    ("each", "words"),
    [
        (verdict("pending"), "due in 1 min"),
        (verdict("pending", "2026-11-30T03:30:01.400Z"), "due in 1 d 1 h"),
        (verdict("due", DUE), "due now"),
        (verdict("covered", DUE), "due now"),
        (verdict("leaving", DUE), "about to be evicted"),
        (verdict("leaving", DUE, sent_at=DUE), "being evicted"),
        (verdict("reported", DUE), "due, only reported"),
        (verdict("retrying", DUE), "due; the last attempt failed, and another follows"),
    ],
)
def test_a_verdict_in_a_few_words(each: dict[str, Any], words: str) -> None:
    """For a table or a screen."""
    assert verdict_words(each, AT) == words
