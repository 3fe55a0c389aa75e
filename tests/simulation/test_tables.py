"""The simulation's hand-kept tables know every policy: a new one that is missing there would go untested."""

import json
from dataclasses import MISSING, fields
from typing import Any, cast

import pytest

from bouncer.configuration.load import load
from bouncer.configuration.model import Layer
from bouncer.policy import Policy
from policies import BUILTIN
from tests.simulation import meaning, oracle, plan
from tests.simulation.livekit import Server, Streams
from tests.virtual import VirtualLoop


@pytest.mark.parametrize("policy", BUILTIN, ids=lambda policy: policy.name)
def test_each_policy_is_played_and_judged(policy: type[Policy]) -> None:
    """The simulation reads the contract in tables of its own; what is missing there would never be seen to fail."""
    options_of_it = fields(cast(Any, policy))
    defaults = {f.metadata.get("key", f.name): f.default for f in options_of_it if f.default is not MISSING}
    read = meaning.DEFAULTS[policy.name]
    options = plan.options(Streams("options")("plan"), policy.name)
    rules = load((Layer("plan", json.dumps({"bouncer": {"policies": {policy.name: options}}})),), BUILTIN).rules
    (rule,) = (each for each in rules if each.policy.name == policy.name)

    assert policy.name in oracle.DUE
    assert {name: tuple(read[name]) if default == () else read[name] for name, default in defaults.items()} == defaults
    assert meaning.Rule(policy.name, {**read, **options}).evicts == (rule.action == "evict")
    assert (policy.name in meaning.HEARS) == (getattr(policy, "hearing", "unused") != "unused")
    assert (policy.name in meaning.CLEARS_ROOM) == rule.may_clear_room


def test_every_kind_of_inhabitant_arrives() -> None:
    """A kind that no longer joins any room would go untested, and no room would show it."""

    async def arrivals() -> set[str]:
        # A server decides once for each agent name whether each person gets an agent of its own.
        servers = [Server(Streams(f"arrivals {number}"), lambda *_: None) for number in range(10)]
        for server in servers:
            for number in range(300):
                plan.arrival(server, server.streams("plan"), "work" if number % 2 else "")
        return {kind for server in servers for kind in server.kinds}

    loop = VirtualLoop(io=False)
    try:
        found = loop.run_until_complete(arrivals())
    finally:
        loop.close()

    assert {kind for kind in plan.INHABITANTS if not kind.startswith("sends ")} <= found
