"""What may happen in a simulated room: configurations, and who joins it. All of it follows from the seed."""

import json
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from bouncer.room import Kind
from tests.simulation.livekit import NAME, STATE, Fault, Member, Server, Trouble_
from tests.simulation.meaning import DEFAULTS, HEARS, Meaning

NAMES = ("assistant", "assistant", "assistant", "support", "billing", "vip")
STATES = ("initializing", "idle", "listening", "thinking", "speaking")
HUMAN_NAMES = ("ana", "bob", "operator-1", "carl")


def options(random: Random, policy: str) -> dict[str, Any]:
    """Options of a policy, small enough that it comes to something within a minute."""
    short, long = random.choice((0, 1, 2, 4)), random.choice((3, 5, 8, 15))
    own: dict[str, Callable[[], dict[str, Any]]] = {
        "allow_list": lambda: {"agent_names": random.choice((["assistant", "vip"], ["a*", "support"])), "grace": short},
        "crosstalk": lambda: {"overlap": short},
        "deny_list": lambda: random.choice(({"agent_names": ["bil*"]}, {"identities": ["agent-*5", "fixed"]})),
        "duplicates": lambda: {
            "max": random.choice((1, 1, 1, 2)),
            "keep": random.choice(("oldest", "oldest", "newest")),
            "grace": short,
            "unnamed": random.random() < 0.2,
            "key": random.choice(("agent_name", "agent_name", "attribute:desk")),
        },
        "empty_room": lambda: {"grace": short, "never_joined": long},
        "human_takeover": lambda: random.choice(
            ({"identity": ["operator-*"], "grace": short}, {"attributes": {"desk": "1"}, "grace": short})
        ),
        "idle_timeout": lambda: {"timeout": long},
        "lone_chatter": lambda: {"timeout": long, "keep": random.choice(("none", "oldest"))},
        "max_agents": lambda: {"max": random.choice((1, 2, 3)), "grace": short},
        "max_lifetime": lambda: {"limit": long + 5},
        "no_return": lambda: {"window": random.choice((5, 60))},
        "orphaned_avatar": lambda: {"grace": short},
        "stuck_state": lambda: {"limits": {random.choice(STATES): long, "thinking": long}},
        "superseded": lambda: {"by": {"assistant": ["billing", "support"], "sup*": ["vip"]}, "grace": short},
        "unresponsive": lambda: {"timeout": long, "action": random.choice(("evict", "report"))},
    }
    common: dict[str, Any] = {}
    if random.random() < 0.15:
        common["only"] = random.choice((["assistant"], ["s*", "bil*"], ["*"]))
    if random.random() < 0.15:
        common["action"] = random.choice(("evict", "report"))
    if random.random() < 0.15:
        common["notice"] = random.choice((1, 3))
    return own[policy]() | common


def configuration(random: Random, *, mode: str = "") -> dict[str, Any]:
    """The value of our key: anything that is valid."""
    chosen = random.sample(list(DEFAULTS), random.choice((0, 1, 1, 2, 2, 3, 5)))
    policies: dict[str, Any] = {
        name: [options(random, name), options(random, name)] if random.random() < 0.1 else options(random, name)
        for name in chosen
    }
    if "duplicates" not in policies and random.random() < 0.3:
        policies["duplicates"] = None
    ours: dict[str, Any] = {
        "mode": mode or random.choices(("enforce", "dry_run", "off"), (20, 1, 1))[0],
        "policies": policies,
        "eviction": {
            "max_per_minute": random.choice((2, 4, 10, 10)),
            "leave_within": random.choice((0, 1, 3.5)),
            "keep_last_agent": random.random() < 0.2,
        },
        "reconcile": random.choice((3, 8, 15)),
    }
    if random.random() < 0.3:
        ours["exempt"] = random.choice(({"identity": ["agent-*3"]}, {"agent_name": ["vip"]}, {"identity": ["fixed"]}))
    if not HEARS & policies.keys():
        ours["hearing"] = random.choice(("auto", "level", "off"))
    return ours


def metadata(ours: Mapping[str, Any], random: Random) -> str:
    """Room metadata with that under our key, and perhaps something of others."""
    return json.dumps({"bouncer": ours, "theirs": {"x": 1}} if random.random() < 0.3 else {"bouncer": ours})


def bad_metadata(random: Random) -> str:
    """Metadata that have to be refused."""
    return random.choice(
        (
            '{"bouncer": {"mode": "enforce",}}',
            '{"bouncer": {"mode": "kill"}}',
            '{"bouncer": {"policies": {"idle_timeout": {"timeout": -1}}}}',
            '{"bouncer": {"mode": "off", "mode": "enforce"}}',
        )
    )


def change(random: Random, ours: Mapping[str, Any], whom: str = "") -> tuple[str, Meaning | None, Mapping[str, Any]]:
    """Other metadata: the text, what it means if it is valid, and the value of our key from then on."""
    what = random.choices(("new", "bad", "theirs", "mode", "exempt"), (3, 1, 1, 3, 0 if not whom else 8))[0]
    match what:
        case "bad":
            return bad_metadata(random), None, ours
        case "theirs":
            return '{"theirs": {}}', Meaning({}), {}
        case "mode":
            ours = {**ours, "mode": random.choice(("enforce", "enforce", "dry_run", "off"))}
        case "exempt":
            ours = {**ours, "exempt": {"identity": [whom]}}
        case _:
            ours = configuration(random)
    return metadata(ours, random), Meaning(ours), ours


def faults(random: Random, begin: float, end: float) -> tuple[Fault, ...]:
    """Times in which calls go wrong."""
    kinds: tuple[Trouble_, ...] = ("denied", "throttled", "unavailable", "slow", "slow")
    made = []
    for _ in range(random.choice((0, 0, 1, 1, 2, 3))):
        at = random.uniform(begin, end)
        made.append(
            Fault(at, min(end, at + random.uniform(1, 15)), random.choice(kinds), random.choice((0.2, 0.7, 1.0)))
        )
    return tuple(made)


def arrival(server: Server, random: Random) -> Member:
    """Somebody joins, of any kind there is."""
    kinds = ("job", "human", "token", "avatar", "sip", "recorder", "bot", "simulated", "hidden", "forged", "bouncer")
    what = random.choices(kinds, (9, 4, 2, 2, 1, 1, 1, 0.5, 0.5, 0.5, 0.4))[0]
    facts: dict[str, Any] = {"publishes": random.random() < 0.6}
    match what:
        case "human":
            facts |= {"identity": random.choice(HUMAN_NAMES), "audio": facts["publishes"] and random.random() < 0.7}
            if random.random() < 0.2:
                facts["attributes"] = {"desk": "1"}
        case "sip":
            facts |= {"identity": "caller", "kind": Kind.SIP, "publishes": True, "audio": True}
        case "recorder":
            facts |= {"identity": "recorder", "kind": random.choice((Kind.EGRESS, Kind.INGRESS)), "hidden": False}
        case "avatar":
            principals = [m.identity for m in server.members.values() if m.dispatch and not m.hidden]
            of = random.choice(principals) if principals else "nobody"
            facts |= {"identity": f"avatar-{next(server.sids)}", "kind": Kind.AGENT}
            facts["attributes"] = {"lk.publish_on_behalf": of}
        case "bot":
            facts |= {"identity": random.choice(("bot", "bot-5")), "grant": True}
            facts["attributes"] = {"lk.agent.name": "support"} if random.random() < 0.5 else {}
        case "simulated":
            facts |= {"kind": Kind.AGENT, "simulated": True}
            facts["attributes"] = {"lk.agent_name": "assistant"}
        case "forged":
            facts |= {"kind": Kind.AGENT, "hidden": random.random() < 0.5}
            facts["attributes"] = {"lk.agent_name": NAME, **random.choice(({}, {"bouncer.guarding": "true"}))}
        case "bouncer":
            facts |= {"kind": Kind.AGENT, "hidden": True, "publishes": False, "dispatch": server.dispatch(NAME)}
        case _:
            facts |= _agent(server, random, what)
    return server.join(**facts)


def _agent(server: Server, random: Random, what: str) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "kind": Kind.AGENT,
        "hidden": what == "hidden",
        "joining": random.choice((0.01, 0.05, 0.3, 0.3, 8.0)) if random.random() < 0.5 else 0.05,
        "comes_back": random.random() < 0.15,
        "hangs": random.random() < 0.15,
        "audio": random.random() < 0.5,
        "attributes": {},
    }
    if random.random() < 0.5:
        facts["attributes"][STATE] = random.choice(STATES)
    if random.random() < 0.15:
        facts["attributes"]["desk"] = random.choice("12")
    if what == "job":
        known = [d for d in server.dispatches.values() if d.agent_name != NAME]
        again = known and random.random() < 0.2
        facts["dispatch"] = random.choice(known) if again else server.dispatch(random.choice(NAMES))
        if facts["dispatch"].per_publisher:
            facts["publisher"] = random.choice(HUMAN_NAMES)
        if random.random() < 0.1:
            facts["identity"] = "fixed"
    else:
        facts["identity"] = random.choice(("token", "token-5", "agent-AJ_false"))
        if random.random() < 0.7:
            facts["attributes"]["lk.agent.name"] = random.choice(NAMES)
    return facts
