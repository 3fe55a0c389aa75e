"""Packages with policies, as other people ship them, and those that CONTRIBUTING.md shows how to make."""

import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[1]


def shown(language: str, file: str = "CONTRIBUTING.md") -> list[str]:
    """The blocks of code in that language that a page shows."""
    text = (ROOT / file).read_text(encoding="utf-8")
    return [dedent(code) for _, code in re.findall(rf"^( *)```{language}\n(.*?)^\1```", text, re.DOTALL | re.MULTILINE)]


def metadata(package: str, policies: Mapping[str, str]) -> dict[str, str]:
    """The files with which an installed package tells its name and its policies."""
    offers = "\n".join(f"{name} = {target}" for name, target in policies.items())
    return {
        "METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "entry_points.txt": f"[bouncer.policies]\n{offers}\n",
    }


def install(folder: Path, package: str, policies: Mapping[str, str], modules: Mapping[str, str] | None = None) -> None:
    """Put a package with these policies, and modules, into a folder, as an installer leaves it there."""
    told = folder / f"{package.replace('-', '_')}-1.0.dist-info"
    told.mkdir(parents=True)
    for file, text in metadata(package, policies).items():
        (told / file).write_text(text, encoding="utf-8")
    for module, text in (modules or {}).items():
        (folder / f"{module}.py").write_text(text, encoding="utf-8")


def contributed(folder: Path) -> Path:
    """A new folder in which pip has installed the package that CONTRIBUTING.md shows how to ship."""
    site = folder / "site"
    quietly = ("--disable-pip-version-check", "--quiet", "--no-index", "--no-deps")
    pip = [sys.executable, "-m", "pip", "install", *quietly, "--target", str(site), str(_wheel(folder))]
    subprocess.run(pip, check=True)
    return site


def _wheel(folder: Path) -> Path:
    """That package as a wheel."""
    (project,) = (tomllib.loads(block)["project"] for block in shown("toml"))
    policies = project["entry-points"]["bouncer.policies"]
    (module,) = {target.partition(":")[0] for target in policies.values()}
    name = f"{project['name'].replace('-', '_')}-{project['version']}"
    told = metadata(project["name"], policies)
    files = {f"{module}.py": shown("python")[0], **{f"{name}.dist-info/{file}": text for file, text in told.items()}}
    record = f"{name}.dist-info/RECORD"
    path = folder / f"{name}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in (files | {record: "".join(f"{file},,\n" for file in (*files, record))}).items():
            wheel.writestr(file, text)
    return path
