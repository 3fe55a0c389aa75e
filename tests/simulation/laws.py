"""The laws of the engine, checked on the decisions that really were taken: the same tests that property tests feed."""

from random import Random
from typing import Any

from bouncer.guard.patrol import Patrol
from bouncer.observers import Decided
from tests.laws import test_laws as laws


def check(patrol: Patrol, decided: Decided, random: Random) -> str:
    """Return what a decision breaks of the laws; "" if nothing."""
    config, at, decision = patrol.config, decided.at, decided.decision
    assert config
    guards = config.guards
    situation = laws.Situation(decided.room, config.rules, guards, decided.ledger)
    if not patrol.tracker.unsure and situation.at(at) != decision:
        return "decided again, it is another decision"
    later = random.choice((0.5, 5.0, 100.0))
    # Alone, a rule may evict the agent that all rules together keep as the last one.
    earliest = () if guards.keep_last_agent else ((laws.test_4_each_at_most_once_and_the_earliest_due_wins, ()),)
    tests: tuple[tuple[Any, tuple[Any, ...]], ...] = (
        (laws.test_1_time_only_adds_evictions, (later,)),
        (laws.test_2_nothing_changes_before_wake_at, (random.random(),)),
        (laws.test_3_only_other_agents_are_ever_evicted, ()),
        *earliest,
        (laws.test_5_order_makes_no_difference, (random,)),
        (laws.test_8_a_decision_that_was_carried_out_asks_for_nothing_new, ()),
        (laws.test_9_two_bouncers_choose_the_same_victims, ()),
        (laws.test_what_was_handled_neither_repeats_nor_wakes_the_loop, ()),
    )
    for test, more in tests:
        try:
            test.hypothesis.inner_test(situation, at, *more)
        except AssertionError as error:
            return f"{test.__name__}: {error}"
    return ""
