"""Asking a GraphQL server for a page: what may pass is asked again, and its budget is kept to."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, Final

from ingestion.errors import RetryLater, RunFailed
from ingestion.http import LONGEST_SLEEP, Client, Response, Retry, TransientFailure
from ingestion.http.ratelimits import wait_asked_for
from ingestion.sources.graphql.answers import Envelope, Reader, summary
from ingestion.sources.graphql.throttling import is_throttled, wait_for_budget
from ingestion.sources.patience import patiently

# "GraphQL over HTTP": many servers tell what is wrong with a query in the body of a 400, some in one of a 422.
_ANSWERS: Final = frozenset({400, 422})
_HEADERS: Final = {"Content-Type": "application/json", "Accept": "application/json, application/graphql-response+json"}


class Asker:
    """Ask for the pages of one reading, from one thread or from several, each with a client of its own."""

    def __init__(self, *, url: str, retry: Retry, reader: Reader) -> None:
        self.url, self.reader, self._retry = url, reader, retry
        self._pace = _Pace()

    def ask(self, client: Client, body: bytes) -> Envelope:
        """Return the answer to a query, once the budget allows to ask.

        Raises:
            RetryLater, RunFailed: as of `Client.request`, or the budget is used up for longer than a worker should
                sleep.
        """
        return patiently(self._retry, partial(self._ask, client, body))

    def _ask(self, client: Client, body: bytes) -> Envelope:
        # Each try takes its turn: what several threads are throttled for at once, they would try again at once.
        with self._pace.turn():
            return self._try(client, body)

    def _try(self, client: Client, body: bytes) -> Envelope:
        """Ask once for a page, and have it asked again later where the server says so."""
        response = client.request("POST", self.url, {}, body=body, headers=_HEADERS, answers=_ANSWERS)
        envelope = _opened(self.reader, response, client)
        self._pace.heed(envelope.extensions)
        if is_throttled(envelope.problems):
            wait = wait_asked_for(response.headers) or wait_for_budget(envelope.extensions)
            raise TransientFailure(f"the query was throttled: {summary(envelope.problems)}", wait=wait or None)
        if response.status in _ANSWERS and not envelope.problems:
            raise RunFailed("http_status", f"the query was answered with status {response.status}, and no errors")
        return envelope


def _opened(reader: Reader, response: Response, client: Client) -> Envelope:
    try:
        return reader.open(response, client.hidden)
    except RunFailed as error:
        if response.status in _ANSWERS:
            raise RunFailed("http_status", f"the query was answered with status {response.status}: {error}") from error
        if response.is_delimited or error.code != "not_json":
            raise
        raise TransientFailure(f"the connection ended within the response: {error}", blames="request") from error


class _Pace:
    """What the server has said last of its budget. While that is too short for another query, they go one by one."""

    def __init__(self) -> None:
        self._alone = threading.Lock()
        self._said: tuple[timedelta, float] = timedelta(0), 0.0

    def heed(self, extensions: Mapping[str, Any]) -> None:
        self._said = wait_for_budget(extensions), time.monotonic()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until the budget allows another query like the last one.

        Raises:
            RetryLater: that takes longer than a worker should sleep.
        """
        if not self._said[0]:
            yield
            return
        with self._alone:
            wait, heard_at = self._said
            left = timedelta(seconds=max(heard_at + wait.total_seconds() - time.monotonic(), 0))
            if left > LONGEST_SLEEP:
                raise RetryLater("the budget of the server's rate limit is used up", wait=left)
            time.sleep(left.total_seconds())
            yield
