"""What a request and a response are, what they may cost, and what a status means. No I/O, no httpx."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Literal, Protocol, runtime_checkable

from ingestion.errors import Blame, IngestionError

# RFC 9110 and 6585: the statuses that say "not now" rather than "no". Proxies and CDNs have many more 5xx of their own.
TRANSIENT_STATUSES: Final = frozenset({408, 425, 429, *range(500, 600)})

# RFC 9110, 5.5. Header values are often secrets read from files: with the newline at the file's end they are refused.
_HEADER_VALUE: Final = re.compile(r"([!-~]([ -~\t]*[!-~])?)?")

Meaning = Literal["succeed", "empty", "retry", "refresh", "fail"]


def is_header_value(text: str) -> bool:
    """Tell whether a header's value can be this text: ASCII, without spaces or newlines around it."""
    return _HEADER_VALUE.fullmatch(text) is not None


@dataclass(frozen=True, kw_only=True)
class Retry:
    """How often and how fast one request is tried: exponential with jitter, `Retry-After` is the least."""

    attempts: int = 5
    wait_initial: timedelta = timedelta(seconds=0.5)
    wait_max: timedelta = timedelta(seconds=20)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one response may cost. httpx has no total time limit, so a trickle needs `deadline`.

    Args:
        bytes_per_second: the least, as received, looked at when the body takes longer than `silence`.
        body_bytes: of one body, decompressed.
        ratio: decompressed to compressed size of gzip and deflate, ten times as much of br and zstd; looked at from a
            few MiB on.
    """

    connect: timedelta = timedelta(seconds=10)
    silence: timedelta = timedelta(seconds=30)
    deadline: timedelta = timedelta(minutes=5)
    bytes_per_second: int = 100
    body_bytes: int = 256 * 1024 * 1024
    ratio: float = 250


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What statuses mean to a feed: those that are in none of these sets succeed from 200 to 299, and fail otherwise.

    Args:
        succeed: have a body with records in spite of their number. 206 has to be named, where it is a whole page.
        empty: mean that there are no records, such as 404 beyond the last page; the body is not looked at.
        retry: may pass by themselves.
        refresh: mean that the credentials are no longer good. They are made anew once; then it fails.
        body: is given each successful response, and returns a meaning, or None for the one that the status has.
    """

    succeed: frozenset[int] = frozenset()
    empty: frozenset[int] = frozenset()
    retry: frozenset[int] = TRANSIENT_STATUSES
    refresh: frozenset[int] = frozenset({401})
    body: "Callable[[Response], Meaning | None] | None" = None

    def meaning(self, status: int, *, is_part: bool = False) -> Meaning:
        """Return what a status means; `is_part` when a part of the document was asked for."""
        if status in self.succeed:
            return "succeed"
        if status in self.empty:
            return "empty"
        if status in self.retry:
            return "retry"
        if status in self.refresh:
            return "refresh"
        # Where nobody asked for a part, 206 would be a short page that looks whole.
        return "succeed" if 200 <= status < 300 and (status != 206 or is_part) else "fail"


@dataclass(frozen=True, kw_only=True)
class Transport:
    """How a remote is reached.

    Args:
        ca_file: certificates of authorities that are trusted besides the usual ones, as PEM.
        certificate_file, key_file: what the client shows of itself, as PEM; the key may be in the certificate's file.
        proxy: URL of the proxy that all requests take. Those of the environment are ignored. It resolves names itself,
            so that their addresses are its own business.
        redirects: how many are followed for one request, each looked at like a request of its own.
        other_origins: that links and redirects may lead to, as `https://host`. They get no headers, no credentials.
    """

    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    proxy: str = field(default="", repr=False)  # it may hold a password
    redirects: int = 0
    other_origins: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Rate:
    """So many requests within any stretch of that length, over all feeds and processes that name it the same."""

    name: str
    requests: int
    within: timedelta = timedelta(seconds=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A request as it is sent, without what the connection adds."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Response:
    """A response that arrived whole. Header names are in lower case.

    Without `is_delimited` nothing but the connection's end says where the body ends: it may have been cut. With
    `is_empty` the status says that there are no records, and the body was not read.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_delimited: bool = True
    is_empty: bool = False

    @property
    def size_bytes(self) -> int:
        """Return what its body takes in memory."""
        return len(self.body)


class Signer(Protocol):
    """What makes a client's requests count as somebody's. Used from the thread that fetches."""

    def sign(self, request: Request) -> Request:
        """Return the request with the credentials. Called for every attempt, as signatures and tokens grow old."""

    def renew(self) -> bool:
        """Make the credentials anew that the remote has refused; False when nothing better can be had."""


class Auth(Protocol):
    """How a feed proves who asks: a value that is declared with it."""

    def signer(self, send: Callable[[Request], Response]) -> Signer:
        """Return what signs one client's requests.

        Args:
            send: asks a remote without credentials, such as for a token. It returns every response, whatever its
                status, and raises RetryLater, RunFailed or ConfigurationError when there is none.
        """


@runtime_checkable
class QueryAuth(Auth, Protocol):
    """Credentials of which some are parameters of the query."""

    def query(self) -> Mapping[str, str]:
        """Return the parameters, so that links to further pages can be stored without them."""


class TransientFailure(IngestionError):
    """One try failed in a way that the next may not; `wait` and `blames` are as in RetryLater, which it may become."""

    def __init__(self, message: str, *, wait: timedelta | None = None, blames: Blame = "") -> None:
        super().__init__(message)
        self.wait = wait
        self.blames = blames
