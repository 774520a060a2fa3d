"""Collections behind REST endpoints that answer JSON."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

from ingestion.errors import ConfigurationError
from ingestion.http import Answers, Auth, Client, Limits, QueryAuth, Rate, Response, Retry, Transport, secrets_in
from ingestion.http.validators import CONDITIONS, NOT_MODIFIED
from ingestion.pagination import Paginator
from ingestion.sources import loops
from ingestion.sources.arguments import placed
from ingestion.sources.asking import Asked, Asking
from ingestion.sources.files.csv_files import Csv
from ingestion.sources.files.ndjson import Ndjson
from ingestion.sources.overlaps import seams_of
from ingestion.sources.reads import Read
from ingestion.sources.revalidating import Revalidation, fingerprint
from ingestion.sources.sent_ahead import Exchange, SentAhead, refuse_blind
from ingestion.sources.shaping import Shape
from ingestion.texts import Text, text_of
from ingestion.types import Cursor, Foresee, Page, Recall


@dataclass(frozen=True, kw_only=True)
class JsonApi:
    """A REST endpoint that answers JSON: a list of records, or an object with the list at `records`.

    Args:
        body: the JSON of a POST; what the paginator adds with `place="body"` is put into it.
        format: how responses are written that are no JSON document.
        single, envelope, expand, parent_as, added: as in Shape.
        conditional: ask for the pages that the feed remembers with what tells their versions, so that unchanged ones
            need not be sent.
        concurrency: pages that are asked for at once, where the pagination knows the total.
    """

    url: Text
    pagination: Paginator
    records: tuple[str, ...] = ()
    single: bool = False
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    method: Literal["GET", "POST"] = "GET"
    body: Mapping[str, Any] | None = None
    format: Csv | Ndjson | None = None
    envelope: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    expand: str | None = None
    parent_as: str = "parent"
    added: Mapping[str, Any] = field(default_factory=dict)
    retry: Retry = field(default_factory=Retry)
    limits: Limits = field(default_factory=Limits)
    max_pages: int = 1_000_000
    auth: Auth | None = None
    answers: Answers = field(default_factory=Answers)
    transport: Transport = field(default_factory=Transport)
    rates: tuple[Rate, ...] = ()
    conditional: bool = True
    concurrency: int = 1

    def __post_init__(self) -> None:
        has_body = self.body is not None or getattr(self.pagination, "place", "query") == "body"
        if has_body and self.method == "GET":
            raise ConfigurationError('JsonApi sends no body with GET: declare method="POST"')
        refuse_blind(self.pagination, self.concurrency)
        looks_inside = any(getattr(self.pagination, name, ()) for name in ("cursor", "url", "total", "has_more"))
        if self.format is not None and (looks_inside or self.envelope or self.records or self.single):
            raise ConfigurationError(
                f"a response in {type(self.format).__name__} has nothing around its records: no envelope, no path to "
                "the records, and pages that lead on by a header, by numbers or by the last record"
            )

    def pages(self, cursor: Cursor | None) -> Iterator[Page]:
        return self._pages(cursor, None, None)

    def changed_pages(self, cursor: Cursor | None, recall: Recall, foresee: Foresee | None = None) -> Iterator[Page]:
        return self._pages(cursor, recall, foresee)

    def pages_at_once(
        self, cursor: Cursor | None, recall: Recall | None, *, at_once: int, max_bytes: int
    ) -> Iterator[Page]:
        exchange = Exchange(
            pagination=self.pagination, prepare=self._asking().page, open=self.client, send=partial(_send, self.method)
        )
        with SentAhead(exchange, at_once=at_once, max_bytes=max_bytes) as ahead:
            yield from self.read(ahead.tool, cursor, recall, ahead=ahead)

    def place(self) -> str:
        asked = self._asking().page(self.pagination.first())
        told: list[Any] = [asked.url, sorted(asked.params.items())]
        if self.method != "GET":
            told += [self.method, (asked.body or b"").decode()]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def definition(self) -> tuple[Any, ...]:
        # Parameters, headers, the body and the URL's query may hold secrets, and what they change shows in the bytes.
        shown = re.sub("//[^/?#]*@", "//", self.address()).partition("?")[0]
        return shown, self.records, self.pagination, self._shape()

    def with_values(self, values: Mapping[str, str | int]) -> "JsonApi":
        """Return the source with more members of its body, or where it sends none with more query parameters."""
        if self.body is not None or getattr(self.pagination, "place", "query") == "body":
            return replace(self, body=placed(self.body or {}, values))
        return replace(self, params={**self.params, **{name: str(value) for name, value in values.items()}})

    def address(self) -> str:
        """Return the URL as it is now."""
        return text_of(self.url)

    def _asking(self) -> Asking:
        # A key that is a parameter is kept out of cursors like the feed's own parameters.
        params = {**self.params, **self.auth.query()} if isinstance(self.auth, QueryAuth) else self.params
        return Asking(method=self.method, url=self.address(), params=params, body=self.body, pagination=self.pagination)

    def _shape(self) -> Shape:
        return Shape(
            records=self.records,
            single=self.single,
            format=self.format,
            envelope=self.envelope,
            expand=self.expand,
            parent_as=self.parent_as,
            added=self.added,
        )

    def client(self) -> Client:
        """Return the client of the requests."""
        return Client(
            retry=self.retry,
            limits=self.limits,
            headers=self.headers,
            answers=self.answers,
            transport=self.transport,
            rates=self.rates,
            auth=self.auth,
            origins=(self.address(),),
            secrets=secrets_in(self.params, self.body or {}),
        )

    def _revalidation(self, asking: Asking, foresee: Foresee | None) -> Revalidation | None:
        """Return what asks for pages with their validators; None where a 304 would mean nothing, or something else."""
        means_something = NOT_MODIFIED in self.answers.succeed | self.answers.empty | self.answers.retry
        has_own = any(name.lower() in CONDITIONS for name in self.headers)
        if foresee is None or not self.conditional or self.method != "GET" or means_something or has_own:
            return None
        same = fingerprint(asking.url, sorted(asking.params.items()), sorted(self.headers.items()))
        return Revalidation(foresee=foresee, same=same)

    def _pages(self, cursor: Cursor | None, recall: Recall | None, foresee: Foresee | None) -> Iterator[Page]:
        with self.client() as client:
            yield from self.read(client, cursor, recall, foresee)

    def read(
        self,
        client: Client,
        cursor: Cursor | None,
        recall: Recall | None = None,
        foresee: Foresee | None = None,
        ahead: SentAhead[Client, Asked, Response] | None = None,
    ) -> Iterator[Page]:
        """Yield the pages as `pages` does, with a client that is open, or what was sent ahead."""
        asking, shape = self._asking(), self._shape()
        revalidation = self._revalidation(asking, foresee)
        at: Cursor | None = cursor or loops.begin(self.pagination.first())
        seams = seams_of(self.pagination, is_comparable=self.expand is None)
        while at:
            asked = asking.page(at["at"])
            heard, known_total = None, None
            if ahead is not None:
                response, known_total = ahead.answer(at["at"], asked)
            elif revalidation is None:
                response = _send(self.method, client, asked)
            else:
                ask = partial(client.request, self.method, asked.url, asked.params, body=asked.body)
                response, heard = revalidation.ask(ask, asked.headers, at["pages"] + 1, at["at"])
            read = Read(
                asking=asking, shape=shape, max_pages=self.max_pages, asked=asked, response=response, at=at,
                heard=heard, known_total=known_total,
            )  # fmt: skip
            page = read.page() if recall is None else read.known_page(recall)
            page = seams.watched(page, partial(asking.shown, asked.added))
            yield page
            at = page.following


def _send(method: str, client: Client, asked: Asked) -> Response:
    return client.request(method, asked.url, asked.params, body=asked.body, headers=asked.headers or None)
