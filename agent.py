"""The front door: a LiveKit worker that guards rooms. Run it with `python agent.py dev`, deploy it with `start`."""

import os
import sys
import threading
from functools import partial

from livekit.agents import JobContext, cli

from bouncer.adapter import LiveKitRoom, agent_server
from bouncer.adapter.calls import CallBudget
from bouncer.adapter.ears import Ears
from bouncer.config import Layer
from bouncer.installed import installed
from bouncer.observers.logs import Logs
from bouncer.observers.messages import RoomMessages
from bouncer.patrol import Patrol
from bouncer.settings import SettingsError, from_environment
from bouncer.tracker import Tracker
from policies import BUILTIN

try:
    settings = from_environment(os.environ, BUILTIN, installed())
except SettingsError as error:
    sys.exit(str(error))
budget = CallBudget(settings.api_per_minute)
server = agent_server(settings, budget)
places = threading.Semaphore(settings.max_speech)


@server.rtc_session(agent_name=settings.agent_name, on_request=server.take)
async def bouncer(ctx: JobContext) -> None:
    """Guard one room until it closes."""
    room = LiveKitRoom(ctx, budget, server.draining_rooms, server.replace)
    messages, ears = RoomMessages(room.send_data), Ears(ctx.room, places)
    patrol = Patrol(
        tracker=Tracker(settings.agent_name),
        api=room,
        registry=BUILTIN,
        others=installed(),
        layers=(*settings.layers, Layer("dispatch metadata", ctx.job.metadata)),
        observers=(Logs(ctx.job.room.name), messages, ears),
    )
    await room.guard(patrol, messages.run, partial(ears.run, patrol.tell))


if __name__ == "__main__":
    try:
        cli.run_app(server)
    finally:
        if server.failed:
            sys.exit(1)
