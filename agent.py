"""The front door: a LiveKit worker that guards rooms. Run it with `python agent.py dev`, deploy it with `start`."""

from bouncer.adapter.worker import run
from bouncer.cli.wiring import wired

server = wired()

if __name__ == "__main__":
    run(server)
