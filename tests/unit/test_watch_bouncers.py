"""Bouncers among themselves: the oldest acts, the next stands by, further ones are sent away. No event loop."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from bouncer.guard.schedule import CLAIM_FOR, POSTPONED_FOR, SURPLUS_FOR
from bouncer.guard.watch import Claim, DeleteDispatch, Evict, ListJobs, ListParticipants, Standing
from bouncer.observers import Stands
from bouncer.ports import ApiError, Says, Trouble
from bouncer.room import GUARDING_ATTRIBUTE, Participant, Role, Room
from tests.bench import ME, Bench

STRICT: dict[str, Any] = {
    "duplicates": {"grace": 1, "wait_for_life": 0},
    "max_lifetime": {"limit": 3, "action": "report"},
}


def comes(
    bench: Bench,
    identity: str,
    *,
    joined: float | None = None,
    guarding: bool = True,
    dispatched: bool = True,
    **facts: Any,
) -> None:
    """Let another agent with our name be listed, with all that makes it a bouncer."""
    now, bench.now = bench.now, bench.now if joined is None else joined
    says = {GUARDING_ATTRIBUTE: "true"} if guarding else {}
    facts = dict[str, Any](hidden=True, attributes=says) | facts
    bench.joins(f"agent-AJ_{identity}", "bouncer", dispatch=f"AD_{identity}" if dispatched else "", **facts)
    bench.now = now


def elder(bench: Bench, identity: str = "elder") -> None:
    """Let a bouncer be listed that was there before us."""
    comes(bench, identity, joined=-10)


def two_of_a_kind(bench: Bench) -> None:
    """Let two agents with one name join: the second is one too many."""
    bench.joins("A", "assistant")
    bench.until(bench.now + 1)
    bench.joins("B", "assistant")


class TestRank:
    """Which of them acts."""

    @pytest.mark.parametrize(
        ("facts", "standing"),
        [
            pytest.param({"joined": -10}, Standing.STANDING_BY, id="an older bouncer"),
            pytest.param({"joined": 1}, Standing.ACTING, id="a younger one"),
            pytest.param({"joined": -10, "guarding": False}, Standing.ACTING, id="it gave up its claim"),
            pytest.param({"joined": -10, "dispatched": False}, Standing.ACTING, id="no dispatch sent it"),
            pytest.param({"joined": -10, "hidden": False}, Standing.ACTING, id="it can be seen"),
            pytest.param({"joined": -10, "active": False}, Standing.ACTING, id="it is still joining"),
        ],
    )
    def test_only_an_older_bouncer_that_guards_the_room_makes_us_stand_by(
        self, facts: dict[str, Any], standing: Standing
    ) -> None:
        """A standby judges nothing, so no agent is evicted or reported twice."""
        bench = Bench(policies=STRICT)
        comes(bench, "other", **facts)
        two_of_a_kind(bench)
        bench.until(60)

        acts = standing is Standing.ACTING
        assert bench.watch.standing is standing
        assert ("B" in bench.identities, bool(bench.told)) == (not acts, acts)

    def test_of_any_number_exactly_one_has_no_senior(self) -> None:
        """By the server's milliseconds, then by sid, so all come to the same result."""
        says = {GUARDING_ATTRIBUTE: "true"}
        bouncers = tuple(
            Participant(sid=f"PA_{i}", identity=f"B{i}", role=Role.BOUNCER, joined_ms=i // 2, attributes=says)
            for i in range(5)
        )
        rooms = [Room(me=me.identity, participants=bouncers) for me in bouncers]

        assert [(len(room.seniors), len(room.juniors)) for room in rooms] == [(0, 4), (1, 3), (2, 2), (3, 1), (4, 0)]

    def test_a_forged_bouncer_is_judged_like_any_agent(self) -> None:
        """It is hidden, has our name, claims the room and looks like a job, but no dispatch sent it."""
        bench = Bench(policies={"deny_list": {"agent_names": ["bouncer"]}})
        elder(bench)
        comes(bench, "forged", dispatched=False)
        bench.until(20)
        del bench.here["agent-AJ_elder"]
        bench.until(40)

        assert bench.outcomes == [("agent-AJ_forged", "removed")]

    def test_a_standby_lists_the_room_every_five_seconds(self) -> None:
        """However much happens in the room."""
        bench = Bench(policies=STRICT)
        elder(bench)
        bench.until(10)
        for i in range(100):
            bench.joins(f"human {i}")
            bench.until(11 + i)

        assert 18 <= len([at for at in bench.made(ListParticipants) if at > 10]) <= 23
        assert [at for at in bench.made(ListJobs, Claim, DeleteDispatch, Evict) if at > 10] == []

    def test_a_standby_acts_soon_after_the_older_one_has_gone(self) -> None:
        """No event announces that; two of its lists show it."""
        bench = Bench(policies=STRICT)
        elder(bench)
        two_of_a_kind(bench)
        bench.until(20)
        del bench.here["agent-AJ_elder"]
        bench.until(27.5)

        assert bench.outcomes == [("B", "removed")]

    def test_a_standby_takes_over_though_its_worker_is_out_of_calls(self) -> None:
        """Its lists are postponed, but not for ever: nothing else shows that the acting bouncer is gone."""
        bench = Bench(policies=STRICT, throttled=True)
        elder(bench)
        two_of_a_kind(bench)
        bench.until(100)
        quiet = [at for at, c in bench.commands if isinstance(c, ListParticipants) and c.urgent]
        assert bench.outcomes == []
        del bench.here["agent-AJ_elder"]
        bench.until(110 + 2 * POSTPONED_FOR)

        assert bench.outcomes == [("B", "removed")]
        assert bench.failing == []
        assert min(later - sooner for sooner, later in pairwise(quiet[1:])) >= POSTPONED_FOR

    def test_a_third_one_takes_over_from_two_that_were_killed(self) -> None:
        """It is not sent away while they are still listed."""
        bench = Bench(policies=STRICT)
        elder(bench, "1")
        elder(bench, "2")
        two_of_a_kind(bench)
        bench.until(200)
        assert (bench.outcomes, bench.made(DeleteDispatch)) == ([], [])
        for i in (1, 2):
            del bench.here[f"agent-AJ_{i}"]
            bench.until(200 + 10 * i)

        assert bench.outcomes == [("B", "removed")]
        assert [
            len(news.seniors) for news in bench.news if isinstance(news, Stands) and news.standing != "unsurveyed"
        ] == [0, 2, 1, 0]

    def test_an_eviction_is_called_off_once_an_older_bouncer_is_seen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It may have been missing from one list, or have claimed the room late."""
        monkeypatch.setattr("bouncer.guard.watch.FRESH", -1.0)
        bench = Bench(policies=STRICT)
        comes(bench, "elder", joined=-10, guarding=False)
        quiet = bench.here["agent-AJ_elder"]
        claiming = replace(quiet, attributes={**quiet.attributes, GUARDING_ATTRIBUTE: "true"})
        bench.meanwhile = lambda: bench.here.update({claiming.identity: claiming})
        two_of_a_kind(bench)
        bench.until(60)

        assert bench.outcomes == [("B", "void")]

    def test_a_list_from_before_a_reconnect_proves_nothing(self) -> None:
        """It was asked for while blind, and an older bouncer may have come since."""
        bench = Bench(policies=STRICT)
        bench.until(10)
        bench.watch.listing.soon(10)
        (command,) = bench.watch.step(11).commands
        old, before = tuple(bench.here.values()), bench.evaluations
        bench.now = 12
        bench.disconnects()
        elder(bench)
        bench.reconnects()
        bench.watch.answered(command, old, 12)

        bench.until(13)

        assert [standing for _, standing in bench.standings][-2:] == [Standing.UNSURVEYED, Standing.STANDING_BY]
        assert bench.evaluations == before


class TestSurplus:
    """Two bouncers are enough; the acting one ends the jobs of further ones."""

    @pytest.mark.parametrize("others", [1, 2, 4])
    def test_one_stands_by_and_further_ones_are_sent_away_once(self, others: int) -> None:
        """Not before a killed one would have disappeared from the list."""
        bench = Bench()
        bench.until(1)
        for i in range(others):
            comes(bench, f"{i}")
        bench.until(SURPLUS_FOR - 2)
        assert len(bench.identities) == others
        bench.until(3 * SURPLUS_FOR)

        assert bench.identities == {"agent-AJ_0"}
        assert len(bench.made(DeleteDispatch)) == others - 1

    def test_the_third_may_stay_if_the_second_has_gone_in_time(self) -> None:
        """It stands by from then on."""
        bench = Bench()
        bench.until(1)
        comes(bench, "1")
        comes(bench, "2")
        bench.until(SURPLUS_FOR - 10)
        del bench.here["agent-AJ_1"]
        bench.until(4 * SURPLUS_FOR)

        assert bench.identities == {"agent-AJ_2"}
        assert bench.made(DeleteDispatch) == []

    @pytest.mark.parametrize("why", ["it stands by", "it hands the room over"])
    def test_a_bouncer_that_sends_no_other_away(self, why: str) -> None:
        """Only the acting one does."""
        bench = Bench()
        bench.until(1)
        if why == "it stands by":
            elder(bench)
        else:
            bench.here[ME.identity] = replace(ME, attributes={})
        comes(bench, "1")
        comes(bench, "2")
        bench.until(3 * SURPLUS_FOR)

        assert bench.made(DeleteDispatch) == []

    @pytest.mark.parametrize("failure", [None, ApiError(Trouble.UNAVAILABLE, "no answer")])
    def test_one_that_does_not_go_is_asked_again_only_now_and_then(self, failure: Exception | None) -> None:
        """Its job hangs, or the server doesn't answer."""
        bench = Bench(fails={DeleteDispatch: failure} if failure else {})
        bench.until(1)
        comes(bench, "1")
        comes(bench, "2")
        bench.stuck.add("agent-AJ_2")
        bench.until(20 * SURPLUS_FOR)

        assert 10 <= len(bench.made(DeleteDispatch)) <= 20


class TestRejectedKey:
    """A bouncer whose key is rejected gives up its claim, so that the next one acts."""

    def test_for_removals(self) -> None:
        """It says so once, goes on trying every half minute, and claims the room again with the first success."""
        bench = Bench(policies=STRICT, removal_trouble=Trouble.DENIED)
        two_of_a_kind(bench)
        bench.until(8)
        assert bench.claims == [True, False]
        bench.until(600)
        assert (bench.claims, bench.outcomes) == ([True, False], [("B", "denied")])
        assert len(bench.made(Evict)) <= 21

        bench.removal_trouble = None
        bench.until(635)

        assert (bench.claims, "B" in bench.identities) == ([True, False, True], False)

    def test_for_lists(self) -> None:
        """Nothing is evicted until a list works again, and the claim is back with it."""
        bench = Bench(policies=STRICT)
        bench.until(20)
        bench.trouble = Trouble.DENIED
        two_of_a_kind(bench)
        bench.until(100)
        assert (bench.claims, bench.outcomes) == ([True, False], [])
        bench.trouble = None
        bench.until(135)

        assert (bench.claims, bench.outcomes) == ([True, False, True], [("B", "removed")])
        assert bench.failing == ["listing"]

    @pytest.mark.parametrize(
        ("trouble", "within"), [(Trouble.UNAVAILABLE, CLAIM_FOR), (Trouble.THROTTLED, CLAIM_FOR + POSTPONED_FOR)]
    )
    def test_lists_that_go_unanswered(self, trouble: Trouble, within: float) -> None:
        """Another bouncer may have calls left, or reach the server. Removals that fail are no reason."""
        bench = Bench(policies=STRICT, removal_trouble=trouble)
        two_of_a_kind(bench)
        bench.until(60)
        bench.trouble = trouble
        bench.until(60 + within - 16)
        assert bench.claims == [True]
        bench.until(61 + within)
        assert bench.claims == [True, False]
        bench.trouble = None
        bench.until(120)

        assert bench.claims == [True, False, True]

    def test_a_standby_is_ready_for_the_next_time(self) -> None:
        """The older one's key works again. Whether ours does, no one knows until we try."""
        bench = Bench(policies=STRICT, removal_trouble=Trouble.DENIED)
        two_of_a_kind(bench)
        bench.until(20)
        elder(bench)
        bench.until(50)

        assert bench.claims == [True, False, True]

    @pytest.mark.parametrize("failure", [ApiError(Trouble.UNAVAILABLE, "no answer"), ValueError("the test says so")])
    def test_a_claim_that_cannot_be_changed_is_tried_again(self, failure: Exception) -> None:
        """With the next list."""
        bench = Bench(policies=STRICT)
        bench.until(1)
        bench.trouble, bench.fails = Trouble.DENIED, {Claim: failure}
        bench.until(60)
        assert len(bench.claims) > 2
        bench.fails = {}
        bench.until(120)

        assert bench.here[ME.identity].attributes == {}
        assert bench.claims[0] is True
        assert set(bench.claims[1:]) == {False}

    def test_a_claim_without_an_answer_may_have_been_heard(self) -> None:
        """So it is taken back."""
        bench = Bench(policies=STRICT, fails={Claim: ApiError(Trouble.UNAVAILABLE, "no answer")})
        bench.until(1)
        assert set(bench.claims) == {True}
        bench.trouble = Trouble.DENIED
        bench.until(30)
        bench.fails = {}
        bench.until(60)

        assert bench.claims[-1] is False

    def test_a_full_reconnect_forgets_what_was_said(self) -> None:
        """So it is said again."""
        bench = Bench()
        bench.until(1)
        bench.reconnects_fully()
        bench.until(3)

        assert bench.claims == [True, True]

    def test_a_bouncer_without_a_valid_configuration_says_so(self) -> None:
        """It claims the room once it has one."""
        bench = Bench(policies="none")
        bench.until(10)
        assert [c.says for _, c in bench.commands if isinstance(c, Claim)] == [Says.UNCONFIGURED]
        bench.configure(policies=None)
        bench.until(11)

        assert [c.says for _, c in bench.commands if isinstance(c, Claim)] == [Says.UNCONFIGURED, Says.GUARDING]

    def test_a_bouncer_that_hands_over_leaves_its_claim_to_the_driver(self) -> None:
        """A successor is being found, and must not stand by."""
        bench = Bench()
        bench.until(1)
        bench.watch.hand_over()
        bench.trouble = Trouble.DENIED
        bench.until(100)
        bench.trouble = None
        bench.until(200)

        assert bench.claims == [True]
