"""Serve a deterministic photo collection over HTTP, shaped like JSONPlaceholder: `python -m photos.sample_api`.

Answers `/photos`, `/albums`, one record of each by id, and `/healthz`, with the paging parameters (`_page`, `_limit`),
the headers and the page layout of json-server 0.x (checked against the npm package jsonplaceholder 0.3.3). Read-only;
every other parameter is ignored. Where json-server guesses (`_page=abc` is page 1), this server answers 400, so that a
wrong client notices.

Standard library only and no Django: it has to start before the project is configured.
"""

import argparse
import asyncio
import hashlib
import json
import re
import sys
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus
from math import ceil

from photos.sample_http import Request, Response, error_response, serve
from photos.sample_records import PHOTOS, Collection, collections, photo

__all__ = ["photo"]

DEFAULT_LIMIT = 10  # json-server's page size when only _page is given

# Listings up to this many records are built whole, with Content-Length and ETag; longer ones ("everything" of a big
# collection) are streamed, so that the server's memory does not grow with the collection.
WHOLE_RECORDS = 10_000

_RECORD_PATH = re.compile(r"(/[a-z]+)/([0-9]{1,18})")
_COUNT = re.compile(r"0{0,9}[1-9][0-9]{0,17}")  # bounded: int() refuses thousands of digits


class PageCache:
    """Keep the pages asked for last, up to a number of bytes."""

    _ENTRY_BYTES = 500  # what a page costs besides its body: key, tag, dict entry (430 by tracemalloc)

    def __init__(self, limit_bytes: int) -> None:
        self._pages: OrderedDict[tuple[str, range], tuple[bytes, str]] = OrderedDict()
        self._limit_bytes = limit_bytes
        self._size_bytes = 0

    def page(self, path: str, collection: Collection, ids: range) -> tuple[bytes, str]:
        """Return the page of these records and its ETag."""
        page = self._pages.pop((path, ids), None)
        if page is None:
            body = collection.write_list(ids)
            page = body, entity_tag(body)
            self._size_bytes += len(body) + self._ENTRY_BYTES
        self._pages[path, ids] = page
        while self._size_bytes > self._limit_bytes:
            _, (oldest, _) = self._pages.popitem(last=False)
            self._size_bytes -= len(oldest) + self._ENTRY_BYTES
        return page


def entity_tag(body: bytes) -> str:
    """Return the weak ETag of a body in the form that json-server's framework gives it."""
    return f'W/"{len(body):x}-{hashlib.sha1(body, usedforsecurity=False).hexdigest()}"'


def links(request: Request, *, page: int, limit: int, total: int) -> str:
    """Write the Link header: empty, as json-server writes it, for a page that is out of range or the only one."""
    last = ceil(total / limit)
    if page > last or last == 1:
        return ""
    pages = {"first": 1, "prev": page - 1, "next": page + 1, "last": last}
    base = f"http://{request.headers['host']}{request.path}"
    return ", ".join(
        f'<{base}?{re.sub("(?<![^&])_page=[^&]*", f"_page={number}", request.query, count=1)}>; rel="{rel}"'
        for rel, number in pages.items()
        if 1 <= number <= last
    )


class SampleApi:
    """Answer requests out of the sample collections; no I/O."""

    def __init__(self, *, photos: int, cache_bytes: int) -> None:
        self._collections = collections(photos)
        self._cache = PageCache(cache_bytes)

    def answer(self, request: Request) -> Response:
        """Answer one request; reads no body."""
        if request.method not in {"GET", "HEAD"}:
            return error_response(HTTPStatus.METHOD_NOT_ALLOWED, "this API is read-only")
        path = request.path.removesuffix("/")
        if path == "/healthz":
            return Response(body=b'{"status": "ok"}')
        if path in self._collections:
            return self._list(request, path)
        record = _RECORD_PATH.fullmatch(path)
        if record and record[1] in self._collections:
            collection, number = self._collections[record[1]], int(record[2])
            if 1 <= number <= collection.total:
                body = json.dumps(collection.record(number), indent=2).encode()
                return _conditional(request, body, entity_tag(body))
        return Response(status=HTTPStatus.NOT_FOUND, body=b"{}")

    def _list(self, request: Request, path: str) -> Response:
        collection = self._collections[path]
        total = collection.total
        parameters = dict(reversed([part.partition("=")[::2] for part in request.query.split("&")]))  # the first wins
        page, limit = parameters.get("_page"), parameters.get("_limit")
        for name, value in (("_page", page), ("_limit", limit)):
            if value is not None and not _COUNT.fullmatch(value):
                return error_response(HTTPStatus.BAD_REQUEST, f"{name} must be a whole number from 1")
        size = int(limit) if limit else DEFAULT_LIMIT if page else total
        headers = [("X-Total-Count", str(total))] if page or limit else []
        if page:
            headers.append(("Link", links(request, page=int(page), limit=size, total=total)))
        start = (int(page or 1) - 1) * size
        ids = range(1, total + 1)[start : start + size]
        if len(ids) > WHOLE_RECORDS:
            return Response(headers=tuple(headers), body=collection.stream_list(ids))
        return _conditional(request, *self._cache.page(path, collection, ids), *headers)


def _conditional(request: Request, body: bytes, tag: str, *headers: tuple[str, str]) -> Response:
    """Answer 304 without a body when the client already has this one (RFC 9110, 13.1.2: weak comparison)."""
    headers = (*headers, ("ETag", tag), ("Cache-Control", "no-cache"))
    known = {known.strip().removeprefix("W/") for known in request.headers.get("if-none-match", "").split(",")}
    if known & {"*", tag.removeprefix("W/")}:
        return Response(status=HTTPStatus.NOT_MODIFIED, headers=headers, body=b"")
    return Response(headers=headers, body=body)


def _whole_number(low: int, high: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"must be from {low} to {high}")
        return int(text)

    return number


def main(arguments: list[str] | None = None) -> int:
    """Run the server; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m photos.sample_api", description="Serve sample photos over HTTP.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_whole_number(0, 65535), default=8001, help="0: any free one (default: 8001)")
    parser.add_argument("--photos", type=_whole_number(0, 10**12), default=PHOTOS, help="default: %(default)s")
    parser.add_argument(
        "--cache-mb",
        type=_whole_number(0, 10**6),
        default=32,
        help="memory for pages already written, in MiB; 1,000 photos take 0.2 (default: %(default)s)",
    )
    parser.add_argument(
        "--delay-ms", type=_whole_number(0, 60_000), default=0, help="wait so long before each answer (default: none)"
    )
    options = parser.parse_args(arguments)
    api = SampleApi(photos=options.photos, cache_bytes=options.cache_mb << 20)
    try:
        delay_seconds = options.delay_ms / 1000
        asyncio.run(serve(api.answer, host=options.host, port=options.port, delay_seconds=delay_seconds))
    except OSError as error:
        print(f"Cannot listen on {options.host}:{options.port}: {error.strerror}", file=sys.stderr)  # noqa: T201 (a program)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
