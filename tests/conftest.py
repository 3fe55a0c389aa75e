"""Settings that hold for all tests."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, is_hypothesis_test, settings

# No test touches a server or uses settings of the developer's: floods and restarts belong on a server of their own.
for name in [name for name in os.environ if name.startswith(("LIVEKIT_", "BOUNCER_"))]:
    del os.environ[name]

# A shell that runs this in the background has it ignore Ctrl-C, and so would the commands that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

END_TO_END = Path(__file__).parent / "e2e"
LONGEST = frozenset(
    f"test_{name}.py"
    for name in ("bouncers", "cluster", "facts", "gatekeeper", "health", "orphans", "outage", "speech", "talk")
)
"""Begun first among the end-to-end tests, because they wait longest, and the run should not end with one of them."""
TOGETHER = "assistants"
"""A fixture whose tests stay together, and so are begun first too."""

# No deadline and no health check on speed: a busy machine is no defect of the code. In CI the examples are always the
# same, so that a red run means a changed program; elsewhere every run tries new ones. Most laws are looked at in the
# simulation too, so fifty examples will do.
settings.register_profile(
    "bouncer",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CI" in os.environ,
    max_examples=50,
)
settings.register_profile("thorough", settings.get_profile("bouncer"), max_examples=3000, derandomize=False)
settings.register_profile("brief", settings.get_profile("bouncer"), max_examples=20)
settings.load_profile("bouncer")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put first what computes, then what waits: the end-to-end tests are about time, and need a machine that has some.

    Where several processes share the work (`make test`), each has a server of its own and takes the next test when it
    is free; the tests that need framework agents stay together, so that only one process has to start their worker.

    What Hypothesis reaches by chance counts as not covered: all of the heart has an example. It computes for long, so
    it has time even on a busy machine.
    """
    for item in items:
        if TOGETHER in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group(TOGETHER))
        if is_hypothesis_test(getattr(item, "obj", None)):
            item.add_marker(pytest.mark.no_cover)
            item.add_marker(pytest.mark.timeout(900))
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> tuple[bool, bool]:
    """Return what the order of the tests depends on."""
    long = item.path.name in LONGEST or TOGETHER in getattr(item, "fixturenames", ())
    return item.path.is_relative_to(END_TO_END), not long
