"""The page of `bouncer replay --html`, in Debian's Chromium."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from bouncer.configuration.model import Layer
from bouncer.recording.comparison import Comparison, compare
from bouncer.recording.otherwise import otherwise
from bouncer.recording.page import page
from bouncer.recording.replay import Registry, opened
from devserver.debian import find_or_install
from policies import BUILTIN
from tests.bench import Bench
from tests.recordings import Tapes

CONFIG = json.dumps({"bouncer": {"policies": {"idle_timeout": {"timeout": 60, "notice": 10}}}})
HOSTILE = "</script><script>document.title = 'broken into'</script>"


@pytest.fixture(scope="session")
def chromium() -> str:
    """Chromium, installed if need be. Where Debian's package is missing, such as on Ubuntu, Chrome is the same."""
    return shutil.which("google-chrome") or find_or_install("chromium", "chromium", print)


def comparison() -> Comparison:
    """Compare two rooms: in each an idle agent would have been evicted."""
    total = Comparison()
    for speaks in (True, False):
        tapes = Tapes(key=None)
        bench = Bench(tapes=tapes, policies={"duplicates": None})
        bench.joins(HOSTILE)
        bench.joins("A", "helper", attributes={"lk.agent.state": "listening"})
        bench.until(100)
        if speaks:
            bench.says("A", "speaking")
        bench.until(130)
        (lines,) = tapes.recordings()
        course = otherwise(opened(lines), Registry(BUILTIN), (Layer("--config", CONFIG),))
        total.add(compare(course, "a file", timelines=True))
    return total


def test_the_page_in_a_browser(chromium: str, tmp_path: Path) -> None:
    """It draws a timeline for each difference, from the file alone, and texts from others stay texts."""
    file = tmp_path / "page.html"
    file.write_text(page(comparison(), CONFIG), encoding="utf-8")
    command = [
        chromium,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--window-size=1200,2400",
        "--virtual-time-budget=20000",
        "--dump-dom",
        file.as_uri(),
    ]

    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=150)

    assert ended.returncode == 0, ended.stderr
    body = ended.stdout[ended.stdout.index("What another configuration would have done") :]
    assert len(re.findall('<text class="legendtext"[^>]* data-unformatted="would be evicted"', body)) == 2
    assert 'data-unformatted="notice given"' in body
    assert "spoke to a person afterwards" in body
    assert "<title>Bouncer: another configuration</title>" in ended.stdout
    assert "Content-Security-Policy" in ended.stdout
