"""The article's `@profile`: what a loader takes in time and memory. Knows nothing of what is loaded.

Note [Measuring memory]
The article samples the process's resident memory in a second call, because sampling slows the call. Two things spoil
such figures: an iterator is used up by the first call, so that the second loads nothing; and memory that one loader
freed but the allocator kept hides what the next one takes (50,000 photos: `string_io` takes 79 MiB in a new process and
0 MiB after `bulk_create_db`). So every call is made in a process of its own, forked for it, with an iterator of its
own. The operating system keeps the high-water mark of a process's resident memory, at no cost: time and memory come
from the same call. The mark includes what libpq allocates; tracemalloc does not, missed a quarter of what `bulk_create`
takes and made it three times as slow.
"""

import gc
import multiprocessing
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection
from typing import Generic, TypeVar

from django.db import connections

Record = TypeVar("Record")

# Loaded before the measured call, so that connecting, first imports and pages of code count for no loader.
WARM_UP_RECORDS = 100
# ru_maxrss is in KiB on Linux and the BSDs, in bytes on macOS (getrusage(2)).
_MAXRSS_PER_MIB = 1024 * 1024 if sys.platform == "darwin" else 1024


class LoaderError(Exception):
    """The loader raised, or its process died; the message says which."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What one call took: `peak_mib` is the most memory above what the process held before the call."""

    seconds: float
    peak_mib: float


@dataclass(frozen=True)
class profile(Generic[Record]):  # noqa: N801 (a decorator, named as in the article)
    """Decorate a loader, so that calling it prints the call, its time and its peak memory, as the article does.

    The loader takes an iterator; the decorated one takes a function that makes one, and a function that empties the
    table. It needs the table to be committed: it is loaded over a connection of its own.
    """

    load: Callable[[Iterator[Record]], None]

    @property
    def name(self) -> str:
        return self.load.__name__

    def __call__(
        self,
        make_records: Callable[[], Iterable[Record]],
        *,
        empty_table: Callable[[], None],
        write: Callable[[str], object] = print,
    ) -> Profile:
        """Load the records once, measured, into the emptied table; closes this process's database connections.

        Raises:
            LoaderError: the load failed; the table may be empty or not.
        """
        write(f"\n{self.name}()")
        found = _in_new_process(lambda: _measure(self.load, make_records, empty_table))
        write(f"Time   {found.seconds:.4}")
        write(f"Memory {found.peak_mib:.2f}")
        return found


def _measure(
    load: Callable[[Iterator[Record]], None],
    make_records: Callable[[], Iterable[Record]],
    empty_table: Callable[[], None],
) -> Profile:
    empty_table()
    load(islice(make_records(), WARM_UP_RECORDS))
    empty_table()
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    load(iter(make_records()))
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Profile(seconds=seconds, peak_mib=(after - before) / _MAXRSS_PER_MIB)


def _in_new_process(measure: Callable[[], Profile]) -> Profile:
    # Two processes must not share a connection: the first that closes it says goodbye for both.
    connections.close_all()
    # Forked, because a new interpreter would have to be told the settings and the database of a test.
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_send_outcome, args=(measure, sending), daemon=True)
    try:
        process.start()
        sending.close()
        outcome: Profile | str = receiving.recv()
    except EOFError:
        process.join()
        raise LoaderError(f"its process ended with status {process.exitcode} (-9: out of memory?)") from None
    except BaseException:  # interrupted: the load must not go on with nobody waiting for it
        if process.is_alive():
            process.kill()
        raise
    finally:
        receiving.close()
        if process.pid is not None:
            process.join()
    if isinstance(outcome, str):
        raise LoaderError(outcome)
    return outcome


def _send_outcome(measure: Callable[[], Profile], sending: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both processes; the parent ends this one
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the parent's handler is not meant for this process
    outcome: Profile | str
    try:
        outcome = measure()
    except Exception as error:  # noqa: BLE001 (whatever a loader raises is its outcome; the others have their turn)
        outcome = f"{type(error).__name__}: {error}".strip()
    sending.send(outcome)
