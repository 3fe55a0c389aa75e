"""A face without anybody behind it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from bouncer import Room, Seconds, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class OrphanedAvatar:
    """An avatar whose principal is gone has to leave.

    An avatar worker publishes video and voice on behalf of an agent. LiveKit leaves it there when that agent goes.

    What counts: an agent without a name and a dispatch that publishes on behalf of somebody (`lk.publish_on_behalf`),
    and that somebody is no agent in the room. What doesn't: a second avatar of one principal, or one that ever had a
    name or a dispatch: these are ordinary agents.

    What it won't notice: an avatar whose agent is there and has no use for it. An avatar of an agent that is evicted
    leaves with it, without this rule.
    """

    name: ClassVar[str] = "orphaned_avatar"

    grace: Seconds = 5
    """Seconds after the principal left in which it may be back."""

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        for avatar in room.agents:
            if avatar.principal_left_at is not None:
                due = max(avatar.principal_left_at, avatar.joined_at) + self.grace
                yield Verdict(avatar, due, "is the avatar of an agent that is gone")
