"""Endpoints that are asked once for each record of another source, or once for several of them."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final
from urllib.parse import quote

import msgspec

from ingestion.errors import ConfigurationError, RunFailed
from ingestion.http import Client, is_header_value
from ingestion.pagination import Path
from ingestion.pagination.marks import mark_of
from ingestion.pagination.protocols import is_path
from ingestion.sources.ahead import in_order
from ingestion.sources.json_api import JsonApi
from ingestion.types import Cursor, Page, Recall, Record

# The values that are still to be asked for are stored with each chunk.
_MOST_PARENTS: Final = 10_000
_BEGUN: Final[Cursor] = {"pages": 0, "done": 0, "child": None}
_START: Final[Cursor] = {"pages": 0, "parents": None, "more": True, "left": [], "child": None}


@dataclass(frozen=True, kw_only=True)
class ForEach:
    """What an endpoint has for each record of another source: `source` is read once for each, or for each batch.

    Its URL, parameters and headers, and texts in its body, have `{parent}` where the value goes; a text of the body
    that is `{parents}` alone becomes the list of the batch's values.

    Args:
        parents: any source of records.
        field: names on the way to the value in a parent.
        batch: parents of one request.
        separator: what stands between the values of a batch.
        parent_as: name under which every record gets its parent's value.
        concurrency: parents, or batches of them, whose children are read at once.
    """

    parents: Any
    field: Path
    source: JsonApi
    batch: int = 1
    separator: str = ","
    parent_as: str | None = None
    concurrency: int = 1

    def __post_init__(self) -> None:
        if not is_path(self.field):
            raise ConfigurationError('ForEach(field=…) takes the names on the way to the value: ("id",)')
        if self.batch < 1 or (self.batch > 1 and self.parent_as):
            raise ConfigurationError("ForEach takes a batch from 1 on, and parent_as only without batches")
        if self.concurrency < 1 or self.source.concurrency != 1:
            raise ConfigurationError("ForEach takes concurrency from 1 on, and its source none of its own")

    @property
    def url(self) -> str | Callable[[], str]:
        return self.source.url

    def with_values(self, values: Mapping[str, str | int]) -> "ForEach":
        """Return the source with values for the requests of the children; all parents are read."""
        return replace(self, source=self.source.with_values(values))

    def pages(self, cursor: Cursor | None) -> Iterator[Page]:
        at: Cursor | None = cursor or _START
        with self.source.client() as client, closing(_Parents(self)) as parents:
            while at is not None:
                at = at if at["left"] else parents.next(at)
                values = at["left"][: self.batch]
                children = _read(self.bound(values), at["child"], client) if values else iter(())
                for page in self._pages_of(at, children):
                    yield page
                    at = page.following

    def pages_at_once(
        self, cursor: Cursor | None, recall: Recall | None, *, at_once: int, max_bytes: int
    ) -> Iterator[Page]:
        at: Cursor | None = cursor or _START
        with closing(_Parents(self)) as parents:
            while at is not None:
                at = at if at["left"] else parents.next(at)
                for page in self._pages_of(at, self.at_once(at["left"], at["child"], at_once, max_bytes)):
                    yield page
                    at = page.following

    def _pages_of(self, at: Cursor, pages: Iterator[Page]) -> Iterator[Page]:
        """Yield the pages of some batches as those of the whole; an empty one where there is no parent."""
        if not at["left"]:
            number = at["pages"] + 1
            following = at | {"pages": number} if at["more"] else None
            yield Page(number=number, records=(), size_bytes=0, following=following)
        for page in pages:
            number = at["pages"] + 1
            following = _after(at, page, number, self.batch)
            yield replace(page, number=number, following=following)
            at = following or at

    def at_once(
        self, values: Sequence[str | int], child: Cursor | None, at_once: int, max_bytes: int
    ) -> Iterator[Page]:
        """Yield the pages of the children of these parents, those of several batches being read at once."""
        batches = (values[start : start + self.batch] for start in range(0, len(values), self.batch))
        children = (
            partial(_read, self.bound(batch), child if number == 0 else None) for number, batch in enumerate(batches)
        )
        return in_order(children, tool=self.source.client, at_once=at_once, max_bytes=max_bytes)

    def values(self, page: Page) -> list[str | int]:
        """Return the values of a page of parents, each once.

        Raises:
            RunFailed: `cursor`, a parent has none that can be asked with.
        """
        return list(dict.fromkeys(map(self._value, page.records)))

    def of(self, values: Sequence[str | int]) -> "Children":
        """Return the source with these parents alone."""
        return Children(whole=self, values=tuple(values))

    def _value(self, record: Record) -> str | int:
        try:
            value = msgspec.json.decode(bytes(record))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            value = None
        for name in self.field:
            value = value.get(name) if isinstance(value, dict) else None
        value = mark_of(value, ".".join(self.field), is_in_body=False)
        # In a path these lead elsewhere.
        if isinstance(value, str) and value in ("", ".", ".."):
            raise RunFailed("cursor", f"{'.'.join(self.field)} of a parent is {value!r}")
        checked: str | int = value
        return checked

    def bound(self, values: Sequence[str | int]) -> JsonApi:
        """Return the source of the children of a batch.

        Raises:
            RunFailed: `cursor`, a value cannot be sent in a header.
            ConfigurationError: it would be asked for the same again and again.
        """
        source = self.source
        text = self.separator.join(map(str, values))
        path = self.separator.join(quote(str(value), safe="") for value in values)
        asked = (source.address(), source.params, source.headers, source.body)
        url = source.address().replace("{parent}", path)
        params = {name: given.replace("{parent}", text) for name, given in source.params.items()}
        headers = {name: self._header(name, given, text) for name, given in source.headers.items()}
        body = _filled(source.body, text, list(values))
        if (url, params, headers, body) == asked:
            raise ConfigurationError(
                "ForEach: neither the URL of its source has {parent}, nor its parameters, headers or body"
            )
        added = {self.parent_as: values[0]} if self.parent_as else {}
        return replace(source, url=url, params=params, headers=headers, body=body, added=added)

    def _header(self, name: str, given: str, text: str) -> str:
        if "{parent}" not in given:
            return given
        # A line break would begin a header of the remote's choosing, or another request.
        if not is_header_value(filled := given.replace("{parent}", text)):
            raise RunFailed(
                "cursor",
                f"{'.'.join(self.field)} of a parent cannot be sent in the header {name}: it has other characters than "
                "those of ASCII, a line break, or spaces around it",
            )
        return filled


class _Parents:
    """The pages of parents, read one after the other when the children of those before have been read.

    All by one reading, with its client: nobody logs in again for each page, and what one page tells, such as a limit of
    the remote's, counts for the next.
    """

    def __init__(self, whole: ForEach) -> None:
        self._whole = whole
        self._pages: Iterator[Page] | None = None

    def next(self, at: Cursor) -> Cursor:
        """Return a cursor with the values of the next page of parents, which are kept so that it is fetched once.

        Raises:
            RunFailed: `too_many_records`.
        """
        if self._pages is None:
            self._pages = self._whole.parents.pages(at["parents"])
        page = next(self._pages, None)
        values = self._whole.values(page) if page else []
        if len(values) > _MOST_PARENTS:
            raise RunFailed(
                "too_many_records", f"more than {_MOST_PARENTS:,} parents in one page; ask for smaller pages"
            )
        following = page.following if page else None
        return at | {"left": values, "parents": following, "more": following is not None, "child": None}

    def close(self) -> None:
        if isinstance(self._pages, Generator):
            self._pages.close()


@dataclass(frozen=True, kw_only=True)
class Children:
    """What an endpoint has for each of some records of another source, which are known."""

    whole: ForEach
    values: tuple[str | int, ...]

    @property
    def concurrency(self) -> int:
        return self.whole.concurrency

    def pages(self, cursor: Cursor | None) -> Iterator[Page]:
        at = cursor or _BEGUN
        with self.whole.source.client() as client:
            yield from self._numbered(at, self._read(client, at))

    def pages_at_once(
        self, cursor: Cursor | None, recall: Recall | None, *, at_once: int, max_bytes: int
    ) -> Iterator[Page]:
        at = cursor or _BEGUN
        yield from self._numbered(
            at, self.whole.at_once(self.values[at["done"] :], at["child"], at_once=at_once, max_bytes=max_bytes)
        )

    def _read(self, client: Client, at: Cursor) -> Iterator[Page]:
        child = at["child"]
        for start in range(at["done"], len(self.values), self.whole.batch):
            yield from _read(self.whole.bound(self.values[start : start + self.whole.batch]), child, client)
            child = None

    def _numbered(self, at: Cursor, pages: Iterator[Page]) -> Iterator[Page]:
        for page in pages:
            done = at["done"] if page.following else at["done"] + self.whole.batch
            at = {"pages": at["pages"] + 1, "done": done, "child": page.following}
            yield replace(page, number=at["pages"], following=at if done < len(self.values) else None)


def _read(source: JsonApi, cursor: Cursor | None, client: Client) -> Iterator[Page]:
    # One client for all children, whose connection stays; the headers are each child's own.
    client.put_headers(source.headers)
    yield from source.read(client, cursor)


def _after(at: Cursor, page: Page, number: int, count: int) -> Cursor | None:
    """Return the cursor behind a child's page; None behind the last one of the last child."""
    left = at["left"] if page.following else at["left"][count:]
    if not left and not at["more"]:
        return None
    return at | {"pages": number, "left": left, "child": page.following}


def _filled(template: Any, text: str, values: list[str | int]) -> Any:
    if isinstance(template, Mapping):
        return {name: _filled(value, text, values) for name, value in template.items()}
    if isinstance(template, list | tuple):
        return [_filled(value, text, values) for value in template]
    if template == "{parents}":
        return values
    return template.replace("{parent}", text) if isinstance(template, str) else template
