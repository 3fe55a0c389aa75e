"""A script as people write it, to compare a bouncer with: it lists a room every second and removes intruders.

Usage: python -m benchmarks.script ROOM
"""

import asyncio
import sys

from livekit import api

from benchmarks.bare import INTRUDER

EVERY = 1.0


async def main(room: str) -> None:
    """List and remove until ended."""
    async with api.LiveKitAPI() as client:
        while True:
            listed = await client.room.list_participants(api.ListParticipantsRequest(room=room))
            for participant in listed.participants:
                if participant.attributes.get("lk.agent_name") == INTRUDER:
                    request = api.RoomParticipantIdentity(room=room, identity=participant.identity)
                    await client.room.remove_participant(request)
            await asyncio.sleep(EVERY)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
