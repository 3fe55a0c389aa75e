"""What the server's lists say of a room's bouncers, and what `bouncer rooms` makes of them."""

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from bouncer.adapter.fleet import Post, apparent_jobs, bouncers, seen
from bouncer.adapter.project import OpenRoom
from bouncer.cli.rooms import RoomRow, row_of
from bouncer.cli.server import Invocation, ServerOptions
from bouncer.events import Info
from bouncer.room import Kind, Role

NOW = time.time()


def person(identity: str) -> Info:
    """A person that joined a minute ago."""
    return Info(sid=f"PA_{identity}", identity=identity, joined_at=NOW - 60, joined_ms=round(NOW * 1000) - 60_000)


def agent(identity: str, *, name: str = "assistant", age: float = 60, **attributes: str) -> Info:
    """An agent of that age."""
    given = {"lk.agent_name": name, **{key.replace("_", "."): value for key, value in attributes.items()}}
    joined_ms = round((NOW - age) * 1000)
    return replace(person(identity), kind=Kind.AGENT, attributes=given, joined_at=joined_ms / 1000, joined_ms=joined_ms)


def bouncer(identity: str, *, age: float = 60, name: str = "bouncer", **attributes: str) -> Info:
    """A bouncer of that age, with these attributes."""
    return replace(agent(f"agent-AJ_{identity}", name=name, age=age, **attributes), hidden=True)


@pytest.mark.parametrize(
    ("infos", "posts"),
    [
        ([], []),
        ([bouncer("a", bouncer_guarding="true")], [Post.ACTING]),
        ([bouncer("a")], [Post.ARRIVING]),
        ([bouncer("a", bouncer_standing="unconfigured")], [Post.UNCONFIGURED]),
        (
            [bouncer("young", age=5, bouncer_guarding="true"), bouncer("old", bouncer_guarding="true")],
            [Post.ACTING, Post.STANDING_BY],
        ),
        ([bouncer("old"), bouncer("young", age=5, bouncer_guarding="true")], [Post.ARRIVING, Post.ACTING]),
        ([replace(bouncer("a", bouncer_guarding="true"), active=False)], [Post.ARRIVING]),
        ([replace(bouncer("a", bouncer_guarding="true"), hidden=False)], []),
        ([replace(bouncer("a", bouncer_guarding="true"), kind=Kind.STANDARD)], []),
        ([bouncer("a", name="theirs", bouncer_guarding="true")], []),
    ],
)
def test_the_bouncers_of_a_room(infos: list[Info], posts: list[Post]) -> None:
    """Oldest first; only a hidden agent with our name is one, whatever others say."""
    facts = seen(infos, apparent_jobs(infos, "bouncer"), "bouncer")

    assert [each.post for each in bouncers(p for p in facts.participants if p.role is Role.BOUNCER)] == posts


def row(metadata: str, infos: Iterable[Info]) -> RoomRow:
    """What is said of a room."""
    return row_of(OpenRoom("room", "RM_1", metadata), tuple(infos), Invocation(ServerOptions(agent_name="bouncer")))


HOUSE = [person("ana"), bouncer("b", bouncer_guarding="true"), agent("A"), agent("B", age=30)]


@pytest.mark.parametrize(
    ("metadata", "facts"),
    [
        ("", {"mode": "enforce", "people": 1, "agents": 2, "guarded": True}),
        ('{"bouncer": {"mode": "off"}}', {"mode": "off", "next": None}),
        ('{"bouncer": {"mode": "on"}}', {"mode": "", "refused": True, "next": None, "people": 1, "agents": 2}),
        ('{"theirs": 1}', {"mode": "enforce", "refused": False}),
        ('{"bouncer": {"people": {"except": {"identity": ["ana"]}}}}', {"people": 0}),
        ('{"bouncer": {"exempt": {"identity": ["B"]}}}', {"next": None}),
        ('{"bouncer": {"policies": {"idle_timeout": {}}}}', {"unknown": ("idle_timeout",)}),
    ],
)
def test_a_row(metadata: str, facts: dict[str, Any]) -> None:
    """Who is there, under which mode."""
    found = row(metadata, HOUSE)

    assert {name: getattr(found, name) for name in facts} == facts


def test_what_is_due_next() -> None:
    """The earliest verdict that evicts, of those that can be given from outside."""
    policies = '{"duplicates": {"grace": 600}, "max_lifetime": [{"limit": 90}, {"limit": 1, "action": "report"}]}'
    first = row(f'{{"bouncer": {{"policies": {policies}}}}}', HOUSE).next

    assert first
    assert (first["identity"], first["policy"]) == ("A", "max_lifetime")
    assert first["due_in"] == pytest.approx(30 - (time.time() - NOW), abs=5)


def test_a_crowd() -> None:
    """Ten thousand participants are counted."""
    crowd = [*(person(f"p{number}") for number in range(9_000)), *(agent(f"a{number}") for number in range(1_000))]

    found = row("", crowd)

    assert (found.people, found.agents, found.guarded) == (9_000, 1_000, False)
