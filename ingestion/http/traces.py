"""What requests cost: totals for each host and status, and the newest and the slowest requests. Bounded, no I/O."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from heapq import nlargest
from typing import Final

import msgspec

# Of each kind; about 150 bytes each where they are stored.
KEPT: Final = 20
# Requests whose page has not arrived yet: one or two mostly, many where a source asks for much before its first page.
_UNPLACED: Final = 100
# A feed has its own host and a few others.
_MOST_HOSTS: Final = 20
OTHER_HOSTS: Final = "other hosts"
# In place of a status, when no response came.
NO_ANSWER: Final = 0


class Trace(msgspec.Struct, array_like=True):
    """One request as it was sent, redirects and further attempts being requests of their own.

    `request` is its method and its address without user info and query. `seconds` are those from sending it to the end
    of its body, `waited` those before: for the remote's budget, or between two attempts. `size_bytes` are decoded.
    `at` is when it ended, in seconds since 1970.
    """

    at: float
    request: str
    waited: float = 0
    attempt: int = 1
    status: int = NO_ANSWER
    size_bytes: int = 0
    seconds: float = 0
    page: int | None = None


class Total(msgspec.Struct, array_like=True):
    """What the requests to one host cost that were answered with one status."""

    requests: int = 0
    size_bytes: int = 0
    seconds: float = 0
    waited: float = 0

    def __add__(self, other: "Total") -> "Total":
        return Total(
            self.requests + other.requests,
            self.size_bytes + other.size_bytes,
            self.seconds + other.seconds,
            self.waited + other.waited,
        )


class Traces(msgspec.Struct):
    """What is known of many requests. Totals are by `host status`."""

    totals: dict[str, Total] = {}
    newest: list[Trace] = []
    slowest: list[Trace] = []

    def __bool__(self) -> bool:
        return bool(self.totals)

    def __add__(self, other: "Traces") -> "Traces":
        totals = dict(self.totals)
        for name, total in other.totals.items():
            key = name if name in totals or len(totals) < _MOST_HOSTS * 5 else f"{OTHER_HOSTS} {name.split()[-1]}"
            totals[key] = totals.get(key, Total()) + total
        return Traces(
            totals=totals,
            newest=nlargest(KEPT, self.newest + other.newest, key=lambda trace: trace.at),
            slowest=nlargest(KEPT, self.slowest + other.slowest, key=lambda trace: trace.seconds),
        )


class Collector:
    """Collects the traces of one slice, from any thread, until somebody takes them to where they are kept."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals: dict[tuple[str, int], Total] = {}
        self._unplaced: deque[Trace] = deque(maxlen=_UNPLACED)
        self._newest: deque[Trace] = deque(maxlen=KEPT)
        self._slowest: list[Trace] = []
        # Those of the slowest are that slow at least, once there are enough of them.
        self._slow = 0.0
        self._taken = Traces()
        self.taken_at = time.monotonic()

    def add(self, trace: Trace) -> None:
        """Add a request that has ended."""
        host = trace.request.split("/", 3)[2] if "//" in trace.request else ""
        with self._lock:
            key = host, trace.status
            total = self._totals.get(key)
            if total is None:
                total = self._totals[key] = Total()
            total.requests += 1
            total.size_bytes += trace.size_bytes
            total.seconds += trace.seconds
            total.waited += trace.waited
            self._unplaced.append(trace)

    def place(self, page: int | None) -> None:
        """Note which page the requests were for that ended since the page before."""
        with self._lock:
            for trace in self._unplaced:
                trace.page = page
                self._newest.append(trace)
                if trace.seconds >= self._slow:
                    self._slowest.append(trace)
            self._unplaced.clear()
            if len(self._slowest) > 2 * KEPT:
                self._slowest = nlargest(KEPT, self._slowest, key=lambda trace: trace.seconds)
                self._slow = self._slowest[-1].seconds

    def take(self) -> Traces:
        """Return what was collected and not yet confirmed to be kept."""
        with self._lock:
            totals = {f"{host} {status}": total for (host, status), total in self._totals.items()}
            now = Traces(totals=totals, newest=[*self._newest], slowest=[*self._slowest])
            self._totals = {}
            self._newest.clear()
            self._slowest, self._slow = [], 0.0
        self.taken_at = time.monotonic()
        self._taken += now
        return self._taken

    def confirm(self, taken: Traces) -> None:
        """Let go of what was taken: it is kept elsewhere."""
        if self._taken is taken:
            self._taken = Traces()


_current: ContextVar[Collector | None] = ContextVar("collector", default=None)


@contextmanager
def collecting(collector: Collector) -> Iterator[None]:
    """Let clients that are opened in this thread meanwhile trace their requests there."""
    token = _current.set(collector)
    try:
        yield
    finally:
        _current.reset(token)


def collect_here(collector: Collector) -> None:
    """Let all clients that are opened in this thread from now on trace their requests there."""
    _current.set(collector)


def current() -> Collector | None:
    """Return where this thread's requests are traced."""
    return _current.get()


class Tracer:
    """Traces the requests of one client."""

    def __init__(self) -> None:
        self._add: Callable[[Trace], None] = (_current.get() or Collector()).add
        self._ready_at = time.monotonic()
        self._attempt = 0

    def begin(self) -> None:
        """Note that a request is wanted, which may take several attempts, each with its wait."""
        self._attempt = 0
        self._ready_at = time.monotonic()

    def send(self, request: str, *, is_aside: bool = False) -> Trace:
        """Return the trace of an attempt that is sent now; one for a token is no attempt at what is wanted."""
        now = time.monotonic()
        self._attempt += not is_aside
        attempt = 1 if is_aside else self._attempt
        self.trace = Trace(at=now, request=request, waited=now - self._ready_at, attempt=attempt)
        return self.trace

    def end(self, trace: Trace) -> None:
        """Add the trace of an attempt that has ended, well or not."""
        now = self._ready_at = time.monotonic()
        trace.seconds, trace.at = now - trace.at, time.time()
        self._add(trace)
