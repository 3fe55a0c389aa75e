"""A room's metadata says who counts as a person, and who may be an avatar."""

import json
from typing import Any

import pytest

from bouncer import Kind, Role
from bouncer.events import Connected, Info, Joined
from bouncer.guard.watch import Watch
from bouncer.tracker import Tracker
from policies import BUILTIN

ME = Info(sid="PA_me", identity="agent-AJ_me", kind=Kind.AGENT, joined_ms=1)
HERE = (
    Info(sid="PA_S", identity="streamer", kind=Kind.INGRESS, joined_ms=2, name="Stream"),
    Info(sid="PA_B", identity="bot", joined_ms=3, metadata='{"kind": "bot"}'),
    Info(sid="PA_A", identity="A", kind=Kind.AGENT, joined_ms=4),
    Info(sid="PA_V", identity="V", kind=Kind.AGENT, joined_ms=5, attributes={"lk.publish_on_behalf": "A"}),
)


def roles(*metadata: Any) -> dict[str, Role]:
    """Return everyone's role, after the room's metadata said that, one after the other."""
    watch = Watch(tracker=Tracker(), registry=BUILTIN, jitter=lambda _: 0.5, began_at=0)
    watch.tracker.apply(Connected(1, ME))
    for at, info in enumerate(HERE, 2):
        watch.tracker.apply(Joined(at, info))
    for at, value in enumerate(metadata, 10):
        watch.configure(json.dumps({"bouncer": value}), at)
    return {p.identity: p.role for p in watch.tracker.room().participants if p.identity != ME.identity}


@pytest.mark.parametrize(
    ("metadata", "changed"),
    [
        ([{}], {}),
        ([{"people": {"also": {"identity": ["stream*"]}}}], {"streamer": Role.HUMAN}),
        ([{"people": {"also": {"identity": ["stream*"], "name": ["x"]}}}], {}),
        ([{"people": {"except": {"metadata": ['*"bot"*']}}}], {"bot": Role.OTHER}),
        ([{"people": {"except": {"identity": ["A"]}, "also": {"identity": ["A"]}}}], {}),
        ([{"avatars": {"identity": ["x"]}}], {"V": Role.AGENT}),
        ([{"avatars": {"attributes": {"x": "y"}}}], {"V": Role.AGENT}),
        ([{"avatars": [{"identity": ["x"]}, {"identity": ["V"]}]}], {}),
        ([{"people": {"also": {"identity": ["stream*"]}}}, {}], {}),
        ([{"people": {"also": {"identity": ["stream*"]}}}, {"mode": "on"}], {"streamer": Role.HUMAN}),
    ],
)
def test_who_is_what(metadata: Any, changed: dict[str, Role]) -> None:
    """At once, and until it says otherwise. An agent stays one whatever it is called."""
    usual = {"streamer": Role.OTHER, "bot": Role.HUMAN, "A": Role.AGENT, "V": Role.AVATAR}

    assert roles(*metadata) == {**usual, **changed}
