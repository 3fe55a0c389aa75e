"""All that a policy may import, and nothing else."""

from bouncer.policy import Action, Count, Glob, Policy, Seconds, Verdict, matches
from bouncer.room import UNLISTED_FOR, Instant, Kind, Participant, Role, Room

__all__ = [
    "UNLISTED_FOR",
    "Action",
    "Count",
    "Glob",
    "Instant",
    "Kind",
    "Participant",
    "Policy",
    "Role",
    "Room",
    "Seconds",
    "Verdict",
    "matches",
]
