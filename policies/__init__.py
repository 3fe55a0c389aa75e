"""The built-in policies, one file each. Of two verdicts due at once, the policy listed first in `BUILTIN` wins."""

from bouncer import Policy
from policies.allow_list import AllowList
from policies.crosstalk import Crosstalk
from policies.deny_list import DenyList
from policies.duplicates import Duplicates
from policies.empty_room import EmptyRoom
from policies.human_takeover import HumanTakeover
from policies.idle_timeout import IdleTimeout
from policies.lone_chatter import LoneChatter
from policies.max_agents import MaxAgents
from policies.max_lifetime import MaxLifetime
from policies.no_return import NoReturn
from policies.orphaned_avatar import OrphanedAvatar
from policies.stuck_state import StuckState
from policies.superseded import Superseded
from policies.unresponsive import Unresponsive

BUILTIN: tuple[type[Policy], ...] = (
    AllowList,
    Crosstalk,
    DenyList,
    Duplicates,
    EmptyRoom,
    HumanTakeover,
    IdleTimeout,
    LoneChatter,
    MaxAgents,
    MaxLifetime,
    NoReturn,
    OrphanedAvatar,
    StuckState,
    Superseded,
    Unresponsive,
)
