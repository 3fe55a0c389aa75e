"""`python demo/dispatch.py playground assistant busy`: dispatch an agent, for those without LiveKit's `lk`.

The last word is its metadata, `busy`, `idle` or `silent`; see `demo/cast.py`. The server and the key are the
environment's.
"""

import asyncio
import sys

from livekit import api


async def main(room: str, agent_name: str, metadata: str = "busy") -> None:
    """Ask the server for the agent."""
    async with api.LiveKitAPI() as livekit:
        request = api.CreateAgentDispatchRequest(agent_name=agent_name, room=room, metadata=metadata)
        await livekit.agent_dispatch.create_dispatch(request)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
