"""A LiveKit server to try things on, and workers alongside it; the demo, the tests and the benchmarks use them.

`find_or_build` gets a server program; `own_server`, `livekit_server` and `cluster` run it; `worker` runs an agents
worker.
Everything started here serves this machine only, writes to a log file, and ends with its context.
"""

from devserver.gatekeeper import gatekeeper
from devserver.process import LOOPBACK, StartFailed, free_port
from devserver.server import Cluster, Node, cluster, livekit_server, own_server
from devserver.source import (
    GIVEN,
    IMAGE,
    VERSION,
    Binary,
    Docker,
    Server,
    ServerUnavailable,
    find_or_build,
    given_server,
)
from devserver.worker import Line, Worker, worker

__all__ = [
    "GIVEN",
    "IMAGE",
    "LOOPBACK",
    "VERSION",
    "Binary",
    "Cluster",
    "Docker",
    "Line",
    "Node",
    "Server",
    "ServerUnavailable",
    "StartFailed",
    "Worker",
    "cluster",
    "find_or_build",
    "free_port",
    "gatekeeper",
    "given_server",
    "livekit_server",
    "own_server",
    "worker",
]
