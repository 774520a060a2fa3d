"""The HTTP client: the one module that knows httpx. Fetches one response whole, or says why not."""

import re
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote, urlencode

import httpx
import stamina
import structlog

from ingestion.errors import ConfigurationError, IngestionError, RetryLater, RunFailed

log = structlog.get_logger(__name__)

# RFC 9110 and 6585: the statuses that say "not now" rather than "no". Proxies and CDNs have many more 5xx of their own.
TRANSIENT_STATUSES: Final = frozenset({408, 425, 429, *range(500, 600)})
# A remote that asks for more than this is waited for without a worker.
LONGEST_SLEEP: Final = timedelta(minutes=1)
# The longest that a remote is believed; mistaken clocks and dates in the year 9999 are common.
LONGEST_WAIT: Final = timedelta(days=1)
# RFC 9110, 5.5. Header values are often secrets read from files: with the newline at the file's end they are refused.
_HEADER_VALUE: Final = re.compile(r"([!-~]([ -~\t]*[!-~])?)?")


@dataclass(frozen=True, kw_only=True)
class Retry:
    """How often and how fast one request is tried: exponential with jitter, `Retry-After` is the least."""

    attempts: int = 5
    wait_initial: timedelta = timedelta(seconds=0.5)
    wait_max: timedelta = timedelta(seconds=20)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one response may cost. httpx has no total time limit, so a trickle needs `deadline`."""

    connect: timedelta = timedelta(seconds=10)
    silence: timedelta = timedelta(seconds=30)
    deadline: timedelta = timedelta(minutes=5)
    body_bytes: int = 256 * 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Response:
    """A response that arrived whole. Header names are in lower case.

    Without `is_delimited` nothing but the connection's end says where the body ends: it may have been cut.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_delimited: bool = True


class TransientFailure(IngestionError):
    """One try failed in a way that the next may not; `wait` is what the remote asked for."""

    def __init__(self, message: str, *, wait: timedelta | None = None) -> None:
        super().__init__(message)
        self.wait = wait


@dataclass(kw_only=True)
class Client:
    """Fetch from one remote with keep-alive; use as a context manager, from one thread.

    Ignores proxies of the environment and follows no redirect.
    """

    retry: Retry = field(default_factory=Retry)
    limits: Limits = field(default_factory=Limits)
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._socket: socket.socket | None = None
        self._bases: dict[tuple[str, ...], tuple[str, str]] = {}

    def __enter__(self) -> Self:
        for name, value in self.headers.items():
            if not _HEADER_VALUE.fullmatch(value):
                raise ConfigurationError(
                    f"the header {name} has a value that cannot be sent (not shown): it must be ASCII, without spaces "
                    "or newlines around it"
                )
        self._httpx = httpx.Client(
            # httpx accepts truncated compressed bodies, so none are asked for.
            headers={"Accept-Encoding": "identity", "User-Agent": "ingestion-worker", **self.headers},
            timeout=httpx.Timeout(self.limits.silence.total_seconds(), connect=self.limits.connect.total_seconds()),
            trust_env=False,
            follow_redirects=False,
        )
        self._watchdog = _Watchdog(self.limits.deadline, self._hang_up)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watchdog.stop()
        self._httpx.close()

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
        target, where = self._target(method, url, params)
        tried = 0
        tries = stamina.retry_context(
            on=_backoff,
            attempts=self.retry.attempts,
            timeout=None,
            wait_initial=self.retry.wait_initial,
            wait_max=self.retry.wait_max,
        )
        try:
            for attempt in tries:
                tried = attempt.num
                with attempt:
                    return self._ask_once(method, target, where, content=body, headers=headers, answers=answers)
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
        target, where = self._target("HEAD", url, {})
        with self._deadline(where), _translated(where):
            response = self._httpx.head(target, extensions={"trace": self._remember_socket})
        if response.status_code in (httpx.codes.NOT_FOUND, httpx.codes.GONE):
            return None
        _check_status(where, response, is_raw=True)
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Response(status=response.status_code, headers=headers, body=b"")

    def open(self, url: str, headers: Mapping[str, str]) -> "Download":
        """Return the body of a successful GET as a stream, or the part of it that `headers` ask for. Asks once.

        What `limits.body_bytes` says does not count: whoever reads it decides. Close it before the next request.

        Raises:
            TransientFailure, RunFailed, ConfigurationError: as `head`.
        """
        target, where = self._target("GET", url, {})
        stack = ExitStack()
        extensions = {"trace": self._remember_socket}
        try:
            with self._deadline(where), _translated(where):
                stream = self._httpx.stream("GET", target, headers=dict(headers), extensions=extensions)
                response = stack.enter_context(stream)
                _check_status(where, response, is_part="Range" in headers, is_raw=True)
        except BaseException:
            stack.close()
            raise
        return Download(client=self, response=response, where=where, stack=stack)

    def _target(self, method: str, url: str, params: Mapping[str, str]) -> tuple[str, str]:
        """Return the URL with the parameters in place of its own of these names, and the request as messages show it.

        From page to page only the values change; httpx would read and write the whole URL again each time.
        """
        key = (method, url, *params)
        if key not in self._bases:
            where = f"{method} {_shown(url)}"
            with _translated(where):
                base = httpx.URL(url).copy_with(fragment=None)
                for name in params:
                    base = base.copy_remove_param(name)
            # Without params the URL stays as it was written.
            self._bases[key] = (str(base) if params else url, where)
        base_url, where = self._bases[key]
        if not params:
            return base_url, where
        return f"{base_url}{'&' if '?' in base_url else '?'}{urlencode(params, quote_via=quote)}", where

    def _ask_once(  # noqa: PLR0913 - what a request is made of
        self,
        method: str,
        target: str,
        where: str,
        *,
        content: bytes | None,
        headers: Mapping[str, str] | None,
        answers: Collection[int],
    ) -> Response:
        started = time.monotonic()
        extensions = {"trace": self._remember_socket}
        stream = self._httpx.stream(method, target, content=content, headers=headers, extensions=extensions)
        with self._deadline(where), _translated(where), stream as response:
            _check_status(where, response, answers=answers)
            body = b"".join(self._within_size(where, response))
        log.debug("fetched", request=where, size_bytes=len(body), seconds=round(time.monotonic() - started, 3))
        received = {name.lower(): value for name, value in response.headers.items()}
        return Response(
            status=response.status_code,
            headers=received,
            body=body,
            is_delimited=not received.keys().isdisjoint({"content-length", "transfer-encoding"}),
        )

    def _within_size(self, where: str, response: httpx.Response) -> Iterator[bytes]:
        size = 0
        for part in response.iter_raw():
            size += len(part)
            if size > self.limits.body_bytes:
                raise RunFailed("response_too_large", f"{where}: more than {self.limits.body_bytes} bytes")
            yield part

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
        if self._socket is not None:
            with suppress(OSError):  # it was closed in the meantime
                # Not the TLS socket's own method, which is not made for being called from another thread.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def _remember_socket(self, event: str, info: Mapping[str, Any]) -> None:
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._socket = info["return_value"].get_extra_info("socket")


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


class _Watchdog:
    """Call a function from a thread when something takes too long.

    One thread for all: as every deadline is equally long, the next one never comes before the one it sleeps to, so that
    setting a deadline is an assignment and wakes nobody.
    """

    def __init__(self, patience: timedelta, bark: Callable[[], None]) -> None:
        self._seconds = patience.total_seconds()
        self._bark = bark
        # None once the time was over.
        self._due: float | None = float("inf")
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self) -> None:
        """Begin to watch one more thing, in place of the one before."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="deadline", daemon=True)
            self._thread.start()
        self._due = time.monotonic() + self._seconds

    def rest(self) -> None:
        """End the watch, unless the time was over before."""
        with self._lock:
            if not self.has_barked:
                self._due = float("inf")

    @property
    def has_barked(self) -> bool:
        """Whether the time was over before the watch ended."""
        return self._due is None

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._pause()):
            with self._lock:
                if self._due is not None and self._due <= time.monotonic():
                    self._due = None
                    self._bark()

    def _pause(self) -> float:
        due = self._due
        return self._seconds if due is None else min(max(due - time.monotonic(), 0), self._seconds)


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


def _check_status(
    where: str,
    response: httpx.Response,
    *,
    is_part: bool = False,
    is_raw: bool = False,
    answers: Collection[int] = (),
) -> None:
    status = f"{response.status_code} {response.reason_phrase}".strip()
    is_answer = response.is_success or response.status_code in answers
    if response.status_code in TRANSIENT_STATUSES and not is_answer:
        raise TransientFailure(f"{where} answered {status}", wait=_retry_after(response.headers.get("Retry-After")))
    # Where nobody asked for a part, 206 would be a short page that looks whole.
    if not is_answer or (response.status_code == httpx.codes.PARTIAL_CONTENT and not is_part):
        raise RunFailed("http_status", f"{where} answered {status}")
    if (encoding := response.headers.get("Content-Encoding", "").strip().lower()) not in ("", "identity") and not (
        is_raw and encoding in ("gzip", "x-gzip")
    ):
        raise RunFailed(
            "content_encoding", f"{where} answered in {encoding[:40]!r} although only identity was accepted"
        )


def _backoff(error: Exception) -> bool | timedelta:
    """Tell stamina whether to try again, and when the remote said so, how long to wait."""
    if not isinstance(error, TransientFailure):
        return False
    if not error.wait:  # a Retry-After of 0 s is no reason to hammer
        return True
    return error.wait if error.wait <= LONGEST_SLEEP else False


def _retry_after(value: str | None) -> timedelta | None:
    """Read a Retry-After header, seconds or a date (RFC 9110, 10.2.3); None when absent or unreadable."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        # Python refuses to read numbers of thousands of digits.
        return min(timedelta(seconds=int(value[:9])), LONGEST_WAIT)
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return min(max(at - datetime.now(UTC), timedelta(0)), LONGEST_WAIT)


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
