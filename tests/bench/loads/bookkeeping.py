"""How long a run takes for what makes it durable, timed within the run: what else the machine does hits both alike."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any


class Stopwatch:
    """Adds up the time that calls of some functions take, from whatever thread; calls within calls count once."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._lock = threading.Lock()
        self._inside = threading.local()

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if getattr(self._inside, "yes", False):
                return function(*args, **kwargs)
            self._inside.yes = True
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                with self._lock:
                    self.seconds += time.perf_counter() - began
                self._inside.yes = False

        return call


@contextmanager
def timed() -> Iterator[Stopwatch]:
    """Time the claim of a part, each chunk's fence, cursor and counters, the lease and its heartbeat, and the end.

    Not what it takes to ask for a run: that is done where it is triggered.
    """
    from ingestion import attempts, claims, ledger
    from ingestion.leases import Lease

    stopwatch = Stopwatch()
    kept: list[tuple[Any, str, Any]] = []
    for owner, name in (
        (claims, "claim"),
        (ledger, "commit"),
        (attempts, "renew"),
        (attempts, "end"),
        (Lease, "__enter__"),
        (Lease, "__exit__"),
    ):
        kept.append((owner, name, getattr(owner, name)))
        setattr(owner, name, stopwatch.timed(getattr(owner, name)))
    try:
        yield stopwatch
    finally:
        for owner, name, function in kept:
            setattr(owner, name, function)
