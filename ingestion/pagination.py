"""How a remote cuts its collection into pages: pure values that map one response to the next request."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from ingestion.errors import ConfigurationError, RunFailed
from ingestion.types import Cursor, Share

# More records than anybody has; Python refuses to read numbers of thousands of digits.
_TOTAL_DIGITS: Final = 18


@dataclass(frozen=True, kw_only=True, slots=True)
class Received:
    """What a paginator may know of a response: its headers and how many records it held, before any filter."""

    headers: Mapping[str, str]
    records: int


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
class DivisiblePaginator(Paginator, Protocol):
    """A paginator that can start anywhere, so that several workers can read one collection."""

    @property
    def tells_total(self) -> bool:
        """Whether the remote says how much there is."""
        ...

    def ranges(self, *, pages: int, count: int) -> list[Share]:
        """Return so many ranges of so many pages, the last one open-ended."""
        ...

    def ranges_of_total(self, second: Cursor, *, pages: int) -> list[Share]:
        """Return the ranges of so many pages that the collection has, the last one open-ended.

        Args:
            second: the cursor that followed the first page.

        Raises:
            RunFailed: the first page did not tell the total.
        """
        ...

    def within(self, share: Share) -> Paginator:
        """Return the paginator of a range alone."""
        ...


@dataclass(frozen=True, kw_only=True)
class SinglePage:
    """One request returns everything."""

    def first(self) -> Cursor:
        return {}

    def params(self, cursor: Cursor) -> dict[str, str]:
        return {}

    def following(self, cursor: Cursor, received: Received) -> Cursor | None:
        return None


@dataclass(frozen=True, kw_only=True)
class PageNumber:
    """Pages counted from `start`, `size` records each.

    Stop rules: an empty page ends the collection, and so does a page shorter than `size` once a full one was seen.
    Before a full page was seen a short one proves nothing, because many servers cap the page size silently. Where
    `total_header` names a header with the size of the collection, reaching that total ends it too. Ending short of it,
    more records than it says and a total that becomes smaller are errors: something was deleted or the header means
    something else, and records after a deletion move to pages that were read already.
    """

    param: str
    size: int
    size_param: str | None = None
    start: int = 1
    total_header: str | None = None

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ConfigurationError(f"PageNumber(size={self.size}): a page holds at least one record")

    @property
    def tells_total(self) -> bool:
        return self.total_header is not None

    def ranges(self, *, pages: int, count: int) -> list[Share]:
        lasts = [*range(self.start + pages - 1, self.start + pages * (count - 1), pages), None]
        return [
            {"first": self.start + number * pages, "last": last, "before": 0, "through": None, "total": None}
            for number, last in enumerate(lasts)
        ]

    def ranges_of_total(self, second: Cursor, *, pages: int) -> list[Share]:
        # The server may give fewer records a page than it was asked for; its pages are what it counts.
        total, size = second["total"], second["received"]
        if total is None:
            raise RunFailed(
                "total", f"{self.total_header} is missing in the first response: the pages cannot be divided"
            )
        count = -(-total // (size * pages))
        shares = self.ranges(pages=pages, count=count)
        for number, share in enumerate(shares):
            share |= {"before": number * size * pages, "total": total}
            share["through"] = share["before"] + size * pages if share["last"] is not None else None
        return shares

    def within(self, share: Share) -> "PageRange":
        return PageRange(whole=self, share=share)

    def first(self) -> Cursor:
        return {"page": self.start, "received": 0, "full": False, "total": None}

    def params(self, cursor: Cursor) -> dict[str, str]:
        params = {self.param: str(cursor["page"])}
        if self.size_param:
            params[self.size_param] = str(self.size)
        return params

    def following(self, cursor: Cursor, received: Received) -> Cursor | None:
        total = self._total(cursor, received.headers)
        so_far = cursor["received"] + received.records
        if total is not None and so_far >= total:
            if so_far > total:
                raise RunFailed("total", f"{self.total_header} says {total}, but {so_far} records were received")
            return None
        full = cursor["full"] or received.records >= self.size
        if received.records == 0 or (full and received.records < self.size):
            if total is not None:
                raise RunFailed(
                    "incomplete",
                    f"the pages ended after {so_far} records, but {self.total_header} says {total}; "
                    "the next run starts over",
                )
            return None
        return {"page": cursor["page"] + 1, "received": so_far, "full": full, "total": total}

    def _total(self, cursor: Cursor, headers: Mapping[str, str]) -> int | None:
        """Return what this response says, else what an earlier one said."""
        before: int | None = cursor["total"]
        text = headers.get(self.total_header.lower()) if self.total_header else None
        if text is None:
            return before
        if not (text.isascii() and text.isdigit() and len(text) <= _TOTAL_DIGITS):
            raise RunFailed("total", f"{self.total_header} is {text[:40]!r}, expected a number of records")
        total = int(text)
        if before is not None and total < before:
            raise RunFailed(
                "total",
                f"{self.total_header} went from {before} to {total} between two pages: records were deleted, and "
                "others may have moved to pages that were read already; the next run starts over",
            )
        return total


@dataclass(frozen=True, kw_only=True)
class PageRange:
    """Some pages of a collection that others read beside it; records are counted from the collection's start.

    Every page number belongs to one range, and the last range goes on to the collection's own end: together they have
    read everything, however many pages there turn out to be. Where the total is known, a range has to bring exactly the
    records that it was planned for.
    """

    whole: PageNumber
    share: Share

    def first(self) -> Cursor:
        share = self.share
        return self.whole.first() | {"page": share["first"], "received": share["before"], "total": share["total"]}

    def params(self, cursor: Cursor) -> dict[str, str]:
        return self.whole.params(cursor)

    def following(self, cursor: Cursor, received: Received) -> Cursor | None:
        following = self.whole.following(cursor, received)
        last, through = self.share["last"], self.share["through"]
        if following is None or last is None or cursor["page"] < last:
            return following
        if through is not None and following["received"] != through:
            raise RunFailed(
                "incomplete",
                f"{following['received']} records came on the pages up to {last}, expected {through}: a page is "
                "shorter than the first one was; the next run starts over",
            )
        return None
