"""The modules that the import contracts call pure; a plugin of coverage.py, so that no second list names them."""

import tomllib
from collections.abc import Iterator
from pathlib import Path

from coverage import CoveragePlugin
from coverage.plugin_support import Plugins
from coverage.types import TConfigurable

ROOT = Path(__file__).parents[1]


def modules() -> Iterator[str]:
    """Yield the names of the modules and packages under a contract that says "pure"."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for contract in settings["tool"]["importlinter"]["contracts"]:
        if "pure" in contract["name"]:
            yield from contract["source_modules"]


def files() -> Iterator[str]:
    """Yield their source files."""
    for name in modules():
        path = ROOT.joinpath(*name.split("."))
        yield str(path / "*.py" if path.is_dir() else path.with_suffix(".py"))


class Measured(CoveragePlugin):
    """Tells coverage.py which files to measure."""

    def configure(self, config: TConfigurable) -> None:
        """Set the option."""
        config.set_option("run:include", list(files()))


def coverage_init(reg: Plugins, _options: object) -> None:
    """Register, as coverage.py asks its plugins to."""
    reg.add_configurer(Measured())
