"""How a run is cut into parts that several workers advance at once: by ranges of pages, by windows of time.

A share is what one part covers, as JSON; the shares of a run together are everything its source has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

from ingestion.errors import RunFailed
from ingestion.pagination import DivisiblePaginator
from ingestion.sources import Source
from ingestion.types import Share


class Parts(Protocol):
    """A way to cut what a source has into shares."""

    def plan(self, source: Source, *, now: datetime) -> Sequence[Share]:
        """Return the shares of a run; may ask the remote. No share means that there is nothing to read.

        An empty share is all that the source has, undivided.

        Raises:
            RetryLater: a transient failure outlasted its retries.
            RunFailed: the remote's answer does not tell how to divide.
        """
        ...

    def bind(self, source: Source, share: Share) -> Source:
        """Return the source reduced to a share."""
        ...

    def problem(self, source: Source) -> str | None:
        """Say why this source cannot be cut so, for a system check; None when it can."""
        ...


@runtime_checkable
class Periods(Parts, Protocol):
    """A way to cut a source into periods of time, any of which can be read by itself."""

    def between(self, start: datetime, end: datetime) -> Sequence[Share]:
        """Return the shares from `start` to before `end`."""
        ...


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
        if pagination is None:
            raise RunFailed(
                "share", "it is a range of pages, and the feed has another pagination now; start another run"
            )
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


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Windows of time, `step` each, from `start` on; the last one of a run is open-ended.

    Args:
        since, until: the query parameters for the start of a window and for its end.
        start: a moment, or how long before the run's start.
        format: how moments are written, in the words of strftime and in UTC; None is ISO 8601.
    """

    since: str
    until: str
    step: timedelta
    start: datetime | timedelta
    format: str | None = None

    def plan(self, source: Source, *, now: datetime) -> Sequence[Share]:
        """Cut the time from the start to now."""
        start = now - self.start if isinstance(self.start, timedelta) else self.start
        shares = self.between(start, now)
        # Somebody's clock is behind, or records are dated ahead: what comes after now belongs to the last window.
        return [*shares[:-1], shares[-1] | {"until": None}] if shares else []

    def between(self, start: datetime, end: datetime) -> list[Share]:
        """Return the windows from `start` to before `end`, the last one shorter where they do not fit."""
        count = -(-(end - start) // self.step)
        edges = [start.astimezone(UTC) + number * self.step for number in range(count)] + [end.astimezone(UTC)]
        return [{"since": since.isoformat(), "until": until.isoformat()} for since, until in pairwise(edges)]

    def bind(self, source: Source, share: Share) -> Source:
        """Return the source with the window among its query parameters."""
        window = {
            name: self._written(datetime.fromisoformat(moment))
            for name, moment in ((self.since, share["since"]), (self.until, share["until"]))
            if moment is not None
        }
        params: Mapping[str, str] = source.params  # type: ignore[attr-defined]  # a system check has looked
        return _replaced(source, params={**params, **window})

    def problem(self, source: Source) -> str | None:
        """Ask for a source with query parameters, and for a length of time."""
        if not hasattr(source, "params"):
            return "it has no query parameters, which Windows need"
        if self.step <= timedelta(0):
            return "the step of Windows has to be longer than nothing"
        if isinstance(self.start, datetime) and self.start.tzinfo is None:
            return "the start of Windows has no time zone"
        return None

    def _written(self, moment: datetime) -> str:
        return moment.strftime(self.format) if self.format else moment.isoformat()


def _divisible(source: Source) -> DivisiblePaginator | None:
    pagination = getattr(source, "pagination", None)
    return pagination if isinstance(pagination, DivisiblePaginator) else None


def _replaced(source: Any, **changes: Any) -> Source:
    changed: Source = replace(source, **changes)
    return changed
