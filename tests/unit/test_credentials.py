"""Where the command line gets the server and the key from."""

from pathlib import Path

import pytest

from bouncer.cli.credentials import DEV, Asked, CredentialsError, find
from bouncer.configuration.settings import Credentials

ENVIRONMENT = {"LIVEKIT_URL": "ws://env", "LIVEKIT_API_KEY": "env-key", "LIVEKIT_API_SECRET": "env-secret"}
LOCAL = 'LIVEKIT_URL="ws://local"\nLIVEKIT_API_KEY=local-key\nLIVEKIT_API_SECRET=local-secret\n'
LK = """\
default_project: home
device_name: laptop
projects:
  - {name: home, url: "wss://home", api_key: home-key, api_secret: home-secret, project_id: p_1}
  - {name: work, url: "wss://work", api_key: work-key, api_secret: work-secret}
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder that is both home and the current one, with the file of `lk`."""
    (tmp_path / ".livekit").mkdir()
    (tmp_path / ".livekit" / "cli-config.yaml").write_text(LK)
    return tmp_path


@pytest.mark.parametrize(
    ("asked", "environment", "local", "used", "source"),
    [
        (Asked(), ENVIRONMENT, "", ("ws://env", "env-key"), "from the environment"),
        (Asked(), {}, LOCAL, ("ws://local", "local-key"), "from .env.local"),
        (Asked(), ENVIRONMENT, LOCAL, ("ws://env", "env-key"), "from the environment"),
        (Asked(url="ws://flag"), ENVIRONMENT, "", ("ws://flag", "env-key"), "--url from the command line; "),
        (Asked(), {"LIVEKIT_URL": "ws://env"}, LOCAL, ("ws://env", "local-key"), "LIVEKIT_URL from the environment; "),
        (Asked(dev=True), {}, "", (DEV.url, DEV.api_key), "the --dev credentials"),
        (Asked(dev=True), ENVIRONMENT, "", ("ws://env", "env-key"), "from the environment, not --dev"),
        (Asked(dev=True), {"LIVEKIT_URL": "ws://env"}, "", (DEV.url, DEV.api_key), "the --dev credentials"),
        (Asked(), {}, "", ("wss://home", "home-key"), "default project “home” of "),
        (Asked(project="work"), ENVIRONMENT, "", ("wss://work", "work-key"), "project “work” of "),
    ],
)
def test_the_first_complete_place_is_used(
    asked: Asked, environment: dict[str, str], local: str, used: tuple[str, str], source: str, place: Path
) -> None:
    """Flags, the environment, `.env.local`, --dev, the default project; a project asked for by name comes first."""
    if local:
        (place / ".env.local").write_text(local)

    found = find(asked, environment, place, place)

    assert (found.credentials.url, found.credentials.api_key) == used
    assert source in found.source
    assert "secret" not in found.source.lower().replace("livekit_api_secret", "").replace("--api-secret", "")


@pytest.mark.parametrize(
    ("asked", "lk", "says"),
    [
        (Asked(), None, "set LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET"),
        (Asked(), "projects: []", "set LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET"),
        (Asked(), "", "set LIVEKIT_URL"),
        (Asked(), "default_project: gone\nprojects: []", "has no project “gone” (it has: none)"),
        (Asked(project="wrok"), LK, "has no project “wrok” (it has: “home”, “work”)"),
        (Asked(project="work"), None, "does not exist; `lk project add` makes it"),
        (Asked(url="ws://flag"), LK, "--url is not enough: LIVEKIT_API_KEY and LIVEKIT_API_SECRET must"),
        (Asked(), "projects: [{name: 1}]", "cli-config.yaml: can't be read: "),
        (Asked(), "a: [", "cli-config.yaml: can't be read: "),
        (Asked(), "- a list", "cli-config.yaml: can't be read: "),
    ],
)
def test_without_credentials_the_error_says_what_would_help(
    asked: Asked, lk: str | None, says: str, place: Path
) -> None:
    """One line: what is missing, and every way to give it."""
    file = place / ".livekit" / "cli-config.yaml"
    file.unlink() if lk is None else file.write_text(lk)

    with pytest.raises(CredentialsError) as caught:
        find(asked, {}, place, place)

    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("environment", "local", "says"),
    [
        (
            {**ENVIRONMENT, "LIVEKIT_API_KEY": ""},
            "",
            "LIVEKIT_URL and LIVEKIT_API_SECRET are not enough: LIVEKIT_API_KEY",
        ),
        ({}, "LIVEKIT_URL=ws://x", "LIVEKIT_URL is not enough: LIVEKIT_API_KEY and LIVEKIT_API_SECRET must be"),
    ],
)
def test_a_forgotten_variable_is_named(environment: dict[str, str], local: str, says: str, tmp_path: Path) -> None:
    """What is set already isn't asked for again."""
    (tmp_path / ".env.local").write_text(local)

    with pytest.raises(CredentialsError, match=f"^{says}"):
        find(Asked(), environment, tmp_path, tmp_path)


def test_a_secret_is_never_shown() -> None:
    """Whatever prints credentials, the secret isn't in it."""
    assert "hush" not in repr(Credentials(url="ws://x", api_key="key", api_secret="hush"))  # noqa: S106 - a test's own
