"""The gatekeeper's examples in deploy/: what can be checked without Docker, systemd and Kubernetes."""

import re
from pathlib import Path

import yaml
from typer.main import get_command

from bouncer.cli.app import app

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "gatekeeper.Dockerfile").read_text(encoding="utf-8")


def test_each_example_runs_a_verb_that_exists() -> None:
    """It listens where webhooks can reach it."""
    verbs = get_command(app).commands  # type: ignore[attr-defined]  # a group
    for text in (DOCKERFILE, (DEPLOY / "bouncer-gatekeeper.service").read_text()):
        (verb,) = re.findall(
            r'^(?:CMD|ExecStart=).*bouncer[", ]+(\w+)[", ]+--host[", ]+0\.0\.0\.0"?\]?$', text, re.MULTILINE
        )
        assert verb in verbs


def test_the_image_gets_all_that_it_copies() -> None:
    """The Dockerfile's own .dockerignore lets it through, and it is there."""
    admitted = (DEPLOY / "gatekeeper.Dockerfile.dockerignore").read_text().splitlines()
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)  # the rest is from an earlier stage
    for source in " ".join(copied).split():
        assert {f"!{source}", f"!{source.partition('/')[0]}"} & set(admitted)
        assert (ROOT / source).exists()


def test_the_manifests_agree_on_the_port() -> None:
    """The gatekeeper listens on 8088 unless it is told otherwise."""
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    deployment, service = yaml.safe_load_all((DEPLOY / "kubernetes" / "gatekeeper.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]

    assert "EXPOSE 8088\n" in DOCKERFILE
    assert compose["services"]["gatekeeper"]["ports"] == ["8088:8088"]
    assert [port["containerPort"] for port in container["ports"]] == [8088]
    assert [port["port"] for port in service["spec"]["ports"]] == [8088]
