"""Pages that are asked for before their turn, because their addresses are known."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Final, Self

import structlog

from ingestion.errors import ConfigurationError
from ingestion.http import Client, Response
from ingestion.pagination import ForeseeingPaginator, Paginator
from ingestion.sources.ahead import in_order
from ingestion.sources.asking import Asked, Asking
from ingestion.types import Cursor

log = structlog.get_logger(__name__)

# Requests that are prepared together. Behind them it is looked again what is still expected.
_TOGETHER: Final = 1_000


@dataclass(frozen=True, slots=True)
class _Answered:
    response: Response

    @property
    def size_bytes(self) -> int:
        return len(self.response.body)


class SentAhead:
    """Answers to the requests of one reading, some of which were sent ahead. Use as a context manager.

    What is sent ahead is a guess: each page still says what comes after it. Where that is another request, everything
    sent ahead is dropped, and no more guesses are made.
    """

    def __init__(
        self, asking: Asking, open_client: Callable[[], AbstractContextManager[Client]], *, at_once: int, max_bytes: int
    ) -> None:
        self._asking, self._open, self._at_once, self._max_bytes = asking, open_client, at_once, max_bytes
        self._foresees = True
        self._expected: deque[Asked] = deque()
        self._total: int | None = None
        self._answers: Generator[_Answered, None, None] | None = None
        self._largest = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.client = stack.enter_context(self._open())
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drop()
        # The client leaves what it has sent out of the error.
        self._stack.__exit__(kind, error, trace)

    def answer(self, at: Cursor, asked: Asked) -> tuple[Response, int | None]:
        """Return the answer to the request of the page at a paginator's cursor.

        With it what was known of the total when it was asked for, where that was before its turn.

        Raises as `Client.request` does, for this page alone.
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
            return answered.response, self._total
        response = _send(self.client, self._asking.method, asked)
        self._largest = max(self._largest, len(response.body))
        return response, None

    def _foresee(self, at: Cursor) -> None:
        pagination = self._asking.pagination
        assert isinstance(pagination, ForeseeingPaginator), "the source has looked"
        requests = [self._asking.page(each) for each in islice(pagination.upcoming(at), _TOGETHER)]
        if len(requests) < 2:
            return
        self._expected.extend(requests)
        self._total = at.get("total")
        self._answers = in_order(
            (partial(_answers, self._asking.method, asked) for asked in requests),
            tool=self._open,
            at_once=self._at_once,
            max_bytes=self._max_bytes,
            largest=self._largest,
        )

    def _drop(self) -> None:
        answers, self._answers = self._answers, None
        self._expected.clear()
        if answers is not None:
            answers.close()


def _answers(method: str, asked: Asked, client: Client) -> Iterator[_Answered]:
    yield _Answered(_send(client, method, asked))


def _send(client: Client, method: str, asked: Asked) -> Response:
    return client.request(method, asked.url, asked.params, body=asked.body, headers=asked.headers or None)


def refuse_blind(pagination: Paginator, concurrency: int) -> None:
    """Refuse to ask for several pages of a pagination at once that does not know them.

    Raises:
        ConfigurationError: it cannot be done.
    """
    if concurrency < 1:
        raise ConfigurationError(f"concurrency={concurrency}: one page is asked for at least")
    if not isinstance(pagination, ForeseeingPaginator) or not getattr(pagination, "tells_total", True):
        raise ConfigurationError(
            f"concurrency={concurrency} needs pages whose addresses are known: PageNumber or OffsetLimit with "
            "total_header or total"
        )
