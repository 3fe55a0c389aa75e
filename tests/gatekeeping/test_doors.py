"""What the gatekeeper does about one room, as a table: seconds, what it is told or answered, what it asks for."""

import pytest

from bouncer.ports import ApiError, Trouble
from gatekeeper.doors import Doors
from gatekeeper.records import (
    Bouncer,
    Command,
    Create,
    Dispatch,
    Event,
    ListBouncers,
    ListDispatches,
    ListRooms,
    Remove,
    Room,
    Sight,
    TakeBack,
    Webhook,
)
from gatekeeper.standing import TRANSITIONS, Sign, Standing, after

ROOM = Room("RM_1", "lobby")
BOUNCER = Bouncer("PA_1", "agent-AJ_1", 1000, ready=True)
SECOND = Bouncer("PA_2", "agent-AJ_2", 2000, ready=True)
AWAY = ApiError(Trouble.UNAVAILABLE, "no answer")


class Play:
    """Doors whose commands are answered at once from what the rooms, bouncers and dispatches are at that moment."""

    def __init__(self, *rooms: Room, per_minute: int = 600) -> None:
        self.needed = True
        self.doors = Doors(per_minute, 0.0, lambda: 0.5, lambda _sid, _now: self.needed)
        self.rooms: list[Room] = list(rooms)
        self.bouncers: tuple[Bouncer, ...] = ()
        self.dispatches: tuple[Dispatch, ...] = ()
        self.fails: dict[type[Command], ApiError] = {}
        self.done: list[tuple[float, Command]] = []
        self.news: list[Event] = []
        self.now = 0.0

    def until(self, end: float) -> None:
        """Let time pass."""
        while True:
            step = self.doors.step(self.now)
            self.news += [news.event for news in step.news]
            for command in step.commands:
                self.done.append((self.now, command))
                self.doors.answered(command, self._answer(command), self.now)
            if not step.commands:
                if step.wake_at > end:
                    break
                self.now = max(self.now, step.wake_at)
        self.now = end

    def tell(self, sight: Sight, room: Room = ROOM, bouncer: Bouncer | None = None) -> None:
        """Deliver a webhook."""
        self.doors.tell(Webhook(self.now, sight, room, bouncer))

    def all(self, kind: type[Command]) -> list[int]:
        """Return the seconds at which it asked for that."""
        return [round(at) for at, command in self.done if isinstance(command, kind)]

    @property
    def standing(self) -> Standing | None:
        """How it stands with the room."""
        door = self.doors.doors.get(ROOM.sid)
        return door.standing if door else None

    def _answer(self, command: Command) -> object:
        if error := self.fails.get(type(command)):
            return error
        match command:
            case ListRooms(names=names):
                return tuple(room for room in self.rooms if not names or room.name in names)
            case ListBouncers():
                return self.bouncers
            case ListDispatches():
                return self.dispatches
            case Create():
                return f"AD_{len(self.done)}"
            case TakeBack() | Remove():
                return True


@pytest.mark.parametrize(
    ("before", "sign", "expected"),
    [
        (Standing.UNKNOWN, Sign.ABSENT, Standing.WANTED),
        (Standing.WANTED, Sign.SENT, Standing.DISPATCHED),
        (Standing.DISPATCHED, Sign.ARRIVED, Standing.GUARDED),
        (Standing.DISPATCHED, Sign.FAILED, Standing.REFUSED),
        (Standing.DISPATCHED, Sign.ABSENT, Standing.DISPATCHED),
        (Standing.GUARDED, Sign.ABSENT, Standing.LOST),
        (Standing.GUARDED, Sign.SENT, Standing.GUARDED),
        (Standing.LOST, Sign.DUE, Standing.UNKNOWN),
        (Standing.LOST, Sign.STARTED, Standing.LOST),
        (Standing.REFUSED, Sign.DUE, Standing.WANTED),
        (Standing.UNWANTED, Sign.ARRIVED, Standing.UNWANTED),
        (Standing.UNWANTED, Sign.CHOSEN, Standing.UNKNOWN),
    ],
)
def test_the_table(before: Standing, sign: Sign, expected: Standing) -> None:
    """A sign that a standing doesn't list changes nothing."""
    assert after(before, sign) is expected
    assert all(
        Sign.PASSED_OVER in signs for standing, signs in TRANSITIONS.items() if standing is not Standing.UNWANTED
    )


def test_a_room_that_starts_is_dispatched_into_once_a_list_shows_it() -> None:
    """The order is: the list by name, the room's dispatches, ours; then the bouncer is waited for."""
    play = Play()
    play.until(5)
    play.rooms.append(ROOM)
    play.tell(Sight.STARTED)
    play.until(6)

    assert [type(command) for at, command in play.done if at >= 5] == [ListRooms, ListDispatches, Create]
    play.tell(Sight.JOINED, bouncer=BOUNCER)
    play.until(7)
    assert play.standing is Standing.GUARDED


def test_a_late_event_of_a_closed_room_opens_nothing() -> None:
    """The list lacks it, three times over; then it is forgotten."""
    play = Play()
    play.tell(Sight.STARTED)
    play.until(10)

    assert play.all(Create) == play.all(ListDispatches) == []
    assert play.standing is None
    play.tell(Sight.FINISHED)
    play.tell(Sight.STARTED)
    assert play.standing is None


def test_what_is_there_at_the_start_is_adopted() -> None:
    """It does not matter who dispatched its bouncer."""
    play = Play(ROOM)
    play.bouncers = (BOUNCER,)
    play.until(20)

    assert play.standing is Standing.GUARDED
    assert play.all(Create) == []


def test_a_bouncer_that_others_dispatched_is_waited_for() -> None:
    """Their dispatch is left alone; after 15 s without its bouncer there is one of ours."""
    play = Play(ROOM)
    play.dispatches = (Dispatch("AD_theirs"),)
    play.until(14)
    assert play.standing is Standing.DISPATCHED

    play.until(20)

    assert play.all(Create) == [17]
    assert play.all(TakeBack) == []


def test_a_dispatch_of_others_is_waited_for_once() -> None:
    """It stays listed, and is never taken back; ours follow each other with their pauses all the same."""
    play = Play(ROOM)
    play.dispatches = (Dispatch("AD_theirs"),)
    play.until(100)

    assert play.all(Create) == [17, 36, 59, 90]


def test_a_dispatch_that_brings_no_bouncer_is_taken_back_and_made_again_ever_later() -> None:
    """15 s for each, and pauses of 2, 4, 8 s."""
    play = Play(ROOM)
    play.until(80)

    assert play.all(Create) == [0, 17, 36, 59]
    assert play.all(TakeBack) == [15, 32, 51, 74]


@pytest.mark.parametrize(
    ("opens", "comes", "again"),
    [(110, 112, 113), (0, 92, 107), (0, 38, 59)],
    ids=["during the pause", "while one is on its way", "too soon to tell"],
)
def test_a_bouncer_in_another_room_ends_the_pauses(opens: int, comes: int, again: int) -> None:
    """If none has come anywhere for a minute: what failed then says nothing about the room."""
    play, other = Play(ROOM), Room("RM_2", "attic")
    play.until(opens)
    play.rooms.append(other)
    play.tell(Sight.STARTED, other)
    play.until(comes)
    play.tell(Sight.JOINED, other, BOUNCER)
    play.until(again + 1)

    made = [round(at) for at, command in play.done if isinstance(command, Create) and command.sid == ROOM.sid]
    assert [at for at in made if at > comes] == [again]


def test_a_lost_bouncer_is_replaced_after_another_look() -> None:
    """One list that lacks it is no proof."""
    play = Play(ROOM)
    play.bouncers = (BOUNCER,)
    play.until(70)
    play.bouncers = ()
    play.until(130)

    assert Event.LOST in play.news
    (made,) = play.all(Create)[:1]
    assert len([at for at in play.all(ListBouncers) if 100 < at <= made]) >= 2


@pytest.mark.parametrize(
    ("dispatches", "bouncers", "taken"),
    [
        ([("AD_1", "RM_1"), ("AD_2", "RM_1")], (BOUNCER, SECOND), ["AD_2"]),
        ([("AD_1", ""), ("AD_2", "RM_1")], (BOUNCER, SECOND), []),
        ([("AD_1", "RM_1"), ("AD_2", "RM_1")], (BOUNCER, Bouncer("PA_2", "agent-AJ_2", 2000)), ["AD_2"]),
        ([("AD_1", "RM_1"), ("AD_2", "RM_1")], (Bouncer("PA_1", "agent-AJ_1", 1000), SECOND), ["AD_1"]),
        ([("AD_1", "RM_1"), ("AD_2", "RM_1")], (Bouncer("PA_1", "agent-AJ_1"), Bouncer("PA_2", "agent-AJ_2")), []),
    ],
    ids=["the younger", "not for one that a customer dispatched", "not ready", "handing over", "none is ready"],
)
def test_of_marked_bouncers_only_the_oldest_ready_one_stays(
    dispatches: list[tuple[str, str]], bouncers: tuple[Bouncer, ...], taken: list[str]
) -> None:
    """Within a minute, and not before a dead one would be gone from the list."""
    play = Play(ROOM)
    play.bouncers = bouncers
    play.dispatches = tuple(Dispatch(id, mark, frozenset({f"agent-AJ_{id[-1]}"})) for id, mark in dispatches)  # noqa: A001
    play.until(59)

    backs = [(at, command.dispatch) for at, command in play.done if isinstance(command, TakeBack)]
    assert [dispatch for _, dispatch in backs[:1]] == taken
    assert all(at >= 30 for at, _ in backs)


@pytest.mark.parametrize(
    ("leaves", "taken"), [(False, ["AD_new"]), (True, [])], ids=["came back", "was taken back by others"]
)
def test_a_bouncer_without_a_dispatch_is_kept_if_it_stays(*, leaves: bool, taken: list[str]) -> None:
    """The server has forgotten its dispatch, so ours goes, within about a minute. One that is leaving doesn't count."""
    play = Play(ROOM)
    play.dispatches = (Dispatch("AD_new", ROOM.sid, frozenset({BOUNCER.identity})),)
    play.bouncers = (BOUNCER,)
    play.until(20)
    play.bouncers = (BOUNCER, SECOND)
    play.tell(Sight.JOINED, bouncer=SECOND)
    play.until(52)
    assert play.all(TakeBack) == []
    if leaves:
        play.bouncers = (BOUNCER,)
    play.until(82)

    assert [c.dispatch for _, c in play.done if isinstance(c, TakeBack)] == taken
    assert play.standing is Standing.GUARDED


def test_a_bouncer_that_comes_back_to_a_restarted_server_before_people_is_no_ghost() -> None:
    """The room has another sid, and no one in it yet. Its bouncer stays, and no other one is sent."""
    play = Play(ROOM)
    play.until(1)
    play.bouncers = (BOUNCER,)
    play.tell(Sight.JOINED, bouncer=BOUNCER)
    play.until(5)
    again = Room("RM_2", ROOM.name)
    play.rooms = [again]
    play.tell(Sight.JOINED, again, SECOND)
    play.bouncers = (SECOND,)
    play.until(200)

    assert play.all(Remove) == []
    assert play.all(Create) == [0]


def test_a_ghost_gives_our_dispatch_back_and_waits_for_people() -> None:
    """The dispatch for a room that was gone has opened another one of that name."""
    play = Play(ROOM)
    play.dispatches = (Dispatch("AD_late", "RM_0"),)
    play.until(10)

    assert [c.dispatch for _, c in play.done if isinstance(c, TakeBack)] == ["AD_late"]
    assert (play.all(Create), play.standing) == ([], Standing.UNWANTED)
    assert Event.GHOST in play.news
    play.dispatches = ()
    play.tell(Sight.JOINED)
    play.until(12)
    assert play.standing is Standing.DISPATCHED


def test_a_bouncer_that_opened_a_ghost_by_joining_it_is_removed() -> None:
    """Its room closed while it was on its way, and the dispatch went with it."""
    play = Play(ROOM)
    play.until(1)
    ghost = Room("RM_2", "lobby")
    play.rooms = [ghost]
    play.tell(Sight.FINISHED)
    play.tell(Sight.STARTED, ghost)
    play.until(2)
    play.tell(Sight.JOINED, ghost, BOUNCER)
    play.until(3)

    assert [(c.sid, c.identity) for _, c in play.done if isinstance(c, Remove)] == [("RM_2", "agent-AJ_1")]
    assert play.all(Create) == [0]


def test_a_room_that_is_passed_over_gets_none_until_its_metadata_changes() -> None:
    """A list says so within half a minute."""
    play = Play(Room("RM_1", "lobby", chosen=False))
    play.until(25)
    assert (play.all(Create), play.standing) == ([], Standing.UNWANTED)

    play.rooms = [ROOM]
    play.until(40)

    assert len(play.all(Create)) == 1


@pytest.mark.parametrize(
    ("trouble", "event"), [(Trouble.UNAVAILABLE, Event.BLIND), (Trouble.DENIED, Event.DENIED)], ids=str
)
def test_nothing_is_done_while_livekit_is_away(trouble: Trouble, event: Event) -> None:
    """It asks ever more seldom whether it is back, and says so once."""
    play = Play(ROOM)
    play.fails = {ListRooms: ApiError(trouble, "no")}
    play.tell(Sight.STARTED)
    play.until(60)

    assert {type(command) for _, command in play.done} == {ListRooms}
    assert 4 <= len(play.done) <= 10
    assert play.news == [event]
    play.fails = {}
    play.until(121)
    assert play.news[1] is Event.SEEING
    assert play.standing is not None


def test_too_many_calls_are_followed_by_ten_quiet_seconds() -> None:
    """Whatever waits."""
    play = Play(ROOM)
    play.fails = {Create: ApiError(Trouble.THROTTLED, "429")}
    play.until(9)

    assert {round(at) for at, _ in play.done} == {0}
    assert Event.THROTTLED in play.news


def test_a_dispatch_whose_answer_is_lost_is_looked_for_before_the_next() -> None:
    """It may be there all the same."""
    play = Play(ROOM)
    play.fails = {Create: AWAY}
    play.until(1)
    play.fails, play.dispatches = {}, (Dispatch("AD_lost", "RM_1"),)
    play.until(10)

    assert len(play.all(Create)) == 1
    assert play.standing is Standing.DISPATCHED


def test_a_room_that_needs_no_bouncer_gets_one_once_it_does() -> None:
    """A webhook shows it, such as that of a second agent; without one, a list. Each minute it looks who is there."""
    play = Play(ROOM)
    play.needed = False
    play.until(100)
    assert (play.standing, play.all(Create)) == (Standing.UNNEEDED, [])
    assert len(play.all(ListBouncers)) == 2

    play.needed = True
    play.tell(Sight.JOINED)
    play.until(101)

    assert (play.standing, play.all(Create)) == (Standing.DISPATCHED, [100])
    silent = Play(ROOM)
    silent.needed = False
    silent.until(10)
    silent.needed = True
    silent.until(80)
    assert silent.all(Create)[0] == 30


def test_a_bouncer_that_leaves_is_replaced_only_where_it_is_needed() -> None:
    """Otherwise it left because it wasn't, and nothing was lost."""
    unneeded, needed = Play(ROOM), Play(ROOM)
    for play in (unneeded, needed):
        play.bouncers = (BOUNCER,)
        play.until(10)
        assert play.standing is Standing.GUARDED
        play.needed, play.bouncers = play is needed, ()
        play.tell(Sight.LEFT, bouncer=BOUNCER)
        play.until(20)

    assert (unneeded.standing, unneeded.all(Create)) == (Standing.UNNEEDED, [])
    assert (needed.standing, needed.all(Create)) == (Standing.DISPATCHED, [12])
    assert Event.LOST in needed.news
    assert Event.LOST not in unneeded.news


def test_a_bouncer_that_is_there_or_on_its_way_stays() -> None:
    """Whether it is needed is for itself to say from then on."""
    play = Play(ROOM)
    play.until(1)
    play.needed = False
    play.tell(Sight.JOINED)
    assert play.standing is Standing.DISPATCHED
    play.bouncers = (BOUNCER,)
    play.tell(Sight.JOINED, bouncer=BOUNCER)
    play.until(200)

    assert (play.standing, play.all(TakeBack)) == (Standing.GUARDED, [])
