"""An operation of a SOAP service as a source: one page for each request."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import structlog

from ingestion.errors import ConfigurationError, RetryLater, RunFailed
from ingestion.http import Auth, Client, Limits, Rate, Response, Retry, TransientFailure, Transport, secrets_in
from ingestion.pagination import Paginator, Received
from ingestion.sources import loops
from ingestion.sources.arguments import arguments_of, placed, refuse_links, shown
from ingestion.sources.overlaps import seams_of
from ingestion.sources.patience import patiently
from ingestion.sources.shaping import digest_of, last_of
from ingestion.sources.soap.envelopes import Opened, open_envelope
from ingestion.sources.soap.records import Reader
from ingestion.sources.soap.services import ANSWERS, Service, connect, is_url
from ingestion.types import Cursor, Page

log = structlog.get_logger(__name__)
T = TypeVar("T")


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
    """

    wsdl: str | Callable[[], str]
    operation: str
    records: tuple[str, ...]
    pagination: Paginator
    arguments: Mapping[str, Any] = field(default_factory=dict)
    lists: tuple[str, ...] = ()
    service: str | None = None
    port: str | None = None
    url: str | Callable[[], str] | None = None
    user: str | Callable[[], str] | None = None
    password: Callable[[], str] | None = None
    digest: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    retry: Retry = field(default_factory=Retry)
    limits: Limits = field(default_factory=Limits)
    max_pages: int = 1_000_000
    auth: Auth | None = None
    transport: Transport = field(default_factory=Transport)
    rates: tuple[Rate, ...] = ()

    def __post_init__(self) -> None:
        refuse_links(self.pagination, "Soap")
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
        at: Cursor | None = cursor or loops.begin(self.pagination.first())
        seams = seams_of(self.pagination)
        with self._client() as client:
            service = patiently(self.retry, lambda: _one_try(lambda: self._connect(client)))
            reader = Reader(answers=service.answers, path=self.records, lists=frozenset(self.lists))
            reader.check()
            while at:
                arguments = arguments_of(self.pagination, at["at"], self.arguments)
                response, opened = patiently(self.retry, partial(_ask, service, arguments, client.hidden))
                page = seams.watched(
                    self._page(reader, response, opened, at), partial(shown, self.pagination, at["at"])
                )
                yield page
                at = page.following

    def with_values(self, values: Mapping[str, str | int]) -> "Soap":
        """Return the source with more arguments."""
        return replace(self, arguments=placed(self.arguments, values))

    def _client(self) -> Client:
        # The address in a WSDL that is a file is as much the feed's own as the file is.
        declared = [_called(given) for given in (self.wsdl, self.url) if given is not None]
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

    def _connect(self, client: Client) -> Service:
        token = None
        if self.user is not None and self.password is not None:
            token = (_called(self.user), self.password(), self.digest)
        return connect(
            client,
            _called(self.wsdl),
            operation=self.operation,
            service=self.service,
            port=self.port,
            url=None if self.url is None else _called(self.url),
            token=token,
        )

    def _page(self, reader: Reader, response: Response, opened: Opened, at: Cursor) -> Page:
        number = at["pages"] + 1
        if opened.attachments:
            log.warning("attachments are not loaded", operation=self.operation, page=number, number=opened.attachments)
        records = reader.records(opened.answer)
        received = Received(
            headers=response.headers,
            records=len(records),
            value=partial(reader.look, opened.answer),
            last=partial(last_of, records),
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
        )


def _called(text: str | Callable[[], str]) -> str:
    return text if isinstance(text, str) else text()


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
