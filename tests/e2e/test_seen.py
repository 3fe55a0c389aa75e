"""A worker that evicts, seen from outside: Prometheus reads its metrics, and a webhook gets its records."""

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer as Receiver
from jsonschema import Draft202012Validator
from livekit import api
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from bouncer.observers.records import schema
from devserver import Server, gatekeeper, worker
from devserver.debian import find_or_install
from devserver.process import LOOPBACK, end, free_port, spawn, tail
from tests.e2e.conftest import AGENT
from tests.e2e.world import World

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus/bouncer.rules.yaml"
DASHBOARD = json.loads((DEPLOY / "grafana/bouncer.json").read_text(encoding="utf-8"))
VARIABLES = {"$job": "bouncer", "$instance": ".*", "$__rate_interval": "1m"}

COUNTS = (
    'bouncer_evictions_total{policy="duplicates", outcome="removed", mode="enforce"}',
    "bouncer_lateness_seconds_count",
    "bouncer_config_refused_total",
    'bouncer_rooms{standing="acting", mode="enforce"}',
    "bouncer_agents",
    "bouncer_people",
)


def installed(program: str) -> str:
    """Return one of Debian's Prometheus programs."""
    return find_or_install(program, "prometheus", print)


def panels() -> list[dict[str, Any]]:
    """Return the panels of the dashboard, without its headings."""
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def queries() -> dict[str, str]:
    """Return all queries by where they stand, with a comparison's truth in place of what passes it."""
    found = {}
    for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]:
        for rule in group["rules"]:
            found[rule["alert"]] = re.sub(r" (>|==) (?=[\d.]+)", r" \1 bool ", rule["expr"])
    for panel in panels():
        for target in panel["targets"]:
            expression = target["expr"]
            for name, value in VARIABLES.items():
                expression = expression.replace(name, value)
            found[f"{panel['title']} {target['refId']}"] = expression
    return found


def test_the_alerts_fire_when_they_should() -> None:
    """Each of them, and none in a quiet worker."""
    promtool = installed("promtool")
    test = subprocess.run(
        [promtool, "test", "rules", "bouncer.rules.test.yaml"],
        cwd=RULES.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    alerts = set(re.findall(r"alert: (\w+)", RULES.read_text(encoding="utf-8")))
    tests = RULES.with_name("bouncer.rules.test.yaml").read_text(encoding="utf-8")
    fired = set(re.findall(r"alertname: (\w+)\n +exp_alerts", tests))

    assert test.returncode == 0, test.stdout + test.stderr
    assert fired == alerts
    assert set(re.findall(r"eval_time: 50m, alertname: (\w+)", tests)) == alerts


def test_the_dashboard_can_be_imported() -> None:
    """It asks for its data source, its panels have ids of their own, and none covers another."""
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    places = [
        (panel["gridPos"]["x"] + x, panel["gridPos"]["y"] + y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["h"])
    ]

    assert len(ids) == len(set(ids))
    assert len(places) == len(set(places))
    assert max(x for x, _ in places) < 24
    assert {panel["datasource"]["uid"] for panel in panels()} == {"${datasource}"}
    assert [each["name"] for each in DASHBOARD["templating"]["list"]] == ["datasource", "job", "instance"]


@asynccontextmanager
async def prometheus(folder: Path, **jobs: str) -> AsyncIterator[str]:
    """Run a Prometheus that scrapes these jobs' addresses with our rules; yield its own address."""
    folder.mkdir()
    scrapes = [{"job_name": job, "static_configs": [{"targets": [target]}]} for job, target in jobs.items()]
    every_second = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config = {"global": every_second, "rule_files": [str(RULES)], "scrape_configs": scrapes}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    address = f"{LOOPBACK}:{free_port()}"
    command = [
        await asyncio.to_thread(installed, "prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    process = await spawn(command, {}, folder / "log", cwd=folder)
    try:
        yield f"http://{address}"
    finally:
        await end(process, within=5.0)
        print(tail(folder / "log"))


@asynccontextmanager
async def receiving(server: Server) -> AsyncIterator[tuple[str, list[dict[str, Any]], list[Span]]]:
    """Receive records that LiveKit's own receiver verifies, and spans; yield the address, and what has come."""
    verifier, records = api.WebhookReceiver(api.TokenVerifier(server.api_key, server.api_secret)), []
    spans: list[Span] = []

    async def take(request: web.Request) -> web.Response:
        body = (await request.read()).decode()
        verifier.receive(body, request.headers["Authorization"])
        records.append(json.loads(body))
        return web.Response()

    async def collect(request: web.Request) -> web.Response:
        told = ExportTraceServiceRequest.FromString(await request.read())
        spans.extend(span for one in told.resource_spans for scope in one.scope_spans for span in scope.spans)
        return web.Response()

    app = web.Application()
    app.router.add_post("/", take)
    app.router.add_post("/v1/traces", collect)
    async with Receiver(app, host=LOOPBACK) as receiver:
        yield str(receiver.make_url("/")), records, spans


async def test_a_worker_seen_from_outside(lobby: World, server: Server, tmp_path: Path) -> None:
    """It evicts, and refuses a configuration. Every query finds data, and every record arrives, up to the last."""
    async with receiving(server) as (url, records, spans):
        addresses = {"BOUNCER_WEBHOOK_URL": url, "OTEL_EXPORTER_OTLP_ENDPOINT": url.rstrip("/")}
        await prometheus_reads(lobby, server, tmp_path, addresses)
    for record in records:
        Draft202012Validator(schema()).validate(record)
    events = [record["event"] for record in records]
    (evicted,) = (record for record in records if record["event"] == "evicted")

    assert (events[0], events[-1]) == ("guarding", "unguarded")
    assert {"standing", "configured", "config_error"} <= set(events)
    assert (evicted["room"], evicted["identity"], evicted["outcome"]) == (lobby.room, "B", "removed")
    assert [step["step"] for step in evicted["steps"]] == ["looked_again", "removed", "proven"]
    assert records[-1]["evictions"] == 1
    assert [[event.name for event in span.events] for span in spans] == [["due", "looked_again", "removed", "proven"]]


async def prometheus_reads(lobby: World, server: Server, tmp_path: Path, environment: dict[str, str]) -> None:
    """Have Prometheus read a worker that evicts, and ask it each query."""
    name, port = f"bouncer-{lobby.room}", str(free_port())
    environment |= {"BOUNCER_AGENT_NAME": name, "BOUNCER_HOST": LOOPBACK, "BOUNCER_METRICS_PORT": port}
    door = free_port()
    async with (
        worker(AGENT, server, env=environment, log_file=tmp_path / "log") as running,
        gatekeeper(server, port=door, args=["no such room"]),
        prometheus(tmp_path / "prometheus", bouncer=f"{LOOPBACK}:{port}", gatekeeper=f"{LOOPBACK}:{door}") as address,
        aiohttp.ClientSession() as session,
    ):

        async def ask(query: str) -> list[float]:
            async with session.get(f"{address}/api/v1/query", params={"query": query}) as answer:
                told = await answer.json()
                assert told["status"] == "success", f"{query}: {told}"
                return [float(series["value"][1]) for series in told["data"]["result"]]

        async def scraped() -> bool:
            try:
                return await ask("up") == [1, 1]
            except aiohttp.ClientError:
                return False

        await lobby.until(scraped, "Prometheus reads the worker", within=60)
        await lobby.open({"bouncer": {"policies": {"duplicates": {"grace": 0}}}}, agent_name=name)
        await lobby.human("h")
        await lobby.agent("A")
        await lobby.agent("B")
        await running.line(lambda line: line["message"] == "evicted")
        await lobby.metadata({"bouncer": {"mode": "of"}})

        async def counted() -> bool:
            return [await ask(f"sum({what})") for what in COUNTS] == [[1]] * len(COUNTS)

        await lobby.until(counted, "what happened is counted", within=60)
        await asyncio.sleep(3)  # a rate needs two samples after the change
        empty = [where for where, query in queries().items() if not await ask(query)]
        async with session.get(f"{address}/api/v1/rules") as answer:
            rules = (await answer.json())["data"]["groups"][0]["rules"]
        await lobby.close()
        await running.line(lambda line: line["message"] == "no longer guarding")

    assert empty == []
    assert {rule["health"] for rule in rules} == {"ok"}
