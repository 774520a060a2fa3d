"""Where records come from: each source yields pages from a cursor on. Network I/O, no database."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from ingestion.errors import RunFailed
from ingestion.http import Client, Limits, Response, Retry
from ingestion.pagination import Paginator, Received
from ingestion.types import Cursor, Page, Record

# Enough to recognise an error page; a whole payload does not belong in a message.
SHOWN_BYTES = 120

_decode_records = msgspec.json.Decoder(list[Record]).decode
_decode_object = msgspec.json.Decoder(dict[str, Record]).decode


class Source(Protocol):
    """Anything that can be read page by page and resumed at a cursor."""

    def pages(self, cursor: Cursor | None) -> Iterator[Page]:
        """Yield the pages from `cursor` on, from the start when None; holds one page.

        Raises:
            RetryLater: a transient failure outlasted its retries.
            RunFailed: the remote's answer is not what the feed expects.
        """
        ...


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
        url = self.url if isinstance(self.url, str) else self.url()
        at: Cursor | None = cursor or {"pages": 0, "at": self.pagination.first(), "digest": ""}
        with Client(retry=self.retry, limits=self.limits, headers=self.headers) as client:
            while at:
                response = client.get(url, {**self.params, **self.pagination.params(at["at"])})
                page, following = self._page(response, at)
                yield page
                at = following

    def _page(self, response: Response, at: Cursor) -> tuple[Page, Cursor | None]:
        number = at["pages"] + 1
        records = split_records(response, self.records)
        digest = hashlib.blake2b(response.body, digest_size=16).hexdigest() if records else ""
        if digest and digest == at["digest"]:
            raise RunFailed("pagination_loop", f"page {number} has the same bytes as the page before it")
        next_at = self.pagination.following(at["at"], Received(headers=response.headers, records=len(records)))
        following = {"pages": number, "at": next_at, "digest": digest} if next_at is not None else None
        if following and number >= self.max_pages:
            raise RunFailed("too_many_pages", f"no end after {number} pages")
        return Page(number=number, records=records, size_bytes=len(response.body), following=following), following


def split_records(response: Response, path: tuple[str, ...]) -> list[Record]:
    """Cut a JSON body into its records' own bytes, without decoding them.

    Raises:
        RunFailed: `not_json` when the body is no JSON document, `shape` when there is no list at `path`.
    """
    body: bytes | Record = response.body
    if response.body.startswith(b"\xef\xbb\xbf"):
        body = response.body[3:]
    try:
        for key in path:
            body = _decode_object(body)[key]
        return _decode_records(body)
    except KeyError as error:
        raise RunFailed("shape", f"no {error} on the way to the records at {'.'.join(path)}") from error
    except msgspec.ValidationError as error:
        found = bytes(body)[:SHOWN_BYTES].decode("utf-8", "replace")
        raise RunFailed(
            "shape", f"expected a list of records at {'.'.join(path) or 'the top'}: {error}; found {found!r}"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _not_json(response, error) from error


def _not_json(response: Response, error: Exception) -> RunFailed:
    content_type = response.headers.get("content-type", "no content type")
    if not response.body.strip():
        return RunFailed("not_json", f"empty body with status {response.status}")
    shown = response.body[:SHOWN_BYTES].decode("utf-8", "replace")
    return RunFailed("not_json", f"{error} ({content_type}); the body starts with {shown!r}")
