"""Cursors of sources that ask for one page after the other: counted, bounded, and never twice the same page. Pure."""

import hashlib
import json
from collections.abc import Callable, Sequence

from ingestion.errors import RunFailed
from ingestion.types import Cursor, Record, Records


def begin(at: Cursor) -> Cursor:
    """Return the cursor before the first page, which a paginator asks for with `at`."""
    return {"pages": 0, "at": at, "digest": "", "mark": ""}


def advance(cursor: Cursor, digest: str, following: Callable[[], Cursor | None], *, max_pages: int) -> Cursor | None:
    """Return the cursor behind a page whose records have that digest; None when `following` knows no next page.

    Raises:
        RunFailed: `pagination_loop`, `too_many_pages`, and whatever `following` raises.
    """
    number = cursor["pages"] + 1
    # Pages without records are told apart by what they were asked for with.
    digest = digest or hashlib.sha256(json.dumps(cursor["at"], sort_keys=True).encode()).hexdigest()[:32]
    _refuse_loop(cursor, number, digest)
    next_at = following()
    if next_at is None:
        return None
    if number >= max_pages:
        raise RunFailed("too_many_pages", f"no end after {number} pages")
    return {"pages": number, "at": next_at, "digest": digest, "mark": digest if _is_marked(number) else cursor["mark"]}


def digest_of(records: Sequence[Record]) -> str:
    """Digest the records alone: what is around them often holds a time or a request's number."""
    if not records:
        return ""
    # SHA-256 has instructions of its own on today's processors: half the time of BLAKE2 there.
    return hashlib.sha256(records.text if isinstance(records, Records) else b",".join(records)).hexdigest()[:32]


def _refuse_loop(cursor: Cursor, number: int, digest: str) -> None:
    """Compare a page with the one before it and with a marked one.

    Pages 1, 2, 4, 8 … are marked in turn, which finds a loop of any length within three rounds, with one digest in the
    cursor (Brent's algorithm).
    """
    marked = 1 << max(number - 1, 1).bit_length() - 1
    for earlier, seen in ((number - 1, cursor["digest"]), (marked, cursor["mark"])):
        if digest == seen:
            raise RunFailed(
                "pagination_loop", f"page {number} has the same records as page {earlier}, or the same cursor"
            )


def _is_marked(number: int) -> bool:
    return number & (number - 1) == 0
