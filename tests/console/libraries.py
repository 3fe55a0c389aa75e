"""What the tests need from npm: the page's libraries, put in place where they are missing, and axe."""

import shutil
import subprocess
from pathlib import Path

from devserver.debian import find_or_install
from devserver.process import locked
from devserver.source import cache
from gatekeeper.console import FILES, PAGE

ROOT = Path(__file__).parents[2]
AXE = Path(__file__).parent / "axe"


def install() -> None:
    """Run `make assets`, with Debian's npm if there is none, unless all of them are there."""
    with locked(cache() / "assets.lock", lambda: None):
        if not all((PAGE / name).is_file() for name in FILES):
            find_or_install("npm", "npm", print)
            subprocess.run(["make", "assets"], cwd=ROOT, check=True)  # noqa: S607 - as people run it


def axe() -> str:
    """Return axe-core, which finds what keeps people from using a page, in the version that the lock file names."""
    folder, lock = cache() / "axe", AXE / "package-lock.json"
    ready = folder / "ready"
    with locked(cache() / "axe.lock", lambda: None):
        if not ready.is_file() or ready.read_bytes() != lock.read_bytes():
            npm = find_or_install("npm", "npm", print)
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(AXE, folder)
            command = [npm, "ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund"]
            subprocess.run(command, cwd=folder, check=True)
            shutil.copy(lock, ready)
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
