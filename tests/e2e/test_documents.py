"""The documents' programs, run on a real server."""

import asyncio
import sys

from livekit import api

from devserver import Server
from tests.packages import shown


async def test_the_readme_dispatches_a_bouncer(server: Server, client: api.LiveKitAPI) -> None:
    """Its Python program sends a bouncer into a room as a dry run."""
    (program,) = shown("python", "README.md")
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, env=server.env)
    try:
        assert await process.wait() == 0
        dispatched = {d.agent_name: d.metadata for d in await client.agent_dispatch.list_dispatch("my-room")}
        assert dispatched["bouncer"] == '{"bouncer": {"mode": "dry_run"}}'
    finally:
        await client.room.delete_room(api.DeleteRoomRequest(room="my-room"))
