"""Pages that begin at a mark: a cursor that the remote gives, or a value of the last record."""

from dataclasses import dataclass
from typing import Any, Final

from ingestion.errors import ConfigurationError, RunFailed
from ingestion.pagination.protocols import Path, Place, Received, is_path
from ingestion.pagination.rounds import next_round
from ingestion.pagination.telling import has_more
from ingestion.types import Cursor

# It is stored with each chunk.
_LONGEST: Final = 8_000
_NO_MARK: Final = (None, "", False)


@dataclass(frozen=True, kw_only=True)
class NextCursor:
    """Each response has the cursor of the next page, in its body at `cursor` or in the header `cursor_header`.

    A missing cursor, null, empty text and false end the collection; 0 does not. Where `has_more` says no, it ends as
    well, and where it says yes without a cursor, the run fails.

    Args:
        param: what the cursor is sent as; with `place="body"` a dotted path into the request's JSON.
        start: the cursor of the first page, where the remote wants one.
    """

    param: str
    cursor: Path = ()
    cursor_header: str | None = None
    has_more: Path = ()
    start: str | int | None = None
    place: Place = "query"

    def __post_init__(self) -> None:
        if is_path(self.cursor) == bool(self.cursor_header):
            raise ConfigurationError(
                'NextCursor needs to know where the next cursor is, which tells the end as well: cursor=("meta", '
                '"next") or cursor_header="X-Next", one of them'
            )

    def first(self) -> Cursor:
        return {"next": self.start, "page": 1, "mark": self.start, "empty": 0}

    def params(self, cursor: Cursor) -> dict[str, str]:
        return {name: str(value) for name, value in self.values(cursor).items()}

    def values(self, cursor: Cursor) -> dict[str, Any]:
        return {} if cursor["next"] is None else {self.param: cursor["next"]}

    def following(self, cursor: Cursor, received: Received) -> Cursor | None:
        header = self.cursor_header
        told = received.headers.get(header.lower()) if header else received.value(self.cursor)
        more = has_more(received, self.has_more)
        # Not `in`: 0 equals False.
        is_end = any(told is mark for mark in _NO_MARK) or told == ""
        if is_end and more:
            where = header or ".".join(self.cursor)
            raise RunFailed("has_more", f"{'.'.join(self.has_more)} says that more follows, but {where} is empty")
        if is_end or more is False:
            return None
        mark = mark_of(told, header or ".".join(self.cursor), is_in_body=self.place == "body")
        return {"next": mark} | next_round(cursor, mark, cursor["next"], received.records)


@dataclass(frozen=True, kw_only=True)
class Keyset:
    """The next page begins after the last record of this one: its value at `field` is sent as `param`.

    An empty page ends the collection, and so does one shorter than `size` after a full one was seen. The remote has to
    order by the field, and to give records after the value, not from it on.

    Args:
        field: names on the way to the value in a record.
        start: what the first page is asked for with, where the remote wants something.
    """

    param: str
    field: Path
    size: int
    size_param: str | None = None
    has_more: Path = ()
    start: str | int | None = None
    place: Place = "query"

    def __post_init__(self) -> None:
        if not is_path(self.field):
            raise ConfigurationError('Keyset(field=…) takes the names on the way to the value: ("id",)')
        if self.size < 1:
            raise ConfigurationError(f"Keyset(size={self.size}): a page holds at least one record")

    def first(self) -> Cursor:
        return {"after": self.start, "full": False, "page": 1, "mark": self.start, "empty": 0}

    def params(self, cursor: Cursor) -> dict[str, str]:
        return {name: str(value) for name, value in self.values(cursor).items()}

    def values(self, cursor: Cursor) -> dict[str, Any]:
        asked: dict[str, Any] = {} if cursor["after"] is None else {self.param: cursor["after"]}
        return asked | ({self.size_param: self.size} if self.size_param else {})

    def following(self, cursor: Cursor, received: Received) -> Cursor | None:
        more = has_more(received, self.has_more)
        full = cursor["full"] or received.records >= self.size
        if more and not received.records:
            raise RunFailed("has_more", f"{'.'.join(self.has_more)} says that more follows, but the page is empty")
        is_short = not received.records or (full and received.records < self.size)
        if more is False or (is_short and not more):
            return None
        after = received.last()
        for name in self.field:
            after = after.get(name) if isinstance(after, dict) else None
        if any(after is mark for mark in _NO_MARK) or after == "":
            raise RunFailed("cursor", f"the last record has no {'.'.join(self.field)}: nobody knows what follows it")
        after = mark_of(after, ".".join(self.field), is_in_body=False)
        return {"after": after, "full": full} | next_round(cursor, after, cursor["after"], received.records)


def mark_of(told: Any, where: str, *, is_in_body: bool) -> Any:
    """Return a mark that can be stored and sent."""
    is_scalar = isinstance(told, str | int | float) and not isinstance(told, bool)
    if not is_scalar and not (is_in_body and isinstance(told, list | dict)):
        raise RunFailed("cursor", f"{where} is {told!r:.40}, expected a text or a number")
    text = str(told)
    if len(text) > _LONGEST:
        raise RunFailed("cursor", f"{where} has more than {_LONGEST} characters")
    # PostgreSQL stores neither; no cursor has been seen with one.
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise RunFailed("cursor", f"{where} holds U+0000 or half of a pair of surrogates")
    return told
