"""Ranges of pages."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ingestion import division
from ingestion.pagination import DivisiblePaginator
from ingestion.sources import Source
from ingestion.types import Share


@dataclass(frozen=True, kw_only=True)
class PageRanges:
    """Ranges of so many pages; the last one is open-ended.

    Their number follows from the remote's total, which the first page tells. Where the remote tells none, `ranges` says
    how many there are: those beyond the end are found empty.
    """

    pages: int
    ranges: int | None = None

    def plan(self, source: Source, *, now: datetime) -> Sequence[Share]:
        """Ask for the first page, where its total is needed; it is read once more by the first part."""
        pagination = _divisible(source)
        assert pagination is not None, "a system check has looked"
        if self.ranges is not None:
            return pagination.ranges(pages=self.pages, count=self.ranges)
        first = next(iter(source.pages(None)), None)
        if first is None or first.following is None:
            return [{}]
        # What a paginated source keeps for its paginator.
        return pagination.ranges_of_total(first.following["at"], pages=self.pages)

    def bind(self, source: Source, share: Share) -> Source:
        """Return the source with a paginator that knows no page but those of the range."""
        pagination = _divisible(source)
        if pagination is None or "first" not in share:
            raise division.misfit(self)
        return _replaced(source, pagination=pagination.within(share))

    def problem(self, source: Source) -> str | None:
        """Ask for pages that can be asked for by number, and for a way to know how many there are."""
        pagination = _divisible(source)
        if pagination is None:
            return "its pages cannot be asked for by number: PageRanges needs a source with PageNumber or OffsetLimit"
        if self.pages < 1 or (self.ranges is not None and self.ranges < 1):
            return "PageRanges takes numbers from 1 on"
        if pagination.tells_total == (self.ranges is not None):
            return (
                "PageRanges needs either a pagination with total_header or total, to know how many pages there are, or "
                "ranges=…, and not both"
            )
        return None


def _divisible(source: Source) -> DivisiblePaginator | None:
    pagination = getattr(source, "pagination", None)
    return pagination if isinstance(pagination, DivisiblePaginator) else None


def _replaced(source: Any, **changes: Any) -> Source:
    changed: Source = replace(source, **changes)
    return changed
