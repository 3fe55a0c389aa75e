"""Who is what: roles, names, dispatches, avatars."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from bouncer import Kind, Role
from bouncer.decide import Guards, HeldBy, decide
from bouncer.events import Attributes, Connected, Described, Disconnected, Dispatched, Event, Info, Joined, Left
from bouncer.people import LONGEST_NAME, Named, named_by
from bouncer.policy import Rule
from bouncer.room import LONGEST_METADATA
from bouncer.selectors import Selector
from bouncer.tracker import Tracker
from policies.max_lifetime import MaxLifetime
from tests.told import ME, A, agent, avatar, dispatched, house, info, job, listed, reconnected, said, tracked, who


class TestNames:
    """An agent's name: what it says of itself, and what its dispatch says."""

    @pytest.mark.parametrize(
        ("attributes", "name"),
        [
            ({"lk.agent_name": "one"}, "one"),
            ({"lk.agent.name": "two"}, "two"),
            ({"lk.agent_name": "one", "lk.agent.name": "two"}, "one"),
            ({"lk.agent_name": "", "lk.agent.name": "two"}, "two"),
            ({"agent_name": "x", "name": "y"}, ""),
            ({}, ""),
        ],
    )
    def test_from_its_attributes(self, attributes: dict[str, str], name: str) -> None:
        """The one that the server stamps, otherwise the one that the Python worker writes."""
        assert who("A", Joined(5, info("A", kind=Kind.AGENT, attributes=attributes))).agent_name == name

    @pytest.mark.parametrize(
        "event",
        [
            Attributes(9, "PA_A", {"lk.agent_name": "other"}),
            Attributes(9, "PA_A", {}),
            listed(9, agent("A", "other")),
            Joined(9, agent("A", "other")),
        ],
    )
    def test_rewriting_it_changes_nothing(self, event: Event) -> None:
        """The first name seen for a sid counts; the other attributes stay up to date."""
        found = who("A", Joined(5, A), event)

        assert found.agent_name == "assistant"
        assert found.attributes.get("lk.agent_name") != "assistant"

    @pytest.mark.parametrize("name", ["support", ""])
    def test_the_dispatchs_name_wins(self, name: str) -> None:
        """Even if it was listed before the agent was seen, and even if it is empty."""
        asked = dispatched(6, job("A", name))

        assert who("A", Joined(5, A), asked).agent_name == name
        assert who("A", asked, Joined(7, A)).agent_name == name

    @pytest.mark.parametrize("name", ["ren\u00e9e", "rene\u0301e"])
    def test_names_compare_as_they_look(self, name: str) -> None:
        """Whichever Unicode form a dispatch or an agent writes them in."""
        assert who("A", Joined(5, agent("A", name))).agent_name == "ren\u00e9e"
        assert who("A", Joined(5, A), dispatched(6, job("A", name))).agent_name == "ren\u00e9e"

    @pytest.mark.parametrize("name", ["r\u00f4le", "ro\u0302le"])
    def test_names_of_attributes_compare_as_they_look(self, name: str) -> None:
        """Whichever Unicode form a participant writes them in; their dates stay with them."""
        shown = agent("A", attributes={name: "1"})
        found = who("A", Joined(5, shown), listed(9, shown), Attributes(9, "PA_A", {name: "1", "x": "2"}))

        assert found.attributes == {"r\u00f4le": "1", "x": "2"}
        assert (found.attribute_at("r\u00f4le"), found.attribute_at("x")) == (1, 9)

    def test_once_said_it_holds(self) -> None:
        """A deleted dispatch is no longer listed, but its agent may stay."""
        found = who("A", Joined(5, A), dispatched(6, job("A", "support", "AD_7")), dispatched(9))

        assert (found.agent_name, found.dispatch) == ("support", "AD_7")

    def test_another_job_is_another_agents(self) -> None:
        """Jobs are told apart by identity."""
        found = who("A", Joined(5, A), dispatched(6, job("B", "support")))

        assert (found.agent_name, found.dispatch, found.serves) == ("assistant", "", "")

    def test_the_participant_it_serves(self) -> None:
        """For jobs of types JT_PUBLISHER and JT_PARTICIPANT."""
        assert who("A", Joined(5, A), dispatched(6, job("A", "assistant", serves="ana"))).serves == "ana"


class TestDescription:
    """The display name and the metadata, each with the date of its last change."""

    @pytest.mark.parametrize(
        ("events", "name", "metadata"),
        [
            ((), ("Ana", 1), ("m", 1)),
            ((Described(5, "PA_H", "Ana", "n"),), ("Ana", 1), ("n", 5)),
            ((Described(5, "PA_H", "Eva", "m"), Described(6, "PA_H", "Eva", "m")), ("Eva", 5), ("m", 1)),
            ((listed(5, info("H", name="Eva", metadata="m")),), ("Eva", 5.5), ("m", 1)),
            ((Described(5, "PA_H", "Eva", "m"), listed(4.9, info("H", name="Ana"))), ("Eva", 5), ("m", 1)),
            ((Left(5, "PA_H"), Joined(6, info("H", name="Ana", metadata="m"))), ("Ana", 1), ("m", 1)),
            ((Described(5, "PA_H", "x" * 300, "y" * 9999),), None, ("y" * LONGEST_METADATA, 5)),
        ],
    )
    def test_what_it_is_and_since_when(
        self, events: Sequence[Event], name: tuple[str, float] | None, metadata: tuple[str, float]
    ) -> None:
        """What is seen first dates from when it joined, a change from the event or list that showed it."""
        known = who("H", Joined(1, info("H", name="Ana", metadata="m")), *events)

        assert (known.metadata, known.metadata_at) == metadata
        assert name is None or (known.name, known.name_at) == name
        assert len(known.name) <= LONGEST_NAME


class TestWhoIsWhat:
    """Kinds, grants, bouncers."""

    @pytest.mark.parametrize(
        ("shown", "role"),
        [
            (info("X", kind=Kind.STANDARD), Role.HUMAN),
            (info("X", kind=Kind.SIP), Role.HUMAN),
            (info("X", kind=Kind.CONNECTOR), Role.HUMAN),
            (info("X", kind=Kind.BRIDGE), Role.HUMAN),
            (info("X", kind=Kind.INGRESS), Role.OTHER),
            (info("X", kind=Kind.EGRESS), Role.OTHER),
            (info("X", kind=Kind.AGENT), Role.AGENT),
            (info("X", kind=Kind.AGENT, simulated=True), Role.HUMAN),
            (info("X", kind=Kind.STANDARD, simulated=True), Role.HUMAN),
            (info("X", kind=Kind.AGENT, simulated=True, agent_grant=True, hidden=True), Role.HUMAN),
            (info("X", recorder=True), Role.OTHER),
            (info("X", recorder=True, agent_grant=True), Role.AGENT),
            (info("X", hidden=True), Role.OTHER),
            (info("X", hidden=True, agent_grant=True, can_publish=False, can_send_data=False), Role.OTHER),
            (info("X", hidden=True, agent_grant=True, can_publish=False, can_send_data=True), Role.AGENT),
            (info("X", agent_grant=True, can_publish=False, can_send_data=False), Role.AGENT),
            (agent("X", hidden=True, can_publish=False, can_send_data=False), Role.AGENT),
            (info("X", kind=Kind.STANDARD, agent_grant=True), Role.AGENT),
            (info("X", kind=Kind.SIP, agent_grant=True), Role.AGENT),
            (info("X", kind=Kind.EGRESS, agent_grant=True), Role.OTHER),
            (info("X", kind=Kind.INGRESS, agent_grant=True), Role.OTHER),
            (info("X", kind=Kind.STANDARD, agent_grant=False), Role.HUMAN),
            (info("X", kind=Kind.AGENT, agent_grant=False), Role.AGENT),
            (info("X", attributes={"lk.agent_name": "x", "lk.agent.state": "speaking"}), Role.HUMAN),
            (info("agent-AJ_X"), Role.HUMAN),
        ],
    )
    def test_roles(self, shown: Info, role: Role) -> None:
        """The server says what it is and what it may do. Its attributes and its identity prove nothing."""
        assert who(shown.identity, listed(5, shown)).role is role

    def test_a_grant_that_a_list_showed_is_known_from_then_on(self) -> None:
        """Events show no grants, and take none back."""
        bot = info("bot")

        assert who("bot", Joined(5, bot)).role is Role.HUMAN
        assert who("bot", Joined(5, bot), listed(6, replace(bot, agent_grant=True)), Joined(7, bot)).role is Role.AGENT

    def test_a_hidden_agent_that_we_did_not_send_is_an_agent(self) -> None:
        """Hiding protects no agent once it is known that no dispatch of ours sent it."""
        spy = listed(5, agent("agent-AJ_x", "spy", hidden=True, agent_grant=True))
        found = who("agent-AJ_x", spy, dispatched(6, job("agent-AJ_x", "spy")))

        assert (found.role, found.hidden) == (Role.AGENT, True)

    @pytest.mark.parametrize(
        ("hidden", "name", "jobs", "role"),
        [
            pytest.param(True, "bouncer", ("bouncer",), Role.BOUNCER, id="hidden, our name, our dispatch"),
            pytest.param(True, "other", ("bouncer",), Role.BOUNCER, id="it may say what it likes"),
            pytest.param(True, "bouncer", (), Role.OTHER, id="not dispatched, or not listed yet"),
            pytest.param(None, "bouncer", (), Role.OTHER, id="nor is it known whether it is hidden"),
            pytest.param(True, "bouncer", ("spy",), Role.AGENT, id="forged: dispatched under another name"),
            pytest.param(False, "bouncer", (), Role.AGENT, id="forged: visible"),
            pytest.param(False, "bouncer", ("bouncer",), Role.AGENT, id="visible, whatever its dispatch"),
            pytest.param(True, "other", (), Role.OTHER, id="not listed yet, whatever it says"),
            pytest.param(None, "other", (), Role.AGENT, id="for all we know not hidden, and by another name"),
        ],
    )
    def test_other_bouncers(
        self,
        hidden: bool | None,  # noqa: FBT001  # a column of the table
        name: str,
        jobs: tuple[str, ...],
        role: Role,
    ) -> None:
        """A bouncer is hidden, and a dispatch gave it our name."""
        other = agent("agent-AJ_2", name, hidden=hidden)
        found = who("agent-AJ_2", listed(5, other), dispatched(6, *(job("agent-AJ_2", each) for each in jobs)))

        assert found.role is role

    @pytest.mark.parametrize(
        ("says", "jobs", "role"),
        [
            ({"bouncer.guarding": "true"}, ("guard",), Role.BOUNCER),
            ({"bouncer.standing": "unconfigured"}, ("guard",), Role.BOUNCER),
            ({"bouncer.guarding": ""}, ("guard",), Role.AGENT),
            ({"bouncer.guarding": "true"}, (), Role.AGENT),
        ],
    )
    def test_the_bouncer_of_another_fleet(self, says: dict[str, str], jobs: tuple[str, ...], role: Role) -> None:
        """Whatever its name: it is hidden, has a dispatch and says that it is one, if only that it isn't configured."""
        other = agent("agent-AJ_2", "guard", hidden=True, attributes=says)
        found = who("agent-AJ_2", listed(5, other), dispatched(20, *(job("agent-AJ_2", each) for each in jobs)))
        quiet = replace(other, attributes={"lk.agent_name": "guard"})

        assert (found.role, found.foreign) == (role, role is Role.BOUNCER)
        assert not found.guarding
        assert who(
            "agent-AJ_2", listed(5, other), dispatched(20, job("agent-AJ_2", "guard")), listed(21, quiet)
        ).role is (Role.BOUNCER if any(says.values()) else Role.AGENT)

    def test_so_many_bouncers_are_remembered(self) -> None:
        """In a room that is open for months, one after the other comes and goes."""
        others = [agent(f"agent-AJ_{number}", "bouncer", number, hidden=True) for number in range(300)]
        jobs = [job(other.identity, "bouncer") for other in others]
        found = house(listed(400, *others), dispatched(401, *jobs), listed(402, *others))

        assert {p.role for p in found.participants} == {Role.BOUNCER}

    @pytest.mark.parametrize("kind", [Kind.AGENT, Kind.STANDARD])
    def test_a_bouncer_by_the_grant_too(self, kind: Kind) -> None:
        """What makes an agent makes a bouncer."""
        other = info("agent-AJ_2", kind=kind, agent_grant=True, hidden=True, attributes={"lk.agent_name": "bouncer"})

        assert who("agent-AJ_2", listed(5, other)).role is Role.OTHER
        assert who("agent-AJ_2", listed(5, other), dispatched(6, job("agent-AJ_2", "bouncer"))).role is Role.BOUNCER

    def test_without_a_job_identity_nothing_is_a_bouncer(self) -> None:
        """Its dispatch can never become known, so it is not a bouncer whose dispatch is still to be listed."""
        assert who("sneaky", listed(5, agent("sneaky", "bouncer", hidden=True))).role is Role.AGENT

    def test_our_name_is_the_one_that_we_are_dispatched_by(self) -> None:
        """That need not be the default."""
        tracker = Tracker("doorman")
        other = agent("agent-AJ_2", "doorman", hidden=True)
        for event in (Connected(0, ME), listed(5, other), dispatched(6, job("agent-AJ_2", "doorman"))):
            tracker.apply(event)

        assert [p.role for p in tracker.room().participants] == [Role.BOUNCER, Role.BOUNCER]


def test_the_avatar_of_an_exempt_agent_is_exempt_with_it() -> None:
    """Even from rules that judge avatars like any agent; two that claim one principal are both in doubt."""
    guards, rules = Guards(exempt_identities=("A",)), [Rule(policy=MaxLifetime(limit=5))]
    one = house(Joined(1, A), Joined(1, avatar("V", "A")))
    two = house(Joined(1, A), Joined(1, avatar("V", "A")), Joined(2, avatar("W", "A")))

    assert decide(one, rules, guards, 100).evictions == ()
    assert [h.by for h in decide(one, rules, guards, 100).held] == [HeldBy.EXEMPT, HeldBy.EXEMPT]
    assert {f.participant.identity for f in decide(two, rules, guards, 100).evictions} == {"V", "W"}
    assert {f.participant.identity for f in decide(one, rules, Guards(), 100).evictions} == {"A", "V"}


def test_the_metadata_of_its_dispatch_is_a_fact() -> None:
    """A composite key may tell apart what several agents of one name were dispatched for."""
    told = replace(job("A", "x"), metadata="task 1")

    assert who("A", Joined(1, A), dispatched(8, told)).dispatch_metadata == "task 1"
    assert who("A", Joined(1, A), dispatched(8, replace(told, metadata="m" * 9999))).dispatch_metadata != "m" * 9999
    assert who("A", Joined(1, A), dispatched(8)).dispatch_metadata == ""


class TestUnsettled:
    """A job's dispatch is listed up to 5 s late, so a list proves only 6 s after joining that there is none."""

    MAYBE = agent("agent-AJ_2", "bouncer", 10, hidden=True)

    @pytest.mark.parametrize(
        ("events", "role"),
        [
            pytest.param([], Role.OTHER, id="no one asked"),
            pytest.param([dispatched(15.9, took=9)], Role.OTHER, id="asked too early, whenever the answer came"),
            pytest.param([dispatched(16)], Role.AGENT, id="asked late enough"),
            pytest.param([dispatched(16), dispatched(12, took=9)], Role.AGENT, id="an older answer comes after it"),
            pytest.param([dispatched(16, job("agent-AJ_3", "bouncer"))], Role.AGENT, id="another is a job"),
            pytest.param([dispatched(16), dispatched(17, job("agent-AJ_2", "bouncer"))], Role.BOUNCER, id="it is one"),
        ],
    )
    def test_one_that_may_be_a_bouncer(self, events: list[Event], role: Role) -> None:
        """It counts for nothing until the first list asked for late enough says what it is."""
        assert who("agent-AJ_2", listed(11, self.MAYBE), *events).role is role

    def test_a_restarted_server_proves_nothing(self) -> None:
        """It has forgotten our own job too."""
        forgotten = Dispatched(20, 20, ())

        assert who("agent-AJ_2", listed(11, self.MAYBE), forgotten).role is Role.OTHER
        assert who("agent-AJ_2", listed(11, self.MAYBE), dispatched(16), forgotten).role is Role.AGENT
        assert who("agent-AJ_2", listed(11, self.MAYBE), forgotten, dispatched(21)).role is Role.AGENT

    def test_one_that_was_first_seen_late(self) -> None:
        """A list asked for before proves nothing; the next one does."""
        before: list[Event] = [dispatched(40), listed(50, self.MAYBE)]

        assert who("agent-AJ_2", *before).role is Role.OTHER
        assert who("agent-AJ_2", *before, dispatched(51)).role is Role.AGENT

    @pytest.mark.parametrize(
        "events",
        [
            pytest.param([Disconnected(20), Connected(21, ME), listed(22, MAYBE)], id="a short one"),
            pytest.param([Left(20, "PA_agent-AJ_2"), Connected(21, ME), listed(22, MAYBE)], id="a full one"),
        ],
    )
    def test_it_stays_known_over_a_reconnect(self, events: list[Event]) -> None:
        """It is the same connection of the same participant."""
        assert who("agent-AJ_2", listed(11, self.MAYBE), dispatched(16), *events).role is Role.AGENT

    @pytest.mark.parametrize("every", [5, 30])
    def test_once_seen_it_is_not_new_again(self, every: int) -> None:
        """One that comes back again and again, each time by another connection, is judged all the same."""
        events: list[Event] = []
        for at in range(11, 11 + 4 * every, every):
            shown = replace(self.MAYBE, sid=f"PA_{at}", joined_at=at, joined_ms=at * 1000)
            events += [listed(at, shown), dispatched(at), listed(at + 3), listed(at + 4)]

        assert who("agent-AJ_2", *events[:-2]).role is Role.AGENT

    def test_what_it_did_meanwhile_is_known(self) -> None:
        """No agent gains by looking like a bouncer for a while."""
        shown = replace(self.MAYBE, hidden=None)
        speaks = Attributes(12, shown.sid, {"lk.agent.state": "speaking"})

        found = who("agent-AJ_2", Joined(11, shown), speaks, dispatched(16))

        assert (found.speaking_since, found.chatting_since, found.active_at) == (12, 12, 12)

    def test_who_is_unsettled(self) -> None:
        """All agents, including those that are JOINING or may be a bouncer. Jobs and all others are settled."""
        joining = agent("agent-AJ_3", "support", 12, active=False)
        others = [info("ana", 10), agent("agent-AJ_4", "support", 10), avatar("V", "A"), info("E", kind=Kind.EGRESS)]
        tracker = tracked(listed(13, A, self.MAYBE, joining, *others), dispatched(14, job("agent-AJ_4", "support")))

        assert tracker.unsettled == {"PA_agent-AJ_2", "PA_agent-AJ_3"}
        tracker.apply(dispatched(17))
        assert tracker.unsettled == {"PA_agent-AJ_3"}
        tracker.apply(dispatched(18))
        assert tracker.unsettled == set()


class TestMayServe:
    """Until its job is listed, or can't be any more, an agent may be a participant's own."""

    CAME_AT_10 = agent("A", "assistant", 10)
    ANAS, ROOMS = job("A", "assistant", "AD_1", serves="ana"), job("A", "assistant", "AD_2")

    @pytest.mark.parametrize(
        ("events", "may_serve"),
        [
            pytest.param([], True, id="it has just joined"),
            pytest.param([dispatched(15.9, took=9)], True, id="asked too early, whenever the answer came"),
            pytest.param([dispatched(15, job("B", "assistant"))], True, id="another's job is listed"),
            pytest.param([dispatched(16)], False, id="asked late enough"),
            pytest.param(
                [dispatched(16, job("B", "assistant", serves="ana"))], False, id="and another's job is listed"
            ),
            pytest.param([dispatched(11, ROOMS)], False, id="its job is the room's"),
            pytest.param([dispatched(11, ANAS)], False, id="the participant that its job serves is known"),
            pytest.param([dispatched(11, ROOMS), dispatched(12)], False, id="its dispatch is deleted"),
            pytest.param([dispatched(16, ANAS, ROOMS)], True, id="either may be its job"),
            pytest.param([dispatched(16, ROOMS, job("A", "assistant", "AD_3"))], False, id="either is the room's"),
        ],
    )
    def test_an_agent(self, events: list[Event], may_serve: bool) -> None:  # noqa: FBT001 - a column
        """LiveKit lists a job up to 5 s late, and may list several of one identity."""
        assert who("A", Joined(10, self.CAME_AT_10), *events).may_serve is may_serve

    @pytest.mark.parametrize("other", [info("H", 10), info("H", 10, kind=Kind.SIP), info("H", 10, kind=Kind.EGRESS)])
    def test_no_one_else_does(self, other: Info) -> None:
        """Only an agent has a job."""
        assert not who("H", Joined(10, other)).may_serve


class TestAvatars:
    """An avatar is the nameless agent that says it publishes on behalf of an agent."""

    def test_attached(self) -> None:
        """It belongs to its principal."""
        room = house(Joined(2, agent("A", "assistant")), Joined(3, avatar("V", "A", 3)))

        assert [(p.identity, p.on_behalf_of, p.principal_left_at) for p in room.avatars] == [("V", "A", None)]
        assert [p.identity for p in room.agents] == ["A"]

    def test_whichever_comes_first(self) -> None:
        """The principal may be announced after it."""
        room = house(Joined(3, avatar("V", "A", 3)), Joined(4, agent("A", "assistant")))

        assert who("V", Joined(3, avatar("V", "A", 3)), Joined(4, agent("A", "assistant"))).role is Role.AVATAR
        assert [(p.identity, p.principal_left_at) for p in room.avatars] == [("V", None)]

    def test_of_an_agent_by_its_grant(self) -> None:
        """What makes an agent makes a principal."""
        bot = info("bot", agent_grant=True)

        assert who("V", listed(2, bot), Joined(3, avatar("V", "bot", 3))).role is Role.AVATAR

    def test_one_for_each_principal(self) -> None:
        """The attribute is only a claim, so all but the oldest claimant are ordinary agents."""
        events = [Joined(2, A), Joined(3, avatar("W", "A", 4)), Joined(4, avatar("V", "A", 3))]

        assert who("V", *events).role is Role.AVATAR
        assert (who("W", *events).role, who("W", *events).on_behalf_of) == (Role.AGENT, "")

    @pytest.mark.parametrize(
        "claimant",
        [
            pytest.param(agent("V", "x", attributes={"lk.publish_on_behalf": "A"}), id="with a name"),
            pytest.param(avatar("V", ""), id="on behalf of no one"),
            pytest.param(avatar("V", "V"), id="on behalf of itself"),
            pytest.param(avatar("V", "PA_A"), id="on behalf of a sid"),
            pytest.param(avatar("V", "nobody"), id="its principal was never there"),
            pytest.param(avatar("V", "W"), id="on behalf of an avatar"),
        ],
    )
    def test_no_avatar(self, claimant: Info) -> None:
        """It is judged like any agent."""
        events = [Joined(2, A), Joined(2, info("ana")), Joined(2, avatar("W", "A")), Joined(3, claimant)]

        assert who("V", *events).role is Role.AGENT

    @pytest.mark.parametrize(
        ("claimant", "evictable"),
        [
            pytest.param(avatar("V", "ana"), True, id="of a person, or a bot of standard kind"),
            pytest.param(replace(avatar("V", "A"), kind=Kind.STANDARD, agent_grant=True), True, id="by its grant"),
            pytest.param(replace(avatar("V", "A"), kind=Kind.STANDARD), False, id="with a plain token"),
            pytest.param(replace(avatar("V", "ana"), kind=Kind.STANDARD), False, id="with a plain token, of a bot"),
        ],
    )
    @pytest.mark.parametrize("left", [False, True])
    def test_of_any_kind(self, claimant: Info, evictable: bool, left: bool) -> None:  # noqa: FBT001 - columns
        """It is neither a person nor a second agent. One of kind STANDARD stays a person, and is never evicted."""
        gone: list[Event] = [Left(9, "PA_A"), Left(9, "PA_ana")] if left else []
        found = who("V", listed(2, A, info("ana")), listed(3, A, info("ana"), claimant), *gone)

        assert found.role is (Role.AGENT if left and evictable else Role.AVATAR)
        assert found.evictable is evictable

    def test_a_plain_claim_without_a_principal_is_a_persons(self) -> None:
        """As long as the participant that it names was never here."""
        assert who("V", Joined(2, A), Joined(3, replace(avatar("V", "W"), kind=Kind.STANDARD))).role is Role.HUMAN

    @pytest.mark.parametrize(
        ("others", "contested"),
        [
            ([], set()),
            ([avatar("W", "A")], {"V", "W"}),
            ([avatar("W", "B")], set()),
            ([agent("W", "x", attributes={"lk.publish_on_behalf": "A"})], set()),
        ],
    )
    def test_several_claim_one_principal(self, others: list[Info], contested: set[str]) -> None:
        """Then it is uncertain which one is genuine."""
        room = house(Joined(2, A), Joined(3, avatar("V", "A")), *(Joined(4, other) for other in others))

        assert {p.identity for p in room.participants if p.contested} == contested

    def test_the_configuration_says_which_one_is_genuine(self) -> None:
        """Then any other claim is void."""
        tracker = tracked(Joined(2, A), Joined(3, avatar("W", "A")), Joined(4, avatar("V", "A", 4)))
        tracker.configure(5, named=Named(avatars=lambda who: who.identity == "V"))
        roles = {p.identity: (p.role, p.contested) for p in tracker.room().participants}

        assert (roles["V"], roles["W"]) == ((Role.AVATAR, False), (Role.AGENT, False))

    def test_one_with_a_dispatch_is_none(self) -> None:
        """It was dispatched as an agent of its own."""
        events: list[Event] = [Joined(2, A), Joined(3, avatar("V", "A")), dispatched(4, job("V", ""))]

        assert (who("V", *events).role, who("V", *events).on_behalf_of) == (Role.AGENT, "")

    @pytest.mark.parametrize(
        "event",
        [
            Attributes(9, "PA_V", {"lk.publish_on_behalf": "A"}),
            listed(9, A, avatar("V", "A")),
            Joined(9, avatar("V", "A")),
        ],
    )
    def test_one_cannot_become_one(self, event: Event) -> None:
        """The claim counts at first sight only."""
        assert who("V", Joined(2, A), Joined(3, agent("V")), event).role is Role.AGENT

    def test_nor_cease_to_be_one(self) -> None:
        """Nor can it change its principal."""
        found = who(
            "V", Joined(2, A), Joined(3, avatar("V", "A")), Attributes(9, "PA_V", {"lk.publish_on_behalf": "B"})
        )

        assert (found.role, found.on_behalf_of) == (Role.AVATAR, "A")

    @pytest.mark.parametrize(
        ("events", "left_at"),
        [
            pytest.param([Left(20, "PA_A")], 20, id="its principal left"),
            pytest.param([listed(18, avatar("V", "A")), listed(19.5, avatar("V", "A"))], 20, id="by two lists"),
            pytest.param([Left(20, "PA_A"), Left(30, "PA_A")], 20, id="told twice"),
            pytest.param([Left(10, "PA_A"), Joined(15, A), Left(20, "PA_A")], 20, id="for the second time"),
            pytest.param([Left(20, "PA_A"), Joined(25, agent("B", "assistant"))], 20, id="another came"),
        ],
    )
    def test_orphaned(self, events: list[Event], left_at: float) -> None:
        """It is an orphan from then on."""
        (found,) = house(Joined(2, A), Joined(3, avatar("V", "A")), *events).avatars

        assert (found.identity, found.role, found.principal_left_at) == ("V", Role.AGENT, left_at)

    @pytest.mark.parametrize(
        "events",
        [
            pytest.param([Left(20, "PA_A"), Joined(25, A)], id="the same connection"),
            pytest.param([Left(20, "PA_A"), Joined(25, agent("A", "x", 25, sid="PA_2"))], id="another one"),
            pytest.param([Joined(25, agent("A", "x", 25, sid="PA_2")), Left(26, "PA_A")], id="before it left"),
            pytest.param([Left(20, "PA_B"), listed(22, avatar("V", "A"))], id="it was never gone"),
        ],
    )
    def test_its_principal_is_back(self, events: list[Event]) -> None:
        """Then it is an avatar again."""
        found = who("V", Joined(2, A), Joined(3, avatar("V", "A")), *events)

        assert (found.role, found.principal_left_at) == (Role.AVATAR, None)

    @pytest.mark.parametrize("order", [("PA_A", "PA_V"), ("PA_V", "PA_A")])
    @pytest.mark.parametrize("first", ["A", "V"])
    def test_its_principal_was_lost_while_we_were_blind(self, order: tuple[str, str], first: str) -> None:
        """It is an orphan from when we saw it alone, in whatever order our reconnect showed the two leaving."""
        shown = avatar("V", "A", 3)
        came: list[Event] = [Joined(3, A), Joined(3, shown)]
        found = who(
            "V",
            *(came if first == "A" else reversed(came)),
            *(Left(20, sid) for sid in order),
            Disconnected(20),
            Joined(21, shown),
            Connected(21, ME, (shown,)),
        )

        assert (found.role, found.on_behalf_of, found.principal_left_at) == (Role.AGENT, "A", 21)

    def test_being_orphaned_is_no_older_than_our_watching(self) -> None:
        """It may have had a new principal in the meantime, and lost it again."""
        shown = avatar("V", "A", 3)
        found = who("V", Joined(2, A), Joined(3, shown), Left(20, "PA_A"), *reconnected(90, shown))

        assert found.principal_left_at == 91


class TestHumans:
    """`humans_left_at`: when the last human left."""

    ANA, BOB, CALLER = info("ana", agent_grant=False), info("bob", agent_grant=False), info("phone", kind=Kind.SIP)

    @pytest.mark.parametrize(
        ("events", "left_at"),
        [
            pytest.param([], None, id="none came"),
            pytest.param([Joined(5, ANA)], None, id="one is there"),
            pytest.param([Joined(5, ANA), Left(20, "PA_ana")], 20, id="one left"),
            pytest.param([Joined(5, CALLER), Left(20, "PA_phone")], 20, id="a caller left"),
            pytest.param([Joined(5, ANA), Joined(6, BOB), Left(20, "PA_ana")], None, id="one is still there"),
            pytest.param([Joined(5, ANA), Joined(6, BOB), Left(20, "PA_bob"), Left(25, "PA_ana")], 25, id="both left"),
            pytest.param([Joined(5, ANA), Left(20, "PA_ana"), Joined(25, ANA)], None, id="back again"),
            pytest.param([Joined(5, ANA), listed(18), listed(19.5)], 20, id="two lists lack the last one"),
            pytest.param(
                [Joined(5, ANA), Left(20, "PA_ana"), Joined(22, A), Left(30, "PA_A")], 20, id="agents don't count"
            ),
            pytest.param([Joined(5, ANA), Left(20, "PA_ana"), *said("A", 30, 31)], 20, id="nor what they do"),
            pytest.param(
                [Joined(5, ANA), Joined(20, info("ana", 20, sid="PA_2", agent_grant=False)), Left(21, "PA_ana")],
                None,
                id="a new connection took the old one's place",
            ),
            pytest.param([Joined(5, info("eg", kind=Kind.EGRESS)), Left(20, "PA_eg")], None, id="an egress"),
            pytest.param([Joined(5, info("in", kind=Kind.INGRESS)), Left(20, "PA_in")], None, id="an ingress"),
            pytest.param([Joined(5, agent("B")), Left(20, "PA_B")], None, id="an agent"),
            pytest.param(
                [listed(5, info("bot", agent_grant=True)), Left(20, "PA_bot")], None, id="a bot with the grant"
            ),
            pytest.param(
                [Joined(5, info("bot")), listed(6, info("bot", agent_grant=True)), Left(20, "PA_bot")],
                None,
                id="a bot that was taken for a person until it was listed",
            ),
        ],
    )
    def test_when(self, events: list[Event], left_at: float | None) -> None:
        """There is no date while one is there, or if none has come."""
        assert house(Joined(4, A), *events).humans_left_at == left_at

    def test_not_before_we_watched(self) -> None:
        """Someone may have been there in the meantime."""
        room = house(Joined(4, A), Joined(5, self.ANA), Left(20, "PA_ana"), *reconnected(90, A))

        assert room.humans_left_at == 91

    def test_a_reconnect_is_no_leaving(self) -> None:
        """A human that is back has never left."""
        assert house(Joined(5, self.ANA), *reconnected(90, self.ANA)).humans_left_at is None


GUEST = {"role": "guest"}


@pytest.mark.parametrize(
    ("events", "role", "role_at"),
    [
        ([], Role.OTHER, 0),
        ([Attributes(20, "PA_X", {"role": "operator"})], Role.HUMAN, 20),
        ([Described(20, "PA_X", "Eva", "")], Role.OTHER, 0),
        ([Attributes(20, "PA_X", {"role": "operator"}), Attributes(30, "PA_X", GUEST)], Role.OTHER, 0),
        ([listed(20, info("X", hidden=True, attributes={"role": "operator"}), took=0)], Role.HUMAN, 20),
        ([*reconnected(20, info("X", attributes=GUEST)), Attributes(40, "PA_X", {"role": "operator"})], Role.HUMAN, 40),
    ],
)
def test_since_when_it_counts_as_that(events: list[Event], role: Role, role_at: float) -> None:
    """Where an attribute makes a hidden participant a person, it is one from then on, and no operator before."""
    tracker = tracked(listed(5, info("X", hidden=True, attributes=GUEST)))
    tracker.configure(6, named=named_by(Selector(attributes={"role": "operator"}), None, None))
    for event in events:
        tracker.apply(event)
    (found,) = (p for p in tracker.room().participants if p.identity == "X")

    assert (found.role, found.role_at) == (role, role_at)


def test_one_that_no_longer_counts_as_a_person_leaves_the_room_empty_from_then_on() -> None:
    """Not since the room opened, which could make every agent due at once."""
    tracker = tracked(listed(5, A, info("ana", agent_grant=False)))
    tracker.configure(6, named=named_by(None, Selector(attributes={"role": "test"}), None))
    tracker.apply(Attributes(50, "PA_ana", {"role": "test"}))

    assert (tracker.room().humans, tracker.room().humans_left_at) == ((), 50)


def test_long_names_are_told_apart() -> None:
    """Two names are the same only if they are equal to the last character."""
    long = "x" * LONGEST_NAME
    names = (long, f"{long}1", f"{long}1", f"{long}2")
    tracker = Tracker()
    tracker.apply(Connected(0, ME, tuple(agent(f"A{number}", name) for number, name in enumerate(names))))

    known = [p.agent_name for p in tracker.room().participants if p.identity != ME.identity]
    assert known[0] == long
    assert known[1] == known[2]
    assert len(set(known)) == 3
    assert all(len(name) <= LONGEST_NAME for name in known)
