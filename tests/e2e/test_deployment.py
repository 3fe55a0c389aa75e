"""The Dockerfile, step by step without a Docker engine: each instruction is carried out in a fresh folder."""

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tomllib
import venv
from fnmatch import fnmatch
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import aiohttp

from devserver import Server, worker
from devserver.process import free_port
from tests.e2e.world import World

ROOT = Path(__file__).parents[2]


def let_through(pattern_file: Path, root: Path) -> list[Path]:
    """Return the files that a .dockerignore lets into the build. Docker's rule: the last match decides."""
    patterns = [
        line for raw in pattern_file.read_text().splitlines() if (line := raw.strip()) and not line.startswith("#")
    ]
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],  # noqa: S607
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    )
    files = []
    for name in tracked.stdout.splitlines():
        ignored = False
        for pattern in patterns:
            plain = pattern.removeprefix("!")
            above = [name, *(str(parent) for parent in Path(name).parents)]
            if any(fnmatch(part, plain) or fnmatch(part, plain.removeprefix("**/")) for part in above):
                ignored = not pattern.startswith("!")
        if not ignored and (root / name).exists():
            files.append(Path(name))
    return files


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions and their arguments, in order."""
    text = re.sub(r"\\\n", " ", dockerfile.read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


PIP_INSTALL = "python -m pip install --no-cache-dir --require-hashes --requirement requirements.txt"


def install(requirements: Path, folder: Path) -> None:
    """Do in a virtual environment what PIP_INSTALL does, in a second instead of minutes: link what make installed.

    make installs requirements-dev.txt, with hashes too, and tests/unit/test_supply.py shows that it has the same pins.
    """
    here = Path(sysconfig.get_path("purelib"))
    there = folder / here.relative_to(sys.prefix)
    pins = re.findall(r"^([\w.-]+)==(\S+)(.*)$", requirements.read_text(), re.MULTILINE)
    for name in {name for name, _, _ in pins}:
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            assert all(";" in marker for pinned, _, marker in pins if pinned == name), f"{name} is not installed"
            continue
        assert installed.version in {version for pinned, version, _ in pins if pinned == name}
        for file in installed.files or ():
            if ".." not in file.parts:  # programs are not needed
                (there / file).parent.mkdir(parents=True, exist_ok=True)
                (there / file).symlink_to(here / file)


async def test_the_image_runs(lobby: World, server: Server, tmp_path: Path) -> None:
    """Built from the files that .dockerignore admits, it is healthy, evicts, and drains on SIGTERM."""
    image = tmp_path / "app"
    image.mkdir()
    sources = let_through(ROOT / ".dockerignore", ROOT)
    assert Path("agent.py") in sources
    assert {file.parts[0] for file in sources} <= {
        "agent.py", "bouncer", "policies", "pyproject.toml", "requirements.txt", "LICENSE"
    }  # fmt: skip
    venv.create(tmp_path / "venv")
    path = f"{tmp_path / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    command: list[str] = []
    check: list[str] = []
    user = "root"
    for instruction, arguments in instructions(ROOT / "Dockerfile"):
        match instruction:
            case "COPY":
                *chosen, target = shlex.split(arguments)
                for file in sources if chosen == ["."] else map(Path, chosen):
                    (image / target / file).parent.mkdir(parents=True, exist_ok=True)
                    (image / target / file).write_bytes((ROOT / file).read_bytes())
            case "RUN" if "pip" in arguments:
                assert arguments == PIP_INSTALL
                install(image / "requirements.txt", tmp_path / "venv")
            case "RUN" if not arguments.startswith("useradd"):
                process = await asyncio.create_subprocess_shell(arguments, cwd=image, env={**os.environ, "PATH": path})
                assert await process.wait() == 0, arguments
            case "USER":
                user = arguments
            case "CMD":
                command = json.loads(arguments)
            case "HEALTHCHECK":
                check = json.loads(arguments[arguments.index("[") :])
            case _:
                assert instruction in ("FROM", "ENV", "WORKDIR", "EXPOSE", "RUN")
    assert user != "root"
    assert command[:2] == ["python", "-m"]
    assert command[-1] == "agent.py"

    name = f"bouncer-{lobby.room}"
    async with worker(
        command[1],
        server,
        env={"BOUNCER_AGENT_NAME": name},
        args=[*command[2:-1], str(image / command[-1])],
        python=tmp_path / "venv" / "bin" / "python",
    ) as running:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{running.http_port}/") as answer:
            assert (answer.status, await answer.text()) == (200, "OK")
        for port, healthy in ((running.http_port, True), (free_port(), False)):
            health = await asyncio.create_subprocess_exec(*check, env={"BOUNCER_PORT": str(port), "PATH": path})
            assert (await health.wait() == 0) == healthy
        await lobby.open(agent_name=name)
        await lobby.agent("A", lively=True)
        second = await lobby.agent("B")
        await lobby.gone(second)

        running.terminate()
        await running.line(lambda line: line["message"] == "draining worker")
        await lobby.close()

        assert await running.exited() == 0


def test_livekit_toml_has_what_lk_reads_and_nothing_else() -> None:
    """`lk` rewrites the file and drops the rest."""
    assert {table: set(keys) for table, keys in tomllib.loads((ROOT / "livekit.toml").read_text()).items()} == {
        "project": {"subdomain"},
        "agent": {"id"},
    }
