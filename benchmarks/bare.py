"""A bare handler, to compare a bouncer with: it removes an intruder at the event, and checks nothing."""

import asyncio
import os
from typing import Any

from livekit import api, rtc
from livekit.agents import AgentServer, AutoSubscribe, JobContext, JobExecutorType, WorkerPermissions, cli

NAME = "bare"
INTRUDER = "intruder"


def never_busy() -> float:
    """Report no load, so that a busy machine still gets it."""
    return 0.0


server = AgentServer(
    job_executor_type=JobExecutorType.THREAD,
    load_fnc=never_busy,
    load_threshold=float("inf"),
    permissions=WorkerPermissions(can_publish=False, can_publish_data=False, hidden=True),
    port=int(os.environ.get("BOUNCER_PORT", "0")),
)


@server.rtc_session(agent_name=NAME)
async def bare(ctx: JobContext) -> None:
    """Remove intruders until the room closes."""
    client = api.LiveKitAPI()
    removals: set[asyncio.Task[Any]] = set()

    def joined(participant: rtc.RemoteParticipant) -> None:
        if participant.attributes.get("lk.agent_name") == INTRUDER:
            request = api.RoomParticipantIdentity(room=ctx.room.name, identity=participant.identity)
            removal = asyncio.create_task(client.room.remove_participant(request))
            removals.add(removal)
            removal.add_done_callback(removals.discard)

    ctx.add_shutdown_callback(client.aclose)
    ctx.room.on("participant_connected", joined)
    await ctx.connect(auto_subscribe=AutoSubscribe.SUBSCRIBE_NONE)


if __name__ == "__main__":
    cli.run_app(server)
