"""Collections behind REST endpoints that answer JSON."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import msgspec
import structlog

from ingestion.errors import ConfigurationError
from ingestion.http import Answers, Auth, Client, Limits, QueryAuth, Rate, Response, Retry, Transport, secrets_in
from ingestion.http.validators import CONDITIONS, NOT_MODIFIED
from ingestion.pagination import Paginator, Received
from ingestion.sources import loops
from ingestion.sources.arguments import placed
from ingestion.sources.asking import Asked, Asking
from ingestion.sources.files.csv_files import Csv
from ingestion.sources.files.ndjson import Ndjson
from ingestion.sources.overlaps import seams_of
from ingestion.sources.revalidating import Heard, Note, Revalidation, fingerprint
from ingestion.sources.sent_ahead import SentAhead, refuse_blind
from ingestion.sources.shaping import Cut, Shape
from ingestion.sources.splitting import value_at
from ingestion.types import Cursor, Foresee, Page, Recall
from ingestion.unchanged import Remembered

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class JsonApi:
    """A REST endpoint that answers JSON: a list of records, or an object with the list at `records`.

    Args:
        body: the JSON of a POST; what the paginator adds with `place="body"` is put into it.
        format: how responses are written that are no JSON document.
        single, envelope, expand, parent_as, added: as in Shape.
        conditional: ask for the pages that the feed remembers with what tells their versions, so that unchanged ones
            need not be sent.
        concurrency: pages that are asked for at once, where the pagination knows the total.
    """

    url: str | Callable[[], str]
    pagination: Paginator
    records: tuple[str, ...] = ()
    single: bool = False
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    method: Literal["GET", "POST"] = "GET"
    body: Mapping[str, Any] | None = None
    format: Csv | Ndjson | None = None
    envelope: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    expand: str | None = None
    parent_as: str = "parent"
    added: Mapping[str, Any] = field(default_factory=dict)
    retry: Retry = field(default_factory=Retry)
    limits: Limits = field(default_factory=Limits)
    max_pages: int = 1_000_000
    auth: Auth | None = None
    answers: Answers = field(default_factory=Answers)
    transport: Transport = field(default_factory=Transport)
    rates: tuple[Rate, ...] = ()
    conditional: bool = True
    concurrency: int = 1

    def __post_init__(self) -> None:
        has_body = self.body is not None or getattr(self.pagination, "place", "query") == "body"
        if has_body and self.method == "GET":
            raise ConfigurationError('JsonApi sends no body with GET: declare method="POST"')
        if self.concurrency != 1:
            refuse_blind(self.pagination, self.concurrency)
        looks_inside = any(getattr(self.pagination, name, ()) for name in ("cursor", "url", "total", "has_more"))
        if self.format is not None and (looks_inside or self.envelope or self.records or self.single):
            raise ConfigurationError(
                f"a response in {type(self.format).__name__} has nothing around its records: no envelope, no path to "
                "the records, and pages that lead on by a header, by numbers or by the last record"
            )

    def pages(self, cursor: Cursor | None) -> Iterator[Page]:
        return self._pages(cursor, None, None)

    def changed_pages(self, cursor: Cursor | None, recall: Recall, foresee: Foresee | None = None) -> Iterator[Page]:
        return self._pages(cursor, recall, foresee)

    def pages_at_once(
        self, cursor: Cursor | None, recall: Recall | None, *, at_once: int, max_bytes: int
    ) -> Iterator[Page]:
        with SentAhead(self._asking(), self.client, at_once=at_once, max_bytes=max_bytes) as ahead:
            yield from self.read(ahead.client, cursor, recall, ahead=ahead)

    def place(self) -> str:
        asked = self._asking().page(self.pagination.first())
        told: list[Any] = [asked.url, sorted(asked.params.items())]
        if self.method != "GET":
            told += [self.method, (asked.body or b"").decode()]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def definition(self) -> tuple[Any, ...]:
        # Parameters, headers, the body and the URL's query may hold secrets, and what they change shows in the bytes.
        shown = re.sub("//[^/?#]*@", "//", self.address()).partition("?")[0]
        return shown, self.records, self.pagination, self._shape()

    def with_values(self, values: Mapping[str, str | int]) -> "JsonApi":
        """Return the source with more members of its body, or where it sends none with more query parameters."""
        if self.body is not None or getattr(self.pagination, "place", "query") == "body":
            return replace(self, body=placed(self.body or {}, values))
        return replace(self, params={**self.params, **{name: str(value) for name, value in values.items()}})

    def address(self) -> str:
        """Return the URL as it is now."""
        return self.url if isinstance(self.url, str) else self.url()

    def _asking(self) -> Asking:
        # A key that is a parameter is kept out of cursors like the feed's own parameters.
        params = {**self.params, **self.auth.query()} if isinstance(self.auth, QueryAuth) else self.params
        return Asking(method=self.method, url=self.address(), params=params, body=self.body, pagination=self.pagination)

    def _shape(self) -> Shape:
        return Shape(
            records=self.records,
            single=self.single,
            format=self.format,
            envelope=self.envelope,
            expand=self.expand,
            parent_as=self.parent_as,
            added=self.added,
        )

    def client(self) -> Client:
        """Return the client of the requests."""
        return Client(
            retry=self.retry,
            limits=self.limits,
            headers=self.headers,
            answers=self.answers,
            transport=self.transport,
            rates=self.rates,
            auth=self.auth,
            origins=(self.address(),),
            secrets=secrets_in(self.params, self.body or {}),
        )

    def _revalidation(self, asking: Asking, foresee: Foresee | None) -> Revalidation | None:
        """Return what asks for pages with their validators; None where a 304 would mean nothing, or something else."""
        means_something = NOT_MODIFIED in self.answers.succeed | self.answers.empty | self.answers.retry
        has_own = any(name.lower() in CONDITIONS for name in self.headers)
        if foresee is None or not self.conditional or self.method != "GET" or means_something or has_own:
            return None
        same = fingerprint(asking.url, sorted(asking.params.items()), sorted(self.headers.items()))
        return Revalidation(foresee=foresee, same=same)

    def _pages(self, cursor: Cursor | None, recall: Recall | None, foresee: Foresee | None) -> Iterator[Page]:
        with self.client() as client:
            yield from self.read(client, cursor, recall, foresee)

    def read(
        self,
        client: Client,
        cursor: Cursor | None,
        recall: Recall | None = None,
        foresee: Foresee | None = None,
        ahead: SentAhead | None = None,
    ) -> Iterator[Page]:
        """Yield the pages as `pages` does, with a client that is open, or what was sent ahead."""
        asking, shape = self._asking(), self._shape()
        revalidation = self._revalidation(asking, foresee)
        at: Cursor | None = cursor or loops.begin(self.pagination.first())
        seams = seams_of(self.pagination, is_comparable=self.expand is None)
        while at:
            asked = asking.page(at["at"])
            ask = partial(client.request, self.method, asked.url, asked.params, body=asked.body)
            heard, known_total = None, None
            if ahead is not None:
                response, known_total = ahead.answer(at["at"], asked)
            elif revalidation is None:
                response = ask(headers=asked.headers or None)
            else:
                response, heard = revalidation.ask(ask, asked.headers, at["pages"] + 1, at["at"])
            read = _Read(
                source=self, asking=asking, shape=shape, asked=asked, response=response, at=at,
                heard=heard, known_total=known_total,
            )  # fmt: skip
            page = read.page() if recall is None else read.known_page(recall)
            page = seams.watched(page, partial(asking.shown, asked.added))
            yield page
            at = page.following


@dataclass(frozen=True, kw_only=True, slots=True)
class _Read:
    """A page that was received: what was asked for, and what came."""

    source: JsonApi
    asking: Asking
    shape: Shape
    asked: Asked
    response: Response
    at: Cursor
    heard: Heard | None = None
    known_total: int | None = None

    def known_page(self, recall: Recall) -> Page:
        """Return the page without its records where it is as it was remembered."""
        if self.response.is_empty:
            return self.page()
        if self.heard is not None and self.heard.unchanged is not None:
            return self._unsent_page(self.heard.unchanged)
        digest = _digest_of_response(self.response, self.asked.added)
        remembered = recall(self.at["pages"] + 1, digest)
        if remembered is None:
            return replace(self.page(), digest=digest)
        note = Note.of(remembered)
        following = self._following(note.received, note.digest, None)
        if self.heard is not None:
            remembered = msgspec.structs.replace(remembered, note=self._note(note.received, note.digest, following))
        return Page(
            number=remembered.number,
            records=(),
            size_bytes=len(self.response.body),
            following=following,
            digest=digest,
            note=remembered.note,
            unchanged=remembered,
            reread=lambda: replace(self.page(), digest=digest),
        )

    def _unsent_page(self, remembered: Remembered) -> Page:
        """Return a page that the remote says is as it was remembered: see Note [Not modified]."""
        note = Note.of(remembered)
        assert note.seen is not None, "it was asked for with its validators"
        at = note.seen.following
        return Page(
            number=remembered.number,
            records=(),
            size_bytes=len(remembered.note),
            following=self._advanced(note.digest, lambda: at),
            digest=remembered.digest,
            note=remembered.note,
            unchanged=remembered,
        )

    def _note(self, received: int, digest: str, following: Cursor | None) -> str:
        """Return what the page is remembered with."""
        seen = None if self.heard is None else self.heard.seen(following and following["at"])
        return Note(digest=digest, received=received, seen=seen).text()

    def page(self) -> Page:
        if self.response.is_empty:
            # It is the end, unless that contradicts what the remote has said before: a total, for one.
            self._following(0, "", None)
            return Page(number=self.at["pages"] + 1, records=(), size_bytes=0, following=None)
        cut = self.shape.cut(self.response)
        following = self._following(cut.received, cut.digest, cut)
        return Page(
            number=self.at["pages"] + 1,
            records=cut.records,
            size_bytes=len(self.response.body),
            following=following,
            refused=cut.refused,
            note=self._note(cut.received, cut.digest, following),
        )

    def _following(self, count: int, digest: str, cut: Cut | None) -> Cursor | None:
        """Return the cursor after a page of so many records with that digest."""
        pagination, at = self.source.pagination, self.at
        return self._advanced(digest, lambda: pagination.following(at["at"], self._received(count, cut)))

    def _advanced(self, digest: str, following: Callable[[], Cursor | None]) -> Cursor | None:
        asking = self.asking
        return loops.advance(
            self.at,
            digest,
            following,
            max_pages=self.source.max_pages,
            shown=lambda each: asking.shown(asking.page(each).added),
        )

    def _received(self, count: int, cut: Cut | None) -> Received:
        return Received(
            headers=self.response.headers if self.heard is None else self.heard,
            records=count,
            value=partial(value_at, self.response),
            last=partial(_last, self, cut),
            url=self.asked.url,
            origin=self.asking.url,
            own=self.asking.own,
            known_total=self.known_total,
        )


def _last(read: _Read, cut: Cut | None) -> Any:
    """Return the last record as it was received, decoded; None where there is none, or where it is no JSON."""
    if cut is None or read.shape.expand is not None:
        cut = replace(read.shape, expand=None).cut(read.response)
    try:
        return msgspec.json.decode(bytes(cut.records[-1])) if cut.records else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _digest_of_response(response: Response, added: Mapping[str, Any]) -> bytes:
    """Digest what was asked for, and all of the response that decides about its records."""
    asked = json.dumps([sorted(added.items()), response.headers.get("content-type", "")]).encode()
    digest = hashlib.sha256(b"%d %b" % (len(asked), asked))
    digest.update(response.body)
    return digest.digest()
