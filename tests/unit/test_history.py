"""The record of what we do in a room: done once, tried again in time, forgotten in the end."""

from dataclasses import replace

import pytest

from bouncer import Verdict
from bouncer.decide import Finding, Outcome, Removal
from bouncer.guard.history import BACKOFF, MAX_SAID, REMEMBERED, History, Topic
from bouncer.policy import Rule
from bouncer.ports import Doing
from bouncer.testing import agent, avatar, human, room
from policies.idle_timeout import IdleTimeout

RULE = Rule(policy=IdleTimeout())
A = Finding(Verdict(agent("A", dispatch="AD_1"), 10, "is idle"), RULE)
V = Finding(Verdict(avatar("V", "A"), 10, "is the avatar of an evicted agent"), RULE, follows=True)


def begun(*findings: Finding) -> History:
    """Return a history in which these evictions began at 100."""
    history = History(jitter=lambda _: 0.5)
    for finding in findings:
        history.begin(finding, findings, room(), 100, "enforce")
    return history


class TestTheBudget:
    """It is set aside at the decision, and charged when the removal is sent."""

    def test_is_set_aside_and_then_spent_for_a_minute(self) -> None:
        """One eviction counts once at any time."""
        history = begun(A)
        assert (history.ledger(100).unsent, history.ledger(100).sent) == (1, ())

        history.send(A, 101)

        assert (history.ledger(160).unsent, history.ledger(160).sent) == (0, (Removal(101, "PA_A", "A"),))
        assert history.ledger(161).sent == ()

    def test_is_given_back_by_what_was_never_sent(self) -> None:
        """The eviction was called off."""
        history = begun(A)
        history.end(A, Outcome.VOID, 101)

        assert (history.ledger(101).unsent, history.ledger(101).sent) == (0, ())

    def test_pays_for_no_avatar(self) -> None:
        """An avatar that leaves in the same decision as its principal."""
        history = begun(A, replace(V, free=True))
        history.send(V, 101)
        assert (history.ledger(101).unsent, history.ledger(101).sent) == (1, ())

    def test_pays_for_one_that_comes_later(self) -> None:
        """Otherwise an avatar that comes back again and again would be removed for ever."""
        history = begun(V)
        history.send(V, 101)
        assert history.ledger(101).sent == (Removal(101, "PA_V", "V"),)


@pytest.mark.parametrize(
    ("outcome", "evicted", "retry_at", "handled", "spent"),
    [
        (Outcome.REMOVED, {"A"}, {}, set(), {"AD_1"}),
        (Outcome.LEFT, {"A"}, {}, set(), set()),
        (Outcome.GONE, set(), {}, set(), set()),
        (Outcome.VOID, set(), {"PA_A": 110.5}, set(), set()),
        (Outcome.FAILED, set(), {"PA_A": 110.5}, set(), set()),
        (Outcome.DENIED, set(), {"PA_A": 140.0}, set(), set()),
        (Outcome.WOULD, set(), {}, {A.key}, set()),
    ],
)
def test_what_is_noted_of_each_outcome(
    outcome: Outcome, evicted: set[str], retry_at: dict[str, float], handled: set[tuple[str, str]], spent: set[str]
) -> None:
    """In any case the eviction is no longer under way."""
    history = begun(A)
    assert history.ledger(100).leaving == {"PA_A"}
    assert set(history.ledger(100).evicted) == {"A"}

    eviction = history.end(A, outcome, 110)

    ledger = history.ledger(110)
    assert (eviction.finding, eviction.at) == (A, 100)
    assert ledger.leaving == frozenset()
    assert (set(ledger.evicted), dict(ledger.retry_at), set(ledger.handled)) == (evicted, retry_at, handled)
    assert history.spent == spent


def test_an_eviction_is_dated_by_when_its_removal_went_out() -> None:
    """The last removal counts, if there were several."""
    history = begun(A)
    history.send(A, 103)
    history.send(A, 105)

    assert history.end(A, Outcome.REMOVED, 110).at == 105


def test_the_pause_is_doubled_up_to_a_limit_and_begins_anew_once_it_worked() -> None:
    """Each kind of failure has its own pause."""
    history = begun()
    pauses = [history.pause(Doing.LISTING) for _ in range(9)]
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert history.pause("PA_A") == BACKOFF.first
    assert [history.pause(Doing.LISTING) for _ in range(2000)][-1] == BACKOFF.longest, "no overflow"

    history.succeed(Doing.LISTING)

    assert history.pause(Doing.LISTING) == BACKOFF.first
    assert history.pause("PA_A") == 2 * BACKOFF.first


@pytest.mark.parametrize(("jitter", "pause", "denied"), [(0.0, 0.4, 24), (0.999, 0.5998, 35.988)])
def test_the_pause_is_up_to_a_fifth_more_or_less(jitter: float, pause: float, denied: float) -> None:
    """This spreads the rooms' retries, for example after a key was rejected."""
    history = History(jitter=lambda _: jitter)
    assert history.pause(Doing.LISTING) == pytest.approx(pause)

    history.begin(A, (A,), room(), 100, "enforce")
    history.end(A, Outcome.DENIED, 100)

    assert history.ledger(100).retry_at["PA_A"] == pytest.approx(100 + denied)


def test_what_is_wrong_is_told_once_until_it_works_again() -> None:
    """Told apart by activity and trouble."""
    history = begun()
    assert history.told.first(Topic.TROUBLE, Doing.LISTING, "denied")
    assert not history.told.first(Topic.TROUBLE, Doing.LISTING, "denied")
    assert history.told.first(Topic.TROUBLE, Doing.LISTING, "unavailable")
    assert history.told.first(Topic.TROUBLE, Doing.EVICTING, "denied")

    history.succeed(Doing.LISTING)

    assert history.told.first(Topic.TROUBLE, Doing.LISTING, "denied")
    assert not history.told.first(Topic.TROUBLE, Doing.EVICTING, "denied")


def test_another_configuration_arms_everything_again() -> None:
    """But it lifts no pause, and forgets no eviction."""
    history = begun(A)
    history.end(A, Outcome.FAILED, 100)
    history.begin(A, (A,), room(), 101, "enforce")
    history.report(A)
    history.notice(A)
    history.told.first(Topic.HOLD, *A.key, "exempt")
    ledger = history.ledger(101)
    assert (set(ledger.handled), dict(ledger.noticed)) == ({A.key}, {A.key: 10.0})

    history.reconfigure()

    ledger = history.ledger(101)
    assert not ledger.handled
    assert not ledger.noticed
    assert history.told.first(Topic.HOLD, *A.key, "exempt")
    assert (set(ledger.retry_at), set(ledger.evicted), set(ledger.leaving)) == ({"PA_A"}, {"A"}, {"PA_A"})


class TestAfterAWhile:
    """A room that lives for weeks doesn't grow."""

    def test_notes_on_departed_participants_are_dropped(self) -> None:
        """Notes on present participants stay, and so does what was told about policies and the API."""
        history = begun()
        b = Finding(Verdict(agent("B"), 10, "is idle"), RULE)
        for finding in (A, b):
            history.report(finding)
            history.notice(finding)
            history.told.first(Topic.HOLD, finding.participant.identity, "exempt")
            history.begin(finding, (), room(), 100, "enforce")
            history.end(finding, Outcome.FAILED, 100)
        history.told.first(Topic.FAULT, "idle_timeout", "ValueError")

        history.forget_departed(room(b.participant))

        ledger = history.ledger(100)
        assert (set(ledger.handled), set(ledger.noticed), set(ledger.retry_at)) == ({b.key}, {b.key}, {"PA_B"})
        assert not history.told.first(Topic.HOLD, "A", "exempt")
        assert not history.told.first(Topic.HOLD, "B", "exempt")
        assert not history.told.first(Topic.FAULT, "idle_timeout", "ValueError")
        assert history.pause("PA_A") == BACKOFF.first
        assert history.pause("PA_B") == 2 * BACKOFF.first

    def test_what_was_told_of_many_who_left_is_forgotten(self) -> None:
        """The oldest first. One that comes and goes is told of once."""
        history = begun()
        for i in range(MAX_SAID + 1):
            history.told.first(Topic.HOLD, f"agent-{i}", "idle_timeout", "exempt")
        history.forget_departed(room())

        assert history.told.first(Topic.HOLD, "agent-0", "idle_timeout", "exempt")
        assert not history.told.first(Topic.HOLD, "agent-1", "idle_timeout", "exempt")

    def test_an_evicted_agent_is_remembered_until_it_is_back(self) -> None:
        """It matters for what it left behind. What comes with the returned agent is its own."""
        history = begun(A)
        history.end(A, Outcome.REMOVED, 100)
        history.forget_departed(room(human("H")))
        history.forget_departed(room(A.participant))
        assert set(history.ledger(100).evicted) == {"A"}

        history.forget_departed(room(agent("A", sid="PA_another")))

        assert history.ledger(100).evicted == {}

    def test_the_last_evicted_are_remembered(self) -> None:
        """Their number is limited."""
        crowd = [Finding(Verdict(agent(f"agent-{i}"), 10, "is idle"), RULE) for i in range(REMEMBERED + 2)]
        history = begun(*crowd)
        for finding in crowd:
            history.end(finding, Outcome.LEFT, 100)

        history.forget_departed(room())

        assert list(history.ledger(100).evicted) == [f.participant.identity for f in crowd[2:]]


class TestASpentDispatch:
    """Its agent was removed, and nothing must restart it."""

    def test_is_taken_once(self) -> None:
        """Unless it is put back because it could not be deleted."""
        history = begun(A)
        history.end(A, Outcome.REMOVED, 100)
        assert history.take_spent(room(agent("B", dispatch="AD_2")), frozenset()) == ["AD_1"]
        assert history.take_spent(room(), frozenset()) == []

        history.spent.add("AD_1")

        assert history.take_spent(room(), frozenset()) == ["AD_1"]

    def test_is_left_alone_for_good_if_a_job_of_it_is_here(self) -> None:
        """It may be a replacement."""
        history = begun(A)
        history.end(A, Outcome.REMOVED, 100)
        assert history.take_spent(room(agent("B", dispatch="AD_1")), frozenset()) == []
        assert history.take_spent(room(), frozenset()) == []

    def test_is_none_of_a_worker_for_each_publisher(self) -> None:
        """Its dispatch serves people who are yet to come."""
        finding = Finding(Verdict(agent("A", dispatch="AD_1", serves="H"), 10, "is idle"), RULE)
        history = begun(finding)
        history.end(finding, Outcome.REMOVED, 100)

        assert history.spent == set()
