"""Collections behind REST endpoints that answer JSON."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import msgspec

from ingestion.errors import ConfigurationError, RetryLater, RunFailed
from ingestion.http import Answers, Auth, Client, Limits, Response, Retry, Transport
from ingestion.pagination import Paginator, Received
from ingestion.sources.asking import Asked, Asking
from ingestion.sources.splitting import split_records, value_at
from ingestion.types import Cursor, Page, Recall, Record, Records


@dataclass(frozen=True, kw_only=True)
class JsonApi:
    """A REST endpoint that answers JSON: a list of records, or an object with the list at `records`.

    Args:
        body: the JSON of a POST; what the paginator adds with `place="body"` is put into it.
    """

    url: str | Callable[[], str]
    pagination: Paginator
    records: tuple[str, ...] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    method: Literal["GET", "POST"] = "GET"
    body: Mapping[str, Any] | None = None
    retry: Retry = field(default_factory=Retry)
    limits: Limits = field(default_factory=Limits)
    max_pages: int = 1_000_000
    auth: Auth | None = None
    answers: Answers = field(default_factory=Answers)
    transport: Transport = field(default_factory=Transport)

    def __post_init__(self) -> None:
        has_body = self.body is not None or getattr(self.pagination, "place", "query") == "body"
        if has_body and self.method == "GET":
            raise ConfigurationError('JsonApi sends no body with GET: declare method="POST"')

    def pages(self, cursor: Cursor | None) -> Iterator[Page]:
        return self._pages(cursor, None)

    def changed_pages(self, cursor: Cursor | None, recall: Recall) -> Iterator[Page]:
        return self._pages(cursor, recall)

    def place(self) -> str:
        asked = self._asking().page(self.pagination.first())
        told: list[Any] = [asked.url, sorted(asked.params.items())]
        if self.method != "GET":
            told += [self.method, (asked.body or b"").decode()]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def definition(self) -> tuple[Any, ...]:
        # Parameters, headers, the body and the URL's query may hold secrets, and what they change shows in the bytes.
        shown = re.sub("//[^/?#]*@", "//", self._url()).partition("?")[0]
        return shown, self.records, self.pagination

    def _url(self) -> str:
        return self.url if isinstance(self.url, str) else self.url()

    def _asking(self) -> Asking:
        return Asking(
            method=self.method, url=self._url(), params=self.params, body=self.body, pagination=self.pagination
        )

    def _pages(self, cursor: Cursor | None, recall: Recall | None) -> Iterator[Page]:
        asking = self._asking()
        at: Cursor | None = cursor or {"pages": 0, "at": self.pagination.first(), "digest": "", "mark": ""}
        with self._client(asking.url) as client:
            while at:
                asked = asking.page(at["at"])
                response = client.request(
                    self.method, asked.url, asked.params, body=asked.body, headers=asked.headers or None
                )
                read = _Read(source=self, asking=asking, asked=asked, response=response, at=at)
                page = read.page() if recall is None else read.known_page(recall)
                yield page
                at = page.following

    def _client(self, url: str) -> Client:
        return Client(
            retry=self.retry,
            limits=self.limits,
            headers=self.headers,
            answers=self.answers,
            transport=self.transport,
            auth=self.auth,
            origins=(url,),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Read:
    """A page that was received: what was asked for, and what came."""

    source: JsonApi
    asking: Asking
    asked: Asked
    response: Response
    at: Cursor

    def known_page(self, recall: Recall) -> Page:
        """Return the page without its records where it is as it was remembered."""
        if self.response.is_empty:
            return self.page()
        digest = _digest_of_response(self.response, self.asked.added)
        remembered = recall(self.at["pages"] + 1, digest)
        if remembered is None:
            return replace(self.page(), digest=digest)
        return Page(
            number=remembered.number,
            records=(),
            size_bytes=len(self.response.body),
            following=self._following(remembered.records, remembered.note, None),
            digest=digest,
            note=remembered.note,
            unchanged=remembered,
            reread=lambda: replace(self.page(), digest=digest),
        )

    def page(self) -> Page:
        if self.response.is_empty:
            return Page(number=self.at["pages"] + 1, records=(), size_bytes=0, following=None)
        records = _records(self.response, self.source.records)
        digest = _digest(records)
        return Page(
            number=self.at["pages"] + 1,
            records=records,
            size_bytes=len(self.response.body),
            following=self._following(len(records), digest, records),
            note=digest,
        )

    def _following(self, count: int, digest: str, records: Sequence[Record] | None) -> Cursor | None:
        """Return the cursor after a page of so many records with that digest."""
        at, number = self.at, self.at["pages"] + 1
        try:
            _refuse_loop(at, number, digest)
            next_at = self.source.pagination.following(at["at"], self._received(count, records))
            _refuse_too_many(next_at, number, self.source.max_pages)
        except RunFailed as failure:
            raise self._with_proof(failure, number) from failure
        if next_at is None:
            return None
        is_marked = _is_marked(number)
        return {
            "pages": number,
            "at": next_at,
            "digest": digest,
            "mark": digest if is_marked else at["mark"],
            "before": at["at"],
            "marked": at["at"] if is_marked else at.get("marked"),
        }

    def _received(self, count: int, records: Sequence[Record] | None) -> Received:
        return Received(
            headers=self.response.headers,
            records=count,
            value=partial(value_at, self.response),
            last=partial(_last, self, records),
            url=self.asked.url,
            origin=self.asking.url,
            own=self.asking.own,
        )

    def _with_proof(self, failure: RunFailed, number: int) -> RunFailed:
        """Return the failure with the requests that prove it: this page's, and the earlier one's."""
        before = self.at.get("marked" if f"page {_marked(number)}" in failure.message else "before")
        shown = [self.asking.shown(self.asked.added)]
        if before is not None:
            shown.append(self.asking.shown(self.asking.page(before).added))
        return failure.proven_by("; before: ".join(shown))


def _last(read: _Read, records: Sequence[Record] | None) -> Any:
    """Return the last record, decoded; None where there is none, or where it is no JSON."""
    records = _records(read.response, read.source.records) if records is None else records
    try:
        return msgspec.json.decode(bytes(records[-1])) if records else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _digest_of_response(response: Response, added: Mapping[str, Any]) -> bytes:
    """Digest what was asked for, and all of the response that decides about its records."""
    asked = json.dumps([sorted(added.items()), response.headers.get("content-type", "")]).encode()
    digest = hashlib.sha256(b"%d %b" % (len(asked), asked))
    digest.update(response.body)
    return digest.digest()


def _digest(records: Sequence[Record]) -> str:
    """Digest the records alone: what is around them often holds a time or a request's number."""
    if not records:
        return ""
    # SHA-256 has instructions of its own on today's processors: half the time of BLAKE2 there.
    return hashlib.sha256(records.text if isinstance(records, Records) else b",".join(records)).hexdigest()[:32]


def _refuse_loop(at: Cursor, number: int, digest: str) -> None:
    """Compare a page with the one before it and with a marked one.

    Pages 1, 2, 4, 8 … are marked in turn, which finds a loop of any length within three rounds, with one digest in the
    cursor (Brent's algorithm).
    """
    for earlier, seen in ((number - 1, at["digest"]), (_marked(number), at["mark"])):
        if digest and digest == seen:
            raise RunFailed("pagination_loop", f"page {number} has the same records as page {earlier}")


def _refuse_too_many(following: Cursor | None, number: int, most: int) -> None:
    if following is not None and number >= most:
        raise RunFailed("too_many_pages", f"no end after {number} pages")


def _marked(number: int) -> int:
    """Return the last marked page before this one."""
    return 1 << max(number - 1, 1).bit_length() - 1


def _is_marked(number: int) -> bool:
    return number & (number - 1) == 0


def _records(response: Response, path: tuple[str, ...]) -> Sequence[Record]:
    try:
        return split_records(response, path)
    except RunFailed as error:
        if response.is_delimited or error.code != "not_json":
            raise
        raise RetryLater(f"the connection ended within the response: {error}") from error
