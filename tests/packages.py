"""Packages with policies, as other people ship them, and what the documents show."""

import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[1]
SHIPPING = "docs/how-to/ship-a-policy.md"


def documented() -> list[str]:
    """Return the paths of all Markdown documents of the project."""
    paths = [*ROOT.glob("*.md"), *(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)]
    return sorted(path.relative_to(ROOT).as_posix() for path in paths)


def shown(language: str, file: str = "CONTRIBUTING.md") -> list[str]:
    """Return the blocks of code in that language on a page."""
    text = (ROOT / file).read_text(encoding="utf-8")
    return [dedent(code) for _, code in re.findall(rf"^( *)```{language}\n(.*?)^\1```", text, re.DOTALL | re.MULTILINE)]


def metadata(package: str, offers: Mapping[str, str], group: str = "bouncer.policies") -> dict[str, str]:
    """The files with which an installed package tells its name and what it offers in an entry-point group."""
    lines = "\n".join(f"{name} = {target}" for name, target in offers.items())
    return {
        "METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "entry_points.txt": f"[{group}]\n{lines}\n",
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
    """Return a new folder into which pip has installed the package that the documents show how to ship."""
    (project,) = (tomllib.loads(block)["project"] for block in shown("toml", SHIPPING))
    policies = project["entry-points"]["bouncer.policies"]
    (module,) = {target.partition(":")[0] for target in policies.values()}
    return pip_installed(folder, metadata(project["name"], policies), {module: shown("python")[0]})


def pip_installed(folder: Path, told: Mapping[str, str], modules: Mapping[str, str]) -> Path:
    """Return a new folder into which pip has installed a package, from a wheel with this metadata and these modules."""
    site = folder / "site"
    quietly = ("--disable-pip-version-check", "--quiet", "--no-index", "--no-deps")
    pip = [sys.executable, "-m", "pip", "install", *quietly, "--target", str(site), str(_wheel(folder, told, modules))]
    subprocess.run(pip, check=True)
    return site


def _wheel(folder: Path, told: Mapping[str, str], modules: Mapping[str, str]) -> Path:
    facts = dict(line.split(": ") for line in told["METADATA"].splitlines())
    name = f"{facts['Name'].replace('-', '_')}-{facts['Version']}"
    files = {f"{module}.py": text for module, text in modules.items()}
    files |= {f"{name}.dist-info/{file}": text for file, text in told.items()}
    record = f"{name}.dist-info/RECORD"
    path = folder / f"{name}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in (files | {record: "".join(f"{file},,\n" for file in (*files, record))}).items():
            wheel.writestr(file, text)
    return path
