"""What we do in a room is written down, so that it is done once, tried again in time, and forgotten in the end."""

import pytest

from bouncer import Verdict
from bouncer.decide import Finding
from bouncer.history import BACKOFF, REMEMBERED, History, Outcome
from bouncer.policy import Rule
from bouncer.testing import agent, avatar, human, room
from policies.idle_timeout import IdleTimeout

RULE = Rule(policy=IdleTimeout())
A = Finding(Verdict(agent("A", dispatch="AD_1"), 10, "is idle"), RULE)
V = Finding(Verdict(avatar("V", "A"), 10, "is the avatar of an evicted agent"), RULE, follows=True)


def begun(*findings: Finding, sends: bool = True) -> History:
    """A history in which these evictions began at 100."""
    history = History(jitter=lambda: 0.5)
    for finding in findings:
        history.begin(finding, findings, 100, sends=sends)
    return history


class TestTheBudget:
    """Charged when a removal is sent, set aside when it is decided."""

    def test_is_set_aside_and_then_spent_for_a_minute(self) -> None:
        """One eviction counts once at any time."""
        history = begun(A)
        assert (history.ledger(100).unsent, history.ledger(100).sent) == (1, ())

        history.send(A, 101)

        assert (history.ledger(160).unsent, history.ledger(160).sent) == (0, (101,))
        assert history.ledger(161).sent == ()

    def test_is_given_back_by_what_was_never_sent(self) -> None:
        """It was called off."""
        history = begun(A)
        history.end(A, Outcome.VOID, 101)

        assert (history.ledger(101).unsent, history.ledger(101).sent) == (0, ())

    def test_pays_for_no_avatar_and_no_dry_run(self) -> None:
        """An avatar goes with its principal; a dry run sends nothing."""
        history = begun(A, V)
        history.send(V, 101)
        assert (history.ledger(101).unsent, history.ledger(101).sent) == (1, ())

        assert begun(A, sends=False).ledger(100).unsent == 0


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
    """Nobody is on the way out any more, in any case."""
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
    """The last one, if there were several."""
    history = begun(A)
    history.send(A, 103)
    history.send(A, 105)

    assert history.end(A, Outcome.REMOVED, 110).at == 105


def test_the_pause_is_doubled_up_to_a_limit_and_begins_anew_once_it_worked() -> None:
    """Each thing that fails has its own."""
    history = begun()
    pauses = [history.fail("listing") for _ in range(9)]
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert history.fail("PA_A") == BACKOFF[0]
    assert [history.fail("listing") for _ in range(2000)][-1] == BACKOFF[1], "no overflow"

    history.succeed("listing")

    assert history.fail("listing") == BACKOFF[0]
    assert history.fail("PA_A") == 2 * BACKOFF[0]


@pytest.mark.parametrize(("jitter", "pause", "denied"), [(0.0, 0.4, 24), (0.999, 0.5998, 35.988)])
def test_the_pause_is_up_to_a_fifth_more_or_less(jitter: float, pause: float, denied: float) -> None:
    """So that not all rooms try again at once; nor those of a worker whose key is refused."""
    history = History(jitter=lambda: jitter)
    assert history.fail("listing") == pytest.approx(pause)

    history.begin(A, (A,), 100, sends=True)
    history.end(A, Outcome.DENIED, 100)

    assert history.ledger(100).retry_at["PA_A"] == pytest.approx(100 + denied)


def test_what_is_wrong_is_told_once_until_it_works_again() -> None:
    """By what was done and what was wrong with it."""
    history = begun()
    assert history.first_time("api", "listing", "denied")
    assert not history.first_time("api", "listing", "denied")
    assert history.first_time("api", "listing", "unavailable")
    assert history.first_time("api", "evicting", "denied")

    history.succeed("listing")

    assert history.first_time("api", "listing", "denied")
    assert not history.first_time("api", "evicting", "denied")


def test_another_configuration_arms_everything_again() -> None:
    """But it lifts no pause, and forgets nobody who was evicted."""
    history = begun(A)
    history.end(A, Outcome.FAILED, 100)
    history.begin(A, (A,), 101, sends=True)
    history.report(A)
    history.notice(A)
    history.first_time(*A.key, "exempt")
    ledger = history.ledger(101)
    assert (set(ledger.handled), dict(ledger.noticed)) == ({A.key}, {A.key: 10.0})

    history.reconfigure()

    ledger = history.ledger(101)
    assert not ledger.handled
    assert not ledger.noticed
    assert history.first_time(*A.key, "exempt")
    assert (set(ledger.retry_at), set(ledger.evicted), set(ledger.leaving)) == ({"PA_A"}, {"A"}, {"PA_A"})


class TestAfterAWhile:
    """A room that lives for weeks doesn't grow."""

    def test_what_was_noted_of_those_who_are_gone_is_dropped(self) -> None:
        """Of those who are here it stays, and what was told of policies and of the API."""
        history = begun()
        b = Finding(Verdict(agent("B"), 10, "is idle"), RULE)
        for finding in (A, b):
            history.report(finding)
            history.notice(finding)
            history.first_time(*finding.key, "exempt")
            history.begin(finding, (), 100, sends=True)
            history.end(finding, Outcome.FAILED, 100)
        history.first_time("fault", "idle_timeout", "ValueError")

        history.forget_departed(room(b.participant))

        ledger = history.ledger(100)
        assert (set(ledger.handled), set(ledger.noticed), set(ledger.retry_at)) == ({b.key}, {b.key}, {"PA_B"})
        assert history.first_time(*A.key, "exempt")
        assert not history.first_time(*b.key, "exempt")
        assert not history.first_time("fault", "idle_timeout", "ValueError")
        assert history.fail("PA_A") == BACKOFF[0]
        assert history.fail("PA_B") == 2 * BACKOFF[0]

    def test_who_was_evicted_is_remembered_until_it_is_back(self) -> None:
        """For what it left behind; what comes with the one that is back is that one's own."""
        history = begun(A)
        history.forget_departed(room(human("H")))
        history.forget_departed(room(A.participant))
        assert set(history.ledger(100).evicted) == {"A"}

        history.forget_departed(room(agent("A", sid="PA_another")))

        assert history.ledger(100).evicted == {}

    def test_the_last_evicted_are_remembered(self) -> None:
        """So many, and no more."""
        crowd = [Finding(Verdict(agent(f"agent-{i}"), 10, "is idle"), RULE) for i in range(REMEMBERED + 2)]
        history = begun(*crowd)

        history.forget_departed(room())

        assert list(history.ledger(100).evicted) == [f.participant.identity for f in crowd[2:]]


class TestASpentDispatch:
    """Its agent was removed, and nothing shall start it again."""

    def test_is_taken_once(self) -> None:
        """Unless it is put back, as it could not be deleted."""
        history = begun(A)
        history.end(A, Outcome.REMOVED, 100)
        assert history.take_spent(room(agent("B", dispatch="AD_2")), frozenset()) == ["AD_1"]
        assert history.take_spent(room(), frozenset()) == []

        history.spent.add("AD_1")

        assert history.take_spent(room(), frozenset()) == ["AD_1"]

    def test_is_let_alone_for_good_if_a_job_of_it_is_here(self) -> None:
        """A replacement, say."""
        history = begun(A)
        history.end(A, Outcome.REMOVED, 100)
        assert history.take_spent(room(agent("B", dispatch="AD_1")), frozenset()) == []
        assert history.take_spent(room(), frozenset()) == []

    def test_is_none_of_a_worker_for_each_publisher(self) -> None:
        """Its dispatch serves those who are yet to come."""
        finding = Finding(Verdict(agent("A", dispatch="AD_1", publisher="H"), 10, "is idle"), RULE)
        history = begun(finding)
        history.end(finding, Outcome.REMOVED, 100)

        assert history.spent == set()
