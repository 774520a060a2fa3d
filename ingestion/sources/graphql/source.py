"""A GraphQL query as a source: one page for each request."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Literal

import msgspec

from ingestion.errors import ConfigurationError, RecordRejected, RunFailed
from ingestion.http import Auth, Client, Limits, Rate, Response, Retry, Transport, secrets_in
from ingestion.pagination import Paginator, Received
from ingestion.sources import loops
from ingestion.sources.arguments import arguments_of, placed, refuse_links, shown
from ingestion.sources.graphql.answers import Envelope, Nodes, Problem, Reader, at_path, summary
from ingestion.sources.graphql.asking import Asker
from ingestion.sources.graphql.connections import PAGE_INFO
from ingestion.sources.overlaps import seams_of
from ingestion.sources.sent_ahead import Exchange, SentAhead, refuse_blind
from ingestion.sources.shaping import digest_of, last_of
from ingestion.texts import Text, text_of
from ingestion.types import Cursor, Page, Recall

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
        concurrency: pages that are asked for at once, where the pagination knows the total.
    """

    url: Text
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
    concurrency: int = 1

    def __post_init__(self) -> None:
        refuse_links(self.pagination, "GraphQL")
        refuse_blind(self.pagination, self.concurrency)
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
        asker = self._asker()
        with self._client(asker.url) as client:
            yield from self._pages(cursor, asker.reader, lambda _, body: (asker.ask(client, body), None))

    def pages_at_once(
        self, cursor: Cursor | None, recall: Recall | None, *, at_once: int, max_bytes: int
    ) -> Iterator[Page]:
        asker = self._asker()
        exchange = Exchange(
            pagination=self.pagination, prepare=self._body, open=partial(self._client, asker.url), send=asker.ask
        )
        with SentAhead(exchange, at_once=at_once, max_bytes=max_bytes) as ahead:
            yield from self._pages(cursor, asker.reader, ahead.answer)

    def _pages(
        self, cursor: Cursor | None, reader: Reader, answer: Callable[[Cursor, bytes], tuple[Envelope, int | None]]
    ) -> Iterator[Page]:
        at: Cursor | None = cursor or loops.begin(self.pagination.first())
        seams = seams_of(self.pagination)
        while at:
            envelope, known_total = answer(at["at"], self._body(at["at"]))
            page = self._page(reader, envelope, at, known_total)
            page = seams.watched(page, partial(shown, self.pagination, at["at"]))
            yield page
            at = page.following

    def with_values(self, values: Mapping[str, str | int]) -> "GraphQL":
        """Return the source with more variables."""
        return replace(self, variables=placed(self.variables, values))

    def _asker(self) -> Asker:
        return Asker(url=text_of(self.url), retry=self.retry, reader=Reader(self.records))

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

    def _page(self, reader: Reader, envelope: Envelope, at: Cursor, known_total: int | None) -> Page:
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
            known_total=known_total,
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
