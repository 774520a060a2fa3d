"""The HTTP client: a request from its target to its response, tried again where that helps."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from types import TracebackType
from typing import Final, Self, TypeVar
from urllib.parse import urljoin

import httpx
import stamina

from ingestion.errors import ConfigurationError, RunFailed
from ingestion.http.budgets import Budget
from ingestion.http.connecting import Wire
from ingestion.http.deadlines import Watchdog
from ingestion.http.downloads import Download
from ingestion.http.judging import Refused, check, check_raw, headers_of, meaning_of, passing
from ingestion.http.origins import check_redirect, origin_of, redirected, service_of
from ingestion.http.receiving import receive
from ingestion.http.secrecy import Sent
from ingestion.http.targets import Targets, with_user_info_as_header
from ingestion.http.traces import Tracer
from ingestion.http.translating import shown, translated
from ingestion.http.validators import NOT_MODIFIED
from ingestion.http.values import (
    Answers,
    Auth,
    Limits,
    Rate,
    Request,
    Response,
    Retry,
    TransientFailure,
    Transport,
    is_header_value,
)
from ingestion.http.waiting import backoff, given_up

T = TypeVar("T")

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


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
        secrets: what else is sent that no message may show, in parameters and bodies. Headers, credentials, tokens and
            what is in the URLs of `origins` is known.
    """

    retry: Retry = field(default_factory=Retry)
    limits: Limits = field(default_factory=Limits)
    headers: Mapping[str, str] = field(default_factory=dict)
    answers: Answers = field(default_factory=Answers)
    transport: Transport = field(default_factory=Transport)
    auth: Auth | None = None
    origins: tuple[str, ...] = ()
    rates: tuple[Rate, ...] = ()
    secrets: frozenset[str] = frozenset()

    def __enter__(self) -> Self:
        for name, value in self.headers.items():
            if not is_header_value(value):
                raise ConfigurationError(
                    f"the header {name} has a value that cannot be sent (not shown): it must be ASCII, without spaces "
                    "or newlines around it"
                )
        self._headers = self.headers
        self._own_origins = frozenset(map(origin_of, self.origins))
        self._own_services = {*map(service_of, self.origins)}
        self._sent = Sent(self.secrets, self.headers, (*self.origins, self.transport.proxy))
        self._wire = Wire(self.transport, self.limits, self.headers, self._sent)
        self._target = Targets(self._own_origins, [*map(origin_of, self.transport.other_origins)]).find
        self._watchdog = Watchdog(self.limits.deadline, self._wire.hang_up)
        self._budget = Budget(self.rates, self.limits.deadline)
        self._tracer = Tracer()
        with self._sent.unsaid():
            self._signer = None if self.auth is None else self.auth.signer(self._send_unsigned)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watchdog.stop()
        self._wire.close()
        # Whoever reads the responses shows parts of them, and so does what a function of the feed's raises.
        if isinstance(error, Exception):
            self._sent.hide_in(error)

    def put_headers(self, headers: Mapping[str, str]) -> None:
        """Send these from the next request on, in place of the feed's own of the same names."""
        if headers != self._headers:
            self._headers = headers
            self._sent.learn_headers(headers)
            self._wire.put_headers(headers)

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
        self._tracer.begin()
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
                    whole = self._ask(request, where, is_own, lambda response, _: self._whole(response, where, answers))
                    if is_own:  # what others say of their limits, such as who gives tokens, is none of the feed's
                        self._budget.heed(whole.headers)
                    return whole
        except TransientFailure as failure:
            raise given_up(failure, tried) from failure
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
            check_raw(meaning_of(response, self.answers), response, where)
            return Response(status=response.status_code, headers=headers_of(response), body=b"")

        target, where, is_own = self._target("HEAD", url, {})
        request = Request(method="HEAD", url=target, headers={"Accept-Encoding": "identity"})
        self._tracer.begin()
        return self._ask(request, where, is_own, read)

    def open(self, url: str, headers: Mapping[str, str]) -> Download:
        """Return the body of a successful GET as a stream, or the part of it that `headers` ask for. Asks once.

        What `limits.body_bytes` says does not count: whoever reads it decides. Close it before the next request.

        Raises:
            TransientFailure, RunFailed, ConfigurationError: as `head`.
        """

        def read(response: httpx.Response, stack: ExitStack) -> Download:
            meaning = meaning_of(response, self.answers, is_part="Range" in headers)
            check_raw(meaning, response, where)
            guarded = partial(self._guarded, where)
            return Download(guarded=guarded, response=response, trace=self._tracer.trace, stack=stack.pop_all())

        target, where, is_own = self._target("GET", url, {})
        self._sent.learn_url(target)  # a link that somebody gave may be signed
        request = Request(method="GET", url=target, headers={"Accept-Encoding": "identity", **headers})
        self._tracer.begin()
        return self._ask(request, where, is_own, read)

    def hidden(self, text: str) -> str:
        """Return a text of the remote's, such as one that is cut or kept, without what it was sent."""
        return self._sent.hidden(text)

    def _ask(self, request: Request, where: str, is_own: bool, read: Callable[[httpx.Response, ExitStack], T]) -> T:
        """Return what `read` makes of the response; refused credentials are made anew once."""
        with self._sent.unsaid():
            try:
                return self._follow(request, where, is_own, read)
            except Refused:
                if not is_own or self._signer is None or not self._signer.renew():
                    raise
            return self._follow(request, where, is_own, read)

    def _follow(self, request: Request, where: str, is_own: bool, read: Callable[[httpx.Response, ExitStack], T]) -> T:
        """Send a request, and go where redirects lead, as far as the transport allows."""
        request = self._proven(request, where)
        first, is_first_own = origin_of(request.url), is_own
        for _ in range(self.transport.redirects + 1):
            signed = self._signer.sign(request) if is_own and self._signer is not None else request
            self._sent.learn(request, signed)
            try:
                if self._budget.is_free:
                    return self._once(signed, where, is_own, read)
                with self._budget.spent():
                    return self._once(signed, where, is_own, read)
            except _Redirected as redirect:
                url = urljoin(request.url, redirect.location)
                self._sent.learn_url(url)
                origin = check_redirect(request.url, url, self.transport.other_origins, self._own_origins, where)
                is_own = origin in self._own_origins or (origin == first and is_first_own)
                request = redirected(request, redirect.status, url, keeps_all=is_own or origin == first)
        raise RunFailed("redirect", f"{where}: more than {self.transport.redirects} redirects")

    def _proven(self, request: Request, where: str) -> Request:
        proven = with_user_info_as_header(request, where)
        if proven is not request:
            self._sent.learn(request, proven)
        return proven

    def _once(
        self,
        request: Request,
        where: str,
        is_own: bool,
        read: Callable[[httpx.Response, ExitStack], T],
        *,
        follows: bool = True,
    ) -> T:
        trace = self._tracer.send(where, is_aside=not follows)
        try:
            with self._watchdog.watching(where), translated(where), ExitStack() as stack:
                # With what is read as a stream, it ends when that is closed.
                stack.callback(self._tracer.end, trace)
                response = self._wire.send(request, is_own=is_own)
                stack.callback(response.close)
                trace.status = response.status_code
                if (
                    follows
                    and self.transport.redirects
                    and response.status_code in _REDIRECTS
                    and "Location" in response.headers
                ):
                    raise _Redirected(response.status_code, response.headers["Location"])
                return read(response, stack)
        except TransientFailure as failure:
            # Another one, such as who gives tokens, is none of the feed's.
            if not is_own and service_of(request.url) not in self._own_services:
                failure.blames = ""
            raise

    def _send_unsigned(self, request: Request) -> Response:
        """Send a request once without the feed's headers and credentials; return whatever whole response comes.

        Raises:
            TransientFailure: none comes, or it is one of those that may pass.
            RunFailed, ConfigurationError: as `request`.
        """

        def read(response: httpx.Response, _: ExitStack) -> Response:
            if meaning_of(response, self.answers) == "retry":
                raise passing(response, where)
            return self._receive(response, where)

        where = f"{request.method} {shown(request.url)}"
        # Before it is sent: an error of it may say it back.
        self._sent.learn_exchange(request, None)
        response = self._once(self._proven(request, where), where, False, read, follows=False)
        self._sent.learn_exchange(request, response)
        return response

    def _whole(self, response: httpx.Response, where: str, answers: Collection[int]) -> Response:
        meaning = "succeed" if response.status_code in answers else meaning_of(response, self.answers)
        if meaning == "empty":
            return Response(status=response.status_code, headers=headers_of(response), body=b"", is_empty=True)
        check(meaning, response, where)
        received = self._receive(response, where)
        # A 304 has no body that a feed could judge.
        if self.answers.body is None or response.status_code == NOT_MODIFIED:
            return received
        if (meaning := self.answers.body(received) or "succeed") != "succeed":
            if meaning == "empty":
                return replace(received, body=b"", is_empty=True)
            check(meaning, response, f"{where} (by its body)")
        return received

    def _receive(self, response: httpx.Response, where: str) -> Response:
        received = receive(response, where, self.limits, self._wire.connections)
        self._tracer.trace.size_bytes = len(received.body)
        return received

    @contextmanager
    def _guarded(self, where: str) -> Iterator[None]:
        """Receive more of a response with all that is looked after while one is asked for."""
        with self._sent.unsaid(), self._watchdog.watching(where), translated(where):
            yield
