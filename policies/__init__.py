"""The house rules, one file each. `BUILTIN` is the registry: what it lists can be configured, in this order of rank."""

from bouncer import Policy
from policies.duplicates import Duplicates
from policies.idle_timeout import IdleTimeout

BUILTIN: tuple[type[Policy], ...] = (
    Duplicates,
    IdleTimeout,
)
