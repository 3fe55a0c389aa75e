"""A face with no one behind it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from bouncer import Room, Seconds, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class OrphanedAvatar:
    """An avatar whose principal is gone must leave.

    An avatar worker publishes video and voice on behalf of an agent. When that agent goes, LiveKit leaves the avatar
    in the room.

    What counts: an agent with neither a name nor a dispatch that publishes on behalf of an identity
    (`lk.publish_on_behalf`) which is not an agent in the room. What doesn't: a second avatar of the same principal, or
    one that ever had a name or a dispatch. Those are ordinary agents.

    What it won't notice: an avatar whose agent is present but no longer uses it. The avatar of an evicted agent leaves
    with that agent, even without this policy.
    """

    name: ClassVar[str] = "orphaned_avatar"

    grace: Seconds = 5
    """Seconds that the principal has to come back."""

    def evaluate(self, room: Room) -> Iterator[Verdict]:
        for avatar in room.agents:
            if avatar.principal_left_at is not None:
                due = max(avatar.principal_left_at, avatar.joined_at) + self.grace
                yield Verdict(avatar, due, "is the avatar of an agent that is gone")
