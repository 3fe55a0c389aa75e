"""The Dockerfile, step by step, where there is no Docker engine: each instruction is carried out in a fresh folder."""

import asyncio
import os
import re
import shlex
import subprocess
import tomllib
import venv
from fnmatch import fnmatch
from pathlib import Path

import aiohttp

from demo.server import Server, worker
from tests.e2e.world import World

ROOT = Path(__file__).parents[2]


def let_through(pattern_file: Path, root: Path) -> list[Path]:
    """The files below `root` that a .dockerignore lets into the build, by Docker's rule: the last match decides."""
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
    """The Dockerfile's instructions and their arguments, in order."""
    text = re.sub(r"\\\n", " ", dockerfile.read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


async def test_the_image_runs(lobby: World, server: Server, tmp_path: Path) -> None:
    """Built from what .dockerignore lets through: it is healthy, evicts, and drains on SIGTERM."""
    image = tmp_path / "app"
    image.mkdir()
    sources = let_through(ROOT / ".dockerignore", ROOT)
    assert Path("agent.py") in sources
    assert {file.parts[0] for file in sources} <= {
        "agent.py", "bouncer", "policies", "pyproject.toml", "requirements.txt", "LICENSE"
    }  # fmt: skip
    venv.create(tmp_path / "venv", with_pip=True)
    path = f"{tmp_path / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    command: list[str] = []
    user = "root"
    for instruction, arguments in instructions(ROOT / "Dockerfile"):
        match instruction:
            case "COPY":
                *chosen, target = shlex.split(arguments)
                for file in sources if chosen == ["."] else map(Path, chosen):
                    (image / target / file).parent.mkdir(parents=True, exist_ok=True)
                    (image / target / file).write_bytes((ROOT / file).read_bytes())
            case "RUN" if not arguments.startswith("useradd"):
                process = await asyncio.create_subprocess_shell(arguments, cwd=image, env={**os.environ, "PATH": path})
                assert await process.wait() == 0, arguments
            case "USER":
                user = arguments
            case "CMD":
                command = [part.strip('"') for part in arguments.strip("[]").split(", ")]
            case _:
                assert instruction in ("FROM", "ENV", "WORKDIR", "EXPOSE", "RUN")
    assert user != "root"
    assert command[:2] == ["python", "agent.py"]

    name = f"bouncer-{lobby.room}"
    async with worker(
        image / command[1],
        server,
        env={"BOUNCER_AGENT_NAME": name},
        args=command[2:],
        python=tmp_path / "venv" / "bin" / "python",
    ) as running:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{running.http_port}/") as answer:
            assert (answer.status, await answer.text()) == (200, "OK")
        await lobby.open(agent_name=name)
        await lobby.agent("A")
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
