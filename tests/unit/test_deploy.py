"""The examples in deploy/: they agree with the worker, the Dockerfile and each other."""

import configparser
import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

from devserver import GIVEN

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
STOP_WITHIN = 60
"""Seconds that docs/how-to/deploys.md asks an orchestrator for."""


def kubernetes() -> dict[str, Any]:
    """Return the objects, by their kind."""
    text = (DEPLOY / "kubernetes" / "bouncer.yaml").read_text(encoding="utf-8")
    return {each["kind"]: each for each in yaml.safe_load_all(text)}


def test_each_gives_a_worker_a_minute_to_hand_its_rooms_over() -> None:
    """As long as the documents say."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]  # systemd's keys have capitals
    unit.read(DEPLOY / "bouncer.service")
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))

    assert unit["Service"]["TimeoutStopSec"] == str(STOP_WITHIN)
    assert compose["services"]["bouncer"]["stop_grace_period"] == f"{STOP_WITHIN}s"
    assert kubernetes()["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == STOP_WITHIN


def test_the_unit_starts_the_worker_as_the_image_does() -> None:
    """One command, in two places."""
    (command,) = re.findall(r"^CMD \[(.*)\]$", DOCKERFILE, re.MULTILINE)
    _, *arguments = tomllib.loads(f"command = [{command}]")["command"]
    (start,) = re.findall(r"^ExecStart=\S+ (.*)$", (DEPLOY / "bouncer.service").read_text(), re.MULTILINE)

    assert start.split() == arguments


def test_the_probes_ask_the_worker_s_own_paths() -> None:
    """On the port that the image exposes, and as its user."""
    pod = kubernetes()["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    health = (ROOT / "docs" / "reference" / "health.md").read_text(encoding="utf-8")
    paths = {container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}

    assert paths == {"/live", "/ready"}
    assert all(f"`{path}`" in health for path in paths)
    assert f"EXPOSE {container['ports'][0]['containerPort']}\n" in DOCKERFILE
    assert f"--uid {pod['securityContext']['runAsUser']} " in DOCKERFILE


def test_prometheus_is_sent_to_the_port_of_the_metrics() -> None:
    """The annotation, the environment and the port agree."""
    pod = kubernetes()["Deployment"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    (metrics,) = (each["value"] for each in container["env"] if each["name"] == "BOUNCER_METRICS_PORT")

    assert (
        metrics == pod["metadata"]["annotations"]["prometheus.io/port"] == str(container["ports"][1]["containerPort"])
    )


def test_kubernetes_injects_no_settings() -> None:
    """A Service named bouncer would set BOUNCER_PORT otherwise."""
    assert kubernetes()["Deployment"]["spec"]["template"]["spec"]["enableServiceLinks"] is False


def test_a_disruption_leaves_a_worker_running() -> None:
    """The budget and the deployment select the same pods, and there are two."""
    found = kubernetes()
    deployment, budget = found["Deployment"]["spec"], found["PodDisruptionBudget"]["spec"]

    assert deployment["replicas"] > budget["maxUnavailable"]
    assert deployment["selector"] == budget["selector"]
    assert deployment["selector"]["matchLabels"] == deployment["template"]["metadata"]["labels"]


def test_the_autoscaler_reads_a_metric_of_the_workers_and_scales_them() -> None:
    """It never leaves fewer than a disruption needs, and its rule is made of metrics that there are."""
    text = (DEPLOY / "kubernetes" / "autoscaler.yaml").read_text(encoding="utf-8")
    scaler, found = yaml.safe_load(text)["spec"], kubernetes()
    rule = yaml.safe_load("\n".join(re.findall(r"^#   (.*)$", text, re.MULTILINE)))["rules"][0]
    metrics = (ROOT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")

    assert scaler["scaleTargetRef"]["name"] == found["Deployment"]["metadata"]["name"]
    assert scaler["minReplicas"] > found["PodDisruptionBudget"]["spec"]["maxUnavailable"]
    assert [each["pods"]["metric"]["name"] for each in scaler["metrics"]] == [rule["name"]["as"]]
    assert all(f"| `{name}` |" in metrics for name in re.findall(r"bouncer_rooms\w*", rule["metricsQuery"]))


def test_compose_passes_on_what_a_worker_needs() -> None:
    """It stops at once if one of them is missing."""
    environment = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["bouncer"]["environment"]

    assert environment == {name: f"${{{name}:?}}" for name in GIVEN}
