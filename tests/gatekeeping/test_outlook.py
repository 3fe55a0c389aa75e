"""Rooms that need a bouncer, as webhooks and lists show it: LiveKit's own messages in, the answer out."""

import json
from typing import Any

import pytest
from livekit.protocol import models
from livekit.protocol.webhook import WebhookEvent

from bouncer.configuration.load import load
from bouncer.configuration.model import BUILT_IN, NO_PLUGINS, Config, Layer
from bouncer.earlier import SEEN
from gatekeeper.mark import marked
from gatekeeper.outlook import Outlooks
from gatekeeper.witness import Witness
from policies import BUILTIN

OPENED, EPOCH = 1_700_000_000_000, 1_700_000_000.0
IDLE: dict[str, Any] = {"policies": {"idle_timeout": {}}}
LIMIT: dict[str, Any] = {"policies": {"max_lifetime": {"limit": 30}}}
REMOVED = models.DisconnectReason.PARTICIPANT_REMOVED


class Watched:
    """One room in which people and agents come and go; its clock shows seconds since it opened."""

    def __init__(self, *, complete: bool = True, **configuration: Any) -> None:
        layer = Layer("test", json.dumps({"bouncer": configuration}))
        self.config: Config | None = load([BUILT_IN, layer], BUILTIN, NO_PLUGINS)
        self.now = 0.0
        self.outlooks = Outlooks("bouncer", lambda _sid: self.config)
        self.witness = Witness(self.outlooks, "bouncer", lambda: self.now, lambda: EPOCH + self.now)
        self.here: dict[str, models.ParticipantInfo] = {}
        if complete:
            self.tell("room_started", None)

    def tell(self, event: str, who: models.ParticipantInfo | None) -> None:
        """Let LiveKit send a webhook."""
        room = models.Room(sid="RM_1", name="lobby", creation_time=OPENED // 1000)
        self.witness.told(WebhookEvent(event=event, room=room, participant=who))

    def publishes(self, identity: str, at: float | None = None) -> None:
        """Let LiveKit tell of a track that was published then, or now: of the publisher it shows no more than this."""
        who = models.ParticipantInfo(sid=f"PA_{identity}", identity=identity)
        track, room = models.TrackInfo(type=models.TrackType.AUDIO), models.Room(sid="RM_1", name="lobby")
        created = OPENED // 1000 + int(self.now if at is None else at)
        event = WebhookEvent(event="track_published", room=room, participant=who, track=track, created_at=created)
        self.witness.told(event)

    def joins(self, *names: str, tell: bool = True) -> None:
        """Let participants join: `ana` is a person, `bouncer` a bouncer, `name/A` an agent of that name."""
        for name in names:
            agent_name, _, identity = name.rpartition("/")
            agent = agent_name != "" or name == "bouncer"
            who = models.ParticipantInfo(
                sid=f"PA_{identity}",
                identity=identity,
                kind=models.ParticipantInfo.AGENT if agent else models.ParticipantInfo.STANDARD,
                state=models.ParticipantInfo.ACTIVE,
                joined_at_ms=OPENED + round(self.now * 1000),
                attributes={"lk.agent_name": agent_name or name} if agent else {},
                permission=models.ParticipantPermission(hidden=name == "bouncer", agent=agent),
            )
            self.here[identity] = who
            if tell:
                self.tell("participant_joined", who)

    def leaves(self, identity: str, reason: int = 1) -> None:
        """Let a participant leave."""
        who = self.here.pop(identity)
        who.disconnect_reason = reason  # type: ignore[assignment] # as protobuf takes it
        self.tell("participant_left", who)

    @property
    def why(self) -> str:
        """Why a bouncer is needed."""
        return self.outlooks.why_needed("RM_1", self.now)


@pytest.mark.parametrize(
    ("configuration", "there", "why"),
    [
        ({}, [], ""),
        ({}, ["ana"], ""),
        ({}, ["ana", "x/A"], ""),
        ({}, ["ana", "x/A", "y/B"], ""),
        ({}, ["ana", "x/A", "x/B"], "duplicates: an agent will come due"),
        ({"mode": "off"}, ["x/A", "x/B"], ""),
        ({"exempt": {"agent_name": ["x"]}}, ["x/A", "x/B"], ""),
        (IDLE, ["ana"], ""),
        (IDLE, ["ana", "x/A"], "idle_timeout has to watch an agent"),
        ({"policies": {"idle_timeout": {"only": ["y"]}}}, ["ana", "x/A"], ""),
        (LIMIT, ["ana", "x/A"], "max_lifetime: an agent will come due"),
        ({"policies": {"empty_room": {}}}, ["ana", "x/A"], ""),
        ({"policies": {"empty_room": {}}}, ["x/A"], "empty_room: an agent will come due"),
    ],
)
def test_a_room_needs_one_if_an_agent_is_due_or_has_to_be_watched(
    configuration: dict[str, Any], there: list[str], why: str
) -> None:
    """With the default policy, a room of one person and one agent needs none."""
    watched = Watched(**configuration)
    watched.joins(*there)

    assert watched.why == why


def test_the_console_shows_the_date_by_which_a_bouncer_is_needed() -> None:
    """Both take the agents' names at their word, and leave it to the bouncer to read the jobs."""
    watched = Watched()
    watched.joins("ana", "x/A")
    watched.now = 30
    watched.joins("x/B")

    coming = watched.outlooks.of("RM_1", 30).glance(30).next

    assert coming
    assert (coming.participant.identity, coming.verdict.due, coming.verdict.doubt) == ("B", 55, "")


def test_an_agent_that_publishes_stays_what_it_is() -> None:
    """Otherwise a second agent would be noticed with the next list."""
    watched = Watched()
    watched.joins("ana", "x/A")
    for identity in ("ana", "A"):
        watched.publishes(identity)
    assert watched.why == ""
    watched.joins("x/B")

    assert watched.why == "duplicates: an agent will come due"


def test_a_room_that_was_open_before_needs_a_list_first() -> None:
    """What can't be known or read counts as needed."""
    watched = Watched(complete=False)
    assert watched.why == "no list has shown who is there"
    watched.joins("ana", "x/A", tell=False)
    watched.witness.listed("RM_1", watched.here.values(), watched.now)
    assert watched.why == ""
    watched.config = None
    assert watched.why == "its configuration can't be read"


def test_a_list_corrects_what_lost_webhooks_left() -> None:
    """Both ways. A participant is gone once two lists lack it."""
    watched = Watched()
    watched.joins("x/A", "x/B", tell=False)
    assert watched.why == ""
    watched.witness.listed("RM_1", watched.here.values(), watched.now)
    assert watched.why != ""
    del watched.here["B"]
    for _ in range(2):
        watched.now += 5
        watched.witness.listed("RM_1", watched.here.values(), watched.now)

    assert watched.why == ""


def test_what_a_bouncer_reported_is_handled_when_it_leaves() -> None:
    """Otherwise it would be sent again, to find that it has nothing to do. What it had to evict is not."""
    reports = Watched(policies={"max_lifetime": {"limit": 30, "action": "report"}})
    evicts = Watched(**LIMIT)
    for watched in (reports, evicts):
        watched.joins("ana", "x/A", "bouncer")
        watched.now = 60
        watched.leaves("bouncer")

    assert (reports.why, evicts.why) == ("", "max_lifetime: an agent is due")
    reports.joins("x/B")
    assert reports.why != "", "another agent is another matter"


def test_what_was_seen_is_passed_on() -> None:
    """In the server's milliseconds: when the room opened, when people left, and who was evicted when."""
    watched = Watched()
    watched.joins("ana", "x/A", "x/B", "bouncer")
    watched.now = 10
    watched.leaves("B", REMOVED)
    watched.now = 20
    watched.publishes("A")
    watched.now = 25
    watched.leaves("ana")
    watched.now = 30

    document = json.loads(marked({"mode": "enforce"}, "RM_1", watched.witness.seen("RM_1")))
    assert document[SEEN] == {
        "at": OPENED + 30_000,
        "opened": OPENED,
        "people_left": OPENED + 25_000,
        "evicted": {"B": OPENED + 10_000},
        "alive": {"PA_A": OPENED + 19_000},
    }


def test_a_late_webhook_shows_no_life_of_a_corpse() -> None:
    """What counts is when the track was published, and not when we hear of it, nor when a list shows another state."""
    watched = Watched()
    watched.joins("ana", "x/A", "x/B")
    watched.now = 20
    watched.publishes("A", at=3)
    watched.here["B"].attributes["lk.agent.state"] = "speaking"
    watched.witness.listed("RM_1", watched.here.values(), watched.now)

    assert watched.witness.seen("RM_1").alive == {"PA_A": OPENED + 2_000}


def test_without_a_bouncer_a_removal_is_no_eviction() -> None:
    """The customer's own code may remove and invite again."""
    watched = Watched()
    watched.joins("x/A")
    watched.leaves("A", REMOVED)

    assert not watched.witness.seen("RM_1").evicted


def test_agents_that_were_there_long_before_it_are_due() -> None:
    """The gatekeeper knows no dispatches: whether they serve a participant each is for the bouncer to find out."""
    watched = Watched(complete=False)
    watched.joins("ana", "x/A", "x/B", tell=False)
    watched.now = 60
    watched.witness.listed("RM_1", list(watched.here.values()), watched.now)

    assert watched.why == "duplicates: an agent is due"


def test_closed_rooms_are_forgotten() -> None:
    """By their webhook, or by a list of all rooms, except those that are too young for it."""
    watched = Watched()
    watched.joins("x/A", "x/B")
    watched.witness.rooms([], all_of_them=True)
    assert watched.why.startswith("duplicates")
    watched.now = 100
    watched.witness.rooms([], all_of_them=True)
    assert watched.why == "no list has shown who is there"
    watched.tell("room_finished", None)
    watched.tell("room_started", None)
    assert watched.why == ""
