"""Marks that come again: a remote that leads in a circle, or nowhere."""

from typing import Any, Final

from ingestion.errors import RunFailed
from ingestion.types import Cursor

# Filters that leave nothing of many pages in a row exist; nobody has seen so many.
_EMPTY_PAGES: Final = 1_000


def next_round(cursor: Cursor, following: Any, asked: Any, records: int) -> Cursor:
    """Return what a cursor remembers of the marks so far, when `following` comes after the page of `asked`.

    The marks of pages 1, 2, 4, 8 … are kept in turn, which finds a circle of any length within three rounds (Brent's
    algorithm), and of one or two pages at once.

    Raises:
        RunFailed: `pagination_loop`, this mark was there before, or too many pages had no record.
    """
    page = cursor["page"] + 1
    if following in (asked, cursor["mark"]):
        earlier = page - 1 if following == asked else 1 << (page - 1).bit_length() - 1
        raise RunFailed("pagination_loop", f"page {page} would be asked for like page {earlier}: {following!r:.100}")
    empty = 0 if records else cursor["empty"] + 1
    if empty >= _EMPTY_PAGES:
        raise RunFailed("pagination_loop", f"{empty:,} pages without a record, one after the other")
    return {"page": page, "mark": following if page & (page - 1) == 0 else cursor["mark"], "empty": empty}
