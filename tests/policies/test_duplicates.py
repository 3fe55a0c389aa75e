"""duplicates: all but `max` agents with the same key."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bouncer import LONGEST_METADATA, Participant, Role, Room
from bouncer.testing import agent, due, human, participant, room
from policies.duplicates import Duplicates
from tests.strategies import rooms
from tests.told import calls

JOB_1, JOB_2 = "agent-AJ_1", "agent-AJ_2"


def verdicts(house: Room, **options: Any) -> dict[str, float]:
    """Return what is due under the policy with these options."""
    return due(Duplicates(**options).evaluate(house))


def test_the_younger_of_two_is_due_one_grace_after_it_joined() -> None:
    """The oldest stays; the other gets `grace` seconds from when both were there."""
    house = room(agent("A", "assistant", joined=10, alive=31), agent("B", "assistant", joined=30), human("H"))

    assert verdicts(house) == {"B": 32}
    assert verdicts(house, grace=5) == {"B": 35}


def test_keep_newest_counts_from_when_the_newest_joined() -> None:
    """An agent becomes a duplicate only once a preferred one has joined."""
    house = room(agent("A", "assistant", joined=10), agent("B", "assistant", joined=30))

    assert verdicts(house, keep="newest") == {"A": 32}


def test_max_lets_that_many_stay() -> None:
    """With `max` 2, two of four stay."""
    house = room(*(agent(i, "assistant", joined=j, alive=9) for i, j in [("A", 1), ("B", 2), ("C", 3), ("D", 4)]))

    assert verdicts(house, max=2) == {"C": 5, "D": 6}
    assert verdicts(house, max=2, keep="newest") == {"A": 5, "B": 6}


@pytest.mark.parametrize(
    "participants",
    [
        pytest.param([], id="empty room"),
        pytest.param([agent("A", "assistant")], id="one agent"),
        pytest.param([agent("A", "assistant"), agent("B", "support")], id="two names"),
        pytest.param([agent("A", "assistant"), agent("B", "Assistant")], id="names differ in case"),
        pytest.param([agent("A"), agent("B")], id="agents without a name"),
        pytest.param([human("A"), human("B")], id="people"),
        pytest.param([agent("A", "x"), participant("B", agent_name="x")], id="an agent and a person"),
        pytest.param(
            [agent("A", "x"), participant("B", role=Role.BOUNCER, agent_name="x")], id="an agent and a bouncer"
        ),
        pytest.param([agent("A", "x", serves="ana"), agent("B", "x", serves="bob")], id="agents that serve two people"),
    ],
)
def test_nothing_happens(participants: list[Participant]) -> None:
    """Anything but a second agent with the same name is no duplicate."""
    assert verdicts(room(*participants)) == {}


def test_one_that_is_still_joining_counts_for_nothing() -> None:
    """Only ACTIVE participants are judged, and a joining one that may never arrive doesn't count."""
    joining = participant("B", role=Role.AGENT, agent_name="assistant", active=False)

    assert verdicts(room(agent("A", "assistant", joined=5), joining)) == {}


def test_two_agents_that_serve_one_participant_are_duplicates() -> None:
    """A worker per participant gives each person one agent, not two."""
    house = room(agent("A", "x", joined=1, alive=2, serves="ana"), agent("B", "x", joined=2, serves="ana"))

    assert verdicts(house) == {"B": 4}


def test_unnamed_agents_are_one_group_if_asked() -> None:
    """`unnamed` makes agents without a name duplicates of each other, but not of named ones."""
    house = room(agent("A", joined=1, alive=2), agent("B", joined=2), agent("C", "x", joined=3))

    assert verdicts(house, unnamed=True) == {"B": 4}


def test_an_attribute_can_be_the_key() -> None:
    """Agents with the same value of the attribute are duplicates; those without it are not."""
    house = room(
        agent("A", "x", joined=1, alive=2, attributes={"desk": "1"}),
        agent("B", "y", joined=2, attributes={"desk": "1"}),
        agent("C", "x", joined=3, attributes={"desk": "2"}),
        agent("D", "x", joined=4),
    )

    assert verdicts(house, key="attribute:desk") == {"B": 4}


@pytest.mark.parametrize(
    "key", ["", "name", "attribute", "attribute:", ("agent_name", "name"), ("agent_name", "attribute:")]
)
def test_a_key_is_made_of_a_name_attributes_and_metadata(key: str | tuple[str, ...]) -> None:
    """Anything else is refused with what is allowed."""
    with pytest.raises(ValueError, match='must be "agent_name", or "attribute:NAME"'):
        Duplicates(key=key)


@pytest.mark.parametrize(
    ("key", "out"),
    [
        pytest.param("dispatch_metadata", {"B"}, id="the dispatch's metadata"),
        pytest.param(("agent_name", "dispatch_metadata"), {"B"}, id="name and task"),
        pytest.param(("agent_name", "metadata"), {"C"}, id="name and its own metadata"),
        pytest.param(("agent_name", "dispatch_metadata", "metadata"), set(), id="all of them"),
        pytest.param(("agent_name",), {"B", "C"}, id="a list of one"),
    ],
)
def test_a_list_is_a_composite_key(key: str | tuple[str, ...], out: set[str]) -> None:
    """Duplicates agree in all of it; an agent without one of the values is in no group."""
    house = room(
        agent("A", "x", joined=1, alive=9, dispatch_metadata="task 1", metadata="m"),
        agent("B", "x", joined=2, alive=9, dispatch_metadata="task 1"),
        agent("C", "x", joined=3, alive=9, dispatch_metadata="task 2", metadata="m"),
        agent("D", "", joined=4, alive=9, dispatch_metadata="", metadata=""),
    )

    assert set(verdicts(house, key=key)) == out


def test_metadata_has_a_date() -> None:
    """The grace counts from when both have the same."""
    house = room(
        agent("A", joined=1, alive=90, metadata="m"),
        agent("B", joined=2, alive=90, metadata="m", metadata_at=50),
    )

    assert verdicts(house, key="metadata") == {"B": 52}


def test_metadata_of_which_only_the_beginning_is_kept_is_no_key() -> None:
    """The rest may differ."""
    long = "m" * LONGEST_METADATA
    house = room(agent("A", joined=1, alive=90, metadata=long), agent("B", joined=2, alive=90, metadata=long))

    assert verdicts(house, key="metadata") == {}


class TestReplacements:
    """A crashed agent stays listed for about 20 s while its restarted job joins alongside."""

    def test_of_one_dispatch_the_newest_job_stays_whatever_keep_says(self) -> None:
        """The restarted job is the rightful one."""
        house = room(agent(JOB_1, "x", joined=1, replaced=True), agent(JOB_2, "x", joined=20, dispatch="AD_1"))

        assert verdicts(house) == {JOB_1: 22}
        assert verdicts(house, keep="newest") == {JOB_1: 22}

    def test_one_that_was_replaced_stays_so(self) -> None:
        """Its replacement has left again, and it may be dead: no other agent leaves in its favour."""
        house = room(agent(JOB_1, "x", joined=1, replaced=True), agent("B", "x", joined=10))

        assert verdicts(house) == {JOB_1: 12}
        assert verdicts(room(agent(JOB_1, "x", joined=1, replaced=True))) == {}

    def test_keep_chooses_between_dispatches(self) -> None:
        """Of two dispatches, each with a dead and a restarted job, the oldest dispatch's restarted job stays."""
        house = room(
            agent("A1", "x", joined=1, replaced=True),
            agent("B1", "x", joined=2, replaced=True),
            agent("A2", "x", joined=20, dispatch="AD_A"),
            agent("B2", "x", joined=21, dispatch="AD_B"),
        )

        assert set(verdicts(house)) == {"A1", "B1", "B2"}
        assert set(verdicts(house, keep="newest")) == {"A1", "B1", "A2"}

    @pytest.mark.parametrize("dispatch", ["", "AD_2"])
    @pytest.mark.parametrize("identity", [JOB_2, "B"])
    def test_one_that_may_replace_a_silent_one_has_25_s(self, identity: str, dispatch: str) -> None:
        """A killed agent is listed that long, and self-hosted its replacement comes from another dispatch."""
        house = room(
            agent(JOB_1, "x", joined=1, alive=19, dispatch="AD_1"), agent(identity, "x", joined=20, dispatch=dispatch)
        )

        assert verdicts(house) == {identity: 45}
        assert verdicts(house, grace=30) == {identity: 50}
        assert verdicts(house, wait_for_life=10) == {identity: 30}
        assert verdicts(house, wait_for_life=0) == {identity: 22}

    @pytest.mark.parametrize("alive", [19.001, 20, 20.5, 300])
    def test_an_elder_that_shows_life_is_no_corpse(self, alive: float) -> None:
        """Since the younger one joined, or less than 1 s before: then `keep` decides at once."""
        house = room(agent("A", "x", joined=1, alive=alive), agent("B", "x", joined=20))

        assert verdicts(house) == {"B": 22}

    def test_once_the_elder_has_gone_there_is_no_verdict(self) -> None:
        """LiveKit lists the corpse no longer."""
        assert verdicts(room(agent("B", "x", joined=20))) == {}

    def test_each_younger_one_waits_for_itself(self) -> None:
        """The elder showed life before C joined, and after B did."""
        house = room(
            agent("A", "x", joined=1, alive=25), agent("B", "x", joined=20), agent("C", "x", joined=30, alive=90)
        )

        assert verdicts(house) == {"B": 22, "C": 55}

    def test_one_of_those_that_stay_may_be_the_corpse(self) -> None:
        """With `max` 2, C may replace either of the two; D may replace B even if A lives."""
        house = room(
            agent("A", "x", joined=1, alive=90),
            agent("B", "x", joined=2),
            agent("C", "x", joined=20),
            agent("D", "x", joined=30),
        )

        assert verdicts(house, max=2) == {"C": 45, "D": 55}

    def test_no_one_waits_for_the_sake_of_a_younger_one(self) -> None:
        """With `keep` "newest" the older one leaves at once; so does one that was replaced."""
        newest = room(agent("A", "x", joined=1), agent("B", "x", joined=20))
        replaced = room(
            agent("A", "x", joined=1), agent(JOB_1, "x", joined=20, replaced=True), agent(JOB_2, "x", joined=30)
        )

        assert verdicts(newest, keep="newest") == {"A": 22}
        assert verdicts(replaced) == {JOB_1: 22, JOB_2: 55}


class TestConfirmed:
    """Among agents with one name, those whose dispatch confirms it take precedence."""

    @pytest.mark.parametrize("keep", ["oldest", "newest"])
    def test_an_impostor_does_not_push_out_the_dispatched_one(self, keep: str) -> None:
        """Whichever came first."""
        first = room(agent("A", "x", joined=1, alive=90), agent(JOB_2, "x", joined=20, dispatch="AD_1", alive=90))
        last = room(agent(JOB_1, "x", joined=1, dispatch="AD_1", alive=90), agent("B", "x", joined=20, alive=90))

        assert verdicts(first, keep=keep) == {"A": 22}
        assert verdicts(last, keep=keep) == {"B": 22}

    def test_of_those_that_are_confirmed_the_oldest_stay(self) -> None:
        """With `max` 2, both of them and no other."""
        house = room(
            agent("A", "x", joined=1, alive=90),
            agent(JOB_1, "x", joined=2, dispatch="AD_1", alive=90),
            agent("B", "x", joined=3, alive=90),
            agent(JOB_2, "x", joined=20, dispatch="AD_2", alive=90),
        )

        assert verdicts(house) == {"A": 4, "B": 5, JOB_2: 22}
        assert verdicts(house, max=2) == {"A": 22, "B": 5}

    def test_one_whose_dispatch_may_be_listed_yet_has_six_seconds(self) -> None:
        """Against one without a dispatch, or against a younger one that is listed already."""
        impostor, dispatched = agent("A", "x", joined=1, alive=90), agent(JOB_2, "x", joined=20, alive=90)
        older, younger = agent(JOB_1, "x", joined=20), agent(JOB_2, "x", joined=20.5, dispatch="AD_2")

        assert verdicts(room(impostor, dispatched)) == {JOB_2: 26}
        assert verdicts(room(older, younger)) == {JOB_1: 26}

    def test_next_to_one_that_is_confirmed_there_is_nothing_to_wait_for(self) -> None:
        """The older one stays in any case."""
        house = room(agent(JOB_1, "x", joined=1, alive=90, dispatch="AD_1"), agent(JOB_2, "x", joined=20))

        assert verdicts(house) == {JOB_2: 22}

    def test_names_do_not_mix(self) -> None:
        """A dispatch that confirms one name gives no right to the place of another."""
        house = room(
            agent("A", "x", joined=1, alive=90, attributes={"desk": "1"}),
            agent(JOB_2, "y", joined=20, dispatch="AD_1", alive=90, attributes={"desk": "1"}),
        )

        assert verdicts(house, key="attribute:desk") == {JOB_2: 22}


class TestServing:
    """Agents of one name may each serve a participant of their own. Which one that is shows once jobs are listed."""

    @staticmethod
    def settled(house: Room, **options: Any) -> dict[str, tuple[float, bool]]:
        """Return what is due when, and whether it is beyond doubt."""
        return {v.participant.identity: (v.due, not v.doubt) for v in Duplicates(**options).evaluate(house)}

    @pytest.mark.parametrize(
        ("elder", "younger", "options", "verdict"),
        [
            pytest.param(True, True, {}, (18.5, False), id="no job is known"),
            pytest.param(True, True, {"grace": 30}, (41, False), id="nor would it be due before"),
            pytest.param(False, True, {}, (13, True), id="the elder's is known"),
            pytest.param(True, False, {}, (13, True), id="the younger's is known"),
            pytest.param(False, False, {}, (13, True), id="both are known"),
        ],
    )
    def test_two_that_came_at_once_have_until_one_of_their_jobs_is_known(
        self, *, elder: bool, younger: bool, options: dict[str, Any], verdict: tuple[float, bool]
    ) -> None:
        """That takes 7.5 s from joining at most; then one grace counts as ever."""
        house = room(
            agent("A", "x", joined=10, alive=90, may_serve=elder), agent("B", "x", joined=11, may_serve=younger)
        )

        assert self.settled(house, **options) == {"B": verdict}

    def test_the_one_that_leaves_waits_for_its_own_job(self) -> None:
        """With `keep` "newest" that is the elder, which came first."""
        house = room(agent("A", "x", joined=10, may_serve=True), agent("B", "x", joined=11, may_serve=True))

        assert self.settled(house, keep="newest") == {"A": (17.5, False)}

    def test_any_of_those_that_stay_may_be_the_other(self) -> None:
        """With `max` 2, A's job is known, and B and C may have two people to serve."""
        house = room(
            agent("A", "x", joined=10, alive=90),
            agent("B", "x", joined=11, alive=90, may_serve=True),
            agent("C", "x", joined=12, may_serve=True),
            agent("D", "x", joined=13),
        )

        assert self.settled(house, max=2) == {"C": (19.5, False), "D": (15, True)}

    def test_no_one_waits_for_another_that_has_to_leave(self) -> None:
        """A stays, and its job is known. Whom B and C serve makes no difference between the two."""
        house = room(
            agent("A", "x", joined=10, alive=90),
            agent("B", "x", joined=11, may_serve=True),
            agent("C", "x", joined=12, may_serve=True),
        )

        assert self.settled(house) == {"B": (13, True), "C": (14, True)}

    def test_one_that_was_replaced_waits_for_nothing(self) -> None:
        """Its job is known, and the newer one of its dispatch does the same."""
        house = room(
            agent(JOB_1, "x", joined=10, replaced=True, may_serve=True), agent("B", "x", joined=11, may_serve=True)
        )

        assert self.settled(house) == {JOB_1: (13, True)}


@given(rooms, st.integers(1, 4), st.integers(0, 20), st.integers(0, 30))
def test_the_wait_only_postpones(house: Room, limit: int, grace: int, wait: int) -> None:
    """The same agents leave, none earlier than without it, and none later than `wait_for_life` after joining."""
    options = {"max": limit, "grace": grace, "unnamed": True}
    at_once, waiting = verdicts(house, **options, wait_for_life=0), verdicts(house, **options, wait_for_life=wait)

    assert at_once.keys() == waiting.keys()
    for agent_ in (agent_ for agent_ in house.agents if agent_.identity in waiting):
        due_at = at_once[agent_.identity]
        assert waiting[agent_.identity] in (due_at, max(due_at, agent_.joined_at + wait))


def test_many_duplicates_are_linear_work() -> None:
    """Twice as many agents take about twice the calls."""

    def work(size: int) -> int:
        house = room(*(agent(f"A{i}", "x", joined=i) for i in range(size)))
        return calls(lambda: list(Duplicates(max=3).evaluate(house)))

    assert work(400) < 3 * work(200)
