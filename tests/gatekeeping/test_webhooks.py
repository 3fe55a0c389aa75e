"""What the gatekeeper makes of LiveKit's webhooks."""

import time

from google.protobuf.json_format import MessageToJson
from livekit.protocol import models
from livekit.protocol.webhook import WebhookEvent

from bouncer.configuration.load import load
from bouncer.configuration.model import BUILT_IN, NO_PLUGINS
from bouncer.configuration.settings import Credentials
from gatekeeper.outlook import Outlooks
from gatekeeper.webhooks import Webhooks
from gatekeeper.witness import Witness
from policies import BUILTIN
from tests.signing import signed

KEY = Credentials(url="ws://x", api_key="key", api_secret="a secret of thirty-two characters")  # noqa: S106
DRY = '{"bouncer": {"mode": "dry_run"}}'


def test_the_webhook_of_a_track_does_not_empty_the_metadata_of_its_room() -> None:
    """LiveKit sends it without them. What a restarted server forgets is passed on all the same."""
    config = load([BUILT_IN], BUILTIN, NO_PLUGINS)
    witness = Witness(Outlooks("bouncer", lambda _sid: config), "bouncer", time.monotonic)
    webhooks = Webhooks(KEY, "bouncer", lambda _sid, _name, _metadata: True, witness)

    def receive(event: str, sid: str, metadata: str = "") -> None:
        room = models.Room(sid=sid, name="lobby", metadata=metadata)
        body = MessageToJson(WebhookEvent(id=f"{event} {sid}", event=event, room=room)).encode()
        webhooks.receive(body, signed(body, KEY.api_key, KEY.api_secret), time.monotonic())

    receive("room_started", "RM_1", DRY)
    receive("track_published", "RM_1")
    receive("room_started", "RM_2")

    assert witness.carried("RM_2", "lobby") == DRY
