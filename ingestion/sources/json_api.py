"""Collections behind REST endpoints that answer JSON."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ingestion.errors import RetryLater, RunFailed
from ingestion.http import Client, Limits, Response, Retry
from ingestion.pagination import Paginator, Received
from ingestion.sources.splitting import split_records
from ingestion.types import Cursor, Page, Recall, Record, Records


@dataclass(frozen=True, kw_only=True)
class JsonApi:
    """A REST endpoint that answers JSON: a list of records, or an object with the list at `records`."""

    url: str | Callable[[], str]
    pagination: Paginator
    records: tuple[str, ...] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    retry: Retry = field(default_factory=Retry)
    limits: Limits = field(default_factory=Limits)
    max_pages: int = 1_000_000

    def pages(self, cursor: Cursor | None) -> Iterator[Page]:
        return self._pages(cursor, None)

    def changed_pages(self, cursor: Cursor | None, recall: Recall) -> Iterator[Page]:
        return self._pages(cursor, recall)

    def place(self) -> str:
        asked = {**self.params, **self.pagination.params(self.pagination.first())}
        return hashlib.sha256(json.dumps([self._url(), sorted(asked.items())]).encode()).hexdigest()

    def definition(self) -> tuple[Any, ...]:
        # Parameters, headers and the URL's query may hold secrets, and what they change shows in the bytes.
        shown = re.sub("//[^/?#]*@", "//", self._url()).partition("?")[0]
        return shown, self.records, self.pagination

    def _url(self) -> str:
        return self.url if isinstance(self.url, str) else self.url()

    def _pages(self, cursor: Cursor | None, recall: Recall | None) -> Iterator[Page]:
        url = self._url()
        at: Cursor | None = cursor or {"pages": 0, "at": self.pagination.first(), "digest": "", "mark": ""}
        with Client(retry=self.retry, limits=self.limits, headers=self.headers) as client:
            while at:
                params = self.pagination.params(at["at"])
                response = client.get(url, {**self.params, **params})
                page = self._page(response, at) if recall is None else self._known_page(response, at, params, recall)
                yield page
                at = page.following

    def _known_page(self, response: Response, at: Cursor, params: Mapping[str, str], recall: Recall) -> Page:
        """Return the page without its records where it is as it was remembered."""
        digest = _digest_of_response(response, params)
        remembered = recall(at["pages"] + 1, digest)
        if remembered is None:
            return replace(self._page(response, at), digest=digest)
        following = self._following(response, at, remembered.records, remembered.note)
        return Page(
            number=remembered.number,
            records=(),
            size_bytes=len(response.body),
            following=following,
            digest=digest,
            note=remembered.note,
            unchanged=remembered,
            reread=lambda: replace(self._page(response, at), digest=digest),
        )

    def _page(self, response: Response, at: Cursor) -> Page:
        records = _records(response, self.records)
        digest = _digest(records)
        following = self._following(response, at, len(records), digest)
        return Page(
            number=at["pages"] + 1, records=records, size_bytes=len(response.body), following=following, note=digest
        )

    def _following(self, response: Response, at: Cursor, records: int, digest: str) -> Cursor | None:
        """Return the cursor after a page of so many records with that digest."""
        number = at["pages"] + 1
        _refuse_loop(at, number, digest)
        next_at = self.pagination.following(at["at"], Received(headers=response.headers, records=records))
        if next_at is None:
            return None
        if number >= self.max_pages:
            raise RunFailed("too_many_pages", f"no end after {number} pages")
        mark = digest if _is_marked(number) else at["mark"]
        return {"pages": number, "at": next_at, "digest": digest, "mark": mark}


def _digest_of_response(response: Response, params: Mapping[str, str]) -> bytes:
    """Digest what was asked for, and all of the response that decides about its records."""
    asked = json.dumps([sorted(params.items()), response.headers.get("content-type", "")]).encode()
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
    marked = 1 << max(number - 1, 1).bit_length() - 1
    for earlier, seen in ((number - 1, at["digest"]), (marked, at["mark"])):
        if digest and digest == seen:
            raise RunFailed("pagination_loop", f"page {number} has the same records as page {earlier}")


def _is_marked(number: int) -> bool:
    return number & (number - 1) == 0


def _records(response: Response, path: tuple[str, ...]) -> Sequence[Record]:
    try:
        return split_records(response, path)
    except RunFailed as error:
        if response.is_delimited or error.code != "not_json":
            raise
        raise RetryLater(f"the connection ended within the response: {error}") from error
