"""The Makefile's virtual environment: make deletes none that it didn't make."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PYTHON = """\
#!/bin/bash
# Stands in for Python: makes virtual environments in which every tool succeeds, except the one that the test names.
if [ "$1 $2" = "-m venv" ]; then
    mkdir -p "$3/bin"
    printf '#!/bin/sh\\n[ "$2" != "$FAILING" ]\\n' | tee "$3/bin/python" > "$3/bin/lint-imports"
    chmod +x "$3"/bin/*
fi
"""


class Checkout:
    """A folder with the Makefile and the requirements."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "checkout"
        self.folder.mkdir()
        for file in ("Makefile", "requirements-dev.txt"):
            shutil.copy(ROOT / file, self.folder)
        self.elsewhere = folder / "elsewhere"
        self.elsewhere.mkdir()
        self.python = folder / "python"
        self.python.write_text(PYTHON)
        self.python.chmod(0o755)

    def make(self, target: str, failing: str = "none", status: int = 0) -> str:
        """Run make, and return what it printed."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        environ["FAILING"] = failing
        command = ["make", target, f"PYTHON={self.python}"]
        ended = subprocess.run(command, cwd=self.folder, env=environ, capture_output=True, text=True, check=False)
        assert ended.returncode == status, ended.stderr
        return ended.stdout

    def put(self, *files: str) -> None:
        """Put a virtual environment with these files, and one of the user's, into the checkout, all of them old."""
        for file in ("users-own", *files):
            path = self.folder / ".venv" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("")
            os.utime(path, (0, 0))

    @property
    def kept(self) -> bool:
        """True if the user's file is still in `.venv`."""
        return (self.folder / ".venv" / "users-own").exists()

    def ready(self, venv: str) -> bool:
        """Return True if make has set up this environment from the present requirements."""
        path = self.folder / venv / "ready"
        return path.exists() and path.read_text() == (ROOT / "requirements-dev.txt").read_text()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """Return a fresh checkout."""
    return Checkout(tmp_path)


def linked(checkout: Checkout) -> None:
    """Let `.venv` be a link to an environment that make made elsewhere, for other requirements."""
    (checkout.folder / ".venv").symlink_to(checkout.elsewhere)
    checkout.put("made-by-make", "ready")


@pytest.mark.parametrize(
    "put",
    [
        pytest.param(lambda c: c.put("bin/python", "pyvenv.cfg"), id="made by hand"),
        pytest.param(linked, id="a link"),
    ],
)
def test_another_environment_is_left_alone(checkout: Checkout, put: Callable[[Checkout], None]) -> None:
    """Checks run in an environment of make's own, and neither they nor `make clean` touch the other."""
    put(checkout)

    assert "leaving .venv alone" in checkout.make("check")
    assert checkout.kept
    assert checkout.ready("build/venv")

    checkout.make("clean")
    assert checkout.kept
    assert not (checkout.folder / "build").exists()


@pytest.mark.parametrize("files", [("made-by-make",), ("made-by-make", "ready"), ("ready",)])
def test_an_environment_of_make_s_own_is_made_again(checkout: Checkout, files: tuple[str, ...]) -> None:
    """Whether its setting up was interrupted or its requirements have changed; `ready` alone was the mark once."""
    checkout.put(*files)
    checkout.make("check")

    assert not checkout.kept
    assert checkout.ready(".venv")

    checkout.make("clean")
    assert not (checkout.folder / ".venv").exists()


def test_a_fresh_checkout_gets_an_environment_once(checkout: Checkout) -> None:
    """The second run finds it ready, also if the requirements have only a newer date."""
    assert "setting up .venv" in checkout.make("check")

    (checkout.folder / "requirements-dev.txt").touch()
    assert "setting up" not in checkout.make("check")


def test_pip_installs_what_uv_could_not(checkout: Checkout) -> None:
    """It may know an index that uv doesn't. If it fails too, there is no environment."""
    assert "with pip" in checkout.make("check", failing="uv")
    assert checkout.ready(".venv")

    checkout.make("clean")
    checkout.make("check", failing="pip", status=2)
    assert not (checkout.folder / ".venv").exists()
