"""What a process takes of memory, once Python has collected and the C library has given back what is free."""

import ctypes
import ctypes.util
import gc
import json
import sys
from dataclasses import asdict, dataclass
from typing import Self

import psutil  # type: ignore[import-untyped]  # the framework brings it, without its types

KILOBYTE = 1e3


class _Allocated(ctypes.Structure):
    """The C library's `struct mallinfo2`."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


@dataclass(frozen=True, slots=True)
class Weight:
    """What a process takes."""

    resident: int
    """Bytes of memory, with pages of which only a part is in use."""
    allocated: int
    """Bytes that were allocated and not freed, except for Python's small objects."""
    blocks: int
    """Python's small objects."""

    @property
    def line(self) -> str:
        """This as JSON, to be read by `from_line`."""
        return json.dumps({"message": "weighed", **asdict(self)})

    @classmethod
    def from_line(cls, line: dict[str, int]) -> Self:
        """Return what such a line says."""
        return cls(line["resident"], line["allocated"], line["blocks"])

    def each(self, before: "Weight", rooms: int) -> tuple[str, str, str]:
        """Return what was added since, for each room: kilobytes, kilobytes and objects."""
        resident, allocated = (
            (now - then) / rooms / KILOBYTE
            for now, then in ((self.resident, before.resident), (self.allocated, before.allocated))
        )
        return f"{resident:.1f}", f"{allocated:.1f}", f"{(self.blocks - before.blocks) / rooms:.1f}"


def weigh() -> Weight:
    """Return what this process takes."""
    library = ctypes.CDLL(ctypes.util.find_library("c"))
    library.mallinfo2.restype = _Allocated
    gc.collect()
    library.malloc_trim(0)
    allocated = library.mallinfo2()
    resident = int(psutil.Process().memory_info().rss)
    return Weight(resident, allocated.uordblks + allocated.hblkhd, sys.getallocatedblocks())
