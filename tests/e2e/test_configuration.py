"""The room's metadata as configuration, on a real server."""

from tests.e2e.scenes import at_once
from tests.e2e.world import World


async def test_metadata_changed_while_running_takes_effect(world: World) -> None:
    """An agent that was left alone is due at once under the new rules."""
    await world.open({"bouncer": {"policies": {"duplicates": None}}})
    await world.agent("A", lively=True)
    second = await world.agent("B")
    await world.stays({"A", "B"}, seconds=4)

    await world.metadata({"bouncer": {"policies": {"duplicates": {"grace": 0, "wait_for_life": 0}}}})

    await world.gone(second)
    await world.stays({"A"}, seconds=2)


async def test_switching_to_dry_run_stops_the_evictions(world: World) -> None:
    """Switching back resumes them."""
    await world.open()
    await world.agent("A", lively=True)
    await world.metadata({"bouncer": {"mode": "dry_run"}})
    second = await world.agent("B")
    await world.message(event="reported", identity="B")
    await world.stays({"A", "B"}, seconds=3)

    await world.metadata({})

    await world.gone(second)


async def test_bad_metadata_changes_nothing_and_is_reported(world: World) -> None:
    """Every mistake is named with its path, and the previous rules stay in force."""
    await world.open({"bouncer": {"policies": {"duplicates": None, "idle_timeout": {"timeout": 4}}}})
    await world.metadata(
        {"bouncer": {"mode": "enforced", "policies": {"idle_timeout": {"timeout": -1}, "duplicate": {}}}}
    )

    told = await world.message(event="config_error")

    assert {error["path"] for error in told["errors"]} == {
        "$.bouncer.mode",
        "$.bouncer.policies.idle_timeout.timeout",
        "$.bouncer.policies.duplicate",
    }
    assert told["kept"] is True
    first, second = await world.agent("A"), await world.agent("B")
    await world.gone(first)
    await world.gone(second)
    for identity in ("A", "B"):
        assert (await world.message(event="evicted", identity=identity))["policy"] == "idle_timeout"


async def test_a_bad_first_configuration_evicts_no_one(world: World) -> None:
    """A trailing comma must not silently enforce the defaults."""
    await world.open('{"bouncer": {"policies": {}},}')
    await world.agent("A", lively=True)
    await world.agent("B")

    await world.stays({"A", "B"}, seconds=5)

    second = {"A", "B"}
    await world.metadata("")

    async def one_left() -> bool:
        return len(second & await world.present()) == 1

    await world.until(one_left, "a good configuration is in force")


@at_once("metadata", ["", "Ana's room", '{"theme": "dark"}', "[1, 2]", '{"theme": '])
async def test_metadata_of_other_applications_configures_nothing(world: World, metadata: str) -> None:
    """The defaults apply: duplicates leave, idle agents stay."""
    await world.open(metadata)
    await world.agent("A", lively=True)
    second = await world.agent("B")

    await world.gone(second)

    await world.stays({"A"}, seconds=1)
    assert not [m for m in world.messages if m["event"] == "config_error"]


async def test_announce_false_keeps_quiet(world: World) -> None:
    """The eviction still happens."""
    await world.open({"bouncer": {"announce": False}})
    await world.agent("A", lively=True)
    second = await world.agent("B")

    await world.gone(second)
    await world.stays({"A"}, seconds=1)

    assert world.messages == []


async def test_the_dispatchs_metadata_is_a_layer_below_the_rooms(world: World) -> None:
    """The dispatch's metadata applies unless the room's says otherwise."""
    idle = {"bouncer": {"policies": {"duplicates": None, "idle_timeout": {"timeout": 3}}}}
    await world.open({"bouncer": {"exempt": {"identity": ["B"]}}}, dispatch_metadata=idle)
    first = await world.agent("A")
    await world.agent("B")

    await world.gone(first)

    await world.stays({"B"}, seconds=2)
