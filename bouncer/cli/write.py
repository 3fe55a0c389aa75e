"""`bouncer write`: the files of this repository that are generated from the code."""

from pathlib import Path
from typing import Annotated

import typer

README, SCHEMA = "README.md", "bouncer.schema.json"


def write(folder: Annotated[Path, typer.Argument(file_okay=False, exists=True)] = Path()) -> None:
    """Write what is generated: their pages, the README's table of them, and the JSON Schemas."""
    from bouncer.cli import pages
    from bouncer.configuration.schema import text
    from bouncer.observers.records import schema_text
    from policies import BUILTIN

    readme = folder / README
    readme.write_text(pages.renewed(readme.read_text(encoding="utf-8"), BUILTIN), encoding="utf-8")
    (folder / SCHEMA).write_text(text(BUILTIN), encoding="utf-8")
    for path, content in ((pages.RECORDS, pages.records()), (pages.RECORD_SCHEMA, schema_text())):
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
    reference = folder / pages.FOLDER
    reference.mkdir(parents=True, exist_ok=True)
    documents = pages.documents(BUILTIN)
    for stale in set(reference.glob("*.md")) - {reference / name for name in documents}:
        stale.unlink()
    for name, page in documents.items():
        (reference / name).write_text(page, encoding="utf-8")
