"""What the environment says, read once when the worker starts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bouncer.config import NO_OTHERS, ConfigError, Layer, Others, load
from bouncer.policy import Policy


class SettingsError(ValueError):
    """The environment says something that can't be. The text names every variable that is wrong, one a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The worker's own settings; README has the table."""

    agent_name: str = "bouncer"
    max_rooms: int = 100
    port: int | None = None
    """Where health is answered; None leaves it to the framework: 8081 for `start`, any free one for `dev`."""
    api_per_minute: int = 600
    max_speech: int = 24
    """Tracks listened to for speech at the same time, in all rooms: 24 that all talk took 50 to 60 % of a core, 32 80 %
    (`make bench-hearing`); with 40, or 32 on a busy machine, nothing was known of them in time any more."""
    layers: tuple[Layer, ...] = ()
    """The configuration of all rooms of this worker, if BOUNCER_CONFIG has any."""


def from_environment(
    environment: Mapping[str, str], registry: Sequence[type[Policy]], others: Others = NO_OTHERS
) -> Settings:
    """Read BOUNCER_* from the environment.

    Raises: SettingsError for what is out of range, can't be read, or is no valid configuration.
    """
    problems: list[str] = []

    def number(variable: str, at_least: int, at_most: int) -> int | None:
        text = environment.get(variable, "").strip()
        if not text:
            return None
        if text.isdecimal() and len(text) <= len(str(at_most)) and at_least <= int(text) <= at_most:
            return int(text)
        problems.append(f"{variable}: must be a whole number from {at_least} to {at_most}, not “{text[:40]}”")
        return None

    settings = Settings(
        agent_name=environment.get("BOUNCER_AGENT_NAME", "").strip() or "bouncer",
        max_rooms=number("BOUNCER_MAX_ROOMS", 1, 100_000) or 100,
        port=number("BOUNCER_PORT", 0, 65_535),
        api_per_minute=number("BOUNCER_API_PER_MINUTE", 1, 1_000_000) or 600,
        max_speech=number("BOUNCER_MAX_SPEECH", 1, 10_000) or 24,
        layers=config_layers(environment, problems),
    )
    try:
        load(settings.layers, registry, others)
    except ConfigError as error:
        problems += map(str, error.problems)
    if problems:
        raise SettingsError("\n".join(problems))
    return settings


def config_layers(environment: Mapping[str, str], problems: list[str]) -> tuple[Layer, ...]:
    """BOUNCER_CONFIG as a layer: JSON if it begins with `{`, else the path of a file that has it."""
    value = environment.get("BOUNCER_CONFIG", "").strip()
    if not value:
        return ()
    if value.startswith("{"):
        return (Layer("BOUNCER_CONFIG", value),)
    wrong = "is empty"
    try:
        if text := Path(value).read_text(encoding="utf-8").strip():
            return (Layer(f"BOUNCER_CONFIG ({value})", text),)
    except (OSError, ValueError) as error:
        wrong = f"can't be read: {error}"
    problems.append(
        f"BOUNCER_CONFIG: must be JSON that begins with “{{”, or the path of a file with it; {value} {wrong}"
    )
    return ()
