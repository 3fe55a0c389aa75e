"""Which version of this is installed, or checked out."""

import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def installed_version() -> str:
    """Return the version of the installed package; in a checkout, that of its pyproject.toml."""
    try:
        return version("livekit-bouncer")
    except PackageNotFoundError:
        return str(tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["version"])
