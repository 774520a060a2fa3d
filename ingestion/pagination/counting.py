"""Pages that are counted: by number, or by the records before them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ingestion import division
from ingestion.errors import ConfigurationError, RunFailed
from ingestion.pagination.ends import is_end, name_of_total, total_told
from ingestion.pagination.protocols import Path, Place, Received
from ingestion.types import Cursor, Share


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
    `total_header` or `total` tells the size of the collection, reaching that total ends it too. Ending short of it,
    more records than it says and a total that becomes smaller are errors: something was deleted or it means
    something else, and records after a deletion move to pages that were read already.
    """

    param: str
    size: int
    size_param: str | None = None
    start: int = 1
    total_header: str | None = None
    total: Path = ()
    has_more: Path = ()
    place: Place = "query"

    def __post_init__(self) -> None:
        _refuse_mistakes(self)

    @property
    def tells_total(self) -> bool:
        return bool(self.total_header or self.total)

    def ranges(self, *, pages: int, count: int) -> list[Share]:
        division.check(count)
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
                "total", f"{name_of_total(self)} is missing in the first response: the pages cannot be divided"
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

    def values(self, cursor: Cursor) -> dict[str, Any]:
        return {self.param: cursor["page"]} | ({self.size_param: self.size} if self.size_param else {})

    def following(self, cursor: Cursor, received: Received) -> Cursor | None:
        total = total_told(self, cursor["total"], received)
        so_far = cursor["received"] + received.records
        full = cursor["full"] or received.records >= self.size
        if is_end(self, received, so_far=so_far, full=full, total=total):
            return None
        return {"page": cursor["page"] + 1, "received": so_far, "full": full, "total": total}

    def upcoming(self, cursor: Cursor) -> Iterator[Cursor]:
        behind, total = cursor["page"] - self.start, cursor["total"]
        if total is None or behind < 1 or not cursor["received"]:
            return
        # Rounded up: rather a page too few, which are asked for later, than one beyond the end.
        size = -(-cursor["received"] // behind)
        for number in range(-(-(total - cursor["received"]) // size)):
            yield cursor | {"page": cursor["page"] + number}


@dataclass(frozen=True, kw_only=True)
class OffsetLimit:
    """Pages that begin after so many records, `size` each. The offset advances by what was received.

    Stop rules as those of PageNumber.

    Args:
        overlap: begin each page with so many records of the one before, which shows that none in between was missed.
    """

    param: str
    size: int
    size_param: str | None = None
    start: int = 0
    total_header: str | None = None
    total: Path = ()
    has_more: Path = ()
    place: Place = "query"
    overlap: int = 0

    def __post_init__(self) -> None:
        _refuse_mistakes(self)
        if not 0 <= self.overlap < self.size:
            raise ConfigurationError(f"OffsetLimit(overlap={self.overlap}): from 0 to less than the size, {self.size}")

    def first(self) -> Cursor:
        return {"offset": self.start, "full": False, "total": None}

    def params(self, cursor: Cursor) -> dict[str, str]:
        return {name: str(value) for name, value in self.values(cursor).items()}

    def values(self, cursor: Cursor) -> dict[str, Any]:
        return {self.param: self.begin(cursor)} | ({self.size_param: self.size} if self.size_param else {})

    def begin(self, cursor: Cursor) -> int:
        """Return the offset that is asked for."""
        return int(cursor["offset"]) - int(cursor.get("lap", 0))

    @property
    def tells_total(self) -> bool:
        return bool(self.total_header or self.total)

    def ranges(self, *, pages: int, count: int) -> list[Share]:
        division.check(count)
        edges = [self.start + number * pages * self.size for number in range(count)]
        return [
            {"first": first, "end": end, "total": None} for first, end in zip(edges, [*edges[1:], None], strict=True)
        ]

    def ranges_of_total(self, second: Cursor, *, pages: int) -> list[Share]:
        total = second["total"]
        if total is None:
            raise RunFailed("total", f"{name_of_total(self)} is missing in the first response: it cannot be divided")
        return [share | {"total": total} for share in self.ranges(pages=pages, count=-(-total // (self.size * pages)))]

    def within(self, share: Share) -> "OffsetRange":
        return OffsetRange(whole=self, share=share)

    def following(self, cursor: Cursor, received: Received) -> Cursor | None:
        total = total_told(self, cursor["total"], received)
        full = cursor["full"] or received.records >= self.size
        offset = self.begin(cursor) + received.records
        if offset <= cursor["offset"]:
            # What the page before had as well is nothing new.
            offset, received = cursor["offset"], replace(received, records=0)
        if is_end(self, received, so_far=offset - self.start, full=full, total=total):
            return None
        following = {"offset": offset, "full": full, "total": total}
        # Less than a page, however few records a remote gives for one: each page brings something new.
        return following | {"lap": min(self.overlap, received.records - 1)} if self.overlap else following

    def upcoming(self, cursor: Cursor) -> Iterator[Cursor]:
        # Where no page was full yet, the remote may give fewer records than it is asked for.
        if cursor["full"] and cursor["total"] is not None:
            for offset in range(cursor["offset"], self.start + cursor["total"], self.size - cursor.get("lap", 0)):
                yield cursor | {"offset": offset}


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

    @property
    def place(self) -> Place:
        return self.whole.place

    def params(self, cursor: Cursor) -> dict[str, str]:
        return self.whole.params(cursor)

    def values(self, cursor: Cursor) -> dict[str, Any]:
        return self.whole.values(cursor)

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

    def upcoming(self, cursor: Cursor) -> Iterator[Cursor]:
        last = self.share["last"]
        return (page for page in self.whole.upcoming(cursor) if last is None or page["page"] <= last)


@dataclass(frozen=True, kw_only=True)
class OffsetRange:
    """Some records of a collection that others read beside it, from one offset to before another.

    Where the remote takes a size, the last page asks for no more than what is left; where it takes none, it may bring
    records of the next range as well.
    """

    whole: OffsetLimit
    share: Share

    @property
    def place(self) -> Place:
        return self.whole.place

    def first(self) -> Cursor:
        return self.whole.first() | {"offset": self.share["first"], "total": self.share["total"]}

    def params(self, cursor: Cursor) -> dict[str, str]:
        return {name: str(value) for name, value in self.values(cursor).items()}

    def values(self, cursor: Cursor) -> dict[str, Any]:
        values, end, name = self.whole.values(cursor), self.share["end"], self.whole.size_param
        return (
            values | {name: min(values[name], end - self.whole.begin(cursor))} if name and end is not None else values
        )

    def following(self, cursor: Cursor, received: Received) -> Cursor | None:
        end = self.share["end"]
        is_through = end is not None and self.whole.begin(cursor) + received.records >= end
        # What is shorter here is so because less was asked for.
        following = self.whole.following(cursor | {"full": False} if is_through else cursor, received)
        return None if is_through else following

    def upcoming(self, cursor: Cursor) -> Iterator[Cursor]:
        end = self.share["end"]
        return (page for page in self.whole.upcoming(cursor) if end is None or page["offset"] < end)


def _refuse_mistakes(counted: PageNumber | OffsetLimit) -> None:
    if counted.size < 1:
        raise ConfigurationError(f"{type(counted).__name__}(size={counted.size}): a page holds at least one record")
    if counted.total_header and counted.total:
        raise ConfigurationError(f"{type(counted).__name__} takes total_header or total, not both")
