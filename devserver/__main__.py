"""`python -m devserver`: make sure that there is a LiveKit server to run, and build it if need be."""

import sys
from functools import partial

from devserver import ServerUnavailable, find_or_build


def main() -> int:
    """Make sure that there is a server to run; return the exit status."""
    try:
        find_or_build(partial(print, flush=True))
    except ServerUnavailable as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
