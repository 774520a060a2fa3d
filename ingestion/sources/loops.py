"""Cursors of sources that ask for one page after the other: counted, bounded, and never twice the same page. Pure."""

from collections.abc import Callable

from ingestion.errors import RunFailed
from ingestion.types import Cursor


def begin(at: Cursor) -> Cursor:
    """Return the cursor before the first page, which a paginator asks for with `at`."""
    return {"pages": 0, "at": at, "digest": "", "mark": ""}


def advance(
    cursor: Cursor,
    digest: str,
    following: Callable[[], Cursor | None],
    *,
    max_pages: int,
    shown: Callable[[Cursor], str],
) -> Cursor | None:
    """Return the cursor behind a page whose records have that digest; None when `following` knows no next page.

    `shown` is what a request at a paginator's cursor looks like in a message.

    Raises:
        RunFailed: `pagination_loop`, `too_many_pages`, and whatever `following` raises, with the two requests that
            prove it.
    """
    number, at = cursor["pages"] + 1, cursor["at"]
    try:
        _refuse_loop(cursor, number, digest)
        next_at = following()
        _refuse_too_many(next_at, number, max_pages)
    except RunFailed as failure:
        before = cursor.get("marked" if f"page {_marked(number)}" in failure.message else "before")
        proof = [shown(at)] if before is None else [shown(at), shown(before)]
        raise failure.proven_by("; before: ".join(proof)) from failure
    if next_at is None:
        return None
    is_marked = number & (number - 1) == 0
    return {
        "pages": number,
        "at": next_at,
        "digest": digest,
        "mark": digest if is_marked else cursor["mark"],
        "before": at,
        "marked": at if is_marked else cursor.get("marked"),
    }


def _refuse_loop(cursor: Cursor, number: int, digest: str) -> None:
    """Compare a page with the one before it and with a marked one.

    Pages 1, 2, 4, 8 … are marked in turn, which finds a loop of any length within three rounds, with one digest in the
    cursor (Brent's algorithm).
    """
    for earlier, seen in ((number - 1, cursor["digest"]), (_marked(number), cursor["mark"])):
        if digest and digest == seen:
            raise RunFailed("pagination_loop", f"page {number} has the same records as page {earlier}")


def _refuse_too_many(following: Cursor | None, number: int, most: int) -> None:
    if following is not None and number >= most:
        raise RunFailed("too_many_pages", f"no end after {number} pages")


def _marked(number: int) -> int:
    """Return the last marked page before this one."""
    return 1 << max(number - 1, 1).bit_length() - 1
