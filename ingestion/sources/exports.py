"""Exports that a remote makes when it is asked to: created once, waited for, and downloaded as files are."""

import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, quote, urljoin, urlsplit

import msgspec

from ingestion.errors import ConfigurationError, NotReady, RunFailed
from ingestion.http import Answered, Answers, Auth, Client, Limits, Rate, Response, Retry, Transport, secrets_in
from ingestion.http.waiting import retry_after
from ingestion.pagination import Path
from ingestion.pagination.marks import mark_of
from ingestion.sources.arguments import placed
from ingestion.sources.files import Entry, Facts, FileLimits, Files, Format, Session
from ingestion.sources.files.entries import ByteStream
from ingestion.sources.files.source import compression_of
from ingestion.sources.files.web import Urls
from ingestion.sources.splitting import value_at
from ingestion.texts import Text, text_of
from ingestion.types import Cursor, Page

# A wait from this long on frees the worker: a part that is taken up again costs some milliseconds.
_FREED_FROM: Final = timedelta(seconds=10)
_GONE: Final = (404, 410)
# What stores say of a link that is no longer good.
_EXPIRED_LINK: Final = (400, 401, 403, 404, 410)


@dataclass(frozen=True, kw_only=True)
class Export:
    """A remote that makes a file of what it is asked for: a request creates the export, others ask whether it is ready.

    `status` and `download` have `{export}` where the export's id goes.

    Args:
        url: where exports are created.
        status: where one is asked for.
        id: where the answer of the creation has the id.
        state: where the status has the state.
        ready, failed, expired: what the state is then; whatever else it is means that it is not ready yet.
        link: where the status has the link to the file, or a list of links.
        download: where the file is, when the status has no link.
        reason: where the status says why it failed.
        idempotency_header: header for a key that is the same whenever a run asks for its export again.
        interval, interval_max: from one question to the next; doubled each time.
        deadline: from the creation until it has to be ready.
        limits: of the answers that say how the export is; `file_limits` are those of the file.
    """

    url: Text
    status: Text
    ready: frozenset[str]
    format: Format
    id: Path = ("id",)
    state: Path = ("status",)
    failed: frozenset[str] = frozenset()
    expired: frozenset[str] = frozenset()
    link: Path = ()
    download: Text = ""
    reason: Path = ()
    method: Literal["POST", "PUT", "GET"] = "POST"
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    idempotency_header: str = ""
    interval: timedelta = timedelta(seconds=5)
    interval_max: timedelta = timedelta(minutes=1)
    deadline: timedelta = timedelta(hours=6)
    compression: Literal["none", "gzip", "zip"] | None = None
    member: str = "**"
    retry: Retry = field(default_factory=Retry)
    limits: Limits = field(default_factory=Limits)
    file_limits: FileLimits = field(default_factory=FileLimits)
    auth: Auth | None = None
    answers: Answers = field(default_factory=Answers)
    transport: Transport = field(default_factory=Transport)
    rates: tuple[Rate, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.link) == bool(self.download):
            raise ConfigurationError('Export needs to know where the file is: link=("url",) or download=…, one of them')
        if not self.ready or self.interval <= timedelta(0):
            raise ConfigurationError("Export needs the states that mean ready, and an interval")

    def with_values(self, values: Mapping[str, str | int]) -> "Export":
        """Return the source with more members of the creation's body, or without one with more query parameters."""
        if self.body is not None:
            return replace(self, body=placed(self.body, values))
        return replace(self, params={**self.params, **{name: str(value) for name, value in values.items()}})

    def pages(self, cursor: Cursor | None) -> Iterator[Page]:
        """Yield the pages of the files of one export."""
        return self.for_feed(Facts()).pages(cursor)

    def for_feed(self, facts: Facts) -> "ExportOfFeed":
        """Return the source as one feed sees it."""
        return ExportOfFeed(self, facts)

    def client(self) -> Client:
        """Return a client, whose credentials go to the origin of `url` alone."""
        return Client(
            retry=self.retry,
            limits=self.limits,
            headers=self.headers,
            answers=self.answers,
            transport=self.transport,
            rates=self.rates,
            auth=self.auth,
            origins=(text_of(self.url),),
            secrets=secrets_in(self.params, self.body or {}, *map(_query, (self.status, self.download))),
        )


class ExportOfFeed:
    """The export that one part of a run waits for, and reads.

    The cursor has the export's id from its creation on, so that whoever goes on waits for the same one. It has no link:
    those often hold signatures, and are asked for anew.
    """

    def __init__(self, export: Export, facts: Facts) -> None:
        self._export, self._facts = export, facts

    def pages(self, cursor: Cursor | None) -> Iterator[Page]:
        """Yield an empty page for each step that is to be remembered, and then those of the files.

        Raises:
            NotReady: the next question is so far away that the worker had better do something else.
            RunFailed: `export_failed`, `export_expired`, `export_late`.
        """
        at = cursor
        with self._export.client() as client:
            if at is None:
                at = self._created(client)
                yield _step(at)
            links = yield from self._awaited(client, at)
        place = _Results(self._export, str(at["export"]), links)
        compression = self._export.compression or compression_of(urlsplit(links[0]).path)
        files = Files(
            place=place,
            format=self._export.format,
            compression=compression,
            member=self._export.member,
            order="name",
            reload="always",
            retry=self._export.retry,
            limits=self._export.file_limits,
        )
        for page in files.for_feed(self._facts).pages(at["file"]):
            following = None if page.following is None else at | {"file": page.following}
            # It will never be asked for again.
            yield replace(page, following=following, file=None)

    def _created(self, client: Client) -> Cursor:
        export = self._export
        headers = {} if export.body is None else {"Content-Type": "application/json"}
        if export.idempotency_header and self._facts.key:
            headers[export.idempotency_header] = self._facts.key
        body = None if export.body is None else msgspec.json.encode(export.body)
        url = text_of(export.url)
        response = client.request(export.method, url, export.params, body=body, headers=headers or None)
        name = mark_of(value_at(response, export.id), ".".join(export.id), is_in_body=False)
        # In a path these lead elsewhere.
        if str(name) in ("", ".", ".."):
            raise RunFailed("cursor", f"{'.'.join(export.id)} of a new export is {name!r}")
        return {"export": name, "since": round(time.time()), "polls": 0, "file": None}

    def _awaited(self, client: Client, at: Cursor) -> Generator[Page, None, list[str]]:
        """Ask until the export is ready; return the links to its files."""
        polls = at["polls"]
        while True:
            state, links, told = ask(self._export, client, at["export"])
            if links is not None:
                return links
            seconds = time.time() - at["since"]
            said = f"export {at['export']} is {state!r:.60} after {seconds:.0f} s"
            if seconds > self._export.deadline.total_seconds():
                raise RunFailed("export_late", f"{said}, and was to be ready after {self._export.deadline}")
            wait = min(self._export.interval * 2 ** min(polls, 20), self._export.interval_max)
            wait = max(wait, told or wait)
            polls += 1
            if self._facts.frees_worker and wait >= _FREED_FROM:
                # Committed first: to have asked is progress, and no attempt that failed.
                yield _step(at | {"polls": polls})
                raise NotReady(said, wait=wait)
            time.sleep(wait.total_seconds())


def ask(export: Export, client: Client, name: str | int) -> tuple[str, list[str] | None, timedelta | None]:
    """Return an export's state, the links to its files when it is ready, and how long the remote asks to wait.

    Raises:
        RunFailed: `export_failed`, `export_expired`.
    """
    url = text_of(export.status).replace("{export}", quote(str(name), safe=""))
    response = client.request("GET", url, {}, answers=_GONE)
    state = "gone" if response.status in _GONE else str(value_at(response, export.state))
    if state in export.expired or response.status in _GONE:
        raise RunFailed("export_expired", f"export {name} is {state!r:.60}; the next run creates another one")
    if state in export.failed:
        why = value_at(response, export.reason) if export.reason else None
        raise RunFailed("export_failed", f"export {name} is {state!r:.60}: {why or 'no reason'!s:.200}")
    if state not in export.ready:
        return state, None, retry_after(response.headers)
    return state, _links(export, name, url, response), None


def _links(export: Export, name: str | int, url: str, response: Response) -> list[str]:
    if not export.link:
        return [text_of(export.download).replace("{export}", quote(str(name), safe=""))]
    told = value_at(response, export.link)
    links = told if isinstance(told, list) else [told]
    if not links or not all(isinstance(link, str) and link for link in links):
        raise RunFailed("shape", f"export {name} is ready, but {'.'.join(export.link)} is no link and no list of links")
    return [urljoin(url, link) for link in links]


@dataclass(frozen=True)
class _Results:
    """The place where the files of an export are."""

    export: Export
    name: str
    links: list[str]

    @contextmanager
    def session(self) -> Iterator[Session]:
        with self.export.client() as asking, self.export.client() as reading:
            yield _ResultsSession(self, asking, reading)


class _ResultsSession:
    def __init__(self, results: _Results, asking: Client, reading: Client) -> None:
        self._results, self._asking = results, asking
        self._links = results.links
        self._urls = Urls({}, asking, reading)

    def find(self, pattern: str) -> Iterator[Entry]:
        for number in range(len(self._links)):
            # By its id and number: the links are others each time they are asked for.
            yield Entry(name=f"{self._results.name}/{number + 1:05}", handle=number, version=self._results.name)

    def look(self, entry: Entry) -> Entry | None:
        return entry  # what was exported stays as it is

    def open(self, entry: Entry, offset: int) -> ByteStream:
        try:
            return self._opened(entry, offset)
        except Answered as error:
            if error.status not in _EXPIRED_LINK:
                raise
        # Links are good for some minutes; the export itself may be longer.
        _, links, _ = ask(self._results.export, self._asking, self._results.name)
        if links is None or len(links) != len(self._links):
            raise RunFailed("export_expired", f"export {self._results.name} is no longer what it was")
        self._links = links
        return self._opened(entry, offset)

    def _opened(self, entry: Entry, offset: int) -> ByteStream:
        return self._urls.open(replace(entry, handle=self._links[entry.handle], version=""), offset)

    def move(self, entry: Entry, name: str) -> None:
        raise ConfigurationError(f"{entry.name} cannot be moved to {name}: it is an export")


def _query(given: Text) -> list[str]:
    """Return the values in the query of a URL."""
    return [value for _, value in parse_qsl(urlsplit(text_of(given)).query)]


def _step(at: Cursor) -> Page:
    return Page(number=0, records=(), size_bytes=0, following=at)
