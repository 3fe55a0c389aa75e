"""Settings that hold for all tests."""

import os

from hypothesis import HealthCheck, settings

# No deadline and no health check on speed: a busy machine is no defect of the code. In CI the examples are always the
# same, so that a red run means a changed program; elsewhere every run tries new ones.
settings.register_profile(
    "bouncer", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.register_profile("thorough", settings.get_profile("bouncer"), max_examples=3000, derandomize=False)
settings.load_profile("bouncer")
