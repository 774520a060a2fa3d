"""Pages that are asked for before their turn, because their addresses are known."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

import structlog

from ingestion.errors import ConfigurationError
from ingestion.pagination import ForeseeingPaginator, Paginator
from ingestion.sources.ahead import Sized, in_order
from ingestion.types import Cursor

log = structlog.get_logger(__name__)
W = TypeVar("W")
Q = TypeVar("Q")
A = TypeVar("A", bound=Sized)

# Requests that are prepared together. Behind them it is looked again what is still expected.
_TOGETHER: Final = 1_000


@dataclass(frozen=True, kw_only=True)
class Exchange(Generic[W, Q, A]):
    """How a source asks for its pages.

    Args:
        prepare: a paginator's cursor to the request of its page. Equal requests ask for the same page.
        open: what each thread opens for itself and sends requests with, such as a client.
        send: sends a request with it, and returns the answer.
    """

    pagination: Paginator
    prepare: Callable[[Cursor], Q]
    open: Callable[[], AbstractContextManager[W]]
    send: Callable[[W, Q], A]


class SentAhead(Generic[W, Q, A]):
    """Answers to the requests of one reading, some of which were sent ahead. Use as a context manager.

    What is sent ahead is a guess: each page still says what comes after it. Where that is another request, everything
    sent ahead is dropped, and no more guesses are made.
    """

    def __init__(self, exchange: Exchange[W, Q, A], *, at_once: int, max_bytes: int) -> None:
        self._exchange, self._at_once, self._max_bytes = exchange, at_once, max_bytes
        self._foresees = True
        self._expected: deque[Q] = deque()
        self._total: int | None = None
        self._answers: Generator[A, None, None] | None = None
        self._largest = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.tool = stack.enter_context(self._exchange.open())
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drop()
        # A client leaves what it has sent out of the error.
        self._stack.__exit__(kind, error, trace)

    def answer(self, at: Cursor, asked: Q) -> tuple[A, int | None]:
        """Return the answer to the request of the page at a paginator's cursor.

        With it what was known of the total when it was asked for, where that was before its turn.

        Raises as sending the request does, for this page alone.
        """
        if self._expected and self._expected[0] != asked:
            log.info("pages are not where they were expected; asking for one after the other from here on")
            self._foresees = False
            self._drop()
        if self._answers is None and self._foresees:
            self._foresee(at)
        if self._answers is not None and (answered := next(self._answers, None)) is not None:
            self._expected.popleft()
            self._largest = max(self._largest, answered.size_bytes)
            if not self._expected:
                self._drop()
            return answered, self._total
        answered = self._exchange.send(self.tool, asked)
        self._largest = max(self._largest, answered.size_bytes)
        return answered, None

    def _foresee(self, at: Cursor) -> None:
        pagination = self._exchange.pagination
        assert isinstance(pagination, ForeseeingPaginator), "the source has looked"
        requests = [self._exchange.prepare(each) for each in islice(pagination.upcoming(at), _TOGETHER)]
        if len(requests) < 2:
            return
        self._expected.extend(requests)
        self._total = at.get("total")
        self._answers = in_order(
            (partial(_answers, self._exchange, asked) for asked in requests),
            tool=self._exchange.open,
            at_once=self._at_once,
            max_bytes=self._max_bytes,
            largest=self._largest,
        )

    def _drop(self) -> None:
        answers, self._answers = self._answers, None
        self._expected.clear()
        if answers is not None:
            answers.close()


def _answers(exchange: Exchange[W, Q, A], asked: Q, tool: W) -> Iterator[A]:
    yield exchange.send(tool, asked)


def refuse_blind(pagination: Paginator, concurrency: int) -> None:
    """Refuse to ask for several pages of a pagination at once that does not know them.

    Raises:
        ConfigurationError: it cannot be done.
    """
    if concurrency == 1:
        return
    if concurrency < 1:
        raise ConfigurationError(f"concurrency={concurrency}: one page is asked for at least")
    if not isinstance(pagination, ForeseeingPaginator) or not getattr(pagination, "tells_total", True):
        raise ConfigurationError(
            f"concurrency={concurrency} needs pages whose addresses are known: PageNumber or OffsetLimit with "
            "total_header or total"
        )
