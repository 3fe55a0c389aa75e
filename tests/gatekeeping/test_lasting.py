"""What counts for a room that a restarted server has opened again without its metadata."""

import pytest

from gatekeeper.lasting import Lasting

DRY, OFF, OTHER = '{"bouncer": {"mode": "dry_run"}}', '{"bouncer": {"mode": "off"}}', '{"topic": "tea"}'


@pytest.mark.parametrize(
    ("seen", "in_force"),
    [
        ([(0, "RM_1", DRY, True), (30, "RM_2", "", False)], DRY),
        ([(0, "RM_1", DRY, True), (30, "RM_2", "", False), (500, "RM_2", "", False)], DRY),
        ([(0, "RM_1", DRY, True), (100, "RM_1", DRY, False), (200, "RM_2", "", True)], DRY),
        ([(0, "RM_1", DRY, True), (30, "RM_2", "", True), (60, "RM_3", "", True)], DRY),
        ([(0, "RM_1", DRY, True), (30, "RM_2", OFF, True), (60, "RM_3", "", True)], OFF),
        ([(0, "RM_1", DRY, True), (30, "RM_2", "", True), (60, "RM_2", OTHER, True), (90, "RM_2", "", True)], ""),
        ([(0, "RM_1", DRY, True), (30, "RM_2", OTHER, True)], OTHER),
        ([(0, "RM_1", DRY, True), (30, "RM_1", "", True), (60, "RM_2", "", True)], ""),
        ([(0, "RM_1", DRY, False), (30, "RM_2", "", True)], ""),
        ([(0, "RM_1", DRY, True), (150, "RM_2", "", True)], ""),
        ([(0, "RM_1", OTHER, True), (30, "RM_2", "", True)], ""),
        ([(0, "RM_1", "", True)], ""),
    ],
    ids=[
        "forgotten",
        "and for as long as the room is open",
        "a list keeps it fresh",
        "a second restart",
        "the last ones count",
        "written since, and emptied",
        "given when it was opened",
        "emptied before",
        "known from lists alone",
        "too long ago",
        "not ours",
        "never any",
    ],
)
def test_metadata_in_force(seen: list[tuple[int, str, str, bool]], in_force: str) -> None:
    """Each time, a room is seen under its sid with its metadata, by webhook or in a list."""
    lasting = Lasting()
    found = [lasting.in_force(sid, "lobby", metadata, at, heard=heard) for at, sid, metadata, heard in seen]

    assert found[-1] == in_force
    assert lasting.carried(seen[-1][1], "lobby") == (in_force if seen[-1][2] != in_force else "")


@pytest.mark.parametrize("closes", ["RM_1", "RM_2"])
def test_nothing_is_carried_past_the_end_of_a_room(closes: str) -> None:
    """Under whichever sid it ended."""
    lasting = Lasting()
    lasting.in_force("RM_1", "lobby", DRY, 0, heard=True)
    if closes == "RM_2":
        lasting.in_force("RM_2", "lobby", "", 10, heard=True)
    lasting.closed(closes, "lobby")

    assert lasting.in_force("RM_3", "lobby", "", 20, heard=True) == lasting.carried("RM_3", "lobby") == ""


def test_rooms_that_are_not_seen_any_more_are_forgotten() -> None:
    """Their end may have gone unseen."""
    lasting = Lasting()
    lasting.in_force("RM_1", "lobby", DRY, 0, heard=True)
    lasting.in_force("RM_2", "lobby", "", 100)
    lasting.forget(220)
    assert lasting.carried("RM_2", "lobby") == DRY
    lasting.forget(221)

    assert lasting.carried("RM_2", "lobby") == ""
