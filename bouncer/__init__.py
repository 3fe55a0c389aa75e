"""All that a policy may import, and nothing else."""

from bouncer.policy import Action, Count, Glob, Globs, Hearing, Options, Policy, Seconds, Verdict, matches
from bouncer.room import Instant, Kind, Participant, Role, Room, in_order, known_by

__all__ = [
    "Action",
    "Count",
    "Glob",
    "Globs",
    "Hearing",
    "Instant",
    "Kind",
    "Options",
    "Participant",
    "Policy",
    "Role",
    "Room",
    "Seconds",
    "Verdict",
    "in_order",
    "known_by",
    "matches",
]
