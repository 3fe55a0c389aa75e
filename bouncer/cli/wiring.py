"""What a worker is made of. `agent.py`, `bouncer start` and `bouncer dev` all start this one."""

import asyncio
import logging
import os
import sys
import threading
from functools import partial

from dotenv import load_dotenv

from bouncer.adapter.ears import Ears
from bouncer.adapter.worker import BouncerServer, RoomJob, agent_server
from bouncer.cli.version import installed_version
from bouncer.configuration.carried import given
from bouncer.configuration.model import DISPATCH, Layer
from bouncer.configuration.plugins import installed
from bouncer.configuration.settings import SettingsError, from_environment
from bouncer.guard.patrol import Patrol
from bouncer.guard.watch import Watch
from bouncer.observers.logs import Logs, Plainly, WithAdvice
from bouncer.observers.messages import RoomMessages
from bouncer.observers.plugins import custom, observing
from bouncer.observers.recent import Recent
from bouncer.observers.webhook import chosen
from bouncer.recording.recorder import Recorder
from bouncer.tracker import Tracker
from policies import BUILTIN


def wired() -> BouncerServer:
    """Make a worker according to the environment; end the process if the environment is wrong."""
    load_dotenv(".env.local")  # as LiveKit's starters do; the environment itself wins
    try:
        settings = from_environment(os.environ, BUILTIN, installed())
        factories = custom(settings.observers)
        events = chosen(settings.webhook_events)
    except SettingsError as error:
        sys.exit(str(error))
    for each in (Plainly(), WithAdvice()):
        logging.getLogger("bouncer").addFilter(each)
    server = agent_server(settings)
    secret, kept = settings.credentials.api_secret, settings.recording
    recorder = Recorder(kept, secret, settings.agent_name) if kept.folder else None
    server.measure([policy.name for policy in BUILTIN], installed_version())
    server.post(events)
    places, detectors = threading.Semaphore(settings.max_microphones), threading.Semaphore(settings.max_speech)

    @server.rtc_session(agent_name=settings.agent_name, on_request=server.accept)
    async def bouncer(ctx: RoomJob) -> None:
        """Guard one room until it closes."""
        room = server.room(ctx)
        messages = RoomMessages(room.calls.send_data, room.records, announce=settings.announce, sign=server.sign)
        recent = Recent(room.records)
        ears = Ears(ctx.room, places, detectors, server.detector)
        traces = [server.traces.room(room.records)] if server.traces else []
        webhook = [server.webhook.room(room.records)] if server.webhook else []
        metrics = [server.metrics.room(room.records, ears.tracks)] if server.metrics else []
        customs = observing(factories, ctx.job.room.name)
        recorded = (
            recorder.room(ctx.job.room.name, ctx.job.room.sid, asyncio.get_running_loop().time) if recorder else None
        )
        patrol = Patrol(
            tracker=Tracker(settings.agent_name),
            api=room.calls,
            registry=BUILTIN,
            plugins=installed(),
            layers=(*settings.layers, Layer(DISPATCH, given(ctx.job.metadata), shared=True, expected=True)),
            observers=(Logs(room.records), messages, recent, ears, *metrics, *webhook, *traces, *customs),
            judged=server.metrics.judged if server.metrics else None,
            make_watch=recorded.watch if recorded else Watch,
        )
        answers = server.answers(ctx, patrol.watch, recent)
        background = [observer.run for observer in customs if hasattr(observer, "run")]
        background += [recorded.run] if recorded else []
        try:
            await room.guard(patrol, messages.run, partial(ears.run, patrol.tell), answers.run, *background)
        except BaseException:
            if recorded:
                recorded.end()
            raise

    return server
