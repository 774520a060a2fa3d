"""A deadline for what may hang in other people's code."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

from ingestion.http.values import TransientFailure

# A bark goes unheard while a name is looked up or a connection is made: there is nothing yet to shut down.
_AGAIN_SECONDS: Final = 0.1


class Watchdog:
    """Call a function from a thread when something takes too long, again and again until it ends.

    One thread for all: as every deadline is equally long, the next one never comes before the one it sleeps to, so that
    setting a deadline is an assignment and wakes nobody.
    """

    def __init__(self, patience: timedelta, bark: Callable[[], None]) -> None:
        self._seconds = patience.total_seconds()
        self._bark = bark
        # When it barks next; never while nothing is watched.
        self._due = float("inf")
        self._has_barked = False
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def watching(self, where: str) -> Iterator[None]:
        """Give up what takes too long within a block, whether headers or body trickle; one block at a time.

        Raises:
            TransientFailure: it took too long.
        """
        self._begin()
        try:
            yield
        except TransientFailure:
            if not self._has_barked:
                raise
        finally:
            self._end()
        # A body whose end is the connection's end looks complete after a shutdown.
        if self._has_barked:
            raise TransientFailure(f"{where}: not complete after {self._seconds:g} s", blames="host")

    def _begin(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="deadline", daemon=True)
            self._thread.start()
        self._has_barked = False
        self._due = time.monotonic() + self._seconds

    def _end(self) -> None:
        """End the watch: from here on nothing is shut down any more."""
        with self._lock:
            self._due = float("inf")

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._pause()):
            with self._lock:
                if self._due <= time.monotonic():
                    self._has_barked = True
                    self._bark()
                    self._due = time.monotonic() + _AGAIN_SECONDS

    def _pause(self) -> float:
        return min(max(self._due - time.monotonic(), 0), self._seconds)
