"""What may happen in a simulated room: configurations, and who joins it. All of it follows from the seed."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from random import Random
from typing import Any

from bouncer.room import Kind
from tests.simulation.livekit import CALL_STATUS, NAME, OTHER, RINGING, STATE, Fault, Member, Server, Trouble_, Works
from tests.simulation.meaning import DEFAULTS, HEARS, Meaning, Rule

NAMES = ("assistant", "assistant", "assistant", "support", "billing", "vip", "rene\u0301e", "ren\u00e9e")
STATES = ("initializing", "idle", "listening", "thinking", "speaking")
HUMAN_NAMES = ("ana", "bob", "operator-1", "carl")
THEMES: Mapping[str, tuple[str, ...]] = {
    "": (),
    "chatter": ("lone_chatter", "superseded"),
    "work": ("idle_timeout",),
    "avatars": ("max_agents", "no_return", "orphaned_avatar"),
    "malice": ("allow_list", "max_lifetime"),
    "people": ("empty_room", "human_takeover", "lone_chatter"),
}
"""What a room may be about, and the policies that it then has, some or all."""
WORKS: tuple[Works, ...] = ("rpc", "dtmf", "bytes", "caption", "caption", "video", "data track", "encrypted", "whisper")
INHABITANTS: tuple[str, ...] = (
    *("job", "human", "token", "sip", "hidden", "forged", "bouncer", "foreign", "asker", "supervisor"),
    *(*dict.fromkeys(WORKS), "ambience", "one for each person", "ringing", "simulated", "bot"),
    *("avatar of kind agent", "avatar of kind standard", "avatar of kind standard, with the grant"),
    *("recorder of kind egress", "recorder of kind ingress", "recorder of kind standard"),
    *("sends data", "sends text", "sends bytes", "sends caption", "sends rpc", "sends dtmf"),
)
"""All that has to occur in many rooms: docs/explanation/from-the-field.md has those that were found in real ones."""


WHO_IS_WHO = ("people", "avatars")
NOTHING: Mapping[str, Any] = {}


def options(random: Random, policy: str, theme: str = "") -> dict[str, Any]:
    """Options of a policy in rooms of a theme, small enough that it comes to something within a minute."""
    short, long, wait = random.choice((0, 1, 2, 4)), random.choice((3, 5, 8, 15)), random.choice((0, 0, 4, 25))
    own: dict[str, Callable[[], dict[str, Any]]] = {
        "allow_list": lambda: {"agent_names": random.choice((["assistant", "vip"], ["a*", "support"])), "grace": short},
        "crosstalk": lambda: {"overlap": short},
        "deny_list": lambda: random.choice(
            (
                {"agent_names": ["bil*"]},
                {"identities": ["agent-*5", "fixed"]},
                {"who": {"attributes": {"desk": "1"}}, "grace": short},
                {"who": {"metadata": ["*trial*"], "agent_name": ["*"]}},
            )
        ),
        "duplicates": lambda: {
            "max": random.choice((1, 1, 1, 2)),
            "keep": random.choice(("oldest", "oldest", "newest")),
            "grace": short,
            "unnamed": random.random() < 0.2,
            "wait_for_life": wait,
            "key": random.choice(("agent_name", "agent_name", "attribute:desk")),
        },
        "empty_room": lambda: {"grace": short, "never_joined": long},
        "human_takeover": lambda: random.choice(
            ({"identity": ["operator-*"], "grace": short}, {"attributes": {"desk": "1"}, "grace": short})
        ),
        "idle_timeout": lambda: {"timeout": long, "unseen": random.choice(("hold", "hold", "hold", "evict"))},
        "lone_chatter": lambda: {"timeout": long, "keep": random.choice(("none", "oldest"))},
        "max_agents": lambda: {"max": random.choice((1, 2, 3)), "grace": short, "wait_for_life": wait},
        "max_lifetime": lambda: {"limit": long + 5},
        "no_return": lambda: {"window": random.choice((5, 60))},
        "orphaned_avatar": lambda: {"grace": short},
        "stuck_state": lambda: {"limits": {random.choice(STATES): long, "thinking": long}},
        "superseded": lambda: {"by": {"assistant": ["billing", "support"], "sup*": ["vip"]}, "grace": short},
        "unresponsive": lambda: {"timeout": long, "action": random.choice(("evict", "report"))},
    }
    common: dict[str, Any] = {}
    if random.random() < (0.4 if theme == "malice" else 0.15):
        selectors: tuple[Any, ...] = ({"agent_name": ["assistant", "ren\u00e9e"]}, [{"attributes": {"desk": "2"}}])
        common["only"] = random.choice((["assistant"], ["s*", "bil*"], ["*"], *selectors))
    if random.random() < (0.5 if theme == "malice" else 0.15):
        common["action"] = random.choice(("evict", "report"))
    if random.random() < 0.15:
        common["notice"] = random.choice((1, 3))
    chosen = own[policy]() | common
    if chosen.get("notice", 0) >= Rule(policy, {**DEFAULTS[policy], **chosen}).gives:
        chosen.pop("notice", None)
    return chosen


def who_is_who(random: Random, theme: str) -> dict[str, Any]:
    """What a room says of who counts as what. It stays so as long as the room does."""
    also = random.choice(({"identity": ["operator-hidden"]}, {"identity": ["recorder"], "metadata": ["*stream*"]}))
    named = ({"also": also}, {"except": {"name": ["Bo*"]}}, {"also": also, "except": [{"name": ["A*"]}]})
    people = random.choice((*named, {"except": {"name": ["Ren\u00e9*"]}}) if theme == "people" else named)
    avatars = {"identity": ["avatar-*[02468]"]}
    if theme == "people":
        return {"people": people}
    return random.choice(({}, {}, {}, {"people": people}, {"avatars": avatars}, {"people": people, "avatars": avatars}))


def configuration(
    random: Random, *, mode: str = "", theme: str = "", before: Mapping[str, Any] = NOTHING
) -> dict[str, Any]:
    """The value of our key: anything that is valid, in a room with that theme and that value before."""
    policies_of_it = THEMES[theme] if random.random() < 0.8 else ()
    others = [name for name in DEFAULTS if name not in policies_of_it]
    chosen = (*policies_of_it, *random.sample(others, random.choice((0, 1, 1, 2, 2, 3, 5))))
    chance = partial(options, random, theme=theme)
    policies: dict[str, Any] = {
        name: [chance(name), chance(name)] if random.random() < 0.1 else chance(name) for name in chosen
    }
    if "duplicates" not in policies and random.random() < 0.3:
        policies["duplicates"] = None
    ours: dict[str, Any] = {
        "mode": mode or random.choices(("enforce", "dry_run", "off"), (20, 1, 1))[0],
        "policies": policies,
        "eviction": {
            "max_per_minute": random.choice((1, 2, 4, 10, 10)),
            "leave_within": random.choice((0, 1, 3.5)),
            "keep_last_agent": random.random() < 0.2,
        },
        "reconcile": random.choice((3, 8, 15)),
    }
    if random.random() < 0.3:
        ours["exempt"] = random.choice(
            (
                {"identity": ["agent-*3"]},
                {"agent_name": ["vip", "ren\u00e9e"]},
                {"identity": ["fixed"], "attributes": {"desk": "1"}},
                [{"agent_name": ["assistant"], "metadata": ["*trial*"]}, {"identity": ["token*"]}],
            )
        )
    if not HEARS & policies.keys():
        ours["hearing"] = random.choice(("auto", "level", "off"))
    return ours | {key: before[key] for key in WHO_IS_WHO if key in before}


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


def change(
    random: Random, ours: Mapping[str, Any], theme: str, exempt: str = ""
) -> tuple[str, Meaning | None, Mapping[str, Any]]:
    """Other metadata: the text, what it means if it is valid, and the value of our key from then on."""
    theirs = 0 if any(key in ours for key in WHO_IS_WHO) else 1
    weights = (3, 1, theirs, 8, 8) if exempt else (3, 1, theirs, 3, 0)
    what = random.choices(("new", "bad", "theirs", "mode", "exempt"), weights)[0]
    match what:
        case "bad":
            return bad_metadata(random), None, ours
        case "theirs":
            return '{"theirs": {}}', Meaning({}), {}
        case "mode":
            ours = {**ours, "mode": random.choice(("enforce", "enforce", "dry_run", "off"))}
        case "exempt":
            ours = {**ours, "exempt": {"identity": [exempt]}}
        case _:
            ours = configuration(random, theme=theme, before=ours)
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


def arrival(server: Server, random: Random, theme: str = "") -> Member:  # noqa: PLR0912, PLR0915 - a few for each kind
    """Someone joins, of any kind."""
    kinds = {"job": 9, "human": 4, "token": 2, "avatar": 2, "sip": 1, "ringing": 0.5, "recorder": 1, "bot": 1}
    kinds |= {"simulated": 0.5, "hidden": 0.5, "forged": 0.5, "bouncer": 0.4, "foreign": 0.3, "asker": 0.3}
    kinds |= {"supervisor": 0.3, "worker": 12 if theme == "work" else 1}
    kinds |= {"avatar": 8} if theme == "avatars" else {}
    kinds |= {"supervisor": 4, "recorder": 4, "simulated": 2, "ringing": 2} if theme == "people" else {}
    what = random.choices(list(kinds), list(kinds.values()))[0]
    facts: dict[str, Any] = {"publishes": random.random() < 0.6}
    match what:
        case "human":
            facts |= {"identity": random.choice(HUMAN_NAMES), "audio": facts["publishes"] and random.random() < 0.7}
            facts["nameless"] = random.random() < 0.5
            facts["name"] = facts["identity"].title()
            if theme == "people" and random.random() < 0.4:
                facts["name"] = "Rene\u0301"
            if random.random() < 0.2:
                facts["attributes"] = {"desk": "1"}
        case "sip":
            facts |= {"identity": "caller", "kind": Kind.SIP, "publishes": True, "audio": True}
        case "ringing":
            facts |= {"identity": "operator-phone", "kind": Kind.SIP, "publishes": True, "audio": True}
            facts["attributes"] = {CALL_STATUS: random.choice(RINGING)}
        case "recorder":
            kind = random.choice((Kind.EGRESS, Kind.INGRESS, Kind.STANDARD))
            facts |= {"identity": "recorder", "kind": kind, "recorder": kind is Kind.STANDARD}
            facts["metadata"] = random.choice(("", "a stream"))
        case "asker":
            facts |= {"identity": f"asker-{next(server.sids)}", "grant": True, "hidden": True, "mute": True}
        case "supervisor":
            facts |= {"identity": "operator-hidden", "hidden": True}
        case "avatar":
            principals = [m.identity for m in server.members.values() if not m.hidden]
            of = random.choice(principals) if principals else "nobody"
            kind = random.choice((Kind.AGENT, Kind.AGENT, Kind.STANDARD))
            facts |= {"identity": f"avatar-{next(server.sids)}", "kind": kind, "grant": random.random() < 0.3}
            facts["comes_back"] = random.random() < (0.5 if theme == "avatars" else 0.1)
            facts["attributes"] = {"lk.publish_on_behalf": of}
        case "bot":
            facts |= {"identity": random.choice(("bot", "bot-5")), "grant": True}
            facts["attributes"] = {"lk.agent.name": "support"} if random.random() < 0.5 else {}
        case "simulated":
            facts |= {"kind": Kind.AGENT, "simulated": True}
            facts["attributes"] = {"lk.agent_name": "assistant"}
            facts |= {"name": random.choice(("Ana", "Bob"))} if theme == "people" else {}
        case "forged":
            facts |= {"kind": Kind.AGENT, "hidden": random.random() < 0.5}
            facts["attributes"] = {"lk.agent_name": NAME, **random.choice(({}, {"bouncer.guarding": "true"}))}
        case "foreign":
            facts |= {"kind": Kind.AGENT, "hidden": True, "dispatch": server.dispatch(OTHER)}
            facts["attributes"] = {"bouncer.guarding": "true"}
        case "bouncer":
            facts |= {"kind": Kind.AGENT, "hidden": True, "publishes": False, "dispatch": server.dispatch(NAME)}
        case _:
            facts |= _agent(server, random, what, theme)
    joined = server.join(**facts)
    server.kinds.update(_kinds(what, joined))
    if what == "ringing":
        server.after(random.choice((1.0, 4.0, 12.0)), lambda: _answer(server, joined))
    return joined


def _kinds(what: str, member: Member) -> list[str]:
    """What a participant that has joined is counted as."""
    of_kind = f"{what} of kind {member.kind}"
    if what == "avatar" and member.kind is Kind.STANDARD and member.grant:
        of_kind += ", with the grant"
    special = [member.works, "ambience" if member.ambience else "", "one for each person" if member.serves else ""]
    return [of_kind if what in ("avatar", "recorder") else what, *filter(None, special)]


def _answer(server: Server, member: Member) -> None:
    if member.here:
        server.set_attributes(member, **{CALL_STATUS: "active"})


def _agent(server: Server, random: Random, what: str, theme: str) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "kind": Kind.AGENT,
        "hidden": what == "hidden",
        "joining": random.choice((0.01, 0.05, 0.3, 0.3, 8.0)) if random.random() < 0.5 else 0.05,
        "comes_back": random.random() < 0.15,
        "hangs": random.random() < 0.15,
        "audio": random.random() < (0.9 if theme == "chatter" else 0.5),
        "attributes": {},
    }
    if random.random() < 0.15:
        facts["metadata"] = "on trial"
    if what == "worker":
        facts |= {"audio": False, "works": random.choice(WORKS), "nameless": random.random() < 0.5}
        facts["attributes"] = {STATE: "listening"} if facts["works"] in ("caption", "video") else {}
        facts["attributes"] |= {STATE: "speaking"} if facts["works"] == "whisper" else {}
    elif random.random() < 0.5:
        facts["attributes"][STATE] = random.choice(STATES)
    if random.random() < 0.15:
        facts["attributes"]["desk"] = random.choice("12")
    if what != "worker" and random.random() < 0.1:
        facts["ambience"] = True
    if what in ("job", "worker"):
        known = [d for d in server.dispatches.values() if d.agent_name in NAMES]
        again = known and random.random() < 0.2
        facts["dispatch"] = random.choice(known) if again else server.dispatch(random.choice(NAMES))
        if facts["dispatch"].per_publisher:
            facts["serves"] = random.choice(HUMAN_NAMES)
        if random.random() < 0.1:
            facts["identity"] = "fixed"
    else:
        facts["identity"] = random.choice(("token", "token-5", "agent-AJ_false"))
        if random.random() < 0.7:
            facts["attributes"]["lk.agent.name"] = random.choice(NAMES)
    return facts
