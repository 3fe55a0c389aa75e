"""The webhook, against a receiver that takes its records, or doesn't."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer as Receiver
from jsonschema import Draft202012Validator
from livekit import api

from bouncer.adapter.worker import BouncerServer
from bouncer.configuration.settings import Credentials, Settings, SettingsError, from_environment
from bouncer.observers.records import EVENTS, schema
from bouncer.observers.webhook import Webhook, chosen
from policies import BUILTIN
from tests.clients import installed
from tests.dates import records
from tests.unit.test_records import SAID

KEY, SECRET = "bouncer", "a secret that is long enough to sign with"
LIMIT = 30.0
"""Seconds for what takes a moment."""


class Inbox:
    """A receiver that answers as the test says, and keeps what it took."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        """The statuses of the next answers; after them 200."""
        self.attempts: list[dict[str, Any]] = []
        self.taken: list[tuple[str, str]] = []
        """Body and signature of what it took."""
        self.silent = False

    async def post(self, request: web.Request) -> web.Response:
        """Take a record, or don't."""
        body = (await request.read()).decode()
        self.attempts.append(json.loads(body))
        if self.silent:
            await asyncio.sleep(60)
        status = self.answers.pop(0) if self.answers else 200
        if status == 200:
            assert request.content_type == "application/webhook+json"
            self.taken.append((body, request.headers["Authorization"]))
        return web.Response(status=status)

    @property
    def events(self) -> list[str]:
        """The events that it took."""
        return [json.loads(body)["event"] for body, _ in self.taken]


class Tally:
    """Counts."""

    def __init__(self) -> None:
        self.count = 0

    def inc(self) -> None:
        """Count one more."""
        self.count += 1


@asynccontextmanager
async def sending(inbox: Inbox, *names: str) -> AsyncIterator[tuple[Webhook, Tally, Tally]]:
    """Run a webhook that sends to the inbox: it, and what it counts as sent and lost."""
    app = web.Application()
    app.router.add_post("/hook", inbox.post)
    async with Receiver(app) as receiver:
        settings = Settings(credentials=Credentials(url="ws://x", api_key=KEY, api_secret=SECRET))
        signer = BouncerServer(settings, ws_url="ws://x", api_key=KEY, api_secret=SECRET)
        sent, lost = Tally(), Tally()
        webhook = Webhook(str(receiver.make_url("/hook")), chosen(names), signer.sign, sent=sent, lost=lost)
        running = asyncio.create_task(webhook.run())
        try:
            yield webhook, sent, lost
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_livekits_receiver_verifies_every_record() -> None:
    """Signed as its own webhooks are; each has an id, and fits the schema; those of a room come in order."""
    inbox, receiver = Inbox(), api.WebhookReceiver(api.TokenVerifier(KEY, SECRET))
    async with sending(inbox) as (webhook, sent, _):
        observer = webhook.room(records("lobby", lambda: 200.0))
        for news in SAID:
            observer.notify(news)
        await webhook.drain(LIMIT)
    validator = Draft202012Validator(schema())
    seen = [receiver.receive(body, signature) for body, signature in inbox.taken]

    assert [event.event for event in seen] == inbox.events
    assert set(inbox.events) == set(EVENTS)
    assert inbox.events[-1] == "unguarded"
    assert len({event.id for event in seen}) == len(SAID) == sent.count
    for body, _ in inbox.taken:
        validator.validate(json.loads(body))
    with pytest.raises(Exception, match="hash mismatch"):
        receiver.receive(inbox.taken[0][0] + " ", inbox.taken[0][1])
    with pytest.raises(Exception, match="Signature"):
        api.WebhookReceiver(api.TokenVerifier(KEY, SECRET[::-1])).receive(*inbox.taken[0])


async def test_only_the_events_that_are_asked_for() -> None:
    """The others cost nothing."""
    inbox = Inbox()
    async with sending(inbox, "guarding", "unguarded") as (webhook, _, _):
        for news in SAID:
            webhook.room(records()).notify(news)
        await webhook.drain(LIMIT)

    assert inbox.events == ["guarding", "unguarded"]


async def test_what_fails_is_sent_again_under_its_id(caplog: pytest.LogCaptureFixture) -> None:
    """It is said once, without the address; what comes after it waits, and other rooms don't."""
    inbox = Inbox()
    inbox.answers = [503, 429]
    async with sending(inbox) as (webhook, sent, lost):
        observer = webhook.room(records())
        for news in (SAID[0], SAID[-1]):
            observer.notify(news)
        await webhook.drain(LIMIT)
        ids = [attempt["id"] for attempt in inbox.attempts]

    assert ids[0] == ids[1] == ids[2] != ids[3]
    assert inbox.events == ["guarding", "unguarded"]
    assert (sent.count, lost.count) == (2, 0)
    (said,) = [record for record in caplog.records if record.name == "bouncer"]
    assert (said.message, vars(said)["error"]) == ("webhook failing", "the receiver answers 503")


async def test_what_is_refused_is_lost_and_the_receiver_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Sending it again would change nothing."""
    inbox = Inbox()
    inbox.answers = [400]
    async with sending(inbox) as (webhook, _, lost):
        observer = webhook.room(records())
        for news in (SAID[0], SAID[-1]):
            observer.notify(news)
        await webhook.drain(LIMIT)

    assert (inbox.events, lost.count) == (["unguarded"], 1)
    assert json.loads(inbox.taken[0][0])["num_dropped"] == 1
    assert [record.message for record in caplog.records if record.name == "bouncer"] == ["webhook losing records"]


async def test_the_end_waits_for_a_silent_receiver_no_longer_than_it_may(caplog: pytest.LogCaptureFixture) -> None:
    """What is left is logged."""
    inbox = Inbox()
    inbox.silent = True
    async with sending(inbox) as (webhook, _, _):
        webhook.room(records()).notify(SAID[0])
        loop = asyncio.get_running_loop()
        began = loop.time()
        await webhook.drain(0.5)

        assert loop.time() - began < 5
    assert [record.message for record in caplog.records if record.name == "bouncer"] == ["webhook losing records"]


async def test_the_end_does_not_wait_for_a_pause() -> None:
    """A receiver that is back gets the last records."""
    inbox = Inbox()
    inbox.answers = [503, 503, 503, 503]
    async with sending(inbox) as (webhook, _, _):
        webhook.room(records()).notify(SAID[0])
        await webhook.drain(30)

    assert inbox.events == ["guarding"]


async def test_nodes_sdk_verifies_a_record() -> None:
    """With the program of the documentation."""
    folder = await asyncio.to_thread(installed)
    inbox = Inbox()
    async with sending(inbox) as (webhook, _, _):
        webhook.room(records("Ana 客厅")).notify(SAID[0])
        await webhook.drain(LIMIT)
    body, signature = inbox.taken[0]
    page = (Path(__file__).parents[2] / "docs/how-to/webhook.md").read_text(encoding="utf-8")
    verify = page.partition("```js\n")[2].partition("```")[0]
    program = folder / "verify.mjs"
    calls = [(body, signature), (f"{body} ", signature)]
    program.write_text(
        f"{verify}\nfor (const [body, signature] of {json.dumps(calls)}) "
        "console.log(await verify(body, signature).then((record) => record.room, (error) => `refused`));",
        encoding="utf-8",
    )
    env = {"LIVEKIT_API_KEY": KEY, "LIVEKIT_API_SECRET": SECRET}
    ended = await asyncio.to_thread(
        subprocess.run, [shutil.which("node") or "", str(program)], env=env, capture_output=True, text=True, check=False
    )

    assert ended.stdout.splitlines() == ["Ana 客厅", "refused"], ended.stderr


class TestSettings:
    """What the environment may say."""

    @pytest.mark.parametrize("url", ["example.com/x", "ftp://example.com", "http://", "http://x:99999", "http://a b"])
    def test_an_address_that_is_none(self, url: str) -> None:
        """It isn't shown: there may be a secret in it."""
        with pytest.raises(SettingsError) as refused:
            from_environment({"BOUNCER_WEBHOOK_URL": url}, BUILTIN)

        assert str(refused.value) == "BOUNCER_WEBHOOK_URL: must be an address like https://example.com/bouncer"

    def test_events(self) -> None:
        """All unless some are named; a name that is wrong keeps the worker from starting."""
        named = from_environment({"BOUNCER_WEBHOOK_EVENTS": "evicted, failed"}, BUILTIN).webhook_events

        assert chosen(named) == {"evicted", "failed"}
        assert chosen(()) == set(EVENTS)
        with pytest.raises(SettingsError, match="there is no event “evict”; did you mean “evicted”"):
            chosen(("evict",))
