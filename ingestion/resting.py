"""When the thread that prepares pages rests, so that the one that loads them gets the interpreter at once.

Note [Short statements]: the transaction of a chunk is one or two long statements with a handful of short ones around
them. While a long one runs the database is busy, and this process has nothing to do but to prepare pages. After a short
one the database waits for the next, and the loading thread for the interpreter: with the other thread at work they took
twice as long as without it. So that one rests between two pages, unless the loading thread waits for something long.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Event

# Set while the thread that prepares pages for this one may work.
_may_work: ContextVar[Event | None] = ContextVar("may_work", default=None)


@contextmanager
def resting(may_work: Event) -> Iterator[None]:
    """Let a thread that waits for the event rest whenever this one is not in `waiting`."""
    token = _may_work.set(may_work)
    may_work.clear()
    try:
        yield
    finally:
        may_work.set()
        _may_work.reset(token)


@contextmanager
def waiting() -> Iterator[None]:
    """Let the thread work that rests for this one, if there is one: what this one does now takes long elsewhere."""
    may_work = _may_work.get()
    if may_work is None or may_work.is_set():
        yield
        return
    may_work.set()
    try:
        yield
    finally:
        may_work.clear()
