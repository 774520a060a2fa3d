"""What paginators are asked and what they are told: values and protocols."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from ingestion.types import Cursor, Share

# Names on the way to a value in a JSON body.
Path = tuple[str, ...]
Place = Literal["query", "body", "header"]


def is_path(path: object) -> bool:
    """Tell whether this is a path of one name at least; a text alone is none, whatever the annotations say."""
    return isinstance(path, tuple) and bool(path)


def _nothing(path: Path) -> None:
    return None


def _none() -> None:
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Received:
    """What a paginator may know of a response. Nothing of the body is decoded before it is asked for.

    Args:
        headers: with names in lower case.
        records: how many there were, before any filter.
        value: the JSON value at a path of names in the body, None where there is none.
        last: the last record, decoded; None when there was no record.
        url: what was asked for, with its query.
        origin: the feed's own URL, which says where links may lead.
        own: the query parameters that the feed sends itself. They are not kept in cursors.
        known_total: what was known of the total when the page was asked for; None where the page before had been read.
    """

    headers: Mapping[str, str]
    records: int
    value: Callable[[Path], Any] = _nothing
    last: Callable[[], Any] = _none
    url: str = ""
    origin: str = ""
    own: Mapping[str, str] = field(default_factory=dict)
    known_total: int | None = None


class Paginator(Protocol):
    """Cursor in, parameters out; cursor and response in, next cursor out."""

    def first(self) -> Cursor:
        """Return the cursor of the first page."""
        ...

    def params(self, cursor: Cursor) -> dict[str, str]:
        """Return the query parameters that ask for the page at `cursor`."""
        ...

    def following(self, cursor: Cursor, received: Received) -> Cursor | None:
        """Return the cursor of the next page, or None when this page was the last.

        Raises:
            RunFailed: the responses contradict each other, so that completeness cannot be promised.
        """
        ...


@runtime_checkable
class PlacedPaginator(Paginator, Protocol):
    """A paginator whose parameters may go elsewhere than into the query."""

    @property
    def place(self) -> Place:
        """Where the parameters go: into the query, the JSON body (by dotted path) or the headers."""
        ...

    def values(self, cursor: Cursor) -> dict[str, Any]:
        """Return the parameters as JSON values, as a body holds them."""
        ...


@runtime_checkable
class LinkedPaginator(Paginator, Protocol):
    """A paginator that is told whole addresses by the remote."""

    def link(self, cursor: Cursor) -> tuple[str, Sequence[str]] | None:
        """Return the address, and the names of the feed's own parameters that belong to it; None for the first."""
        ...


@runtime_checkable
class DivisiblePaginator(Paginator, Protocol):
    """A paginator that can start anywhere, so that several workers can read one collection."""

    @property
    def tells_total(self) -> bool:
        """Whether the remote says how much there is."""
        ...

    def ranges(self, *, pages: int, count: int) -> list[Share]:
        """Return so many ranges of so many pages, the last one open-ended.

        Raises:
            RunFailed: `too_many_parts`.
        """
        ...

    def ranges_of_total(self, second: Cursor, *, pages: int) -> list[Share]:
        """Return the ranges of so many pages that the collection has, the last one open-ended.

        Args:
            second: the cursor that followed the first page.

        Raises:
            RunFailed: the first page did not tell the total, or there are too many.
        """
        ...

    def within(self, share: Share) -> Paginator:
        """Return the paginator of a range alone."""
        ...


@runtime_checkable
class ForeseeingPaginator(Paginator, Protocol):
    """A paginator that can tell the pages to come, so that several can be asked for at once."""

    def upcoming(self, cursor: Cursor) -> Iterator[Cursor]:
        """Yield the cursors of the pages that are still expected, the one at `cursor` first; none while nobody knows.

        They are good for asking alone: where to go on is said by `following`, as ever.
        """
        ...
