"""duplicates: all but `max` agents with the same key."""

from collections.abc import Mapping
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


def x(identity: str, joined: float, **facts: Any) -> Participant:
    """Return an agent with the name that all share."""
    return agent(identity, "x", joined=joined, **facts)


PAIR = [x("A", 10, alive=31), x("B", 30)]
FOUR = [x(identity, joined, alive=9) for identity, joined in [("A", 1), ("B", 2), ("C", 3), ("D", 4)]]
SERVING_ONE = [x("A", 1, alive=2, serves="ana"), x("B", 2, serves="ana")]
UNNAMED = [agent("A", joined=1, alive=2), agent("B", joined=2), x("C", 3)]
ORPHAN = agent("V", joined=0, alive=2, principal_left_at=1)
DESKS = [
    x("A", 1, alive=2, attributes={"desk": "1"}),
    agent("B", "y", joined=2, attributes={"desk": "1"}),
    x("C", 3, attributes={"desk": "2"}),
    x("D", 4),
]
JOINING = participant("B", role=Role.AGENT, agent_name="x", active=False)
DATED = [x("A", 1, alive=90, metadata="m"), x("B", 2, alive=90, metadata="m", metadata_at=50)]
LONG = [x(identity, 1, alive=90, metadata="m" * LONGEST_METADATA) for identity in "AB"]

Row = tuple[str, list[Participant], Mapping[Any, Any], Mapping[str, float]]
"""What it shows; who is there; the policy's options; who is due when."""

DUE: list[Row] = [
    ("the younger of two, one grace after it joined", [*PAIR, human("H")], {}, {"B": 32}),
    ("with another grace", PAIR, {"grace": 5}, {"B": 35}),
    ("one is a duplicate only once a preferred one has joined", PAIR, {"keep": "newest"}, {"A": 32}),
    ("of four two may stay", FOUR, {"max": 2}, {"C": 5, "D": 6}),
    ("the newest two", FOUR, {"max": 2, "keep": "newest"}, {"A": 5, "B": 6}),
    ("one that is still joining may never arrive", [x("A", 5), JOINING], {}, {}),
    ("two that serve one participant", SERVING_ONE, {}, {"B": 4}),
    ("without a name, if asked, but not with named ones", UNNAMED, {"unnamed": True}, {"B": 4}),
    ("nor with the avatar of an agent that is gone", [ORPHAN, UNNAMED[0]], {"unnamed": True}, {}),
    ("an attribute as the key", DESKS, {"key": "attribute:desk"}, {"B": 4}),
    ("the grace counts from when both have the same metadata", DATED, {"key": "metadata"}, {"B": 52}),
    ("of long metadata only the beginning is kept, and the rest may differ", LONG, {"key": "metadata"}, {}),
]

CRASHED = [x(JOB_1, 1, replaced=True), x(JOB_2, 20, dispatch="AD_1")]
SILENT = x(JOB_1, 1, alive=19, dispatch="AD_1")
LIVELY_FOR_C = [x("A", 1, alive=25), x("B", 20), x("C", 30, alive=90)]
B_MAY_BE_DEAD = [x("A", 1, alive=90), x("B", 2), x("C", 20), x("D", 30)]

REPLACED: list[Row] = [
    ("of one dispatch the newest job stays", CRASHED, {}, {JOB_1: 22}),
    ("whatever keep says", CRASHED, {"keep": "newest"}, {JOB_1: 22}),
    ("its replacement has left, and no other leaves in its favour", [CRASHED[0], x("B", 10)], {}, {JOB_1: 12}),
    ("alone it is no duplicate", CRASHED[:1], {}, {}),
    *(
        (f"{younger.identity} {younger.dispatch} may replace a silent one: {options}", [SILENT, younger], options, due_)
        for younger in (x(identity, 20, dispatch=dispatch) for identity in (JOB_2, "B") for dispatch in ("", "AD_2"))
        for options, due_at in [({}, 45), ({"grace": 30}, 50), ({"wait_for_life": 10}, 30), ({"wait_for_life": 0}, 22)]
        for due_ in [{younger.identity: due_at}]
    ),
    *(
        (f"an elder that shows life at {alive} is no corpse", [x("A", 1, alive=alive), x("B", 20)], {}, {"B": 22})
        for alive in (19.001, 20, 20.5, 300)
    ),
    ("once the elder has gone there is no verdict", [x("B", 20)], {}, {}),
    ("the elder showed life before C joined, and after B did", LIVELY_FOR_C, {}, {"B": 22, "C": 55}),
    ("C may replace either, D may replace B even if A lives", B_MAY_BE_DEAD, {"max": 2}, {"C": 45, "D": 55}),
    ("none waits for the sake of a younger one", [x("A", 1), x("B", 20)], {"keep": "newest"}, {"A": 22}),
    (
        "nor does one that was replaced",
        [x("A", 1), x(JOB_1, 20, replaced=True), x(JOB_2, 30)],
        {},
        {JOB_1: 22, JOB_2: 55},
    ),
]

IMPOSTOR_FIRST = [x("A", 1, alive=90), x(JOB_2, 20, dispatch="AD_1", alive=90)]
IMPOSTOR_LAST = [x(JOB_1, 1, dispatch="AD_1", alive=90), x("B", 20, alive=90)]
TWO_AND_TWO = [
    *(x("A", 1, alive=90), x(JOB_1, 2, dispatch="AD_1", alive=90)),
    *(x("B", 3, alive=90), x(JOB_2, 20, dispatch="AD_2", alive=90)),
]
TWO_NAMES = [
    x("A", 1, alive=90, attributes={"desk": "1"}),
    agent(JOB_2, "y", joined=20, dispatch="AD_1", alive=90, attributes={"desk": "1"}),
]

CONFIRMED: list[Row] = [
    *(
        (f"an impostor does not push out the dispatched one: {due_} {keep}", house, {"keep": keep}, due_)
        for keep in ("oldest", "newest")
        for house, due_ in [(IMPOSTOR_FIRST, {"A": 22}), (IMPOSTOR_LAST, {"B": 22})]
    ),
    ("of those that are confirmed the oldest stays", TWO_AND_TWO, {}, {"A": 4, "B": 5, JOB_2: 22}),
    ("both, and no other", TWO_AND_TWO, {"max": 2}, {"A": 22, "B": 5}),
    ("its dispatch may be listed yet", [x("A", 1, alive=90), x(JOB_2, 20, alive=90)], {}, {JOB_2: 26}),
    ("while a younger one's is listed", [x(JOB_1, 20), x(JOB_2, 20.5, dispatch="AD_2")], {}, {JOB_1: 26}),
    ("next to one whose own is on no list", [x(JOB_1, 1, alive=90), x(JOB_2, 20)], {}, {JOB_2: 26}),
    (
        "the older one's may be listed yet too",
        [x(JOB_1, 19, alive=90, may_serve=True), x(JOB_2, 20)],
        {},
        {JOB_2: 27.5},
    ),
    ("the older one, which is confirmed, stays anyway", [IMPOSTOR_LAST[0], x(JOB_2, 20)], {}, {JOB_2: 22}),
    ("a name gives no right to another's place", TWO_NAMES, {"key": "attribute:desk"}, {JOB_2: 22}),
]


@pytest.mark.parametrize(
    ("participants", "options", "expected"),
    [pytest.param(*row, id=what) for rows in (DUE, REPLACED, CONFIRMED) for what, *row in rows],
)
def test_who_is_due_when(participants: list[Participant], options: dict[str, Any], expected: dict[str, float]) -> None:
    """LiveKit lists a crashed agent for about 20 s; a dispatch confirms a name, and is listed within 6 s."""
    assert verdicts(room(*participants), **options) == expected


def test_keep_chooses_between_dispatches() -> None:
    """Of two dispatches, each with a dead and a restarted job, one dispatch's restarted job stays."""
    dead = (x("A1", 1, replaced=True), x("B1", 2, replaced=True))
    house = room(*dead, x("A2", 20, dispatch="AD_A"), x("B2", 21, dispatch="AD_B"))

    assert set(verdicts(house)) == {"A1", "B1", "B2"}
    assert set(verdicts(house, keep="newest")) == {"A1", "B1", "A2"}


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
            pytest.param(True, False, {}, (18.5, False), id="the younger has none"),
            pytest.param(False, False, {}, (13, True), id="both are known"),
        ],
    )
    def test_two_that_came_at_once_have_until_the_job_of_the_one_that_stays_is_known(
        self, *, elder: bool, younger: bool, options: dict[str, Any], verdict: tuple[float, bool]
    ) -> None:
        """That takes 7.5 s from joining at most; then one grace counts as ever."""
        house = room(
            agent("A", "x", joined=10, alive=90, may_serve=elder),
            agent("B", "x", joined=11, may_serve=younger),
        )

        assert self.settled(house, **options) == {"B": verdict}

    @pytest.mark.parametrize(
        ("elder", "younger", "verdict"),
        [
            pytest.param("", True, (18.5, False), id="no job of the elder's is on the list"),
            pytest.param("AD_1", True, (13, True), id="the elder's is"),
            pytest.param("", False, (13, True), id="the younger's is known"),
        ],
    )
    def test_a_job_that_the_server_has_forgotten_may_serve_someone(
        self, elder: str, *, younger: bool, verdict: tuple[float, bool]
    ) -> None:
        """One that restarts forgets its dispatches, and the agent comes back: no list shows whom it serves."""
        house = room(
            agent(JOB_1, "x", joined=10, alive=90, dispatch=elder), agent("B", "x", joined=11, may_serve=younger)
        )

        assert self.settled(house) == {"B": verdict}

    def test_the_one_that_leaves_waits_for_its_own_job(self) -> None:
        """With `keep` "newest" that is the elder, which came first."""
        house = room(agent("A", "x", joined=10, may_serve=True), agent("B", "x", joined=11, may_serve=True))

        assert self.settled(house, keep="newest") == {"A": (17.5, False)}

    def test_any_of_those_that_stay_may_be_the_other(self) -> None:
        """With `max` 2, A's job is known, and B may have another person to serve than C or D."""
        house = room(
            agent("A", "x", joined=10, alive=90),
            agent("B", "x", joined=11, alive=90, may_serve=True),
            agent("C", "x", joined=12, may_serve=True),
            agent("D", "x", joined=13),
        )

        assert self.settled(house, max=2) == {"C": (19.5, False), "D": (20.5, False)}

    def test_no_one_waits_for_another_that_has_to_leave(self) -> None:
        """A stays, and its job is known. Whom B and C serve makes no difference between the two."""
        house = room(
            agent("A", "x", joined=10, alive=90),
            agent("B", "x", joined=11, may_serve=True),
            agent("C", "x", joined=12, may_serve=True),
        )

        assert self.settled(house) == {"B": (13, True), "C": (14, True)}

    @pytest.mark.parametrize(
        ("others", "due"),
        [
            pytest.param([x(JOB_2, 15)], 17, id="the newer job"),
            pytest.param([x("B", 12), x(JOB_2, 15)], 14, id="another is there, and was before"),
            pytest.param([x("B", 12, may_serve=True), x(JOB_2, 15)], 17, id="which may serve someone of its own"),
            pytest.param([x("B", 12, may_serve=True)], 21.5, id="and is the only one"),
        ],
    )
    def test_one_that_was_replaced_leaves_for_one_that_surely_does_the_same(
        self, others: list[Participant], due: float
    ) -> None:
        """Its job is known, and the newer one of its dispatch does the same. Of others that may not be so."""
        house = room(x(JOB_1, 10, replaced=True), *others)

        assert self.settled(house)[JOB_1] == (due, True)


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
