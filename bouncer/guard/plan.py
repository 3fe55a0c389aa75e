"""What a bouncer would do in a room, as JSON: `bouncer plan`, and a configuration that is tried in the console.

It is judged from the server's lists. Where a bouncer has answered how it sees the room, what it alone can know counts
too, so the rules that rest on watching are judged as well.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bouncer.configuration.carried import given
from bouncer.configuration.model import DISPATCH, NO_PLUGINS, Config, Layer, PluginLoaders
from bouncer.dates import rfc3339, unix
from bouncer.guard.outside import Answer, Lists, Outside, acting, arriving, judge
from bouncer.guard.view import view
from bouncer.policy import Policy

AT_WORK = "when its agents last spoke, sent something or changed their state"
"""What the rules that watch rest on."""
CONFIGURED = "what BOUNCER_CONFIG its worker has; here it is this machine's"


def planned(
    lists: Lists,
    dispatches: Mapping[str, str],
    *,
    agent_name: str,
    layers: Sequence[Layer],
    unguarded: Sequence[Layer] = (),
    registry: Sequence[type[Policy]],
    plugins: PluginLoaders = NO_PLUGINS,
    instead: Layer | None = None,
    answered: Mapping[str, Any] | None = None,
) -> tuple[Outside, dict[str, Any]]:
    """Return what a bouncer would do in this room, and the view of it.

    Beneath the room's metadata are `layers` and the metadata of the acting bouncer's dispatch, of all `dispatches` by
    id, or `unguarded` where there is no bouncer; `instead` takes the place of the room's. `answered` is how the acting
    bouncer sees the room, if it was asked.
    """
    bouncer = acting(lists, agent_name)
    below = beneath(layers, dispatches.get(bouncer.dispatch, "") if bouncer else None, unguarded)
    if instead:
        below.append(instead)
        lists = replace(lists, metadata="")
    answer = Answer(answered, unix) if answered else None
    seen = judge(lists, agent_name=agent_name, layers=below, registry=registry, plugins=plugins, answer=answer)
    shown = view(seen.snapshot, rfc3339)
    shown["at"] = rfc3339(seen.snapshot.now)
    shown["unknown"] = [*seen.unknown]
    shown["unknown_facts"] = (
        [*_unknown_inside(seen.snapshot.config, answered)]
        if answered and seen.snapshot.config
        else _unknown_outside(shown, lists, by_bouncer=bouncer is not None)
    )
    return seen, shown


def beneath(layers: Sequence[Layer], dispatched: str | None, unguarded: Sequence[Layer] = ()) -> list[Layer]:
    """Return the layers beneath a room's metadata: a worker's, then what its acting bouncer was `dispatched` with.

    A room without a bouncer, for which that is None, has `unguarded` in its place.
    """
    if dispatched is None:
        return [*layers, *unguarded]
    return [*layers, *([Layer(DISPATCH, given(dispatched), shared=True)] if dispatched else [])]


def as_json(seen: Outside, shown: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plan as JSON has it; docs/reference/command-line.md describes it."""
    now = unix(shown["at"])
    verdicts = [each | {"due_in": round(unix(each["due_at"]) - now, 3)} for each in shown["verdicts"]]
    return {
        "v": shown["v"],
        "room": shown["room"],
        "room_sid": shown["room_sid"],
        "at": shown["at"],
        "mode": shown["mode"],
        "guarded_by": shown["guarded_by"],
        "participants": shown["participants"],
        "verdicts": verdicts,
        "evicted_now": [finding.participant.identity for finding in seen.evicted],
        "unknown": shown["unknown"],
        "unknown_facts": shown["unknown_facts"],
        "configuration": shown["configuration"],
        "origins": shown["origins"],
        "problems": shown["problems"],
    }


def _unknown_outside(shown: Mapping[str, Any], lists: Lists, *, by_bouncer: bool) -> list[dict[str, Any]]:
    """Return what can't be known from outside this room, each with the policies in force that rest on it."""
    rules = {rule["policy"].partition("[")[0] for rule in shown["rules"]}
    roles = [each["role"] for each in shown["participants"]]
    orphans = any("on_behalf_of" in each for each in shown["participants"])
    found: list[tuple[str, list[str]]] = []
    if shown["unknown"]:
        found.append((AT_WORK, shown["unknown"]))
    if "empty_room" in rules and "person" not in roles and "agent" in roles:
        found.append(("when the last person left: the agents may be due earlier", ["empty_room"]))
    if "orphaned_avatar" in rules and orphans:
        found.append(("when an avatar's principal left", ["orphaned_avatar"]))
    if "no_return" in rules:
        found.append(("which agents were evicted before", ["no_return"]))
    if arriving(lists):
        found.append(
            ("whether the job that has just joined is a bouncer; its dispatch is listed some seconds late", [])
        )
    if by_bouncer:
        found.append(("how many evictions it has made in the last minute", []))
        found.append((CONFIGURED, []))
    return [{"fact": fact, "policies": policies} for fact, policies in found]


def _unknown_inside(config: Config, answered: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what even the bouncer that has answered doesn't say, or would know only under this configuration."""
    watching = [rule.id for rule in config.rules if rule.watches]
    if watching and config.hearing not in ("off", answered["hearing"]):
        yield {"fact": "what it would hear: it listens only once this configuration is in force", "policies": watching}
    if answered["not_shown"]:
        yield {"fact": f"what {answered['not_shown']} participants do, of which it did not tell", "policies": watching}
    yield {"fact": CONFIGURED, "policies": []}
