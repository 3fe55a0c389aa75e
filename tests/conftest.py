"""Settings that hold for all tests."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

END_TO_END = Path(__file__).parent / "e2e"

# No deadline and no health check on speed: a busy machine is no defect of the code. In CI the examples are always the
# same, so that a red run means a changed program; elsewhere every run tries new ones.
settings.register_profile(
    "bouncer", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.register_profile("thorough", settings.get_profile("bouncer"), max_examples=3000, derandomize=False)
settings.load_profile("bouncer")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say which tests share a process where several are used (`make test`): each process has a server of its own.

    The end-to-end tests mostly wait, so they run side by side, one by one to whoever is free; those that need a worker
    of framework agents are kept together, so that only one process starts it. All others compute: a single process
    runs them, and leaves the other processors to the clocks of the end-to-end tests.
    """
    for item in items:
        if not item.path.is_relative_to(END_TO_END):
            item.add_marker(pytest.mark.xdist_group("no_server"))
        elif "assistants" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("assistants"))
