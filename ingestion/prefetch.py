"""Read pages ahead of their use in a thread, so that the network and the database work at the same time."""

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Generic, Protocol, Self, TypeVar

from ingestion.resting import resting, waiting

# How long this thread may keep the interpreter from the one that feeds COPY, which wants it often and briefly: with
# Python's own 5 ms the database starves between two statements. Of the whole process, and left so.
SWITCH_SECONDS: Final = 0.001
# How long the thread rests between two pages at most, whatever the other one does meanwhile.
REST_SECONDS: Final = 0.05


class End:
    """The last page was taken."""


END: Final = End()


T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Scale(Protocol[T_contra]):
    """What pages weigh until they are taken, and from then on until they are released; `open` is for all together."""

    @property
    def open(self) -> int: ...
    def ahead(self, page: T_contra, /) -> int: ...
    def loading(self, page: T_contra, /) -> int: ...


class Prefetcher(Generic[T]):
    """Run an iterator of pages in a thread, ahead as far as what is open allows (and always one page).

    Open are the pages that are ready, those that were taken since the last `release`, and the one that the iterator is
    asked for, which is taken to weigh as much as the heaviest so far.

    Use as a context manager, in the thread that takes the pages: see Note [Short statements]. Leaving it stops the
    prefetcher's own thread at its next page. An exception of the iterator is raised
    by the take that would have returned the next page, after all pages before it.
    """

    def __init__(self, pages: Iterator[T], scale: Scale[T]) -> None:
        self._pages = pages
        self._scale = scale
        # Each with its weight.
        self._ready: deque[tuple[T, int]] = deque()
        self._open = 0
        self._taken = 0
        self._heaviest = 0
        self._error: BaseException | None = None
        self._ended = False
        self._stopped = False
        self._changed = threading.Condition()
        self._may_work = threading.Event()
        self._resting = ExitStack()
        # A daemon: a fetch that hangs must not keep the process alive after its part was given up.
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)

    def __enter__(self) -> Self:
        sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_SECONDS))
        self._resting.enter_context(resting(self._may_work))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._resting.close()
        self._thread.join(timeout=1)

    def take_ready(self, *, timeout_seconds: float = 0, accept: Callable[[T], bool] | None = None) -> T | None:
        """Return the next page when it is there already, or in time, and accepted, else None; never raises."""
        with self._changed:
            self._wait(timeout_seconds)
            if not self._ready or (accept is not None and not accept(self._ready[0][0])):
                return None
            return self._pop()

    def take(self, *, timeout_seconds: float) -> T | End | None:
        """Return the next page; END after the last one; None when it is not there in time.

        Raises:
            Exception: whatever the iterator raised.
        """
        with self._changed:
            self._wait(timeout_seconds)
            if self._ready:
                return self._pop()
            if self._error is not None:
                raise self._error
            return END if self._ended else None

    def hold(self, page: T) -> None:
        """Count a page that weighed nothing when it was taken, and is to be loaded after all."""
        weight = self._scale.loading(page)
        with self._changed:
            self._open += weight
            self._taken += weight

    def release(self) -> None:
        """Forget the pages that were taken: they are committed."""
        with self._changed:
            self._open -= self._taken
            self._taken = 0
            self._changed.notify_all()

    def _wait(self, timeout_seconds: float) -> None:
        if timeout_seconds > 0 and not self._ready and not self._ended:
            with waiting():
                self._changed.wait_for(lambda: self._ready or self._ended, timeout=timeout_seconds)

    def _pop(self) -> T:
        page, weight = self._ready.popleft()
        loading = self._scale.loading(page)
        self._open += loading - weight
        self._taken += loading
        self._changed.notify_all()
        return page

    def _run(self) -> None:
        try:
            for page in self._pages:
                if not self._put(page):
                    break
            close = getattr(self._pages, "close", None)
            if close is not None:
                close()
        except BaseException as error:  # noqa: BLE001 - it is raised again where the page is taken
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _put(self, page: T) -> bool:
        """Add the page and wait until there is room for the next one; False when nobody wants it any more."""
        weight = self._scale.ahead(page)
        with self._changed:
            self._ready.append((page, weight))
            self._open += weight
            self._heaviest = max(self._heaviest, weight)
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: self._stopped or not self._ready or self._open + self._heaviest <= self._scale.open
            )
            if self._stopped:
                return False
        self._may_work.wait(REST_SECONDS)
        return True
