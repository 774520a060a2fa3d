"""A GraphQL query as a source: one page for each request."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Literal

import msgspec

from ingestion.errors import ConfigurationError, RecordRejected, RetryLater, RunFailed
from ingestion.http import (
    LONGEST_SLEEP,
    Auth,
    Client,
    Limits,
    Rate,
    Response,
    Retry,
    TransientFailure,
    Transport,
    secrets_in,
)
from ingestion.http.ratelimits import wait_asked_for
from ingestion.pagination import Paginator, Received
from ingestion.sources import loops
from ingestion.sources.arguments import arguments_of, placed, refuse_links, shown
from ingestion.sources.graphql.answers import Envelope, Nodes, Problem, Reader, at_path, summary
from ingestion.sources.graphql.connections import PAGE_INFO
from ingestion.sources.graphql.throttling import is_throttled, wait_for_budget
from ingestion.sources.overlaps import seams_of
from ingestion.sources.patience import patiently
from ingestion.sources.shaping import digest_of, last_of
from ingestion.types import Cursor, Page

# "GraphQL over HTTP": many servers tell what is wrong with a query in the body of a 400, some in one of a 422.
_ANSWERS: Final = frozenset({400, 422})
_HEADERS: Final = {"Content-Type": "application/json", "Accept": "application/json, application/graphql-response+json"}
_NO_CODE: Final = re.compile(r'"""(?:[^"]|"(?!""))*"""|"(?:[^"\\\n]|\\.)*"|#[^\n]*')
_WRITING: Final = re.compile(r"\b(mutation|subscription)\b")
_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, kw_only=True)
class GraphQL:
    """A GraphQL endpoint: a query whose answer has a list of records, or a connection, at `records` below `data`.

    Args:
        query: the document; with `operation` where it has several.
        variables: of every request; those of `pagination` join them.
        partial: what becomes of data beside `errors`: `"fail"` fails the run, `"reject"` rejects the records that the
            paths of the errors lead into, and fails it for any other error.
    """

    url: str | Callable[[], str]
    query: str
    records: tuple[str, ...]
    pagination: Paginator
    variables: Mapping[str, Any] = field(default_factory=dict)
    operation: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    partial: Literal["fail", "reject"] = "fail"
    retry: Retry = field(default_factory=Retry)
    limits: Limits = field(default_factory=Limits)
    max_pages: int = 1_000_000
    auth: Auth | None = None
    transport: Transport = field(default_factory=Transport)
    rates: tuple[Rate, ...] = ()

    def __post_init__(self) -> None:
        refuse_links(self.pagination, "GraphQL")
        if self.partial not in ("fail", "reject"):
            raise ConfigurationError(f"GraphQL: partial is {self.partial!r}, expected 'fail' or 'reject'")
        if found := _WRITING.search(_outermost(self.query)):
            raise ConfigurationError(f"GraphQL reads, and may ask twice: a {found[0]} is not sent")

    def pages(self, cursor: Cursor | None) -> Iterator[Page]:
        """Yield the pages from `cursor` on; holds one page.

        Raises:
            RetryLater: a transient failure outlasted its retries, or the budget is used up for longer than a worker
                should sleep.
            RunFailed: `graphql_errors`, or the answer is not what the feed expects.
        """
        url = self.url if isinstance(self.url, str) else self.url()
        at: Cursor | None = cursor or loops.begin(self.pagination.first())
        seams = seams_of(self.pagination)
        with self._client(url) as client:
            reader = Reader(self.records, client.hidden)
            while at:
                body = self._body(at["at"])
                envelope = patiently(self.retry, partial(_ask, client, url, body, reader))
                page = seams.watched(self._page(reader, envelope, at), partial(shown, self.pagination, at["at"]))
                yield page
                at = page.following
                if at:
                    _pace(envelope)

    def with_values(self, values: Mapping[str, str | int]) -> "GraphQL":
        """Return the source with more variables."""
        return replace(self, variables=placed(self.variables, values))

    def _client(self, url: str) -> Client:
        return Client(
            retry=self.retry,
            limits=self.limits,
            headers=self.headers,
            auth=self.auth,
            transport=self.transport,
            rates=self.rates,
            origins=(url,),
            secrets=secrets_in(self.variables),
        )

    def _body(self, at: Cursor) -> bytes:
        asked = {"query": self.query, "variables": arguments_of(self.pagination, at, self.variables)}
        return _encode(asked | ({"operationName": self.operation} if self.operation else {}))

    def _page(self, reader: Reader, envelope: Envelope, at: Cursor) -> Page:
        if envelope.problems and self.partial == "fail":
            raise RunFailed("graphql_errors", summary(envelope.problems))
        try:
            nodes = reader.nodes(envelope)
        except RunFailed:
            if envelope.problems:
                raise RunFailed("graphql_errors", summary(envelope.problems)) from None
            raise
        received = Received(
            headers=envelope.response.headers,
            records=len(nodes.records),
            value=partial(_value, reader, envelope.response, nodes),
            last=partial(last_of, nodes.records),
        )
        return Page(
            number=at["pages"] + 1,
            records=nodes.records,
            size_bytes=len(envelope.response.body),
            following=loops.advance(
                at,
                digest_of(nodes.records),
                partial(self.pagination.following, at["at"], received),
                max_pages=self.max_pages,
                shown=partial(shown, self.pagination),
            ),
            refused=_refused(envelope.problems, nodes, self.records),
        )


def _value(reader: Reader, response: Response, nodes: Nodes, path: tuple[str, ...]) -> Any:
    """Return what a paginator asks for: of the connection's own `pageInfo`, else below `data`."""
    if path[0] != PAGE_INFO:
        return reader.look(response, path)
    return at_path(nodes.page_info, path[1:])


def _ask(client: Client, url: str, body: bytes, reader: Reader) -> Envelope:
    """Ask once for a page, and have it asked again later where the server says so."""
    response = client.request("POST", url, {}, body=body, headers=_HEADERS, answers=_ANSWERS)
    envelope = _opened(reader, response)
    if is_throttled(envelope.problems):
        wait = wait_asked_for(response.headers) or wait_for_budget(envelope.extensions)
        raise TransientFailure(f"the query was throttled: {summary(envelope.problems)}", wait=wait or None)
    if response.status in _ANSWERS and not envelope.problems:
        raise RunFailed("http_status", f"the query was answered with status {response.status}, and no errors")
    return envelope


def _opened(reader: Reader, response: Response) -> Envelope:
    try:
        return reader.open(response)
    except RunFailed as error:
        if response.status in _ANSWERS:
            raise RunFailed("http_status", f"the query was answered with status {response.status}: {error}") from error
        if response.is_delimited or error.code != "not_json":
            raise
        raise TransientFailure(f"the connection ended within the response: {error}", blames="request") from error


def _pace(envelope: Envelope) -> None:
    """Wait until the budget allows another query like the last one."""
    wait = wait_for_budget(envelope.extensions)
    if wait > LONGEST_SLEEP:
        raise RetryLater("the budget of the server's rate limit is used up", wait=wait)
    if wait:
        time.sleep(wait.total_seconds())


def _refused(problems: tuple[Problem, ...], nodes: Nodes, path: tuple[str, ...]) -> dict[int, RecordRejected]:
    """Return what the errors refuse, by position.

    Raises:
        RunFailed: an error is about more than one record.
    """
    inside = (*path, *nodes.inside)
    refused: dict[int, RecordRejected] = {}
    for problem in problems:
        start, position = problem.path[: len(inside)], problem.path[len(inside) : len(inside) + 1]
        if start != inside or not position or not isinstance(position[0], int):
            raise RunFailed("graphql_errors", summary(problems))
        refused.setdefault(position[0], RecordRejected("graphql_error", detail=problem.message))
    return refused


def _outermost(query: str) -> str:
    """Return what of a document is outside of braces, comments and strings."""
    text, before = _NO_CODE.sub("", query), ""
    while text != before:
        text, before = re.sub(r"\{[^{}]*\}", "", text), text
    return text
