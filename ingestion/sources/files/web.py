"""Files behind URLs."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from ingestion.errors import ConfigurationError, RetryLater, RunFailed
from ingestion.http import Answered, Auth, Client, Download, Limits, Rate, TransientFailure, Transport
from ingestion.http.dates import http_date
from ingestion.sources.files.entries import ByteStream, Entry, Session, readable, version_of
from ingestion.sources.files.patterns import matcher

_BLOCK = 256 * 1024
_PART, _NO_SUCH_RANGE = 206, 416


@dataclass(frozen=True, kw_only=True)
class Web:
    """Files that are downloaded over HTTP or HTTPS, one for each URL; there is no listing.

    Args:
        urls: a URL, or a function that returns it when a run starts, or a tuple of both.
        headers: of every request. A secret is read from the environment here, never written down.
        auth: how requests prove who asks.
        transport: certificates, a proxy, redirects.
        rates: how often the remote may be asked; a file takes three requests, and one more each time it breaks.
    """

    urls: str | Callable[[], str] | tuple[str | Callable[[], str], ...]
    headers: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    auth: Auth | None = None
    transport: Transport = field(default_factory=Transport)
    rates: tuple[Rate, ...] = ()

    @contextmanager
    def session(self) -> Iterator[Session]:
        given = self.urls if isinstance(self.urls, tuple) else (self.urls,)
        urls = {}
        for url in (each() if callable(each) else each for each in given):
            name = _name_of(url)
            if name in urls:
                raise ConfigurationError(f"two URLs have the same path, {name}: they would be taken for one file")
            urls[name] = url
        with self._client(urls) as asking, self._client(urls) as reading:
            yield Urls(urls, asking, reading)

    def _client(self, urls: Mapping[str, str]) -> Client:
        return Client(
            headers=self.headers,
            limits=self.limits,
            auth=self.auth,
            transport=self.transport,
            rates=self.rates,
            origins=tuple(urls.values()),
        )


class Urls:
    """Asks with one client what it reads with another: a stream keeps its own."""

    def __init__(self, urls: Mapping[str, str], asking: Client, reading: Client) -> None:
        self._urls, self._asking, self._reading = urls, asking, reading

    def find(self, pattern: str) -> Iterator[Entry]:
        for name, url in self._urls.items():
            if not matcher(pattern).fullmatch(name):
                continue
            entry = self._entry(name, url)
            if entry is None:
                raise RunFailed("file_missing", f"{name} is not there")
            yield entry

    def look(self, entry: Entry) -> Entry | None:
        return self._entry(entry.name, entry.handle)

    def _entry(self, name: str, url: str) -> Entry | None:
        try:
            found = self._asking.head(url)
        except Answered as error:
            # Many servers know no HEAD, and addresses that are signed for GET take nothing else.
            if error.status not in (400, 403, 405, 501):
                raise
            return self._entry_of_get(name, url)
        return None if found is None else _described(name, url, found.headers)

    def _entry_of_get(self, name: str, url: str) -> Entry | None:
        """Return what the headers of a GET say; nobody reads its body, of which one byte is asked for."""
        try:
            download = self._asking.open(url, {"Range": "bytes=0-0"})
        except Answered as error:
            if error.status in (404, 410):
                return None
            # Of an empty file there is no first byte.
            if error.status == _NO_SUCH_RANGE:
                return Entry(name=name, handle=url, version="")
            raise
        download.close()
        return _described(name, url, download.headers, is_part=download.status == _PART)

    def open(self, entry: Entry, offset: int) -> ByteStream:
        headers = {}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if entry.version.startswith('"'):
                headers["If-Range"] = entry.version
        try:
            download = self._reading.open(entry.handle, headers)
        except Answered as error:
            if offset and error.status == _NO_SUCH_RANGE:
                raise RetryLater(f"{entry.name} is shorter than what was read of it") from error
            raise
        try:
            _check_part(download, entry, offset)
        except BaseException:
            download.close()
            raise
        return download

    def move(self, entry: Entry, name: str) -> None:
        raise ConfigurationError(f"{entry.name} cannot be moved to {name}: files behind URLs stay where they are")


def _check_part(download: Download, entry: Entry, offset: int) -> None:
    """Let a download begin at a byte of the file that is meant.

    Raises:
        RetryLater: it is another version of the file.
        RunFailed: `http_status`, the server sends another part.
        TransientFailure: the connection broke.
    """
    is_part = download.status == _PART
    now = _described(entry.name, entry.handle, download.headers, is_part=is_part)
    if entry.version and now.version and now.version != entry.version:
        raise RetryLater(f"{entry.name} was changed while it was read")
    if offset and not is_part:
        _skip(download, offset)
    elif offset and not download.headers.get("content-range", "").startswith(f"bytes {offset}-"):
        raise RunFailed("http_status", f"{entry.name}: the server sent another part than byte {offset} on")


def _skip(download: ByteStream, offset: int) -> None:
    """Read up to a byte of what a server without ranges sends from its start."""
    while offset > 0:
        received = download.read(min(offset, _BLOCK))
        if not received:
            raise TransientFailure("the file ended before the byte where reading goes on", blames="request")
        offset -= len(received)


def _name_of(url: str) -> str:
    try:
        path = urlsplit(url).path
    except ValueError as error:
        raise ConfigurationError(f"a URL cannot be read (not shown): {error}") from None
    return readable(unquote(path).strip("/")) or "index"


def _described(name: str, url: str, headers: Mapping[str, str], *, is_part: bool = False) -> Entry:
    """Return what a response's headers say of a file."""
    length = headers.get("content-range", "").rpartition("/")[2] if is_part else headers.get("content-length", "")
    size = int(length) if length.isascii() and length.isdigit() and len(length) < 19 else None
    modified = headers.get("last-modified")
    version = headers.get("etag") or (version_of(size, modified) if modified else "")
    return Entry(name=name, handle=url, version=version, size_bytes=size, modified_at=http_date(modified or ""))
