"""Programs that tests need and Python has no package of: from the PATH, or installed from Debian by root."""

import os
import shutil
import subprocess
from functools import partial

from devserver.process import locked
from devserver.source import Say, ServerUnavailable, cache


def find_or_install(program: str, package: str, say: Say) -> str:
    """Return the path of a program; on Debian, root installs its package if there is none.

    Raises: ServerUnavailable if there is none, and it can't be installed.
    """
    waiting = partial(say, f"{package}: another process is installing packages; waiting")
    with locked(cache() / "debian.lock", waiting):
        if found := shutil.which(program):
            return found
        apt = shutil.which("apt-get")
        if apt and os.geteuid() == 0:
            say(f"{package}: installing it from Debian")
            install = [apt, "install", "--yes", "--no-install-recommends", package]
            for command in (install, [apt, "update"], install):
                env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
                ended = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False)
                if ended.returncode == 0 and (found := shutil.which(program)):
                    return found
    raise ServerUnavailable(f"There is no {program} on the PATH. Install it (Debian: apt install {package}).")
