"""An operation of a SOAP service as a source: one page for each request."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, TypeVar

import structlog

from ingestion.errors import ConfigurationError, RetryLater, RunFailed
from ingestion.http import Auth, Client, Limits, Rate, Response, Retry, TransientFailure, Transport, secrets_in
from ingestion.pagination import Paginator, Received
from ingestion.sources import loops
from ingestion.sources.arguments import arguments_of, placed, refuse_links, shown
from ingestion.sources.overlaps import seams_of
from ingestion.sources.patience import patiently
from ingestion.sources.sent_ahead import Exchange, SentAhead, refuse_blind
from ingestion.sources.shaping import digest_of, last_of
from ingestion.sources.soap.envelopes import Opened, open_envelope
from ingestion.sources.soap.records import Reader
from ingestion.sources.soap.services import ANSWERS, Described, Service, connect, is_url, read_wsdl
from ingestion.texts import Text, text_of
from ingestion.types import Cursor, Page, Recall

log = structlog.get_logger(__name__)
T = TypeVar("T")

# The same for every page, so that a run says it once.
_ATTACHED: Final = "answers come with attachments, which are not loaded"


@dataclass(frozen=True, kw_only=True)
class Soap:
    """A SOAP operation whose answer has elements at `records`, each of which is a record.

    Args:
        wsdl: URL or path of the WSDL; what it imports has to be beside it.
        records: local names on the way from the answer's element to the records.
        arguments: of every request; those of `pagination` join them.
        lists: local names of elements that are lists although the WSDL does not say so.
        service, port: names in the WSDL, where the operation is in more than one.
        url: address of the service, when it is another one than the WSDL says.
        user, password: of a WS-Security user name token.
        digest: send the password's digest instead of the password.
        concurrency: pages that are asked for at once, where the pagination knows the total.
    """

    wsdl: Text
    operation: str
    records: tuple[str, ...]
    pagination: Paginator
    arguments: Mapping[str, Any] = field(default_factory=dict)
    lists: tuple[str, ...] = ()
    service: str | None = None
    port: str | None = None
    url: Text | None = None
    user: Text | None = None
    password: Callable[[], str] | None = None
    digest: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    retry: Retry = field(default_factory=Retry)
    limits: Limits = field(default_factory=Limits)
    max_pages: int = 1_000_000
    auth: Auth | None = None
    transport: Transport = field(default_factory=Transport)
    rates: tuple[Rate, ...] = ()
    concurrency: int = 1

    def __post_init__(self) -> None:
        refuse_links(self.pagination, "Soap")
        refuse_blind(self.pagination, self.concurrency)
        given: tuple[object, object] = self.records, self.lists  # one text alone is text, whatever the annotation says
        if not self.records or any(isinstance(names, str) for names in given):
            raise ConfigurationError("Soap needs the names on the way to its records, and names of lists, as tuples")
        if (self.user is None) != (self.password is None):
            raise ConfigurationError("Soap takes user and password together, or neither")

    def pages(self, cursor: Cursor | None) -> Iterator[Page]:
        """Yield the pages from `cursor` on; holds one page.

        Raises:
            RetryLater: a transient failure outlasted its retries.
            RunFailed: `soap_fault`, or the answer is not what the feed expects.
        """
        with self._sessions()() as session:
            yield from self._pages(cursor, session, lambda _, arguments: (*self._ask(session, arguments), None))

    def pages_at_once(
        self, cursor: Cursor | None, recall: Recall | None, *, at_once: int, max_bytes: int
    ) -> Iterator[Page]:
        exchange = Exchange(
            pagination=self.pagination, prepare=self._arguments, open=self._sessions(), send=self._ask_ahead
        )
        with SentAhead(exchange, at_once=at_once, max_bytes=max_bytes) as ahead:

            def answer(at: Cursor, arguments: dict[str, Any]) -> tuple[Response, Opened, int | None]:
                response, known_total = ahead.answer(at, arguments)
                return response, open_envelope(response, ahead.tool.client.hidden), known_total

            yield from self._pages(cursor, ahead.tool, answer)

    def _pages(
        self,
        cursor: Cursor | None,
        session: "_Session",
        answer: Callable[[Cursor, dict[str, Any]], tuple[Response, Opened, int | None]],
    ) -> Iterator[Page]:
        at: Cursor | None = cursor or loops.begin(self.pagination.first())
        seams = seams_of(self.pagination)
        reader = Reader(answers=session.service.answers, path=self.records, lists=frozenset(self.lists))
        reader.check()
        while at:
            response, opened, known_total = answer(at["at"], self._arguments(at["at"]))
            page = self._page(reader, response, opened, at, known_total)
            page = seams.watched(page, partial(shown, self.pagination, at["at"]))
            yield page
            at = page.following

    def with_values(self, values: Mapping[str, str | int]) -> "Soap":
        """Return the source with more arguments."""
        return replace(self, arguments=placed(self.arguments, values))

    def _client(self) -> Client:
        # The address in a WSDL that is a file is as much the feed's own as the file is.
        declared = [text_of(given) for given in (self.wsdl, self.url) if given is not None]
        return Client(
            # Tried again from outside, as each try of a user name token has a nonce of its own.
            retry=replace(self.retry, attempts=1),
            limits=self.limits,
            headers=self.headers,
            auth=self.auth,
            transport=self.transport,
            rates=self.rates,
            origins=tuple(filter(is_url, declared)),
            secrets=secrets_in(self.arguments, self.password() if self.password else ""),
        )

    def _sessions(self) -> Callable[[], AbstractContextManager["_Session"]]:
        """Return what opens a session, for each thread one; the first one reads the WSDL for all of them."""
        known: list[Described] = []

        @contextmanager
        def session() -> Iterator[_Session]:
            with self._client() as client:
                if not known:
                    wsdl = text_of(self.wsdl)
                    known.append(patiently(self.retry, lambda: _one_try(lambda: read_wsdl(client, wsdl))))
                yield _Session(client=client, service=self._connect(client, known[0]))

        return session

    def _connect(self, client: Client, described: Described) -> Service:
        token = None
        if self.user is not None and self.password is not None:
            token = (text_of(self.user), self.password(), self.digest)
        return connect(
            client,
            described,
            operation=self.operation,
            service=self.service,
            port=self.port,
            url=None if self.url is None else text_of(self.url),
            token=token,
        )

    def _arguments(self, at: Cursor) -> dict[str, Any]:
        return arguments_of(self.pagination, at, self.arguments)

    def _ask(self, session: "_Session", arguments: Mapping[str, Any]) -> tuple[Response, Opened]:
        return patiently(self.retry, partial(_ask, session.service, arguments, session.client.hidden))

    def _ask_ahead(self, session: "_Session", arguments: Mapping[str, Any]) -> Response:
        # Kept as it came until its turn: opened it takes many times as much memory.
        return self._ask(session, arguments)[0]

    def _page(self, reader: Reader, response: Response, opened: Opened, at: Cursor, known_total: int | None) -> Page:
        number = at["pages"] + 1
        if opened.attachments:
            log.warning("attachments are not loaded", operation=self.operation, page=number, number=opened.attachments)
        records = reader.records(opened.answer)
        received = Received(
            headers=response.headers,
            records=len(records),
            value=partial(reader.look, opened.answer),
            last=partial(last_of, records),
            known_total=known_total,
        )
        return Page(
            number=number,
            records=records,
            size_bytes=len(response.body),
            following=loops.advance(
                at,
                digest_of(records),
                partial(self.pagination.following, at["at"], received),
                max_pages=self.max_pages,
                shown=partial(shown, self.pagination),
            ),
            warning=_ATTACHED if opened.attachments else "",
        )


@dataclass(frozen=True, kw_only=True)
class _Session:
    """What one thread asks the service with."""

    client: Client
    service: Service


def _ask(service: Service, arguments: Mapping[str, Any], hide: Callable[[str], str]) -> tuple[Response, Opened]:
    response = _one_try(lambda: service.ask(arguments))
    try:
        opened = open_envelope(response, hide)
    except RunFailed as error:
        if error.code == "soap_fault":
            raise
        if response.status == 500:  # of a proxy, or of a server that has no Fault to say
            raise TransientFailure(f"the service answered with status 500: {error}", blames="request") from error
        if response.status in ANSWERS:
            raise RunFailed("http_status", f"the service answered with status {response.status}: {error}") from error
        if response.is_delimited or error.code != "not_xml":
            raise
        raise TransientFailure(f"the connection ended within the response: {error}", blames="request") from error
    if response.status in ANSWERS:
        raise RunFailed("http_status", f"the service answered with status {response.status}, and no Fault")
    return response, opened


def _one_try(call: Callable[[], T]) -> T:
    """Call what asks once, with the failure of its one try as it was."""
    try:
        return call()
    except RetryLater as error:
        if isinstance(error.__cause__, TransientFailure):
            raise error.__cause__ from None
        raise
