"""The runs of the simulation: every fault by itself, some together, and none."""

from tests.gatekeeping.world import Plan, World

SCENES: dict[str, Plan] = {
    "calm": Plan(),
    "no webhooks": Plan(with_webhooks=False),
    "webhooks lost, repeated and late": Plan(faults=("lossy",)),
    "restart of the gatekeeper": Plan(faults=("restart",), fault_for=10.0),
    "LiveKit away": Plan(faults=("away",)),
    "a worker killed": Plan(faults=("killed",)),
    "no worker takes a room": Plan(faults=("idle",), fault_for=130.0),
    "restart of LiveKit": Plan(faults=("away", "wiped"), fault_for=10.0),
    "two gatekeepers": Plan(gatekeepers=2),
    "two gatekeepers in trouble": Plan(gatekeepers=2, faults=("lossy", "restart", "killed"), fault_for=20.0),
    "rooms that end at once": Plan(rooms=150, brief=0.6),
    "when needed": Plan(when_needed=True),
    "when needed, no webhooks": Plan(when_needed=True, with_webhooks=False),
    "when needed, in trouble": Plan(when_needed=True, faults=("lossy", "restart", "killed"), fault_for=20.0),
    "few calls": Plan(rooms=120, lifetime=120.0, per_minute=300),
}
LARGE = Plan(
    rooms=10_000,
    seconds=420.0,
    lifetime=600.0,
    webhooks=420.0,
    per_minute=24_000,
    workers=20,
    fault_at=150.0,
    guarded=True,
)
"""Ten thousand rooms on one gatekeeper: with rooms that open and close, 500 webhooks a second."""
LARGE_FAULTS: dict[str, tuple[str, ...]] = {
    "webhooks lost, repeated and late": ("lossy",),
    "restart of the gatekeeper": ("restart",),
    "LiveKit away for a minute": ("away",),
    "one of 20 workers killed": ("killed",),
}


def played(seed: int, plan: Plan) -> World:
    """Play one run."""
    world = World(seed, plan)
    world.play()
    return world
