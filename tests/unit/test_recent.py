"""The latest records, for those that ask."""

from bouncer.configuration.load import load
from bouncer.configuration.model import Layer
from bouncer.observers import Configured, Failing, Guarding
from bouncer.observers.recent import KEPT, Recent
from bouncer.ports import Doing
from policies import BUILTIN
from tests.dates import records


def test_the_latest_are_kept_and_numbered() -> None:
    """As many as a screen may show; and of configurations, which are large, the last."""
    recent = Recent(records())

    recent.notify(Guarding())
    for number in range(1, 4):
        layer = Layer("x", f'{{"bouncer": {{"policies": {{"max_agents": {{"max": {number}}}}}}}}}')
        recent.notify(Configured(load([layer], BUILTIN)))
    assert [(each["n"], each["event"]) for each in recent.latest()] == [(1, "guarding"), (4, "configured")]

    for _ in range(KEPT):
        recent.notify(Failing(Doing.LISTING, ValueError("x")))
    assert [each["n"] for each in recent.latest()] == [*range(5, 5 + KEPT)]
