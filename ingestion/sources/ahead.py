"""Several streams read at once, and handed out one after the other in their order. Threads, no I/O of its own.

Note [Room]: each stream that is under way may hold its share of the bytes, and always one thing. A stream is begun
when everything under way fits, taken to be as large as the largest thing so far; the first one is begun alone.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from contextvars import copy_context
from types import TracebackType
from typing import Final, Generic, Protocol, Self, TypeVar

# Threads are daemons: what hangs is left behind, as the prefetcher leaves it.
_JOIN_SECONDS: Final = 1.0


class Sized(Protocol):
    """Something that knows what it takes in memory."""

    @property
    def size_bytes(self) -> int: ...


T = TypeVar("T", bound=Sized)
W = TypeVar("W")
Make = Callable[[W], Iterator[T]]


class _Stream(Generic[W, T]):
    """One of them: what is ready of it, and how it has ended."""

    def __init__(self, make: Make[W, T]) -> None:
        self.make = make
        self.ready: deque[T] = deque()
        self.ready_bytes = 0
        self.error: BaseException | None = None
        self.has_ended = False


def in_order(
    streams: Iterable[Make[W, T]],
    *,
    tool: Callable[[], AbstractContextManager[W]],
    at_once: int,
    max_bytes: int,
    largest: int = 0,
) -> Generator[T, None, None]:
    """Yield what the streams bring, one stream after the other, while those behind it are read already.

    An exception of a stream is raised in its place; what was read of those behind it is dropped.

    Args:
        tool: what each thread opens for itself and reads its streams with, such as a client.
        at_once: streams that are read at the same time, at most.
        max_bytes: what is read and not yet taken, as far as one thing of each stream allows.
        largest: the bytes of the largest thing so far, where that is known.
    """
    left = iter(streams)
    under_way: deque[_Stream[W, T]] = deque()
    crew: _Crew[W, T] = _Crew(tool, at_once=at_once, max_bytes=max_bytes, largest=largest)
    with crew:
        while True:
            while len(under_way) < crew.room() and (make := next(left, None)) is not None:
                under_way.append(crew.begin(make))
            if not under_way:
                return
            taken = crew.take(under_way[0])
            if taken is None:
                under_way.popleft()
            else:
                yield taken


class _Crew(Generic[W, T]):
    """The threads that read."""

    def __init__(
        self, tool: Callable[[], AbstractContextManager[W]], *, at_once: int, max_bytes: int, largest: int
    ) -> None:
        self._tool, self._at_once, self._max_bytes, self._largest = tool, at_once, max_bytes, largest
        self._waiting: deque[_Stream[W, T]] = deque()
        self._threads: list[threading.Thread] = []
        self._is_stopped = False
        self._changed = threading.Condition()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()
        ends_at = time.monotonic() + _JOIN_SECONDS
        for thread in self._threads:
            thread.join(timeout=max(ends_at - time.monotonic(), 0))

    def room(self) -> int:
        """Return how many streams may be under way: one is handed out while the others are read."""
        with self._changed:
            if not self._largest:
                return 1
            return min(self._at_once + 1, max(self._max_bytes // self._largest, 1))

    def begin(self, make: Make[W, T]) -> _Stream[W, T]:
        stream = _Stream(make)
        with self._changed:
            self._waiting.append(stream)
            self._changed.notify_all()
        if len(self._threads) < self._at_once:
            # What belongs to whoever reads, such as the traces of its requests, belongs to its threads as well.
            thread = threading.Thread(target=copy_context().run, args=(self._work,), name="ahead", daemon=True)
            self._threads.append(thread)
            thread.start()
        return stream

    def take(self, stream: _Stream[W, T]) -> T | None:
        """Wait for what comes next of a stream; None at its end. Raises what the stream has raised."""
        with self._changed:
            self._changed.wait_for(lambda: stream.ready or stream.has_ended)
            if stream.ready:
                taken = stream.ready.popleft()
                stream.ready_bytes -= taken.size_bytes
                self._changed.notify_all()
                return taken
        if stream.error is not None:
            raise stream.error
        return None

    def _work(self) -> None:
        with ExitStack() as stack:
            tool: W | None = None
            while (stream := self._next()) is not None:
                try:
                    if tool is None:
                        tool = stack.enter_context(self._tool())
                    for made in stream.make(tool):
                        if not self._put(stream, made):
                            break
                except BaseException as error:  # noqa: BLE001 - it is raised again where the stream is taken
                    stream.error, tool = error, None
                    # A tool has its say about the errors of what it is used for: a client hides what it has sent.
                    stack.__exit__(type(error), error, error.__traceback__)
                finally:
                    with self._changed:
                        stream.has_ended = True
                        self._changed.notify_all()

    def _next(self) -> _Stream[W, T] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_stopped)
            return None if self._is_stopped else self._waiting.popleft()

    def _put(self, stream: _Stream[W, T], made: T) -> bool:
        """Wait for room and keep what was read; False when nobody wants it any more."""
        size, share = made.size_bytes, self._max_bytes // (self._at_once + 1)
        with self._changed:
            self._largest = max(self._largest, size, 1)
            self._changed.wait_for(lambda: self._is_stopped or not stream.ready or stream.ready_bytes + size <= share)
            if self._is_stopped:
                return False
            stream.ready.append(made)
            stream.ready_bytes += size
            self._changed.notify_all()
            return True
