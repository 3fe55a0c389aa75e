"""`bouncer gatekeeper`: the service that sees to it that every room has a bouncer."""

import asyncio
import json
import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from bouncer.cli.terminal import err, installing, misused, refused
from bouncer.plain import why

if TYPE_CHECKING:
    from gatekeeper.access import Access

LEAVE_AFTER = 30.0
"""Seconds after which a bouncer that isn't needed leaves, if no configuration says so: it isn't sent for each agent."""
NO_LEAVING = (
    "bouncer.leave_after: with --join always, a bouncer that leaves is sent back at once: "
    "take `leave_after` out, or use --join when-needed"
)
INSTALL = f"the gatekeeper needs more packages than a worker: {installing('gatekeeper')}"


class Join(StrEnum):
    """When a room gets its bouncer."""

    ALWAYS = "always"
    WHEN_NEEDED = "when-needed"


def gatekeeper(
    rooms: Annotated[list[str] | None, typer.Argument(metavar="GLOB", help="Names of rooms; all by default.")] = None,
    *,
    excluded: Annotated[
        list[str] | None, typer.Option("--except", metavar="GLOB", help="Names of rooms to leave alone; repeatable.")
    ] = None,
    config: Annotated[
        str, typer.Option("--config", metavar="FILE", help="A configuration to dispatch the bouncers with.")
    ] = "",
    join: Annotated[
        Join, typer.Option(help="Guard rooms all the time, or only while a bouncer has something to do there.")
    ] = Join.ALWAYS,
    allow_actions: Annotated[
        bool,
        typer.Option("--allow-actions", help="Let those who see the console evict agents; BOUNCER_ALLOW_ACTIONS=1."),
    ] = False,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS", help="The address to listen on; 0.0.0.0 for webhooks that come from elsewhere."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(metavar="PORT", help="The port; BOUNCER_GATEKEEPER_PORT, or 8088.", max=65535)
    ] = None,
    log_level: Annotated[str, typer.Option(metavar="LEVEL", help="debug, info, warning or error.")] = "info",
    url: Annotated[str, typer.Option(metavar="URL", help="The LiveKit server.")] = "",
    api_key: Annotated[str, typer.Option(metavar="KEY", help="Its API key.")] = "",
    api_secret: Annotated[str, typer.Option(metavar="SECRET", help="That key's secret.")] = "",
    project: Annotated[str, typer.Option(metavar="NAME", help="A project of `lk`.")] = "",
    dev: Annotated[bool, typer.Option("--dev", help="A local `livekit-server --dev`.")] = False,
) -> None:
    """Dispatch a bouncer into every room, and again where it is lost.

    LiveKit's webhooks go to /livekit on the port, the bouncers' to /bouncer; the console is at /. Without webhooks,
    rooms are guarded up to 40 s late.
    """
    from dotenv import load_dotenv

    from bouncer.cli.credentials import Asked, CredentialsError, find
    from bouncer.configuration.load import load
    from bouncer.configuration.model import KEY, ConfigError, Layer
    from bouncer.configuration.plugins import installed
    from bouncer.configuration.settings import SettingsError, from_environment
    from policies import BUILTIN

    try:
        from gatekeeper.choice import Choice
        from gatekeeper.history import DEFAULT_URL
        from gatekeeper.service import Settings, serve
        from gatekeeper.watching import log_to_stderr
    except ModuleNotFoundError as error:
        refused(f"{INSTALL} ({error})")
    asked = Asked(url=url, api_key=api_key, api_secret=api_secret, project=project, dev=dev)
    try:
        found = find(asked, os.environ, Path(), Path.home())
        load_dotenv(".env.local")  # as for the worker; the environment itself wins
        settings = from_environment(os.environ, BUILTIN, installed())
        layers = [*settings.layers]
        configuration: dict[str, Any] = {}
        if config:
            layer = Layer(f"--config {config}", _read(config))
            load([layer], BUILTIN, installed())
            configuration = json.loads(layer.text)[KEY]
            layers.append(layer)
        leave_after = load(layers, BUILTIN, installed()).leave_after
        if join is Join.ALWAYS and leave_after is not None:
            refused(NO_LEAVING)
        if join is Join.WHEN_NEEDED and leave_after is None:
            configuration["leave_after"] = LEAVE_AFTER
            layers.append(Layer("--join when-needed", json.dumps({KEY: {"leave_after": LEAVE_AFTER}})))
        choice = Choice(rooms or ["*"], excluded or [], layers, BUILTIN, installed())
    except CredentialsError as error:
        misused(str(error))
    except SettingsError as error:
        refused(*str(error).splitlines())
    except ConfigError as error:
        refused(*map(str, error.problems))
    if port is None:
        port = _port(os.environ.get("BOUNCER_GATEKEEPER_PORT", ""))
    access, history_days = _access(host), _days(os.environ.get("BOUNCER_HISTORY_DAYS", ""))
    err.print(Text(f"using {found.source}", "dim"))
    log_to_stderr(log_level)
    try:
        asyncio.run(
            serve(
                Settings(
                    credentials=found.credentials,
                    choice=choice,
                    configuration=configuration,
                    layers=settings.layers,
                    allow_actions=allow_actions or _yes("BOUNCER_ALLOW_ACTIONS"),
                    agent_name=settings.agent_name,
                    access=access,
                    database=os.environ.get("BOUNCER_DATABASE_URL", "").strip() or DEFAULT_URL,
                    history_days=history_days,
                    when_needed=join is Join.WHEN_NEEDED,
                    host=host,
                    port=port,
                    api_per_minute=settings.api_per_minute,
                )
            )
        )
    except OSError as error:
        refused(f"port {port} can't be used: {why(error)}; another one: --port or BOUNCER_GATEKEEPER_PORT")


def _access(host: str) -> "Access":
    """Return who may look at the console of a service that binds this address."""
    from gatekeeper.access import LEAST, Access

    token = os.environ.get("BOUNCER_CONSOLE_TOKEN", "").strip()
    if 0 < len(token) < LEAST:
        refused(f"BOUNCER_CONSOLE_TOKEN: must have at least {LEAST} characters, such as `openssl rand -hex 16` gives")
    return Access(host, token, os.environ.get("BOUNCER_CONSOLE_USER_HEADER", "").strip().lower())


def _yes(variable: str) -> bool:
    """Return True if a variable is 1."""
    given = os.environ.get(variable, "").strip()
    if given not in ("", "0", "1"):
        misused(f"{variable}: must be 1 or 0, not “{given[:40]}”")
    return given == "1"


def _days(given: str) -> float:
    """Return for how many days the history is kept."""
    if not given.strip():
        return 90
    if not given.isdecimal() or not 1 <= int(given[:6]) <= 36500:  # noqa: PLR2004 - a century
        misused(f"BOUNCER_HISTORY_DAYS: must be a whole number from 1 to 36500, not “{given[:40]}”")
    return int(given)


def _port(given: str) -> int:
    """Return the port that the environment names. Kubernetes sets an address there for a Service of that name."""
    if not given.strip() or given.startswith("tcp://"):
        return 8088
    if not given.isdecimal() or len(given) > 5 or int(given) > 65535:  # noqa: PLR2004 - ports end there
        misused(f"BOUNCER_GATEKEEPER_PORT: must be a whole number from 0 to 65535, not “{given[:40]}”")
    return int(given)


def _read(file: str) -> str:
    """Return the text of a file."""
    try:
        return Path(file).read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        misused(f"--config {file}: can't be read: {why(error)}")
