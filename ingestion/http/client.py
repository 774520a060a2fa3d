"""The HTTP client: the one module that knows httpx. Fetches one response whole, or says why not."""

import re
import socket
import ssl
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote, urlencode, urljoin, urlsplit

import httpx
import stamina
import structlog

from ingestion.errors import ConfigurationError, RetryLater, RunFailed
from ingestion.http import coding
from ingestion.http.budgets import Budget
from ingestion.http.deadlines import Watchdog
from ingestion.http.network import Network
from ingestion.http.origins import check_redirect, origin_of
from ingestion.http.values import (
    Answers,
    Auth,
    Limits,
    Meaning,
    Rate,
    Request,
    Response,
    Retry,
    Signer,
    TransientFailure,
    Transport,
)
from ingestion.http.waiting import backoff, retry_after

log = structlog.get_logger(__name__)

T = TypeVar("T")

# RFC 9110, 5.5. Header values are often secrets read from files: with the newline at the file's end they are refused.
_HEADER_VALUE: Final = re.compile(r"([!-~]([ -~\t]*[!-~])?)?")
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
# Below this a body may be what it likes: a page of spaces or of equal records is compressed well.
_RATIO_BYTES: Final = 4 * 1024 * 1024
# Different URLs that are remembered: few in most feeds, a new one for each page where the remote makes them.
_MOST_BASES: Final = 100
_USER_AGENT: Final = "ingestion-worker"


class _Refused(RunFailed):
    """The remote does not take the credentials."""


class _Redirected(Exception):
    def __init__(self, status: int, location: str) -> None:
        super().__init__(status)
        self.status, self.location = status, location


@dataclass(kw_only=True)
class Client:
    """Fetch from one remote with keep-alive; use as a context manager, from one thread.

    Args:
        origins: URLs of the remote; headers and credentials go to their origins only, and other origins are refused
            unless the transport allows them. Empty for whatever is asked for.
    """

    retry: Retry = field(default_factory=Retry)
    limits: Limits = field(default_factory=Limits)
    headers: Mapping[str, str] = field(default_factory=dict)
    answers: Answers = field(default_factory=Answers)
    transport: Transport = field(default_factory=Transport)
    auth: Auth | None = None
    origins: tuple[str, ...] = ()
    rates: tuple[Rate, ...] = ()

    def __post_init__(self) -> None:
        self._bases: dict[tuple[str, ...], tuple[str, str, bool]] = {}
        self._signer: Signer | None = None

    def __enter__(self) -> Self:
        for name, value in self.headers.items():
            if not _HEADER_VALUE.fullmatch(value):
                raise ConfigurationError(
                    f"the header {name} has a value that cannot be sent (not shown): it must be ASCII, without spaces "
                    "or newlines around it"
                )
        self._own_origins = frozenset(map(origin_of, self.origins))
        self._network = Network(trusted=urlsplit(self.transport.proxy).hostname or "")
        self._wire = self._wired()
        self._httpx = self._httpx_client({"User-Agent": _USER_AGENT, **self.headers})
        # For other origins: it has none of the feed's headers.
        self._stranger = self._httpx_client({"User-Agent": _USER_AGENT})
        self._watchdog = Watchdog(self.limits.deadline, self._hang_up)
        self._budget = Budget(self.rates, self.limits.deadline)
        if self.auth is not None:
            self._signer = self.auth.signer(self._send_unsigned)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watchdog.stop()
        self._httpx.close()

    def _wired(self) -> httpx.HTTPTransport:
        given = self.transport
        try:
            tls = _tls_context(given.ca_file, given.certificate_file, given.key_file)
            transport = httpx.HTTPTransport(verify=tls, trust_env=False, proxy=given.proxy or None)
        except (OSError, ValueError, ImportError) as error:
            raise ConfigurationError(
                f"the transport's certificates or proxy cannot be used ({type(error).__name__})"
            ) from None
        # It takes no backend of its own, and only it turns the exceptions of its connections into httpx's.
        transport._pool._network_backend = self._network  # noqa: SLF001
        return transport

    def _httpx_client(self, headers: Mapping[str, str]) -> httpx.Client:
        return httpx.Client(
            transport=self._wire,
            headers={"Accept-Encoding": coding.ACCEPTED, **headers},
            timeout=httpx.Timeout(self.limits.silence.total_seconds(), connect=self.limits.connect.total_seconds()),
            trust_env=False,
            follow_redirects=False,
        )

    def get(self, url: str, params: Mapping[str, str]) -> Response:
        """Return the whole response of a successful GET, as `request` does.

        Raises:
            RetryLater, RunFailed, ConfigurationError: as `request`.
        """
        return self.request("GET", url, params)

    def request(  # noqa: PLR0913 - what a request is made of
        self,
        method: str,
        url: str,
        params: Mapping[str, str],
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        answers: Collection[int] = (),
    ) -> Response:
        """Return the whole response of a successful request, after as many tries as `retry` allows.

        `params` are added to the URL's own query, `headers` to the client's. Each method is tried again, POST as well:
        whoever asks so knows that asking twice does no harm. Statuses in `answers` are no failures: what they mean is
        in their body.

        Raises:
            RetryLater: every try failed, or the remote asked to wait longer than a worker should sleep.
            RunFailed: the remote refused the request; a retry would not help.
            ConfigurationError: the URL cannot be requested.
        """
        target, where, is_own = self._target(method, url, params)
        request = Request(method=method, url=target, headers=headers or {}, body=body)
        tried = 0
        tries = stamina.retry_context(
            on=backoff,
            attempts=self.retry.attempts,
            timeout=None,
            wait_initial=self.retry.wait_initial,
            wait_max=self.retry.wait_max,
        )
        try:
            for attempt in tries:
                tried = attempt.num
                with attempt:
                    return self._ask(request, where, is_own, lambda response, _: self._whole(response, where, answers))
        except TransientFailure as failure:
            raise RetryLater(f"{failure} ({tried} {'try' if tried == 1 else 'tries'})", wait=failure.wait) from failure
        raise AssertionError("stamina ends with a value or an exception")

    def head(self, url: str) -> Response | None:
        """Return what the remote says of a document now, without it; None when it is gone. Asks once.

        Raises:
            TransientFailure: it cannot be asked now.
            RunFailed: the remote refused the request.
            ConfigurationError: the URL cannot be requested.
        """

        def read(response: httpx.Response, _: ExitStack) -> Response | None:
            if response.status_code in (httpx.codes.NOT_FOUND, httpx.codes.GONE):
                return None
            self._check_raw(response, where, is_part=False)
            return Response(status=response.status_code, headers=_headers(response), body=b"")

        target, where, is_own = self._target("HEAD", url, {})
        request = Request(method="HEAD", url=target, headers={"Accept-Encoding": "identity"})
        return self._ask(request, where, is_own, read)

    def open(self, url: str, headers: Mapping[str, str]) -> "Download":
        """Return the body of a successful GET as a stream, or the part of it that `headers` ask for. Asks once.

        What `limits.body_bytes` says does not count: whoever reads it decides. Close it before the next request.

        Raises:
            TransientFailure, RunFailed, ConfigurationError: as `head`.
        """

        def read(response: httpx.Response, stack: ExitStack) -> Download:
            self._check_raw(response, where, is_part="Range" in headers)
            return Download(client=self, response=response, where=where, stack=stack.pop_all())

        target, where, is_own = self._target("GET", url, {})
        request = Request(method="GET", url=target, headers={"Accept-Encoding": "identity", **headers})
        return self._ask(request, where, is_own, read)

    def _target(self, method: str, url: str, params: Mapping[str, str]) -> tuple[str, str, bool]:
        """Return the URL with the parameters in place of its own of these names, and the request as messages show it.

        With them, whether it is the feed's own remote. From page to page only the values change; httpx would read and
        write the whole URL again each time.
        """
        key = (method, url, *params)
        if key not in self._bases:
            where = f"{method} {_shown(url)}"
            with _translated(where):
                base = httpx.URL(url).copy_with(fragment=None)
                for name in params:
                    base = base.copy_remove_param(name)
            if len(self._bases) >= _MOST_BASES:
                self._bases.clear()
            # Without params the URL stays as it was written.
            self._bases[key] = (str(base) if params else url, where, self._is_own(url, where))
        base_url, where, is_own = self._bases[key]
        if not params:
            return base_url, where, is_own
        return f"{base_url}{'&' if '?' in base_url else '?'}{urlencode(params, quote_via=quote)}", where, is_own

    def _is_own(self, url: str, where: str) -> bool:
        """Whether a URL gets the feed's headers and credentials.

        Raises:
            RunFailed: it gets no request at all.
        """
        origin = origin_of(url)
        if not self._own_origins or origin in self._own_origins:
            return True
        if origin in map(origin_of, self.transport.other_origins):
            return False
        raise RunFailed("foreign_origin", f"{where} is none of {', '.join(sorted(self._own_origins))}")

    def _ask(self, request: Request, where: str, is_own: bool, read: Callable[[httpx.Response, ExitStack], T]) -> T:
        """Return what `read` makes of the response; refused credentials are made anew once."""
        try:
            return self._follow(request, where, is_own, read)
        except _Refused:
            if not is_own or self._signer is None or not self._signer.renew():
                raise
        return self._follow(request, where, is_own, read)

    def _follow(self, request: Request, where: str, is_own: bool, read: Callable[[httpx.Response, ExitStack], T]) -> T:
        """Send a request, and go where redirects lead, as far as the transport allows."""
        first = request
        for _ in range(self.transport.redirects + 1):
            signed = self._signer.sign(request) if is_own and self._signer is not None else request
            try:
                if not self.rates:
                    return self._once(signed, where, is_own, read)
                with self._budget.spent():
                    return self._once(signed, where, is_own, read)
            except _Redirected as redirect:
                url = urljoin(request.url, redirect.location)
                origin = check_redirect(request.url, url, self.transport.other_origins, self._own_origins, where)
                is_own = origin == origin_of(first.url) or origin in self._own_origins
                request = _redirected(request, redirect.status, url, is_own=is_own)
        raise RunFailed("redirect", f"{where}: more than {self.transport.redirects} redirects")

    def _once(
        self,
        request: Request,
        where: str,
        is_own: bool,
        read: Callable[[httpx.Response, ExitStack], T],
        *,
        follows: bool = True,
    ) -> T:
        client = self._httpx if is_own else self._stranger
        stream = client.stream(request.method, request.url, content=request.body, headers=request.headers or None)
        with self._deadline(where), _translated(where), ExitStack() as stack:
            response = stack.enter_context(stream)
            if (
                follows
                and self.transport.redirects
                and response.status_code in _REDIRECTS
                and "Location" in response.headers
            ):
                raise _Redirected(response.status_code, response.headers["Location"])
            return read(response, stack)

    def _send_unsigned(self, request: Request) -> Response:
        """Send a request once without the feed's headers and credentials; return whatever whole response comes.

        Raises:
            TransientFailure: none comes, or it is one of those that may pass.
            RunFailed, ConfigurationError: as `request`.
        """

        def read(response: httpx.Response, _: ExitStack) -> Response:
            if response.status_code in self.answers.retry:
                raise TransientFailure(_said(where, response), wait=retry_after(response.headers.get("Retry-After")))
            return self._received(response, where)

        where = f"{request.method} {_shown(request.url)}"
        return self._once(request, where, False, read, follows=False)

    def _whole(self, response: httpx.Response, where: str, answers: Collection[int]) -> Response:
        meaning = "succeed" if response.status_code in answers else self.answers.meaning(response.status_code)
        if meaning == "empty":
            return Response(status=response.status_code, headers=_headers(response), body=b"", is_empty=True)
        _check(meaning, response, where)
        received = self._received(response, where)
        if self.answers.body is not None and (meaning := self.answers.body(received) or "succeed") != "succeed":
            if meaning == "empty":
                return replace(received, body=b"", is_empty=True)
            _check(meaning, response, f"{where} (by its body)")
        return received

    def _received(self, response: httpx.Response, where: str) -> Response:
        started = time.monotonic()
        headers = _headers(response)
        # Before the body is read: one that is not kept alive is gone from the pool afterwards.
        connections = self._wire._pool.connections  # noqa: SLF001 - nobody else knows what follows a body
        body = b"".join(self._parts(response, where, headers.get("content-encoding", ""), started))
        # It would be taken for the next response.
        if any(map(_trailing_data, connections)):
            raise TransientFailure(f"{where}: there is more behind the end of the response")
        log.debug("fetched", request=where, size_bytes=len(body), seconds=round(time.monotonic() - started, 3))
        is_delimited = "content-length" in headers or "transfer-encoding" in headers
        return Response(status=response.status_code, headers=headers, body=body, is_delimited=is_delimited)

    def _parts(self, response: httpx.Response, where: str, encoding: str, started: float) -> Iterator[bytes]:
        received = _Received(self.limits, where, started)
        parts = received.counted(response.iter_raw())
        if encoding in ("", "identity"):
            return parts
        try:
            return received.decoded(coding.decoded(parts, encoding))
        except coding.UnknownCoding:
            raise RunFailed(
                "content_encoding",
                f"{where} answered in {encoding[:40]!r} although only {coding.ACCEPTED} was accepted",
            ) from None

    def _check_raw(self, response: httpx.Response, where: str, *, is_part: bool) -> None:
        """Raise what a status means for a body that is handed on as it comes."""
        _check(self.answers.meaning(response.status_code, is_part=is_part), response, where)
        encoding = response.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in ("", "identity", "gzip", "x-gzip"):
            raise RunFailed(
                "content_encoding", f"{where} answered in {encoding[:40]!r} although only identity was accepted"
            )

    @contextmanager
    def _deadline(self, where: str) -> Iterator[None]:
        """Give a response up that takes too long, whether headers or body trickle."""
        self._watchdog.watch()
        try:
            yield
        except TransientFailure:
            if not self._watchdog.has_barked:
                raise
        finally:
            self._watchdog.rest()
        # A body whose end is the connection's end looks complete after a shutdown.
        if self._watchdog.has_barked:
            raise TransientFailure(f"{where}: not complete after {self.limits.deadline.total_seconds():g} s")

    def _hang_up(self) -> None:
        if self._network.socket is not None:
            with suppress(OSError):  # it was closed in the meantime
                # Not the TLS socket's own method, which is not made for being called from another thread.
                socket.socket.shutdown(self._network.socket, socket.SHUT_RDWR)


class _Received:
    """Counts what one response costs."""

    def __init__(self, limits: Limits, where: str, started: float) -> None:
        self._limits, self._where, self._started = limits, where, started
        self._silence = limits.silence.total_seconds()
        self._size = 0

    def counted(self, parts: Iterator[bytes]) -> Iterator[bytes]:
        limits = self._limits
        for part in parts:
            self._size += len(part)
            if self._size > limits.body_bytes:
                self._refuse_size()
            seconds = time.monotonic() - self._started
            if seconds > self._silence and self._size < limits.bytes_per_second * seconds:
                raise TransientFailure(
                    f"{self._where}: {self._size} bytes in {seconds:.0f} s are fewer than {limits.bytes_per_second} a "
                    "second"
                )
            yield part

    def decoded(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        size = 0
        try:
            for piece in pieces:
                size += len(piece)
                if size > self._limits.body_bytes:
                    self._refuse_size()
                if size > max(_RATIO_BYTES, self._limits.ratio * self._size):
                    raise RunFailed(
                        "compression_ratio", f"{self._where}: {self._size} bytes became more than {size} bytes"
                    )
                yield piece
        except coding.Damaged as error:
            raise TransientFailure(f"{self._where}: {error}") from error

    def _refuse_size(self) -> None:
        raise RunFailed("response_too_large", f"{self._where}: more than {self._limits.body_bytes} bytes")


class Download:
    """A response's body as it arrives. Each `read` has the whole deadline of the client's limits."""

    def __init__(self, *, client: Client, response: httpx.Response, where: str, stack: ExitStack) -> None:
        self._client, self._where, self._stack = client, where, stack
        self.status = response.status_code
        self.headers = {name.lower(): value for name, value in response.headers.items()}
        self._parts = response.iter_raw()
        self._left = b""

    def read(self, size: int = -1, /) -> bytes:
        """Return the next `size` bytes, fewer at the end.

        Raises:
            TransientFailure: the connection broke, or the remote is too slow.
        """
        pieces, length = [self._left], len(self._left)
        with self._client._deadline(self._where), _translated(self._where):  # noqa: SLF001 - it is the client's
            while size < 0 or length < size:
                part = next(self._parts, b"")
                if not part:
                    break
                pieces.append(part)
                length += len(part)
        received = b"".join(pieces)
        self._left = received[size:] if size >= 0 else b""
        return received[:size] if size >= 0 else received

    def close(self) -> None:
        with suppress(httpx.HTTPError):
            self._stack.close()


@contextmanager
def _translated(where: str) -> Iterator[None]:
    """Turn httpx's exceptions into the engine's. What is wrong with a URL or a header would show parts of it."""
    try:
        yield
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError, UnicodeError) as error:
        raise ConfigurationError(
            f"{where}: it cannot be requested ({type(error).__name__}); expected http://host/path or https://host/path"
        ) from None
    except httpx.TransportError as error:
        raise TransientFailure(f"{where}: {type(error).__name__}: {error}") from error


def _check(meaning: Meaning, response: httpx.Response, where: str) -> None:
    """Raise what a response means unless it is a good one."""
    if meaning == "retry":
        raise TransientFailure(_said(where, response), wait=retry_after(response.headers.get("Retry-After")))
    if meaning == "refresh":
        raise _Refused("http_status", _said(where, response))
    if meaning == "fail":
        raise RunFailed("http_status", _said(where, response))


def _said(where: str, response: httpx.Response) -> str:
    return f"{where} answered {response.status_code} {response.reason_phrase}".strip()


def _headers(response: httpx.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def _redirected(request: Request, status: int, url: str, *, is_own: bool) -> Request:
    """Return the request that follows a redirect (RFC 9110, 15.4): only 307 and 308 keep method and body."""
    if status in (307, 308) and is_own:
        return replace(request, url=url)
    if request.method not in ("GET", "HEAD") and status in (307, 308):
        raise RunFailed("redirect", "a body is not sent on to another origin")
    method = request.method if request.method in ("GET", "HEAD") else "GET"
    return Request(method=method, url=url, headers=request.headers if is_own else {})


def _trailing_data(connection: Any) -> bytes:
    """Return what h11 has received beyond the end of a response."""
    while connection is not None and not hasattr(connection, "_h11_state"):
        connection = getattr(connection, "_connection", None)
    return b"" if connection is None else bytes(connection._h11_state.trailing_data[0])  # noqa: SLF001


@lru_cache(maxsize=8)
def _tls_context(ca_file: str, certificate_file: str, key_file: str) -> ssl.SSLContext:
    """Return the settings of TLS, which take 20 ms to make and are made once."""
    context = httpx.create_ssl_context(trust_env=False)
    if ca_file:
        context.load_verify_locations(ca_file)
    if certificate_file:
        context.load_cert_chain(certificate_file, key_file or None)
    return context


def _shown(url: str) -> str:
    """Return the URL without user info and query: those may hold secrets."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return "(unreadable URL)"
    # Without a scheme, user info passes for one.
    if parsed.scheme not in ("http", "https") or not parsed.host:
        return "(no HTTP URL)"
    return str(parsed.copy_with(username=None, password=None, query=None, fragment=None))
