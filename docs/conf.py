"""How Sphinx builds the documents: Markdown through MyST, the furo theme, and nothing fetched from the network."""

import tomllib
from pathlib import Path

with (Path(__file__).parents[1] / "pyproject.toml").open("rb") as file:
    release = tomllib.load(file)["project"]["version"]

project = "Bouncer"
extensions = ["myst_parser"]
html_theme = "furo"
html_title = f"Bouncer {release}"
myst_heading_anchors = 3
