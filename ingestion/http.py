"""The HTTP client: the one module that knows httpx. Fetches one response whole, or says why not."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Self

import httpx
import stamina
import structlog

from ingestion.errors import ConfigurationError, IngestionError, RetryLater, RunFailed

log = structlog.get_logger(__name__)

# RFC 9110 and 6585: the statuses that say "not now" rather than "no".
TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
# A remote that asks for more than this is waited for without a worker.
LONGEST_SLEEP = timedelta(minutes=1)


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
    """A response that arrived whole. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


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

    def __enter__(self) -> Self:
        self._httpx = httpx.Client(
            # httpx accepts truncated compressed bodies, so none are asked for.
            headers={"Accept-Encoding": "identity", "User-Agent": "ingestion-worker", **self.headers},
            timeout=httpx.Timeout(self.limits.silence.total_seconds(), connect=self.limits.connect.total_seconds()),
            trust_env=False,
            follow_redirects=False,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._httpx.close()

    def get(self, url: str, params: Mapping[str, str]) -> Response:
        """Return the whole response of a successful GET, after as many tries as `retry` allows.

        Raises:
            RetryLater: every try failed, or the remote asked to wait longer than a worker should sleep.
            RunFailed: the remote refused the request; a retry would not help.
            ConfigurationError: the URL cannot be requested.
        """
        tries = stamina.retry_context(
            on=_backoff,
            attempts=self.retry.attempts,
            timeout=None,
            wait_initial=self.retry.wait_initial,
            wait_max=self.retry.wait_max,
        )
        try:
            for attempt in tries:
                with attempt:
                    return self._get_once(url, params)
        except TransientFailure as failure:
            raise RetryLater(f"{failure} ({self.retry.attempts} tries)", wait=failure.wait) from failure
        raise AssertionError("stamina ends with a value or an exception")

    def _get_once(self, url: str, params: Mapping[str, str]) -> Response:
        where = f"GET {_shown(url)}"
        started = time.monotonic()
        with _translated(where), self._httpx.stream("GET", url, params=dict(params)) as response:
            _check_status(where, response)
            body = b"".join(self._within_limits(where, response, started + self.limits.deadline.total_seconds()))
            log.debug("fetched", url=_shown(url), size_bytes=len(body), seconds=round(time.monotonic() - started, 3))
            return Response(
                status=response.status_code,
                headers={name.lower(): value for name, value in response.headers.items()},
                body=body,
            )

    def _within_limits(self, where: str, response: httpx.Response, deadline: float) -> Iterator[bytes]:
        size = 0
        for part in response.iter_raw():
            size += len(part)
            if size > self.limits.body_bytes:
                raise RunFailed("response_too_large", f"{where}: more than {self.limits.body_bytes} bytes")
            if time.monotonic() > deadline:
                raise TransientFailure(f"{where}: not complete after {self.limits.deadline}")
            yield part


@contextmanager
def _translated(where: str) -> Iterator[None]:
    """Turn httpx's exceptions into the engine's. Their texts hold no URL."""
    try:
        yield
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise ConfigurationError(f"{where}: {error}") from error
    except httpx.TransportError as error:
        raise TransientFailure(f"{where}: {type(error).__name__}: {error}") from error


def _check_status(where: str, response: httpx.Response) -> None:
    status = f"{response.status_code} {response.reason_phrase}".strip()
    if response.status_code in TRANSIENT_STATUSES:
        raise TransientFailure(f"{where} answered {status}", wait=_retry_after(response.headers.get("Retry-After")))
    if not response.is_success:
        raise RunFailed("http_status", f"{where} answered {status}")
    if (encoding := response.headers.get("Content-Encoding", "identity").lower()) != "identity":
        raise RunFailed(
            "content_encoding", f"{where} answered in {encoding[:40]!r} although only identity was accepted"
        )


def _backoff(error: Exception) -> bool | timedelta:
    """Tell stamina whether to try again, and when the remote said so, how long to wait."""
    if not isinstance(error, TransientFailure):
        return False
    if error.wait is None:
        return True
    return error.wait if error.wait <= LONGEST_SLEEP else False


def _retry_after(value: str | None) -> timedelta | None:
    """Read a Retry-After header, seconds or a date (RFC 9110, 10.2.3); None when absent or unreadable."""
    if value is None:
        return None
    if value.strip().isascii() and value.strip().isdigit():
        return timedelta(seconds=min(int(value), 86_400))
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max(at - datetime.now(UTC), timedelta(0))


def _shown(url: str) -> str:
    """Return the URL without user info and query: those may hold secrets."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return "(unreadable URL)"
    return str(parsed.copy_with(username=None, password=None, query=None, fragment=None))
