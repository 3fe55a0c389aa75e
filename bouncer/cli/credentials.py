"""Where a verb gets the server and the key from, in the order of `lk`, and who says so.

The first place that is complete is used: flags and the environment (each value for itself, and `.env.local` for what
the environment leaves open), then `--dev`, then the default project of `~/.livekit/cli-config.yaml`. That file belongs
to `lk`; it is only read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import yaml
from dotenv import dotenv_values
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bouncer.configuration.settings import Credentials
from bouncer.plain import why

VARIABLES: Mapping[str, str] = {
    "url": "LIVEKIT_URL",
    "api_key": "LIVEKIT_API_KEY",
    "api_secret": "LIVEKIT_API_SECRET",
}
DEV = Credentials(url="ws://127.0.0.1:7880", api_key="devkey", api_secret="secret")  # noqa: S106 - public: `livekit-server --dev` has it
ENV_LOCAL = Path(".env.local")
LK_CONFIG = Path(".livekit", "cli-config.yaml")

HOW_TO_GIVE_THEM = (
    "no LiveKit server is given: set LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET (in the environment or in "
    ".env.local), pass --url, --api-key and --api-secret, pass --dev for a local `livekit-server --dev`, or choose a "
    "project with `lk project add`"
)


class CredentialsError(ValueError):
    """There are no usable credentials. The text says what is missing and where it can be given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line says about credentials; empty where it says nothing."""

    url: str = ""
    api_key: str = ""
    api_secret: str = ""
    project: str = ""
    dev: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """Credentials, and the sentence that says where they came from."""

    credentials: Credentials
    source: str


class _CliProject(BaseModel):
    """A project in the file of `lk`, which has more keys than these."""

    model_config = ConfigDict(extra="ignore")

    name: str
    url: str
    api_key: str
    api_secret: Annotated[str, Field(repr=False)]


class _LkConfig(BaseModel):
    model_config = ConfigDict(extra="ignore")

    default_project: str = ""
    projects: list[_CliProject] = []


def find(asked: Asked, environment: Mapping[str, str], folder: Path, home: Path) -> Found:
    """Return the credentials to use. `folder` may have a `.env.local`, `home` the file of `lk`.

    Raises: CredentialsError if nothing complete is found, or what is found can't be read.
    """
    if asked.project:
        return _of_project(asked.project, home)
    given = _given(asked, environment, folder)
    if isinstance(given, Found):
        return replace(given, source=f"{given.source}, not --dev") if asked.dev else given
    if asked.dev:
        return Found(DEV, "the --dev credentials")
    return _of_project("", home, nothing=_not_enough(given))


def _given(asked: Asked, environment: Mapping[str, str], folder: Path) -> Found | list[str]:
    """Return what flags, the environment and `.env.local` give together; unless that is everything, what is missing."""
    file = folder / ENV_LOCAL
    try:
        local = dotenv_values(file) if file.is_file() else {}
    except (OSError, ValueError) as error:
        raise CredentialsError(f"{file}: can't be read: {why(error)}") from None
    values: dict[str, str] = {}
    places: dict[str, list[str]] = {}
    for name, variable in VARIABLES.items():
        flag = "--" + name.replace("_", "-")
        offers = (
            (getattr(asked, name), "the command line", flag),
            (environment.get(variable, "").strip(), "the environment", variable),
            ((local.get(variable) or "").strip(), str(ENV_LOCAL), variable),
        )
        for value, place, said_as in offers:
            if value:
                values[name] = value
                places.setdefault(place, []).append(said_as)
                break
    missing = [variable for name, variable in VARIABLES.items() if name not in values]
    if not missing:
        sources = "; ".join(f"{', '.join(names)} from {place}" for place, names in places.items())
        return Found(Credentials(**values), sources)
    flags = places.get("the command line")
    if flags and not asked.dev:
        raise CredentialsError(_not_enough(missing, flags))
    return missing


def _not_enough(missing: Sequence[str], given: Sequence[str] = ()) -> str:
    """Return what to do if these variables are missing, and only the others (or these flags) are given."""
    given = given or [variable for variable in VARIABLES.values() if variable not in missing]
    if not given:
        return HOW_TO_GIVE_THEM
    verb = "is" if len(given) == 1 else "are"
    return f"{' and '.join(given)} {verb} not enough: {' and '.join(missing)} must be given too"


def _of_project(name: str, home: Path, nothing: str = HOW_TO_GIVE_THEM) -> Found:
    """Return the credentials of a project of `lk`, or of its default project; say `nothing` if there is none."""
    path = home / LK_CONFIG
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        config = _LkConfig.model_validate(content or {})
    except FileNotFoundError:
        if name:
            raise CredentialsError(f"--project {name}: {path} does not exist; `lk project add` makes it") from None
        raise CredentialsError(nothing) from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error).splitlines()[0]
        raise CredentialsError(f"{path}: can't be read: {first}") from None
    wanted = name or config.default_project
    if not wanted:
        raise CredentialsError(nothing)
    for project in config.projects:
        if project.name == wanted:
            credentials = Credentials(url=project.url, api_key=project.api_key, api_secret=project.api_secret)
            kind = "project" if name else "default project"
            return Found(credentials, f"{kind} “{wanted}” of {path}")
    known = ", ".join(f"“{project.name}”" for project in config.projects) or "none"
    raise CredentialsError(f"{path}: has no project “{wanted}” (it has: {known})")
