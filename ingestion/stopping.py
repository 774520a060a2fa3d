"""Whether slices are to end at their next chunk boundary, because the worker is to stop.

The word is one byte of memory that a process shares with the children it forks later: a pool's parent hears the
signal, its children do the work, and nothing else reaches them while they are busy.
"""

import mmap
from typing import Final

_SHARED: Final = mmap.mmap(-1, 1)


def request() -> None:
    """Ask the slices of this process and of its children to end. Safe in a signal handler."""
    _SHARED[0] = 1


def is_requested() -> bool:
    """Whether slices are to end; costs nothing worth counting."""
    return _SHARED[0] == 1


def withdraw() -> None:
    """Let slices go on."""
    _SHARED[0] = 0
