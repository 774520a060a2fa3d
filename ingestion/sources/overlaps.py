"""What the seams between counted pages tell: that the collection was changed while it was read. No I/O.

Note [Counted pages]: a page that is asked for by its number or offset holds what is there when it is asked for. What
is inserted before it moves records from the end of the page before to its start, where they are found; they are loaded
once. What is deleted before it moves records the other way, to where nobody looks any more. Only pages that overlap
show that: the next one has to begin with what the page before ended with.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import structlog

from ingestion.pagination import OffsetLimit, OffsetRange, PageNumber, PageRange, Paginator
from ingestion.types import Page, Record, Records

log = structlog.get_logger(__name__)

# What somebody inserts before a page moves its last records to the next one: these are looked through.
_TAIL_BYTES: Final = 64 * 1024
_TAIL_RECORDS: Final = 100


def tail_of(records: Sequence[Record]) -> bytes:
    """Return the end of a page's text."""
    if isinstance(records, Records):
        return records.text[-_TAIL_BYTES:]
    return b"[" + b",".join(map(bytes, records[-_TAIL_RECORDS:])) + b"]"


def begins_within(records: Sequence[Record], tail: bytes) -> bool:
    """Tell whether the first record is, byte for byte, one of those at the end of the page before."""
    if not tail or not records:
        return False
    first = bytes(records[0])
    at = tail.find(first)
    # Not where it is a member of a record, or the end of a longer number.
    return at > 0 and tail[at - 1 : at] in b"[, \n\r\t" and tail[at + len(first) :].lstrip()[:1] in (b",", b"]")


class Seams:
    """Compares each page of one slice with the page before it; each finding is told once. See Note [Counted pages].

    Args:
        overlap: as that of OffsetLimit.
        total: what has the number of all records, empty where nothing has it.
    """

    def __init__(self, overlap: int, total: str = "") -> None:
        self._overlap, self._total = overlap, total
        self._tail, self._expected = b"", b""
        self._told: set[str] = set()

    def finding(self, page: Page) -> str:
        """Return what the seam before a page tells, as a sentence; mostly nothing."""
        found = self._found(page)
        self._remember(page)
        if found in self._told:
            return ""
        self._told.add(found)
        return found.format(page=page.number, before=page.number - 1)

    def watched(self, page: Page, request: Callable[[], str]) -> Page:
        """Return the page with what the seam before it tells, which is logged with the request."""
        if found := self.finding(page):
            log.warning("the source changed between two pages", request=request(), warning=found)
        elif self._lacks_total(page):
            found = _NO_TOTAL.format(total=self._total)
            log.warning("the remote tells no total", request=request(), warning=found)
        if not found:
            return page
        return replace(page, warning=f"{page.warning}; {found}" if page.warning else found)

    def _lacks_total(self, page: Page) -> bool:
        """Tell whether the first page has not said what the feed counts on; a name may be misspelt."""
        if not self._total or page.number != 1 or page.following is None:
            return False
        return page.following["at"].get("total") is None

    def _found(self, page: Page) -> str:
        if page.unchanged is not None:
            return ""
        first = bytes(page.records[0]) if page.records and self._expected else b""
        if self._expected and first == self._expected:
            return ""
        if begins_within(page.records, self._tail):
            return _MOVED
        return _GONE if self._expected else ""

    def _remember(self, page: Page) -> None:
        # A page that is skipped has no records to compare with.
        records = page.records if page.unchanged is None else ()
        self._tail = tail_of(records) if records else b""
        lap = min(self._overlap, len(records) - 1)
        self._expected = bytes(records[-lap]) if lap > 0 else b""


class _NoSeams(Seams):
    """Of pages that are marked or linked: these stay where they are."""

    def __init__(self) -> None:
        super().__init__(0)

    def finding(self, page: Page) -> str:
        return ""


def seams_of(pagination: Paginator, *, is_comparable: bool = True) -> Seams:
    """Return what looks at the seams of a source's pages.

    Args:
        is_comparable: the records are what is counted, and not what comes out of it.
    """
    if isinstance(pagination, PageRange | OffsetRange):
        pagination = pagination.whole
    overlap = pagination.overlap if isinstance(pagination, OffsetLimit) else 0
    if not isinstance(pagination, PageNumber | OffsetLimit) or (overlap and not is_comparable):
        return _NoSeams()
    return Seams(overlap, pagination.total_header or ".".join(pagination.total))


_MOVED: Final = (
    "page {page} begins with a record of page {before}: records were inserted before it, or moved, while the pages "
    "were counted. What came twice is loaded once; whatever moved the other way may be missing until the next full run"
)
_NO_TOTAL: Final = (
    "{total} is missing in the first response: nobody can tell whether all records were read. It may have another name"
)
_GONE: Final = (
    "page {page} does not begin with what page {before} ended with: records before it were deleted, or one of these "
    "was changed, while the pages were counted. As many others may be missing until the next full run"
)
