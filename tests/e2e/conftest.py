"""One server and one worker of each kind for the whole run; one fresh room for each test."""

from collections import deque
from collections.abc import AsyncIterator, Generator, Iterator
from importlib import import_module
from pathlib import Path

import pytest
import pytest_asyncio
from livekit import api

from bouncer.configuration.plugins import installed
from bouncer.recording import files
from bouncer.recording.format import FormatError
from bouncer.recording.replay import Registry, follow, opened
from devserver import Server, Worker, own_server, worker
from devserver.worker import ALWAYS
from policies import BUILTIN
from tests.e2e.forks import Forks
from tests.e2e.world import World

HERE = Path(__file__).parent
AGENT = HERE.parents[1] / "agent.py"
LOG_LINES = 60


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run these tests on the session's loop, which the long-lived fixtures share."""
    for item in items:
        if item.path.is_relative_to(HERE) and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of the workers' logs with a failed test."""
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        for name, running in item.funcargs.items():
            if isinstance(running, Worker):
                tail = running.log_file.read_text(errors="replace").splitlines()[-LOG_LINES:]
                report.sections.append((f"log of {name}", "\n".join(tail)))
    return report


@pytest.fixture(scope="session", autouse=True)
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Have all rooms of all tests recorded. In the end each recording has to give exactly the same decisions again."""
    folder = tmp_path_factory.mktemp("recordings")
    ALWAYS["BOUNCER_RECORD"] = str(folder)
    yield
    del ALWAYS["BOUNCER_RECORD"]
    problems = []
    for file in files.recordings([folder]):
        try:
            if lines := [*files.texts(file)]:  # of a worker that was killed there may be none yet
                deque(follow(opened(lines), Registry(BUILTIN, installed())), maxlen=0)
        except FormatError as error:
            problems.append(f"{file.name}: {error}")
    assert problems == []


@pytest_asyncio.fixture(scope="session", loop_scope="session", autouse=True)
async def forks() -> AsyncIterator[None]:
    """Have workers and gatekeepers forked off one process that has imported what they need."""
    forks = Forks()
    with pytest.MonkeyPatch.context() as patch:
        for module in ("devserver.worker", "devserver.gatekeeper"):
            patch.setattr(import_module(module), "spawn", forks.spawn)
        yield
    await forks.end()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Server]:
    """A LiveKit server."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n{line}", flush=True)

    async with own_server(say=say) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def client(server: Server) -> AsyncIterator[api.LiveKitAPI]:
    """An API client, shared because creating its TLS context takes a while."""
    async with api.LiveKitAPI(server.url, server.api_key, server.api_secret) as client:
        yield client


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def bouncer(server: Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Worker]:
    """A bouncer as it is deployed."""
    async with worker(AGENT, server, log_file=tmp_path_factory.mktemp("bouncer") / "log") as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def assistants(server: Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Worker]:
    """A worker whose agents, named `assistant`, act as their dispatch says."""
    script = HERE / "framework_agent.py"
    async with worker(script, server, log_file=tmp_path_factory.mktemp("assistants") / "log") as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def lobby(server: Server, client: api.LiveKitAPI) -> AsyncIterator[World]:
    """A fresh room without a bouncer."""
    async with World(server, client) as world:
        yield world


@pytest_asyncio.fixture(loop_scope="session")
async def world(lobby: World, bouncer: Worker) -> World:
    """A fresh room for a bouncer to guard."""
    assert bouncer.returncode is None, "the bouncer's worker has ended"
    return lobby
