"""Where counted pages end, and what contradicts that: totals, short pages, and what remotes say of more."""

from typing import Protocol

from ingestion.errors import RunFailed
from ingestion.pagination.protocols import Path, Received
from ingestion.pagination.telling import has_more, total_in_body, total_in_header


class Counted(Protocol):
    """What a paginator that counts knows of its pages, and where a remote tells how many records there are."""

    @property
    def size(self) -> int: ...
    @property
    def total_header(self) -> str | None: ...
    @property
    def total(self) -> Path: ...
    @property
    def has_more(self) -> Path: ...


def name_of_total(counted: Counted) -> str:
    """Return where the total is, in words of a message."""
    return counted.total_header or ".".join(counted.total)


def total_told(counted: Counted, before: int | None, received: Received) -> int | None:
    """Return the total that this response tells, else what an earlier one told.

    Raises:
        RunFailed: `total`, it is no number, or became smaller.
    """
    if counted.total_header:
        total = total_in_header(received.headers, counted.total_header)
    else:
        total = total_in_body(received, counted.total) if counted.total else None
    if total is None:
        return before
    if before is not None and total < before:
        if received.known_total is not None and total >= received.known_total:
            return before  # it was asked for before the page that told of more
        raise RunFailed(
            "total",
            f"{name_of_total(counted)} went from {before} to {total} between two pages: records were deleted, and "
            "others may have moved to pages that were read already; the next run starts over",
        )
    return total


def is_end(counted: Counted, received: Received, *, so_far: int, full: bool, total: int | None) -> bool:
    """Tell whether a page was the last one. An empty page always is, or contradicts what the remote says.

    Raises:
        RunFailed: `total`, `has_more` or `incomplete`: what came is not what the remote says there is.
    """
    if total is not None and so_far >= total:
        if so_far > total:
            raise RunFailed("total", f"{name_of_total(counted)} says {total}, but {so_far} records were received")
        return True
    more = has_more(received, counted.has_more) if counted.has_more else None
    if more and not received.records:
        raise RunFailed("has_more", f"{'.'.join(counted.has_more)} says that more follows, but the page is empty")
    is_short = received.records == 0 or (full and received.records < counted.size)
    if more or not (is_short or more is False):
        return False
    if total is not None:
        raise RunFailed(
            "incomplete",
            f"the pages ended after {so_far} records, but {name_of_total(counted)} says {total}; "
            "the next run starts over",
        )
    return True
