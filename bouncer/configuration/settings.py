"""What the environment says, read once when the worker starts."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import urlsplit

from bouncer.configuration.load import load
from bouncer.configuration.model import NO_PLUGINS, ConfigError, Layer, PluginLoaders
from bouncer.plain import why
from bouncer.policy import Policy

VARIABLES = (
    "BOUNCER_AGENT_NAME",
    "BOUNCER_ALLOW_ACTIONS",
    "BOUNCER_API_PER_MINUTE",
    "BOUNCER_CONFIG",
    "BOUNCER_CONSOLE_TOKEN",
    "BOUNCER_CONSOLE_USER_HEADER",
    "BOUNCER_DATABASE_URL",
    "BOUNCER_GATEKEEPER_PORT",
    "BOUNCER_HISTORY_DAYS",
    "BOUNCER_HOST",
    "BOUNCER_MAX_ROOMS",
    "BOUNCER_MAX_MICROPHONES",
    "BOUNCER_MAX_SPEECH",
    "BOUNCER_METRICS_PORT",
    "BOUNCER_OBSERVERS",
    "BOUNCER_PORT",
    "BOUNCER_RECORD",
    "BOUNCER_RECORD_DAYS",
    "BOUNCER_RECORD_FILE_MB",
    "BOUNCER_RECORD_FOLDER_MB",
    "BOUNCER_RECORD_PERSONAL",
    "BOUNCER_RECORD_ROOM_MB",
    "BOUNCER_WEBHOOK_EVENTS",
    "BOUNCER_WEBHOOK_URL",
)
"""All that are ours."""
INJECTED = r"BOUNCER_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)"
"""What Kubernetes sets for a Service whose name is `bouncer` or begins so, besides an address in a `…_PORT`."""


class SettingsError(ValueError):
    """The environment says something that can't be. The text names every variable that is wrong, one a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A LiveKit server, and the key to use it."""

    url: str = ""
    api_key: str = ""
    api_secret: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingSettings:
    """Where rooms are recorded, and how much is kept. Sizes are in millions of bytes, as compressed."""

    folder: str = ""
    """Empty: nothing is recorded."""
    personal: bool = False
    """True if identities, names, attributes and metadata are recorded as they are, without pseudonyms."""
    file_mb: int = 16
    """The size at which a recording ends: a week of a room with an event a second takes 12 MB (measured)."""
    room_mb: int = 64
    """All recordings of rooms of one name together."""
    folder_mb: int = 1000
    """All recordings together."""
    days: int = 30
    """The age at which a recording is deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The worker's own settings; docs/reference/environment.md has the table."""

    credentials: Credentials = Credentials()
    """Empty where the environment has none: then the worker's command line has to give them."""
    agent_name: str = "bouncer"
    max_rooms: int = 100
    port: int | None = None
    """Where health is answered; None leaves it to the framework: 8081 for `start`, any free one for `dev`."""
    host: str | None = None
    """The address on which health is answered; None leaves it to the framework: all of the machine's."""
    api_per_minute: int = 600
    max_microphones: int = 100
    """Tracks listened to at the same time, in all rooms: 8 that all talk took 7 % of a core (`make bench-hearing`)."""
    max_speech: int = 24
    """Tracks listened to for speech at the same time, in all rooms: 24 that all talk took 50 to 60 % of a core, 32 80 %
    (`make bench-hearing`); with 40, or 32 on a busy machine, nothing was known of them in time any more."""
    observers: tuple[str, ...] = ()
    """The names of other packages' observers that every room is to have."""
    recording: RecordingSettings = RecordingSettings()
    metrics_port: int | None = None
    """The port on which Prometheus finds metrics; None counts nothing."""
    webhook_url: str = field(default="", repr=False)
    """Where records are sent; empty for nowhere. It may have a secret in it."""
    webhook_events: tuple[str, ...] = ()
    """The events that are sent; all of them if it is empty."""
    traces: bool = False
    """True if OpenTelemetry's own variables name a collector."""
    announce: bool = True
    """True if rooms are told what is done, unless their own configuration says otherwise."""
    layers: tuple[Layer, ...] = ()
    """The configuration of all rooms of this worker, if BOUNCER_CONFIG has any."""
    warnings: tuple[str, ...] = ()
    """What is probably a mistake, and doesn't keep the worker from starting."""


def from_environment(
    environment: Mapping[str, str], registry: Sequence[type[Policy]], plugins: PluginLoaders = NO_PLUGINS
) -> Settings:
    """Read BOUNCER_* and LIVEKIT_* from the environment.

    Raises: SettingsError for what is out of range, can't be read, or is no valid configuration.
    """
    problems: list[str] = []

    def number(variable: str, at_least: int, at_most: int) -> int | None:
        text = environment.get(variable, "").strip()
        if not text or _injected(variable, text):
            return None
        if text.isdecimal() and len(text) <= len(str(at_most)) and at_least <= int(text) <= at_most:
            return int(text)
        problems.append(f"{variable}: must be a whole number from {at_least} to {at_most}, not “{text[:40]}”")
        return None

    def yes(variable: str) -> bool:
        text = environment.get(variable, "").strip()
        if text not in ("", "0", "1"):
            problems.append(f"{variable}: must be 1 or 0, not “{text[:40]}”")
        return text == "1"

    def names(variable: str) -> tuple[str, ...]:
        return tuple(filter(None, map(str.strip, environment.get(variable, "").split(","))))

    default = Settings()
    kept = default.recording
    settings = Settings(
        credentials=Credentials(
            url=environment.get("LIVEKIT_URL", "").strip(),
            api_key=environment.get("LIVEKIT_API_KEY", "").strip(),
            api_secret=environment.get("LIVEKIT_API_SECRET", "").strip(),
        ),
        agent_name=environment.get("BOUNCER_AGENT_NAME", "").strip() or default.agent_name,
        max_rooms=number("BOUNCER_MAX_ROOMS", 1, 100_000) or default.max_rooms,
        port=number("BOUNCER_PORT", 0, 65_535),
        host=environment.get("BOUNCER_HOST", "").strip() or None,
        api_per_minute=number("BOUNCER_API_PER_MINUTE", 1, 1_000_000) or default.api_per_minute,
        max_microphones=number("BOUNCER_MAX_MICROPHONES", 1, 100_000) or default.max_microphones,
        max_speech=number("BOUNCER_MAX_SPEECH", 1, 10_000) or default.max_speech,
        metrics_port=number("BOUNCER_METRICS_PORT", 0, 65_535),
        observers=names("BOUNCER_OBSERVERS"),
        webhook_url=_webhook(environment, problems),
        webhook_events=names("BOUNCER_WEBHOOK_EVENTS"),
        traces=bool(environment.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip()),
        recording=RecordingSettings(
            folder=environment.get("BOUNCER_RECORD", "").strip(),
            personal=yes("BOUNCER_RECORD_PERSONAL"),
            file_mb=number("BOUNCER_RECORD_FILE_MB", 1, 10_000) or kept.file_mb,
            room_mb=number("BOUNCER_RECORD_ROOM_MB", 1, 1_000_000) or kept.room_mb,
            folder_mb=number("BOUNCER_RECORD_FOLDER_MB", 1, 10_000_000) or kept.folder_mb,
            days=number("BOUNCER_RECORD_DAYS", 1, 10_000) or kept.days,
        ),
        layers=config_layers(environment, problems),
        warnings=tuple(_unknown(environment)),
    )
    try:
        settings = replace(settings, announce=load(settings.layers, registry, plugins).announce)
    except ConfigError as error:
        problems += map(str, error.problems)
    if problems:
        raise SettingsError("\n".join(problems))
    return settings


def _webhook(environment: Mapping[str, str], problems: list[str]) -> str:
    """Return the address of the webhook. What is wrong with it never shows it: it may have a secret in it."""
    url = environment.get("BOUNCER_WEBHOOK_URL", "").strip()
    try:
        parts = urlsplit(url)
        usable = bool(parts.scheme in ("http", "https") and parts.hostname and parts.port != 0) and not set(url) & set(
            " <>"
        )
    except ValueError:
        usable = False
    if url and not usable:
        problems.append("BOUNCER_WEBHOOK_URL: must be an address like https://example.com/bouncer")
    return url


def _unknown(environment: Mapping[str, str]) -> Iterator[str]:
    """Yield a warning for each variable that looks like ours and isn't."""
    for variable, value in sorted(environment.items()):
        if not variable.startswith("BOUNCER_") or variable in VARIABLES or _injected(variable, value):
            continue
        nearest = get_close_matches(variable[len("BOUNCER_") :], [known[len("BOUNCER_") :] for known in VARIABLES], n=1)
        hint = f"did you mean BOUNCER_{nearest[0]}?" if nearest else f"there are {', '.join(VARIABLES)}"
        yield f"{variable}: no such variable; {hint}"


def _injected(variable: str, value: str) -> bool:
    """Return True for what Kubernetes sets for a Service named `bouncer`, or `bouncer-` something: not meant for us."""
    address = variable.endswith("_PORT") and "://" in value
    return address or re.fullmatch(INJECTED, variable) is not None


def config_layers(environment: Mapping[str, str], problems: list[str]) -> tuple[Layer, ...]:
    """BOUNCER_CONFIG as a layer: JSON if it begins with `{`, else the path of a file that has it."""
    value = environment.get("BOUNCER_CONFIG", "").strip()
    if not value:
        return ()
    if value.startswith("{"):
        return (Layer("BOUNCER_CONFIG", value),)
    wrong = "is empty"
    try:
        if text := Path(value).read_text(encoding="utf-8-sig").strip():
            return (Layer(f"BOUNCER_CONFIG ({value})", text),)
    except (OSError, ValueError) as error:
        wrong = f"can't be read: {why(error)}"
    problems.append(
        f"BOUNCER_CONFIG: must be JSON that begins with “{{”, or the path of a file with it; {value} {wrong}"
    )
    return ()
